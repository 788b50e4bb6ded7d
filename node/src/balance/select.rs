//! One decision by the rules of the house: which server for this attempt, with a place taken at it.

use cygnet_ha::time::Time;

use super::attempt::{Client, NoServer, Pick, Tried};
use super::hash::{hash_of_client, lot};
use crate::config::model::Algorithm;
use crate::plan::{Admin, ServerPlan, ServicePlan, Standing};

/// Chooses a server for one attempt and takes a place at it. See the module above for the order.
pub(super) fn pick(
    service: &ServicePlan,
    client: &Client,
    tried: &Tried,
    now: Time,
) -> Result<Pick, NoServer> {
    let asking = Asking { service, client, now };
    let none = |stubborn| NoServer::explain(service, client, tried, stubborn);
    if !client.permitted {
        return asking.apart(service.abuse, tried).ok_or_else(|| none(false));
    }
    let own = client.remembered.filter(|server| *server < service.regular);
    let again = own.filter(|server| !tried.has(*server));
    if let Some(pick) = again.and_then(|server| asking.take(server, Round::Ordinary)) {
        return Ok(pick);
    }
    if service.stubborn && (own.is_some() || !tried.is_empty()) {
        return Err(none(true));
    }
    asking
        .by_algorithm(tried, Round::Ordinary)
        .or_else(|| asking.apart_in(service.emergency, tried, Round::Ordinary))
        .or_else(|| asking.by_algorithm(tried, Round::LastResort))
        .or_else(|| asking.apart_in(service.emergency, tried, Round::LastResort))
        .ok_or_else(|| none(false))
}

/// Which servers are in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Those in good standing, and those whose blacklisting is over.
    Ordinary,
    /// Those whose health checks fail, and the blacklisted ones.
    LastResort,
}

/// One question.
struct Asking<'a> {
    service: &'a ServicePlan,
    client: &'a Client,
    now: Time,
}

impl Asking<'_> {
    fn by_algorithm(&self, tried: &Tried, round: Round) -> Option<Pick> {
        match self.service.algorithm {
            Algorithm::LeastConnections => self.best(tried, round, |one, other| self.is_less(one, other)),
            Algorithm::Priority => self.best(tried, round, |one, other| self.is_earlier(one, other)),
            Algorithm::SourceHash { with_port } => self.by_hash(tried, round, with_port),
            // Pen's order is asked elsewhere.
            Algorithm::RoundRobin | Algorithm::Pen(_) => self.in_turn(tried, round),
        }
    }

    fn server(&self, position: usize) -> &ServerPlan {
        &self.service.servers[position]
    }

    fn standing(&self, server: &ServerPlan) -> Standing {
        server.state.standing(self.now, self.service.blacklist)
    }

    /// Whether a new client may come to this server in this round.
    fn is_candidate(&self, position: usize, tried: &Tried, round: Round) -> bool {
        let server = self.server(position);
        let left_alone = self.standing(server).is_left_alone();
        server.admin == Admin::Ready
            && !tried.has(position)
            && left_alone == (round == Round::LastResort)
            && self.client.may_pass(server.acl.as_ref())
    }

    /// A place at the server, or `None` if it is full, on trial by somebody else, not for this client, or not to be
    /// reached rightly.
    fn take(&self, position: usize, round: Round) -> Option<Pick> {
        let server = self.service.servers.get(position)?;
        server.source.as_ref().ok()?;
        if !self.client.may_pass(server.acl.as_ref()) {
            return None;
        }
        let own = self.client.remembered == Some(position);
        let max = if own && server.max > 0 { server.max.max(server.hard) } else { server.max };
        let lease = server.state.reserve(max)?;
        let last_resort = round == Round::LastResort;
        let may = match self.standing(server) {
            Standing::Good => true,
            Standing::Down | Standing::Blacklisted(_) => last_resort,
            Standing::OnTrial => last_resort || self.begin_trial(server),
        };
        may.then_some(Pick { server: position, lease, last_resort })
    }

    fn begin_trial(&self, server: &ServerPlan) -> bool {
        server.state.begin_trial(self.now, self.service.connect_timeout, self.service.blacklist)
    }

    /// The emergency server, or the one for abuse, if it can serve.
    fn apart(&self, position: Option<usize>, tried: &Tried) -> Option<Pick> {
        self.apart_in(position, tried, Round::Ordinary)
            .or_else(|| self.apart_in(position, tried, Round::LastResort))
    }

    fn apart_in(&self, position: Option<usize>, tried: &Tried, round: Round) -> Option<Pick> {
        let position = position.filter(|position| self.is_candidate(*position, tried, round))?;
        self.take(position, round)
    }

    /// A turn that falls on a server that cannot serve is used up, not passed to its neighbour: so the others share
    /// evenly.
    fn in_turn(&self, tried: &Tried, round: Round) -> Option<Pick> {
        let service = self.service;
        let attempt = |position: usize| {
            self.is_candidate(position, tried, round).then(|| self.take(position, round))?
        };
        // Not worth the turns if nobody can serve.
        if !(0..service.regular).any(|position| self.is_candidate(position, tried, round)) {
            return None;
        }
        for _ in 0..service.schedule.len() {
            let position = service.schedule.server(service.state.next_turn())?;
            if let Some(pick) = attempt(position) {
                return Some(pick);
            }
        }
        // Other workers took the turns of the servers that could have served: look at each once.
        (0..service.regular).find_map(attempt)
    }

    /// The best candidate that has a place. `is_better` compares (connections, position).
    fn best(&self, tried: &Tried, round: Round, is_better: impl Fn(Load, Load) -> bool) -> Option<Pick> {
        let count = self.service.regular;
        // Where the search begins moves on each time, so that equals take turns.
        let start = usize::try_from(self.service.state.next_turn().checked_rem(count as u64)?).ok()?;
        let mut passed_over = tried.clone();
        // Each round chooses a server or passes one over.
        for _ in 0..count {
            let best = (0..count)
                .map(|step| (start + step) % count)
                .filter(|n| self.is_candidate(*n, &passed_over, round))
                .map(|n| (self.server(n).state.connections(), n))
                .reduce(|best, next| if is_better(next, best) { next } else { best });
            let (_, position) = best?;
            if let Some(pick) = self.take(position, round) {
                return Some(pick);
            }
            passed_over.add(position);
        }
        None
    }

    /// Compares connections per weight without a division.
    fn is_less(&self, one: Load, other: Load) -> bool {
        let scaled =
            |connections: u32, of: usize| u64::from(connections) * u64::from(self.server(of).weight.max(1));
        scaled(one.0, other.1) < scaled(other.0, one.1)
    }

    /// Compares priorities; servers of the same one share by connections.
    fn is_earlier(&self, one: Load, other: Load) -> bool {
        let (mine, theirs) = (self.server(one.1).priority, self.server(other.1).priority);
        mine < theirs || (mine == theirs && self.is_less(one, other))
    }

    fn by_hash(&self, tried: &Tried, round: Round, with_port: bool) -> Option<Pick> {
        let client = hash_of_client(self.client.peer, with_port);
        let mut passed_over = tried.clone();
        for _ in 0..self.service.regular {
            let best = (0..self.service.regular)
                .filter(|n| self.is_candidate(*n, &passed_over, round))
                .map(|n| (lot(client, self.server(n).hash, self.server(n).weight), n))
                .min_by(|one, other| one.0.total_cmp(&other.0));
            let (_, position) = best?;
            if let Some(pick) = self.take(position, round) {
                return Some(pick);
            }
            passed_over.add(position);
        }
        None
    }
}

/// A server's connections, and its position.
type Load = (u32, usize);

#[cfg(test)]
mod tests;
