//! A raft thread that was given up or that hangs: the node and the others know, and nobody waits for ever.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Seen, config, settings, wait};
use crate::consensus::limits::{ANSWER_TIMEOUT, NO_QUORUM_WAIT, STOP_TIMEOUT};
use crate::consensus::{Applied, Handle, Member, ProposeError, Settings};
use crate::state::{ClientFact, State};

pub(super) fn members(count: u64) -> Vec<Member> {
    let held: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let address = |id: u64| -> SocketAddr { held[usize::try_from(id - 1).unwrap()].local_addr().unwrap() };
    (1..=count)
        .map(|id| Member { id, name: format!("lb{id}"), address: address(id), witness: false })
        .collect()
}

pub(super) fn start(settings: Settings, applied: impl Applied + 'static) -> Handle {
    Handle::start(settings, Box::new(applied), Arc::new(|_: &str| Ok(()))).unwrap()
}

pub(super) fn alone(dir: &Path) -> Settings {
    settings("demo", 1, &members(1), dir)
}

/// The rest of the program has a bug.
struct Broken;

impl Applied for Broken {
    fn config(&mut self, _state: &State) {
        panic!("a bug in the plan");
    }
    fn servers(&mut self, _state: &State) {}
    fn clients(&mut self, _facts: &[ClientFact]) {}
    fn restored(&mut self, _state: &State) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_on_the_raft_thread_costs_this_node_its_voice_and_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let settings = alone(dir.path());
    let handle = start(settings.clone(), Broken);
    wait("a leader", || handle.status().quorum).await;
    let error = handle.put_config(config("one")).await.unwrap_err();
    assert!(matches!(&error, ProposeError::Stopped(why) if why.contains("a bug in the plan")), "{error}");
    let error = handle.put_config(config("two")).await.unwrap_err();
    assert!(matches!(error, ProposeError::Stopped(_)), "and it goes on to say so");
    let status = handle.status();
    assert!(status.stopped.is_some() && !status.quorum);
    assert!(settings.events.after(0).iter().any(|event| event.why.contains("a bug in the plan")));
    handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_raft_thread_was_given_up_counts_as_missing_although_it_is_connected() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let members = members(2);
    let broken = start(settings("demo", 1, &members, one.path()), Broken);
    let whole = start(settings("demo", 2, &members, two.path()), Seen::default());
    wait("a leader", || whole.status().quorum).await;
    // Node 1 does not survive it; whether node 2 hears of the commit before is chance.
    let _ = whole.put_config(config("one")).await;
    wait("node 1 to be given up", || broken.status().stopped.is_some()).await;
    wait("node 2 to know", || whole.status().reachable == 1).await;
    assert!(whole.status().members[0].connected, "the connection stands");
    let start = Instant::now();
    let error = whole.put_config(config("two")).await.unwrap_err();
    assert!(matches!(&error, ProposeError::NoQuorum { missing, .. } if missing == &["lb1"]), "{error}");
    assert!(start.elapsed() < NO_QUORUM_WAIT + Duration::from_secs(2), "{:?}", start.elapsed());
    broken.stop().await;
    whole.stop().await;
}

/// Hangs like a write to a dying disk, until the other end of the channel is dropped.
struct Hanging(Mutex<Receiver<()>>);

impl Applied for Hanging {
    fn config(&mut self, _state: &State) {
        let _ = self.0.lock().unwrap().recv();
    }
    fn servers(&mut self, _state: &State) {}
    fn clients(&mut self, _facts: &[ClientFact]) {}
    fn restored(&mut self, _state: &State) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raft_thread_that_hangs_is_shown_and_neither_a_change_nor_the_end_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (release, hold) = sync_channel(0);
    let handle = start(alone(dir.path()), Hanging(Mutex::new(hold)));
    wait("a leader", || handle.status().quorum).await;
    let asked = tokio::time::timeout(2 * ANSWER_TIMEOUT, handle.put_config(config("one"))).await;
    let error = asked.expect("an answer in time").unwrap_err();
    assert!(matches!(error, ProposeError::Timeout { undecided: true, .. }), "{error}");
    let status = handle.status();
    assert!(status.stopped.as_ref().is_some_and(|why| why.contains("stuck")) && !status.quorum, "{status:?}");
    tokio::time::timeout(2 * STOP_TIMEOUT, handle.stop()).await.expect("an end in time");
    drop(release);
}
