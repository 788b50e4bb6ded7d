//! From a client to a connected server: choose, connect, and on failure choose again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_netlink::socket::{self, Origin};
use rustix::net::sockopt;

use super::connection::{Connection, Outcome, Stage};
use super::http::Filter;
use super::layers::End;
use super::local::Local;
use super::reactor::{Ready, Token};
use super::relay::refresh_ticks;
use super::side::Side;
use super::slots::Key;
use super::worker::Worker;
use crate::balance::{self, Choice, NoServer, Pick};
use crate::config::model::Endpoint;
use crate::plan::{ServerPlan, ServicePlan, Start};

/// Not more than one log line about the same server, or about refused clients of the same service, in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Why a connect failed.
pub(super) enum Failure {
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
                Ok(true) => return self.secure(key, local),
                Ok(false) => return None,
                Err(failure) => self.failed(&failure, local),
            }
        }
    }

    fn choose(&mut self, local: &Local) -> Result<Pick, NoServer> {
        let (service, clients) = (&*self.service, &*local.worker.clients);
        let unix = local.unix(service);
        let choice =
            self.choice.get_or_insert_with(|| Box::new(Choice::begin(service, clients, self.peer, unix)));
        choice.next(service, clients, local.now, unix)
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
                let socket = socket::connect(*address, self.origin(*address, start)).map_err(classify)?;
                if self.service.keepalive {
                    sockopt::set_socket_keepalive(&socket, true)
                        .map_err(io::Error::from)
                        .map_err(Failure::Local)?;
                }
                (socket, false)
            }
            Endpoint::Unix(path) => (socket::connect_unix(path).map_err(classify)?, true),
        };
        local.reactor.add_connection(&socket, Token::Server(key)).map_err(Failure::Local)?;
        self.server = Some(Side::dialled(socket, is_unix));
        self.stage = Stage::Dialling;
        local.dialling += 1;
        if !is_unix {
            local.silence.allow(key.index(), Some(self.service.connect_timeout));
        }
        Ok(is_unix)
    }

    /// Where the connection to `server` is to start from.
    fn origin(&self, server: SocketAddr, start: Start) -> Origin {
        let client = self.peer.ip().to_canonical();
        let is_alike = client.is_ipv4() == server.is_ipv4() && !client.is_unspecified();
        match start {
            _ if self.service.transparent && is_alike => Origin::Foreign(client),
            Start::At(source) => Origin::Address(source),
            Start::Kernel => Origin::Kernel,
        }
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
            None if server.ready().any(Ready::WRITE) => self.secure(key, local),
            None => None,
        }
    }

    /// The connect took too long.
    pub(super) fn no_answer(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        self.failed(&no_answer(self.service.connect_timeout), local);
        self.dial(key, local)
    }

    /// The server is there, and its handshake done.
    pub(super) fn connected(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        self.leave_dialling(local);
        let worker = &local.worker;
        let (service, position) = (&*self.service, self.position as usize);
        let server = &service.servers[position];
        server.state.shard(worker.index).connected.add(1);
        // The memory goes back: whoever is connected chooses no more.
        if let (Some(choice), Some(lease)) = (self.choice.take(), &mut self.lease) {
            let told = choice.connected(service, &worker.clients, position, lease, local.unix(service));
            if told.returned {
                report_return(service, server, worker);
            }
            if told.failed_over {
                service.state.shard(worker.index).failovers.add(1);
            }
        }
        local.silence.allow(key.index(), service.idle_timeout);
        self.refresh_at = local.silence.now().saturating_add(refresh_ticks(service));
        if let Some(http) = &service.http {
            let layers = self.layers.get_or_insert_default();
            let filter = Filter::new(http, self.peer.ip(), layers.client.tls.is_some());
            layers.filter = Some(Box::new(filter));
        }
        self.stage = Stage::Relaying;
        self.relay(key, local)
    }

    /// The server is there, but not with TLS that we accept.
    pub(super) fn not_secured(&mut self, reason: String, key: Key, local: &mut Local) -> Option<Outcome> {
        self.failed(&Failure::Server(io::Error::other(format!("TLS: {reason}"))), local);
        self.dial(key, local)
    }

    /// The server is not tried again for this connection.
    fn failed(&mut self, failure: &Failure, local: &mut Local) {
        self.leave_dialling(local);
        (self.server, self.lease) = (None, None);
        if let Some(layers) = &mut self.layers {
            layers.server = End::default();
        }
        let position = self.position as usize;
        let server = &self.service.servers[position];
        server.state.shard(local.worker.index).failed.add(1);
        report_failure(&self.service, position, &local.worker, local.now, failure);
    }

    pub(super) fn leave_dialling(&mut self, local: &mut Local) {
        if matches!(self.stage, Stage::Dialling | Stage::Securing) {
            self.stage = Stage::New;
            local.dialling -= 1;
        }
    }
}

pub(super) fn no_answer(limit: Duration) -> Failure {
    Failure::Server(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))
}

pub(super) fn classify(error: io::Error) -> Failure {
    if is_local(&error) { Failure::Local(error) } else { Failure::Server(error) }
}

/// Whether the kernel says by this error that it is this node that cannot, not the server.
pub(crate) fn is_local(error: &io::Error) -> bool {
    is_exhaustion(error)
        || matches!(
            error.kind(),
            io::ErrorKind::AddrInUse
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::PermissionDenied
        )
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

pub(super) fn report_refusal(service: &ServicePlan, worker: &Worker, now: Time, why: &NoServer) {
    service.state.shard(worker.index).refused.add(1);
    if let Some(held_back) = service.state.refusals.pass(now, REPORT_INTERVAL) {
        let what = format!("refused a client{}: no server is left", more(held_back));
        worker.events.record(Severity::Alert, &subject(service), what, why.to_string());
    }
}

pub(super) fn report_failure(
    service: &ServicePlan,
    position: usize,
    worker: &Worker,
    now: Time,
    failure: &Failure,
) {
    let error = match failure {
        Failure::Server(error) => error,
        Failure::Local(error) => return report_start(service, position, worker, now, error),
    };
    let (server, rest) = (&service.servers[position], service.blacklist);
    if Choice::failed(service, position, now)
        && let Some(held_back) = server.state.reports.pass(now, REPORT_INTERVAL)
    {
        let (name, address) = (&server.name, &server.address);
        let what = format!("server {name} ({address}) is left alone for {rest:?}{}", more(held_back));
        worker.events.record(Severity::Warning, &subject(service), what, error.to_string());
    }
}

/// Something could not even be begun, for a reason that lies in this node.
fn report_start(service: &ServicePlan, position: usize, worker: &Worker, now: Time, error: &io::Error) {
    let Some(server) = service.servers.get(position) else { return };
    if let Some(held_back) = server.state.reports.pass(now, REPORT_INTERVAL) {
        let what = format!("no connection to server {} could be started{}", server.name, more(held_back));
        worker.events.record(Severity::Warning, &subject(service), what, error.to_string());
    }
}

fn report_return(service: &ServicePlan, server: &ServerPlan, worker: &Worker) {
    let what = format!("server {} ({}) answers again", server.name, server.address);
    worker.events.record(Severity::Info, &subject(service), what, "");
}

/// What the worker has to say.
impl Worker {
    /// A client is turned away for what it said, or for a fault of ours.
    pub(super) fn refused(&self, service: &ServicePlan, reason: &str, now: Time) {
        if let Some(held_back) = service.state.refusals.pass(now, REPORT_INTERVAL) {
            let what = format!("refused a client{}", more(held_back));
            self.events.record(Severity::Warning, &subject(service), what, reason);
        }
    }

    /// A client's handshake came to nothing.
    pub(super) fn unshaken(&self, service: &ServicePlan, client: SocketAddr, reason: &str, now: Time) {
        if let Some(held_back) = service.state.refusals.pass(now, REPORT_INTERVAL) {
            let what = format!("no TLS with {}{}", client.ip(), more(held_back));
            self.events.record(Severity::Info, &subject(service), what, reason);
        }
    }

    /// The client still has a connection to that server; it may have gone over to another one since.
    pub(super) fn refresh(&self, service: &ServicePlan, client: IpAddr, server: usize) {
        if service.sticky.is_some() {
            balance::refresh(service, &self.clients, client, server, self.clock.unix());
        }
    }
}
