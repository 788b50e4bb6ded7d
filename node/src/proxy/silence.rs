//! Which connections have been silent for too long, at connecting or at relaying: a table per worker, looked through
//! once a tick.
//!
//! A connection that moves bytes stores one number; no timer is set or moved. The table is beside the connections, not
//! in them: looking through 100,000 of them costs some 0.1 ms a tick.

use std::time::Duration;

/// How exact the time-outs are: never early, late by two ticks and a few percent (a busy worker ticks more slowly, and a
/// stopped one does not catch up: what came in meanwhile is still to be read).
pub(super) const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The tick at which bytes last moved.
    last: u32,
    /// Ticks of silence that are allowed; 0: any number.
    limit: u32,
}

/// The table, by the connections' places.
#[derive(Debug, Default)]
pub(super) struct Silence {
    now: u32,
    entries: Vec<Entry>,
}

impl Silence {
    /// From now on the connection may be silent for `time`; `None`: any time. An earlier silence is forgiven.
    pub(super) fn allow(&mut self, place: usize, time: Option<Duration>) {
        if place >= self.entries.len() {
            self.entries.resize(place + 1, Entry::default());
        }
        // One tick more, for this may be the end of one.
        let ticks = |time: Duration| u32::try_from(time.as_millis().div_ceil(TICK.as_millis()) + 1);
        let limit = time.map_or(0, |time| ticks(time).unwrap_or(u32::MAX));
        self.entries[place] = Entry { last: self.now, limit };
    }

    /// Bytes have moved.
    pub(super) fn moved(&mut self, place: usize) {
        if let Some(entry) = self.entries.get_mut(place) {
            entry.last = self.now;
        }
    }

    /// The time in ticks.
    pub(super) fn now(&self) -> u32 {
        self.now
    }

    /// A tick has passed: adds the places of those that were silent for too long to `silent`, each once.
    pub(super) fn tick(&mut self, silent: &mut Vec<usize>) {
        self.now = self.now.wrapping_add(1);
        for (place, entry) in self.entries.iter_mut().enumerate() {
            if entry.limit != 0 && self.now.wrapping_sub(entry.last) >= entry.limit {
                entry.limit = 0;
                silent.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(table: &mut Silence) -> Vec<usize> {
        let mut silent = Vec::new();
        table.tick(&mut silent);
        silent
    }

    #[test]
    fn a_silent_connection_is_told_once_and_a_busy_one_is_not() {
        let mut table = Silence::default();
        table.allow(0, Some(TICK * 3));
        table.allow(5, Some(TICK * 3));
        table.allow(2, None);
        for n in 1..=20 {
            let silent = tick(&mut table);
            table.moved(5);
            assert_eq!(silent, if n == 4 { vec![0] } else { vec![] }, "never early, and once");
        }
    }

    #[test]
    fn a_new_allowance_forgives_silence() {
        let mut table = Silence::default();
        table.allow(0, Some(TICK));
        tick(&mut table);
        table.allow(0, Some(TICK * 2));
        assert_eq!((tick(&mut table), tick(&mut table)), (vec![], vec![]));
        assert_eq!(tick(&mut table), vec![0]);
    }

    #[test]
    fn a_place_is_given_again_without_its_past() {
        let mut table = Silence::default();
        table.allow(0, Some(TICK));
        table.allow(0, None);
        (0..5).for_each(|_| assert!(tick(&mut table).is_empty()));
    }
}
