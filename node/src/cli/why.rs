//! `cygnet why`.

use std::io;

use clap::Args;
use cygnet_ha::vip::shown;

use super::Session;
use super::client::with_query;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Screen, Table, or_dash};
use crate::control::status::age;
use crate::control::types::Why;
use crate::control::why::Story;

/// `cygnet why`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet why www\n\n\
                        Each node tells the others its newest events about the addresses, so that a node's part is \
                        known when it is gone. Times are ages: no clock is compared with another.")]
pub struct WhyArgs {
    /// The virtual address, by its name; without it, all
    #[arg(value_name = "VIP")]
    vip: Option<String>,
}

pub(super) fn run(args: &WhyArgs, session: &mut Session<'_>) -> Outcome {
    let answer: Why = session.client.get(&with_query("/v1/why", &[("vip", args.vip.clone())]))?;
    if session.screen.is_json() {
        session.screen.json(&answer)?;
        return Ok(Exit::Ok);
    }
    for (at, story) in answer.stories.iter().enumerate() {
        if at > 0 {
            writeln!(session.screen.out)?;
        }
        tell(story, &mut session.screen)?;
    }
    if answer.stories.is_empty() {
        session.screen.line("no virtual address is configured")?;
    }
    Ok(Exit::Ok)
}

fn tell(story: &Story, screen: &mut Screen<'_>) -> io::Result<()> {
    let Story { vip, address, addresses, holder, last_move, course, silent } = story;
    // An older node names only the first.
    let address = if addresses.is_empty() { address.to_string() } else { shown(addresses) };
    let holder = or_dash(*holder);
    let Some(last) = last_move else {
        screen.line(&format!("vip {vip} ({address}), held by {holder}: no move is remembered"))?;
        return silent.iter().try_for_each(|line| screen.line(&format!("  {line}")));
    };
    let from = last.from.as_ref().map_or_else(String::new, |from| format!(" from {from}"));
    screen.line(&format!(
        "vip {vip} ({address}), held by {holder}: moved to {}{from} {} ago",
        last.to,
        age(last.age_ms)
    ))?;
    screen.line(&format!("  why: {}", last.why))?;
    if let Some(gap) = last.gap_ms {
        screen.line(&format!("  held by nobody meanwhile: about {}", age(gap)))?;
    }
    screen.line(&format!("  cost: {}", last.cost.as_deref().unwrap_or("not known")))?;
    for line in silent {
        screen.line(&format!("  {line}"))?;
    }
    let mut table = Table::new(&[">AGO", "NODE", "WHAT"]);
    for told in course {
        let why = if told.why.is_empty() { String::new() } else { format!(" ({})", told.why) };
        table.row(vec![
            Cell::from(age(told.age_ms)),
            Cell::from(&told.node),
            Cell::from(format!("{}{why}", told.what)),
        ]);
    }
    writeln!(screen.out)?;
    screen.table(&table)
}
