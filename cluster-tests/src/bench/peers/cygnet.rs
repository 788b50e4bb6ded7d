//! Cygnet: a node of its own with two workers, with the system's OpenSSL or with AWS-LC.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Contender, Site, numbered, write};
use crate::bench::process::{Running, wait_for};
use crate::bench::sandbox::{FRONT, PROXY};
use crate::bench::workload::Front;

/// How long a node of its own may take to elect itself and accept a configuration.
const APPLY_DEADLINE: Duration = Duration::from_secs(20);
/// Where a binary built with the feature `fast-tls` is named.
pub(super) const FAST_VARIABLE: &str = "CYGNET_FAST_BIN";

pub(super) fn start(contender: Contender, site: &Site, log: &Path) -> Result<Running> {
    let program = program(contender)?;
    let folder = &site.folder;
    let api = folder.join("cygnet.sock");
    let (node_file, cluster_file) = (folder.join("node.toml"), folder.join("cluster.toml"));
    write(&node_file, &node(folder, &api))?;
    write(&cluster_file, &service(site))?;
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

fn node(folder: &Path, api: &Path) -> String {
    format!(
        "name = \"bench\"
state_dir = \"{}\"
api = \"{}\"
workers = 2
source = \"{PROXY}\"

[cluster]
name = \"bench\"
insecure = true

[[cluster.member]]
id = 1
name = \"bench\"
address = \"{PROXY}:7300\"
",
        folder.join("state").display(),
        api.display()
    )
}

fn service(site: &Site) -> String {
    let servers = numbered(|number, address| {
        format!("\n[[service.server]]\nname = \"s{number}\"\naddress = \"{address}\"\n")
    });
    let (transport, tls) = match (site.workload.front(), &site.identity) {
        (Front::Tls(_), Some(identity)) => (
            "",
            format!(
                "\n[service.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
                identity.certificate_file.display(),
                identity.key_file.display()
            ),
        ),
        (Front::Udp, _) => ("transport = \"udp\"\n", String::new()),
        _ => ("connect_timeout = \"3s\"\n", String::new()),
    };
    format!(
        "[[service]]
name = \"bench\"
{transport}listen = [\"{FRONT}\"]
algorithm = \"round-robin\"
idle_timeout = \"1h\"
{tls}{servers}"
    )
}

/// `CYGNET_BIN`, or the program built beside this one; for AWS-LC, only what is named.
pub(super) fn program(contender: Contender) -> Result<PathBuf> {
    let variable = if contender == Contender::CygnetFast { FAST_VARIABLE } else { "CYGNET_BIN" };
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("{variable} is {}, which is not there", path.display());
        }
        return Ok(path);
    }
    if contender == Contender::CygnetFast {
        bail!("{variable} names no program built with the feature fast-tls");
    }
    let here = std::env::current_exe().context("cannot find this program")?;
    let beside = here.with_file_name("cygnet");
    if !beside.is_file() {
        bail!("{} is not there: make release, or set {variable}", beside.display());
    }
    Ok(beside)
}
