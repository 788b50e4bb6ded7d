//! Figures for people: medians with their spread, ratios round by round, and a verdict.

use std::fmt::Write;
use std::process::ExitCode;

use super::bars::{self, Bar};
use super::calls;
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
    pub(super) workload: Workload,
    pub(super) contender: Contender,
    pub(super) rounds: Vec<Option<Measured>>,
}

impl Row {
    fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.rounds.iter().flatten()
    }

    /// What an operation costs.
    pub(super) fn cost(&self) -> Option<Spread> {
        Spread::of(self.measured().map(|measured| measured.value(self.workload)))
    }

    /// How this one's cost compares with the other's, each round with the same round.
    pub(super) fn ratio_to(&self, other: &Self) -> Option<Spread> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Spread::of(pairs.filter_map(|(own, other)| {
            Some(own.as_ref()?.value(self.workload) / other.as_ref()?.value(self.workload))
        }))
    }
}

/// The peer with the lowest median.
fn best_peer(rows: &[Row]) -> Option<&Row> {
    rows.iter()
        .filter(|row| row.contender.is_peer())
        .filter_map(|row| Some((row, row.cost()?.median)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(row, _)| row)
}

/// What is held against a bar, and the verdict. `None`: there is no bar, or nothing to compare.
struct Judged {
    figure: f64,
    bar: Bar,
    kept: bool,
}

fn judge(row: &Row, rows: &[Row]) -> Option<Judged> {
    let bar = bars::of(row.contender, row.workload)?;
    let (figure, most) = match bar {
        Bar::OfBest(most) => (row.ratio_to(best_peer(rows)?)?.median, most),
        Bar::Kib(most) => (row.cost()?.median, most),
    };
    // A datagram of one client must never reach another.
    let strays = row.measured().any(|measured| measured.done.strays > 0);
    Some(Judged { figure, bar, kept: figure <= most && !strays })
}

/// The bars of one load that are missed, in words.
pub(super) fn missed(workload: Workload, rows: &[Row]) -> Vec<String> {
    let mut missed = Vec::new();
    for row in rows.iter().filter(|row| bars::of(row.contender, workload).is_some()) {
        let name = format!("{} {}", workload.name(), row.contender.title());
        match judge(row, rows) {
            None => missed.push(format!("{name}: nothing to hold against the bar")),
            Some(judged) if !judged.kept => missed.push(format!("{name}: {}", words(&judged))),
            Some(_) => {}
        }
    }
    missed
}

fn words(judged: &Judged) -> String {
    match judged.bar {
        Bar::OfBest(most) => format!("{:.2} of the best peer, at most {most:.2}", judged.figure),
        Bar::Kib(most) => format!("{:.2} KiB, at most {most:.1}", judged.figure),
    }
}

/// The table of one load. WITH ENDS: the proxy, the servers and the load together, in the unit of the first column. On loopback
/// one side may do the kernel's work of another: a proxy that is cheap only in its own column has moved its work.
pub(super) fn workload(workload: Workload, rows: &[Row]) -> String {
    if workload.is_memory() {
        return memory(workload, rows);
    }
    let mut out = format!("\n{}: {}\n", workload.name(), workload.title());
    let _ = writeln!(
        out,
        "{:14} {:>10} {:>18}  {:>22} {:>9} {:>8} {:>9} {:>10} {:>7} {:>6}",
        "CONTENDER",
        workload.unit(),
        "MIN..MAX",
        "TO BEST PEER",
        "OPS/S",
        "SECONDS",
        "P99 MS",
        "WITH ENDS",
        "LOST %",
        "STRAYS"
    );
    for row in rows {
        let Some(cost) = row.cost() else {
            let _ = writeln!(out, "{:14} {:>10}", row.contender.title(), "failed");
            continue;
        };
        let median =
            |of: &dyn Fn(&Measured) -> f64| Spread::of(row.measured().map(of)).map_or(0.0, |s| s.median);
        let _ = writeln!(
            out,
            "{:14} {:>10.2} {:>18}  {:>22} {:>9.0} {:>8.3} {:>9.2} {:>10.2} {:>7} {:>6}",
            row.contender.title(),
            cost.median,
            format!("{:.2}..{:.2}", cost.least, cost.most),
            ratio(row, best_peer(rows)),
            median(&|m| m.done.operations as f64 * 1e6 / m.done.elapsed_us as f64),
            median(&|m| m.done.elapsed_us as f64 / 1e6),
            median(&|m| m.done.p99_us as f64 / 1e3),
            median(&|m| m.with_ends(workload)),
            lost(row),
            row.measured().map(|m| m.done.strays).sum::<u64>(),
        );
    }
    out
}

fn lost(row: &Row) -> String {
    let lost: u64 = row.measured().map(|m| m.done.lost).sum();
    let all: u64 = row.measured().map(|m| m.done.operations + m.done.lost).sum();
    if lost == 0 { "0".to_owned() } else { format!("{:.2}", lost as f64 * 100.0 / all as f64) }
}

fn ratio(row: &Row, to: Option<&Row>) -> String {
    to.and_then(|to| row.ratio_to(to))
        .map_or_else(|| "-".to_owned(), |r| format!("{:.2} ({:.2}..{:.2})", r.median, r.least, r.most))
}

/// ALL: the proxy's whole memory by its connections; ADDED: what the connections have added to it.
fn memory(workload: Workload, rows: &[Row]) -> String {
    let mut out = format!("\n{}: {}\n", workload.name(), workload.title());
    let _ = writeln!(
        out,
        "{:14} {:>10} {:>10} {:>12} {:>12} {:>22}",
        "CONTENDER", "ALL KIB", "ADDED KIB", "BEFORE MIB", "AFTER MIB", "TO BEST PEER"
    );
    for row in rows {
        let Some((measured, memory)) = row.measured().find_map(|m| Some((m, m.memory.as_ref()?))) else {
            let _ = writeln!(out, "{:14} {:>10}", row.contender.title(), "failed");
            continue;
        };
        let _ = writeln!(
            out,
            "{:14} {:>10.2} {:>10.2} {:>12.1} {:>12.1} {:>22}",
            row.contender.title(),
            memory.all_kib(measured.done.operations),
            memory.added_kib(measured.done.operations),
            memory.before_kib as f64 / 1024.0,
            memory.after_kib as f64 / 1024.0,
            ratio(row, best_peer(rows)),
        );
    }
    out
}

/// Everything in one table: the medians of all contenders, Cygnet's ratio to the best peer, its bar, and the verdict.
pub(super) fn summary(tables: &[(Workload, Vec<Row>)]) -> String {
    let mut contenders: Vec<Contender> = Vec::new();
    for row in tables.iter().flat_map(|(_, rows)| rows) {
        if !contenders.contains(&row.contender) {
            contenders.push(row.contender);
        }
    }
    let mut out = format!("\nmedians; CYGNET, AWS-LC: figure / bar\n{:14} {:10}", "WORKLOAD", "UNIT");
    for contender in &contenders {
        let _ = write!(out, " {:>13}", contender.title());
    }
    let _ = writeln!(out, "  {:12} {:24} {:24}", "BEST PEER", "CYGNET", "AWS-LC");
    for (workload, rows) in tables {
        let _ = write!(out, "{:14} {:10}", workload.name(), workload.unit());
        for contender in &contenders {
            let row = rows.iter().find(|row| row.contender == *contender);
            let figure = match row.map(Row::cost) {
                None => "-".to_owned(),
                Some(None) => "failed".to_owned(),
                Some(Some(cost)) => format!("{:.2}", cost.median),
            };
            let _ = write!(out, " {figure:>13}");
        }
        let best = best_peer(rows).map_or("-", |row| row.contender.title());
        let verdict = |contender| {
            let row = rows.iter().find(|row| row.contender == contender)?;
            let judged = judge(row, rows)?;
            let (Bar::OfBest(most) | Bar::Kib(most)) = judged.bar;
            Some(format!("{:.2} / {most:.2} {}", judged.figure, if judged.kept { "pass" } else { "FAIL" }))
        };
        let shown = |contender| verdict(contender).unwrap_or_else(|| "-".to_owned());
        let line = format!("  {best:12} {:24} {}", shown(Contender::Cygnet), shown(Contender::CygnetFast));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
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

/// System calls of all contenders under one load, side by side.
pub(super) fn calls(
    workload: Workload,
    most: Option<f64>,
    counted: &[(Contender, calls::Table)],
    all: bool,
) -> String {
    let mut out = format!("\nsystem calls: {}\n{:18}", workload.title(), "CALL");
    for (contender, _) in counted {
        let _ = write!(out, " {:>13}", contender.title());
    }
    out.push('\n');
    let tables: Vec<&calls::Table> = counted.iter().map(|(_, table)| table).collect();
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
    if let Some(most) = most {
        let _ = write!(out, "   (Cygnet at most {most})");
    }
    out.push('\n');
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

    /// `costs_us`: 0 is a round that failed.
    fn row(contender: Contender, costs_us: &[u64]) -> Row {
        let measured = |cost: u64| Measured {
            done: Done { operations: 1000, elapsed_us: 1_000_000, ..Done::default() },
            proxy_ns: cost * 1_000_000,
            around_ns: 0,
            machine_ns: cost * 2_000_000,
            memory: None,
        };
        let rounds = costs_us.iter().map(|&cost| (cost > 0).then(|| measured(cost))).collect();
        Row { workload: Workload::KeepAlive, contender, rounds }
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
    fn the_best_peer_is_the_bar_and_never_cygnet_itself() {
        let rows = [row(Contender::Haproxy, &[10]), row(Contender::Pen, &[8]), row(Contender::Cygnet, &[7])];
        assert_eq!(best_peer(&rows).map(|row| row.contender), Some(Contender::Pen));
        assert_eq!(missed(Workload::KeepAlive, &rows), Vec::<String>::new());
        let slow = [row(Contender::Pen, &[8]), row(Contender::Cygnet, &[8])];
        assert_eq!(
            missed(Workload::KeepAlive, &slow),
            ["keep-alive Cygnet: 1.00 of the best peer, at most 0.95"]
        );
    }

    #[test]
    fn a_contender_without_figures_misses_its_bar() {
        let rows = [row(Contender::Pen, &[8]), row(Contender::Cygnet, &[0])];
        assert_eq!(missed(Workload::KeepAlive, &rows).len(), 1);
        let text = summary(&[(Workload::KeepAlive, rows.into())]);
        assert!(text.lines().any(|line| line.starts_with("keep-alive") && line.contains("failed")), "{text}");
    }

    #[test]
    fn one_datagram_to_the_wrong_client_is_a_failure_however_fast() {
        let mut own = row(Contender::Cygnet, &[1]);
        if let Some(measured) = own.rounds.first_mut().and_then(Option::as_mut) {
            measured.done.strays = 1;
        }
        assert_eq!(missed(Workload::KeepAlive, &[own, row(Contender::Pen, &[8])]).len(), 1);
    }

    #[test]
    fn the_noise_is_what_is_not_ours() {
        let text = noise(&[row(Contender::Cygnet, &[10])]).unwrap();
        assert!(text.contains(" 50 % ") && text.contains("ratios only"), "{text}");
    }
}
