//! Ten thousand clients that begin a TLS handshake and say nothing more: there are at most so many of them in a worker,
//! memory stays under what those may cost, and somebody else shakes hands meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cygnet_lab::figures::figure;
use cygnet_lab::integrity::Dress;
use cygnet_lab::solo::{Solo, service};
use cygnet_lab::{enter, wait};
use openssl::ssl::{Ssl, SslContextBuilder, SslMethod, SslStream, SslVerifyMode};

const FRONT: ([u8; 4], u16) = ([127, 0, 0, 1], 8000);
const SERVER: ([u8; 4], u16) = ([127, 0, 0, 1], 9001);
/// Who come.
const CLIENTS: usize = 10_000;
/// How many of them the node keeps: 4096 for each of its two workers.
const KEPT_MAX: u64 = 2 * 4096;
/// What one of those may cost: the library's session in the middle of its handshake.
const EACH_MAX: u64 = 40 * 1024;
/// What the process may grow by in any case: the buffers of its workers, the allocator's slack.
const GROWTH_FREE: u64 = 8 * 1024 * 1024;
/// Between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How soon those beyond that must have gone: before handshakes are given up for their age, which is 10 seconds.
const SETTLED: Duration = Duration::from_secs(3);
/// How long somebody else may wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first message of a client.
fn hello() -> Result<Vec<u8>> {
    /// A stream that nobody answers.
    struct Recorder(Vec<u8>);
    impl Read for Recorder {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::WouldBlock.into())
        }
    }
    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let context = SslContextBuilder::new(SslMethod::tls_client())?.build();
    let mut stream = SslStream::new(Ssl::new(&context)?, Recorder(Vec::new()))?;
    ensure!(stream.connect().is_err(), "a handshake without a server");
    Ok(std::mem::take(&mut stream.get_mut().0))
}

fn connect() -> Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from(FRONT)).context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Somebody else shakes hands and is served: how long that took.
fn another() -> Result<Duration> {
    let start = Instant::now();
    let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
    context.set_verify(SslVerifyMode::NONE);
    let mut stream = SslStream::new(Ssl::new(&context.build())?, connect()?)?;
    stream.connect().context("others cannot shake hands")?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    ensure!(&answer == b"hello", "{answer:?}");
    Ok(start.elapsed())
}

fn echo() -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(SERVER))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut stream.try_clone()?, &mut stream));
        }
    });
    Ok(())
}

#[test]
fn ten_thousand_half_open_tls_handshakes_stay_under_the_bound_of_each_worker() -> Result<()> {
    enter::lab(|| {
        let files = cygnet_netlink::limits::raise_open_files()?.hard;
        if files < CLIENTS as u64 + 100 {
            eprintln!("SKIPPED: {files} open files are too few");
            return Ok(());
        }
        echo()?;
        let (tls, _) = Dress::new(Path::new(enter::FILES), true, false, false)?.keys();
        let keys = format!("listen = [\"{}\"]\n{tls}", SocketAddr::from(FRONT));
        let solo = Solo::start(&service(&keys, &[SocketAddr::from(SERVER).to_string()]))?;
        another()?;
        let before = solo.memory()?;
        let (most, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let (opened, waited) = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    most.fetch_max(solo.memory().unwrap_or(0), Ordering::Relaxed);
                    thread::sleep(LOOK_EVERY);
                }
            });
            let outcome = attack();
            over.store(true, Ordering::Relaxed);
            outcome
        })?;
        let grown = most.load(Ordering::Relaxed).saturating_sub(before);
        let bound = GROWTH_FREE + KEPT_MAX * EACH_MAX;
        figure(
            "attack, half-open TLS handshakes",
            &format!(
                "{CLIENTS} clients in {} ms, {} KiB more at most, bound {} KiB; another client is served in {} ms",
                opened.as_millis(),
                grown / 1024,
                bound / 1024,
                waited.as_millis()
            ),
        );
        ensure!(grown <= bound, "{grown} bytes more, bound {bound}");
        Ok(())
    })
}

/// All come and stay; then somebody else. How long each took.
fn attack() -> Result<(Duration, Duration)> {
    let (start, hello) = (Instant::now(), hello()?);
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let mut stream = connect()?;
        // Every fourth stops within its first message; the others have the library answer it.
        let said = if number % 4 == 0 { hello.len() / 2 } else { hello.len() };
        // Those that had to make room are told by a reset.
        let _ = stream.write_all(&hello[..said]);
        clients.push(stream);
    }
    let opened = start.elapsed();
    let waited = another()?;
    // The first make room for the last, as these are accepted: so many are not kept.
    for stream in &clients {
        stream.set_nonblocking(true)?;
    }
    let what = format!("{KEPT_MAX} clients at most to be left");
    wait::until(SETTLED, &what, || {
        clients.retain_mut(is_there);
        Ok((clients.len() as u64 <= KEPT_MAX).then_some(()))
    })?;
    Ok((opened, waited))
}

/// The node has not let go of this client.
fn is_there(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}
