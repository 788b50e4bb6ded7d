//! Nodes that begin a cluster, join it, leave it and recover it, by the commands that an administrator uses.

use std::process::Output;

use anyhow::{Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::pair::{BALANCERS, Pair, WITNESS};
use cygnet_lab::peers::cygnet::{ClusterSettings, Cygnet, LIMIT, NodeSettings};
use cygnet_lab::scenario::CygnetPair;

/// Exit code of a command that was refused.
const REFUSED: i32 = 6;

fn encrypted(name: &str) -> NodeSettings {
    NodeSettings { encrypted: true, ..NodeSettings::new(name, &BALANCERS) }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn refused(output: &Output, reason: &str) -> Result<()> {
    let text = said(output);
    ensure!(output.status.code() == Some(REFUSED) && text.contains(reason), "{}: {text}", output.status);
    Ok(())
}

fn done(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{}: {}", output.status, said(output));
    Ok(())
}

fn events_say(node: &Cygnet, what: &str) -> Result<()> {
    let text = said(&node.command(&["events"])?);
    ensure!(text.contains(what), "{} says nothing of {what:?}: {text}", node.name);
    Ok(())
}

#[test]
fn a_witness_joins_by_its_own_kind_of_token_and_every_wrong_one_is_refused_on_both_sides() -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start_with(&NodeSettings::encrypted_pair(), &ClusterSettings::default())?;
        let (first, witness) = (all.node("lb1")?, encrypted(WITNESS));
        let plain = first.token(&[])?;
        refused(&Cygnet::join(&witness, "lb1", &plain)?, "the token is for a node with traffic")?;
        // It is of the wrong kind too, so that nobody is let in while it lives.
        let short = first.token(&["--ttl", "1s"])?;
        cygnet_lab::wait::until(LIMIT, "the token to end", || {
            let output = Cygnet::join(&witness, "lb1", &short)?;
            refused(&output, "the token")?;
            Ok(said(&output).contains("the token has ended").then_some(()))
        })?;
        events_say(first, "the token has ended")?;
        drop(all);
        Ok(())
    })
}

#[test]
fn a_third_node_joins_is_transferred_to_and_removed() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start_with(&NodeSettings::encrypted_pair(), &ClusterSettings::default())?;
        let witness = encrypted(WITNESS);
        let token = all.node("lb1")?.token(&["--witness"])?;
        done(&Cygnet::join(&witness, "lb1", &token)?)?;
        all.nodes.push(Cygnet::start(&witness)?);
        let (lb1, lb2) = (all.node("lb1")?, all.node("lb2")?);
        lb1.wait_voters(3)?;
        events_say(lb1, "w1 is a voter now")?;
        // The same token does not let a second one in.
        let other = NodeSettings { name: "backend1".to_owned(), ..encrypted(WITNESS) };
        refused(&Cygnet::join(&other, "lb1", &token)?, "the token was used already, by w1")?;
        events_say(lb1, "refused to let \"backend1\" in")?;
        // lb1 holds the address, and leads again after a while; until then the transfer counts.
        done(&lb2.command(&["cluster", "transfer", "lb2"])?)?;
        events_say(lb2, "lb2 leads")?;
        done(&lb1.command(&["cluster", "remove", WITNESS, "--yes"])?)?;
        lb1.wait_voters(2)?;
        all.node(WITNESS)?.wait_status(LIMIT, "the witness to know", |status| !status.quorum.reached)?;
        events_say(all.node(WITNESS)?, "removed from the cluster")?;
        Ok(())
    })
}

#[test]
fn a_learner_stays_one_until_it_is_promoted() -> Result<()> {
    enter::lab(|| {
        let pair = Pair::build()?;
        let nodes = NodeSettings::encrypted_pair();
        Cygnet::init(&nodes[0])?;
        let first = Cygnet::start(&nodes[0])?;
        first.wait_status(LIMIT, "a quorum of one", |status| status.quorum.reached)?;
        first.apply(&ClusterSettings::default().text())?;
        let token = first.token(&["--learner"])?;
        done(&Cygnet::join(&nodes[1], "lb1", &token)?)?;
        let second = Cygnet::start(&nodes[1])?;
        second.wait_status(LIMIT, "the configuration", |status| status.config.running == 1)?;
        first.wait_voters(1)?;
        let promoted = first.command(&["cluster", "promote", "lb2"])?;
        done(&promoted)?;
        first.wait_voters(2)?;
        second.wait_voters(2)?;
        drop((first, second, pair));
        Ok(())
    })
}

#[test]
fn a_survivor_is_recovered_and_the_other_comes_back_into_the_new_epoch() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start_with(&NodeSettings::encrypted_pair(), &ClusterSettings::default())?;
        all.node_mut("lb1")?.kill()?;
        all.holder_is("lb2")?;
        let survivor = all.node("lb2")?;
        let changed = format!("# changed\n{}", ClusterSettings::default().text());
        survivor.wait_status(LIMIT, "no quorum", |status| !status.quorum.reached)?;
        refused(&survivor.command(&["cluster", "recover"])?, "not confirmed")?;
        refused(&survivor.command(&["cluster", "recover", "--yes-cluster", "other"])?, "not its name")?;
        let recovered = survivor.command(&["cluster", "recover", "--yes-cluster", "lab"])?;
        done(&recovered)?;
        ensure!(said(&recovered).contains("1 of 2 voters cannot be reached: lb1"), "{}", said(&recovered));
        survivor.apply(&changed)?;
        all.restart("lb1")?;
        let back = all.node("lb1")?;
        back.wait_status(LIMIT, "the new version", |status| status.config.running == 2)?;
        events_say(back, "the cluster was recovered without this node")?;
        back.wait_voters(2)?;
        refused(&back.command(&["cluster", "recover", "--yes-cluster", "lab"])?, "there is a quorum")?;
        Ok(())
    })
}

#[test]
fn a_node_that_is_in_no_cluster_says_what_to_do() -> Result<()> {
    enter::lab(|| {
        let _pair = Pair::build()?;
        let mut node = Cygnet::start(&encrypted("lb1"))?;
        let status = node.process.wait_end(LIMIT)?;
        ensure!(!status.success(), "it must not start");
        Ok(())
    })
}
