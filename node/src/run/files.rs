//! The node's own files while it runs: certificates and OCSP responses that are renewed, the keys of session tickets.

use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::events::{EventLog, Severity};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::node::Node;
use crate::plan::Fault;
use crate::proxy::tls::TICKET_ROTATION;

/// How often the files are looked at: a renewed certificate is in use so soon. A look is a few `stat` calls a
/// certificate.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Keeps certificates, OCSP responses and ticket keys fresh, for ever.
pub(super) async fn watch(node: Arc<Node>) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rotated = Instant::now();
    loop {
        tick.tick().await;
        let rotate = rotated.elapsed() >= TICKET_ROTATION;
        if rotate {
            rotated = Instant::now();
        }
        let looked = Arc::clone(&node);
        // Files may be on a slow disk, or on another machine.
        let look = tokio::task::spawn_blocking(move || look(&looked, rotate));
        if look.await.is_err() {
            tracing::error!("looking at the files of TLS has failed by a fault of this program");
        }
    }
}

fn look(node: &Node, rotate: bool) {
    let Some(traffic) = &node.traffic else { return };
    node.certificates.look(&node.events, traffic.registry.certificates());
    let looked = traffic.registry.refresh_files();
    looked.faults.iter().for_each(|fault| record(&node.events, fault));
    if looked.changed > 0 {
        let what = format!("{} certificates or OCSP responses were renewed and are in use", looked.changed);
        node.events.record(Severity::Info, "node", what, "their files have changed");
    }
    if rotate && let Err(error) = traffic.registry.rotate_tickets() {
        let what = "the keys of session tickets could not be renewed; the old ones go on";
        node.events.record(Severity::Warning, "node", what, error.to_string());
    }
}

/// Tells what could not be had from a file.
pub(super) fn record(events: &EventLog, fault: &Fault) {
    let severity = if fault.kept { Severity::Warning } else { Severity::Alert };
    let what = match (&fault.server, fault.kept) {
        (None, true) => "a file of TLS cannot be used; what was loaded before goes on".to_owned(),
        (None, false) => "the service does not listen, for it has no certificate".to_owned(),
        (Some(server), true) => format!("a file of TLS towards {server} cannot be used; the old one goes on"),
        (Some(server), false) => {
            format!("no connection to {server} can be made: TLS towards it lacks a file")
        }
    };
    events.record(severity, &format!("service {}", fault.service), what, fault.text.as_str());
}
