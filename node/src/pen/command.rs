//! Pen's commands: of the control socket, of files, and of `-O`.

mod acl;
mod figures;
mod files;
mod server;
mod settings;

use super::answers::{Effect, Outcome, Surroundings};
use super::model::Pen;
use super::penctl_words::refusal;
use super::words::{LINE_BYTES_MAX, number, words};

/// Commands that one command can lead to through `include`.
pub const LINES_MAX: usize = 100_000;
/// Files that include each other.
pub const INCLUDES_DEPTH_MAX: usize = 8;

/// Messages that one command can lead to; what goes beyond is left out.
const MESSAGES_MAX: usize = 1000;

/// Why a command is not carried out.
#[derive(Debug)]
pub(super) enum Refusal {
    /// In our words.
    Ours(String),
    /// In the words that Pen answers with, to the byte.
    Pens(String),
}

/// The answer to a command that is carried out: mostly nothing.
type Answer = Result<String, Refusal>;

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Ours(why.into()))
}

fn line(value: impl std::fmt::Display) -> String {
    format!("{value}\n")
}

/// Nothing to say.
fn done() -> Answer {
    Ok(String::new())
}

/// Running commands.
pub(super) struct Run<'a> {
    pen: &'a mut Pen,
    around: Surroundings<'a>,
    effects: Vec<Effect>,
    /// Something of the data path has changed.
    changed: bool,
    /// What the commands of files say.
    printed: String,
    /// Files that are being read.
    depth: usize,
    /// Commands run.
    lines: usize,
}

impl Pen {
    /// Runs one command of the control socket; only the first line of `line` counts.
    pub fn command(&mut self, line: &str, around: Surroundings<'_>) -> Outcome {
        let mut run = Run::new(self, around);
        let answer = match run.line(line) {
            Ok(answer) | Err(Refusal::Pens(answer)) => answer,
            Err(Refusal::Ours(why)) => refusal(why),
        };
        let printed = std::mem::take(&mut run.printed);
        let mut outcome = run.end(answer);
        if !printed.is_empty() {
            outcome.effects.push(Effect::Print(printed));
        }
        outcome
    }

    /// Runs a command of the command line (`-O`): its answer is for stdout, and why it was refused for the administrator.
    pub fn option_command(&mut self, line: &str, around: Surroundings<'_>) -> Outcome {
        let mut run = Run::new(self, around);
        let mut answer = String::new();
        match run.line(line) {
            Ok(text) | Err(Refusal::Pens(text)) => answer = text,
            Err(Refusal::Ours(why)) => run.effects.push(Effect::Message(why)),
        }
        let answer = std::mem::take(&mut run.printed) + &answer;
        run.end(answer)
    }

    /// Runs the configuration file (`-F`), if there is one: at the start, and at a hang-up.
    pub fn read_configuration(&mut self, around: Surroundings<'_>) -> Outcome {
        let Some(file) = self.config_file.clone() else { return Outcome::default() };
        let mut run = Run::new(self, around);
        // What was refused is in the effects.
        let _ = run.file(&file);
        let answer = std::mem::take(&mut run.printed);
        run.end(answer)
    }
}

impl<'a> Run<'a> {
    fn new(pen: &'a mut Pen, around: Surroundings<'a>) -> Self {
        let printed = String::new();
        Self { pen, around, effects: Vec::new(), changed: false, printed, depth: 0, lines: 0 }
    }

    fn end(mut self, answer: String) -> Outcome {
        if self.changed {
            // First: the others may be about a server that is new.
            self.effects.insert(0, Effect::Apply);
        }
        Outcome { answer, effects: self.effects }
    }

    /// One line: its answer.
    fn line(&mut self, line: &str) -> Answer {
        let line = line.split(['\r', '\n']).next().unwrap_or_default();
        if line.len() > LINE_BYTES_MAX {
            return refuse(format!("a command of {} bytes; {LINE_BYTES_MAX} is the limit", line.len()));
        }
        self.lines += 1;
        let words = words(line);
        match words.split_first() {
            Some((word, args)) if !word.starts_with('#') => self.dispatch(word, args),
            _ => done(),
        }
    }

    /// Tells the administrator, within [`MESSAGES_MAX`].
    fn tell(&mut self, what: String) {
        if self.effects.len() < MESSAGES_MAX {
            self.effects.push(Effect::Message(what));
        }
    }

    fn dispatch(&mut self, word: &str, args: &[&str]) -> Answer {
        if let Some(answer) = self.flag(word, true) {
            return answer;
        }
        match word {
            "acl" => self.acl(args),
            "no" => self.no(args),
            "server" => self.server(args),
            "close" | "connection" | "control" | "idlers" | "mode" | "pid" | "recent" | "servers"
            | "socket" | "status" => self.figure(word, args),
            "exit" | "include" | "log" | "web_stats" | "write" => self.files(word, args),
            _ => self.setting(word, args),
        }
    }

    fn no(&mut self, args: &[&str]) -> Answer {
        let Some(word) = args.first() else { return refuse("no: what?") };
        if let Some(answer) = self.flag(word, false) {
            return answer;
        }
        match *word {
            "acl" => self.no_acl(&args[1..]),
            "log" => {
                self.pen.log = None;
                self.effects.push(Effect::Log(None));
                done()
            }
            "web_stats" => {
                self.pen.web_stats = None;
                done()
            }
            // What these switched is gone since Pen 0.26.
            "block" | "delayed_forward" => done(),
            _ => refuse(format!("no: there is no '{word}' to switch off")),
        }
    }

    /// The switches that are set by their name and cleared by `no`.
    fn flag(&mut self, word: &str, on: bool) -> Option<Answer> {
        let pen = &mut *self.pen;
        let flag = match word {
            "abort_on_error" => &mut pen.abort_on_error,
            "ascii" => &mut pen.ascii,
            "dummy" => &mut pen.dummy,
            "hash" => &mut pen.rules.hash,
            "http" => &mut pen.http,
            "keepalive" => &mut pen.keepalive,
            "prio" => &mut pen.rules.prio,
            "roundrobin" => &mut pen.rules.round_robin,
            "stubborn" => &mut pen.stubborn,
            "tcp_nodelay" => &mut pen.tcp_nodelay,
            "transparent" => &mut pen.transparent,
            "weight" => &mut pen.rules.weight,
            // Unfinished in Pen, where it cuts clients off from all servers.
            "peek" => return Some(done()),
            _ => return None,
        };
        *flag = on;
        self.changed = true;
        Some(done())
    }
}

/// The number that a command needs.
fn whole(command: &str, word: &str) -> Result<i32, Refusal> {
    number(word).map_or_else(|| refuse(format!("{command}: '{word}' is not a number")), Ok)
}

/// The argument that a command cannot do without.
fn needed<'w>(command: &str, args: &[&'w str]) -> Result<&'w str, Refusal> {
    args.first().copied().map_or_else(|| refuse(format!("{command}: an argument is missing")), Ok)
}

#[cfg(test)]
mod tests;
