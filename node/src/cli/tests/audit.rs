//! Commands that change something are written down, whatever comes of them.

use cygnet_ha::events::{Event, Severity};

use super::{Served, run};
use crate::control::types::{ApiError, ErrorCode};

/// What was written down of these commands.
fn written(commands: &[&[&str]]) -> Vec<Event> {
    let served = Served::start();
    let events = served.node.world().commands.clone();
    for command in commands {
        run(&served, command);
    }
    events.after(0)
}

#[test]
fn each_command_that_changes_something_has_a_line_with_who_and_what_came_of_it() {
    let events = written(&[
        &["server", "drain", "web", "s1"],
        &["switchover", "--to", "lb2", "--yes"],
        &["node", "drain", "--yes", "--comment", "new disk"],
        &["cluster", "rotate-tickets"],
        &["token", "create", "--witness"],
    ]);
    let user = format!("(user {})", cygnet_netlink::account::own_user());
    let lines: Vec<&str> = events.iter().map(|event| event.what.as_str()).collect();
    let expected =
        ["cygnet server drain web s1: done", "cygnet switchover --to lb2: done", "cygnet node drain: done"];
    assert_eq!(lines[..expected.len()], expected);
    assert!(lines.iter().any(|line| line.starts_with("cygnet token create --witness: ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("cygnet cluster rotate-tickets: ")), "{lines:?}");
    for event in &events {
        assert_eq!((event.subject.as_str(), event.kind.as_str()), ("command", "command"));
        assert!(event.why.starts_with("by ") && event.why.contains(&user), "{event:?}");
    }
    assert!(events[2].why.ends_with(": new disk"), "{:?}", events[2]);
}

#[test]
fn a_look_and_a_dry_run_leave_no_line() {
    let looks: &[&[&str]] = &[
        &["status"],
        &["events"],
        &["node", "drain", "--dry-run"],
        &["switchover", "--dry-run"],
        &["config", "show"],
    ];
    assert_eq!(written(looks), []);
}

#[test]
fn what_was_not_done_says_why() {
    let served = Served::start();
    let events = served.node.world().commands.clone();
    served.node.world().refusal = Some(ApiError::new(ErrorCode::Refused, "too many", "make some ready"));
    run(&served, &["server", "drain", "web", "s1"]);
    let [event] = &events.after(0)[..] else { panic!("{:?}", events.after(0)) };
    assert_eq!(event.what, "cygnet server drain web s1: not done: too many");
}

#[test]
fn what_is_undecided_is_a_warning() {
    let served = Served::start();
    let events = served.node.world().commands.clone();
    let late = ApiError::new(ErrorCode::TimedOut, "not agreed within 10 s", "look with `cygnet status`");
    served.node.world().refusal = Some(late);
    run(&served, &["server", "drain", "web", "s1"]);
    let [event] = &events.after(0)[..] else { panic!("{:?}", events.after(0)) };
    assert_eq!(event.severity, Severity::Warning);
    assert_eq!(event.what, "cygnet server drain web s1: undecided: not agreed within 10 s");
}
