//! Bytes from the client to the server and back, until both have ended.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::dial::Upstream;
use super::half::{Half, Want};
use super::local::{self, Local, Seated};
use super::silence::{End, TICK};
use super::worker::Worker;
use crate::plan::ServicePlan;

/// Reads of one direction before the other connections of the worker get their turn: 1 MiB.
const READS_PER_TURN: usize = 16;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both sides said their end.
    Finished,
    /// A side was reset or failed.
    Aborted,
    /// It had to end.
    Ended(End),
}

/// A connection of a client that has its server.
pub(super) struct Relay<'a> {
    client: TcpStream,
    upstream: Upstream,
    up: Half,
    down: Half,
    seated: &'a Seated,
    /// The tick from which on the client is written down again, if it is remembered.
    refresh_at: u32,
    service: &'a ServicePlan,
    peer: IpAddr,
    worker: &'a Worker,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        client: TcpStream,
        peer: IpAddr,
        upstream: Upstream,
        service: &'a ServicePlan,
        worker: &'a Worker,
        seated: &'a Seated,
    ) -> Self {
        seated.allow(service.idle_timeout);
        let (up, down) = (Half::default(), Half::default());
        let now = local::with(|local| local.silence.now()).unwrap_or(0);
        let refresh_at = now.saturating_add(refresh_ticks(service));
        Self { client, upstream, up, down, seated, refresh_at, service, peer, worker }
    }

    /// Relays until the end. An abort of one side is passed on to the other as an abort, so that nobody takes half an
    /// answer for a whole one.
    pub(super) async fn run(mut self) -> Outcome {
        let outcome = poll_fn(|cx| self.poll(cx)).await;
        let backlog = self.up.has_backlog() || self.down.has_backlog();
        match outcome {
            Outcome::Finished => {}
            Outcome::Ended(End::Silent) if !backlog => {}
            Outcome::Aborted | Outcome::Ended(_) => {
                // A side that is gone already does not mind.
                let _ = self.client.set_zero_linger();
                let _ = self.upstream.stream.set_zero_linger();
            }
        }
        self.worker.refresh(self.service, self.peer, self.upstream.server);
        outcome
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        // Without the thread's own things there is no worker any more.
        local::with(|local| self.poll_with(local, cx)).unwrap_or(Poll::Ready(Outcome::Ended(End::Stopped)))
    }

    fn poll_with(&mut self, local: &mut Local, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(end) = self.seated.end_in(local) {
            return Poll::Ready(Outcome::Ended(end));
        }
        let (client, server) = (&mut self.client, &mut self.upstream.stream);
        let (mut sent, mut received) = (0, 0);
        let up = pump(&mut self.up, client, server, self.down.is_over(), &mut local.buffer, &mut sent, cx);
        let down =
            pump(&mut self.down, server, client, self.up.is_over(), &mut local.buffer, &mut received, cx);
        if sent + received > 0 {
            self.seated.moved_in(local);
            self.count(sent, received);
            self.refresh(local.silence.now());
        }
        match (up, down) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(Outcome::Aborted),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Outcome::Finished),
            _ => Poll::Pending,
        }
    }

    fn count(&self, sent: u64, received: u64) {
        let shard = self.upstream.lease.server().shard(self.worker.index);
        if sent > 0 {
            shard.to_server.add(sent);
        }
        if received > 0 {
            shard.to_client.add(received);
        }
    }

    /// A connection that lives long keeps its client remembered while bytes move.
    fn refresh(&mut self, now: u32) {
        if self.service.sticky.is_some() && now >= self.refresh_at {
            self.refresh_at = now.saturating_add(refresh_ticks(self.service));
            self.worker.refresh(self.service, self.peer, self.upstream.server);
        }
    }
}

/// Ticks between two writings-down of a client whose connection lives on.
fn refresh_ticks(service: &ServicePlan) -> u32 {
    let ticks_per_second = 1_000 / TICK.as_millis() as u32;
    service.sticky.map_or(u32::MAX, |sticky| sticky.refresh.saturating_mul(ticks_per_second).max(1))
}

/// Moves what can be moved in one direction. Ready when the direction is over. `other_is_over`: both sockets will be
/// closed at once, so the end need not be passed on by itself.
fn pump(
    half: &mut Half,
    from: &mut TcpStream,
    to: &mut TcpStream,
    other_is_over: bool,
    buffer: &mut [u8],
    moved: &mut u64,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut reads = 0;
    loop {
        match half.want() {
            Want::Read if reads == READS_PER_TURN => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Want::Read => {
                reads += 1;
                let mut space = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut space))?;
                let bytes = space.filled();
                if bytes.is_empty() {
                    half.end_of_input();
                    continue;
                }
                *moved += bytes.len() as u64;
                match Pin::new(&mut *to).poll_write(cx, bytes) {
                    Poll::Ready(accepted) => half.received(bytes, accepted?),
                    Poll::Pending => half.received(bytes, 0),
                }
            }
            Want::Write(bytes) => match ready!(Pin::new(&mut *to).poll_write(cx, bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => half.wrote(count),
            },
            Want::Shutdown => {
                if !other_is_over {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                }
                half.passed_end_on();
            }
            Want::Nothing => return Poll::Ready(Ok(())),
        }
    }
}
