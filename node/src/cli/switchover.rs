//! `cygnet switchover`.

use clap::Args;
use cygnet_ha::vip::driver::Moved;

use super::Session;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Table};
use crate::control::status::age;
use crate::control::types::{SwitchOver, SwitchedOver};

/// `cygnet switchover`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet switchover --to lb2\n\n\
                        The other node takes each address and announces it before this one lets go: no new connection \
                        fails. Connections that run here go on through this node until they end, where both kernels \
                        have nf_tables; --dry-run says so, and how many there are; `cygnet drain status` says who is left. With preemption the \
                        preferred node takes the address back: drain it (`cygnet node drain`) to keep it away.\n\n\
                        Ask the node that holds the addresses.")]
pub struct SwitchoverArgs {
    /// The node that is to hold them; without it, the best one that stands by
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Only these virtual addresses; may be repeated. Without it, all that this node holds
    #[arg(long, value_name = "NAME")]
    vip: Vec<String>,
    /// Even if the other node is worse than this one: not ready, or with fewer servers in reach
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would happen; exits with 3 if anything
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &SwitchoverArgs, session: &mut Session<'_>) -> Outcome {
    let wish = SwitchOver {
        to: args.to.clone(),
        vips: args.vip.clone(),
        force: args.force,
        dry_run: true,
        author: session.author.to_owned(),
    };
    let first: SwitchedOver = session.client.post("/v1/switchover", &wish)?;
    if args.dry_run {
        tell(&first, true, session)?;
        return Ok(if first.moved.is_empty() { Exit::Refused } else { Exit::Differs });
    }
    if !first.moved.is_empty() {
        let moves: Vec<String> = first.moved.iter().map(|one| format!("{} to {}", one.vip, one.to)).collect();
        let question = format!(
            "{} moves {} ({} connections run here). Go on?",
            first.node,
            moves.join(", "),
            first.connections
        );
        session.confirm(args.yes, &question)?;
    }
    let done: SwitchedOver = session.client.post("/v1/switchover", &SwitchOver { dry_run: false, ..wish })?;
    tell(&done, false, session)?;
    Ok(if done.refused.is_empty() { Exit::Ok } else { Exit::Refused })
}

/// What a move would do to the connections of the address.
fn outlook(one: &Moved, node: &str) -> String {
    match (&one.breaks, &one.uncounted) {
        (None, Some(why)) => format!(
            "stays, unless the kernel lists its connections by then: how many there are is not known: {why}"
        ),
        (Some(breaks), Some(why)) => format!(
            "would move: its connections, which cannot be counted ({why}), will break when their clients send next: {breaks}"
        ),
        (None, None) => format!(
            "would move: {} connections will go on through {node} until they end; 0 will break",
            one.connections
        ),
        (Some(why), None) => format!(
            "would move: {} connections will break when their clients send next: {why}",
            one.connections
        ),
    }
}

/// What it has done to them.
fn outcome(one: &Moved, node: &str) -> String {
    match (&one.breaks, &one.uncounted) {
        (Some(breaks), Some(why)) => format!(
            "moved: its connections, which could not be counted ({why}), break when their clients send next: {breaks}"
        ),
        (None, _) => format!(
            "moved: {} connections go on through {node} until they end; 0 were broken",
            one.connections
        ),
        (Some(why), None) => {
            format!("moved: {} connections break when their clients send next: {why}", one.connections)
        }
    }
}

fn tell(answer: &SwitchedOver, dry: bool, session: &mut Session<'_>) -> Result<(), super::exit::Stop> {
    if session.screen.is_json() {
        session.screen.json(answer)?;
        return Ok(());
    }
    let mut table = Table::new(&["VIP", "FROM", "TO", ">TOOK", "WHAT"]);
    for one in &answer.moved {
        table.row(vec![
            Cell::from(&one.vip),
            Cell::from(&answer.node),
            Cell::from(&one.to),
            Cell::from(if dry { "-".to_owned() } else { age(one.took_ms) }),
            Cell::from(match dry {
                true => outlook(one, &answer.node),
                false => outcome(one, &answer.node),
            }),
        ]);
    }
    for kept in &answer.refused {
        table.row(vec![
            Cell::from(&kept.vip),
            Cell::from(&answer.node),
            Cell::from("-"),
            Cell::from("-"),
            Cell::from(format!("stays: {}", kept.why)),
        ]);
    }
    session.screen.table(&table)?;
    Ok(())
}
