//! Cygnet beside its peers: one run, one machine, the same load.
//!
//! ```text
//!   load (wrk or our own) --> proxy 10.99.0.1:8000 --> 10.99.0.11:9000, 10.99.0.12:9000 (one nginx, http)
//! ```
//! Each measurement has a fresh network, process and mount namespace of its own, all on loopback, so that no TIME_WAIT,
//! no left-over process and no setting of the machine reaches the next one. Rounds are interleaved (A B C D A B C D):
//! a machine that slows down slows all of them. What counts is the CPU time of the proxy's own processes divided by the
//! operations done: on a shared machine throughput says little, work per CPU second does.

mod calls;
mod cpu;
mod load;
mod measure;
mod origin;
mod peers;
mod process;
mod report;
mod rounds;
mod sandbox;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

pub use peers::Contender;

/// The arguments of `cygnet-bench` and of `cygnet-lab bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// CPU per request, per connection and per GB, rounds interleaved; about five minutes.
    Run(RunArgs),
    /// System calls per request and per connection: exact, immune to noise, with limits that fail.
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
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement lasts, in seconds, after a warm-up of one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: u32,
    /// Fail when Cygnet needs more CPU than HAProxy for a request on a kept connection.
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
    /// Print every system call of every contender.
    #[arg(long)]
    all: bool,
}

/// A load, and what an operation of it is.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Small answers on 64 connections that stay open.
    KeepAlive,
    /// A connection for each small answer, 64 at a time.
    Connection,
    /// Answers of 1 MiB on 16 connections that stay open.
    Bulk,
}

impl Workload {
    fn all() -> Vec<Self> {
        vec![Self::KeepAlive, Self::Connection, Self::Bulk]
    }

    /// Connections at once.
    const fn connections(self) -> u32 {
        match self {
            Self::KeepAlive | Self::Connection => 64,
            Self::Bulk => 16,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::KeepAlive | Self::Connection => origin::SMALL_PATH,
            Self::Bulk => origin::BULK_PATH,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive: 71-byte answers on 64 connections that stay open",
            Self::Connection => "connection: a new connection for each 71-byte answer, 64 at a time",
            Self::Bulk => "bulk: 1 MiB answers on 16 connections that stay open",
        }
    }

    /// The name on the command line, also of the inner process.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
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
