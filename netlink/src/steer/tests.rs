use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::*;
use crate::testns::{in_namespace, ip, run, settle};

const VIP: &str = "192.0.2.100";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn neighbour() -> Neighbour {
    Neighbour { address: address("192.0.2.1"), mac: Mac([2, 0, 0, 0, 0, 10]), interface: 1 }
}

fn flows(count: u32, v6: bool) -> Vec<Flow> {
    let service = if v6 { "[2001:db8::100]:80" } else { "192.0.2.100:80" };
    let client = |number: u32| {
        let port = 1024 + (number % 60_000) as u16;
        let host = number / 60_000 + 7;
        let ip = if v6 { format!("2001:db8::{host}") } else { format!("198.51.100.{host}") };
        SocketAddr::new(address(&ip), port)
    };
    (0..count)
        .map(|number| Flow { client: client(number), service: service.parse().expect("an address") })
        .collect()
}

fn listed() -> String {
    run("nft", "list ruleset")
}

#[test]
fn a_batch_is_laid_out_as_the_kernel_reads_it() {
    let mut batch = Batch::new();
    batch.ask(Ask::NewTable, Family::Ip, |it| {
        it.text(1, "ab");
        it.nest(9, |inner| inner.number(1, 7));
    });
    let (bytes, awaited) = batch.finish();
    assert_eq!(awaited, 2);
    let begin = [20, 0, 0, 0, 0x10, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10];
    let table = [
        40, 0, 0, 0, 0, 10, 5, 6, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, // the header
        7, 0, 1, 0, b'a', b'b', 0, 0, // a text with its zero, filled up to four
        12, 0, 9, 0x80, 8, 0, 1, 0, 0, 0, 0, 7,
    ];
    let end = [20, 0, 0, 0, 0x11, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10];
    assert_eq!(bytes, [&begin[..], &table[..], &end[..]].concat());
}

#[test]
fn nft_lists_the_rules_as_they_were_meant() {
    in_namespace(|| {
        let mut steer = Steer::open().expect("nf_tables");
        assert_eq!(listed(), "", "the trial leaves nothing");
        steer.forward(address(VIP), &neighbour()).expect("forwarding");
        steer.hand_over(address(VIP), &neighbour(), Handing::New).expect("handing over");
        steer.hold_answers(address(VIP)).expect("held back");
        steer.quiet(address(VIP), address("192.0.2.2")).expect("quiet");
        let shown = listed();
        for line in [
            "type filter hook prerouting priority -350; policy accept;",
            "ip daddr != 192.0.2.100 accept",
            "iif \"lo\" accept",
            "ether saddr 02:00:00:00:00:0a accept",
            "tcp flags syn / syn,ack delete @keep_192.0.2.100 { ip saddr . tcp sport . ip daddr . tcp dport }",
            "ip saddr . tcp sport . ip daddr . tcp dport @keep_192.0.2.100 counter packets 0 bytes 0 dup to 192.0.2.1 device \"lo\" drop",
            "icmp type destination-unreachable counter packets 0 bytes 0 dup to 192.0.2.1 device \"lo\"",
            "icmp type 11-12 counter packets 0 bytes 0 dup to 192.0.2.1 device \"lo\"",
            "tcp flags syn / syn,ack update @hand_192.0.2.100 { ip saddr . tcp sport . ip daddr . tcp dport }",
            "ip saddr 192.0.2.100 tcp flags syn,ack / syn,ack drop",
            "arp saddr ip 192.0.2.100 arp saddr ip set 192.0.2.2",
            "arp operation request arp daddr ip 192.0.2.100 drop",
            "flags dynamic,timeout",
            "timeout 2m",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
        steer.hand_over(address(VIP), &neighbour(), Handing::Known).expect("handing over");
        assert!(!listed().contains("update @hand"), "{}", listed());
        let six = address("2001:db8::100");
        let to = Neighbour { address: address("fe80::1"), ..neighbour() };
        steer.forward(six, &to).expect("forwarding");
        steer.hand_over(six, &to, Handing::New).expect("handing over");
        let shown = listed();
        assert!(
            shown.contains("@keep_2001_db8__100 counter packets 0 bytes 0 dup to fe80::1 device \"lo\" drop"),
            "{shown}"
        );
        assert!(shown.contains("icmpv6 type 1-4 "), "{shown}");
    });
}

#[test]
fn each_part_goes_alone_and_the_table_with_the_last_of_them_and_nothing_else_is_touched() {
    in_namespace(|| {
        run("nft", "add table ip filter");
        let mut steer = Steer::open().expect("nf_tables");
        for vip in [VIP, "192.0.2.101"] {
            steer.forward(address(vip), &neighbour()).expect("forwarding");
            steer.hand_over(address(vip), &neighbour(), Handing::New).expect("handing over");
            steer.hold_answers(address(vip)).expect("held back");
            steer.quiet(address(vip), address("192.0.2.2")).expect("quiet");
        }
        steer.add_flows(address(VIP), &flows(10, false)).expect("added");
        for vip in [VIP, "192.0.2.101"] {
            assert!(!steer.is_empty());
            steer.stop_forwarding(address(vip)).expect("removed");
            steer.stop_forwarding(address(vip)).expect("nothing to remove");
            steer.stop_handing_over(address(vip)).expect("removed");
            steer.answer_again(address(vip)).expect("removed");
            assert!(listed().contains(&format!("say_{vip}")), "{}", listed());
            steer.speak_again(address(vip)).expect("removed");
            assert!(!listed().contains(vip), "{}", listed());
        }
        assert!(steer.is_empty());
        assert_eq!(listed(), "table ip filter {\n}\n");
        steer.forward(address(VIP), &neighbour()).expect("forwarding");
        // What another process left goes at the start, and by the guard's hand.
        let again = Steer::open().expect("nf_tables");
        assert_eq!(listed(), "table ip filter {\n}\n");
        drop(again);
        clear().expect("nothing there");
    });
}

#[test]
fn a_table_of_our_name_that_another_has_made_is_neither_used_nor_deleted() {
    in_namespace(|| {
        let mut steer = Steer::open().expect("nf_tables");
        for (family, comment) in [("ip", ""), ("arp", "{ comment \"an administrator\" ; }")] {
            run("nft", &format!("add table {family} cygnet {comment}"));
            let before = listed();
            let refused = Steer::open().expect_err("it is not ours");
            assert!(refused.to_string().contains("another program"), "{refused}");
            assert!(steer.forward(address(VIP), &neighbour()).is_err() || family != "ip");
            assert!(steer.quiet(address(VIP), address("192.0.2.2")).is_err() || family != "arp");
            steer.clear().expect("ours are gone");
            clear().expect("the guard deletes ours only");
            assert_eq!(listed(), before);
            run("nft", &format!("delete table {family} cygnet"));
        }
        steer.forward(address(VIP), &neighbour()).expect("forwarding");
        let keep = format!("ip cygnet keep_{VIP}");
        assert_eq!(steer.chains(address(VIP)), [keep]);
        assert!(listed().contains(MARK), "{}", listed());
        clear().expect("deleted");
        assert_eq!(listed(), "");
    });
}

#[test]
fn a_refused_change_changes_nothing_and_says_why() {
    in_namespace(|| {
        let mut steer = Steer::open().expect("nf_tables");
        let error = steer.add_flows(address(VIP), &flows(1, false)).expect_err("there is no set");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        steer.forward(address(VIP), &neighbour()).expect("forwarding");
        let before = listed();
        run("nft", "add chain ip cygnet hand_192.0.2.100");
        let there = listed();
        assert!(
            steer.hand_over(address(VIP), &neighbour(), Handing::New).is_err(),
            "a chain of this name is there"
        );
        assert_eq!(listed(), there);
        run("nft", "delete chain ip cygnet hand_192.0.2.100");
        assert_eq!(listed(), before);
    });
}

#[test]
fn twenty_thousand_flows_are_loaded_and_taken_out_in_a_moment() {
    const COUNT: u32 = 20_000;
    in_namespace(|| {
        let mut steer = Steer::open().expect("nf_tables");
        for (vip, v6) in [(VIP, false), ("2001:db8::100", true)] {
            let all = flows(COUNT, v6);
            let vip = address(vip);
            let to = if v6 { Neighbour { address: address("fe80::1"), ..neighbour() } } else { neighbour() };
            steer.forward(vip, &to).expect("forwarding");
            let started = Instant::now();
            steer.add_flows(vip, &all).expect("added");
            let loaded = started.elapsed();
            steer.add_flows(vip, &all[..100]).expect("what is there stays");
            let started = Instant::now();
            steer.remove_flows(vip, &all[1..]).expect("removed");
            let removed = started.elapsed();
            println!("{COUNT} flows of {vip} loaded in {loaded:?}, taken out in {removed:?}");
            assert!(loaded < Duration::from_millis(300), "{loaded:?}");
            steer.remove_flows(vip, &all[1..9]).expect("what is not there is no error");
            let shown = listed();
            assert_eq!(shown.matches(&format!("{vip} . 80")).count(), 1, "{shown}");
        }
    });
}

/// A client (this namespace, 192.0.2.9) and the hosts `a` (192.0.2.1) and `b` (192.0.2.2) on one bridge.
fn two_hosts() {
    // The names of network namespaces are files, and this machine's are none of ours.
    run("mount", "-t tmpfs tmpfs /run");
    ip("link add br0 type bridge");
    ip("link set br0 up");
    for (name, last) in [("a", 1), ("b", 2)] {
        ip(&format!("netns add {name}"));
        let mac = format!("02:00:00:00:00:{last:02x}");
        ip(&format!("link add {name}0 type veth peer name eth0 address {mac} netns {name}"));
        ip(&format!("link set {name}0 master br0 up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} address add 192.0.2.{last}/24 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
    }
    ip("address add 192.0.2.9/24 dev br0");
    settle(&["br0"]);
}

/// The whole thing with two hosts and a client on one bridge, by hand: a connection of the old holder goes on through the new one,
/// and a new one is the new holder's although the client still believes the old one.
#[test]
fn an_old_connection_goes_on_through_the_new_holder_and_a_new_one_is_handed_over() {
    in_namespace(|| {
        two_hosts();
        inside("a", || {
            ip("address add 192.0.2.100/32 dev eth0");
            let listener = TcpListener::bind("192.0.2.100:80").expect("a listener");
            std::thread::spawn(move || serve(&listener, b'a'));
        });
        let mut old = TcpStream::connect("192.0.2.100:80").expect("connected");
        old.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        assert_eq!(ask(&mut old), b'a');
        let there = inside("a", || crate::flows::of(&[address(VIP)], 10).expect("listed").0);
        assert_eq!(there.len(), 1);
        let to = |last: u8| Neighbour {
            address: address(&format!("192.0.2.{last}")),
            mac: Mac([2, 0, 0, 0, 0, last]),
            interface: 2,
        };
        let index = |host| inside(host, || crate::sys::interface_index("eth0").expect("eth0"));
        let (a, b) = (index("a"), index("b"));
        // The taker is ready before it has the address on the link.
        inside("b", || {
            let mut steer = Steer::open().expect("nf_tables");
            steer.quiet(address(VIP), address("192.0.2.2")).expect("quiet");
            ip("address add 192.0.2.100/32 dev lo");
            steer.forward(address(VIP), &Neighbour { interface: b, ..to(1) }).expect("forwarding");
            steer.add_flows(address(VIP), &there).expect("added");
            let listener = TcpListener::bind("192.0.2.100:80").expect("a listener");
            std::thread::spawn(move || serve(&listener, b'b'));
        });
        inside("a", || {
            let mut steer = Steer::open().expect("nf_tables");
            let to = Neighbour { interface: a, ..to(2) };
            steer.hand_over(address(VIP), &to, Handing::New).expect("handing over");
            steer.hold_answers(address(VIP)).expect("held back");
        });
        let mut new = TcpStream::connect("192.0.2.100:80").expect("connected");
        assert_eq!(ask(&mut new), b'b', "handed over");
        assert_eq!(ask(&mut old), b'a', "the old one stays");
        // The address moves.
        inside("a", || {
            let mut steer = Steer { socket: connect().expect("nf_tables"), parts: BTreeSet::new() };
            steer.quiet(address(VIP), address("192.0.2.1")).expect("quiet");
            ip("address add 192.0.2.100/32 dev lo");
            ip("address del 192.0.2.100/32 dev eth0");
        });
        inside("b", || {
            let mut steer = Steer { socket: connect().expect("nf_tables"), parts: BTreeSet::new() };
            steer.parts.extend([
                (Part::Ask, address(VIP)),
                (Part::Say, address(VIP)),
                (Part::Keep, address(VIP)),
            ]);
            ip("address add 192.0.2.100/32 dev eth0");
            steer.speak_again(address(VIP)).expect("speaks");
            ip("address del 192.0.2.100/32 dev lo");
        });
        ip("neigh flush all");
        assert_eq!(ask(&mut old), b'a', "through the new holder");
        assert_eq!(ask(&mut new), b'b');
        let shown = ip("neigh show 192.0.2.100");
        assert!(shown.contains("02:00:00:00:00:02"), "the new holder answers ARP: {shown}");
        let counted = inside("b", listed);
        assert!(!counted.contains("@keep_192.0.2.100 counter packets 0 bytes 0"), "{counted}");
    });
}

/// Runs in another network namespace, on a thread of its own.
fn inside<T: Send>(name: &str, body: impl FnOnce() -> T + Send) -> T {
    let path = format!("/run/netns/{name}");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = std::fs::File::open(path).expect("a namespace");
            let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
            // SAFETY: takes two integers, and changes the namespace of this thread only, which ends with `body`.
            let entered = unsafe { libc::setns(descriptor, libc::CLONE_NEWNET) };
            crate::sys::check(entered).expect("entered");
            body()
        });
        thread.join().expect("done")
    })
}

fn serve(listener: &TcpListener, name: u8) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a client");
        std::thread::spawn(move || {
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                stream.write_all(&[name]).expect("written");
            }
        });
    }
}

fn ask(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    stream.write_all(b"?").expect("written");
    stream.read_exact(&mut byte).expect("an answer");
    byte[0]
}
