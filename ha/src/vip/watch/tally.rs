//! What was noticed, counted by its name: the memory behind the lines of `cygnet vip`.

use std::collections::BTreeMap;

use super::WatchEvent;
use crate::time::Time;

/// So often, and last then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How often it was noticed, reported or not.
    pub count: u64,
    /// When last.
    pub last: Time,
    /// The last of them.
    pub event: WatchEvent,
}

/// Tallies by [`WatchEvent::name`]. Bounded by the number of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies(BTreeMap<&'static str, Tally>);

impl Tallies {
    pub(super) fn note(&mut self, now: Time, event: &WatchEvent) {
        let tally = self.0.entry(event.name());
        let tally = tally.or_insert_with(|| Tally { count: 0, last: now, event: event.clone() });
        tally.count = tally.count.saturating_add(1);
        (tally.last, tally.event) = (now, event.clone());
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Tally)> {
        self.0.iter().map(|(name, tally)| (*name, tally))
    }

    /// How often this was noticed.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |tally| tally.count)
    }
}
