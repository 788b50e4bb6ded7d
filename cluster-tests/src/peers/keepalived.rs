//! keepalived with HAProxy: what most of today's users have.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::write_config;
use crate::command::{self, Signal};
use crate::pair::{FRONT, SERVERS, VIP, VRID};
use crate::process::{Process, in_node};
use crate::wait;

/// How long keepalived may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a keepalived is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// 2 or 3.
    pub version: u8,
    /// Between advertisements; VRRPv2 knows whole seconds only.
    pub interval: Duration,
    /// This node's priority.
    pub priority: u8,
    /// The interface.
    pub interface: &'static str,
    /// The virtual router identifier.
    pub id: u8,
    /// The virtual address.
    pub address: IpAddr,
    /// The prefix length with which it adds the address. keepalived's users write 24 as often as 32.
    pub prefix: u8,
}

impl Settings {
    /// VRRPv3 every 100 ms, address as /32.
    #[must_use]
    pub fn new(priority: u8) -> Self {
        Self {
            version: 3,
            interval: Duration::from_millis(100),
            priority,
            interface: FRONT,
            id: VRID,
            address: VIP,
            prefix: 32,
        }
    }
}

/// A running keepalived.
#[derive(Debug)]
pub struct Keepalived {
    node: String,
    process: Process,
}

impl Keepalived {
    /// Starts it in `node`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(node: &str, settings: &Settings) -> Result<Self> {
        Self::start_with(node, &config(node, settings))
    }

    /// Starts it in `node` with this configuration.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_with(node: &str, text: &str) -> Result<Self> {
        let config = write_config(&config_name(node), text)?;
        let mut command = in_node(node, "keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"]).arg(config);
        for (option, kind) in [("--pid", "main"), ("--vrrp_pid", "vrrp")] {
            command.arg(option).arg(format!("/run/keepalived-{node}-{kind}.pid"));
        }
        Ok(Self { node: node.to_owned(), process: Process::start(&format!("keepalived-{node}"), command)? })
    }

    /// Kills parent and child at once, as a crash of the machine's software would: the address stays behind.
    ///
    /// # Errors
    /// If it has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.signal_all(Signal::Kill)?;
        self.process.wait_end(STOP_LIMIT)?;
        Ok(())
    }

    /// Stops it; it resigns.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT).map(drop)
    }

    /// Freezes or continues it.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal_all(signal)
    }

    /// Gives it other settings while it runs.
    ///
    /// # Errors
    /// If it has ended.
    pub fn reconfigure(&self, settings: &Settings) -> Result<()> {
        write_config(&config_name(&self.node), &config(&self.node, settings))?;
        self.process.signal(Signal::Hangup)
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn config_name(node: &str) -> String {
    format!("keepalived-{node}.conf")
}

fn config(node: &str, settings: &Settings) -> String {
    let Settings { version, interval, priority, interface, id, address, prefix } = settings;
    format!(
        "global_defs {{\n    router_id {node}\n    vrrp_version {version}\n}}\n\
         vrrp_instance www {{\n    state BACKUP\n    interface {interface}\n    virtual_router_id {id}\n    \
         priority {priority}\n    advert_int {}\n    virtual_ipaddress {{\n        {address}/{prefix}\n    }}\n}}\n",
        interval.as_secs_f64()
    )
}

/// HAProxy in `node`, balancing to the servers of the pair.
///
/// # Errors
/// If it does not come up.
pub fn haproxy(node: &str) -> Result<Process> {
    let mut text = String::from(
        "defaults\n    mode tcp\n    timeout connect 3s\n    timeout client 30s\n    timeout server 30s\n\
         listen web\n    bind *:80\n    balance roundrobin\n",
    );
    for (name, address) in SERVERS {
        text.push_str(&format!("    server {name} {address}\n"));
    }
    let config = write_config(&format!("haproxy-{node}.conf"), &text)?;
    let mut command = in_node(node, "haproxy");
    command.args(["-db", "-f"]).arg(config);
    listening(node, Process::start(&format!("haproxy-{node}"), command)?)
}

/// Waits until something listens on port 80 in `node`.
pub(crate) fn listening(node: &str, mut process: Process) -> Result<Process> {
    wait::until(STOP_LIMIT, "the proxy to listen", || {
        anyhow::ensure!(process.is_running()?, "the proxy ended: {}", process.log());
        let ss = ["--net=/run/netns/".to_owned() + node, "--".into(), "ss".into(), "-Htln".into()];
        Ok(command::run("nsenter", &ss)?.contains(":80 ").then_some(()))
    })?;
    Ok(process)
}
