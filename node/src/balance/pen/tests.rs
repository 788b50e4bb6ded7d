use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::balance::{ClientTable, Permits};
use crate::config::model::{Algorithm, ClusterConfig, Server, Service};
use crate::plan::{Admin, Lease, Registry, Start};

const NOW: Time = Time(1_000_000_000_000);
const REST: Duration = Duration::from_secs(30);
const RULES: PenRules = PenRules { prio: false, weight: false, hash: false, round_robin: false };

/// One service of Pen's, with the connections that the test keeps open.
struct Bench {
    service: Arc<ServicePlan>,
    rules: PenRules,
    open: RefCell<Vec<Lease>>,
}

#[derive(Debug)]
struct Nobody;

impl Permits for Nobody {
    fn permits(&self, _: IpAddr) -> bool {
        false
    }
}

/// `change` gets the configuration of `servers` servers before the plan is made, `bar` the servers whose list denies all.
fn bench(servers: usize, rules: PenRules, change: impl FnOnce(&mut Service), bar: &[usize]) -> Bench {
    let at = |n: usize| SocketAddr::from(([10, 0, 0, n as u8 + 1], 80));
    let mut service = Service {
        algorithm: Algorithm::Pen(rules),
        servers: (0..servers).map(|n| Server::new(format!("{n}"), at(n))).collect(),
        ..Service::new("pen")
    };
    change(&mut service);
    let config = ClusterConfig { services: vec![service], ..ClusterConfig::default() };
    let clients = ClientTable::new(32);
    let mut plan = Registry::new(1).plan(&config, &clients, &|_, _| Admin::Ready, &|_, _| Ok(Start::Kernel));
    let mut service = plan.services.remove(0);
    for n in bar {
        Arc::get_mut(&mut service).unwrap().servers[*n].acl = Some(Arc::new(Nobody));
    }
    Bench { service, rules, open: RefCell::default() }
}

fn plain(servers: usize, rules: PenRules) -> Bench {
    bench(servers, rules, |_| {}, &[])
}

fn stranger() -> Client {
    Client { peer: SocketAddr::from(([192, 0, 2, 7], 40_000)), remembered: None, permitted: true }
}

fn known(server: usize) -> Client {
    Client { remembered: Some(server), ..stranger() }
}

impl Bench {
    fn blacklist(&self, server: usize) {
        self.service.servers[server].state.blacklist(NOW, REST);
    }

    /// That many connections to a server that have been made.
    fn connect(&self, server: usize, count: usize) {
        for _ in 0..count {
            let mut lease = self.service.servers[server].state.admit(0).unwrap();
            lease.connected();
            self.open.borrow_mut().push(lease);
        }
    }

    /// The servers that a connection tries, if every connect fails without a blacklisting.
    fn tries(&self, client: &Client) -> Vec<usize> {
        let mut way = Way::default();
        let mut tries = Vec::new();
        while let Some(pick) = way.next(&self.service, self.rules, client, NOW) {
            tries.push(pick.server);
            assert!(tries.len() < 100, "it ends");
        }
        tries
    }

    /// The servers of that many connections, each of which is made and ends.
    fn first(&self, client: &Client, count: usize) -> Vec<usize> {
        (0..count)
            .map(|_| Way::default().next(&self.service, self.rules, client, NOW).unwrap().server)
            .collect()
    }
}

#[test]
fn round_robin_begins_with_server_1_and_passes_over_the_blacklisted() {
    let bench = plain(3, RULES);
    assert_eq!(bench.first(&stranger(), 5), [1, 2, 0, 1, 2]);
    bench.blacklist(0);
    assert_eq!(bench.first(&stranger(), 3), [1, 2, 1]);
    bench.blacklist(2);
    assert_eq!(bench.first(&stranger(), 2), [1, 1], "the last one again when there is no other");
    assert_eq!(plain(1, RULES).first(&stranger(), 2), [0, 0]);
}

#[test]
fn a_client_goes_to_its_last_server_whatever_the_algorithm_unless_round_robin_is_on() {
    for rules in [RULES, PenRules { prio: true, ..RULES }, PenRules { weight: true, ..RULES }] {
        assert_eq!(plain(3, rules).first(&known(2), 2), [2, 2]);
    }
    let bench = plain(3, PenRules { round_robin: true, ..RULES });
    assert_eq!(bench.first(&known(2), 3), [1, 2, 0]);
}

#[test]
fn a_last_server_that_is_not_a_regular_one_counts_for_nothing() {
    let bench = bench(
        2,
        RULES,
        |service| service.emergency = Some(Server::new("e", SocketAddr::from(([10, 0, 1, 1], 80)))),
        &[],
    );
    assert_eq!(bench.first(&known(2), 2), [1, 0]);
}

#[test]
fn a_blacklisted_last_server_refuses_and_the_next_number_follows() {
    let bench = plain(3, RULES);
    bench.blacklist(1);
    assert_eq!(bench.tries(&known(1)), [2, 0], "the last one is at its own turn again, and still refuses");
}

#[test]
fn failover_goes_round_up_to_and_including_the_initial_server() {
    assert_eq!(plain(3, RULES).tries(&known(1)), [1, 2, 0, 1]);
    assert_eq!(plain(1, RULES).tries(&known(0)), [0], "one server has no other");
}

#[test]
fn the_first_switch_that_is_on_decides() {
    let all = PenRules { prio: true, weight: true, hash: true, round_robin: true };
    let change = |service: &mut Service| {
        for (server, (prio, weight)) in service.servers.iter_mut().zip([(5, 1), (-1, 2), (7, 9), (-1, 1)]) {
            (server.priority, server.weight) = (prio, weight);
        }
    };
    let chosen = |rules: PenRules, address: [u8; 4]| {
        let bench = bench(4, rules, change, &[]);
        bench.connect(0, 1);
        bench.connect(1, 1);
        bench.connect(3, 1);
        let client = Client { peer: SocketAddr::from((address, 0x1234)), ..stranger() };
        bench.first(&client, 1)[0]
    };
    assert_eq!(chosen(all, [0, 0, 0, 1]), 1, "the lowest number of those with the lowest prio");
    assert_eq!(chosen(PenRules { prio: false, ..all }, [3, 0, 0, 1]), 2, "the least load");
    let hash = PenRules { prio: false, weight: false, ..all };
    assert_eq!(chosen(hash, [3, 0, 0, 1]), 1, "3 xor 0x3412, modulo 4");
    assert_eq!(chosen(PenRules { round_robin: false, ..hash }, [3, 0, 0, 1]), 3);
}

#[test]
fn weight_divides_without_a_remainder_and_leaves_weight_0_out() {
    let bench = bench(
        3,
        PenRules { weight: true, ..RULES },
        |service| {
            for (server, weight) in service.servers.iter_mut().zip([0, 300, 600]) {
                server.weight = weight;
            }
        },
        &[],
    );
    bench.connect(1, 1);
    assert_eq!(bench.first(&stranger(), 1), [1], "256 / 300 is 0, as it is for the idle one");
    bench.connect(1, 1);
    assert_eq!(bench.first(&stranger(), 1), [2], "512 / 300 is 1");
    bench.blacklist(1);
    bench.blacklist(2);
    assert_eq!(bench.tries(&stranger()), [] as [usize; 0], "no initial server, no way round");
}

#[test]
fn the_hash_is_the_number_in_little_endian_memory() {
    let cases: &[(&str, usize, bool, usize)] = &[
        ("1.2.3.4:9", 7, false, 0x0403_0201 % 7),
        ("255.255.255.255:9", 10, false, 5),
        ("1.2.3.4:4660", 7, true, (0x0403_0201 ^ 0x3412) % 7),
        ("[2001:db8::ff]:4660", 7, true, 0xff % 7),
        ("[::ffff:1.2.3.4]:9", 3, false, 4 % 3),
        ("0.0.0.0:0", 5, true, 0),
    ];
    for (peer, servers, with_port, expected) in cases {
        assert_eq!(hash(peer.parse().unwrap(), *servers, *with_port), Some(*expected), "{peer}");
    }
    assert_eq!(hash("1.2.3.4:9".parse().unwrap(), 0, false), None);
}

#[test]
fn hash_does_not_look_whether_the_server_is_there() {
    let bench = plain(3, PenRules { hash: true, ..RULES });
    let client = Client { peer: SocketAddr::from(([1, 0, 0, 0], 1)), ..stranger() };
    bench.blacklist(1);
    assert_eq!(bench.tries(&client), [2, 0]);
}

fn with_spares(service: &mut Service) {
    service.emergency = Some(Server::new("e", SocketAddr::from(([10, 0, 1, 1], 80))));
    service.abuse = Some(Server::new("a", SocketAddr::from(([10, 0, 1, 2], 80))));
}

#[test]
fn the_emergency_server_is_the_last_of_the_failover_and_refuses_when_blacklisted() {
    let bench = bench(2, RULES, with_spares, &[]);
    assert_eq!(bench.tries(&known(0)), [0, 1, 0, 2]);
    bench.blacklist(0);
    bench.blacklist(1);
    assert_eq!(bench.tries(&stranger()), [2], "no server is available, so there is no initial one");
    bench.blacklist(2);
    assert_eq!(bench.tries(&stranger()), [] as [usize; 0]);
}

#[test]
fn who_is_denied_gets_the_abuse_server_alone() {
    let bench = bench(2, RULES, with_spares, &[]);
    let denied = |client: Client| Client { permitted: false, ..client };
    assert_eq!(bench.tries(&denied(known(1))), [3]);
    bench.blacklist(3);
    assert_eq!(bench.tries(&denied(known(1))), [] as [usize; 0], "no failover from there");
}

#[test]
fn who_is_denied_without_an_abuse_server_gets_the_emergency_server() {
    let bench = bench(
        2,
        RULES,
        |service| {
            with_spares(service);
            service.abuse = None;
        },
        &[],
    );
    assert_eq!(bench.tries(&Client { permitted: false, ..known(1) }), [2]);
}

#[test]
fn a_stubborn_pen_tries_the_initial_server_and_no_other() {
    let bench = bench(
        3,
        RULES,
        |service| {
            with_spares(service);
            service.stubborn = true;
        },
        &[],
    );
    assert_eq!(bench.tries(&known(2)), [2]);
    bench.blacklist(2);
    assert_eq!(bench.tries(&known(2)), [] as [usize; 0]);
    assert_eq!(bench.tries(&stranger()), [1]);
    bench.blacklist(0);
    bench.blacklist(1);
    assert_eq!(bench.tries(&stranger()), [] as [usize; 0], "not even the emergency server");
}

#[test]
fn hard_is_for_clients_whose_last_server_it_is_and_only_above_max() {
    // (max, hard, connections, may a stranger come, may a client of this server come)
    let cases: &[(u32, u32, usize, bool, bool)] = &[
        (0, 0, 9, true, true),
        (0, 3, 9, true, true),
        (2, 0, 1, true, true),
        (2, 0, 2, false, false),
        (2, 1, 2, false, false),
        (2, 3, 2, false, true),
        (2, 3, 3, false, false),
    ];
    for (max, hard, connections, stranger_may, own_may) in cases {
        let bench =
            bench(1, RULES, |service| (service.servers[0].max, service.servers[0].hard) = (*max, *hard), &[]);
        bench.connect(0, *connections);
        assert_eq!(!bench.tries(&stranger()).is_empty(), *stranger_may, "{max} {hard} {connections}");
        assert_eq!(!bench.tries(&known(0)).is_empty(), *own_may, "{max} {hard} {connections}");
    }
}

#[test]
fn a_connection_counts_from_the_completed_connect_on() {
    let bench = bench(1, RULES, |service| service.servers[0].max = 1, &[]);
    let next = || Way::default().next(&bench.service, RULES, &stranger(), NOW);
    let (mut first, second) = (next().unwrap(), next().unwrap());
    first.lease.connected();
    assert!(next().is_none());
    drop(first);
    drop(second);
    assert_eq!(bench.service.servers[0].state.connections(), 0);
}

#[test]
fn a_server_whose_list_denies_the_client_refuses() {
    let bench = bench(3, RULES, |_| {}, &[1]);
    assert_eq!(bench.tries(&stranger()), [2, 0]);
    let unix = Client { peer: SocketAddr::from(([0, 0, 0, 0], 0)), ..known(1) };
    assert_eq!(bench.first(&unix, 1), [1], "lists are not for clients of a Unix socket");
}

#[test]
fn slots_without_an_address_are_not_available_and_port_0_refuses() {
    let slots = |service: &mut Service| {
        service.servers[0].address = SocketAddr::from(([0, 0, 0, 0], 80)).into();
        service.servers[1].address = SocketAddr::from(([10, 0, 0, 2], 0)).into();
        service.servers[2].address = Endpoint::Unix("/run/s".into());
    };
    let bench = bench(3, RULES, slots, &[]);
    assert_eq!(bench.tries(&known(0)), [2]);
    assert_eq!(bench.tries(&stranger()), [2], "1 is chosen and refuses");
    assert_eq!(bench.tries(&stranger()), [2, 2], "2 is chosen, and is there again at the end of the round");
}

#[test]
fn another_blacklist_time_moves_the_end_and_zero_ends_all() {
    let with_rest =
        |seconds: u64| move |service: &mut Service| service.blacklist = Duration::from_secs(seconds);
    for (rest, after, available) in
        [(30, 29, false), (30, 30, true), (60, 30, false), (10, 10, true), (0, 0, true)]
    {
        let bench = bench(1, RULES, with_rest(rest), &[]);
        bench.blacklist(0);
        let later = NOW + Duration::from_secs(after);
        let pick = Way::default().next(&bench.service, RULES, &stranger(), later);
        assert_eq!(pick.is_some(), available, "{rest} {after}");
    }
}

#[test]
fn no_server_at_all_is_no_panic() {
    for rules in [
        RULES,
        PenRules { hash: true, ..RULES },
        PenRules { prio: true, ..RULES },
        PenRules { weight: true, ..RULES },
    ] {
        assert_eq!(plain(0, rules).tries(&known(4)), [] as [usize; 0]);
    }
}

#[test]
fn current_is_the_server_that_was_sent_to_last() {
    let bench = plain(3, RULES);
    bench.first(&known(2), 1);
    assert_eq!(bench.service.state.current(), 2);
}

/// A server's circumstances.
#[derive(Clone, Debug)]
struct Circumstances {
    prio: i32,
    weight: u16,
    max: u32,
    hard: u32,
    open: u32,
    blacklisted: bool,
    barred: bool,
    unused: bool,
}

fn circumstances() -> impl Strategy<Value = Circumstances> {
    (-2i32..3, 0u16..4, 0u32..3, 0u32..5, 0u32..5, any::<[bool; 2]>(), 0u8..6).prop_map(
        |(prio, weight, max, hard, open, [blacklisted, barred], unused)| Circumstances {
            prio,
            weight,
            max,
            hard,
            open,
            blacklisted,
            barred,
            unused: unused == 0,
        },
    )
}

/// The rules once more, as naively as they are written down: the order in which servers are tried if all connects fail.
fn naive(
    all: &[Circumstances],
    regular: usize,
    (emergency, abuse): (Option<usize>, Option<usize>),
    (rules, stubborn, counter): (PenRules, bool, usize),
    client: &Client,
) -> Vec<usize> {
    let available = |n: usize| !all[n].blacklisted && !all[n].unused;
    let accepts = |n: usize| {
        let s = &all[n];
        let last = client.remembered == Some(n);
        let over = s.max != 0 && s.open >= s.max && !(last && s.open < s.hard);
        available(n) && !over && !s.barred
    };
    let initial = if !client.permitted {
        abuse
    } else if !rules.round_robin && client.remembered.is_some_and(|last| last < regular) {
        client.remembered
    } else if rules.prio {
        let mut best = None;
        for n in (0..regular).filter(|n| available(*n)) {
            if best.is_none_or(|b: usize| all[n].prio < all[b].prio) {
                best = Some(n);
            }
        }
        best
    } else if rules.weight {
        let mut best = None;
        let load = |n: usize| 256 * all[n].open / u32::from(all[n].weight);
        for n in (0..regular).filter(|n| available(*n) && all[*n].weight != 0) {
            if best.is_none_or(|b: usize| load(n) < load(b)) {
                best = Some(n);
            }
        }
        best
    } else if rules.hash {
        (regular > 0)
            .then_some(0x0702_00c0usize)
            .map(|address| (address ^ if rules.round_robin { 0x409c } else { 0 }) % regular)
    } else {
        (1..=regular).map(|step| (counter + step) % regular).find(|n| available(*n))
    };
    let mut tries: Vec<usize> = initial.filter(|n| accepts(*n)).into_iter().collect();
    if stubborn || (initial.is_some() && initial == abuse) {
        return tries;
    }
    if let Some(initial) = initial.filter(|_| regular >= 2) {
        tries.extend((1..=regular).map(|step| (initial + step) % regular).filter(|n| accepts(*n)));
    }
    tries.extend(emergency.filter(|n| accepts(*n)));
    tries
}

proptest! {
    #[test]
    fn every_order_is_that_of_the_naive_rules(
        mut all in prop::collection::vec(circumstances(), 2..8),
        [prio, weight, hash, round_robin, stubborn, permitted] in any::<[bool; 6]>(),
        [has_emergency, has_abuse] in any::<[bool; 2]>(),
        remembered in prop::option::of(0usize..8),
        before in 0usize..4,
    ) {
        let rules = PenRules { prio, weight, hash, round_robin };
        let spares = usize::from(has_emergency) + usize::from(has_abuse);
        let regular = all.len() - spares;
        all.iter_mut().skip(regular).for_each(|spare| spare.unused = false);
        let emergency = has_emergency.then_some(regular);
        let abuse = has_abuse.then_some(regular + usize::from(has_emergency));
        let barred: Vec<usize> = (0..all.len()).filter(|n| all[*n].barred).collect();
        let bench = bench(regular, rules, |service| {
            with_spares(service);
            if !has_emergency { service.emergency = None; }
            if !has_abuse { service.abuse = None; }
            service.stubborn = stubborn;
            let servers = service.servers.iter_mut().chain(&mut service.emergency).chain(&mut service.abuse);
            for (server, now) in servers.zip(&all) {
                (server.priority, server.weight, server.max, server.hard) = (now.prio, now.weight, now.max, now.hard);
                if now.unused { server.address = SocketAddr::from(([0, 0, 0, 0], 80)).into(); }
            }
        }, &barred);
        let counter = before.min(regular.saturating_sub(1));
        bench.service.state.set_last_in_turn(counter);
        for (n, now) in all.iter().enumerate() {
            bench.connect(n, now.open as usize);
            if now.blacklisted { bench.blacklist(n); }
        }
        let remembered = remembered.filter(|n| *n < all.len());
        let client = Client { remembered, permitted, ..stranger() };
        let expected = naive(&all, regular, (emergency, abuse), (rules, stubborn, counter), &client);
        prop_assert_eq!(bench.tries(&client), expected);
    }
}
