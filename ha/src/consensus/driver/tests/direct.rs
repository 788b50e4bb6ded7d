//! The driver by hand: no thread, no connections, only its disk is real.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use raft::eraftpb::{ConfState, Message, MessageType, Snapshot};
use tokio::sync::mpsc;

use super::{Seen, settings};
use crate::consensus::core::{Core, CoreSettings};
use crate::consensus::driver::Driver;
use crate::consensus::limits::TICK;
use crate::consensus::shared::{Input, Member, Shared};
use crate::consensus::store::Identity;
use crate::consensus::store::redb::RedbStore;
use crate::state::{Admin, Command, Kind, SetServer, State};

/// Node 1 of two, which has not heard of the other.
fn driver(dir: &Path) -> (Driver, Seen, Receiver<Input>) {
    let member =
        |id: u64| Member { id, name: format!("lb{id}"), address: ([127, 0, 0, 1], 1).into(), witness: false };
    let settings = settings("demo", 1, &[member(1), member(2)], dir);
    let store = RedbStore::open(dir, &Identity { cluster: "demo".into(), node: 1 }).unwrap();
    let core = Core::open(CoreSettings::new(1, vec![1, 2], Vec::new()), store).unwrap();
    let (inbox, inputs) = sync_channel(8);
    let shared = Arc::new(Shared::new(settings, Arc::new(|_: &str| Ok(())), inbox, mpsc::channel(1).0));
    let seen = Seen::default();
    (Driver::new(shared, core, Box::new(seen.clone())), seen, inputs)
}

fn drain(service: &str, server: &str) -> Command {
    let set =
        SetServer { service: service.to_owned(), server: server.to_owned(), state: Admin::Drain as i32 };
    Command::new(Kind::SetServer(set))
}

/// The leader's snapshot at `index`.
fn snapshot_of(state: &State) -> Message {
    let mut snapshot = Snapshot { data: state.snapshot(), ..Snapshot::default() };
    snapshot.mut_metadata().index = state.index();
    snapshot.mut_metadata().term = 2;
    snapshot.mut_metadata().set_conf_state(ConfState::from((vec![1, 2], Vec::new())));
    let msg_type = MessageType::MsgSnapshot as i32;
    Message { msg_type, from: 2, to: 1, term: 2, snapshot: Some(snapshot), ..Message::default() }
}

#[test]
fn a_snapshot_that_only_drains_a_server_is_shown_although_the_version_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut driver, seen, _inputs) = driver(dir.path());
    driver.begin().unwrap();
    let mut state = State::default();
    state.apply(9, &drain("web", "s1")).unwrap();
    let message = Box::new(snapshot_of(&state));
    driver.take(Input::Raft { from: 2, message, size: 1, epoch: 0 }, Instant::now()).unwrap();
    driver.turn(Instant::now()).unwrap();
    assert_eq!(seen.0.lock().unwrap().drained, 1);
    assert_eq!(driver.shared.published.load().servers.get("web", "s1"), Admin::Drain);
}

#[test]
fn a_new_life_gives_other_numbers_to_its_changes_even_in_the_same_moment() {
    let dir = tempfile::tempdir().unwrap();
    let first = || driver(dir.path()).0.sequence();
    // No clock and no log in between: only chance keeps a hundred lives apart.
    let numbers: std::collections::BTreeSet<u64> = (0..100).map(|_| first()).collect();
    let nearest = numbers.iter().zip(numbers.iter().skip(1)).map(|(one, next)| next - one).min().unwrap();
    assert!(nearest > 1 << 32, "two lives are only {nearest} changes apart");
}

#[tokio::test]
async fn the_fate_of_a_snapshot_reaches_raft_also_when_the_inbox_is_full_and_nobody_waits_for_a_dead_thread()
{
    let dir = tempfile::tempdir().unwrap();
    let (driver, _, inputs) = driver(dir.path());
    while driver.shared.input(Input::SoftWaiting) {}
    let shared = Arc::clone(&driver.shared);
    let told = tokio::spawn(async move {
        shared.input_surely(|| Input::SnapshotSent { peer: 2, sent: false }).await;
    });
    tokio::time::sleep(TICK).await;
    assert!(!told.is_finished(), "the inbox is full");
    let is_fate = |input: &Input| matches!(input, Input::SnapshotSent { peer: 2, sent: false });
    let told = async move { told.await.unwrap() };
    let ((), found) = tokio::join!(told, async {
        loop {
            match inputs.try_recv() {
                Ok(input) if is_fate(&input) => break true,
                Ok(_) => {}
                Err(_) => tokio::time::sleep(TICK).await,
            }
        }
    });
    assert!(found);
    drop(inputs);
    driver.shared.ended.store(true, Ordering::Relaxed);
    driver.shared.input_surely(|| Input::SnapshotSent { peer: 2, sent: false }).await;
}
