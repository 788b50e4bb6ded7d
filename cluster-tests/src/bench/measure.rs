//! One measurement: servers, one proxy, proof that it carries right data, then load and counters.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::load::{self, Done};
use super::process::Running;
use super::{Contender, Workload, calls, cpu, origin, sandbox};

/// Seconds of load before the measured one: connections, caches and allocators have settled.
const WARM_UP_SECONDS: u32 = 1;
/// Fewer operations than this are no measurement.
const FEWEST_OPERATIONS: u64 = 100;

#[derive(Args, Clone, Debug)]
pub(super) struct MeasureArgs {
    #[arg(long, value_enum)]
    pub(super) contender: Contender,
    #[arg(long, value_enum)]
    pub(super) what: What,
    #[arg(long, value_enum, default_value = "keep-alive")]
    pub(super) workload: Workload,
    #[arg(long, default_value_t = 3)]
    pub(super) seconds: u32,
}

/// What is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// CPU time.
    Cpu,
    /// System calls.
    Calls,
}

/// The CPU time of one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) done: Done,
    /// Nanoseconds of the proxy: all processes, all threads.
    pub(super) proxy_ns: u64,
    /// Of the servers and of wrk.
    pub(super) around_ns: u64,
    /// Of all that ran on the machine.
    pub(super) machine_ns: u64,
}

impl Measured {
    /// CPU microseconds of the proxy per operation.
    pub(super) fn per_operation_us(&self) -> f64 {
        self.proxy_ns as f64 / 1e3 / self.done.operations as f64
    }

    /// CPU microseconds of proxy, servers and wrk per operation.
    pub(super) fn with_ends_us(&self) -> f64 {
        (self.proxy_ns + self.around_ns) as f64 / 1e3 / self.done.operations as f64
    }

    /// The part of the machine's work, 0 to 1, that was none of ours: other programs and kernel threads.
    pub(super) fn foreign(&self) -> f64 {
        let ours = self.proxy_ns + self.around_ns;
        self.machine_ns.saturating_sub(ours) as f64 / self.machine_ns.max(1) as f64
    }
}

/// The inner process: measures, and prints the result or the reason why there is none as one line of JSON.
pub(super) fn run(args: &MeasureArgs) -> Result<ExitCode> {
    // It changes addresses and settings: never on the machine itself.
    ensure!(std::process::id() == 1, "measure runs only as the first process of its own namespaces");
    let text = match args.what {
        What::Cpu => serde_json::to_string(&cpu_time(args).map_err(|error| format!("{error:#}"))),
        What::Calls => {
            serde_json::to_string(&calls::count(args.contender).map_err(|error| format!("{error:#}")))
        }
    };
    println!("{}", text.context("cannot write the result")?);
    Ok(ExitCode::SUCCESS)
}

/// Runs one measurement of CPU time in fresh namespaces.
pub(super) fn in_sandbox(contender: Contender, workload: Workload, seconds: u32) -> Result<Measured> {
    let arguments = ["--contender", &contender.name(), "--what", "cpu", "--workload", &workload.name()]
        .map(str::to_owned)
        .into_iter()
        .chain(["--seconds".to_owned(), seconds.to_string()])
        .collect::<Vec<_>>();
    sandbox::measure(&arguments, Duration::from_secs(u64::from(seconds + WARM_UP_SECONDS)))
}

fn cpu_time(args: &MeasureArgs) -> Result<Measured> {
    sandbox::prepare()?;
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let folder = folder.path();
    let origin = origin::start(folder)?;
    let proxy = args.contender.start(folder)?;
    under_load(args, folder, &proxy, &origin)
}

fn under_load(args: &MeasureArgs, folder: &Path, proxy: &Running, origin: &Running) -> Result<Measured> {
    load::wrk(args.workload, WARM_UP_SECONDS, folder)?;
    let (proxy_before, origin_before) = (cpu::Sample::take(proxy.pid())?, cpu::Sample::take(origin.pid())?);
    let (machine_before, wrk_before) = (cpu::machine()?, cpu::ended_children()?);
    let done = load::wrk(args.workload, args.seconds, folder)?;
    let proxy_ns = cpu::Sample::take(proxy.pid())?.since(&proxy_before);
    let origin_ns = cpu::Sample::take(origin.pid())?.since(&origin_before);
    let wrk_ns = cpu::ended_children()?.saturating_sub(wrk_before);
    let machine_ns = cpu::machine()?.saturating_sub(machine_before);

    ensure!(done.errors == 0, "{} of {} requests failed", done.errors, done.operations + done.errors);
    ensure!(done.operations >= FEWEST_OPERATIONS, "only {} operations", done.operations);
    if args.workload == Workload::Bulk {
        let least = done.operations * origin::BULK_BYTES as u64;
        ensure!(done.bytes >= least, "{} bytes for {} answers of 1 MiB", done.bytes, done.operations);
    }
    Ok(Measured { done, proxy_ns, around_ns: origin_ns + wrk_ns, machine_ns })
}
