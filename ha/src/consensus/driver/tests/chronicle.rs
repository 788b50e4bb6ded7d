//! What happened on one node, as the others remember it.

use std::sync::Arc;

use super::{Cluster, Handle, Member, Seen, Settings, settings, wait};
use crate::consensus::limits::EVENTS_AT_ONCE;
use crate::events::{EventLog, Severity};
use crate::state::chronicle::BATCH_EVENTS_MAX;

const SUBJECT: &str = "test";

/// What a node remembers of these tests: by whom, and what.
fn remembered(handle: &Handle) -> Vec<(u64, String)> {
    let chronicle = handle.chronicle();
    let ours = chronicle.after(0).filter(|remembered| remembered.event.subject == SUBJECT);
    ours.map(|remembered| (remembered.node, remembered.event.what.clone())).collect()
}

fn record(cluster: &Cluster, id: u64, what: &str) {
    cluster.handle(id).events().record(Severity::Info, SUBJECT, what, "because");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_on_one_node_is_known_to_both_once_across_a_restart_and_a_time_without_a_quorum() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    record(&cluster, 1, "one");
    wait("the first event", || remembered(cluster.handle(2)).len() == 1).await;
    record(&cluster, 2, "two");
    let both = vec![(1, "one".to_owned()), (2, "two".to_owned())];
    wait("the second event", || [1, 2].iter().all(|id| remembered(cluster.handle(*id)) == both)).await;
    cluster.stop(2).await;
    wait("no quorum", || !cluster.handle(1).status().quorum).await;
    record(&cluster, 1, "alone");
    cluster.start(2);
    let all = [both, vec![(1, "alone".to_owned())]].concat();
    wait("what happened meanwhile", || [1, 2].iter().all(|id| remembered(cluster.handle(*id)) == all)).await;
    // Both forget their own rings; what they told each other is on their disks.
    cluster.stop_all().await;
    cluster.start(1);
    cluster.start(2);
    cluster.settled().await;
    wait("what was known before", || [1, 2].iter().all(|id| remembered(cluster.handle(*id)) == all)).await;
    record(&cluster, 1, "anew");
    wait("an event of the new life", || remembered(cluster.handle(2)).last().unwrap().1 == "anew").await;
    assert_eq!(remembered(cluster.handle(2)).len(), all.len() + 1, "nothing came twice");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_just_before_a_stop_is_known_to_the_others() {
    let mut cluster = Cluster::new(2, None);
    let leader = cluster.settled().await;
    for id in [3 - leader, leader] {
        record(&cluster, id, "the last word");
        cluster.stop(id).await;
        wait("it on the other node", || {
            let left = cluster.handle(3 - id);
            remembered(left).last().is_some_and(|(node, _)| *node == id)
        })
        .await;
        cluster.start(id);
        cluster.settled().await;
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_events_reaches_the_others_slowly_and_in_its_order() {
    let mut cluster = Cluster::new(2, None);
    let leader = cluster.settled().await;
    let begin = std::time::Instant::now();
    // One batch more than may come at once is not paid for when the rest is due.
    let count = EVENTS_AT_ONCE as usize + BATCH_EVENTS_MAX + 10;
    for number in 0..count {
        record(&cluster, 3 - leader, &format!("{number:03}"));
    }
    wait("all of them", || remembered(cluster.handle(leader)).len() == count).await;
    assert!(begin.elapsed() >= std::time::Duration::from_secs(2), "64 times 50 ms: {:?}", begin.elapsed());
    assert!(remembered(cluster.handle(leader)).is_sorted());
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_node_that_does_not_know_events_in_the_log_none_comes_there_until_it_is_updated() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let free = || std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let held = [free(), free()];
    let member = |id: usize| Member {
        id: id as u64 + 1,
        name: format!("lb{}", id + 1),
        address: held[id].local_addr().unwrap(),
        witness: false,
    };
    let members = [member(0), member(1)];
    drop(held);
    let start = |id: usize, level: u32| {
        let events = EventLog::default();
        events.record(Severity::Info, SUBJECT, format!("lb{id} starts"), "");
        let settings =
            Settings { level, events, ..settings("demo", id as u64, &members, dirs[id - 1].path()) };
        Handle::start(settings, Box::new(Seen::default()), Arc::new(|_: &str| Ok(()))).ok().unwrap()
    };
    let (new, old) = (start(1, 5), start(2, 4));
    wait("a pair", || [&new, &old].iter().all(|node| node.status().quorum && node.status().reachable == 2))
        .await;
    tokio::time::sleep(5 * crate::consensus::limits::EVENTS_EVERY).await;
    assert!(new.chronicle().is_empty() && old.chronicle().is_empty());
    old.stop().await;
    let updated = start(2, 5);
    wait("the events of both", || remembered(&updated).len() >= 2 && remembered(&new).len() >= 2).await;
    new.stop().await;
    updated.stop().await;
}
