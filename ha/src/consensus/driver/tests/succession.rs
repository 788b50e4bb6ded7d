//! The log goes over to another process of a node.

use super::*;

impl Cluster {
    /// Another process of this node, on the socket of the first.
    fn succeed(&mut self, id: u64) -> (Handle, Seen) {
        let (first, _) = self.nodes[Self::at(id)].take().unwrap();
        let listening = first.listener().unwrap();
        assert!(listening.is_some());
        let seen = Seen::default();
        let check = |_: &str| Ok(());
        let second =
            Handle::start_on(self.settings(id), Box::new(seen.clone()), Arc::new(check), listening).unwrap();
        self.nodes[Self::at(id)] = Some((second, seen.clone()));
        (first, seen)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_of_a_node_takes_the_log_over_as_the_same_member() {
    let mut cluster = Cluster::new(2, None);
    let leader = cluster.settled().await;
    cluster.handle(1).put_config(config("one")).await.unwrap();
    cluster.handle(1).offer_clients((0..100).map(fact).collect());
    wait("the clients everywhere", || cluster.up().all(|(_, seen)| seen.clients() == 100)).await;
    cluster.handle(leader).suspend().await.unwrap();
    let other = 3 - leader;
    assert_eq!(cluster.handle(other).status().leader, Some(other), "leadership is handed over before");
    let (first, seen) = cluster.succeed(leader);
    wait("the state before", || seen.config() == "one" && seen.clients() == 100).await;
    cluster.settled().await;
    let committed = cluster.handle(leader).put_config(config("two")).await.unwrap();
    assert_eq!(committed.version, 2);
    assert_eq!(cluster.handle(leader).status().members.len(), 2);
    first.stop().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_given_away_in_vain_goes_on_where_it_was() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    cluster.handle(1).put_config(config("one")).await.unwrap();
    let handle = cluster.handle(1);
    handle.suspend().await.unwrap();
    let status = handle.status();
    assert!(!status.quorum && status.stopped.is_some_and(|why| why.contains("taking the log over")));
    let refused = handle.put_config(config("two")).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Stopped(_)), "{refused}");
    handle.offer_clients((0..10).map(fact).collect());
    handle.resume().await.unwrap();
    cluster.settled().await;
    let committed = cluster.handle(1).put_config(config("two")).await.unwrap();
    assert_eq!(committed.version, 2);
    wait("what was learnt meanwhile", || cluster.seen(2).clients() == 10).await;
    assert_eq!(cluster.seen(1).0.lock().unwrap().restored, 2);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_somebody_else_still_has_open_is_not_opened_twice() {
    let mut cluster = Cluster::new(1, None);
    cluster.settled().await;
    cluster.handle(1).suspend().await.unwrap();
    let (first, _) = cluster.succeed(1);
    assert!(first.resume().await.is_err());
    cluster.settled().await;
    first.stop().await;
    cluster.stop_all().await;
}
