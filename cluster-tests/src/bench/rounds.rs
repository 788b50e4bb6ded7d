//! The whole comparison: rounds of all contenders, interleaved.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use super::measure::{self, Measured};
use super::process::find;
use super::report::{self, Row};
use super::{Contender, RunArgs, Workload};

/// Rounds where memory is measured: it is the same in each.
const MEMORY_ROUNDS: u32 = 1;

/// One measurement as it is written to the file.
#[derive(Serialize)]
struct Entry<'a> {
    round: u32,
    workload: Workload,
    contender: Contender,
    measured: &'a Measured,
    value: f64,
    unit: &'static str,
}

pub(super) fn run(args: &RunArgs) -> Result<ExitCode> {
    for tool in ["wrk", "nginx", "unshare", "ip"] {
        find(tool)?;
    }
    for contender in &args.contenders {
        contender.check_installed()?;
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
    print!("{}", report::summary(&tables));
    if args.limit {
        failures.extend(tables.iter().flat_map(|(workload, rows)| report::missed(*workload, rows)));
    }
    if let Some(path) = &args.json {
        fs::write(path, json(&tables)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report::verdict(&failures))
}

/// All rounds of one load: A B C D, A B C D.
fn rounds(args: &RunArgs, workload: Workload, failures: &mut Vec<String>) -> Vec<Row> {
    let mut rows: Vec<Row> = args
        .contenders
        .iter()
        .filter(|contender| contender.serves(workload))
        .map(|&contender| Row { workload, contender, rounds: Vec::new() })
        .collect();
    let count = if workload.is_memory() { args.rounds.min(MEMORY_ROUNDS) } else { args.rounds };
    for round in 1..=count {
        for row in &mut rows {
            let result = measure::in_sandbox(row.contender, workload, args.seconds);
            match &result {
                Ok(measured) => eprintln!(
                    "  round {round}/{count} {:14} {:>9.2} {}, {} in {:.2} s",
                    row.contender.title(),
                    measured.value(workload),
                    workload.unit(),
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

fn json(tables: &[(Workload, Vec<Row>)]) -> Result<String> {
    let mut entries = Vec::new();
    for (workload, rows) in tables {
        for row in rows {
            for (round, measured) in (1..).zip(&row.rounds) {
                if let Some(measured) = measured {
                    let (workload, contender, unit) = (*workload, row.contender, workload.unit());
                    let value = measured.value(workload);
                    entries.push(Entry { round, workload, contender, measured, value, unit });
                }
            }
        }
    }
    serde_json::to_string_pretty(&entries).context("cannot write the figures")
}
