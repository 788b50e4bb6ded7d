//! The new process has opened everything: it waits until it serves and holds what the old one does, says so, and is alone.

use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::vip::driver::VipHandle;
use cygnet_ha::vip::{Role, VipView};
use tokio::time::sleep;

use super::channel::Channel;
use super::succeed::Succession;
use super::taker::{Step, Taker};
use super::word::{Go, State, Word};
use crate::run::node::Node;

/// Whether everything is there is looked at so often, beside every change.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The node is this process's.
    Done,
    /// Nothing has come of it: this process ends, and leaves everything where it is.
    Undone,
}

/// Takes over.
pub(crate) async fn settle(node: Arc<Node>, succession: Succession) -> Settled {
    let Succession { mut channel, mut taker, state, go, earlier, .. } = succession;
    let mut said = false;
    let left = loop {
        if !said && let Some(took) = took(&node, &state, &go) {
            said = true;
            let word = took.err().map_or(Word::Took, |why| Word::Refused { why });
            // If it is gone, the socket says so next.
            let _ = channel.say(&word, &[]).await;
        }
        let step = tokio::select! {
            heard = channel.hear() => match heard {
                Ok(Some(heard)) => taker.heard(heard.word),
                Ok(None) | Err(_) => taker.closed(),
            },
            () = sleep(LOOK_AGAIN), if !said => Step::Wait,
        };
        match step {
            Step::Settle(left) => break left,
            Step::Leave(why) => {
                tracing::info!("this process does not take over: {why}");
                return Settled::Undone;
            }
            _ => {}
        }
    };
    if let Some(vips) = &node.vips {
        vips.settle().await;
    }
    let what = format!("took over from {}", state.program);
    let why = match left {
        Some(0) => "no connection goes on there".to_owned(),
        Some(left) => format!("{left} connections go on there until they end"),
        None => "it has died meanwhile, and its connections with it".to_owned(),
    };
    node.events.record(Severity::Info, "node", what, why);
    if let Some(left) = left {
        node.upgrade.watch(state.program, left, channel, taker);
    }
    for (program, connections, socket) in earlier {
        if let Ok(channel) = Channel::of(socket) {
            node.upgrade.watch(program, connections, channel, Taker::settled());
        }
    }
    Settled::Done
}

/// `None`: not yet. An error: it cannot serve what the old process serves.
fn took(node: &Node, state: &State, go: &Go) -> Option<Result<(), String>> {
    let running = node.running.borrow().clone();
    if running.made_from.version() != node.replicated.borrow().version() {
        return None;
    }
    if let Some(problem) = running.listen_problems.get(state.listen_problems) {
        return Some(Err(problem.text.clone()));
    }
    if state.ready && !running.ready {
        return running.problem.clone().map(Err);
    }
    let views = node.vips.as_ref().map(VipHandle::views);
    let views = views.map(|views| Arc::clone(&views.borrow())).unwrap_or_default();
    let holds = |name: &String| {
        let is_it = |view: &VipView| view.name == *name && view.role == Role::Active && view.address_present;
        views.iter().any(is_it)
    };
    go.held.iter().all(holds).then_some(Ok(()))
}
