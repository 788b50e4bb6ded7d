use super::*;
use crate::balance::{ClientTable, geo};
use crate::config::model::{Acl, AclEntry, AclMatch, ClusterConfig, Http, Route, Server, Service};

/// A configuration with one service `web` and servers `s0`, `s1`, ... at the given addresses.
pub(crate) fn one_service(listen: SocketAddr, servers: &[SocketAddr]) -> ClusterConfig {
    let servers =
        servers.iter().enumerate().map(|(n, address)| Server::new(format!("s{n}"), *address)).collect();
    let service = Service { listen: vec![listen.into()], idle_timeout: None, servers, ..Service::new("web") };
    ClusterConfig { services: vec![service], ..ClusterConfig::default() }
}

/// A plan in which every server is ready and reached from the loopback address.
pub(crate) fn plan_of(registry: &Registry, config: &ClusterConfig, clients: &ClientTable) -> Plan {
    registry.plan(config, clients, &|_, _| Admin::Ready, &|_, _| Ok(Start::At(IpAddr::from([127, 0, 0, 1]))))
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn counters_live_on_with_the_same_service_name_and_address() {
    let (registry, clients) = (Registry::new(2), ClientTable::new(64));
    let config = one_service(at(80), &[at(1), at(2)]);
    let first = plan_of(&registry, &config, &clients);
    first.services[0].servers[0].state.shard(1).connected.add(5);
    first.services[0].state.shard(0).refused.add(3);
    let mut changed = config.clone();
    changed.services[0].servers[1].address = at(3).into();
    let second = plan_of(&registry, &changed, &clients);
    assert_eq!(second.generation, first.generation + 1);
    let (old, new) = (&first.services[0], &second.services[0]);
    assert_eq!(new.servers[0].state.sum(|shard| &shard.connected), 5);
    assert_eq!(new.state.sum(|shard| &shard.refused), 3);
    assert!(!Arc::ptr_eq(&old.servers[1].state, &new.servers[1].state), "another address is another server");
    assert_eq!(old.servers[1].id, new.servers[1].id, "its clients stay with the name");
}

#[test]
fn a_server_that_is_gone_is_forgotten_with_its_last_connection() {
    let (registry, clients) = (Registry::new(1), ClientTable::new(64));
    let config = one_service(at(80), &[at(1)]);
    let first = plan_of(&registry, &config, &clients);
    let lease = first.services[0].servers[0].state.reserve(0).unwrap();
    drop(first);
    let empty = ClusterConfig::default();
    drop(plan_of(&registry, &empty, &clients));
    let again = plan_of(&registry, &config, &clients);
    assert_eq!(again.services[0].servers[0].state.connections(), 1, "a connection still counts");
    drop((lease, again));
    drop(plan_of(&registry, &empty, &clients));
    assert_eq!(registry.kept(), 0);
}

#[test]
fn listeners_lead_to_their_service_and_a_missing_source_is_kept_with_its_reason() {
    let (registry, clients) = (Registry::new(1), ClientTable::new(64));
    let mut config = one_service(at(80), &[at(1)]);
    config.services[0].listen.push(at(81).into());
    let plan = registry.plan(&config, &clients, &|_, _| Admin::Drain, &|_, _| Err("only virtual".into()));
    assert_eq!(plan.listeners().count(), 2);
    let service = plan.service_at(&ListenAt::tcp(at(81))).unwrap();
    assert!(plan.service_at(&ListenAt::tcp(at(82))).is_none());
    assert_eq!(service.servers[0].source.as_ref().unwrap_err().as_ref(), "only virtual");
    assert_eq!(service.servers[0].admin, Admin::Drain);
}

#[test]
fn the_refresh_interval_is_a_small_part_of_the_sticky_time() {
    assert_eq!(Sticky::from(Duration::from_secs(1800)), Sticky { keep: 1800, refresh: 112 });
    assert_eq!(Sticky::from(Duration::from_millis(10)), Sticky { keep: 1, refresh: 1 });
}

/// The name of the service to which a name is routed.
fn routed<'p>(plan: &'p Plan, name: &str) -> Option<&'p str> {
    plan.services[0].routes.as_ref()?.service(name).map(|service| &*service.name)
}

#[test]
fn the_first_route_that_fits_a_name_counts_and_a_star_stands_for_one_label() {
    let (registry, clients) = (Registry::new(1), ClientTable::new(64));
    let mut config = one_service(at(80), &[at(1)]);
    let route = |names: &[&str], service: &str| Route {
        names: names.iter().map(ToString::to_string).collect(),
        service: service.to_owned(),
    };
    config.services[0].routes = vec![
        route(&["www.example.org", "*.shop.example.org"], "a"),
        route(&["*.example.org", "Example.ORG", "www.shop.example.org"], "b"),
        route(&["x.test"], "nobody"),
    ];
    config.services.extend(["a", "b"].map(Service::new));
    let plan = plan_of(&registry, &config, &clients);
    let cases = [
        ("www.example.org", Some("a")),
        ("WWW.example.org.", Some("a")),
        ("mail.example.org", Some("b")),
        ("example.org", Some("b")),
        ("www.shop.example.org", Some("a")),
        ("a.b.shop.example.org", None),
        (".example.org", None),
        ("x.test", None),
        ("", None),
    ];
    for (name, service) in cases {
        assert_eq!(routed(&plan, name), service, "{name}");
    }
    let names: Vec<&str> = plan.services.iter().map(|service| &*service.name).collect();
    assert_eq!(names, ["web", "a", "b"], "the order is that of the configuration");
}

#[test]
fn emergency_and_abuse_servers_come_after_the_regular_ones_and_have_counters_of_their_own() {
    let (registry, clients) = (Registry::new(1), ClientTable::new(64));
    let mut config = one_service(at(80), &[at(1), at(2)]);
    config.services[0].abuse = Some(Server::new("tar", at(4)));
    let plan = plan_of(&registry, &config, &clients);
    assert_eq!((plan.services[0].emergency, plan.services[0].abuse), (None, Some(2)));
    config.services[0].emergency = Some(Server::new("sorry", at(3)));
    let plan = plan_of(&registry, &config, &clients);
    let service = &plan.services[0];
    assert_eq!((service.regular, service.emergency, service.abuse), (2, Some(2), Some(3)));
    assert_eq!(service.regular().len(), 2);
    let roles: Vec<Role> = (0..4).map(|n| service.role(n)).collect();
    assert_eq!(roles, [Role::Regular, Role::Regular, Role::Emergency, Role::Abuse]);
    assert_eq!(&*service.servers[3].name, "tar");
    assert_eq!(service.schedule.len(), 2, "they have no turn");
}

#[test]
fn a_plan_has_the_lists_and_the_http_rules_of_its_configuration() {
    let (registry, clients) = (Registry::new(1), ClientTable::new(64));
    let country = AclEntry { permit: true, who: AclMatch::Country(*b"SE") };
    let mut config = one_service(at(80), &[at(1)]);
    config.acls = vec![Acl { name: "home".to_owned(), entries: vec![country] }];
    let service = &mut config.services[0];
    service.clients = Some("home".to_owned());
    service.servers[0].acl = Some("absent".to_owned());
    service.http = Some(Http::default());
    let permits = |plan: &Plan| {
        let service = &plan.services[0];
        assert!(service.http.is_some());
        let lists = [&service.clients, &service.servers[0].acl];
        lists.map(|list| list.as_ref().is_some_and(|list| list.permits([10, 0, 0, 1].into())))
    };
    assert_eq!(permits(&plan_of(&registry, &config, &clients)), [false, false], "no database");
    let database = geo::tests::database(&[geo::tests::network("10.0.0.0/8", "SE")]);
    registry.use_countries(Some(Arc::new(geo::Countries::from_bytes("x", database).expect("a database"))));
    assert_eq!(permits(&plan_of(&registry, &config, &clients)), [true, false]);
}
