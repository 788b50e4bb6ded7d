//! What only shows when all of a cluster's file is known: names that lead nowhere, circles, and settings that exclude
//! each other.

use std::collections::BTreeMap;

use super::cluster::{ACLS_MAX, ROUTES_MAX, SERVERS_MAX, VIPS_MAX};
use super::model::{Endpoint, Server, Service, Transport};
use super::problem::{Fault, Report, did_you_mean};
use super::section::Section;
use super::service::{Listener, TRANSPORTS};
use super::values;
use super::{check, direct};

/// The names that others may name. Those of faulty objects count too, for their faults are told already.
pub(super) struct Named {
    acls: Vec<String>,
    vips: Vec<String>,
    services: BTreeMap<String, Kind>,
    /// Services to which another one routes.
    routed: Vec<String>,
}

/// What matters of a service to which another one routes.
struct Kind {
    transport: Transport,
    routes: bool,
}

impl Named {
    pub(super) fn new(root: &Section<'_>, services: &[Section<'_>]) -> Self {
        // Faults were reported when the tables were first read; this pass only looks.
        let mut quiet = Report::new("", "");
        let acls = root.tables(&mut quiet, "acl", "name", ACLS_MAX);
        let vips = root.tables(&mut quiet, "vip", "name", VIPS_MAX);
        let mut named = Self {
            vips: vips.iter().filter_map(|vip| word(vip, "name")).collect(),
            acls: acls.iter().filter_map(|acl| word(acl, "name")).collect(),
            services: BTreeMap::new(),
            routed: Vec::new(),
        };
        for section in services {
            let routes = section.tables(&mut quiet, "route", "service", ROUTES_MAX);
            named.routed.extend(routes.iter().filter_map(|route| word(route, "service")));
            let transport = section.given(&mut quiet, "transport", |v| values::choice(v, &TRANSPORTS));
            let transport = transport.or(Transport::Tcp).unwrap_or_default();
            if let Some(name) = word(section, "name") {
                named.services.insert(name, Kind { transport, routes: !routes.is_empty() });
            }
        }
        named
    }

    pub(super) fn vip(&self, name: &str) -> Option<Fault> {
        if self.vips.iter().any(|known| known == name) {
            return None;
        }
        Some(unknown("vip", name, self.vips.iter(), "add it as [[vip]], or write interface = \"eth0\""))
    }

    pub(super) fn acl(&self, name: &str) -> Option<Fault> {
        if self.acls.iter().any(|known| known == name) {
            return None;
        }
        Some(unknown("access list", name, self.acls.iter(), "add it as [[acl]] with name and entries"))
    }

    fn target(&self, own: &str, name: &str) -> Option<Fault> {
        match self.services.get(name) {
            None => Some(unknown("service", name, self.services.keys(), "add it as [[service]]")),
            Some(_) if own == name => {
                Some(Fault::new("the service routes to itself", "name another service, or remove the route"))
            }
            Some(kind) if kind.routes => {
                let what = format!("service {name} has routes itself, and could lead round in a circle");
                Some(Fault::new(what, "route to the last service at once"))
            }
            Some(kind) if kind.transport == Transport::Udp => {
                Some(Fault::new(format!("service {name} carries datagrams"), "route to a TCP service"))
            }
            Some(_) => None,
        }
    }
}

fn word(section: &Section<'_>, key: &str) -> Option<String> {
    section.given(&mut Report::new("", ""), key, values::name).optional().flatten()
}

fn unknown<'n>(kind: &str, name: &str, known: impl Iterator<Item = &'n String>, add: &str) -> Fault {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let remedy = match did_you_mean(name, &known) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => add.to_owned(),
    };
    Fault::new(format!("there is no {kind} {name}"), remedy)
}

/// Checks one service beside the others. `service` is `None` when it could not be read.
pub(super) fn check(
    section: &Section<'_>,
    service: Option<&Service>,
    report: &mut Report<'_>,
    named: &Named,
    listeners: &[Listener],
) {
    refuse_loops(section, report, listeners);
    let name = word(section, "name").unwrap_or_default();
    if section.list("listen").is_empty() && !section.has("dsr") && !named.routed.contains(&name) {
        let remedy = "add `listen = [\"192.0.2.100:80\"]`";
        section.fault(report, "listen", Fault::new("the service listens nowhere", remedy));
    }
    if let Some(fault) = word(section, "clients").and_then(|list| named.acl(&list)) {
        section.fault(report, "clients", fault);
    }
    let mut quiet = Report::new("", "");
    for server in section.tables(&mut quiet, "server", "name", SERVERS_MAX) {
        if let Some(fault) = word(&server, "acl").and_then(|list| named.acl(&list)) {
            server.fault(report, "acl", fault);
        }
    }
    for route in section.tables(&mut quiet, "route", "service", ROUTES_MAX) {
        if let Some(fault) = word(&route, "service").and_then(|target| named.target(&name, &target)) {
            route.fault(report, "service", fault);
        }
    }
    if let Some(service) = service {
        refuse_contradictions(section, service, report);
        direct::refuse_contradictions(section, service, report, named);
    }
}

/// A server that is one of our own listening addresses would send each connection round in a circle.
fn refuse_loops(section: &Section<'_>, report: &mut Report<'_>, listeners: &[Listener]) {
    let mut quiet = Report::new("", "");
    let spares = ["emergency", "abuse"].map(|key| section.table(&mut quiet, key));
    let servers = section.tables(&mut quiet, "server", "name", SERVERS_MAX);
    for server in servers.into_iter().chain(spares.into_iter().flatten()) {
        let Some(address) = server.given(&mut quiet, "address", values::server).optional().flatten() else {
            continue;
        };
        if let Some(own) = listeners.iter().find(|own| own.address == address) {
            let what = format!(
                "{address} is where service {} listens: connections would go round in a circle",
                own.service
            );
            server.fault(report, "address", Fault::new(what, "write the address of the server itself"));
        }
    }
}

fn refuse_contradictions(section: &Section<'_>, service: &Service, report: &mut Report<'_>) {
    if service.transport == Transport::Udp {
        refuse_streams(section, service, report);
    }
    check::refuse_contradictions(section, service, report);
    if service.abuse.is_some() && service.clients.is_none() {
        let remedy = "name an access list with `clients`, or remove the server";
        section.fault(report, "abuse", Fault::new("no client is ever denied", remedy));
    }
    if service.transparent {
        let unix = |endpoint: &Endpoint| endpoint.inet().is_none();
        let fault = if service.source.is_some() {
            Some(Fault::new(
                "connections cannot start from two addresses",
                "remove `transparent` or `source`",
            ))
        } else if service.listen.iter().any(unix) || all_servers(service).any(|server| unix(&server.address))
        {
            let what = "a Unix socket has no address that could be passed on";
            Some(Fault::new(what, "remove it, or give the socket a service of its own"))
        } else {
            None
        };
        if let Some(fault) = fault {
            section.fault(report, "transparent", fault);
        }
    }
    if let Some(source) = service.source {
        let other = all_servers(service)
            .filter_map(|server| Some((server, server.address.inet()?)))
            .find(|(_, address)| address.is_ipv4() != source.is_ipv4());
        if let Some((server, address)) = other {
            let what = format!("{source} cannot reach server {} ({address})", server.name);
            let remedy = "give the servers of the other family a service of their own, or remove `source`";
            section.fault(report, "source", Fault::new(what, remedy));
        }
    }
}

/// What needs connections, or a stream of bytes.
fn refuse_streams(section: &Section<'_>, service: &Service, report: &mut Report<'_>) {
    let unix = |endpoint: &Endpoint| endpoint.inet().is_none();
    let set = [
        ("tls", service.tls.is_some()),
        ("http", service.http.is_some()),
        ("route", !service.routes.is_empty()),
        ("fast_close", section.has("fast_close")),
        ("keepalive", service.keepalive),
        ("idlers", service.idlers > 0),
        ("dummy", service.dummy),
        ("listen", service.listen.iter().any(unix)),
        ("server", all_servers(service).any(|server| unix(&server.address))),
    ];
    for (key, _) in set.iter().filter(|(_, set)| *set) {
        let what = match *key {
            "listen" | "server" => "Unix sockets carry no datagrams here",
            _ => "datagrams have no such thing",
        };
        section.fault(report, key, Fault::new(what, "remove it, or write transport = \"tcp\""));
    }
    if all_servers(service).any(|server| server.tls.is_some()) {
        let fault = Fault::new("datagrams go to servers as they are, without TLS", "remove `tls`");
        section.fault(report, "server", fault);
    }
}

/// The regular servers, and the others.
pub(crate) fn all_servers(service: &Service) -> impl Iterator<Item = &Server> {
    service.servers.iter().chain(&service.emergency).chain(&service.abuse)
}
