//! The process that takes over: what it does when. Pure.
//!
//! ```text
//!   Greets ---state---> Checks ---it could---> Waits ---go---> Begins ---released---> Settled
//!     |                   |                      |                |
//!     +---- abort, or the end of the old one ----+                +-- abort: leaves; the end of the old one: goes on alone
//! ```

use super::word::{Go, Name, State, Word};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greets,
    Checks,
    Waits,
    Begins,
    Settled,
    Gone,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// See whether this could be taken over; [`Taker::prepared`] then.
    Check(Box<State>),
    /// Keep the descriptors that came with it.
    Keep(Vec<Name>),
    /// Open the log, serve, hold.
    Begin(Go),
    /// The old process has let go: everything is this one's. So many connections go on there; `None`: it has died.
    Settle(Option<u64>),
    /// So many are left there; `None`: it has ended.
    Left(Option<u64>),
    /// End, and leave everything as it is.
    Leave(String),
}

/// The course of one succession.
#[derive(Debug)]
pub(super) struct Taker {
    phase: Phase,
}

impl Default for Taker {
    fn default() -> Self {
        Self { phase: Phase::Greets }
    }
}

impl Taker {
    /// For a process that came before the one before: all was settled with it long ago.
    #[must_use]
    pub(super) fn settled() -> Self {
        Self { phase: Phase::Settled }
    }

    /// It could take over, and says so.
    pub(super) fn prepared(&mut self) {
        if self.phase == Phase::Checks {
            self.phase = Phase::Waits;
        }
    }

    /// A word of the old process.
    pub(super) fn heard(&mut self, word: Word) -> Step {
        match (self.phase, word) {
            (Phase::Gone, _) => Step::Wait,
            (Phase::Settled, Word::Left { connections }) => Step::Left(Some(connections)),
            (Phase::Settled, _) => Step::Wait,
            (_, Word::Abort { why }) => self.leave(why),
            (Phase::Greets, Word::State(state)) => {
                self.phase = Phase::Checks;
                Step::Check(state)
            }
            (Phase::Waits, Word::Sockets(names)) => Step::Keep(names),
            (Phase::Waits, Word::Go(go)) => {
                self.phase = Phase::Begins;
                Step::Begin(go)
            }
            (Phase::Begins, Word::Released { connections }) => {
                self.phase = Phase::Settled;
                Step::Settle(Some(connections))
            }
            _ => self.leave("the process before said something out of turn".to_owned()),
        }
    }

    /// The old process has ended.
    pub(super) fn closed(&mut self) -> Step {
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Greets | Phase::Checks | Phase::Waits => {
                Step::Leave("the process before has ended".to_owned())
            }
            // Its log is this one's already, and its guard takes the addresses away: this node goes on as after a start.
            Phase::Begins => Step::Settle(None),
            Phase::Settled => Step::Left(None),
            Phase::Gone => Step::Wait,
        }
    }

    fn leave(&mut self, why: String) -> Step {
        self.phase = Phase::Gone;
        Step::Leave(why)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> Word {
        Word::State(Box::default())
    }

    fn begins() -> Taker {
        let mut taker = Taker::default();
        assert_eq!(taker.heard(state()), Step::Check(Box::default()));
        taker.prepared();
        assert_eq!(taker.heard(Word::Sockets(vec![Name::Api])), Step::Keep(vec![Name::Api]));
        assert_eq!(taker.heard(Word::Go(Go::default())), Step::Begin(Go::default()));
        taker
    }

    #[test]
    fn a_succession_goes_step_by_step_and_the_old_process_is_counted_to_its_end() {
        let mut taker = begins();
        assert_eq!(taker.heard(Word::Released { connections: 3 }), Step::Settle(Some(3)));
        assert_eq!(taker.heard(Word::Left { connections: 2 }), Step::Left(Some(2)));
        assert_eq!((taker.closed(), taker.closed()), (Step::Left(None), Step::Wait));
    }

    #[test]
    fn an_old_process_that_dies_is_waited_for_no_more_or_succeeded_without_a_word() {
        assert!(matches!(Taker::default().closed(), Step::Leave(_)));
        assert_eq!(begins().closed(), Step::Settle(None));
    }

    #[test]
    fn an_abort_ends_it_until_the_old_process_has_let_go() {
        let abort = || Word::Abort { why: "late".into() };
        assert_eq!(Taker::default().heard(abort()), Step::Leave("late".into()));
        let mut taker = begins();
        assert_eq!((taker.heard(abort()), taker.closed()), (Step::Leave("late".into()), Step::Wait));
        let mut taker = begins();
        taker.heard(Word::Released { connections: 0 });
        assert_eq!(taker.heard(abort()), Step::Wait);
    }

    fn word() -> impl Strategy<Value = Word> {
        prop_oneof![
            Just(state()),
            Just(Word::Sockets(vec![Name::Peers])),
            Just(Word::Go(Go::default())),
            Just(Word::Released { connections: 1 }),
            Just(Word::Left { connections: 1 }),
            Just(Word::Abort { why: "no".into() }),
            Just(Word::Took),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_said_it_begins_once_and_settles_only_after_that(words in prop::collection::vec(word(), 0..12)) {
            let mut taker = Taker::default();
            let (mut begun, mut settled, mut left) = (0, 0, false);
            for word in words {
                match taker.heard(word) {
                    Step::Check(_) => taker.prepared(),
                    Step::Begin(_) => begun += 1,
                    Step::Settle(_) => settled += 1,
                    Step::Leave(_) => left = true,
                    Step::Keep(_) => prop_assert_eq!(begun, 0),
                    Step::Wait | Step::Left(_) => {}
                }
                prop_assert!(begun <= 1 && settled <= begun && !(left && settled > 0));
            }
        }
    }
}
