use super::*;
use crate::config::model::Server;

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
    let kept = registry.kept.lock().unwrap();
    assert!(kept.servers.is_empty() && kept.services.is_empty());
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
