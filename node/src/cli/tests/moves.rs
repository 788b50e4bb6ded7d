//! `vip status`, `vip watch`, `why` and `node`.

use cygnet_ha::events::{Event, Severity};
use cygnet_ha::vip::transfer::AtDeadline;
use cygnet_ha::vip::{AnomalyView, AnswerView, LeftView, Role, SendsOnView};
use serde_json::Value;

use super::{Ran, Served, Terminal, run, run_on};
use crate::cli::Exit;
use crate::control::status::NodeReport;
use crate::control::types::{Drain, LeftConnection};

fn anomaly(name: &str, count: u64) -> AnomalyView {
    let what = format!("the last {name}");
    AnomalyView { name: name.into(), what, severity: Severity::Alert, count, last_ms: 2_000 }
}

#[test]
fn what_is_wrong_on_the_wire_stands_below_the_addresses() {
    let served = Served::start();
    {
        let mut world = served.node.world();
        let wire = &mut world.facts.vips[0].wire;
        (wire.anomalies, wire.segment) = (vec![anomaly("replay", 3)], vec![anomaly("unknown-id", 70)]);
        wire.interval_us = Some(1_000_000);
        wire.jitter_us = Some(1_250);
        wire.missed = 4;
        wire.answers = vec![AnswerView { mac: "02:00:00:00:00:0c".into(), heard_ms: 500, count: 9 }];
    }
    let ran = run(&served, &["vip", "status"]);
    let below: Vec<&str> = ran.out.lines().skip(2).collect();
    let expected = [
        "",
        "WRONG WITH      WHAT        TIMES    LAST  THE LAST OF THEM",
        "vip www         replay          3  2s ago  the last replay",
        "interface eth0  unknown-id     70  2s ago  the last unknown-id",
    ];
    assert_eq!((ran.exit, below), (Exit::Ok, expected.to_vec()));
    let wide = run(&served, &["vip", "-o", "wide"]).out;
    assert!(wide.contains("02:00:00:00:00:0c (500ms ago)") && wide.contains("1.2"), "{wide}");
}

#[test]
fn watch_tells_the_state_first_and_each_change_once() {
    let served = Served::start();
    let (mut once, mut json) = (Ran::none(), Ran::none());
    let socket = served.socket();
    let terminal = Terminal { answer: None, colour: false };
    std::thread::scope(|scope| {
        let text = scope.spawn(|| run_on(&socket, &["vip", "watch", "--for", "1s"], &terminal));
        let lines =
            scope.spawn(|| run_on(&socket, &["vip", "watch", "--for", "1s", "-o", "json"], &terminal));
        // Both have asked once when the node was asked from its last event on.
        while served.node.world().asked_after.iter().filter(|after| **after == 2).count() < 2 {
            std::thread::yield_now();
        }
        let mut world = served.node.world();
        world.facts.vips[0].role = Role::Standby;
        let new = Event { sequence: 3, what: "gave up".into(), ..world.events[1].clone() };
        let other = Event { sequence: 4, subject: "service web".into(), ..new.clone() };
        world.events.extend([new, other]);
        drop(world);
        (once, json) = (text.join().unwrap(), lines.join().unwrap());
    });
    let lines: Vec<&str> = once.out.lines().collect();
    assert_eq!((once.exit, lines.len()), (Exit::Ok, 3), "{}", once.out);
    assert!(lines[0].contains("active ") && lines[0].contains("held by 10.0.0.1 (150)"), "{}", once.out);
    assert!(lines.iter().any(|line| line.contains("gave up")));
    assert!(lines.iter().any(|line| line.contains("standby")));
    let kinds: Vec<Value> =
        json.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["state", "event", "state"]);
}

fn told(sequence: u64, unix_ms: u64, kind: &str, what: &str, why: &str) -> Event {
    let (severity, subject) = (Severity::Info, "vip www".to_owned());
    Event { sequence, unix_ms, severity, subject, kind: kind.into(), what: what.into(), why: why.into() }
}

/// lb2 took the address from lb1 twenty seconds ago; the clocks of the two are an hour apart.
fn moved(served: &Served) {
    let mut world = served.node.world();
    let members = &mut world.facts.members;
    let hour = 3_600_000;
    members[0].report = Some(NodeReport {
        unix_ms: 100_000,
        moves: vec![
            told(1, 10_000, "active", "active: holds 192.0.2.100 on eth0", "nobody advertised"),
            told(2, 79_500, "down", "down: gives up 192.0.2.100", "not ready: worker 1 hangs"),
        ],
        ..NodeReport::default()
    });
    let report = members[1].report.as_mut().unwrap();
    report.unix_ms = hour + 99_700;
    report.moves = vec![
        told(7, hour + 79_900, "active", "active: holds 192.0.2.100 on eth0", "10.0.0.1 has resigned"),
        told(8, hour + 79_901, "cost", "lb1 carried 25 connections when it last reported, 300ms before", ""),
    ];
}

#[test]
fn why_tells_the_last_move_from_all_nodes_in_the_order_of_ages() {
    let served = Served::start();
    moved(&served);
    let ran = run(&served, &["why"]);
    let expected = "vip www (192.0.2.100), held by 10.0.0.1: moved to lb2 from lb1 20s ago
  why: 10.0.0.1 has resigned
  held by nobody meanwhile: about 400ms
  cost: lb1 carried 25 connections when it last reported, 300ms before

AGO  NODE  WHAT
20s  lb1   down: gives up 192.0.2.100 (not ready: worker 1 hangs)
20s  lb2   active: holds 192.0.2.100 on eth0 (10.0.0.1 has resigned)
20s  lb2   lb1 carried 25 connections when it last reported, 300ms before
";
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, expected));
    let json: Value = serde_json::from_str(&run(&served, &["why", "www", "-o", "json"]).out).unwrap();
    let last = &json["stories"][0]["last_move"];
    assert_eq!((&last["to"], &last["from"], &last["gap_ms"]), (&"lb2".into(), &"lb1".into(), &400.into()));
    assert_eq!(last["age_ms"], 20_100);
}

#[test]
fn why_tells_a_move_that_only_the_shared_memory_has() {
    let served = Served::start();
    moved(&served);
    {
        // lb1 is new in its process, and lb2 has told nothing since: both parts are as all remember them.
        let mut world = served.node.world();
        let forgotten = |report: &mut NodeReport| std::mem::take(&mut report.moves);
        let own = forgotten(world.facts.members[0].report.as_mut().unwrap());
        let other = forgotten(world.facts.members[1].report.as_mut().unwrap());
        let of = |node: &str, events: Vec<Event>| {
            events.into_iter().map(|event| (node.to_owned(), event)).collect::<Vec<_>>()
        };
        world.facts.remembered = [of("lb1", own), of("lb2", other)].concat();
    }
    let ran = run(&served, &["why"]);
    let begin = "vip www (192.0.2.100), held by 10.0.0.1: moved to lb2 from lb1 20s ago
  why: 10.0.0.1 has resigned
  held by nobody meanwhile: about 400ms
";
    assert!(ran.out.starts_with(begin), "{}", ran.out);
    // Without a word of lb2 how far its clock is off is not known, and it is said.
    served.node.world().facts.members[1].report = None;
    let ran = run(&served, &["why"]);
    assert!(
        ran.out.contains("lb2 has told nothing; its part is what all remember, by its own clock"),
        "{}",
        ran.out
    );
}

#[test]
fn what_is_told_and_remembered_stands_once_in_a_story() {
    let served = Served::start();
    moved(&served);
    let before = run(&served, &["why"]).out;
    {
        let mut world = served.node.world();
        let told = |at: usize| world.facts.members[at].report.clone().unwrap().moves;
        let of = |node: &'static str, events: Vec<Event>| {
            events.into_iter().map(move |event| (node.to_owned(), event))
        };
        let remembered = of("lb1", told(0)).chain(of("lb2", told(1))).collect();
        world.facts.remembered = remembered;
    }
    assert_eq!(run(&served, &["why"]).out, before);
}

#[test]
fn why_names_all_addresses_that_move_together() {
    let served = Served::start();
    moved(&served);
    let addresses = [100, 101, 102, 103].map(|last| std::net::IpAddr::from([192, 0, 2, last]));
    served.node.world().facts.vips[0].addresses = addresses.to_vec();
    let ran = run(&served, &["why"]);
    let named = "vip www (192.0.2.100, 192.0.2.101, 192.0.2.102 and 1 more), held by";
    assert!(ran.out.starts_with(named), "{}", ran.out);
    let json: Value = serde_json::from_str(&run(&served, &["why", "-o", "json"]).out).unwrap();
    assert_eq!(json["stories"][0]["addresses"].as_array().map(Vec::len), Some(4));
}

#[test]
fn why_says_whose_part_is_old_and_what_is_not_known() {
    let served = Served::start();
    moved(&served);
    {
        let mut world = served.node.world();
        world.facts.members[1].connected = false;
        world.facts.members[1].report_age_ms = Some(60_000);
        world.facts.members[1].report.as_mut().unwrap().moves.clear();
    }
    let ran = run(&served, &["why", "www"]);
    assert!(ran.out.contains("lb2 is not connected; its part is as of 1m0s ago"), "{}", ran.out);
    assert!(ran.out.contains("cost: not known"), "{}", ran.out);
    let ran = run(&served, &["why", "mail"]);
    assert_eq!(
        (ran.exit, ran.err.as_str()),
        (Exit::Error, "error: no virtual address mail\n  there are: www\n")
    );
    served.node.world().facts.members[0].report = None;
    assert!(run(&served, &["why"]).out.contains("no move is remembered"));
}

#[test]
fn a_node_is_drained_and_made_ready_again() {
    let served = Served::start();
    let ran = run(&served, &["node", "drain", "--dry-run"]);
    let said = "lb1 would be drained (dry run)\nit would give up: www\n";
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Differs, said));
    let ran = run(&served, &["node", "drain"]);
    let refused = "error: not confirmed: lb1 gives up www. Drain it?\n  add --yes\n";
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Refused, refused));
    let yes = Terminal { answer: Some("y\n"), colour: false };
    let ran = run_on(&served.socket(), &["node", "drain", "--comment", "new disk"], &yes);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "lb1 is drained\nit gives up: www\n"));
    assert!(run(&served, &["status"]).out.contains("drained by alice; cygnet node ready"));
    assert!(run(&served, &["node", "list"]).out.contains("drained by alice"));
    let ran = run(&served, &["node", "ready", "-o", "json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.exit, &json["changed"]), (Exit::Ok, &true.into()));
    assert_eq!(run(&served, &["node", "ready"]).out, "lb1 is ready already\n");
}

#[test]
fn a_drain_that_would_leave_an_address_on_no_node_needs_force() {
    let served = Served::start();
    served.node.world().facts.members[1].connected = false;
    let ran = run(&served, &["node", "drain", "--yes"]);
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.err.contains("no other node is ready to hold www"), "{}", ran.err);
    assert!(served.node.world().facts.ready, "nothing was changed");
    assert_eq!(run(&served, &["node", "drain", "--yes", "--force"]).exit, Exit::Ok);
}

/// 312 connections have moved, and 21 are left.
fn drain() -> Drain {
    let connection = |number: u16| LeftConnection {
        client: ([198, 51, 100, 7], 40_000 + number).into(),
        to: ([192, 0, 2, 100], 80).into(),
        service: (number > 0).then(|| "web".to_owned()),
        server: (number > 0).then(|| "s1".to_owned()),
        idle_ms: (number > 0).then_some(63_000),
    };
    let left = LeftView {
        through: "lb2".into(),
        since_ms: 240_000,
        of: 312,
        left: 21,
        deadline_ms: Some(3_360_000),
        at_deadline: AtDeadline::Close,
        closed: 0,
    };
    Drain { vip: "www".into(), left, connections: (0..21).map(connection).collect() }
}

#[test]
fn drain_status_says_who_is_left_since_when_from_where_and_until_when() {
    let served = Served::start();
    let none = run(&served, &["drain", "status"]);
    let nobody = "no connection goes on through lb1 after a move\n";
    assert_eq!((none.exit, none.out.as_str()), (Exit::Ok, nobody));
    served.node.world().drains = vec![drain()];
    let ran = run(&served, &["drain", "status"]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(ran.exit, Exit::Differs);
    let first =
        "vip www: 21 of 312 connections go on here, through lb2, 4m0s after the move; closed in 56m0s";
    assert_eq!(lines[..3], [first, "", "VIP  CLIENT              TO              SERVICE  SERVER  IDLE"]);
    assert_eq!(lines[3], "www  198.51.100.7:40000  192.0.2.100:80  -        -          -");
    assert_eq!(lines[4], "www  198.51.100.7:40001  192.0.2.100:80  web      s1      1m3s");
    assert_eq!((lines.len(), lines[23]), (24, "20 of 21; more: --limit 21"));
    assert_eq!(run(&served, &["drain", "status", "--limit", "0"]).out.lines().count(), 1);
    assert_eq!(run(&served, &["drain", "status", "--limit", "50001"]).exit, Exit::Usage);
    let json = run(&served, &["drain", "status", "-o", "json"]);
    let whole: Value = serde_json::from_str(&json.out).unwrap();
    let drain = &whole["drains"][0];
    assert_eq!((drain["left"].clone(), drain["since_ms"].clone()), (21.into(), 240_000.into()));
    assert_eq!(drain["connections"].as_array().unwrap().len(), 21);
    assert_eq!(drain["connections"][1]["idle_ms"], 63_000);
    let mut over = drain_over();
    over.left.closed = 2;
    served.node.world().drains = vec![over];
    let ran = run(&served, &["drain", "status"]);
    assert!(ran.out.ends_with("; the deadline is over, 2 were closed\n"), "{}", ran.out);
}

/// At the deadline, nobody listed.
fn drain_over() -> Drain {
    let mut drain = drain();
    drain.connections.clear();
    drain.left.deadline_ms = Some(0);
    drain
}

#[test]
fn what_a_move_has_left_stands_below_the_addresses() {
    let served = Served::start();
    {
        let mut world = served.node.world();
        let moved = &mut world.facts.vips[0].moved;
        moved.left = Some(drain().left);
        moved.sends_on = Some(SendsOnView { to: "lb2".into(), connections: 5, since_ms: 1_000 });
        moved.rules = vec!["ip cygnet keep_192.0.2.100".into()];
    }
    let ran = run(&served, &["vip"]);
    let below: Vec<&str> = ran.out.lines().skip(2).collect();
    let expected = [
        "",
        "MOVED    CONNECTIONS  WHERE                                          SINCE",
        "vip www           21  go on here, through lb2; closed in 56m0s        4m0s",
        "vip www            5  are sent on to lb2                                1s",
    ];
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let below: Vec<String> = below.into_iter().map(squeezed).collect();
    assert_eq!(below, expected.map(squeezed));
    assert!(run(&served, &["vip", "-o", "wide"]).out.contains("ip cygnet keep_192.0.2.100"));
}

#[test]
fn a_dry_run_that_cannot_count_says_so_and_not_zero() {
    let served = Served::start();
    served.node.world().uncounted = Some("no sock_diag".into());
    let ran = run(&served, &["switchover", "--dry-run"]);
    assert!(ran.out.contains("how many there are is not known: no sock_diag"), "{}", ran.out);
    assert!(!ran.out.contains("312"), "{}", ran.out);
}

#[test]
fn a_switchover_says_what_would_happen_asks_and_does_it() {
    let served = Served::start();
    let ran = run(&served, &["switchover", "--dry-run"]);
    assert_eq!(ran.exit, Exit::Differs);
    assert!(ran.out.contains("www  lb1   lb2     -  would move: 312 connections will go on through lb1 until they end; 0 will break"), "{}", ran.out);
    let ran = run(&served, &["switchover"]);
    let refused =
        "error: not confirmed: lb1 moves www to lb2 (12 connections run here). Go on?\n  add --yes\n";
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Refused, refused));
    let ran = run(&served, &["switchover", "--to", "lb2", "--yes"]);
    assert_eq!(ran.exit, Exit::Ok);
    assert!(
        ran.out.contains("12ms  moved: 312 connections go on through lb1 until they end; 0 were broken"),
        "{}",
        ran.out
    );
    served.node.world().facts.members[1].report.as_mut().unwrap().servers_usable = 1;
    let ran = run(&served, &["switchover", "--yes"]);
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.err.contains("lb2 would serve worse"), "{}", ran.err);
    assert_eq!(run(&served, &["switchover", "--yes", "--force", "-o", "json"]).exit, Exit::Ok);
}
