//! `cygnet man`: the manual pages, from the same text as `--help`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::exit::{Exit, Outcome};
use super::{Cli, Session};
use crate::control::types::{ApiError, ErrorCode};

/// `cygnet man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// An existing directory
    directory: PathBuf,
}

pub(super) fn run(args: &ManArgs, session: &mut Session<'_>) -> Outcome {
    clap_mangen::generate_to(Cli::command(), &args.directory).map_err(|error| {
        let what = format!("cannot write the manual pages to {}: {error}", args.directory.display());
        ApiError::new(ErrorCode::Error, what, "the directory must exist")
    })?;
    if !session.screen.is_json() {
        session.screen.line(&format!("manual pages written to {}", args.directory.display()))?;
    }
    Ok(Exit::Ok)
}
