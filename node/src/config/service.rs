//! A service in the cluster's file.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::cluster::{
    DEFAULT_BLACKLIST, DEFAULT_CONNECT_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_UDP_IDLE_TIMEOUT, IDLERS_MAX,
    LISTENS_MAX, ROUTE_NAMES_MAX, ROUTES_MAX,
};
use super::model::{Algorithm, Endpoint, FastClose, Route, Service, Transport};
use super::problem::{Fault, Report};
use super::section::{Section, Taken};
use super::server::{servers, spare};
use super::{check, direct, secure, values};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// The words for algorithms.
pub(super) const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("round-robin", Algorithm::RoundRobin),
    ("least-connections", Algorithm::LeastConnections),
    ("priority", Algorithm::Priority),
    ("source-hash", Algorithm::SourceHash { with_port: false }),
    ("source-port-hash", Algorithm::SourceHash { with_port: true }),
];
/// The words for transports.
pub(super) const TRANSPORTS: [(&str, Transport); 2] = [("tcp", Transport::Tcp), ("udp", Transport::Udp)];
/// The words for whose end is passed on at once.
pub(super) const FAST_CLOSES: [(&str, FastClose); 4] =
    [("off", FastClose::Off), ("up", FastClose::Up), ("down", FastClose::Down), ("both", FastClose::Both)];
/// How `sticky` is written when clients are never forgotten.
pub(super) const FOREVER: &str = "forever";

const KNOWN: &[&str] = &[
    "name",
    "transport",
    "listen",
    "algorithm",
    "sticky",
    "stubborn",
    "clients",
    "connect_timeout",
    "blacklist",
    "idle_timeout",
    "fast_close",
    "keepalive",
    "transparent",
    "source",
    "dummy",
    "idlers",
    "check",
    "dsr",
    "http",
    "tls",
    "route",
    "server",
    "emergency",
    "abuse",
];

/// Reads one service. What only shows beside the others is looked at later.
pub(super) fn service(
    section: &Section<'_>,
    report: &mut Report<'_>,
    taken: &mut Taken,
    listeners: &mut Vec<Listener>,
) -> Option<Service> {
    section.refuse_unknown(report, KNOWN);
    let name = section.required(report, "name", "\"web\"", values::name);
    taken.claim(section, report, "name", name.clone());
    let transport =
        section.given(report, "transport", |v| values::choice(v, &TRANSPORTS)).or(Transport::Tcp)?;
    let owner = name.as_deref().unwrap_or("another");
    let listen = listens(section, report, (owner, transport), listeners);
    let with_times = times(section, report, transport);
    let with_rules = rules(section, report);
    let with_manner = manner(section, report);
    let mut names = Taken::default();
    let dummy = section.given(report, "dummy", values::boolean).or(false);
    let servers = servers(section, report, &mut names, dummy == Some(true));
    let emergency = spare(section, report, "emergency", &mut names);
    let abuse = spare(section, report, "abuse", &mut names);
    let check = check::check(section, report, transport);
    let dsr = direct::direct(section, report);
    let http = secure::http(section, report);
    let tls = secure::tls(section, report);
    let routes = routes(section, report);
    let service = Service { transport, listen, servers, routes, dummy: dummy?, ..Service::new(name?) };
    let mut service = with_manner?(with_rules?(with_times?(service)));
    // Both nodes must choose the same server without asking each other.
    if section.has("dsr") && !section.has("algorithm") {
        service.algorithm = Algorithm::SourceHash { with_port: false };
    }
    Some(Service {
        emergency: emergency?,
        abuse: abuse?,
        check: check?,
        dsr: dsr?,
        http: http?,
        tls: tls?,
        ..service
    })
}

/// What a group of keys says, to be put into a service.
type Part = Box<dyn FnOnce(Service) -> Service>;

fn times(section: &Section<'_>, report: &mut Report<'_>, transport: Transport) -> Option<Part> {
    let connect_timeout = section
        .given(report, "connect_timeout", |v| values::duration(v, MILLISECOND..=HOUR))
        .or(DEFAULT_CONNECT_TIMEOUT);
    let blacklist = section
        .given(report, "blacklist", |v| values::duration(v, Duration::ZERO..=24 * HOUR))
        .or(DEFAULT_BLACKLIST);
    let usual = match transport {
        Transport::Tcp => DEFAULT_IDLE_TIMEOUT,
        Transport::Udp => DEFAULT_UDP_IDLE_TIMEOUT,
    };
    let idle_timeout = section
        .given(report, "idle_timeout", |v| values::duration_or_never(v, SECOND..=MONTH))
        .or(Some(usual));
    let (connect_timeout, blacklist, idle_timeout) = (connect_timeout?, blacklist?, idle_timeout?);
    Some(Box::new(move |service| Service { connect_timeout, blacklist, idle_timeout, ..service }))
}

fn rules(section: &Section<'_>, report: &mut Report<'_>) -> Option<Part> {
    let algorithm =
        section.given(report, "algorithm", |v| values::choice(v, &ALGORITHMS)).or(Algorithm::RoundRobin);
    let sticky = section.given(report, "sticky", sticky).optional();
    let stubborn = section.given(report, "stubborn", values::boolean).or(false);
    let clients = section.given(report, "clients", values::name).optional();
    let (algorithm, sticky, stubborn, clients) = (algorithm?, sticky?, stubborn?, clients?);
    Some(Box::new(move |service| Service { algorithm, sticky, stubborn, clients, ..service }))
}

fn sticky(value: &DeValue<'_>) -> Result<Duration, Fault> {
    if value.as_str() == Some(FOREVER) {
        return Ok(Duration::MAX);
    }
    values::duration(value, SECOND..=MONTH)
}

fn manner(section: &Section<'_>, report: &mut Report<'_>) -> Option<Part> {
    let fast_close =
        section.given(report, "fast_close", |v| values::choice(v, &FAST_CLOSES)).or(FastClose::Off);
    let keepalive = section.given(report, "keepalive", values::boolean).or(false);
    let transparent = section.given(report, "transparent", values::boolean).or(false);
    let source = section.given(report, "source", values::address).optional();
    let idlers = section
        .given(report, "idlers", |v| values::integer(v, 0..=IDLERS_MAX, "number of connections"))
        .or(0);
    let (fast_close, keepalive, transparent) = (fast_close?, keepalive?, transparent?);
    let (source, idlers): (Option<IpAddr>, u32) = (source?, idlers?);
    Some(Box::new(move |service| Service { fast_close, keepalive, transparent, source, idlers, ..service }))
}

/// A listening address and the service that has it.
pub(super) struct Listener {
    pub(super) transport: Transport,
    pub(super) address: Endpoint,
    pub(super) service: String,
}

impl Listener {
    /// Whether two sockets cannot listen beside each other: the same port of the same family, and the same address or
    /// one of them the wildcard. (IPv6 sockets take no IPv4 connections here.)
    fn clashes(&self, transport: Transport, other: &Endpoint) -> bool {
        let (Some(own), Some(inet)) = (self.address.inet(), other.inet()) else {
            return self.address == *other;
        };
        let wildcard = own.ip().is_unspecified() || inet.ip().is_unspecified();
        self.transport == transport
            && own.port() == inet.port()
            && own.is_ipv4() == inet.is_ipv4()
            && (wildcard || own.ip() == inet.ip())
    }
}

fn listens(
    section: &Section<'_>,
    report: &mut Report<'_>,
    (service, transport): (&str, Transport),
    listeners: &mut Vec<Listener>,
) -> Vec<Endpoint> {
    let elements = section.list("listen");
    if elements.len() > LISTENS_MAX {
        let what = format!("{} addresses, and {LISTENS_MAX} is the limit", elements.len());
        section.fault(report, "listen", Fault::new(what, "split the service, or listen on a wildcard"));
    }
    let mut listen = Vec::new();
    for element in elements.into_iter().take(LISTENS_MAX) {
        let checked = values::listen(element.get_ref()).and_then(|address| {
            match listeners.iter().find(|earlier| earlier.clashes(transport, &address)) {
                Some(earlier) => Err(clash(&address, earlier, service)),
                None => Ok(address),
            }
        });
        match checked {
            Ok(address) => {
                let service = service.to_owned();
                listeners.push(Listener { transport, address: address.clone(), service });
                listen.push(address);
            }
            Err(fault) => report.add(&element.span(), section.key("listen"), fault),
        }
    }
    listen
}

fn clash(address: &Endpoint, earlier: &Listener, service: &str) -> Fault {
    let owner = if earlier.service == service {
        "this service".to_owned()
    } else {
        format!("service {}", earlier.service)
    };
    if earlier.address == *address {
        return Fault::new(format!("{owner} already listens on {address}"), "remove one of the two");
    }
    let what = format!("{address} overlaps {} of {owner}", earlier.address);
    Fault::new(what, "a wildcard takes the whole port: write the addresses one by one")
}

fn routes(section: &Section<'_>, report: &mut Report<'_>) -> Vec<Route> {
    let sections = section.tables(report, "route", "service", ROUTES_MAX);
    sections.iter().filter_map(|section| route(section, report)).collect()
}

fn route(section: &Section<'_>, report: &mut Report<'_>) -> Option<Route> {
    section.refuse_unknown(report, &["names", "service"]);
    let service = section.required(report, "service", "\"web\"", values::name);
    let elements = section.list("names");
    if elements.is_empty() || elements.len() > ROUTE_NAMES_MAX {
        let what = format!("{} names, not 1 to {ROUTE_NAMES_MAX}", elements.len());
        let remedy = "write names = [\"www.example.org\", \"*.example.org\"]";
        section.fault(report, "names", Fault::new(what, remedy));
    }
    let mut names = Vec::new();
    for element in elements.into_iter().take(ROUTE_NAMES_MAX) {
        match values::host_pattern(element.get_ref()) {
            Ok(name) => names.push(name),
            Err(fault) => report.add(&element.span(), section.key("names"), fault),
        }
    }
    Some(Route { names, service: service? })
}
