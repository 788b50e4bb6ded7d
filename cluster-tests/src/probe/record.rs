//! The arithmetic of the report: pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Failure, Report, SessionFate, Window};

/// Quantiles of some measured values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of the values are not above it.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// 99 of a hundred.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// The quantiles of `values`; all 0 if there are none.
#[must_use]
pub fn quantiles(mut values: Vec<u64>) -> Quantiles {
    values.sort_unstable();
    let at = |per_cent: usize| {
        // The smallest value that is not exceeded by so many of them.
        let rank = (values.len() * per_cent).div_ceil(100).max(1);
        values.get(rank - 1).copied().unwrap_or(0)
    };
    Quantiles { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// When it was started, µs since the start of the run.
    pub(super) start_us: u64,
    /// How much later than planned, µs.
    pub(super) late_us: u64,
    /// The server that answered and the time that it took, µs; or what failed.
    pub(super) outcome: Result<(String, u64), Failure>,
}

/// The report on `records`, of a run that started at `started_ms` and ended after `end_us`.
pub(super) fn report(
    mut records: Vec<Record>,
    started_ms: u64,
    end_us: u64,
    sessions: Vec<SessionFate>,
) -> Report {
    records.sort_by_key(|record| record.start_us);
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    let mut servers: BTreeMap<String, u64> = BTreeMap::new();
    let mut latencies = Vec::new();
    for record in &records {
        match &record.outcome {
            Ok((server, took)) => {
                *servers.entry(server.clone()).or_default() += 1;
                latencies.push(*took);
            }
            Err(failure) => *failed.entry(failure.name()).or_default() += 1,
        }
    }
    let succeeded = latencies.len() as u64;
    let gap = longest_gap(&records, end_us);
    Report {
        started_ms,
        duration_ms: end_us as f64 / 1e3,
        requests: records.len() as u64,
        succeeded,
        failed,
        per_second: succeeded as f64 * 1e6 / end_us.max(1) as f64,
        longest_gap_ms: (gap.to_us - gap.from_us) as f64 / 1e3,
        longest_gap_after_ms: started_ms + gap.from_us / 1000,
        late_in_gap_ms: gap.late_us as f64 / 1e3,
        windows: windows(&records, started_ms, end_us),
        latency_us: quantiles(latencies),
        late_us: quantiles(records.iter().map(|record| record.late_us).collect()),
        servers,
        sessions,
    }
}

#[derive(Clone, Copy, Default)]
struct Gap {
    from_us: u64,
    to_us: u64,
    late_us: u64,
}

/// The start of the first request and the end of the run bound a gap like successes do: a service that never came back
/// has been away until the end.
fn longest_gap(records: &[Record], end_us: u64) -> Gap {
    let mut longest = Gap::default();
    let mut current = Gap { from_us: records.first().map_or(0, |record| record.start_us), ..Gap::default() };
    let mut last_failed = false;
    for record in records {
        current.late_us = current.late_us.max(record.late_us);
        last_failed = record.outcome.is_err();
        if last_failed {
            continue;
        }
        current.to_us = record.start_us;
        if current.to_us - current.from_us > longest.to_us - longest.from_us {
            longest = current;
        }
        current = Gap { from_us: record.start_us, to_us: record.start_us, late_us: 0 };
    }
    current.to_us = end_us.max(current.from_us);
    if last_failed && current.to_us - current.from_us > longest.to_us - longest.from_us {
        longest = current;
    }
    longest
}

fn windows(records: &[Record], started_ms: u64, end_us: u64) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut after_us = records.first().map_or(0, |record| record.start_us);
    let mut failed = 0;
    let mut close = |after_us: u64, to_us: u64, failed: u64| {
        let length_ms = to_us.saturating_sub(after_us) as f64 / 1e3;
        windows.push(Window { after_ms: started_ms + after_us / 1000, length_ms, failed });
    };
    for record in records {
        if record.outcome.is_err() {
            failed += 1;
            continue;
        }
        if failed > 0 {
            close(after_us, record.start_us, failed);
            failed = 0;
        }
        after_us = record.start_us;
    }
    if failed > 0 {
        close(after_us, end_us, failed);
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64, good: bool) -> Record {
        let outcome = if good { Ok(("s1".to_owned(), 300)) } else { Err(Failure::Refused) };
        Record { start_us: ms * 1000, late_us: ms, outcome }
    }

    fn of(records: Vec<Record>, end_ms: u64) -> Report {
        report(records, 1_000_000, end_ms * 1000, Vec::new())
    }

    #[test]
    fn a_gap_lasts_from_the_last_success_before_to_the_first_after() {
        let report =
            of(vec![at(0, true), at(2, true), at(4, false), at(6, false), at(8, true), at(10, true)], 12);
        assert_eq!((report.longest_gap_ms, report.longest_gap_after_ms), (6.0, 1_000_002));
        assert_eq!(report.windows, [Window { after_ms: 1_000_002, length_ms: 6.0, failed: 2 }]);
        assert_eq!((report.succeeded, report.failures()), (4, 2));
    }

    #[test]
    fn the_order_in_which_answers_come_does_not_matter() {
        let ordered = of(vec![at(0, true), at(2, false), at(4, true)], 6);
        assert_eq!(of(vec![at(4, true), at(2, false), at(0, true)], 6), ordered);
    }

    #[test]
    fn a_service_that_never_comes_back_is_away_until_the_end() {
        let report = of(vec![at(0, true), at(2, false), at(4, false)], 500);
        assert_eq!(report.longest_gap_ms, 500.0);
        assert_eq!(report.windows[0].length_ms, 500.0);
    }

    #[test]
    fn a_service_that_never_was_there_is_one_gap() {
        let report = of(vec![at(1, false), at(3, false)], 11);
        assert_eq!((report.longest_gap_ms, report.succeeded), (10.0, 0));
    }

    #[test]
    fn a_late_prober_makes_the_gap_longer_and_says_so() {
        let report = of(vec![at(0, true), at(90, true), at(92, true)], 94);
        assert_eq!(report.longest_gap_ms, 90.0);
        assert_eq!(report.late_in_gap_ms, 0.09);
        assert!(report.windows.is_empty());
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        assert_eq!(quantiles((1..=100).collect()), Quantiles { p50: 50, p90: 90, p99: 99, max: 100 });
        assert_eq!(quantiles(vec![7]), Quantiles { p50: 7, p90: 7, p99: 7, max: 7 });
        assert_eq!(quantiles(Vec::new()), Quantiles::default());
    }
}
