//! What goes in and out of [`Pen`](super::Pen): the figures of the running balancer, names and files in; answers and
//! effects out.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::model::{LogTarget, ServerId};

/// All that the model cannot know itself.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The figures of the running balancer.
    pub facts: &'a dyn Facts,
    /// Names to addresses.
    pub names: &'a dyn Names,
    /// Files to read and to write.
    pub files: &'a dyn Files,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Surroundings")
    }
}

/// The figures of the running balancer.
pub trait Facts {
    /// Seconds since 1970.
    fn unix_time(&self) -> i64;
    /// Now in local time, `YYYY-MM-DD HH:MM:SS`.
    fn local_time(&self) -> String;
    /// The process.
    fn pid(&self) -> u32;
    /// A server's figures; zeros for one that never had a connection.
    fn server(&self, server: ServerId) -> ServerFigures;
    /// The server chosen last.
    fn current_server(&self) -> ServerId;
    /// The clients in the table, in the order of its slots.
    fn clients(&self) -> Vec<ClientFigures>;
    /// The connections that there are, in the order of their numbers.
    fn connections(&self) -> Vec<ConnectionFigures>;
    /// The number given to the newest connection.
    fn newest_connection(&self) -> usize;
    /// Idle connections to servers that are ready.
    fn idlers(&self) -> u32;
    /// Whether the start is over.
    fn is_running(&self) -> bool {
        false
    }
    /// Whether a country database is in use.
    fn has_countries(&self) -> bool {
        false
    }
}

/// Names to addresses.
pub trait Names {
    /// The first address of a name or the address written; `None`: there is none.
    fn address(&self, name: &str) -> Option<IpAddr>;
    /// The port of a service name (`http`) or number; `None`: unknown.
    fn port(&self, name: &str) -> Option<u16>;
}

/// Files to read and to write.
pub trait Files {
    /// The whole of a file, at most [`FILE_BYTES_MAX`](super::FILE_BYTES_MAX) bytes (more is an error).
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Writes a file anew.
    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()>;
    /// The country database: this one, else the first of [`COUNTRIES`](super::COUNTRIES) that is there.
    fn countries(&self, named: Option<&Path>) -> Option<PathBuf>;
}

/// A server's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerFigures {
    /// Connections now.
    pub connections: u32,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// When it was last blacklisted, seconds since 1970; 0: never.
    pub blacklisted_at: i64,
}

/// A client's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFigures {
    /// Its slot in the table.
    pub slot: usize,
    /// Its address.
    pub address: IpAddr,
    /// When it was last used, seconds since 1970.
    pub last_used: i64,
    /// Its server.
    pub server: ServerId,
    /// Connections made.
    pub connects: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
}

/// A connection's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFigures {
    /// Its number, below the size of the table.
    pub number: usize,
    /// Pen's number of its state.
    pub state: i32,
    /// The client's socket; -1: none.
    pub client_fd: i32,
    /// The server's socket; -1: none.
    pub server_fd: i32,
    /// Bytes that wait to go to the client.
    pub pending_down: usize,
    /// Bytes that wait to go to the server.
    pub pending_up: usize,
    /// What Pen shows as `pend`: 1 while the connect to the server is in progress, else 0.
    pub pending: i32,
    /// The client's slot in the table; -1: none.
    pub client: i64,
    /// Its server; -1 and -2 as in [`ServerId`], or `None`.
    pub server: Option<ServerId>,
}

/// What a command leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What the one who gave the command gets to read; may be empty.
    pub answer: String,
    /// What is to be done, in this order.
    pub effects: Vec<Effect>,
}

/// What the runtime does for a command. When one fails, the runtime puts the [`Pen`](super::Pen) of before the command
/// back and answers that it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Something of the data path has changed (servers, lists, times, limits, TLS): a new plan, with the table sizes and
    /// limits of the model. At most once in an outcome.
    Apply,
    /// The listener has changed ([`Pen::listen`](super::Pen)): opens the new one, then closes the old one.
    Listen,
    /// Opens the log, or closes it.
    Log(Option<LogTarget>),
    /// Reads the OCSP response again.
    ReadOcsp,
    /// Closes a connection, if there is one of this number.
    Close(usize),
    /// Leaves a server alone for so many seconds from now; 0: no longer.
    Blacklist {
        /// Which.
        server: ServerId,
        /// s.
        seconds: u32,
    },
    /// The clean end.
    Exit,
    /// For our own stdout: what the commands of an included file answered.
    Print(String),
    /// For the administrator: stderr in the foreground, else syslog.
    Message(String),
}
