use serde_json::Value;

use super::{Served, Terminal, run, run_on};
use crate::cli::Exit;
use crate::control::tests::fake::{CLUSTER, NODE};
use crate::control::types::{ApiError, ErrorCode};

/// The running configuration with one weight changed.
fn changed() -> String {
    format!("{CLUSTER}weight = 3\n")
}

#[test]
fn good_files_are_good() {
    let served = Served::start();
    let (node, cluster) = (served.file("n.toml", NODE), served.file("c.toml", CLUSTER));
    let ran = run(&served, &["config", "check", &node, &cluster]);
    let expected = format!(
        "{node}: ok, node lb1 of cluster demo\n{cluster}: ok, cluster file, virtual addresses: 1, services: 1\n"
    );
    assert_eq!((ran.exit, ran.out), (Exit::Ok, expected));
    let json: Value =
        serde_json::from_str(&run(&served, &["config", "check", &node, "-o", "json"]).out).unwrap();
    assert_eq!(json["ok"], true);
}

#[test]
fn wrong_files_are_reported_with_all_their_problems_and_lines() {
    let mut served = Served::start();
    let node = served.file("n.toml", &NODE.replace("interface =", "source = \"192.0.2.100\"\ninterface ="));
    let cluster = served.file("c.toml", CLUSTER);
    let wrong = served.file("w.toml", "[[vip]]\nname = \"x\"\n");
    // Checking files needs no node.
    served.stop();
    let ran = run(&served, &["config", "check", &node, &cluster]);
    assert_eq!(ran.exit, Exit::Error);
    assert_eq!(
        ran.err,
        format!(
            "error: the configuration has a problem\n  {node}:2:10: source: \"192.0.2.100\" is virtual (vip www): it \
             moves away with the address and breaks every backend session; write this node's own address, or \"auto\"\n"
        )
    );
    let ran = run(&served, &["config", "check", &wrong]);
    assert_eq!((ran.exit, ran.err.lines().count()), (Exit::Error, 5), "{}", ran.err);
    let json: Value =
        serde_json::from_str(&run(&served, &["config", "check", &wrong, "-o", "json"]).out).unwrap();
    assert_eq!((&json["code"], &json["problems"][0]["line"]), (&Value::from("invalid"), &Value::from(1)));
    let ran = run(&served, &["config", "check", &cluster, &cluster]);
    assert_eq!(ran.exit, Exit::Usage);
    let ran = run(&served, &["config", "check", "/nonexistent"]);
    assert_eq!(ran.exit, Exit::Error);
    assert!(ran.err.starts_with("error: cannot read /nonexistent: No such file"), "{}", ran.err);
}

#[test]
fn a_file_that_is_no_configuration_is_not_read_whole() {
    let served = Served::start();
    let ran = run(&served, &["config", "check", "/dev/zero"]);
    assert_eq!(ran.exit, Exit::Error);
    assert!(ran.err.contains("more than 262144 bytes"), "{}", ran.err);
    let latin = served.directory().join("latin.toml");
    std::fs::write(&latin, b"# \xff\n").unwrap();
    assert!(run(&served, &["config", "check", latin.to_str().unwrap()]).err.contains("not UTF-8"));
}

#[test]
fn a_difference_is_shown_and_is_exit_code_3() {
    let served = Served::start();
    let (same, other) = (served.file("s.toml", CLUSTER), served.file("o.toml", &changed()));
    let ran = run(&served, &["config", "diff", &same]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "no difference from v41\n"));
    let ran = run(&served, &["config", "diff", &other]);
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (Exit::Differs, "changes to v41:\n  ~ service web, server s2: weight 1 -> 3\n")
    );
    let wrong = served.file("w.toml", "[[service]]\n");
    let ran = run(&served, &["config", "diff", &wrong]);
    assert_eq!(ran.exit, Exit::Error);
    assert!(ran.err.contains(&format!("{wrong}:1:1: service[#1].name: missing")), "{}", ran.err);
}

#[test]
fn a_new_comment_is_no_change_of_meaning_but_is_kept() {
    let served = Served::start();
    let file = served.file("c.toml", &format!("# why it is so\n{CLUSTER}"));
    let ran = run(&served, &["config", "diff", &file]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Differs, "only comments or layout differ from v41\n"));
    assert_eq!(run(&served, &["config", "apply", &file, "--yes"]).exit, Exit::Ok);
    assert!(run(&served, &["config", "show"]).out.starts_with("# why it is so\n[[vip]]"));
}

#[test]
fn apply_shows_asks_and_commits() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    let ran = run(&served, &["config", "apply", &file, "--dry-run"]);
    assert_eq!(ran.exit, Exit::Differs);
    assert!(ran.out.ends_with("nothing was changed (dry run)\n"), "{}", ran.out);
    let ran = run(&served, &["config", "apply", &file]);
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(ran.err, "error: not confirmed: apply 1 change(s) to v41?\n  add --yes\n");
    let no = run_on(
        &served.socket(),
        &["config", "apply", &file],
        &Terminal { answer: Some("\n"), colour: false },
    );
    assert_eq!(no.exit, Exit::Refused);
    assert_eq!(served.node.world().versions.len(), 1, "nothing was committed so far");
    let arguments = ["config", "apply", &file, "--comment", "heavier"];
    let yes = run_on(&served.socket(), &arguments, &Terminal { answer: Some("y\n"), colour: false });
    assert_eq!(yes.exit, Exit::Ok, "{}", yes.err);
    assert!(yes.out.ends_with("v42 applied: lb1 v42, lb2 v42 (300ms ago)\n"), "{}", yes.out);
    let newest = served.node.world().versions[1].clone();
    assert_eq!(
        (newest.text, newest.entry.author, newest.entry.comment),
        (changed(), "alice".into(), "heavier".into())
    );
    let again = run(&served, &["config", "apply", &file]);
    assert_eq!((again.exit, again.out.as_str()), (Exit::Ok, "no difference from v42\n"));
    assert_eq!(run(&served, &["config", "apply", &file, "--dry-run"]).exit, Exit::Ok);
}

#[test]
fn apply_is_refused_when_another_version_runs() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    let ran = run(&served, &["config", "apply", &file, "--yes", "--if-version", "40"]);
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.err.starts_with("error: version 41 is running, not 40\n"), "{}", ran.err);
    assert_eq!(run(&served, &["config", "apply", &file, "--yes", "--if-version", "41"]).exit, Exit::Ok);
}

#[test]
fn apply_is_refused_when_a_peer_objects() {
    let served = Served::start();
    served.node.world().peers[0].objection = Some("vip www has no interface".into());
    let file = served.file("c.toml", &changed());
    for arguments in [["config", "apply", &file, "--yes"], ["config", "apply", &file, "--dry-run"]] {
        let ran = run(&served, &arguments);
        assert_eq!(ran.exit, Exit::Refused);
        assert!(ran.err.starts_with("error: lb2 cannot run it: vip www has no interface\n"), "{}", ran.err);
    }
    assert_eq!(served.node.world().versions.len(), 1);
}

#[test]
fn a_peer_that_cannot_be_asked_is_named() {
    let served = Served::start();
    served.node.world().peers[0].reached = false;
    let ran = run(&served, &["config", "apply", &served.file("c.toml", &changed()), "--dry-run"]);
    assert_eq!(ran.exit, Exit::Differs);
    assert!(ran.out.contains("lb2 could not be asked\n"), "{}", ran.out);
}

#[test]
fn each_refusal_of_the_node_has_its_exit_code() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    let codes = [
        (ErrorCode::Error, Exit::Error),
        (ErrorCode::NoQuorum, Exit::NoQuorum),
        (ErrorCode::Refused, Exit::Refused),
        (ErrorCode::TimedOut, Exit::TimedOut),
    ];
    for (code, exit) in codes {
        served.node.world().refusal = Some(ApiError::new(code, "no", "do this"));
        let ran = run(&served, &["config", "apply", &file, "--yes"]);
        assert_eq!((ran.exit, ran.err.as_str()), (exit, "error: no\n  do this\n"));
        let ran = run(&served, &["server", "drain", "web", "s1", "-o", "json"]);
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.exit, json["error"].as_str(), ran.err.as_str()), (exit, Some("no"), ""));
    }
}

#[test]
fn the_author_may_write_one_line_of_comment() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    let ran = run(&served, &["config", "apply", &file, "--yes", "--comment", "two\nlines"]);
    assert_eq!(
        (ran.exit, ran.err.as_str()),
        (Exit::Usage, "error: the comment has control characters\n  write one line\n")
    );
    let ran = run(&served, &["config", "apply", &file, "--yes", "--comment", &"x".repeat(513)]);
    assert_eq!(ran.exit, Exit::Usage);
}

#[test]
fn versions_are_shown_and_listed() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    assert_eq!(run(&served, &["config", "apply", &file, "--yes", "--comment", "heavier"]).exit, Exit::Ok);
    assert_eq!(run(&served, &["config", "show"]).out, changed());
    assert_eq!(run(&served, &["config", "show", "--version", "41"]).out, CLUSTER);
    let wide = run(&served, &["config", "show", "--version", "41", "-o", "wide"]).out;
    assert!(wide.starts_with("# v41 by alice at 2026-11-22T18:35:24Z: first\n[[vip]]"), "{wide}");
    let ran = run(&served, &["config", "show", "--version", "7"]);
    assert_eq!(
        (ran.exit, ran.err.as_str()),
        (Exit::Error, "error: this version is not kept\n  cygnet config history\n")
    );
    let ran = run(&served, &["config", "history"]);
    let expected = "VERSION  TIME (UTC)            AUTHOR  CHANGE    COMMENT\n    \
                    v42  2026-11-22T18:36:40Z  alice   +0 ~1 -0  heavier\n    \
                    v41  2026-11-22T18:35:24Z  alice   -         first\n";
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, expected));
    let json: Value = serde_json::from_str(&run(&served, &["config", "history", "-o", "json"]).out).unwrap();
    assert_eq!(json["versions"][0]["change"]["changed"], 1);
    assert_eq!(json["confirmation"], Value::Null);
}

#[test]
fn a_trial_is_shown_everywhere_until_it_is_confirmed() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    let nothing = run(&served, &["config", "confirm"]);
    assert_eq!(
        (nothing.exit, nothing.err.lines().next()),
        (Exit::Refused, Some("error: nothing waits for a confirmation"))
    );
    let ran = run(&served, &["config", "apply", &file, "--yes", "--confirm-within", "5m"]);
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let told = "v42 is on trial: v41 comes back in 5m0s unless it is confirmed; cygnet config confirm\n";
    assert!(ran.out.ends_with(told), "{}", ran.out);
    assert!(run(&served, &["config", "history"]).out.ends_with(told));
    let status = run(&served, &["status", "--check"]);
    assert_eq!(status.exit, Exit::Ok, "nothing is broken");
    assert!(status.out.contains("config v42 is on trial: v41 comes back in 5m0s"), "{}", status.out);
    let confirmed = run(&served, &["config", "confirm"]);
    assert_eq!((confirmed.exit, confirmed.out.as_str()), (Exit::Ok, "v42 is confirmed\n"));
    assert!(!run(&served, &["status"]).out.contains("trial"));
    let json = run(&served, &["config", "confirm", "42", "-o", "json"]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["code"], "refused");
}

#[test]
fn the_time_to_confirm_has_bounds() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    for time in ["1ms", "25h"] {
        let ran = run(&served, &["config", "apply", &file, "--yes", "--confirm-within", time]);
        assert_eq!(ran.exit, Exit::Usage, "{time}: {}", ran.err);
        assert!(ran.err.starts_with("error: a confirmation is waited for 1 s to 24 h\n"), "{}", ran.err);
    }
    assert_eq!(served.node.world().versions.len(), 1);
}

#[test]
fn a_rollback_is_a_new_version_with_the_old_text_and_asks_the_nodes_like_any_other() {
    let served = Served::start();
    let none = run(&served, &["config", "rollback"]);
    assert!(none.err.starts_with("error: no older version is kept\n"), "{}", none.err);
    let file = served.file("c.toml", &changed());
    assert_eq!(run(&served, &["config", "apply", &file, "--yes"]).exit, Exit::Ok);
    let asked = run(&served, &["config", "rollback"]);
    assert_eq!(asked.err, "error: not confirmed: go back to v41, as v43?\n  add --yes\n");
    served.node.world().peers[0].objection = Some("no such file".into());
    let refused = run(&served, &["config", "rollback", "--yes"]);
    assert_eq!(refused.exit, Exit::Refused);
    assert!(refused.err.starts_with("error: lb2 cannot run it: no such file\n"), "{}", refused.err);
    served.node.world().peers[0].objection = None;
    let ran = run(&served, &["config", "rollback", "--yes"]);
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    assert!(
        ran.out.starts_with("changes to v42:\n  ~ service web, server s2: weight 3 -> 1\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("v43 applied: "), "{}", ran.out);
    let newest = served.node.world().versions[2].clone();
    assert_eq!((newest.text.as_str(), newest.entry.comment.as_str()), (CLUSTER, "back to v41"));
    let ran = run(&served, &["config", "rollback", "43", "--yes"]);
    assert_eq!((ran.exit, ran.err.lines().next()), (Exit::Usage, Some("error: v43 is running")));
    let ran = run(&served, &["config", "rollback", "42", "--yes", "--if-version", "41"]);
    assert_eq!(ran.exit, Exit::Refused);
}

#[test]
fn a_rollback_of_a_trial_ends_it() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    assert_eq!(run(&served, &["config", "apply", &file, "--yes", "--confirm-within", "5m"]).exit, Exit::Ok);
    let ran = run(&served, &["config", "rollback", "--yes", "--comment", "worse"]);
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let world = served.node.world();
    assert_eq!(
        (world.versions[2].text.as_str(), world.versions[2].entry.comment.as_str()),
        (CLUSTER, "worse")
    );
    assert_eq!(world.facts.config.confirmation, None);
}

#[test]
fn a_change_that_removes_most_is_refused_in_numbers_unless_it_is_forced() {
    let served = Served::start();
    let file = served.file("c.toml", "[[vip]]\nname = \"www\"\naddress = \"192.0.2.100\"\nprotocol = \"vrrp3\"\nid = 51\nmode = \"hold\"\n");
    for arguments in [["config", "apply", &file, "--yes"], ["config", "apply", &file, "--dry-run"]] {
        let ran = run(&served, &arguments);
        assert_eq!(ran.exit, Exit::Refused);
        let told = "error: it removes 2 of 2 servers, and one change may remove 50 %\n  is it the right file, and whole? if so, add --force\n";
        assert_eq!(ran.err, told);
    }
    assert_eq!(served.node.world().versions.len(), 1);
    assert_eq!(run(&served, &["config", "apply", &file, "--yes", "--force"]).exit, Exit::Ok);
}

#[test]
fn apply_waits_until_all_that_can_be_reached_run_it_and_names_who_does_not() {
    let served = Served::start();
    let file = served.file("c.toml", &changed());
    served.node.world().other_is_slow = true;
    let ran = run(&served, &["config", "apply", &file, "--yes", "--wait=0"]);
    assert_eq!(ran.exit, Exit::TimedOut);
    let told = "error: v42 is committed, but after 0 s not run by lb2 v41 (300ms ago)\n";
    assert!(ran.err.starts_with(told), "{}", ran.err);
    // One that cannot be reached is not waited for.
    served.node.world().facts.members[1].connected = false;
    let ran = run(&served, &["config", "apply", &file, "--yes", "--wait"]);
    assert_eq!(
        (ran.exit, ran.out.lines().last()),
        (Exit::Ok, Some("v42 runs: lb1 v42, lb2 v41 (300ms ago), not connected"))
    );
}
