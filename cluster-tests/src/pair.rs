//! The topology that the scenarios share.
//!
//! ```text
//!   client .10 ──┐                                    ┌── backend1 .11
//!   watch  .9  ──┤ front        lb1 .1        back    ├── backend2 .12
//!                ├─ 192.0.2.0/24 ──┤  ├── 10.1.0.0/24 ┤
//!                │               lb2 .2               ├── w1 .3 (witness)
//!                                                      (links between the nodes: port 7300)
//! ```
//! The virtual address is 192.0.2.100 on `eth0` of the balancers; `eth1` is the back side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use crate::backend::Backend;
use crate::net::{Lab, Link};

/// The virtual address.
pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
/// The virtual router identifier.
pub const VRID: u8 = 51;
/// Where clients connect.
pub const SERVICE: SocketAddr = SocketAddr::new(VIP, 80);
/// The balancers, the preferred one first.
pub const BALANCERS: [&str; 2] = ["lb1", "lb2"];
/// The witness.
pub const WITNESS: &str = "w1";
/// The client's node.
pub const CLIENT: &str = "client";
/// The servers: node (and name in the answers) and address.
pub const SERVERS: [(&str, &str); 2] = [("backend1", "10.1.0.11:8080"), ("backend2", "10.1.0.12:8080")];
/// The balancers' interface towards the clients.
pub const FRONT: &str = "eth0";
/// The balancers' interface towards the servers and each other.
pub const BACK: &str = "eth1";
/// All addresses of the many clients that [`crate::clients`] plays come from here.
pub const MANY_CLIENTS: &str = "10.128.0.0/14";

/// Whoever opens thousands of connections a second needs this, in the lab as elsewhere: each one leaves its port in
/// TIME_WAIT for a minute, and the default range has 28,000. One connection every 2 ms alone leaves 30,000.
const PORTS: [&str; 2] = ["net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1"];

/// The front side address of a balancer.
#[must_use]
pub fn front_address(node: &str) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, number(node)))
}

/// The back side address of a balancer or the witness.
#[must_use]
pub fn back_address(node: &str) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, number(node)))
}

fn number(node: &str) -> u8 {
    match node {
        "lb1" => 1,
        "lb2" => 2,
        _ => 3,
    }
}

/// The nodes, and the two servers running. Nothing runs on the balancers yet.
#[derive(Debug)]
pub struct Pair {
    /// Nodes and links.
    pub lab: Lab,
    /// The servers.
    pub backends: Vec<Backend>,
}

impl Pair {
    /// Builds it.
    ///
    /// # Errors
    /// If the kernel refuses something.
    pub fn build() -> Result<Self> {
        let mut lab = Lab::new()?;
        lab.add_bridge("front")?;
        lab.add_bridge("back")?;
        for node in BALANCERS {
            let front = Link::new(FRONT, "front", &format!("{}/24", front_address(node)));
            lab.add_node(node, &[front, Link::new(BACK, "back", &format!("{}/24", back_address(node)))])?;
            lab.ip(node, &format!("route add {MANY_CLIENTS} via 192.0.2.10"))?;
            lab.sysctl(node, &PORTS)?;
        }
        lab.add_node(WITNESS, &[Link::new(BACK, "back", &format!("{}/24", back_address(WITNESS)))])?;
        lab.add_node("watch", &[Link::new(FRONT, "front", "192.0.2.9/24")])?;
        lab.add_node(CLIENT, &[Link::new(FRONT, "front", "192.0.2.10/24")])?;
        lab.ip(CLIENT, &format!("route add local {MANY_CLIENTS} dev lo"))?;
        lab.sysctl(CLIENT, &PORTS)?;
        let mut backends = Vec::new();
        for (node, address) in SERVERS {
            let ip = address.split(':').next().unwrap_or_default();
            lab.add_node(node, &[Link::new("eth0", "back", &format!("{ip}/24"))])?;
            backends.push(Backend::start(node, address.parse()?)?);
        }
        Ok(Self { lab, backends })
    }
}
