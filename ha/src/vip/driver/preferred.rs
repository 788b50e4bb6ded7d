//! A node of higher priority has come back, and will take its address: the holder moves it there before, so that connections go on.

use std::time::Duration;

use super::peers::HandOver;
use super::run::{Driver, Vip};
use crate::events::Severity;
use crate::time::Time;
use crate::vip::speaker::vrrp::PRIORITY_OWNER;
use crate::vip::{Mode, Role};

/// An address that the preferred node did not take is not handed to it again before this time; by its own timer it takes it
/// earlier.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of a node that would take the address from this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preferred {
    /// It, and since when it stands by.
    node: Option<(u64, Time)>,
    /// When the address was to be moved there last.
    tried: Option<Time>,
}

impl Preferred {
    /// Whether the address is to move to `node`, which stands by and will take it after `delay`.
    fn is_due(&mut self, now: Time, node: Option<u64>, delay: Duration) -> Option<u64> {
        let before = self.node.map(|(node, _)| node);
        if before != node {
            self.node = node.map(|node| (node, now));
        }
        let (node, since) = self.node?;
        let waited = now.since(since) >= delay;
        let again = self.tried.is_none_or(|tried| now.since(tried) >= AGAIN);
        (waited && again).then(|| {
            self.tried = Some(now);
            node
        })
    }
}

impl Driver {
    /// Hands each address over to the node that will preempt it.
    pub(super) async fn give_way(&mut self, now: Time) {
        if self.stopping || self.has_orders() {
            return;
        }
        let due = (0..self.vips.len()).find_map(|which| {
            let vip = self.vips.get(which)?;
            let settings = vip.holder.settings();
            let holds = vip.holder.role() == Role::Active && settings.mode == Mode::Hold && !vip.leaving;
            let gives = holds && settings.preempt && settings.priority != PRIORITY_OWNER && self.leads(which);
            let better = || self.link.peers.preferred(now, &settings.name, settings.priority);
            // Where connections would break anyway, the protocol does as well.
            let better = gives.then(better).flatten().filter(|node| self.cannot_keep(*node).is_none());
            let delay = settings.preempt_delay;
            Some((self.vips.get_mut(which)?.preferred.is_due(now, better, delay)?, which))
        });
        let Some((node, which)) = due else { return };
        let to = self.link.peers.name(node);
        let Some(Vip { subject, holder, .. }) = self.vips.get(which) else { return };
        let why = "it is preferred (its priority is higher), stands by, and would take it";
        self.events.record(Severity::Info, subject, format!("moves to {to}"), why);
        let vips = vec![holder.settings().name.clone()];
        self.hand_over(&HandOver { vips, to: Some(to), dry_run: false }, None).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    #[test]
    fn the_address_moves_when_the_preferred_node_has_stood_by_for_the_delay_and_not_again_at_once() {
        let delay = Duration::from_secs(10);
        let mut preferred = Preferred::default();
        assert_eq!(preferred.is_due(s(1), None, delay), None);
        assert_eq!(preferred.is_due(s(2), Some(7), delay), None);
        // It was away: its time begins anew.
        assert_eq!(preferred.is_due(s(11), None, delay), None);
        assert_eq!(preferred.is_due(s(12), Some(7), delay), None);
        assert_eq!(preferred.is_due(s(22), Some(7), delay), Some(7));
        assert_eq!(preferred.is_due(s(26), Some(7), delay), None);
        assert_eq!(preferred.is_due(s(27), Some(7), delay), Some(7));
        assert_eq!(Preferred::default().is_due(s(1), Some(7), Duration::ZERO), Some(7));
    }
}
