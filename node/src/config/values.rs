//! Single values: what a name, an address, a duration may look like.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::model::Endpoint;
use super::problem::{Fault, did_you_mean};
use super::section::{shortened, wrong_type};

/// Longest name of a node, virtual address, service or server, in bytes: fits a DNS label and a table column.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest interface name in bytes (Linux: IFNAMSIZ less its closing zero).
pub const INTERFACE_BYTES_MAX: usize = 15;
/// Longest path of a Unix socket in bytes (Linux: `sun_path` less its closing zero).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Longest other path, in bytes (Linux: PATH_MAX less its closing zero).
pub const PATH_BYTES_MAX: usize = 4095;

type Checked<T> = Result<T, Fault>;

fn text<'v>(value: &'v DeValue<'_>, example: &str) -> Checked<&'v str> {
    value.as_str().ok_or_else(|| wrong_type("a string", value, &format!("write it in quotes: {example}")))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", shortened(text))
}

/// A name: letters, digits, `_`, `.`, `-`, first a letter or digit.
pub(super) fn name(value: &DeValue<'_>) -> Checked<String> {
    let name = text(value, "\"web\"")?;
    name_text(name)?;
    Ok(name.to_owned())
}

pub(super) fn name_text(name: &str) -> Checked<()> {
    let remedy = "use letters, digits, `_`, `.` and `-`, first a letter or digit";
    if name.is_empty() {
        return Err(Fault::new("empty name", remedy));
    }
    if name.len() > NAME_BYTES_MAX {
        let what = format!("{} has {} bytes, and {NAME_BYTES_MAX} is the limit", quoted(name), name.len());
        return Err(Fault::new(what, "choose a shorter name"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
        return Err(Fault::new(format!("{} has the character {bad:?}", quoted(name)), remedy));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Fault::new(format!("{} does not start with a letter or digit", quoted(name)), remedy));
    }
    Ok(())
}

/// An interface name as Linux takes it.
pub(super) fn interface(value: &DeValue<'_>) -> Checked<String> {
    let name = text(value, "\"eth0\"")?;
    let remedy = "`ip link` lists the interfaces";
    if name.is_empty() || name.len() > INTERFACE_BYTES_MAX {
        let what = format!("{} has {} bytes, not 1 to {INTERFACE_BYTES_MAX}", quoted(name), name.len());
        return Err(Fault::new(what, remedy));
    }
    if matches!(name, "." | "..") || name.contains(|c: char| c == '/' || c == ':' || !c.is_ascii_graphic()) {
        return Err(Fault::new(format!("{} is not an interface name", quoted(name)), remedy));
    }
    Ok(name.to_owned())
}

/// An absolute path of at most `bytes_max` bytes.
pub(super) fn path(value: &DeValue<'_>, bytes_max: usize) -> Checked<PathBuf> {
    path_text(text(value, "\"/var/lib/cygnet\"")?, bytes_max)
}

fn path_text(path: &str, bytes_max: usize) -> Checked<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        let remedy = "write it from `/` on: the working directory of a daemon is nobody's guess";
        return Err(Fault::new(format!("{} is not an absolute path", quoted(path)), remedy));
    }
    if path.len() > bytes_max {
        let what = format!("the path has {} bytes, and {bytes_max} is the limit", path.len());
        return Err(Fault::new(what, "choose a shorter path"));
    }
    Ok(PathBuf::from(path))
}

/// A plain unicast address, without prefix or port.
pub(super) fn address(value: &DeValue<'_>) -> Checked<IpAddr> {
    let given = text(value, "\"192.0.2.100\"")?;
    let address = given.parse().map_err(|_| bad_address(given))?;
    unicast(address, given)?;
    Ok(address)
}

fn bad_address(given: &str) -> Fault {
    let shown = quoted(given);
    if let Ok(network) = given.parse::<IpNet>() {
        let remedy = format!("write the address alone: \"{}\"", network.addr());
        return Fault::new(format!("{shown} has a prefix length"), remedy);
    }
    if let Ok(socket) = given.parse::<SocketAddr>() {
        return Fault::new(
            format!("{shown} has a port"),
            format!("write the address alone: \"{}\"", socket.ip()),
        );
    }
    let remedy = "write an IPv4 or IPv6 address such as \"192.0.2.100\" or \"2001:db8::100\"";
    Fault::new(format!("{shown} is not an IP address"), remedy)
}

/// Refuses addresses that no single machine has.
fn unicast(address: IpAddr, given: &str) -> Checked<()> {
    let kind = match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6 clothes",
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_multicast() => "a multicast address",
        _ => return Ok(()),
    };
    Err(Fault::new(format!("{} is {kind}", quoted(given)), "write the address of one machine"))
}

/// An address with a port, where something can be reached: unicast, port not 0.
pub(super) fn target(value: &DeValue<'_>) -> Checked<SocketAddr> {
    let (target, given) = socket(value)?;
    unicast(target.ip(), &given)?;
    Ok(target)
}

/// A Unix socket, if the text is one: a path, with or without `unix:` before it.
fn unix(value: &DeValue<'_>) -> Option<Checked<Endpoint>> {
    let given = value.as_str()?;
    let path = given.strip_prefix("unix:").or_else(|| given.starts_with('/').then_some(given))?;
    Some(path_text(path, SOCKET_PATH_BYTES_MAX).map(Endpoint::Unix))
}

/// A place to listen on: as [`target`], but the wildcard is welcome, or a Unix socket.
pub(super) fn listen(value: &DeValue<'_>) -> Checked<Endpoint> {
    if let Some(unix) = unix(value) {
        return unix;
    }
    let (listen, given) = socket(value)?;
    if !listen.ip().is_unspecified() {
        unicast(listen.ip(), &given)?;
    }
    Ok(Endpoint::Inet(listen))
}

/// Where a server is: as [`target`], or a Unix socket.
pub(super) fn server(value: &DeValue<'_>) -> Checked<Endpoint> {
    unix(value).unwrap_or_else(|| target(value).map(Endpoint::Inet))
}

/// Longest host name in bytes (RFC 1035 section 2.3.4, without the root's dot).
pub const HOST_BYTES_MAX: usize = 253;

/// A host name, or an address, as it stands in a certificate.
pub(super) fn host(value: &DeValue<'_>) -> Checked<String> {
    let given = text(value, "\"www.example.org\"")?;
    if given.parse::<IpAddr>().is_err() {
        host_text(given, given)?;
    }
    Ok(given.to_owned())
}

/// A host name, or `*.` and the name below which it may be.
pub(super) fn host_pattern(value: &DeValue<'_>) -> Checked<String> {
    let given = text(value, "\"*.example.org\"")?;
    host_text(given.strip_prefix("*.").unwrap_or(given), given)?;
    Ok(given.to_owned())
}

fn host_text(name: &str, given: &str) -> Checked<()> {
    let allowed = |label: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=63).contains(&label.len()) && label.chars().all(inside)
    };
    if given.len() <= HOST_BYTES_MAX && name.split('.').all(allowed) {
        return Ok(());
    }
    let remedy = "write \"www.example.org\", names beyond ASCII in their xn-- form";
    let star = if name == given { "" } else { ", and `*.` only at the front" };
    Err(Fault::new(format!("{} is not a host name", quoted(given)), format!("{remedy}{star}")))
}

fn socket(value: &DeValue<'_>) -> Checked<(SocketAddr, String)> {
    let given = text(value, "\"192.0.2.100:80\"")?;
    let socket: SocketAddr = given.parse().map_err(|_| bad_socket(given))?;
    if socket.port() == 0 {
        return Err(Fault::new(format!("{} has port 0", quoted(given)), "write a port from 1 to 65535"));
    }
    Ok((socket, given.to_owned()))
}

fn bad_socket(given: &str) -> Fault {
    let shown = quoted(given);
    if let Ok(address) = given.parse::<IpAddr>() {
        let example = SocketAddr::new(address, 80);
        return Fault::new(
            format!("{shown} has no port"),
            format!("write it with the port, such as \"{example}\""),
        );
    }
    if given.contains('/') {
        let remedy = "write address and port, such as \"192.0.2.100:80\"";
        return Fault::new(format!("{shown} has a prefix length"), remedy);
    }
    let host = given.rsplit_once(':').map_or(given, |(host, _)| host);
    let remedy = if host.starts_with(|c: char| c.is_ascii_alphabetic()) && !host.contains(':') {
        "names are not looked up: write the address, such as \"192.0.2.100:80\""
    } else {
        "write \"192.0.2.100:80\" or \"[2001:db8::100]:80\""
    };
    Fault::new(format!("{shown} is not an address with a port"), remedy)
}

/// A whole number within limits.
pub(super) fn integer<T>(value: &DeValue<'_>, range: RangeInclusive<T>, unit: &str) -> Checked<T>
where
    T: TryFrom<i128> + PartialOrd + Display + Copy,
{
    let bounds = || format!("write a whole number from {} to {}", range.start(), range.end());
    let Some(number) = value.as_integer() else {
        return Err(wrong_type("an integer", value, &bounds()));
    };
    let exact = i128::from_str_radix(number.as_str(), number.radix()).ok().and_then(|n| T::try_from(n).ok());
    match exact.filter(|n| range.contains(n)) {
        Some(number) => Ok(number),
        None => Err(Fault::new(format!("{unit} {} is out of range", shortened(number.as_str())), bounds())),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Checked<bool> {
    value.as_bool().ok_or_else(|| wrong_type("true or false", value, "write true or false, without quotes"))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Checked<T> {
    let example = format!("\"{}\"", choices[0].0);
    let given = text(value, &example)?;
    if let Some((_, meaning)) = choices.iter().find(|(word, _)| *word == given) {
        return Ok(*meaning);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let remedy = match did_you_mean(given, &words) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("write one of \"{}\"", words.join("\", \"")),
    };
    Err(Fault::new(format!("{} is unknown", quoted(given)), remedy))
}

/// A duration such as `"1s"`, `"30m"`, `"1h 30m"` within limits.
pub(super) fn duration(value: &DeValue<'_>, range: RangeInclusive<Duration>) -> Checked<Duration> {
    let example = "a number with its unit, such as \"500ms\", \"3s\", \"30m\" or \"1h\"";
    let Some(given) = value.as_str() else {
        return Err(wrong_type("a duration", value, &format!("write {example}")));
    };
    let Ok(duration) = humantime::parse_duration(given) else {
        return Err(Fault::new(format!("{} is not a duration", quoted(given)), format!("write {example}")));
    };
    if !range.contains(&duration) {
        let what = format!("{} is out of range", quoted(given));
        let (low, high) =
            (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
        return Err(Fault::new(what, format!("write a duration from {low} to {high}")));
    }
    Ok(duration)
}

/// As [`duration`], or `"never"`.
pub(super) fn duration_or_never(
    value: &DeValue<'_>,
    range: RangeInclusive<Duration>,
) -> Checked<Option<Duration>> {
    if value.as_str() == Some("never") { Ok(None) } else { duration(value, range).map(Some) }
}
