//! `cygnet cluster`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use cygnet_ha::consensus::join::{JoinError, Newcomer, init, join};
use cygnet_ha::consensus::token::JoinToken;
use serde::Serialize;

use super::Session;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Colour, Table, or_dash};
use super::token::{TTL_DEFAULT, how_to_join};
use crate::config::model::NodeConfig;
use crate::config::parse_node;
use crate::control::types::{
    ApiError, ErrorCode, MemberAction, MemberChange, MemberChanged, MemberView, Members, RecoveryOutlook,
};

/// `cygnet cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Begin a cluster with this node, before its first start; prints how the second one joins
    #[command(after_help = "Example: cygnet cluster init")]
    Init {
        #[command(flatten)]
        file: NodeFile,
        /// How long the token for the second node lives
        #[arg(long, value_name = "DURATION", default_value = TTL_DEFAULT, value_parser = humantime::parse_duration)]
        ttl: Duration,
    },
    /// Join a cluster, before this node's first start
    #[command(after_help = "Example: cygnet cluster join 10.0.0.1:7300 --token cyg1-...")]
    Join {
        /// A member with traffic, by the address that its node file names
        address: SocketAddr,
        /// From `cygnet cluster init` or `cygnet token create`
        #[arg(long)]
        token: String,
        #[command(flatten)]
        file: NodeFile,
    },
    /// The members, with how far behind each is
    #[command(after_help = "Example: cygnet cluster members")]
    Members,
    /// Remove a node for good; to come back it must join anew
    #[command(after_help = "Example: cygnet cluster remove lb2")]
    Remove {
        /// The node
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Even if those that are left and can be reached are too few to decide anything
        #[arg(long)]
        force: bool,
    },
    /// Make a learner a voter now, if it has caught up
    #[command(after_help = "Example: cygnet cluster promote lb3")]
    Promote {
        /// The node
        name: String,
    },
    /// Let another node lead the log; the virtual addresses stay where they are
    #[command(after_help = "Example: cygnet cluster transfer lb2")]
    Transfer {
        /// The node
        name: String,
    },
    /// Seal TLS session tickets with a new key now, on all nodes; done twice, what is out there opens no more
    #[command(after_help = "Example: cygnet cluster rotate-tickets")]
    RotateTickets,
    /// Make this node the only voter, when the others are gone and no quorum will return
    #[command(after_help = "Example: cygnet cluster recover")]
    Recover {
        /// The name of the cluster, instead of typing it
        #[arg(long, value_name = "NAME")]
        yes_cluster: Option<String>,
    },
}

#[derive(Debug, Args)]
struct NodeFile {
    /// The node's file
    #[arg(long, value_name = "FILE", default_value = "/etc/cygnet/node.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &ClusterArgs, session: &mut Session<'_>) -> Outcome {
    match &args.verb {
        Verb::Init { file, ttl } => begin(&file.config, *ttl, session),
        Verb::Join { address, token, file } => enter(*address, token, &file.config, session),
        Verb::Members => members(session),
        Verb::Remove { name, yes, force } => remove(name, *yes, *force, session),
        Verb::Promote { name } => change(MemberAction::Promote, name, false, session),
        Verb::Transfer { name } => change(MemberAction::Transfer, name, false, session),
        Verb::RotateTickets => change(MemberAction::Rotate, "", false, session),
        Verb::Recover { yes_cluster } => recover(yes_cluster.as_deref(), session),
    }
}

/// This node by its file.
fn newcomer(file: &Path) -> Result<(NodeConfig, Newcomer), ApiError> {
    let text = super::config::read(file)?;
    let config = parse_node(&text.text, &text.file).map_err(ApiError::invalid)?;
    let own = config.members.iter().find(|member| member.name == config.name).filter(|_| !config.insecure);
    let Some(own) = own else {
        let error = format!("{} lists the members, with `insecure`: nobody joins such a cluster", text.file);
        let remedy = "write this node's own `address` in [cluster] instead";
        return Err(ApiError::new(ErrorCode::Refused, error, remedy));
    };
    let new = Newcomer {
        cluster: config.cluster.clone(),
        name: config.name.clone(),
        address: own.address,
        witness: own.witness,
    };
    Ok((config, new))
}

fn failed(error: JoinError) -> ApiError {
    let code = match &error {
        JoinError::Refused(_) | JoinError::Member { .. } | JoinError::Log(_) => ErrorCode::Refused,
        JoinError::Unreachable { .. } => ErrorCode::Unreachable,
        JoinError::Files(_) | JoinError::Internal(_) => ErrorCode::Error,
    };
    let text = error.to_string();
    let (what, remedy) = text.split_once("; ").unwrap_or((&text, ""));
    ApiError::new(code, what, remedy)
}

#[derive(Serialize)]
struct Begun {
    cluster: String,
    node: String,
    join: String,
    token: String,
}

fn begin(file: &Path, ttl: Duration, session: &mut Session<'_>) -> Outcome {
    let (config, new) = newcomer(file)?;
    if new.witness {
        let error = "a witness cannot be the first node of a cluster";
        return Err(ApiError::new(ErrorCode::Refused, error, "begin with a node that carries traffic").into());
    }
    let token = init(&config.state_dir, &new, ttl, session.author).map_err(failed)?.to_string();
    let begun =
        Begun { join: how_to_join(&new.address, &token), cluster: new.cluster, node: new.name, token };
    if session.screen.is_json() {
        session.screen.json(&begun)?;
    } else {
        session
            .screen
            .line(&format!("the cluster {} begins with {}; start it now", begun.cluster, begun.node))?;
        let ttl = humantime::format_duration(ttl);
        session.screen.line(&format!("then, on the second node, within {ttl}:"))?;
        session.screen.line(&format!("  {}", begun.join))?;
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Joined {
    cluster: String,
    node: String,
    id: u64,
}

fn enter(address: SocketAddr, token: &str, file: &Path, session: &mut Session<'_>) -> Outcome {
    let token = JoinToken::parse(token)
        .map_err(|error| ApiError::new(ErrorCode::Usage, error.to_string(), "cygnet token create"))?;
    let (config, new) = newcomer(file)?;
    let work = join(&config.state_dir, &new, address, &token);
    let identity = session.client.block_on(work).map_err(failed)?;
    let joined = Joined { cluster: identity.cluster, node: identity.name, id: identity.id };
    if session.screen.is_json() {
        session.screen.json(&joined)?;
    } else {
        let Joined { cluster, node, id } = &joined;
        session.screen.line(&format!("{node} is node {id} of the cluster {cluster}; start it now"))?;
    }
    Ok(Exit::Ok)
}

fn members(session: &mut Session<'_>) -> Outcome {
    let answer: Members = session.client.get("/v1/cluster/members")?;
    if session.screen.is_json() {
        session.screen.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["NODE", "STANDING", "CONNECTED", ">BEHIND", ">ID", "ADDRESS"]);
    for member in &answer.members {
        let connected = match (member.here, member.connected) {
            (true, _) => Cell::from("here"),
            (_, true) => Cell::from("yes"),
            (_, false) => Cell::coloured("no", Colour::Bad),
        };
        table.row(vec![
            Cell::from(&member.name),
            Cell::from(standing(member)),
            connected,
            Cell::from(or_dash(member.behind)),
            Cell::from(member.id),
            Cell::from(member.address),
        ]);
    }
    session.screen.table(&table)?;
    Ok(Exit::Ok)
}

fn standing(member: &MemberView) -> String {
    let vote = match (member.leader, member.voter) {
        (true, _) => "leader",
        (_, true) => "voter",
        (_, false) => "learner",
    };
    if member.witness { format!("{vote}, witness") } else { vote.to_owned() }
}

fn remove(name: &str, yes: bool, force: bool, session: &mut Session<'_>) -> Outcome {
    let known: Members = session.client.get("/v1/cluster/members")?;
    let left = known.members.iter().filter(|member| member.voter && member.name != name).count();
    let question = format!(
        "{name} leaves for good; {left} voters are left, and {} of them decide. Remove it?",
        left / 2 + 1
    );
    session.confirm(yes, &question)?;
    change(MemberAction::Remove, name, force, session)
}

fn change(action: MemberAction, name: &str, force: bool, session: &mut Session<'_>) -> Outcome {
    let change = MemberChange { action, name: name.to_owned(), force, author: session.author.to_owned() };
    let changed: MemberChanged = session.client.post("/v1/cluster/members", &change)?;
    if session.screen.is_json() {
        session.screen.json(&changed)?;
    } else {
        session.screen.line(&changed.done)?;
    }
    Ok(Exit::Ok)
}

fn recover(given: Option<&str>, session: &mut Session<'_>) -> Outcome {
    let outlook: RecoveryOutlook = session.client.get("/v1/cluster/recovery")?;
    if outlook.quorum {
        let remedy = "remove a lost node with `cygnet cluster remove`";
        return Err(
            ApiError::new(ErrorCode::Refused, "there is a quorum, and nothing to recover", remedy).into()
        );
    }
    if !session.screen.is_json() {
        for line in told(&outlook) {
            session.screen.line(&line)?;
        }
    }
    session.confirm_by_name(given, &outlook.cluster, "--yes-cluster")?;
    change(MemberAction::Recover, &outlook.cluster, false, session)
}

/// What a recovery does and loses, in numbers.
fn told(outlook: &RecoveryOutlook) -> Vec<String> {
    let RecoveryOutlook { voters, missing, last, uncommitted, version, known_lost, .. } = outlook;
    let mut lines = vec![
        format!("{} of {voters} voters cannot be reached: {}", missing.len(), missing.join(", ")),
        format!(
            "this node has the log up to entry {last}, configuration v{version}; it becomes the only voter"
        ),
        format!("{uncommitted} entries at its end were not agreed on yet; they count from now on"),
    ];
    if *known_lost > 0 {
        lines.push(format!("LOST: {known_lost} entries after {last} that another node is known to have"));
    }
    lines.push(if outlook.may_lose_more {
        format!("LOST: whatever the others have agreed on without this node after entry {last}; how much is not known here")
    } else {
        "nothing that was agreed on is lost: a pair agrees on nothing without both".to_owned()
    });
    lines.push(
        "what the others have beyond that they give up when they come back, and say what it was".to_owned(),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_says_in_numbers_what_it_loses() {
        let mut outlook = RecoveryOutlook {
            cluster: "demo".into(),
            quorum: false,
            voters: 2,
            missing: vec!["lb2".into()],
            last: 120,
            uncommitted: 3,
            version: 41,
            known_lost: 0,
            may_lose_more: false,
        };
        let text = told(&outlook).join("\n");
        assert!(text.contains("1 of 2 voters cannot be reached: lb2"), "{text}");
        assert!(text.contains("3 entries at its end") && !text.contains("LOST"), "{text}");
        (outlook.known_lost, outlook.may_lose_more) = (7, true);
        let text = told(&outlook).join("\n");
        assert!(text.contains("LOST: 7 entries after 120"), "{text}");
    }
}
