//! `cygnet node`.

use clap::{Args, Subcommand};

use super::Session;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Colour, Table, or_dash};
use crate::control::status::{MemberFacts, Status, age};
use crate::control::types::{Admin, NodeSet, SetNode};

/// `cygnet node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The nodes, as this one knows them
    #[command(after_help = "Example: cygnet node list")]
    List,
    /// Take the node that is asked out of service: it gives up its addresses and does not contend
    #[command(after_help = "Example: cygnet node drain --comment 'new disk'\n\n\
                            The wish is kept in a file of the node's own, across restarts and without a quorum, until \
                            `cygnet node ready`. Running connections go on while the node runs.")]
    Drain(DrainArgs),
    /// Let the node that is asked contend for its addresses again
    #[command(after_help = "Example: cygnet node ready")]
    Ready {
        /// Only say what would change; exits with 3 if anything
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
struct DrainArgs {
    /// Why, for the others
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Even if no other node is ready to hold an address
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would change; exits with 3 if anything
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &NodeArgs, session: &mut Session<'_>) -> Outcome {
    match &args.verb {
        Verb::List => list(session),
        Verb::Drain(args) => drain(args, session),
        Verb::Ready { dry_run } => {
            let wish = wish(Admin::Ready, session);
            set(&SetNode { dry_run: *dry_run, ..wish }, session)
        }
    }
}

fn wish(admin: Admin, session: &Session<'_>) -> SetNode {
    SetNode { admin, author: session.author.to_owned(), comment: String::new(), force: false, dry_run: false }
}

fn list(session: &mut Session<'_>) -> Outcome {
    let status: Status = session.client.get("/v1/status")?;
    let members = &status.facts.members;
    if session.screen.is_json() {
        session.screen.json(&serde_json::json!({ "nodes": members }))?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["NODE", "ADDRESS", "STATE", ">CONFIG", ">CONNECTIONS", "HEARD"]);
    for member in members {
        let report = member.report.as_ref();
        table.row(vec![
            Cell::from(&member.name),
            Cell::from(member.address),
            state(member, &status),
            Cell::from(or_dash(report.map(|report| format!("v{}", report.config_version)))),
            Cell::from(or_dash(report.map(|report| report.connections))),
            Cell::from(match member.heard_age_ms {
                _ if member.here => "here".to_owned(),
                Some(ms) => format!("{} ago", age(ms)),
                None => "never".to_owned(),
            }),
        ]);
    }
    session.screen.table(&table)?;
    Ok(Exit::Ok)
}

fn state(member: &MemberFacts, status: &Status) -> Cell {
    let facts = &status.facts;
    let told = member.report.as_ref().map(|report| (report.ready, report.ready_reason.as_str()));
    let told = if member.here { Some((facts.ready, facts.ready_reason.as_str())) } else { told };
    match told {
        _ if !member.connected => Cell::coloured("not connected", Colour::Bad),
        _ if member.witness => Cell::from("witness"),
        Some((true, _)) => Cell::from("ready"),
        Some((false, reason)) => Cell::coloured(reason, Colour::Warning),
        None => Cell::coloured("has not said", Colour::Warning),
    }
}

fn drain(args: &DrainArgs, session: &mut Session<'_>) -> Outcome {
    let wish = SetNode { comment: args.comment.clone(), force: args.force, ..wish(Admin::Drain, session) };
    let dry = SetNode { dry_run: true, ..wish.clone() };
    if args.dry_run {
        return set(&dry, session);
    }
    let first: NodeSet = session.client.post("/v1/node", &dry)?;
    if first.changed && !first.gives_up.is_empty() {
        let alone = match first.without_standby.as_slice() {
            [] => String::new(),
            names => format!(" (nobody takes {}: clients will be turned away)", names.join(", ")),
        };
        let question = format!("{} gives up {}{alone}. Drain it?", first.node, first.gives_up.join(", "));
        session.confirm(args.yes, &question)?;
    }
    set(&wish, session)
}

/// Says it, and what comes of it.
fn set(wish: &SetNode, session: &mut Session<'_>) -> Outcome {
    let set: NodeSet = session.client.post("/v1/node", wish)?;
    let exit = if wish.dry_run && set.changed { Exit::Differs } else { Exit::Ok };
    if session.screen.is_json() {
        session.screen.json(&set)?;
        return Ok(exit);
    }
    let word = if set.admin == Admin::Drain { "drained" } else { "ready" };
    let node = &set.node;
    session.screen.line(&match (set.changed, wish.dry_run) {
        (false, _) => format!("{node} is {word} already"),
        (true, true) => format!("{node} would be {word} (dry run)"),
        (true, false) => format!("{node} is {word}"),
    })?;
    if !set.gives_up.is_empty() {
        let tense = if wish.dry_run { "would give" } else { "gives" };
        session.screen.line(&format!("it {tense} up: {}", set.gives_up.join(", ")))?;
    }
    if !set.watched.is_empty() {
        let names = set.watched.join(", ");
        session.screen.line(&format!("another daemon here holds {names}: move it with that daemon"))?;
    }
    Ok(exit)
}
