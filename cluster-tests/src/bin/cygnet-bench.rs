//! The command `cygnet-bench`: the benchmarks without the rest of the lab.

use std::process::ExitCode;

use clap::Parser;

/// Cygnet beside HAProxy, nginx and Pen: CPU per request, per connection, per byte; system calls.
#[derive(Parser)]
#[command(name = "cygnet-bench", version)]
struct Cli {
    #[command(flatten)]
    bench: cygnet_lab::bench::BenchArgs,
}

fn main() -> ExitCode {
    match Cli::parse().bench.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cygnet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
