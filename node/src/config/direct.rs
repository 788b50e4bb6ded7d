//! `[service.dsr]`: direct server return in the cluster's file.

use std::net::{IpAddr, Ipv4Addr};

use toml::de::DeValue;

use super::cross::{Named, all_servers};
use super::model::{Algorithm, ClusterConfig, Direct, Endpoint, Place, Service};
use super::problem::{Fault, Report};
use super::section::Section;
use super::values;
use crate::proxy::dsr::SERVERS_MAX;

/// Keys of a service that mean connections, which there are none of here.
const CONNECTIONS: [&str; 16] = [
    "listen",
    "sticky",
    "stubborn",
    "clients",
    "connect_timeout",
    "idle_timeout",
    "fast_close",
    "keepalive",
    "transparent",
    "dummy",
    "idlers",
    "http",
    "tls",
    "route",
    "emergency",
    "abuse",
];
/// The same of a server.
const OF_SERVERS: [&str; 5] = ["priority", "max", "hard", "acl", "tls"];

/// Reads `[service.dsr]`, if it is there.
pub(super) fn direct(section: &Section<'_>, report: &mut Report<'_>) -> Option<Option<Direct>> {
    if !section.has("dsr") {
        return Some(None);
    }
    let section = section.table(report, "dsr")?;
    section.refuse_unknown(report, &["address", "port", "vip", "interface", "tarpit"]);
    let address = section.required(report, "address", "\"192.0.2.80\"", ipv4);
    let port = section.given(report, "port", |v| values::integer(v, 1..=u16::MAX, "port")).optional();
    let vip = section.given(report, "vip", values::name).optional();
    let interface = section.given(report, "interface", values::interface).optional();
    let tarpit = section.given(report, "tarpit", values::name).optional();
    let place = match (vip?, interface?) {
        (Some(vip), None) => Place::Vip(vip),
        (None, Some(interface)) => Place::Interface(interface),
        (vip, _) => {
            let what = if vip.is_some() {
                "the vip has an interface already"
            } else {
                "nothing says which node answers for the address"
            };
            let remedy = "write vip = \"www\" for the holder of that virtual address, or, on a node alone, \
                          interface = \"eth0\"";
            section.fault(report, "interface", Fault::new(what, remedy));
            return None;
        }
    };
    Some(Some(Direct { address: address?, port: port?, place, tarpit: tarpit? }))
}

fn ipv4(value: &DeValue<'_>) -> Result<Ipv4Addr, Fault> {
    match values::address(value)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => {
            let what = format!("\"{address}\" is an IPv6 address, and direct server return goes by ARP");
            Err(Fault::new(what, "write an IPv4 address; IPv6 wants a service with `listen`"))
        }
    }
}

/// What does not go with direct server return, and names that lead nowhere.
pub(super) fn refuse_contradictions(
    section: &Section<'_>,
    service: &Service,
    report: &mut Report<'_>,
    named: &Named,
) {
    let Some(direct) = &service.dsr else { return };
    // Faults were reported when the tables were first read.
    let mut quiet = Report::new("", "");
    for key in CONNECTIONS.into_iter().filter(|key| section.has(key)) {
        let what = "with direct server return this node has frames, not connections";
        section.fault(report, key, Fault::new(what, "remove it, or remove [service.dsr]"));
    }
    let is_hash = matches!(service.algorithm, Algorithm::SourceHash { .. });
    if section.has("algorithm") && !is_hash {
        let what = "servers are chosen by the client's address, so that both nodes choose the same one";
        let remedy = "write \"source-hash\" or \"source-port-hash\", or remove it";
        section.fault(report, "algorithm", Fault::new(what, remedy));
    }
    let servers = section.tables(&mut quiet, "server", "name", super::SERVERS_MAX);
    for server in &servers {
        for key in OF_SERVERS.into_iter().filter(|key| server.has(key)) {
            let what = "with direct server return this node has no connections to the server";
            server.fault(report, key, Fault::new(what, "remove it"));
        }
        let Some(address) = server.given(&mut quiet, "address", values::server).optional().flatten() else {
            continue;
        };
        if let Some(fault) = unreachable(direct, &address) {
            server.fault(report, "address", fault);
        }
    }
    if servers.len() > SERVERS_MAX {
        let what = format!("{} servers, and {SERVERS_MAX} is the limit here", servers.len());
        section.fault(report, "server", Fault::new(what, "split the service"));
    }
    if let Some(inner) = section.table(&mut quiet, "dsr") {
        let vip = match &direct.place {
            Place::Vip(name) => named.vip(name),
            Place::Interface(_) => None,
        };
        let tarpit = direct.tarpit.as_ref().and_then(|list| named.acl(list));
        for (key, fault) in [("vip", vip), ("tarpit", tarpit)] {
            if let Some(fault) = fault {
                inner.fault(report, key, fault);
            }
        }
    }
}

/// Why frames of this service cannot come to a server.
fn unreachable(direct: &Direct, server: &Endpoint) -> Option<Fault> {
    let Some(address) = server.inet() else {
        return Some(Fault::new("a Unix socket takes no frames", "write the server's IPv4 address and port"));
    };
    if address.is_ipv6() {
        return Some(Fault::new("direct server return goes by ARP, to IPv4 addresses", "write that one"));
    }
    if address.ip() == IpAddr::V4(direct.address) {
        let what = "that is the service's address, which every server has";
        return Some(Fault::new(what, "write the server's own address, by which ARP finds it"));
    }
    let port = direct.port.filter(|port| *port != address.port())?;
    let what = format!("frames go on as they are, to port {port}, not to {}", address.port());
    Some(Fault::new(what, format!("write port {port}; `check_port` is for another one of health checks")))
}

/// An address can be had in one way only: what only shows when all of the file is known.
pub(super) fn refuse_conflicts(cluster: &ClusterConfig, sections: &[Section<'_>], report: &mut Report<'_>) {
    // Faults were reported when the tables were first read.
    let mut quiet = Report::new("", "");
    for (position, service) in cluster.services.iter().enumerate() {
        let Some(direct) = &service.dsr else { continue };
        let Some(what) = owner(cluster, position, service, direct) else { continue };
        let mut name =
            |section: &Section<'_>| section.given(&mut quiet, "name", values::name).optional().flatten();
        let own = sections.iter().find(|section| name(section).as_ref() == Some(&service.name));
        if let Some(inner) = own.and_then(|own| own.table(&mut quiet, "dsr")) {
            let remedy = "direct server return wants an address that is on no interface of a balancer";
            inner.fault(report, "address", Fault::new(what, remedy));
        }
    }
}

/// Who has the address already: a virtual address, a listener, a service before this one, a server.
fn owner(cluster: &ClusterConfig, position: usize, service: &Service, direct: &Direct) -> Option<String> {
    let address = IpAddr::V4(direct.address);
    if let Some(vip) = cluster.vips.iter().find(|vip| vip.addresses.contains(&address)) {
        return Some(format!("{address} is put on an interface by vip {}", vip.name));
    }
    let listens = |service: &&Service| {
        service.listen.iter().filter_map(Endpoint::inet).any(|listen| listen.ip() == address)
    };
    if let Some(other) = cluster.services.iter().find(listens) {
        return Some(format!("service {} listens on {address}", other.name));
    }
    let twin = cluster.services.iter().take(position).find(|other| {
        other.dsr.as_ref().is_some_and(|twin| {
            let overlap = twin.port.is_none() || direct.port.is_none() || twin.port == direct.port;
            let same = overlap && other.transport == service.transport;
            twin.address == direct.address && (twin.place != direct.place || same)
        })
    });
    if let Some(other) = twin {
        return Some(format!("service {} has {address} already", other.name));
    }
    let server = other_servers(cluster, service).find(|server| *server == address)?;
    Some(format!("{server} is a server's own address"))
}

/// The addresses of the other services' servers; its own were looked at before.
fn other_servers<'c>(cluster: &'c ClusterConfig, own: &'c Service) -> impl Iterator<Item = IpAddr> + 'c {
    let servers = cluster.services.iter().filter(|service| service.name != own.name).flat_map(all_servers);
    servers.filter_map(|server| server.address.inet()).map(|address| address.ip())
}
