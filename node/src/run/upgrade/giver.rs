//! The process that hands over: what it does when. Pure.
//!
//! ```text
//!   Calls ---here---> Prepares ---prepared---> Takes ---took---> Over: released
//!     |                   |                      |
//!     +--- refused, its end, the deadline, a word out of turn ---> Over: goes on as before
//! ```

use std::time::Duration;

use cygnet_ha::time::Time;

use super::word::{LEVEL, Program, Word};

/// How long the new program may take to start, to read its files and to check them.
pub(super) const PREPARE_MAX: Duration = Duration::from_secs(20);
/// How long it may take to open the log and to serve. A full table of clients takes about a second; the cluster cannot change anything
/// with this node meanwhile.
pub(super) const TAKE_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Calls,
    Prepares,
    Takes,
    Over,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// Say what is to be taken over.
    Introduce,
    /// Hand the sockets over, close the log, say so.
    HandOver,
    /// Let go of everything but the connections.
    Release,
    /// It would have worked.
    Report,
    /// Go on as before.
    Fail {
        /// Why.
        why: String,
        /// The log must be opened again.
        log_is_away: bool,
    },
}

/// The course of one hand-over.
#[derive(Debug)]
pub(super) struct Giver {
    phase: Phase,
    dry_run: bool,
    deadline: Time,
    successor: Option<Program>,
}

impl Giver {
    /// The new program was started. `dry_run`: it is only to be asked.
    #[must_use]
    pub(super) fn new(now: Time, dry_run: bool) -> Self {
        Self { phase: Phase::Calls, dry_run, deadline: now + PREPARE_MAX, successor: None }
    }

    /// When [`Giver::timeout`] is to be called; `None`: it is over.
    #[must_use]
    pub(super) fn deadline(&self) -> Option<Time> {
        (self.phase != Phase::Over).then_some(self.deadline)
    }

    /// Who the new one is, once it has said so.
    #[must_use]
    pub(super) fn successor(&self) -> Option<&Program> {
        self.successor.as_ref()
    }

    /// A word of the new process.
    pub(super) fn heard(&mut self, now: Time, word: &Word) -> Step {
        match (self.phase, word) {
            (Phase::Over, _) => Step::Wait,
            (_, Word::Refused { why }) => self.fail(why.clone()),
            (Phase::Calls, Word::Here { level, program }) => {
                self.successor = Some(program.clone());
                if *level < LEVEL {
                    return self.fail(format!(
                        "{program} hands over at level {level}, and this program at {LEVEL}: it is older; stop this node and \
                         start that program"
                    ));
                }
                self.phase = Phase::Prepares;
                Step::Introduce
            }
            (Phase::Prepares, Word::Prepared) if self.dry_run => {
                self.phase = Phase::Over;
                Step::Report
            }
            (Phase::Prepares, Word::Prepared) => {
                (self.phase, self.deadline) = (Phase::Takes, now + TAKE_MAX);
                Step::HandOver
            }
            (Phase::Takes, Word::Took) => {
                self.phase = Phase::Over;
                Step::Release
            }
            _ => self.fail("it said something out of turn".to_owned()),
        }
    }

    /// The new process has ended, or cannot be understood.
    pub(super) fn lost(&mut self, why: String) -> Step {
        match self.phase {
            Phase::Over => Step::Wait,
            _ => self.fail(why),
        }
    }

    /// What was to be done could not be done here.
    pub(super) fn failed(&mut self, why: String) -> Step {
        self.lost(why)
    }

    /// The time that [`Giver::deadline`] named may have come.
    pub(super) fn timeout(&mut self, now: Time) -> Step {
        if now < self.deadline || self.phase == Phase::Over {
            return Step::Wait;
        }
        let (what, limit) = match self.phase {
            Phase::Takes => ("serve", TAKE_MAX),
            _ => ("prepare itself", PREPARE_MAX),
        };
        self.fail(format!("it did not {what} within {} s", limit.as_secs()))
    }

    fn fail(&mut self, why: String) -> Step {
        let log_is_away = self.phase == Phase::Takes;
        self.phase = Phase::Over;
        Step::Fail { why, log_is_away }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn here(level: u32) -> Word {
        Word::Here { level, program: Program { version: "9".into(), pid: 7 } }
    }

    const START: Time = Time(1_000_000_000);

    #[test]
    fn a_hand_over_goes_step_by_step_and_is_over_then() {
        let mut giver = Giver::new(START, false);
        assert_eq!(giver.heard(START, &here(LEVEL + 1)), Step::Introduce);
        assert_eq!(giver.heard(START, &Word::Prepared), Step::HandOver);
        assert_eq!(giver.deadline(), Some(START + TAKE_MAX));
        assert_eq!(giver.heard(START, &Word::Took), Step::Release);
        assert_eq!((giver.deadline(), giver.lost("gone".into())), (None, Step::Wait));
    }

    #[test]
    fn a_dry_run_ends_before_anything_is_handed_over() {
        let mut giver = Giver::new(START, true);
        giver.heard(START, &here(LEVEL));
        assert_eq!(giver.heard(START, &Word::Prepared), Step::Report);
        assert_eq!(giver.heard(START, &Word::Took), Step::Wait);
    }

    #[test]
    fn a_program_that_is_too_old_or_refuses_or_ends_or_hangs_changes_nothing() {
        let log_is_away = |step: Step| match step {
            Step::Fail { why, log_is_away } => (why, log_is_away),
            other => panic!("{other:?}"),
        };
        let (why, away) = log_is_away(Giver::new(START, false).heard(START, &here(0)));
        assert!(why.contains("it is older") && !away, "{why}");
        let mut giver = Giver::new(START, false);
        assert_eq!(giver.timeout(START), Step::Wait);
        let (why, away) = log_is_away(giver.timeout(START + PREPARE_MAX));
        assert_eq!((&*why, away), ("it did not prepare itself within 20 s", false));
        let mut giver = Giver::new(START, false);
        giver.heard(START, &here(LEVEL));
        giver.heard(START, &Word::Prepared);
        let (why, away) = log_is_away(giver.heard(START, &Word::Refused { why: "no disk".into() }));
        assert_eq!((&*why, away), ("no disk", true));
    }

    fn word() -> impl Strategy<Value = Word> {
        prop_oneof![
            (0..LEVEL + 2).prop_map(here),
            Just(Word::Prepared),
            Just(Word::Took),
            Just(Word::Refused { why: "no".into() }),
            Just(Word::Left { connections: 1 }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_said_it_lets_go_only_after_all_of_it_and_once(words in prop::collection::vec(word(), 0..12)) {
            let mut giver = Giver::new(START, false);
            let (mut handed_over, mut ends) = (false, 0);
            for word in &words {
                match giver.heard(START, word) {
                    Step::HandOver => handed_over = true,
                    Step::Release => {
                        prop_assert!(handed_over && *word == Word::Took);
                        ends += 1;
                    }
                    Step::Fail { log_is_away, .. } => {
                        prop_assert_eq!(log_is_away, handed_over);
                        ends += 1;
                    }
                    Step::Wait | Step::Introduce | Step::Report => {}
                }
            }
            prop_assert!(ends <= 1);
            prop_assert_eq!(giver.deadline().is_none(), ends == 1);
        }
    }
}
