use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::balance::Permits;
use crate::config::model::{ClusterConfig, PenRules, Server, Service};
use crate::plan::tests::one_service;
use crate::plan::{Registry, Start};

const NOW: Time = Time(1_000_000_000);
const UNIX: u32 = 1_700_000_000;

/// Whoever is not 192.0.2.66.
#[derive(Debug)]
struct NotThatOne;

impl Permits for NotThatOne {
    fn permits(&self, client: IpAddr) -> bool {
        client != IpAddr::from([192, 0, 2, 66])
    }
}

/// A service with its own client table.
struct Bench {
    service: Arc<ServicePlan>,
    clients: ClientTable,
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn bench_of(change: impl FnOnce(&mut Service), permits: impl FnOnce(&mut ServicePlan)) -> Bench {
    let mut config: ClusterConfig = one_service(at(80), &[at(1), at(2), at(3)]);
    change(&mut config.services[0]);
    config.services[0].listen.clear();
    let clients = ClientTable::new(64);
    let admin = |_: &str, name: &str| if name == "drained" { Admin::Drain } else { Admin::Ready };
    let mut plan = Registry::new(1).plan(&config, &clients, &admin, &|_, _| Ok(Start::Kernel));
    let mut service = plan.services.remove(0);
    permits(Arc::get_mut(&mut service).unwrap());
    Bench { service, clients }
}

fn bench(change: impl FnOnce(&mut Service)) -> Bench {
    bench_of(change, |_| {})
}

fn sticky(service: &mut Service) {
    service.sticky = Some(Duration::from_secs(60));
}

fn client(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 50_000))
}

impl Bench {
    fn begin(&self, peer: SocketAddr, unix: u32) -> Choice {
        Choice::begin(&self.service, &self.clients, peer, unix)
    }

    fn next(&self, choice: &mut Choice, unix: u32) -> Result<Pick, NoServer> {
        choice.next(&self.service, &self.clients, NOW, unix)
    }

    /// A connection that is made at once and ends: its server.
    fn connect(&self, peer: SocketAddr, unix: u32) -> usize {
        let mut choice = self.begin(peer, unix);
        let Pick { server, mut lease, .. } = self.next(&mut choice, unix).unwrap();
        choice.connected(&self.service, &self.clients, server, &mut lease, unix);
        server
    }

    /// All servers that a connection is sent to when none takes it, and why it ends.
    fn tries(&self, peer: SocketAddr) -> (Vec<usize>, NoServer) {
        let (mut choice, mut tries) = (self.begin(peer, UNIX), Vec::new());
        loop {
            match self.next(&mut choice, UNIX) {
                Ok(pick) => {
                    tries.push(pick.server);
                    let _ = Choice::failed(&self.service, pick.server, NOW);
                }
                Err(why) => return (tries, why),
            }
        }
    }
}

#[test]
fn a_client_comes_back_to_its_server_until_it_is_forgotten() {
    let bench = bench(sticky);
    let first = bench.connect(client(1), UNIX);
    assert_ne!(bench.connect(client(2), UNIX), first);
    assert_eq!(bench.connect(client(1), UNIX + 60), first);
    assert_eq!(bench.connect(client(1), UNIX + 115), first, "the last connection counts");
    assert_eq!(bench.begin(client(1), UNIX + 500).client.remembered, None);
}

#[test]
fn connections_that_a_client_opens_at_once_go_to_one_server() {
    let bench = bench(sticky);
    let mut choices: Vec<Choice> = (0..4).map(|_| bench.begin(client(1), UNIX)).collect();
    let servers: Vec<usize> =
        choices.iter_mut().map(|choice| bench.next(choice, UNIX).unwrap().server).collect();
    assert!(servers.iter().all(|server| *server == servers[0]), "{servers:?}");
}

#[test]
fn a_server_that_answers_again_is_told_and_a_second_attempt_is_a_failover() {
    let bench = bench(|_| {});
    let mut choice = bench.begin(client(1), UNIX);
    let first = bench.next(&mut choice, UNIX).unwrap();
    assert!(Choice::failed(&bench.service, first.server, NOW));
    assert!(!Choice::failed(&bench.service, first.server, NOW), "that is no news");
    assert!(!Choice::failed(&bench.service, 99, NOW));
    let mut second = bench.next(&mut choice, UNIX).unwrap();
    assert_ne!(second.server, first.server);
    second.lease.server().blacklist(NOW, Duration::from_secs(1));
    let told = choice.connected(&bench.service, &bench.clients, second.server, &mut second.lease, UNIX);
    assert_eq!(told, Connected { returned: true, failed_over: true });
}

fn with_spares(service: &mut Service) {
    service.emergency = Some(Server::new("e", at(8)));
    service.abuse = Some(Server::new("a", at(9)));
}

#[test]
fn the_emergency_server_comes_before_those_that_have_just_failed() {
    let bench = bench(with_spares);
    assert_eq!(bench.tries(client(1)), (vec![0, 1, 2, 3], NoServer { tried: 3, ..NoServer::default() }));
    let (order, _) = bench.tries(client(1));
    assert_eq!(order.len(), 4, "all are blacklisted now, and all are tried again as a last resort");
    assert_eq!(order[3], 3);
    bench.service.servers[3].state.exonerate();
    assert_eq!(bench.tries(client(1)).0[0], 3);
}

#[test]
fn a_client_of_the_emergency_server_keeps_the_server_that_it_had() {
    let bench = bench(|service| {
        sticky(service);
        with_spares(service);
    });
    let home = bench.connect(client(1), UNIX);
    let all = || bench.service.regular().iter();
    assert!(all().all(|server| server.state.blacklist(NOW, Duration::from_secs(30))));
    assert_eq!(bench.connect(client(1), UNIX), 3);
    assert_eq!(bench.connect(client(2), UNIX), 3);
    assert!(all().all(|server| server.state.exonerate()));
    assert_eq!(bench.connect(client(1), UNIX), home);
    assert_ne!(bench.connect(client(2), UNIX), 3, "nobody belongs to it");
}

#[test]
fn whom_the_list_denies_gets_the_abuse_server_or_nothing() {
    let deny = |plan: &mut ServicePlan| plan.clients = Some(Arc::new(NotThatOne));
    let bench = bench_of(with_spares, deny);
    assert!(bench.begin(client(1), UNIX).is_permitted());
    assert!(!bench.begin(client(66), UNIX).is_permitted());
    let (tries, why) = bench.tries(client(66));
    assert_eq!(tries, [4]);
    assert_eq!(why.to_string(), "the access list of the service denies the client");
    assert_eq!(bench_of(|_| {}, deny).tries(client(66)).0, [] as [usize; 0]);
}

#[test]
fn a_server_is_not_for_clients_whom_its_list_denies_not_even_if_they_are_remembered() {
    let bar = |plan: &mut ServicePlan| {
        plan.servers[0].acl = Some(Arc::new(NotThatOne));
        plan.servers[2].acl = Some(Arc::new(NotThatOne));
    };
    let bench = bench_of(sticky, bar);
    assert_eq!(bench.connect(client(66), UNIX), 1);
    bench.clients.remember(bench.service.id, client(66).ip(), bench.service.servers[2].id, UNIX + 1, 1);
    assert_eq!(bench.connect(client(66), UNIX + 1), 1);
    let (tries, why) = bench.tries(client(66));
    assert_eq!(tries, [1]);
    assert_eq!(why.to_string(), "1 failed, 2 not for this client");
    let (tries, _) = bench.tries(SocketAddr::from(([0, 0, 0, 0], 0)));
    assert_eq!(tries.len(), 3, "lists are not for clients of a Unix socket");
}

#[test]
fn a_stubborn_service_tries_one_server_for_a_connection() {
    let bench = bench(|service| {
        sticky(service);
        with_spares(service);
        service.stubborn = true;
    });
    let home = bench.connect(client(1), UNIX);
    let (tries, why) = bench.tries(client(1));
    assert_eq!(tries, [home]);
    assert_eq!(why.to_string(), "1 failed, 2 blacklisted, the service is stubborn");
    assert_eq!(bench.tries(client(1)).0, [] as [usize; 0], "its server is known to be gone");
}

#[test]
fn a_drained_server_keeps_its_clients_but_prolongs_nothing() {
    let bench = bench(|service| {
        sticky(service);
        service.servers[1].name = "drained".into();
    });
    let drained = bench.service.servers[1].id;
    bench.clients.remember(bench.service.id, client(1).ip(), drained, UNIX, 1);
    assert_eq!(bench.connect(client(1), UNIX + 60), 1);
    refresh(&bench.service, &bench.clients, client(1).ip(), 1, UNIX + 60);
    assert_ne!(bench.connect(client(1), UNIX + 61), 1);
}

fn pen(service: &mut Service) {
    service.algorithm = Algorithm::Pen(PenRules::default());
    service.sticky = Some(Duration::MAX);
    with_spares(service);
}

#[test]
fn with_pens_rules_an_attempt_is_a_bond() {
    let bench = bench(pen);
    let mut choice = bench.begin(client(1), UNIX);
    assert_eq!(bench.next(&mut choice, UNIX).unwrap().server, 1);
    assert_eq!(bench.begin(client(1), UNIX).client.remembered, Some(1));
    assert_eq!(bench.next(&mut choice, UNIX).unwrap().server, 2);
    assert_eq!(bench.begin(client(1), UNIX + 1_000_000).client.remembered, Some(2), "for ever");
}

#[test]
fn with_pens_rules_a_client_of_the_emergency_server_is_chosen_for_anew() {
    let bench = bench(pen);
    assert_eq!(bench.connect(client(1), UNIX), 1);
    let (tries, _) = bench.tries(client(1));
    assert_eq!(tries, [1, 2, 0, 3]);
    assert!(bench.service.servers[..4].iter().all(|server| server.state.exonerate()));
    assert_eq!(bench.begin(client(1), UNIX).client.remembered, Some(3));
    assert_eq!(bench.connect(client(1), UNIX), 2, "in turn, after server 1");
}

#[test]
fn with_pens_rules_a_success_does_not_end_a_blacklisting() {
    let bench = bench(pen);
    let mut choice = bench.begin(client(1), UNIX);
    let Pick { server, mut lease, .. } = bench.next(&mut choice, UNIX).unwrap();
    assert_eq!(lease.server().connections(), 0);
    let _ = Choice::failed(&bench.service, server, NOW);
    let told = choice.connected(&bench.service, &bench.clients, server, &mut lease, UNIX);
    assert!(!told.returned);
    assert_eq!(lease.server().connections(), 1);
    assert!(lease.server().blacklisted_at().is_some());
}
