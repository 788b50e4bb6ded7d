//! A pair that lasts: `up` builds it, `shell` enters a node, `down` ends it. By pid, and nothing else.
//!
//! The pair lives in namespaces like those of a test. Outside there is one folder with the pid of the process that
//! keeps them, its start time (a pid may be given to somebody else), and its log.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{self, Signal};
use crate::enter::{self, Rights};
use crate::pair::{BALANCERS, CLIENT, SERVERS, SERVICE, VIP, front_address};
use crate::peers::cygnet::{self, ClusterSettings};
use crate::scenario::CygnetPair;
use crate::wait;

/// How long the pair may take to come up, on a busy machine.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// How long the kernel may take to end it.
const DOWN_LIMIT: Duration = Duration::from_secs(10);
/// The last line of the log when all is well.
const READY: &str = "ready";

/// The folder: readable and writable by its user only.
fn folder() -> Result<PathBuf> {
    let uid = fs::metadata("/proc/self")?.uid();
    let path = std::env::temp_dir().join(format!("cygnet-lab-{uid}"));
    if !path.exists() {
        DirBuilder::new().mode(0o700).create(&path)?;
    }
    let found = fs::symlink_metadata(&path)?;
    ensure!(found.is_dir() && found.uid() == uid, "{} belongs to somebody else", path.display());
    Ok(path)
}

/// The keeper's pid, if it still is the one that we started.
fn keeper() -> Result<Option<u32>> {
    let Ok(text) = fs::read_to_string(folder()?.join("pid")) else { return Ok(None) };
    let (pid, started) = text.trim().split_once(' ').context("the pid file is damaged")?;
    let pid: u32 = pid.parse()?;
    Ok((command::stat_field(pid, 19).as_deref() == Some(started)).then_some(pid))
}

/// Builds the pair and returns when lb1 serves.
///
/// # Errors
/// If there is one already, or it does not come up; then nothing is left of it.
pub fn up() -> Result<()> {
    if keeper()?.is_some() {
        bail!("the pair is up already; `cygnet-lab down` ends it");
    }
    cygnet::program()?;
    let folder = folder()?;
    let log = folder.join("log");
    let file = File::create(&log)?;
    let inner = enter::isolated(Rights::AsWeAre, &["keep"])?;
    // A session of its own: the terminal's signals are not for it.
    let mut command = Command::new("setsid");
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
    let started = command::stat_field(child.id(), 19).context("the keeper is gone")?;
    fs::write(folder.join("pid"), format!("{} {started}\n", child.id()))?;
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let outcome = wait::until(UP_LIMIT, "the pair to come up", || {
        if let Some(status) = child.try_wait()? {
            bail!("the pair ended with {status}");
        }
        Ok(said().lines().any(|line| line == READY).then_some(()))
    });
    if let Err(error) = outcome {
        down()?;
        return Err(error.context(said()));
    }
    print_help();
    Ok(())
}

fn print_help() {
    println!(
        "The pair is up: {} share {VIP}; {CLIENT} reaches the service at {SERVICE}.",
        BALANCERS.join(" and ")
    );
    for node in BALANCERS {
        println!("  {node}: {}, api {}/{node}.sock", front_address(node), enter::FILES);
    }
    let servers: Vec<String> = SERVERS.iter().map(|(name, address)| format!("{name} {address}")).collect();
    println!("  servers: {}", servers.join(", "));
    println!("Try:\n  cygnet-lab shell lb1 cygnet status");
    println!("  cygnet-lab shell {CLIENT}\n  cygnet-lab down");
}

/// The keeper's life inside the namespaces.
///
/// # Errors
/// If the pair does not come up. Else it does not return.
pub fn keep() -> Result<()> {
    ensure!(enter::is_inside(), "this command is for `cygnet-lab up`");
    enter::prepare()?;
    let own = BALANCERS.map(|node| format!("{}:{}", front_address(node), SERVICE.port()));
    let cluster =
        ClusterSettings { sticky: Some("30m"), also_listen: own.to_vec(), ..ClusterSettings::default() };
    let _all = CygnetPair::start(&cluster)?;
    println!("{READY}");
    loop {
        std::thread::park();
    }
}

/// Runs a command (a shell, if it is empty) in a node of the pair.
///
/// # Errors
/// If there is no pair or no such node.
pub fn shell(node: &str, words: &[String]) -> Result<ExitStatus> {
    let keeper = keeper()?.context("there is no pair; `cygnet-lab up` builds it")?;
    let first = *command::descendants(keeper).first().context("the pair is going down")?;
    let mut enter_all = Command::new("nsenter");
    enter_all.args(["--target", &first.to_string(), "--mount", "--pid", "--net"]);
    if fs::read_link(format!("/proc/{first}/ns/user"))? != fs::read_link("/proc/self/ns/user")? {
        enter_all.args(["--user", "--preserve-credentials"]);
    }
    enter_all.args(["--", "nsenter"]).arg(format!("--net=/run/netns/{node}")).arg("--");
    if words.is_empty() {
        enter_all.arg(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    } else {
        enter_all.args(words);
    }
    enter_all.env("PATH", path_with_cygnet()?).env("PS1", format!("{node}# "));
    enter_all.env("CYGNET_API", cygnet::api(node));
    enter_all.status().context("cannot run nsenter (package util-linux)")
}

/// So that `cygnet` is found in the node.
fn path_with_cygnet() -> Result<String> {
    let program = cygnet::program()?;
    let folder = program.parent().map(|folder| format!("{}:", folder.display())).unwrap_or_default();
    Ok(format!("{folder}{}", std::env::var("PATH").unwrap_or_default()))
}

/// Ends the pair: its first process, and with it all that runs in its namespaces.
///
/// # Errors
/// If it does not end.
pub fn down() -> Result<()> {
    let Some(keeper) = keeper()? else {
        println!("There is no pair.");
        return Ok(());
    };
    let mut pids = command::descendants(keeper);
    pids.truncate(1);
    pids.push(keeper);
    // It may be ending by itself.
    let _ = command::signal(Signal::Kill, &pids);
    wait::until(DOWN_LIMIT, "the pair to end", || {
        // A child of ours that nobody has waited for yet is dead, too.
        Ok(pids
            .iter()
            .all(|pid| matches!(command::stat_field(*pid, 0).as_deref(), None | Some("Z")))
            .then_some(()))
    })?;
    fs::remove_file(folder()?.join("pid"))?;
    println!("The pair is down.");
    Ok(())
}
