//! Figures for people: medians with their spread, ratios round by round, and a verdict.

use std::fmt::Write;
use std::process::ExitCode;

use super::calls::{self, Counted};
use super::measure::Measured;
use super::{Contender, Workload};

/// Of the machine's CPU, the part of other programs above which figures deserve less trust.
const NOISY: f64 = 0.10;

/// The middle, and the ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median =
            if values.len() % 2 == 1 { upper } else { f64::midpoint(*values.get(middle - 1)?, upper) };
        Some(Self { median, least, most })
    }
}

/// All rounds of one contender under one load; `None` where it could not be measured.
pub(super) struct Row {
    pub(super) contender: Contender,
    pub(super) rounds: Vec<Option<Measured>>,
}

impl Row {
    fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.rounds.iter().flatten()
    }

    /// CPU microseconds per operation.
    pub(super) fn cost(&self) -> Option<Spread> {
        Spread::of(self.measured().map(Measured::per_operation_us))
    }

    /// How this one's cost compares with the other's, each round with the same round.
    pub(super) fn ratio_to(&self, other: &Self) -> Option<Spread> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Spread::of(pairs.filter_map(|(own, other)| {
            Some(own.as_ref()?.per_operation_us() / other.as_ref()?.per_operation_us())
        }))
    }
}

/// The table of one load. WITH ENDS: the proxy, the servers and wrk together, in the unit of the first column. On loopback
/// one side may do the kernel's work of another: a proxy that is cheap only in its own column has moved its work.
pub(super) fn workload(workload: Workload, rows: &[Row]) -> String {
    let (unit, scale) = match workload {
        Workload::KeepAlive => ("us/request", 1.0),
        Workload::Connection => ("us/connection", 1.0),
        Workload::Bulk => ("ms/GB", 1e9 / super::origin::BULK_BYTES as f64 / 1e3),
    };
    let haproxy = rows.iter().find(|row| row.contender == Contender::Haproxy);
    let best = rows
        .iter()
        .filter_map(|row| Some((row, row.cost()?.median)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(row, _)| row);
    let mut out = format!("\n{}\n", workload.title());
    let _ = writeln!(
        out,
        "{:14} {:>13} {:>16}  {:>21} {:>8} {:>10} {:>9} {:>8} {:>9}",
        "CONTENDER",
        unit,
        "MIN..MAX",
        "TO HAPROXY (MIN..MAX)",
        "TO BEST",
        "OPS/CPU-S",
        "OPS/S",
        "P99 MS",
        "WITH ENDS"
    );
    for row in rows {
        let Some(cost) = row.cost() else {
            let _ = writeln!(out, "{:14} {:>13}", row.contender.title(), "failed");
            continue;
        };
        let median =
            |of: &dyn Fn(&Measured) -> f64| Spread::of(row.measured().map(of)).map_or(0.0, |s| s.median);
        let _ = writeln!(
            out,
            "{:14} {:>13.2} {:>16}  {:>21} {:>8} {:>10.0} {:>9.0} {:>8.2} {:>9.2}",
            row.contender.title(),
            cost.median * scale,
            format!("{:.2}..{:.2}", cost.least * scale, cost.most * scale),
            ratio(row, haproxy),
            best.and_then(|best| row.ratio_to(best)).map_or_else(String::new, |r| format!("{:.2}", r.median)),
            1e6 / cost.median,
            median(&|m| m.done.operations as f64 * 1e6 / m.done.elapsed_us as f64),
            median(&|m| m.done.p99_us as f64 / 1e3),
            median(&Measured::with_ends_us) * scale,
        );
    }
    out
}

fn ratio(row: &Row, to: Option<&Row>) -> String {
    to.and_then(|to| row.ratio_to(to))
        .map_or_else(|| "-".to_owned(), |r| format!("{:.2} ({:.2}..{:.2})", r.median, r.least, r.most))
}

/// How much else the machine did meanwhile.
pub(super) fn noise(rows: &[Row]) -> Option<String> {
    let foreign = Spread::of(rows.iter().flat_map(Row::measured).map(Measured::foreign))?;
    let advice = if foreign.median > NOISY {
        "; the machine was busy with other things: trust ratios only"
    } else {
        ""
    };
    Some(format!(
        "CPU of other programs and of kernel threads during the measurements: {:.0} % ({:.0}..{:.0}){advice}",
        foreign.median * 100.0,
        foreign.least * 100.0,
        foreign.most * 100.0
    ))
}

/// System calls of all contenders, side by side.
pub(super) fn calls(counted: &[(Contender, Counted)], all: bool) -> String {
    let mut out = String::new();
    type Pick = fn(&Counted) -> &calls::Table;
    let sections: [(&str, Pick); 2] = [
        ("system calls per request, kept connections", |counted| &counted.requests),
        ("system calls per connection with one request", |counted| &counted.connections),
    ];
    for (title, pick) in sections {
        let tables: Vec<&calls::Table> = counted.iter().map(|(_, tables)| pick(tables)).collect();
        let _ = write!(out, "\n{title}\n{:18}", "CALL");
        for (contender, _) in counted {
            let _ = write!(out, " {:>13}", contender.title());
        }
        out.push('\n');
        for name in calls::names(&tables) {
            // What is rare is housekeeping.
            if !all && tables.iter().all(|table| table.per_operation(&name) < 0.005) {
                continue;
            }
            let _ = write!(out, "{name:18}");
            for table in &tables {
                let _ = write!(out, " {:>13.2}", table.per_operation(&name));
            }
            out.push('\n');
        }
        let _ = write!(out, "{:18}", "all");
        for table in &tables {
            let _ = write!(out, " {:>13.2}", table.total());
        }
        out.push('\n');
    }
    out
}

/// Says what failed; the exit code is success only if nothing did.
pub(super) fn verdict(failures: &[String]) -> ExitCode {
    for failure in failures {
        eprintln!("FAILED: {failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::super::load::Done;
    use super::*;

    fn row(contender: Contender, costs_us: &[u64]) -> Row {
        let measured = |cost: u64| Measured {
            done: Done { operations: 1000, bytes: 0, elapsed_us: 1_000_000, errors: 0, p99_us: 1 },
            proxy_ns: cost * 1_000_000,
            around_ns: 0,
            machine_ns: cost * 2_000_000,
        };
        Row { contender, rounds: costs_us.iter().map(|&cost| (cost > 0).then(|| measured(cost))).collect() }
    }

    #[test]
    fn a_median_is_the_middle_or_between_the_two_middle_ones() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).map(|s| s.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_compares_rounds_with_their_own_kind_so_that_a_slow_phase_cancels_out() {
        let (own, other) = (row(Contender::Cygnet, &[8, 16, 80]), row(Contender::Haproxy, &[10, 20, 100]));
        let ratio = own.ratio_to(&other).unwrap();
        assert!((ratio.least - 0.8).abs() < 1e-9 && (ratio.most - 0.8).abs() < 1e-9);
    }

    #[test]
    fn a_round_that_failed_is_left_out_of_the_ratio_and_shown_as_failed_if_all_did() {
        let (own, other) = (row(Contender::Cygnet, &[0, 10]), row(Contender::Haproxy, &[5, 10]));
        assert_eq!(own.ratio_to(&other).map(|r| r.median), Some(1.0));
        let table = workload(Workload::KeepAlive, &[row(Contender::Pen, &[0, 0]), other]);
        assert!(table.lines().any(|line| line.starts_with("Pen") && line.ends_with("failed")), "{table}");
    }

    #[test]
    fn the_noise_is_what_is_not_ours() {
        let text = noise(&[row(Contender::Cygnet, &[10])]).unwrap();
        assert!(text.contains(" 50 % ") && text.contains("ratios only"), "{text}");
    }
}
