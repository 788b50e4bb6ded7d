//! What a change of the cluster's configuration changes, as people read it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cluster::protocol_word;
use super::model::{Algorithm, ClusterConfig, Server, Service, Vip};
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

/// What differs between two configurations: virtual addresses, then services with their servers, each in the order
/// of the old configuration and then of the new one. Empty when both mean the same.
#[must_use]
pub fn diff(before: &ClusterConfig, after: &ClusterConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    objects(&mut changes, "vip", (&before.vips, &after.vips), |vip| &vip.name, vip_fields);
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
    let value = |fields: &Fields, key: &str| {
        fields.iter().find(|(field, _)| *field == key).map(|(_, value)| value.clone())
    };
    let keys = if before.is_empty() { &after } else { &before };
    let fields: Vec<FieldChange> = keys
        .iter()
        .map(|(key, _)| FieldChange {
            field: (*key).to_owned(),
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
    vec![
        ("address", vip.address.to_string()),
        ("protocol", protocol_word(vip.protocol).to_owned()),
        ("id", vip.id.to_string()),
        ("mode", if vip.mode == Mode::Hold { "hold" } else { "watch" }.to_owned()),
        ("interval", duration(vip.interval)),
        ("preempt", vip.preempt.to_string()),
        ("password", vip.password.as_ref().map_or_else(|| NONE.to_owned(), |word| format!("={word}"))),
    ]
}

fn service_fields(service: &Service) -> Fields {
    let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
    vec![
        ("listen", listen.join(" ")),
        ("algorithm", algorithm_word(service.algorithm).to_owned()),
        ("sticky", service.sticky.map_or_else(|| NONE.to_owned(), duration)),
        ("connect_timeout", duration(service.connect_timeout)),
        ("blacklist", duration(service.blacklist)),
        ("idle_timeout", service.idle_timeout.map_or_else(|| "never".to_owned(), duration)),
    ]
}

fn server_fields(server: &Server) -> Fields {
    vec![
        ("address", server.address.to_string()),
        ("weight", server.weight.to_string()),
        ("max", server.max.to_string()),
    ]
}

/// The word for an algorithm in files and tables.
#[must_use]
pub fn algorithm_word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RoundRobin => "round-robin",
        Algorithm::LeastConnections => "least-connections",
        Algorithm::Priority => "priority",
        Algorithm::SourceHash { with_port: false } => "source-hash",
        Algorithm::SourceHash { with_port: true } => "source-port-hash",
        Algorithm::Pen(_) => "pen",
    }
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
