//! The health check of a service in the cluster's file.

use std::time::Duration;

use toml::de::DeValue;

use super::cluster::SERVERS_MAX;
use super::cross::all_servers;
use super::model::{
    Check, CheckKind, DEFAULT_CHECK_INTERVAL, DEFAULT_CHECK_TIMEOUT, DEFAULT_FALL, DEFAULT_RISE, HttpCheck,
    Service, Statuses, Talk, Transport,
};
use super::problem::{Fault, Report};
use super::section::{Section, shortened, wrong_type};
use super::values;

/// Checks more often than this are load, not knowledge.
pub const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Checks less often than this tell nobody anything.
pub const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Most checks in a row that `rise` and `fall` ask for.
pub const CHECK_ROW_MAX: u32 = 100;
/// Longest `send` and `expect` in bytes: both fit into one datagram everywhere.
pub const CHECK_BYTES_MAX: usize = 512;
/// Longest `path` in bytes.
pub const CHECK_PATH_MAX: usize = 1024;
/// What is written before bytes that are no text.
pub(super) const HEX: &str = "hex:";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Tls,
    Http,
    Udp,
}

/// The words for what is asked.
pub(super) const KINDS: [(&str, Kind); 4] =
    [("tcp", Kind::Tcp), ("tls", Kind::Tls), ("http", Kind::Http), ("udp", Kind::Udp)];

const TIMES: [&str; 6] = ["type", "interval", "fast_interval", "timeout", "rise", "fall"];
const OF_HTTP: [&str; 4] = ["method", "path", "host", "expect"];
const OF_TALK: [&str; 2] = ["send", "expect"];

/// `[service.check]`.
pub(super) fn check(
    service: &Section<'_>,
    report: &mut Report<'_>,
    transport: Transport,
) -> Option<Option<Check>> {
    if !service.has("check") {
        return Some(None);
    }
    let section = &service.table(report, "check")?;
    let usual = if transport == Transport::Udp { Kind::Udp } else { Kind::Tcp };
    let kind = section.given(report, "type", |v| values::choice(v, &KINDS)).or(usual);
    section.refuse_unknown(report, &[&TIMES[..], &OF_HTTP[..], &["send"]].concat());
    let kind = kind?;
    refuse_foreign(section, report, kind);
    let what = match kind {
        Kind::Tcp => talk(section, report).map(CheckKind::Tcp),
        Kind::Tls => talk(section, report).map(CheckKind::Tls),
        Kind::Udp => talk(section, report).map(CheckKind::Udp),
        Kind::Http => http(section, report).map(CheckKind::Http),
    };
    let timed = times(section, report);
    Some(Some(Check { kind: what?, ..timed? }))
}

/// Keys that this type of check has no use for.
fn refuse_foreign(section: &Section<'_>, report: &mut Report<'_>, kind: Kind) {
    let own = if kind == Kind::Http { &OF_HTTP[..] } else { &OF_TALK[..] };
    let word = KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| *word);
    for key in OF_HTTP.iter().chain(&OF_TALK).filter(|key| section.has(key) && !own.contains(key)) {
        let other = if kind == Kind::Http { "tcp" } else { "http" };
        let what = format!("a check of type \"{word}\" has no such thing");
        section.fault(report, key, Fault::new(what, format!("remove it, or write type = \"{other}\"")));
    }
}

/// How often, how long, how many: a check that asks nothing yet.
fn times(section: &Section<'_>, report: &mut Report<'_>) -> Option<Check> {
    let range = CHECK_INTERVAL_MIN..=CHECK_INTERVAL_MAX;
    let every = |v: &DeValue<'_>| values::duration(v, range.clone());
    let interval = section.given(report, "interval", every).or(DEFAULT_CHECK_INTERVAL);
    let fast_interval = section.given(report, "fast_interval", every).optional();
    let ends = |v: &DeValue<'_>| values::duration(v, Duration::from_millis(10)..=CHECK_INTERVAL_MAX);
    let timeout = section.given(report, "timeout", ends).optional();
    let mut row = |key: &str, usual| {
        let count = |v: &DeValue<'_>| values::integer(v, 1..=CHECK_ROW_MAX, "number of checks");
        section.given(report, key, count).or(usual)
    };
    let (rise, fall) = (row("rise", DEFAULT_RISE), row("fall", DEFAULT_FALL));
    let (interval, fast_interval, timeout) = (interval?, fast_interval?, timeout?);
    if timeout.is_some_and(|timeout| timeout > interval) {
        let what = "a check may take longer than the time to the next one";
        section.fault(report, "timeout", Fault::new(what, "write no more than `interval`"));
    }
    if fast_interval.is_some_and(|fast| fast > interval) {
        let what = "it is slower than `interval`";
        section.fault(report, "fast_interval", Fault::new(what, "write less, or remove it"));
    }
    let timeout = timeout.unwrap_or(DEFAULT_CHECK_TIMEOUT.min(interval));
    let nothing = CheckKind::Tcp(Talk::default());
    Some(Check { kind: nothing, interval, fast_interval, timeout, rise: rise?, fall: fall? })
}

fn talk(section: &Section<'_>, report: &mut Report<'_>) -> Option<Talk> {
    let send = section.given(report, "send", bytes).or(Vec::new());
    let expect = section.given(report, "expect", bytes).or(Vec::new());
    Some(Talk { send: send?, expect: expect? })
}

fn http(section: &Section<'_>, report: &mut Report<'_>) -> Option<HttpCheck> {
    let usual = HttpCheck::default();
    let methods = [("GET", false), ("HEAD", true)];
    let head = section.given(report, "method", |v| values::choice(v, &methods)).or(usual.head);
    let path = section.given(report, "path", path).or(usual.path);
    let host = section.given(report, "host", values::host).optional();
    let expect = section.given(report, "expect", statuses).or(usual.expect);
    Some(HttpCheck { head: head?, path: path?, host: host?, expect: expect? })
}

/// A number, a text with a list, or a list of both.
fn statuses(value: &DeValue<'_>) -> Result<Statuses, Fault> {
    let remedy = "write statuses from 200 to 599, such as \"200-399\" or \"200-299,401\"";
    let element = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        other => Err(wrong_type("a string", other, remedy)),
    };
    let text = match value {
        DeValue::Array(elements) => {
            let all = elements.iter().map(|one| element(one.get_ref())).collect::<Result<Vec<_>, _>>();
            all?.join(",")
        }
        one => element(one)?,
    };
    let wrong =
        |error| Fault::new(format!("\"{}\" is no list of statuses: {error}", shortened(&text)), remedy);
    text.parse().map_err(wrong)
}

/// The target of a request in origin form (RFC 9112 section 3.2.1).
fn path(value: &DeValue<'_>) -> Result<String, Fault> {
    let remedy = "write it from `/` on, such as \"/health\", what is not ASCII as %XX";
    let path = value.as_str().ok_or_else(|| wrong_type("a string", value, remedy))?;
    let printable = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !path.starts_with('/') || !printable || path.len() > CHECK_PATH_MAX {
        return Err(Fault::new(format!("\"{}\" is not the path of a request", shortened(path)), remedy));
    }
    Ok(path.to_owned())
}

/// A text, or bytes as `hex:` and their digits.
fn bytes(value: &DeValue<'_>) -> Result<Vec<u8>, Fault> {
    let remedy = "write a text such as \"PING\\r\\n\", or bytes as \"hex:0a1b\"";
    let text = value.as_str().ok_or_else(|| wrong_type("a string", value, remedy))?;
    let bytes = match text.strip_prefix(HEX) {
        None => text.as_bytes().to_vec(),
        Some(digits) => unhex(digits).ok_or_else(|| {
            let what = format!("\"{}\" is not made of pairs of hexadecimal digits", shortened(text));
            Fault::new(what, remedy)
        })?,
    };
    if bytes.is_empty() || bytes.len() > CHECK_BYTES_MAX {
        let what = format!("{} bytes, not 1 to {CHECK_BYTES_MAX}", bytes.len());
        return Err(Fault::new(what, remedy));
    }
    Ok(bytes)
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some((value(high)? << 4) | value(low)?),
        _ => None,
    });
    pairs.collect()
}

/// What `send` and `expect` are written as.
pub(super) fn written(bytes: &[u8]) -> String {
    let plain = |byte: &u8| (b' '..=b'~').contains(byte) || matches!(byte, b'\r' | b'\n' | b'\t');
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(plain) && !text.starts_with(HEX) => text.to_owned(),
        _ => bytes.iter().fold(HEX.to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

/// What only shows beside the servers.
pub(super) fn refuse_contradictions(section: &Section<'_>, service: &Service, report: &mut Report<'_>) {
    let Some(check) = &service.check else {
        return refuse_idle_ports(section, report);
    };
    let fault = match &check.kind {
        CheckKind::Udp(_) if service.transport == Transport::Tcp => {
            Some(Fault::new("the service carries no datagrams", "write type = \"tcp\" or type = \"http\""))
        }
        CheckKind::Udp(talk) if talk.send.is_empty() => {
            let what = "nobody answers a datagram that was never sent";
            Some(Fault::new(what, "add send = \"...\", or write type = \"tcp\""))
        }
        CheckKind::Tls(_) => all_servers(service).find(|server| server.tls.is_none()).map(|server| {
            let what = format!("nobody says whose certificate server {} must have", server.name);
            Fault::new(what, "add [service.server.tls], or write type = \"tcp\"")
        }),
        _ => None,
    };
    if let Some(fault) = fault {
        section.fault(report, "check", fault);
    }
    let unix =
        |server: &&super::model::Server| server.check_port.is_some() && server.address.inet().is_none();
    if let Some(server) = all_servers(service).find(unix) {
        let what = format!("server {} is a Unix socket, which has no ports", server.name);
        section.fault(report, "check", Fault::new(what, "remove its `check_port`"));
    }
}

/// A port for checks where nothing is checked.
fn refuse_idle_ports(section: &Section<'_>, report: &mut Report<'_>) {
    // Faults were reported when the tables were first read.
    let mut quiet = Report::new("", "");
    let spares = ["emergency", "abuse"].map(|key| section.table(&mut quiet, key));
    let servers = section.tables(&mut quiet, "server", "name", SERVERS_MAX);
    for server in servers.into_iter().chain(spares.into_iter().flatten()).filter(|one| one.has("check_port"))
    {
        let fault = Fault::new("the service has no health check", "add [service.check], or remove it");
        server.fault(report, "check_port", fault);
    }
}
