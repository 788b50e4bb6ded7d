//! A bridge in a network namespace of the test's own, and nodes around it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cygnet_ha::vip::{Role, VipView};

use crate::node::SETTINGS;

/// The virtual address of all tests.
pub(crate) const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));

/// A second one, for the tests that say so.
pub(crate) const VIP_TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 101));

/// The IPv6 one, for the tests that say so.
pub(crate) const VIP_SIX: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100));

/// The link-local address with which keepalived's IPv6 groups begin.
pub(crate) const VIP_LINK_LOCAL: IpAddr =
    IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x100));

/// Where every keepalived of a test writes; the file system is the test's own.
const KEEPALIVED_LOG: &str = "/run/keepalived.log";

/// Set in the inner process.
const INSIDE: &str = "CYGNET_TEST_LAB";

/// No condition takes longer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `body` in fresh network and mount namespaces, by running this binary again for this test alone. Skips, loudly, only
/// where neither root nor user namespaces are to be had.
pub(crate) fn in_lab(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        return body();
    }
    let works =
        |flags: &&str| Command::new("unshare").args([flags, "true"]).status().is_ok_and(|s| s.success());
    let Some(flags) = ["-nm", "-Urnm"].into_iter().find(works) else {
        eprintln!("SKIPPED {test}: neither root nor user namespaces are available");
        return;
    };
    let output = Command::new("unshare")
        .args([flags, "--kill-child"])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .output()
        .expect("unshare runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "in the namespace:\n{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "the test was not found inside:\n{stdout}\n{stderr}");
    println!("{stdout}{stderr}");
}

/// Waits for a condition, or fails.
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.expect("the program is installed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a node has said.
#[derive(Default)]
struct Said {
    views: Vec<VipView>,
    events: Vec<String>,
}

struct Node {
    child: Child,
    said: Arc<Mutex<Said>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bridge `br0` (192.0.2.254, in the namespace of the test), and a namespace for each name with `eth0` on it.
pub(crate) struct Lab {
    names: Vec<String>,
    nodes: BTreeMap<String, Node>,
    keepalived: Option<Child>,
}

impl Lab {
    pub(crate) fn new(names: &[&str]) -> Self {
        // `ip netns` wants to write there; the mount namespace is ours.
        run("mount", "-t tmpfs tmpfs /run");
        for command in [
            "link set lo up",
            "link add br0 type bridge",
            "addr add 192.0.2.254/24 dev br0",
            "link set br0 up",
        ] {
            run("ip", command);
        }
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let lab = Self { names, nodes: BTreeMap::new(), keepalived: None };
        for name in &lab.names {
            run("ip", &format!("netns add {name}"));
            lab.cable(name);
        }
        lab
    }

    /// Connects a namespace with the bridge.
    pub(crate) fn cable(&self, name: &str) {
        run("ip", &format!("link add v-{name} type veth peer name eth0 netns {name}"));
        run("ip", &format!("link set v-{name} master br0 up"));
        run("ip", &format!("-n {name} addr add {}/24 dev eth0", self.address(name)));
        run("ip", &format!("-n {name} link set eth0 up"));
    }

    pub(crate) fn ip(&self, command: &str) {
        run("ip", command);
    }

    /// The fixed address of a node.
    pub(crate) fn address(&self, name: &str) -> IpAddr {
        let place = self.names.iter().position(|other| other == name).expect("a node of this lab");
        IpAddr::from([192, 0, 2, place as u8 + 1])
    }

    /// Starts the program in a namespace.
    pub(crate) fn start(&mut self, name: &str, settings: &str) {
        let mut child = Command::new("ip")
            .args(["netns", "exec", name])
            .arg(std::env::current_exe().expect("this binary"))
            .args(["--exact", "node_process", "--include-ignored", "--nocapture"])
            .env(SETTINGS, settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a node starts");
        let said = Arc::new(Mutex::new(Said::default()));
        let (heard, output) = (Arc::clone(&said), child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut said = heard.lock().expect("no panic");
                match line.split_once(' ') {
                    Some(("views", json)) => said.views = serde_json::from_str(json).expect("views"),
                    Some(("event", event)) => said.events.push(event.to_owned()),
                    _ => {}
                }
            }
        });
        self.nodes.insert(name.to_owned(), Node { child, said });
    }

    /// Gives an order to a node.
    pub(crate) fn tell(&mut self, name: &str, order: &str) {
        use std::io::Write;
        let node = self.nodes.get_mut(name).expect("a running node");
        writeln!(node.child.stdin.as_mut().expect("piped"), "{order}").expect("it reads");
    }

    /// Ends a node in good order.
    pub(crate) fn end(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).expect("a running node");
        drop(node.child.stdin.take());
        let status = node.child.wait().expect("it ends");
        assert!(status.success(), "{name} ended with {status}");
    }

    pub(crate) fn signal(&self, name: &str, signal: &str) {
        run("kill", &format!("-{signal} {}", self.nodes[name].child.id()));
    }

    /// Kills the processes that a node has started.
    pub(crate) fn kill_children(&self, name: &str) {
        let parent = self.nodes[name].child.id().to_string();
        let is_child = |stat: &str| {
            let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
            rest.split_whitespace().nth(1) == Some(&parent)
        };
        for process in std::fs::read_dir("/proc").expect("proc").flatten() {
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            if is_child(&stat) {
                run("kill", &format!("-KILL {}", process.file_name().to_string_lossy()));
            }
        }
    }

    /// What the node shows; a picture of nothing before it has shown anything.
    pub(crate) fn view(&self, name: &str) -> VipView {
        let said = self.nodes[name].said.lock().expect("no panic");
        said.views.first().cloned().unwrap_or_else(|| VipView {
            name: String::new(),
            address: VIP,
            addresses: vec![VIP],
            interface: String::new(),
            protocol: cygnet_ha::vip::Protocol::Vrrp3,
            mode: cygnet_ha::vip::Mode::Hold,
            id: 0,
            sync_group: None,
            role: Role::Down,
            reason: "nothing shown".into(),
            role_age_ms: 0,
            priority: 0,
            holder: None,
            holder_priority: None,
            holder_heard_ms: None,
            rivals: Vec::new(),
            address_present: false,
            adverts_heard: 0,
            adverts_sent: 0,
            discarded: Vec::new(),
            moved: cygnet_ha::vip::MovedView::default(),
            wire: cygnet_ha::vip::WireView::default(),
        })
    }

    pub(crate) fn events(&self, name: &str) -> Vec<String> {
        self.nodes[name].said.lock().expect("no panic").events.clone()
    }

    /// Whether some event of the node holds these words.
    pub(crate) fn says(&self, name: &str, words: &str) -> bool {
        self.events(name).iter().any(|event| event.contains(words))
    }

    /// Until this node takes part in the election and knows who has won it. Whom it has heard is not enough: it hears before it
    /// takes part (over IPv6 its own address may not be used for a second or two), and would not take part in a hand-over.
    pub(crate) fn wait_for_follower(&self, name: &str, holder: IpAddr) {
        wait(&format!("{name} follows {holder}"), || {
            let view = self.view(name);
            view.role == Role::Standby && view.holder == Some(holder)
        });
    }

    /// Whether the kernel has the virtual address in a namespace.
    pub(crate) fn has(&self, name: &str) -> bool {
        let shown = run("ip", &format!("-n {name} -o addr show"));
        [VIP, VIP_SIX].iter().any(|address| shown.contains(&format!(" {address}/")))
    }

    /// Whether the kernel has this address in a namespace.
    pub(crate) fn has_address(&self, name: &str, address: IpAddr) -> bool {
        run("ip", &format!("-n {name} -o addr show")).contains(&format!(" {address}/"))
    }

    /// Who has the virtual address, by the kernels' words.
    fn holders(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).filter(|name| self.has(name)).collect()
    }

    /// Until this node, and no other, has the address and, if it is ours, says so.
    pub(crate) fn wait_for_holder(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let holders = self.holders();
            let shown = self.nodes.get(name).is_none_or(|_| self.view(name).address_present);
            if holders == [name] && shown {
                return;
            }
            let said: Vec<_> =
                self.nodes.keys().map(|name| (name, self.view(name), self.events(name))).collect();
            assert!(
                Instant::now() < deadline,
                "{name} does not hold the address, but {holders:?}:\n{said:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// This node, and no other, has the address for so long.
    pub(crate) fn stays_holder(&self, name: &str, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert_eq!(self.holders(), [name]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has the host on the bridge learn the MAC of the virtual address.
    pub(crate) fn ask(&self) {
        let socket = std::net::UdpSocket::bind("192.0.2.254:0").expect("a socket");
        socket.send_to(b"who has it?", (VIP, 9)).expect("sent");
        wait("the host knows a MAC", || !self.neighbour().is_empty());
    }

    /// Has the host on the bridge believe that the virtual address is there.
    pub(crate) fn believe(&self, mac: &str) {
        run("ip", &format!("neigh replace 192.0.2.100 lladdr {mac} dev br0 nud reachable"));
    }

    /// Isolated ports of the bridge reach its host, but not each other.
    pub(crate) fn isolate(&self, names: &[&str], isolated: bool) {
        let state = if isolated { "on" } else { "off" };
        for name in names {
            run("bridge", &format!("link set dev v-{name} isolated {state}"));
        }
    }

    /// The MAC that the host on the bridge believes.
    pub(crate) fn neighbour(&self) -> String {
        let line = run("ip", "neigh show 192.0.2.100 dev br0");
        line.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
    }

    pub(crate) fn mac(&self, name: &str) -> String {
        let line = run("ip", &format!("-n {name} -o link show eth0"));
        line.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a MAC").to_owned()
    }

    /// The link-local address of a node.
    pub(crate) fn link_local(&self, name: &str) -> IpAddr {
        let line = run("ip", &format!("-n {name} -6 -o addr show dev eth0 scope link"));
        let word = line.split_whitespace().find(|word| word.starts_with("fe80::")).unwrap_or("::/0");
        word.split('/').next().unwrap_or_default().parse().expect("an address")
    }

    /// Has the host on the bridge believe that the IPv6 address is there.
    pub(crate) fn believe_six(&self, mac: &str) {
        run("ip", &format!("neigh replace {VIP_SIX} lladdr {mac} dev br0 nud reachable"));
    }

    /// The MAC that the host on the bridge believes of the IPv6 address.
    pub(crate) fn neighbour_six(&self) -> String {
        let line = run("ip", &format!("-6 neigh show {VIP_SIX} dev br0"));
        line.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
    }

    /// Starts a keepalived of version 2 with a password in a namespace.
    pub(crate) fn keepalived_two(&mut self, name: &str, priority: u8, password: &str) {
        self.run_keepalived(
            name,
            &format!(
                "vrrp_instance www {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {priority}\n \
                 advert_int 1\n authentication {{\n auth_type PASS\n auth_pass {password}\n }}\n \
                 virtual_ipaddress {{ 192.0.2.100/32 dev eth0 }}\n}}\n"
            ),
        );
    }

    /// Starts a ucarp of the same vhid in a namespace. It preempts, and gives the address back at its end.
    pub(crate) fn ucarp(&mut self, name: &str, advskew: u8, password: &str) {
        for (verb, path) in [("add", "/run/up"), ("del", "/run/down")] {
            std::fs::write(path, format!("#!/bin/sh\nexec ip addr {verb} {VIP}/32 dev \"$1\"\n"))
                .expect("written");
            run("chmod", &format!("755 {path}"));
        }
        let own = self.address(name);
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                name,
                "ucarp",
                "--interface=eth0",
                "--vhid=51",
                "--preempt",
                "--shutdown",
            ])
            .args([format!("--srcip={own}"), format!("--addr={VIP}"), format!("--pass={password}")])
            .args([
                format!("--advskew={advskew}"),
                "--upscript=/run/up".into(),
                "--downscript=/run/down".into(),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.keepalived = Some(child.expect("ucarp starts"));
    }

    /// Starts a keepalived of the same group in a namespace.
    pub(crate) fn keepalived(&mut self, name: &str, priority: u8) {
        self.keepalived_with(name, priority, &[VIP]);
    }

    /// The same with a list of addresses of one family.
    pub(crate) fn keepalived_with(&mut self, name: &str, priority: u8, addresses: &[IpAddr]) {
        let prefix = if addresses.iter().all(IpAddr::is_ipv4) { 32 } else { 128 };
        if prefix == 128 {
            self.wait_for_own_ipv6(name);
        }
        let list: String =
            addresses.iter().map(|address| format!("  {address}/{prefix} dev eth0\n")).collect();
        let configuration = format!(
            "global_defs {{ vrrp_version 3 }}\n\
             vrrp_instance www {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {priority}\n \
             advert_int 0.1\n virtual_ipaddress {{\n{list} }}\n}}\n"
        );
        self.run_keepalived(name, &configuration);
    }

    /// A keepalived of this version that speaks to one unicast peer.
    pub(crate) fn keepalived_to_a_peer(
        &mut self,
        name: &str,
        (version, priority): (u8, u8),
        addresses: &[IpAddr],
        (own, peer): (IpAddr, IpAddr),
    ) {
        let (prefix, interval) =
            (if own.is_ipv4() { 32 } else { 128 }, if version == 2 { "1" } else { "0.1" });
        if prefix == 128 {
            self.wait_for_own_ipv6(name);
        }
        let list: String =
            addresses.iter().map(|address| format!("  {address}/{prefix} dev eth0\n")).collect();
        let configuration = format!(
            "global_defs {{ vrrp_version {version} }}\n\
             vrrp_instance www {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {priority}\n \
             advert_int {interval}\n unicast_src_ip {own}\n unicast_peer {{\n {peer}\n }}\n \
             virtual_ipaddress {{\n{list} }}\n}}\n"
        );
        self.run_keepalived(name, &configuration);
    }

    /// No multicast reaches these nodes any more.
    pub(crate) fn without_multicast(&self, names: &[&str]) {
        for name in names {
            run("bridge", &format!("link set dev v-{name} mcast_flood off"));
        }
    }

    /// Until duplicate address detection has passed the node's link-local address (RFC 4862 section 5.4; 1 to 2 s after
    /// the link came up), the kernel refuses it as a source with EINVAL, and keepalived 2.2 logs that and goes on.
    fn wait_for_own_ipv6(&self, name: &str) {
        let show = |flag| run("ip", &format!("-n {name} -6 address show dev eth0 {flag}"));
        wait("the node has its own IPv6 address", || {
            show("scope link").contains("fe80::") && show("tentative").is_empty()
        });
    }

    /// What keepalived has said against packets that it heard.
    pub(crate) fn complaints(&self) -> Vec<String> {
        /// The words of keepalived 2.2's `vrrp_check_packet` and `vrrp_in_chk`.
        const WORDS: [&str; 8] =
            ["invalid", "bogus", "drop", "not present", "mismatch", "expect", "incorrect", "malformed"];
        let log = std::fs::read_to_string(KEEPALIVED_LOG).unwrap_or_default();
        assert!(log.contains("Entering BACKUP STATE"), "it wrote no log: {log}");
        let complains = |line: &&str| WORDS.iter().any(|word| line.to_lowercase().contains(word));
        log.lines().filter(complains).map(str::to_owned).collect()
    }

    fn run_keepalived(&mut self, name: &str, configuration: &str) {
        std::fs::write("/run/keepalived.conf", configuration).expect("written");
        let log = || std::fs::File::options().append(true).create(true).open(KEEPALIVED_LOG).expect("a log");
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                name,
                "keepalived",
                "--dont-fork",
                "--vrrp",
                "--log-console",
                "--log-detail",
                "--use-file=/run/keepalived.conf",
            ])
            .args(["--pid=/run/keepalived.pid", "--vrrp_pid=/run/keepalived-vrrp.pid"])
            .stdout(log())
            .stderr(log())
            .spawn();
        self.keepalived = Some(child.expect("keepalived starts"));
    }

    /// Ends it in good order: it resigns.
    pub(crate) fn end_keepalived(&mut self) {
        let mut child = self.keepalived.take().expect("a running keepalived");
        run("kill", &format!("-TERM {}", child.id()));
        child.wait().expect("it ends");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.nodes.keys() {
                eprintln!("{name}: {:#?}\n{:#?}", self.view(name), self.events(name));
            }
            eprintln!("{}", std::fs::read_to_string(KEEPALIVED_LOG).unwrap_or_default());
        }
        if let Some(mut child) = self.keepalived.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
