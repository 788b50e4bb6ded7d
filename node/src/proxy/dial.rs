//! From a client to a connected server: choose, connect, and on failure choose again.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_netlink::socket;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::local::Seated;
use super::silence::End;
use super::worker::Worker;
use crate::balance::{self, Choice, NoServer, Pick};
use crate::plan::{Lease, ServerPlan, ServicePlan};

/// Not more than one log line about the same server, or about refused clients of the same service, in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A connected server.
pub(super) struct Upstream {
    pub(super) stream: TcpStream,
    /// Its place is kept as long as the connection lives.
    pub(super) lease: Lease,
    /// Its position in the service.
    pub(super) server: usize,
}

/// Why a connect failed.
enum Failure {
    /// The server refused, did not answer, or cannot be reached.
    Server(io::Error),
    /// This node could not even ask: no descriptors, no ports, no source address. Not the server's fault.
    Local(io::Error),
    /// The worker stops.
    Stopped,
}

/// Connects the client to a server; `None` when there is none, which has then been counted and logged.
pub(super) async fn dial(
    service: &ServicePlan,
    client: SocketAddr,
    worker: &Worker,
    seated: &Seated,
) -> Option<Upstream> {
    let mut choice = Choice::begin(service, &worker.clients, client, worker.clock.unix());
    loop {
        let now = worker.clock.now();
        let Pick { server: position, mut lease, .. } =
            match choice.next(service, &worker.clients, now, worker.clock.unix()) {
                Ok(chosen) => chosen,
                Err(why) => {
                    report_refusal(service, worker, now, &why);
                    return None;
                }
            };
        let server = &service.servers[position];
        match connect(server, service.connect_timeout, seated).await {
            Ok(stream) => {
                server.state.shard(worker.index).connected.add(1);
                let unix = worker.clock.unix();
                let told = choice.connected(service, &worker.clients, position, &mut lease, unix);
                if told.returned {
                    report_return(service, server, worker);
                }
                if told.failed_over {
                    service.state.shard(worker.index).failovers.add(1);
                }
                return Some(Upstream { stream, lease, server: position });
            }
            Err(Failure::Stopped) => return None,
            Err(failure) => {
                server.state.shard(worker.index).failed.add(1);
                report_failure(service, position, worker, &failure);
            }
        }
    }
}

async fn connect(server: &ServerPlan, limit: Duration, seated: &Seated) -> Result<TcpStream, Failure> {
    // `pick` chooses none without; a connection from just any address may be one from a virtual one.
    let source = match &server.source {
        Ok(source) => *source,
        Err(reason) => return Err(Failure::Local(io::Error::other(reason.to_string()))),
    };
    let socket = socket::connect(
        server
            .address
            .inet()
            .ok_or_else(|| Failure::Local(io::Error::other("Unix sockets are not served")))?,
        source.address(),
    )
    .map_err(classify)?;
    let stream = TcpStream::from_std(socket).map_err(Failure::Local)?;
    seated.allow(Some(limit));
    let ready = {
        let mut ready = pin!(stream.ready(Interest::WRITABLE));
        poll_fn(|cx| match (ready.as_mut().poll(cx), seated.end()) {
            (Poll::Ready(ready), _) => Poll::Ready(ready.map_err(Failure::Local)),
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(End::Stopped)) => Poll::Ready(Err(Failure::Stopped)),
            (Poll::Pending, Some(End::Silent)) => Poll::Ready(Err(no_answer(limit))),
        })
        .await?
    };
    // A failed connect has a side that is closed; asking for the error each time would be a call for each client.
    if !ready.is_write_closed() {
        return Ok(stream);
    }
    match stream.take_error() {
        Ok(None) => Ok(stream),
        Ok(Some(error)) | Err(error) => Err(classify(error)),
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

fn report_failure(service: &ServicePlan, position: usize, worker: &Worker, failure: &Failure) {
    let now = worker.clock.now();
    let server = &service.servers[position];
    let (news, what, error) = match failure {
        Failure::Server(error) => {
            let rest = service.blacklist;
            let what = format!("server {} ({}) is left alone for {rest:?}", server.name, server.address);
            (Choice::failed(service, position, now), what, error)
        }
        Failure::Local(error) => {
            (true, format!("no connection to server {} could be started", server.name), error)
        }
        Failure::Stopped => return,
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
    /// The client still has a connection to that server; it may have gone over to another one since.
    pub(super) fn refresh(&self, service: &ServicePlan, client: IpAddr, server: usize) {
        balance::refresh(service, &self.clients, client, server, self.clock.unix());
    }
}
