//! `cygnet vip`.

mod table;
mod watch;

use clap::{Args, Subcommand};

use super::exit::{Exit, Outcome};
use super::replay::ReplayArgs;
use super::{Session, replay};
use crate::control::types::Vips;
pub(super) use table::table;
use watch::WatchArgs;

/// `cygnet vip`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet vip -o wide\n\n\
                        Below the table stands what a planned move has left, and what was wrong on the wire since it is watched: how often, how long \
                        ago, and the last of its kind. Events are rarer.")]
pub struct VipArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Their roles here, their holders, and what is wrong on the wire (the default)
    #[command(alias = "list")]
    Status,
    /// Follow them: a line whenever a role, a holder or a rival changes, and for each event
    Watch(WatchArgs),
    /// What the watcher makes of a recorded capture; needs no node
    Replay(ReplayArgs),
}

pub(super) fn run(args: &VipArgs, session: &mut Session<'_>) -> Outcome {
    match &args.verb {
        Some(Verb::Replay(args)) => replay::run(args, session),
        Some(Verb::Watch(args)) => watch::run(args, session),
        Some(Verb::Status) | None => status(session),
    }
}

fn status(session: &mut Session<'_>) -> Outcome {
    let answer: Vips = session.client.get("/v1/vips")?;
    if session.screen.is_json() {
        session.screen.json(&answer)?;
        return Ok(Exit::Ok);
    }
    session.screen.table(&table(&answer.vips))?;
    table::moved(&answer.vips, &mut session.screen)?;
    table::anomalies(&answer.vips, &mut session.screen)?;
    Ok(Exit::Ok)
}
