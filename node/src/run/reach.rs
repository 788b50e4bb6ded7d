//! Which servers can be reached from here, so that the nodes can compare: a service that lost its servers on this node alone is
//! a reason to yield, one that lost them everywhere is none.
//!
//! Where a service has health checks, these say it. Otherwise each server of a TCP service is connected to every few
//! seconds and let go at once, from the same source as its connections. Datagrams have no such test, and Unix sockets are
//! this machine's own: both count as reachable.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::vip::fitness::{Fitness, LOST_MAX};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::node::Node;
use super::running::Running;
use crate::config::model::{Endpoint, Server, Service, Transport};
use crate::plan::Start;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(2);
/// A server that does not accept within this time cannot be reached; longer than a lost SYN is away (1 s) it need not be.
const PATIENCE: Duration = Duration::from_millis(900);
/// So many failures in a row, and a server counts as out of reach.
const FAILURES: u32 = 2;
/// Connections at a time.
const AT_ONCE: usize = 64;

/// Servers that go down together are looked at together.
const GATHER: Duration = Duration::from_millis(50);

/// A server within its service.
type Key = (String, String);

/// Failures in a row, of each server that was asked.
#[derive(Debug, Default)]
struct Reach {
    failures: BTreeMap<Key, u32>,
}

impl Reach {
    /// Takes in a round. Servers that are configured no more are forgotten.
    fn take(&mut self, round: BTreeMap<Key, bool>) {
        let before = std::mem::take(&mut self.failures);
        let count = |(key, reached): (Key, bool)| {
            let failed = before.get(&key).copied().unwrap_or_default();
            (key, if reached { 0 } else { failed.saturating_add(1) })
        };
        self.failures = round.into_iter().map(count).collect();
    }

    fn is_out_of_reach(&self, service: &str, server: &str) -> bool {
        let key = (service.to_owned(), server.to_owned());
        self.failures.get(&key).is_some_and(|failed| *failed >= FAILURES)
    }

    /// The services that no client gets through this node. `is_down`: what the health checks say of a server.
    fn fitness(&self, running: &Running, is_down: impl Fn(&str, &str) -> bool) -> Fitness {
        let services = &running.cluster.services;
        let lost = services.iter().filter(|service| {
            let deaf = !service.listen.is_empty()
                && running.listen_problems_of(&service.name).len() >= service.listen.len();
            let servers = &service.servers;
            let out = servers.iter().all(|server| match service.check {
                Some(_) => is_down(&service.name, &server.name),
                None => self.is_out_of_reach(&service.name, &server.name),
            });
            deaf || (!servers.is_empty() && out)
        });
        Fitness { lost: lost.map(|service| service.name.clone()).take(LOST_MAX).collect() }
    }
}

/// Whom to ask, and from where; `None`: there is no way there.
fn targets(running: &Running) -> Vec<(Key, Option<(SocketAddr, IpAddr)>)> {
    let unchecked = |service: &&Service| {
        service.transport == Transport::Tcp && service.check.is_none() && service.dsr.is_none()
    };
    let services = running.cluster.services.iter().filter(unchecked);
    let servers = services.flat_map(|service| service.servers.iter().map(move |server| (service, server)));
    let target = |(service, server): (&Service, &Server)| {
        let key = (service.name.clone(), server.name.clone());
        match (&server.address, running.sources.get(&key)?) {
            (Endpoint::Inet(address), Ok(Start::At(source))) => Some((key, Some((*address, *source)))),
            (Endpoint::Inet(_), Err(_)) => Some((key, None)),
            (Endpoint::Inet(_), Ok(Start::Kernel)) | (Endpoint::Unix(_), _) => None,
        }
    };
    servers.filter_map(target).collect()
}

async fn can_connect(target: SocketAddr, source: IpAddr) -> bool {
    let connect = async {
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(target).await
    };
    timeout(PATIENCE, connect).await.is_ok_and(|connected| connected.is_ok())
}

async fn ask(targets: Vec<(Key, Option<(SocketAddr, IpAddr)>)>) -> BTreeMap<Key, bool> {
    let (mut tasks, mut round) = (JoinSet::new(), BTreeMap::new());
    for (key, way) in targets {
        let Some((target, source)) = way else {
            round.insert(key, false);
            continue;
        };
        if tasks.len() >= AT_ONCE
            && let Some(Ok((key, reached))) = tasks.join_next().await
        {
            round.insert(key, reached);
        }
        tasks.spawn(async move { (key, can_connect(target, source).await) });
    }
    while let Some(asked) = tasks.join_next().await {
        if let Ok((key, reached)) = asked {
            round.insert(key, reached);
        }
    }
    round
}

/// Looks for ever. A node without others has nobody to be compared with, and asks nobody.
pub(super) async fn watch(node: Arc<Node>) {
    let Some(vips) = node.vips.clone() else { return std::future::pending().await };
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reach = Reach::default();
    let mut health = node.health.changes();
    loop {
        let asks = tokio::select! {
            _ = tick.tick() => true,
            // The sender lives in the node.
            _ = health.changed() => {
                sleep(GATHER).await;
                false
            }
        };
        if node.log.status().members.iter().filter(|member| !member.witness).count() < 2 {
            continue;
        }
        let running = Arc::clone(&node.running.borrow());
        if asks {
            reach.take(ask(targets(&running)).await);
        }
        let fitness = reach.fitness(&running, |service, server| node.health.is_down(service, server));
        tracing::trace!(lost = ?fitness.lost, "servers were asked");
        vips.set_fitness(fitness);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Check, CheckKind, ClusterConfig, Talk};

    fn key(server: &str) -> Key {
        ("web".to_owned(), server.to_owned())
    }

    #[test]
    fn a_server_is_out_of_reach_after_two_failures_in_a_row_and_back_after_one_success() {
        let mut reach = Reach::default();
        let round = |reached| BTreeMap::from([(key("one"), reached)]);
        reach.take(round(false));
        assert!(!reach.is_out_of_reach("web", "one"));
        reach.take(round(false));
        assert!(reach.is_out_of_reach("web", "one"));
        reach.take(round(true));
        assert!(!reach.is_out_of_reach("web", "one"));
        reach.take(BTreeMap::new());
        assert_eq!(reach.failures, BTreeMap::new(), "not configured any more");
    }

    #[test]
    fn a_service_with_health_checks_is_lost_when_they_say_so_of_all_its_servers() {
        let server = |name| Server::new(name, SocketAddr::from(([10, 0, 0, 1], 80)));
        let mut service = Service { servers: vec![server("one"), server("two")], ..Service::new("web") };
        let mut reach = Reach::default();
        for _ in 0..FAILURES {
            reach.take(BTreeMap::from([(key("one"), false), (key("two"), false)]));
        }
        let lost = |service: &Service, down: &[&str]| {
            let cluster = ClusterConfig { services: vec![service.clone()], ..ClusterConfig::default() };
            let running = Running { cluster: Arc::new(cluster), ..Running::default() };
            reach.fitness(&running, |_, server| down.contains(&server)).lost.len()
        };
        assert_eq!(lost(&service, &[]), 1, "without checks it counts who accepts a connection");
        service.check = Some(Check::new(CheckKind::Tcp(Talk::default())));
        assert_eq!(lost(&service, &["one"]), 0);
        assert_eq!(lost(&service, &["one", "two"]), 1);
    }

    #[tokio::test]
    async fn who_listens_is_reached_and_who_does_not_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (there, source) = (listener.local_addr().unwrap(), IpAddr::from([127, 0, 0, 1]));
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = closed.local_addr().unwrap();
        drop(closed);
        let round = ask(vec![
            (key("one"), Some((there, source))),
            (key("two"), Some((gone, source))),
            (key("three"), None),
        ]);
        let wanted = [(key("one"), true), (key("two"), false), (key("three"), false)];
        assert_eq!(round.await, BTreeMap::from(wanted));
    }
}
