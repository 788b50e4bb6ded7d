//! A node is taken out of service on purpose, stays out across a restart, and comes back; and each move is told afterwards, also by
//! the node that is left when the other one is dead.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::runs;
use cygnet_lab::pair::{BALANCERS, CLIENT, FRONT, SERVICE, VIP};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT};
use cygnet_lab::probe::{self, Probe};
use cygnet_lab::scenario::{CygnetPair, print_report};
use cygnet_lab::wait::until;
use serde_json::Value;

fn last_move(all: &CygnetPair, node: &str) -> Result<Value> {
    let told = all.node(node)?.json(&["why", "www"])?;
    let last = told.pointer("/stories/0/last_move").filter(|last| !last.is_null());
    last.cloned().with_context(|| format!("{node} tells no move: {told}"))
}

#[test]
fn a_drained_node_gives_way_stays_away_across_a_restart_and_comes_back_when_told() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&ClusterSettings::default())?;
        let refused = all.node("lb1")?.command(&["node", "drain"])?;
        ensure!(refused.status.code() == Some(6), "without --yes: {refused:?}");
        all.holder_is("lb1")?;
        let drained = all.node("lb1")?.command(&["node", "drain", "--yes", "--comment", "new disk"])?;
        ensure!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
        all.holder_is("lb2")?;
        all.node_mut("lb1")?.stop()?;
        all.restart("lb1")?;
        all.node("lb1")?.wait_vip(LIMIT, "lb1 to say why it stays away", |vip| {
            vip.role == "down" && vip.reason.contains("drained by") && vip.reason.contains("new disk")
        })?;
        all.holder_is("lb2")?;
        // Nobody is left to take the address now.
        let refused = all.node("lb2")?.command(&["node", "drain", "--yes"])?;
        ensure!(refused.status.code() == Some(6), "without a standby: {refused:?}");
        let ready = all.node("lb1")?.command(&["node", "ready"])?;
        ensure!(ready.status.success(), "{}", String::from_utf8_lossy(&ready.stderr));
        all.holder_is("lb1")?;
        // Who did that is known on both nodes, and lb1 was restarted in between.
        for node in BALANCERS {
            until(LIMIT, &format!("{node} to know both commands"), || {
                let shown = all.node(node)?.json(&["events", "--cluster", "--kind", "command"])?;
                let done = |event: &&Value| {
                    let what = event["what"].as_str().unwrap_or_default();
                    event["node"] == "lb1" && what.starts_with("cygnet node ") && what.ends_with(": done")
                };
                let commands: Vec<&Value> =
                    shown["events"].as_array().into_iter().flatten().filter(done).collect();
                let [drain, ready] = &commands[..] else { return Ok(None) };
                let named =
                    drain["what"] == "cygnet node drain: done" && ready["what"] == "cygnet node ready: done";
                let by = drain["why"].as_str().is_some_and(|why| why.ends_with("(user 0): new disk"));
                Ok((named && by).then_some(()))
            })?;
        }
        Ok(())
    })
}

#[test]
fn the_survivor_tells_why_it_holds_the_address_and_what_that_cost() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start(&ClusterSettings::default())?;
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        let carries =
            |node: &Value| node["name"] == "lb1" && node["report"]["connections"].as_u64() > Some(4);
        until(LIMIT, "lb2 to know of the sessions on lb1", || {
            let nodes = all.node("lb2")?.json(&["node", "list"])?;
            Ok(nodes["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(carries)).then_some(()))
        })?;
        all.node_mut("lb1")?.kill()?;
        all.holder_is("lb2")?;
        drop(probe);
        let last = last_move(&all, "lb2")?;
        ensure!(last["to"] == "lb2" && last["from"] == "lb1", "{last}");
        ensure!(last["cost"].as_str().is_some_and(|cost| cost.starts_with("lb1 carried")), "{last}");
        ensure!(last["why"].as_str().is_some_and(|why| !why.is_empty()), "{last}");
        all.restart("lb1")?;
        all.holder_is("lb1")?;
        // Both tell the same now, whoever is asked.
        for node in ["lb1", "lb2"] {
            until(LIMIT, &format!("{node} to have heard of the move back"), || {
                let last = last_move(&all, node)?;
                Ok((last["to"] == "lb1" && last["from"] == "lb2").then_some(()))
            })?;
        }
        Ok(())
    })
}

#[test]
fn a_second_host_that_has_the_address_is_named_by_both_nodes() -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start(&ClusterSettings::default())?;
        // It answers for the address and advertises nothing, like a daemon that was killed and left it behind.
        all.pair.lab.add_address("watch", FRONT, VIP, 32)?;
        let named = |node: &str| -> Result<bool> {
            let shown = all.node(node)?.json(&["events"])?;
            let events = shown["events"].as_array().into_iter().flatten();
            Ok(events.into_iter().any(|event| event["kind"] == "other-answers"))
        };
        until(LIMIT, "both nodes to name it", || {
            // Whom it asks for from the address, it tells of the address.
            all.pair.lab.ip("watch", "neigh flush all")?;
            let asked = probe::ask("watch", SocketAddr::from(([192, 0, 2, 10], 9)), Some(VIP));
            ensure!(asked.is_err(), "nobody listens there");
            Ok((named("lb1")? && named("lb2")?).then_some(()))
        })?;
        ensure!(all.pair.lab.holders(VIP)?.contains(&"lb1".to_owned()), "lb1 gave the address up");
        Ok(())
    })
}

#[test]
fn a_switchover_fails_no_request() -> Result<()> {
    enter::lab(|| {
        // Without preemption it stays where it was moved to.
        let mut all = CygnetPair::start(&ClusterSettings { preempt: false, ..ClusterSettings::default() })?;
        let order = BALANCERS;
        for run in 0..runs() {
            let (from, to) = (order[run % 2], order[(run + 1) % 2]);
            all.redundant()?;
            let dry = all.node(from)?.command(&["switchover", "--to", to, "--dry-run"])?;
            ensure!(dry.status.code() == Some(3), "{dry:?}");
            let report = all.measure(&mut [&mut |all| {
                let done = all.node(from)?.command(&["switchover", "--to", to, "--yes"])?;
                ensure!(done.status.success(), "{done:?}");
                all.holder_is(to)
            }])?;
            print_report("switchover", &report);
            ensure!(
                report.failures() == 0,
                "{} of {} requests failed: {:?}",
                report.failures(),
                report.requests,
                report.failed
            );
        }
        Ok(())
    })
}
