//! What the checks of one server come to.
//!
//! ```text
//!            the first one passes                `fall` in a row fail
//!   +---------+ -----------------> +----+ -----------------------------> +------+
//!   | Unknown |                    | Up |                                | Down |
//!   +---------+                    +----+ <----------------------------- +------+
//!        |  the first one fails             `rise` in a row pass            ^
//!        +------------------------------------------------------------------+
//! ```
//!
//! The first check decides alone: a node that has just started must not send clients to a dead server for `fall` intervals.

use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::time::Time;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server is well; how long it took to say so.
    Passed(Duration),
    /// It is not, and why.
    Failed(String),
    /// This node could not ask (no descriptors, no ports): that says nothing of the server.
    NotAsked(String),
}

/// What is believed of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No check has ended yet: the server is treated as one that is not checked.
    #[default]
    Unknown,
    /// It gets connections.
    Up,
    /// It gets none, as long as there is another.
    Down,
}

/// A change of what is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Up from now on; otherwise down.
    pub up: bool,
    /// The first verdict on this server.
    pub first: bool,
    /// Down: why, as the last check had it. Empty otherwise.
    pub reason: String,
    /// Checks in a row that said so, and how many were needed.
    pub row: (u32, u32),
    /// How long the state before had lasted.
    pub lasted: Duration,
}

/// The state, and how it came about.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    state: State,
    since: Time,
    /// In a row until now; at most one of the two is not 0.
    passed: u32,
    failed: u32,
    reason: Option<Arc<str>>,
}

impl Verdict {
    /// Down from the beginning.
    #[must_use]
    pub fn down(now: Time, reason: &str) -> Self {
        Self { state: State::Down, since: now, reason: Some(Arc::from(reason)), ..Self::default() }
    }

    /// What is believed.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }

    /// Checks in a row that have passed, and that have failed: one of the two is 0.
    #[must_use]
    pub fn rows(&self) -> (u32, u32) {
        (self.passed, self.failed)
    }

    /// Why the last check that failed did so, while that matters.
    #[must_use]
    pub fn reason(&self) -> Option<&Arc<str>> {
        self.reason.as_ref()
    }

    /// Whether the last check speaks against what is believed.
    #[must_use]
    pub fn wavers(&self) -> bool {
        match self.state {
            State::Unknown => true,
            State::Up => self.failed > 0,
            State::Down => self.passed > 0,
        }
    }

    /// Takes the outcome of a check.
    pub fn take(&mut self, now: Time, (rise, fall): (u32, u32), outcome: Outcome) -> Option<Flip> {
        match outcome {
            Outcome::NotAsked(_) => return None,
            Outcome::Passed(_) => {
                (self.passed, self.failed) = (self.passed.saturating_add(1), 0);
                if self.state != State::Down {
                    self.reason = None;
                }
            }
            Outcome::Failed(reason) => {
                (self.passed, self.failed) = (0, self.failed.saturating_add(1));
                // Mostly the same again.
                if self.reason.as_deref() != Some(&reason) {
                    self.reason = Some(Arc::from(reason));
                }
            }
        }
        let first = self.state == State::Unknown;
        let up = match self.state {
            State::Unknown => self.passed > 0,
            State::Up if self.failed >= fall => false,
            State::Down if self.passed >= rise => true,
            State::Up | State::Down => return None,
        };
        let lasted = now.since(self.since);
        self.state = if up { State::Up } else { State::Down };
        self.since = now;
        let row = if up { (self.passed, rise) } else { (self.failed, fall) };
        if up {
            self.reason = None;
        }
        let reason = self.reason.as_deref().unwrap_or_default().to_owned();
        Some(Flip { up, first, reason, row, lasted })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSED: Outcome = Outcome::Passed(Duration::ZERO);

    fn failed() -> Outcome {
        Outcome::Failed("HTTP 503 instead of 200-399".into())
    }

    #[test]
    fn the_first_check_decides_and_later_ones_need_company() {
        let mut verdict = Verdict::default();
        let flip = verdict.take(Time(1), (2, 3), failed()).expect("the first one");
        assert_eq!((flip.up, flip.first, flip.row), (false, true, (1, 3)));
        assert_eq!(verdict.take(Time(2), (2, 3), PASSED), None);
        assert!(verdict.wavers());
        assert_eq!(verdict.take(Time(3), (2, 3), failed()), None, "a new row");
        assert_eq!(verdict.take(Time(4), (2, 3), PASSED), None);
        assert!(verdict.reason().is_some(), "it is still down for that reason");
        let flip = verdict.take(Time(5), (2, 3), PASSED).expect("two in a row");
        assert_eq!(
            (flip.up, flip.first, flip.row, flip.lasted),
            (true, false, (2, 2), Duration::from_nanos(4))
        );
        assert_eq!(verdict.reason(), None);
        assert_eq!(verdict.take(Time(6), (2, 3), failed()), None);
        assert_eq!(verdict.take(Time(7), (2, 3), failed()), None);
        let flip = verdict.take(Time(8), (2, 3), failed()).expect("three in a row");
        assert_eq!((flip.up, flip.reason.as_str()), (false, "HTTP 503 instead of 200-399"));
        assert_eq!((verdict.state(), verdict.since()), (State::Down, Time(8)));
    }

    #[test]
    fn what_this_node_could_not_ask_says_nothing_of_the_server() {
        let mut verdict = Verdict::default();
        for _ in 0..10 {
            assert_eq!(verdict.take(Time(1), (1, 1), Outcome::NotAsked("no descriptors".into())), None);
        }
        assert_eq!((verdict.state(), verdict.rows()), (State::Unknown, (0, 0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes: a change needs its row of equal outcomes, and such a row always brings it.
        #[test]
        fn a_flip_comes_exactly_with_the_last_of_its_row(
            outcomes in prop::collection::vec(any::<bool>(), 1..200), rise in 1..5_u32, fall in 1..5_u32,
        ) {
            let mut verdict = Verdict::default();
            let mut row: Vec<bool> = Vec::new();
            let mut up = None;
            for (at, passes) in outcomes.into_iter().enumerate() {
                row.push(passes);
                let equal = row.iter().rev().take_while(|last| **last == passes).count();
                let needed = if passes { rise } else { fall } as usize;
                let due = up.is_none() || (up != Some(passes) && equal >= needed);
                let flip = verdict.take(Time(at as u64), (rise, fall), if passes { PASSED } else { failed() });
                prop_assert_eq!(flip.as_ref().map(|flip| flip.up), due.then_some(passes));
                if due {
                    up = Some(passes);
                }
                prop_assert_eq!(verdict.state() == State::Up, up == Some(true));
                prop_assert_eq!(verdict.state() == State::Down, up == Some(false));
                prop_assert!(verdict.state() != State::Down || verdict.reason().is_some());
            }
        }
    }
}
