mod told;

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Guard, HELD_MAX, LastWord, RESIGNATION_MAX, Resignation, lines, run, seal_of};
use crate::capture::{Capture, FRAME_MAX};
use crate::kernel::Kernel;
use crate::testns::{DEADLINE, in_namespace, ip, run as program, runtime, veth};

/// Tells a process of the tests below what to be.
const ROLE: &str = "CYGNET_TEST_GUARD_ROLE";
/// Where the guard of a test says its last word.
const PEER: &str = "CYGNET_TEST_GUARD_PEER";
const HELD: &str = "10.9.0.100";
const HELD6: &str = "fd00::100";
/// How long a dead node's address may stay.
const GONE_WITHIN: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_millis(500);

/// The words that make this test binary run one of the two helpers.
fn helper(name: &str) -> [String; 4] {
    [format!("guard::tests::{name}"), "--exact".into(), "--ignored".into(), "--nocapture".into()]
}

fn spawn_guard() -> Guard {
    let words = helper("helper_the_guard_itself");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Guard::spawn(Path::new("/proc/self/exe"), &words).expect("a guard")
}

#[test]
#[ignore = "the guard of the other tests, no test by itself"]
fn helper_the_guard_itself() {
    if std::env::var_os(ROLE).is_some() {
        run().expect("a guard's life");
    }
}

/// Adds both addresses under a guard, says so on its standard output, and then does as its role says.
#[test]
#[ignore = "the node of the other tests, no test by itself"]
fn helper_a_node() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let index = crate::sys::interface_index("eth0").expect("eth0");
    let mut guard = spawn_guard();
    runtime().block_on(async {
        let kernel = Kernel::connect().expect("a kernel");
        for address in [HELD, HELD6].map(addr) {
            guard.hold(index, address).expect("told");
            kernel.add_address(index, address).await.expect("added");
        }
    });
    if role == "respawn" {
        program("kill", &format!("-KILL {}", guard.pid()));
        wait_until("the loss is noticed", || !guard.alive());
        guard.respawn().expect("another guard");
    }
    if role == "lease" {
        guard.lease(LEASE).expect("told");
    }
    if role == "resign-lease" {
        guard.resign(resignation(1)).expect("told");
        guard.lease(LEASE).expect("told");
    }
    if role == "word" {
        let last = LastWord::new().expect("random");
        let peer = std::env::var(PEER).expect("a peer").parse().expect("an address");
        let own = "10.9.0.1:7300".parse().expect("an address");
        guard.last_word(&last, own, &[peer]).expect("told");
        let seal: String = last.seal().iter().map(|byte| format!("{byte:02x}")).collect();
        println!("\nseal {seal}");
        let hung = guard.pid();
        program("kill", &format!("-KILL {hung}"));
        wait_until("the loss is noticed", || !guard.alive());
        guard.respawn().expect("another guard, which must know the word too");
    }
    if role == "resign" {
        guard.resign(resignation(1)).expect("told");
        guard.resign(resignation(2)).expect("told");
        program("kill", &format!("-KILL {}", guard.pid()));
        wait_until("the loss is noticed", || !guard.alive());
        guard.respawn().expect("another guard, which must know them too");
        guard.unresign(&resignation(1)).expect("told");
    }
    println!("\nready {}", guard.pid());
    match role.as_str() {
        "bye" => guard.bye().expect("good-bye"),
        "drop" => drop(guard),
        "lease" => loop {
            std::thread::sleep(LEASE / 25);
            guard.lease(LEASE).expect("told");
        },
        _ => loop {
            std::thread::park();
        },
    }
    // Until the test closes our input; the guard is alone responsible for what happens meanwhile.
    let _ = io::stdin().read_line(&mut String::new());
}

struct Node {
    process: Child,
    guard: u32,
    seal: String,
}

/// Starts the node of a test in a process group of its own, and waits until it holds its addresses.
fn node(role: &str) -> Node {
    veth("eth0", "eth1");
    ip("address add 10.9.0.1/24 dev eth0");
    node_here(role, "")
}

fn node_here(role: &str, peer: &str) -> Node {
    let mut process = Command::new("/proc/self/exe")
        .args(helper("helper_a_node"))
        .env(ROLE, role)
        .env(PEER, peer)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("a node");
    let output = BufReader::new(process.stdout.take().expect("its output"));
    let mut lines = output.lines().map(|line| line.expect("text"));
    let mut seal = String::new();
    let guard = lines.find_map(|line| {
        if let Some(said) = line.strip_prefix("seal ") {
            seal = said.to_owned();
        }
        line.strip_prefix("ready ").map(|pid| pid.parse().expect("a number"))
    });
    Node { process, guard: guard.expect("a node that is ready"), seal }
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn is_held() -> bool {
    let shown = ip("-oneline address show dev eth0");
    [" 10.9.0.100/32 ", " fd00::100/128 "].iter().any(|address| shown.contains(address))
}

fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The addresses go, what the operator configured stays, and so ends the guard. Returns how long the addresses stayed.
fn expect_cleaned(guard: u32) -> Duration {
    let start = Instant::now();
    wait_until("the dead node's addresses are gone", || !is_held());
    let stayed = start.elapsed();
    assert!(ip("address show dev eth0").contains("10.9.0.1/24"), "the operator's address stays");
    wait_until("the guard is gone", || !runs(guard));
    stayed
}

/// Of a few attempts one must be in time: a busy machine may be slow once, a slow guard always is.
#[test]
fn a_dead_nodes_addresses_are_gone_within_a_tenth_of_a_second() {
    in_namespace(|| {
        let stayed = (0..5).map(|_| {
            let mut node = node("hold");
            assert!(is_held());
            node.process.kill().expect("kill -9");
            let stayed = expect_cleaned(node.guard);
            node.process.wait().expect("reaped");
            ip("link delete eth0");
            stayed
        });
        let stayed: Vec<Duration> = stayed.collect();
        println!("the addresses stayed for {stayed:?}");
        assert!(stayed.iter().any(|time| *time < GONE_WITHIN), "{stayed:?}");
    });
}

#[test]
fn a_node_killed_with_9_leaves_no_address_behind() {
    in_namespace(|| {
        let mut node = node("hold");
        ip("address add 10.9.0.100/24 dev eth0");
        assert!(is_held() && runs(node.guard));
        node.process.kill().expect("kill -9");
        expect_cleaned(node.guard);
        assert!(ip("address show dev eth0").contains("10.9.0.100/24"), "the operator's /24 of it stays");
        node.process.wait().expect("reaped");
    });
}

/// What a peer hears within a short while; the word is said several times.
fn heard(peer: &UdpSocket) -> Option<String> {
    let mut buffer = [0; 64];
    let length = peer.recv(&mut buffer).ok()?;
    let seal = seal_of(&buffer[..length]).expect("a last word");
    Some(seal.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn the_peers_hear_the_last_word_of_a_dead_node_when_its_addresses_are_gone_and_not_before() {
    in_namespace(|| {
        veth("eth0", "eth1");
        ip("address add 10.9.0.1/24 dev eth0");
        let peer = UdpSocket::bind("10.9.0.1:0").expect("a socket");
        peer.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        let mut node = node_here("word", &peer.local_addr().expect("bound").to_string());
        assert_eq!(heard(&peer), None, "it lives");
        node.process.kill().expect("kill -9");
        let start = Instant::now();
        assert_eq!(heard(&peer), Some(node.seal.clone()));
        println!("heard {:?} after the kill", start.elapsed());
        assert!(!is_held(), "first the addresses");
        assert_eq!(heard(&peer), Some(node.seal), "said again: a datagram may be lost");
        wait_until("the guard is gone", || !runs(node.guard));
        node.process.wait().expect("reaped");
    });
}

/// What the guard of a test sends for a dead node.
fn resignation(last: u8) -> Resignation {
    let payload = vec![0x31, 51, 0, 1, 0, 100, 0xab, last, 10, 9, 0, 100];
    let (source, destination) = (addr("10.9.0.1"), addr("224.0.0.18"));
    Resignation { interface: "eth0".into(), source, destination, payload }
}

#[test]
fn a_dead_nodes_guard_sends_its_resignation_when_the_addresses_are_gone_and_not_before() {
    in_namespace(|| {
        let mut node = node("resign");
        runtime().block_on(async {
            let peer = Capture::open("eth1").expect("a capture");
            let mut buffer = [0; FRAME_MAX];
            let quiet = tokio::time::timeout(Duration::from_millis(200), peer.next(&mut buffer)).await;
            assert!(quiet.is_err(), "it lives");
            node.process.kill().expect("kill -9");
            let start = Instant::now();
            let frame = tokio::time::timeout(DEADLINE, peer.next(&mut buffer)).await;
            println!("heard {:?} after the kill", start.elapsed());
            let frame = frame.expect("in time").expect("a frame");
            assert!(!is_held(), "first the addresses");
            let packet = crate::wire::ip::parse(frame.bytes).expect("an IP packet");
            let Resignation { source, destination, payload, .. } = resignation(2);
            assert_eq!((packet.source, packet.destination, packet.hop_limit), (source, destination, 255));
            assert_eq!(packet.payload, payload, "the one that was not taken back");
        });
        wait_until("the guard is gone", || !runs(node.guard));
        node.process.wait().expect("reaped");
    });
}

#[test]
fn a_frozen_nodes_resignation_is_forgotten_with_its_addresses() {
    in_namespace(|| {
        let mut node = node("resign-lease");
        // The lease ends: the node does not renew it.
        wait_until("the addresses are gone", || !is_held());
        runtime().block_on(async {
            let peer = Capture::open("eth1").expect("a capture");
            node.process.kill().expect("kill -9");
            wait_until("the guard is gone", || !runs(node.guard));
            let mut buffer = [0; FRAME_MAX];
            let quiet = tokio::time::timeout(Duration::from_millis(200), peer.next(&mut buffer)).await;
            assert!(quiet.is_err(), "another may hold the address by now");
        });
        node.process.wait().expect("reaped");
    });
}

#[test]
fn resignations_are_bounded() {
    let mut guard = Guard::spawn(Path::new("/bin/cat"), &[]).expect("a reader");
    let long = |last: u8| Resignation { payload: vec![last; RESIGNATION_MAX], ..resignation(0) };
    let taken = (0..=u8::MAX).take_while(|last| guard.resign(long(*last)).is_ok()).count();
    assert!((30..60).contains(&taken), "{taken}");
    guard.resign(long(0)).expect("one that is there already");
    let over = Resignation { payload: vec![0; RESIGNATION_MAX + 1], ..resignation(0) };
    guard.unresign(&long(0)).expect("told");
    assert_eq!(guard.resign(over).expect_err("too long").kind(), ErrorKind::QuotaExceeded);
    guard.respawn().expect("an empty pipe takes them all");
}

#[test]
fn the_guard_survives_a_kill_of_the_nodes_whole_group() {
    in_namespace(|| {
        let mut node = node("hold");
        assert!(is_held() && runs(node.guard));
        program("kill", &format!("-KILL -- -{}", node.process.id()));
        expect_cleaned(node.guard);
        node.process.wait().expect("reaped");
    });
}

#[test]
fn the_nodes_death_is_noticed_also_while_somebody_keeps_the_pipe_open() {
    in_namespace(|| {
        let mut node = node("hold");
        let pipe = fs::read_link(format!("/proc/{}/fd/0", node.guard)).expect("the guard's input");
        let files = fs::read_dir(format!("/proc/{}/fd", node.process.id())).expect("the node's files");
        let mut files = files.map(|file| file.expect("a file").path());
        let end = files.find(|file| fs::read_link(file).is_ok_and(|link| link == pipe)).expect("the pipe");
        let kept = fs::File::options().write(true).open(end).expect("the pipe's other end");
        assert!(is_held() && runs(node.guard));
        node.process.kill().expect("kill -9");
        expect_cleaned(node.guard);
        node.process.wait().expect("reaped");
        drop(kept);
    });
}

#[test]
fn polite_signals_do_not_end_the_guard() {
    in_namespace(|| {
        let mut node = node("hold");
        wait_until("it ignores them", || {
            let status = fs::read_to_string(format!("/proc/{}/status", node.guard)).expect("a guard");
            let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
            // SIGHUP 1, SIGINT 2, SIGTERM 15.
            let wanted = 1 | 1 << 1 | 1 << 14;
            u64::from_str_radix(ignored.trim(), 16).expect("a mask") & wanted == wanted
        });
        for signal in ["HUP", "INT", "TERM"] {
            program("kill", &format!("-{signal} {}", node.guard));
        }
        assert!(is_held() && runs(node.guard));
        node.process.kill().expect("kill -9");
        expect_cleaned(node.guard);
        node.process.wait().expect("reaped");
    });
}

#[test]
fn after_a_good_bye_the_guard_touches_nothing() {
    in_namespace(|| {
        let mut node = node("bye");
        wait_until("the guard is gone", || !runs(node.guard));
        assert!(is_held());
        node.process.kill().expect("kill -9");
        node.process.wait().expect("reaped");
        assert!(is_held());
    });
}

#[test]
fn a_dropped_handle_counts_as_a_death() {
    in_namespace(|| {
        let mut node = node("drop");
        expect_cleaned(node.guard);
        node.process.kill().expect("kill -9");
        node.process.wait().expect("reaped");
    });
}

#[test]
fn a_dead_guard_is_noticed_and_its_successor_knows_what_is_held() {
    in_namespace(|| {
        let mut node = node("respawn");
        assert!(is_held(), "the guard's own death removes nothing");
        node.process.kill().expect("kill -9");
        expect_cleaned(node.guard);
        node.process.wait().expect("reaped");
    });
}

#[test]
fn a_frozen_node_loses_its_addresses_when_its_lease_ends() {
    in_namespace(|| {
        let mut node = node("lease");
        let start = Instant::now();
        while start.elapsed() < LEASE * 2 {
            assert!(is_held(), "a renewed lease is good");
            std::thread::sleep(Duration::from_millis(5));
        }
        program("kill", &format!("-STOP {}", node.process.id()));
        wait_until("the frozen node's addresses are gone", || !is_held());
        assert!(runs(node.guard));
        program("kill", &format!("-CONT {}", node.process.id()));
        ip("address add 10.9.0.100/32 dev eth0");
        node.process.kill().expect("kill -9");
        expect_cleaned(node.guard);
        node.process.wait().expect("reaped");
    });
}

#[test]
fn a_guard_that_was_frozen_with_its_node_gives_it_time_to_speak_once() {
    in_namespace(|| {
        let mut node = node("lease");
        let both = |signal: &str| program("kill", &format!("-{signal} {} {}", node.process.id(), node.guard));
        both("STOP");
        std::thread::sleep(LEASE * 2);
        // The guard first, as an unkind scheduler would.
        program("kill", &format!("-CONT {}", node.guard));
        std::thread::sleep(LEASE / 5);
        program("kill", &format!("-CONT {}", node.process.id()));
        let start = Instant::now();
        while start.elapsed() < LEASE * 2 {
            assert!(is_held(), "the whole machine stood still, not the node");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The node alone does not come back: it has one lease more, and no further one.
        both("STOP");
        std::thread::sleep(LEASE * 2);
        program("kill", &format!("-CONT {}", node.guard));
        wait_until("the frozen node's addresses are gone", || !is_held());
        node.process.kill().expect("kill -9");
        wait_until("the guard is gone", || !runs(node.guard));
        node.process.wait().expect("reaped");
    });
}

#[test]
fn the_guard_is_as_urgent_as_the_system_allows() {
    in_namespace(|| {
        let mut node = node("hold");
        let allowed = std::thread::spawn(crate::scheduling::make_urgent).join().expect("no panic");
        if matches!(allowed, Ok(crate::scheduling::Urgency::RealTime)) {
            let threads = || fs::read_dir(format!("/proc/{}/task", node.guard)).expect("threads").flatten();
            let policy = |stat: String| {
                let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
                // Field 41 of proc(5): SCHED_RR.
                rest.split_whitespace().nth(38) == Some("2")
            };
            wait_until("one of its threads is urgent", || {
                threads().any(|thread| fs::read_to_string(thread.path().join("stat")).is_ok_and(policy))
            });
        } else {
            eprintln!("SKIPPED: real-time scheduling is not allowed here");
        }
        node.process.kill().expect("kill -9");
        expect_cleaned(node.guard);
        node.process.wait().expect("reaped");
    });
}

/// Runs a guard whose input we keep open, as a child that the node left behind would.
fn guard_with_open_input() -> Child {
    let guard = Command::new("/proc/self/exe")
        .args(helper("helper_the_guard_itself"))
        .env(ROLE, "guard")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    guard.expect("a guard")
}

#[test]
fn a_node_that_died_before_the_guard_looked_is_dead() {
    in_namespace(|| {
        veth("eth0", "eth1");
        ip("address add 10.9.0.100/32 dev eth0");
        let index = crate::sys::interface_index("eth0").expect("eth0");
        let mut guard = guard_with_open_input();
        let mut input = guard.stdin.take().expect("its input");
        // Process 1 is alive, but not the guard's parent: the number was used again.
        write!(input, "{}{}", lines::parent(1), lines::hold(index, addr(HELD))).expect("written");
        wait_until("the address is gone", || !is_held());
        assert!(guard.wait().expect("its end").success());
        drop(input);
    });
}

#[test]
fn a_full_pipe_is_an_error_and_not_a_wait() {
    in_namespace(|| {
        let words = helper("helper_the_guard_itself");
        let script = format!("{ROLE}=guard exec /proc/{}/exe {}", std::process::id(), words.join(" "));
        let mut guard = Guard::spawn(Path::new("/bin/sh"), &["-c", &script]).expect("a guard");
        program("kill", &format!("-STOP {}", guard.pid()));
        let full = (0..10_000).find_map(|_| guard.hold(1, addr(HELD)).err());
        assert_eq!(full.expect("the pipe ends somewhere").kind(), ErrorKind::WouldBlock);
        assert!(guard.alive(), "stopped is not gone");
        let stopped = guard.pid();
        guard.respawn().expect("another guard");
        assert!(!runs(stopped) && guard.alive());
        guard.hold(1, addr(HELD)).expect("told");
        guard.bye().expect("good-bye");
    });
}

#[test]
fn a_guard_that_cannot_start_or_is_gone_is_an_error() {
    Guard::spawn(Path::new("/nonexistent"), &[]).expect_err("no program");
    let mut guard = Guard::spawn(Path::new("/bin/sh"), &["-c", "read parent"]).expect("started");
    wait_until("its end is noticed", || !guard.alive());
    assert_eq!(guard.hold(1, addr(HELD)).expect_err("nobody reads").kind(), ErrorKind::BrokenPipe);
    guard.respawn().expect("started again");
}

#[test]
fn a_guard_holds_a_bounded_number_of_addresses() {
    let mut guard = Guard::spawn(Path::new("/bin/cat"), &[]).expect("a reader");
    for index in 0..HELD_MAX {
        guard.hold(u32::try_from(index).expect("small"), addr(HELD6)).expect("told");
    }
    let over = guard.hold(u32::MAX, addr(HELD6)).expect_err("one too many");
    assert_eq!(over.kind(), ErrorKind::QuotaExceeded);
    guard.hold(0, addr(HELD6)).expect("one that is held already");
    guard.release(0, addr(HELD6)).expect("told");
    guard.hold(u32::MAX, addr(HELD6)).expect("there is room again");
    guard.respawn().expect("an empty pipe takes them all");
}
