//! Cygnet itself, seen from outside: its program, its two files, its commands.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::write_config;
use crate::command::{self, Signal};
use crate::pair::{BACK, BALANCERS, FRONT, SERVERS, SERVICE, VIP, VRID, WITNESS, back_address};
use crate::process::{self, Process, in_node};
use crate::{enter, wait};

/// How long a node may take to start, to end, or to agree with the others on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);
/// The port between the nodes.
const PEER_PORT: u16 = 7300;

/// The program: `CYGNET_BIN`, else next to this program, else in the other profile's folder.
///
/// # Errors
/// If it has not been built.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CYGNET_BIN") {
        return Ok(path.into());
    }
    let target =
        std::env::current_exe()?.ancestors().find(|path| path.ends_with("target")).map(Path::to_owned);
    let built = |profile: &str| {
        target.as_ref().map(|target| target.join(profile).join("cygnet")).filter(|path| path.is_file())
    };
    let found = process::sibling("cygnet").or_else(|| built("release")).or_else(|| built("debug"));
    found.context("the program cygnet is not built: cargo build -p cygnet, or set CYGNET_BIN")
}

/// A node's own file.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The node.
    pub name: String,
    /// Its priority.
    pub priority: u8,
    /// `"auto"` or an address, as it stands in the file.
    pub source: String,
    /// The members of the cluster; `w1` is a witness.
    pub members: Vec<String>,
    /// Whether the links between the nodes are encrypted: the first node begins the cluster, the others join by tokens.
    /// Otherwise the list of members is in the files.
    pub encrypted: bool,
    /// What else stands at the end of the file.
    pub more: String,
}

impl NodeSettings {
    /// lb1 with priority 150 and lb2 with 100, two voters, source `auto`.
    #[must_use]
    pub fn pair() -> [Self; 2] {
        BALANCERS.map(|name| Self::new(name, &BALANCERS))
    }

    /// A node among `members`.
    #[must_use]
    pub fn new(name: &str, members: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            priority: if name == BALANCERS[0] { 150 } else { 100 },
            source: "auto".to_owned(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            encrypted: false,
            more: String::new(),
        }
    }

    /// The pair with encrypted links.
    #[must_use]
    pub fn encrypted_pair() -> [Self; 2] {
        Self::pair().map(|node| Self { encrypted: true, ..node })
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { name, priority, source, .. } = self;
        let interface = if name == WITNESS { BACK } else { FRONT };
        let mut text = format!(
            "name = \"{name}\"\nstate_dir = \"{}\"\napi = \"{}\"\nworkers = 2\nsource = \"{source}\"\n\
             interface = \"{interface}\"\npriority = {priority}\n\n[cluster]\nname = \"lab\"\n",
            state_dir(name).display(),
            api(name).display(),
        );
        if self.encrypted {
            text.push_str(&format!("address = \"{}:{PEER_PORT}\"\n", back_address(name)));
            text.push_str(if name == WITNESS { "witness = true\n" } else { "" });
            text.push_str(&self.more);
            return text;
        }
        text.push_str("insecure = true\n");
        for member in &self.members {
            let id = if member == WITNESS { 3 } else { 1 + usize::from(member != BALANCERS[0]) };
            let address = back_address(member);
            text.push_str(&format!(
                "[[cluster.member]]\nid = {id}\nname = \"{member}\"\naddress = \"{address}:{PEER_PORT}\"\n"
            ));
            if member == WITNESS {
                text.push_str("witness = true\n");
            }
        }
        text.push_str(&self.more);
        text
    }
}

fn state_dir(node: &str) -> PathBuf {
    Path::new(enter::FILES).join(format!("state-{node}"))
}

/// The socket of a node's API.
#[must_use]
pub fn api(node: &str) -> PathBuf {
    Path::new(enter::FILES).join(format!("{node}.sock"))
}

/// Where a node's file is, or with `cluster` the one that was applied last.
#[must_use]
pub fn config_file(name: &str) -> String {
    Path::new(enter::FILES).join(format!("{name}.toml")).display().to_string()
}

/// The cluster's file.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// `hold` or `watch`.
    pub mode: &'static str,
    /// Between advertisements, ms.
    pub interval_ms: u64,
    /// Whether the preferred node takes the address back.
    pub preempt: bool,
    /// How long clients are remembered, for example `30m`.
    pub sticky: Option<&'static str>,
    /// Listening addresses beside the virtual one.
    pub also_listen: Vec<String>,
    /// More lines of the virtual address, each with its end.
    pub vip_lines: &'static str,
    /// What else stands at the end of the file.
    pub more: String,
}

impl Default for ClusterSettings {
    /// 50 ms, preemption, no memory of clients.
    fn default() -> Self {
        Self {
            mode: "hold",
            interval_ms: 50,
            preempt: true,
            sticky: None,
            also_listen: Vec::new(),
            vip_lines: "",
            more: String::new(),
        }
    }
}

impl ClusterSettings {
    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { mode, interval_ms, preempt, vip_lines, .. } = self;
        let mut listen = vec![SERVICE.to_string()];
        listen.extend(self.also_listen.clone());
        let mut text = format!(
            "[[vip]]\nname = \"www\"\naddress = \"{VIP}\"\nprotocol = \"vrrp3\"\nid = {VRID}\nmode = \"{mode}\"\n\
             interval = \"{interval_ms}ms\"\npreempt = {preempt}\n{vip_lines}\n\
             [[service]]\nname = \"web\"\nlisten = {listen:?}\nalgorithm = \"round-robin\"\nblacklist = \"2s\"\n"
        );
        if let Some(sticky) = self.sticky {
            text.push_str(&format!("sticky = \"{sticky}\"\n"));
        }
        for (name, address) in SERVERS {
            text.push_str(&format!("[[service.server]]\nname = \"{name}\"\naddress = \"{address}\"\n"));
        }
        text.push_str(&self.more);
        text
    }
}

/// A virtual address as a node shows it (the fields that scenarios look at).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VipFacts {
    /// The name in the configuration.
    pub name: String,
    /// `down`, `standby` or `active`.
    pub role: String,
    /// Why.
    pub reason: String,
    /// Who advertises as active.
    pub holder: Option<IpAddr>,
    /// Who else claims it.
    pub rivals: Vec<IpAddr>,
    /// Whether the address is on the node.
    pub address_present: bool,
}

impl VipFacts {
    /// The first virtual address in the answer to `vip`.
    ///
    /// # Errors
    /// If there is none.
    pub fn first_of(shown: &Value) -> Result<Self> {
        let first = shown.get("vips").and_then(|vips| vips.get(0)).with_context(|| shown.to_string())?;
        serde_json::from_value(first.clone()).with_context(|| shown.to_string())
    }
}

/// A node's status (the fields that scenarios look at).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StatusFacts {
    /// `OK`, `DEGRADED` or `DOWN`.
    pub verdict: String,
    /// The first line.
    pub summary: String,
    /// The configuration.
    pub config: ConfigFacts,
    /// The voters.
    pub quorum: QuorumFacts,
    /// The soft state.
    pub soft: SoftFacts,
}

/// The configuration of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConfigFacts {
    /// The version that traffic runs with.
    pub running: u64,
}

/// The voters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QuorumFacts {
    /// Whether enough of them can be reached.
    pub reached: bool,
}

/// The soft state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SoftFacts {
    /// Clients remembered.
    pub clients: u64,
    /// Forgotten before their time.
    pub evicted: u64,
    /// Look-ups and changes given up.
    pub busy: u64,
    /// Not shared for want of room.
    pub dropped: u64,
}

/// A running Cygnet node. Dropping it kills it.
#[derive(Debug)]
pub struct Cygnet {
    /// Its name and node.
    pub name: String,
    /// The process.
    pub process: Process,
}

impl Cygnet {
    /// Writes a node's file; returns its path.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_files(settings: &NodeSettings) -> Result<String> {
        std::fs::create_dir_all(state_dir(&settings.name))?;
        Ok(write_config(&format!("{}.toml", settings.name), &settings.text())?.display().to_string())
    }

    /// Begins the cluster with a node that does not run yet; returns the token for the next one.
    ///
    /// # Errors
    /// If the command fails.
    pub fn init(settings: &NodeSettings) -> Result<String> {
        let file = Self::write_files(settings)?;
        let output = command_against(&settings.name, &["cluster", "init", "--config", &file, "-o", "json"])?;
        ensure!(output.status.success(), "init: {}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout)?;
        Ok(said["token"].as_str().context("no token")?.to_owned())
    }

    /// Lets a node that does not run yet join the one at `to`.
    ///
    /// # Errors
    /// If the program is missing.
    pub fn join(settings: &NodeSettings, to: &str, token: &str) -> Result<Output> {
        let (file, address) = (Self::write_files(settings)?, format!("{}:{PEER_PORT}", back_address(to)));
        command_against(&settings.name, &["cluster", "join", &address, "--token", token, "--config", &file])
    }

    /// A token from this node.
    ///
    /// # Errors
    /// If the node refuses.
    pub fn token(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["token", "create"];
        all.extend(args);
        Ok(self.json(&all)?["token"].as_str().context("no token")?.to_owned())
    }

    /// Starts a node; does not wait for it.
    ///
    /// # Errors
    /// If the program is missing.
    pub fn start(settings: &NodeSettings) -> Result<Self> {
        let name = settings.name.clone();
        let config = Self::write_files(settings)?;
        let mut command = in_node(&name, program()?);
        command.args(["run", "--config"]).arg(config);
        let process = Process::start(&format!("cygnet-{name}"), command)?;
        Ok(Self { name, process })
    }

    /// Starts the nodes, waits until they agree on a leader, and applies `cluster`.
    ///
    /// # Errors
    /// If that does not come about within [`LIMIT`].
    pub fn start_all(nodes: &[NodeSettings], cluster: &ClusterSettings) -> Result<Vec<Self>> {
        let encrypted = nodes.first().is_some_and(|node| node.encrypted);
        let started = if encrypted {
            Self::start_encrypted(nodes)?
        } else {
            nodes.iter().map(Self::start).collect::<Result<Vec<Self>>>()?
        };
        let first = started.first().context("no nodes")?;
        first.apply(&cluster.text())?;
        Ok(started)
    }

    /// Begins a cluster with the first node and lets the others join it, one after the other.
    fn start_encrypted(nodes: &[NodeSettings]) -> Result<Vec<Self>> {
        let (first, others) = nodes.split_first().context("no nodes")?;
        let mut token = Self::init(first)?;
        let mut started = vec![Self::start(first)?];
        started[0].wait_status(LIMIT, "a quorum of one", |status| status.quorum.reached)?;
        for node in others {
            let output = Self::join(node, &first.name, &token)?;
            ensure!(output.status.success(), "join: {}", String::from_utf8_lossy(&output.stderr));
            started.push(Self::start(node)?);
            started[0].wait_voters(started.len())?;
            token = started[0].token(&[])?;
        }
        Ok(started)
    }

    /// Waits until so many members vote.
    ///
    /// # Errors
    /// If that has not come within [`LIMIT`].
    pub fn wait_voters(&self, count: usize) -> Result<()> {
        wait::until(LIMIT, &format!("{count} voters"), || {
            let Ok(shown) = self.json(&["cluster", "members"]) else { return Ok(None) };
            let all = shown["members"].as_array().cloned().unwrap_or_default();
            let voters = all.iter().filter(|member| member["voter"] == true).count();
            Ok((voters == count).then_some(()))
        })
    }

    /// Runs a command of `cygnet` against this node, whatever its exit code.
    ///
    /// # Errors
    /// If the program is missing.
    pub fn command(&self, args: &[&str]) -> Result<Output> {
        command_against(&self.name, args)
    }

    /// Runs a command with `-o json` and gives what it printed.
    ///
    /// # Errors
    /// If it does not end with 0 or does not print JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let output = self.command(&all)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cygnet {}: {}: {said}{error}", all.join(" "), output.status);
        serde_json::from_str(&said).with_context(|| format!("cygnet {}: {said}", all.join(" ")))
    }

    /// Applies a cluster configuration, again and again until the cluster takes it.
    ///
    /// # Errors
    /// If it has not within [`LIMIT`]; the last refusal is in the error.
    pub fn apply(&self, text: &str) -> Result<()> {
        let mut last = String::new();
        let outcome = wait::until(LIMIT, "the configuration to be committed", || {
            let output = self.try_apply(text)?;
            last = format!("{}{}", output.status, String::from_utf8_lossy(&output.stderr));
            Ok(output.status.success().then_some(()))
        });
        outcome.context(last)
    }

    /// Applies a cluster configuration once.
    ///
    /// # Errors
    /// If the program is missing.
    pub fn try_apply(&self, text: &str) -> Result<Output> {
        let file = write_config("cluster.toml", text)?;
        self.command(&["config", "apply", &file.display().to_string(), "--yes"])
    }

    /// The virtual address of the pair as this node sees it.
    ///
    /// # Errors
    /// If the node does not answer or does not know it.
    pub fn vip(&self) -> Result<VipFacts> {
        VipFacts::first_of(&self.json(&["vip"])?)
    }

    /// The state of the node and of the others as it knows them.
    ///
    /// # Errors
    /// If the node does not answer.
    pub fn status(&self) -> Result<StatusFacts> {
        let shown = self.json(&["status"])?;
        serde_json::from_value(shown.clone()).with_context(|| shown.to_string())
    }

    /// Waits until the node's status is as `condition` wants it.
    ///
    /// # Errors
    /// If that has not come within `limit`.
    pub fn wait_status(
        &self,
        limit: Duration,
        what: &str,
        condition: impl Fn(&StatusFacts) -> bool,
    ) -> Result<StatusFacts> {
        let mut last = None;
        let outcome = wait::until(limit, what, || {
            // A node that starts does not answer yet.
            let Ok(facts) = self.status() else { return Ok(None) };
            last = Some(facts.clone());
            Ok(condition(&facts).then_some(facts))
        });
        outcome.with_context(|| format!("{} says {last:?}", self.name))
    }

    /// Asks the API without the program in between: for what is looked at many times a second.
    ///
    /// # Errors
    /// If the node does not answer with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        get(&self.name, path)
    }

    /// Waits until the node sees the virtual address as `condition` wants it.
    ///
    /// # Errors
    /// If that has not come within `limit`.
    pub fn wait_vip(
        &self,
        limit: Duration,
        what: &str,
        condition: impl Fn(&VipFacts) -> bool,
    ) -> Result<VipFacts> {
        let mut last = None;
        let outcome = wait::until(limit, what, || {
            // A node that starts does not answer yet.
            let Ok(facts) = self.vip() else { return Ok(None) };
            last = Some(facts.clone());
            Ok(condition(&facts).then_some(facts))
        });
        outcome.with_context(|| format!("{} says {last:?}", self.name))
    }

    /// Kills it with -9.
    ///
    /// # Errors
    /// If it has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Freezes or continues it.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Stops it in an orderly way: it resigns.
    ///
    /// # Errors
    /// If it does not end, or not with 0.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::Term)?;
        self.ended()
    }

    /// Waits for its end after it was told to stop: it lets connections end for a while.
    ///
    /// # Errors
    /// If it does not end, or not with 0.
    pub fn ended(&mut self) -> Result<()> {
        let status = self.process.wait_end(LIMIT)?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }
}

/// Asks the API of `node` for `path` over its socket.
///
/// # Errors
/// If the node does not answer with JSON.
pub fn get(node: &str, path: &str) -> Result<Value> {
    let mut socket = UnixStream::connect(api(node))?;
    socket.set_read_timeout(Some(LIMIT))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| answer.clone())?;
    ensure!(head.contains(" 200 "), "{answer}");
    Ok(serde_json::from_str(body)?)
}

/// Runs a command of `cygnet` in `node` against the daemon there.
///
/// # Errors
/// If the program is missing.
pub fn command_against(node: &str, args: &[&str]) -> Result<Output> {
    let mut all = vec![format!("--net=/run/netns/{node}"), "--".into(), program()?.display().to_string()];
    all.extend(["--api".into(), api(node).display().to_string()]);
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    command::output("nsenter", &all)
}
