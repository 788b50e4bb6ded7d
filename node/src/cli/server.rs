//! `cygnet server`.

use clap::{Args, Subcommand};

use super::Session;
use super::client::with_query;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Colour, Table, or_dash};
use crate::control::known_server;
use crate::control::status::age;
use crate::control::types::{Admin, CheckState, CheckView, ServerView, Servers, SetServer};

/// `cygnet server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The servers with their state and connections on this node
    #[command(after_help = "Example: cygnet server list --service web")]
    List {
        /// Only those of this service
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
    },
    /// Send no new clients to a server, on all nodes; running connections go on
    #[command(after_help = "Example: cygnet server drain web s1")]
    Drain(SetArgs),
    /// Send clients to a server again, on all nodes
    #[command(after_help = "Example: cygnet server ready web s1")]
    Ready(SetArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The service
    service: String,
    /// The server
    server: String,
    /// Do not ask, even if the service loses its last server
    #[arg(long)]
    yes: bool,
    /// Only say what would change; exits with 3 if anything
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &ServerArgs, session: &mut Session<'_>) -> Outcome {
    match &args.verb {
        Verb::List { service } => list(service.as_deref(), session),
        Verb::Drain(args) => set(args, Admin::Drain, session),
        Verb::Ready(args) => set(args, Admin::Ready, session),
    }
}

fn list(service: Option<&str>, session: &mut Session<'_>) -> Outcome {
    let path = with_query("/v1/servers", &[("service", service.map(str::to_owned))]);
    let answer: Servers = session.client.get(&path)?;
    if session.screen.is_json() {
        session.screen.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        "SERVICE",
        "SERVER",
        "ADDRESS",
        "STATE",
        ">WEIGHT",
        ">CONNECTIONS",
        ">MAX",
        ">TOTAL",
        ">FAILED",
        "+SOURCE",
        "+>CHECKED",
        "+>CHECKS FAILED",
        "+>FLIPS",
        "+>LAST CHECK",
    ]);
    for server in &answer.servers {
        table.row(vec![
            Cell::from(&server.service),
            Cell::from(&server.name),
            Cell::from(server.address.as_str()),
            state(server),
            Cell::from(server.weight),
            Cell::from(server.connections),
            Cell::from(if server.max == 0 { "-".to_owned() } else { server.max.to_string() }),
            Cell::from(server.total),
            Cell::from(server.failed),
            Cell::from(or_dash(server.source)),
            Cell::from(or_dash(server.check.as_ref().map(|check| check.passed + check.failed))),
            Cell::from(or_dash(server.check.as_ref().map(|check| check.failed))),
            Cell::from(or_dash(server.check.as_ref().map(|check| check.flips))),
            Cell::from(or_dash(server.check.as_ref().and_then(CheckView::took))),
        ]);
    }
    session.screen.table(&table)?;
    Ok(Exit::Ok)
}

fn state(server: &ServerView) -> Cell {
    if let (Admin::Ready, None, Some(check)) = (server.admin, &server.source_problem, &server.check) {
        match (check.is_down(), server.blacklisted_ms) {
            (true, _) => return Cell::coloured(check.told(), Colour::Bad),
            (false, None) if check.is_down_elsewhere() || check.failed_row > 0 => {
                return Cell::coloured(format!("ready ({})", check.told()), Colour::Warning);
            }
            (false, None) if check.state == CheckState::Unknown => {
                return Cell::from("ready (not checked yet)");
            }
            _ => {}
        }
    }
    match (server.admin, server.blacklisted_ms, &server.source_problem) {
        (Admin::Drain, ..) => Cell::coloured("drain", Colour::Warning),
        (_, _, Some(problem)) => Cell::coloured(format!("no source: {problem}"), Colour::Bad),
        (_, Some(left), _) => Cell::coloured(format!("failed (again in {})", age(left)), Colour::Bad),
        (Admin::Ready, None, None) => Cell::from("ready"),
    }
}

fn set(args: &SetArgs, admin: Admin, session: &mut Session<'_>) -> Outcome {
    let Servers { servers } = session.client.get("/v1/servers")?;
    let server = known_server(&servers, &args.service, &args.server)?;
    let word = if admin == Admin::Drain { "drain" } else { "ready" };
    let change = SetServer {
        service: args.service.clone(),
        server: args.server.clone(),
        admin,
        author: session.author.to_owned(),
    };
    let name = format!("server {} of service {}", args.server, args.service);
    if server.admin == admin || args.dry_run {
        let changes = server.admin != admin;
        let what = if changes {
            format!("{name} would be set to {word} (dry run)")
        } else {
            format!("{name} is {word} already")
        };
        if session.screen.is_json() {
            session.screen.json(&change)?;
        } else {
            session.screen.line(&what)?;
        }
        return Ok(if changes { Exit::Differs } else { Exit::Ok });
    }
    let others = servers.iter().filter(|other| other.service == args.service && other.name != args.server);
    if admin == Admin::Drain && !others.clone().any(ServerView::is_usable) {
        let question = format!("{name} is its last usable one: new clients will be turned away. Drain it?");
        session.confirm(args.yes, &question)?;
    }
    let done: SetServer = session.client.post("/v1/servers", &change)?;
    if session.screen.is_json() {
        session.screen.json(&done)?;
    } else {
        session.screen.line(&format!("{name} is set to {word}"))?;
    }
    Ok(Exit::Ok)
}
