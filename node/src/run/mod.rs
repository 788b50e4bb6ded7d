//! `cygnet run`: the rooms put together, and the order in which they start and stop.
//!
//! Starting: the log (so that the last configuration is known), the data path, the elections, the API. A node contends
//! for an address only when its listeners are open. Stopping, the other way: the addresses first, so that the standby
//! takes over while connections still run here; then the data path, then the log.

mod api;
mod conductor;
mod descriptors;
mod facts;
mod logging;
mod node;
mod replica;
mod soft;
mod sources;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use cygnet_ha::consensus;
use cygnet_ha::events::{EventLog, Severity};
use cygnet_ha::vip::driver::{DriverSettings, VipHandle};
use cygnet_netlink::guard::Guard;
use cygnet_netlink::kernel::Kernel;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::balance::{CLIENTS_DEFAULT, ClientTable};
use crate::config::model::{NodeConfig, Source};
use crate::config::parse_node;
use crate::control;
use crate::plan::Registry;
use crate::proxy::{self, Workers};
use conductor::{Conductor, Running};
use node::{Node, Traffic};
use replica::Replica;

/// Threads for everything that is not traffic: API, log transport, kernel watch. They wait most of the time.
const CONTROL_THREADS: usize = 2;
/// How long running connections may go on after a stop was asked for. systemd waits 90 s before it kills.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// How often the other nodes are told how this one is.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Runs a node until it is told to stop.
///
/// # Errors
/// The node file is wrong, or something that the node cannot do without cannot be had; the text names cause and remedy.
pub fn run(file: &Path) -> anyhow::Result<()> {
    logging::start();
    let config = Arc::new(read_node(file)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control threads")?;
    let result = runtime.block_on(live(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Reads and checks the node's own file.
fn read_node(file: &Path) -> anyhow::Result<NodeConfig> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read {}; name the node's file with --config", file.display()))?;
    parse_node(&text, &file.display().to_string()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("the node's file has problems\n{}", lines.join("\n"))
    })
}

async fn live(config: Arc<NodeConfig>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A terminal that goes away, or an old habit: neither ends a balancer.
    let _hangup = signal(SignalKind::hangup())?;
    let listener = control::bind(&config.api)?;
    let kernel = Kernel::connect().context("cannot talk to the kernel (rtnetlink)")?;
    let changes = Kernel::watch().context("cannot watch addresses and routes (rtnetlink)")?;
    let (running, running_seen) = watch::channel(Arc::new(Running::default()));
    let node = Arc::new(start(&config, running_seen)?);
    refuse_a_virtual_source(&node)?;

    let conductor = Conductor::new(Arc::clone(&node), kernel, running, node.replicated.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(conductor.run(changes));
    tasks.spawn(report(Arc::clone(&node)));
    if let Some(traffic) = &node.traffic {
        tasks.spawn(soft::share_clients(Arc::clone(&traffic.clients), node.log.clone()));
    }
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let api = control::router(Arc::new(api::Api(Arc::clone(&node))));
    let serving = tokio::spawn(control::serve(listener, api, async {
        let _ = ended.await;
    }));
    let what = format!("{} {} has started", config.name, env!("CARGO_PKG_VERSION"));
    node.events.record(Severity::Info, "node", what, "");

    let why = tokio::select! {
        _ = terminate.recv() => "told to by SIGTERM",
        _ = interrupt.recv() => "told to by SIGINT",
        fault = tasks.join_next() => fault_of(fault),
    };
    node.events.record(Severity::Info, "node", "stopping", why);
    stop(node, tasks, end, serving).await;
    Ok(())
}

/// A part that ends by itself has a fault; the node gives way to the other one rather than going on half alive.
fn fault_of(fault: Option<Result<(), tokio::task::JoinError>>) -> &'static str {
    if let Some(Err(error)) = fault {
        tracing::error!("a part of the node has failed: {error}");
    }
    "a part of the node has failed; the other node takes over"
}

/// Opens the log, the data path and the elections.
fn start(config: &Arc<NodeConfig>, running: watch::Receiver<Arc<Running>>) -> anyhow::Result<Node> {
    let events = EventLog::default();
    let Some(own) = config.members.iter().find(|member| member.name == config.name) else {
        bail!("{} is not among the members of the cluster; add it to the node's file", config.name);
    };
    let clients = (!own.witness).then(|| Arc::new(ClientTable::new(CLIENTS_DEFAULT)));
    let (replica, replicated) = Replica::new(clients.clone());
    let checker = Arc::clone(config);
    let settings = consensus::Settings {
        cluster: config.cluster.clone(),
        id: own.id,
        members: config.members.iter().map(member).collect(),
        state_dir: config.state_dir.clone(),
        events: events.clone(),
    };
    let preflight = Arc::new(move |text: &str| conductor::check(&checker, text).map(drop));
    let log = consensus::Handle::start(settings, Box::new(replica), preflight)?;
    let (mut traffic, mut vips) = (None, None);
    if let Some(clients) = clients {
        descriptors::raise(&events);
        let settings =
            proxy::Settings { workers: config.workers, connections_max: None, events: events.clone() };
        let workers = Workers::start(settings, &clients).context("cannot start the workers")?;
        traffic = Some(Traffic { registry: Registry::new(config.workers), clients, workers });
        vips = Some(start_vips(config, &events)?);
    }
    let config = Arc::clone(config);
    Ok(Node { config, started: Instant::now(), events, log, replicated, running, traffic, vips })
}

fn start_vips(config: &NodeConfig, events: &EventLog) -> anyhow::Result<VipHandle> {
    let own_fixed = match &config.source {
        Source::Auto => Vec::new(),
        Source::Fixed(addresses) => addresses.clone(),
    };
    // This very file, also when a package upgrade has put another one under its name.
    let guard = Guard::spawn(Path::new("/proc/self/exe"), &["guard"]).context("cannot start the guard")?;
    VipHandle::start(DriverSettings { guard: Some(guard), events: events.clone(), own_fixed })
        .context("cannot start the elections; they need CAP_NET_ADMIN and CAP_NET_RAW")
}

fn member(member: &crate::config::model::Member) -> consensus::Member {
    consensus::Member {
        id: member.id,
        name: member.name.clone(),
        address: member.address,
        witness: member.witness,
    }
}

/// The one mistake in the node's file that only shows beside the cluster's: it is refused at the start too, for such a
/// node would break every backend session when the address moves.
fn refuse_a_virtual_source(node: &Node) -> anyhow::Result<()> {
    let text = node.replicated.borrow().text();
    let Source::Fixed(addresses) = &node.config.source else { return Ok(()) };
    let Ok(cluster) = crate::config::parse_cluster(&text, "cluster.toml") else { return Ok(()) };
    let hit = cluster.vips.iter().find(|vip| addresses.contains(&vip.address));
    hit.map_or(Ok(()), |vip| {
        Err(anyhow!(
            "`source` {} is the virtual address {}: it moves away and breaks every session to a server; \
             set `source` to an address that stays on this node, or to \"auto\"",
            vip.address,
            vip.name
        ))
    })
}

/// Tells the other nodes how this one is, soon after a change and every now and then.
async fn report(node: Arc<Node>) {
    let mut running = node.running.clone();
    loop {
        node.log.publish_report(facts::report(&node).encode());
        // Whichever comes first; the result says nothing more than that.
        let _ = tokio::time::timeout(REPORT_EVERY, running.changed()).await;
    }
}

async fn stop(
    node: Arc<Node>,
    mut tasks: tokio::task::JoinSet<()>,
    end: tokio::sync::oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
) {
    if let Some(vips) = &node.vips {
        vips.stop().await;
    }
    tasks.shutdown().await;
    // The receiver is gone only if the API has ended already.
    let _ = end.send(());
    if tokio::time::timeout(Duration::from_secs(1), serving).await.is_err() {
        tracing::warn!("a command was still being answered; it was cut");
    }
    let log = node.log.clone();
    if let Some(node) = Arc::into_inner(node)
        && let Some(traffic) = node.traffic
    {
        let stopped = tokio::task::spawn_blocking(move || traffic.workers.stop(STOP_PATIENCE)).await;
        if let Ok(report) = stopped
            && report.cut > 0
        {
            tracing::warn!("{} connections had not ended after {STOP_PATIENCE:?} and were cut", report.cut);
        }
    }
    log.stop().await;
}
