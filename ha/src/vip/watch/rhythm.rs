//! How regular the advertisements of a holder are.

use std::time::Duration;

/// Of each deviation so much enters the mean: what RFC 3550 section 6.4.1 takes for the jitter of RTP, for the same reason
/// (a spike fades within some twenty packets).
const SHARE: u32 = 16;

/// The rhythm of the present holder's advertisements, since it holds the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rhythm {
    /// Its valid advertisements.
    pub adverts: u64,
    /// What it says of its interval; its fallback where it says 0. For CARP with the skew.
    pub interval: Duration,
    /// How far the time between two of them is from that, in the running mean.
    pub jitter: Duration,
    /// The longest time between two of them.
    pub longest: Duration,
    /// How many did not come when the next one did, to the nearest whole number; late ones count as if they had not come.
    pub missed: u64,
}

impl Rhythm {
    /// The first advertisement.
    pub(super) fn begin(interval: Duration) -> Self {
        Self { adverts: 1, interval, ..Self::default() }
    }

    /// Another one, so long after the one before, which had announced `interval` until this one.
    pub(super) fn beat(&mut self, since_last: Duration, interval: Duration) {
        self.adverts = self.adverts.saturating_add(1);
        let due = std::mem::replace(&mut self.interval, interval);
        let off = since_last.abs_diff(due);
        self.jitter = self.jitter - self.jitter / SHARE + off / SHARE;
        self.longest = self.longest.max(since_last);
        self.missed = self.missed.saturating_add(missing(since_last, due));
    }
}

/// How many intervals have passed without an advertisement, by the time the next one came.
fn missing(silent: Duration, interval: Duration) -> u64 {
    let whole = silent.saturating_add(interval / 2).as_nanos().checked_div(interval.as_nanos());
    u64::try_from(whole.unwrap_or(0)).unwrap_or(u64::MAX).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn after(gaps: &[u32]) -> Rhythm {
        let mut rhythm = Rhythm::begin(MS * 100);
        gaps.iter().for_each(|gap| rhythm.beat(MS * *gap, MS * 100));
        rhythm
    }

    #[test]
    fn a_regular_speaker_misses_nothing() {
        let rhythm = after(&[100; 50]);
        assert_eq!((rhythm.adverts, rhythm.missed, rhythm.jitter), (51, 0, Duration::ZERO));
        assert_eq!((rhythm.longest, rhythm.interval), (MS * 100, MS * 100));
    }

    #[test]
    fn what_did_not_come_is_counted_to_the_nearest_whole() {
        assert_eq!(after(&[149]).missed, 0);
        assert_eq!(after(&[151]).missed, 1);
        assert_eq!(after(&[200, 100, 340]).missed, 3);
        assert_eq!(after(&[1, 1, 1]).missed, 0, "answers between the beats");
    }

    #[test]
    fn jitter_is_a_running_mean_of_the_deviation() {
        let rhythm = after(&[110, 90].repeat(200));
        assert!(rhythm.jitter > MS * 9 && rhythm.jitter <= MS * 10, "{:?}", rhythm.jitter);
        assert_eq!(rhythm.missed, 0);
    }

    #[test]
    fn an_interval_that_changes_counts_from_the_next_advertisement_on() {
        let mut rhythm = Rhythm::begin(MS * 100);
        rhythm.beat(MS * 100, MS * 1000);
        rhythm.beat(MS * 1000, MS * 1000);
        assert_eq!((rhythm.missed, rhythm.jitter), (0, Duration::ZERO));
        rhythm.beat(Duration::MAX, Duration::ZERO);
        rhythm.beat(MS, Duration::ZERO);
    }
}
