//! The JSON of each answer, word for word: programs depend on it. Adding a field changes these texts; renaming or
//! removing one needs another schema.

use cygnet_ha::vip::Role;
use serde::Serialize;
use serde_json::{Value, json};

use super::fake::{facts, vip};
use crate::config::diff::{Change, ChangeKind, ChangeSize, FieldChange};
use crate::control::status::{NodeReport, REPORT_BYTES_MAX, Status};
use crate::control::types::{
    Admin, ApiError, Applied, Clients, ConfigDiff, ConfigEntry, ConfigHistory, ConfigVersion, Confirmation,
    ErrorCode, NodeApplied, Reply, ServerView, Servers, SetServer,
};

fn shape(body: impl Serialize) -> Value {
    serde_json::to_value(Reply::new(body)).unwrap()
}

#[test]
fn a_vip_keeps_its_shape() {
    let expected = json!({
        "name": "www", "address": "192.0.2.100", "addresses": ["192.0.2.100"], "interface": "eth0", "protocol": "vrrp3", "mode": "hold", "id": 51,
        "role": "active", "reason": "no other speaker", "role_age_ms": 62000, "priority": 150, "holder": "10.0.0.1",
        "holder_priority": 150, "holder_heard_ms": null, "rivals": [], "address_present": true, "adverts_heard": 4,
        "adverts_sent": 62, "discarded": [["checksum", 2]],
        "wire": {"holder_since_ms": null, "interval_us": null, "jitter_us": null, "longest_us": null, "missed": 0,
                 "answers": [], "anomalies": [], "segment": []},
        "moved": {"left": null, "sends_on": null, "rules": []}
    });
    assert_eq!(serde_json::to_value(vip()).unwrap(), expected);
}

#[test]
fn the_status_keeps_its_shape() {
    let mut facts = facts();
    facts.vips.clear();
    facts.quorum.reached = false;
    let expected = json!({
        "schema": 1,
        "verdict": "DEGRADED",
        "summary": "active=none standby=lb1(ready),lb2(ready) quorum=2/2 config=v41 in sync",
        "reasons": [{
            "verdict": "DEGRADED",
            "what": "no quorum: 2 of 2 voters connected, 2 needed; traffic goes on, changes are refused",
            "remedy": "start the missing nodes"
        }],
        "node": "lb1", "cluster": "demo", "program": "0.1.0", "uptime_ms": 3723000,
        "ready": true, "ready_reason": "all listeners are up", "insecure": false,
        "config": {"running": 41, "committed": 41, "problem": null, "confirmation": null},
        "quorum": {"reached": false, "connected": 2, "voters": 2, "needed": 2, "leader": "lb1", "stopped": null, "term": 3},
        "members": [
            {"id": 1, "name": "lb1", "address": "10.0.0.1:7300", "witness": false, "here": true, "connected": true,
             "heard_age_ms": null, "report": null, "report_age_ms": null},
            {"id": 2, "name": "lb2", "address": "10.0.0.2:7300", "witness": false, "here": false, "connected": true,
             "heard_age_ms": 120,
             "report": {"ready": true, "ready_reason": "all listeners are up", "config_version": 41,
                        "roles": {"www": "standby"}, "connections": 0, "servers_usable": 2, "unix_ms": 0, "moves": []},
             "report_age_ms": 300}
        ],
        "vips": [],
        "services": [{
            "name": "web", "listen": ["192.0.2.100:80"], "listen_problems": [], "connections": 12, "total": 3456,
            "failed": 1, "servers": 2, "servers_usable": 2, "servers_drained": 0, "servers_failed": []
        }],
        "soft": {"clients": 7, "clients_max": 65536, "evicted": 0, "busy": 0, "queued": 0, "queued_max": 4096, "dropped": 0}
    });
    let status = Status::of(facts);
    assert_eq!(shape(&status), expected);
    let back: Reply<Status> = serde_json::from_value(expected).unwrap();
    assert_eq!(back.body, status);
}

#[test]
fn errors_keep_their_shape() {
    let error = ApiError::new(ErrorCode::NoQuorum, "1 of 2", "start lb2");
    assert_eq!(
        shape(error),
        json!({"schema": 1, "error": "1 of 2", "remedy": "start lb2", "code": "no_quorum"})
    );
    let problems = crate::config::parse_cluster("x = 1", "c.toml").unwrap_err();
    assert_eq!(
        shape(ApiError::invalid(problems)),
        json!({
            "schema": 1, "error": "the configuration has a problem", "remedy": "", "code": "invalid",
            "problems": [{"file": "c.toml", "line": 1, "column": 1, "key": "x", "what": "unknown key",
                          "remedy": "known here: vip, service, acl"}]
        })
    );
}

#[test]
fn the_answers_about_the_configuration_keep_their_shape() {
    let entry =
        ConfigEntry { version: 2, author: "a".into(), unix_ms: 5, comment: "why".into(), change: None };
    assert_eq!(
        shape(ConfigVersion { entry, text: "# t".into() }),
        json!({"schema": 1, "version": 2, "author": "a", "unix_ms": 5, "comment": "why", "text": "# t"})
    );
    let field = FieldChange { field: "id".into(), before: Some("1".into()), after: None };
    let change = Change { object: "vip www".into(), kind: ChangeKind::Changed, fields: vec![field] };
    assert_eq!(
        shape(ConfigDiff { version: 2, changed: true, changes: vec![change], excessive: Vec::new() }),
        json!({"schema": 1, "version": 2, "changed": true, "changes": [
            {"object": "vip www", "kind": "changed", "fields": [{"field": "id", "before": "1", "after": null}]}],
            "excessive": []})
    );
    let node = NodeApplied { node: "lb2".into(), version: Some(3), age_ms: Some(8), connected: true };
    assert_eq!(
        shape(Applied {
            version: 3,
            changed: true,
            nodes: vec![node],
            unasked: vec!["lb3".into()],
            confirmation: Some(Confirmation { version: 3, back_to: 2, left_ms: 9 })
        }),
        json!({"schema": 1, "version": 3, "changed": true,
               "nodes": [{"node": "lb2", "version": 3, "age_ms": 8, "connected": true}], "unasked": ["lb3"],
               "confirmation": {"version": 3, "back_to": 2, "left_ms": 9}})
    );
    let change = Some(ChangeSize { added: 1, changed: 2, removed: 3 });
    let entry = ConfigEntry { change, ..ConfigEntry::default() };
    assert_eq!(
        shape(ConfigHistory { versions: vec![entry], confirmation: None }),
        json!({"schema": 1, "confirmation": null, "versions": [{"version": 0, "author": "", "unix_ms": 0, "comment": "",
               "change": {"added": 1, "changed": 2, "removed": 3}}]})
    );
}

#[test]
fn the_answers_about_servers_and_clients_keep_their_shape() {
    let server = ServerView {
        service: "web".into(),
        name: "s1".into(),
        address: "[2001:db8::1]:80".parse().unwrap(),
        weight: 1,
        max: 0,
        admin: Admin::Drain,
        blacklisted_ms: None,
        source: None,
        source_problem: Some("no route".into()),
        connections: 1,
        total: 2,
        failed: 3,
        check: None,
    };
    assert_eq!(
        shape(Servers { servers: vec![server] }),
        json!({"schema": 1, "servers": [{
            "service": "web", "name": "s1", "address": "[2001:db8::1]:80", "weight": 1, "max": 0, "admin": "drain",
            "blacklisted_ms": null, "source": null, "source_problem": "no route", "connections": 1, "total": 2,
            "failed": 3}]})
    );
    let change = json!({"service": "web", "server": "s1", "admin": "ready", "author": "a"});
    let parsed: SetServer = serde_json::from_value(change.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), change);
    assert_eq!(
        shape(Clients { clients: Vec::new(), next: Some("x".into()), total: 9 }),
        json!({"schema": 1, "clients": [], "next": "x", "total": 9})
    );
}

#[test]
fn a_report_of_an_older_or_newer_node_is_read_as_far_as_it_goes() {
    let newer = json!({"ready": true, "ready_reason": "", "config_version": 1, "roles": {}, "mood": "good"});
    assert!(NodeReport::decode(newer.to_string().as_bytes()).is_some());
    assert_eq!(NodeReport::decode(b"{}"), None);
    assert_eq!(NodeReport::decode(&[b' '; REPORT_BYTES_MAX + 1]), None);
}

#[test]
fn a_report_stays_within_its_limit() {
    let mut report = NodeReport { ready: true, config_version: 7, ..NodeReport::default() };
    report.roles.insert("www".into(), Role::Active);
    assert_eq!(NodeReport::decode(&report.encode()), Some(report.clone()));
    report.roles.extend((0..255).map(|n| (format!("{n:0>63}"), Role::Standby)));
    let short = NodeReport::decode(&report.encode()).unwrap();
    assert_eq!((short.ready, short.config_version, short.roles.len()), (true, 7, 0));
    assert_eq!(short.ready_reason, "too many virtual addresses for a report of their roles");
}
