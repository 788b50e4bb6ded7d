//! One measurement: servers, one proxy, proof that it carries right data, then load and counters.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::load::kept::Kept;
use super::load::{self, Done, Until};
use super::memory::{self, Memory};
use super::peers::Site;
use super::process::Running;
use super::workload::Front;
use super::{Contender, Workload, calls, cpu, echo, origin, sandbox};

/// Seconds of load before the measured one: connections, caches and allocators have settled.
const WARM_UP_SECONDS: u32 = 1;
/// Fewer operations than this are no measurement; of bulk, each is many.
const FEWEST_OPERATIONS: u64 = 100;
const FEWEST_BULK_OPERATIONS: u64 = 20;
/// Threads that open idle TLS connections.
const OPENERS: usize = 8;

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
    /// CPU time, or memory.
    Cost,
    /// System calls.
    Calls,
}

/// What one load has cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) done: Done,
    /// Nanoseconds of the proxy: all processes, all threads.
    pub(super) proxy_ns: u64,
    /// Of the servers and of the load.
    pub(super) around_ns: u64,
    /// Of all that ran on the machine.
    pub(super) machine_ns: u64,
    /// Where memory is measured, over as many connections as there are operations.
    pub(super) memory: Option<Memory>,
}

impl Measured {
    /// The figure that counts, in the unit of the workload: the proxy's CPU time per operation, or memory a connection.
    pub(super) fn value(&self, workload: Workload) -> f64 {
        match &self.memory {
            Some(memory) => memory.all_kib(self.done.operations),
            None => workload.cost(self.proxy_ns, &self.done),
        }
    }

    /// The same for the CPU time of proxy, servers and load together.
    pub(super) fn with_ends(&self, workload: Workload) -> f64 {
        workload.cost(self.proxy_ns + self.around_ns, &self.done)
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
        What::Cost => serde_json::to_string(&cost(args).map_err(|error| format!("{error:#}"))),
        What::Calls => serde_json::to_string(
            &calls::count(args.contender, args.workload).map_err(|error| format!("{error:#}")),
        ),
    };
    println!("{}", text.context("cannot write the result")?);
    Ok(ExitCode::SUCCESS)
}

/// Runs one measurement of costs in fresh namespaces.
pub(super) fn in_sandbox(contender: Contender, workload: Workload, seconds: u32) -> Result<Measured> {
    let arguments = ["--contender", &contender.name(), "--what", "cost", "--workload", &workload.name()]
        .map(str::to_owned)
        .into_iter()
        .chain(["--seconds".to_owned(), seconds.to_string()])
        .collect::<Vec<_>>();
    sandbox::measure(&arguments, Duration::from_secs(u64::from(seconds + WARM_UP_SECONDS)))
}

/// Servers and proxy, ready.
pub(super) struct Stage {
    pub(super) proxy: Running,
    /// None with UDP: its servers are threads of our own.
    origin: Option<Running>,
    folder: tempfile::TempDir,
}

impl Stage {
    /// Prepares the namespaces, starts all, and proves that right data comes through.
    pub(super) fn set(contender: Contender, workload: Workload) -> Result<Self> {
        sandbox::prepare()?;
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let site = Site::prepare(workload, folder.path())?;
        let origin = if workload.front() == Front::Udp {
            echo::start()?;
            None
        } else {
            Some(origin::start(folder.path())?)
        };
        let proxy = contender.start(&site)?;
        Ok(Self { proxy, origin, folder })
    }

    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

fn cost(args: &MeasureArgs) -> Result<Measured> {
    let stage = Stage::set(args.contender, args.workload)?;
    let counters = Counters::read(&stage)?;
    match args.workload {
        Workload::Idle => {
            let before = memory::settled(stage.proxy.pid())?;
            idle(&stage, &counters, before, &Kept::plain(sandbox::FRONT, args.workload.together())?)
        }
        Workload::IdleTls => {
            let before = memory::settled(stage.proxy.pid())?;
            idle(&stage, &counters, before, &Kept::tls(args.workload, OPENERS)?)
        }
        _ => under_load(args, &stage),
    }
}

fn idle<S: load::Wire>(
    stage: &Stage,
    counters: &Counters,
    before_kib: u64,
    kept: &Kept<S>,
) -> Result<Measured> {
    let after_kib = memory::settled(stage.proxy.pid())?;
    let done = Done { operations: kept.count() as u64, ..Done::default() };
    Ok(Measured {
        memory: Some(Memory { before_kib, after_kib }),
        ..Counters::read(stage)?.since(counters, done)
    })
}

fn under_load(args: &MeasureArgs, stage: &Stage) -> Result<Measured> {
    let mut load = load::open(args.workload, stage.folder())?;
    // A burst finds everything cold: that is what is asked of it.
    if args.workload != Workload::Burst {
        load.run(Until::Seconds(WARM_UP_SECONDS))?;
    }
    let before = Counters::read(stage)?;
    let done = load.run(Until::Seconds(args.seconds))?;
    let measured = Counters::read(stage)?.since(&before, done);
    let done = &measured.done;
    ensure!(done.errors == 0, "{} of {} requests failed", done.errors, done.operations + done.errors);
    let fewest = if args.workload.is_bulk() { FEWEST_BULK_OPERATIONS } else { FEWEST_OPERATIONS };
    ensure!(done.operations >= fewest, "only {} operations", done.operations);
    if args.workload.is_bulk() {
        let least = done.operations * origin::BULK_BYTES as u64;
        ensure!(done.bytes >= least, "{} bytes for {} large answers", done.bytes, done.operations);
    }
    Ok(measured)
}

/// CPU time of everybody at one moment.
struct Counters {
    proxy: cpu::Sample,
    origin: cpu::Sample,
    machine: u64,
    /// Of this process and of its children that have ended (wrk).
    own: u64,
}

impl Counters {
    fn read(stage: &Stage) -> Result<Self> {
        let origin = stage.origin.as_ref().map(|origin| cpu::Sample::take(origin.pid())).transpose()?;
        Ok(Self {
            proxy: cpu::Sample::take(stage.proxy.pid())?,
            origin: origin.unwrap_or_default(),
            machine: cpu::machine()?,
            own: cpu::own()?,
        })
    }

    fn since(&self, earlier: &Self, done: Done) -> Measured {
        let own = self.own.saturating_sub(earlier.own);
        Measured {
            done,
            proxy_ns: self.proxy.since(&earlier.proxy),
            around_ns: self.origin.since(&earlier.origin) + own,
            machine_ns: self.machine.saturating_sub(earlier.machine),
            memory: None,
        }
    }
}
