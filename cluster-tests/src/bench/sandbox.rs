//! A measurement's own little machine: network, processes and mounts, made by unshare(1), gone with its first process.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use super::process::{find, wait_for};

/// The proxy's own address, where it listens and where its connections to the servers start.
pub(super) const PROXY: &str = "10.99.0.1";
/// Where clients connect.
pub(super) const FRONT: &str = "10.99.0.1:8000";
/// The servers' addresses.
pub(super) const SERVERS: [&str; 2] = ["10.99.0.11:9000", "10.99.0.12:9000"];

/// Where flows come from that must not meet an earlier one: a network of which each address is ours.
pub(super) const FLOWS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 0);
/// Connections that wait to be accepted: more than come at once, so that none is asked for twice.
pub(super) const BACKLOG: usize = 16_384;

/// The same for all, whatever the machine prefers. A connection per request needs many ports; they are taken again
/// as soon as the kernel finds it safe.
const SETTINGS: [(&str, &str); 6] = [
    ("net/ipv4/tcp_congestion_control", "reno"),
    ("net/ipv4/ip_local_port_range", "10240 65535"),
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/ipv4/tcp_max_tw_buckets", "262144"),
    ("net/ipv4/tcp_max_syn_backlog", "16384"),
    ("net/core/somaxconn", "16384"),
];

/// Starting, warming up, stopping: what a measurement may take beyond the time of its load.
const SLACK: Duration = Duration::from_secs(90);

/// Runs this program again as `measure ARGS` in fresh namespaces, and reads the result that it prints.
pub(super) fn measure<T: DeserializeOwned>(arguments: &[String], load: Duration) -> Result<T> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(find("unshare")?);
    if !is_root()? {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    // As many descriptors as allowed: proxies take their limits from it.
    command.args(["sh", "-c", r#"ulimit -n "$(ulimit -Hn)"; exec "$@""#, "sh"]);
    command.arg(&program);
    if program.file_name().is_none_or(|name| name != "cygnet-bench") {
        command.arg("bench"); // inside a larger program
    }
    let mut child = command
        .arg("measure")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run unshare(1)")?;
    // The result is shorter than a pipe, so nobody blocks.
    let ended = wait_for("a measurement", load + SLACK, || child.try_wait().context("cannot wait"));
    if ended.is_err() {
        child.kill().context("cannot end a measurement")?; // and, by --kill-child, all in it
    }
    let output = child.wait_with_output().context("cannot read a measurement")?;
    ended?;
    let text = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str::<std::result::Result<T, String>>(text.trim()) {
        Ok(result) => result.map_err(anyhow::Error::msg),
        Err(_) => bail!("the measurement ended without a result ({})", output.status),
    }
}

/// Inside: loopback up, the addresses, the settings.
pub(super) fn prepare() -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    for address in [PROXY].into_iter().chain(SERVERS.iter().filter_map(|server| server.split(':').next())) {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    ip(&["address", "add", &format!("{FLOWS}/16"), "dev", "lo"])?;
    for (key, value) in SETTINGS {
        fs::write(format!("/proc/sys/{key}"), value)
            .with_context(|| format!("cannot set {key} to {value}"))?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new(find("ip")?).args(arguments).status().context("cannot run ip")?;
    if !status.success() {
        bail!("ip {}: {status}", arguments.join(" "));
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    Ok(uid == Some("0"))
}
