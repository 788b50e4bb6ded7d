//! The cluster's file as a whole, and its virtual addresses.

use std::time::Duration;

use cygnet_ha::vip::{Mode, Protocol};

use super::model::{ClusterConfig, Vip};
use super::problem::{Fault, Problem, Report};
use super::section::{Section, Taken, document, wrong_type};
use super::{TEXT_BYTES_MAX, cross, lists, service, too_long, values};

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
/// Most access lists.
pub const ACLS_MAX: usize = 256;
/// Most entries of one access list: each client is compared with them one by one.
pub const ACL_ENTRIES_MAX: usize = 4096;
/// Most routes of one service.
pub const ROUTES_MAX: usize = 256;
/// Most names of one route.
pub const ROUTE_NAMES_MAX: usize = 256;
/// Most connections that are kept open without a client.
pub const IDLERS_MAX: u32 = 1000;
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
/// The same for UDP, where a client never says that it is done, and each takes a socket meanwhile.
pub const DEFAULT_UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);
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
    root.refuse_unknown(report, &["vip", "service", "acl"]);
    let mut taken = Taken::default();
    let vips = root.tables(report, "vip", "name", VIPS_MAX);
    let vips = vips.iter().filter_map(|section| vip(section, report, &mut taken)).collect();
    let mut taken = Taken::default();
    let acls = root.tables(report, "acl", "name", ACLS_MAX);
    let acls = acls.iter().filter_map(|section| lists::acl(section, report, &mut taken)).collect();
    let mut taken = Taken::default();
    let mut listeners = Vec::new();
    let sections = root.tables(report, "service", "name", SERVICES_MAX);
    let services: Vec<_> = sections
        .iter()
        .map(|section| service::service(section, report, &mut taken, &mut listeners))
        .collect();
    let named = cross::Named::new(root, &sections);
    for (section, service) in sections.iter().zip(&services) {
        cross::check(section, service.as_ref(), report, &named, &listeners);
    }
    ClusterConfig { vips, services: services.into_iter().flatten().collect(), acls }
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
