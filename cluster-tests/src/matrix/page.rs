//! The document. Pure, but for [`machine`].

use std::collections::BTreeMap;

use super::cell::{Cell, Trial};
use super::fault::Fault;
use crate::command;

/// What it was measured on, and which versions.
pub(super) fn machine() -> Vec<String> {
    let first_line = |program: &str, args: &[&str]| {
        let said = command::output(program, args).ok()?;
        // Some of them tell their version on standard error.
        let text = [said.stdout, said.stderr].concat();
        String::from_utf8_lossy(&text).lines().find(|line| !line.trim().is_empty()).map(str::to_owned)
    };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = first_line("uname", &["-sr"]).unwrap_or_default();
    let versions = [("keepalived", "--version"), ("haproxy", "-v"), ("ucarp", "--version"), ("pen", "-v")];
    let versions = versions.iter().filter_map(|(program, arg)| first_line(program, &[*arg]));
    std::iter::once(format!("{cpus} CPUs, {kernel}")).chain(versions).collect()
}

const HEAD: &str = "# Failure matrix\n\n\
    What a client sees of each fault, on Cygnet and on the two pairs that its users come from, made and measured by the lab. \
    This file is written by `make matrix` (`cygnet-lab matrix --write docs/failure-matrix.md`); do not edit it.\n\n\
    ## How it is made\n\n\
    - Two balancers, two servers and a client in network namespaces on one machine; lb1 is preferred and holds the address.\n\
    - Each trial is a lab of its own, and begins with lb1 steadily holding the address. The contenders take turns.\n\
    - The client opens a connection every 2 ms, each with a request and a deadline of 250 ms. The *gap* is the time from the start of \
    the last request that was answered before, to the start of the first that was answered after: a prober that was late itself makes \
    it longer, never shorter. Five long connections exchange a line every 50 ms beside it.\n\
    - A service that did not come back within 15 s is counted under *never*; its gap is what was seen of it until then.\n\
    - keepalived: VRRPv3, priorities 150 and 100, no script that checks HAProxy, as in a first installation. ucarp: advbase 1, skews 0 and 100, \
    preemption; it knows whole seconds only. Cygnet: VRRPv3, the same priorities.\n\
    - A gap of a few milliseconds is the machine's: compare the contenders of a row, not one figure with another machine's. \
    How late the prober itself was at most is contained in the gap, and stands beside it.\n";

/// The document from all cells.
pub(super) fn page(cells: &[Cell], machine: &[String]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("- Measured on: ");
    page.push_str(&machine.join("; "));
    page.push_str(".\n");
    for fault in Fault::ALL {
        let of_fault: Vec<&Cell> = cells.iter().filter(|cell| cell.fault == fault).collect();
        if !of_fault.is_empty() {
            page.push_str(&section(fault, of_fault));
        }
    }
    page
}

fn section(fault: Fault, mut cells: Vec<&Cell>) -> String {
    cells.sort_by_key(|cell| (std::cmp::Reverse(cell.interval_ms), cell.contender));
    let mut text = format!("\n## {}\n\n", capital(fault.what()));
    text.push_str(
        "| adverts | pair | runs | gap, ms: median | longest | prober late in it, ms | never | failed requests: median | most | long connections | address \
         at the end |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let of = |value: fn(&Trial) -> f64| cell.trials.iter().map(value).collect::<Vec<f64>>();
        let (gaps, failed) = (of(|trial| trial.gap_ms), of(|trial| trial.failed as f64));
        let late = of(|trial| trial.late_ms);
        let never = cell.trials.iter().filter(|trial| !trial.recovered).count();
        text.push_str(&format!(
            "| {} ms | {} | {} | {:.0} | {:.0} | {:.0} | {never} | {:.0} | {:.0} | {} | {} |\n",
            cell.interval_ms,
            cell.contender.name(),
            cell.trials.len(),
            median(&gaps),
            most(&gaps),
            most(&late),
            median(&failed),
            most(&failed),
            common(cell.trials.iter().map(|trial| trial.sessions.clone())),
            common(cell.trials.iter().map(|trial| match trial.holders.as_slice() {
                [] => "nobody".to_owned(),
                holders => holders.join(" and "),
            })),
        ));
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The middle value; the higher of two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// What came out most often, and how often if not always.
fn common(values: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = 0;
    for value in values {
        *counts.entry(value).or_default() += 1;
        all += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or_else(
        || "-".to_owned(),
        |(value, count)| {
            if count == all { value } else { format!("{value} ({count} of {all})") }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::Contender;
    use super::*;

    fn trial(gap_ms: f64, recovered: bool) -> Trial {
        Trial {
            gap_ms,
            late_ms: 1.0,
            recovered,
            failed: gap_ms as u64 / 2,
            requests: 1000,
            sessions: "reset 5".to_owned(),
            holders: if recovered { vec!["lb2".to_owned()] } else { vec!["lb1".into(), "lb2".into()] },
        }
    }

    #[test]
    fn a_row_says_what_was_usual_what_was_worst_and_what_never_came_back() {
        let trials = vec![trial(10.0, true), trial(30.0, true), trial(4000.0, false)];
        let cell =
            Cell { fault: Fault::LinkDown, interval_ms: 100, contender: Contender::Keepalived, trials };
        let page = page(&[cell], &["2 CPUs".to_owned()]);
        let row = page.lines().last().unwrap_or_default();
        assert_eq!(
            row,
            "| 100 ms | keepalived + HAProxy | 3 | 30 | 4000 | 1 | 1 | 15 | 2000 | reset 5 | lb2 (2 of 3) |"
        );
        assert!(page.contains("## The holder's interface down") && page.contains("2 CPUs"));
    }

    #[test]
    fn faults_that_were_not_measured_have_no_section() {
        assert!(!page(&[], &[]).contains("## The holder"));
    }
}
