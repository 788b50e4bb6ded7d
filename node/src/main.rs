//! The program `cygnet`; called `pen` or `penctl`, it is these.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use cygnet::cli::{self, Hooks};
use cygnet::pen;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default();
    if let Some(end) = front_end(name, &called, arguments) {
        return end;
    }
    // `cygnet pen -h` is a command line of Pen's, which clap must not take for its own.
    let mut arguments = std::env::args_os().skip(1);
    let noun = arguments.next().unwrap_or_default();
    if let Some(end) = front_end(&noun, &noun, arguments) {
        return end;
    }
    cli::main(&Hooks { run: cygnet::run::run, guard: || Ok(cygnet_netlink::guard::run()?) })
}

/// Pen's programs. `called`: the name in their complaints.
fn front_end(name: &OsStr, called: &OsStr, arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match name.to_str()? {
        "pen" => Some(pen::run::main(&called.to_string_lossy(), arguments)),
        "penctl" => Some(pen::penctl::main(arguments)),
        _ => None,
    }
}
