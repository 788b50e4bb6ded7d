//! Whether every byte arrives: connections with scripts of their own through a proxy, compared byte by byte on both sides.
//!
//! What a connection does follows from its number and the seed alone, so both ends know it without telling each other: how
//! much goes each way, who ends first, who stalls and who breaks off. A client says its number first (8 bytes).
//!
//! What must hold, whatever happens: no byte is wrong, none is missing before the end, and an end in good order never
//! comes too early. A connection that was broken off on one side must not look finished on the other.

mod client;
pub mod datagrams;
mod dress;
mod http;
mod script;
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use dress::Dress;
pub use script::{Ending, Script};
pub use server::Servers;

/// No connection takes longer, also on a busy machine; one that does has lost something.
const CONNECTION_LIMIT: Duration = Duration::from_secs(120);
/// How many failures are listed.
const SHOWN: usize = 10;

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl At {
    /// As it stands in a cluster file.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections in all.
    pub connections: u64,
    /// Of them at once.
    pub at_once: usize,
    /// Makes the scripts.
    pub seed: u64,
    /// The most bytes of one direction.
    pub bytes_max: u64,
    /// Whether one side may break off: not over Unix sockets, which have no reset.
    pub resets: bool,
    /// Whether servers may die: then a connection may be broken off at any time, but must look so.
    pub deaths: bool,
    /// What is spoken over the connections.
    pub dress: Dress,
}

/// How one side saw the end of what it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In good order.
    Eof,
    /// A reset or another error.
    Broken,
}

/// What one side read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) received: u64,
    /// The first byte that is not what it should be.
    pub(crate) wrong_at: Option<u64>,
    pub(crate) end: End,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Connections that did all of what they were to do.
    pub whole: u64,
    /// Connections that were broken off, as they were to be, or because a server died.
    pub broken: u64,
    /// Bytes that were compared, both directions.
    pub bytes: u64,
    /// What must not be: connection and words.
    pub failures: BTreeMap<u64, String>,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { whole, broken, bytes, failures } = self;
        format!(
            "{whole} whole, {broken} broken off, {} MiB compared, {} failures",
            bytes >> 20,
            failures.len()
        )
    }

    /// Fails if anything was wrong.
    ///
    /// # Errors
    /// The first failures.
    pub fn check(&self, settings: &Settings) -> Result<()> {
        let first: Vec<_> = self.failures.iter().take(SHOWN).collect();
        ensure!(self.failures.is_empty(), "{} (seed {}): {first:#?}", self.text(), settings.seed);
        ensure!(
            self.whole + self.broken == settings.connections,
            "{} of {}",
            self.text(),
            settings.connections
        );
        Ok(())
    }
}

/// Sends all connections through `front`, and compares what both sides saw.
///
/// # Errors
/// If a task fails; what went wrong with connections is in the outcome.
pub async fn run(settings: &Settings, front: &At, servers: &Servers) -> Result<Outcome> {
    let places = Arc::new(Semaphore::new(settings.at_once));
    let mut tasks = JoinSet::new();
    let mut played = Vec::new();
    for number in 0..settings.connections {
        let place = Arc::clone(&places).acquire_owned().await?;
        let (front, dress, script) = (front.clone(), settings.dress.clone(), Script::new(settings, number));
        tasks.spawn(async move {
            let seen = tokio::time::timeout(CONNECTION_LIMIT, client::play(&front, &dress, &script)).await;
            drop(place);
            (script, seen.ok())
        });
        while let Some(done) = tasks.try_join_next() {
            played.push(done?);
        }
    }
    while let Some(done) = tasks.join_next().await {
        played.push(done?);
    }
    // Only then everything has been written down.
    let seen = servers.finish(CONNECTION_LIMIT).await?;
    let mut outcome = Outcome::default();
    for (script, client) in played {
        judge(settings, &script, client, seen.get(&script.number).copied(), &mut outcome);
    }
    Ok(outcome)
}

fn judge(
    settings: &Settings,
    script: &Script,
    client: Option<std::io::Result<Seen>>,
    server: Option<Seen>,
    outcome: &mut Outcome,
) {
    let (whole, failure) = match client {
        None => (false, Some("the client waits in vain".to_owned())),
        Some(Err(_)) if settings.deaths => (false, None),
        Some(Err(error)) => (false, Some(format!("no connection: {error}"))),
        Some(Ok(client)) => {
            outcome.bytes += client.received + server.map_or(0, |seen| seen.received);
            verdict(settings, script, client, server)
        }
    };
    outcome.whole += u64::from(whole);
    outcome.broken += u64::from(!whole);
    if let Some(failure) = failure {
        outcome.failures.insert(script.number, format!("{failure}; {script:?}"));
    }
}

/// Whether the connection did all that it was to do, and what must not be.
fn verdict(
    settings: &Settings,
    script: &Script,
    client: Seen,
    server: Option<Seen>,
) -> (bool, Option<String>) {
    if let Some(at) = client.wrong_at {
        return (false, Some(format!("byte {at} to the client is wrong")));
    }
    if let Some(at) = server.and_then(|seen| seen.wrong_at) {
        return (false, Some(format!("byte {at} to the server is wrong")));
    }
    let down_whole = client.received == script.down && client.end == End::Eof;
    let up_whole = server.is_some_and(|seen| seen.received == script.up && seen.end == End::Eof);
    let early = |seen: Seen, all: u64, who: &str| {
        (seen.end == End::Eof && seen.received < all)
            .then(|| format!("an end in good order to the {who} after {} of {all} bytes", seen.received))
    };
    if let Some(failure) =
        early(client, script.down, "client").filter(|_| script.ending != Ending::ClientResets)
    {
        return (false, Some(failure));
    }
    if let Some(failure) = server.and_then(|seen| early(seen, script.up, "server")) {
        return (false, Some(failure));
    }
    let whole = down_whole && up_whole;
    if whole || settings.deaths || matches!(script.ending, Ending::ClientResets | Ending::ServerResets) {
        return (whole, None);
    }
    (false, Some(format!("broken off without a reason: client {client:?}, server {server:?}")))
}
