//! Direct server return on a pair: the holder of the virtual address passes frames on, and connections live through its death,
//! for they are between client and server alone.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cygnet_lab::backend::Backend;
use cygnet_lab::enter;
use cygnet_lab::figures::figure;
use cygnet_lab::pair::{BACK, BALANCERS, SERVERS, WITNESS};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT, NodeSettings};
use cygnet_lab::probe::{self, Probe, ask, unix_ms};
use cygnet_lab::scenario::CygnetPair;
use cygnet_lab::wait::until;
use serde_json::Value;

/// The service's address, which is on no interface of a balancer.
const ADDRESS: &str = "10.1.0.80";
const PORT: u16 = 8080;
/// Long-lived connections: enough for both servers.
const SESSIONS: usize = 12;
/// The prober is content when nothing has failed for so long.
const QUIET: Duration = Duration::from_secs(1);
/// 100 ms advertisements: three of them and the skew, and what the machine takes.
const GAP_MAX_MS: f64 = 1000.0;

/// The pair, with a second virtual address on the servers' side for the service to go with.
fn start() -> Result<(CygnetPair, Vec<Backend>)> {
    let nodes = NodeSettings::pair()
        .map(|node| NodeSettings { more: format!("[vip.back]\ninterface = \"{BACK}\"\n"), ..node });
    let mut more = format!(
        "[[vip]]\nname = \"back\"\naddress = \"10.1.0.100\"\nprotocol = \"vrrp3\"\nid = 52\nmode = \"hold\"\n\
         interval = \"100ms\"\n\
         [[service]]\nname = \"direct\"\nalgorithm = \"source-port-hash\"\n\
         [service.dsr]\naddress = \"{ADDRESS}\"\nport = {PORT}\nvip = \"back\"\n"
    );
    for (name, address) in SERVERS {
        more.push_str(&format!("[[service.server]]\nname = \"{name}\"\naddress = \"{address}\"\n"));
    }
    let cluster = ClusterSettings { interval_ms: 100, more, ..ClusterSettings::default() };
    let all = CygnetPair::start_with(&nodes, &cluster)?;
    let mut backends = Vec::new();
    for (node, _) in SERVERS {
        all.pair.lab.sysctl(node, &["net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"])?;
        all.pair.lab.ip(node, &format!("address add {ADDRESS}/32 dev lo"))?;
        backends.push(Backend::start(node, service()?)?);
    }
    Ok((all, backends))
}

fn service() -> Result<SocketAddr> {
    Ok(format!("{ADDRESS}:{PORT}").parse()?)
}

/// What a node says of the service.
fn direct(all: &CygnetPair, node: &str) -> Result<Value> {
    let status = all.node(node)?.get("/v1/status")?;
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let service = services.into_iter().find(|service| service["name"] == "direct");
    Ok(service.with_context(|| format!("{node} has no such service: {status}"))?["direct"].clone())
}

fn serves(all: &CygnetPair, node: &str) -> Result<()> {
    until(LIMIT, &format!("{node} to pass frames on to both servers"), || {
        // A node that starts has no services for a moment.
        let Ok(facts) = direct(all, node) else { return Ok(None) };
        Ok((facts["serving"] == true && facts["reachable"] == 2).then_some(()))
    })
}

#[test]
fn connections_of_direct_server_return_live_through_the_death_of_the_holder() -> Result<()> {
    enter::lab(|| {
        let (mut all, _backends) = start()?;
        serves(&all, "lb1")?;
        let standby = direct(&all, "lb2")?;
        ensure!(standby["serving"] == false, "{standby}");
        ensure!(standby["reason"].to_string().contains("this node is not it"), "{standby}");
        let mut servers: Vec<String> =
            (0..40).map(|_| Ok(ask(WITNESS, service()?, None)?.0)).collect::<Result<_>>()?;
        servers.sort();
        servers.dedup();
        ensure!(servers.len() == 2, "clients' ports lead to both servers, not to {servers:?}");

        let settings = probe::Settings { sessions: SESSIONS, ..probe::Settings::new(service()?) };
        let probe = Probe::start_warm(WITNESS, &settings)?;
        let since = unix_ms();
        all.node_mut(BALANCERS[0])?.kill()?;
        serves(&all, "lb2")?;
        probe.settled(since, QUIET, LIMIT)?;
        let report = probe.finish()?;
        figure(
            "dsr, kill -9 of the holder",
            &format!("gap {:.0} ms, sessions {}", report.longest_gap_ms, report.fates()),
        );
        ensure!(report.fates() == format!("up {SESSIONS}"), "{:?}", report.sessions);
        ensure!(report.longest_gap_ms < GAP_MAX_MS, "{report:?}");
        Ok(())
    })
}
