//! `cygnet vip replay`: the watcher over a recorded capture, with the capture's own clock.
//!
//! [`capture`] cuts the file into records, so that a capture of any size takes the same memory; [`course`] is pure, records
//! in, findings out; [`print`] writes what is found.

mod capture;
mod course;
mod print;

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use cygnet_ha::vip::watch::WatchSettings;

use super::Session;
use super::config::read;
use super::exit::{Exit, Outcome, Stop};
use super::output::Screen;
use crate::config::model::Vip;
use crate::config::{FileKind, file_kind, parse_cluster};
use crate::control::types::{ApiError, ErrorCode};
use capture::{Broken, explain, records};
use course::Replay;
use print::{Printer, line};

const NANOS_PER_MS: u64 = 1_000_000;

/// `cygnet vip replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: tcpdump -i eth0 -w night.pcap 'ip proto 112 or ip6 proto 112 or arp or icmp6'\n         \
                        cygnet vip replay night.pcap --config cluster.toml\n\n\
                        With -o json, each finding is one line of JSON; lines of kind `vip` and one of kind \
                        `capture` at the end say how it ended.\n\n\
                        Advertisements of virtual routers that the file does not name are reported as rarely as \
                        a node reports them; every other discarded packet has its line."
)]
pub(super) struct ReplayArgs {
    /// The capture: classic pcap, Ethernet
    #[arg(value_name = "CAPTURE")]
    capture: PathBuf,
    /// The cluster's file; its virtual addresses are watched, whatever their mode
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// An address of the watching node: an advertisement from it is a forgery. May be repeated. Leave it out when the
    /// capture was recorded on that node and so has what the node itself sent
    #[arg(long, value_name = "ADDRESS")]
    own: Vec<IpAddr>,
}

pub(super) fn run(args: &ReplayArgs, session: &mut Session<'_>) -> Outcome {
    let screen = &mut session.screen;
    match replay(args, screen) {
        // One object per line, whatever happens.
        Err(Stop::Failed(error)) if screen.is_json() => {
            line(screen, "error", &error)?;
            Ok(error.code.into())
        }
        outcome => outcome,
    }
}

fn replay(args: &ReplayArgs, screen: &mut Screen<'_>) -> Outcome {
    let vips = vips(&args.config)?;
    let name = args.capture.display().to_string();
    let unreadable =
        |error| ApiError::new(ErrorCode::Error, format!("cannot read {name}: {error}"), String::new());
    let mut file = File::open(&args.capture).map_err(unreadable)?;
    let mut replay = Replay::new(args.own.clone(), vips.iter().map(settings).collect());
    let mut printer = Printer { screen, vips: &vips };
    let read = records(&mut file, |record| {
        let first = replay.packets == 0;
        let findings = replay.record(record);
        if first {
            printer.head(&name, &replay)?;
        }
        findings.iter().try_for_each(|finding| printer.finding(finding, &replay))
    });
    let broken = match read {
        Ok(()) => None,
        Err(Broken::Output(error)) => return Err(error.into()),
        Err(Broken::Input(error)) => Some(unreadable(error)),
        Err(Broken::Format(error)) => Some(explain(&name, error)),
    };
    // What was good before the damage is good: it is told to its end.
    if replay.packets > 0 || broken.is_none() {
        printer.summary(&replay, broken.is_none())?;
    }
    broken.map_or(Ok(Exit::Ok), |error| Err(error.into()))
}

/// The virtual addresses of a cluster's file.
fn vips(path: &Path) -> Result<Vec<Vip>, ApiError> {
    let read = read(path)?;
    if file_kind(&read.text) == FileKind::Node {
        let what = format!("{} is a node's file, and has no virtual addresses", read.file);
        return Err(ApiError::new(ErrorCode::Error, what, "name the cluster's file (`cygnet config show`)"));
    }
    parse_cluster(&read.text, &read.file).map(|cluster| cluster.vips).map_err(ApiError::invalid)
}

fn settings(vip: &Vip) -> WatchSettings {
    WatchSettings {
        protocol: vip.protocol,
        id: vip.id,
        addresses: vip.addresses.clone(),
        interval: vip.interval,
        password: vip.password.clone(),
        peers: vip.peers.clone(),
        min_ttl: vip.min_ttl,
    }
}
