//! The holder of the address goes, in every way that a holder can go, and the gap that a client sees stays below the bar that is
//! published for it. `make test` makes two runs of each, `make bars` twenty.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cygnet_lab::command::Signal;
use cygnet_lab::enter;
use cygnet_lab::figures::{BARS_RUNS, figure, may_fail, median_and_max, runs};
use cygnet_lab::pair::{BACK, CLIENT, FRONT, SERVERS, SERVICE, VIP};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT};
use cygnet_lab::probe::{self, Probe, Report};
use cygnet_lab::scenario::{CygnetPair, print_report};
use cygnet_lab::wait;

/// A planned move may keep no new connection waiting for longer.
const SLOW: Duration = Duration::from_millis(200);

/// With fewer runs, beside other work, the scheduler alone costs up to so much: 186 ms were seen with a load of 14 on two CPUs.
const BESIDE_OTHERS_MS: f64 = 400.0;
fn every(interval_ms: u64) -> ClusterSettings {
    ClusterSettings { interval_ms, ..ClusterSettings::default() }
}

/// The gaps of several runs of one fault, and the bar.
struct Bar {
    what: String,
    limit_ms: f64,
    gaps: Vec<f64>,
}

impl Bar {
    fn new(what: String, limit_ms: f64) -> Self {
        Self { what, limit_ms, gaps: Vec::new() }
    }

    fn add(&mut self, report: &Report) {
        print_report(&self.what, report);
        self.gaps.push(report.longest_gap_ms);
    }

    /// All runs are made before any is judged: the figures show how often and by how much.
    fn judge(&self) -> Result<()> {
        figure(&self.what, &format!("{}, bar {} ms", median_and_max(&self.gaps, "ms"), self.limit_ms));
        let limit = if runs() >= BARS_RUNS { self.limit_ms } else { self.limit_ms.max(BESIDE_OTHERS_MS) };
        let over: Vec<_> = self.gaps.iter().filter(|gap| **gap >= limit).collect();
        ensure!(!self.gaps.is_empty(), "no run");
        ensure!(
            over.is_empty(),
            "{}: {} of {} gaps over the bar: {over:?}",
            self.what,
            over.len(),
            self.gaps.len()
        );
        Ok(())
    }
}

/// lb1 is back, and holds the address again.
fn return_of_lb1(all: &mut CygnetPair) -> Result<()> {
    all.restart("lb1")?;
    all.holder_is("lb1")?;
    all.redundant()
}

#[test]
fn a_holder_killed_with_9_is_replaced_at_once_although_it_advertises_every_second() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&every(1000))?;
        let mut bar = Bar::new("killed with -9, advertisements every 1 s".to_owned(), 50.0);
        for _ in 0..runs() {
            bar.add(&all.measure(&mut [&mut |all| all.node_mut("lb1")?.kill()])?);
            all.holder_is("lb2")?;
            let why = all.node("lb2")?.vip()?.reason;
            ensure!(why.contains("has died"), "it was no certainty: {why}");
            return_of_lb1(&mut all)?;
        }
        bar.judge()
    })
}

#[test]
fn a_death_that_nobody_can_confirm_is_waited_for_as_the_protocol_says() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&every(100))?;
        // Three intervals, the skew of priority 100 (61 ms), and 20 ms for the machine.
        let mut bar = Bar::new("whole node silent, advertisements every 100 ms".to_owned(), 381.0);
        for _ in 0..runs() {
            bar.add(&all.measure(&mut [&mut |all| all.node("lb1")?.process.signal_all(Signal::Kill)])?);
            let why = all.node("lb2")?.vip()?.reason;
            ensure!(why.contains("no advertisement from"), "{why}");
            all.node_mut("lb1")?.process.wait_end(LIMIT)?;
            // Node and guard were killed at once: what they left behind goes at the next start.
            return_of_lb1(&mut all)?;
        }
        bar.judge()
    })
}

#[test]
fn a_holder_whose_link_is_down_says_so_and_is_replaced_at_once() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&every(100))?;
        let mut bar = Bar::new("link of the holder down, advertisements every 100 ms".to_owned(), 100.0);
        for _ in 0..runs() {
            bar.add(&all.measure(&mut [&mut |all| all.pair.lab.link_down("lb1", FRONT)])?);
            all.holder_is("lb2")?;
            let why = all.node("lb2")?.vip()?.reason;
            ensure!(why.contains("has let go of it"), "it waited for the protocol: {why}");
            all.pair.lab.link_up("lb1", FRONT)?;
            all.holder_is("lb1")?;
            all.redundant()?;
        }
        bar.judge()
    })
}

/// No request may fail: with every interval, there and back.
fn planned(interval_ms: u64) -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&every(interval_ms))?;
        let (mut failed, mut slowest, mut requests) = (0, 0.0_f64, 0);
        let mut told = Vec::new();
        for _ in 0..runs() {
            all.redundant()?;
            let settings = probe::Settings { deadline: SLOW, ..probe::Settings::new(SERVICE) };
            let probe = Probe::start_warm(CLIENT, &settings)?;
            all.node_mut("lb1")?.stop()?;
            let since = probe::unix_ms();
            all.holder_is("lb2")?;
            // It comes back, and takes the address from a node that lives.
            return_of_lb1(&mut all)?;
            probe.settled(since, Duration::from_millis(500), LIMIT)?;
            let report = probe.finish()?;
            print_report(&format!("clean stop and return, advertisements every {interval_ms} ms"), &report);
            failed += report.failures();
            requests += report.requests;
            slowest = slowest.max(report.longest_gap_ms);
            told.push(report.failed);
        }
        figure(
            &format!("clean stop and return, advertisements every {interval_ms} ms"),
            &format!(
                "{failed} of {requests} requests failed in {} moves, longest gap {slowest:.0} ms",
                2 * runs()
            ),
        );
        ensure!(failed <= may_fail(2 * runs()), "{failed} of {requests} requests failed: {told:?}");
        Ok(())
    })
}

#[test]
fn a_clean_stop_fails_no_request_with_an_advertisement_every_second() -> Result<()> {
    planned(1000)
}

#[test]
fn a_clean_stop_fails_no_request_with_ten_advertisements_a_second() -> Result<()> {
    planned(100)
}

#[test]
fn a_holder_frozen_for_five_seconds_is_replaced_and_gives_way_when_it_wakes() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&every(100))?;
        let mut bar = Bar::new("frozen for 5 s, advertisements every 100 ms".to_owned(), 450.0);
        let mut both = Vec::new();
        for _ in 0..runs() {
            let mut twice = Duration::ZERO;
            let report = all.measure(&mut [&mut |all| all.signal("lb1", Signal::Stop), &mut |all| {
                std::thread::sleep(Duration::from_secs(5));
                all.signal("lb1", Signal::Continue)?;
                // While it wakes: how long two kernels have the address.
                let end = Instant::now() + Duration::from_secs(1);
                let mut since = None;
                while Instant::now() < end {
                    let two = all.pair.lab.holders(VIP)?.len() > 1;
                    since = if two { since.or(Some(Instant::now())) } else { None };
                    twice = twice.max(since.map_or(Duration::ZERO, |since| since.elapsed()));
                }
                Ok(())
            }])?;
            bar.add(&report);
            both.push(twice.as_secs_f64() * 1000.0);
            all.holder_is("lb1")?;
            all.redundant()?;
        }
        figure("frozen for 5 s, two kernels with the address after it wakes", &median_and_max(&both, "ms"));
        ensure!(both.iter().all(|ms| *ms <= 100.0), "two holders for longer than an advertisement: {both:?}");
        bar.judge()
    })
}

/// The two cannot hear each other while both hold the address; then they can, in several phases of their timers.
fn split_brain(interval_ms: u64) -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start(&every(interval_ms))?;
        let (mut failed, mut requests) = (0, 0);
        for round in 0..2 * runs() as u64 {
            all.redundant()?;
            all.pair.lab.partition(FRONT, "lb1", "lb2")?;
            wait::until(LIMIT, "both to hold the address", || {
                Ok((all.pair.lab.holders(VIP)?.len() == 2).then_some(()))
            })?;
            // Which of the two speaks first after the heal depends on when it comes.
            std::thread::sleep(Duration::from_millis(round * 37 % (2 * interval_ms)));
            let settings = probe::Settings { sessions: 0, ..probe::Settings::new(SERVICE) };
            let probe = Probe::start_warm(CLIENT, &settings)?;
            let since = probe::unix_ms();
            all.pair.lab.heal_partitions()?;
            all.holder_is("lb1")?;
            probe.settled(since, Duration::from_secs(1), LIMIT)?;
            let report = probe.finish()?;
            print_report(&format!("split brain healed, advertisements every {interval_ms} ms"), &report);
            failed += report.failures();
            requests += report.requests;
        }
        figure(
            &format!("split brain healed, advertisements every {interval_ms} ms"),
            &format!("{failed} of {requests} requests failed in {} heals", 2 * runs()),
        );
        ensure!(failed <= may_fail(2 * runs()), "{failed} of {requests} requests failed after a heal");
        Ok(())
    })
}

#[test]
fn a_split_brain_heals_without_a_failed_request_with_an_advertisement_every_second() -> Result<()> {
    split_brain(1000)
}

#[test]
fn a_split_brain_heals_without_a_failed_request_with_ten_advertisements_a_second() -> Result<()> {
    split_brain(100)
}

/// Packets of a node to the servers go nowhere, or find their way again; all else stays.
fn servers_out_of_reach(all: &CygnetPair, node: &str, out: bool) -> Result<()> {
    for (_, address) in SERVERS {
        let server = address.split(':').next().unwrap_or_default();
        let line = match out {
            true => format!("neigh replace {server} lladdr 02:00:00:00:00:99 dev {BACK} nud permanent"),
            false => format!("neigh del {server} dev {BACK}"),
        };
        all.pair.lab.ip(node, &line)?;
    }
    Ok(())
}

#[test]
fn a_holder_that_alone_has_lost_its_servers_yields_and_what_both_have_lost_moves_nothing() -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start(&every(100))?;
        servers_out_of_reach(&all, "lb1", true)?;
        servers_out_of_reach(&all, "lb2", true)?;
        // Both notice within two rounds of 2 s; the holder would yield 3 s later.
        wait::holds_for(Duration::from_secs(9), "lb1 holds the address", || {
            Ok(all.pair.lab.holders(VIP)? == ["lb1"])
        })?;
        servers_out_of_reach(&all, "lb2", false)?;
        all.holder_is("lb2")?;
        let events = all.node("lb1")?.json(&["events"])?.to_string();
        ensure!(events.contains("web cannot be served from here, but from lb2"), "{events}");
        // The preferred node takes it back when it has been well for ten seconds, not before.
        servers_out_of_reach(&all, "lb1", false)?;
        wait::holds_for(Duration::from_secs(8), "lb2 holds the address", || {
            Ok(all.pair.lab.holders(VIP)? == ["lb2"])
        })?;
        all.holder_is("lb1")
    })
}
