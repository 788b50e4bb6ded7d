//! What commands want done.

use super::*;
use crate::pen::fixture::World;
use crate::pen::{LogTarget, ServerId};

fn effects(lines: &[&str]) -> Vec<Effect> {
    let world = World::default().with_file("/file", "blacklist 5\nnonsense\nserver 1 max x\nblacklist\n");
    let mut pen = Pen { exit_enabled: true, conn_max: 500, ..Pen::default() };
    lines.iter().flat_map(|line| pen.command(line, world.around()).effects).collect()
}

#[test]
fn a_new_server_is_in_the_plan_before_it_is_blacklisted() {
    let blacklist = Effect::Blacklist { server: ServerId::Regular(3), seconds: 7 };
    assert_eq!(effects(&["server 3 blacklist 7 max 2"]), [Effect::Apply, blacklist]);
    let end = Effect::Blacklist { server: ServerId::Regular(0), seconds: 0 };
    assert_eq!(effects(&["server 0 blacklist -4"]), [Effect::Apply, end]);
}

#[test]
fn effects_are_those_of_the_command() {
    let file = LogTarget::File("/log".into());
    let network = LogTarget::Network { host: "host".into(), port: "514".into() };
    let cases: [(&str, Vec<Effect>); 9] = [
        ("listen 127.0.0.1:8010", vec![Effect::Apply, Effect::Listen]),
        ("log /log", vec![Effect::Log(Some(file))]),
        ("log host:514", vec![Effect::Log(Some(network))]),
        ("no log", vec![Effect::Log(None)]),
        ("close 3", vec![Effect::Close(3)]),
        ("close 500", vec![]),
        ("exit", vec![Effect::Exit]),
        ("ssl_ocsp_response /x", vec![Effect::Apply, Effect::ReadOcsp]),
        ("blacklist", vec![]),
    ];
    for (line, expected) in cases {
        assert_eq!(effects(&[line]), expected, "{line}");
    }
}

#[test]
fn a_listener_that_cannot_be_is_refused_and_the_old_one_stays() {
    let world = World::default();
    let mut pen = Pen { listen_words: Some("8000".to_owned()), ..Pen::default() };
    let outcome = pen.command("listen 127.0.0.1:99999", world.around());
    assert_eq!(outcome.answer, "error: listen: Port 99999 out of range\n");
    assert_eq!((outcome.effects, pen.listen_words.as_deref()), (vec![], Some("8000")));
}

#[test]
fn direct_server_return_is_refused_once_it_is_too_late_and_may_be_said_again() {
    let mut pen = Pen::default();
    let early = World::default();
    assert_eq!(pen.command("dsr_if eth0", early.around()).answer, "");
    let late = World { is_running: true, ..World::default() };
    let refused = pen.command("dsr_if eth1", late.around());
    assert_eq!(refused.answer, "error: dsr_if: only at the start, with -O or in the file of -F\n");
    assert_eq!(pen.dsr_if.as_deref(), Some("eth0"));
    let again = pen.command("dsr_if eth0", late.around()).answer;
    assert_eq!(again, "", "a file that is read again says it again");
}

#[test]
fn what_an_included_file_says_goes_to_our_stdout_and_its_errors_have_a_place() {
    let expected = [
        Effect::Apply,
        Effect::Message("/file:3: server: max: 'x' is not a number".to_owned()),
        Effect::Print("5\ndo_cmd: ignoring command starting with 'nonsense'\n5\n".to_owned()),
    ];
    assert_eq!(effects(&["include /file"]), expected);
    let world = World::default().with_file("/file", "blacklist x\n");
    let outcome = Pen::default().command("include /file", world.around());
    assert_eq!(outcome.answer, "error: include: 1 wrong lines in /file\n");
}

#[test]
fn only_the_first_line_counts_and_only_spaces_part_words() {
    let world = World::default();
    let mut pen = Pen::default();
    let mut answer = |line: &str| pen.command(line, world.around()).answer;
    assert_eq!(answer("  blacklist   7 8\r\nblacklist 9\n"), "7\n");
    assert_eq!(answer("blacklist \t8"), "8\n");
    assert_eq!(answer("\tblacklist"), "do_cmd: ignoring command starting with '\tblacklist'\n");
    assert_eq!(answer("# blacklist 9"), "");
    assert_eq!(answer(""), "");
    assert_eq!(answer("\nblacklist 9"), "");
    assert_eq!(answer("blacklist"), "8\n");
}

#[test]
fn a_switch_changes_only_itself() {
    let world = World::default();
    let mut pen = Pen::default();
    let before = pen.clone();
    let switches = [
        "abort_on_error",
        "ascii",
        "dummy",
        "hash",
        "http",
        "keepalive",
        "prio",
        "roundrobin",
        "stubborn",
        "tcp_nodelay",
        "transparent",
        "weight",
    ];
    for switch in switches {
        pen.command(switch, world.around());
        assert_ne!(pen, before, "{switch}");
        pen.command(&format!("no {switch}"), world.around());
        assert_eq!(pen, before, "no {switch}");
    }
}
