//! What the nodes agree on survives their restart; without a quorum traffic and failover go on, and only changes are
//! refused; a witness makes the pair ordinary.

use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use cygnet_lab::clients::Crowd;
use cygnet_lab::enter;
use cygnet_lab::pair::{BALANCERS, CLIENT, SERVICE};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT};
use cygnet_lab::scenario::{CygnetPair, print_report};

/// Exit code of a command that needs a quorum and has none.
const NO_QUORUM: i32 = 5;
/// A refusal must not make the operator wait for long.
const REFUSAL_LIMIT: Duration = Duration::from_secs(15);

fn remembering() -> ClusterSettings {
    ClusterSettings { sticky: Some("30m"), ..ClusterSettings::default() }
}

fn changed() -> String {
    format!("# changed\n{}", remembering().text().replace("round-robin", "least-connections"))
}

/// The refusal says that there is no quorum and what helps, in time.
fn refused(all: &CygnetPair, node: &str) -> Result<()> {
    let start = std::time::Instant::now();
    let Output { status, stdout, stderr } = all.node(node)?.try_apply(&changed())?;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.code() == Some(NO_QUORUM), "{status}: {said}");
    ensure!(said.to_lowercase().contains("quorum"), "no reason: {said}");
    // The remedy: start the missing node.
    let missing = if node == "lb1" { "lb2" } else { "lb1" };
    ensure!(said.contains(missing) || said.contains("start"), "no remedy: {said}");
    ensure!(start.elapsed() < REFUSAL_LIMIT, "refused after {} ms", start.elapsed().as_millis());
    Ok(())
}

#[test]
fn configuration_version_and_clients_survive_the_restart_of_both_nodes() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&remembering())?;
        all.node("lb2")?.apply(&changed())?;
        for name in BALANCERS {
            all.node(name)?.wait_status(LIMIT, "version 2", |status| status.config.running == 2)?;
        }
        let crowd = Crowd { list: true, ..Crowd::new(SERVICE, 200) };
        let before = crowd.run_in(CLIENT)?;
        ensure!(before.succeeded == 200, "{:?}", before.failed);
        for name in BALANCERS {
            all.node(name)?.wait_status(LIMIT, "200 clients", |status| status.soft.clients >= 200)?;
        }
        let history = all.node("lb1")?.json(&["config", "history"])?;
        // One is stopped in order, the other dies.
        all.node_mut("lb2")?.stop()?;
        all.node_mut("lb1")?.kill()?;
        for name in BALANCERS {
            all.restart(name)?;
        }
        all.holder_is("lb1")?;
        for name in BALANCERS {
            let node = all.node(name)?;
            node.wait_status(LIMIT, "version 2 and 200 clients", |status| {
                status.config.running == 2 && status.soft.clients >= 200 && status.quorum.reached
            })?;
            let shown = node.json(&["config", "show"])?;
            ensure!(shown["text"] == changed() && shown["version"] == 2, "{name}: {shown}");
            ensure!(node.json(&["config", "history"])? == history, "{name} has another history");
        }
        let after = crowd.run_in(CLIENT)?;
        ensure!(after.list == before.list, "clients came to other servers: {:?}", after.failed);
        Ok(())
    })
}

#[test]
fn without_a_quorum_traffic_and_failover_go_on_and_changes_are_refused() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&remembering())?;
        let report = all.measure(&mut [&mut |all| {
            all.node_mut("lb2")?.kill()?;
            refused(all, "lb1")
        }])?;
        print_report("quorum, standby dies", &report);
        ensure!(report.failures() == 0 && report.fates() == "up 5", "{:?} {}", report.failed, report.fates());
        all.restart("lb2")?;
        all.node("lb2")?.wait_status(LIMIT, "the quorum", |status| status.quorum.reached)?;
        all.node("lb2")?
            .wait_vip(LIMIT, "the standby", |vip| vip.role == "standby" && vip.holder.is_some())?;

        let report = all.measure(&mut [&mut |all| all.node_mut("lb1")?.kill()])?;
        print_report("quorum, holder dies", &report);
        all.holder_is("lb2")?;
        refused(&all, "lb2")?;
        let running = all.node("lb2")?.status()?.config.running;
        ensure!(running == 1, "lb2 runs version {running}");
        Ok(())
    })
}

#[test]
fn with_a_witness_a_change_is_taken_while_a_node_is_dead_and_reaches_it_later() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start_with_witness(&remembering())?;
        all.node_mut("lb1")?.kill()?;
        all.holder_is("lb2")?;
        all.node("lb2")?.apply(&changed())?;
        all.node("lb2")?.wait_status(LIMIT, "version 2", |status| status.config.running == 2)?;
        all.restart("lb1")?;
        all.node("lb1")?.wait_status(LIMIT, "version 2", |status| status.config.running == 2)?;
        all.holder_is("lb1")?;
        ensure!(all.node("lb1")?.json(&["config", "show"])?["text"] == changed());
        Ok(())
    })
}
