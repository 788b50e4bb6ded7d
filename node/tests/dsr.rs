//! Direct server return on a small network: a bridge on which this process balances, and a client and two servers in network
//! namespaces of their own, which are this test run again in other roles.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet::balance::ClientTable;
use cygnet::balance::acl::AccessList;
use cygnet::config::model::{Acl, AclEntry, AclMatch, ClusterConfig, Endpoint, Server, Service, Transport};
use cygnet::plan::{Admin, Registry, ServicePlan, Start};
use cygnet::proxy::dsr;
use cygnet_ha::time::Time;
use socket2::{Domain, Socket, Type};

const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const PIT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const PORT: u16 = 80;
/// What a server sends to each client, bytes.
const ANSWER: usize = 1 << 20;
/// The client's addresses.
const CLIENTS: std::ops::RangeInclusive<u8> = 1..=8;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Says which role a process plays.
const ROLE: &str = "CYGNET_TEST_DSR_ROLE";

fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split_whitespace()).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {stderr}");
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// This test in another role and another namespace.
struct Peer(Child);

impl Peer {
    /// `mac`: the last byte of its hardware address. Servers remember that of a client for longer than it lives here.
    fn start(role: &str, mac: u8) -> Self {
        let program = std::env::current_exe().expect("known");
        let child = Command::new("unshare")
            .arg("-n")
            .arg(program)
            .args(["--exact", "a_role_in_another_namespace", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let peer = Self(child);
        // Ends of the same role that are gone may still be there for a moment.
        let name = format!("to-{}", peer.0.id());
        let own = std::fs::read_link("/proc/self/ns/net").expect("known");
        let its = format!("/proc/{}/ns/net", peer.0.id());
        until("its own namespace", || std::fs::read_link(&its).is_ok_and(|its| its != own));
        let end = format!("eth0 address 02:00:00:00:00:{mac:02} netns {}", peer.0.id());
        run("ip", &format!("link add {name} type veth peer name {end}"));
        run("ip", &format!("link set {name} master br0 up"));
        peer
    }

    /// What it has to say in the end.
    fn output(mut self) -> String {
        let mut output = String::new();
        let stdout = self.0.stdout.as_mut().expect("piped");
        stdout.read_to_string(&mut output).expect("text");
        assert!(self.0.wait().expect("its end").success(), "{output}");
        output
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Run by [`Peer::start`] only.
#[test]
#[ignore = "a role of the other test"]
fn a_role_in_another_namespace() {
    let Ok(role) = std::env::var(ROLE) else { return };
    until("the cable", has_link);
    run("ip", "link set lo up");
    match role.as_str() {
        "s1" => serve(11, &role),
        "s2" => serve(12, &role),
        "client" => ask(),
        _ => panic!("no such role: {role}"),
    }
}

/// /sys shows the namespace in which it was mounted; `ip` asks the kernel.
fn has_link() -> bool {
    Command::new("ip").args(["link", "show", "eth0"]).output().is_ok_and(|output| output.status.success())
}

fn serve(address: u8, name: &str) {
    // The service's address is not to be heard of in ARP: neither in answers nor in the server's own questions.
    std::fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1").expect("may");
    std::fs::write("/proc/sys/net/ipv4/conf/all/arp_announce", "2").expect("may");
    run("ip", &format!("address add {SERVICE}/32 dev lo"));
    run("ip", &format!("address add 192.0.2.{address}/24 dev eth0"));
    run("ip", "link set eth0 up");
    let listener = TcpListener::bind((SERVICE, PORT)).expect("listening");
    let datagrams = UdpSocket::bind((SERVICE, PORT)).expect("bound");
    let word = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, client)) = datagrams.recv_from(&mut buffer) {
            let _ = datagrams.send_to(word.as_bytes(), client);
        }
    });
    for stream in listener.incoming() {
        let mut stream = stream.expect("a client");
        let mut answer = vec![b'.'; ANSWER];
        answer[..2].copy_from_slice(name.as_bytes());
        let _ = stream.write_all(&answer);
    }
}

/// Prints for each of the client's addresses which server has answered, over TCP and UDP, and what the tarpit said.
fn ask() {
    for n in CLIENTS {
        run("ip", &format!("address add 192.0.2.{n}/24 dev eth0"));
    }
    run("ip", "link set eth0 up");
    for n in CLIENTS {
        let start = Instant::now();
        // The first attempts may come before the servers are found.
        while let Err(error) = fetch(n) {
            assert!(start.elapsed() < DEADLINE, "client {n}: {error}");
        }
    }
    let pit = connect(1, SocketAddr::from((PIT, 25)));
    println!("tarpit {}", if pit.is_ok() { "yes" } else { "no" });
}

fn connect(n: u8, to: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([192, 0, 2, n], 0)).into())?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    Ok(socket)
}

fn fetch(n: u8) -> std::io::Result<()> {
    let mut answer = Vec::new();
    let mut socket = connect(n, SocketAddr::from((SERVICE, PORT)))?;
    socket.read_to_end(&mut answer)?;
    if answer.len() != ANSWER {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    println!("{n} {}", String::from_utf8_lossy(&answer[..2]));
    Ok(())
}

/// Runs the rest of the test in a namespace of its own; false in the process that only waited for that.
fn in_namespace(test: &str) -> bool {
    const INSIDE: &str = "CYGNET_TEST_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("known");
    let may = |flags: &str| Command::new("unshare").args([flags, "true"]).status().is_ok_and(|s| s.success());
    let Some(flags) = ["-nm", "-Urnm"].into_iter().find(|flags| may(flags)) else {
        eprintln!("SKIPPED {test}: neither root nor user namespaces are available");
        return false;
    };
    let output = Command::new("unshare")
        .args([flags, "--kill-child"])
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// Two servers behind the service.
struct Servers {
    registry: Registry,
    config: ClusterConfig,
}

impl Servers {
    fn new() -> Self {
        let mut service = Service::new("web");
        service.servers = (1..=2)
            .map(|n| {
                Server::new(format!("s{n}"), Endpoint::Inet(SocketAddr::from(([192, 0, 2, 10 + n], PORT))))
            })
            .collect();
        let config = ClusterConfig { services: vec![service], ..ClusterConfig::default() };
        Self { registry: Registry::new(1), config }
    }

    fn plan(&self, drained: &str) -> Arc<ServicePlan> {
        let admin = |_: &str, server: &str| if server == drained { Admin::Drain } else { Admin::Ready };
        let clients = ClientTable::new(32);
        let plan = self.registry.plan(&self.config, &clients, &admin, &|_, _| Ok(Start::Kernel));
        Arc::clone(&plan.services[0])
    }
}

fn start(service: Arc<ServicePlan>, transport: Transport) -> dsr::Dsr {
    let settings = dsr::Settings {
        interface: "br0".into(),
        address: SERVICE,
        port: Some(PORT),
        transport,
        with_port: false,
        tarpit: true,
    };
    let begin = Instant::now();
    let running =
        dsr::start(settings, service, Arc::new(move || Time::ZERO + begin.elapsed())).expect("it starts");
    let who = AclMatch::V4 { address: PIT, mask: Ipv4Addr::BROADCAST };
    let acl = Acl { name: "pit".to_owned(), entries: vec![AclEntry { permit: true, who }] };
    running.set_tarpit(Some(Arc::new(AccessList::new(&acl, None))));
    running
}

/// Who answered, by the client's last byte.
fn answers(output: &str) -> BTreeSet<(u8, String)> {
    let answer = |line: &str| {
        let (client, server) = line.split_once(' ')?;
        Some((client.parse().ok()?, server.to_owned()))
    };
    output.lines().filter_map(answer).collect()
}

#[test]
fn answers_go_from_the_servers_straight_to_the_clients() {
    if !in_namespace("answers_go_from_the_servers_straight_to_the_clients") {
        return;
    }
    run("ip", "link set lo up");
    // An address of its own: otherwise it changes with the bridge's ports.
    run("ip", "link add br0 address 02:00:00:00:00:80 type bridge");
    run("ip", "link set br0 up");
    let _servers = [Peer::start("s1", 11), Peer::start("s2", 12)];
    let servers = Servers::new();
    let service = servers.plan("nobody");
    let running = start(Arc::clone(&service), Transport::Tcp);
    until("both servers answer in ARP", || running.stats().reachable == 2);

    let output = Peer::start("client", 1).output();
    let all = answers(&output);
    let clients = usize::from(*CLIENTS.end());
    assert_eq!(all.iter().map(|(client, _)| client).collect::<BTreeSet<_>>().len(), clients, "{output}");
    let used: BTreeSet<_> = all.iter().map(|(_, server)| server.as_str()).collect();
    assert_eq!(used, BTreeSet::from(["s1", "s2"]), "{output}");
    assert!(output.contains("tarpit yes"), "{output}");

    // Only what the clients say came through here: acknowledgments, not the answers.
    until("the bytes are counted", || service.servers[0].state.shard(0).to_server.get() > 0);
    let through: u64 = service.servers.iter().map(|server| server.state.shard(0).to_server.get()).sum();
    assert!(through > 0 && through < (clients * ANSWER / 4) as u64, "{through} bytes came through");
    assert_eq!(running.stats().lost, 0);

    running.serve(servers.plan("s1"));
    until("the drained server is out", || running.stats().reachable == 1);
    let output = Peer::start("client", 1).output();
    let used: BTreeSet<_> = answers(&output).into_iter().map(|(_, server)| server).collect();
    assert_eq!(used, BTreeSet::from(["s2".to_owned()]), "{output}");
}

/// Ends with the value.
struct Pen(Child);

impl Drop for Pen {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pen_passes_frames_on_with_dsr_if_and_answers_for_the_tarpit() {
    if !in_namespace("pen_passes_frames_on_with_dsr_if_and_answers_for_the_tarpit") {
        return;
    }
    run("ip", "link set lo up");
    run("ip", "link add br0 address 02:00:00:00:00:80 type bridge");
    run("ip", "link set br0 up");
    let _servers = [Peer::start("s1", 11), Peer::start("s2", 12)];
    let pit = format!("acl 1 permit {PIT}");
    let pen = Command::new(env!("CARGO_BIN_EXE_cygnet"))
        .args(["pen", "-f", "-r", "-O", "dsr_if br0", "-O", &pit, "-O", "tarpit_acl 1"])
        .args([format!("{SERVICE}:{PORT}"), "192.0.2.11".into(), "192.0.2.12".into()])
        .stdin(Stdio::null())
        .spawn();
    let mut pen = Pen(pen.expect("it runs"));
    let output = Peer::start("client", 1).output();
    assert_eq!(answers(&output).len(), usize::from(*CLIENTS.end()), "{output}");
    assert!(output.contains("tarpit yes"), "{output}");
    assert!(pen.0.try_wait().expect("its state").is_none(), "it goes on");
}

#[test]
fn an_interface_that_is_not_there_is_an_error_at_once() {
    let service = Servers::new().plan("nobody");
    let settings = dsr::Settings {
        interface: "no-such-link".into(),
        address: SERVICE,
        port: None,
        transport: Transport::Udp,
        with_port: true,
        tarpit: false,
    };
    let error = dsr::start(settings, service, Arc::new(|| Time::ZERO)).expect_err("there is none");
    assert_eq!(error.raw_os_error(), Some(19), "ENODEV");
}
