//! One Cygnet node on the loopback interface of the lab, without a virtual address: where bytes, memory and reloads matter
//! and elections do not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::peers::cygnet::{LIMIT, program};
use crate::process::Process;
use crate::{enter, wait};

/// How many files the node may have open, if the lab may raise its limit. Two for each connection.
const FILES_MAX: u32 = 65_536;

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub struct Solo {
    /// The process.
    pub process: Process,
    api: PathBuf,
}

impl Solo {
    /// Starts a node with two workers, and waits until it runs this cluster file.
    ///
    /// # Errors
    /// If it does not come so far.
    pub fn start(cluster: &str) -> Result<Self> {
        Self::start_with_files(cluster, FILES_MAX)
    }

    /// The same with so many open files at most, from which the node takes its limits.
    ///
    /// # Errors
    /// If it does not come so far.
    pub fn start_with_files(cluster: &str, files_max: u32) -> Result<Self> {
        let folder = Path::new(enter::FILES);
        let (file, state, api) =
            (folder.join("solo.toml"), folder.join("solo-state"), folder.join("solo.sock"));
        let text = format!(
            "name = \"solo\"\nstate_dir = {state:?}\napi = {api:?}\nworkers = 2\nsource = \"127.0.0.1\"\n[cluster]\nname = \"solo\"\ninsecure = true\n\
             [[cluster.member]]\nid = 1\nname = \"solo\"\naddress = \"127.0.0.1:7300\"\n"
        );
        std::fs::write(&file, text)?;
        let mut command = Command::new("sh");
        // A limit that may not be raised stays; the node says how many connections fit.
        command.args(["-c", &format!("ulimit -n {files_max} 2>/dev/null; exec \"$@\""), "sh"]);
        command.arg(program()?).args(["run", "--config"]).arg(&file);
        let solo = Self { process: Process::start("solo", command)?, api };
        let mut last = String::new();
        let applied = wait::until(LIMIT, "the configuration to be committed", || {
            let output = solo.apply_once(cluster)?;
            last = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(output.status.success().then_some(()))
        });
        applied.context(last)?;
        Ok(solo)
    }

    /// Applies a cluster file.
    ///
    /// # Errors
    /// If it is refused.
    pub fn apply(&self, cluster: &str) -> Result<()> {
        let output = self.apply_once(cluster)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn apply_once(&self, cluster: &str) -> Result<Output> {
        let file = Path::new(enter::FILES).join("solo-cluster.toml");
        std::fs::write(&file, cluster)?;
        let mut command = Command::new(program()?);
        command.arg("--api").arg(&self.api).args(["config", "apply"]).arg(&file).arg("--yes");
        command.output().context("cannot run cygnet")
    }

    /// Its memory, shared pages in proportion, bytes.
    ///
    /// # Errors
    /// If it has ended.
    pub fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.process.pid());
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| path.clone())?;
        let kilobytes: u64 = line.split_whitespace().next().unwrap_or_default().parse()?;
        Ok(kilobytes * 1024)
    }
}

/// A service of a cluster file: its keys, then its servers.
#[must_use]
pub fn service(keys: &str, servers: &[String]) -> String {
    let mut text = format!("[[service]]\nname = \"web\"\nalgorithm = \"round-robin\"\n{keys}\n");
    for (number, address) in servers.iter().enumerate() {
        text.push_str(&format!("[[service.server]]\nname = \"s{number}\"\naddress = {address:?}\n"));
    }
    text
}
