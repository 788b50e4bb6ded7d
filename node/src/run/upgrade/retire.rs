//! The life of a process that has handed over: its connections, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::channel::Channel;
use super::word::{Program, Word};
use crate::run::node::Node;
use crate::run::{API_PATIENCE, STOP_PATIENCE, Signals, notify};

/// The new process is told so often how many are left.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long the elections may take to end as they are, their guard's second included.
const CEDE_PATIENCE: Duration = Duration::from_secs(3);
/// Instead of no deadline: ten years.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What ends a node's life as it was.
pub(crate) struct Retirement {
    pub(super) channel: Channel,
    pub(super) successor: Program,
    /// Connections that have not ended by then are cut.
    pub(super) deadline: Option<Duration>,
    /// The new process is alone from now on.
    pub(super) done: oneshot::Sender<()>,
}

/// Lets go of everything but the connections, waits for their end, and ends.
pub(crate) async fn retire(
    node: &Arc<Node>,
    mut tasks: JoinSet<()>,
    end: oneshot::Sender<()>,
    mut serving: JoinHandle<std::io::Result<()>>,
    retirement: Retirement,
    signals: &mut Signals,
) {
    let Retirement { channel, successor, deadline, done } = retirement;
    tasks.shutdown().await;
    if let Some(vips) = &node.vips
        && timeout(CEDE_PATIENCE, vips.cede()).await.is_err()
    {
        tracing::error!("the elections did not end; they end with this process");
    }
    node.direct.end();
    node.upgrade.leave_off();
    // No further command is taken in; the answer of this one goes out.
    let _ = end.send(());
    tokio::task::yield_now().await;
    notify::main_process(successor.pid);
    let connections = busy(node);
    if let Err(error) = channel.say(&Word::Released { connections }, &[]).await {
        tracing::warn!(%error, %successor, "the new process was not told that it is alone now");
    }
    let _ = done.send(());
    if timeout(API_PATIENCE, &mut serving).await.is_err() {
        serving.abort();
    }
    // It has no log any more; its thread need not turn.
    node.log.stop().await;
    outlive(node, channel, deadline.unwrap_or(FOREVER), signals).await;
}

fn busy(node: &Node) -> u64 {
    node.traffic.as_ref().map_or(0, |traffic| traffic.workers.busy() as u64)
}

/// Waits for the end of the connections.
async fn outlive(node: &Arc<Node>, channel: Channel, deadline: Duration, signals: &mut Signals) {
    let data_path = Arc::clone(node);
    let mut stopped = tokio::task::spawn_blocking(move || {
        data_path.traffic.as_ref().map(|traffic| traffic.workers.stop(deadline))
    });
    let within = |time: Duration| {
        if let Some(traffic) = &node.traffic {
            traffic.workers.stop_within(time);
        }
    };
    let mut channel = Some(channel);
    let mut tick = interval(TELL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            report = &mut stopped => {
                if let Ok(Some(report)) = report && report.cut > 0 {
                    tracing::warn!("{} connections had not ended and were cut", report.cut);
                }
                return;
            }
            _ = tick.tick() => {
                if let Some(open) = &channel && let Err(error) = open.say_now(&Word::Left { connections: busy(node) }) {
                    tracing::debug!(%error, "nobody is told how many connections are left");
                }
            }
            heard = hear(&mut channel) => match heard {
                Some(Word::End { within_ms }) => within(Duration::from_millis(within_ms)),
                Some(_) => {}
                // The new process has ended, or gave the way to a newer one: the connections need neither.
                None => channel = None,
            },
            _ = signals.end() => within(STOP_PATIENCE),
        }
    }
}

async fn hear(channel: &mut Option<Channel>) -> Option<Word> {
    match channel {
        Some(channel) => channel.hear().await.ok().flatten().map(|heard| heard.word),
        None => std::future::pending().await,
    }
}
