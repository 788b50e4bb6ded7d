//! What goes into the core and what comes out of it.

use raft::eraftpb::Message;

use crate::consensus::limits::LogLimits;
use crate::consensus::store::StoreError;
use crate::state::{ApplyError, Origin, Outcome, PutConfig, SnapshotError, State};

/// How a log begins, where there is none.
#[derive(Clone, Debug, Default)]
pub enum Begin {
    /// With the voters of the settings; every one of them writes the same.
    #[default]
    Voters,
    /// As the first node of a cluster, with this state and its members.
    State(Box<State>),
    /// With what the leader sends.
    Fetch {
        /// There was a log, which is gone: the node must not vote before it has what it once acknowledged.
        lost: bool,
    },
}

/// What a node gave up when it followed another life of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Entries that only this node had, or that were never committed.
    pub entries: u64,
    /// The configurations among them.
    pub configurations: Vec<PutConfig>,
    /// Other changes by operators among them.
    pub changes: u64,
}

/// What the core must know of its cluster.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// This node.
    pub id: u64,
    /// The voters as far as they are known before the log is read, this node included.
    pub voters: Vec<u64>,
    /// Those of them that carry no traffic.
    pub witnesses: Vec<u64>,
    /// How the log begins, where there is none.
    pub begin: Begin,
    /// When the log is cut, and what stays of it.
    pub limits: LogLimits,
    /// Draws the election timeouts from this number instead of the system's randomness, so that a simulation
    /// can be repeated.
    pub seed: Option<u64>,
}

/// The core cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry that this version does not understand.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The snapshot on disk or from the leader.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Raft refuses.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    /// The cluster has removed this node.
    #[error(
        "this node was removed from the cluster; to bring it back, stop it, clear its state directory and join it again"
    )]
    Removed,
    /// The configured members are not those of the log.
    #[error("the log was begun with the members {stored:?}, and {configured:?} are configured")]
    Members {
        /// By the log.
        stored: Vec<u64>,
        /// By the configuration.
        configured: Vec<u64>,
    },
}

/// Why a proposal was not taken. It has no effect; try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProposed {
    /// Only the leader proposes.
    #[error("this node does not lead")]
    NotLeader,
    /// Leadership is on the move, or too much waits for a quorum.
    #[error("the leader is busy")]
    Busy,
}

/// An entry that was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct AppliedEntry {
    /// Its index.
    pub index: u64,
    /// Who proposed it.
    pub origin: Option<Origin>,
    /// What it did.
    pub outcome: Outcome,
}

/// What is to be done after [`super::Core::advance`].
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent; losing them is harmless.
    pub messages: Vec<Message>,
    /// In the order of the log.
    pub applied: Vec<AppliedEntry>,
    /// The state was replaced by the leader's snapshot, before `applied`.
    pub restored: bool,
}

/// This node's part in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftRole {
    /// Proposes.
    Leader,
    /// Follows, or looks for a leader.
    Follower,
    /// Asks for votes.
    Candidate,
}

impl CoreSettings {
    /// Settings with the usual limits.
    #[must_use]
    pub fn new(id: u64, voters: Vec<u64>, witnesses: Vec<u64>) -> Self {
        Self { id, voters, witnesses, begin: Begin::default(), limits: LogLimits::default(), seed: None }
    }
}
