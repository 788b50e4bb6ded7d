//! A new program takes the place of the one that runs, on the node that holds the address, under long-lived connections and new ones:
//! none is lost, none fails, the address stays, the other node notices nothing. One that does not come up changes nothing.
//! `make test` does it twice with 200 connections, `CYGNET_RUNS=20` twenty times with 2,000.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::{BARS_RUNS, figure, median_and_max, runs};
use cygnet_lab::pair::{BALANCERS, CLIENT, SERVICE, VIP};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT, get};
use cygnet_lab::probe::{self, Probe};
use cygnet_lab::process::{Process, in_node, lab_program};
use cygnet_lab::scenario::{CygnetPair, print_report};
use cygnet_lab::{command, wait};
use serde_json::Value;

/// Whatever is done to the addresses of a node, as it happens.
fn address_monitor(node: &str) -> Result<Process> {
    let mut monitor = in_node(node, "ip");
    monitor.args(["monitor", "address"]);
    Process::start(&format!("addresses-{node}"), monitor)
}

/// `cygnet upgrade` of a node; its answer.
fn upgrade(all: &CygnetPair, node: &str) -> Result<Value> {
    all.node(node)?.json(&["upgrade"])
}

fn pid(answer: &Value, which: &str) -> Result<u32> {
    let pid = answer[which]["pid"].as_u64().with_context(|| answer.to_string())?;
    Ok(u32::try_from(pid)?)
}

fn is_alive(pid: u32) -> bool {
    command::stat_field(pid, 0).is_some_and(|state| state != "Z")
}

/// The process that runs as this node now says so.
fn runs_as(node: &str, program: u32) -> Result<()> {
    let what = format!("process {program} to run as {node}");
    wait::until(LIMIT, &what, || {
        let status = get(node, "/v1/status").ok();
        let before =
            status.as_ref().and_then(|status| status["before"].as_array().cloned()).unwrap_or_default();
        let is_it = status.is_some() && before.iter().all(|one| one["pid"] != program);
        Ok(is_it.then_some(()))
    })
}

#[test]
fn a_new_program_takes_over_again_and_again_and_no_connection_is_lost_and_none_fails() -> Result<()> {
    enter::lab(|| {
        let long = runs() >= BARS_RUNS;
        let (upgrades, sessions) = if long { (20, 2000) } else { (2, 200) };
        let cluster = ClusterSettings::default();
        let all = CygnetPair::start(&cluster)?;
        let settings = probe::Settings {
            sessions,
            deadline: Duration::from_secs(5),
            session_interval: Duration::from_millis(if long { 500 } else { 50 }),
            ..probe::Settings::new(SERVICE)
        };
        let probe = Probe::start_warm(CLIENT, &settings)?;
        let (began, monitor) = (Instant::now(), address_monitor("lb1")?);
        let (mut took, mut away) = (Vec::new(), Vec::new());
        let mut before = all.node("lb1")?.process.pid();
        for number in 0..upgrades {
            let since = probe::unix_ms();
            let answer = upgrade(&all, "lb1").with_context(|| format!("upgrade {number}"))?;
            ensure!(pid(&answer, "from")? == before && answer["held"][0] == "www", "{answer}");
            before = pid(&answer, "to")?;
            took.push(answer["took_ms"].as_f64().context("a time")?);
            away.push(answer["log_away_ms"].as_f64().context("a time")?);
            runs_as("lb1", before)?;
            all.holder_is("lb1")?;
            probe.settled(since, Duration::from_millis(500), LIMIT)?;
            let peer = all.node("lb2")?.json(&["vip"])?;
            let role_age = peer["vips"][0]["role_age_ms"].as_u64().context("an age")?;
            // What is shown is a moment old.
            let elapsed = began.elapsed().as_millis().saturating_sub(500);
            ensure!(peer["vips"][0]["role"] == "standby" && u128::from(role_age) >= elapsed, "{peer}");
        }
        // The address has not moved, and nobody says that it has.
        for node in BALANCERS {
            let told = all.node(node)?.json(&["why", "www"])?;
            let last = &told["stories"][0]["last_move"];
            let why = last["why"].as_str().unwrap_or_default();
            ensure!(!why.is_empty() && !why.contains("the process before"), "{node}: {told}");
        }
        let shown = get("lb1", "/v1/status")?;
        let left: u64 = shown["before"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["connections"].as_u64())
            .sum();
        ensure!(left >= sessions as u64, "{sessions} sessions began before: {}", shown["before"]);
        let text = all.node("lb1")?.command(&["status"])?;
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        ensure!(text.contains("connections go on in the process before"), "{text}");
        let report = probe.finish()?;
        let what = format!("{upgrades} upgrades with {sessions} sessions");
        print_report(&what, &report);
        figure(
            &what,
            &format!("took {}, log away {}", median_and_max(&took, "ms"), median_and_max(&away, "ms")),
        );
        figure(&what, &format!("slowest request {} us", report.latency_us.max));
        ensure!(report.failures() == 0, "{} of {}: {:?}", report.failures(), report.requests, report.failed);
        ensure!(report.sessions.iter().all(|session| session.fate == "up"), "{}", report.fates());
        ensure!(!monitor.log().contains(&VIP.to_string()), "the address stays: {}", monitor.log());
        // With their connections the processes end, and the node is a whole member.
        wait::until(LIMIT, "the processes before to end", || {
            Ok(get("lb1", "/v1/status")?["before"].is_null().then_some(()))
        })?;
        ensure!(!is_alive(all.node("lb1")?.process.pid()), "the first process has no connection any more");
        all.node("lb1")?.apply(&cluster.text().replace("2s", "3s"))
    })
}

/// Beside the address of the pair, one that moves with it, and one of CARP.
const MORE_ADDRESSES: &str = "[[vip]]\nname = \"db\"\naddress = \"192.0.2.101\"\nprotocol = \"vrrp3\"\nid = 52\nmode = \"hold\"\n\
    interval = \"50ms\"\npreempt = true\nsync_group = \"all\"\n\
    [[vip]]\nname = \"old\"\naddress = \"192.0.2.102\"\nprotocol = \"carp\"\nid = 53\nmode = \"hold\"\ninterval = \"1s\"\n\
    password = \"a shared word\"\n";

/// The roles of a node, in the order of the configuration, and how long it has had the youngest of them, ms.
fn roles(all: &CygnetPair, node: &str) -> Result<(Vec<String>, u64)> {
    let shown = all.node(node)?.json(&["vip"])?;
    let vips = shown["vips"].as_array().with_context(|| shown.to_string())?;
    let role = |vip: &Value| vip["role"].as_str().unwrap_or_default().to_owned();
    let ages = vips.iter().filter_map(|vip| vip["role_age_ms"].as_u64());
    Ok((vips.iter().map(role).collect(), ages.min().unwrap_or(0)))
}

#[test]
fn addresses_that_move_together_and_those_of_carp_stay_where_they_are() -> Result<()> {
    enter::lab(|| {
        let cluster = ClusterSettings {
            vip_lines: "sync_group = \"all\"\n",
            more: MORE_ADDRESSES.to_owned(),
            ..ClusterSettings::default()
        };
        let all = CygnetPair::start(&cluster)?;
        wait::until(LIMIT, "lb1 to hold all, and lb2 to stand by", || {
            let (first, second) = (roles(&all, "lb1")?.0, roles(&all, "lb2")?.0);
            Ok((first == ["active"; 3] && second == ["standby"; 3]).then_some(()))
        })?;
        let (began, monitor) = (Instant::now(), address_monitor("lb1")?);
        for _ in 0..2 {
            let answer = upgrade(&all, "lb1")?;
            ensure!(answer["held"].as_array().map(Vec::len) == Some(3), "{answer}");
            ensure!(roles(&all, "lb1")?.0 == ["active"; 3]);
        }
        // Longer than the three intervals after which a silent host of CARP is gone.
        let lasted = |age: u64| u128::from(age) + 500 >= began.elapsed().as_millis();
        wait::until(LIMIT, "the other node to hear it for a while", || {
            let (standby, age) = roles(&all, "lb2")?;
            ensure!(standby == ["standby"; 3] && lasted(age), "{standby:?} for {age} ms");
            Ok((began.elapsed() > Duration::from_millis(3500)).then_some(()))
        })?;
        ensure!(roles(&all, "lb1")?.0 == ["active"; 3]);
        ensure!(!monitor.log().contains("192.0.2.10"), "the addresses stay: {}", monitor.log());
        Ok(())
    })
}

/// A program that does not take over.
fn stand_in(end: &str) -> Result<PathBuf> {
    let file = Path::new(enter::FILES).join(format!("cygnet-{end}"));
    std::fs::write(
        &file,
        format!("#!/bin/sh\nexec {} stand-in --end {end} -- \"$@\"\n", lab_program()?.display()),
    )?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

#[test]
fn a_new_program_that_does_not_come_up_changes_nothing() -> Result<()> {
    enter::lab(|| {
        let cluster = ClusterSettings::default();
        let all = CygnetPair::start(&cluster)?;
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        let (since, monitor) = (probe::unix_ms(), address_monitor("lb1")?);
        let not_executable = Path::new(enter::FILES).join("cygnet-file");
        std::fs::write(&not_executable, "nothing")?;
        let mut programs = vec![
            (not_executable, "cannot be started"),
            ("/bin/false".into(), "ended with exit status: 1"),
            (stand_in("refuses")?, "it is Friday"),
            (stand_in("old")?, "it is older"),
            (stand_in("dies")?, "ended with exit status: 1"),
        ];
        if runs() >= BARS_RUNS {
            // They cost the whole of their time.
            programs.push((stand_in("hangs")?, "did not prepare itself within 20 s"));
            programs.push((stand_in("hangs-at-last")?, "did not serve within 15 s"));
        }
        for (program, why) in programs {
            let shown = program.display().to_string();
            let refused = all.node("lb1")?.command(&["upgrade", "--binary", &shown])?;
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            ensure!(refused.status.code() == Some(6) && said.contains(why), "{shown}: {refused:?}");
            ensure!(all.node("lb1")?.json(&["vip"])?["vips"][0]["role"] == "active", "{shown}");
        }
        let dry = all.node("lb1")?.command(&["upgrade", "--dry-run"])?;
        let said = String::from_utf8_lossy(&dry.stdout).into_owned();
        ensure!(dry.status.success() && said.contains("nothing was changed"), "{dry:?}");
        ensure!(is_alive(all.node("lb1")?.process.pid()), "the process that ran runs");
        // The log that was given away is back: something can be agreed on, from here.
        all.node("lb1")?.apply(&cluster.text().replace("2s", "3s"))?;
        all.holder_is("lb1")?;
        probe.settled(since, Duration::from_millis(500), LIMIT)?;
        let report = probe.finish()?;
        print_report("upgrades that fail", &report);
        ensure!(report.failures() == 0 && report.fates() == "up 5", "{:?} {}", report.failed, report.fates());
        ensure!(!monitor.log().contains(&VIP.to_string()), "the address stays: {}", monitor.log());
        Ok(())
    })
}

#[test]
fn a_process_that_has_taken_over_is_guarded_as_any_other_and_stops_as_any_other() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&ClusterSettings { preempt: false, ..ClusterSettings::default() })?;
        let answer = upgrade(&all, "lb1")?;
        // Nothing was connected: it ends at once, and leaves the address.
        all.node_mut("lb1")?.ended()?;
        all.holder_is("lb1")?;
        all.redundant()?;
        command::signal(command::Signal::Kill, &[pid(&answer, "to")?])?;
        all.holder_is("lb2")?;
        all.restart("lb1")?;
        all.redundant()?;
        // The standby goes over, too, and so does a node that stops afterwards.
        let answer = upgrade(&all, "lb1")?;
        ensure!(answer["held"].as_array().is_some_and(Vec::is_empty), "{answer}");
        all.redundant()?;
        let answer = upgrade(&all, "lb2")?;
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        let since = probe::unix_ms();
        command::signal(command::Signal::Term, &[pid(&answer, "to")?])?;
        all.holder_is("lb1")?;
        probe.settled(since, Duration::from_millis(500), LIMIT)?;
        print_report("a stop after an upgrade", &probe.finish()?);
        wait::until(LIMIT, "the process to end", || Ok((!is_alive(pid(&answer, "to")?)).then_some(())))
    })
}
