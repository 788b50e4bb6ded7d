//! Health checks of a running node: the pure core is asked whom to check, sockets are opened, and what comes of it goes to
//! the servers of the plan, to the events and to the other nodes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep_until;

use super::facts::millis;
use super::node::Node;
use crate::config::model::Endpoint;
use crate::control::health::{CheckState, CheckView, HealthReport};
use crate::health::probe::{Target, probe};
use crate::health::{Checks, Flip, News, Outcome, State, Ticket, Wanted};
use crate::plan::{Plan, ServerPlan, ServerState};

/// What the checks have found, for whoever asks. Locked for moments, never by a worker.
pub(crate) struct Health {
    started: Instant,
    checks: Mutex<Checks>,
    /// Counts flips and changes of what is checked.
    changed: watch::Sender<u64>,
}

impl Health {
    /// `down`: servers that are down by the checks of the process before this one.
    pub(super) fn new(node: &str, down: Vec<(String, String)>) -> Self {
        // Of the node and of this start: no two nodes ask in step, also when they start together.
        let mut hasher = DefaultHasher::new();
        (node, SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()))
            .hash(&mut hasher);
        let checks = Mutex::new(Checks::new(hasher.finish()).believing_down(down));
        Self { started: Instant::now(), checks, changed: watch::Sender::new(0) }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn checks(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_changed(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes when a server goes up or down, or others are checked.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether anything is checked.
    pub(crate) fn is_busy(&self) -> bool {
        !self.checks().is_empty()
    }

    /// Whether a server is known to be down from here.
    pub(crate) fn is_down(&self, service: &str, server: &str) -> bool {
        self.checks().state(service, server) == Some(State::Down)
    }

    /// The servers that are down from here: service and name.
    pub(super) fn down(&self) -> Vec<(String, String)> {
        let not_up = self.checks().not_up();
        let down = not_up.into_iter().filter(|(_, _, state)| *state == State::Down);
        down.map(|(service, server, _)| (service.to_string(), server.to_string())).collect()
    }

    /// What is told to the other nodes; `None`: nothing is checked.
    pub(crate) fn report(&self) -> Option<HealthReport> {
        let not_up = {
            let checks = self.checks();
            (!checks.is_empty()).then(|| checks.not_up())?
        };
        let named =
            not_up.iter().map(|(service, server, state)| (&**service, &**server, *state == State::Down));
        Some(HealthReport::of(named))
    }

    /// What is known here of a server; `None`: it is not checked.
    pub(crate) fn view(&self, service: &str, server: &str) -> Option<CheckView> {
        let figures = self.checks().figures(service, server, self.now())?;
        Some(CheckView {
            state: match figures.state {
                State::Unknown => CheckState::Unknown,
                State::Up => CheckState::Up,
                State::Down => CheckState::Down,
            },
            state_age_ms: millis(figures.lasted),
            reason: figures.reason,
            passed_row: figures.passed_row,
            failed_row: figures.failed_row,
            rise: figures.rise,
            fall: figures.fall,
            passed: figures.passed,
            failed: figures.failed,
            not_asked: figures.not_asked,
            flips: figures.flips,
            took_us: figures.took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            elsewhere: Vec::new(),
        })
    }
}

/// A server of the plan, as its check needs it.
struct Checked {
    target: Arc<Target>,
    /// Its address for clients, for the events.
    address: Endpoint,
    /// Weak: a server that no plan has any more is to be forgotten.
    state: Weak<ServerState>,
    regular: bool,
}

type Key = (Arc<str>, Arc<str>);

/// The driver's own memory.
struct Driver {
    node: Arc<Node>,
    servers: HashMap<Key, Checked>,
    flying: JoinSet<Outcome>,
    tickets: HashMap<Id, Ticket>,
    news: News,
}

/// Checks for ever.
pub(super) async fn watch(node: Arc<Node>) {
    let mut running = node.running.clone();
    let mut driver = Driver {
        node: Arc::clone(&node),
        servers: HashMap::new(),
        flying: JoinSet::new(),
        tickets: HashMap::new(),
        news: News::default(),
    };
    loop {
        driver.start();
        let wake = driver
            .next()
            .map(|next| tokio::time::Instant::from_std(node.health.started) + next.since(Time::ZERO));
        tokio::select! {
            changed = running.changed() => {
                if changed.is_err() {
                    // The conductor has ended, and the node is about to.
                    return std::future::pending().await;
                }
                if let Some(traffic) = &node.traffic {
                    driver.configure(&traffic.workers.plan());
                }
            }
            Some(ended) = driver.flying.join_next_with_id(), if !driver.flying.is_empty() => driver.take(ended),
            () = sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)), if wake.is_some() => driver.close_news(),
        }
    }
}

impl Driver {
    fn next(&self) -> Option<Time> {
        let due = self.node.health.checks().next();
        [due, self.news.ends()].into_iter().flatten().min()
    }

    fn start(&mut self) {
        let tickets = {
            let health = &self.node.health;
            health.checks().start(health.now())
        };
        for ticket in tickets {
            let key = (Arc::clone(&ticket.service), Arc::clone(&ticket.server));
            let target = self.servers.get(&key).map(|checked| Arc::clone(&checked.target));
            let task = self.flying.spawn(async move {
                match target {
                    Some(target) => probe(&target).await,
                    None => Outcome::NotAsked("it is not configured any more".to_owned()),
                }
            });
            self.tickets.insert(task.id(), ticket);
        }
    }

    /// Takes over a plan: whom to check, from where, and whom to tell.
    fn configure(&mut self, plan: &Plan) {
        let was_busy = !self.servers.is_empty();
        self.servers.clear();
        let mut wanted = Vec::new();
        for service in &plan.services {
            let Some(check) = &service.check else {
                service.servers.iter().for_each(|server| server.state.set_down(false));
                continue;
            };
            for (position, server) in service.servers.iter().enumerate() {
                let address = asked_at(server);
                wanted.push(Wanted {
                    service: Arc::clone(&service.name),
                    server: Arc::clone(&server.name),
                    address: address.clone(),
                    check: Arc::clone(check),
                });
                let (start, tls) = (server.source.clone(), server.tls.clone());
                let checked = Checked {
                    target: Arc::new(Target { address, start, tls, check: Arc::clone(check) }),
                    address: server.address.clone(),
                    state: Arc::downgrade(&server.state),
                    regular: position < service.regular,
                };
                self.servers.insert((Arc::clone(&service.name), Arc::clone(&server.name)), checked);
            }
        }
        let health = &self.node.health;
        let mut checks = health.checks();
        checks.configure(health.now(), wanted);
        for ((service, server), checked) in &self.servers {
            if let Some(state) = checked.state.upgrade() {
                state.set_down(checks.state(service, server) == Some(State::Down));
            }
        }
        drop(checks);
        if was_busy || !self.servers.is_empty() {
            health.has_changed();
        }
    }

    fn take(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Outcome::NotAsked(format!("a fault of this program: {error}"))),
        };
        let Some(ticket) = self.tickets.remove(&id) else { return };
        if let Outcome::NotAsked(reason) = &outcome {
            tracing::debug!(
                service = &*ticket.service,
                server = &*ticket.server,
                reason,
                "a check could not be made"
            );
        }
        let flip = {
            let health = &self.node.health;
            health.checks().result(health.now(), &ticket, outcome)
        };
        if let Some(flip) = flip {
            self.flipped(&ticket, &flip);
        }
    }

    fn flipped(&mut self, ticket: &Ticket, flip: &Flip) {
        let Ticket { service, server, .. } = ticket;
        let Some(checked) = self.servers.get(&(Arc::clone(service), Arc::clone(server))) else { return };
        if let Some(state) = checked.state.upgrade() {
            state.set_down(!flip.up);
            if flip.up {
                // What its connections said before is older news.
                let _ = state.exonerate();
            }
        }
        let node = &self.node;
        node.health.has_changed();
        let told = (!flip.up || !flip.first) && self.news.pass(node.health.now(), flip.up);
        if !told {
            return;
        }
        let (severity, kind, what) = match flip.up {
            true => {
                (Severity::Info, "server-up", format!("server {server} ({}) is up again", checked.address))
            }
            false => {
                let last = checked.regular && self.is_last(service);
                let severity = if last { Severity::Alert } else { Severity::Warning };
                let alone = if last { ", and so are all others" } else { "" };
                (
                    severity,
                    "server-down",
                    format!("server {server} ({}) is down from here{alone}", checked.address),
                )
            }
        };
        let why = match (flip.up, flip.first) {
            (true, _) => format!("{} checks in a row passed, after {:.1?} down", flip.row.0, flip.lasted),
            (false, true) => format!("{}, at the first check", flip.reason),
            (false, false) => format!("{}; {} of {} checks failed", flip.reason, flip.row.0, flip.row.1),
        };
        node.events.record_kind(severity, &format!("service {service}"), kind, what, why);
    }

    /// Whether no regular server of the service is believed to be up, or could be.
    fn is_last(&self, service: &str) -> bool {
        let regular = self.servers.iter().filter(|((of, _), checked)| **of == *service && checked.regular);
        let checks = self.node.health.checks();
        regular.map(|((_, server), _)| checks.state(service, server)).all(|state| state == Some(State::Down))
    }

    fn close_news(&mut self) {
        if let Some((downs, ups)) = self.news.close(self.node.health.now()) {
            let what = format!("{downs} more times a server went down, and {ups} more times one came up");
            let why = "more changes than are told one by one; see `cygnet server list`";
            self.node.events.record(Severity::Warning, "node", what, why);
        }
    }
}

/// Where a server is asked.
fn asked_at(server: &ServerPlan) -> Endpoint {
    match (&server.address, server.check_port) {
        (Endpoint::Inet(address), Some(port)) => SocketAddr::new(address.ip(), port).into(),
        (address, _) => address.clone(),
    }
}
