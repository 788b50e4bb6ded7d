//! What can go wrong with the network. (For what can go wrong with a process see [`crate::process::Process`].)

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::command;
use crate::net::{Lab, Link, port};

impl Lab {
    fn link(&self, node: &str, interface: &str) -> Result<&Link> {
        let links = self.links.get(node).with_context(|| format!("no node {node}"))?;
        links
            .iter()
            .find(|link| link.interface == interface)
            .with_context(|| format!("{node} has no {interface}"))
    }

    /// Takes a node's interface down, as its administrator would; the carrier goes as well.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn link_down(&self, node: &str, interface: &str) -> Result<()> {
        self.ip(node, &format!("link set {interface} down")).map(drop)
    }

    /// Brings it up again.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn link_up(&self, node: &str, interface: &str) -> Result<()> {
        self.ip(node, &format!("link set {interface} up")).map(drop)
    }

    /// Pulls the carrier away: the switch's end goes down, the node sees NO-CARRIER.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn carrier_lost(&self, node: &str, interface: &str) -> Result<()> {
        command::run("ip", &["link", "set", &port(node, interface), "down"]).map(drop)
    }

    /// Gives the carrier back.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn carrier_back(&self, node: &str, interface: &str) -> Result<()> {
        command::run("ip", &["link", "set", &port(node, interface), "up"]).map(drop)
    }

    /// Takes the port out of its bridge: silence, while the node's carrier stays.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn cut_port(&self, node: &str, interface: &str) -> Result<()> {
        self.link(node, interface)?;
        command::run("ip", &["link", "set", &port(node, interface), "nomaster"]).map(drop)
    }

    /// Puts the port back into its bridge.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn heal_port(&self, node: &str, interface: &str) -> Result<()> {
        let bridge = &self.link(node, interface)?.bridge;
        command::run("ip", &["link", "set", &port(node, interface), "master", bridge]).map(drop)
    }

    /// Nothing passes any more between the `interface`s of two nodes, in neither direction; all other pairs go on.
    ///
    /// # Errors
    /// If the kernel has no nftables for bridges.
    pub fn partition(&self, interface: &str, one: &str, other: &str) -> Result<()> {
        let (one, other) = (port(one, interface), port(other, interface));
        let rules = format!(
            "add table bridge lab\n\
             add chain bridge lab cut {{ type filter hook forward priority 0; }}\n\
             add rule bridge lab cut iifname \"{one}\" oifname \"{other}\" drop\n\
             add rule bridge lab cut iifname \"{other}\" oifname \"{one}\" drop\n"
        );
        command::run_with_input("nft", &["-f", "-"], &rules).map(drop)
    }

    /// Ends all partitions.
    ///
    /// # Errors
    /// If there was none.
    pub fn heal_partitions(&self) -> Result<()> {
        command::run("nft", &["delete", "table", "bridge", "lab"]).map(drop)
    }

    /// Adds an address by hand, behind the back of whoever manages it.
    ///
    /// # Errors
    /// If it is there already.
    pub fn add_address(&self, node: &str, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        self.ip(node, &format!("address add {address}/{prefix} dev {interface}")).map(drop)
    }

    /// Removes an address by hand.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove_address(&self, node: &str, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        self.ip(node, &format!("address del {address}/{prefix} dev {interface}")).map(drop)
    }
}
