//! `cygnet upgrade`.

use std::path::{PathBuf, absolute};
use std::time::Duration;

use clap::Args;

use super::Session;
use super::exit::{Exit, Outcome};
use crate::control::status::age;
use crate::control::types::{ApiError, ErrorCode, Upgrade, Upgraded};

/// `cygnet upgrade`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet upgrade --dry-run && cygnet upgrade --deadline 1h\n\n\
    The new program takes the listening sockets, the log and the virtual addresses over from the one that runs; connections go on in \
    the old process until they end (`cygnet status` tells how many). Exits with 0 when the new program runs the node (with \
    --dry-run: when it could, and nothing was changed), with 6 when it does not come up, or would lose something now: then \
    nothing has changed.")]
pub struct UpgradeArgs {
    /// The new program, which only root or the node's user may be able to write [default: the file from which the one that runs was
    /// started]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// How long connections may go on in the old process, for instance 1h; then they are cut [default: until they end]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// Only see whether the new program could take over
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &UpgradeArgs, session: &mut Session<'_>) -> Outcome {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let wish = Upgrade {
        binary: args.binary.as_ref().map(absolute).transpose().map_err(wrong_path)?,
        deadline_ms: args.deadline.map(milliseconds),
        dry_run: args.dry_run,
        author: session.author.to_owned(),
    };
    let done: Upgraded = session.client.post("/v1/upgrade", &wish)?;
    if session.screen.is_json() {
        session.screen.json(&done)?;
    } else {
        session.screen.line(&told(&done, wish.deadline_ms))?;
    }
    Ok(Exit::Ok)
}

fn wrong_path(error: std::io::Error) -> ApiError {
    ApiError::new(ErrorCode::Usage, format!("the path of the program makes no sense: {error}"), "")
}

fn told(done: &Upgraded, deadline_ms: Option<u64>) -> String {
    let Upgraded { node, from, to, connections, sockets, .. } = done;
    if done.dry_run {
        return format!(
            "{node}: {} ({}) could take over from {from}: {connections} connections would go on there until they end; \
             0 would break; nothing was changed",
            to.version,
            done.binary.display()
        );
    }
    let held = match &*done.held {
        [] => String::new(),
        held => format!(", which holds {}", held.join(", ")),
    };
    let until =
        deadline_ms.map_or_else(|| "until they end".to_owned(), |ms| format!("for {} at most", age(ms)));
    format!(
        "{node}: {to} has taken over from {from} in {}{held}: {sockets} listening sockets, the log (away for {}); \
         {connections} connections go on in the old process {until}; 0 were broken",
        age(done.took_ms),
        age(done.log_away_ms)
    )
}
