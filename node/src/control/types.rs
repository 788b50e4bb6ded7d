//! What goes over the API, as JSON. Every answer carries `schema`; within one schema fields are added, never renamed
//! or removed. Times of other nodes are ages in milliseconds, so that no clock needs to agree with another.

mod configuration;
mod upgrade;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use cygnet_ha::consensus::RecoveryOutlook;
use cygnet_ha::events::Event;
use cygnet_ha::state::Standing;
use cygnet_ha::vip::driver::{Kept, Moved};
use cygnet_ha::vip::{LeftView, VipView};
use serde::{Deserialize, Serialize};

pub use super::health::{CheckState, CheckView, Elsewhere, ServerCheck};
use crate::config::Problem;
pub use configuration::*;
pub use upgrade::*;

/// The version of the shapes in this module.
pub const SCHEMA: u32 = 1;

/// Most clients in one answer.
pub const CLIENTS_PAGE_MAX: usize = 1000;
/// Most events in one answer.
pub const EVENTS_PAGE_MAX: usize = 500;
/// Longest author of a change, in bytes.
pub const AUTHOR_BYTES_MAX: usize = 128;
/// Longest comment of a change, in bytes.
pub const COMMENT_BYTES_MAX: usize = 512;

/// An answer with its schema beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply<T> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The answer's own fields stand beside `schema`.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Reply<T> {
    /// Wraps an answer.
    pub fn new(body: T) -> Self {
        Self { schema: SCHEMA, body }
    }
}

/// What kind of failure it was. Programs decide by this, people read the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Something went wrong that fits nowhere else.
    Error,
    /// The request itself makes no sense.
    Usage,
    /// The configuration has problems; they are listed.
    Invalid,
    /// The object is not there.
    NotFound,
    /// Too few voters can be reached to decide anything.
    NoQuorum,
    /// A precondition does not hold (another version, an unready peer, no confirmation).
    Refused,
    /// This caller may not ask for that.
    Forbidden,
    /// No answer within the time allowed; what was asked for may still happen.
    TimedOut,
    /// The node's API cannot be reached.
    Unreachable,
}

/// Why something failed, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What is wrong.
    pub error: String,
    /// What to do about it; may be empty.
    pub remedy: String,
    /// What kind of failure.
    pub code: ErrorCode,
    /// The problems of a configuration, when that is what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

impl ApiError {
    /// A failure without a list of problems.
    pub fn new(code: ErrorCode, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { error: error.into(), remedy: remedy.into(), code, problems: Vec::new() }
    }

    /// A configuration with problems.
    #[must_use]
    pub fn invalid(problems: Vec<Problem>) -> Self {
        let error = match problems.len() {
            1 => "the configuration has a problem".to_owned(),
            count => format!("the configuration has {count} problems"),
        };
        Self { error, remedy: String::new(), code: ErrorCode::Invalid, problems }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.error)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(out, "; {}", self.remedy) }
    }
}

impl std::error::Error for ApiError {}

/// `GET /v1/vips`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vips {
    /// The virtual addresses as this node sees them.
    pub vips: Vec<VipView>,
}

/// The operator's wish for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// It takes connections.
    Ready,
    /// It takes no new clients; running connections go on.
    Drain,
}

/// `GET /v1/servers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// The servers of all services, in the order of the configuration.
    pub servers: Vec<ServerView>,
}

/// A server as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its service.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Share of connections.
    pub weight: u16,
    /// Connections at once; 0: no limit.
    pub max: u32,
    /// The operator's wish.
    pub admin: Admin,
    /// It failed, and is left alone for so much longer; `None`: it is not.
    pub blacklisted_ms: Option<u64>,
    /// Where connections to it start from.
    pub source: Option<IpAddr>,
    /// Why there is no source, when there is none.
    pub source_problem: Option<String>,
    /// Connections now.
    pub connections: u64,
    /// Connections since start.
    pub total: u64,
    /// Failed attempts since start.
    pub failed: u64,
    /// What its health checks say; `None`: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckView>,
}

impl ServerView {
    /// Whether a new client may be sent to it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let down = self.check.as_ref().is_some_and(CheckView::is_down);
        self.admin == Admin::Ready && self.blacklisted_ms.is_none() && self.source_problem.is_none() && !down
    }
}

/// `POST /v1/servers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetServer {
    /// The service.
    pub service: String,
    /// The server.
    pub server: String,
    /// The wish.
    pub admin: Admin,
    /// Whose wish.
    pub author: String,
}

/// `GET /v1/clients`: which page of the remembered clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientsQuery {
    /// Only those of this service.
    pub service: Option<String>,
    /// Where the last page ended; its `next`.
    pub after: Option<String>,
    /// How many, at most [`CLIENTS_PAGE_MAX`] (which is also the default).
    pub limit: Option<usize>,
}

/// One page of remembered clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// The clients.
    pub clients: Vec<ClientView>,
    /// `after` of the next page; `None` on the last one.
    pub next: Option<String>,
    /// How many are remembered in all.
    pub total: u64,
}

/// A remembered client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// The client.
    pub client: IpAddr,
    /// The service.
    pub service: String,
    /// The server that it is sent to.
    pub server: String,
    /// How long ago it was last seen.
    pub age_ms: u64,
}

/// `GET /v1/events?after=N&limit=N`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only events with a greater sequence; 0: all that are kept.
    #[serde(default)]
    pub after: u64,
    /// How many, at most [`EVENTS_PAGE_MAX`] (which is also the default).
    pub limit: Option<usize>,
}

/// What happened on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The node.
    pub node: String,
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// The newest sequence that exists. Smaller than `after`: the node has started anew and counts from 1 again.
    pub last: u64,
}

/// An event of any node, as all nodes remember it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// Its place in the memory of the cluster: counts from 1, in the order in which the nodes agreed on the events.
    pub number: u64,
    /// The node that tells it, by name; by number when it is no member any more.
    pub node: String,
    /// The event, with the sequence and the clock of that node.
    #[serde(flatten)]
    pub event: Event,
}

/// `GET /v1/cluster/events?after=N&limit=N`: what happened on any node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEvents {
    /// The events, in the order of their numbers.
    pub events: Vec<ClusterEvent>,
    /// The newest number that exists. Smaller than `after`: the cluster has begun anew, or was recovered.
    pub last: u64,
    /// So many events of this node are not among those that the nodes agreed on yet.
    pub waiting: u64,
}

/// Longest life of a token in seconds: a week. A secret that lies about longer is found.
pub const TOKEN_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// `GET /v1/cluster/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// All of them, this node included.
    pub members: Vec<MemberView>,
    /// The last entry that is committed, as far as this node knows.
    pub commit: u64,
    /// Counts recoveries.
    pub epoch: u64,
    /// Whether the links between the nodes are encrypted.
    pub secure: bool,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it listens for the other nodes.
    pub address: SocketAddr,
    /// It carries no traffic.
    pub witness: bool,
    /// How it counts; `None` where the list stands in the node files only.
    pub standing: Option<Standing>,
    /// It votes.
    pub voter: bool,
    /// It leads.
    pub leader: bool,
    /// This node itself.
    pub here: bool,
    /// It can be reached from here.
    pub connected: bool,
    /// How many entries it is behind; only the leader knows.
    pub behind: Option<u64>,
}

/// What is to be done with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberAction {
    /// It leaves for good.
    Remove,
    /// It becomes a voter.
    Promote,
    /// It leads.
    Transfer,
    /// The node that is asked becomes the only voter; `name` is the cluster's.
    Recover,
    /// All nodes get a new key for session tickets; `name` is the cluster's.
    Rotate,
}

/// `POST /v1/cluster/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberChange {
    /// What.
    pub action: MemberAction,
    /// Whom, by name; for a recovery the name of the cluster, as a confirmation.
    pub name: String,
    /// Remove it even if those that are left could decide nothing.
    #[serde(default)]
    pub force: bool,
    /// Whose wish.
    pub author: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChanged {
    /// What was done, in a line.
    pub done: String,
}

/// `POST /v1/cluster/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For a witness.
    #[serde(default)]
    pub witness: bool,
    /// For a node that stays a learner until it is promoted.
    #[serde(default)]
    pub learner: bool,
    /// How long it lives, seconds.
    pub ttl_s: u64,
    /// Whose wish.
    pub author: String,
}

/// `POST /v1/node`: whether this node takes part in the elections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetNode {
    /// Drain: it gives up its addresses and does not contend until it is made ready again, across restarts.
    pub admin: Admin,
    /// Whose wish.
    pub author: String,
    /// Why, in the author's words.
    #[serde(default)]
    pub comment: String,
    /// Even if nobody takes an address over.
    #[serde(default)]
    pub force: bool,
    /// Change nothing; say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to [`SetNode`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSet {
    /// The node.
    pub node: String,
    /// Its wish from now on.
    pub admin: Admin,
    /// False if that was its wish before.
    pub changed: bool,
    /// Virtual addresses that it holds and gives up with a drain.
    pub gives_up: Vec<String>,
    /// Virtual addresses that nobody else is ready to hold.
    pub without_standby: Vec<String>,
    /// Virtual addresses on this node that another daemon moves; a drain does not touch them.
    pub watched: Vec<String>,
}

/// `GET /v1/why?vip=NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The node that tells it.
    pub node: String,
    /// One story a virtual address.
    pub stories: Vec<super::why::Story>,
}

/// Most connections in one answer about drains: some 200 bytes each, below what a client reads (16 MiB).
pub const DRAIN_LISTED_MAX: usize = 50_000;

/// `GET /v1/drain`: connections that go on through this node although their address was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainQuery {
    /// How many one by one, at most [`DRAIN_LISTED_MAX`] (which is also the default).
    pub limit: Option<usize>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drains {
    /// The node.
    pub node: String,
    /// One for each virtual address with such connections.
    pub drains: Vec<Drain>,
}

/// The connections of one virtual address that go on here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The name in the configuration.
    pub vip: String,
    /// How many, through which node, since when, until when.
    #[serde(flatten)]
    pub left: LeftView,
    /// They themselves; the first so many that were asked for.
    pub connections: Vec<LeftConnection>,
}

/// A connection that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftConnection {
    /// The client.
    pub client: SocketAddr,
    /// Where it has connected to.
    pub to: SocketAddr,
    /// The service; `None`: another program's, or its end was not noticed yet.
    pub service: Option<String>,
    /// The server.
    pub server: Option<String>,
    /// For how long nothing has gone either way, ms, by the kernel's word; `None`: it does not say.
    pub idle_ms: Option<u64>,
}

/// `POST /v1/switchover`: move addresses that this node holds to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchOver {
    /// The node; `None`: the best one that stands by.
    #[serde(default)]
    pub to: Option<String>,
    /// Names of virtual addresses; empty: all that this node holds.
    #[serde(default)]
    pub vips: Vec<String>,
    /// Even if fewer servers are usable there.
    #[serde(default)]
    pub force: bool,
    /// Change nothing; say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Whose wish.
    pub author: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMade {
    /// The token; shown once.
    pub token: String,
    /// Where a node may join: the address of the node that was asked.
    pub address: SocketAddr,
}

/// The answer to [`SwitchOver`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchedOver {
    /// The node that held the addresses.
    pub node: String,
    /// Client connections on it at that moment.
    pub connections: u64,
    /// What has moved, or would.
    pub moved: Vec<Moved>,
    /// What stays, and why.
    pub refused: Vec<Kept>,
}
