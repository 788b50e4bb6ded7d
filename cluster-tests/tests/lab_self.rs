//! The lab itself, proven against programs that are not ours: keepalived with HAProxy, ucarp with Pen.

use std::time::Duration;

use anyhow::{Result, ensure};
use cygnet_lab::command::{self, Signal};
use cygnet_lab::enter::{self, Rights};
use cygnet_lab::figures::{figure, median_and_max, runs};
use cygnet_lab::pair::{BACK, CLIENT, FRONT, Pair, SERVICE, VIP, front_address};
use cygnet_lab::peers::keepalived::{Keepalived, Settings, haproxy};
use cygnet_lab::peers::ucarp::{Ucarp, pen};
use cygnet_lab::probe::{self, Probe, Report, ask, unix_ms};
use cygnet_lab::process::Process;

const LIMIT: Duration = Duration::from_secs(30);
const STEADY: Duration = Duration::from_millis(500);

struct Keepalives {
    pair: Pair,
    nodes: Vec<Keepalived>,
    _proxies: Vec<Process>,
}

impl Keepalives {
    /// lb1 preferred, VRRPv3 every 100 ms, HAProxy on both; lb1 holds the address.
    fn start() -> Result<Self> {
        let pair = Pair::build()?;
        let proxies = vec![haproxy("lb1")?, haproxy("lb2")?];
        let nodes = vec![
            Keepalived::start("lb1", &Settings::new(150))?,
            Keepalived::start("lb2", &Settings::new(100))?,
        ];
        let all = Self { pair, nodes, _proxies: proxies };
        all.holder_is("lb1")?;
        Ok(all)
    }

    fn holder_is(&self, node: &str) -> Result<()> {
        let holder = self.pair.lab.one_holder(VIP, STEADY, LIMIT)?;
        ensure!(holder == node, "{holder} holds the address, not {node}");
        Ok(())
    }

    fn probe(&mut self, fault: impl FnOnce(&mut Self) -> Result<()>) -> Result<Report> {
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        let since = unix_ms();
        fault(self)?;
        probe.settled(since, Duration::from_millis(1500), LIMIT)?;
        probe.finish()
    }
}

fn print(what: &str, report: &Report) {
    figure(
        what,
        &format!(
            "longest gap {:.0} ms (prober late by {:.1} ms in it), failed {:?}, sessions at the client: {}",
            report.longest_gap_ms,
            report.late_in_gap_ms,
            report.failed,
            report.fates()
        ),
    );
}

#[test]
fn without_a_fault_nothing_fails_and_the_gap_is_the_interval() -> Result<()> {
    enter::lab(|| {
        let mut all = Keepalives::start()?;
        let report = all.probe(|_| Ok(()))?;
        print("keepalived+haproxy 100ms, nothing fails", &report);
        ensure!(report.failures() == 0, "{:?}", report.failed);
        ensure!(report.longest_gap_ms < 250.0, "gap {}", report.longest_gap_ms);
        ensure!(report.per_second > 400.0, "{} requests per second", report.per_second);
        ensure!(report.fates() == "up 5", "{}", report.fates());
        ensure!(report.servers.len() == 2, "{:?}", report.servers);
        Ok(())
    })
}

#[test]
fn a_link_that_goes_down_costs_keepalived_three_intervals() -> Result<()> {
    enter::lab(|| {
        let mut all = Keepalives::start()?;
        let mut gaps = Vec::new();
        for _ in 0..runs() {
            let report = all.probe(|all| all.pair.lab.link_down("lb1", FRONT))?;
            // 0.34 s at 100 ms in the published figures; much less would mean that the fault did not happen.
            ensure!(report.longest_gap_ms > 150.0, "gap {} ms", report.longest_gap_ms);
            ensure!(report.failures() > 0, "nothing failed");
            ensure!(
                report.fates().contains("reset") || report.fates().contains("timeout"),
                "{}",
                report.fates()
            );
            print("keepalived+haproxy 100ms link-down", &report);
            gaps.push(report.longest_gap_ms);
            all.holder_is("lb2")?;
            all.pair.lab.link_up("lb1", FRONT)?;
            all.holder_is("lb1")?;
        }
        figure("keepalived+haproxy 100ms link-down", &median_and_max(&gaps, "ms"));
        Ok(())
    })
}

#[test]
fn a_killed_keepalived_leaves_its_address_on_both_nodes() -> Result<()> {
    enter::lab(|| {
        let mut all = Keepalives::start()?;
        let report = all.probe(|all| all.nodes[0].kill())?;
        print("keepalived+haproxy 100ms kill9-vrrp", &report);
        ensure!(all.pair.lab.holders(VIP)? == ["lb1", "lb2"], "{:?}", all.pair.lab.holders(VIP));
        Ok(())
    })
}

#[test]
fn a_cut_port_makes_two_holders_and_its_heal_one() -> Result<()> {
    enter::lab(|| {
        let mut all = Keepalives::start()?;
        let report = all.probe(|all| all.pair.lab.cut_port("lb1", FRONT))?;
        print("keepalived+haproxy 100ms silent-cut", &report);
        ensure!(report.longest_gap_ms > 150.0, "gap {} ms", report.longest_gap_ms);
        ensure!(all.pair.lab.holders(VIP)? == ["lb1", "lb2"], "{:?}", all.pair.lab.holders(VIP));
        all.pair.lab.heal_port("lb1", FRONT)?;
        all.holder_is("lb1")
    })
}

#[test]
fn a_partition_separates_one_pair_only() -> Result<()> {
    enter::lab(|| {
        let all = Keepalives::start()?;
        all.pair.lab.partition(FRONT, "lb1", "lb2")?;
        // Neither hears the other: both hold the address, and both still reach the watcher.
        cygnet_lab::wait::until(LIMIT, "two holders", || {
            Ok((all.pair.lab.holders(VIP)?.len() == 2).then_some(()))
        })?;
        for node in ["lb1", "lb2"] {
            ask("watch", std::net::SocketAddr::new(front_address(node), 80), None)?;
        }
        all.pair.lab.heal_partitions()?;
        all.holder_is("lb1")
    })
}

#[test]
fn a_frozen_keepalived_loses_the_address_and_gets_it_back() -> Result<()> {
    enter::lab(|| {
        let mut all = Keepalives::start()?;
        all.probe(|all| all.nodes[0].signal(Signal::Stop))?;
        ensure!(all.pair.lab.holders(VIP)?.contains(&"lb2".to_owned()), "lb2 did not take over");
        all.nodes[0].signal(Signal::Continue)?;
        all.holder_is("lb1")
    })
}

#[test]
fn ucarp_with_pen_takes_seconds() -> Result<()> {
    enter::lab(|| {
        let pair = Pair::build()?;
        let _proxies = [pen("lb1")?, pen("lb2")?];
        let mut first = Ucarp::start("lb1", 0)?;
        pair.lab.one_holder(VIP, STEADY, LIMIT)?;
        let _second = Ucarp::start("lb2", 100)?;
        ensure!(pair.lab.one_holder(VIP, Duration::from_secs(3), LIMIT)? == "lb1");
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        let since = unix_ms();
        first.stop()?;
        probe.settled(since, Duration::from_secs(5), LIMIT)?;
        let report = probe.finish()?;
        print("ucarp+pen 1s sigterm", &report);
        ensure!(report.longest_gap_ms > 1000.0, "gap {} ms", report.longest_gap_ms);
        ensure!(pair.lab.one_holder(VIP, STEADY, LIMIT)? == "lb2");
        Ok(())
    })
}

#[test]
fn the_lab_needs_no_root() -> Result<()> {
    enter::lab_with(Rights::UserNamespace, || {
        let all = Keepalives::start()?;
        let (server, peer) = ask(CLIENT, SERVICE, None)?;
        ensure!(server.starts_with("backend") && peer.starts_with("10.1.0.1:"), "{server} {peer}");
        all.pair.lab.cut_port("lb1", BACK)?;
        all.pair.lab.partition(FRONT, "lb1", "client")
    })
}

#[test]
fn a_node_has_the_settings_of_a_common_host() -> Result<()> {
    enter::lab(|| {
        let _pair = Pair::build()?;
        let get = |name: &str| {
            let path = format!("/proc/sys/net/ipv4/{name}");
            command::run("nsenter", &["--net=/run/netns/lb1", "--", "cat", &path])
        };
        for (name, value) in [
            ("ip_forward", "0"),
            ("conf/all/rp_filter", "1"),
            ("conf/eth0/rp_filter", "1"),
            ("conf/eth0/arp_ignore", "0"),
            ("conf/eth0/arp_announce", "0"),
            ("ip_nonlocal_bind", "0"),
        ] {
            ensure!(get(name)?.trim() == value, "{name} is {}", get(name)?);
        }
        Ok(())
    })
}

#[test]
fn each_client_of_a_crowd_is_served_under_its_own_address() -> Result<()> {
    enter::lab(|| {
        let _all = Keepalives::start()?;
        let mut crowd = cygnet_lab::clients::Crowd::new(SERVICE, 500);
        crowd.list = true;
        let report = crowd.run_in(CLIENT)?;
        ensure!(report.succeeded == 500 && report.list.len() == 500, "{:?}", report.failed);
        Ok(())
    })
}

#[test]
fn a_server_reports_how_its_sessions_ended() -> Result<()> {
    enter::lab(|| {
        let mut all = Keepalives::start()?;
        let report = all.probe(|_| Ok(()))?;
        let fates =
            || all.pair.backends.iter().flat_map(cygnet_lab::backend::Backend::sessions).collect::<Vec<_>>();
        cygnet_lab::wait::until(LIMIT, "the servers to see the end", || {
            Ok((fates().iter().filter(|session| session.fate == "eof").count() == 5).then_some(()))
        })?;
        for session in &report.sessions {
            let seen = fates().into_iter().find(|seen| seen.session == session.session);
            let seen = seen.ok_or_else(|| anyhow::anyhow!("{} is unknown", session.session))?;
            // The last line may have been cut off by the end of the prober.
            ensure!(seen.received - session.exchanges <= 1, "{seen:?} {session:?}");
        }
        Ok(())
    })
}
