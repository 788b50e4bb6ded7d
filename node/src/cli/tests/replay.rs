//! Recorded exchanges, replayed without a node. The expected texts lie in `replay/`, one a capture; that they are true to
//! the captures is shown by the table in `ha/src/vip/watch/captures/`, which says the same packet by packet.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::{Closed, Ran, Terminal, run_into, run_on};
use crate::cli::Exit;

/// No node listens there: a replay needs none.
const NOWHERE: &str = "/nonexistent/cygnet.sock";
const TERMINAL: Terminal<'_> = Terminal { answer: None, colour: false };
const FILE_HEADER: usize = 24;
const V2: &[&str] = &["www 192.0.2.100 vrrp2 51 1s"];
const V3: &[&str] = &["www 192.0.2.100 vrrp3 51 1s"];
const V3_FAST: &[&str] = &["www 192.0.2.100 vrrp3 51 100ms"];
const CARP: &[&str] = &["www 192.0.2.100 carp 51 1s secret"];
const MIXED: &[&str] = &["www 192.0.2.100 vrrp2 51 1s", "mail 192.0.2.101 carp 51 1s secret"];

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../netlink/fixtures/captures");
    folder.join(name).with_extension("pcap")
}

/// A cluster's file with these virtual addresses: name, address, protocol, id, interval, password.
fn cluster(vips: &[&str]) -> String {
    let table = |vip: &&str| {
        let words: Vec<&str> = vip.split(' ').collect();
        let password = words.get(5).map_or_else(String::new, |word| format!("password = \"{word}\"\n"));
        let [name, address, protocol, id, interval] = words[..5] else { panic!("{vip}") };
        format!(
            "[[vip]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\nid = {id}\n\
             mode = \"watch\"\ninterval = \"{interval}\"\n{password}"
        )
    };
    vips.iter().map(table).collect()
}

fn replay(capture: &Path, vips: &[&str], more: &[&str]) -> Ran {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("cluster.toml");
    std::fs::write(&config, cluster(vips)).unwrap();
    let files = ["vip", "replay", capture.to_str().unwrap(), "--config", config.to_str().unwrap()];
    run_on(Path::new(NOWHERE), &[&files[..], more].concat(), &TERMINAL)
}

/// Replays what is in memory; its name in messages is `it.pcap`.
fn replay_bytes(bytes: &[u8], vips: &[&str], more: &[&str]) -> Ran {
    let folder = TempDir::new().unwrap();
    let capture = folder.path().join("it.pcap");
    std::fs::write(&capture, bytes).unwrap();
    let Ran { exit, out, err } = replay(&capture, vips, more);
    let short = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
    Ran { exit, out: short(out), err: short(err) }
}

fn lines(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

/// The records of a capture, each with its header, and the file's header before them. Little endian, as the fixtures are.
fn split(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut records = Vec::new();
    let mut rest = &file[FILE_HEADER..];
    while !rest.is_empty() {
        let length = 16 + u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        records.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    (file[..FILE_HEADER].to_vec(), records)
}

fn join(header: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    [header.to_vec(), records.concat()].concat()
}

#[test]
fn recorded_exchanges_are_told_as_they_went() {
    let own = &["--own", "192.0.2.9"][..];
    let captures = [
        ("vrrp2-crash-nopreempt", V2, &[][..]),
        ("vrrp2-split-third-party", V2, &[]),
        ("vrrp2-malformed", V2, own),
        ("vrrp3-100ms-crash", V3_FAST, &[]),
        ("vrrp3-malformed", V3, own),
        ("carp-malformed", CARP, own),
        ("mixed-vrrp-carp-same-id", MIXED, &[]),
    ];
    for (name, vips, more) in captures {
        let capture = fixture(name);
        let ran = replay(&capture, vips, more);
        let out = ran.out.replace(capture.to_str().unwrap(), name);
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/tests/replay").join(name);
        let expected = std::fs::read_to_string(expected.with_extension("txt")).unwrap_or_default();
        assert_eq!((ran.exit, ran.err.as_str()), (Exit::Ok, ""), "{name}");
        assert!(out == expected, "{name}:\n{out}\nexpected\n{expected}");
    }
}

#[test]
fn each_finding_is_one_line_of_json_with_the_state_of_its_moment() {
    let ran = replay(&fixture("vrrp3-100ms-crash"), V3_FAST, &["-o", "json"]);
    let told: Vec<String> = lines(&ran.out)
        .iter()
        .map(|line| {
            let [kind, name, packet, time, holder] =
                ["kind", "name", "packet", "time_ms", "holder"].map(|key| &line[key]);
            format!("{kind} {name} {packet} {time} {holder}").replace('"', "")
        })
        .collect();
    let expected = [
        "event appeared 1 0 192.0.2.1",
        "event timed-out null 2567 null",
        "event appeared 29 2569 192.0.2.2",
        "event changed 50 4115 192.0.2.1",
        "vip null null null 192.0.2.1",
        "capture null null null null",
    ];
    assert_eq!((ran.exit, told), (Exit::Ok, expected.map(str::to_owned).to_vec()));
    let last = lines(&ran.out).pop().unwrap();
    assert_eq!((&last["packets"], &last["valid"], &last["complete"]), (&65.into(), &50.into(), &true.into()));
}

#[test]
fn every_discarded_packet_has_its_line_and_is_counted() {
    let ran = replay(&fixture("vrrp2-malformed"), V2, &["--own", "192.0.2.9", "-o", "json"]);
    let lines = lines(&ran.out);
    let discards = lines.iter().filter(|line| line["kind"] == "discard").count() as u64;
    let counts: Vec<u64> = lines.last().unwrap()["discarded"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(reason, _)| *reason != "unknown-id")
        .map(|(_, count)| count.as_u64().unwrap())
        .collect();
    assert_eq!((discards, counts.iter().sum::<u64>()), (21, 21));
}

#[test]
fn other_files_are_refused_with_what_helps() {
    let good = std::fs::read(fixture("vrrp3-100ms-crash")).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let pcapng = with(0, &[0x0a, 0x0d, 0x0d, 0x0a]);
    let cases = [
        (pcapng, "it.pcap is a pcapng file; only the classic pcap format is read", "editcap -F pcap it.pcap"),
        (with(20, &[113]), "it.pcap cannot be read: link type 113, not Ethernet", "tcpdump -i eth0"),
        (with(4, &[3]), "it.pcap cannot be read: libpcap file version 3", "tcpdump -w"),
        (b"[[vip]]".repeat(9), "it.pcap cannot be read: not a libpcap file (magic 0x5b5b7669)", "tcpdump -w"),
        (Vec::new(), "it.pcap is not a pcap file: it has 0 bytes", "tcpdump -w"),
    ];
    for (file, error, remedy) in cases {
        let ran = replay_bytes(&file, V3_FAST, &[]);
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Error, ""), "{error}");
        assert!(ran.err.starts_with(&format!("error: {error}\n")), "{}", ran.err);
        assert!(ran.err.contains(remedy), "{}", ran.err);
        let json = replay_bytes(&file, V3_FAST, &["-o", "json"]);
        let lines = lines(&json.out);
        assert_eq!((json.exit, lines.len(), &lines[0]["error"]), (Exit::Error, 1, &error.into()));
    }
    let missing = replay(Path::new("/nonexistent/it.pcap"), V2, &[]);
    assert_eq!(missing.exit, Exit::Error);
    assert!(
        missing.err.starts_with("error: cannot read /nonexistent/it.pcap: No such file"),
        "{}",
        missing.err
    );
}

#[test]
fn a_damaged_capture_is_told_up_to_the_damage() {
    let good = std::fs::read(fixture("vrrp3-100ms-crash")).unwrap();
    let ran = replay_bytes(&good[..good.len() - 1], V3_FAST, &[]);
    assert_eq!(ran.exit, Exit::Error);
    assert!(ran.out.contains("packets 64 in 5.022 s"), "{}", ran.out);
    let error = "error: it.pcap is not complete: truncated at byte 3932\n";
    assert!(ran.err.starts_with(error), "{}", ran.err);
    let mut damaged = good;
    damaged[3932 + 11] = 0xff;
    let json = replay_bytes(&damaged, V3_FAST, &["-o", "json"]);
    let lines = lines(&json.out);
    let [.., capture, error] = &lines[..] else { panic!("{}", json.out) };
    assert_eq!(
        (json.exit, &capture["complete"], &capture["packets"]),
        (Exit::Error, &false.into(), &64.into())
    );
    assert_eq!(error["error"], "it.pcap is damaged: impossible record header at byte 3932");
}

#[test]
fn configurations_and_command_lines_that_make_no_sense_are_refused() {
    let capture = fixture("vrrp2-vmac");
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("it.toml");
    let with = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let (capture, config) = (capture.to_str().unwrap(), config.to_str().unwrap());
        run_on(Path::new(NOWHERE), &["vip", "replay", capture, "--config", config], &TERMINAL)
    };
    let node = with("name = \"lb1\"\n[cluster]\nname = \"demo\"\n");
    assert_eq!(node.exit, Exit::Error);
    assert!(node.err.contains("is a node's file"), "{}", node.err);
    let bad = with("[[vip]]\nname = \"www\"\n");
    assert_eq!(bad.exit, Exit::Error);
    assert!(bad.err.contains("it.toml:1:1: vip[www].address: missing"), "{}", bad.err);
    for arguments in [
        &["vip", "replay"][..],
        &["vip", "replay", "it.pcap"],
        &["vip", "replay", "it.pcap", "--config", "it.toml", "--own", "eth0"],
    ] {
        assert_eq!(run_on(Path::new(NOWHERE), arguments, &TERMINAL).exit, Exit::Usage, "{arguments:?}");
    }
}

#[test]
fn vlan_tags_do_not_hide_an_advertisement() {
    let name = "vrrp3-100ms-crash";
    let (header, mut records) = split(&std::fs::read(fixture(name)).unwrap());
    let plain = replay_bytes(&join(&header, &records), V3_FAST, &[]).out;
    for tag in [[0x81, 0x00, 0, 7], [0x88, 0xa8, 0, 9]] {
        for record in &mut records {
            record.splice(28..28, tag);
            for length in [8, 12] {
                record[length] += 4;
            }
        }
        assert_eq!(replay_bytes(&join(&header, &records), V3_FAST, &[]).out, plain);
    }
}

#[test]
fn a_clock_that_is_set_back_moves_no_timer() {
    let (header, mut records) = split(&std::fs::read(fixture("vrrp2-vmac")).unwrap());
    for record in &mut records[3..] {
        let seconds = u32::from_le_bytes(record[..4].try_into().unwrap());
        record[..4].copy_from_slice(&(seconds - 3600).to_le_bytes());
    }
    let ran = replay_bytes(&join(&header, &records), V2, &[]);
    assert_eq!(ran.out.matches("the clock of the capture was set back by").count(), 1, "{}", ran.out);
    assert!(!ran.out.contains("is silent"), "{}", ran.out);
    assert!(ran.out.contains("192.0.2.1 resigned"), "{}", ran.out);
}

#[test]
fn advertisements_that_the_recorder_has_cut_are_left_out_and_counted() {
    let (header, mut records) = split(&std::fs::read(fixture("vrrp3-100ms-crash")).unwrap());
    for record in &mut records {
        record.truncate(16 + 40);
        record[8] = 40;
    }
    let ran = replay_bytes(&join(&header, &records), V3_FAST, &[]);
    assert_eq!(ran.out.matches("kept only a part").count(), 1, "{}", ran.out);
    assert!(ran.out.contains("advertisements 50, valid 0, discarded 0\n"), "{}", ran.out);
    assert!(ran.out.ends_with("cut them: 50\n"), "{}", ran.out);
}

#[test]
fn a_long_capture_is_read_in_pieces_without_losing_a_packet() {
    let (header, records) = split(&std::fs::read(fixture("vrrp3-100ms-crash")).unwrap());
    let rounds = 800_u32;
    let mut file = header;
    for round in 0..rounds {
        for record in &records {
            let seconds = u32::from_le_bytes(record[..4].try_into().unwrap()) + 6 * round;
            file.extend(seconds.to_le_bytes());
            file.extend(&record[4..]);
        }
    }
    assert!(file.len() > 3 * 1024 * 1024);
    let ran = replay_bytes(&file, V3_FAST, &["-o", "json"]);
    let last = lines(&ran.out).pop().unwrap();
    assert_eq!((ran.exit, &last["packets"], &last["valid"]), (Exit::Ok, &52_000.into(), &40_000.into()));
    let cut = replay_bytes(&file[..file.len() - 1], V3_FAST, &["-o", "json"]);
    let error = lines(&cut.out).pop().unwrap();
    let at = file.len() - records.last().unwrap().len();
    assert_eq!(error["error"], format!("it.pcap is not complete: truncated at byte {at}"));
}

#[test]
fn a_reader_that_leaves_early_ends_the_replay_without_a_word() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("cluster.toml");
    std::fs::write(&config, cluster(V2)).unwrap();
    let (capture, config) = (fixture("vrrp2-malformed"), config.to_str().unwrap());
    let arguments = ["vip", "replay", capture.to_str().unwrap(), "--config", config];
    let mut err = Vec::new();
    let exit = run_into(Path::new(NOWHERE), &arguments, &TERMINAL, &mut Closed(500), &mut err);
    assert_eq!((exit, err.len()), (Exit::Ok, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn garbage_is_refused_or_told_but_never_breaks_the_replay(
        keep in 0..6700_usize,
        wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        tail in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut file = std::fs::read(fixture("carp-malformed")).unwrap();
        file.truncate(keep);
        for (at, byte) in wounds {
            // The file's header stays as it is now and then only: most garbage must get past it.
            let at = at.index(file.len().max(FILE_HEADER + 1)).max(FILE_HEADER - 1);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        file.extend(tail);
        let ran = replay_bytes(&file, MIXED, &["-o", "json", "--own", "192.0.2.9"]);
        let lines = lines(&ran.out);
        prop_assert_eq!(ran.err, "");
        let failed = lines.last().is_some_and(|line| line["kind"] == "error");
        prop_assert_eq!(ran.exit, if failed { Exit::Error } else { Exit::Ok });
        let capture = lines.iter().find(|line| line["kind"] == "capture");
        if let Some(capture) = capture {
            let discarded = capture["discarded"].as_object().unwrap();
            let discarded: u64 = discarded.values().map(|count| count.as_u64().unwrap()).sum();
            let [advertisements, valid, cut, neighbours] = ["advertisements", "valid", "cut", "neighbours_discarded"]
                .map(|key| capture[key].as_u64().unwrap());
            let all = valid + cut + discarded;
            prop_assert_eq!(advertisements + neighbours, all, "each is valid, cut or discarded");
        }
    }
}
