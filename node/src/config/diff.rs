//! What a change of the cluster's configuration changes, as people read it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::written;
use super::model::{
    Acl, Algorithm, Check, CheckKind, ClusterConfig, Direct, FastClose, Forwarded, Http, Place, Server,
    Service, TlsConnect, TlsListen, TlsVersion, Transport, Vip,
};
use super::secure::{FORWARDEDS, VERSIONS};
use super::service::{ALGORITHMS, FAST_CLOSES, FOREVER};
use super::vip::{MIN_TTL, at_deadline_word, checksum_word, protocol_word};
use cygnet_ha::vip::Mode;

/// One object that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The object: `vip www`, `service web`, `service web, server s1`.
    pub object: String,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Its fields: all of them when it was added or removed, else those that differ.
    pub fields: Vec<FieldChange>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Only in the new configuration.
    Added,
    /// Only in the old one.
    Removed,
    /// In both, and different.
    Changed,
}

/// One field that differs. Passwords show as `(set)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The key.
    pub field: String,
    /// Its value before; absent when the object is new.
    pub before: Option<String>,
    /// Its value after; absent when the object is gone.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    /// One line: `+ service web: listen 192.0.2.100:80, ...`, `~ service web: sticky 30m -> 1h`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        write!(out, "{sign} {}", self.object)?;
        let mut separator = ": ";
        for FieldChange { field, before, after } in &self.fields {
            match (before, after) {
                (Some(before), Some(after)) => write!(out, "{separator}{field} {before} -> {after}")?,
                (Some(value), None) | (None, Some(value)) => write!(out, "{separator}{field} {value}")?,
                (None, None) => continue,
            }
            separator = ", ";
        }
        Ok(())
    }
}

/// How much differs between two configurations, counted in objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSize {
    /// Objects that are new.
    pub added: usize,
    /// Objects that are in both and differ.
    pub changed: usize,
    /// Objects that are gone.
    pub removed: usize,
}

impl ChangeSize {
    /// Counts changes.
    #[must_use]
    pub fn of(changes: &[Change]) -> Self {
        let count = |kind| changes.iter().filter(|change| change.kind == kind).count();
        Self {
            added: count(ChangeKind::Added),
            changed: count(ChangeKind::Changed),
            removed: count(ChangeKind::Removed),
        }
    }
}

impl fmt::Display for ChangeSize {
    /// `+2 ~1 -0`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "+{} ~{} -{}", self.added, self.changed, self.removed)
    }
}

/// What differs between two configurations: virtual addresses, access lists, then services with their servers, each in the order
/// of the old configuration and then of the new one. Empty when both mean the same.
#[must_use]
pub fn diff(before: &ClusterConfig, after: &ClusterConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    objects(&mut changes, "vip", (&before.vips, &after.vips), |vip| &vip.name, vip_fields);
    objects(&mut changes, "acl", (&before.acls, &after.acls), |acl| &acl.name, acl_fields);
    for service in &before.services {
        let heir = after.services.iter().find(|heir| heir.name == service.name);
        service_changes(&mut changes, &service.name, Some(service), heir);
    }
    for service in &after.services {
        if !before.services.iter().any(|old| old.name == service.name) {
            service_changes(&mut changes, &service.name, None, Some(service));
        }
    }
    changes
}

fn service_changes(changes: &mut Vec<Change>, name: &str, before: Option<&Service>, after: Option<&Service>) {
    let prefix = format!("service {name}");
    compare(changes, prefix.clone(), before.map(service_fields), after.map(service_fields));
    let servers =
        |service: Option<&Service>| service.map_or_else(Vec::new, |service| service.servers.clone());
    for (key, spare) in [("emergency", emergency as Spare), ("abuse", abuse)] {
        let fields = |service: Option<&Service>| service.and_then(spare).map(server_fields);
        let (old, new) = (fields(before), fields(after));
        if old.is_some() || new.is_some() {
            compare(changes, format!("{prefix}, {key}"), old, new);
        }
    }
    let (before, after) = (servers(before), servers(after));
    objects(changes, &format!("{prefix}, server"), (&before, &after), |server| &server.name, server_fields);
    let order = |of: &[Server], other: &[Server]| -> Vec<String> {
        let common = of.iter().filter(|server| other.iter().any(|twin| twin.name == server.name));
        common.map(|server| server.name.clone()).collect()
    };
    let (old, new) = (order(&before, &after), order(&after, &before));
    if old != new {
        let field = FieldChange {
            field: "order".to_owned(),
            before: Some(old.join(", ")),
            after: Some(new.join(", ")),
        };
        changes.push(Change {
            object: format!("{prefix}, servers"),
            kind: ChangeKind::Changed,
            fields: vec![field],
        });
    }
}

type Spare = fn(&Service) -> Option<&Server>;

fn emergency(service: &Service) -> Option<&Server> {
    service.emergency.as_ref()
}

fn abuse(service: &Service) -> Option<&Server> {
    service.abuse.as_ref()
}

type Fields = Vec<(&'static str, String)>;

fn objects<T>(
    changes: &mut Vec<Change>,
    kind: &str,
    (before, after): (&[T], &[T]),
    name: impl Fn(&T) -> &String,
    fields: impl Fn(&T) -> Fields,
) {
    for old in before {
        let heir = after.iter().find(|heir| name(heir) == name(old));
        compare(changes, format!("{kind} {}", name(old)), Some(fields(old)), heir.map(&fields));
    }
    for new in after {
        if !before.iter().any(|old| name(old) == name(new)) {
            compare(changes, format!("{kind} {}", name(new)), None, Some(fields(new)));
        }
    }
}

fn compare(changes: &mut Vec<Change>, object: String, before: Option<Fields>, after: Option<Fields>) {
    let kind = match (&before, &after) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        _ => ChangeKind::Changed,
    };
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    // A field that only one side has says for the other that it is not set.
    let value = |fields: &Fields, key: &str| {
        let given = fields.iter().find(|(field, _)| *field == key).map(|(_, value)| value.clone());
        given.or_else(|| (!fields.is_empty()).then(|| NONE.to_owned()))
    };
    let mut keys: Vec<&str> = before.iter().map(|(key, _)| *key).collect();
    keys.extend(after.iter().map(|(key, _)| *key).filter(|key| !before.iter().any(|(old, _)| old == key)));
    let fields: Vec<FieldChange> = keys
        .into_iter()
        .map(|key| FieldChange {
            field: key.to_owned(),
            before: value(&before, key),
            after: value(&after, key),
        })
        .filter(|field| field.before != field.after)
        .map(redact)
        .collect();
    if !fields.is_empty() {
        changes.push(Change { object, kind, fields });
    }
}

/// A password is compared, never shown.
fn redact(mut change: FieldChange) -> FieldChange {
    if change.field == "password" {
        for value in [&mut change.before, &mut change.after].into_iter().flatten() {
            if value.starts_with('=') {
                "(set)".clone_into(value);
            }
        }
        if change.before == change.after {
            change.after = Some("(another)".to_owned());
        }
    }
    change
}

const NONE: &str = "none";

fn vip_fields(vip: &Vip) -> Fields {
    let mut fields = vec![
        ("address", joined(&vip.addresses)),
        ("protocol", protocol_word(vip.protocol).to_owned()),
        ("id", vip.id.to_string()),
        ("mode", if vip.mode == Mode::Hold { "hold" } else { "watch" }.to_owned()),
        ("interval", duration(vip.interval)),
        ("preempt", vip.preempt.to_string()),
        ("password", vip.password.as_ref().map_or_else(|| NONE.to_owned(), |word| format!("={word}"))),
    ];
    set(&mut fields, !vip.preempt_delay.is_zero(), "preempt_delay", duration(vip.preempt_delay));
    if let Some(deadline) = vip.patience.deadline {
        fields.push(("drain_deadline", duration(deadline)));
        fields.push(("at_deadline", at_deadline_word(vip.patience.at_deadline).to_owned()));
    }
    given(&mut fields, "checksum", vip.checksum.map(checksum_word));
    set(&mut fields, !vip.peers.is_empty(), "peers", joined(&vip.peers));
    set(&mut fields, vip.min_ttl != MIN_TTL, "min_ttl", vip.min_ttl);
    given(&mut fields, "sync_group", vip.sync_group.as_ref());
    fields
}

fn joined(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(" ")
}

fn acl_fields(acl: &Acl) -> Fields {
    let entries: Vec<String> = acl.entries.iter().map(ToString::to_string).collect();
    vec![("entries", entries.join("; "))]
}

/// Adds a field that is not at its default.
fn set(fields: &mut Fields, is_set: bool, key: &'static str, value: impl fmt::Display) {
    if is_set {
        fields.push((key, value.to_string()));
    }
}

fn given(fields: &mut Fields, key: &'static str, value: Option<impl fmt::Display>) {
    if let Some(value) = value {
        fields.push((key, value.to_string()));
    }
}

fn service_fields(service: &Service) -> Fields {
    let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
    let mut fields = Vec::new();
    set(&mut fields, service.transport == Transport::Udp, "transport", "udp");
    if let Some(direct) = &service.dsr {
        // What is about connections says nothing here.
        direct_fields(&mut fields, direct);
        fields.push(("algorithm", algorithm_word(service.algorithm).to_owned()));
        fields.push(("blacklist", duration(service.blacklist)));
        given(&mut fields, "source", service.source);
        service.check.iter().for_each(|check| check_fields(&mut fields, check));
        return fields;
    }
    fields.extend([
        ("listen", if listen.is_empty() { NONE.to_owned() } else { listen.join(" ") }),
        ("algorithm", algorithm_word(service.algorithm).to_owned()),
        ("sticky", service.sticky.map_or_else(|| NONE.to_owned(), sticky)),
        ("connect_timeout", duration(service.connect_timeout)),
        ("blacklist", duration(service.blacklist)),
        ("idle_timeout", service.idle_timeout.map_or_else(|| "never".to_owned(), duration)),
    ]);
    set(&mut fields, service.stubborn, "stubborn", true);
    given(&mut fields, "clients", service.clients.as_ref());
    let fast_close = service.fast_close;
    set(&mut fields, fast_close != FastClose::Off, "fast_close", word(&FAST_CLOSES, &fast_close));
    set(&mut fields, service.keepalive, "keepalive", true);
    set(&mut fields, service.transparent, "transparent", true);
    given(&mut fields, "source", service.source);
    set(&mut fields, service.dummy, "dummy", true);
    set(&mut fields, service.idlers > 0, "idlers", service.idlers);
    service.check.iter().for_each(|check| check_fields(&mut fields, check));
    service.http.iter().for_each(|http| http_fields(&mut fields, http));
    service.tls.iter().for_each(|tls| tls_fields(&mut fields, tls));
    let route = |route: &super::model::Route| format!("{} to {}", route.names.join(" "), route.service);
    let routes: Vec<String> = service.routes.iter().map(route).collect();
    set(&mut fields, !routes.is_empty(), "routes", routes.join("; "));
    fields
}

fn check_fields(fields: &mut Fields, check: &Check) {
    let Check { kind, interval, fast_interval, timeout, rise, fall } = check;
    fields.extend([("check", kind.word().to_owned()), ("check.interval", duration(*interval))]);
    given(fields, "check.fast_interval", fast_interval.map(duration));
    fields.extend([("check.timeout", duration(*timeout)), ("check.rise", rise.to_string())]);
    fields.push(("check.fall", fall.to_string()));
    match kind {
        CheckKind::Http(http) => {
            fields.push(("check.method", if http.head { "HEAD" } else { "GET" }.to_owned()));
            fields.push(("check.path", http.path.clone()));
            given(fields, "check.host", http.host.as_ref());
            fields.push(("check.expect", http.expect.to_string()));
        }
        CheckKind::Tcp(talk) | CheckKind::Tls(talk) | CheckKind::Udp(talk) => {
            let shown = |bytes: &[u8]| written(bytes).escape_debug().to_string();
            set(fields, !talk.send.is_empty(), "check.send", shown(&talk.send));
            set(fields, !talk.expect.is_empty(), "check.expect", shown(&talk.expect));
        }
    }
}

fn direct_fields(fields: &mut Fields, direct: &Direct) {
    fields.push(("dsr", direct.to_string()));
    match &direct.place {
        Place::Vip(vip) => fields.push(("dsr.vip", vip.clone())),
        Place::Interface(interface) => fields.push(("dsr.interface", interface.clone())),
    }
    given(fields, "dsr.tarpit", direct.tarpit.as_ref());
}

fn http_fields(fields: &mut Fields, http: &Http) {
    let Http { forwarded, hsts, lenient } = http;
    fields.push(("http", "on".to_owned()));
    set(fields, *forwarded != Forwarded::Keep, "http.forwarded", word(&FORWARDEDS, forwarded));
    given(fields, "http.hsts", hsts.as_ref());
    set(fields, *lenient, "http.lenient", true);
}

fn tls_fields(fields: &mut Fields, tls: &TlsListen) {
    let show = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    fields.push(("tls.certificate", tls.certificate.display().to_string()));
    given(fields, "tls.key", show(&tls.key));
    given(fields, "tls.chain", show(&tls.chain));
    given(fields, "tls.names", show(&tls.names));
    given(fields, "tls.ocsp", show(&tls.ocsp));
    given(fields, "tls.client_authorities", show(&tls.client_authorities));
    given(fields, "tls.client_authorities_directory", show(&tls.client_authorities_directory));
    set(fields, tls.client_required, "tls.client_required", true);
    set(fields, tls.oldest != TlsVersion::Tls12, "tls.oldest", word(&VERSIONS, &tls.oldest));
    given(fields, "tls.newest", tls.newest.as_ref().map(|newest| word(&VERSIONS, newest)));
    given(fields, "tls.ciphers", tls.ciphers.as_ref());
    set(fields, !tls.prefer_own_order, "tls.prefer_own_order", false);
    set(fields, !tls.alpn.is_empty(), "tls.alpn", tls.alpn.join(" "));
}

fn server_fields(server: &Server) -> Fields {
    let mut fields = vec![
        ("address", server.address.to_string()),
        ("weight", server.weight.to_string()),
        ("max", server.max.to_string()),
    ];
    set(&mut fields, server.priority != 0, "priority", server.priority);
    set(&mut fields, server.hard > 0, "hard", server.hard);
    given(&mut fields, "acl", server.acl.as_ref());
    given(&mut fields, "check_port", server.check_port);
    if let Some(TlsConnect { name, authorities, insecure, certificate }) = &server.tls {
        fields.push(("tls", "on".to_owned()));
        given(&mut fields, "tls.name", name.as_ref());
        given(&mut fields, "tls.authorities", authorities.as_ref().map(|path| path.display()));
        set(&mut fields, *insecure, "tls.insecure", true);
        given(&mut fields, "tls.certificate", certificate.as_ref().map(|path| path.display()));
    }
    fields
}

/// The word of the file for a value.
fn word<T: PartialEq>(words: &[(&'static str, T)], wanted: &T) -> &'static str {
    words.iter().find(|(_, meaning)| meaning == wanted).map_or("", |(word, _)| *word)
}

/// The word for an algorithm in files and tables.
#[must_use]
pub fn algorithm_word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Pen(_) => "pen",
        other => word(&ALGORITHMS, &other),
    }
}

fn sticky(time: Duration) -> String {
    if time == Duration::MAX { FOREVER.to_owned() } else { duration(time) }
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
