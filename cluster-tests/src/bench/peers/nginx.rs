//! nginx's stream module, two worker processes.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{STREAM_MODULE, Site, numbered, write};
use crate::bench::process::{Running, find};
use crate::bench::sandbox::{BACKLOG, FRONT};
use crate::bench::workload::{Front, Workload};

/// A listening socket for each worker; large buffers for bulk, small ones where memory counts; one answer ends a flow
/// where each datagram is one.
pub(super) fn start(site: &Site, log: &Path) -> Result<Running> {
    let config = site.folder.join("nginx.conf");
    write(&config, &configuration(site))?;
    Running::start(Command::new(find("nginx")?).arg("-c").arg(config).arg("-e").arg("stderr"), log)
}

fn configuration(site: &Site) -> String {
    let servers = numbered(|_, address| format!("        server {address};\n"));
    let buffer = match site.workload {
        workload if workload.is_bulk() => "64k",
        workload if workload.is_memory() => "4k",
        _ => "16k",
    };
    let front = match (site.workload.front(), &site.identity) {
        (Front::Tls(_), Some(identity)) => format!(
            "        listen {FRONT} ssl reuseport backlog={BACKLOG};
        ssl_certificate {};
        ssl_certificate_key {};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets on;
",
            identity.certificate_file.display(),
            identity.key_file.display()
        ),
        (Front::Udp, _) if site.workload == Workload::UdpFlow => {
            format!(
                "        listen {FRONT} udp reuseport;\n        proxy_requests 1;\n        proxy_responses 1;\n"
            )
        }
        (Front::Udp, _) => format!("        listen {FRONT} udp reuseport;\n"),
        _ => format!("        listen {FRONT} reuseport backlog={BACKLOG};\n"),
    };
    format!(
        "load_module {STREAM_MODULE};
daemon off;
pid {}/nginx.pid;
user root;
worker_processes 2;
error_log stderr crit;
events {{
    worker_connections 19900;
}}
stream {{
    upstream servers {{
{servers}    }}
    server {{
{front}        proxy_pass servers;
        proxy_connect_timeout 3s;
        proxy_buffer_size {buffer};
        proxy_timeout 1h;
    }}
}}
",
        site.folder.display()
    )
}
