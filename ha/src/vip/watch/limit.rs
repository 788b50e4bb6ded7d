//! Keeps reports rare, whatever comes in. Counters are kept elsewhere and miss nothing.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;

/// The same anomaly of the same source is reported again after this time at the earliest, and each further time
/// after twice as long ...
pub const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// ... up to this: a lasting state of affairs (a foreign virtual router) must not turn over the memory of events.
/// When it was quiet for so long, it begins anew.
pub const REPORT_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// How many (router, anomaly, source) are remembered, at some 80 bytes each. With more, the oldest is forgotten,
/// and [`BURST`] is what bounds the rate.
const KEYS_KEPT: usize = 128;
/// So many reports may come at once, ...
const BURST: u32 = 32;
/// ... and then one in this time.
const REFILL: Duration = Duration::from_secs(1);

/// What makes two anomalies the same: router, name, source.
pub(super) type Key = (Option<usize>, &'static str, Option<IpAddr>);

/// A bucket of [`BURST`] tokens, one more each [`REFILL`].
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    tokens: u32,
    filled: Time,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { tokens: BURST, filled: Time::ZERO }
    }
}

impl Bucket {
    pub(super) fn take(&mut self, now: Time) -> bool {
        let periods = now.since(self.filled).as_nanos() / REFILL.as_nanos();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        if periods > 0 {
            self.tokens = self.tokens.saturating_add(periods).min(BURST);
            self.filled =
                if self.tokens == BURST { now } else { self.filled + REFILL.saturating_mul(periods) };
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }
}

#[derive(Clone, Debug)]
struct Seen {
    key: Key,
    reported: Time,
    /// The next report not before `reported` and this.
    pause: Duration,
    last: Time,
    suppressed: u64,
}

/// Lets an anomaly through or counts it.
#[derive(Clone, Debug, Default)]
pub(super) struct Limiter {
    seen: Vec<Seen>,
    bucket: Bucket,
}

impl Limiter {
    /// `Some(n)`: report it, n of the same kind were suppressed before. `None`: do not.
    pub(super) fn admit(&mut self, now: Time, key: Key) -> Option<u64> {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.key == key) {
            let quiet = now.since(seen.last) >= REPORT_INTERVAL_MAX;
            seen.last = now;
            if now.since(seen.reported) < seen.pause || !self.bucket.take(now) {
                seen.suppressed = seen.suppressed.saturating_add(1);
                return None;
            }
            seen.pause = if quiet { REPORT_INTERVAL } else { (seen.pause * 2).min(REPORT_INTERVAL_MAX) };
            seen.reported = now;
            return Some(std::mem::take(&mut seen.suppressed));
        }
        if !self.bucket.take(now) {
            return None;
        }
        if self.seen.len() == KEYS_KEPT {
            let oldest = self.seen.iter().enumerate().min_by_key(|(_, seen)| seen.reported).map(|(at, _)| at);
            self.seen.swap_remove(oldest.unwrap_or(0));
        }
        self.seen.push(Seen { key, reported: now, pause: REPORT_INTERVAL, last: now, suppressed: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_same_anomaly_is_reported_ever_more_rarely_and_the_rest_is_counted() {
        let mut limiter = Limiter::default();
        let key = (Some(0), "checksum", None);
        let mut report = |second: u32| limiter.admit(Time::ZERO + SECOND * second, key);
        let reports: Vec<(u32, u64)> =
            (0..20_000).filter_map(|n| report(n).map(|before| (n, before))).collect();
        assert_eq!(reports[..4], [(0, 0), (30, 29), (90, 59), (210, 119)]);
        assert!(reports.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 3600));
        let after_quiet = 20_000 + 3600;
        assert!(report(after_quiet).is_some());
        assert!(report(after_quiet + 29).is_none());
        assert_eq!(report(after_quiet + 30), Some(1));
    }

    #[test]
    fn a_flood_of_different_sources_is_bounded_in_rate_and_memory() {
        let mut limiter = Limiter::default();
        let mut reports = 0;
        for n in 0..10_000_u32 {
            let now = Time::ZERO + Duration::from_millis(u64::from(n) * 100);
            let key = (None, "checksum", Some(IpAddr::from(n.to_be_bytes())));
            reports += u32::from(limiter.admit(now, key).is_some());
        }
        assert_eq!(reports, BURST + 999);
        assert_eq!(limiter.seen.len(), KEYS_KEPT);
    }

    #[test]
    fn a_quiet_time_fills_the_bucket_and_no_more() {
        let mut bucket = Bucket::default();
        let later = Time::ZERO + SECOND * 1000;
        let granted = (0..100).filter(|_| bucket.take(later)).count();
        assert_eq!(granted, BURST as usize);
        assert!(!bucket.take(later + SECOND / 2));
        assert!(bucket.take(later + SECOND));
    }
}
