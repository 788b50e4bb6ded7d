//! What a planned move has left on this node: told, shown, and closed at the deadline.

use std::time::Duration;

use cygnet_netlink::flows;
use cygnet_netlink::steer::Flow;

use super::run::{Driver, Vip};
use super::transfer::{Listed, all_of};
use super::views::milliseconds;
use crate::events::Severity;
use crate::time::Time;
use crate::vip::transfer::{AtDeadline, Left, Taker, Told};
use crate::vip::{LeftView, MovedView, SendsOnView};

/// The connections of one virtual address that go on here although it has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The name in the configuration.
    pub vip: String,
    /// How many, where, since when.
    pub view: LeftView,
    /// They themselves, in order; the first so many that were asked for.
    pub flows: Vec<Flow>,
}

impl Driver {
    /// Closes connections, and lists what is left.
    pub(super) fn close(&self, which: usize, id: u64, flows: Vec<Flow>) {
        let Some(vip) = self.vips.get(which) else { return };
        let (addresses, vip) = (vip.holder.settings().addresses.clone(), vip.holder.settings().name.clone());
        let sender = self.steering.list_sender.clone();
        tokio::spawn(async move {
            let work = move || (flows::close(&flows).map_err(|error| error.to_string()), all_of(&addresses));
            let (closed, list) = tokio::task::spawn_blocking(work)
                .await
                .unwrap_or_else(|error| (Err(error.to_string()), Err(error.to_string())));
            // The driver may have ended.
            let _ = sender.send(Listed { vip, id, giver: true, list, closed: Some(closed) }).await;
        });
    }

    /// What came of it.
    pub(super) fn closed(&mut self, which: usize, closed: Option<Result<usize, String>>) {
        let Some(vip) = self.vips.get_mut(which) else { return };
        match closed {
            Some(Ok(count)) => {
                vip.transfers.giver.iter_mut().for_each(|part| part.machine.has_closed(count));
            }
            Some(Err(why)) if !std::mem::replace(&mut vip.transfers.close_failed, true) => {
                let what = "connections that go on here cannot be closed at their deadline; it is tried every second";
                self.events.record(Severity::Warning, &vip.subject, what, why);
            }
            _ => {}
        }
    }

    /// The address has just moved.
    pub(super) fn tell_kept(&self, which: usize, count: usize) {
        let Some(vip) = self.vips.get(which) else { return };
        let what = format!("{count} connections go on here, through {}, until they end", self.through(vip));
        let why = "the address was moved on purpose; 0 were broken";
        self.events.record(Severity::Info, &vip.subject, what, why);
    }

    /// What became of them.
    pub(super) fn tell_left(&self, which: usize, told: &Told) {
        let Some(vip) = self.vips.get(which) else { return };
        let (severity, what, why) = match told {
            Told::Overdue(count, AtDeadline::Close) => {
                let what = format!("closes {count} connections that still go on here");
                (Severity::Warning, what, "their deadline (drain_deadline) is over".to_owned())
            }
            Told::Overdue(count, AtDeadline::Keep) => {
                let what = format!("{count} connections still go on here, through {}", self.through(vip));
                (Severity::Warning, what, "their deadline (drain_deadline) is over; they are kept".to_owned())
            }
            Told::Ended { of, after, closed } => {
                let after = humane(*after);
                let what = format!(
                    "the last of {of} connections that went on here has ended, {after} after the move"
                );
                (Severity::Info, what, format!("{closed} were closed at the deadline"))
            }
            Told::Lost(count, why) => {
                let what =
                    format!("{count} connections that went on here, through {}, are lost", self.through(vip));
                (Severity::Warning, what, why.clone())
            }
        };
        self.events.record(severity, &vip.subject, what, why);
    }

    /// The node that has the address.
    fn through(&self, vip: &Vip) -> String {
        let giver = vip.transfers.giver.as_ref();
        giver.map(|part| self.link.peers.name(part.peer)).unwrap_or_default()
    }

    /// For the view of the address.
    pub(super) fn moved(&self, now: Time, vip: &Vip) -> MovedView {
        let transfers = &vip.transfers;
        if transfers.giver.is_none() && transfers.taker.is_none() {
            return MovedView::default();
        }
        let sends_on = transfers.taker.as_ref().and_then(|part| {
            let connections = Taker::sends_on(&part.machine)?;
            let since_ms = milliseconds(now.since(part.since));
            Some(SendsOnView { to: self.link.peers.name(part.peer), connections, since_ms })
        });
        MovedView {
            left: self.left(vip).map(|left| self.left_view(now, vip, &left)),
            sends_on,
            rules: self.steering.rules(&vip.holder.settings().addresses),
        }
    }

    fn left<'d>(&self, vip: &'d Vip) -> Option<Left<'d>> {
        vip.transfers.giver.as_ref()?.machine.left()
    }

    fn left_view(&self, now: Time, vip: &Vip, left: &Left<'_>) -> LeftView {
        let until = left.patience.deadline.map(|deadline| (left.since + deadline).since(now));
        LeftView {
            through: self.through(vip),
            since_ms: milliseconds(now.since(left.since)),
            of: left.of,
            left: left.flows.len(),
            deadline_ms: until.map(milliseconds),
            at_deadline: left.patience.at_deadline,
            closed: left.closed,
        }
    }

    /// Of all addresses, at most `limit` connections.
    pub(super) fn leftovers(&self, limit: usize) -> Vec<Leftover> {
        let (now, mut room) = (self.now(), limit);
        let mut of = |vip: &Vip| {
            let left = self.left(vip)?;
            let flows: Vec<Flow> = left.flows.iter().take(room).copied().collect();
            room -= flows.len();
            let view = self.left_view(now, vip, &left);
            Some(Leftover { vip: vip.holder.settings().name.clone(), view, flows })
        };
        self.vips.iter().filter_map(&mut of).collect()
    }
}

/// In whole seconds.
fn humane(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
