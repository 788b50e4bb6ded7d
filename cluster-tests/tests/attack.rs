//! Clients that want to exhaust the balancer: its memory stays under a stated bound for each of them, and others are served.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::figure;
use cygnet_lab::solo::{Solo, service};
use cygnet_lab::wait;

/// Where clients connect.
const FRONT: ([u8; 4], u16) = ([127, 0, 0, 1], 8000);
const SERVER: ([u8; 4], u16) = ([127, 0, 0, 1], 9001);
/// How long somebody else may wait for an answer meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it takes at most until all buffers of the kernel are full.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// What one connection may cost that has a backlog: one read of a worker (64 KiB), and its own state.
const BACKLOGGED_MAX: u64 = 80 * 1024;
/// What one may cost that has none.
const QUIET_MAX: u64 = 2 * 1024;
/// What the process may grow by, however few there are: buffers of the workers, the allocator's slack.
const GROWTH_FREE: u64 = 2 * 1024 * 1024;

/// What the server sends at once.
const PIECE: usize = 4096;
/// What it has sent without end.
static SENT: AtomicU64 = AtomicU64::new(0);
/// Nothing has moved for so long: it will not any more.
const STILL: Duration = Duration::from_millis(500);

/// Sends without end after an `S`, and echoes anything else.
fn serve() -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(SERVER))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::Builder::new().stack_size(64 * 1024).spawn(move || {
                let mut bytes = [0; 512];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if bytes[0] == b'S' {
                        while stream.write_all(&[b'x'; PIECE]).is_ok() {
                            SENT.fetch_add(PIECE as u64, Ordering::Relaxed);
                        }
                        return;
                    }
                    if stream.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            })?;
        }
        std::io::Result::Ok(())
    });
    Ok(())
}

fn connect() -> Result<TcpStream> {
    connect_with(None)
}

/// `window`: the size of the client's receive buffer, bytes; `None`: as the kernel likes.
fn connect_with(window: Option<usize>) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    if let Some(window) = window {
        socket.set_recv_buffer_size(window)?;
    }
    socket.connect(&SocketAddr::from(FRONT).into()).context("no connection")?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Somebody else is served: how long that took.
fn another() -> Result<Duration> {
    let start = Instant::now();
    let mut stream = connect()?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).context("others are not served")?;
    ensure!(answer == *b"hello", "{answer:?}");
    Ok(start.elapsed())
}

/// Waits until nothing moves and the memory has stopped growing, and checks the bound.
fn under(what: &str, solo: &Solo, before: u64, clients: usize, each: u64) -> Result<()> {
    let mut last = (0, 0);
    let settled = wait::until(SETTLE_LIMIT, "everything to come to a rest", || {
        thread::sleep(STILL);
        let now = (SENT.load(Ordering::Relaxed), solo.memory()?);
        let grows = now.0 > last.0 || now.1 > last.1 + last.1 / 100;
        last = now;
        Ok((!grows).then_some(now.1))
    })?;
    let (grown, bound) = (settled.saturating_sub(before), GROWTH_FREE + each * clients as u64);
    let other = another()?;
    figure(
        &format!("attack, {what}"),
        &format!(
            "{clients} clients, {} KiB more ({} bytes each), bound {} KiB; another client is served in {} ms",
            grown / 1024,
            grown / clients as u64,
            bound / 1024,
            other.as_millis()
        ),
    );
    ensure!(grown <= bound, "{what}: {grown} bytes more, bound {bound}");
    Ok(())
}

fn start() -> Result<(Solo, u64)> {
    serve()?;
    let front = SocketAddr::from(FRONT);
    let solo =
        Solo::start(&service(&format!("listen = [\"{front}\"]"), &[SocketAddr::from(SERVER).to_string()]))?;
    another()?;
    let memory = solo.memory()?;
    Ok((solo, memory))
}

#[test]
fn clients_that_never_read_cost_one_buffer_each() -> Result<()> {
    enter::lab(|| {
        const CLIENTS: usize = 200;
        let (solo, before) = start()?;
        let mut greedy = Vec::new();
        for number in 0..CLIENTS {
            // With a small window the balancer is left with bytes that it has copied, with a large one with a full pipe.
            let mut stream = connect_with((number % 2 == 0).then_some(PIECE))?;
            stream.write_all(b"S")?;
            greedy.push(stream);
        }
        under("clients that never read", &solo, before, CLIENTS, BACKLOGGED_MAX)
    })
}

#[test]
fn clients_that_send_a_byte_now_and_then_cost_their_state_only() -> Result<()> {
    enter::lab(|| {
        const CLIENTS: usize = 1_000;
        const ROUNDS: u8 = 5;
        let (solo, before) = start()?;
        let mut slow = (0..CLIENTS).map(|_| connect()).collect::<Result<Vec<_>>>()?;
        for round in 0..ROUNDS {
            for stream in &mut slow {
                stream.write_all(&[b'a' + round])?;
            }
            for stream in &mut slow {
                let mut answer = [0];
                stream.read_exact(&mut answer)?;
                ensure!(answer[0] == b'a' + round, "{answer:?}");
            }
        }
        under("clients that send a byte now and then", &solo, before, CLIENTS, QUIET_MAX)
    })
}

#[test]
fn clients_that_say_nothing_cost_their_state_only() -> Result<()> {
    enter::lab(|| {
        // The lab's own files are the limit here: two for each client, and one at its server.
        const CLIENTS: usize = 4_000;
        let (solo, before) = start()?;
        let silent = (0..CLIENTS).map(|_| connect()).collect::<Result<Vec<_>>>()?;
        under("clients that say nothing", &solo, before, silent.len(), QUIET_MAX)
    })
}
