//! The contenders, each configured as somebody who knows it well would for this load on two cores, without logs.

mod cygnet;
mod haproxy;
mod nginx;
mod pen;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::process::{Running, find};
use super::sandbox::{FRONT, SERVERS};
use super::workload::{Front, Workload};
use super::{echo, origin};

/// Debian's place of nginx's stream module.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Who is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// HAProxy, `mode tcp`, two threads.
    Haproxy,
    /// nginx's stream module, two worker processes.
    Nginx,
    /// Pen, two processes.
    Pen,
    /// Cygnet, two workers, the system's OpenSSL.
    Cygnet,
    /// The same over AWS-LC (`CYGNET_FAST_BIN`).
    CygnetFast,
}

/// What is measured, and where its files lie.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) workload: Workload,
    pub(super) folder: PathBuf,
    /// With TLS: what clients must be shown.
    pub(super) identity: Option<Identity>,
}

impl Site {
    /// Makes the certificate, where one is needed.
    pub(super) fn prepare(workload: Workload, folder: &Path) -> Result<Self> {
        let identity = match workload.front() {
            Front::Tls(key) => Some(Identity::make(key, folder)?),
            Front::Tcp | Front::Udp => None,
        };
        Ok(Self { workload, folder: folder.to_path_buf(), identity })
    }
}

impl Contender {
    /// All that there are, in the order in which they take turns.
    pub(super) fn all() -> Vec<Self> {
        let is_there =
            |one: &Self| *one != Self::CygnetFast || std::env::var_os(cygnet::FAST_VARIABLE).is_some();
        Self::value_variants().iter().copied().filter(is_there).collect()
    }

    /// Whether it takes part in a load: HAProxy balances no UDP, and the TLS library is of no matter without TLS.
    pub(super) fn serves(self, workload: Workload) -> bool {
        match (self, workload.front()) {
            (Self::Haproxy, front) => front != Front::Udp,
            (Self::CygnetFast, front) => matches!(front, Front::Tls(_)),
            _ => true,
        }
    }

    pub(super) const fn is_peer(self) -> bool {
        !matches!(self, Self::Cygnet | Self::CygnetFast)
    }

    /// The name that people know.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Pen => "Pen",
            Self::Cygnet => "Cygnet",
            Self::CygnetFast => "Cygnet/AWS-LC",
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
            Self::Cygnet | Self::CygnetFast => cygnet::program(self).map(drop),
        }
    }

    /// The first line of what the program says of its version.
    pub(super) fn version(self) -> String {
        let command = match self {
            Self::Haproxy => find("haproxy").map(|program| (program, "-v")),
            Self::Nginx => find("nginx").map(|program| (program, "-v")),
            Self::Pen => return debian_version("pen"), // it has no option for that
            Self::Cygnet | Self::CygnetFast => cygnet::program(self).map(|program| (program, "--version")),
        };
        let Ok((program, option)) = command else { return "not found".to_owned() };
        let Ok(output) = Command::new(program).arg(option).output() else { return "unknown".to_owned() };
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
    }

    /// Starts it between `FRONT` and `SERVERS`, and waits until right data comes through.
    pub(super) fn start(self, site: &Site) -> Result<Running> {
        let log = site.folder.join("proxy.log");
        let started = match self {
            Self::Haproxy => haproxy::start(site, &log),
            Self::Nginx => nginx::start(site, &log),
            Self::Pen => pen::start(site, &log),
            Self::Cygnet | Self::CygnetFast => cygnet::start(self, site, &log),
        };
        let ready = started.and_then(|mut proxy| {
            match site.workload.front() {
                Front::Udp => echo::answers(&mut proxy)?,
                Front::Tcp | Front::Tls(_) => origin::answers(&mut proxy, FRONT, site.identity.as_ref())?,
            }
            Ok(proxy)
        });
        ready
            .with_context(|| format!("{} does not serve; its last words: {}", self.title(), last_lines(&log)))
    }
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
