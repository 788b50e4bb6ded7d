//! Pen's command line.
//!
//! getopt(3) with permutation: options may stand anywhere. `-O` and `-o` run their command when they are met, so the order
//! of options counts. [`parse`] reads the options; [`Start::finish`] reads the configuration file and the addresses.

use std::path::PathBuf;

use super::answers::{Effect, Surroundings};
use super::model::{
    CLIENTS_DEFAULT, CLIENTS_MAX, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, Events, Host, LogTarget, Pen,
    SLOTS_MAX, Slot, listen_address,
};
use super::words::{atoi, number};
use crate::config::model::{Endpoint, Transport};

/// Most words of a command line. The kernel's limit is on bytes.
pub const ARGUMENTS_MAX: usize = 100_000;
/// `--workers`, at most.
pub const WORKERS_MAX: usize = crate::config::WORKERS_MAX;

/// Options with an argument.
const WITH_ARGUMENT: &str = "bceijlmopqtuwxABCEFGKLOST";
/// Options without one. `-N` is known and not there, as in Pen.
const ALONE: &str = "adfhnrsDHNPQRUWXZ";
/// The smallest backlog (`-q`).
const LISTEN_QUEUE_MIN: i32 = 50;

/// Pen's usage text.
pub const USAGE: &str = include_str!("usage.txt");

/// What a command line comes to.
#[derive(Debug)]
pub enum Parsed {
    /// A balancer to start.
    Start(Box<Start>),
    /// The end.
    Stop(Stop),
}

/// The end of the program before it has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// For stdout.
    pub out: String,
    /// For stderr.
    pub err: String,
    /// Exit status.
    pub code: u8,
}

/// A balancer whose options have been read.
#[derive(Clone, Debug)]
pub struct Start {
    /// The state so far.
    pub pen: Pen,
    /// The listening address and the servers, as given.
    pub addresses: Vec<String>,
    /// For stdout: the answers to `-O`.
    pub out: String,
    /// For stderr.
    pub err: String,
    /// What the commands want done once the balancer runs, messages among them.
    pub effects: Vec<Effect>,
}

/// Reads the options. `program` is the name in front of getopt's complaints.
#[must_use]
pub fn parse(program: &str, arguments: &[String], around: Surroundings<'_>) -> Parsed {
    let start = Start {
        pen: Pen::default(),
        addresses: Vec::new(),
        out: String::new(),
        err: String::new(),
        effects: Vec::new(),
    };
    let mut reader = Reader { program, start, around };
    match reader.all(arguments) {
        Ok(()) => Parsed::Start(Box::new(reader.start)),
        Err(end) => Parsed::Stop(reader.stop(end)),
    }
}

/// Why the options end the program.
enum End {
    /// The usage text, after this complaint.
    Usage(String),
    /// This complaint alone.
    Complaint(String, u8),
}

struct Reader<'a> {
    program: &'a str,
    start: Start,
    around: Surroundings<'a>,
}

impl Reader<'_> {
    fn stop(self, end: End) -> Stop {
        let Start { mut out, mut err, effects, .. } = self.start;
        for effect in effects {
            if let Effect::Message(text) = effect {
                err.push_str(&text);
                err.push('\n');
            }
        }
        match end {
            End::Usage(why) => {
                out.push_str(USAGE);
                Stop { out, err: err + &why, code: 0 }
            }
            End::Complaint(why, code) => Stop { out, err: err + &why, code },
        }
    }

    fn all(&mut self, arguments: &[String]) -> Result<(), End> {
        let mut rest = arguments.iter().take(ARGUMENTS_MAX);
        while let Some(word) = rest.next() {
            if word == "--" {
                self.start.addresses.extend(rest.by_ref().cloned());
            } else if let Some(count) = word.strip_prefix("--workers") {
                self.workers(count, &mut rest)?;
            } else if let Some(file) = word.strip_prefix("--countries") {
                self.countries(file, &mut rest)?;
            } else if word.len() > 1 && word.starts_with('-') {
                self.cluster(&word[1..], &mut rest)?;
            } else {
                self.start.addresses.push(word.clone());
            }
        }
        Ok(())
    }

    /// Ours: Pen has one thread.
    fn workers<'w>(
        &mut self,
        count: &'w str,
        rest: &mut impl Iterator<Item = &'w String>,
    ) -> Result<(), End> {
        let count = value_of(count, rest);
        let count =
            count.and_then(|count| count.parse().ok()).filter(|count| (1..=WORKERS_MAX).contains(count));
        let Some(count) = count else {
            let why = format!("{}: --workers takes a number from 1 to {WORKERS_MAX}\n", self.program);
            return Err(End::Complaint(why, 1));
        };
        self.start.pen.workers = count;
        Ok(())
    }

    /// Ours: Pen has its database where its library looks for it.
    fn countries<'w>(
        &mut self,
        file: &'w str,
        rest: &mut impl Iterator<Item = &'w String>,
    ) -> Result<(), End> {
        let Some(file) = value_of(file, rest).filter(|file| !file.is_empty()) else {
            let why = format!("{}: --countries takes the file of a country database\n", self.program);
            return Err(End::Complaint(why, 1));
        };
        self.start.pen.countries = Some(PathBuf::from(file));
        Ok(())
    }

    /// `-abc`: options behind one dash, the last one perhaps with its argument.
    fn cluster<'w>(&mut self, cluster: &str, rest: &mut impl Iterator<Item = &'w String>) -> Result<(), End> {
        for (at, letter) in cluster.char_indices() {
            if ALONE.contains(letter) {
                self.alone(letter)?;
                continue;
            }
            if !WITH_ARGUMENT.contains(letter) {
                return Err(End::Usage(format!("{}: invalid option -- '{letter}'\n", self.program)));
            }
            let behind = &cluster[at + letter.len_utf8()..];
            let argument = if behind.is_empty() { rest.next().map(String::as_str) } else { Some(behind) };
            let Some(argument) = argument else {
                let why = format!("{}: option requires an argument -- '{letter}'\n", self.program);
                return Err(End::Usage(why));
            };
            return self.with_argument(letter, argument);
        }
        Ok(())
    }

    fn alone(&mut self, letter: char) -> Result<(), End> {
        let pen = &mut self.start.pen;
        match letter {
            'a' => pen.ascii = true,
            'd' => pen.debug = pen.debug.saturating_add(1),
            'f' => pen.foreground = true,
            'h' => pen.rules.hash = true,
            'r' => pen.rules.round_robin = true,
            's' => pen.stubborn = true,
            'D' => self.obsolete("Pen 0.26.0 removed the delayed forward feature", letter),
            'n' => self.obsolete("Pen 0.26.0 and up uses only nonblocking sockets", letter),
            'Q' => {
                self.obsolete("Since Pen 0.26.0, kqueue is already the default on supported systems", letter);
            }
            'H' => pen.http = true,
            'P' => pen.events = Events::Poll,
            'R' => pen.tls.client_required = true,
            'U' => pen.transport = Transport::Udp,
            'W' => pen.rules.weight = true,
            'X' => pen.exit_enabled = true,
            'Z' => pen.tls.compatible = true,
            _ => return Err(End::Usage(String::new())),
        }
        Ok(())
    }

    fn obsolete(&mut self, why: &str, letter: char) {
        self.complain(&format!("{why},\nmaking the -{letter} option obsolete\n"));
    }

    fn complain(&mut self, what: &str) {
        self.start.err.push_str(what);
    }

    fn with_argument(&mut self, letter: char, argument: &str) -> Result<(), End> {
        let pen = &mut self.start.pen;
        let (text, path) = (argument.to_owned(), PathBuf::from(argument));
        match letter {
            'j' => pen.jail = Some(path),
            'l' => pen.log = Some(LogTarget::from_words(argument)),
            'p' => pen.pid_file = Some(path),
            'u' => pen.user = Some(text),
            'w' => pen.web_stats = Some(path),
            'F' => pen.config_file = Some(path),
            'A' => pen.tls.authorities_directory = Some(path),
            'E' => pen.tls.certificate = Some(path),
            'G' => pen.tls.authorities = Some(path),
            'K' => pen.tls.key = Some(path),
            'e' => pen.emergency_words = Some(text),
            'B' => pen.abuse_words = Some(text),
            'C' => pen.control = Some(text),
            'o' | 'O' => self.command(argument),
            'i' => return Err(End::Complaint("Windows only\n".to_owned(), 0)),
            'L' => {
                if !["ssl23", "ssl2", "ssl3", "tls1"].contains(&argument) {
                    let why = format!("protocol version {argument} not known\n");
                    return Err(End::Complaint(why, 1));
                }
            }
            'S' => self.obsolete("As of 0.28.1 the server table is expanded dynamically", letter),
            _ => self.numeric(letter, atoi(argument))?,
        }
        Ok(())
    }

    fn numeric(&mut self, letter: char, value: i32) -> Result<(), End> {
        let pen = &mut self.start.pen;
        match letter {
            'b' => pen.blacklist = value,
            'c' => pen.clients_max = pen.clients_max.max(value.min(CLIENTS_MAX)),
            'm' => {
                pen.multi_accept = value.max(1);
                if value < 1 {
                    self.complain("multi_accept bumped to 1\n");
                }
            }
            'q' => {
                pen.listen_queue = value.max(LISTEN_QUEUE_MIN);
                if value < LISTEN_QUEUE_MIN {
                    self.complain("listen_queue bumped to 50\n");
                }
            }
            't' if value < 1 => return Err(End::Usage(String::new())),
            't' => pen.timeout = value,
            'x' => pen.conn_max = pen.conn_max.max(value.min(CONNECTIONS_MAX)),
            _ => pen.tracking = value,
        }
        Ok(())
    }

    fn command(&mut self, line: &str) {
        let outcome = self.start.pen.option_command(line, self.around);
        self.start.out.push_str(&outcome.answer);
        self.start.effects.extend(outcome.effects);
    }
}

/// The argument of an option of ours: behind `=`, or the next word. `behind`: what follows the option's name.
fn value_of<'w>(behind: &'w str, rest: &mut impl Iterator<Item = &'w String>) -> Option<&'w str> {
    match behind.strip_prefix('=') {
        Some(value) => Some(value),
        None if behind.is_empty() => rest.next().map(String::as_str),
        None => None,
    }
}

impl Start {
    /// Reads the configuration file, then the addresses: the listening one first, unless a command has said it already
    /// (then it is passed over), and the servers into the slots from 0 on.
    pub fn finish(mut self, around: Surroundings<'_>) -> Result<Self, Stop> {
        let outcome = self.pen.read_configuration(around);
        self.out.push_str(&outcome.answer);
        self.effects.extend(outcome.effects);
        let mut addresses = std::mem::take(&mut self.addresses).into_iter();
        let first = addresses.next();
        if self.pen.listen.is_none() {
            let Some(words) = first else {
                let (out, err) = (std::mem::take(&mut self.out) + USAGE, std::mem::take(&mut self.err));
                return Err(Stop { out, err, code: 0 });
            };
            match listen_address(&words, self.pen.dsr_if.is_some(), around.names) {
                Ok(endpoint) => self.pen.listen = Some(endpoint),
                Err(why) => return Err(self.fatal(why)),
            }
            self.pen.listen_words = Some(words);
        }
        if let Err(why) = self.servers(addresses, around) {
            return Err(self.fatal(why));
        }
        if self.pen.events == Events::Kqueue {
            return Err(self.fatal("You don't have kqueue"));
        }
        let sizes =
            [(&mut self.pen.clients_max, CLIENTS_DEFAULT), (&mut self.pen.conn_max, CONNECTIONS_DEFAULT)];
        for (size, default) in sizes {
            if *size == 0 {
                *size = default;
            }
        }
        Ok(self)
    }

    fn fatal(&mut self, why: impl Into<String>) -> Stop {
        let (out, err) = (std::mem::take(&mut self.out), std::mem::take(&mut self.err));
        Stop { out, err: err + &why.into() + "\n", code: 1 }
    }

    fn servers(
        &mut self,
        addresses: impl Iterator<Item = String>,
        around: Surroundings<'_>,
    ) -> Result<(), String> {
        let port = match self.pen.listen {
            Some(Endpoint::Inet(address)) => address.port(),
            _ => 0,
        };
        for (number, words) in addresses.enumerate() {
            if number >= SLOTS_MAX {
                return Err(format!("more than {SLOTS_MAX} servers"));
            }
            let slot = self.server(&words, port, around)?;
            match self.pen.servers.get_mut(number) {
                // What the file said of the slot beyond this stays.
                Some(known) => *known = Slot { acl: known.acl, ..slot },
                None => self.pen.servers.push(slot),
            }
        }
        if let Some(words) = self.pen.emergency_words.clone() {
            self.pen.emergency = Some(self.server(&words, port, around)?);
        }
        if let Some(words) = self.pen.abuse_words.clone() {
            self.pen.abuse = Some(self.server(&words, port, around)?);
        }
        Ok(())
    }

    /// `HOST[:PORT[:MAX[:HARD[:WEIGHT[:PRIO]]]]]`, `[IPV6]:…`, an IPv6 address alone, or `/PATH`.
    fn server(&mut self, words: &str, default: u16, around: Surroundings<'_>) -> Result<Slot, String> {
        let (host, fields) = match words.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, fields)) => (host, fields.strip_prefix(':').unwrap_or(fields)),
            None if words.parse::<std::net::Ipv6Addr>().is_ok() => (words, ""),
            None => words.split_once(':').unwrap_or((words, "")),
        };
        let found = Host::find(host, around.names);
        let host = found.ok_or_else(|| format!("unknown or invalid address [{host}]"))?;
        let mut fields = fields.split(':');
        let port = fields.next().unwrap_or_default();
        // Without a port, nothing behind it counts.
        let words_end_early = port.is_empty();
        let port = match port {
            "" => default,
            word => self.port(word, words, around),
        };
        // A field that is no number through and through ends the list, as in Pen; its own first digits still count.
        let mut over = words_end_early;
        let mut next = || {
            let word = fields.next().filter(|_| !over).unwrap_or_default();
            over = over || word.parse::<i32>().is_err();
            atoi(word)
        };
        Ok(Slot { host, port, max: next(), hard: next(), weight: next(), prio: next(), acl: 0 })
    }

    /// A server without a port that can be is never connected to; the start does not fail for it.
    fn port(&mut self, word: &str, of: &str, around: Surroundings<'_>) -> u16 {
        let found = match number(word) {
            Some(number) => u16::try_from(number).ok(),
            None => around.names.port(word),
        };
        found.unwrap_or_else(|| {
            self.effects.push(Effect::Message(format!("{of}: '{word}' is not a port")));
            0
        })
    }
}
