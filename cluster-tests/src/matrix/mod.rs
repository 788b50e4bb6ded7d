//! The failure matrix: each fault, made on Cygnet and on the pairs that it stands beside, in one run; what a client saw.
//!
//! Each trial is a lab of its own (`cygnet-lab trial`): nothing of one is left for the next. The contenders take turns, so
//! that a busy moment of the machine meets all of them. `docs/failure-matrix.md` is written by this and by nobody else.

mod cell;
mod fault;
mod page;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

pub use cell::{Cell, Contender, Trial};
pub use fault::{Fault, measure};

/// What a trial's line on its standard output begins with.
const MARK: &str = "TRIAL ";
/// The published figures rest on so many runs.
const RUNS: usize = 20;

/// `cygnet-lab matrix`.
#[derive(Args)]
pub struct MatrixArguments {
    /// How often each fault is made on each contender
    #[arg(long, default_value_t = RUNS)]
    runs: usize,
    /// Only these faults, by their words, with commas between them
    #[arg(long, value_delimiter = ',', value_enum)]
    rows: Vec<Fault>,
    /// Only advertisements of these lengths, ms
    #[arg(long, value_delimiter = ',')]
    intervals: Vec<u64>,
    /// Where measured rows are kept; rows that are measured again replace their former figures
    #[arg(long, default_value = "target/matrix.json")]
    results: PathBuf,
    /// Write the document from all rows that are kept
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// `cygnet-lab trial`.
#[derive(Args)]
pub struct TrialArguments {
    #[arg(long, value_enum)]
    contender: Contender,
    #[arg(long, value_enum)]
    fault: Fault,
    #[arg(long)]
    interval_ms: u64,
}

/// Measures what is asked for, keeps it, and writes the document.
///
/// # Errors
/// If a trial could not be made; a contender that never recovers is a result, not an error.
pub fn run(arguments: &MatrixArguments) -> Result<()> {
    let mut kept = read(&arguments.results)?;
    for row in rows(arguments) {
        let mut cells: Vec<Cell> = row;
        for run in 0..arguments.runs {
            for cell in &mut cells {
                let trial = apart(cell)?;
                eprintln!("{} {}/{}: {}", cell.name(), run + 1, arguments.runs, trial.line());
                cell.trials.push(trial);
            }
        }
        for cell in cells.into_iter().filter(|cell| !cell.trials.is_empty()) {
            kept.insert(cell.name(), cell);
        }
        // After each row: a run that is cut keeps what it has.
        std::fs::write(&arguments.results, serde_json::to_string_pretty(&kept)?)
            .with_context(|| arguments.results.display().to_string())?;
    }
    let page = page::page(&kept.into_values().collect::<Vec<_>>(), &page::machine());
    match &arguments.write {
        Some(file) => std::fs::write(file, page).with_context(|| file.display().to_string()),
        None => {
            println!("{page}");
            Ok(())
        }
    }
}

/// One trial, inside a lab of its own; its outcome goes to the standard output.
///
/// # Errors
/// If it could not be made.
pub fn trial(arguments: &TrialArguments) -> Result<()> {
    crate::enter::program(|| {
        let interval = Duration::from_millis(arguments.interval_ms);
        let trial = measure(arguments.contender, arguments.fault, interval)?;
        println!("{MARK}{}", serde_json::to_string(&trial)?);
        Ok(())
    })
}

/// Which cells are asked for: a row is one fault with one interval, for all contenders that know both.
fn rows(arguments: &MatrixArguments) -> Vec<Vec<Cell>> {
    let wanted = |fault: &Fault| arguments.rows.is_empty() || arguments.rows.contains(fault);
    let mut rows = Vec::new();
    for fault in Fault::ALL.into_iter().filter(wanted) {
        for interval_ms in fault.intervals_ms() {
            if !arguments.intervals.is_empty() && !arguments.intervals.contains(interval_ms) {
                continue;
            }
            let contenders = Contender::ALL.into_iter().filter(|contender| contender.speaks(*interval_ms));
            let cell = |contender| Cell { fault, interval_ms: *interval_ms, contender, trials: Vec::new() };
            rows.push(contenders.map(cell).collect());
        }
    }
    rows
}

fn read(file: &Path) -> Result<BTreeMap<String, Cell>> {
    match std::fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is not ours", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// A trial in another process.
fn apart(cell: &Cell) -> Result<Trial> {
    let output = Command::new(std::env::current_exe()?)
        .args(["trial", "--contender", &word(&cell.contender), "--fault", &word(&cell.fault)])
        .args(["--interval-ms", &cell.interval_ms.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("cannot start a trial")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let Some(line) = said.lines().find_map(|line| line.strip_prefix(MARK)) else {
        bail!("{} could not be tried: {said}{}", cell.name(), String::from_utf8_lossy(&output.stderr));
    };
    Ok(serde_json::from_str(line)?)
}

/// The word by which a value is named on a command line.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
