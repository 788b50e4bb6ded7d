//! The virtual addresses of the cluster's file.

use std::net::IpAddr;
use std::time::Duration;

pub use cygnet_ha::vip::DEFAULT_INTERVAL;
pub(super) use cygnet_ha::vip::MIN_TTL;
pub use cygnet_ha::vip::driver::ADDRESSES_MAX;
use cygnet_ha::vip::transfer::{AtDeadline, Patience};
use cygnet_ha::vip::{Mode, Protocol};
use cygnet_netlink::wire::vrrp::ChecksumForm;

use super::model::Vip;
use super::problem::{Fault, Report};
use super::section::{Section, Taken, wrong_type};
use super::values;

/// Longest CARP password in bytes: one less than the HMAC key (ucarp's limit).
pub const PASSWORD_BYTES_MAX: usize = 19;
/// Longest VRRPv2 password in bytes: the authentication field (RFC 2338 section 5.3.10).
pub(super) const VRRP2_PASSWORD_BYTES_MAX: usize = 8;

/// The longest wait before a worse holder is replaced (keepalived's limit).
pub const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(1000);

/// Unicast peers of one virtual router: each advertisement goes to every one of them.
pub(super) const PEERS_MAX: usize = 16;

/// The words for what a checksum covers.
pub(super) const CHECKSUMS: [(&str, ChecksumForm); 2] =
    [("pseudo-header", ChecksumForm::PseudoHeader), ("message", ChecksumForm::Message)];

/// The longest time that connections may go on through the old holder after a planned move: a month. Without a deadline they do
/// until they end.
pub(super) const DRAIN_DEADLINE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The words for what happens to them then.
pub(super) const AT_DEADLINE: [(&str, AtDeadline); 2] =
    [("close", AtDeadline::Close), ("keep", AtDeadline::Keep)];

const SECOND: Duration = Duration::from_secs(1);
/// VRRPv3 counts in hundredths of a second (RFC 9568 section 5.2.7).
const CENTISECOND: Duration = Duration::from_millis(10);
/// Twelve bits of centiseconds.
const VRRP3_INTERVAL_MAX: Duration = Duration::from_millis(40_950);

const KNOWN: &[&str] = &[
    "name",
    "address",
    "addresses",
    "protocol",
    "id",
    "mode",
    "interval",
    "preempt",
    "preempt_delay",
    "drain_deadline",
    "at_deadline",
    "password",
    "checksum",
    "peers",
    "min_ttl",
    "sync_group",
];

/// Accept_Mode (RFC 9568 section 6.1) and keepalived's words for it, and whether they say that nothing is accepted.
const ACCEPTS: [(&str, bool); 3] = [("accept", false), ("accept_mode", false), ("no_accept", true)];

/// Reads one virtual address, or several that move together.
pub(super) fn vip(section: &Section<'_>, report: &mut Report<'_>, taken: &mut Taken) -> Option<Vip> {
    match refuse_accept(section, report) {
        true => section.refuse_unknown(report, &[KNOWN, &ACCEPTS.map(|(key, _)| key)].concat()),
        false => section.refuse_unknown(report, KNOWN),
    }
    let name = section.required(report, "name", "\"www\"", values::name);
    let addresses = addresses(section, report, taken);
    let protocols = [("vrrp3", Protocol::Vrrp3), ("vrrp2", Protocol::Vrrp2), ("carp", Protocol::Carp)];
    let protocol = section.required(report, "protocol", "\"vrrp3\"", |v| values::choice(v, &protocols));
    let id =
        section.required(report, "id", "51", |v| values::integer(v, 1..=255, "identifier (VRID or vhid)"));
    let modes = [("hold", Mode::Hold), ("watch", Mode::Watch)];
    let mode = section.required(report, "mode", "\"hold\"", |v| values::choice(v, &modes));
    let interval = section.given(report, "interval", |v| interval(v, protocol)).or(DEFAULT_INTERVAL);
    let preempts = preempts(section, report);
    let patience = patience(section, report);
    let password = section.given(report, "password", |v| password(v, protocol)).optional();
    let checksum = section.given(report, "checksum", |v| values::choice(v, &CHECKSUMS)).optional();
    let peers = peers(section, report, addresses.as_deref().unwrap_or_default());
    let min_ttl =
        section.given(report, "min_ttl", |v| values::integer(v, MIN_TTL..=u8::MAX, "TTL")).or(MIN_TTL);
    let sync_group = section.given(report, "sync_group", values::name).optional();
    taken.claim(section, report, "name", name.clone());
    if let (Some(protocol), Some(id), Some(addresses)) = (protocol, id, &addresses) {
        // The virtual routers of the two families are independent (RFC 9568 section 1.2).
        let family = if over_ipv6(addresses) { " over IPv6" } else { "" };
        taken.claim(section, report, "id", Some(format!("{} {id}{family}", protocol_word(protocol))));
    }
    let (addresses, protocol, mode, (preempt, preempt_delay)) = (addresses?, protocol?, mode?, preempts?);
    let (interval, password, checksum, patience) = (interval?, password?, checksum?, patience?);
    let (name, id, peers, min_ttl, sync_group) = (name?, id?, peers?, min_ttl?, sync_group?);
    let vip = Vip {
        name,
        addresses,
        protocol,
        id,
        mode,
        interval,
        preempt,
        preempt_delay,
        patience,
        password,
        checksum,
        peers,
        min_ttl,
        sync_group,
    };
    refuse_unfit(section, report, &vip);
    Some(vip)
}

/// Whether it preempts, and after which delay.
fn preempts(section: &Section<'_>, report: &mut Report<'_>) -> Option<(bool, Duration)> {
    let preempt = section.given(report, "preempt", values::boolean).or(true);
    let delay = section
        .given(report, "preempt_delay", |v| values::duration(v, Duration::ZERO..=PREEMPT_DELAY_MAX))
        .or(Duration::ZERO);
    if preempt == Some(false) && section.has("preempt_delay") {
        let fault = Fault::new("this node does not preempt", "remove it, or write preempt = true");
        section.fault(report, "preempt_delay", fault);
    }
    Some((preempt?, delay?))
}

/// How long connections may go on through a node from which the address was moved.
fn patience(section: &Section<'_>, report: &mut Report<'_>) -> Option<Patience> {
    let deadline = section
        .given(report, "drain_deadline", |v| values::duration(v, SECOND..=DRAIN_DEADLINE_MAX))
        .optional();
    let at_deadline =
        section.given(report, "at_deadline", |v| values::choice(v, &AT_DEADLINE)).or(AtDeadline::default());
    if section.has("at_deadline") && !section.has("drain_deadline") {
        let remedy = "add `drain_deadline = \"1h\"`, or remove it: connections go on until they end";
        section.fault(report, "at_deadline", Fault::new("there is no deadline", remedy));
    }
    Some(Patience { deadline: deadline?, at_deadline: at_deadline? })
}

/// The word for what happens to connections at their deadline.
pub(super) fn at_deadline_word(at: AtDeadline) -> &'static str {
    AT_DEADLINE.iter().find(|(_, known)| *known == at).map_or("", |(word, _)| word)
}

/// `address`, or the list `addresses`.
fn addresses(section: &Section<'_>, report: &mut Report<'_>, taken: &mut Taken) -> Option<Vec<IpAddr>> {
    const ONE: &str = "address";
    const MANY: &str = "addresses";
    if !section.has(MANY) {
        let address = section.required(report, ONE, "\"192.0.2.100\"", values::address);
        taken.claim(section, report, ONE, address.map(|address| address.to_string()));
        return address.map(|address| vec![address]);
    }
    let before = report.count();
    if section.has(ONE) {
        let fault =
            Fault::new("`addresses` is there as well", "write all of them there, and remove this one");
        section.fault(report, ONE, fault);
    }
    let given = section.list(MANY);
    if given.is_empty() || given.len() > ADDRESSES_MAX {
        let what = format!("{} addresses, not 1 to {ADDRESSES_MAX}", given.len());
        let remedy = "write `addresses = [\"192.0.2.100\", \"192.0.2.101\"]`, and more in another [[vip]]";
        section.fault(report, MANY, Fault::new(what, remedy));
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for value in given.into_iter().take(ADDRESSES_MAX) {
        let checked = values::address(value.get_ref()).and_then(|address| {
            if addresses.contains(&address) {
                return Err(Fault::new(format!("{address} is there twice"), "write each once"));
            }
            beside(address, &addresses)?;
            taken.free(section, ONE, &address.to_string()).map(|()| address)
        });
        match checked {
            Ok(address) => addresses.push(address),
            Err(fault) => report.add(&value.span(), section.key(MANY), fault),
        }
    }
    (report.count() == before).then_some(addresses)
}

/// `peers`: the speakers, this node perhaps among them, so that all nodes can have the same list.
fn peers(section: &Section<'_>, report: &mut Report<'_>, addresses: &[IpAddr]) -> Option<Vec<IpAddr>> {
    const KEY: &str = "peers";
    let before = report.count();
    let given = section.list(KEY);
    if section.has(KEY) && !(1..=PEERS_MAX).contains(&given.len()) {
        let what = format!("{} peers, not 1 to {PEERS_MAX}", given.len());
        let remedy =
            "write the addresses of the other speakers, or remove it: the multicast group is used then";
        section.fault(report, KEY, Fault::new(what, remedy));
    }
    let mut peers: Vec<IpAddr> = Vec::new();
    for value in given.into_iter().take(PEERS_MAX) {
        let checked = values::address(value.get_ref()).and_then(|peer| {
            if peers.contains(&peer) {
                return Err(Fault::new(format!("{peer} is there twice"), "write each once"));
            }
            if addresses.contains(&peer) {
                let what = format!("{peer} is the virtual address itself, which moves");
                return Err(Fault::new(what, "write the address that the peer keeps"));
            }
            match addresses.first() {
                Some(first) if first.is_ipv4() != peer.is_ipv4() => {
                    let what = format!("{peer} is not of the family of {first}");
                    Err(Fault::new(what, "advertisements go over the family of the virtual address"))
                }
                _ => Ok(peer),
            }
        });
        match checked {
            Ok(peer) => peers.push(peer),
            Err(fault) => report.add(&value.span(), section.key(KEY), fault),
        }
    }
    if section.has("min_ttl") && !section.has(KEY) {
        let what = "advertisements to the multicast group are refused with any TTL but 255";
        section.fault(report, "min_ttl", Fault::new(what, "remove it, or write `peers`"));
    }
    (report.count() == before).then_some(peers)
}

/// Whether Accept_Mode is spoken of. The services listen on the address: a balancer that holds it and does not accept what is
/// sent there would be a black hole with a good priority.
fn refuse_accept(section: &Section<'_>, report: &mut Report<'_>) -> bool {
    for (key, refuses) in ACCEPTS.iter().filter(|(key, _)| section.has(key)) {
        let given = section.given(report, key, values::boolean).optional().flatten();
        let fault = given.map(|value| match value == *refuses {
            true => Fault::new(
                "a balancer that does not accept what is sent to its virtual address serves nobody",
                "remove it; an access list (`clients`) keeps clients off a service",
            ),
            false => Fault::new("the holder always accepts what is sent to the address", "remove it"),
        });
        if let Some(fault) = fault {
            section.fault(report, key, fault);
        }
    }
    ACCEPTS.iter().any(|(key, _)| section.has(key))
}

/// What does not go into one advertisement with the addresses before it.
fn beside(address: IpAddr, before: &[IpAddr]) -> Result<(), Fault> {
    match before.first() {
        Some(first) if first.is_ipv4() != address.is_ipv4() => {
            let what =
                format!("{first} and {address} are of two families, and one advertisement carries one");
            Err(Fault::new(what, "give the other family a [[vip]] of its own; it may have the same id"))
        }
        _ => Ok(()),
    }
}

fn over_ipv6(addresses: &[IpAddr]) -> bool {
    addresses.first().is_some_and(IpAddr::is_ipv6)
}

/// The word for what a checksum covers.
pub(super) fn checksum_word(form: ChecksumForm) -> &'static str {
    CHECKSUMS.iter().find(|(_, known)| *known == form).map_or("", |(word, _)| word)
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

/// What the protocol does not know, and what no election can be held without.
fn refuse_unfit(section: &Section<'_>, report: &mut Report<'_>, vip: &Vip) {
    let six = over_ipv6(&vip.addresses);
    if vip.protocol == Protocol::Vrrp2 && six {
        let remedy = "write protocol = \"vrrp3\"";
        section.fault(report, "protocol", Fault::new("VRRP version 2 knows no IPv6", remedy));
    }
    if vip.checksum.is_some() && (vip.protocol != Protocol::Vrrp3 || six) {
        let what = "only VRRP version 3 over IPv4 has two forms of the checksum";
        section.fault(report, "checksum", Fault::new(what, "remove it"));
    }
    if vip.mode == Mode::Hold && vip.protocol == Protocol::Carp && vip.password.is_none() {
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
