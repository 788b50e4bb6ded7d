//! keepalived holds the address on both nodes and moves it; Cygnet watches. In every step it names the right holder
//! within one advertisement, and the address is added and removed exactly as often as without Cygnet.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::figure;
use cygnet_lab::pair::{BALANCERS, FRONT, Pair, VIP, front_address};
use cygnet_lab::peers::cygnet::{self, ClusterSettings, Cygnet, NodeSettings, VipFacts};
use cygnet_lab::peers::keepalived::{Keepalived, Settings};
use cygnet_lab::probe::unix_ms;
use cygnet_lab::process::{Process, in_node};
use cygnet_lab::wait::{holds_for, until};

const LIMIT: Duration = Duration::from_secs(20);
/// Between advertisements; "within one advertisement" is measured against it.
const INTERVAL: Duration = Duration::from_millis(200);

type Act = fn(&mut [Keepalived]) -> Result<()>;

/// What the operator of keepalived does, and who must hold the address then.
const STEPS: [(&str, Act, &str); 6] = [
    ("keepalived stops on lb1", |all| all[0].stop(), "lb2"),
    ("keepalived starts on lb1", |all| start("lb1", 150).map(|started| all[0] = started), "lb1"),
    ("keepalived is killed on lb1", |all| all[0].kill(), "lb2"),
    (
        "keepalived starts on lb1 after its death",
        |all| start("lb1", 150).map(|started| all[0] = started),
        "lb1",
    ),
    ("the priority of lb1 falls to 50", |all| all[0].reconfigure(&settings(50)), "lb2"),
    ("the priority of lb1 rises to 150", |all| all[0].reconfigure(&settings(150)), "lb1"),
];

fn settings(priority: u8) -> Settings {
    Settings { interval: INTERVAL, ..Settings::new(priority) }
}

fn start(node: &str, priority: u8) -> Result<Keepalived> {
    Keepalived::start(node, &settings(priority))
}

/// What a capture on the front bridge shows: the truth.
struct Wire(Process);

impl Wire {
    fn start() -> Result<Self> {
        let mut command = in_node("watch", "tcpdump");
        command.args(["-l", "-n", "-tt", "--immediate-mode", "-Z", "root", "-i", FRONT, "ip proto 112"]);
        let wire = Self(Process::start("tcpdump", command)?);
        until(LIMIT, "the capture to start", || Ok(wire.0.log().contains("listening on").then_some(())))?;
        Ok(wire)
    }

    /// When `node` was first heard as holder (priority above 0) after `since`, both in ms since 1970.
    fn first_heard(&self, node: &str, since: u64) -> Option<u64> {
        let from = format!(" IP {} >", front_address(node));
        let log = self.0.log();
        let heard = log.lines().filter(|line| line.contains(&from) && !line.contains("prio 0,"));
        let times = heard.filter_map(|line| line.split(' ').next()?.parse::<f64>().ok());
        times.map(|seconds| (seconds * 1e3) as u64).find(|at| *at >= since)
    }
}

/// What the kernel of a node says about each change of the virtual address, from now on: `+` and `-`.
struct Changes(Process);

impl Changes {
    fn start(pair: &Pair, node: &str) -> Result<Self> {
        let mut command = in_node(node, "ip");
        command.args(["monitor", "address"]);
        let monitor = Process::start(&format!("monitor-{node}"), command)?;
        // It listens as soon as it tells of a change that we make.
        until(LIMIT, "the monitor to listen", || {
            pair.lab.ip(node, "address add 203.0.113.1/32 dev lo")?;
            pair.lab.ip(node, "address del 203.0.113.1/32 dev lo")?;
            Ok(monitor.log().contains("203.0.113.1").then_some(()))
        })?;
        Ok(Self(monitor))
    }

    fn seen(&self) -> String {
        let own = format!("inet {VIP}/");
        let log = self.0.log();
        let lines = log.lines().filter(|line| line.contains(&own));
        lines.map(|line| if line.starts_with("Deleted") { '-' } else { '+' }).collect()
    }
}

/// When (ms since 1970) which holder was named.
type Named = (u64, Option<IpAddr>);

/// Looks at a node's view of the address many times a second, and notes when the holder that it names changes.
struct Observer {
    seen: Arc<Mutex<Vec<Named>>>,
    stop: Arc<AtomicBool>,
}

impl Observer {
    fn start(node: &'static str) -> Self {
        let observer = Self { seen: Arc::default(), stop: Arc::default() };
        let (seen, stop) = (Arc::clone(&observer.seen), Arc::clone(&observer.stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let shown = cygnet::get(node, "/v1/vips").and_then(|shown| VipFacts::first_of(&shown));
                if let (Ok(facts), Ok(mut seen)) = (shown, seen.lock())
                    && seen.last().is_none_or(|(_, last)| *last != facts.holder)
                {
                    seen.push((unix_ms(), facts.holder));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        observer
    }

    fn since(&self, since: u64) -> Vec<Named> {
        let seen = self.seen.lock().map(|seen| seen.clone()).unwrap_or_default();
        seen.into_iter().filter(|(at, _)| *at >= since).collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// All steps; gives the changes of the address on each node.
fn play(pair: &Pair, observers: &[Observer]) -> Result<Vec<String>> {
    let changes = BALANCERS.map(|node| Changes::start(pair, node)).into_iter().collect::<Result<Vec<_>>>()?;
    let wire = Wire::start()?;
    // One after the other: started together, the lesser one sometimes holds the address for a moment.
    let preferred = start("lb1", 150)?;
    until(LIMIT, "lb1 to hold the address", || Ok((pair.lab.holders(VIP)? == ["lb1"]).then_some(())))?;
    let mut all = vec![preferred, start("lb2", 100)?];
    pair.lab.one_holder(VIP, Duration::from_secs(2), LIMIT)?;
    for (what, act, holder) in STEPS {
        let since = unix_ms();
        act(&mut all)?;
        let heard = until(LIMIT, &format!("{holder} on the wire"), || Ok(wire.first_heard(holder, since)));
        let heard = heard.context(what)?;
        for (observer, node) in observers.iter().zip(BALANCERS) {
            judge(observer, node, what, holder, since, heard)?;
        }
        // The next step begins in a steady state, also in the run without observers.
        holds_for(INTERVAL * 10, "the new holder keeps the address", || {
            Ok(pair.lab.holders(VIP)?.iter().any(|node| node == holder))
        })
        .context(what)?;
        for (observer, node) in observers.iter().zip(BALANCERS) {
            let last = observer.since(since).last().and_then(|(_, named)| *named);
            ensure!(last == Some(front_address(holder)), "{what}: {node} ends with {last:?}, not {holder}");
        }
    }
    Ok(changes.iter().map(Changes::seen).collect())
}

/// The new holder is named within one advertisement, and nobody is named in between who has not said anything.
fn judge(observer: &Observer, node: &str, what: &str, holder: &str, since: u64, heard: u64) -> Result<()> {
    let (new, old) = (front_address(holder), front_address(if holder == "lb1" { "lb2" } else { "lb1" }));
    let named = until(LIMIT, &format!("{node} to name {holder}"), || {
        Ok(observer.since(since).into_iter().find(|(_, named)| *named == Some(new)).map(|(at, _)| at))
    });
    let named = named.with_context(|| format!("{what}: {:?}", observer.since(since)))?;
    let delay = named.saturating_sub(heard);
    figure(
        &format!("watch, {what}"),
        &format!("{node} names {holder} {delay} ms after its first advertisement"),
    );
    ensure!(u128::from(delay) <= INTERVAL.as_millis(), "{what}: {node} needed {delay} ms");
    let wrong =
        observer.since(since).into_iter().find(|(_, named)| named.is_some_and(|it| it != new && it != old));
    ensure!(wrong.is_none(), "{what}: {node} named {wrong:?}");
    Ok(())
}

#[test]
fn the_right_holder_is_named_in_every_step_and_the_address_is_never_touched() -> Result<()> {
    enter::lab(|| {
        let pair = Pair::build()?;
        let without = play(&pair, &[])?;
        ensure!(without.iter().all(|changes| changes.contains('+')), "no moves at all: {without:?}");
        // Both were killed at the end; what they left would change the first move of the second run.
        BALANCERS.iter().try_for_each(|node| forget(&pair, node))?;

        let cluster = ClusterSettings {
            mode: "watch",
            interval_ms: u64::try_from(INTERVAL.as_millis())?,
            ..ClusterSettings::default()
        };
        let _nodes = Cygnet::start_all(&NodeSettings::pair(), &cluster)?;
        let observers = BALANCERS.map(Observer::start);
        let with = play(&pair, &observers)?;
        figure("watch, changes of the address", &format!("without Cygnet {without:?}, with Cygnet {with:?}"));
        ensure!(with == without, "the address moved differently with Cygnet: {with:?}, without {without:?}");
        Ok(())
    })
}

/// Removes what a killed keepalived has left.
fn forget(pair: &Pair, node: &str) -> Result<()> {
    if pair.lab.addresses(node)?.iter().any(|held| held.address == VIP) {
        pair.lab.remove_address(node, FRONT, VIP, 32)?;
    }
    Ok(())
}
