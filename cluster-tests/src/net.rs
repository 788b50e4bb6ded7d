//! Nodes, bridges and links.
//!
//! The lab's own network namespace is the switch: it holds the bridges and one end of each link. A node is a named
//! network namespace with the other ends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{command, wait};

/// One interface of a node.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name in the node, for example `eth0`.
    pub interface: String,
    /// The bridge at the other end.
    pub bridge: String,
    /// Its first address with the prefix length, for example `192.0.2.1/24`.
    pub address: String,
}

impl Link {
    /// An interface with its bridge and first address.
    #[must_use]
    pub fn new(interface: &str, bridge: &str, address: &str) -> Self {
        Self { interface: interface.to_owned(), bridge: bridge.to_owned(), address: address.to_owned() }
    }
}

/// An address as a node's kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAddress {
    /// The interface.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

/// The nodes and bridges of one lab.
#[derive(Debug, Default)]
pub struct Lab {
    pub(crate) links: BTreeMap<String, Vec<Link>>,
}

impl Lab {
    /// A lab without nodes. Only inside [`crate::enter::lab`].
    ///
    /// # Errors
    /// If we are not inside.
    pub fn new() -> Result<Self> {
        anyhow::ensure!(crate::enter::is_inside(), "a lab is built inside enter::lab only");
        Ok(Self::default())
    }

    /// Adds a bridge that forwards at once and floods multicast.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn add_bridge(&mut self, name: &str) -> Result<()> {
        let number = name.bytes().fold(0_u8, u8::wrapping_add);
        let mac = format!("02:00:00:ff:00:{number:02x}");
        let add =
            ["link", "add", name, "address", &mac, "type", "bridge", "stp_state", "0", "mcast_snooping", "0"];
        command::run("ip", &add)?;
        command::run("ip", &["link", "set", name, "up"])?;
        Ok(())
    }

    /// Adds a node with its links. The settings are those of a common host: IPv4 forwarding off, strict reverse path
    /// filter, ARP settings untouched.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn add_node(&mut self, name: &str, links: &[Link]) -> Result<()> {
        command::run("ip", &["netns", "add", name])?;
        self.links.insert(name.to_owned(), Vec::new());
        // Before the interfaces exist: they take `default`.
        let settings =
            "net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1";
        self.sysctl(name, &settings.split(' ').collect::<Vec<_>>())?;
        command::run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        for link in links {
            self.add_link(name, link)?;
        }
        Ok(())
    }

    /// Adds one more interface to a node.
    ///
    /// # Errors
    /// If the node does not exist or the kernel refuses.
    pub fn add_link(&mut self, node: &str, link: &Link) -> Result<()> {
        let links = self.links.get_mut(node).context("no such node")?;
        let (port, number) = (port(node, &link.interface), links.len());
        // Fixed addresses: captures and logs of two runs can be compared.
        let (inner, outer) = (mac(0, node, number), mac(1, node, number));
        let Link { interface, bridge, address } = link;
        let here = format!(
            "link add {port} address {outer} type veth peer name {interface} address {inner} netns {node}\n\
             link set {port} master {bridge} up\n"
        );
        command::run_with_input("ip", &["-batch", "-"], &here)?;
        let there = format!("link set {interface} up\naddress add {address} dev {interface}\n");
        command::run_with_input("ip", &["-n", node, "-batch", "-"], &there)?;
        links.push(link.clone());
        Ok(())
    }

    /// The names of the nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.links.keys().map(String::as_str)
    }

    /// Sets kernel parameters (`net.name=value`) in a node.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn sysctl(&self, node: &str, settings: &[&str]) -> Result<()> {
        // By hand: `sysctl` is not in a minimal image.
        let mut script = String::from("set -e\n");
        for setting in settings {
            let (name, value) = setting.split_once('=').context("write name=value")?;
            script.push_str(&format!("echo {value} > /proc/sys/{}\n", name.replace('.', "/")));
        }
        command::run("nsenter", &[&format!("--net=/run/netns/{node}"), "--", "sh", "-c", &script]).map(drop)
    }

    /// Runs `ip` in a node.
    ///
    /// # Errors
    /// If `ip` does not end with 0.
    pub fn ip(&self, node: &str, line: &str) -> Result<String> {
        let mut args = vec!["-n", node];
        args.extend(line.split_whitespace());
        command::run("ip", &args)
    }

    /// The addresses of a node by its kernel's word, loopback left out.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn addresses(&self, node: &str) -> Result<Vec<HeldAddress>> {
        #[derive(Deserialize)]
        struct Shown {
            #[serde(default)]
            ifname: String,
            #[serde(default)]
            addr_info: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            local: Option<IpAddr>,
            #[serde(default)]
            prefixlen: u8,
        }
        let json = command::run("ip", &["-j", "-n", node, "address", "show"])?;
        let shown: Vec<Shown> = serde_json::from_str(&json).with_context(|| json.clone())?;
        let mut held = Vec::new();
        for Shown { ifname, addr_info } in shown.into_iter().filter(|shown| shown.ifname != "lo") {
            for Address { local, prefixlen } in addr_info {
                let Some(address) = local else { continue };
                held.push(HeldAddress { interface: ifname.clone(), address, prefix: prefixlen });
            }
        }
        Ok(held)
    }

    /// The nodes on which `address` is at this moment, by asking each node's kernel.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn holders(&self, address: IpAddr) -> Result<Vec<String>> {
        let mut holders = Vec::new();
        for node in self.nodes() {
            if self.addresses(node)?.iter().any(|held| held.address == address) {
                holders.push(node.to_owned());
            }
        }
        Ok(holders)
    }

    /// Waits until `address` is on exactly one node and stays there for `steady`; gives that node.
    ///
    /// # Errors
    /// If that has not come within `limit`.
    pub fn one_holder(
        &self,
        address: IpAddr,
        steady: std::time::Duration,
        limit: std::time::Duration,
    ) -> Result<String> {
        let mut since = std::time::Instant::now();
        let mut last = Vec::new();
        let what = format!("one node to hold {address}");
        let outcome = wait::until(limit, &what, || {
            let now = self.holders(address)?;
            if now != last || now.len() != 1 {
                last = now;
                since = std::time::Instant::now();
            }
            Ok((last.len() == 1 && since.elapsed() >= steady).then(|| last[0].clone()))
        });
        outcome.with_context(|| format!("holders at the end: {:?}", self.holders(address)))
    }
}

/// The switch's end of a node's link.
pub(crate) fn port(node: &str, interface: &str) -> String {
    format!("{node}.{interface}")
}

/// A locally administered address made of the side, the node's name and the interface's number.
fn mac(side: u8, node: &str, interface: usize) -> String {
    let sum = node.bytes().fold(0_u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(u16::from(byte)));
    let [high, low] = sum.to_be_bytes();
    format!("02:00:{side:02x}:{high:02x}:{low:02x}:{interface:02x}")
}
