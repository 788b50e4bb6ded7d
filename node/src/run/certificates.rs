//! Looks at the files of TLS again and again, and rotates the keys of session tickets. No worker waits for a disk.

use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use tokio::time::{MissedTickBehavior, interval};

use crate::plan::Registry;
use crate::proxy::tls::{ContextError, TicketRotation};

use super::node::Node;

/// How often the files are looked at: a call of the system for each while nothing changes.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(crate) async fn look_after(node: Arc<Node>) {
    let mut rotation = None;
    let mut tick = interval(LOOK_AGAIN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (at, before) = (Arc::clone(&node), rotation.take());
        // Files may lie on a disk that hangs: then this task waits, and nothing else does.
        let Ok(after) = tokio::task::spawn_blocking(move || look(&at, before)).await else { return };
        rotation = after;
    }
}

fn look(node: &Node, rotation: Option<TicketRotation>) -> Option<TicketRotation> {
    let registry = &node.traffic.as_ref()?.registry;
    for problem in registry.tls_problems() {
        tell(node, &problem);
    }
    for context in registry.tls() {
        let found = context.refresh();
        for problem in &found.problems {
            tell(node, problem);
        }
        if found.changed > 0 {
            let what =
                format!("{} certificate(s) or OCSP response(s) have changed and are in use", found.changed);
            node.events.record(Severity::Info, "tls", what, "their files have changed");
        }
    }
    match rotate(registry, rotation, Time::ZERO + node.started.elapsed()) {
        Ok(rotation) => rotation,
        Err(problem) => {
            tell(node, &problem);
            None
        }
    }
}

/// Keys are made when the first service with TLS is, and rotate from then on.
fn rotate(
    registry: &Registry,
    rotation: Option<TicketRotation>,
    now: Time,
) -> Result<Option<TicketRotation>, ContextError> {
    match rotation {
        None if registry.tls().is_empty() => Ok(None),
        None => Ok(Some(TicketRotation::new(registry.tickets()?, now))),
        Some(mut rotation) => {
            rotation.tick(now)?;
            Ok(Some(rotation))
        }
    }
}

fn tell(node: &Node, problem: &ContextError) {
    node.events.record(Severity::Alert, "tls", problem.to_string(), "what was there before goes on");
}
