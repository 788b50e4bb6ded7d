//! `cygnet status`.

use clap::Args;
use cygnet_ha::consensus::TicketStatus;
use cygnet_ha::vip::Role;

use super::Session;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Colour, Table, moment, or_dash};
use super::vip;
use crate::control::status::{CertificateFacts, MemberFacts, Reason, Status, Verdict, age};
use crate::control::types::ProcessBefore;

/// `cygnet status`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet status --check || page-somebody")]
pub struct StatusArgs {
    /// Exit with 4 unless the verdict is OK
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: &StatusArgs, session: &mut Session<'_>) -> Outcome {
    let status: Status = session.client.get("/v1/status")?;
    if session.screen.is_json() {
        session.screen.json(&status)?;
    } else {
        print(&status, session)?;
    }
    Ok(if args.check && status.verdict != Verdict::Ok { Exit::Degraded } else { Exit::Ok })
}

fn colour(verdict: Verdict) -> Colour {
    match verdict {
        Verdict::Ok => Colour::Good,
        Verdict::Degraded => Colour::Warning,
        Verdict::Down => Colour::Bad,
    }
}

fn print(status: &Status, session: &mut Session<'_>) -> std::io::Result<()> {
    let screen = &mut session.screen;
    let verdict = screen.paint(&status.verdict.to_string(), Some(colour(status.verdict)));
    writeln!(screen.out, "{verdict}  {}", super::output::printable(&status.summary))?;
    for Reason { verdict, what, remedy } in &status.reasons {
        let painted = screen.paint(&format!("{verdict:8}"), Some(colour(*verdict)));
        let remedy = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
        writeln!(screen.out, "  {painted}  {}", super::output::printable(&format!("{what}{remedy}")))?;
    }
    screen.line("")?;
    screen.table(&members(status))?;
    if !status.facts.vips.is_empty() {
        screen.line("")?;
        screen.table(&vip::table(&status.facts.vips))?;
    }
    if !status.facts.services.is_empty() {
        screen.line("")?;
        screen.table(&services(status))?;
    }
    let soft = &status.facts.soft;
    screen.line("")?;
    for ProcessBefore { pid, version, connections, since_ms } in &status.facts.before {
        screen.line(&format!(
            "{connections} connections go on in the process before, {version} (pid {pid}), which handed over {} ago",
            age(*since_ms)
        ))?;
    }
    if let Some(tickets) = status.facts.tickets.as_ref().filter(|tickets| tickets.wanted) {
        screen.line(&sealed(tickets))?;
    }
    screen.line(&format!(
        "clients {}/{}  to be shared {}/{}  up {}  version {}",
        soft.clients,
        soft.clients_max,
        soft.queued,
        soft.queued_max,
        age(status.facts.uptime_ms),
        status.facts.program
    ))
}

/// `session tickets: key 7 of the cluster for 1h12m, next key 8, opens 6`, or why they are the node's own.
fn sealed(tickets: &TicketStatus) -> String {
    let TicketStatus { current, next, previous, own, .. } = tickets;
    let Some(key) = current.filter(|_| own.is_none()) else {
        let why = own.map(|own| format!(": {own}")).unwrap_or_default();
        return format!("session tickets: a key of this node alone{why}");
    };
    let next = next.map(|next| format!(", next key {}", next.number)).unwrap_or_default();
    let opens = previous.map(|number| format!(", key {number} still opens")).unwrap_or_default();
    format!("session tickets: key {} of the cluster for {}{next}{opens}", key.number, age(key.age_ms))
}

fn members(status: &Status) -> Table {
    let mut table =
        Table::new(&["NODE", "ROLE", "READY", "CONFIG", "CONNECTED", "HEARD", "+>ID", "+ADDRESS", "+REASON"]);
    for member in &status.facts.members {
        let (ready, config, reason) = own_word(status, member);
        let connected = if member.connected { Cell::from("yes") } else { Cell::coloured("no", Colour::Bad) };
        let heard = if member.here { "here".to_owned() } else { or_dash(member.heard_age_ms.map(age)) };
        table.row(vec![
            Cell::from(&member.name),
            Cell::from(role(status, member)),
            ready,
            Cell::from(config),
            connected,
            Cell::from(heard),
            Cell::from(member.id),
            Cell::from(member.address),
            Cell::from(reason),
        ]);
    }
    table
}

/// Whether a member is ready, what it runs, and why: this node's own facts, or the other's last word.
fn own_word(status: &Status, member: &MemberFacts) -> (Cell, String, String) {
    let facts = &status.facts;
    let (ready, version, reason) = match &member.report {
        _ if member.here => (facts.ready, facts.config.running, facts.ready_reason.clone()),
        Some(report) => (report.ready, report.config_version, report.ready_reason.clone()),
        None => return (Cell::from("-"), "-".to_owned(), String::new()),
    };
    let ready = match (member.witness, ready) {
        (true, _) => Cell::from("-"),
        (false, true) => Cell::from("yes"),
        (false, false) => Cell::coloured("no", Colour::Warning),
    };
    (ready, format!("v{version}"), reason)
}

/// `witness`, `active`, `standby`, `active 2 of 3`; with a mark when it is an old word.
fn role(status: &Status, member: &MemberFacts) -> String {
    if member.witness {
        return "witness".to_owned();
    }
    let roles: Vec<Role> = match &member.report {
        _ if member.here => status.facts.vips.iter().map(|vip| vip.role).collect(),
        Some(report) => report.roles.values().copied().collect(),
        None => return "unknown".to_owned(),
    };
    let active = roles.iter().filter(|role| **role == Role::Active).count();
    let word = match active {
        _ if roles.is_empty() => "-".to_owned(),
        0 if roles.iter().all(|role| *role == Role::Down) => "down".to_owned(),
        0 => "standby".to_owned(),
        all if all == roles.len() => "active".to_owned(),
        some => format!("active {some} of {}", roles.len()),
    };
    if member.connected { word } else { format!("was {word}") }
}

fn ends(certificate: &CertificateFacts) -> String {
    moment(u64::try_from(certificate.not_after).unwrap_or(0).saturating_mul(1000))
}

fn services(status: &Status) -> Table {
    let mut table = Table::new(&[
        "SERVICE",
        "LISTEN",
        ">CONNECTIONS",
        ">TOTAL",
        ">FAILED",
        ">USABLE SERVERS",
        "+>DRAINED",
        "+FAILED SERVERS",
        "+CERTIFICATE ENDS",
    ]);
    for service in &status.facts.services {
        let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
        let usable = format!("{}/{}", service.servers_usable, service.servers);
        let usable = match service.servers_usable {
            0 => Cell::coloured(usable, Colour::Bad),
            _ if service.servers_failed.is_empty() => Cell::from(usable),
            _ => Cell::coloured(usable, Colour::Warning),
        };
        table.row(vec![
            Cell::from(&service.name),
            Cell::from(listen.join(" ")),
            Cell::from(service.connections),
            Cell::from(service.total),
            Cell::from(service.failed),
            usable,
            Cell::from(service.servers_drained),
            Cell::from(service.servers_failed.join(" ")),
            Cell::from(or_dash(service.certificates.first().map(ends))),
        ]);
    }
    table
}
