//! The program `cygnet`.

use std::process::ExitCode;

use cygnet::cli::{self, Hooks};

fn main() -> ExitCode {
    cli::main(&Hooks {
        run: |args| cygnet::run::run(&args.config),
        guard: || Ok(cygnet_netlink::guard::run()?),
    })
}
