//! The requests that went on and have no answer yet.
//!
//! What an answer's head means depends on the request (RFC 9112 section 6.3), so the kind of each is kept, in order.
//! Equal neighbours are counted together: a client that pipelines thousands of GETs costs as much as one with a
//! single one.

use std::collections::VecDeque;

/// How often the kind may change among the unanswered requests of a connection.
pub(super) const RUNS_MAX: usize = 64;

/// What a request makes of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing special.
    Plain,
    /// The answer has no body, whatever its head says.
    Head,
    /// An answer 2xx makes a tunnel.
    Connect,
    /// An answer 101 makes a tunnel.
    Upgrade,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    kind: Kind,
    count: u32,
}

/// The queue. Its first run needs no memory of its own.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    first: Option<Run>,
    more: VecDeque<Run>,
}

impl Awaited {
    /// Whose answer comes next.
    pub(super) fn next(&self) -> Option<Kind> {
        self.first.map(|run| run.kind)
    }

    /// Notes a request. `false`: there are too many.
    pub(super) fn push(&mut self, kind: Kind) -> bool {
        let Some(last) = self.more.back_mut().or(self.first.as_mut()) else {
            self.first = Some(Run { kind, count: 1 });
            return true;
        };
        if last.kind == kind && last.count < u32::MAX {
            last.count += 1;
        } else if self.more.len() + 1 < RUNS_MAX {
            self.more.push_back(Run { kind, count: 1 });
        } else {
            return false;
        }
        true
    }

    /// The next one has been answered.
    pub(super) fn pop(&mut self) {
        let Some(first) = &mut self.first else { return };
        first.count -= 1;
        if first.count == 0 {
            self.first = self.more.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_back_in_order() {
        let kinds = [Kind::Plain, Kind::Plain, Kind::Head, Kind::Plain, Kind::Upgrade];
        let mut awaited = Awaited::default();
        assert!(kinds.iter().all(|kind| awaited.push(*kind)));
        for kind in kinds {
            assert_eq!(awaited.next(), Some(kind));
            awaited.pop();
        }
        assert_eq!(awaited.next(), None);
        awaited.pop();
    }

    #[test]
    fn a_long_pipeline_of_one_kind_needs_no_memory_and_changing_ones_are_bounded() {
        let mut awaited = Awaited::default();
        assert!((0..100_000).all(|_| awaited.push(Kind::Plain)));
        assert_eq!(awaited.more.capacity(), 0);
        let kinds = [Kind::Head, Kind::Plain];
        let taken = kinds.iter().cycle().take_while(|kind| awaited.push(**kind)).count();
        assert_eq!(taken, RUNS_MAX - 1);
    }
}
