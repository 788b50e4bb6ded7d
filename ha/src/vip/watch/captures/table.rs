//! One row a capture: how the watcher is set up, and what must come out.
//!
//! `course`, one list per virtual router: `12` is packet 12 of the capture, `<12` a timer that fired before it came.
//! `A` somebody holds the address where nobody did, `- resigned` and `- timed-out` nobody does any more, `B preempts` or
//! `B timed-out` (the former holder was) B holds it instead, `+B` and `-B` a second holder came and went, `A 150>50` a
//! priority changed. ARP and neighbour advertisements for the addresses are played as well: they count as packets, and in no
//! capture does anybody answer who does not advertise. `discards`: packet and reason; each is counted and changes nothing. `anomalies`: what was
//! reported, with its source; the same of the same source is reported once in 30 s.

use std::net::IpAddr;
use std::time::Duration;

use super::super::WatchSettings;
use super::Outcome;
use crate::vip::Protocol::{self, Carp, Vrrp2, Vrrp3};

pub(super) struct Watched {
    protocol: Protocol,
    id: u8,
    addresses: &'static [&'static str],
    interval_ms: u64,
    password: Option<&'static str>,
}

pub(super) struct Capture {
    pub(super) file: &'static str,
    pub(super) routers: &'static [Watched],
    course: &'static [&'static [&'static str]],
    discards: &'static [&'static str],
    anomalies: &'static [&'static str],
}

pub(super) fn settings(watched: &Watched) -> WatchSettings {
    WatchSettings {
        protocol: watched.protocol,
        id: watched.id,
        addresses: watched.addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect(),
        interval: Duration::from_millis(watched.interval_ms),
        password: watched.password.map(str::to_owned),
        peers: Vec::new(),
        min_ttl: 1,
    }
}

pub(super) fn expected(capture: &Capture) -> Outcome {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    Outcome {
        course: capture.course.iter().map(|course| owned(course)).collect(),
        discards: owned(capture.discards),
        anomalies: owned(capture.anomalies),
    }
}

const fn vrrp(protocol: Protocol, id: u8, addresses: &'static [&'static str], interval_ms: u64) -> Watched {
    Watched { protocol, id, addresses, interval_ms, password: None }
}

const fn carp(id: u8, addresses: &'static [&'static str], password: &'static str) -> Watched {
    Watched { protocol: Carp, id, addresses, interval_ms: 1000, password: Some(password) }
}

const VIP: &[&str] = &["192.0.2.100"];
const VIP2: &[&str] = &["192.0.2.101"];
const V2: &[Watched] = &[vrrp(Vrrp2, 51, VIP, 1000)];
const SECRET: &[Watched] = &[carp(51, VIP, "secret")];
const PASS: &[Watched] =
    &[Watched { password: Some("s3cret12"), ..vrrp(Vrrp2, 51, &["192.0.2.101", "192.0.2.100"], 1000) }];
/// Nothing is wrong.
const NONE: &[&str] = &[];

const fn clean(
    file: &'static str,
    routers: &'static [Watched],
    course: &'static [&'static [&'static str]],
) -> Capture {
    Capture { file, routers, course, discards: NONE, anomalies: NONE }
}

pub(super) const CAPTURES: &[Capture] = &[
    // B first, A joins with a higher priority. No anomaly: the one that was preempted falls silent at once.
    clean("vrrp2-startup-election", V2, &[&["1 B", "17 A preempts"]]),
    clean("vrrp2-pass-graceful", PASS, &[&["1 A", "15 - resigned", "16 B", "44 A preempts"]]),
    // A crash, not a resignation. A, back with the higher priority, stays silent (nopreempt).
    clean("vrrp2-crash-nopreempt", V2, &[&["1 A", "<10 - timed-out", "10 B"]]),
    clean(
        "vrrp3-100ms-crash",
        &[vrrp(Vrrp3, 51, VIP, 100)],
        &[&["1 A", "<29 - timed-out", "29 B", "50 A preempts"]],
    ),
    // No flapping, although packets come up to two intervals apart.
    clean("vrrp3-10ms-graceful", &[vrrp(Vrrp3, 51, VIP, 10)], &[&["1 A", "123 - resigned", "124 B"]]),
    clean(
        "vrrp3-ipv6-graceful",
        &[vrrp(Vrrp3, 51, &["fe80::5:1", "2001:db8::100"], 1000)],
        &[&["1 B", "16 A preempts", "27 - resigned", "28 B"]],
    ),
    // The destination is the peer, not the group; recorded where unicast can be seen.
    clean("vrrp3-unicast-crash", &[vrrp(Vrrp3, 51, VIP, 500)], &[&["3 A", "<15 - timed-out", "15 B"]]),
    clean(
        "vrrp2-two-vrids",
        &[vrrp(Vrrp2, 10, VIP, 1000), vrrp(Vrrp2, 20, VIP2, 1000)],
        &[&["1 A", "<27 - timed-out", "27 B", "51 A preempts"], &["7 B"]],
    ),
    clean(
        "vrrp3-owner-255",
        &[vrrp(Vrrp3, 51, &["192.0.2.11"], 500)],
        &[&["1 B", "12 A preempts", "20 - resigned", "21 B"]],
    ),
    // Two holders from 18. The last word of B is packet 33, the cut is healed before 39: that B is gone is known
    // for sure only when two of its advertisements are missing, between 41 and 42.
    clean("vrrp2-split-third-party", V2, &[&["1 A", "18 +B", "<42 -B"]]),
    // From B's side of the cut this is a crash of A, and a preemption at 26; a split brain cannot be seen here.
    clean("vrrp2-split-cut-heal", V2, &[&["1 A", "<10 - timed-out", "10 B", "26 A preempts"]]),
    // Equal priorities: neither is better while both speak, so A stays and B is the second holder. A's last word
    // is packet 30 (B wins the tie by its address); B is alone when two advertisements of A are missing, at 38.
    clean("vrrp2-split-equal-priority", V2, &[&["1 A", "18 +B", "38 B timed-out"]]),
    // All frames come from the same virtual MAC: the source address is the node.
    clean("vrrp2-vmac", V2, &[&["1 A", "9 - resigned", "10 B"]]),
    clean(
        "vrrp3-priority-change",
        &[vrrp(Vrrp3, 51, VIP, 200)],
        &[&["1 A", "17 A 150>50", "20 B preempts", "35 A preempts"]],
    ),
    Capture {
        file: "vrrp2-malformed",
        routers: V2,
        // 45, 73 (unicast) and 78 (IP options) are well-formed claims of a stranger with a lower priority: second
        // holder C. 53 has our own source address. keepalived on A believed it and stopped speaking; we know
        // better, since own packets are never captured: it is reported and changes nothing. So A stays in the
        // view, with the age of its last word, until B speaks at 56; by then A is overdue. 54 and 55 (a forged
        // resignation) come from A's address with another MAC and another content.
        course: &[&[
            "1 A",
            "45 +C",
            "<54 -C",
            "56 B timed-out",
            "62 A preempts",
            "73 +C",
            "<77 -C",
            "78 +C",
            "<93 -C",
        ]],
        discards: &[
            "10 checksum",
            "17 ttl",
            "19 version",
            "21 version",
            "23 type",
            "25 truncated",
            "27 truncated",
            "29 address-count",
            "31 no-address",
            "33 unknown-id",
            "35 id-zero",
            "37 auth-type",
            "39 auth-type",
            "41 interval-mismatch",
            "43 address-mismatch",
            "53 own-source",
            "54 spoof",
            "55 spoof",
            "75 ip-checksum",
            "86 ip-length",
            "93 ip-fragment",
            // The checksum over all 32 bytes is wrong too, but the length is looked at first.
            "95 length",
        ],
        anomalies: &[
            "10 checksum C",
            "17 ttl C",
            "19 version C",
            "23 type C",
            "25 truncated C",
            "29 address-count C",
            "31 no-address C",
            "33 unknown-id C",
            "35 id-zero C",
            "37 auth-type C",
            "41 interval-mismatch C",
            "43 address-mismatch C",
            "53 own-source W",
            "54 spoof A",
            "75 ip-checksum",
            "86 ip-length",
            "93 ip-fragment",
            "95 length C",
        ],
    },
    Capture {
        file: "vrrp3-malformed",
        routers: &[vrrp(Vrrp3, 51, VIP, 1000)],
        // 17 (checksum without pseudo header), 23 (reserved bits), 31 (interval 0) and 39 (interval 40.95 s) are
        // valid claims of a lower stranger. What it says of its interval extends nobody's time: C is gone 2.5 s
        // after 39, before 49. 70 (our own source) and 72 (forged resignation, another MAC) change nothing; A is
        // overdue when B speaks at 73. 85 to 87 are a hijack with priority 200; it ends by time-out.
        course: &[&[
            "1 A",
            "17 +C",
            "<21 -C",
            "23 +C",
            "<49 -C",
            "73 B timed-out",
            "79 A preempts",
            "85 C preempts",
            "<88 - timed-out",
            "88 A",
            "88 flapping",
        ]],
        discards: &[
            "10 checksum",
            "19 ttl",
            "21 version-mismatch",
            "47 truncated",
            "54 address-count",
            "61 no-address",
            "68 address-mismatch",
            "70 own-source",
            "71 checksum",
            "72 spoof",
        ],
        anomalies: &[
            "10 checksum C",
            "17 mixed-checksums C",
            "19 ttl C",
            "21 version-mismatch C",
            // 31 says 0, 39 says 40.95 s; of the same sender it is reported once in 30 s.
            "31 other-interval C",
            "47 truncated C",
            "54 address-count C",
            "61 no-address C",
            "68 address-mismatch C",
            "70 own-source W",
            "72 spoof A",
        ],
    },
    Capture {
        file: "vrrp2-junk-silences-master",
        routers: V2,
        // The junk silences A, as the daemon restarts its timer for it. A watcher moves no timer for junk: A
        // times out.
        course: &[&[
            "1 A",
            "<23 - timed-out",
            "24 B",
            "25 A preempts",
            "<45 - timed-out",
            "45 B",
            "51 A preempts",
            "51 flapping",
            "<69 - timed-out",
            "69 B",
            "75 A preempts",
        ]],
        discards: &[
            "10 checksum",
            "11 checksum",
            "12 checksum",
            "13 checksum",
            "19 checksum",
            "20 checksum",
            "21 checksum",
            "22 checksum",
            "23 checksum",
            "36 checksum",
            "37 checksum",
            "38 checksum",
            "39 checksum",
            "40 checksum",
            "41 checksum",
            "42 checksum",
            "43 checksum",
            "44 checksum",
            "57 checksum",
            "58 checksum",
            "59 checksum",
            "65 checksum",
            "66 checksum",
            "67 checksum",
            "68 checksum",
        ],
        anomalies: &["10 checksum C", "36 junk-rate"],
    },
    // ucarp reads up to a second late, so at each change both speak for a moment: a second holder, and truly so.
    clean("carp-startup-preempt", SECRET, &[&["2 B", "8 A preempts", "9 +B", "<14 -B"]]),
    // A is better than B and waits nevertheless (no -P), until B is dead: that is a time-out, no preemption.
    clean("carp-no-preempt-skews", SECRET, &[&["2 B", "10 A timed-out"]]),
    clean(
        "carp-crash-return",
        SECRET,
        &[&["2 A", "<8 - timed-out", "9 B", "15 A preempts", "16 +B", "<24 -B"]],
    ),
    clean(
        "carp-demote-usr2",
        SECRET,
        &[&["2 A", "<8 - timed-out", "9 B", "11 A preempts", "12 +B", "<16 -B"]],
    ),
    // ucarp has no resignation: the same as a crash.
    clean("carp-graceful-term", SECRET, &[&["2 A", "<8 - timed-out", "9 B"]]),
    clean("carp-split-third-party", SECRET, &[&["2 A", "13 +B", "<31 -B"]]),
    clean(
        "carp-two-vhids",
        &[carp(10, VIP, "alpha"), carp(20, VIP2, "beta")],
        &[&["2 A", "<23 - timed-out", "26 B"], &["5 B", "7 +A", "<19 -A"]],
    ),
    clean("carp-nomcast", SECRET, &[&["2 A"]]),
    Capture {
        file: "carp-malformed",
        routers: SECRET,
        // B preempts for a moment whenever a worse claim is injected (17, 22, 44, 52, ...). 39, 40 and 58 are
        // signed claims of a third station: second holder C. 68 is a forged bow-out that cannot be told from a
        // true one; A contradicts it at 69. 79 is signed and better: C holds until it times out.
        course: &[&[
            "2 A",
            "17 +B",
            "<31 -B",
            "39 +C",
            "44 +B",
            "68 B follows",
            "69 A preempts",
            "73 +B",
            "<76 -C",
            "<79 -B",
            "79 C preempts",
            "80 +A",
            "<82 -A",
            "<82 - timed-out",
            "83 A",
            "83 flapping",
        ]],
        discards: &[
            "8 checksum",
            "9 ttl",
            "11 version",
            // As VRRPv3 its checksum is right without the pseudo header, which we accept; but one of its seven
            // "addresses" is a multicast address.
            "12 address",
            "14 type",
            "18 truncated",
            "20 truncated",
            "23 unknown-id",
            "25 hmac",
            "27 hmac",
            "29 hmac",
            "30 hmac",
            "31 replay",
            "37 replay",
            "48 checksum",
            "49 own-source",
            "56 carp-auth-length",
        ],
        anomalies: &[
            "8 checksum C",
            "9 ttl C",
            "11 version C",
            "12 address C",
            "14 type C",
            "18 truncated C",
            "23 unknown-id C",
            "25 hmac C",
            "29 junk-rate",
            "31 replay A",
            "49 own-source W",
            "56 carp-auth-length C",
        ],
    },
    Capture {
        file: "mixed-vrrp-carp-same-id",
        routers: &[vrrp(Vrrp2, 51, VIP, 1000), carp(51, VIP2, "secret")],
        // The CARP packets silence keepalived: A from 0.4 s to 4.0 s, B after 28. Both time out, though they are
        // alive.
        course: &[
            &[
                "3 A",
                "<14 - timed-out",
                "14 B",
                "15 A preempts",
                "27 - resigned",
                "28 B",
                "<43 - timed-out",
                "43 B",
            ],
            &["2 D", "<50 - timed-out", "53 E"],
        ],
        discards: NONE,
        anomalies: &["2 shared-number", "3 shared-number"],
    },
];
