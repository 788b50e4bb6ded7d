//! The servers, and how they die.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::exchange::Exchange;
use super::{Outcome, Settings};

/// How often a server looks for late answers that are due, and whether it is to die or to end.
const LOOK: Duration = Duration::from_millis(5);
/// Room for questions that wait, bytes; as much of it as the kernel grants.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Servers that answer.
pub struct Servers {
    threads: Vec<Running>,
}

/// A server, and its thread until that is waited for.
type Running = (Arc<Shared>, Option<JoinHandle<()>>);

struct Shared {
    settings: Settings,
    at: SocketAddr,
    is_dead: AtomicBool,
    is_over: AtomicBool,
    seen: Mutex<Outcome>,
    /// Where each flow came from, and which one last did.
    ports: Mutex<BTreeMap<SocketAddr, u64>>,
}

impl Servers {
    /// Starts one at each address.
    ///
    /// # Errors
    /// If one cannot bind.
    pub fn start(settings: Settings, at: &[SocketAddr]) -> Result<Self> {
        let start = |at: &SocketAddr| -> Result<Running> {
            let shared = Arc::new(Shared {
                settings,
                at: *at,
                is_dead: AtomicBool::new(false),
                is_over: AtomicBool::new(false),
                seen: Mutex::default(),
                ports: Mutex::default(),
            });
            let (socket, theirs) = (shared.bind()?, Arc::clone(&shared));
            Ok((shared, Some(thread::spawn(move || theirs.serve(socket)))))
        };
        Ok(Self { threads: at.iter().map(start).collect::<Result<_>>()? })
    }

    /// One dies, or lives again. What it still owed is sent when it lives again, as by a network that held it up.
    pub fn kill(&self, which: usize, is_dead: bool) {
        self.threads[which % self.threads.len()].0.is_dead.store(is_dead, Ordering::Relaxed);
    }

    /// What they have seen.
    pub(super) fn add_to(&self, outcome: &mut Outcome) {
        for (shared, _) in &self.threads {
            let seen = lock(&shared.seen);
            outcome.questions += seen.questions;
            outcome.bytes += seen.bytes;
            outcome.failures.extend(seen.failures.iter().cloned());
            outcome.ports_shared += seen.ports_shared;
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for (shared, thread) in &mut self.threads {
            shared.is_over.store(true, Ordering::Relaxed);
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers that are to be sent, by when: the address of a flow, and what it asked.
type Late = BTreeMap<(Instant, u64), (SocketAddr, Exchange)>;

impl Shared {
    fn bind(&self) -> Result<UdpSocket> {
        let socket = UdpSocket::bind(self.at).with_context(|| format!("cannot bind {}", self.at))?;
        socket.set_read_timeout(Some(LOOK))?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        Ok(socket)
    }

    fn serve(&self, socket: UdpSocket) {
        let (mut socket, mut late, mut count) = (Some(socket), Late::new(), 0);
        let mut buffer = vec![0; 1 << 16];
        while !self.is_over.load(Ordering::Relaxed) {
            if self.is_dead.load(Ordering::Relaxed) {
                socket = None;
                thread::sleep(LOOK);
                continue;
            }
            let Some(open) = &socket else {
                match self.bind() {
                    Ok(again) => socket = Some(again),
                    Err(error) => return lock(&self.seen).failures.push(format!("{error:#}")),
                }
                continue;
            };
            // An error is that nothing came, or an ICMP answer to what nobody waits for any more.
            if let Ok((length, from)) = open.recv_from(&mut buffer)
                && let Some(exchange) = self.compare(&buffer[..length], from)
            {
                count += 1;
                late.insert((Instant::now() + exchange.delay, count), (from, exchange));
            }
            while let Some(first) = late.first_entry()
                && first.key().0 <= Instant::now()
            {
                let (to, exchange) = first.remove();
                for _ in 0..=usize::from(exchange.is_doubled) {
                    let _ = open.send_to(&exchange.answer(), to);
                }
            }
        }
    }

    /// A question must be right.
    fn compare(&self, datagram: &[u8], from: SocketAddr) -> Option<Exchange> {
        let exchange = Exchange::of(self.settings, datagram).filter(|it| it.question() == datagram);
        let mut seen = lock(&self.seen);
        if exchange.is_none() {
            seen.failures.push(format!("{} wrong bytes to server {} from {from}", datagram.len(), self.at));
        }
        seen.questions += 1;
        seen.bytes += datagram.len() as u64;
        if let Some(Exchange { flow, .. }) = exchange {
            let before = lock(&self.ports).insert(from, flow);
            seen.ports_shared += u64::from(before.is_some_and(|before| before != flow));
        }
        exchange
    }
}
