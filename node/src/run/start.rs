//! The start of a node, in the order in which its parts need each other.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use cygnet_ha::consensus;
use cygnet_ha::events::EventLog;
use cygnet_ha::state::FEATURE_LEVEL;
use cygnet_ha::vip::driver::{DriverSettings, Say, VipHandle};
use cygnet_netlink::guard::Guard;
use tokio::sync::watch;
use tokio::time::timeout;

use super::certificates::Certificates;
use super::checks::Health;
use super::descriptors;
use super::direct;
use super::identity;
use super::maintenance::Maintenance;
use super::node::{Node, Traffic};
use super::preflight::answerer;
use super::replica::{Replica, Replicated};
use super::running::Running;
use super::upgrade::{Board, Inheritance};
use crate::balance::{CLIENTS_DEFAULT, ClientTable};
use crate::config::model::{Member, NodeConfig, Source};
use crate::config::{parse_cluster, virtual_source};
use crate::plan::Registry;
use crate::proxy::tls::Tickets;
use crate::proxy::{self, Legacy, Workers};

/// How long reading the state of the last life may take: a full client table takes about a second.
const RESTORE_PATIENCE: Duration = Duration::from_secs(10);

/// Opens the log, the data path and the elections. When that fails, what was opened is closed again.
pub(super) async fn node(
    config: &Arc<NodeConfig>,
    events: EventLog,
    running: watch::Receiver<Arc<Running>>,
    board: Board,
    inheritance: Inheritance,
) -> anyhow::Result<Node> {
    let Some(own) = config.members.iter().find(|member| member.name == config.name) else {
        bail!("{} is not among the members of the cluster", config.name);
    };
    let clients = (!own.witness).then(|| Arc::new(ClientTable::new(CLIENTS_DEFAULT)));
    let tickets = (!own.witness).then(|| Tickets::random().map(Arc::new)).transpose()?;
    let (replica, mut replicated) = Replica::new(clients.clone(), tickets.clone());
    let Inheritance { sockets, peers, held, down } = inheritance;
    let log = open_log(config, own, &events, (replica, answerer(config, running.clone())), peers)?;
    // The log has told nothing if that takes longer, or if its thread has failed: the conductor checks again.
    let _ = timeout(RESTORE_PATIENCE, replicated.changed()).await;
    let checked = refuse_a_virtual_source(config, &replicated.borrow());
    let parts = checked.and_then(|()| {
        clients
            .zip(tickets)
            .map(|shared| open_traffic(config, &events, shared, &log, (sockets, held)))
            .transpose()
    });
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => {
            log.stop().await;
            return Err(error);
        }
    };
    let (traffic, vips) = parts.unzip();
    // After the log, which makes the directory.
    let maintenance = Maintenance::open(&config.state_dir);
    let config = Arc::clone(config);
    let (started, health) = (Instant::now(), Health::new(&config.name, down));
    let (certificates, direct) = (Certificates::default(), direct::Board::default());
    let upgrade = Arc::new(board);
    Ok(Node {
        config,
        started,
        events,
        log,
        replicated,
        running,
        maintenance,
        health,
        certificates,
        direct,
        traffic,
        vips,
        upgrade,
    })
}

fn open_log(
    config: &Arc<NodeConfig>,
    own: &Member,
    events: &EventLog,
    (replica, preflight): (Replica, consensus::Preflight),
    listening: Option<TcpListener>,
) -> anyhow::Result<consensus::Handle> {
    let settings = consensus::Settings {
        cluster: config.cluster.clone(),
        id: own.id,
        members: config.members.iter().map(member).collect(),
        begin: identity::begin(config)?,
        security: identity::security(config)?,
        level: FEATURE_LEVEL,
        state_dir: config.state_dir.clone(),
        limits: config.storage,
        events: events.clone(),
    };
    let log = consensus::Handle::start_on(settings, Box::new(replica), preflight, listening)?;
    identity::remember(config, own)?;
    Ok(log)
}

fn member(member: &Member) -> consensus::Member {
    consensus::Member {
        id: member.id,
        name: member.name.clone(),
        address: member.address,
        witness: member.witness,
    }
}

/// The one mistake in the node's file that only shows beside the cluster's: it is refused at the start too, for such a
/// node would break every backend session when the address moves.
fn refuse_a_virtual_source(config: &NodeConfig, replicated: &Replicated) -> anyhow::Result<()> {
    // A text that this program cannot read is the conductor's to report; the node starts, so that it can be replaced.
    let Ok(cluster) = parse_cluster(&replicated.text(), "cluster.toml") else { return Ok(()) };
    virtual_source(config, &cluster).map_or(Ok(()), |problem| Err(anyhow!("{problem}")))
}

fn open_traffic(
    config: &NodeConfig,
    events: &EventLog,
    (clients, tickets): (Arc<ClientTable>, Arc<Tickets>),
    log: &consensus::Handle,
    (sockets, held): (Legacy, Option<BTreeSet<String>>),
) -> anyhow::Result<(Traffic, VipHandle)> {
    descriptors::raise(events);
    let settings = proxy::Settings {
        workers: config.workers,
        events: events.clone(),
        succeeds: sockets,
        ..proxy::Settings::default()
    };
    let workers = Workers::start(settings, &clients).context("cannot start the workers")?;
    let vips = open_elections(config, events, log, held)?;
    let registry = Registry::new(config.workers).sealing_with(tickets);
    Ok((Traffic { registry, clients, workers }, vips))
}

fn open_elections(
    config: &NodeConfig,
    events: &EventLog,
    log: &consensus::Handle,
    succeeds: Option<BTreeSet<String>>,
) -> anyhow::Result<VipHandle> {
    let own_fixed = match &config.source {
        Source::Auto => Vec::new(),
        Source::Fixed(addresses) => addresses.clone(),
    };
    // This very file, also when a package upgrade has put another one under its name. A node without an interface for
    // virtual addresses never holds one.
    let holds = config.interface.is_some() || config.per_vip.values().any(|vip| vip.interface.is_some());
    let guard = holds
        .then(|| Guard::spawn(Path::new("/proc/self/exe"), &["guard"]).context("cannot start the guard"))
        .transpose()?;
    let mouth = log.clone();
    let say: Say = Box::new(move |to, word| mouth.say(to, word));
    let settings = DriverSettings { guard, events: events.clone(), own_fixed, say: Some(say), succeeds };
    VipHandle::start(settings).context("cannot start the elections; they need CAP_NET_ADMIN and CAP_NET_RAW")
}
