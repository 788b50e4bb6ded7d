//! `cygnet switchover`.

use clap::Args;

use super::Session;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Table};
use crate::control::status::age;
use crate::control::types::{SwitchOver, SwitchedOver};

/// `cygnet switchover`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet switchover --to lb2\n\n\
                        The other node takes each address and announces it before this one lets go: no new connection \
                        fails. Connections that run here end when their clients send next. With preemption the \
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
                true => "would move (dry run)".to_owned(),
                false => "moved; announced there before it was let go here".to_owned(),
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
