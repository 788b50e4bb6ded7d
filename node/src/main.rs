//! The program `cygnet`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
