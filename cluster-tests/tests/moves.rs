//! The address moves on purpose, there and back, and no connection breaks: established ones go on through the node that they were
//! made to, new ones are handed to the new holder before the address moves. When all has ended nothing is left in a kernel, whatever
//! failed on the way. `make test` makes a few moves, `make bars` fifty.

#[path = "moves/bytes.rs"]
mod bytes;
#[path = "moves/many.rs"]
mod many;
#[path = "moves/six.rs"]
mod six;

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::{BARS_RUNS, figure, runs};
use cygnet_lab::pair::{BALANCERS, CLIENT, SERVICE, VIP};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT};
use cygnet_lab::probe::{self, Probe};
use cygnet_lab::scenario::{CygnetPair, print_report};
use cygnet_lab::{command, wait};
use serde_json::Value;

/// Sessions beside the churn.
const SESSIONS: usize = 200;
/// No new connection may take longer, us. On a machine that does other work the scheduler alone costs as much.
const SLOWEST_US: u64 = 200_000;

fn pair() -> Result<CygnetPair> {
    // Without preemption it stays where it was moved to.
    CygnetPair::start(&ClusterSettings { preempt: false, ..ClusterSettings::default() })
}

fn in_node(node: &str, words: &[&str]) -> Result<String> {
    let mut all = vec![format!("--net=/run/netns/{node}"), "--".to_owned()];
    all.extend(words.iter().map(|word| (*word).to_owned()));
    command::run("nsenter", &all)
}

/// No table, and no address on the loopback.
fn nothing_is_left(node: &str) -> Result<()> {
    wait::until(LIMIT, &format!("{node} to have tidied up"), || {
        let rules = in_node(node, &["nft", "list", "ruleset"])?;
        let loopback = in_node(node, &["ip", "address", "show", "dev", "lo"])?;
        let ours = ["192.0.2.", "2001:db8:"].iter().any(|front| loopback.contains(front));
        Ok((rules.is_empty() && !ours).then_some(()))
    })
}

/// What `drain status` says of the address; `None`: nothing is left.
fn drain(all: &CygnetPair, node: &str) -> Result<Option<Value>> {
    let done = all.node(node)?.command(&["drain", "status", "-o", "json"])?;
    let said: Value = serde_json::from_slice(&done.stdout)?;
    let drain = said["drains"].get(0).cloned();
    let left = drain.as_ref().is_some_and(|drain| drain["left"] != 0);
    ensure!(done.status.code() == Some(if left { 3 } else { 0 }), "{done:?}");
    Ok(drain)
}

/// All that a command has said.
fn said_of(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

fn switch(all: &CygnetPair, from: &str, to: &str) -> Result<()> {
    let done = all.node(from)?.command(&["switchover", "--to", to, "--yes"])?;
    let said = said_of(&done);
    println!("{said}");
    ensure!(done.status.success(), "{said}");
    ensure!(said.contains("0 were broken"), "{said}");
    Ok(())
}

#[test]
fn planned_moves_there_and_back_lose_no_connection_and_fail_no_new_one() -> Result<()> {
    enter::lab(|| {
        let all = pair()?;
        let moves = if runs() >= BARS_RUNS { 50 } else { 2 * runs() };
        let settings = probe::Settings {
            sessions: SESSIONS,
            deadline: Duration::from_secs(5),
            ..probe::Settings::new(SERVICE)
        };
        let probe = Probe::start_warm(CLIENT, &settings)?;
        for run in 0..moves {
            let (from, to) = (BALANCERS[run % 2], BALANCERS[(run + 1) % 2]);
            all.redundant()?;
            let dry = all.node(from)?.command(&["switchover", "--to", to, "--dry-run"])?;
            let said = String::from_utf8_lossy(&dry.stdout).into_owned();
            ensure!(dry.status.code() == Some(3) && said.contains("0 will break"), "{dry:?}");
            let since = probe::unix_ms();
            switch(&all, from, to)?;
            all.holder_is(to)?;
            probe.settled(since, Duration::from_millis(500), LIMIT)?;
        }
        let report = probe.finish()?;
        let what = format!("{moves} planned moves with {SESSIONS} sessions");
        print_report(&what, &report);
        figure(&what, &format!("slowest request {} us", report.latency_us.max));
        ensure!(
            report.failures() == 0,
            "{} of {} failed: {:?}",
            report.failures(),
            report.requests,
            report.failed
        );
        ensure!(report.sessions.iter().all(|session| session.fate == "up"), "{}", report.fates());
        ensure!(
            runs() < BARS_RUNS || report.latency_us.max <= SLOWEST_US,
            "the slowest request took {} us",
            report.latency_us.max
        );
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node))
    })
}

#[test]
fn ten_moves_in_the_middle_of_drains_keep_the_connections_that_both_nodes_have_accepted() -> Result<()> {
    const MOVES: usize = 10;
    enter::lab(|| {
        let all = pair()?;
        let settings = probe::Settings { deadline: Duration::from_secs(5), ..probe::Settings::new(SERVICE) };
        let mut probes = Vec::new();
        for run in 0..MOVES {
            let (from, to) = (BALANCERS[run % 2], BALANCERS[(run + 1) % 2]);
            if run < 2 {
                // Accepted by the node that holds the address now.
                probes.push(Probe::start_warm(CLIENT, &settings)?);
            }
            all.redundant()?;
            switch(&all, from, to)?;
            all.holder_is(to)?;
            let left = drain(&all, from)?.context("the sessions go on")?;
            ensure!(
                left["through"] == to && left["left"].as_u64() >= Some(settings.sessions as u64),
                "{left}"
            );
            let connections = left["connections"].as_array().context("a list")?;
            let named = |one: &Value| {
                one["service"] == "web"
                    && one["server"].as_str().is_some_and(|server| server.starts_with("backend"))
                    && one["idle_ms"].is_u64()
            };
            ensure!(connections.iter().filter(|one| named(one)).count() >= settings.sessions, "{left}");
            let other = all.node(to)?.json(&["vip"])?;
            let sends_on = &other["vips"][0]["moved"]["sends_on"];
            ensure!(sends_on["to"] == from && sends_on["connections"].as_u64() >= Some(1), "{other}");
            ensure!(other.to_string().contains(&format!("ip cygnet keep_{VIP}")), "{other}");
        }
        let since = probe::unix_ms();
        for probe in probes {
            probe.settled(since, Duration::from_millis(500), LIMIT)?;
            let report = probe.finish()?;
            print_report(&format!("{MOVES} moves, each in the middle of a drain"), &report);
            ensure!(
                report.failures() == 0 && report.fates() == "up 5",
                "{:?} {}",
                report.failed,
                report.fates()
            );
        }
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node))
    })
}

#[test]
fn connections_that_are_left_at_the_deadline_are_closed_and_the_drain_ends() -> Result<()> {
    enter::lab(|| {
        let cluster = ClusterSettings {
            preempt: false,
            vip_lines: "drain_deadline = \"2s\"\n",
            ..ClusterSettings::default()
        };
        let all = CygnetPair::start(&cluster)?;
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        switch(&all, "lb1", "lb2")?;
        let left = drain(&all, "lb1")?.context("the sessions go on")?;
        ensure!(left["deadline_ms"].as_u64().is_some_and(|ms| ms <= 2000), "{left}");
        wait::until(LIMIT, "the drain to end", || Ok(drain(&all, "lb1")?.is_none().then_some(())))?;
        let since = probe::unix_ms();
        probe.settled(since, Duration::from_secs(1), LIMIT)?;
        let report = probe.finish()?;
        print_report("sessions closed at their deadline", &report);
        ensure!(report.failures() == 0, "no other connection is touched: {:?}", report.failed);
        let closed = report.sessions.iter().all(|session| ["reset", "eof"].contains(&session.fate.as_str()));
        ensure!(closed, "{}", report.fates());
        let events = all.node("lb1")?.json(&["events"])?.to_string();
        ensure!(events.contains("closes 5 connections") && events.contains("5 were closed"), "{events}");
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node))
    })
}

#[test]
fn a_move_that_the_kernel_refuses_leaves_the_address_where_it_is_and_breaks_nothing() -> Result<()> {
    enter::lab(|| {
        let all = pair()?;
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        let since = probe::unix_ms();
        for (node, chain) in [("lb1", "hand"), ("lb2", "keep")] {
            // A chain of this name that is none of ours.
            in_node(node, &["nft", &format!("add table ip cygnet; add chain ip cygnet {chain}_{VIP}")])?;
            let refused = all.node("lb1")?.command(&["switchover", "--to", "lb2", "--yes"])?;
            let said = String::from_utf8_lossy(&refused.stdout).into_owned();
            ensure!(refused.status.code() == Some(6) && said.contains("stays"), "{refused:?}");
            in_node(node, &["nft", "delete table ip cygnet"])?;
            all.holder_is("lb1")?;
            BALANCERS.iter().try_for_each(|node| nothing_is_left(node))?;
        }
        probe.settled(since, Duration::from_millis(500), LIMIT)?;
        let report = probe.finish()?;
        print_report("refused moves", &report);
        ensure!(report.failures() == 0 && report.fates() == "up 5", "{:?} {}", report.failed, report.fates());
        Ok(())
    })
}

#[test]
fn a_new_holder_that_dies_gives_the_old_connections_back_and_an_old_one_that_dies_leaves_no_rule()
-> Result<()> {
    enter::lab(|| {
        let mut all = pair()?;
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        switch(&all, "lb1", "lb2")?;
        all.holder_is("lb2")?;
        let since = probe::unix_ms();
        all.node_mut("lb2")?.kill()?;
        all.holder_is("lb1")?;
        probe.settled(since, Duration::from_millis(500), LIMIT)?;
        let report = probe.finish()?;
        print_report("the new holder is killed after a move", &report);
        ensure!(report.fates() == "up 5", "the sessions live on lb1: {}", report.fates());
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node))?;
        all.restart("lb2")?;
        all.redundant()?;
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        switch(&all, "lb1", "lb2")?;
        all.node_mut("lb1")?.kill()?;
        wait::until(LIMIT, "the rules to go", || {
            Ok(in_node("lb2", &["nft", "list", "ruleset"])?.is_empty().then_some(()))
        })?;
        // With the rules gone each session is told at its next line.
        let since = probe::unix_ms();
        probe.settled(since, Duration::from_secs(2), LIMIT)?;
        let report = probe.finish()?;
        print_report("the old holder is killed after a move", &report);
        let told = report.sessions.iter().all(|session| ["reset", "eof"].contains(&session.fate.as_str()));
        ensure!(told, "{}", report.fates());
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node))
    })
}

#[test]
fn a_preferred_node_that_comes_back_is_handed_the_address_and_sessions_go_on() -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start(&ClusterSettings { interval_ms: 1000, ..ClusterSettings::default() })?;
        let drained = all.node("lb1")?.command(&["node", "drain", "--yes"])?;
        ensure!(drained.status.success(), "{drained:?}");
        all.holder_is("lb2")?;
        // Accepted by lb2, which is to lose the address.
        let settings = probe::Settings { deadline: Duration::from_secs(5), ..probe::Settings::new(SERVICE) };
        let probe = Probe::start_warm(CLIENT, &settings)?;
        let since = probe::unix_ms();
        let ready = all.node("lb1")?.command(&["node", "ready"])?;
        ensure!(ready.status.success(), "{ready:?}");
        all.holder_is("lb1")?;
        probe.settled(since, Duration::from_millis(500), LIMIT)?;
        let report = probe.finish()?;
        print_report("a preferred node comes back, advertisements every 1 s", &report);
        ensure!(report.failures() == 0, "{:?}", report.failed);
        ensure!(report.sessions.iter().all(|session| session.fate == "up"), "{}", report.fates());
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node))
    })
}
