//! `cygnet run`: the rooms put together, and the order in which they start and stop.
//!
//! Starting: the log (so that the last configuration is known), the data path, the elections, the API. A node contends
//! for an address only when its listeners are open. Stopping, the other way: the addresses first, so that the standby
//! takes over while connections still run here; then the data path, then the log.

mod api;
mod certificates;
mod checks;
mod conductor;
mod descriptors;
mod direct;
mod facts;
mod files;
mod identity;
mod left;
mod logging;
mod maintenance;
mod membership;
mod memory;
mod moves;
mod node;
mod notify;
mod preflight;
mod reach;
mod replica;
mod roles;
mod running;
mod soft;
mod sources;
mod start;
mod surroundings;
pub mod upgrade;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use cygnet_ha::events::{EventLog, Severity};
use cygnet_ha::vip::Role;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::cli::{RunArgs, Stage};
use crate::config::model::NodeConfig;
use crate::config::parse_node;
use crate::control;
use conductor::Conductor;
use node::Node;
use running::Running;
use surroundings::Surroundings;
use upgrade::{Board, Settled, Started, Succession, retire, settle};

/// Threads for everything that is not traffic: API, log transport, kernel watch. They wait most of the time.
const CONTROL_THREADS: usize = 2;
/// How long running connections may go on after a stop was asked for. All of a stop must fit into `TimeoutStopSec=` of the
/// service unit (15 s), after which systemd kills.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// How long the elections may take to resign and give the addresses up: three seconds to prepare a move, one to be relieved, two
/// for connections that end by themselves, and two to remove the addresses.
const RESIGN_PATIENCE: Duration = Duration::from_secs(8);
/// How long commands that are being answered may still take.
const API_PATIENCE: Duration = Duration::from_secs(1);
/// How often the other nodes are told how this one is.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Servers that go down together are told of together.
const REPORT_GAP: Duration = Duration::from_millis(50);

/// Runs a node until it is told to stop.
///
/// # Errors
/// The node file is wrong, or something that the node cannot do without cannot be had; the text names cause and remedy.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    logging::start().context("cannot write the log to standard error")?;
    if args.successor == Some(Stage::First) {
        return upgrade::beside();
    }
    let read = || identity::settle(read_node(&args.config)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control threads")?;
    let result = runtime.block_on(async {
        if args.successor.is_none() {
            return live(Arc::new(read()?), None).await;
        }
        match Succession::receive(read).await? {
            Some((config, succession)) => live(config, Some(succession)).await,
            None => Ok(()),
        }
    });
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

/// The signals that end a node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// A terminal that goes away, or an old habit: neither ends a balancer.
    _hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one, and names it.
    async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "told to by SIGTERM",
            _ = self.interrupt.recv() => "told to by SIGINT",
        }
    }
}

async fn live(config: Arc<NodeConfig>, succession: Option<Succession>) -> anyhow::Result<()> {
    // First of all, so that a signal during the start is not lost.
    let mut signals = Signals::listen()?;
    let events = EventLog::default();
    let surroundings = Surroundings::open(events.clone())?;
    let mut succession = succession;
    let listener = match &mut succession {
        Some(succession) => succession.api(&config),
        None => control::bind(&config.api, config.roles.is_some()),
    }?;
    let started = Started::by(std::env::args_os());
    let (board, mut retirement) = Board::new(started, listener.as_fd().try_clone_to_owned()?);
    let (running, running_seen) = watch::channel(Arc::new(Running::default()));
    let inheritance = succession.as_mut().map(Succession::legacy).unwrap_or_default();
    let opening = start::node(&config, events, running_seen, board, inheritance);
    let started = tokio::select! {
        started = opening => started.map(Some),
        why = signals.end() => {
            tracing::info!("stopped while starting: {why}");
            Ok(None)
        }
    };
    let node = match started {
        Ok(Some(node)) => Arc::new(node),
        failed => {
            let why = failed
                .as_ref()
                .err()
                .map_or_else(|| "it was stopped".to_owned(), |error| format!("{error:#}"));
            match &mut succession {
                Some(succession) => succession.refuse(why).await,
                // Nobody listens there any more.
                None => drop(fs::remove_file(&config.api)),
            }
            return failed.map(drop);
        }
    };
    let mut tasks =
        begin(&node, Conductor::new(Arc::clone(&node), surroundings, running, node.replicated.clone()));
    let Serving { end, open, mut task } = serve_api(&node, listener);
    let mut settling = tokio::spawn(settled(Arc::clone(&node), succession));
    let mut open = Some(open);
    let (why, fault) = loop {
        tokio::select! {
            why = signals.end() => break (why.to_owned(), false),
            fault = tasks.join_next() => break (fault_of(fault), true),
            Some(wish) = retirement.recv() => {
                retire(&node, tasks, end, task, wish, &mut signals).await;
                return Ok(());
            }
            settled = &mut settling, if open.is_some() => {
                if !matches!(settled, Ok(Settled::Done)) {
                    return withdraw(&node, tasks, &task).await;
                }
                notify::ready();
                drop(open.take());
            }
        }
    };
    node.events.record(Severity::Info, "node", "stopping", why.as_str());
    stop(&node, tasks, end, &mut task).await;
    if fault { bail!(why) } else { Ok(()) }
}

/// The API, from its first command to its last.
struct Serving {
    /// No further command is taken in when this is used.
    end: oneshot::Sender<()>,
    /// None is before this one is dropped: the process before answers until then.
    open: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

fn serve_api(node: &Arc<Node>, listener: UnixListener) -> Serving {
    let (end, ended) = oneshot::channel::<()>();
    let (open, opened) = oneshot::channel::<()>();
    let api = control::router(Arc::new(api::Api(Arc::clone(node))));
    let roles = node.config.roles.as_ref().map(|roles| roles::resolve(roles, &node.events));
    let events = node.events.clone();
    let task = tokio::spawn(async move {
        // Nothing is ever sent.
        let _ = opened.await;
        control::serve(listener, api, roles, events, async move { drop(ended.await) }).await
    });
    Serving { end, open, task }
}

/// The tasks of a running node. None of them ends by itself.
fn begin(node: &Arc<Node>, conductor: Conductor) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(conductor.run());
    tasks.spawn(report(Arc::clone(node)));
    if let (Some(vips), Some(mut words)) = (node.vips.clone(), node.log.words()) {
        tasks.spawn(async move {
            // Never ends while the log runs.
            while let Some((from, word)) = words.recv().await {
                vips.hear(from, word);
            }
        });
    }
    tasks.spawn(moves::note(Arc::clone(node)));
    if let Some(traffic) = &node.traffic {
        tasks.spawn(checks::watch(Arc::clone(node)));
        tasks.spawn(direct::serve(Arc::clone(node)));
        tasks.spawn(files::watch(Arc::clone(node)));
        tasks.spawn(reach::watch(Arc::clone(node)));
        tasks.spawn(soft::share_clients(Arc::clone(&traffic.clients), node.log.clone()));
    }
    tasks
}

/// The node is up, or another process of it has handed over to this one.
async fn settled(node: Arc<Node>, succession: Option<Succession>) -> Settled {
    let what = format!("{} {} has started", node.config.name, env!("CARGO_PKG_VERSION"));
    node.events.record(Severity::Info, "node", what, "");
    match succession {
        Some(succession) => settle(node, succession).await,
        None => Settled::Done,
    }
}

/// Ends, and leaves everything to the process before this one.
async fn withdraw(
    node: &Arc<Node>,
    mut tasks: JoinSet<()>,
    serving: &JoinHandle<std::io::Result<()>>,
) -> anyhow::Result<()> {
    if let Some(vips) = &node.vips {
        let _ = timeout(RESIGN_PATIENCE, vips.cede()).await;
    }
    tasks.shutdown().await;
    serving.abort();
    node.log.stop().await;
    let data_path = Arc::clone(node);
    let cut = move || data_path.traffic.as_ref().map(|traffic| traffic.workers.stop(STOP_PATIENCE));
    let _ = tokio::task::spawn_blocking(cut).await;
    Ok(())
}

/// A part that ends by itself has a fault; the node gives way to the other one rather than going on half alive.
fn fault_of(fault: Option<Result<(), JoinError>>) -> String {
    let how = match fault {
        Some(Err(error)) => error.to_string(),
        Some(Ok(())) | None => "it ended".to_owned(),
    };
    format!("a part of the node has failed, and the other node is to take over: {how}")
}

/// Tells the other nodes how this one is, soon after a change and every now and then.
async fn report(node: Arc<Node>) {
    let mut running = node.running.clone();
    let mut health = node.health.changes();
    loop {
        let report = facts::report(&node);
        // The log is led where the address is, if that node can: a change then needs one message less.
        node.log.set_active(report.roles.values().any(|role| *role == Role::Active));
        node.log.publish_report(report.encode());
        tokio::select! {
            changed = running.changed() => {
                if changed.is_err() {
                    // The conductor has ended, and the node is about to.
                    sleep(REPORT_EVERY).await;
                }
            }
            // The sender lives in the node.
            _ = health.changed() => sleep(REPORT_GAP).await,
            () = sleep(REPORT_EVERY) => {}
        }
    }
}

async fn stop(
    node: &Arc<Node>,
    mut tasks: JoinSet<()>,
    end: oneshot::Sender<()>,
    serving: &mut JoinHandle<std::io::Result<()>>,
) {
    node.upgrade.end_all(STOP_PATIENCE);
    if let Some(vips) = &node.vips
        && timeout(RESIGN_PATIENCE, vips.stop()).await.is_err()
    {
        tracing::error!("the elections did not end; the guard takes the addresses away");
    }
    tasks.shutdown().await;
    // The receiver is gone only if the API has ended already.
    let _ = end.send(());
    if timeout(API_PATIENCE, &mut *serving).await.is_err() {
        tracing::warn!("a command was still being answered; it is cut");
        serving.abort();
    }
    // Somebody may have cleaned up before us.
    let _ = fs::remove_file(&node.config.api);
    let data_path = Arc::clone(node);
    let stopped = tokio::task::spawn_blocking(move || {
        data_path.traffic.as_ref().map(|traffic| traffic.workers.stop(STOP_PATIENCE))
    });
    if let Ok(Some(report)) = stopped.await
        && report.cut > 0
    {
        tracing::warn!("{} connections had not ended after {STOP_PATIENCE:?} and were cut", report.cut);
    }
    node.log.stop().await;
}
