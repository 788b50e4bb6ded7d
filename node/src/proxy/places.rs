//! The places for clients, over all workers: one number that is counted up and down, and nothing to wait behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many clients at once and no more. On a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Places {
    taken: AtomicUsize,
    max: AtomicUsize,
}

/// A place that is taken for as long as this lives.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    /// `max`: at least one, or nobody would ever be served.
    pub(super) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max: AtomicUsize::new(max.max(1)) }
    }

    /// From now on so many; those who are inside stay.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max.max(1), Ordering::Relaxed);
    }

    /// A place, if one is free. Workers that reach for the last one at the same moment may all be told
    /// that there is none; they look again.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        // The count may be past `max` for a moment, by one a worker at most. Nothing is published through it: relaxed.
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // From here on the place gives back what was counted, whether it is handed out or not.
        let place = Place(Arc::clone(self));
        (before < self.max.load(Ordering::Relaxed)).then_some(place)
    }

    /// Whether one was free a moment ago.
    pub(super) fn has_room(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < self.max.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_each_can_be_taken_again() {
        let places = Arc::new(Places::new(2));
        let (first, second) = (places.take().expect("free"), places.take().expect("free"));
        assert!(places.take().is_none());
        assert!(places.take().is_none(), "to be told no takes nothing");
        drop(first);
        let third = places.take().expect("free again");
        assert!(places.take().is_none());
        drop((second, third));
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
        assert!(Arc::new(Places::new(0)).take().is_some(), "one at least");
    }

    #[test]
    fn the_number_of_places_may_change_while_some_are_taken() {
        let places = Arc::new(Places::new(1));
        let first = places.take().expect("free");
        assert!(places.take().is_none());
        places.set_max(2);
        let second = places.take().expect("one more");
        places.set_max(1);
        drop(first);
        assert!(places.take().is_none(), "still one inside");
        drop(second);
        assert!(places.take().is_some());
    }

    #[test]
    fn never_are_more_places_taken_than_there_are_whoever_asks_at_the_same_time() {
        const MAX: usize = 3;
        let (places, inside) = (Arc::new(Places::new(MAX)), Arc::new(AtomicUsize::new(0)));
        let reach = || {
            let (mut got, mut most) = (0, 0);
            for _ in 0..20_000 {
                if let Some(place) = places.take() {
                    got += 1;
                    most = most.max(inside.fetch_add(1, Ordering::SeqCst) + 1);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                }
            }
            (got, most)
        };
        let (got, most) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(reach)).collect();
            let ends = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            ends.fold((0, 0), |(got, most), (g, m)| (got + g, most.max(m)))
        });
        assert!(most <= MAX, "{most} at once");
        assert!(got > 0, "somebody gets in");
        assert_eq!(places.taken.load(Ordering::Relaxed), 0, "all are given back");
    }
}
