//! Disks that are full or read-only, by real means: file systems in a mount namespace of their own.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::silent::{members, start};
use super::{Seen, config, settings, wait};
use crate::consensus::limits::SLOW_TURN;
use crate::consensus::store::StoreError;
use crate::consensus::{Applied, Handle, ProposeError, StartError};
use crate::events::Severity;
use crate::state::{ClientFact, State};

/// Set in the second run, inside of the namespace: the folder that was prepared.
const ENTERED: &str = "CYGNET_TEST_DISK";
/// Written by the second run at its end, so that one that found no test is no success.
const PROOF: &str = "CYGNET_TEST_PROOF";

/// Runs the test again in a mount namespace in which `script` has prepared the folder `$DISK`; `Some` in there.
fn enter(test: &str, script: &str) -> Option<PathBuf> {
    if let Some(entered) = std::env::var_os(ENTERED) {
        return Some(entered.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let (disk, proof) = (dir.path().join("disk"), dir.path().join("proof"));
    fs::create_dir(&disk).unwrap();
    let script = format!("DISK=${ENTERED}; {script}; exec \"$0\" --exact \"$1\" --nocapture");
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount", "--", "sh", "-ec", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(ENTERED, &disk)
        .env(PROOF, &proof)
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
    assert!(proof.exists(), "{test} was not found in the second run");
    None
}

fn proved() {
    fs::write(std::env::var_os(PROOF).unwrap(), "").unwrap();
}

/// Takes all the room that is left.
fn fill(file: &PathBuf) {
    let mut filler = File::create(file).unwrap();
    let block = vec![0x5a; 64 * 1024];
    while filler.write_all(&block).is_ok() {}
    while filler.write_all(&block[..512]).is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_the_node_its_voice_names_the_remedy_and_leaves_what_was_agreed() {
    let test = "a_full_disk_costs_the_node_its_voice_names_the_remedy_and_leaves_what_was_agreed";
    let Some(dir) = enter(test, "mount -t tmpfs -o size=6m none \"$DISK\"") else { return };
    let settings = settings("demo", 1, &members(1), &dir);
    let handle = start(settings.clone(), Seen::default());
    wait("a leader", || handle.status().quorum).await;
    handle.put_config(config("one")).await.unwrap();
    let filler = dir.join("filler");
    fill(&filler);
    // The file has some room of its own.
    let mut agreed = 1;
    let error = loop {
        match handle.put_config(config(&"x".repeat(300_000))).await {
            Ok(committed) => agreed = committed.version,
            Err(error) => break error,
        }
        assert!(agreed < 40, "6 MiB do not hold this");
    };
    let names_the_remedy = |text: &str| text.contains("make room, then restart this node");
    assert!(matches!(&error, ProposeError::Stopped(why) if names_the_remedy(why)), "{error}");
    assert!(handle.status().stopped.is_some_and(|why| names_the_remedy(&why)), "the status says it");
    let events = settings.events.after(0);
    let told = events.iter().any(|event| event.severity == Severity::Alert && names_the_remedy(&event.why));
    assert!(told, "and so does an event");
    assert_eq!(handle.configuration().version(), agreed, "traffic goes on with what was agreed");
    handle.stop().await;
    fs::remove_file(filler).unwrap();
    let handle = start(settings, Seen::default());
    wait("what was agreed", || handle.status().version >= agreed).await;
    wait("a leader", || handle.status().quorum).await;
    handle.put_config(config("two")).await.unwrap();
    handle.stop().await;
    proved();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_is_named_at_the_start_with_its_remedy() {
    let test = "a_read_only_disk_is_named_at_the_start_with_its_remedy";
    let script = "mount --bind \"$DISK\" \"$DISK\"; mount -o remount,bind,ro \"$DISK\"";
    let Some(dir) = enter(test, script) else { return };
    let settings = settings("demo", 1, &members(1), &dir);
    let answers = Arc::new(|_: &str| Ok(()));
    let error = Handle::start(settings, Box::new(Seen::default()), answers).err().unwrap();
    assert!(matches!(error, StartError::Store(StoreError::ReadOnly { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("read-only") && text.contains("make it writable"), "{text}");
    proved();
}

/// The rest of the program, or the disk, keeps the raft thread for a while.
struct Slow;

impl Applied for Slow {
    fn config(&mut self, _state: &State) {
        std::thread::sleep(SLOW_TURN);
    }
    fn servers(&mut self, _state: &State) {}
    fn clients(&mut self, _facts: &[ClientFact]) {}
    fn restored(&mut self, _state: &State) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_takes_long_is_told_with_what_to_look_at_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings("demo", 1, &members(1), dir.path());
    let handle = start(settings.clone(), Slow);
    wait("a leader", || handle.status().quorum).await;
    handle.put_config(config("one")).await.unwrap();
    handle.put_config(config("two")).await.unwrap();
    handle.stop().await;
    let events = settings.events.after(0);
    let told: Vec<_> = events.iter().filter(|event| event.why.contains("look at the disk under")).collect();
    assert_eq!(told.len(), 1, "{events:?}");
    assert!(told[0].what.contains("busy for") && told[0].severity == Severity::Warning);
}
