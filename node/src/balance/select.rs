//! One decision: which server for this attempt, with a place taken at it.

use std::fmt;
use std::sync::Arc;

use cygnet_ha::time::Time;

use crate::config::model::Algorithm;
use crate::plan::{Admin, Lease, ServerPlan, ServicePlan, Standing};

/// The servers that this connection has tried (or found full), by position.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    first: u64,
    /// Servers beyond the first 64; allocated only when one of them has been tried.
    rest: Vec<u64>,
}

impl Tried {
    /// Marks a server.
    pub fn add(&mut self, server: usize) {
        let (word, bit) = (server / 64, 1 << (server % 64));
        if word == 0 {
            self.first |= bit;
            return;
        }
        if self.rest.len() < word {
            self.rest.resize(word, 0);
        }
        self.rest[word - 1] |= bit;
    }

    /// Whether a server is marked.
    #[must_use]
    pub fn has(&self, server: usize) -> bool {
        let (word, bit) = (server / 64, 1 << (server % 64));
        let marks = if word == 0 { self.first } else { self.rest.get(word - 1).copied().unwrap_or(0) };
        marks & bit != 0
    }

    /// Whether nothing has been tried yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.iter().all(|word| *word == 0)
    }
}

/// A server, and a place at it.
#[derive(Debug)]
pub struct Pick {
    /// Its position in the service.
    pub server: usize,
    /// The place.
    pub lease: Lease,
    /// It is blacklisted and was chosen because nothing else is left.
    pub last_resort: bool,
}

/// Why there is no server for this attempt: how many of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoServer {
    /// Tried and failed for this connection.
    pub tried: usize,
    /// At their `max`.
    pub full: usize,
    /// Being drained.
    pub drained: usize,
    /// Without an address to connect from; the reason of the first of them.
    pub sourceless: Option<(usize, Arc<str>)>,
}

impl fmt::Display for NoServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let counted = [(self.tried, "failed"), (self.full, "at their limit"), (self.drained, "drained")];
        parts.extend(counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        if let Some((servers, reason)) = &self.sourceless {
            parts.push(format!("{servers} without a source address ({reason})"));
        }
        if parts.is_empty() {
            parts.push("the service has no servers".to_owned());
        }
        out.write_str(&parts.join(", "))
    }
}

/// Chooses a server for one attempt and takes a place at it. `remembered` is the position of the client's server, if
/// it has one. See the module for the order.
pub fn pick(
    service: &ServicePlan,
    remembered: Option<usize>,
    tried: &Tried,
    now: Time,
) -> Result<Pick, NoServer> {
    let again = remembered.filter(|server| !tried.has(*server)).and_then(|position| {
        let server = service.servers.get(position)?;
        take(service, server, position, Round::Ordinary, now)
    });
    if let Some(pick) = again {
        return Ok(pick);
    }
    by_algorithm(service, tried, Round::Ordinary, now)
        .or_else(|| by_algorithm(service, tried, Round::LastResort, now))
        .ok_or_else(|| why_none(service, tried))
}

/// Which servers are in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Those in good standing, and those whose blacklisting is over.
    Ordinary,
    /// The blacklisted ones.
    LastResort,
}

fn by_algorithm(service: &ServicePlan, tried: &Tried, round: Round, now: Time) -> Option<Pick> {
    match service.algorithm {
        Algorithm::LeastConnections => least_connections(service, tried, round, now),
        // The others have no word in the files yet.
        _ => in_turn(service, tried, round, now),
    }
}

/// Whether a new client may come to this server in this round.
fn is_candidate(server: &ServerPlan, position: usize, tried: &Tried, round: Round, now: Time) -> bool {
    let blacklisted = matches!(server.state.standing(now), Standing::Blacklisted(_));
    server.admin == Admin::Ready && !tried.has(position) && blacklisted == (round == Round::LastResort)
}

/// A place at the server, or `None` if it is full, on trial by somebody else, or not to be reached rightly.
fn take(
    service: &ServicePlan,
    server: &ServerPlan,
    position: usize,
    round: Round,
    now: Time,
) -> Option<Pick> {
    server.source.as_ref().ok()?;
    let lease = server.state.reserve(server.max)?;
    let last_resort = round == Round::LastResort;
    let may = match server.state.standing(now) {
        Standing::Good => true,
        Standing::Blacklisted(_) => last_resort,
        Standing::OnTrial => last_resort || server.state.begin_trial(now, now + service.connect_timeout),
    };
    may.then_some(Pick { server: position, lease, last_resort })
}

/// A turn that falls on a server that cannot serve is used up, not passed to its neighbour: so the others share evenly.
fn in_turn(service: &ServicePlan, tried: &Tried, round: Round, now: Time) -> Option<Pick> {
    let attempt = |position: usize| {
        let server = service.servers.get(position)?;
        is_candidate(server, position, tried, round, now)
            .then(|| take(service, server, position, round, now))?
    };
    // Not worth the turns if nobody can serve.
    let any =
        service.servers.iter().enumerate().any(|(n, server)| is_candidate(server, n, tried, round, now));
    if !any {
        return None;
    }
    for _ in 0..service.schedule.len() {
        let position = service.schedule.server(service.state.next_turn())?;
        if let Some(pick) = attempt(position) {
            return Some(pick);
        }
    }
    // Other workers took the turns of the servers that could have served: look at each once.
    (0..service.servers.len()).find_map(attempt)
}

fn least_connections(service: &ServicePlan, tried: &Tried, round: Round, now: Time) -> Option<Pick> {
    let count = service.servers.len();
    // Where the search begins moves on each time, so that equals take turns.
    let start = usize::try_from(service.state.next_turn().checked_rem(count as u64)?).ok()?;
    let mut passed_over = tried.clone();
    // Each round chooses a server or passes one over.
    for _ in 0..count {
        let least = (0..count)
            .map(|step| (start + step) % count)
            .filter(|n| is_candidate(&service.servers[*n], *n, &passed_over, round, now))
            .map(|n| (service.servers[n].state.connections(), n))
            .reduce(|best, next| if is_less(service, next, best) { next } else { best });
        let (_, position) = least?;
        if let Some(pick) = take(service, &service.servers[position], position, round, now) {
            return Some(pick);
        }
        passed_over.add(position);
    }
    None
}

/// Compares connections per weight without a division.
fn is_less(service: &ServicePlan, one: (u32, usize), other: (u32, usize)) -> bool {
    let scaled = |connections: u32, of: usize| u64::from(connections) * u64::from(service.servers[of].weight);
    scaled(one.0, other.1) < scaled(other.0, one.1)
}

fn why_none(service: &ServicePlan, tried: &Tried) -> NoServer {
    let mut why = NoServer::default();
    for (position, server) in service.servers.iter().enumerate() {
        match (&server.source, server.admin) {
            _ if tried.has(position) => why.tried += 1,
            (Err(reason), _) => {
                why.sourceless.get_or_insert_with(|| (0, Arc::clone(reason))).0 += 1;
            }
            (_, Admin::Drain) => why.drained += 1,
            _ => why.full += 1,
        }
    }
    why
}

#[cfg(test)]
mod tests;
