//! `cygnet token`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Session;
use super::exit::{Exit, Outcome};
use crate::control::types::{NewToken, TokenMade};

/// How long a token lives when nobody says otherwise: as long as one needs to set up a machine.
pub(super) const TTL_DEFAULT: &str = "1h";

/// `cygnet token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token that lets one node in, once; it is shown now and never again
    #[command(after_help = "Example: cygnet token create --witness --ttl 10m")]
    Create {
        /// For a third voter without traffic
        #[arg(long)]
        witness: bool,
        /// For a node that gets the log and does not vote, until `cygnet cluster promote`
        #[arg(long)]
        learner: bool,
        /// How long it lives, at most 7 days
        #[arg(long, value_name = "DURATION", default_value = TTL_DEFAULT, value_parser = humantime::parse_duration)]
        ttl: Duration,
    },
}

pub(super) fn run(args: &TokenArgs, session: &mut Session<'_>) -> Outcome {
    let Verb::Create { witness, learner, ttl } = &args.verb;
    let new = NewToken {
        witness: *witness,
        learner: *learner,
        ttl_s: ttl.as_secs(),
        author: session.author.to_owned(),
    };
    let made: TokenMade = session.client.post("/v1/cluster/tokens", &new)?;
    if session.screen.is_json() {
        session.screen.json(&made)?;
    } else {
        session.screen.line(&how_to_join(&made.address, &made.token))?;
    }
    Ok(Exit::Ok)
}

/// The command for the other node.
pub(super) fn how_to_join(address: &std::net::SocketAddr, token: &str) -> String {
    format!("cygnet cluster join {address} --token {token}")
}
