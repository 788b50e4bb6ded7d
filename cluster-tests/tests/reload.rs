//! The configuration changes again and again under load, and no request fails.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::figure;
use cygnet_lab::solo::{Solo, service};

/// Set it to 200 for the long run.
const RELOADS: &str = "CYGNET_RELOADS";
const RELOADS_SHORT: usize = 20;
/// Where clients connect, in every configuration...
const FRONT: ([u8; 4], u16) = ([127, 0, 0, 1], 8000);
/// ...and in every other one.
const ALSO: &str = "127.0.0.1:8001";
const SERVERS: [u16; 3] = [9001, 9002, 9003];
/// Clients that connect for each request, and as many that keep their connection.
const CLIENTS: usize = 4;
/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers each line with the same line.
fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(&stream));
        }
    });
    Ok(())
}

fn echo(stream: &TcpStream) -> Option<()> {
    let (mut lines, mut write) = (BufReader::new(stream), stream);
    let mut line = String::new();
    while lines.read_line(&mut line).ok()? > 0 {
        write.write_all(line.as_bytes()).ok()?;
        line.clear();
    }
    Some(())
}

fn connect() -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(SocketAddr::from(FRONT)).context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn ask(stream: &mut BufReader<TcpStream>, request: u64) -> Result<()> {
    let wanted = format!("request {request}\n");
    stream.get_mut().write_all(wanted.as_bytes()).context("the request is not taken")?;
    let mut answer = String::new();
    stream.read_line(&mut answer).context("no answer")?;
    ensure!(answer == wanted, "{answer:?} instead of {wanted:?}");
    Ok(())
}

/// Asks until it is over: how many requests, each of which was answered.
fn client(keeps: bool, over: &AtomicBool, asked: &AtomicU64) -> Result<()> {
    let mut kept = connect()?;
    while !over.load(Ordering::Relaxed) {
        if !keeps {
            kept = connect()?;
        }
        let request = asked.fetch_add(1, Ordering::Relaxed);
        ask(&mut kept, request).with_context(|| format!("request {request}, kept connection: {keeps}"))?;
    }
    Ok(())
}

/// Servers come and go, their weights and limits change, and so do listeners and the way of choosing.
fn configuration(number: usize) -> String {
    let front = SocketAddr::from(FRONT);
    let listen = if number.is_multiple_of(2) {
        format!("[\"{front}\"]")
    } else {
        format!("[\"{front}\", \"{ALSO}\"]")
    };
    let algorithm = if number.is_multiple_of(3) { "least-connections" } else { "round-robin" };
    let leaves = number % SERVERS.len();
    let servers: Vec<String> = (0..SERVERS.len())
        .filter(|server| number.is_multiple_of(4) || *server != leaves)
        .map(|server| format!("127.0.0.1:{}", SERVERS[server]))
        .collect();
    let idle = 60 + number;
    let text = service(&format!("listen = {listen}\nidle_timeout = \"{idle}s\""), &servers);
    text.replace("round-robin", algorithm)
}

#[test]
fn no_request_fails_while_the_configuration_changes_again_and_again() -> Result<()> {
    enter::lab(|| {
        let reloads =
            std::env::var(RELOADS).ok().and_then(|value| value.parse().ok()).unwrap_or(RELOADS_SHORT);
        SERVERS.into_iter().try_for_each(serve)?;
        let solo = Solo::start(&configuration(0))?;
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients: Vec<_> = (0..2 * CLIENTS)
            .map(|number| {
                let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
                thread::spawn(move || client(number % 2 == 0, &over, &asked))
            })
            .collect();
        let applied = (1..=reloads).try_for_each(|number| {
            let before = asked.load(Ordering::Relaxed);
            solo.apply(&configuration(number)).with_context(|| format!("configuration {number}"))?;
            // Each configuration has its share of requests, also on a fast machine.
            cygnet_lab::wait::until(PATIENCE, "requests in between", || {
                let stopped = clients.iter().any(thread::JoinHandle::is_finished);
                Ok((stopped || asked.load(Ordering::Relaxed) > before + 10).then_some(()))
            })
        });
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        applied?;
        let asked = asked.load(Ordering::Relaxed);
        figure("reload", &format!("{reloads} configurations under load, {asked} requests, none failed"));
        Ok(())
    })
}
