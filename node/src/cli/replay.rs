//! `cygnet vip replay`: the watcher over a recorded capture, with the capture's own clock.
//!
//! [`Replay`] is pure: records in, findings out. [`records`] cuts the file into pieces, so that a capture of any size
//! takes the same memory; [`Printer`] writes what is found.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_ha::vip::shown;
use cygnet_ha::vip::watch::{Anomaly, Counters, Reason, RouterView, WatchEvent, WatchSettings, Watcher};
use cygnet_netlink::pcap;
use cygnet_netlink::wire::{Mac, PROTOCOL_VRRP};
use serde::Serialize;

use super::Session;
use super::config::read;
use super::exit::{Exit, Outcome, Stop};
use super::output::{Cell, Colour, Screen, Table, moment, or_dash, printable};
use crate::config::model::Vip;
use crate::config::{FileKind, file_kind, parse_cluster, protocol_word};
use crate::control::types::{ApiError, ErrorCode, Reply};

/// The file header of a capture, bytes.
const FILE_HEADER: usize = 24;
/// The header of each record, bytes.
const RECORD_HEADER: usize = 16;
/// How much of a capture is in memory at once, bytes: four times the longest record that its format allows.
const PIECE: usize = 1024 * 1024;
/// A clock that goes back by so much was set; by less, packets were written out of order.
const CLOCK_SET: Duration = Duration::from_secs(1);
const NANOS_PER_MS: u64 = 1_000_000;
/// Width of the subject's column; a longer subject moves its own line only.
const SUBJECT_WIDTH: usize = 12;

/// `cygnet vip replay`.
#[derive(Debug, Args)]
#[command(after_help = "Example: tcpdump -i eth0 -w night.pcap ip proto 112 or ip6 proto 112\n         \
                        cygnet vip replay night.pcap --config cluster.toml\n\n\
                        With -o json, each finding is one line of JSON; lines of kind `vip` and one of kind \
                        `capture` at the end say how it ended.\n\n\
                        Advertisements of virtual routers that the file does not name are reported as rarely as \
                        a node reports them; every other discarded packet has its line.")]
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
    }
}

/// What is wrong with a capture, and what helps.
fn explain(name: &str, error: pcap::Error) -> ApiError {
    /// The first four bytes of a pcapng file, the same in either byte order.
    const PCAPNG: u32 = 0x0a0d_0d0a;
    let (what, remedy) = match error {
        pcap::Error::Magic(PCAPNG) => (
            "is a pcapng file; only the classic pcap format is read".to_owned(),
            format!("convert it with `editcap -F pcap {name} OUT.pcap`, or record with `tcpdump -w`"),
        ),
        pcap::Error::LinkType(_) => (
            format!("cannot be read: {error}"),
            "record on one Ethernet interface (`tcpdump -i eth0 -w FILE`), not on `any`".to_owned(),
        ),
        pcap::Error::Truncated(at) if at < FILE_HEADER => {
            (format!("is not a pcap file: it has {at} bytes"), "record with `tcpdump -w`".to_owned())
        }
        pcap::Error::Truncated(_) => (
            format!("is not complete: {error}"),
            "what was recorded before is told above; the recorder was perhaps killed".to_owned(),
        ),
        pcap::Error::Magic(_) | pcap::Error::Version(_) => {
            (format!("cannot be read: {error}"), "record with `tcpdump -w`".to_owned())
        }
        pcap::Error::Record(_) => {
            (format!("is damaged: {error}"), "what was recorded before is told above".to_owned())
        }
    };
    ApiError::new(ErrorCode::Error, format!("{name} {what}"), remedy)
}

/// Why the records of a capture ended early.
enum Broken {
    Input(io::Error),
    Output(io::Error),
    Format(pcap::Error),
}

/// Gives the records of a capture to `take`, one after the other. The file's header stays in front of each piece, so
/// that a piece is a capture in itself.
fn records(
    input: &mut dyn Read,
    mut take: impl FnMut(&pcap::Record<'_>) -> io::Result<()>,
) -> Result<(), Broken> {
    let mut piece = vec![0; PIECE];
    let mut kept = 0;
    // Bytes of the file before what stands behind the header in the piece.
    let mut passed = 0;
    loop {
        let filled = kept + fill(input, &mut piece[kept..]).map_err(Broken::Input)?;
        let ended = filled < PIECE;
        let mut used = FILE_HEADER;
        for record in pcap::Reader::new(&piece[..filled]).map_err(Broken::Format)? {
            match record {
                Ok(record) => {
                    used += RECORD_HEADER + record.bytes.len();
                    take(&record).map_err(Broken::Output)?;
                }
                Err(pcap::Error::Truncated(_)) if !ended => break,
                Err(pcap::Error::Truncated(at)) => {
                    return Err(Broken::Format(pcap::Error::Truncated(passed + at)));
                }
                Err(pcap::Error::Record(at)) => {
                    return Err(Broken::Format(pcap::Error::Record(passed + at)));
                }
                Err(error) => return Err(Broken::Format(error)),
            }
        }
        if ended {
            return Ok(());
        }
        piece.copy_within(used..filled, FILE_HEADER);
        kept = FILE_HEADER + filled - used;
        passed += used - FILE_HEADER;
    }
}

/// Reads until the buffer is full or the input ends; returns how much.
fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The MAC and the IP packet of an Ethernet frame that carries protocol 112 (what a node's capture lets through).
fn advertisement(frame: &[u8]) -> Option<(Mac, &[u8])> {
    /// A frame may have two VLAN tags (IEEE 802.1ad).
    const TAGS_MAX: usize = 2;
    let mac = Mac(frame.get(6..12)?.try_into().ok()?);
    let mut rest = frame.get(12..)?;
    for _ in 0..TAGS_MAX {
        if matches!(rest.first_chunk(), Some([0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00])) {
            rest = rest.get(4..)?;
        }
    }
    let (kind, packet) = rest.split_first_chunk()?;
    let protocol = match kind {
        [0x08, 0x00] => packet.get(9)?,
        [0x86, 0xdd] => packet.get(6)?,
        _ => return None,
    };
    (*protocol == PROTOCOL_VRRP).then_some((mac, packet))
}

/// What there is to say at one moment of the capture.
struct Finding {
    /// The packet that told it, counted from 1; `None` if it was the mere passing of time.
    packet: Option<u64>,
    /// Since the first packet.
    at: Time,
    what: What,
    /// Who holds the address that it is about, and who claims it besides, from then on.
    holder: Option<IpAddr>,
    rivals: Vec<IpAddr>,
}

enum What {
    Event(WatchEvent),
    Discard {
        router: Option<usize>,
        source: Option<IpAddr>,
        reason: Reason,
    },
    /// The recorder kept only the beginning of an advertisement.
    Cut,
    /// The clock of the capture was set back.
    ClockSet(Duration),
}

/// The watcher on the clock of a capture.
struct Replay {
    watcher: Watcher,
    /// Time zero by the capture's clock, nanoseconds since 1970. Moves when the clock is set back.
    origin: i128,
    now: Time,
    packets: u64,
    advertisements: u64,
    cut: u64,
    valid: u64,
    /// Discarded packets that the watcher has tried to report, less those that it has reported.
    discards_unreported: u64,
}

impl Replay {
    fn new(own: Vec<IpAddr>, routers: Vec<WatchSettings>) -> Self {
        let watcher = Watcher::new(own, routers);
        Self {
            watcher,
            origin: 0,
            now: Time::ZERO,
            packets: 0,
            advertisements: 0,
            cut: 0,
            valid: 0,
            discards_unreported: 0,
        }
    }

    /// The next record: what it tells, after what has happened until then.
    fn record(&mut self, record: &pcap::Record<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.packets += 1;
        if let Some(back) = self.advance(record.time_ns) {
            self.find(None, self.now, What::ClockSet(back), &mut findings);
        }
        self.timers(&mut findings);
        let Some((mac, bytes)) = advertisement(record.bytes) else { return findings };
        self.advertisements += 1;
        let packet = Some(self.packets);
        if record.bytes.len() < record.original_length as usize {
            self.cut += 1;
            // One is enough: it is the recorder's setting, and so the same for all.
            if self.cut == 1 {
                self.find(packet, self.now, What::Cut, &mut findings);
            }
            return findings;
        }
        let heard = self.watcher.packet(self.now, mac, bytes);
        self.valid += u64::from(heard.valid.is_some());
        if let Some(reason) = heard.discarded.filter(|reason| *reason != Reason::UnknownId) {
            self.discards_unreported += 1;
            let what = What::Discard { router: heard.about, source: heard.source, reason };
            self.find(packet, self.now, what, &mut findings);
        }
        for event in heard.events {
            // Each discarded packet is told above; the watcher's report of it is rare.
            if matches!(&event, WatchEvent::Anomaly { anomaly: Anomaly::Discarded(_), .. }) {
                self.discards_unreported = self.discards_unreported.saturating_sub(1);
            } else {
                self.find(packet, self.now, What::Event(event), &mut findings);
            }
        }
        findings
    }

    /// Sets the time to that of a record; by how much the clock was set back, if it was.
    fn advance(&mut self, time_ns: u64) -> Option<Duration> {
        let time = i128::from(time_ns);
        if self.packets == 1 {
            self.origin = time;
        }
        let elapsed = time - self.origin;
        let back = i128::from(self.now.0) - elapsed;
        if back >= CLOCK_SET.as_nanos() as i128 {
            self.origin = time - i128::from(self.now.0);
            return Some(Duration::from_nanos(u64::try_from(back).unwrap_or(u64::MAX)));
        }
        self.now = self.now.max(Time(u64::try_from(elapsed.max(0)).unwrap_or(u64::MAX)));
        None
    }

    /// What happens by the mere passing of time until now, each at its own moment.
    fn timers(&mut self, findings: &mut Vec<Finding>) {
        while let Some(due) = self.watcher.poll_timeout().filter(|due| *due <= self.now) {
            for event in self.watcher.timeout(due) {
                self.find(None, due, What::Event(event), findings);
            }
            if self.watcher.poll_timeout() == Some(due) {
                break;
            }
        }
    }

    fn find(&self, packet: Option<u64>, at: Time, what: What, findings: &mut Vec<Finding>) {
        let view = what.router().and_then(|router| self.watcher.get(router));
        let holder = view.and_then(|view| view.holder).map(|holder| holder.source);
        let rivals = view.map_or_else(Vec::new, |view| view.rivals.clone());
        findings.push(Finding { packet, at, what, holder, rivals });
    }

    fn unix_ms(&self, at: Time) -> u64 {
        u64::try_from((self.origin + i128::from(at.0)) / i128::from(NANOS_PER_MS)).unwrap_or(0)
    }

    /// Reports that were not made because they repeat themselves, or came too fast.
    fn suppressed(&self) -> u64 {
        self.watcher.suppressed().saturating_sub(self.discards_unreported)
    }
}

impl What {
    fn router(&self) -> Option<usize> {
        match self {
            Self::Event(event) => event.router(),
            Self::Discard { router, .. } => *router,
            Self::Cut | Self::ClockSet(_) => None,
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Event(event) => event.severity(),
            Self::Discard { router, source, reason } => {
                let anomaly = Anomaly::Discarded(*reason);
                WatchEvent::Anomaly { router: *router, source: *source, anomaly, suppressed: 0 }.severity()
            }
            Self::Cut | Self::ClockSet(_) => Severity::Warning,
        }
    }

    /// What kind of line it is, and a short stable word for what it says.
    fn name(&self) -> (&'static str, &'static str) {
        match self {
            Self::Discard { reason, .. } => ("discard", reason.name()),
            Self::Cut => ("recording", "cut"),
            Self::ClockSet(_) => ("recording", "clock-set"),
            Self::Event(event) => {
                let word = match event {
                    WatchEvent::Appeared { .. } => "appeared",
                    WatchEvent::Changed { .. } => "changed",
                    WatchEvent::Resigned { .. } => "resigned",
                    WatchEvent::TimedOut { .. } => "timed-out",
                    WatchEvent::SecondHolder { .. } => "second-holder",
                    WatchEvent::SecondHolderGone { .. } => "second-holder-gone",
                    WatchEvent::PriorityChanged { .. } => "priority-changed",
                    WatchEvent::Flapping { .. } => "flapping",
                    WatchEvent::NothingHeard { .. } => "nothing-heard",
                    WatchEvent::Anomaly { anomaly, .. } => anomaly.name(),
                };
                ("event", word)
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Event(event) => event.to_string(),
            Self::Discard { source, reason, .. } => {
                let from = source.map_or_else(String::new, |source| format!(", from {source}"));
                format!("discarded ({}): {reason}{from}", reason.name())
            }
            Self::Cut => {
                "the recorder kept only a part of the advertisements: these are left out (`tcpdump -s 0` keeps all)"
                    .to_owned()
            }
            Self::ClockSet(back) => {
                format!("the clock of the capture was set back by {} s; times go on as if not", back.as_secs())
            }
        }
    }
}

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
    reports_suppressed: u64,
}

/// Writes one line of JSON.
fn line<T: Serialize>(screen: &mut Screen<'_>, kind: &'static str, body: &T) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'l, T> {
        kind: &'static str,
        #[serde(flatten)]
        body: &'l T,
    }
    serde_json::to_writer(&mut *screen.out, &Reply::new(Line { kind, body }))?;
    writeln!(screen.out)
}

struct Printer<'p, 's> {
    screen: &'p mut Screen<'s>,
    vips: &'p [Vip],
}

impl Printer<'_, '_> {
    fn head(&mut self, name: &str, replay: &Replay) -> io::Result<()> {
        if self.screen.is_json() {
            return Ok(());
        }
        let begin = moment(replay.unix_ms(Time::ZERO));
        self.screen.line(&format!("{name} begins at {begin}; times in seconds since then"))
    }

    fn finding(&mut self, finding: &Finding, replay: &Replay) -> io::Result<()> {
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

    fn summary(&mut self, replay: &Replay, complete: bool) -> io::Result<()> {
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
            discarded.values().sum::<u64>(),
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
