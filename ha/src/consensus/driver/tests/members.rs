//! Nodes that begin a cluster and join it by a token, over TLS on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openssl::pkey::PKey;
use tempfile::TempDir;

use super::{Seen, config, settings, wait};
use crate::consensus::authority::{Authority, Who};
use crate::consensus::credentials::{Credentials, IdentityFile};
use crate::consensus::join::{Newcomer, init, join};
use crate::consensus::store::redb::FILE_NAME;
use crate::consensus::token::JoinToken;
use crate::consensus::{Begin, Handle, Member, ProposeError, Security, Settings};
use crate::events::EventLog;
use crate::state::FEATURE_LEVEL;

const HOUR: Duration = Duration::from_secs(3600);

fn free() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

pub(super) struct Node {
    pub(super) dir: TempDir,
    new: Newcomer,
    events: EventLog,
    handle: Option<Handle>,
    pub(super) seen: Seen,
    /// The newest kind of command that it knows.
    pub(super) level: u32,
}

/// What a node would do at its start with the files that `init` or `join` have left.
fn settings_of(dir: &Path, events: &EventLog) -> Settings {
    let identity = IdentityFile::load(dir).unwrap().expect("a member");
    let members: Vec<Member> = identity.members.iter().map(Member::from).collect();
    let security = Security::new(Credentials::load(dir).unwrap()).unwrap();
    let lost = !dir.join(FILE_NAME).exists();
    Settings {
        begin: Begin::Fetch { lost },
        security: Some(Arc::new(security)),
        events: events.clone(),
        ..settings("demo", identity.id, &members, dir)
    }
}

impl Node {
    fn new(name: &str) -> Self {
        let new = Newcomer { cluster: "demo".into(), name: name.into(), address: free(), witness: false };
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            new,
            events: EventLog::default(),
            handle: None,
            seen: Seen::default(),
            level: FEATURE_LEVEL,
        }
    }

    pub(super) fn start(&mut self) {
        let settings = Settings { level: self.level, ..settings_of(self.dir.path(), &self.events) };
        let handle = Handle::start(settings, Box::new(self.seen.clone()), Arc::new(|_: &str| Ok(())));
        self.handle = Some(handle.unwrap_or_else(|error| panic!("{error}")));
    }

    pub(super) fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    pub(super) async fn stop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.stop().await;
        }
    }

    async fn join(&self, to: &Self, token: &str) -> Result<(), String> {
        let token = JoinToken::parse(token).unwrap();
        let joined = join(self.dir.path(), &self.new, to.new.address, &token).await;
        joined.map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn said(&self, what: &str) -> bool {
        self.events.after(0).iter().any(|event| event.what.contains(what) || event.why.contains(what))
    }

    fn voters(&self) -> usize {
        self.handle().status().members.iter().filter(|member| member.voter).count()
    }
}

/// A cluster of one that leads, and the token for the second.
async fn first() -> (Node, String) {
    let mut one = Node::new("lb1");
    let token = init(one.dir.path(), &one.new, HOUR, "anna").unwrap().to_string();
    one.start();
    wait("a leader", || one.handle().status().quorum).await;
    (one, token)
}

pub(super) async fn pair() -> (Node, Node) {
    let (one, token) = first().await;
    let mut two = Node::new("lb2");
    two.join(&one, &token).await.unwrap();
    two.start();
    wait("two voters", || one.voters() == 2 && two.voters() == 2).await;
    (one, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_by_a_token_as_a_learner_and_becomes_a_voter() {
    let (mut one, token) = first().await;
    one.handle().put_config(config("before")).await.unwrap();
    let mut two = Node::new("lb2");
    two.join(&one, &token).await.unwrap();
    assert!(one.said("let lb2 in as node 2"));
    two.start();
    wait("the configuration on the new node", || two.seen.config() == "before").await;
    wait("two voters", || one.voters() == 2 && two.voters() == 2).await;
    two.handle().put_config(config("after")).await.unwrap();
    wait("the same on the first", || one.seen.config() == "after").await;
    assert!(one.handle().status().secure);
    // Both come back from their disks.
    one.stop().await;
    two.stop().await;
    one.start();
    two.start();
    wait("a quorum again", || one.handle().status().quorum && two.handle().status().quorum).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_used_has_ended_or_is_from_elsewhere_lets_nobody_in() {
    let (mut one, mut two) = pair().await;
    let used = one.handle().tokens()[0].clone();
    assert_eq!(used.used_by, 2);
    let three = Node::new("lb3");
    let ended = one.handle().create_token(false, false, Duration::ZERO, "anna").await.unwrap();
    let reason = three.join(&one, &ended).await.unwrap_err();
    assert!(reason.contains("the token has ended"), "{reason}");
    assert!(one.said("the token has ended"), "both sides say why");
    let fresh = one.handle().create_token(false, false, HOUR, "anna").await.unwrap();
    let witness = one.handle().create_token(true, false, HOUR, "anna").await.unwrap();
    let reason = three.join(&one, &witness).await.unwrap_err();
    assert!(reason.contains("the token is for a witness"), "{reason}");
    let mut taken = Node::new("lb2");
    let reason = taken.join(&one, &fresh).await.unwrap_err();
    assert!(reason.contains("lb2 is a member already"), "{reason}");
    taken.new.name = "lb3".into();
    taken.new.cluster = "other".into();
    let reason = taken.join(&one, &fresh).await.unwrap_err();
    assert!(reason.contains("this is the cluster \"demo\", not \"other\""), "{reason}");
    three.join(&one, &fresh).await.unwrap();
    let four = Node::new("lb4");
    let reason = four.join(&one, &fresh).await.unwrap_err();
    assert!(reason.contains("the token was used already, by lb3"), "{reason}");
    // Another cluster's token names another authority.
    let (mut other, token) = first().await;
    let reason = four.join(&one, &token).await.unwrap_err();
    assert!(reason.contains("does not belong to the cluster that made this token"), "{reason}");
    for node in [&mut one, &mut two, &mut other] {
        node.stop().await;
    }
}

/// Replaces a node's certificate by one that is signed so.
fn resign(node: &Node, authority: &Authority, id: u64, days: i64) {
    let old = Credentials::load(node.dir.path()).unwrap();
    let public = PKey::public_key_from_der(&old.key.public_key_to_der().unwrap()).unwrap();
    let who = Who { cluster: "demo".into(), id, name: node.new.name.clone() };
    let certificate = authority.sign(&public, &who, days).unwrap();
    Credentials { certificate, signer: None, ..old }.save(node.dir.path()).unwrap();
    let _ = std::fs::remove_file(node.dir.path().join("authority.key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_ended_or_is_anothers_is_refused_with_the_reason_on_both_sides() {
    let (mut one, mut two) = pair().await;
    two.stop().await;
    let authority = Credentials::load(one.dir.path()).unwrap().signer.unwrap();
    resign(&two, &authority, 2, -1);
    two.start();
    wait("the refusal on both sides", || {
        one.said("certificate has ended") && two.said("certificate has ended")
    })
    .await;
    two.stop().await;
    let stranger = Authority::create("demo").unwrap();
    resign(&two, &stranger, 2, 100);
    two.start();
    wait("the refusal", || one.said("not from this cluster's authority") && two.said("refuses this node"))
        .await;
    two.stop().await;
    resign(&two, &authority, 3, 100);
    two.start();
    wait("the refusal", || one.said("its certificate is that of node 3")).await;
    two.stop().await;
    // One that ends soon still counts, and is renewed by the other, for this node has no key to sign with.
    resign(&two, &authority, 2, 100);
    two.start();
    wait("a quorum", || one.handle().status().quorum && two.handle().status().quorum).await;
    wait("the renewal", || two.said("renewed the certificate")).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_due_is_renewed_at_the_start() {
    let (mut one, mut two) = pair().await;
    one.stop().await;
    let old = Credentials::load(one.dir.path()).unwrap();
    let authority = old.signer.clone().unwrap();
    let public = PKey::public_key_from_der(&old.key.public_key_to_der().unwrap()).unwrap();
    let who = Who { cluster: "demo".into(), id: 1, name: "lb1".into() };
    let certificate = authority.sign(&public, &who, 20).unwrap();
    Credentials { certificate, ..old }.save(one.dir.path()).unwrap();
    one.start();
    wait("the renewal", || one.said("renewed the certificate")).await;
    let renewed = Credentials::load(one.dir.path()).unwrap();
    assert!(!crate::consensus::authority::is_due(&renewed.certificate));
    wait("a quorum", || one.handle().status().quorum && two.handle().status().quorum).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_removed_is_told_so_and_the_rest_goes_on() {
    let (mut one, mut two) = pair().await;
    one.handle().remove_member(2, false).await.unwrap();
    wait("one voter", || one.voters() == 1).await;
    one.handle().put_config(config("alone")).await.unwrap();
    wait("the removed node to know", || two.handle().status().removed).await;
    let stopped = two.handle().status().stopped.unwrap();
    assert!(stopped.contains("removed from the cluster") && stopped.contains("join it again"), "{stopped}");
    two.stop().await;
    two.start();
    wait("it is told again", || two.handle().status().removed).await;
    let last = one.handle().remove_member(1, false).await.unwrap_err();
    assert!(last.to_string().contains("the only voter"), "{last}");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_survivor_is_recovered_and_the_other_follows_and_votes_again() {
    let (mut one, mut two) = pair().await;
    one.handle().put_config(config("both")).await.unwrap();
    wait("both have it", || two.seen.config() == "both").await;
    assert_eq!(one.handle().recover().await, Err(ProposeError::NothingToRecover));
    one.stop().await;
    wait("no quorum", || !two.handle().status().quorum).await;
    assert!(matches!(two.handle().put_config(config("no")).await, Err(ProposeError::NoQuorum { .. })));
    let outlook = two.handle().recovery_outlook();
    assert_eq!((outlook.voters, outlook.missing, outlook.known_lost), (2, vec!["lb1".to_owned()], 0));
    assert_eq!(two.handle().recover().await, Ok(1));
    two.handle().put_config(config("alone")).await.unwrap();
    one.start();
    wait("the other follows", || one.seen.config() == "alone").await;
    assert!(one.said("the cluster was recovered without this node"));
    wait("two voters again", || one.voters() == 2 && two.voters() == 2).await;
    assert_eq!((one.handle().status().epoch, two.handle().status().epoch), (1, 1));
    one.handle().put_config(config("together")).await.unwrap();
    wait("both have it", || two.seen.config() == "together").await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_to_the_node_that_holds_the_address() {
    let (mut one, mut two) = pair().await;
    for _ in 0..2 {
        for (active, idle, id) in [(&two, &one, 2), (&one, &two, 1)] {
            idle.handle().set_active(false);
            active.handle().set_active(true);
            wait("the active node leads", || active.handle().status().leader == Some(id)).await;
            wait("the other follows it", || idle.handle().status().leader == Some(id)).await;
        }
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_pair_of_two_levels_works_together_and_takes_no_command_that_one_does_not_know() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let member = |id: u64| Member { id, name: format!("lb{id}"), address: free(), witness: false };
    let members = [member(1), member(2)];
    let start = |id: usize, level: u32| {
        let settings = Settings { level, ..settings("demo", id as u64, &members, dirs[id - 1].path()) };
        Handle::start(settings, Box::new(Seen::default()), Arc::new(|_: &str| Ok(()))).ok().unwrap()
    };
    let (new, old) = (start(1, 2), start(2, 1));
    wait("a pair", || new.status().reachable == 2 && old.status().reachable == 2).await;
    old.put_config(config("by the old one")).await.unwrap();
    new.put_config(config("by the new one")).await.unwrap();
    let refused = new.remove_member(2, true).await.unwrap_err();
    assert_eq!(refused, ProposeError::TooOld { common: 1, needed: 2 });
    tokio::time::sleep(3 * crate::consensus::limits::TEND_EVERY).await;
    assert!(new.status().members.iter().all(|member| member.standing.is_none()), "nothing was adopted");
    // The old one is updated: what was listed in the files moves into the log.
    old.stop().await;
    let updated = start(2, 2);
    wait("the members in the log", || {
        [&new, &updated]
            .iter()
            .all(|node| node.status().members.iter().all(|member| member.standing.is_some()))
    })
    .await;
    new.stop().await;
    updated.stop().await;
}
