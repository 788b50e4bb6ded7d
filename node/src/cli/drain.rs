//! `cygnet drain`.

use clap::{Args, Subcommand};
use cygnet_ha::vip::LeftView;
use cygnet_ha::vip::transfer::AtDeadline;

use super::Session;
use super::client::with_query;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Table, or_dash};
use crate::control::status::age;
use crate::control::types::{DRAIN_LISTED_MAX, Drain, Drains};

/// How many connections a table names unless more are asked for: a screen. JSON has all.
const DEFAULT_LISTED: usize = 20;

/// `cygnet drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Who is left on the node that is asked, after `switchover` or `node drain`: since when, from where, to which server
    #[command(after_help = "Example: cygnet drain status --limit 100\n\n\
                            Exits with 3 while connections are left, with 0 when the node can be stopped without breaking \
                            one. With -o json, all of them are listed, up to 50000. `drain_deadline` of a [[vip]] bounds the time.")]
    Status {
        /// How many connections are named one by one [default: 20; with -o json, 50000]
        #[arg(long, value_name = "N", value_parser = limit)]
        limit: Option<usize>,
    },
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|n| *n <= DRAIN_LISTED_MAX);
    limit.ok_or_else(|| format!("write 0 to {DRAIN_LISTED_MAX}"))
}

pub(super) fn run(args: &DrainArgs, session: &mut Session<'_>) -> Outcome {
    let Verb::Status { limit } = &args.verb;
    let all = if session.screen.is_json() { DRAIN_LISTED_MAX } else { DEFAULT_LISTED };
    let query = [("limit", Some(limit.unwrap_or(all).to_string()))];
    let answer: Drains = session.client.get(&with_query("/v1/drain", &query))?;
    let exit = if answer.drains.iter().all(|drain| drain.left.left == 0) { Exit::Ok } else { Exit::Differs };
    if session.screen.is_json() {
        session.screen.json(&answer)?;
        return Ok(exit);
    }
    if answer.drains.is_empty() {
        let line = format!("no connection goes on through {} after a move", answer.node);
        session.screen.line(&line)?;
        return Ok(exit);
    }
    for drain in &answer.drains {
        let Drain { vip, left, .. } = drain;
        let line = format!(
            "vip {vip}: {} of {} connections go on here, through {}, {} after the move{}",
            left.left,
            left.of,
            left.through,
            age(left.since_ms),
            deadline(left)
        );
        session.screen.line(&line)?;
    }
    if answer.drains.iter().all(|drain| drain.connections.is_empty()) {
        return Ok(exit);
    }
    writeln!(session.screen.out)?;
    session.screen.table(&connections(&answer.drains))?;
    let (listed, left) = answer
        .drains
        .iter()
        .fold((0, 0), |(listed, left), drain| (listed + drain.connections.len(), left + drain.left.left));
    if listed < left {
        session.screen.line(&format!("{listed} of {left}; more: --limit {left}"))?;
    }
    Ok(exit)
}

/// When it is, and what happens then; what follows the rest of a line.
pub(super) fn deadline(left: &LeftView) -> String {
    match (left.deadline_ms, left.at_deadline) {
        (None, _) => String::new(),
        (Some(0), AtDeadline::Close) => format!("; the deadline is over, {} were closed", left.closed),
        (Some(0), AtDeadline::Keep) => "; the deadline is over, they are kept".to_owned(),
        (Some(ms), AtDeadline::Close) => format!("; closed in {}", age(ms)),
        (Some(ms), AtDeadline::Keep) => format!("; the deadline is in {}, and keeps them", age(ms)),
    }
}

fn connections(drains: &[Drain]) -> Table {
    let mut table = Table::new(&["VIP", "CLIENT", "TO", "SERVICE", "SERVER", ">IDLE"]);
    for drain in drains {
        for one in &drain.connections {
            table.row(vec![
                Cell::from(&drain.vip),
                Cell::from(one.client),
                Cell::from(one.to),
                Cell::from(or_dash(one.service.as_ref())),
                Cell::from(or_dash(one.server.as_ref())),
                Cell::from(or_dash(one.idle_ms.map(age))),
            ]);
        }
    }
    table
}
