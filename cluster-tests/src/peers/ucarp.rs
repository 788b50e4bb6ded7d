//! ucarp with Pen: the pair that Cygnet succeeds.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::{keepalived, write_config};
use crate::command::Signal;
use crate::pair::{FRONT, SERVERS, VIP, VRID, front_address};
use crate::process::{Process, in_node};

/// How long ucarp may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A running ucarp.
#[derive(Debug)]
pub struct Ucarp {
    process: Process,
}

impl Ucarp {
    /// Starts it in `node`: advertisements every second plus `advskew`/256 s, the lower the more preferred.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(node: &str, advskew: u8) -> Result<Self> {
        let up = script(node, "up", "add")?;
        let down = script(node, "down", "del")?;
        let mut command = in_node(node, "ucarp");
        command
            .arg(format!("--interface={FRONT}"))
            .arg(format!("--srcip={}", front_address(node)))
            .arg(format!("--vhid={VRID}"))
            .args(["--pass=cygnet", "--advbase=1", "--preempt", "--shutdown", "--neutral"])
            .arg(format!("--advskew={advskew}"))
            .arg(format!("--addr={VIP}"))
            .arg(format!("--upscript={}", up.display()))
            .arg(format!("--downscript={}", down.display()));
        Ok(Self { process: Process::start(&format!("ucarp-{node}"), command)? })
    }

    /// Kills it: the address stays behind.
    ///
    /// # Errors
    /// If it has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal_all(signal)
    }

    /// Stops it; it runs its down script.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT).map(drop)
    }
}

fn script(node: &str, name: &str, verb: &str) -> Result<PathBuf> {
    let text = format!("#!/bin/sh\nexec ip address {verb} {VIP}/32 dev {FRONT}\n");
    let path = write_config(&format!("ucarp-{node}-{name}.sh"), &text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Pen in `node`, balancing (round robin) to the servers of the pair.
///
/// # Errors
/// If it does not come up.
pub fn pen(node: &str) -> Result<Process> {
    let mut command = in_node(node, "pen");
    command.args(["-f", "-r", "80"]).args(SERVERS.map(|(_, address)| address));
    keepalived::listening(node, Process::start(&format!("pen-{node}"), command)?)
}
