//! Tests in a network namespace of their own.
//!
//! [`in_namespace`] runs the test binary again inside `unshare`, for the calling test alone, and there runs the body.

use std::process::Command;

/// Set in the inner process.
const INSIDE: &str = "CYGNET_TEST_NAMESPACE";

/// Runs `body` in a fresh network namespace with `lo` up. The body must be written in place, in the test function
/// itself: the test's name is read off the closure's type.
///
/// Skips, loudly, only where neither root nor user namespaces are to be had.
pub(crate) fn in_namespace<F: FnOnce()>(body: F) {
    let closure = std::any::type_name::<F>();
    let path = closure.strip_suffix("::{{closure}}").expect("a closure written inside a test");
    let (_crate, test) = path.split_once("::").expect("a test inside a module");
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        ip("link set lo up");
        return body();
    }
    let program = std::env::current_exe().expect("the path of the test binary");
    let Some(flags) = ["-nm", "-Urnm"].into_iter().find(|flags| unshare(flags, "true", &[])) else {
        eprintln!("SKIPPED {test}: neither root nor user namespaces are available");
        return;
    };
    let output = Command::new("unshare")
        .arg(flags)
        .arg("--kill-child")
        .arg(program)
        .args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(INSIDE, test)
        .output()
        .expect("unshare runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in the namespace:\n{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "the test was not found inside:\n{stdout}\n{stderr}");
    println!("{stdout}{stderr}");
}

fn unshare(flags: &str, program: &str, args: &[&str]) -> bool {
    Command::new("unshare").arg(flags).arg(program).args(args).output().is_ok_and(|o| o.status.success())
}

/// Runs `ip` with the words of `command`, and returns what it printed.
pub(crate) fn ip(command: &str) -> String {
    run("ip", command)
}

/// Runs a program with the words of `arguments`, which must succeed, and returns what it printed.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A cable: two interfaces `a` and `b`, both up, without IPv4 addresses; IPv6 addresses are usable at once.
pub(crate) fn veth(a: &str, b: &str) {
    let path = "/proc/sys/net/ipv6/conf/default/accept_dad";
    std::fs::write(path, "0").unwrap_or_else(|error| panic!("{path}: {error}"));
    ip(&format!("link add {a} type veth peer name {b}"));
    for end in [a, b] {
        ip(&format!("link set {end} up"));
    }
    settle(&[a, b]);
}

/// Waits until these interfaces, just switched on, carry frames, and their IPv6 addresses are usable: the kernel gets
/// there by itself, but a moment after `ip` has returned.
pub(crate) fn settle(interfaces: &[&str]) {
    let start = std::time::Instant::now();
    for interface in interfaces {
        let show = |flag| ip(&format!("-6 address show dev {interface} {flag}"));
        while !show("scope link").contains("fe80::") || !show("tentative").is_empty() {
            assert!(start.elapsed() < DEADLINE, "{interface} does not come up");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// A packet socket that sends whole frames through an interface and, with a protocol other than 0, receives them.
pub(crate) fn frames(interface: &str, protocol: u16) -> socket2::Socket {
    let socket =
        socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None).expect("a packet socket");
    let index = crate::sys::interface_index(interface).expect("the interface");
    crate::sys::bind_packet(&socket, index, protocol).expect("bind");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

/// How long a test waits for what must come.
pub(crate) const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// A runtime as the drivers have it.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
