//! A node's monotonic clock: it runs too fast or too slow, and jumps ahead when a machine is restored.

use std::time::Duration;

use crate::time::Time;

const MILLION: i128 = 1_000_000;

/// The clock of one node against that of the simulation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// At this moment of the simulation ...
    base: Time,
    /// ... the node's clock showed this.
    shown: Time,
    /// How much faster it runs, parts in a million.
    ppm: i64,
}

impl Clock {
    /// What the clock shows.
    pub(super) fn at(&self, now: Time) -> Time {
        let passed = i128::from(now.0.saturating_sub(self.base.0));
        let shown = passed * (MILLION + i128::from(self.ppm)) / MILLION;
        Time(self.shown.0 + u64::try_from(shown).unwrap_or(0))
    }

    /// When it will show `local`; now or later.
    pub(super) fn when(&self, local: Time, now: Time) -> Time {
        let ahead = i128::from(local.0.saturating_sub(self.shown.0)) * MILLION;
        let rate = MILLION + i128::from(self.ppm);
        // Rounded up, so that the node's clock has got there.
        let passed = u64::try_from((ahead + rate - 1) / rate).unwrap_or(u64::MAX);
        Time(self.base.0.saturating_add(passed)).max(now)
    }

    /// From now on it runs so much faster.
    pub(super) fn set_rate(&mut self, now: Time, ppm: i64) {
        *self = Self { base: now, shown: self.at(now), ppm };
    }

    /// It skips so much time.
    pub(super) fn jump(&mut self, now: Time, by: Duration) {
        *self = Self { base: now, shown: self.at(now) + by, ppm: self.ppm };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_what_it_promised_to_show() {
        let mut clock = Clock::default();
        let mut now = Time::ZERO;
        for step in 1..100u64 {
            clock.set_rate(now, if step % 2 == 0 { 20_000 } else { -35_000 });
            clock.jump(now, Duration::from_millis(step % 7));
            let local = clock.at(now) + Duration::from_nanos(step * 1_234_567);
            let due = clock.when(local, now);
            assert!(clock.at(due) >= local && clock.at(Time(due.0 - 2)) < local);
            now = due;
        }
    }
}
