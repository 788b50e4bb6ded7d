//! Every byte of thousands of connections arrives, once and in order, whatever their ends do: half-closes, resets,
//! stalls, and servers that die. And every datagram of thousands of flows, at the one for whom it is.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::figure;
use cygnet_lab::integrity::{At, Dress, Outcome, Servers, Settings, datagrams, run};
use cygnet_lab::solo::{Solo, service};

/// Set it to repeat a run, or to run longer: `CYGNET_CONNECTIONS=10000`.
const SEED: &str = "CYGNET_SEED";
const CONNECTIONS: &str = "CYGNET_CONNECTIONS";
/// Connections of a short run.
const CONNECTIONS_SHORT: u64 = 1_000;
/// Files that the node may open where datagrams are concerned: it allows itself 250 flows a worker then, and as many sockets at
/// rest. So flows end early, and sockets serve again; but none must be closed before the latest answer has come to it.
const FILES_SCARCE: u32 = 2000;
/// Flows at once.
const FLOWS_TOGETHER: usize = 110;
/// Between two deaths, and how long a server is dead: about.
const DEATHS_EVERY: Duration = Duration::from_millis(150);

/// By chance from half of [`DEATHS_EVERY`] to one and a half: in a fixed rhythm, a lone client that asks again in a rhythm of
/// its own could meet each server just before it dies, for as long as the test goes on.
fn until_next() -> Duration {
    DEATHS_EVERY / 2 + DEATHS_EVERY.mul_f64(chance() as f64 / u64::MAX as f64)
}

fn chance() -> u64 {
    RandomState::new().hash_one(0)
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn settings() -> Settings {
    Settings {
        connections: number(CONNECTIONS, CONNECTIONS_SHORT),
        at_once: 100,
        seed: number(SEED, chance() >> 32),
        bytes_max: 1 << 20,
        resets: true,
        deaths: false,
        dress: Dress::default(),
    }
}

/// TLS on either side, and HTTP.
fn dressed(client: bool, server: bool, http: bool) -> Result<Settings> {
    let dress = Dress::new(Path::new(enter::FILES), client, server, http)?;
    Ok(Settings { dress, ..settings() })
}

fn tcp(port: u16) -> At {
    At::Tcp(([127, 0, 0, 1], port).into())
}

fn unix(name: &str) -> At {
    At::Unix(Path::new(enter::FILES).join(name))
}

/// One run with a node of its own.
fn through(what: &str, settings: &Settings, front: &At, servers: &[At]) -> Result<Outcome> {
    let (of_service, of_servers) = settings.dress.keys();
    let listen = front.text();
    let keys = format!("listen = [{listen:?}]\nblacklist = \"1s\"\nconnect_timeout = \"3s\"\n{of_service}");
    let mut cluster = service(&keys, &servers.iter().map(At::text).collect::<Vec<_>>());
    cluster = cluster.replace("[[service.server]]\n", &format!("[[service.server]]\n{of_servers}"));
    let _solo = Solo::start(&cluster)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let servers = Arc::new(Servers::start(settings, servers)?);
        let over = Arc::new(AtomicBool::new(false));
        let killer = settings.deaths.then(|| tokio::spawn(deaths(Arc::clone(&servers), Arc::clone(&over))));
        let outcome = run(settings, front, &servers).await?;
        over.store(true, Ordering::Relaxed);
        if let Some(killer) = killer {
            killer.await??;
        }
        anyhow::Ok(outcome)
    })?;
    figure(&format!("integrity, {what}"), &format!("{} (seed {})", outcome.text(), settings.seed));
    outcome.check(settings)?;
    Ok(outcome)
}

/// One server after the other dies and comes back.
async fn deaths(servers: Arc<Servers>, over: Arc<AtomicBool>) -> Result<()> {
    for which in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(DEATHS_EVERY).await;
        servers.kill(which, DEATHS_EVERY).await?;
    }
    Ok(())
}

#[test]
fn every_byte_arrives_over_tcp_and_what_is_broken_off_does_not_look_finished() -> Result<()> {
    enter::lab(|| {
        let settings = settings();
        let outcome = through("tcp", &settings, &tcp(8000), &servers())?;
        ensure!(outcome.whole > settings.connections / 2, "{}", outcome.text());
        Ok(())
    })
}

#[test]
fn every_byte_arrives_over_unix_sockets_on_both_sides() -> Result<()> {
    enter::lab(|| {
        let settings = Settings { resets: false, ..settings() };
        let outcome = through("unix", &settings, &unix("front.sock"), &[unix("s1.sock"), unix("s2.sock")])?;
        ensure!(outcome.whole == settings.connections, "{}", outcome.text());
        Ok(())
    })
}

#[test]
fn no_byte_is_wrong_and_no_end_comes_too_early_while_servers_die() -> Result<()> {
    enter::lab(|| {
        let settings = Settings { deaths: true, ..settings() };
        let outcome = through("tcp, servers die", &settings, &tcp(8000), &servers())?;
        ensure!(outcome.whole > settings.connections / 10, "{}", outcome.text());
        Ok(())
    })
}

/// All servers.
fn servers() -> [At; 3] {
    [tcp(9001), tcp(9002), tcp(9003)]
}

#[test]
fn every_byte_arrives_through_tls_of_clients() -> Result<()> {
    enter::lab(|| {
        let settings = dressed(true, false, false)?;
        let outcome = through("tls", &settings, &tcp(8000), &servers())?;
        ensure!(outcome.whole > settings.connections / 2, "{}", outcome.text());
        Ok(())
    })
}

#[test]
fn every_byte_arrives_through_tls_to_servers() -> Result<()> {
    enter::lab(|| {
        let settings = dressed(false, true, false)?;
        let outcome = through("tls to servers", &settings, &tcp(8000), &servers())?;
        ensure!(outcome.whole > settings.connections / 2, "{}", outcome.text());
        Ok(())
    })
}

#[test]
fn no_byte_is_wrong_through_tls_on_both_sides_while_servers_die() -> Result<()> {
    enter::lab(|| {
        let settings = Settings { deaths: true, ..dressed(true, true, false)? };
        let outcome = through("tls both ways, servers die", &settings, &tcp(8000), &servers())?;
        ensure!(outcome.whole > settings.connections / 10, "{}", outcome.text());
        Ok(())
    })
}

#[test]
fn every_body_arrives_through_http() -> Result<()> {
    enter::lab(|| {
        let settings = dressed(false, false, true)?;
        let outcome = through("http", &settings, &tcp(8000), &servers())?;
        ensure!(outcome.whole > settings.connections / 2, "{}", outcome.text());
        Ok(())
    })
}

#[test]
fn every_body_arrives_through_http_over_tls_on_both_sides() -> Result<()> {
    enter::lab(|| {
        let settings = dressed(true, true, true)?;
        let outcome = through("http over tls both ways", &settings, &tcp(8000), &servers())?;
        ensure!(outcome.whole > settings.connections / 2, "{}", outcome.text());
        Ok(())
    })
}

#[test]
fn no_body_is_wrong_or_looks_finished_through_http_over_tls_while_servers_die() -> Result<()> {
    enter::lab(|| {
        let settings = Settings { deaths: true, ..dressed(true, false, true)? };
        let outcome = through("http over tls, servers die", &settings, &tcp(8000), &servers())?;
        ensure!(outcome.whole > settings.connections / 10, "{}", outcome.text());
        Ok(())
    })
}

/// Flows of datagrams, with a node of its own that can hold few of them.
fn flows(what: &str, deaths: bool) -> Result<()> {
    let Settings { connections: flows, seed, .. } = settings();
    let settings = datagrams::Settings { flows, at_once: FLOWS_TOGETHER, seed };
    let front = std::net::SocketAddr::from(([127, 0, 0, 1], 8000));
    let at = [9001, 9002, 9003].map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    let servers = Arc::new(datagrams::Servers::start(settings, &at)?);
    let keys = format!("transport = \"udp\"\nlisten = [\"{front}\"]");
    let cluster = service(&keys, &at.map(|at| at.to_string()));
    let _solo = Solo::start_with_files(&cluster, FILES_SCARCE)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let theirs = Arc::clone(&servers);
        let killer = deaths.then(|| {
            tokio::spawn(async move {
                loop {
                    let which = chance() as usize;
                    tokio::time::sleep(until_next()).await;
                    theirs.kill(which, true);
                    tokio::time::sleep(until_next()).await;
                    theirs.kill(which, false);
                }
            })
        });
        let outcome = datagrams::run(settings, front, &servers).await;
        if let Some(killer) = killer {
            killer.abort();
        }
        outcome
    })?;
    figure(&format!("integrity, {what}"), &format!("{} (seed {seed})", outcome.text()));
    outcome.check(&settings)?;
    ensure!(outcome.ports_shared > 0, "no port has served two: {}", outcome.text());
    Ok(())
}

#[test]
fn every_datagram_arrives_whole_at_the_one_for_whom_it_is_while_flows_must_make_room() -> Result<()> {
    enter::lab(|| flows("udp", false))
}

#[test]
fn no_datagram_is_wrong_or_comes_to_another_client_while_servers_die() -> Result<()> {
    enter::lab(|| flows("udp, servers die", true))
}
