//! HAProxy, `mode tcp`, two threads.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Site, numbered, write};
use crate::bench::process::{Running, find};
use crate::bench::sandbox::{BACKLOG, FRONT};
use crate::bench::workload::{Front, Workload};

/// As many as 20,000 descriptors allow.
const CONNECTIONS_MAX: usize = 9_900;
/// As large as the kernel lets a pipe become.
const PIPE_BYTES: usize = 1 << 20;
/// Pipes for bulk: two a connection, and some to spare.
const PIPES_MAX: usize = 64;

/// A listening socket for each thread. For bulk: forced splice through pipes of 1 MiB (plain), buffers of 64 KiB (TLS);
/// both measured here to be the cheapest.
pub(super) fn start(site: &Site, log: &Path) -> Result<Running> {
    let config = site.folder.join("haproxy.cfg");
    write(&config, &configuration(site))?;
    Running::start(Command::new(find("haproxy")?).arg("-db").arg("-f").arg(config), log)
}

fn configuration(site: &Site) -> String {
    let servers = numbered(|number, address| format!("    server s{number} {address}\n"));
    let bulk = match site.workload {
        Workload::TlsBulk => "    tune.bufsize 65536\n".to_owned(),
        Workload::BulkOne | Workload::BulkEight => {
            format!("    tune.pipesize {PIPE_BYTES}\n    maxpipes {PIPES_MAX}\n")
        }
        _ => String::new(),
    };
    let splice = match site.workload {
        Workload::BulkOne | Workload::BulkEight => "    option splice-request\n    option splice-response\n",
        _ => "",
    };
    let tls = match (site.workload.front(), &site.identity) {
        (Front::Tls(_), Some(identity)) => {
            format!(" ssl crt {} ssl-min-ver TLSv1.2", identity.joint_file.display())
        }
        _ => String::new(),
    };
    format!(
        "global
    nbthread 2
    maxconn {CONNECTIONS_MAX}
{bulk}defaults
    mode tcp
    timeout connect 3s
    timeout client 1h
    timeout server 1h
{splice}listen bench
    bind {FRONT} backlog {BACKLOG} shards by-thread{tls}
    balance roundrobin
{servers}"
    )
}
