//! The whole comparison: rounds of all contenders, interleaved.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::measure::{self, Measured};
use super::process::find;
use super::report::{self, Row};
use super::{Contender, RunArgs, Workload};

/// CPU per request on kept connections that Cygnet may need, HAProxy's being 1 (median over the rounds).
const MOST_OF_HAPROXY: f64 = 1.0;

/// One measurement as it is written to the file.
#[derive(Serialize)]
struct Entry<'a> {
    round: u32,
    workload: Workload,
    contender: Contender,
    measured: &'a Measured,
    per_operation_us: f64,
}

pub(super) fn run(args: &RunArgs) -> Result<ExitCode> {
    for tool in ["wrk", "nginx", "unshare", "ip"] {
        find(tool)?;
    }
    for contender in &args.contenders {
        contender.check_installed()?;
    }
    if args.limit {
        let all = [Contender::Haproxy, Contender::Cygnet].iter().all(|one| args.contenders.contains(one));
        ensure!(
            all && args.workloads.contains(&Workload::KeepAlive),
            "--limit compares Cygnet and HAProxy on keep-alive: all three must take part"
        );
    }
    for contender in &args.contenders {
        println!("{:14} {}", contender.title(), contender.version());
    }
    let mut failures = Vec::new();
    let mut tables: Vec<(Workload, Vec<Row>)> = Vec::new();
    for &workload in &args.workloads {
        eprintln!("{}", workload.title());
        let rows = rounds(args, workload, &mut failures);
        print!("{}", report::workload(workload, &rows));
        if let Some(noise) = report::noise(&rows) {
            println!("{noise}");
        }
        tables.push((workload, rows));
    }
    if args.limit {
        failures.extend(over_limit(&tables));
    }
    if let Some(path) = &args.json {
        fs::write(path, json(&tables)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report::verdict(&failures))
}

/// All rounds of one load: A B C D, A B C D.
fn rounds(args: &RunArgs, workload: Workload, failures: &mut Vec<String>) -> Vec<Row> {
    let mut rows: Vec<Row> =
        args.contenders.iter().map(|&contender| Row { contender, rounds: Vec::new() }).collect();
    for round in 1..=args.rounds {
        for row in &mut rows {
            let result = measure::in_sandbox(row.contender, workload, args.seconds);
            match &result {
                Ok(measured) => eprintln!(
                    "  round {round}/{} {:14} {:>9.2} us CPU each, {} in {:.1} s",
                    args.rounds,
                    row.contender.title(),
                    measured.per_operation_us(),
                    measured.done.operations,
                    measured.done.elapsed_us as f64 / 1e6,
                ),
                Err(error) => {
                    let failure =
                        format!("{} {}, round {round}: {error:#}", workload.name(), row.contender.title());
                    eprintln!("  {failure}");
                    failures.push(failure);
                }
            }
            row.rounds.push(result.ok());
        }
    }
    rows
}

fn over_limit(tables: &[(Workload, Vec<Row>)]) -> Option<String> {
    let rows = tables.iter().find(|(workload, _)| *workload == Workload::KeepAlive).map(|(_, rows)| rows)?;
    let of = |contender| rows.iter().find(|row| row.contender == contender);
    let ratio = of(Contender::Cygnet)?.ratio_to(of(Contender::Haproxy)?);
    let Some(ratio) = ratio else { return Some("no round has both Cygnet and HAProxy".to_owned()) };
    (ratio.median > MOST_OF_HAPROXY).then(|| {
        format!(
            "Cygnet needs {:.2} of HAProxy's CPU per request on kept connections; the limit is {MOST_OF_HAPROXY}",
            ratio.median
        )
    })
}

fn json(tables: &[(Workload, Vec<Row>)]) -> Result<String> {
    let mut entries = Vec::new();
    for (workload, rows) in tables {
        for row in rows {
            for (round, measured) in (1..).zip(&row.rounds) {
                if let Some(measured) = measured {
                    let per_operation_us = measured.per_operation_us();
                    let contender = row.contender;
                    entries.push(Entry { round, workload: *workload, contender, measured, per_operation_us });
                }
            }
        }
    }
    serde_json::to_string_pretty(&entries).context("cannot write the figures")
}
