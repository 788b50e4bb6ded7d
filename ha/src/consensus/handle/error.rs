//! Why a change is not made, and why a node cannot take part; each with what helps.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::consensus::core::CoreError;
use crate::consensus::store::StoreError;
use crate::consensus::tickets::OwnKeys;
use crate::state::{CommandError, Refusal};

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too few nodes can be reached.
    #[error(
        "no quorum: {reachable} of {needed} needed nodes can be reached (missing: {}); start the missing node, \
         or restart it if it runs; a third node as witness lets changes go on when one fails; traffic is not affected{}",
        missing.join(", "),
        undecided_text(*undecided)
    )]
    NoQuorum {
        /// Nodes that can be reached, this one included.
        reachable: usize,
        /// How many it takes.
        needed: usize,
        /// The names of the others.
        missing: Vec<String>,
        /// The change was written down somewhere, and may still be made when the quorum returns.
        undecided: bool,
    },
    /// Understood and refused; the same on every node.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Over a limit.
    #[error(transparent)]
    Invalid(#[from] CommandError),
    /// Not in time, though enough nodes can be reached.
    #[error("not agreed within {} s; look at the status of the nodes and try again{}", seconds.as_secs(),
        undecided_text(*undecided))]
    Timeout {
        /// How long it was waited.
        seconds: Duration,
        /// The change may still be made.
        undecided: bool,
    },
    /// Too many changes wait.
    #[error("too many changes wait on this node; try again")]
    Busy,
    /// A member runs a version that does not know the command.
    #[error("a member has feature level {common}, the change needs {needed}; update all nodes first")]
    TooOld {
        /// What all know.
        common: u32,
        /// What it takes.
        needed: u32,
    },
    /// Tokens need an authority.
    #[error(
        "the links of this cluster are not encrypted, so nobody can join by a token; add the node to the list \
             of members in all node files, or begin the cluster with `cygnet cluster init`"
    )]
    Insecure,
    /// The nodes do not share the keys of session tickets.
    #[error("each node seals session tickets with a key of its own: {0}; see `cygnet status`")]
    OwnTicketKeys(OwnKeys),
    /// Those that are left could not decide anything.
    #[error(
        "without it only {reachable} of {needed} needed voters could be reached; bring the others back first, or \
             add --force"
    )]
    WouldLoseQuorum {
        /// Voters that can be reached, without the one that leaves.
        reachable: usize,
        /// How many it would take.
        needed: usize,
    },
    /// It would slow down or stop the others.
    #[error("it is {behind} entries behind; wait until it has caught up")]
    NotCaughtUp {
        /// Entries.
        behind: u64,
    },
    /// A recovery would throw away what need not be lost.
    #[error("there is a quorum, and nothing to recover; remove a lost node with `cygnet cluster remove`")]
    NothingToRecover,
    /// This node takes part no more.
    #[error("this node takes no part in the cluster any more: {0}")]
    Stopped(String),
}

fn undecided_text(undecided: bool) -> &'static str {
    if undecided { "; this change may still be made when the nodes agree again" } else { "" }
}

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict themselves.
    #[error("cluster settings: {0}")]
    Settings(String),
    /// The log is damaged or unreadable.
    #[error(
        "{0}; while the other nodes are up and agree, stop this node, move the file away and start it again: it \
         fetches everything from them"
    )]
    Damaged(StoreError),
    /// The log cannot be opened.
    #[error("{0}; check the state directory, its owner and the space on the disk")]
    Store(StoreError),
    /// The log is another node's.
    #[error("{0}; check `state_dir`, the name of the cluster and the ids of the members")]
    Foreign(StoreError),
    /// The members are not those of the log.
    #[error(
        "{}: {error}; restore the list of members: once the nodes have agreed, members come and go by \
         `cygnet cluster`, not by the list", file.display()
    )]
    Members {
        /// The state directory.
        file: PathBuf,
        /// Which.
        error: CoreError,
    },
    /// Raft refuses to start.
    #[error("{}: {error}", file.display())]
    Core {
        /// The state directory.
        file: PathBuf,
        /// Why.
        error: CoreError,
    },
    /// The node's own address cannot be listened on.
    #[error("cannot listen for the other nodes on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The thread could not be made, or there is no runtime.
    #[error("cannot start the raft thread: {0}")]
    Thread(String),
}
