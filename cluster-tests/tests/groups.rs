//! Two virtual routers on two links that move together: beside another Cygnet, and beside keepalived's `vrrp_sync_group`.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::pair::{BACK, FRONT, Pair, VIP, VRID};
use cygnet_lab::peers::cygnet::{ClusterSettings, Cygnet, LIMIT, NodeSettings};
use cygnet_lab::peers::keepalived::Keepalived;
use cygnet_lab::scenario::CygnetPair;
use cygnet_lab::wait;
use serde_json::Value;

/// The address on the side of the servers, which goes with the one on the side of the clients.
const INNER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 100));
const INNER_VRID: u8 = 52;
const INNER_VIP: &str = "[[vip]]\nname = \"inner\"\naddress = \"10.1.0.100\"\nprotocol = \"vrrp3\"\nid = 52\nmode = \"hold\"\n\
                         interval = \"50ms\"\nsync_group = \"edge\"\n";

fn cluster() -> ClusterSettings {
    ClusterSettings {
        vip_lines: "sync_group = \"edge\"\n",
        more: INNER_VIP.to_owned(),
        ..ClusterSettings::default()
    }
}

fn on_both_links(settings: NodeSettings) -> NodeSettings {
    NodeSettings { more: format!("[vip.inner]\ninterface = \"{BACK}\"\n"), ..settings }
}

/// Waits until this node alone has both addresses.
fn both_on(pair: &Pair, node: &str) -> Result<()> {
    wait::until(LIMIT, &format!("{node} to hold both addresses"), || {
        let holders = [pair.lab.holders(VIP)?, pair.lab.holders(INNER)?];
        Ok(holders.iter().all(|holders| holders == &[node]).then_some(()))
    })
}

fn reason(node: &Cygnet, vip: &str) -> Result<String> {
    let shown = node.json(&["vip"])?;
    let vips = shown["vips"].as_array().cloned().unwrap_or_default();
    let one = vips.iter().find(|one| one["name"] == vip);
    Ok(one.and_then(|one| one["reason"].as_str()).unwrap_or_default().to_owned())
}

#[test]
fn a_link_that_fails_on_either_side_moves_both_addresses_and_they_come_back_together() -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start_with(&NodeSettings::pair().map(on_both_links), &cluster())?;
        both_on(&all.pair, "lb1")?;
        for (link, down, follows) in [(FRONT, "www", "inner"), (BACK, "inner", "www")] {
            all.pair.lab.link_down("lb1", link)?;
            both_on(&all.pair, "lb2")?;
            let why = reason(all.node("lb1")?, follows)?;
            ensure!(
                why.starts_with(&format!("its group edge moves as one: {down}: {link} is down")),
                "{why}"
            );
            all.pair.lab.link_up("lb1", link)?;
            both_on(&all.pair, "lb1")?;
            all.redundant()?;
        }
        Ok(())
    })
}

#[test]
fn a_planned_move_of_one_moves_the_other_to_the_same_node() -> Result<()> {
    enter::lab(|| {
        // Without preemption they stay where they were moved to.
        let more = INNER_VIP.replace("sync_group", "preempt = false\nsync_group");
        let cluster = ClusterSettings { preempt: false, more, ..cluster() };
        let all = CygnetPair::start_with(&NodeSettings::pair().map(on_both_links), &cluster)?;
        both_on(&all.pair, "lb1")?;
        all.redundant()?;
        let done: Value = wait::until(LIMIT, "lb2 to stand by", || {
            let done = all.node("lb1")?.command(&["switchover", "--vip", "inner", "--yes", "-o", "json"])?;
            Ok(done.status.success().then(|| serde_json::from_slice(&done.stdout)).transpose()?)
        })?;
        let moved: Vec<&str> = done["moved"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|moved| moved["vip"].as_str())
            .collect();
        ensure!(moved.contains(&"www") && moved.contains(&"inner"), "{done}");
        both_on(&all.pair, "lb2")?;
        // Stopped in order, and with -9: the whole group each time.
        let mut all = all;
        all.node_mut("lb2")?.stop()?;
        both_on(&all.pair, "lb1")?;
        all.restart("lb2")?;
        all.redundant()?;
        all.node_mut("lb1")?.kill()?;
        both_on(&all.pair, "lb2")
    })
}

/// Two instances in one group, as its users write them.
fn keepalived() -> String {
    let instance = |name: &str, interface: &str, id: u8, address: IpAddr| {
        format!(
            "vrrp_instance {name} {{\n    state BACKUP\n    interface {interface}\n    virtual_router_id {id}\n    \
             priority 100\n    advert_int 0.05\n    virtual_ipaddress {{\n        {address}/32\n    }}\n}}\n"
        )
    };
    format!(
        "global_defs {{\n    router_id lb2\n    vrrp_version 3\n}}\n\
         vrrp_sync_group edge {{\n    group {{\n        www\n        inner\n    }}\n}}\n{}{}",
        instance("www", FRONT, VRID, VIP),
        instance("inner", BACK, INNER_VRID, INNER)
    )
}

#[test]
fn beside_a_sync_group_of_keepalived_there_is_one_holder_of_both_addresses() -> Result<()> {
    enter::lab(|| {
        let pair = Pair::build()?;
        let mut other = Keepalived::start_with("lb2", &keepalived())?;
        both_on(&pair, "lb2")?;
        // The preferred node comes.
        let nodes = [on_both_links(NodeSettings::new("lb1", &["lb1"]))];
        let mut started = Cygnet::start_all(&nodes, &cluster())?;
        both_on(&pair, "lb1")?;
        for link in [FRONT, BACK] {
            pair.lab.link_down("lb1", link)?;
            both_on(&pair, "lb2")?;
            pair.lab.link_up("lb1", link)?;
            both_on(&pair, "lb1")?;
            // The other one loses a link while it stands by: nothing moves.
            pair.lab.link_down("lb2", link)?;
            pair.lab.link_up("lb2", link)?;
            both_on(&pair, "lb1")?;
        }
        started.iter_mut().try_for_each(Cygnet::stop)?;
        both_on(&pair, "lb2")?;
        other.stop()
    })
}
