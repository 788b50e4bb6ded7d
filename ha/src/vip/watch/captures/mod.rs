//! Recorded exchanges of real daemons, replayed: see `netlink/fixtures/captures/README.md`. The table says what
//! must come out of each.

mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use cygnet_netlink::pcap;
use cygnet_netlink::wire::{Mac, PROTOCOL_VRRP};

use super::*;
use table::{CAPTURES, Capture};

/// What came out, in the words of the table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Per virtual router.
    course: Vec<Vec<String>>,
    discards: Vec<String>,
    anomalies: Vec<String>,
}

/// `A` .. `E` for the nodes 1 .. 5, `W` for the watcher's own address.
fn name(source: IpAddr) -> String {
    let last = match source {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    match last {
        1..=5 => char::from(b'A' + last - 1).to_string(),
        9 => "W".to_owned(),
        _ => source.to_string(),
    }
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Preempted => "preempts",
        Change::Resigned => "follows",
        Change::TimedOut => "timed-out",
    }
}

/// One event in the words of the table; `at` is `12` for packet 12, `<12` for a timer that fired before it.
fn record(outcome: &mut Outcome, at: &str, event: &WatchEvent) {
    let (router, word) = match event {
        WatchEvent::Anomaly { source, anomaly, .. } => {
            let source = source.map(name).unwrap_or_default();
            outcome.anomalies.push(format!("{at} {} {source}", anomaly.name()).trim_end().to_owned());
            return;
        }
        WatchEvent::Appeared { router, holder, .. } => (router, name(*holder)),
        WatchEvent::Changed { router, to, change: how, .. } => {
            (router, format!("{} {}", name(*to), change(*how)))
        }
        WatchEvent::Resigned { router, .. } => (router, "- resigned".to_owned()),
        WatchEvent::TimedOut { router, .. } => (router, "- timed-out".to_owned()),
        WatchEvent::SecondHolder { router, rival, .. } => (router, format!("+{}", name(*rival))),
        WatchEvent::SecondHolderGone { router, rival } => (router, format!("-{}", name(*rival))),
        WatchEvent::PriorityChanged { router, holder, from, to } => {
            (router, format!("{} {from}>{to}", name(*holder)))
        }
        WatchEvent::Flapping { router, .. } => (router, "flapping".to_owned()),
        WatchEvent::NothingHeard { router } => (router, "nothing heard".to_owned()),
    };
    outcome.course[*router].push(format!("{at} {word}"));
}

/// The holder and the rivals, as one who reads only the events must believe them to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Believed {
    holder: Option<IpAddr>,
    rivals: std::collections::BTreeSet<IpAddr>,
}

impl Believed {
    fn apply(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Appeared { holder: to, .. } | WatchEvent::Changed { to, .. } => {
                self.holder = Some(*to);
                self.rivals.remove(to);
            }
            WatchEvent::Resigned { .. } | WatchEvent::TimedOut { .. } => self.holder = None,
            WatchEvent::SecondHolder { rival, .. } => _ = self.rivals.insert(*rival),
            WatchEvent::SecondHolderGone { rival, .. } => _ = self.rivals.remove(rival),
            _ => {}
        }
    }
}

struct Replay {
    watcher: Watcher,
    believed: BTreeMap<usize, Believed>,
    outcome: Outcome,
}

impl Replay {
    fn new(capture: &Capture) -> Self {
        let outcome = Outcome { course: vec![Vec::new(); capture.routers.len()], ..Outcome::default() };
        let watcher =
            Watcher::new(vec![[192, 0, 2, 9].into()], capture.routers.iter().map(table::settings).collect());
        Self { watcher, believed: BTreeMap::new(), outcome }
    }

    fn take_in(&mut self, at: &str, events: &[WatchEvent]) {
        for event in events {
            record(&mut self.outcome, at, event);
            if let Some(router) = event.router() {
                self.believed.entry(router).or_default().apply(event);
            }
        }
        for (router, believed) in &self.believed {
            let view = self.watcher.router(*router);
            let seen = Believed {
                holder: view.holder.map(|holder| holder.source),
                rivals: view.rivals.iter().copied().collect(),
            };
            assert_eq!(*believed, seen, "{at}: the events do not tell the state");
        }
    }

    fn packet(&mut self, number: usize, now: Time, mac: Mac, bytes: &[u8]) {
        while let Some(due) = self.watcher.poll_timeout().filter(|due| *due <= now) {
            let events = self.watcher.timeout(due);
            self.take_in(&format!("<{number}"), &events);
        }
        let state = |watcher: &Watcher| {
            let routers =
                watcher.routers.iter().map(|router| (router.view.holder, router.view.rivals.clone()));
            (routers.collect::<Vec<_>>(), watcher.poll_timeout())
        };
        let before = state(&self.watcher);
        let counted: u64 = self.watcher.discarded().values().sum();
        let heard = self.watcher.packet(now, mac, bytes);
        self.take_in(&number.to_string(), &heard.events);
        let counted = self.watcher.discarded().values().sum::<u64>() - counted;
        if heard.answered.is_some() {
            assert_eq!((counted, heard.valid, heard.discarded), (0, None, None), "packet {number}");
            assert_eq!(before, state(&self.watcher), "packet {number}: ARP moved the state");
            return;
        }
        if let Some(reason) = heard.discarded {
            assert_eq!(before, state(&self.watcher), "packet {number} ({}) changed the state", reason.name());
            assert_eq!(heard.valid, None);
            self.outcome.discards.push(format!("{number} {}", reason.name()));
        }
        assert_eq!(
            counted,
            u64::from(heard.valid.is_none()),
            "packet {number}: discarded and counted, or valid"
        );
    }
}

/// The packet of an Ethernet frame, if it is what the kernel's filter lets through: protocol 112, and who says that it
/// has one of the addresses.
fn filter<'f>(frame: &'f [u8], addresses: &[IpAddr]) -> Option<(Mac, &'f [u8])> {
    const ICMPV6: u8 = 58;
    let mac = Mac(frame.get(6..12)?.try_into().unwrap());
    let bytes = &frame[14..];
    let is_watched = |address: IpAddr| addresses.contains(&address);
    let taken = match frame[12..14] {
        [0x08, 0x00] => *bytes.get(9)? == PROTOCOL_VRRP,
        [0x86, 0xdd] if *bytes.get(6)? == PROTOCOL_VRRP => true,
        [0x86, 0xdd] => {
            *bytes.get(6)? == ICMPV6
                && *bytes.get(40)? == 136
                && is_watched(<[u8; 16]>::try_from(bytes.get(48..64)?).unwrap().into())
        }
        [0x08, 0x06] => is_watched(<[u8; 4]>::try_from(bytes.get(14..18)?).unwrap().into()),
        _ => false,
    };
    taken.then_some((mac, bytes))
}

fn replay(capture: &Capture) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../netlink/fixtures/captures").join(capture.file);
    let file = std::fs::read(path.with_extension("pcap")).unwrap();
    let mut replay = Replay::new(capture);
    let watched = capture.routers.iter().map(table::settings);
    let addresses: Vec<IpAddr> = watched.flat_map(|settings| settings.addresses).collect();
    let mut first = None;
    for (at, record) in pcap::Reader::new(&file).unwrap().enumerate() {
        let record = record.unwrap();
        let now = Time(record.time_ns - *first.get_or_insert(record.time_ns));
        if let Some((mac, bytes)) = filter(record.bytes, &addresses) {
            replay.packet(at + 1, now, mac, bytes);
        }
    }
    replay.outcome
}

#[test]
fn every_capture_yields_what_the_table_says() {
    let mut wrong = 0;
    for capture in CAPTURES {
        let outcome = replay(capture);
        if outcome != table::expected(capture) {
            wrong += 1;
            println!("{}:\n  {outcome:?}\n  expected\n  {:?}", capture.file, table::expected(capture));
        }
    }
    assert_eq!(wrong, 0, "captures with another outcome than expected");
}

#[test]
fn no_capture_is_missing_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../netlink/fixtures/captures");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut rows: Vec<&str> = CAPTURES.iter().map(|capture| capture.file).collect();
    rows.sort_unstable();
    assert_eq!(rows, files);
}
