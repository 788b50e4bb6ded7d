//! The same over IPv6.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::pair::{BALANCERS, CLIENT, FRONT};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT};
use cygnet_lab::probe::{self, Probe};
use cygnet_lab::scenario::{CygnetPair, STEADY, print_report};
use cygnet_lab::wait;

use super::{in_node, nothing_is_left, said_of};

/// The virtual address, and those of the nodes beside it.
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x100);
const OWN: [(&str, &str); 3] =
    [("lb1", "2001:db8:2::1"), ("lb2", "2001:db8:2::2"), (CLIENT, "2001:db8:2::10")];

/// Only an address that has passed the kernel's check for duplicates can be used.
fn usable(node: &str, address: &str) -> Result<()> {
    wait::until(LIMIT, &format!("{node} to have {address}"), || {
        let shown = in_node(node, &["ip", "-6", "address", "show", "dev", FRONT, "to", address])?;
        Ok((shown.contains(address) && !shown.contains("tentative")).then_some(()))
    })
}

#[test]
fn sessions_over_ipv6_go_on_when_the_address_moves_there_and_back() -> Result<()> {
    enter::lab(|| {
        let service = SocketAddr::new(IpAddr::V6(VIP6), 80);
        let more = format!(
            "[[vip]]\nname = \"six\"\naddress = \"{VIP6}\"\nprotocol = \"vrrp3\"\nid = 52\nmode = \"hold\"\n\
             interval = \"100ms\"\npreempt = false\n"
        );
        let cluster = ClusterSettings {
            preempt: false,
            also_listen: vec![service.to_string()],
            more,
            ..ClusterSettings::default()
        };
        let all = CygnetPair::start(&cluster)?;
        for (node, address) in OWN {
            all.pair.lab.ip(node, &format!("address add {address}/64 dev {FRONT}"))?;
            usable(node, address)?;
        }
        let six = IpAddr::V6(VIP6);
        let holds = |node: &str| {
            wait::until(LIMIT, &format!("{node} to hold {VIP6}"), || {
                Ok((all.pair.lab.holders(six)? == [node]).then_some(()))
            })
        };
        // Either may have been the first.
        let first = all.pair.lab.one_holder(six, STEADY, LIMIT)?;
        let second = if first == "lb1" { "lb2" } else { "lb1" };
        usable(&first, &VIP6.to_string())?;
        let settings = probe::Settings { deadline: Duration::from_secs(5), ..probe::Settings::new(service) };
        let probe = Probe::start_warm(CLIENT, &settings)?;
        let since = probe::unix_ms();
        for (from, to) in [(first.as_str(), second), (second, first.as_str())] {
            wait::until(LIMIT, "the other node to stand by", || {
                let shown = all.node(to)?.json(&["vip"])?;
                let vip = shown["vips"].as_array().into_iter().flatten().find(|vip| vip["name"] == "six");
                Ok(vip.is_some_and(|vip| vip["role"] == "standby" && !vip["holder"].is_null()).then_some(()))
            })?;
            let said =
                said_of(&all.node(from)?.command(&["switchover", "--vip", "six", "--to", to, "--yes"])?);
            ensure!(said.contains("0 were broken"), "{said}");
            holds(to)?;
        }
        probe.settled(since, Duration::from_millis(500), LIMIT)?;
        let report = probe.finish()?;
        print_report("two moves of an IPv6 address", &report);
        ensure!(report.failures() == 0 && report.fates() == "up 5", "{:?} {}", report.failed, report.fates());
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node))
    })
}
