//! The cluster's file: virtual addresses and services.

use std::net::SocketAddr;
use std::time::Duration;

use cygnet_ha::vip::{Mode, Protocol};

use super::model::{Algorithm, ClusterConfig, Endpoint, Server, Service, Vip};
use super::problem::{Fault, Problem, Report};
use super::section::{Section, Taken, document, wrong_type};
use super::{TEXT_BYTES_MAX, too_long, values};

/// Most virtual addresses: as many as there are identifiers of one protocol.
pub const VIPS_MAX: usize = 255;
/// Most services: each has its listening sockets on each worker.
pub const SERVICES_MAX: usize = 256;
/// Most addresses one service listens on.
pub const LISTENS_MAX: usize = 64;
/// Most servers of one service: choosing may look at all of them.
pub const SERVERS_MAX: usize = 1024;
/// Largest weight of a server.
pub const WEIGHT_MAX: u16 = 256;
/// Most connections at once that a limit can name.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// Longest CARP password in bytes: one less than the HMAC key (ucarp's limit).
pub const PASSWORD_BYTES_MAX: usize = 19;
/// Longest VRRPv2 password in bytes: the authentication field (RFC 2338 section 5.3.10).
pub(super) const VRRP2_PASSWORD_BYTES_MAX: usize = 8;

/// Advertisement interval when the file does not say (RFC 9568 section 6.1; CARP: advbase 1).
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// Time to connect to a server when the file does not say.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for which a failed server is left alone when the file does not say.
pub const DEFAULT_BLACKLIST: Duration = Duration::from_secs(30);
/// Time after which a silent connection is closed when the file does not say: without it, the connections of
/// clients that vanished would never end.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
/// VRRPv3 counts in hundredths of a second (RFC 9568 section 5.2.7).
const CENTISECOND: Duration = Duration::from_millis(10);
/// Twelve bits of centiseconds.
const VRRP3_INTERVAL_MAX: Duration = Duration::from_millis(40_950);

/// Reads a cluster file. `file` is its name in messages.
///
/// # Errors
/// Every problem found, in the order of the text.
pub fn parse_cluster(text: &str, file: &str) -> Result<ClusterConfig, Vec<Problem>> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(vec![too_long(text, file)]);
    }
    let mut report = Report::new(text, file);
    let config = document(text, &mut report).map(|document| cluster(&Section::root(&document), &mut report));
    match config {
        Some(config) if report.is_clean() => Ok(config),
        _ => Err(report.finish()),
    }
}

/// What is left after faults is incomplete, and thrown away by the caller.
fn cluster(root: &Section<'_>, report: &mut Report<'_>) -> ClusterConfig {
    root.refuse_unknown(report, &["vip", "service"]);
    let mut taken = Taken::default();
    let vips = root.tables(report, "vip", "name", VIPS_MAX);
    let vips = vips.iter().filter_map(|section| vip(section, report, &mut taken)).collect();
    let mut taken = Taken::default();
    let mut listeners = Vec::new();
    let sections = root.tables(report, "service", "name", SERVICES_MAX);
    let services: Vec<Service> =
        sections.iter().filter_map(|section| service(section, report, &mut taken, &mut listeners)).collect();
    for section in &sections {
        refuse_loops(section, report, &listeners);
    }
    ClusterConfig { vips, services, acls: Vec::new() }
}

fn vip(section: &Section<'_>, report: &mut Report<'_>, taken: &mut Taken) -> Option<Vip> {
    section.refuse_unknown(
        report,
        &["name", "address", "protocol", "id", "mode", "interval", "preempt", "password"],
    );
    let name = section.required(report, "name", "\"www\"", values::name);
    let address = section.required(report, "address", "\"192.0.2.100\"", values::address);
    let protocols = [("vrrp3", Protocol::Vrrp3), ("vrrp2", Protocol::Vrrp2), ("carp", Protocol::Carp)];
    let protocol = section.required(report, "protocol", "\"vrrp3\"", |v| values::choice(v, &protocols));
    let id =
        section.required(report, "id", "51", |v| values::integer(v, 1..=255, "identifier (VRID or vhid)"));
    let modes = [("hold", Mode::Hold), ("watch", Mode::Watch)];
    let mode = section.required(report, "mode", "\"hold\"", |v| values::choice(v, &modes));
    let interval = section.given(report, "interval", |v| interval(v, protocol)).or(DEFAULT_INTERVAL);
    let preempt = section.given(report, "preempt", values::boolean).or(true);
    let password = section.given(report, "password", |v| password(v, protocol)).optional();
    taken.claim(section, report, "name", name.clone());
    taken.claim(section, report, "address", address.map(|address| address.to_string()));
    if let (Some(protocol), Some(id)) = (protocol, id) {
        taken.claim(section, report, "id", Some(format!("{} {id}", protocol_word(protocol))));
    }
    let (address, protocol, mode) = (address?, protocol?, mode?);
    if protocol == Protocol::Vrrp2 && address.is_ipv6() {
        let remedy = "write protocol = \"vrrp3\"";
        section.fault(report, "protocol", Fault::new("VRRP version 2 knows no IPv6", remedy));
    }
    let (interval, preempt, password) = (interval?, preempt?, password?);
    let vip = Vip { name: name?, address, protocol, id: id?, mode, interval, preempt, password };
    if mode == Mode::Hold {
        refuse_hold(section, report, &vip);
    }
    Some(vip)
}

/// The word for a protocol in files and tables.
#[must_use]
pub fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Vrrp2 => "vrrp2",
        Protocol::Vrrp3 => "vrrp3",
        Protocol::Carp => "carp",
    }
}

/// What no election can be held with.
fn refuse_hold(section: &Section<'_>, report: &mut Report<'_>, vip: &Vip) {
    if vip.protocol == Protocol::Carp && vip.password.is_none() {
        let remedy = "add `password = \"...\"`, the one that the other hosts of the vhid have";
        section.fault(report, "password", Fault::new("CARP signs its adverts and needs a password", remedy));
    }
}

fn interval(value: &toml::de::DeValue<'_>, protocol: Option<Protocol>) -> Result<Duration, Fault> {
    let (range, step) = match protocol {
        Some(Protocol::Vrrp2) => (SECOND..=SECOND * 255, SECOND),
        Some(Protocol::Carp) => (SECOND..=SECOND * 254, SECOND),
        Some(Protocol::Vrrp3) | None => (CENTISECOND..=VRRP3_INTERVAL_MAX, CENTISECOND),
    };
    let interval = values::duration(value, range)?;
    if interval.as_nanos() % step.as_nanos() == 0 {
        return Ok(interval);
    }
    let what = format!(
        "{} is not a multiple of {}",
        humantime::format_duration(interval),
        humantime::format_duration(step)
    );
    Err(Fault::new(what, "the protocol counts in such steps"))
}

fn password(value: &toml::de::DeValue<'_>, protocol: Option<Protocol>) -> Result<String, Fault> {
    let Some(password) = value.as_str() else {
        return Err(wrong_type("a string", value, "write it in quotes"));
    };
    let most = match protocol {
        Some(Protocol::Vrrp3) => return Err(Fault::new("VRRP version 3 has no password", "remove it")),
        Some(Protocol::Vrrp2) => VRRP2_PASSWORD_BYTES_MAX,
        Some(Protocol::Carp) | None => PASSWORD_BYTES_MAX,
    };
    if password.is_empty() || password.len() > most || password.contains('\0') {
        let what = format!("the password has {} bytes, not 1 to {most}", password.len());
        return Err(Fault::new(what, "use the one that the other speakers use"));
    }
    Ok(password.to_owned())
}

fn service(
    section: &Section<'_>,
    report: &mut Report<'_>,
    taken: &mut Taken,
    listeners: &mut Vec<Listener>,
) -> Option<Service> {
    let known =
        ["name", "listen", "algorithm", "sticky", "connect_timeout", "blacklist", "idle_timeout", "server"];
    section.refuse_unknown(report, &known);
    let name = section.required(report, "name", "\"web\"", values::name);
    taken.claim(section, report, "name", name.clone());
    let listen = listens(section, report, name.as_deref().unwrap_or("another"), listeners);
    let algorithms =
        [("round-robin", Algorithm::RoundRobin), ("least-connections", Algorithm::LeastConnections)];
    let algorithm =
        section.given(report, "algorithm", |v| values::choice(v, &algorithms)).or(Algorithm::RoundRobin);
    let sticky = section.given(report, "sticky", |v| values::duration(v, SECOND..=MONTH)).optional();
    let connect_timeout = section
        .given(report, "connect_timeout", |v| values::duration(v, MILLISECOND..=HOUR))
        .or(DEFAULT_CONNECT_TIMEOUT);
    let blacklist = section
        .given(report, "blacklist", |v| values::duration(v, Duration::ZERO..=24 * HOUR))
        .or(DEFAULT_BLACKLIST);
    let idle_timeout = section
        .given(report, "idle_timeout", |v| values::duration_or_never(v, SECOND..=MONTH))
        .or(Some(DEFAULT_IDLE_TIMEOUT));
    let servers = servers(section, report);
    Some(Service {
        listen,
        algorithm: algorithm?,
        sticky: sticky?,
        connect_timeout: connect_timeout?,
        blacklist: blacklist?,
        idle_timeout: idle_timeout?,
        servers,
        ..Service::new(name?)
    })
}

/// A listening address and the service that has it.
struct Listener {
    address: SocketAddr,
    service: String,
}

impl Listener {
    /// Whether two sockets cannot listen beside each other: the same port of the same family, and the same address or
    /// one of them the wildcard. (IPv6 sockets take no IPv4 connections here.)
    fn clashes(&self, other: SocketAddr) -> bool {
        let wildcard = self.address.ip().is_unspecified() || other.ip().is_unspecified();
        self.address.port() == other.port()
            && self.address.is_ipv4() == other.is_ipv4()
            && (wildcard || self.address.ip() == other.ip())
    }
}

fn listens(
    section: &Section<'_>,
    report: &mut Report<'_>,
    service: &str,
    listeners: &mut Vec<Listener>,
) -> Vec<Endpoint> {
    let elements = section.list("listen");
    if elements.is_empty() {
        let remedy = "add `listen = [\"192.0.2.100:80\"]`";
        section.fault(report, "listen", Fault::new("the service listens nowhere", remedy));
    }
    if elements.len() > LISTENS_MAX {
        let what = format!("{} addresses, and {LISTENS_MAX} is the limit", elements.len());
        section.fault(report, "listen", Fault::new(what, "split the service, or listen on a wildcard"));
    }
    let mut listen = Vec::new();
    for element in elements.into_iter().take(LISTENS_MAX) {
        let checked = values::listen(element.get_ref()).and_then(|address| {
            match listeners.iter().find(|earlier| earlier.clashes(address)) {
                Some(earlier) => Err(clash(address, earlier, service)),
                None => Ok(address),
            }
        });
        match checked {
            Ok(address) => {
                listeners.push(Listener { address, service: service.to_owned() });
                listen.push(Endpoint::Inet(address));
            }
            Err(fault) => report.add(&element.span(), section.key("listen"), fault),
        }
    }
    listen
}

fn clash(address: SocketAddr, earlier: &Listener, service: &str) -> Fault {
    let owner = if earlier.service == service {
        "this service".to_owned()
    } else {
        format!("service {}", earlier.service)
    };
    if earlier.address == address {
        return Fault::new(format!("{owner} already listens on {address}"), "remove one of the two");
    }
    let what = format!("{address} overlaps {} of {owner}", earlier.address);
    Fault::new(what, "a wildcard takes the whole port: write the addresses one by one")
}

fn servers(section: &Section<'_>, report: &mut Report<'_>) -> Vec<Server> {
    let sections = section.tables(report, "server", "name", SERVERS_MAX);
    if sections.is_empty() {
        let fault =
            Fault::new("the service has no servers", "add each as [[service.server]] with name and address");
        section.fault(report, "server", fault);
    }
    let mut taken = Taken::default();
    sections.iter().filter_map(|section| server(section, report, &mut taken)).collect()
}

fn server(section: &Section<'_>, report: &mut Report<'_>, taken: &mut Taken) -> Option<Server> {
    section.refuse_unknown(report, &["name", "address", "weight", "max"]);
    let name = section.required(report, "name", "\"s1\"", values::name);
    let address = section.required(report, "address", "\"10.1.0.11:8080\"", values::target);
    let weight = section.given(report, "weight", weight).or(1);
    let max = section.given(report, "max", |v| values::integer(v, 0..=CONNECTIONS_MAX, "limit")).or(0);
    taken.claim(section, report, "name", name.clone());
    taken.claim(section, report, "address", address.map(|address| address.to_string()));
    Some(Server { weight: weight?, max: max?, ..Server::new(name?, address?) })
}

fn weight(value: &toml::de::DeValue<'_>) -> Result<u16, Fault> {
    values::integer(value, 1..=WEIGHT_MAX, "weight").map_err(|fault| {
        let drain = "to take a server out of service: `cygnet server drain SERVICE SERVER`";
        Fault::new(fault.what, format!("{}; {drain}", fault.remedy))
    })
}

/// A server that is one of our own listening addresses would send each connection round in a circle.
fn refuse_loops(section: &Section<'_>, report: &mut Report<'_>, listeners: &[Listener]) {
    // Faults of these tables were reported when they were first read; this pass only looks.
    let mut quiet = Report::new("", "");
    for server in section.tables(&mut quiet, "server", "name", SERVERS_MAX) {
        let Some(address) = server.given(&mut quiet, "address", values::target).optional().flatten() else {
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
