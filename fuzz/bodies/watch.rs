//! A watcher under a hail of packets: most of them well-formed, since random bytes would not get past the
//! checksums. Runs as a fuzz target, and under proptest in `ha/tests/watch_any_bytes.rs`.

use std::net::IpAddr;
use std::time::Duration;

use cygnet_ha::time::Time;
use cygnet_ha::vip::Protocol;
use cygnet_ha::vip::peers::word::Word;
use cygnet_ha::vip::watch::{ANSWERS_KEPT, SENDERS_KEPT, STRANGERS_KEPT, WatchSettings, Watcher};
use cygnet_netlink::wire::vrrp::{Advertisement, Auth, ChecksumForm, Version};
use cygnet_netlink::wire::{Mac, arp, carp, ip};

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));
const GROUP: [u8; 4] = [224, 0, 0, 18];
/// More anomalies and reasons have no name.
const NAMES_MAX: usize = 64;
/// One packet of the story: kind, delay, source, MAC, priority, interval, number, counter.
const STEP: usize = 8;

fn settings(protocol: Protocol, id: u8) -> WatchSettings {
    let password = (protocol == Protocol::Carp).then(|| "secret".to_owned());
    // One of the routers has unicast peers, beyond at most one router.
    let peers = if protocol == Protocol::Vrrp2 { vec![IpAddr::from([192, 0, 2, 1])] } else { Vec::new() };
    let min_ttl = 254;
    let interval = Duration::from_secs(1);
    WatchSettings { protocol, id, addresses: vec![VIP], interval, password, peers, min_ttl }
}

/// Who says by ARP that it has the address; every 16th one is damaged.
fn neighbour(step: &[u8; STEP]) -> Vec<u8> {
    let [_, _, source, mac, .., counter] = *step;
    let mac = Mac([2, 0, 0, 0, mac, source]);
    let mut bytes = arp::gratuitous_request(mac, std::net::Ipv4Addr::new(192, 0, 2, 100))[14..].to_vec();
    if counter % 16 == 0 {
        bytes.truncate(usize::from(counter / 16));
    }
    bytes
}

fn packet(step: &[u8; STEP]) -> Vec<u8> {
    let [kind, _, source, _, priority, interval, number, counter] = *step;
    if kind & 0xe3 == 0x83 {
        return neighbour(step);
    }
    let (source, destination) = (IpAddr::from([192, 0, 2, source]), IpAddr::from(GROUP));
    let vrid = if number < 200 { 51 } else { number };
    let checksum = if kind & 8 == 0 { ChecksumForm::Message } else { ChecksumForm::PseudoHeader };
    let version = if kind & 1 == 0 { Version::V2 } else { Version::V3 };
    let payload = match kind & 3 {
        0 | 1 => {
            let interval_cs = if version == Version::V2 { 100 } else { u16::from(interval) << (kind >> 4) };
            let address = if vrid == 51 { VIP } else { IpAddr::from([10, 0, counter, number]) };
            Advertisement {
                version,
                vrid,
                priority,
                interval_cs,
                addresses: vec![address],
                auth: Auth::None,
                checksum,
            }
            .emit(source, destination)
        }
        2 => {
            let (advbase, demote) = (interval, kind >> 6);
            let mut advertisement = carp::Advertisement {
                vhid: vrid,
                advskew: priority,
                authlen: carp::AUTHLEN,
                demote,
                advbase,
                counter: u64::from(counter),
                hmac: [0; 20],
            };
            let _ = advertisement.sign("secret", &[VIP]);
            advertisement.emit().to_vec()
        }
        _ => step.to_vec(),
    };
    let packet = ip::Packet { source, destination, hop_limit: 255, protocol: 112, payload: &payload };
    let mut buffer = vec![0; packet.buffer_len()];
    let _ = packet.emit(0, &mut buffer);
    buffer
}

/// Plays `bytes` as a story and checks what must hold at every moment.
pub fn watch(bytes: &[u8]) {
    let routers =
        vec![settings(Protocol::Vrrp2, 51), settings(Protocol::Vrrp3, 51), settings(Protocol::Carp, 51)];
    let count = routers.len();
    let own = vec![IpAddr::from([192, 0, 2, 9])];
    let mut watcher = Watcher::new(own.clone(), routers);
    let mut now = Time::ZERO;
    let (mut packets, mut valid) = (0, 0);
    for step in bytes.chunks(STEP) {
        let Ok(step) = <[u8; STEP]>::try_from(step) else {
            let heard = watcher.packet(now, Mac::default(), step);
            assert!(heard.valid.is_none());
            return;
        };
        now = now + Duration::from_millis(u64::from(step[1]) * 10);
        for event in watcher.timeout(now) {
            assert!(!event.to_string().is_empty());
        }
        // A timer that is due after it has just fired would make the driver spin.
        assert!(watcher.poll_timeout().is_none_or(|due| due > now));
        let heard = watcher.packet(now, Mac([2, 0, 0, 0, 0, step[3] % 4]), &packet(&step));
        // Exactly one thing comes of a packet: an advertisement, a discard, or somebody who has the address.
        let answered = heard.answered.is_some();
        let outcomes = [heard.valid.is_some(), heard.discarded.is_some(), answered];
        assert_eq!(outcomes.iter().filter(|outcome| **outcome).count(), 1);
        assert!(watcher.poll_timeout().is_none_or(|due| due > now));
        packets += u64::from(!answered);
        valid += u64::from(heard.valid.is_some());
        for event in &heard.events {
            assert!(!event.to_string().is_empty());
            let _ = event.severity();
        }
        for index in 0..count {
            let view = watcher.router(index);
            assert!(view.rivals.len() < SENDERS_KEPT);
            assert!(view.holder.is_some() || view.rivals.is_empty(), "a claim without a holder");
            assert!(view.holder.is_none_or(|holder| !view.rivals.contains(&holder.source)));
            assert!(view.holder.is_none_or(|holder| !own.contains(&holder.source)));
            assert!(view.answers.len() <= ANSWERS_KEPT);
            // Names are words of this program: their number is its, whatever is on the wire.
            assert!(view.anomalies.iter().count() <= NAMES_MAX && view.discarded.len() <= NAMES_MAX);
            assert!(view.rhythm.adverts <= view.valid);
        }
        assert!(watcher.strangers().len() <= STRANGERS_KEPT);
        assert!(watcher.anomalies().iter().count() <= NAMES_MAX);
    }
    assert_eq!(watcher.discarded().values().sum::<u64>() + valid, packets);
    let heard: u64 = (0..count).map(|index| watcher.router(index).valid).sum();
    assert_eq!(heard, valid);
}

/// Any bytes as a word between the elections of two nodes, or as a last word: what is understood means the same again.
pub fn word(bytes: &[u8]) {
    let _ = cygnet_netlink::guard::seal_of(bytes);
    if let Some(word) = Word::decode(bytes) {
        assert_eq!(Word::decode(&word.encode()), Some(word));
    }
}
