//! Which connections have been silent for too long, at connecting or at relaying: a table per worker, looked through
//! once a tick.
//!
//! A connection that moves bytes stores one number; no timer is set or moved. Looking through 100,000 connections
//! costs some 0.3 ms a tick.

use std::task::Waker;
use std::time::Duration;

/// How exact the time-outs are: never early, late by two ticks and a few percent (a busy worker ticks more slowly, and a
/// stopped one does not catch up: what came in meanwhile is still to be read).
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was silent for the time that it was allowed.
    Silent,
    /// The worker stops and its deadline is over.
    Stopped,
}

/// A connection's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat(usize);

#[derive(Debug, Default)]
struct Entry {
    /// The tick at which bytes last moved.
    last: u32,
    /// Ticks of silence that are allowed; 0: any number.
    limit: u32,
    end: Option<End>,
    waker: Option<Waker>,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Silence {
    now: u32,
    entries: Vec<Entry>,
    free: Vec<usize>,
    ended: bool,
}

impl Silence {
    /// A new connection. It may be silent for any time until [`Silence::allow`] says otherwise.
    pub(super) fn enter(&mut self, waker: Waker) -> Seat {
        let end = self.ended.then_some(End::Stopped);
        let entry = Entry { last: self.now, limit: 0, end, waker: Some(waker) };
        match self.free.pop() {
            Some(place) => {
                self.entries[place] = entry;
                Seat(place)
            }
            None => {
                self.entries.push(entry);
                Seat(self.entries.len() - 1)
            }
        }
    }

    /// From now on the connection may be silent for `time`; `None`: any time. An earlier silence is forgiven.
    pub(super) fn allow(&mut self, seat: Seat, time: Option<Duration>) {
        let entry = &mut self.entries[seat.0];
        entry.last = self.now;
        entry.limit = time.map_or(0, |time| {
            // One more, for this may be the end of a tick.
            u32::try_from(time.as_millis().div_ceil(TICK.as_millis()) + 1).unwrap_or(u32::MAX)
        });
        if entry.end == Some(End::Silent) {
            entry.end = None;
        }
    }

    /// The connection has ended.
    pub(super) fn leave(&mut self, seat: Seat) {
        self.entries[seat.0] = Entry::default();
        self.free.push(seat.0);
    }

    /// Bytes have moved.
    pub(super) fn moved(&mut self, seat: Seat) {
        self.entries[seat.0].last = self.now;
    }

    /// Whether, and why, the connection must end.
    pub(super) fn end_of(&self, seat: Seat) -> Option<End> {
        self.entries[seat.0].end
    }

    /// The time in ticks.
    pub(super) fn now(&self) -> u32 {
        self.now
    }

    /// A tick has passed: ends whatever was silent for too long.
    pub(super) fn tick(&mut self) {
        self.now = self.now.wrapping_add(1);
        let now = self.now;
        let silent = |entry: &Entry| entry.limit != 0 && now.wrapping_sub(entry.last) >= entry.limit;
        self.entries
            .iter_mut()
            .filter(|entry| entry.end.is_none() && silent(entry))
            .for_each(|entry| end(entry, End::Silent));
    }

    /// Ends all connections, and those that are yet to enter.
    pub(super) fn end_all(&mut self) {
        self.ended = true;
        self.entries.iter_mut().for_each(|entry| end(entry, End::Stopped));
    }
}

fn end(entry: &mut Entry, reason: End) {
    entry.end = Some(reason);
    if let Some(waker) = &entry.waker {
        waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection that may be silent for `ticks`.
    fn enter(table: &mut Silence, woken: &Arc<Woken>, ticks: u32) -> Seat {
        let seat = table.enter(Arc::clone(woken).into());
        table.allow(seat, (ticks > 0).then_some(TICK * ticks));
        seat
    }

    #[test]
    fn a_silent_connection_is_ended_once_and_a_busy_one_is_not() {
        let (mut table, woken) = (Silence::default(), Arc::new(Woken::default()));
        let silent = enter(&mut table, &woken, 3);
        let busy = enter(&mut table, &woken, 3);
        let patient = enter(&mut table, &woken, 0);
        for tick in 1..=20 {
            table.tick();
            table.moved(busy);
            assert_eq!(table.end_of(silent).is_some(), tick >= 4, "never early");
        }
        assert_eq!((table.end_of(busy), table.end_of(patient)), (None, None));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_new_allowance_forgives_silence_but_not_the_stop() {
        let (mut table, woken) = (Silence::default(), Arc::new(Woken::default()));
        let seat = enter(&mut table, &woken, 1);
        (0..2).for_each(|_| table.tick());
        assert_eq!(table.end_of(seat), Some(End::Silent));
        table.allow(seat, Some(TICK * 2));
        (0..2).for_each(|_| table.tick());
        assert_eq!(table.end_of(seat), None);
        table.end_all();
        table.allow(seat, None);
        assert_eq!(table.end_of(seat), Some(End::Stopped));
    }

    #[test]
    fn a_seat_is_given_again_without_its_past() {
        let (mut table, woken) = (Silence::default(), Arc::new(Woken::default()));
        let first = enter(&mut table, &woken, 1);
        (0..2).for_each(|_| table.tick());
        assert_eq!(table.end_of(first), Some(End::Silent));
        table.leave(first);
        let second = table.enter(Arc::clone(&woken).into());
        assert_eq!((second, table.end_of(second)), (first, None));
        assert_eq!(table.entries.len(), 1);
    }

    #[test]
    fn the_end_of_all_reaches_those_who_come_late() {
        let (mut table, woken) = (Silence::default(), Arc::new(Woken::default()));
        let early = enter(&mut table, &woken, 0);
        table.end_all();
        let late = table.enter(Arc::clone(&woken).into());
        assert_eq!((table.end_of(early), table.end_of(late)), (Some(End::Stopped), Some(End::Stopped)));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
