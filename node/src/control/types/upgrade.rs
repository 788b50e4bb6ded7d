//! A new program in the place of the one that runs, as it goes over the API.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A program that runs as a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Of the package.
    pub version: String,
    /// Its process.
    pub pid: u32,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.version, self.pid)
    }
}

/// `POST /v1/upgrade`: hands over to a new program on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The program; `None`: the file from which this one was started, as it is now.
    #[serde(default)]
    pub binary: Option<PathBuf>,
    /// Connections that go on in the old process are cut after this time, ms; `None`: they go on until they end.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// Only sees whether the new program could take over.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks.
    #[serde(default)]
    pub author: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The node.
    pub node: String,
    /// What was started.
    pub binary: PathBuf,
    /// Who has handed over.
    pub from: Program,
    /// Who has taken over. Its process has ended after a dry run.
    pub to: Program,
    /// Connections and flows of datagrams in the old process: connections go on there until they end.
    pub connections: u64,
    /// Listening sockets that went over.
    pub sockets: usize,
    /// Virtual addresses that the node held, and holds.
    pub held: Vec<String>,
    /// All of it, ms.
    pub took_ms: u64,
    /// In which nothing could be agreed on with this node, ms; 0 after a dry run.
    pub log_away_ms: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// A process that ran as this node before, and has connections still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessBefore {
    /// Its number.
    pub pid: u32,
    /// Of the package.
    pub version: String,
    /// Connections that go on there; told every second.
    pub connections: u64,
    /// Since it has handed over, or since the node was handed over once more, ms.
    pub since_ms: u64,
}
