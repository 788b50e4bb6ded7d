//! Which server is to be asked when, and what is believed of each; pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::time::Time;

use super::verdict::{Flip, Outcome, State, Verdict};
use crate::config::model::{Check, Endpoint};

/// Checks in flight at once. Each is a socket, and lasts as long as its timeout when the server is silent: at 1 s this
/// is 256 silent servers a second. Servers whose time has come wait for their turn, the longest overdue first.
pub const PROBES_AT_ONCE: usize = 256;
/// The first checks after a start are spread over this time at most: soon enough for a verdict before clients come, and
/// no burst.
const FIRST_WITHIN: Duration = Duration::from_millis(500);
/// Each interval is shortened at random by up to a tenth: neither servers nor nodes march in step, and the detection time
/// keeps its bound.
const JITTER_PART: u64 = 10;

/// A server that is to be checked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its service.
    pub service: Arc<str>,
    /// Its name.
    pub server: Arc<str>,
    /// Where it is asked.
    pub address: Endpoint,
    /// How, and how often.
    pub check: Arc<Check>,
}

/// A check that is to be made now. It goes back with [`Checks::result`], whatever comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The service.
    pub service: Arc<str>,
    /// The server.
    pub server: Arc<str>,
    serial: u64,
}

/// What is known of a server, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// What is believed.
    pub state: State,
    /// For how long.
    pub lasted: Duration,
    /// Why, if the last check failed or the server is down.
    pub reason: Option<String>,
    /// Checks in a row that passed.
    pub passed_row: u32,
    /// Checks in a row that failed.
    pub failed_row: u32,
    /// Needed in a row to come up.
    pub rise: u32,
    /// Needed in a row to go down.
    pub fall: u32,
    /// Checks that passed, since the node began to check this server.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// Checks that this node could not make.
    pub not_asked: u64,
    /// Changes between up and down.
    pub flips: u64,
    /// How long the last check that passed took.
    pub took: Option<Duration>,
}

type Key = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Target {
    address: Endpoint,
    check: Arc<Check>,
    /// Of this target alone: results of another one under the same name do not count.
    serial: u64,
    verdict: Verdict,
    /// When the next check is due; `None`: one is in flight.
    due: Option<Time>,
    /// When the one in flight began.
    began: Time,
    passed: u64,
    failed: u64,
    not_asked: u64,
    flips: u64,
    took: Option<Duration>,
}

/// All checks of a node.
#[derive(Debug)]
pub struct Checks {
    targets: HashMap<Key, Target>,
    due: BTreeSet<(Time, Key)>,
    in_flight: usize,
    serial: u64,
    random: u64,
    /// Servers that begin as down: the process before this one has found them so.
    down: BTreeSet<(String, String)>,
}

impl Checks {
    /// `seed`: another on each node, so that they do not ask in the same moments.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (targets, due, down) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { targets, due, in_flight: 0, serial: 0, random: seed, down }
    }

    /// The same, where these servers (service and name) are down until their checks say otherwise.
    #[must_use]
    pub fn believing_down(self, down: Vec<(String, String)>) -> Self {
        Self { down: down.into_iter().collect(), ..self }
    }

    /// These servers are checked from now on, and no others. What is known of a server stands as long as its address does.
    pub fn configure(&mut self, now: Time, wanted: impl IntoIterator<Item = Wanted>) {
        let mut before = std::mem::take(&mut self.targets);
        for Wanted { service, server, address, check } in wanted {
            let key = (service, server);
            let target = match before.remove(&key) {
                Some(mut old) if old.address == address => {
                    if old.check != check {
                        self.hasten(&key, &mut old, now, &check);
                    }
                    old.check = check;
                    old
                }
                old => {
                    self.forget(&key, old.as_ref());
                    self.begin(&key, now, address, check)
                }
            };
            self.targets.insert(key, target);
        }
        for (key, old) in before {
            self.forget(&key, Some(&old));
        }
    }

    /// A check in flight keeps its place until its result is there.
    fn forget(&mut self, key: &Key, old: Option<&Target>) {
        if let Some(due) = old.and_then(|old| old.due) {
            self.due.remove(&(due, key.clone()));
        }
    }

    fn begin(&mut self, key: &Key, now: Time, address: Endpoint, check: Arc<Check>) -> Target {
        self.serial += 1;
        let due = now + self.part_of(FIRST_WITHIN.min(check.interval));
        self.due.insert((due, key.clone()));
        let verdict = match self.down.remove(&(key.0.to_string(), key.1.to_string())) {
            true => Verdict::down(now, "the process before this one has found it so"),
            false => Verdict::default(),
        };
        Target {
            address,
            check,
            serial: self.serial,
            verdict,
            due: Some(due),
            began: now,
            passed: 0,
            failed: 0,
            not_asked: 0,
            flips: 0,
            took: None,
        }
    }

    /// A shorter interval counts at once, not when the longer one is over.
    fn hasten(&mut self, key: &Key, old: &mut Target, now: Time, check: &Check) {
        let soonest = now + self.part_of(check.interval);
        if let Some(due) = old.due.filter(|due| *due > soonest) {
            self.due.remove(&(due, key.clone()));
            self.due.insert((soonest, key.clone()));
            old.due = Some(soonest);
        }
    }

    /// The checks whose time has come, as many as there is room for.
    pub fn start(&mut self, now: Time) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while self.in_flight < PROBES_AT_ONCE && self.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            let Some(target) = self.targets.get_mut(&key) else { continue };
            (target.due, target.began) = (None, now);
            self.in_flight += 1;
            tickets.push(Ticket { service: key.0, server: key.1, serial: target.serial });
        }
        tickets
    }

    /// When [`Checks::start`] will have something; `None`: not before a result, or another configuration.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        let room = self.in_flight < PROBES_AT_ONCE;
        self.due.first().filter(|_| room).map(|(due, _)| *due)
    }

    /// A check has ended.
    pub fn result(&mut self, now: Time, ticket: &Ticket, outcome: Outcome) -> Option<Flip> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let key = (Arc::clone(&ticket.service), Arc::clone(&ticket.server));
        let shorter = self.next_random();
        let target = self.targets.get_mut(&key)?;
        if target.serial != ticket.serial || target.due.is_some() {
            return None;
        }
        match &outcome {
            Outcome::Passed(took) => (target.passed, target.took) = (target.passed + 1, Some(*took)),
            Outcome::Failed(_) => target.failed += 1,
            Outcome::NotAsked(_) => target.not_asked += 1,
        }
        let rules = (target.check.rise, target.check.fall);
        let flip = target.verdict.take(now, rules, outcome);
        target.flips += u64::from(flip.as_ref().is_some_and(|flip| !flip.first));
        let usual = target.check.interval;
        let interval =
            if target.verdict.wavers() { target.check.fast_interval.unwrap_or(usual) } else { usual };
        // A check that took longer than the interval is followed at once: never two of one server at a time.
        let due = (target.began + (interval - fraction(interval, shorter) / JITTER_PART as u32)).max(now);
        target.due = Some(due);
        self.due.insert((due, key));
        flip
    }

    /// What is believed of a server; `None`: it is not checked.
    #[must_use]
    pub fn state(&self, service: &str, server: &str) -> Option<State> {
        self.targets.get(&key_of(service, server)).map(|target| target.verdict.state())
    }

    /// All that is known of a server; `None`: it is not checked.
    #[must_use]
    pub fn figures(&self, service: &str, server: &str, now: Time) -> Option<Figures> {
        let target = self.targets.get(&key_of(service, server))?;
        let (passed_row, failed_row) = target.verdict.rows();
        Some(Figures {
            state: target.verdict.state(),
            lasted: now.since(target.verdict.since()),
            reason: target.verdict.reason().map(ToString::to_string),
            passed_row,
            failed_row,
            rise: target.check.rise,
            fall: target.check.fall,
            passed: target.passed,
            failed: target.failed,
            not_asked: target.not_asked,
            flips: target.flips,
            took: target.took,
        })
    }

    /// Servers that are not up, in the order of their names, with what is believed of each.
    #[must_use]
    pub fn not_up(&self) -> Vec<(Arc<str>, Arc<str>, State)> {
        let all = self.targets.iter().map(|(key, target)| (&key.0, &key.1, target.verdict.state()));
        let mut found: Vec<_> = all
            .filter(|(.., state)| *state != State::Up)
            .map(|(service, server, state)| (Arc::clone(service), Arc::clone(server), state))
            .collect();
        found.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        found
    }

    /// Whether anything is checked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// A random part of a time.
    fn part_of(&mut self, all: Duration) -> Duration {
        let random = self.next_random();
        fraction(all, random)
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): enough to be out of step.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn key_of(service: &str, server: &str) -> Key {
    (Arc::from(service), Arc::from(server))
}

/// So many 2^32ths of a time.
fn fraction(all: Duration, random: u64) -> Duration {
    all.mul_f64(f64::from((random >> 32) as u32) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
