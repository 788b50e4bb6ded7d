//! `cygnet vip`.

use clap::{Args, Subcommand};
use cygnet_ha::vip::{Mode, Role, VipView, shown};

use super::exit::{Exit, Outcome};
use super::output::{Cell, Colour, Table, or_dash};
use super::replay::ReplayArgs;
use super::{Session, replay};
use crate::config::protocol_word;
use crate::control::status::age;
use crate::control::types::Vips;

/// `cygnet vip`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet vip -o wide")]
pub struct VipArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Their roles here and their holders (the default)
    List,
    /// What the watcher makes of a recorded capture; needs no node
    Replay(ReplayArgs),
}

pub(super) fn run(args: &VipArgs, session: &mut Session<'_>) -> Outcome {
    if let Some(Verb::Replay(args)) = &args.verb {
        return replay::run(args, session);
    }
    let answer: Vips = session.client.get("/v1/vips")?;
    if session.screen.is_json() {
        session.screen.json(&answer)?;
    } else {
        session.screen.table(&table(&answer.vips))?;
    }
    Ok(Exit::Ok)
}

/// The virtual addresses, one a line.
pub(super) fn table(vips: &[VipView]) -> Table {
    let mut table = Table::new(&[
        "VIP",
        "ADDRESS",
        "INTERFACE",
        "PROTOCOL",
        ">ID",
        "MODE",
        "ROLE",
        "SINCE",
        ">PRIORITY",
        "HOLDER",
        "HEARD",
        "RIVALS",
        "+ON INTERFACE",
        "+>HOLDER PRIORITY",
        "+>HEARD ADVERTS",
        "+>SENT ADVERTS",
        "+DISCARDED",
        "+REASON",
    ]);
    for vip in vips {
        table.row(row(vip));
    }
    table
}

fn row(vip: &VipView) -> Vec<Cell> {
    let role = match vip.role {
        Role::Active => Cell::coloured("active", Colour::Good),
        Role::Standby => Cell::from("standby"),
        Role::Down => Cell::coloured("down", Colour::Bad),
    };
    let rivals: Vec<String> = vip.rivals.iter().map(ToString::to_string).collect();
    let rivals =
        if rivals.is_empty() { Cell::from("-") } else { Cell::coloured(rivals.join(" "), Colour::Bad) };
    let discarded: Vec<String> =
        vip.discarded.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
    vec![
        Cell::from(&vip.name),
        Cell::from(shown(&vip.addresses)),
        Cell::from(&vip.interface),
        Cell::from(protocol_word(vip.protocol)),
        Cell::from(vip.id),
        Cell::from(if vip.mode == Mode::Hold { "hold" } else { "watch" }),
        role,
        Cell::from(age(vip.role_age_ms)),
        Cell::from(vip.priority),
        Cell::from(or_dash(vip.holder)),
        Cell::from(or_dash(vip.holder_heard_ms.map(age))),
        rivals,
        Cell::from(if vip.address_present { "yes" } else { "no" }),
        Cell::from(or_dash(vip.holder_priority)),
        Cell::from(vip.adverts_heard),
        Cell::from(vip.adverts_sent),
        Cell::from(if discarded.is_empty() { "-".to_owned() } else { discarded.join(" ") }),
        Cell::from(&vip.reason),
    ]
}
