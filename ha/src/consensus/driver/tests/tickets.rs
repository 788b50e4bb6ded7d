//! Keys of session tickets that the nodes of a cluster share.

use super::members::{Node, pair};
use super::silent::{alone, start};
use super::{Seen, wait};
use crate::consensus::ProposeError;
use crate::consensus::store::redb::FILE_NAME;
use crate::consensus::tickets::{OwnKeys, TicketSet};

fn number(node: &Node) -> u64 {
    let status = node.handle().status().tickets;
    status.current.filter(|_| status.own.is_none()).map_or(0, |key| key.number)
}

/// Waits until both nodes seal with this key.
async fn both_use(one: &Node, two: &Node, key: u64) -> TicketSet {
    wait(&format!("key {key}"), || number(one) == key && number(two) == key).await;
    let (ours, theirs) = (one.seen.tickets(), two.seen.tickets());
    assert!(ours.current.is_some() && ours == theirs, "the same on both");
    ours
}

async fn pair_with_tls() -> (Node, Node) {
    let (one, two) = pair().await;
    assert_eq!(one.handle().status().tickets.own, Some(OwnKeys::Unwanted));
    for node in [&one, &two] {
        node.handle().want_tickets(true);
    }
    (one, two)
}

async fn restart(node: &mut Node) {
    node.stop().await;
    node.start();
    node.handle().want_tickets(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_nodes_seal_with_the_same_key_after_a_rotation_a_restart_and_a_recovery() {
    let (mut one, mut two) = pair_with_tls().await;
    let first = both_use(&one, &two, 1).await;
    one.handle().rotate_tickets("anna").await.unwrap();
    let second = both_use(&one, &two, 2).await;
    assert_ne!(first.current, second.current);
    assert!(second.others.contains(first.current.as_ref().unwrap()), "the one before opens");
    assert!(two.said("by anna"), "it is told on every node who wanted it");
    restart(&mut one).await;
    restart(&mut two).await;
    assert_eq!(both_use(&one, &two, 2).await, second, "they come back from the disk");
    two.stop().await;
    wait("no quorum", || !one.handle().status().quorum).await;
    assert_eq!(one.seen.tickets(), second, "it goes on without a quorum");
    one.handle().recover().await.unwrap();
    assert_eq!(one.seen.tickets(), second);
    one.handle().rotate_tickets("anna").await.unwrap();
    wait("key 3", || number(&one) == 3).await;
    two.start();
    both_use(&one, &two, 3).await;
    for node in [&mut one, &mut two] {
        node.stop().await;
        let file = std::fs::read(node.dir.path().join(FILE_NAME)).unwrap();
        for key in [&first, &second].map(|set| set.current.clone().unwrap()) {
            let secret = &key.as_bytes()[16..48];
            assert!(!file.windows(secret.len()).any(|part| part == secret), "no key lies open on the disk");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_older_node_each_seals_with_its_own_until_that_one_is_updated() {
    let (mut one, mut two) = pair().await;
    two.level = 3;
    restart(&mut two).await;
    restart(&mut one).await;
    wait("the level", || one.handle().status().tickets.own == Some(OwnKeys::OlderMember)).await;
    let error = one.handle().rotate_tickets("anna").await.unwrap_err();
    assert!(matches!(error, ProposeError::OwnTicketKeys(OwnKeys::OlderMember)), "{error}");
    assert_eq!(one.seen.tickets(), TicketSet::default());
    two.level = 4;
    restart(&mut two).await;
    both_use(&one, &two, 1).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_the_key_of_the_authority_says_so_and_seals_with_its_own() {
    let (mut one, mut two) = pair_with_tls().await;
    both_use(&one, &two, 1).await;
    two.stop().await;
    std::fs::remove_file(two.dir.path().join("authority.key")).unwrap();
    two.start();
    wait("it to notice", || two.handle().status().tickets.own == Some(OwnKeys::Locked)).await;
    wait("the alert", || two.said("cannot be opened here")).await;
    assert_eq!(two.seen.tickets(), TicketSet::default());
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_plain_links_nothing_is_shared() {
    let dir = tempfile::tempdir().unwrap();
    let seen = Seen::default();
    let handle = start(alone(dir.path()), seen.clone());
    handle.want_tickets(true);
    wait("a leader", || handle.status().quorum).await;
    assert_eq!(handle.status().tickets.own, Some(OwnKeys::PlainLinks));
    let error = handle.rotate_tickets("anna").await.unwrap_err().to_string();
    assert!(error.contains("the links between the nodes are not encrypted"), "{error}");
    assert_eq!(seen.tickets(), TicketSet::default());
    handle.stop().await;
}
