//! Whether each datagram arrives as it was, and nobody gets what is another's: flows with scripts of their own through a
//! proxy, compared byte by byte on both sides.
//!
//! A client asks a few questions, one after the other, each again and again until it is answered: datagrams may be lost.
//! What must hold, whatever happens: a datagram that arrives is whole and right, an answer reaches the client who has asked
//! and no other, and in the end each client has all its answers. Servers answer some questions late, when the proxy may have
//! ended the flow and given its place to another, and some twice; and they may die.

mod client;
mod exchange;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::client::{Done, Finished};
pub use self::server::Servers;

/// How many failures are listed.
const SHOWN: usize = 10;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Flows in all, each of an address of its own.
    pub flows: u64,
    /// Of them at once.
    pub at_once: usize,
    /// Makes the scripts.
    pub seed: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Flows that had all their answers.
    pub whole: u64,
    /// Answers that were compared by clients, doubled ones among them.
    pub answers: u64,
    /// Questions that were compared by servers, asked again or not.
    pub questions: u64,
    /// Bytes that were compared.
    pub bytes: u64,
    /// How often a flow came from a port that had been another one's.
    pub ports_shared: u64,
    /// The question that waited longest for its answer.
    pub longest: Duration,
    /// What must not be.
    pub failures: Vec<String>,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { whole, answers, questions, bytes, ports_shared, longest, failures } = self;
        format!(
            "{whole} flows whole, {ports_shared} on ports of earlier ones, {questions} questions, {answers} answers, {} MiB compared, longest wait {} ms, {} failures",
            bytes >> 20,
            longest.as_millis(),
            failures.len()
        )
    }

    /// Fails if anything was wrong.
    ///
    /// # Errors
    /// The first failures.
    pub fn check(&self, settings: &Settings) -> Result<()> {
        let first: Vec<_> = self.failures.iter().take(SHOWN).collect();
        ensure!(first.is_empty(), "{} (seed {}): {first:#?}", self.text(), settings.seed);
        ensure!(self.whole == settings.flows, "{} of {} flows", self.text(), settings.flows);
        Ok(())
    }
}

/// Sends all flows through `front`, and compares what both sides saw.
///
/// # Errors
/// If a socket cannot be made, or a task fails; what went wrong with datagrams is in the outcome.
pub async fn run(settings: Settings, front: SocketAddr, servers: &Servers) -> Result<Outcome> {
    let places = Arc::new(Semaphore::new(settings.at_once));
    let (mut tasks, mut outcome) = (JoinSet::new(), Outcome::default());
    // Clients who have all their answers listen on for a while: nothing of others may come to them.
    let mut finished = Finished::default();
    for flow in 0..settings.flows {
        let place = Arc::clone(&places).acquire_owned().await?;
        tasks.spawn(async move {
            let done = client::play(settings, flow, front).await;
            drop(place);
            done
        });
        while let Some(done) = tasks.try_join_next() {
            add(&mut outcome, &mut finished, done??);
        }
    }
    while let Some(done) = tasks.join_next().await {
        add(&mut outcome, &mut finished, done??);
    }
    outcome.failures.extend(finished.all());
    servers.add_to(&mut outcome);
    Ok(outcome)
}

fn add(outcome: &mut Outcome, finished: &mut Finished, done: Done) {
    outcome.answers += done.answers;
    outcome.bytes += done.bytes;
    outcome.longest = outcome.longest.max(done.longest);
    outcome.whole += u64::from(done.failure.is_none());
    outcome.failures.extend(done.failure.clone());
    outcome.failures.extend(finished.push(done));
}
