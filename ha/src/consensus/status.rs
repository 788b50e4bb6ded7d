//! What a node shows of the cluster. Ages instead of times: they mean the same wherever they are read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::core::RaftRole;
use super::countdown::{Confirmation, Countdown};
use super::rotation::Rotation;
use super::soft::SoftFigures;
use super::tickets::TicketStatus;
use crate::state::Standing;

/// The cluster, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub id: u64,
    /// Its part in the agreement (not in the traffic).
    pub role: RaftRole,
    /// The current term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// The last entry known to be committed.
    pub commit: u64,
    /// The last entry that was applied here.
    pub applied: u64,
    /// Version of the configuration here; 0 before the first.
    pub version: u64,
    /// That version waits for its confirmation.
    pub confirmation: Option<Confirmation>,
    /// The keys of session tickets, without the keys.
    pub tickets: TicketStatus,
    /// Whether changes can be made: a leader is known.
    pub quorum: bool,
    /// Nodes that can be reached, this one included.
    pub reachable: usize,
    /// How many of them a change needs.
    pub needed: usize,
    /// Why this node takes part no more, if so. Its traffic goes on with the last state.
    pub stopped: Option<String>,
    /// Sticky clients in the replicated table.
    pub clients: usize,
    /// Client facts of this node on their way into the log.
    pub soft: SoftFigures,
    /// Raft messages that made no sense and were dropped, since the start.
    pub rejected: u64,
    /// Counts recoveries by an operator: the life of the log that this node lives in.
    pub epoch: u64,
    /// Whether the links between the nodes are encrypted and both sides prove who they are.
    pub secure: bool,
    /// This node is new, has lost its log, or follows a recovered node, and fetches everything.
    pub fetching: bool,
    /// The cluster has removed this node.
    pub removed: bool,
    /// All nodes, this one included.
    pub members: Vec<MemberStatus>,
}

/// A node, as seen from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Carries no traffic.
    pub witness: bool,
    /// Votes.
    pub voter: bool,
    /// How it counts; `None` where the list still stands in the nodes' files.
    pub standing: Option<Standing>,
    /// Can be reached now; true for this node.
    pub connected: bool,
    /// When it was last heard, ms ago; 0 for this node.
    pub last_heard_ms: Option<u64>,
    /// The last entry that it has; only the leader knows.
    pub matched: Option<u64>,
    /// Frames to it that were dropped, since the start.
    pub dropped: u64,
}

/// What the raft thread publishes.
#[derive(Clone, Debug)]
pub(super) struct CoreView {
    pub(super) role: RaftRole,
    pub(super) term: u64,
    pub(super) leader: Option<u64>,
    pub(super) commit: u64,
    pub(super) applied: u64,
    pub(super) version: u64,
    pub(super) countdown: Countdown,
    pub(super) rotation: Rotation,
    pub(super) tickets_closed: bool,
    pub(super) clients: usize,
    pub(super) rejected: u64,
    pub(super) soft: SoftFigures,
    pub(super) voters: Vec<u64>,
    pub(super) matched: BTreeMap<u64, u64>,
    pub(super) stopped: Option<String>,
    pub(super) fetching: bool,
    pub(super) removed: bool,
    pub(super) last: u64,
}

impl Default for CoreView {
    fn default() -> Self {
        Self {
            role: RaftRole::Follower,
            term: 0,
            leader: None,
            commit: 0,
            applied: 0,
            version: 0,
            countdown: Countdown::default(),
            rotation: Rotation::default(),
            tickets_closed: false,
            clients: 0,
            rejected: 0,
            soft: SoftFigures::default(),
            voters: Vec::new(),
            matched: BTreeMap::new(),
            stopped: None,
            fetching: false,
            removed: false,
            last: 0,
        }
    }
}
