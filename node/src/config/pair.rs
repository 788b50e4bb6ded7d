//! A node file and a cluster file together: what only shows when both are known.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cygnet_ha::vip::speaker::carp::ADVSKEW_MAX;
use cygnet_ha::vip::speaker::vrrp::PRIORITY_OWNER;
use cygnet_ha::vip::{Protocol, VipSettings, shown};

use super::cross::all_servers;
use super::model::{ClusterConfig, Endpoint, NodeConfig, Source, Transport, Vip};
use super::problem::{Problem, did_you_mean};
use super::{groups, locate, parse_cluster};
use crate::balance::acl::names_countries;

/// The name of the node's file in the problems of [`check_pair`].
pub const NODE_FILE: &str = "node";
/// The name of the cluster's file in the problems of [`check_pair`].
pub const CLUSTER_FILE: &str = "cluster";

pub(super) fn problem(
    file: &str,
    key: impl Into<String>,
    what: impl Into<String>,
    remedy: impl Into<String>,
) -> Problem {
    let file = file.to_owned();
    Problem { file, line: 0, column: 0, key: key.into(), what: what.into(), remedy: remedy.into() }
}

/// Checks what a node file and a cluster file say about each other. The problems carry no line, since the models do
/// not know where they came from; `file` is [`NODE_FILE`] or [`CLUSTER_FILE`]. [`super::locate()`] finds the lines again.
#[must_use]
pub fn check_pair(node: &NodeConfig, cluster: &ClusterConfig) -> Vec<Problem> {
    let virtual_addresses = by_address(cluster);
    let mut problems = Vec::new();
    problems.extend(virtual_sources(node, &virtual_addresses));
    problems.extend(virtual_members(node, &virtual_addresses));
    problems.extend(virtual_servers(cluster, &virtual_addresses));
    problems.extend(virtual_service_sources(cluster, &virtual_addresses));
    problems.extend(unknown_exceptions(node, cluster));
    problems.extend(wrong_preferences(node, cluster));
    problems.extend(groups::differing_priorities(node, cluster));
    problems.extend(missing_countries(node, cluster));
    if !is_witness(node) {
        problems
            .extend(cluster.vips.iter().filter(|vip| interface(node, vip).is_none()).map(missing_interface));
    }
    problems.extend(taken_ports(node, cluster));
    problems
}

/// Reads a cluster file and checks it against a node: whether that node could run it. This is what every node is asked
/// before a change is committed.
///
/// # Errors
/// Every problem found, in the order of the text where it has a line.
pub fn parse_cluster_for(node: &NodeConfig, text: &str, file: &str) -> Result<ClusterConfig, Vec<Problem>> {
    let cluster = parse_cluster(text, file)?;
    let mut problems = check_pair(node, &cluster);
    for problem in &mut problems {
        locate(problem, CLUSTER_FILE, file, text);
    }
    if problems.is_empty() { Ok(cluster) } else { Err(problems) }
}

/// Invariant 2: a connection to a server never starts from a virtual address. The problem if the node's file says so.
#[must_use]
pub fn virtual_source(node: &NodeConfig, cluster: &ClusterConfig) -> Option<Problem> {
    virtual_sources(node, &by_address(cluster)).into_iter().next()
}

fn by_address(cluster: &ClusterConfig) -> BTreeMap<IpAddr, &Vip> {
    cluster.vips.iter().flat_map(|vip| vip.addresses.iter().map(move |address| (*address, vip))).collect()
}

fn virtual_sources(node: &NodeConfig, virtual_addresses: &BTreeMap<IpAddr, &Vip>) -> Vec<Problem> {
    let Source::Fixed(sources) = &node.source else { return Vec::new() };
    let virtual_sources =
        sources.iter().filter_map(|source| Some((source, &virtual_addresses.get(source)?.name)));
    let what = |(address, name): (&IpAddr, &String)| {
        format!(
            "\"{address}\" is virtual (vip {name}): it moves away with the address and breaks every backend session"
        )
    };
    let remedy = "write this node's own address, or \"auto\"";
    virtual_sources.map(|source| problem(NODE_FILE, "source", what(source), remedy)).collect()
}

fn virtual_members(node: &NodeConfig, virtual_addresses: &BTreeMap<IpAddr, &Vip>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for member in &node.members {
        if let Some(vip) = virtual_addresses.get(&member.address.ip()) {
            let what = format!(
                "{} is virtual (vip {}): the nodes would lose each other when it moves",
                member.address, vip.name
            );
            let key = format!("cluster.member[{}].address", member.name);
            problems.push(problem(NODE_FILE, key, what, "write an address that stays on the node"));
        }
    }
    problems
}

/// A server on a virtual address would be this node itself, or its peer, reached from the virtual address.
fn virtual_servers(cluster: &ClusterConfig, virtual_addresses: &BTreeMap<IpAddr, &Vip>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for service in &cluster.services {
        for server in all_servers(service) {
            if let Some(vip) = server.address.inet().and_then(|address| virtual_addresses.get(&address.ip()))
            {
                let what = format!(
                    "{} is virtual (vip {}): the balancer would connect to itself",
                    server.address, vip.name
                );
                let at = match Some(server) {
                    spare if spare == service.emergency.as_ref() => "emergency".to_owned(),
                    spare if spare == service.abuse.as_ref() => "abuse".to_owned(),
                    _ => format!("server[{}]", server.name),
                };
                let key = format!("service[{}].{at}.address", service.name);
                problems.push(problem(CLUSTER_FILE, key, what, "write the address of the server itself"));
            }
        }
    }
    problems
}

/// The same for the services that name an address themselves.
fn virtual_service_sources(
    cluster: &ClusterConfig,
    virtual_addresses: &BTreeMap<IpAddr, &Vip>,
) -> Vec<Problem> {
    let sourced = cluster.services.iter().filter_map(|service| {
        let address = service.source?;
        let name = &virtual_addresses.get(&address)?.name;
        let what = format!(
            "\"{address}\" is virtual (vip {name}): it moves away with the address and breaks every backend session"
        );
        let remedy = "write an address that every node has and keeps, or remove it: the nodes' own `source` counts";
        Some(problem(CLUSTER_FILE, format!("service[{}].source", service.name), what, remedy))
    });
    sourced.collect()
}

/// Without a database an entry with a country would fit nobody: a list that denies a country would let it in. A witness
/// lets nobody in.
fn missing_countries(node: &NodeConfig, cluster: &ClusterConfig) -> Option<Problem> {
    let list = cluster.acls.iter().find(|acl| names_countries(acl))?;
    if node.countries.is_some() || is_witness(node) {
        return None;
    }
    let what = format!("access list {} names countries, and this node has no database of them", list.name);
    let remedy = "add `countries = \"/usr/share/GeoIP/GeoLite2-Country.mmdb\"` to the node file";
    Some(problem(NODE_FILE, "countries", what, remedy))
}

fn unknown_exceptions(node: &NodeConfig, cluster: &ClusterConfig) -> Vec<Problem> {
    let names: Vec<&str> = cluster.vips.iter().map(|vip| vip.name.as_str()).collect();
    let mut problems = Vec::new();
    for name in node.per_vip.keys().filter(|name| !names.contains(&name.as_str())) {
        let remedy = match did_you_mean(name, &names) {
            Some(meant) => format!("did you mean [vip.{meant}]?"),
            None if names.is_empty() => "the cluster has no virtual address; remove the section".to_owned(),
            None => format!("the cluster has {}; correct the name or remove the section", names.join(", ")),
        };
        problems.push(problem(
            NODE_FILE,
            format!("vip[{name}]"),
            "no such virtual address in the cluster",
            remedy,
        ));
    }
    problems
}

/// What one protocol only knows.
fn wrong_preferences(node: &NodeConfig, cluster: &ClusterConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    for vip in &cluster.vips {
        let Some(exception) = node.per_vip.get(&vip.name) else { continue };
        let is_carp = vip.protocol == Protocol::Carp;
        if exception.advskew.is_some() && !is_carp {
            let what = format!("{} is elected by VRRP, which has no advskew", vip.name);
            let key = format!("vip[{}].advskew", vip.name);
            problems.push(problem(NODE_FILE, key, what, "write `priority`, 1 to 254; higher is preferred"));
        }
        if exception.priority == Some(PRIORITY_OWNER) && is_carp {
            let what = format!("{} is elected by CARP, which knows no owner", vip.name);
            let key = format!("vip[{}].priority", vip.name);
            problems.push(problem(NODE_FILE, key, what, "write 1 to 254, or `advskew = 0`"));
        }
    }
    problems
}

fn missing_interface(vip: &Vip) -> Problem {
    let remedy = format!("add `interface = \"eth0\"` at the top of the node file or in [vip.{}]", vip.name);
    problem(
        NODE_FILE,
        "interface",
        format!("virtual address {} ({}) has no interface here", vip.name, shown(&vip.addresses)),
        remedy,
    )
}

/// A service and the connection between the nodes cannot share a port of this node.
fn taken_ports(node: &NodeConfig, cluster: &ClusterConfig) -> Vec<Problem> {
    let Some(own) = node.members.iter().find(|member| member.name == node.name).map(|member| member.address)
    else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for service in cluster.services.iter().filter(|service| service.transport == Transport::Tcp) {
        for listen in service.listen.iter().filter_map(Endpoint::inet) {
            let same_family = listen.is_ipv4() == own.is_ipv4();
            let same_address = listen.ip() == own.ip() || listen.ip().is_unspecified();
            if listen.port() == own.port() && same_family && same_address {
                let what =
                    format!("{listen} takes the port on which this node listens for its peers ({own})");
                let remedy = "choose another port, or name the addresses instead of a wildcard";
                problems.push(problem(
                    CLUSTER_FILE,
                    format!("service[{}].listen", service.name),
                    what,
                    remedy,
                ));
            }
        }
    }
    problems
}

pub(super) fn is_witness(node: &NodeConfig) -> bool {
    node.members.iter().any(|member| member.name == node.name && member.witness)
}

fn interface(node: &NodeConfig, vip: &Vip) -> Option<String> {
    let exception = node.per_vip.get(&vip.name).and_then(|exception| exception.interface.clone());
    exception.or_else(|| node.interface.clone())
}

/// As VRRP counts; an advskew is turned round.
pub(super) fn priority(node: &NodeConfig, vip: &Vip) -> u8 {
    let exception = node.per_vip.get(&vip.name);
    let advskew = exception.and_then(|exception| exception.advskew);
    let advskew =
        advskew.filter(|_| vip.protocol == Protocol::Carp).map(|advskew| ADVSKEW_MAX.saturating_sub(advskew));
    advskew.or_else(|| exception.and_then(|exception| exception.priority)).unwrap_or(node.priority)
}

/// The virtual addresses as this node is to treat them. A witness treats none.
///
/// # Errors
/// Those without an interface, as [`check_pair`] reports them.
pub fn vip_settings(node: &NodeConfig, cluster: &ClusterConfig) -> Result<Vec<VipSettings>, Vec<Problem>> {
    if is_witness(node) {
        return Ok(Vec::new());
    }
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    for vip in &cluster.vips {
        let Some(interface) = interface(node, vip) else {
            problems.push(missing_interface(vip));
            continue;
        };
        settings.push(VipSettings {
            mode: vip.mode,
            priority: priority(node, vip),
            interval: vip.interval,
            preempt: vip.preempt,
            preempt_delay: vip.preempt_delay,
            patience: vip.patience,
            password: vip.password.clone(),
            checksum: vip.checksum,
            peers: vip.peers.clone(),
            min_ttl: vip.min_ttl,
            sync_group: vip.sync_group.clone(),
            ..VipSettings::new(&vip.name, interface, vip.protocol, vip.id, vip.addresses.clone())
        });
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}
