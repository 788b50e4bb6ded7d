use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::balance::ClientTable;
use crate::config::model::ClusterConfig;
use crate::plan::Lease;
use crate::plan::tests::one_service;
use crate::plan::{Plan, Registry, Start};

const NOW: Time = Time(1_000_000_000);
const REST: Duration = Duration::from_secs(30);

fn config(servers: usize, algorithm: Algorithm) -> ClusterConfig {
    let at = |port: usize| SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
    let mut config = one_service(at(80), &(1..=servers).map(at).collect::<Vec<_>>());
    config.services[0].algorithm = algorithm;
    config
}

fn plan(config: &ClusterConfig, drained: &[&str]) -> Plan {
    let clients = ClientTable::new(32);
    let admin = |_: &str, server: &str| if drained.contains(&server) { Admin::Drain } else { Admin::Ready };
    Registry::new(1).plan(config, &clients, &admin, &|_, _| Ok(Start::At(IpAddr::from([127, 0, 0, 1]))))
}

/// One attempt of a client that may come; `remembered`: the position of its server.
fn pick(
    service: &ServicePlan,
    remembered: Option<usize>,
    tried: &Tried,
    now: Time,
) -> Result<Pick, NoServer> {
    super::pick(service, &client([192, 0, 2, 7], remembered), tried, now)
}

pub(super) fn client(address: [u8; 4], remembered: Option<usize>) -> Client {
    Client { peer: SocketAddr::from((address, 40_000)), remembered, permitted: true }
}

fn new_client(service: &ServicePlan) -> Result<Pick, NoServer> {
    pick(service, None, &Tried::default(), NOW)
}

/// The servers of that many connections, all of which stay open.
fn picks(service: &ServicePlan, count: usize) -> (Vec<usize>, Vec<Lease>) {
    (0..count).map(|_| new_client(service).unwrap()).map(|pick| (pick.server, pick.lease)).unzip()
}

fn shares(service: &ServicePlan, count: usize) -> Vec<usize> {
    let (servers, _leases) = picks(service, count);
    (0..service.servers.len()).map(|n| servers.iter().filter(|server| **server == n).count()).collect()
}

#[test]
fn round_robin_takes_turns() {
    let plan = plan(&config(3, Algorithm::RoundRobin), &[]);
    assert_eq!(picks(&plan.services[0], 7).0, [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn round_robin_honours_weights() {
    let mut config = config(3, Algorithm::RoundRobin);
    config.services[0].servers[1].weight = 4;
    let plan = plan(&config, &[]);
    assert_eq!(shares(&plan.services[0], 60), [10, 40, 10]);
}

#[test]
fn the_turns_of_a_missing_server_are_shared_by_all_others() {
    let plan = plan(&config(3, Algorithm::RoundRobin), &["s1"]);
    assert_eq!(shares(&plan.services[0], 60), [30, 0, 30]);
}

#[test]
fn least_connections_levels_connections_per_weight() {
    let mut config = config(3, Algorithm::LeastConnections);
    config.services[0].servers[2].weight = 3;
    let plan = plan(&config, &[]);
    let service = &plan.services[0];
    let (_, mut leases) = picks(service, 50);
    let counts = || service.servers.iter().map(|server| server.state.connections()).collect::<Vec<_>>();
    assert_eq!(counts(), [10, 10, 30]);
    leases.retain(|lease| !Arc::ptr_eq(lease.server(), &service.servers[0].state));
    let (next, _more) = picks(service, 9);
    assert!(next.iter().all(|server| *server == 0), "the emptiest is filled first: {next:?}");
}

#[test]
fn least_connections_gives_equals_their_turn() {
    let plan = plan(&config(3, Algorithm::LeastConnections), &[]);
    let servers: Vec<_> = (0..6).map(|_| new_client(&plan.services[0]).unwrap().server).collect();
    assert_eq!(servers, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_remembered_client_goes_to_its_server_even_while_that_is_drained() {
    let plan = plan(&config(3, Algorithm::RoundRobin), &["s2"]);
    let service = &plan.services[0];
    assert_eq!(pick(service, Some(2), &Tried::default(), NOW).unwrap().server, 2);
    service.servers[2].state.blacklist(NOW, REST);
    assert_ne!(
        pick(service, Some(2), &Tried::default(), NOW).unwrap().server,
        2,
        "but not when it has failed"
    );
}

#[test]
fn a_server_is_not_tried_twice_for_one_connection() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
        let plan = plan(&config(100, algorithm), &["s7"]);
        let (service, mut tried) = (&plan.services[0], Tried::default());
        let mut order = Vec::new();
        let why = loop {
            match pick(service, Some(3), &tried, NOW) {
                Ok(pick) => {
                    assert!(!tried.has(pick.server));
                    tried.add(pick.server);
                    order.push(pick.server);
                    service.servers[pick.server].state.blacklist(NOW, REST);
                }
                Err(why) => break why,
            }
        };
        assert_eq!((order.len(), order[0]), (99, 3));
        assert_eq!(why, NoServer { tried: 99, drained: 1, ..NoServer::default() });
        assert_eq!(why.to_string(), "99 failed, 1 drained");
    }
}

#[test]
fn blacklisted_servers_are_used_when_nothing_else_is_left() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
        let plan = plan(&config(3, algorithm), &["s2"]);
        let service = &plan.services[0];
        service.servers[0].state.blacklist(NOW, REST);
        assert!((0..5).all(|_| new_client(service).unwrap().server == 1));
        service.servers[1].state.blacklist(NOW, REST);
        let desperate = new_client(service).unwrap();
        assert!(desperate.last_resort && desperate.server != 2);
    }
}

#[test]
fn a_server_whose_health_checks_fail_gets_nobody_while_another_can_serve() {
    for algorithm in
        [Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::SourceHash { with_port: false }]
    {
        let plan = plan(&config(2, algorithm), &[]);
        let service = &plan.services[0];
        service.servers[0].state.set_down(true);
        assert_eq!(shares(service, 20), [0, 20], "{algorithm:?}");
        let own = pick(service, Some(0), &Tried::default(), NOW).unwrap();
        assert_eq!(own.server, 1, "nor those whom it had");
        service.servers[1].state.set_down(true);
        assert!(new_client(service).unwrap().last_resort, "rather one that may be down than none");
        service.servers[0].state.set_down(false);
        assert_eq!(shares(service, 20), [20, 0]);
    }
}

#[test]
fn when_a_blacklisting_is_over_one_client_tries_and_the_others_wait_for_it() {
    let plan = plan(&config(2, Algorithm::RoundRobin), &[]);
    let service = &plan.services[0];
    service.servers[0].state.blacklist(NOW, REST);
    let over = NOW + REST;
    let servers: Vec<_> =
        (0..6).map(|_| pick(service, None, &Tried::default(), over).unwrap().server).collect();
    assert_eq!(servers.iter().filter(|server| **server == 0).count(), 1, "{servers:?}");
    service.servers[0].state.exonerate();
    assert_eq!(shares(service, 6), [3, 3]);
}

#[test]
fn a_server_without_a_source_is_never_chosen_and_the_reason_is_told() {
    let config = config(2, Algorithm::LeastConnections);
    let clients = ClientTable::new(32);
    let plan = Registry::new(1).plan(&config, &clients, &|_, _| Admin::Ready, &|_, _| {
        Err("every address on the route is virtual".into())
    });
    let why = pick(&plan.services[0], Some(1), &Tried::default(), NOW).unwrap_err();
    assert_eq!(why.to_string(), "2 without a source address (every address on the route is virtual)");
    assert_eq!(plan.services[0].servers[1].state.connections(), 0);
}

#[test]
fn full_servers_are_passed_over_and_the_refusal_says_so() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
        let mut config = config(2, algorithm);
        config.services[0].servers[0].max = 2;
        config.services[0].servers[1].max = 3;
        let plan = plan(&config, &[]);
        let service = &plan.services[0];
        let (servers, leases) = picks(service, 5);
        assert_eq!(servers.iter().filter(|server| **server == 0).count(), 2);
        assert_eq!(new_client(service).unwrap_err().to_string(), "2 at their limit");
        drop(leases);
        assert!(new_client(service).is_ok());
    }
}

#[test]
fn no_servers_no_panic() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
        let plan = plan(&config(0, algorithm), &[]);
        let why = pick(&plan.services[0], Some(4), &Tried::default(), NOW).unwrap_err();
        assert_eq!(why.to_string(), "the service has no servers");
    }
}

#[test]
fn limits_hold_when_workers_pick_at_once() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
        let mut config = config(3, algorithm);
        config.services[0].servers.iter_mut().for_each(|server| server.max = 2);
        let plan = plan(&config, &[]);
        let service = &plan.services[0];
        let now: Vec<AtomicU32> = (0..3).map(|_| AtomicU32::new(0)).collect();
        let exceeded = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let Ok(pick) = new_client(service) else { continue };
                        if now[pick.server].fetch_add(1, Ordering::SeqCst) >= 2 {
                            exceeded.store(true, Ordering::SeqCst);
                        }
                        now[pick.server].fetch_sub(1, Ordering::SeqCst);
                        drop(pick);
                    }
                });
            }
        });
        assert!(!exceeded.load(Ordering::SeqCst));
        assert!(service.servers.iter().all(|server| server.state.connections() == 0));
    }
}

/// A server's circumstances.
#[derive(Clone, Debug)]
struct Circumstances {
    weight: u16,
    max: u32,
    open: u32,
    drained: bool,
    blacklisted: bool,
    sourceless: bool,
    tried: bool,
}

fn circumstances() -> impl Strategy<Value = Circumstances> {
    (1u16..=256, 0u32..3, 0u32..3, any::<[bool; 4]>()).prop_map(|(weight, max, open, flags)| {
        let [drained, blacklisted, sourceless, tried] = flags;
        Circumstances { weight, max, open, drained, blacklisted, sourceless, tried }
    })
}

proptest! {
    #[test]
    fn every_pick_is_right_and_only_refused_when_nobody_is_left(
        servers in prop::collection::vec(circumstances(), 0..80),
        least in any::<bool>(),
        remembered in prop::option::of(0usize..80),
    ) {
        let algorithm = if least { Algorithm::LeastConnections } else { Algorithm::RoundRobin };
        let mut config = config(servers.len(), algorithm);
        for (server, now) in config.services[0].servers.iter_mut().zip(&servers) {
            (server.weight, server.max) = (now.weight, now.max);
        }
        let of = |name: &str| &servers[name[1..].parse::<usize>().unwrap()];
        let plan = Registry::new(1).plan(
            &config,
            &ClientTable::new(32),
            &|_, name| if of(name).drained { Admin::Drain } else { Admin::Ready },
            &|_, server| if of(&server.name).sourceless { Err("none".into()) } else { Ok(Start::At([127, 0, 0, 1].into())) },
        );
        let service = &plan.services[0];
        let (mut tried, mut leases) = (Tried::default(), Vec::new());
        for (n, now) in servers.iter().enumerate() {
            leases.extend((0..now.open).filter_map(|_| service.servers[n].state.reserve(0)));
            if now.blacklisted { service.servers[n].state.blacklist(NOW, REST); }
            if now.tried { tried.add(n); }
        }
        let has_room = |now: &Circumstances| now.max == 0 || now.open < now.max;
        let fit = |now: &Circumstances| !now.drained && !now.sourceless && !now.tried && has_room(now);
        let own = remembered.filter(|n| servers.get(*n).is_some_and(|now| {
            !now.sourceless && !now.tried && !now.blacklisted && has_room(now)
        }));
        match pick(service, remembered, &tried, NOW) {
            Ok(pick) => {
                let chosen = &servers[pick.server];
                prop_assert_eq!(service.servers[pick.server].state.connections(), chosen.open + 1);
                if let Some(own) = own {
                    prop_assert_eq!(pick.server, own);
                } else {
                    prop_assert!(fit(chosen));
                    prop_assert_eq!(pick.last_resort, chosen.blacklisted);
                    prop_assert!(!chosen.blacklisted || !servers.iter().any(|now| fit(now) && !now.blacklisted));
                    if least {
                        let load = |now: &Circumstances| f64::from(now.open) / f64::from(now.weight);
                        let peers = servers.iter().filter(|now| fit(now) && now.blacklisted == chosen.blacklisted);
                        for peer in peers {
                            prop_assert!(load(chosen) <= load(peer) + 1e-9);
                        }
                    }
                }
            }
            Err(why) => {
                prop_assert!(own.is_none() && !servers.iter().any(fit));
                let sourceless = why.sourceless.map_or(0, |(count, _)| count);
                prop_assert_eq!(why.tried + why.full + why.drained + sourceless, servers.len());
            }
        }
    }
}

#[test]
fn the_lowest_priority_that_can_serve_serves_and_equals_share() {
    let mut config = config(5, Algorithm::Priority);
    for (server, priority) in config.services[0].servers.iter_mut().zip([5, -1, 5, -1, 7]) {
        server.priority = priority;
    }
    config.services[0].servers[1].max = 2;
    let plan = plan(&config, &["s4"]);
    let service = &plan.services[0];
    let (servers, _leases) = picks(service, 4);
    assert_eq!(servers.iter().filter(|server| **server == 1).count(), 2, "{servers:?}");
    assert!(servers.iter().all(|server| [1, 3].contains(server)), "{servers:?}");
    service.servers[3].state.blacklist(NOW, REST);
    let (mut next, _more) = picks(service, 6);
    next.sort_unstable();
    assert_eq!(next, [0, 0, 0, 2, 2, 2], "one is full, one is blacklisted: the next priority shares");
}

/// The server of each of many clients.
fn hashed(plan: &Plan, with: impl Fn(u16) -> SocketAddr) -> Vec<usize> {
    let ask = |n: u16| {
        let client = Client { peer: with(n), remembered: None, permitted: true };
        super::pick(&plan.services[0], &client, &Tried::default(), NOW).unwrap().server
    };
    (0..2_000).map(ask).collect()
}

fn by_address(n: u16) -> SocketAddr {
    let [high, low] = n.to_be_bytes();
    SocketAddr::from(([10, 1, high, low], 1_000 ^ n))
}

#[test]
fn a_hashed_client_has_one_server_on_all_nodes_and_moves_only_when_that_goes() {
    let config = config(4, Algorithm::SourceHash { with_port: false });
    let (one, other) = (plan(&config, &[]), plan(&config, &[]));
    let before = hashed(&one, by_address);
    assert_eq!(before, hashed(&other, by_address));
    assert_eq!(before, hashed(&one, |n| SocketAddr::new(by_address(n).ip(), 7)), "the port does not count");
    one.services[0].servers[2].state.blacklist(NOW, REST);
    for (before, after) in before.iter().zip(hashed(&one, by_address)) {
        assert!(after == *before || (*before == 2 && after != 2));
    }
    let mut turned = config.clone();
    turned.services[0].servers.reverse();
    let names = |plan: &Plan, servers: Vec<usize>| -> Vec<Arc<str>> {
        servers.into_iter().map(|n| Arc::clone(&plan.services[0].servers[n].name)).collect()
    };
    let turned = plan(&turned, &[]);
    assert_eq!(names(&other, before), names(&turned, hashed(&turned, by_address)), "nor does the order");
}

#[test]
fn the_port_counts_for_the_hash_where_it_is_wanted() {
    let plan = plan(&config(4, Algorithm::SourceHash { with_port: true }), &[]);
    let servers = hashed(&plan, |n| SocketAddr::from(([10, 1, 1, 1], n)));
    for server in 0..4 {
        let share = servers.iter().filter(|chosen| **chosen == server).count();
        assert!((400..600).contains(&share), "{share}");
    }
}

#[test]
fn hard_is_the_limit_for_clients_of_a_server() {
    let mut config = config(1, Algorithm::RoundRobin);
    (config.services[0].servers[0].max, config.services[0].servers[0].hard) = (1, 2);
    let plan = plan(&config, &[]);
    let service = &plan.services[0];
    let _first = new_client(service).unwrap();
    assert!(new_client(service).is_err());
    let _second = pick(service, Some(0), &Tried::default(), NOW).unwrap();
    assert!(pick(service, Some(0), &Tried::default(), NOW).is_err());
}
