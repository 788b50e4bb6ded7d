//! The contenders, each configured as somebody who knows it well would for plain TCP on two cores, without logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::origin;
use super::process::{Running, find, wait_for};
use super::sandbox::{FRONT, PROXY, SERVERS};

/// How long a node of its own may take to elect itself and accept a configuration.
const APPLY_DEADLINE: Duration = Duration::from_secs(20);
/// Debian's place of nginx's stream module.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Who is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// HAProxy, `mode tcp`, two threads.
    Haproxy,
    /// nginx's stream module, two worker processes.
    Nginx,
    /// Pen: one process, it knows no other way.
    Pen,
    /// Cygnet, two workers.
    Cygnet,
}

impl Contender {
    /// All, in the order in which they take turns.
    pub(super) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// The name that people know.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx stream",
            Self::Pen => "Pen",
            Self::Cygnet => "Cygnet",
        }
    }

    /// The name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// An error that says what is missing, before anything is measured.
    pub(super) fn check_installed(self) -> Result<()> {
        match self {
            Self::Haproxy => find("haproxy").map(drop),
            Self::Pen => find("pen").map(drop),
            Self::Nginx if !Path::new(STREAM_MODULE).exists() => {
                bail!("{STREAM_MODULE} is not there: make bench-deps")
            }
            Self::Nginx => find("nginx").map(drop),
            Self::Cygnet => cygnet_program().map(drop),
        }
    }

    /// The first line of what the program says of its version.
    pub(super) fn version(self) -> String {
        let command = match self {
            Self::Haproxy => find("haproxy").map(|program| (program, "-v")),
            Self::Nginx => find("nginx").map(|program| (program, "-v")),
            Self::Pen => return debian_version("pen"), // it has no option for that
            Self::Cygnet => cygnet_program().map(|program| (program, "--version")),
        };
        let Ok((program, option)) = command else { return "not found".to_owned() };
        let Ok(output) = Command::new(program).arg(option).output() else { return "unknown".to_owned() };
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
    }

    /// Starts it between `FRONT` and `SERVERS`, and waits until right data comes through.
    pub(super) fn start(self, folder: &Path) -> Result<Running> {
        let log = folder.join("proxy.log");
        let started = match self {
            Self::Haproxy => start_haproxy(folder, &log),
            Self::Nginx => start_nginx(folder, &log),
            Self::Pen => start_pen(&log),
            Self::Cygnet => start_cygnet(folder, &log),
        };
        let ready = started.and_then(|mut proxy| {
            origin::answers(&mut proxy, FRONT)?;
            Ok(proxy)
        });
        ready
            .with_context(|| format!("{} does not serve; its last words: {}", self.title(), last_lines(&log)))
    }
}

/// A listening socket for each thread, and buffers of 64 KiB: half the CPU for bulk, no more for the rest. `splice-auto` adds nothing
/// to that. (Both measured here.)
fn start_haproxy(folder: &Path, log: &Path) -> Result<Running> {
    let config = folder.join("haproxy.cfg");
    let servers = numbered(|number, address| format!("    server s{number} {address}\n"));
    let text = format!(
        "global
    nbthread 2
    maxconn 4096
    tune.bufsize 65536
defaults
    mode tcp
    timeout connect 3s
    timeout client 1h
    timeout server 1h
listen bench
    bind {FRONT} backlog 8192 shards by-thread
    balance roundrobin
{servers}"
    );
    write(&config, &text)?;
    Running::start(Command::new(find("haproxy")?).arg("-db").arg("-f").arg(config), log)
}

/// A listening socket for each worker, and the same buffers, for the same reason.
fn start_nginx(folder: &Path, log: &Path) -> Result<Running> {
    let config = folder.join("nginx.conf");
    let servers = numbered(|_, address| format!("        server {address};\n"));
    let text = format!(
        "load_module {STREAM_MODULE};
daemon off;
pid {}/nginx.pid;
user root;
worker_processes 2;
error_log stderr error;
events {{
    worker_connections 8192;
}}
stream {{
    upstream servers {{
{servers}    }}
    server {{
        listen {FRONT} reuseport backlog=8192;
        proxy_pass servers;
        proxy_connect_timeout 3s;
        proxy_buffer_size 64k;
        proxy_timeout 1h;
    }}
}}
",
        folder.display()
    );
    write(&config, &text)?;
    Running::start(Command::new(find("nginx")?).arg("-c").arg(config).arg("-e").arg("stderr"), log)
}

/// Pen without client tracking (`-r`), which it would pay for at each connection, and as many accepted at once as come.
fn start_pen(log: &Path) -> Result<Running> {
    let options = ["-f", "-r", "-b", "1", "-t", "3", "-x", "4096", "-q", "8192", "-m", "64", "-u", "root"];
    Running::start(Command::new(find("pen")?).args(options).arg(FRONT).args(SERVERS), log)
}

fn start_cygnet(folder: &Path, log: &Path) -> Result<Running> {
    let program = cygnet_program()?;
    let api = folder.join("cygnet.sock");
    let node = format!(
        "name = \"bench\"
state_dir = \"{}\"
api = \"{}\"
workers = 2
source = \"{PROXY}\"

[cluster]
name = \"bench\"

[[cluster.member]]
id = 1
name = \"bench\"
address = \"{PROXY}:7300\"
",
        folder.join("state").display(),
        api.display()
    );
    let servers = numbered(|number, address| {
        format!("\n[[service.server]]\nname = \"s{number}\"\naddress = \"{address}\"\n")
    });
    let cluster = format!(
        "[[service]]
name = \"bench\"
listen = [\"{FRONT}\"]
algorithm = \"round-robin\"
connect_timeout = \"3s\"
idle_timeout = \"1h\"
{servers}"
    );
    let (node_file, cluster_file) = (folder.join("node.toml"), folder.join("cluster.toml"));
    write(&node_file, &node)?;
    write(&cluster_file, &cluster)?;
    let mut running = Running::start(Command::new(&program).arg("run").arg("--config").arg(node_file), log)?;
    let mut said = String::new();
    wait_for("the node to accept its configuration", APPLY_DEADLINE, || {
        running.check()?;
        let apply = Command::new(&program)
            .arg("--api")
            .arg(&api)
            .args(["config", "apply"])
            .arg(&cluster_file)
            .arg("--yes")
            .output()
            .context("cannot run cygnet config apply")?;
        said = String::from_utf8_lossy(&apply.stderr).trim().to_owned();
        Ok(apply.status.success().then_some(()))
    })
    .with_context(|| format!("config apply said: {said}"))?;
    Ok(running)
}

/// `CYGNET_BIN`, or the program built beside this one.
fn cygnet_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CYGNET_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("CYGNET_BIN is {}, which is not there: make release", path.display());
        }
        return Ok(path);
    }
    let here = std::env::current_exe().context("cannot find this program")?;
    let beside = here.with_file_name("cygnet");
    if !beside.is_file() {
        bail!("{} is not there: make release, or set CYGNET_BIN", beside.display());
    }
    Ok(beside)
}

fn numbered(line: impl Fn(usize, &str) -> String) -> String {
    SERVERS.iter().enumerate().map(|(index, address)| line(index + 1, address)).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The version of Debian's package, where dpkg knows one.
fn debian_version(package: &str) -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}", package]).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The end of a log, in one line.
fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    if lines.is_empty() { "none".to_owned() } else { lines.into_iter().rev().collect::<Vec<_>>().join(" | ") }
}
