use std::process::Command;

use super::*;

/// Says to the test's other process what it is to do.
const PART: &str = "CYGNET_TEST_PROCESS";

/// Runs a test of this file again in a process of its own, where it sees `part`.
fn alone(name: &str, part: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", &format!("process::tests::{name}"), "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .envs(environment.iter().copied())
        .output()
        .expect("itself");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text.into_owned()
}

#[test]
fn a_process_with_several_threads_is_not_forked() {
    // The test runner has at least its own thread beside this one.
    let (stay, gone) = std::sync::mpsc::sync_channel::<()>(0);
    let other = std::thread::spawn(move || gone.recv());
    let error = into_background().expect_err("two threads");
    assert!(error.to_string().contains("more than one thread"), "{error}");
    drop(stay);
    let _ = other.join();
}

#[test]
fn the_zone_is_kept_when_its_files_are_out_of_reach() {
    if std::env::var_os(PART).is_none() {
        alone(
            "the_zone_is_kept_when_its_files_are_out_of_reach",
            "zone",
            &[("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")],
        );
        return;
    }
    load_time_zone();
    assert_eq!(wall_time(0).expect("a time").to_string(), "1970-01-01 01:00:00");
    assert_eq!(wall_time(1_783_000_000).expect("a time").to_string(), "2026-07-02 15:46:40", "summer");
    assert_eq!(wall_time(i64::MAX), None);
}

#[test]
fn after_becoming_a_user_nothing_of_root_is_left() {
    if !is_root() {
        eprintln!("SKIPPED: only root can become somebody else");
        return;
    }
    if std::env::var_os(PART).is_none() {
        alone("after_becoming_a_user_nothing_of_root_is_left", "user", &[]);
        return;
    }
    become_user(User { uid: 65534, gid: 65534 }).expect("root may");
    assert!(!is_root());
    let status = fs::read_to_string("/proc/thread-self/status").expect("ours");
    for line in ["Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534"] {
        assert!(status.contains(line), "{status}");
    }
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("a line of groups");
    assert_eq!(groups.trim(), "");
    assert!(become_user(User { uid: 0, gid: 0 }).is_err());
}
