//! The clients.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::timeout;

use super::Settings;
use super::exchange::Exchange;

/// A question without an answer is asked again after this time: shorter than what a late answer takes.
const AGAIN: Duration = Duration::from_millis(120);
/// No question takes longer, also on a busy machine and while servers die.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Room for one datagram more than there is.
const ROOM: usize = 1 << 16;
/// Clients that listen on when they have all their answers: as long as these are overtaken by so many others.
const LISTENING: usize = 400;
/// All clients have this port, and addresses of their own: the answer for one who has gone is nobody else's.
const PORT: u16 = 20_000;

/// A client who is through, or has given up.
pub(super) struct Done {
    settings: Settings,
    flow: u64,
    socket: UdpSocket,
    pub(super) answers: u64,
    pub(super) bytes: u64,
    /// The question that waited longest, until it was answered.
    pub(super) longest: Duration,
    pub(super) failure: Option<String>,
}

/// Asks all questions of a flow.
pub(super) async fn play(settings: Settings, flow: u64, front: SocketAddr) -> Result<Done> {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + u32::try_from(flow)?);
    let socket = UdpSocket::bind((address, PORT)).with_context(|| format!("cannot bind {address}"))?;
    socket.connect(front)?;
    socket.set_nonblocking(true)?;
    let (longest, theirs) = (Duration::ZERO, socket.try_clone()?);
    let mut done = Done { settings, flow, socket: theirs, answers: 0, bytes: 0, longest, failure: None };
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    for number in 0..Exchange::count(settings, flow) {
        if let Err(failure) = ask(Exchange::new(settings, flow, number), &socket, &mut done).await {
            done.failure = Some(failure);
            break;
        }
    }
    Ok(done)
}

/// Asks one question until it is answered.
async fn ask(exchange: Exchange, socket: &tokio::net::UdpSocket, done: &mut Done) -> Result<(), String> {
    let (start, question) = (Instant::now(), exchange.question());
    let mut buffer = vec![0; ROOM];
    while start.elapsed() < ANSWER_LIMIT {
        // An error is an ICMP answer: nobody listens yet, or there was no room.
        let _ = socket.send(&question).await;
        let asked = Instant::now();
        while let Some(left) = AGAIN.checked_sub(asked.elapsed()) {
            let Ok(received) = timeout(left, socket.recv(&mut buffer)).await else { break };
            let Ok(length) = received else { continue };
            let number = done.compare(&buffer[..length])?;
            if number == exchange.number {
                done.longest = done.longest.max(start.elapsed());
                return Ok(());
            }
        }
    }
    Err(format!("no answer in {ANSWER_LIMIT:?} to {exchange:?}"))
}

impl Done {
    /// An answer must be one to this client, and be right. Returns to which of its questions.
    fn compare(&mut self, datagram: &[u8]) -> Result<u32, String> {
        let of = Exchange::of(self.settings, datagram);
        let exchange =
            of.ok_or_else(|| format!("{} bytes of nobody for flow {}", datagram.len(), self.flow))?;
        if exchange.flow != self.flow {
            return Err(format!("STRAY: an answer for flow {} came to flow {}", exchange.flow, self.flow));
        }
        if exchange.answer() != datagram {
            return Err(format!("{} bytes are wrong: {exchange:?}", datagram.len()));
        }
        self.answers += 1;
        self.bytes += datagram.len() as u64;
        Ok(exchange.number)
    }

    /// What has come since it was through, and must not have.
    fn listen(mut self) -> Option<String> {
        let mut buffer = vec![0; ROOM];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            if let Err(failure) = self.compare(&buffer[..length]) {
                return Some(failure);
            }
        }
        None
    }
}

/// Clients who only listen.
#[derive(Default)]
pub(super) struct Finished(VecDeque<Done>);

impl Finished {
    /// Returns what has come wrongly to the one who leaves for it.
    pub(super) fn push(&mut self, done: Done) -> Option<String> {
        self.0.push_back(done);
        let leaves = (self.0.len() > LISTENING).then(|| self.0.pop_front()).flatten();
        leaves.and_then(Done::listen)
    }

    /// The same of all of them.
    pub(super) fn all(self) -> impl Iterator<Item = String> {
        self.0.into_iter().filter_map(Done::listen)
    }
}
