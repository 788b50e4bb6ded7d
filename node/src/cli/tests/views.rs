use std::time::{Duration, Instant};

use cygnet_ha::consensus::{OwnKeys, TicketKeyAge, TicketStatus};
use cygnet_ha::events::Event;
use serde_json::Value;

use super::{Closed, Served, Terminal, run, run_into, run_on};
use crate::cli::Exit;
use crate::control::health::{CheckState, CheckView, Elsewhere, ServerCheck};
use crate::control::types::{Admin, ClusterEvent};

/// A text with its common indentation taken away.
fn trimmed(text: &str) -> String {
    let text = text.trim_start_matches('\n').trim_end_matches(' ');
    let indent =
        text.lines().filter(|line| !line.trim().is_empty()).map(|l| l.len() - l.trim_start().len()).min();
    text.lines().map(|line| format!("{}\n", line.get(indent.unwrap_or(0)..).unwrap_or(""))).collect()
}

#[test]
fn status_starts_with_a_verdict() {
    let served = Served::start();
    let ran = run(&served, &["status"]);
    let expected = "
        OK  active=lb1 standby=lb2(ready) quorum=2/2 config=v41 in sync

        NODE  ROLE     READY  CONFIG  CONNECTED  HEARD
        lb1   active   yes    v41     yes        here
        lb2   standby  yes    v41     yes        120ms

        VIP  ADDRESS      INTERFACE  PROTOCOL  ID  MODE  ROLE    SINCE  PRIORITY  HOLDER    HEARD  RIVALS
        www  192.0.2.100  eth0       vrrp3     51  hold  active  1m2s        150  10.0.0.1  -      -

        SERVICE  LISTEN          CONNECTIONS  TOTAL  FAILED  USABLE SERVERS
        web      192.0.2.100:80           12   3456       1             2/2

        clients 7/65536  to be shared 0/4096  up 1h2m  version 0.1.0
        ";
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (Exit::Ok, trimmed(expected).as_str(), ""));
}

#[test]
fn a_degraded_pair_is_explained_and_only_check_makes_it_an_exit_code() {
    let served = Served::start();
    served.node.world().facts.members[1].connected = false;
    let ran = run(&served, &["status"]);
    assert_eq!(ran.exit, Exit::Ok);
    let lines: Vec<&str> = ran.out.lines().take(4).collect();
    assert_eq!(
        lines,
        [
            "DEGRADED  active=lb1 standby=lb2(unreachable) quorum=2/2 config=v41 unknown on lb2",
            "  DEGRADED  lb2 is not connected (last heard 120ms ago); check `systemctl status cygnet` on lb2 and the way to 10.0.0.2:7300",
            "  DEGRADED  vip www (192.0.2.100) has no standby that is ready; cygnet status on the other nodes",
            "",
        ]
    );
    assert!(ran.out.contains("lb2   was standby"), "{}", ran.out);
    assert_eq!(run(&served, &["status", "--check"]).exit, Exit::Degraded);
    assert_eq!(run(&served, &["status", "--check", "-o", "json"]).exit, Exit::Degraded);
}

#[test]
fn status_tells_with_which_key_session_tickets_are_sealed_and_since_when() {
    let served = Served::start();
    let age = |number, age_ms| Some(TicketKeyAge { number, age_ms });
    let shared = TicketStatus {
        wanted: true,
        current: age(7, 7_000_000),
        next: age(8, 400_000),
        previous: Some(6),
        ..TicketStatus::default()
    };
    let line = |tickets: &TicketStatus| {
        served.node.world().facts.tickets = Some(tickets.clone());
        let out = run(&served, &["status"]).out;
        out.lines().find(|line| line.starts_with("session tickets")).map(str::to_owned)
    };
    let expected = "session tickets: key 7 of the cluster for 1h56m, next key 8, key 6 still opens";
    assert_eq!(line(&shared).as_deref(), Some(expected));
    let json: Value = serde_json::from_str(&run(&served, &["status", "-o", "json"]).out).unwrap();
    assert_eq!(json["tickets"]["current"], serde_json::json!({"number": 7, "age_ms": 7_000_000}));
    let own = TicketStatus { own: Some(OwnKeys::PlainLinks), wanted: true, ..TicketStatus::default() };
    let expected = "session tickets: a key of this node alone: the links between the nodes are not encrypted";
    assert_eq!(line(&own).as_deref(), Some(expected));
    assert_eq!(line(&TicketStatus::default()), None, "nobody ends TLS here");
    assert_eq!(run(&served, &["cluster", "rotate-tickets"]).exit, Exit::Ok);
}

#[test]
fn colour_is_for_terminals_only() {
    let served = Served::start();
    let coloured = run_on(&served.socket(), &["status"], &Terminal { answer: None, colour: true });
    assert!(coloured.out.starts_with("\x1b[32mOK\x1b[0m  active"), "{}", coloured.out);
    assert!(!run(&served, &["status"]).out.contains('\x1b'));
}

#[test]
fn columns_stay_aligned_with_colour() {
    let served = Served::start();
    let plain = run(&served, &["vip", "-o", "wide"]).out;
    let coloured =
        run_on(&served.socket(), &["vip", "-o", "wide"], &Terminal { answer: None, colour: true }).out;
    assert_eq!(coloured.replace("\x1b[32m", "").replace("\x1b[0m", ""), plain);
    assert!(plain.contains("checksum=2") && plain.contains("no other speaker"), "{plain}");
}

#[test]
fn vips_are_listed_with_and_without_the_verb() {
    let served = Served::start();
    let (short, long) = (run(&served, &["vip"]), run(&served, &["vip", "list"]));
    assert_eq!((short.exit, &short.out), (Exit::Ok, &long.out));
    let json: Value = serde_json::from_str(&run(&served, &["vip", "-o", "json"]).out).unwrap();
    assert_eq!((&json["schema"], &json["vips"][0]["role"]), (&Value::from(1), &Value::from("active")));
}

#[test]
fn servers_are_listed_with_their_state() {
    let served = Served::start();
    served.node.world().servers[1].blacklisted_ms = Some(12_000);
    let expected = "
        SERVICE  SERVER  ADDRESS         STATE                  WEIGHT  CONNECTIONS  MAX  TOTAL  FAILED
        web      s1      10.1.0.11:8080  ready                       1            6    -   1728       0
        web      s2      10.1.0.12:8080  failed (again in 12s)       1            6    -   1728       0
        ";
    let ran = run(&served, &["server", "list", "--service", "web"]);
    assert_eq!((ran.exit, ran.out), (Exit::Ok, trimmed(expected)));
    let ran = run(&served, &["server", "list", "--service", "mail"]);
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Error, "error: no service mail\n  there are: web\n"));
}

#[test]
fn a_server_that_fails_its_checks_is_shown_with_the_reason_and_what_others_see() {
    let served = Served::start();
    let check = CheckView {
        state: CheckState::Down,
        state_age_ms: 12_400,
        reason: Some("HTTP 503 instead of 200-399".into()),
        failed_row: 3,
        rise: 2,
        fall: 3,
        elsewhere: vec![Elsewhere { node: "lb2".into(), up: true, age_ms: 300 }],
        ..CheckView::default()
    };
    let other = Elsewhere { node: "lb2".into(), up: false, age_ms: 300 };
    let up = CheckView { state: CheckState::Up, elsewhere: vec![other], ..CheckView::default() };
    {
        let mut world = served.node.world();
        world.servers[0].check = Some(check.clone());
        world.servers[1].check = Some(up);
        world.facts.services[0].checks = vec![ServerCheck { server: "s1".into(), check }];
    }
    let told = "down from here, up from lb2: HTTP 503 instead of 200-399, for 12s, 3 of 3 failed";
    let list = run(&served, &["server", "list"]).out;
    assert!(list.contains(told) && list.contains("ready (up from here, down from lb2)"), "{list}");
    let status = run(&served, &["status"]).out;
    assert!(
        status.contains(&format!("service web: server s1 is {told}; look at this node's way")),
        "{status}"
    );
    let ran = run(&served, &["server", "drain", "web", "s2"]);
    assert_eq!(ran.exit, Exit::Refused, "it is the last usable one: {}", ran.err);
}

#[test]
fn a_server_is_drained_and_made_ready_again() {
    let served = Served::start();
    let ran = run(&served, &["server", "drain", "web", "s1", "--dry-run"]);
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (Exit::Differs, "server s1 of service web would be set to drain (dry run)\n")
    );
    assert_eq!(served.node.world().servers[0].admin, Admin::Ready);
    let ran = run(&served, &["server", "drain", "web", "s1"]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "server s1 of service web is set to drain\n"));
    assert_eq!(served.node.world().servers[0].admin, Admin::Drain);
    let ran = run(&served, &["server", "drain", "web", "s1"]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "server s1 of service web is drain already\n"));
    let ran = run(&served, &["server", "ready", "web", "s1", "-o", "json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.exit, &json["admin"]), (Exit::Ok, &Value::from("ready")));
    assert_eq!(served.node.world().servers[0].admin, Admin::Ready);
}

#[test]
fn the_last_usable_server_is_drained_only_when_confirmed() {
    let served = Served::start();
    served.node.world().servers[1].blacklisted_ms = Some(1);
    let question =
        "server s1 of service web is its last usable one: new clients will be turned away. Drain it?";
    let ran = run(&served, &["server", "drain", "web", "s1"]);
    assert_eq!(
        (ran.exit, ran.err),
        (Exit::Refused, format!("error: not confirmed: {question}\n  add --yes\n"))
    );
    let no = run_on(
        &served.socket(),
        &["server", "drain", "web", "s1"],
        &Terminal { answer: Some("n\n"), colour: false },
    );
    assert_eq!(no.exit, Exit::Refused);
    assert_eq!(no.err, format!("{question} [y/N] error: not confirmed; nothing was changed\n"));
    assert_eq!(served.node.world().servers[0].admin, Admin::Ready);
    let yes = run_on(
        &served.socket(),
        &["server", "drain", "web", "s1"],
        &Terminal { answer: Some("y\n"), colour: false },
    );
    assert_eq!(yes.exit, Exit::Ok);
    assert_eq!(run(&served, &["server", "ready", "web", "s1"]).exit, Exit::Ok);
    assert_eq!(run(&served, &["server", "drain", "web", "s1", "--yes"]).exit, Exit::Ok);
}

#[test]
fn an_unknown_server_is_named_with_those_that_exist() {
    let served = Served::start();
    let ran = run(&served, &["server", "drain", "web", "s3"]);
    assert_eq!(
        (ran.exit, ran.err.as_str()),
        (Exit::Error, "error: service web has no server s3\n  it has: s1, s2\n")
    );
}

#[test]
fn clients_come_page_by_page() {
    let served = Served::start();
    let ran = run(&served, &["clients", "list", "--limit", "2"]);
    let expected = "
        CLIENT        SERVICE  SERVER  SEEN
        198.51.100.1  web      s1      1m30s ago
        198.51.100.2  web      s1      1m30s ago
        2 of 5; more: --after 2
        ";
    assert_eq!((ran.exit, ran.out), (Exit::Ok, trimmed(expected)));
    let last = run(&served, &["clients", "list", "--limit", "2", "--after", "4"]);
    assert_eq!(last.out.lines().count(), 2, "{}", last.out);
    assert_eq!(run(&served, &["clients", "list", "--limit", "0"]).exit, Exit::Usage);
    assert_eq!(run(&served, &["clients", "list", "--limit", "1001"]).exit, Exit::Usage);
}

#[test]
fn events_show_time_severity_and_reason() {
    let served = Served::start();
    let ran = run(&served, &["events"]);
    let expected = "    1  2026-11-22T18:35:25Z  info     vip www           standby\n    \
                    2  2026-11-22T18:35:26Z  warning  vip www           active (no advertisement for 3.6 s)\n";
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, expected));
    assert_eq!(run(&served, &["events", "--after", "1"]).out.lines().count(), 1);
    let json: Value = serde_json::from_str(&run(&served, &["events", "-o", "json"]).out).unwrap();
    assert_eq!((&json["last"], json["events"].as_array().unwrap().len()), (&Value::from(2), 2));
}

/// A command on the other node, as all remember it.
fn remembered(number: u64, event: Event) -> ClusterEvent {
    ClusterEvent { number, node: "lb2".into(), event }
}

#[test]
fn events_of_the_cluster_name_their_node_and_say_how_many_are_not_shared_yet() {
    let served = Served::start();
    {
        let mut world = served.node.world();
        let [standby, active] = &world.events[..] else { panic!("other events: {:?}", world.events) };
        let command =
            Event { kind: "command".into(), what: "cygnet node drain: done".into(), ..standby.clone() };
        world.remembered = vec![remembered(7, active.clone()), remembered(9, command)];
    }
    let ran = run(&served, &["events", "--cluster"]);
    let expected = "    7  2026-11-22T18:35:26Z  lb2       warning  vip www           active (no advertisement for 3.6 s)
    9  2026-11-22T18:35:25Z  lb2       info     vip www           cygnet node drain: done
3 newer events of this node are not shared yet; see `cygnet events`
";
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, expected));
    let ran = run(&served, &["events", "--cluster", "--kind", "command", "-o", "json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    let event = &json["events"][0];
    assert_eq!(
        (&json["last"], &json["waiting"], json["events"].as_array().unwrap().len()),
        (&9.into(), &3.into(), 1)
    );
    assert_eq!(
        (&event["number"], &event["node"], &event["kind"]),
        (&9.into(), &"lb2".into(), &"command".into())
    );
    assert_eq!(run(&served, &["events", "--cluster", "--after", "9"]).out.lines().count(), 1);
    assert_eq!(run(&served, &["events", "--kind", "nothing"]).out, "");
}

#[test]
fn more_events_than_a_page_are_all_shown() {
    let served = Served::start();
    let template = served.node.world().events[0].clone();
    served.node.world().events = (1..=1234).map(|sequence| Event { sequence, ..template.clone() }).collect();
    assert_eq!(run(&served, &["events"]).out.lines().count(), 1234);
    let json: Value = serde_json::from_str(&run(&served, &["events", "-o", "json"]).out).unwrap();
    assert_eq!(json["events"].as_array().unwrap().len(), 1234);
}

#[test]
fn followed_events_appear_as_they_happen_also_after_a_restart_of_the_node() {
    let mut served = Served::start();
    let socket = served.socket();
    let follower = std::thread::spawn(move || {
        run_on(&socket, &["events", "--follow", "-o", "json"], &Terminal { answer: None, colour: false })
    });
    // The follower asks twice a second: it has had its first answer when it asks for what comes after event 2.
    let asked = |served: &Served, after: u64| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !served.node.world().asked_after.contains(&after) {
            assert!(Instant::now() < deadline, "nobody asked for events after {after}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    asked(&served, 2);
    let anew = Event { sequence: 1, what: "started".into(), ..served.node.world().events[0].clone() };
    served.node.world().events = vec![anew];
    asked(&served, 1);
    served.stop();
    let ran = follower.join().unwrap();
    let what: Vec<String> = ran
        .out
        .lines()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok())
        .map(|event| event.what)
        .collect();
    assert_eq!(what, ["standby", "active", "started"]);
    assert_eq!(ran.exit, Exit::Error, "the node went away");
}

#[test]
fn what_others_wrote_does_not_steer_the_terminal() {
    let served = Served::start();
    served.node.world().events[0].why = "\x1b[2J\nforged line".into();
    served.node.world().facts.vips[0].reason = "\x1b[31mred".into();
    for arguments in [&["events"][..], &["vip", "-o", "wide"], &["status", "-o", "wide"]] {
        assert!(!run(&served, arguments).out.contains('\x1b'), "{arguments:?}");
    }
    assert_eq!(run(&served, &["events"]).out.lines().count(), 2);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let served = Served::start();
    for room in [0, 1, 100] {
        for arguments in
            [&["status"][..], &["status", "-o", "json"], &["events"], &["config", "show"], &["--help"]]
        {
            let mut err = Vec::new();
            let terminal = Terminal { answer: None, colour: false };
            let exit = run_into(&served.socket(), arguments, &terminal, &mut Closed(room), &mut err);
            assert_eq!((exit, err.len()), (Exit::Ok, 0), "{arguments:?} with {room} bytes of room");
        }
    }
}
