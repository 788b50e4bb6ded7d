//! The virtual addresses as tables.

use std::io;

use cygnet_ha::events::Severity;
use cygnet_ha::vip::{AnomalyView, Mode, Role, VipView, shown};

use crate::cli::drain::deadline;
use crate::cli::output::{Cell, Colour, Screen, Table, or_dash};
use crate::config::protocol_word;
use crate::control::status::age;

/// The virtual addresses, one a line.
pub(in crate::cli) fn table(vips: &[VipView]) -> Table {
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
        "+GROUP",
        "+ON INTERFACE",
        "+>HOLDER PRIORITY",
        "+>HEARD ADVERTS",
        "+>SENT ADVERTS",
        "+>INTERVAL MS",
        "+>JITTER MS",
        "+>LONGEST MS",
        "+>MISSED",
        "+ANSWERS",
        "+DISCARDED",
        "+RULES",
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
        Cell::from(or_dash(vip.sync_group.as_ref())),
        Cell::from(if vip.address_present { "yes" } else { "no" }),
        Cell::from(or_dash(vip.holder_priority)),
        Cell::from(vip.adverts_heard),
        Cell::from(vip.adverts_sent),
        Cell::from(or_dash(vip.wire.interval_us.map(milliseconds))),
        Cell::from(or_dash(vip.wire.jitter_us.map(milliseconds))),
        Cell::from(or_dash(vip.wire.longest_us.map(milliseconds))),
        Cell::from(vip.wire.missed),
        Cell::from(answers(vip)),
        Cell::from(if discarded.is_empty() { "-".to_owned() } else { discarded.join(" ") }),
        Cell::from(if vip.moved.rules.is_empty() { "-".to_owned() } else { vip.moved.rules.join(", ") }),
        Cell::from(&vip.reason),
    ]
}

/// Microseconds as milliseconds, with their fractions where they matter.
fn milliseconds(us: u64) -> String {
    if us < 100_000 { format!("{}.{}", us / 1000, us % 1000 / 100) } else { (us / 1000).to_string() }
}

/// Who says that it has the address.
fn answers(vip: &VipView) -> String {
    let answer =
        |answer: &cygnet_ha::vip::AnswerView| format!("{} ({} ago)", answer.mac, age(answer.heard_ms));
    let answers: Vec<String> = vip.wire.answers.iter().map(answer).collect();
    if answers.is_empty() { "-".to_owned() } else { answers.join(" ") }
}

/// Below the addresses: which connections are not where the address is, a line each.
pub(super) fn moved(vips: &[VipView], screen: &mut Screen<'_>) -> io::Result<()> {
    let mut table = Table::new(&["MOVED", ">CONNECTIONS", "WHERE", ">SINCE"]);
    let mut rows = 0;
    for vip in vips {
        let left = vip.moved.left.iter().map(|left| {
            let place = format!("go on here, through {}{}", left.through, deadline(left));
            (left.left, place, left.since_ms)
        });
        let sent = vip.moved.sends_on.iter();
        let sent = sent.map(|on| (on.connections, format!("are sent on to {}", on.to), on.since_ms));
        for (count, place, since) in left.chain(sent) {
            table.row(vec![
                Cell::from(format!("vip {}", vip.name)),
                Cell::from(count),
                Cell::from(place),
                Cell::from(age(since)),
            ]);
            rows += 1;
        }
    }
    if rows == 0 {
        return Ok(());
    }
    writeln!(screen.out)?;
    screen.table(&table)
}

/// Below the addresses: what was wrong, a line each; nothing if nothing was.
pub(super) fn anomalies(vips: &[VipView], screen: &mut Screen<'_>) -> io::Result<()> {
    let mut table = Table::new(&["WRONG WITH", "WHAT", ">TIMES", ">LAST", "THE LAST OF THEM"]);
    let mut row = |subject: &str, anomaly: &AnomalyView| {
        let colour = match anomaly.severity {
            Severity::Alert => Colour::Bad,
            Severity::Warning | Severity::Info => Colour::Warning,
        };
        table.row(vec![
            Cell::from(subject),
            Cell::coloured(&anomaly.name, colour),
            Cell::from(anomaly.count),
            Cell::from(format!("{} ago", age(anomaly.last_ms))),
            Cell::from(&anomaly.what),
        ]);
    };
    let mut interfaces: Vec<&str> = Vec::new();
    let mut rows = 0;
    for vip in vips {
        let subject = format!("vip {}", vip.name);
        vip.wire.anomalies.iter().for_each(|anomaly| row(&subject, anomaly));
        rows += vip.wire.anomalies.len();
        // All addresses of an interface tell the same of it.
        if !interfaces.contains(&vip.interface.as_str()) {
            interfaces.push(&vip.interface);
            let subject = format!("interface {}", vip.interface);
            vip.wire.segment.iter().for_each(|anomaly| row(&subject, anomaly));
            rows += vip.wire.segment.len();
        }
    }
    if rows == 0 {
        return Ok(());
    }
    writeln!(screen.out)?;
    screen.table(&table)
}
