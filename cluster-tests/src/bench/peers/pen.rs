//! Pen: two processes on one address, which is how it uses two cores.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Site;
use crate::bench::process::{Running, find};
use crate::bench::sandbox::{BACKLOG, FRONT, SERVERS};
use crate::bench::workload::{Front, Handshake, Workload};

/// Places for connections in each process: two descriptors each, and some to spare. UDP: flows at a time, through which it looks
/// for each new one.
const fn places(workload: Workload) -> usize {
    match workload {
        Workload::UdpEcho => 2_000,
        Workload::UdpFlow => 500,
        _ => 9_900,
    }
}

/// Without client tracking (`-r`), which it would pay for at each connection, and as many accepted at once as come.
pub(super) fn start(site: &Site, log: &Path) -> Result<Running> {
    let pen = find("pen")?.display().to_string();
    let mut options: Vec<String> =
        ["-f", "-r", "-b", "1", "-t", "3", "-m", "64", "-u", "root"].map(str::to_owned).into();
    options.extend([
        "-x".to_owned(),
        places(site.workload).to_string(),
        "-q".to_owned(),
        BACKLOG.to_string(),
    ]);
    match (site.workload.front(), &site.identity) {
        (Front::Tls(_), Some(identity)) => options.extend([
            "-E".to_owned(),
            identity.certificate_file.display().to_string(),
            "-K".to_owned(),
            identity.key_file.display().to_string(),
        ]),
        (Front::Udp, _) => options.push("-U".to_owned()),
        _ => {}
    }
    options.push(FRONT.to_owned());
    options.extend(SERVERS.map(str::to_owned));
    if processes(site) == 1 {
        return Running::start(Command::new(pen).args(options), log);
    }
    // The shell waits; what it has started are its children, and counted with it.
    let script = r#""$@" & "$@" & wait"#;
    Running::start(Command::new("sh").args(["-c", script, "sh", &pen]).args(options), log)
}

/// Two processes have two keys for their tickets: a session of one is none for the other. And where memory counts, one is
/// cheaper than two.
fn processes(site: &Site) -> usize {
    match site.workload.handshake() {
        Some(Handshake::Resumed12 | Handshake::Resumed13) => 1,
        _ if site.workload.is_memory() => 1,
        _ => 2,
    }
}
