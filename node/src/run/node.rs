//! What the parts of a running node share.

use std::sync::Arc;
use std::time::Instant;

use cygnet_ha::consensus;
use cygnet_ha::events::EventLog;
use cygnet_ha::vip::driver::VipHandle;
use tokio::sync::watch;

use super::certificates::Certificates;
use super::checks::Health;
use super::direct::Board;
use super::maintenance::Maintenance;
use super::replica::Replicated;
use super::running::Running;
use super::upgrade;
use crate::balance::ClientTable;
use crate::config::model::NodeConfig;
use crate::plan::Registry;
use crate::proxy::Workers;

/// A running node.
pub(crate) struct Node {
    /// Its own file.
    pub(crate) config: Arc<NodeConfig>,
    /// When the process started.
    pub(crate) started: Instant,
    /// What happened.
    pub(crate) events: EventLog,
    /// The log.
    pub(crate) log: consensus::Handle,
    /// What was agreed on.
    pub(crate) replicated: watch::Receiver<Arc<Replicated>>,
    /// What this node made of it.
    pub(crate) running: watch::Receiver<Arc<Running>>,
    /// The operator's wish for this node.
    pub(crate) maintenance: Maintenance,
    /// What the servers' health checks say here.
    pub(crate) health: Health,
    /// What the services' certificates are, as they were looked at last.
    pub(crate) certificates: Certificates,
    /// Direct server return on this node.
    pub(crate) direct: Board,
    /// The data path; none on a witness.
    pub(crate) traffic: Option<Traffic>,
    /// The virtual addresses; none on a witness.
    pub(crate) vips: Option<VipHandle>,
    /// Hand-overs to a new program.
    pub(crate) upgrade: Arc<upgrade::Board>,
}

/// The data path.
pub(crate) struct Traffic {
    /// Makes plans, and keeps the counters.
    pub(crate) registry: Registry,
    /// Which client belongs to which server.
    pub(crate) clients: Arc<ClientTable>,
    /// The threads that move bytes.
    pub(crate) workers: Workers,
}
