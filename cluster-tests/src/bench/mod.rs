//! Cygnet beside its peers: one run, one machine, the same load.
//!
//! ```text
//!   load (wrk or our own) --> proxy 10.99.0.1:8000 --> 10.99.0.11:9000, 10.99.0.12:9000 (one nginx, or echoes for UDP)
//! ```
//! Each measurement has a fresh network, process and mount namespace of its own, all on loopback, so that no TIME_WAIT,
//! no left-over process and no setting of the machine reaches the next one. Rounds are interleaved (A B C D A B C D):
//! a machine that slows down slows all of them. What counts is the CPU time of the proxy's own processes divided by the
//! operations done: on a shared machine throughput says little, work per CPU second does.

mod bars;
mod calls;
mod cpu;
mod echo;
mod identity;
mod load;
mod measure;
mod memory;
mod origin;
mod peers;
mod process;
mod report;
mod rounds;
mod sandbox;
mod tls;
mod workload;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub(crate) use identity::{Identity, NAME};
pub use peers::Contender;
pub(crate) use workload::Key;
pub use workload::Workload;

/// The arguments of `cygnet-bench` and of `cygnet-lab bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// CPU and memory per operation beside the peers, rounds interleaved; about twelve minutes.
    Run(RunArgs),
    /// System calls per operation: exact, immune to noise, with limits that fail.
    Calls(CallsArgs),
    /// One measurement, inside its namespaces (started by the others).
    #[command(hide = true)]
    Measure(measure::MeasureArgs),
}

#[derive(Args, Clone, Debug)]
struct RunArgs {
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::all())]
    contenders: Vec<Contender>,
    /// Which loads.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::all())]
    workloads: Vec<Workload>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement lasts, in seconds, after a warm-up of one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: u32,
    /// Fail when Cygnet misses a bar.
    #[arg(long)]
    limit: bool,
    /// Also write every figure to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct CallsArgs {
    /// Who takes part; the limits are for Cygnet.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::all())]
    contenders: Vec<Contender>,
    /// Which loads.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = calls::LOADS)]
    workloads: Vec<Workload>,
    /// Print every system call of every contender.
    #[arg(long)]
    all: bool,
}

impl BenchArgs {
    /// Runs it; the exit code says whether the limits were kept and all contenders could be measured.
    ///
    /// # Errors
    /// A peer or a tool is missing, or the namespaces cannot be made.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => rounds::run(&args),
            Command::Calls(args) => calls::run(&args),
            Command::Measure(args) => measure::run(&args),
        }
    }
}
