//! TLS and HTTP of a service, and TLS towards a server, in the cluster's file.

use std::path::PathBuf;

use toml::de::DeValue;

use super::model::{Forwarded, Http, TlsConnect, TlsListen, TlsVersion};
use super::problem::{Fault, Report};
use super::section::{Section, shortened, wrong_type};
use super::values::{self, PATH_BYTES_MAX};

/// Most protocols that ALPN offers.
pub const ALPN_MAX: usize = 16;
/// Longest name of an ALPN protocol, in bytes (RFC 7301: its length is one byte).
pub const ALPN_BYTES_MAX: usize = 255;
/// Longest list of ciphers, and longest value of HSTS, in bytes.
pub const WORDS_BYTES_MAX: usize = 4096;

/// The words for versions of TLS.
pub(super) const VERSIONS: [(&str, TlsVersion); 4] = [
    ("1.2", TlsVersion::Tls12),
    ("1.3", TlsVersion::Tls13),
    ("1.1", TlsVersion::Tls11),
    ("1.0", TlsVersion::Tls10),
];
/// The words for what happens to `X-Forwarded-For`.
pub(super) const FORWARDEDS: [(&str, Forwarded); 4] = [
    ("replace", Forwarded::Replace),
    ("append", Forwarded::Append),
    ("if-absent", Forwarded::IfAbsent),
    ("keep", Forwarded::Keep),
];

/// `[service.http]`.
pub(super) fn http(service: &Section<'_>, report: &mut Report<'_>) -> Option<Option<Http>> {
    if !service.has("http") {
        return Some(None);
    }
    let section = service.table(report, "http")?;
    section.refuse_unknown(report, &["forwarded", "hsts", "lenient"]);
    let forwarded =
        section.given(report, "forwarded", |v| values::choice(v, &FORWARDEDS)).or(Forwarded::Keep);
    let hsts = section.given(report, "hsts", hsts).optional();
    let lenient = section.given(report, "lenient", values::boolean).or(false);
    let hsts = hsts?;
    if hsts.is_some() && !service.has("tls") {
        let what = "clients believe this header only when it comes over TLS";
        section.fault(report, "hsts", Fault::new(what, "add [service.tls], or remove it"));
    }
    Some(Some(Http { forwarded: forwarded?, hsts, lenient: lenient? }))
}

/// RFC 6797 section 6.1: directives, `max-age` among them.
fn hsts(value: &DeValue<'_>) -> Result<String, Fault> {
    let remedy = "write hsts = \"max-age=63072000\"";
    let value = value.as_str().ok_or_else(|| wrong_type("a string", value, remedy))?;
    let is_age = |directive: &str| {
        let age = directive.trim().strip_prefix("max-age=");
        age.is_some_and(|age| !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let printable = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !printable || value.len() > WORDS_BYTES_MAX || !value.split(';').any(is_age) {
        let what = format!("\"{}\" does not say for how many seconds", shortened(value));
        return Err(Fault::new(what, remedy));
    }
    Ok(value.to_owned())
}

fn file(section: &Section<'_>, report: &mut Report<'_>, key: &str) -> Option<Option<PathBuf>> {
    section.given(report, key, |v| values::path(v, PATH_BYTES_MAX)).optional()
}

/// `[service.tls]`.
pub(super) fn tls(service: &Section<'_>, report: &mut Report<'_>) -> Option<Option<TlsListen>> {
    if !service.has("tls") {
        return Some(None);
    }
    let section = &service.table(report, "tls")?;
    let files = ["certificate", "key", "chain", "names", "ocsp", "client_authorities"];
    let others = [
        "client_authorities_directory",
        "client_required",
        "oldest",
        "newest",
        "ciphers",
        "prefer_own_order",
        "alpn",
    ];
    section.refuse_unknown(report, &[&files[..], &others[..]].concat());
    let certificate = section
        .required(report, "certificate", "\"/etc/cygnet/web.crt\"", |v| values::path(v, PATH_BYTES_MAX));
    let [key, chain, names, ocsp, authorities] =
        ["key", "chain", "names", "ocsp", "client_authorities"].map(|key| file(section, report, key));
    let directory = file(section, report, "client_authorities_directory");
    let required = section.given(report, "client_required", values::boolean).or(false);
    let oldest = section.given(report, "oldest", version).or(TlsVersion::Tls12);
    let newest = section.given(report, "newest", version).optional();
    let ciphers = section.given(report, "ciphers", ciphers).optional();
    let prefer_own_order = section.given(report, "prefer_own_order", values::boolean).or(true);
    let alpn = alpn(section, report);
    let tls = TlsListen {
        certificate: certificate?,
        key: key?,
        chain: chain?,
        names: names?,
        ocsp: ocsp?,
        client_authorities: authorities?,
        client_authorities_directory: directory?,
        client_required: required?,
        oldest: oldest?,
        newest: newest?,
        ciphers: ciphers?,
        prefer_own_order: prefer_own_order?,
        alpn,
    };
    refuse_contradictions(section, report, &tls);
    Some(Some(tls))
}

fn refuse_contradictions(section: &Section<'_>, report: &mut Report<'_>, tls: &TlsListen) {
    let no_authorities = tls.client_authorities.is_none() && tls.client_authorities_directory.is_none();
    if tls.client_required && no_authorities && tls.names.is_none() {
        let what = "no authority of client certificates is named, so no client could pass";
        let remedy = "add client_authorities = \"/etc/cygnet/clients.crt\"";
        section.fault(report, "client_required", Fault::new(what, remedy));
    }
    if tls.newest.is_some_and(|newest| newest < tls.oldest) {
        let what = "the newest protocol is older than the oldest";
        section.fault(report, "newest", Fault::new(what, "write \"1.3\", or remove it"));
    }
}

fn version(value: &DeValue<'_>) -> Result<TlsVersion, Fault> {
    values::choice(value, &VERSIONS)
}

fn ciphers(value: &DeValue<'_>) -> Result<String, Fault> {
    let remedy = "write a list in OpenSSL's words, such as \"ECDHE+AESGCM:ECDHE+CHACHA20\"";
    let list = value.as_str().ok_or_else(|| wrong_type("a string", value, remedy))?;
    if list.is_empty() || list.len() > WORDS_BYTES_MAX || !list.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::new(format!("\"{}\" is not a list of ciphers", shortened(list)), remedy));
    }
    Ok(list.to_owned())
}

fn alpn(section: &Section<'_>, report: &mut Report<'_>) -> Vec<String> {
    let elements = section.list("alpn");
    if elements.len() > ALPN_MAX {
        let what = format!("{} protocols, and {ALPN_MAX} is the limit", elements.len());
        section.fault(report, "alpn", Fault::new(what, "offer what the servers speak"));
    }
    let mut all = Vec::new();
    for element in elements.into_iter().take(ALPN_MAX) {
        match element.get_ref().as_str() {
            Some(name) if (1..=ALPN_BYTES_MAX).contains(&name.len()) => all.push(name.to_owned()),
            _ => {
                let fault = Fault::new("not the name of a protocol", "write alpn = [\"h2\", \"http/1.1\"]");
                report.add(&element.span(), section.key("alpn"), fault);
            }
        }
    }
    all
}

/// `[service.server.tls]`.
pub(super) fn towards_server(server: &Section<'_>, report: &mut Report<'_>) -> Option<Option<TlsConnect>> {
    if !server.has("tls") {
        return Some(None);
    }
    let section = server.table(report, "tls")?;
    section.refuse_unknown(report, &["name", "authorities", "insecure", "certificate"]);
    let name = section.given(report, "name", values::host).optional();
    let authorities = file(&section, report, "authorities");
    let insecure = section.given(report, "insecure", values::boolean).or(false);
    let certificate = file(&section, report, "certificate");
    let (authorities, insecure) = (authorities?, insecure?);
    if insecure && authorities.is_some() {
        let what = "authorities are named, and any certificate is taken";
        section.fault(report, "insecure", Fault::new(what, "remove one of the two"));
    }
    Some(Some(TlsConnect { name: name?, authorities, insecure, certificate: certificate? }))
}
