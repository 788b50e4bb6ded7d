//! Connections that send all the time, with TLS and without, while the address moves there and back: every byte arrives, once and
//! in order.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::{BARS_RUNS, figure, runs};
use cygnet_lab::inside;
use cygnet_lab::integrity::{At, Dress, Outcome, Servers, Settings, run};
use cygnet_lab::pair::{BALANCERS, CLIENT, VIP};
use cygnet_lab::peers::cygnet::ClusterSettings;
use cygnet_lab::scenario::CygnetPair;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{nothing_is_left, switch};

/// Names, ports of the service and of its one server, and whether clients speak TLS to it.
const SERVICES: [(&str, u16, u16, bool); 2] = [("plain", 8001, 9001, false), ("secure", 8002, 9002, true)];
/// The node of the servers.
const SERVER: (&str, [u8; 4]) = ("backend1", [10, 1, 0, 11]);
/// Between two moves.
const PAUSE: Duration = Duration::from_millis(300);

/// Some 2 GiB each, with and without TLS, in the long run; 20 MiB in the short one.
fn settings(tls: bool) -> Result<Settings> {
    let long = runs() >= BARS_RUNS;
    let dress = if tls { Dress::new(Path::new(enter::FILES), true, false, false)? } else { Dress::default() };
    Ok(Settings {
        connections: if long { 3_200 } else { 60 },
        at_once: 20,
        seed: 2737 + u64::from(tls),
        bytes_max: if long { 8 << 20 } else { 4 << 20 },
        resets: false,
        deaths: false,
        dress,
    })
}

fn service(name: &str, port: u16, server: u16, settings: &Settings) -> String {
    let [a, b, c, d] = SERVER.1;
    let (of_service, of_server) = settings.dress.keys();
    format!(
        "[[service]]\nname = \"{name}\"\nlisten = [\"{VIP}:{port}\"]\n{of_service}\
         [[service.server]]\nname = \"only\"\naddress = \"{a}.{b}.{c}.{d}:{server}\"\n{of_server}"
    )
}

/// Clients in the client's node and servers in theirs; the handle has what came of it.
fn play(
    (clients, servers): (&Runtime, &Runtime),
    settings: &Settings,
    (port, server): (u16, u16),
) -> Result<JoinHandle<Result<Outcome>>> {
    let (of_servers, at) = (settings.clone(), At::Tcp((SERVER.1, server).into()));
    let started = servers.spawn(async move { Servers::start(&of_servers, &[at]) });
    let playing = servers.block_on(started)??;
    let (settings, front) = (settings.clone(), At::Tcp((VIP, port).into()));
    Ok(clients.spawn(async move { run(&settings, &front, &playing).await }))
}

#[test]
fn every_byte_arrives_with_and_without_tls_while_the_address_moves_there_and_back() -> Result<()> {
    enter::lab(|| {
        let settings = [settings(false)?, settings(true)?];
        let mut more = String::new();
        for ((name, port, server, _), settings) in SERVICES.iter().zip(&settings) {
            more.push_str(&service(name, *port, *server, settings));
        }
        let all = CygnetPair::start(&ClusterSettings { preempt: false, more, ..ClusterSettings::default() })?;
        let runtimes = (inside::runtime(CLIENT)?, inside::runtime(SERVER.0)?);
        let mut playing = Vec::new();
        for ((_, port, server, _), settings) in SERVICES.iter().zip(&settings) {
            playing.push(play((&runtimes.0, &runtimes.1), settings, (*port, *server))?);
        }
        let mut moves = 0;
        let mut moved_connections = 0;
        while !playing.iter().all(JoinHandle::is_finished) {
            let (from, to) = (BALANCERS[moves % 2], BALANCERS[(moves + 1) % 2]);
            all.redundant()?;
            switch(&all, from, to)?;
            moves += 1;
            let drain = super::drain(&all, from)?;
            moved_connections += drain.and_then(|drain| drain["left"].as_u64()).unwrap_or(0);
            std::thread::sleep(PAUSE);
        }
        for (((name, ..), settings), playing) in SERVICES.iter().zip(&settings).zip(playing) {
            let outcome = runtimes.0.block_on(playing)??;
            let what = format!("{moves} moves under connections that send all the time, {name}");
            figure(&what, &outcome.text());
            outcome.check(settings)?;
            ensure!(outcome.whole == settings.connections, "{}", outcome.text());
        }
        ensure!(moves >= 3, "it was over after {moves} moves");
        ensure!(moved_connections > 0, "no connection was under way when the address moved");
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node)).context("after all has ended")
    })
}
