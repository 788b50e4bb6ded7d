//! What was acknowledged is never lost: nodes are killed with -9 while configurations are written, and afterwards
//! every node has every version that an operator was told of, with the same text.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::{figure, runs};
use cygnet_lab::pair::{BALANCERS, WITNESS};
use cygnet_lab::peers::cygnet::{ClusterSettings, LIMIT, command_against};
use cygnet_lab::scenario::CygnetPair;
use cygnet_lab::wait;
use serde_json::Value;

/// Set it to repeat a run with the same nodes killed after the same pauses.
const SEED: &str = "CYGNET_SEED";
/// Nodes that die in one run of [`runs`].
const KILLS_PER_RUN: usize = 4;
/// A node dies after so long, so that something was written...
const PAUSE_LEAST_MS: u64 = 100;
/// ...and at most so much later, often in the middle of a write.
const PAUSE_MORE_MS: u64 = 400;
/// Changes between two looks at the histories, which keep 32 versions.
const WRITES_MOST: usize = 24;

/// Splitmix64: the same pauses for the same seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()) >> 32);
        figure("durability, seed", &format!("{SEED}={seed}"));
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// The texts that were acknowledged, by version.
type Acknowledged = Mutex<BTreeMap<u64, String>>;

fn text(number: usize) -> String {
    // A different length each time: the pages of the log are written in many ways.
    let padding = "x".repeat(number * 997 % 20_000);
    format!("# change {number} {padding}\n{}", ClusterSettings::default().text())
}

/// An operator who applies one change after the other on whichever balancer takes it, and notes what was promised.
fn write_until(done: &AtomicBool, number: &AtomicUsize, promised: &Acknowledged) -> Result<()> {
    let mut newest = 0;
    let mut written = 0;
    while !done.load(Ordering::Relaxed) && written < WRITES_MOST {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let text = text(number);
        let file = Path::new(enter::FILES).join("written.toml");
        std::fs::write(&file, &text)?;
        let (node, file) = (BALANCERS[number % BALANCERS.len()], file.display().to_string());
        let output = command_against(node, &["config", "apply", &file, "--yes", "-o", "json"])?;
        if !output.status.success() {
            // The node is dead, or there is no leader at the moment. Nothing was promised.
            continue;
        }
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let version = said["version"].as_u64().with_context(|| said.to_string())?;
        ensure!(version > newest, "version {version} was given after {newest}");
        newest = version;
        written += 1;
        let earlier = lock(promised).insert(version, text);
        ensure!(earlier.is_none(), "version {version} was given twice");
    }
    Ok(())
}

fn lock(promised: &Acknowledged) -> MutexGuard<'_, BTreeMap<u64, String>> {
    promised.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of them, or now and then all at once: then only the disks remember.
fn victims(random: &mut Random) -> Vec<&'static str> {
    let all = [BALANCERS[0], BALANCERS[1], WITNESS];
    if random.below(4) == 0 { all.to_vec() } else { vec![all[usize::try_from(random.below(3)).unwrap_or(0)]] }
}

/// Kills some nodes in the middle of writes and starts them again. Gives the texts that were acknowledged.
fn kill_during_writes(
    all: &mut CygnetPair,
    random: &mut Random,
    number: &AtomicUsize,
) -> Result<BTreeMap<u64, String>> {
    let promised = Acknowledged::default();
    let done = AtomicBool::new(false);
    let victims = victims(random);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&done, number, &promised));
        let outcome = (|| {
            std::thread::sleep(Duration::from_millis(PAUSE_LEAST_MS + random.below(PAUSE_MORE_MS)));
            for name in &victims {
                all.node_mut(name)?.kill()?;
            }
            // The others, if there are any, may go on to take changes that the dead one does not see.
            std::thread::sleep(Duration::from_millis(random.below(PAUSE_MORE_MS)));
            victims.iter().try_for_each(|name| all.restart(name))
        })();
        done.store(true, Ordering::Relaxed);
        let written = writer.join();
        outcome?;
        written.map_err(|_| anyhow!("the writer panicked"))?
    })?;
    Ok(promised.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// All nodes come to run `newest` or a later version, and have every promised text.
fn all_have(all: &CygnetPair, promised: &BTreeMap<u64, String>, newest: u64) -> Result<()> {
    for node in &all.nodes {
        node.wait_status(LIMIT, &format!("version {newest}"), |status| {
            status.quorum.reached && status.config.running >= newest
        })?;
        for (version, text) in promised {
            let shown = node.json(&["config", "show", "--version", &version.to_string()])?;
            ensure!(shown["version"] == *version, "{} lost version {version}: {shown}", node.name);
            ensure!(shown["text"] == **text, "{} has another text as version {version}", node.name);
        }
    }
    // A change whose end nobody was told may still arrive, on one node after the other.
    wait::until(LIMIT, "the same history everywhere", || {
        let histories: Vec<Value> =
            all.nodes.iter().map(|node| node.json(&["config", "history"])).collect::<Result<_>>()?;
        Ok(histories.windows(2).all(|pair| pair[0] == pair[1]).then_some(()))
    })
}

#[test]
fn no_acknowledged_version_is_lost_when_nodes_are_killed_during_writes() -> Result<()> {
    enter::lab(|| {
        let mut random = Random::new();
        let mut all = CygnetPair::start_with_witness(&ClusterSettings::default())?;
        let number = AtomicUsize::new(0);
        let (mut newest, mut acknowledged) = (1, 0);
        let kills = KILLS_PER_RUN * runs();
        for round in 0..kills {
            let promised = kill_during_writes(&mut all, &mut random, &number)?;
            if let Some((first, _)) = promised.first_key_value() {
                ensure!(*first > newest, "round {round}: version {first} was given after {newest}");
            }
            newest = promised.last_key_value().map_or(newest, |(version, _)| *version);
            acknowledged += promised.len();
            all_have(&all, &promised, newest).with_context(|| format!("round {round}"))?;
        }
        figure(
            "durability",
            &format!("{acknowledged} changes acknowledged, {kills} times killed, none lost"),
        );
        ensure!(acknowledged >= kills, "only {acknowledged} changes were acknowledged; this proves nothing");
        Ok(())
    })
}
