//! Configuration as versions: a trial that ends by itself, a condition that only one of two meets, a refusal that changes
//! nothing anywhere, and the way back.

use std::path::Path;
use std::process::Output;
use std::thread;

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::pair::{BALANCERS, back_address};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT, command_against};
use cygnet_lab::scenario::CygnetPair;
use cygnet_lab::wait;

/// Exit code of a command that was refused.
const REFUSED: i32 = 6;

fn good() -> String {
    ClusterSettings::default().text()
}

fn other(comment: &str) -> String {
    format!("# {comment}\n{}", good().replace("round-robin", "least-connections"))
}

/// Applies `text` at `node`, with a file of its own.
fn apply(node: &str, text: &str, more: &[&str]) -> Result<Output> {
    let file = Path::new(enter::FILES).join(format!("cluster-{node}.toml"));
    std::fs::write(&file, text)?;
    let file = file.display().to_string();
    let mut args = vec!["config", "apply", &file, "--yes"];
    args.extend(more);
    command_against(node, &args)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn done(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{}: {}", output.status, said(output));
    Ok(())
}

/// The configuration runs with this version and text.
fn runs(all: &CygnetPair, node: &str, version: u64, text: &str) -> Result<()> {
    let node = all.node(node)?;
    node.wait_status(LIMIT, &format!("version {version}"), |status| status.config.running == version)?;
    let shown = node.json(&["config", "show"])?;
    ensure!(shown["version"] == version && shown["text"] == text, "{} has {shown}", node.name);
    Ok(())
}

#[test]
fn a_trial_returns_by_itself_after_the_node_that_began_it_was_killed() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start_with_witness(&ClusterSettings::default())?;
        let output = apply("lb1", &other("a trial"), &["--confirm-within", "5s", "--comment", "try it"])?;
        done(&output)?;
        ensure!(said(&output).contains("v1 comes back in"), "{}", said(&output));
        // Every node knows of it, and for how much longer.
        let waiting = wait::until(LIMIT, "the trial on lb2", || {
            let history = all.node("lb2")?.json(&["config", "history"])?;
            Ok(Some(history["confirmation"].clone()).filter(|waiting| waiting["version"] == 2))
        })?;
        ensure!(waiting["back_to"] == 1 && waiting["left_ms"].as_u64() <= Some(5000), "{waiting}");
        all.node_mut("lb1")?.kill()?;
        runs(&all, "lb2", 3, &good())?;
        let events = all.node("lb2")?.json(&["events"])?.to_string();
        ensure!(events.contains("v2 was not confirmed in time; v1 is back, as v3"), "{events}");
        all.restart("lb1")?;
        runs(&all, "lb1", 3, &good())?;
        let history = all.node("lb1")?.json(&["config", "history"])?;
        ensure!(
            history["versions"][0]["author"] == "cygnet" && history["confirmation"].is_null(),
            "{history}"
        );
        ensure!(history["versions"][1]["comment"] == "try it", "{history}");
        let author = history["versions"][1]["author"].as_str().unwrap_or_default();
        ensure!(author.contains('@'), "user and host: {author}");
        Ok(())
    })
}

#[test]
fn a_confirmed_trial_stays_and_a_rollback_is_a_new_version_with_the_old_text() -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start(&ClusterSettings::default())?;
        done(&apply("lb1", &other("kept"), &["--confirm-within", "3s", "--wait"])?)?;
        // Whoever changes it for good meanwhile would end the trial by the way.
        let refused = apply("lb2", &good(), &[])?;
        ensure!(refused.status.code() == Some(REFUSED), "{}", said(&refused));
        ensure!(said(&refused).contains("v2 waits for its confirmation"), "{}", said(&refused));
        done(&command_against("lb2", &["config", "confirm"])?)?;
        let again = command_against("lb1", &["config", "confirm"])?;
        ensure!(again.status.code() == Some(REFUSED), "{}", said(&again));
        // Longer than the trial would have lasted, and nothing comes back.
        let start = std::time::Instant::now();
        wait::until(LIMIT, "4 s", || Ok((start.elapsed().as_secs() >= 4).then_some(())))?;
        runs(&all, "lb2", 2, &other("kept"))?;
        done(&command_against("lb2", &["config", "rollback", "--yes", "--wait"])?)?;
        for name in BALANCERS {
            runs(&all, name, 3, &good())?;
        }
        let history = all.node("lb1")?.json(&["config", "history"])?;
        ensure!(history["versions"][0]["comment"] == "back to v1", "{history}");
        ensure!(history["versions"][0]["change"]["changed"] == 1, "{history}");
        Ok(())
    })
}

#[test]
fn of_two_changes_of_the_same_version_at_the_same_moment_one_is_made_and_one_is_refused() -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start(&ClusterSettings::default())?;
        for version in 1..=5u64 {
            for name in BALANCERS {
                let node = all.node(name)?;
                node.wait_status(LIMIT, "the version", |status| status.config.running == version)?;
            }
            let condition = version.to_string();
            let at = |node: &'static str| {
                let condition = condition.clone();
                let text = other(&format!("{version} by {node}"));
                thread::spawn(move || apply(node, &text, &["--if-version", &condition]))
            };
            let outputs = BALANCERS.map(at).map(|thread| thread.join().expect("no panic"));
            let outputs: Vec<Output> = outputs.into_iter().collect::<Result<_>>()?;
            let told: Vec<String> = outputs.iter().map(said).collect();
            let codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
            let one = codes.contains(&Some(0)) && codes.contains(&Some(REFUSED));
            ensure!(one, "version {version}: {codes:?} {told:?}");
            let winner = BALANCERS[codes.iter().position(|code| *code == Some(0)).context("one")?];
            for name in BALANCERS {
                runs(&all, name, version + 1, &other(&format!("{version} by {winner}")))?;
            }
        }
        Ok(())
    })
}

#[test]
fn what_one_node_cannot_take_changes_nothing_anywhere() -> Result<()> {
    enter::lab(|| {
        let mut all = CygnetPair::start_with_witness(&ClusterSettings::default())?;
        // An address that only lb1 has.
        let source = format!("source = \"{}\"\nblacklist", back_address("lb1"));
        let bad = good().replace("blacklist", &source);
        for node in BALANCERS {
            let refused = apply(node, &bad, &[])?;
            ensure!(refused.status.code() == Some(REFUSED), "{}", said(&refused));
            let why = said(&refused);
            ensure!(
                why.contains("lb2 cannot run it") && why.contains("is on no interface of this node"),
                "{why}"
            );
            ensure!(!why.contains("lb1 cannot"), "{why}");
        }
        for node in BALANCERS {
            runs(&all, node, 1, &good())?;
            let history = all.node(node)?.json(&["config", "history"])?;
            ensure!(history["versions"].as_array().map(Vec::len) == Some(1), "{history}");
        }
        // A node that is gone holds nobody up, and is named.
        all.node_mut("lb2")?.kill()?;
        all.node("lb1")?
            .wait_status(LIMIT, "lb2 is gone", |status| status.summary.contains("unreachable"))?;
        let output = apply("lb1", &other("without lb2"), &["--wait"])?;
        done(&output)?;
        ensure!(said(&output).contains("could not be asked: lb2"), "{}", said(&output));
        all.restart("lb2")?;
        runs(&all, "lb2", 2, &other("without lb2"))
    })
}

#[test]
fn a_file_that_is_cut_off_is_refused_in_numbers() -> Result<()> {
    enter::lab(|| {
        let all = CygnetPair::start(&ClusterSettings::default())?;
        let text = good();
        let half = text.split("[[service]]").next().context("a head")?;
        let refused = apply("lb1", half, &[])?;
        ensure!(refused.status.code() == Some(REFUSED), "{}", said(&refused));
        ensure!(said(&refused).contains("servers, and one change may remove 50 %"), "{}", said(&refused));
        runs(&all, "lb2", 1, &text)?;
        done(&apply("lb1", half, &["--force"])?)?;
        runs(&all, "lb2", 2, half)
    })
}
