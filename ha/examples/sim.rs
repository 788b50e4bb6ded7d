//! Campaigns of the simulator: `make sim SEEDS=10000`, `make sim SEED=4711`.
//!
//! ```text
//! sim [--seeds N] [--from SEED] [--jobs N] [--mutation NAME]     many seeds; the first that fails is shown
//! sim --seed SEED [--mutation NAME]                              one, with all that happens
//! ```

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cygnet_ha::sim::{Campaign, Mutation, Run, run};

struct Arguments {
    seed: Option<u64>,
    campaign: Campaign,
}

fn main() -> ExitCode {
    let arguments = match read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("sim: {error}");
            return ExitCode::from(2);
        }
    };
    // A panic is a finding like any other, and is shown with its run.
    std::panic::set_hook(Box::new(|_| {}));
    let result = match arguments.seed {
        Some(seed) => show(&run(seed, arguments.campaign.mutation, true)),
        None => many(&arguments.campaign),
    };
    result.unwrap_or_else(|error| {
        eprintln!("sim: {error}");
        ExitCode::FAILURE
    })
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seed: None, campaign: Campaign::default() };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"));
        match word.as_str() {
            "--seed" => arguments.seed = Some(number()?),
            "--seeds" => arguments.campaign.seeds = number()?,
            "--from" => arguments.campaign.from = number()?,
            "--jobs" => {
                arguments.campaign.jobs = usize::try_from(number()?).map_err(|error| error.to_string())?;
            }
            "--mutation" => {
                let known = || {
                    let names: Vec<String> = Mutation::ALL.iter().map(|known| format!("{known:?}")).collect();
                    format!("there is no mutation {value}; there are {}", names.join(", "))
                };
                arguments.campaign.mutation = Some(Mutation::by_name(&value).ok_or_else(known)?);
            }
            _ => return Err(format!("{word} is not known; see the top of ha/examples/sim.rs")),
        }
    }
    Ok(arguments)
}

fn show(run: &Run) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    out.write_all(run.trace.as_bytes())?;
    writeln!(out, "hash {:016x}, {} events, {} changes answered", run.hash, run.events, run.answers)?;
    match &run.violation {
        Some(violation) => {
            writeln!(out, "VIOLATION: {}", violation.0)?;
            Ok(ExitCode::FAILURE)
        }
        None => {
            writeln!(
                out,
                "converged within {:?}; longest overlap {:?}, longest gap {:?}",
                run.converged, run.overlap, run.gap
            )?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn many(campaign: &Campaign) -> io::Result<ExitCode> {
    let started = Instant::now();
    let report = campaign.run();
    let took = started.elapsed();
    let mut out = io::stdout().lock();
    let rate = report.seeds as f64 / took.as_secs_f64().max(0.001);
    writeln!(
        out,
        "{} seeds of 60 simulated seconds in {:.1} s: {rate:.0} seeds/s with {} threads; {} events, {} changes answered",
        report.seeds,
        took.as_secs_f64(),
        campaign.jobs,
        report.events,
        report.answers,
    )?;
    let slowest = |what: &str, (time, seed): (Duration, u64)| format!("{what} {time:?} (seed {seed})");
    writeln!(
        out,
        "longest: {}, {}, {}",
        slowest("convergence", report.converged),
        slowest("overlap", report.overlap),
        slowest("gap", report.gap)
    )?;
    let Some((seed, violation)) = report.failed.first() else { return Ok(ExitCode::SUCCESS) };
    writeln!(out, "{} seeds failed:", report.failed.len())?;
    for (seed, violation) in report.failed.iter().take(20) {
        writeln!(out, "  seed {seed}: {}", violation.0)?;
    }
    let again = run(*seed, campaign.mutation, true);
    writeln!(out, "\nThe trace of seed {seed} ({}); alone: make sim SEED={seed}", violation.0)?;
    out.write_all(again.trace.as_bytes())?;
    Ok(ExitCode::FAILURE)
}
