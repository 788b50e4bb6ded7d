use std::time::Instant;

use super::*;
use crate::testns::{DEADLINE, frames, in_namespace, ip, veth};
use crate::wire::ethernet::Header;

const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

/// An IPv4 packet without content in a frame from `from` to `to`.
fn frame(from: Mac, to: Mac, protocol: u8, destination: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0; 60];
    let header = Header { destination: to, source: from, ethertype: ethernet::IPV4 };
    header.write(&mut bytes).expect("long enough");
    bytes[14] = 0x45;
    bytes[16..18].copy_from_slice(&46_u16.to_be_bytes());
    bytes[23] = protocol;
    bytes[30..34].copy_from_slice(&destination.octets());
    bytes
}

/// What comes in until a frame of protocol 99 to the service ends it.
fn judged(frames: &mut Frames, verdict: Verdict) -> Vec<Vec<u8>> {
    let (start, mut seen) = (Instant::now(), Vec::new());
    loop {
        let turn = frames
            .turn(|frame| {
                seen.push(frame.to_vec());
                frame[0] ^= 0x40;
                verdict
            })
            .expect("no error");
        let expected = if verdict == Verdict::Drop { 0 } else { turn.received };
        assert_eq!((turn.sent, turn.lost), (expected, 0));
        if let Some(end) = seen.iter().position(|frame| frame[23] == 99) {
            seen.truncate(end);
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "the end does not come");
        frames.wait(Duration::from_millis(100)).expect("no error");
    }
}

#[test]
fn frames_for_the_service_come_in_and_no_others() {
    in_namespace(|| {
        veth("left", "right");
        let peer = frames("right", 0);
        let cases = [(false, vec![17, 6, 47, 1]), (true, vec![17, 6, 47, 1, 6])];
        for (all_tcp, expected) in cases {
            let mut ours = Frames::open("left", Wanted { address: SERVICE, all_tcp }).expect("open");
            let mac = ours.mac();
            assert!(mac.is_unicast());
            let other = Ipv4Addr::new(192, 0, 2, 81);
            let from = Mac([2, 0, 0, 0, 0, 9]);
            for protocol in [17, 6, 47, 1] {
                peer.send(&frame(from, mac, protocol, SERVICE)).expect("sent");
            }
            for protocol in [17, 6, 1] {
                peer.send(&frame(from, mac, protocol, other)).expect("sent");
            }
            peer.send(&frame(from, mac, 99, SERVICE)).expect("sent");
            let seen: Vec<_> = judged(&mut ours, Verdict::Drop).iter().map(|frame| frame[23]).collect();
            assert_eq!(seen, expected, "all TCP: {all_tcp}");
        }
    });
}

#[test]
fn a_frame_goes_on_or_is_answered_as_the_judge_says() {
    in_namespace(|| {
        veth("left", "right");
        let mut ours = Frames::open("left", Wanted { address: SERVICE, all_tcp: false }).expect("open");
        let peer = frames("right", ethernet::IPV4);
        let from = Mac([2, 0, 0, 0, 0, 9]);
        for (verdict, length) in
            [(Verdict::Forward, 60), (Verdict::Answer(42), 42), (Verdict::Answer(999), 60)]
        {
            let sent = frame(from, ours.mac(), 17, SERVICE);
            peer.send(&sent).expect("sent");
            peer.send(&frame(from, ours.mac(), 99, SERVICE)).expect("sent");
            assert_eq!(judged(&mut ours, verdict), std::slice::from_ref(&sent));
            for protocol in [17, 99] {
                let mut buffer = [0; 100];
                let (received, ..) = sys::receive_packet(&peer, &mut buffer).expect("it comes back");
                assert_eq!((received, buffer[23]), (length, protocol));
                assert_eq!(buffer[0], sent[0] ^ 0x40, "as the judge has left it");
            }
        }
        ours.send(&frame(ours.mac(), from, 47, SERVICE)).expect("sent");
        let mut buffer = [0; 100];
        assert_eq!(sys::receive_packet(&peer, &mut buffer).expect("it comes").0, 60);
        assert_eq!(buffer[23], 47);
    });
}

#[test]
fn an_interface_that_is_none_or_no_ethernet_is_refused() {
    in_namespace(|| {
        let wanted = Wanted { address: SERVICE, all_tcp: false };
        let error = Frames::open("none", wanted).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        ip("tuntap add dev p0 mode tun");
        let error = Frames::open("p0", wanted).expect_err("no Ethernet");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    });
}
