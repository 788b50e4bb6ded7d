//! A configuration that returns unless it is confirmed, over leader changes and restarts.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Seen, config, settings, wait};
use crate::consensus::{Confirmation, Handle, Member, ProposeError, Settings};
use crate::events::Severity;
use crate::state::{PutConfig, Refusal, ReturnConfig};

/// Long enough for a node to be stopped meanwhile.
const SHORT: u64 = 3000;

fn trial(text: &str, confirm_within_ms: u64) -> PutConfig {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let unix_ms = u64::try_from(since.as_millis()).unwrap();
    PutConfig { unix_ms, confirm_within_ms: Some(confirm_within_ms), ..config(text) }
}

fn texts(handle: &Handle) -> Vec<String> {
    handle.configuration().history().map(|version| version.text.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_returns_although_the_node_that_began_it_is_gone_and_the_others_tell_it_once() {
    let mut cluster = Cluster::new(3, None);
    let leader = cluster.settled().await;
    cluster.handle(leader).put_config(config("good")).await.unwrap();
    cluster.handle(leader).put_config(trial("bad", SHORT)).await.unwrap();
    let waiting = cluster.handle(leader).status().confirmation.unwrap();
    assert!((waiting.version, waiting.back_to) == (2, 1) && waiting.left_ms <= SHORT, "{waiting:?}");
    cluster.stop(leader).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    wait("the old text everywhere", || others.iter().all(|id| cluster.seen(*id).config() == "good")).await;
    for id in &others {
        let handle = cluster.handle(*id);
        assert_eq!(texts(handle), ["good", "bad", "good"]);
        assert_eq!(handle.status().confirmation, None);
        let events = handle.shared.settings.events.after(0);
        let told: Vec<_> = events.iter().filter(|event| event.what.contains("not confirmed")).collect();
        assert!(told.len() == 1 && told[0].severity == Severity::Warning, "{told:?}");
        assert_eq!(told[0].what, "configuration v2 was not confirmed in time; v1 is back, as v3");
    }
    // The one that was away hears of it like of any change.
    cluster.start(leader);
    wait("the late node has it", || cluster.seen(leader).config() == "good").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_is_over_also_when_both_nodes_were_restarted_and_one_never_came_back() {
    let mut cluster = Cluster::new(3, Some(3));
    cluster.settled().await;
    cluster.handle(1).put_config(config("good")).await.unwrap();
    cluster.handle(1).put_config(trial("bad", 1000)).await.unwrap();
    wait("all have it", || (1..=3).all(|id| cluster.seen(id).config() != "good")).await;
    cluster.stop_all().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Node 1 was never heard by these lives of the others: what it knows cannot be asked.
    cluster.start(2);
    cluster.start(3);
    wait("the old text", || cluster.seen(2).config() == "good").await;
    assert_eq!(texts(cluster.handle(2)), ["good", "bad", "good"]);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_version_stays_and_what_was_taken_back_is_back_at_once() {
    let mut cluster = Cluster::new(2, None);
    let leader = cluster.settled().await;
    let follower = 3 - leader;
    cluster.handle(1).put_config(config("one")).await.unwrap();
    cluster.handle(1).put_config(trial("two", 600_000)).await.unwrap();
    let refused = cluster.handle(2).put_config(config("three")).await.unwrap_err();
    assert_eq!(refused, ProposeError::Refused(Refusal::Unconfirmed { version: 2 }));
    cluster.handle(follower).confirm_config(2, "anna").await.unwrap();
    assert_eq!(cluster.handle(follower).status().confirmation, None);
    let again = cluster.handle(leader).confirm_config(2, "eve").await.unwrap_err();
    assert_eq!(again, ProposeError::Refused(Refusal::NothingToConfirm { current: 2 }));

    cluster.handle(leader).put_config(trial("three", 600_000)).await.unwrap();
    let back = ReturnConfig { version: 3, author: "anna".to_owned(), ..ReturnConfig::default() };
    cluster.handle(follower).return_config(back).await.unwrap();
    assert_eq!(texts(cluster.handle(follower)), ["one", "two", "three", "two"]);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_changes_for_the_same_version_one_is_made() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    cluster.handle(1).put_config(config("one")).await.unwrap();
    for round in 1..=5 {
        let change = |text: &str| PutConfig { if_version: Some(round), ..config(text) };
        let (one, two) = (cluster.handle(1).clone(), cluster.handle(2).clone());
        let (one, two) = tokio::join!(one.put_config(change("by 1")), two.put_config(change("by 2")));
        let mismatch = Refusal::VersionMismatch { expected: round, current: round + 1 };
        let refused = [&one, &two].into_iter().filter_map(|made| made.clone().err()).collect::<Vec<_>>();
        assert_eq!(refused, [ProposeError::Refused(mismatch)], "{one:?} {two:?}");
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_of_two_levels_refuses_a_trial_and_says_why() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let held: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    let member = |(id, listener): (u64, &std::net::TcpListener)| Member {
        id,
        name: format!("lb{id}"),
        address: listener.local_addr().unwrap(),
        witness: false,
    };
    let members: Vec<Member> = (1..).zip(&held).map(member).collect();
    drop(held);
    let start = |id: usize, level: u32| {
        let settings = Settings { level, ..settings("demo", id as u64, &members, dirs[id - 1].path()) };
        Handle::start(settings, Box::new(Seen::default()), Arc::new(|_: &str| Ok(()))).ok().unwrap()
    };
    let (new, old) = (start(1, 3), start(2, 2));
    wait("a pair", || new.status().reachable == 2 && old.status().reachable == 2).await;
    new.put_config(config("plain")).await.unwrap();
    let refused = new.put_config(trial("no", 60_000)).await.unwrap_err();
    assert_eq!(refused, ProposeError::TooOld { common: 2, needed: 3 });
    assert!(refused.to_string().contains("update all nodes first"), "{refused}");
    old.stop().await;
    let updated = start(2, 3);
    wait("a pair again", || new.status().reachable == 2 && updated.status().reachable == 2).await;
    new.put_config(trial("yes", 60_000)).await.unwrap();
    let Some(Confirmation { version: 2, back_to: 1, left_ms }) = on_trial(&updated).await else { panic!() };
    assert!(left_ms <= 60_000);
    new.stop().await;
    updated.stop().await;
}

/// What the other node shows, once it has heard of it.
async fn on_trial(handle: &Handle) -> Option<Confirmation> {
    wait("the trial on the other node", || handle.status().confirmation.is_some()).await;
    handle.status().confirmation
}
