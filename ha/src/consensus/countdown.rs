//! How long a configuration still waits for its confirmation, by the clock of one node. Pure: time comes in.
//!
//! The log says for how long, not until when, for the clocks of the nodes differ. A node that applied the version when it was
//! made counts from that moment, by a clock that nobody sets. One that found it on its disk or in a snapshot does not know
//! that moment: it believes the wall clock of the node that was asked, but never waits for longer than the whole time. So a
//! wrong clock makes the end come early only on a node that has restarted, and never makes it come late by more than the time
//! that was asked for.

use serde::{Deserialize, Serialize};

use crate::state::{Configuration, Kind, ReturnConfig};

/// A configuration that waits for its confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The version that waits.
    pub version: u64,
    /// The version whose text comes back without it.
    pub back_to: u64,
    /// For how much longer, by the clock of this node; 0: the leader is about to bring the old one back.
    pub left_ms: u64,
}

/// When this node takes the time for over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Countdown {
    waiting: Option<Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    version: u64,
    back_to: u64,
    within_ms: u64,
    ends_ms: u64,
}

impl Countdown {
    /// The state is another one. `fresh`: a version in it was made just now, as far as can be known; otherwise it was found
    /// on the disk or in a snapshot. `now_ms` is a clock that only goes on, `unix_ms` the wall clock.
    pub(crate) fn follow(&mut self, configuration: &Configuration, fresh: bool, now_ms: u64, unix_ms: u64) {
        let Some(unconfirmed) = configuration.unconfirmed() else {
            self.waiting = None;
            return;
        };
        if self.waiting.as_ref().is_some_and(|waiting| waiting.version == unconfirmed.version) {
            return;
        }
        let made = configuration.current().map_or(0, |version| version.unix_ms);
        let passed = if fresh { 0 } else { unix_ms.saturating_sub(made) };
        self.waiting = Some(Waiting {
            version: unconfirmed.version,
            back_to: unconfirmed.back_to.version,
            within_ms: unconfirmed.within_ms,
            ends_ms: now_ms.saturating_add(unconfirmed.within_ms.saturating_sub(passed)),
        });
    }

    /// What waits, if anything does.
    pub(crate) fn at(&self, now_ms: u64) -> Option<Confirmation> {
        let Waiting { version, back_to, ends_ms, .. } = self.waiting.as_ref()?;
        let left_ms = ends_ms.saturating_sub(now_ms);
        Some(Confirmation { version: *version, back_to: *back_to, left_ms })
    }

    /// The command that brings the old version back, once the time is over. Two nodes may both propose it: the second one
    /// finds that the version which it names waits no more.
    pub(crate) fn due(&self, now_ms: u64, unix_ms: u64) -> Option<Kind> {
        let Waiting { version, back_to, within_ms, ends_ms } = self.waiting.as_ref()?;
        let seconds = within_ms / 1000;
        let comment = format!("v{version} was not confirmed within {seconds} s; back to v{back_to}");
        let back = ReturnConfig { version: *version, author: String::new(), unix_ms, comment };
        (now_ms >= *ends_ms).then_some(Kind::ReturnConfig(back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Command, PutConfig, State};

    /// v1, then v2 on trial for a minute, made when the wall clock showed 1,000,000.
    fn on_trial() -> State {
        let mut state = State::default();
        for (index, confirm_within_ms) in [(1, None), (2, Some(60_000))] {
            let put = PutConfig { unix_ms: 1_000_000, confirm_within_ms, ..PutConfig::default() };
            state.apply(index, &Command::new(Kind::PutConfig(put))).unwrap();
        }
        state
    }

    fn left(fresh: bool, unix_ms: u64) -> u64 {
        let mut countdown = Countdown::default();
        countdown.follow(on_trial().configuration(), fresh, 500, unix_ms);
        countdown.at(500).unwrap().left_ms
    }

    #[test]
    fn a_node_that_saw_the_change_made_does_not_care_for_wall_clocks() {
        assert_eq!((left(true, 0), left(true, 9_000_000)), (60_000, 60_000));
    }

    #[test]
    fn a_node_that_found_it_on_its_disk_counts_by_the_wall_clock_and_never_longer_than_the_whole_time() {
        assert_eq!(left(false, 1_020_000), 40_000);
        assert_eq!(left(false, 9_000_000), 0, "it is over");
        assert_eq!(left(false, 3), 60_000, "a clock that is behind");
    }

    #[test]
    fn the_return_is_due_once_the_time_is_over_and_not_after_a_confirmation() {
        let mut state = on_trial();
        let mut countdown = Countdown::default();
        countdown.follow(state.configuration(), true, 500, 0);
        // Looked at again later, it does not begin anew.
        countdown.follow(state.configuration(), true, 40_000, 0);
        assert_eq!(countdown.due(60_499, 7), None);
        let Some(Kind::ReturnConfig(back)) = countdown.due(60_500, 7) else { panic!("it is due") };
        assert_eq!((back.version, back.unix_ms), (2, 7));
        assert_eq!(back.comment, "v2 was not confirmed within 60 s; back to v1");
        state.apply(3, &Command::new(Kind::ReturnConfig(back))).unwrap();
        countdown.follow(state.configuration(), true, 60_600, 0);
        assert_eq!((countdown.at(60_600), countdown.due(90_000, 0)), (None, None));
    }
}
