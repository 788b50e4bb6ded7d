//! `cygnet clients`.

use clap::{Args, Subcommand};

use super::Session;
use super::client::with_query;
use super::exit::{Exit, Outcome};
use super::output::{Cell, Table};
use crate::control::status::age;
use crate::control::types::{CLIENTS_PAGE_MAX, Clients};

/// How many clients are listed unless more are asked for.
const DEFAULT_LIMIT: usize = 100;

/// `cygnet clients`.
#[derive(Debug, Args)]
pub struct ClientsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The remembered clients and their servers, page by page
    #[command(after_help = "Example: cygnet clients list --service web --limit 20")]
    List {
        /// Only those of this service
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
        /// How many at most, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = limit)]
        limit: usize,
        /// Where the last page ended
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
    },
}

fn limit(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=CLIENTS_PAGE_MAX).contains(n))
        .ok_or_else(|| format!("write 1 to {CLIENTS_PAGE_MAX}"))
}

pub(super) fn run(args: &ClientsArgs, session: &mut Session<'_>) -> Outcome {
    let Verb::List { service, limit, after } = &args.verb;
    let query = [("service", service.clone()), ("limit", Some(limit.to_string())), ("after", after.clone())];
    let page: Clients = session.client.get(&with_query("/v1/clients", &query))?;
    if session.screen.is_json() {
        session.screen.json(&page)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["CLIENT", "SERVICE", "SERVER", "SEEN"]);
    for client in &page.clients {
        table.row(vec![
            Cell::from(client.client),
            Cell::from(&client.service),
            Cell::from(&client.server),
            Cell::from(format!("{} ago", age(client.age_ms))),
        ]);
    }
    session.screen.table(&table)?;
    if let Some(next) = &page.next {
        session.screen.line(&format!("{} of {}; more: --after {next}", page.clients.len(), page.total))?;
    }
    Ok(Exit::Ok)
}
