//! Connections to servers never start from a virtual address: a configured one is refused, `auto` avoids it where the
//! kernel would take it, and therefore a server's session lives through the loss of the address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cygnet_lab::backend::{Backend, SessionReport};
use cygnet_lab::command;
use cygnet_lab::enter;
use cygnet_lab::figures::figure;
use cygnet_lab::net::Link;
use cygnet_lab::pair::{CLIENT, Pair, SERVICE, VIP, back_address, front_address};
use cygnet_lab::peers::cygnet::{ClusterSettings, Cygnet, LIMIT, NodeSettings, config_file};
use cygnet_lab::peers::keepalived::{Keepalived, Settings};
use cygnet_lab::probe::{self, Held, Probe, ask};
use cygnet_lab::scenario::CygnetPair;
use cygnet_lab::wait::{holds_for, until};

/// How long the sessions must live on without the address. Longer than any retransmission that would end them.
const AFTERLIFE: Duration = Duration::from_secs(5);

/// The newest word on a session of any server.
fn session(pair: &Pair, name: &str) -> Result<(String, SessionReport)> {
    for backend in &pair.backends {
        if let Some(report) = backend.sessions().into_iter().find(|report| report.session == name) {
            return Ok((backend.name().to_owned(), report));
        }
    }
    anyhow::bail!("no server knows {name}")
}

/// What the server's kernel says of its connection with `peer`: bytes that the other end has acknowledged, and bytes
/// that wait.
fn flow(server: &str, peer: SocketAddr) -> Result<(u64, u64)> {
    let filter = format!("dport = :{} and dst {}", peer.port(), peer.ip());
    let args = [format!("--net=/run/netns/{server}"), "--".into(), "ss".into(), "-Htin".into(), filter];
    let said = command::run("nsenter", &args)?;
    let waiting = said.split_whitespace().nth(2).and_then(|word| word.parse().ok());
    let acked = said.split_whitespace().find_map(|word| word.strip_prefix("bytes_acked:")?.parse().ok());
    Ok((acked.with_context(|| said.clone())?, waiting.with_context(|| said.clone())?))
}

#[test]
fn a_servers_session_from_the_configured_source_lives_through_the_loss_of_the_address() -> Result<()> {
    enter::lab(|| {
        // lb2 is preferred and will take the address from lb1, which lives on.
        let mut settings = NodeSettings::pair();
        settings.reverse();
        settings[0].priority = 200;
        for node in &mut settings {
            node.source = back_address(&node.name).to_string();
        }
        let own = SocketAddr::new(front_address("lb1"), SERVICE.port());
        let cluster = ClusterSettings { also_listen: vec![own.to_string()], ..ClusterSettings::default() };
        let mut all = CygnetPair::start_with(&settings, &cluster)?;
        all.node_mut("lb2")?.stop()?;
        all.holder_is("lb1")?;

        // Through the virtual address, with a client that stays silent (else the new holder would reset it); and
        // through lb1's own address, from end to end.
        let held = Held::start(CLIENT, SERVICE, "through-the-virtual-address", Duration::from_millis(50))?;
        let talk = probe::Settings { interval: Duration::from_millis(50), ..probe::Settings::new(own) };
        let talk = Probe::start_warm(CLIENT, &talk)?;
        let (server, before) = session(&all.pair, held.name())?;
        ensure!(before.peer.ip() == back_address("lb1"), "the session comes from {}", before.peer);

        all.restart("lb2")?;
        all.holder_is("lb2")?;
        let (acked, _) = flow(&server, before.peer)?;
        holds_for(AFTERLIFE, "the server's session is open", || {
            Ok(session(&all.pair, held.name())?.1.fate == "open")
        })?;
        let (acked_later, waiting) = flow(&server, before.peer)?;
        figure("source, server to old node after the loss", &format!("{} bytes in 5 s", acked_later - acked));
        // Ten bytes every 50 ms.
        ensure!(acked_later >= acked + 500, "no data flows: {acked} then {acked_later} bytes acknowledged");
        ensure!(waiting < 100, "{waiting} bytes wait");

        let report = talk.finish()?;
        figure("source, sessions through the old node's own address", &report.fates());
        ensure!(report.fates() == "up 5" && report.failures() == 0, "{} {:?}", report.fates(), report.failed);
        Ok(())
    })
}

#[test]
fn a_source_that_is_the_virtual_address_is_refused() -> Result<()> {
    enter::lab(|| {
        let _pair = Pair::build()?;
        let mut settings = NodeSettings::pair();
        settings[1].source = VIP.to_string();
        let nodes: Vec<Cygnet> = settings.iter().map(Cygnet::start).collect::<Result<_>>()?;
        let text = ClusterSettings::default().text();
        for node in &nodes {
            node.wait_status(LIMIT, "a quorum", |status| status.quorum.reached)?;
        }
        for node in &nodes {
            // On lb1 it is lb2 that objects.
            let output = node.try_apply(&text)?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(!output.status.success(), "{} took it", node.name);
            ensure!(said.contains("source") && said.contains("virtual"), "{}: {said}", node.name);
            ensure!(node.status()?.config.running == 0, "{} runs it", node.name);
        }
        // Before anything runs, with the two files alone.
        let files = [config_file("lb2"), config_file("cluster")];
        let output = nodes[1].command(&["config", "check", &files[0], &files[1]])?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(!output.status.success(), "checked as good: {said}");
        ensure!(said.contains("lb2.toml:") && said.contains("source") && said.contains("virtual"), "{said}");
        let output = nodes[0].command(&["config", "check", &config_file("lb1"), &files[1]])?;
        ensure!(output.status.success(), "lb1's file: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })
}

/// One way in which addresses come about on the interface towards the servers.
struct Case {
    what: &'static str,
    /// Run one after the other with `ip` in lb1; the interface is `eth2`.
    steps: &'static [&'static str],
    /// Whether the kernel would take the virtual address.
    kernel_takes_virtual: bool,
    /// The address that must be taken; `None`: any that is not virtual.
    own: Option<&'static str>,
}

const FARM: &str = "eth2";
/// Configured as virtual.
const VIRTUAL: [&str; 2] = ["10.2.0.100", "fd00:2::100"];
/// Not configured, but advertised by keepalived on the same wire.
const HEARD: &str = "10.2.0.101";
const SERVER_4: &str = "10.2.0.11";
const SERVER_6: &str = "fd00:2::11";

/// The cases in which the kernel was seen to choose the virtual address, and two harmless ones.
const CASES: [Case; 9] = [
    Case {
        what: "virtual address first, own one second in the same subnet",
        steps: &["add 10.2.0.100/24", "add 10.2.0.1/24"],
        kernel_takes_virtual: true,
        own: Some("10.2.0.1"),
    },
    Case {
        what: "own address removed and added again",
        steps: &["add 10.2.0.1/24", "add 10.2.0.100/24", "del 10.2.0.1/24", "add 10.2.0.1/24"],
        kernel_takes_virtual: true,
        own: Some("10.2.0.1"),
    },
    Case {
        what: "own address as /32, virtual one as /24",
        steps: &["add 10.2.0.1/32", "add 10.2.0.100/24"],
        kernel_takes_virtual: true,
        own: Some("10.2.0.1"),
    },
    Case {
        what: "own address in another subnet only",
        steps: &["add 10.9.0.1/24", "add 10.2.0.100/24"],
        kernel_takes_virtual: true,
        own: None,
    },
    Case {
        what: "an address first that is not configured, but heard",
        steps: &["add 10.2.0.101/24", "add 10.2.0.1/24"],
        kernel_takes_virtual: true,
        own: Some("10.2.0.1"),
    },
    Case {
        what: "own address first, virtual one as /32",
        steps: &["add 10.2.0.1/24", "add 10.2.0.100/32"],
        kernel_takes_virtual: false,
        own: Some("10.2.0.1"),
    },
    Case {
        what: "IPv6, virtual address /64 added last",
        steps: &["add fd00:2::1/64 nodad", "add fd00:2::100/64 nodad"],
        kernel_takes_virtual: true,
        own: Some("fd00:2::1"),
    },
    Case {
        what: "IPv6, virtual address /128 added last",
        steps: &["add fd00:2::1/64 nodad", "add fd00:2::100/128 nodad"],
        kernel_takes_virtual: true,
        own: Some("fd00:2::1"),
    },
    Case {
        what: "IPv6, virtual address /128 with preferred lifetime 0",
        steps: &["add fd00:2::1/64 nodad", "add fd00:2::100/128 nodad preferred_lft 0"],
        kernel_takes_virtual: false,
        own: Some("fd00:2::1"),
    },
];

impl Case {
    fn is_v6(&self) -> bool {
        self.steps[0].contains("::")
    }

    /// What the kernel would take as source.
    fn kernel(&self, pair: &Pair) -> Result<IpAddr> {
        let target = if self.is_v6() { SERVER_6 } else { SERVER_4 };
        let said = pair.lab.ip("lb1", &format!("route get {target}"))?;
        let after = said.split_once(" src ").with_context(|| said.clone())?.1;
        Ok(after.split_whitespace().next().unwrap_or_default().parse()?)
    }

    /// Brings the addresses about, and gives what the kernel takes.
    fn set_up(&self, pair: &Pair) -> Result<IpAddr> {
        pair.lab.ip("lb1", &format!("address flush dev {FARM} scope global"))?;
        for step in self.steps {
            pair.lab.ip("lb1", &format!("address {step} dev {FARM}"))?;
        }
        let kernel = self.kernel(pair)?;
        ensure!(
            virtual_addresses()?.contains(&kernel) == self.kernel_takes_virtual,
            "the kernel takes {kernel}"
        );
        Ok(kernel)
    }

    fn play(&self, pair: &Pair, node: &Cygnet) -> Result<()> {
        let kernel = self.set_up(pair)?;
        let virtual_addresses = virtual_addresses()?;

        // The listeners stand on lb1's own address on the front.
        let port = if self.is_v6() { 8082 } else { 8081 };
        let service = SocketAddr::new(front_address("lb1"), port);
        let taken = until(LIMIT, "a connection from the right address", || {
            let Ok((_, peer)) = ask(CLIENT, service, None) else {
                // No connection is better than one from a virtual address, but the node must say why.
                let service = if self.is_v6() { "six" } else { "four" };
                return Ok(self.own.is_none().then(|| refusal(node, service)).transpose()?.flatten());
            };
            let peer: SocketAddr = peer.parse()?;
            ensure!(!virtual_addresses.contains(&peer.ip()), "a connection came from {peer}");
            let right = self.own.is_none_or(|own| own.parse() == Ok(peer.ip()));
            Ok(right.then(|| peer.ip().to_string()))
        })?;
        figure("source, auto", &format!("{}: kernel {kernel}, Cygnet {taken}", self.what));
        // Once right, always right, also while the kernel's table has settled.
        for _ in 0..20 {
            if let Ok((_, peer)) = ask(CLIENT, service, None) {
                let peer: SocketAddr = peer.parse()?;
                ensure!(!virtual_addresses.contains(&peer.ip()), "a connection came from {peer}");
            }
        }
        Ok(())
    }
}

fn virtual_addresses() -> Result<Vec<IpAddr>> {
    Ok([VIRTUAL[0], VIRTUAL[1], HEARD].iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
}

/// The reason that the node gives for having no source towards the servers of `service`, if it gives one.
fn refusal(node: &Cygnet, service: &str) -> Result<Option<String>> {
    let shown = node.json(&["server", "list"])?;
    let servers = shown["servers"].as_array().with_context(|| shown.to_string())?;
    let of_service = servers.iter().filter(|server| server["service"] == service);
    let reason = of_service.filter_map(|server| server["source_problem"].as_str()).next();
    Ok(reason.map(|reason| format!("none ({reason})")))
}

fn farm_cluster() -> String {
    let mut text = String::new();
    for (family, id) in [(0, 60), (1, 61)] {
        let address = VIRTUAL[family];
        text.push_str(&format!(
            "[[vip]]\nname = \"farm{id}\"\naddress = \"{address}\"\nprotocol = \"vrrp3\"\nid = {id}\nmode = \"watch\"\n"
        ));
    }
    let front = front_address("lb1");
    for (name, port, server) in [("four", 8081, SERVER_4.to_owned()), ("six", 8082, format!("[{SERVER_6}]"))]
    {
        text.push_str(&format!(
            "[[service]]\nname = \"{name}\"\nlisten = [\"{front}:{port}\"]\nblacklist = \"1s\"\n\
             [[service.server]]\nname = \"farm\"\naddress = \"{server}:8080\"\n"
        ));
    }
    text
}

/// A third network with a server of its own, and a keepalived on it that advertises an address nobody has configured.
fn build_farm() -> Result<(Pair, [Backend; 2], Keepalived)> {
    let mut pair = Pair::build()?;
    let lab = &mut pair.lab;
    lab.add_bridge("farm")?;
    // An address that the cases take away again.
    lab.add_link("lb1", &Link::new(FARM, "farm", "10.2.0.254/24"))?;
    lab.sysctl("lb1", &["net.ipv4.conf.eth2.promote_secondaries=1", "net.ipv6.conf.eth2.accept_dad=0"])?;
    lab.add_link("lb2", &Link::new(FARM, "farm", "10.2.0.2/24"))?;
    lab.add_node("farm1", &[Link::new("eth0", "farm", &format!("{SERVER_4}/24"))])?;
    lab.ip("farm1", &format!("address add {SERVER_6}/64 dev eth0 nodad"))?;
    // Whatever own address lb1 takes, the way back is there.
    for network in ["10.9.0.0/24", "10.1.0.0/24", "192.0.2.0/24"] {
        lab.ip("farm1", &format!("route add {network} dev eth0"))?;
    }
    let four = Backend::start("farm1", SocketAddr::new(SERVER_4.parse()?, 8080))?;
    let six = Backend::start("farm1", SocketAddr::new(SERVER_6.parse()?, 8080))?;
    let other = Settings { interface: FARM, id: 77, address: HEARD.parse()?, ..Settings::new(100) };
    let other = Keepalived::start("lb2", &other)?;
    Ok((pair, [four, six], other))
}

#[test]
fn the_kernel_takes_the_virtual_address_in_the_cases_that_count() -> Result<()> {
    enter::lab(|| {
        let (pair, _servers, _other) = build_farm()?;
        for case in &CASES {
            let kernel = case.set_up(&pair).with_context(|| case.what)?;
            figure("source, kernel", &format!("{}: {kernel}", case.what));
        }
        Ok(())
    })
}

#[test]
fn auto_never_takes_a_virtual_address_also_where_the_kernel_would() -> Result<()> {
    enter::lab(|| {
        let (pair, _servers, _other) = build_farm()?;
        let mut settings = NodeSettings::new("lb1", &["lb1"]);
        settings.more =
            format!("[vip.farm60]\ninterface = \"{FARM}\"\n[vip.farm61]\ninterface = \"{FARM}\"\n");
        let node = Cygnet::start(&settings)?;
        node.apply(&farm_cluster())?;
        for case in &CASES {
            case.play(&pair, &node).with_context(|| case.what)?;
        }
        Ok(())
    })
}
