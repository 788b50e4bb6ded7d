//! Whole nodes over loopback, with real disks and real time.

mod chronicle;
mod direct;
mod disk;
mod members;
mod silent;
mod strangers;
mod succession;
mod tickets;
mod trial;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::consensus::store::redb::FILE_NAME;
use crate::consensus::{
    Applied, Begin, Handle, LogLimits, Member, ProposeError, Settings, StartError, Status, TicketSet,
};
use crate::events::EventLog;
use crate::state::command::CONFIG_TEXT_MAX;
use crate::state::{Admin, ClientFact, FEATURE_LEVEL, PutConfig, Refusal, State};

/// Whatever is awaited must come within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a node was told, as the rest of the program would see it.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    config: String,
    drained: usize,
    clients: std::collections::HashMap<IpAddr, ClientFact>,
    restored: usize,
    tickets: TicketSet,
}

impl Seen {
    fn clients(&self) -> usize {
        self.0.lock().unwrap().clients.len()
    }

    fn tickets(&self) -> TicketSet {
        self.0.lock().unwrap().tickets.clone()
    }

    fn config(&self) -> String {
        self.0.lock().unwrap().config.clone()
    }
}

impl Applied for Seen {
    fn config(&mut self, state: &State) {
        let current = state.configuration().current();
        self.0.lock().unwrap().config = current.map(|version| version.text.to_string()).unwrap_or_default();
    }

    fn servers(&mut self, state: &State) {
        self.0.lock().unwrap().drained = state.servers().iter().count();
    }

    fn clients(&mut self, facts: &[ClientFact]) {
        let mut inner = self.0.lock().unwrap();
        for fact in facts {
            inner.clients.insert(fact.client, fact.clone());
        }
    }

    fn tickets(&mut self, keys: &TicketSet) {
        self.0.lock().unwrap().tickets = keys.clone();
    }

    fn restored(&mut self, state: &State) {
        let facts: Vec<ClientFact> = state.clients().iter().collect();
        self.0.lock().unwrap().clients.clear();
        self.clients(&facts);
        self.config(state);
        self.servers(state);
        self.0.lock().unwrap().restored += 1;
    }
}

struct Cluster {
    members: Vec<Member>,
    dirs: Vec<TempDir>,
    nodes: Vec<Option<(Handle, Seen)>>,
}

impl Cluster {
    fn new(nodes: u64, witness: Option<u64>) -> Self {
        let free = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let held: Vec<_> = (0..nodes).map(|_| free()).collect();
        let member = |(id, listener): (u64, &std::net::TcpListener)| Member {
            id,
            name: format!("lb{id}"),
            address: listener.local_addr().unwrap(),
            witness: witness == Some(id),
        };
        let members: Vec<Member> = (1..).zip(&held).map(member).collect();
        let dirs = members.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let mut cluster = Self { nodes: members.iter().map(|_| None).collect(), members, dirs };
        drop(held);
        for id in 1..=nodes {
            cluster.start(id);
        }
        cluster
    }

    fn settings(&self, id: u64) -> Settings {
        settings("demo", id, &self.members, self.dirs[Self::at(id)].path())
    }

    fn at(id: u64) -> usize {
        usize::try_from(id - 1).unwrap()
    }

    fn start(&mut self, id: u64) {
        let seen = Seen::default();
        let check = move |text: &str| {
            if text.contains("bad") { Err(format!("lb{id} has no interface eth9")) } else { Ok(()) }
        };
        let handle = Handle::start(self.settings(id), Box::new(seen.clone()), Arc::new(check)).unwrap();
        self.nodes[Self::at(id)] = Some((handle, seen));
    }

    async fn stop(&mut self, id: u64) {
        let (handle, _) = self.nodes[Self::at(id)].take().unwrap();
        handle.stop().await;
    }

    fn handle(&self, id: u64) -> &Handle {
        &self.nodes[Self::at(id)].as_ref().unwrap().0
    }

    fn seen(&self, id: u64) -> &Seen {
        &self.nodes[Self::at(id)].as_ref().unwrap().1
    }

    fn up(&self) -> impl Iterator<Item = &(Handle, Seen)> {
        self.nodes.iter().flatten()
    }

    /// Waits until all running nodes follow the same leader.
    async fn leader(&self) -> u64 {
        wait("a leader", || {
            let leaders: Vec<_> = self.up().map(|(handle, _)| handle.status().leader).collect();
            leaders[0].is_some() && leaders.iter().all(|leader| *leader == leaders[0])
        })
        .await;
        self.up().next().unwrap().0.status().leader.unwrap()
    }

    async fn settled(&self) -> u64 {
        let leader = self.leader().await;
        wait("all connected", || {
            self.up().all(|(handle, _)| {
                let status = handle.status();
                status.reachable >= self.up().count()
            })
        })
        .await;
        leader
    }

    async fn stop_all(&mut self) {
        for id in 1..=self.members.len() as u64 {
            if self.nodes[Self::at(id)].is_some() {
                self.stop(id).await;
            }
        }
    }
}

fn settings(cluster: &str, id: u64, members: &[Member], state_dir: &Path) -> Settings {
    Settings {
        cluster: cluster.to_owned(),
        id,
        members: members.to_vec(),
        begin: Begin::Voters,
        security: None,
        level: FEATURE_LEVEL,
        state_dir: state_dir.to_owned(),
        limits: LogLimits::default(),
        events: EventLog::default(),
    }
}

async fn wait(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn config(text: &str) -> PutConfig {
    PutConfig { text: text.to_owned(), author: "anna".to_owned(), ..PutConfig::default() }
}

fn fact(number: u32) -> ClientFact {
    let client = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    ClientFact { service: "web".into(), client, server: format!("s{}", number % 8).into(), seen: 1000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_changes_the_configuration_and_all_have_it_one_may_die() {
    let mut cluster = Cluster::new(3, None);
    let leader = cluster.settled().await;
    let follower = leader % 3 + 1;
    let committed = cluster.handle(follower).put_config(config("one")).await.unwrap();
    assert_eq!(committed.version, 1);
    assert_eq!(cluster.seen(follower).config(), "one", "the answer comes when it is applied here");
    assert_eq!(&*cluster.handle(follower).configuration().current().unwrap().text, "one");
    wait("the configuration everywhere", || cluster.up().all(|(_, seen)| seen.config() == "one")).await;

    let stale = PutConfig { if_version: Some(0), ..config("two") };
    let refused = cluster.handle(follower).put_config(stale).await.unwrap_err();
    assert_eq!(refused, ProposeError::Refused(Refusal::VersionMismatch { expected: 0, current: 1 }));

    cluster.stop(leader).await;
    let committed = cluster.handle(follower).put_config(config("two")).await.unwrap();
    assert_eq!(committed.version, 2, "two of three are a quorum");
    let drained = cluster.handle(follower).set_server("web", "s1", Admin::Drain).await.unwrap();
    assert!(drained.index > committed.index);
    assert_eq!(cluster.handle(follower).servers().get("web", "s1"), Admin::Drain);

    cluster.start(leader);
    wait("the late node has it", || cluster.seen(leader).config() == "two").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_nodes_restart_and_version_and_clients_are_still_there() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    cluster.handle(1).put_config(config("one")).await.unwrap();
    cluster.handle(2).put_config(config("two")).await.unwrap();
    cluster.handle(1).offer_clients((0..500).map(fact).collect());
    cluster.handle(2).offer_clients((500..1000).map(fact).collect());
    wait("the clients everywhere", || cluster.up().all(|(_, seen)| seen.clients() == 1000)).await;
    cluster.stop_all().await;

    cluster.start(1);
    // Alone and without a quorum it goes on with what it had.
    let seen = cluster.seen(1).clone();
    wait("the state before the restart", || seen.config() == "two" && seen.clients() == 1000).await;
    wait("the status says so", || cluster.handle(1).status().version == 2).await;
    assert!(!cluster.handle(1).status().quorum);
    cluster.start(2);
    cluster.settled().await;
    let committed = cluster.handle(2).put_config(config("three")).await.unwrap();
    assert_eq!(committed.version, 3);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_voters_refuses_changes_in_time_and_names_what_helps() {
    let mut cluster = Cluster::new(2, None);
    let leader = cluster.settled().await;
    for dead in [3 - leader, leader] {
        cluster.settled().await;
        cluster.stop(dead).await;
        let survivor = 3 - dead;
        let before = Instant::now();
        let refused = cluster.handle(survivor).put_config(config("never")).await.unwrap_err();
        assert!(before.elapsed() < Duration::from_secs(6), "{:?}", before.elapsed());
        let text = refused.to_string();
        let ProposeError::NoQuorum { reachable: 1, needed: 2, missing, .. } = refused else {
            panic!("{text}")
        };
        assert_eq!(missing, [format!("lb{dead}")]);
        assert!(text.contains("start the missing node") && text.contains("witness"), "{text}");
        println!("refused after {:?}: {text}", before.elapsed());
        cluster.start(dead);
    }
    cluster.settled().await;
    cluster.handle(1).put_config(config("again")).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_witness_changes_go_on_when_a_data_node_dies() {
    let mut cluster = Cluster::new(3, Some(3));
    let leader = cluster.settled().await;
    assert_ne!(leader, 3, "of equals, the node with traffic leads");
    cluster.stop(leader).await;
    let survivor = 3 - leader;
    let before = Instant::now();
    let committed = cluster.handle(survivor).put_config(config("one")).await.unwrap();
    assert_eq!(committed.version, 1);
    println!("a change {:?} after the leader has stopped", before.elapsed());
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_clients_reach_the_other_node_within_five_seconds() {
    let mut cluster = Cluster::new(2, None);
    let leader = cluster.settled().await;
    let count = 100_000u32;
    for (offset, from) in [(0, leader), (count, 3 - leader)] {
        let to = 3 - from;
        let known = cluster.seen(to).clients();
        let begin = Instant::now();
        let mut longest = Duration::ZERO;
        for first in (0..count).step_by(500) {
            let facts = (first..first + 500).map(|number| fact(offset + number)).collect();
            let before = Instant::now();
            cluster.handle(from).offer_clients(facts);
            longest = longest.max(before.elapsed());
        }
        let other = cluster.seen(to).clone();
        wait("the clients on the other node", || other.clients() == known + count as usize).await;
        let took = begin.elapsed();
        let role = if from == leader { "the leader" } else { "a follower" };
        println!(
            "{count} clients from {role} to the other node: {took:?}; longest offer of 500: {longest:?}"
        );
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    let status = || cluster.handle(leader).status();
    wait("the status says so", || status().clients == 2 * count as usize).await;
    assert_eq!(status().soft.dropped, 0);
    wait("nothing is left", || cluster.handle(leader).status().soft.replicated == u64::from(count)).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_that_were_offered_without_a_quorum_arrive_when_it_returns() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    cluster.stop(2).await;
    wait("no quorum", || !cluster.handle(1).status().quorum).await;
    cluster.handle(1).offer_clients((0..5000).map(fact).collect());
    wait("the facts wait", || cluster.handle(1).status().soft.waiting == 5000).await;
    cluster.start(2);
    let other = cluster.seen(2).clone();
    wait("the clients on the other node", || other.clients() == 5000).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_asks_the_other_nodes_and_reports_carry_their_age() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    let answers = cluster.handle(1).preflight("good").await;
    assert_eq!(answers, [("lb2".to_owned(), Ok(()))]);
    let answers = cluster.handle(1).preflight("bad").await;
    assert_eq!(answers, [("lb2".to_owned(), Err("lb2 has no interface eth9".to_owned()))]);

    assert!(!cluster.handle(2).publish_report(vec![0; 20_000]), "too long");
    assert!(cluster.handle(2).publish_report(b"all is well".to_vec()));
    wait("the report", || {
        let reports = cluster.handle(1).reports();
        reports.iter().any(|(id, bytes, age)| *id == 2 && bytes == b"all is well" && *age < 2000)
    })
    .await;
    cluster.stop(2).await;
    wait("the report grows old", || cluster.handle(1).reports()[0].2 > 1500).await;
    assert!(cluster.handle(1).preflight("good").await.is_empty(), "nobody can be reached");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_reaches_the_elections_of_the_other_node_and_one_too_long_or_to_nobody_is_refused() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    let mut heard = cluster.handle(2).words().expect("not taken yet");
    assert!(cluster.handle(2).words().is_none(), "there is one listener");
    assert!(cluster.handle(1).say(Some(2), b"take it"));
    assert_eq!(heard.recv().await, Some((1, b"take it".to_vec())));
    assert!(cluster.handle(1).say(None, b"all of you"));
    assert_eq!(heard.recv().await, Some((1, b"all of you".to_vec())));
    assert!(!cluster.handle(1).say(Some(2), &vec![0; 40_000]), "too long");
    assert!(!cluster.handle(1).say(Some(7), b"who?"), "no such node");
    cluster.stop(2).await;
    wait("the connection's end", || !cluster.handle(1).say(None, b"gone?")).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request_also_when_a_follower_is_asked() {
    let mut cluster = Cluster::new(2, None);
    let leader = cluster.settled().await;
    let other = 3 - leader;
    cluster.handle(other).put_config(config("one")).await.unwrap();
    cluster.handle(other).transfer_leader(other).await;
    wait("the other leads", || cluster.up().all(|(handle, _)| handle.status().leader == Some(other))).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_is_an_error_with_file_and_remedy_and_a_fresh_one_catches_up() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    cluster.handle(1).put_config(config("one")).await.unwrap();
    wait("both have it", || cluster.up().all(|(_, seen)| seen.config() == "one")).await;
    cluster.stop(2).await;
    let file = cluster.dirs[1].path().join(FILE_NAME);
    std::fs::write(&file, vec![0x77; 50_000]).unwrap();
    let started = Handle::start(cluster.settings(2), Box::new(Seen::default()), Arc::new(|_: &str| Ok(())));
    let error = started.err().expect("it must not start");
    assert!(matches!(error, StartError::Damaged(_)));
    let text = error.to_string();
    assert!(text.contains(file.to_str().unwrap()) && text.contains("move the file away"), "{text}");
    std::fs::remove_file(&file).unwrap();
    cluster.start(2);
    wait("it has caught up", || cluster.seen(2).config() == "one").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_gets_the_largest_configurations_in_a_snapshot() {
    let mut cluster = Cluster::new(3, None);
    let leader = cluster.settled().await;
    let away = leader % 3 + 1;
    let follower = away % 3 + 1;
    cluster.stop(away).await;
    // More than SNAPSHOT_BYTES and TAIL_BYTES of log; forwarded, so that every kind of frame carries its most.
    let versions = 14;
    for version in 1..=versions {
        let text = char::from(b'a' + version).to_string().repeat(CONFIG_TEXT_MAX);
        let committed = cluster.handle(follower).put_config(config(&text)).await.unwrap();
        assert_eq!(committed.version, u64::from(version));
    }
    cluster.start(away);
    let last = cluster.seen(follower).config();
    wait("the snapshot", || cluster.seen(away).config() == last).await;
    let restored = cluster.seen(away).0.lock().unwrap().restored;
    assert_eq!(restored, 2, "once at the start, once by the leader's snapshot");
    let history = |id| cluster.handle(id).configuration();
    assert_eq!(history(away), history(leader));
    let too_long =
        cluster.handle(leader).put_config(config(&"x".repeat(CONFIG_TEXT_MAX + 1))).await.unwrap_err();
    assert!(matches!(too_long, ProposeError::Invalid(_)), "{too_long}");
    cluster.stop_all().await;
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused() {
    let member = |id, witness| Member {
        id,
        name: format!("n{id}"),
        address: (Ipv4Addr::LOCALHOST, 1).into(),
        witness,
    };
    let dir = tempfile::tempdir().unwrap();
    for (members, reason) in [
        (vec![member(1, false), member(1, false)], "two members have the id 1"),
        (vec![member(2, false)], "no member's"),
        (vec![member(1, true)], "all members are witnesses"),
        (vec![member(0, false), member(1, false)], "ids count from 1"),
    ] {
        let started = Handle::start(
            settings("demo", 1, &members, dir.path()),
            Box::new(Seen::default()),
            Arc::new(|_: &str| Ok(())),
        );
        let error = started.err().expect("refused").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_status_is_plain_data_for_programs() {
    let json = serde_json::json!({
        "id": 1, "role": "leader", "term": 2, "leader": 1, "commit": 3, "applied": 3, "version": 1, "confirmation": null,
        "quorum": true, "reachable": 1, "needed": 1, "stopped": null, "clients": 0,
        "soft": {"offered": 0, "coalesced": 0, "dropped": 0, "replicated": 0, "waiting": 0},
        "rejected": 0, "epoch": 0, "secure": true, "fetching": false, "removed": false, "members": [],
        "tickets": {"wanted": true, "current": {"number": 2, "age_ms": 5}, "next": null, "previous": 1, "late": false,
                    "own": "plain_links"},
    });
    let status: Status = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(status).unwrap(), json);
}
