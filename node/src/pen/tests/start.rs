//! Command lines.

use super::*;
use crate::config::model::{Endpoint, Transport};
use crate::pen::{Effect, Host, LogTarget};

fn stop(line: &str) -> Stop {
    parse(&arguments(line), &World::default()).err().unwrap_or_else(|| panic!("{line} starts"))
}

#[test]
fn nothing_to_listen_on_is_the_usage_text_and_success() {
    let usage = Stop { out: options::USAGE.to_owned(), err: String::new(), code: 0 };
    for line in ["", "-N", "-t 0 8000", "-t abc 8000", "-f"] {
        assert_eq!(stop(line), usage, "{line}");
    }
    assert_eq!(stop("-O timeout").out, format!("3\n{}", options::USAGE));
}

#[test]
fn getopt_complains_before_the_usage_text() {
    let cases = [
        ("-Y", "pen: invalid option -- 'Y'\n"),
        ("-?", "pen: invalid option -- '?'\n"),
        ("--help", "pen: invalid option -- '-'\n"),
        ("-b", "pen: option requires an argument -- 'b'\n"),
        ("-O", "pen: option requires an argument -- 'O'\n"),
        ("8000 -fY", "pen: invalid option -- 'Y'\n"),
    ];
    for (line, err) in cases {
        assert_eq!(
            stop(line),
            Stop { out: options::USAGE.to_owned(), err: err.to_owned(), code: 0 },
            "{line}"
        );
    }
}

#[test]
fn fatal_errors_have_pens_words_and_status() {
    let cases = [
        ("127.0.0.1:99999", "Port 99999 out of range\n", 1),
        ("127.0.0.1:0", "Port 0 out of range\n", 1),
        ("nonsense", "Port 0 out of range\n", 1),
        ("nonsense:8000", "Can't convert address 'nonsense'\n", 1),
        ("8000 nosuch.invalid:80", "unknown or invalid address [nosuch.invalid]\n", 1),
        ("-e nosuch.invalid:8 8000", "unknown or invalid address [nosuch.invalid]\n", 1),
        ("-L foo 8000", "protocol version foo not known\n", 1),
        ("-O kqueue 8000", "You don't have kqueue\n", 1),
        ("-i X", "Windows only\n", 0),
        ("--workers 0 8000", "pen: --workers takes a number from 1 to 256\n", 1),
        ("8000 --countries", "pen: --countries takes the file of a country database\n", 1),
        ("--countries= 8000", "pen: --countries takes the file of a country database\n", 1),
    ];
    for (line, err, code) in cases {
        assert_eq!(stop(line), Stop { out: String::new(), err: err.to_owned(), code }, "{line}");
    }
}

#[test]
fn obsolete_options_say_so_and_the_start_goes_on() {
    let start = parse(&arguments("-D -n -Q -S 3 -m 0 -q 10 8000"), &World::default()).expect("starts");
    let expected = "Pen 0.26.0 removed the delayed forward feature,\n\
        making the -D option obsolete\n\
        Pen 0.26.0 and up uses only nonblocking sockets,\n\
        making the -n option obsolete\n\
        Since Pen 0.26.0, kqueue is already the default on supported systems,\n\
        making the -Q option obsolete\n\
        As of 0.28.1 the server table is expanded dynamically,\n\
        making the -S option obsolete\n\
        multi_accept bumped to 1\n\
        listen_queue bumped to 50\n";
    assert_eq!(start.err, expected);
    assert_eq!((start.pen.multi_accept, start.pen.listen_queue), (1, 50));
}

#[test]
fn commands_run_in_the_place_where_they_stand() {
    let line = ["-O", "nonsense", "-O", "blacklist", "-b", "12", "-oblacklist", "8000", "-O", "timeout"];
    let line: Vec<_> = line.iter().map(|word| (*word).to_owned()).collect();
    let start = parse(&line, &World::default()).expect("starts");
    assert_eq!(start.out, "do_cmd: ignoring command starting with 'nonsense'\n30\n12\n3\n");
}

#[test]
fn tables_are_as_large_as_the_largest_number_before_the_start() {
    let line = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words, &World::default()).expect("starts")
    };
    let start = line(&["-O", "conn_max", "-O", "clients_max", "-c", "10", "-O", "clients_max 5", "8000"]);
    assert_eq!(start.out, "0\n0\n10\n");
    assert_eq!((start.pen.clients_max, start.pen.conn_max), (10, 500));
    let start = line(&["-x", "10", "-x", "5", "-x", "abc", "-O", "conn_max", "-c", "-4", "8000"]);
    assert_eq!(start.out, "10\n");
    assert_eq!((start.pen.clients_max, start.pen.conn_max), (2048, 10));
}

#[test]
fn every_option_reaches_the_state() {
    let line = "-b 1 -c 3000 -d -d -e 127.0.0.1:7:8 -j /jail -l /log -m 5 -p /pid -q 60 -t 9 -u nobody -w /stats -x 700 \
        -A /hashed -B 127.0.0.1 -C 9000 -E /cert -F /file -G /ca -K /key -L tls1 -T 4 -UadfhrsHPRWXZ 127.0.0.1:8000";
    let world = World::default().with_file("/file", "");
    let pen = started(line, &world);
    assert_eq!((pen.blacklist, pen.timeout, pen.tracking, pen.debug), (1, 9, 4, 3));
    assert_eq!((pen.clients_max, pen.conn_max, pen.multi_accept, pen.listen_queue), (3000, 700, 5, 60));
    let emergency = pen.emergency.expect("an emergency server");
    assert_eq!((emergency.port, emergency.max), (7, 8));
    assert_eq!(pen.abuse.expect("an abuse server").port, 8000, "the listening port is the default");
    let shown = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let files = [&pen.jail, &pen.pid_file, &pen.web_stats, &pen.config_file, &pen.tls.certificate];
    let files: Vec<_> = files.into_iter().filter_map(shown).collect();
    assert_eq!(files, ["/jail", "/pid", "/stats", "/file", "/cert"]);
    let files = [&pen.tls.authorities_directory, &pen.tls.authorities, &pen.tls.key];
    assert_eq!(files.into_iter().filter_map(shown).collect::<Vec<_>>(), ["/hashed", "/ca", "/key"]);
    assert_eq!(pen.log, Some(LogTarget::File("/log".into())));
    assert_eq!((pen.user.as_deref(), pen.control.as_deref()), (Some("nobody"), Some("9000")));
    assert_eq!(pen.transport, Transport::Udp);
    let rules = pen.rules;
    assert!(rules.hash && rules.round_robin && rules.weight && !rules.prio);
    assert!(pen.ascii && pen.foreground && pen.stubborn && pen.http && pen.exit_enabled);
    assert!(pen.tls.client_required && pen.tls.compatible);
    assert_eq!(pen.events, super::super::Events::Poll);
}

#[test]
fn servers_are_read_in_all_their_forms() {
    let line = "8000 127.0.0.1:80:1:2:3:4 127.0.0.1 [::1]:99 ::1 /tmp/x localhost:http 127.0.0.1::5 127.0.0.1: 127.0.0.1:80:a:-2";
    let pen = started(line, &World::default());
    let shown: Vec<_> = pen
        .servers
        .iter()
        .map(|s| format!("{} {} {} {} {} {}", s.host, s.shown_port(), s.max, s.hard, s.weight, s.prio))
        .collect();
    let expected = [
        "127.0.0.1 80 1 2 3 4",
        "127.0.0.1 8000 0 0 0 0",
        "::1 99 0 0 0 0",
        "::1 8000 0 0 0 0",
        "/tmp/x 1 0 0 0 0",
        "127.0.0.1 80 0 0 0 0",
        "127.0.0.1 8000 0 0 0 0",
        "127.0.0.1 8000 0 0 0 0",
        "127.0.0.1 80 0 0 0 0",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_server_with_an_impossible_port_is_told_of_and_never_connected_to() {
    let start =
        parse(&arguments("8000 127.0.0.1:99999 127.0.0.1:nosuch"), &World::default()).expect("starts");
    assert_eq!(start.pen.servers.iter().map(|slot| slot.port).collect::<Vec<_>>(), [0, 0]);
    let messages = start.effects.iter().filter(|effect| matches!(effect, Effect::Message(_)));
    assert_eq!(messages.count(), 2);
}

#[test]
fn listening_addresses_are_read_in_all_their_forms() {
    let inet = |address: &str| Endpoint::Inet(address.parse().expect("an address"));
    let cases = [
        ("8000", inet("0.0.0.0:8000")),
        ("http", inet("0.0.0.0:80")),
        ("127.0.0.1:http", inet("127.0.0.1:80")),
        ("::1:8000", inet("[::1]:8000")),
        (":::8000", inet("[::]:8000")),
        ("[::1]:8000", inet("[::1]:8000")),
        ("localhost:8000", inet("127.0.0.1:8000")),
        ("/tmp/x", Endpoint::Unix("/tmp/x".into())),
    ];
    for (words, endpoint) in cases {
        let pen = started(words, &World::default());
        assert_eq!((pen.listen, pen.listen_words.as_deref()), (Some(endpoint), Some(words)));
    }
}

#[test]
fn with_direct_server_return_an_address_alone_means_all_ports() {
    let line = ["-O", "dsr_if eth0", "192.0.2.7"].map(str::to_owned);
    let pen = parse(&line, &World::default()).expect("starts").pen;
    assert_eq!(pen.listen, Some(Endpoint::Inet("192.0.2.7:0".parse().expect("an address"))));
}

#[test]
fn a_listener_from_the_file_takes_the_place_of_the_first_address_and_gives_the_default_port() {
    let world = World::default().with_file("/file", "listen 127.0.0.1:8008\nserver 0 acl 3 max 9\nservers\n");
    let start = parse(&arguments("-F /file 8000 127.0.0.1 127.0.0.1:5"), &world).expect("starts");
    assert_eq!(start.pen.listen_words.as_deref(), Some("127.0.0.1:8008"));
    let expected = "127.0.0.1:8008\n0 addr (unknown address family 0 port 0 conn 0 max 9 hard 0 weight 0 prio 0 sx 0 rx 0\n";
    assert_eq!(start.out, expected);
    let ports: Vec<_> = start.pen.servers.iter().map(|slot| (slot.port, slot.max, slot.acl)).collect();
    assert_eq!(ports, [(8008, 0, 3), (5, 0, 0)], "the command line wins, but for the list");
}

#[test]
fn a_missing_configuration_file_does_not_hinder_the_start() {
    let start = parse(&arguments("-F /none 8000"), &World::default()).expect("starts");
    let [Effect::Message(text)] = &start.effects[..] else { panic!("{:?}", start.effects) };
    assert!(text.starts_with("Can't read config file '/none'"), "{text}");
}

#[test]
fn options_may_follow_addresses_and_two_dashes_end_them() {
    let pen = started("8000 -r 127.0.0.1 -s --workers 4", &World::default());
    assert!(pen.rules.round_robin && pen.stubborn);
    assert_eq!((pen.servers.len(), pen.workers), (1, 4));
    assert!(matches!(&pen.servers[0].host, Host::Ip(_)));
    assert_eq!(stop("8000 -- 127.0.0.1 -r").err, "unknown or invalid address [-r]\n");
}
