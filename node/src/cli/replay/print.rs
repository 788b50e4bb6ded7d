//! Writes what a replay finds, for people or as one object of JSON a line.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_ha::vip::shown;
use cygnet_ha::vip::watch::{Counters, RouterView};
use serde::Serialize;

use super::NANOS_PER_MS;
use super::course::{Finding, Replay};
use crate::cli::output::{Cell, Colour, Screen, Table, moment, or_dash, printable};
use crate::config::model::Vip;
use crate::config::protocol_word;
use crate::control::types::Reply;

/// Width of the subject's column; a longer subject moves its own line only.
const SUBJECT_WIDTH: usize = 12;

/// One finding as JSON.
#[derive(Serialize)]
struct FindingLine<'l> {
    packet: Option<u64>,
    time_ms: u64,
    unix_ms: u64,
    severity: Severity,
    vip: Option<&'l str>,
    name: &'static str,
    what: String,
    /// Who holds the address from then on.
    holder: Option<IpAddr>,
    rivals: &'l [IpAddr],
}

/// How it ended for one virtual address, as JSON.
#[derive(Serialize)]
struct VipLine<'l> {
    vip: &'l str,
    /// Of several, the first.
    address: Option<IpAddr>,
    addresses: &'l [IpAddr],
    protocol: &'static str,
    id: u8,
    holder: Option<IpAddr>,
    holder_priority: Option<u8>,
    since_ms: Option<u64>,
    heard_ms: Option<u64>,
    rivals: &'l [IpAddr],
    valid: u64,
    discarded: &'l Counters,
}

/// The capture as a whole, as JSON.
#[derive(Serialize)]
struct CaptureLine<'l> {
    complete: bool,
    packets: u64,
    duration_ms: u64,
    advertisements: u64,
    valid: u64,
    cut: u64,
    discarded: &'l Counters,
    /// ARP and neighbour advertisements among them; the others are advertisements.
    neighbours_discarded: u64,
    reports_suppressed: u64,
}

/// Writes one line of JSON.
pub(super) fn line<T: Serialize>(screen: &mut Screen<'_>, kind: &'static str, body: &T) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'l, T> {
        kind: &'static str,
        #[serde(flatten)]
        body: &'l T,
    }
    serde_json::to_writer(&mut *screen.out, &Reply::new(Line { kind, body }))?;
    writeln!(screen.out)
}

pub(super) struct Printer<'p, 's> {
    pub(super) screen: &'p mut Screen<'s>,
    pub(super) vips: &'p [Vip],
}

impl Printer<'_, '_> {
    pub(super) fn head(&mut self, name: &str, replay: &Replay) -> io::Result<()> {
        if self.screen.is_json() {
            return Ok(());
        }
        let begin = moment(replay.unix_ms(Time::ZERO));
        self.screen.line(&format!("{name} begins at {begin}; times in seconds since then"))
    }

    pub(super) fn finding(&mut self, finding: &Finding, replay: &Replay) -> io::Result<()> {
        let Finding { packet, at, what, holder, rivals } = finding;
        let vip = what.router().and_then(|router| self.vips.get(router)).map(|vip| vip.name.as_str());
        let severity = what.severity();
        if self.screen.is_json() {
            let (kind, name) = what.name();
            let body = FindingLine {
                packet: *packet,
                time_ms: at.0 / NANOS_PER_MS,
                unix_ms: replay.unix_ms(*at),
                severity,
                vip,
                name,
                what: what.text(),
                holder: *holder,
                rivals,
            };
            return line(self.screen, kind, &body);
        }
        let (word, colour) = match severity {
            Severity::Info => ("info   ", None),
            Severity::Warning => ("warning", Some(Colour::Warning)),
            Severity::Alert => ("alert  ", Some(Colour::Bad)),
        };
        let word = self.screen.paint(word, colour);
        let packet = packet.map_or_else(|| "timer".to_owned(), |packet| packet.to_string());
        let subject = printable(&vip.map_or_else(|| "segment".to_owned(), |name| format!("vip {name}")));
        let (time, text) = (seconds(*at), printable(&what.text()));
        writeln!(self.screen.out, "{packet:>7}  {time:>10}  {word}  {subject:SUBJECT_WIDTH$}  {text}")
    }

    pub(super) fn summary(&mut self, replay: &Replay, complete: bool) -> io::Result<()> {
        let views: Vec<(&Vip, &RouterView)> = self
            .vips
            .iter()
            .enumerate()
            .filter_map(|(at, vip)| replay.watcher.get(at).map(|view| (vip, view)))
            .collect();
        if self.screen.is_json() {
            return self.summary_json(replay, complete, &views);
        }
        let mut table = Table::new(&[
            "VIP",
            "ADDRESS",
            "PROTOCOL",
            ">ID",
            "HOLDER",
            ">PRIORITY",
            ">SINCE",
            ">HEARD",
            "RIVALS",
            ">VALID",
            "DISCARDED",
        ]);
        for (vip, view) in &views {
            let rivals: Vec<String> = view.rivals.iter().map(ToString::to_string).collect();
            table.row(vec![
                Cell::from(&vip.name),
                Cell::from(shown(&vip.addresses)),
                Cell::from(protocol_word(vip.protocol)),
                Cell::from(vip.id),
                Cell::from(or_dash(view.holder.map(|holder| holder.source))),
                Cell::from(or_dash(view.holder.map(|holder| holder.priority))),
                Cell::from(or_dash(view.holder.map(|holder| seconds(holder.since)))),
                Cell::from(or_dash(view.holder.map(|holder| seconds(holder.heard)))),
                if rivals.is_empty() {
                    Cell::from("-")
                } else {
                    Cell::coloured(rivals.join(" "), Colour::Bad)
                },
                Cell::from(view.valid),
                Cell::from(counts(&view.discarded)),
            ]);
        }
        writeln!(self.screen.out)?;
        self.screen.table(&table)?;
        writeln!(self.screen.out)?;
        self.totals(replay)
    }

    fn totals(&mut self, replay: &Replay) -> io::Result<()> {
        let discarded = replay.watcher.discarded();
        self.screen.line(&format!(
            "packets {} in {} s, advertisements {}, valid {}, discarded {}",
            replay.packets,
            seconds(replay.now),
            replay.advertisements,
            replay.valid,
            discarded.values().sum::<u64>() - replay.neighbours_discarded,
        ))?;
        if !discarded.is_empty() {
            self.screen.line(&format!("discarded in all: {}", counts(discarded)))?;
        }
        if replay.cut > 0 {
            self.screen.line(&format!("left out because the recorder has cut them: {}", replay.cut))?;
        }
        match replay.suppressed() {
            0 => Ok(()),
            count => self.screen.line(&format!("repeated reports not shown: {count}")),
        }
    }

    fn summary_json(
        &mut self,
        replay: &Replay,
        complete: bool,
        views: &[(&Vip, &RouterView)],
    ) -> io::Result<()> {
        for (vip, view) in views {
            let body = VipLine {
                vip: &vip.name,
                address: vip.addresses.first().copied(),
                addresses: &vip.addresses,
                protocol: protocol_word(vip.protocol),
                id: vip.id,
                holder: view.holder.map(|holder| holder.source),
                holder_priority: view.holder.map(|holder| holder.priority),
                since_ms: view.holder.map(|holder| holder.since.0 / NANOS_PER_MS),
                heard_ms: view.holder.map(|holder| holder.heard.0 / NANOS_PER_MS),
                rivals: &view.rivals,
                valid: view.valid,
                discarded: &view.discarded,
            };
            line(self.screen, "vip", &body)?;
        }
        let body = CaptureLine {
            complete,
            packets: replay.packets,
            duration_ms: replay.now.0 / NANOS_PER_MS,
            advertisements: replay.advertisements,
            valid: replay.valid,
            cut: replay.cut,
            discarded: replay.watcher.discarded(),
            neighbours_discarded: replay.neighbours_discarded,
            reports_suppressed: replay.suppressed(),
        };
        line(self.screen, "capture", &body)
    }
}

/// Seconds since the first packet, to the millisecond.
fn seconds(at: Time) -> String {
    let ms = at.0 / NANOS_PER_MS;
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn counts(counters: &BTreeMap<&'static str, u64>) -> String {
    let counts: Vec<String> = counters.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
    if counts.is_empty() { "-".to_owned() } else { counts.join(" ") }
}
