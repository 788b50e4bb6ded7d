//! What the process that runs and the one that is to run in its place say to each other. Pure: bytes both ways.
//!
//! ```text
//!   new: here --------------------> old        which program it is, and what it understands
//!   old: state -------------------> new        what it is to take over; it checks whether it could
//!   new: prepared ----------------> old
//!   old: sockets, ..., go --------> new        descriptors; with `go` the log is free
//!   new: took --------------------> old        serves, and holds what the old one holds
//!   old: released ----------------> new        has let go of everything but its connections
//!   old: left, left, ... ---------> new        how many there are still
//! ```
//! Instead of its next word the new one may say `refused`, and the old one `abort` until it has said `released`: then nothing has
//! happened. A word is its length in four bytes, the most significant first, and JSON.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::TEXT_BYTES_MAX;
use crate::config::model::{Endpoint, Transport};
pub use crate::control::types::Program;
use crate::plan::ListenAt;

/// What is understood. Raised when a word changes its meaning, or a new one must be understood. Words may get further fields without.
pub const LEVEL: u32 = 1;
/// The longest word, bytes: a configuration, written as JSON with room for its escapes, and some thousand names.
pub const WORD_MAX: usize = 4 * TEXT_BYTES_MAX + 64 * 1024;
/// Descriptors that go with one word: fewer than the kernel allows (253), and a message that fits any buffer.
pub const SOCKETS_PER_WORD: usize = 64;
/// Before each word: its length.
const HEADER: usize = 4;

/// A virtual router that the old process holds the addresses of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The name in the configuration.
    pub name: String,
    /// Where.
    pub interface: String,
    /// Which.
    pub addresses: Vec<IpAddr>,
}

/// What the new process is to take over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The level that the old process speaks.
    pub level: u32,
    /// Which it is.
    pub program: Program,
    /// The node.
    pub node: String,
    /// Where its log is.
    pub state_dir: PathBuf,
    /// The configuration of the cluster that runs; empty: none.
    pub text: String,
    /// Whether the node may hold addresses.
    pub ready: bool,
    /// Addresses that could not be listened on.
    pub listen_problems: usize,
    /// What it holds.
    pub held: Vec<Held>,
}

/// What the log's place is left with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// What the old process holds now, by name.
    pub held: Vec<String>,
    /// Servers that are down by the checks of this node: service and name.
    pub down: Vec<(String, String)>,
}

/// What a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// Connections of clients are accepted there.
    Tcp(SocketAddr),
    /// Datagrams of clients come in there.
    Udp(SocketAddr),
    /// Connections of clients on this machine.
    Unix(PathBuf),
    /// Where the other nodes come in.
    Peers,
    /// The API.
    Api,
    /// The way to a process that came before, and has connections still.
    Earlier {
        /// Which it is.
        program: Program,
        /// How many, as it said last.
        connections: u64,
    },
}

impl From<&ListenAt> for Name {
    fn from(at: &ListenAt) -> Self {
        match (at.transport, &at.endpoint) {
            (_, Endpoint::Unix(path)) => Self::Unix(path.clone()),
            (Transport::Tcp, Endpoint::Inet(address)) => Self::Tcp(*address),
            (Transport::Udp, Endpoint::Inet(address)) => Self::Udp(*address),
        }
    }
}

impl Name {
    /// Where clients are served, if they are.
    #[must_use]
    pub fn listen_at(&self) -> Option<ListenAt> {
        Some(match self {
            Self::Tcp(address) => ListenAt::tcp(*address),
            Self::Udp(address) => ListenAt { transport: Transport::Udp, endpoint: Endpoint::Inet(*address) },
            Self::Unix(path) => {
                ListenAt { transport: Transport::Tcp, endpoint: Endpoint::Unix(path.clone()) }
            }
            Self::Peers | Self::Api | Self::Earlier { .. } => return None,
        })
    }
}

/// One word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The new process is there.
    Here {
        /// What it understands, this level and older ones.
        level: u32,
        /// Which it is.
        program: Program,
    },
    /// What it is to take over.
    State(Box<State>),
    /// It could.
    Prepared,
    /// It cannot.
    Refused {
        /// Why.
        why: String,
    },
    /// Descriptors come with this word, and these are they, in order.
    Sockets(Vec<Name>),
    /// All descriptors are there, and the log is free.
    Go(Go),
    /// It serves, and holds what the old process holds.
    Took,
    /// The old process has let go.
    Released {
        /// Connections that go on there.
        connections: u64,
    },
    /// Nothing comes of it: the new process ends, and leaves everything as it is.
    Abort {
        /// Why.
        why: String,
    },
    /// So many connections go on in the old process.
    Left {
        /// Connections and flows.
        connections: u64,
    },
    /// The old process is to cut them after this time.
    End {
        /// From now, ms.
        within_ms: u64,
    },
}

impl Word {
    /// How many descriptors come with it.
    #[must_use]
    pub fn sockets(&self) -> usize {
        match self {
            Self::Sockets(names) => names.len(),
            _ => 0,
        }
    }

    /// As it goes over the socket.
    ///
    /// # Errors
    /// It is longer than [`WORD_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, WordError> {
        let mut bytes = vec![0; HEADER];
        serde_json::to_writer(&mut bytes, self).map_err(|error| WordError::Malformed(error.to_string()))?;
        let length = bytes.len() - HEADER;
        let header = u32::try_from(length).ok().filter(|_| length <= WORD_MAX);
        let header = header.ok_or(WordError::TooLong { length })?;
        bytes[..HEADER].copy_from_slice(&header.to_be_bytes());
        Ok(bytes)
    }
}

/// What cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// It is too long.
    #[error("a word of {length} bytes, and {WORD_MAX} is the limit")]
    TooLong {
        /// Bytes.
        length: usize,
    },
    /// It is no word.
    #[error("no word of this version: {0}")]
    Malformed(String),
    /// It has more descriptors than it may.
    #[error("a word with {count} descriptors, and {SOCKETS_PER_WORD} is the limit")]
    TooMany {
        /// Descriptors.
        count: usize,
    },
}

/// Takes bytes in, in whatever pieces, and gives words out. Holds one word at most, and what came with its end.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// More bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next word, if all of it is there. After an error nothing more can be understood.
    ///
    /// # Errors
    /// See [`WordError`].
    pub fn word(&mut self) -> Result<Option<Word>, WordError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if length > WORD_MAX {
            return Err(WordError::TooLong { length });
        }
        let Some(body) = self.bytes.get(HEADER..HEADER + length) else { return Ok(None) };
        let word: Word =
            serde_json::from_slice(body).map_err(|error| WordError::Malformed(error.to_string()))?;
        self.bytes.drain(..HEADER + length);
        let count = word.sockets();
        if count > SOCKETS_PER_WORD {
            return Err(WordError::TooMany { count });
        }
        Ok(Some(word))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words() -> Vec<Word> {
        let program = Program { version: "0.1.0".into(), pid: 7 };
        let address: SocketAddr = "192.0.2.100:80".parse().unwrap();
        let held = Held {
            name: "www".into(),
            interface: "eth0".into(),
            addresses: vec![address.ip(), "2001:db8::1".parse().unwrap()],
        };
        let state = State {
            level: LEVEL,
            program: program.clone(),
            node: "lb1".into(),
            state_dir: "/var/lib/cygnet".into(),
            text: "[[vip]]\nname = \"www\"\n".into(),
            ready: true,
            listen_problems: 1,
            held: vec![held],
        };
        let names = vec![
            Name::Tcp(address),
            Name::Udp(address),
            Name::Unix("/run/web".into()),
            Name::Peers,
            Name::Api,
            Name::Earlier { program: program.clone(), connections: 5 },
        ];
        vec![
            Word::Here { level: LEVEL, program },
            Word::State(Box::new(state)),
            Word::Prepared,
            Word::Refused { why: "no".into() },
            Word::Sockets(names),
            Word::Go(Go { held: vec!["www".into()], down: vec![("web".into(), "s1".into())] }),
            Word::Took,
            Word::Released { connections: 3 },
            Word::Abort { why: "late".into() },
            Word::Left { connections: 2 },
            Word::End { within_ms: 3000 },
        ]
    }

    #[test]
    fn every_word_comes_out_as_it_went_in_whatever_the_pieces() {
        let bytes: Vec<u8> = words().iter().flat_map(|word| word.encode().unwrap()).collect();
        for size in [1, 3, 64, bytes.len()] {
            let (mut decoder, mut heard) = (Decoder::default(), Vec::new());
            for piece in bytes.chunks(size) {
                decoder.feed(piece);
                while let Some(word) = decoder.word().unwrap() {
                    heard.push(word);
                }
            }
            assert_eq!(heard, words());
        }
    }

    #[test]
    fn a_socket_keeps_its_place() {
        for name in [Name::Tcp("[::]:80".parse().unwrap()), Name::Unix("/run/web".into())] {
            assert_eq!(name.listen_at().as_ref().map(Name::from), Some(name));
        }
        assert_eq!(Name::Api.listen_at(), None);
    }

    #[test]
    fn a_word_that_is_too_long_or_none_is_an_error_and_not_waited_for() {
        let mut decoder = Decoder::default();
        decoder.feed(&(WORD_MAX as u32 + 1).to_be_bytes());
        assert_eq!(decoder.word(), Err(WordError::TooLong { length: WORD_MAX + 1 }));
        let text = Word::Refused { why: "x".repeat(WORD_MAX) };
        assert!(matches!(text.encode(), Err(WordError::TooLong { .. })));
        let many = Word::Sockets(vec![Name::Peers; SOCKETS_PER_WORD + 1]);
        let mut decoder = Decoder::default();
        decoder.feed(&many.encode().unwrap());
        assert_eq!(decoder.word(), Err(WordError::TooMany { count: SOCKETS_PER_WORD + 1 }));
    }

    #[test]
    fn a_field_of_a_later_version_is_no_fault_and_a_word_is() {
        let told = |text: &str| {
            let mut decoder = Decoder::default();
            decoder.feed(&(text.len() as u32).to_be_bytes());
            decoder.feed(text.as_bytes());
            decoder.word()
        };
        assert_eq!(told(r#"{"left":{"connections":2,"since":5}}"#), Ok(Some(Word::Left { connections: 2 })));
        assert!(matches!(told(r#"{"farewell":{}}"#), Err(WordError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_in_without_a_panic_and_without_growth(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            while let Ok(Some(word)) = decoder.word() {
                prop_assert!(word.sockets() <= SOCKETS_PER_WORD);
            }
        }
    }
}
