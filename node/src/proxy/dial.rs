//! From a client to a connected server: choose, connect, and on failure choose again.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_netlink::socket::{self, Origin};

use super::connection::{Connection, Outcome, Stage};
use super::local::Local;
use super::reactor::{Ready, Token};
use super::relay::refresh_ticks;
use super::side::Side;
use super::slots::Key;
use super::worker::Worker;
use crate::balance::{NameId, NoServer, Pick, Tried, pick};
use crate::config::model::Endpoint;
use crate::plan::{Admin, ServerPlan, ServicePlan, Start, Sticky};

/// Not more than one log line about the same server, or about refused clients of the same service, in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Why a connect failed.
enum Failure {
    /// The server refused, did not answer, or cannot be reached.
    Server(io::Error),
    /// This node could not even ask: no descriptors, no ports, no source address. Not the server's fault.
    Local(io::Error),
}

impl Connection {
    /// Chooses servers until a connect to one has begun; refuses the client when there is none.
    pub(super) fn dial(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        loop {
            let Pick { server: position, lease, .. } = match self.choose(local) {
                Ok(chosen) => chosen,
                Err(why) => {
                    report_refusal(&self.service, &local.worker, local.now, &why);
                    return Some(Outcome::Refused);
                }
            };
            self.lease = Some(lease);
            self.position = u32::try_from(position).unwrap_or(u32::MAX);
            match self.begin(position, key, local) {
                // A Unix socket is connected at once.
                Ok(true) => return self.connected(key, local),
                Ok(false) => return None,
                Err(failure) => self.failed(&failure, local),
            }
        }
    }

    fn choose(&self, local: &Local) -> Result<Pick, NoServer> {
        let (service, client) = (&*self.service, self.peer.ip());
        let remembered = local.worker.remembered(service, client);
        let nothing = Tried::default();
        let tried = self.tried.as_deref().unwrap_or(&nothing);
        let chosen = pick(service, remembered, tried, local.now)?;
        match (service.sticky, remembered, tried.is_empty()) {
            (Some(sticky), None, true) => Ok(self.claim(sticky, chosen, local)),
            _ => Ok(chosen),
        }
    }

    /// A client that opens several connections at once must not be bound to several servers: the first claim wins, and
    /// the others follow it if its server still takes them.
    fn claim(&self, sticky: Sticky, chosen: Pick, local: &Local) -> Pick {
        let service = &*self.service;
        let own = service.servers[chosen.server].id;
        if service.id.is_none() || own.is_none() {
            return chosen;
        }
        let worker = &local.worker;
        let winner = worker.clients.claim(service.id, self.peer.ip(), own, worker.clock.unix(), sticky.keep);
        if winner == own {
            return chosen;
        }
        let follow = service.position(winner).and_then(|position| {
            let pick = pick(service, Some(position), &Tried::default(), local.now);
            pick.ok().filter(|other| other.server == position)
        });
        follow.unwrap_or(chosen)
    }

    /// Begins to connect. True: it is done already.
    fn begin(&mut self, position: usize, key: Key, local: &mut Local) -> Result<bool, Failure> {
        let server = &self.service.servers[position];
        // `pick` chooses none without; a connection from just any address may be one from a virtual one.
        let start = match &server.source {
            Ok(start) => *start,
            Err(reason) => return Err(Failure::Local(io::Error::other(reason.to_string()))),
        };
        let (socket, is_unix) = match &server.address {
            Endpoint::Inet(address) => {
                let origin = match start {
                    Start::At(source) => Origin::Address(source),
                    Start::Kernel => Origin::Kernel,
                };
                (socket::connect(*address, origin).map_err(classify)?, false)
            }
            Endpoint::Unix(path) => (socket::connect_unix(path).map_err(classify)?, true),
        };
        local.reactor.add_connection(&socket, Token::Server(key)).map_err(Failure::Local)?;
        self.server = Some(Side::dialled(socket, is_unix));
        if !is_unix {
            self.stage = Stage::Dialling;
            local.dialling += 1;
            local.silence.allow(key.index(), Some(self.service.connect_timeout));
        }
        Ok(is_unix)
    }

    /// The kernel says something of the connect in progress.
    pub(super) fn dialled(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        let server = self.server.as_ref()?;
        // A connect that failed has a side that is closed; asking for the error each time would be a call for each client.
        let error = if server.ready().any(Ready::ERROR.with(Ready::CLOSED)) { server.error() } else { None };
        match error {
            Some(error) => {
                self.failed(&classify(error.into()), local);
                self.dial(key, local)
            }
            None if server.ready().any(Ready::WRITE) => self.connected(key, local),
            None => None,
        }
    }

    /// The connect took too long.
    pub(super) fn no_answer(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        self.failed(&no_answer(self.service.connect_timeout), local);
        self.dial(key, local)
    }

    fn connected(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        self.leave_dialling(local);
        let worker = &local.worker;
        let (service, position) = (&*self.service, self.position as usize);
        let server = &service.servers[position];
        server.state.shard(worker.index).connected.add(1);
        if server.state.exonerate() {
            report_return(service, server, worker);
        }
        if self.tried.take().is_some() {
            service.state.shard(worker.index).failovers.add(1);
        }
        worker.remember(service, self.peer.ip(), position);
        local.silence.allow(key.index(), service.idle_timeout);
        self.refresh_at = local.silence.now().saturating_add(refresh_ticks(service));
        if let Some(server) = &mut self.server {
            server.is_now(Ready::WRITE);
        }
        self.stage = Stage::Relaying;
        self.relay(key, local)
    }

    /// The server is not tried again for this connection.
    fn failed(&mut self, failure: &Failure, local: &mut Local) {
        self.leave_dialling(local);
        (self.server, self.lease) = (None, None);
        let position = self.position as usize;
        let server = &self.service.servers[position];
        server.state.shard(local.worker.index).failed.add(1);
        report_failure(&self.service, server, &local.worker, local.now, failure);
        self.tried.get_or_insert_default().add(position);
    }

    pub(super) fn leave_dialling(&mut self, local: &mut Local) {
        if self.stage == Stage::Dialling {
            self.stage = Stage::New;
            local.dialling -= 1;
        }
    }
}

fn no_answer(limit: Duration) -> Failure {
    Failure::Server(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))
}

/// Errors by which the kernel says that it is this node that cannot.
fn classify(error: io::Error) -> Failure {
    let is_local = is_exhaustion(&error)
        || matches!(
            error.kind(),
            io::ErrorKind::AddrInUse
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::PermissionDenied
        );
    if is_local { Failure::Local(error) } else { Failure::Server(error) }
}

/// Descriptors or memory are used up: ENFILE, EMFILE, ENOMEM, ENOBUFS.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24 | 12 | 105))
}

fn subject(service: &ServicePlan) -> String {
    format!("service {}", service.name)
}

fn more(held_back: u64) -> String {
    if held_back == 0 { String::new() } else { format!(" (and {held_back} more)") }
}

fn report_refusal(service: &ServicePlan, worker: &Worker, now: Time, why: &NoServer) {
    service.state.shard(worker.index).refused.add(1);
    if let Some(held_back) = service.state.refusals.pass(now, REPORT_INTERVAL) {
        let what = format!("refused a client{}: no server is left", more(held_back));
        worker.events.record(Severity::Alert, &subject(service), what, why.to_string());
    }
}

fn report_failure(service: &ServicePlan, server: &ServerPlan, worker: &Worker, now: Time, failure: &Failure) {
    let (news, what, error) = match failure {
        Failure::Server(error) => {
            let rest = service.blacklist;
            let what = format!("server {} ({}) is left alone for {rest:?}", server.name, server.address);
            (server.state.blacklist(now, rest), what, error)
        }
        Failure::Local(error) => {
            (true, format!("no connection to server {} could be started", server.name), error)
        }
    };
    if news && let Some(held_back) = server.state.reports.pass(now, REPORT_INTERVAL) {
        let what = format!("{what}{}", more(held_back));
        worker.events.record(Severity::Warning, &subject(service), what, error.to_string());
    }
}

fn report_return(service: &ServicePlan, server: &ServerPlan, worker: &Worker) {
    let what = format!("server {} ({}) answers again", server.name, server.address);
    worker.events.record(Severity::Info, &subject(service), what, "");
}

/// The worker's view of the client table.
impl Worker {
    fn remembered(&self, service: &ServicePlan, client: IpAddr) -> Option<usize> {
        let sticky = service.sticky?;
        let known = self.clients.lookup(service.id, client)?;
        known.is_fresh(self.clock.unix(), sticky.keep).then(|| service.position(known.server))?
    }

    /// The client has a new connection to that server.
    fn remember(&self, service: &ServicePlan, client: IpAddr, server: usize) {
        if let Some((sticky, server)) = to_be_remembered(service, server) {
            self.clients.remember(service.id, client, server, self.clock.unix(), sticky.refresh);
        }
    }

    /// The client still has a connection to that server; it may have gone over to another one since.
    pub(super) fn refresh(&self, service: &ServicePlan, client: IpAddr, server: usize) {
        if let Some((sticky, server)) = to_be_remembered(service, server) {
            self.clients.refresh(service.id, client, server, self.clock.unix(), sticky.refresh);
        }
    }
}

/// How, and under which name, clients of this server are remembered; `None` if they are not: see [`Admin::Drain`], and
/// a name beyond the limit stands for nobody.
fn to_be_remembered(service: &ServicePlan, server: usize) -> Option<(Sticky, NameId)> {
    let (sticky, server) = (service.sticky?, service.servers.get(server)?);
    let may = server.admin == Admin::Ready && !service.id.is_none() && !server.id.is_none();
    may.then_some((sticky, server.id))
}
