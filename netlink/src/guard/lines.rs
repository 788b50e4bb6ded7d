//! What the node tells the guard. Pure: bytes in, what is held out.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::HELD_MAX;
use super::word::{LastWord, PEERS_MAX};

/// A longer advertisement is not taken: 20 IPv6 addresses are 328 bytes.
pub const RESIGNATION_MAX: usize = 400;

/// Advertisements that a guard can be told of, as many as there are virtual routers.
pub const RESIGNATIONS_MAX: usize = 256;

/// Bytes of all their lines: with all that is held (30 KiB) and a last word they fit into an unread pipe (64 KiB). 256 with one
/// IPv4 address each (about 80 bytes) are 20 KiB.
pub(super) const RESIGNATION_LINES_MAX: usize = 30_000;

/// Bytes of the longest line, a last word: its secret, and 33 socket addresses of up to 60 bytes. Below the kernel's unit of a
/// pipe (4096), so that a line is written whole or not at all.
const LINE_MAX: usize = 2200;

pub(super) const BYE: &str = "bye\n";

pub(super) const RULES: &str = "rules\n";

pub(super) fn parent(pid: u32) -> String {
    format!("parent {pid}\n")
}

pub(super) fn hold(interface: u32, address: IpAddr) -> String {
    format!("hold {interface} {address}\n")
}

pub(super) fn release(interface: u32, address: IpAddr) -> String {
    format!("release {interface} {address}\n")
}

pub(super) fn lease(time: Duration) -> String {
    format!("lease {}\n", time.as_millis())
}

pub(super) fn word(word: &LastWord, own: SocketAddr, peers: &[SocketAddr]) -> String {
    let peers: String = peers.iter().take(PEERS_MAX).map(|peer| format!(" {peer}")).collect();
    format!("word {} {own}{peers}\n", word.to_hex())
}

pub(super) fn resign(resignation: &Resignation) -> String {
    format!("resign {}\n", resignation.to_words())
}

pub(super) fn unresign(resignation: &Resignation) -> String {
    format!("unresign {}\n", resignation.to_words())
}

/// An advertisement that says that an address is held no more (VRRP: priority 0; CARP: a bow-out).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resignation {
    /// The name of the interface.
    pub interface: String,
    /// The address of this node from which it comes.
    pub source: IpAddr,
    /// The group, or a peer.
    pub destination: IpAddr,
    /// From the VRRP or CARP header on, at most [`RESIGNATION_MAX`] bytes.
    pub payload: Vec<u8>,
}

impl Resignation {
    fn to_words(&self) -> String {
        let digits: String = self.payload.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {} {} {digits}", self.interface, self.source, self.destination)
    }

    /// Back from [`Resignation::to_words`].
    fn from_words<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let interface = words.next()?.to_owned();
        let (source, destination) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let digits = words.next()?;
        if digits.is_empty()
            || digits.len() % 2 != 0
            || digits.len() > 2 * RESIGNATION_MAX
            || !digits.is_ascii()
        {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
        let payload = (0..digits.len() / 2).map(byte).collect::<Option<_>>()?;
        Some(Self { interface, source, destination, payload })
    }
}

/// What the guard is to say when the node has died and its addresses are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) word: LastWord,
    /// Our own address.
    pub(super) own: SocketAddr,
    /// At most [`PEERS_MAX`].
    pub(super) peers: Vec<SocketAddr>,
}

/// What the node has said so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The node's process.
    pub(super) parent: Option<u32>,
    /// Interfaces and addresses to remove when it dies. At most [`HELD_MAX`].
    pub(super) held: BTreeSet<(u32, IpAddr)>,
    /// How long the last lease is good from when it was heard.
    pub(super) lease: Option<Duration>,
    /// Counts the leases, so that a new one is noticed.
    pub(super) leases: u64,
    /// Its last word; the newest counts.
    pub(super) word: Option<Word>,
    /// What is to be sent when it dies. At most [`RESIGNATIONS_MAX`].
    pub(super) resignations: BTreeSet<Resignation>,
    /// It has rules in the kernel, or may have.
    pub(super) rules: bool,
    /// It ends in good order.
    pub(super) bye: bool,
    /// The line that has not ended yet. At most [`LINE_MAX`] bytes; a longer one is given up.
    line: Vec<u8>,
    too_long: bool,
}

impl Told {
    /// Takes in what was read, in whatever pieces. A line that makes no sense is skipped: nobody would hear a complaint,
    /// and the other lines still count.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    if !std::mem::take(&mut self.too_long) {
                        let _ = std::str::from_utf8(&line).ok().and_then(|line| self.line(line));
                    }
                }
                _ if self.line.len() < LINE_MAX => self.line.push(byte),
                _ => self.too_long = true,
            }
        }
    }

    /// `None` if it makes no sense.
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        match words.next()? {
            "parent" => self.parent = Some(number(&mut words)?),
            "hold" => {
                let entry = (number(&mut words)?, words.next()?.parse().ok()?);
                if self.held.len() < HELD_MAX {
                    self.held.insert(entry);
                }
            }
            "release" => {
                self.held.remove(&(number(&mut words)?, words.next()?.parse().ok()?));
            }
            "lease" => {
                let time = Duration::from_millis(number(&mut words)?.into());
                self.lease = Some(time).filter(|time| !time.is_zero());
                self.leases = self.leases.wrapping_add(1);
            }
            "word" => {
                let word = LastWord::from_hex(words.next()?)?;
                let own = words.next()?.parse().ok()?;
                let peers = words.take(PEERS_MAX).map(|word| word.parse().ok()).collect::<Option<_>>()?;
                self.word = Some(Word { word, own, peers });
            }
            "resign" => {
                let resignation = Resignation::from_words(&mut words)?;
                if self.resignations.len() < RESIGNATIONS_MAX {
                    self.resignations.insert(resignation);
                }
            }
            "unresign" => {
                self.resignations.remove(&Resignation::from_words(&mut words)?);
            }
            "rules" => self.rules = true,
            "bye" => self.bye = true,
            _ => return None,
        }
        Some(())
    }
}

fn number<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<u32> {
    words.next()?.parse().ok()
}
