use proptest::prelude::*;

use super::*;

const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OWN: Mac = Mac([2, 0, 0, 0, 0, 0x80]);
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

fn server(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn targets(servers: &[u8]) -> Vec<Target> {
    servers.iter().map(|n| Target { address: server(*n), weight: 1, available: true }).collect()
}

fn served() -> Served {
    Served { address: SERVICE, port: Some(80), transport: Transport::Tcp, with_port: false }
}

/// A machine with these servers, none of which has been heard of.
fn core(servers: &[u8]) -> Core {
    let mut core = Core::new(served(), OWN);
    core.set_servers(&targets(servers));
    core
}

/// A machine whose servers have all answered.
fn ready(servers: &[u8]) -> Core {
    let mut core = core(servers);
    servers.iter().for_each(|n| hear(&mut core, *n, at(0)));
    core
}

fn arp_frame(operation: Operation, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let packet = arp::Packet {
        operation,
        sender_mac: sender.0,
        sender_ip: sender.1,
        target_mac: OWN,
        target_ip: target,
    };
    let mut frame = vec![0; 60];
    let header = ethernet::Header { destination: Mac::BROADCAST, source: sender.0, ethertype: ethernet::ARP };
    assert_eq!(write(&mut frame, header, &packet.emit()), Verdict::Answer(ARP_FRAME));
    frame
}

fn hear(core: &mut Core, n: u8, now: Time) {
    let mut frame = arp_frame(Operation::Reply, (mac(n), server(n)), Ipv4Addr::UNSPECIFIED);
    assert_eq!(core.frame(&mut frame, None, now), Verdict::Drop);
}

/// A frame with an IPv4 packet that begins with these ports, from the router to us.
fn ip_frame(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), protocol: u8, fragment: u16) -> Vec<u8> {
    let syn = tcp::Header {
        source: from.1,
        destination: to.1,
        sequence: 0xffff_ffff,
        acknowledgment: 0,
        flags: SYN,
        window: 1000,
    };
    let mut packet = syn.packet(from.0, to.0);
    packet[9] = protocol;
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    let mut frame = vec![0; ethernet::HEADER];
    frame.extend(packet);
    frame.extend([0; 6]);
    let header = ethernet::Header { destination: OWN, source: ROUTER, ethertype: ethernet::IPV4 };
    header.write(&mut frame).expect("long enough");
    frame
}

fn syn_from(client: Ipv4Addr) -> Vec<u8> {
    ip_frame((client, 4000), (SERVICE, 80), transit::TCP, 0)
}

/// To which server a frame goes on; `None`: nowhere.
fn goes_to(core: &mut Core, mut frame: Vec<u8>) -> Option<u8> {
    let before = frame.clone();
    match core.frame(&mut frame, None, at(1)) {
        Verdict::Drop => None,
        Verdict::Forward => {
            let (header, payload) = ethernet::Header::parse(&frame).expect("a frame");
            assert_eq!((header.source, header.ethertype), (OWN, ethernet::IPV4));
            assert_eq!(payload, &before[ethernet::HEADER..], "nothing else has changed");
            Some(header.destination.0[5])
        }
        Verdict::Answer(_) => panic!("no answer was asked for"),
    }
}

#[test]
fn who_asks_for_the_service_is_told_our_hardware_address() {
    let mut core = core(&[1]);
    let mut frame = arp_frame(Operation::Request, (ROUTER, CLIENT), SERVICE);
    assert_eq!(core.frame(&mut frame, None, at(0)), Verdict::Answer(42));
    let (header, payload) = ethernet::Header::parse(&frame).expect("a frame");
    assert_eq!(header, ethernet::Header { destination: ROUTER, source: OWN, ethertype: ethernet::ARP });
    let expected = arp::Packet {
        operation: Operation::Reply,
        sender_mac: OWN,
        sender_ip: SERVICE,
        target_mac: ROUTER,
        target_ip: CLIENT,
    };
    assert_eq!(arp::Packet::parse(payload), Ok(expected));
}

#[test]
fn what_does_not_ask_for_the_service_is_not_answered() {
    let mut core = core(&[1]);
    for mut frame in [
        arp_frame(Operation::Request, (ROUTER, CLIENT), server(1)),
        arp_frame(Operation::Reply, (ROUTER, CLIENT), SERVICE),
        arp_frame(Operation::Request, (ROUTER, SERVICE), SERVICE),
        arp_frame(Operation::Request, (OWN, CLIENT), SERVICE),
    ] {
        assert_eq!(core.frame(&mut frame, None, at(0)), Verdict::Drop);
    }
}

#[test]
fn servers_are_asked_every_second_until_they_answer_and_every_minute_afterwards() {
    let mut core = core(&[1, 2]);
    let asked = |core: &mut Core, seconds| {
        let requests = core.tick(at(seconds));
        requests.iter().map(|frame| frame[41]).collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut core, 0), [1, 2]);
    assert_eq!(core.tick(at(0) + Duration::from_millis(900)), [[0; 42]; 0]);
    hear(&mut core, 2, at(0));
    assert_eq!((asked(&mut core, 1), core.reachable()), (vec![1], 1));
    hear(&mut core, 1, at(1));
    assert_eq!((asked(&mut core, 59), core.reachable()), (vec![], 2));
    assert_eq!(asked(&mut core, 60), [2]);
    assert_eq!(asked(&mut core, 61), [1, 2]);
    hear(&mut core, 1, at(61));
    assert_eq!(asked(&mut core, 64), [2]);
    assert_eq!((asked(&mut core, 65), core.reachable()), (vec![2], 1), "the silent one is out");
    hear(&mut core, 2, at(66));
    assert_eq!((asked(&mut core, 67), core.reachable()), (vec![], 2));
}

#[test]
fn a_request_is_a_probe_that_nobody_remembers() {
    let request = core(&[7]).tick(at(0))[0];
    let (header, payload) = ethernet::Header::parse(&request).expect("a frame");
    assert_eq!((header.destination, header.source), (Mac::BROADCAST, OWN));
    let packet = arp::Packet::parse(payload).expect("ARP");
    assert_eq!((packet.operation, packet.sender_ip), (Operation::Request, Ipv4Addr::UNSPECIFIED));
    assert_eq!((packet.sender_mac, packet.target_ip), (OWN, server(7)));
}

#[test]
fn a_client_always_comes_to_the_same_server_and_all_servers_get_some() {
    let mut core = ready(&[1, 2, 3]);
    let mut counts = [0; 4];
    for last in 0..=255 {
        let client = Ipv4Addr::new(198, 51, 100, last);
        let first = goes_to(&mut core, syn_from(client)).expect("a server");
        assert_eq!(goes_to(&mut core, syn_from(client)), Some(first));
        counts[usize::from(first)] += 1;
    }
    assert_eq!(counts.iter().sum::<i32>(), 256);
    assert!(counts[1..].iter().all(|count| [85, 86].contains(count)), "{counts:?}");
    let bytes: Vec<u64> = core.take_bytes().collect();
    assert_eq!(bytes.iter().sum::<u64>(), 512 * 46);
    assert_eq!(core.take_bytes().sum::<u64>(), 0, "counted once");
}

#[test]
fn a_server_that_is_not_available_or_not_known_gets_nobody() {
    let mut core = ready(&[1, 2]);
    core.set_servers(&[Target { available: false, ..targets(&[1])[0] }, targets(&[2])[0]]);
    let everybody = |core: &mut Core| {
        let went = (0..=255).map(|n| goes_to(core, syn_from(Ipv4Addr::new(198, 51, 100, n))));
        went.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(everybody(&mut core), [Some(2)].into());
    core.set_servers(&targets(&[1, 2, 3]));
    assert_eq!(everybody(&mut core), [Some(1), Some(2)].into(), "the third has not answered yet");
    hear(&mut core, 3, at(1));
    assert_eq!(everybody(&mut core), [Some(1), Some(2), Some(3)].into());
    core.set_servers(&[]);
    assert_eq!(everybody(&mut core), [None].into());
}

#[test]
fn the_port_counts_for_the_choice_if_it_is_asked_for() {
    for with_port in [false, true] {
        let mut core = Core::new(Served { with_port, ..served() }, OWN);
        core.set_servers(&targets(&[1, 2, 3, 4]));
        (1..=4).for_each(|n| hear(&mut core, n, at(0)));
        let from_port = |port| ip_frame((CLIENT, port), (SERVICE, 80), transit::TCP, 0);
        let went: std::collections::BTreeSet<_> =
            (4000..4200).map(|port| goes_to(&mut core, from_port(port)).expect("a server")).collect();
        assert_eq!(went.len(), if with_port { 4 } else { 1 });
    }
}

#[test]
fn all_fragments_come_to_the_same_server() {
    let mut core = Core::new(Served { with_port: true, transport: Transport::Udp, ..served() }, OWN);
    core.set_servers(&targets(&[1, 2, 3, 4]));
    (1..=4).for_each(|n| hear(&mut core, n, at(0)));
    for port in 4000..4050 {
        let first = ip_frame((CLIENT, port), (SERVICE, 80), transit::UDP, 0x2000);
        let last = ip_frame((CLIENT, 0), (SERVICE, 0), transit::UDP, 0x0005);
        let server = goes_to(&mut core, first);
        assert!(server.is_some() && goes_to(&mut core, last) == server);
    }
}

#[test]
fn what_is_not_for_the_service_is_dropped() {
    let mut core = ready(&[1]);
    let mut to_another = syn_from(CLIENT);
    ethernet::Header { destination: mac(9), source: ROUTER, ethertype: ethernet::IPV4 }
        .write(&mut to_another)
        .expect("long enough");
    let mut of_the_server = syn_from(CLIENT);
    ethernet::Header { destination: OWN, source: mac(1), ethertype: ethernet::IPV4 }
        .write(&mut of_the_server)
        .expect("long enough");
    for (what, frame) in [
        ("another port", ip_frame((CLIENT, 4000), (SERVICE, 81), transit::TCP, 0)),
        ("another protocol", ip_frame((CLIENT, 4000), (SERVICE, 80), transit::UDP, 0)),
        ("another address", ip_frame((CLIENT, 4000), (server(81), 80), transit::TCP, 0)),
        ("another station", to_another),
        ("the server itself", of_the_server),
        ("a short frame", vec![0; 13]),
    ] {
        assert_eq!(goes_to(&mut core, frame), None, "{what}");
    }
}

fn tarpit(address: Ipv4Addr) -> bool {
    address.octets()[3] >= 200
}

#[test]
fn the_tarpit_says_yes_to_a_first_segment_and_nothing_more() {
    let mut core = ready(&[1]);
    let pit = server(200);
    let mut asks = arp_frame(Operation::Request, (ROUTER, CLIENT), pit);
    assert_eq!(core.frame(&mut asks, Some(&tarpit), at(0)), Verdict::Answer(42));
    let mut syn = ip_frame((CLIENT, 4000), (pit, 25), transit::TCP, 0);
    assert_eq!(core.frame(&mut syn, Some(&tarpit), at(0)), Verdict::Answer(54));
    let (header, payload) = ethernet::Header::parse(&syn).expect("a frame");
    assert_eq!((header.destination, header.source), (ROUTER, OWN));
    let packet = cygnet_netlink::wire::ip::parse(payload).expect("a right IP header");
    assert_eq!((packet.source, packet.destination), (pit.into(), CLIENT.into()));
    let sum = cygnet_netlink::wire::checksum::Sum::default();
    let sum = sum.pseudo_header(packet.source, packet.destination, 6, packet.payload.len());
    assert!(sum.bytes(packet.payload).verifies());
    let expected = tcp::Header {
        source: 25,
        destination: 4000,
        sequence: 42,
        acknowledgment: 0,
        flags: SYN | ACK,
        window: 1000,
    };
    assert_eq!(tcp::Header::parse(packet.payload), Ok(expected), "0xffffffff + 1 = 0");
    for flags in [ACK, SYN | ACK, RST, FIN | SYN, 0] {
        let mut other = ip_frame((CLIENT, 4000), (pit, 25), transit::TCP, 0);
        other[14 + 20 + 13] = flags;
        assert_eq!(core.frame(&mut other, Some(&tarpit), at(0)), Verdict::Drop, "{flags:#x}");
    }
    let mut datagram = ip_frame((CLIENT, 4000), (pit, 25), transit::UDP, 0);
    assert_eq!(core.frame(&mut datagram, Some(&tarpit), at(0)), Verdict::Drop);
    let mut off = ip_frame((CLIENT, 4000), (pit, 25), transit::TCP, 0);
    assert_eq!(core.frame(&mut off, None, at(0)), Verdict::Drop, "no tarpit");
}

#[test]
fn the_tarpit_takes_no_servers_address() {
    let mut core = ready(&[201]);
    let mut asks = arp_frame(Operation::Request, (ROUTER, CLIENT), server(201));
    assert_eq!(core.frame(&mut asks, Some(&tarpit), at(0)), Verdict::Drop);
}

proptest! {
    /// Random bytes with the beginnings that lead furthest.
    #[test]
    fn any_frame_ends_and_an_answer_is_no_longer_than_the_question(
        kind in 0..4, mut frame in prop::collection::vec(any::<u8>(), 0..120), port: u16,
    ) {
        let mut core = ready(&[1, 2]);
        let start: Vec<u8> = match kind {
            0 => arp_frame(Operation::Request, (ROUTER, CLIENT), SERVICE)[..22].to_vec(),
            1 => ip_frame((CLIENT, port), (SERVICE, 80), transit::TCP, 0)[..34].to_vec(),
            2 => ip_frame((CLIENT, port), (server(200), 80), transit::TCP, 0)[..40].to_vec(),
            _ => Vec::new(),
        };
        let length = start.len().min(frame.len());
        frame[..length].copy_from_slice(&start[..length]);
        let before = frame.len();
        if let Verdict::Answer(length) = core.frame(&mut frame, Some(&tarpit), at(1)) {
            prop_assert!(length <= before);
        }
    }
}

#[test]
fn a_node_that_begins_to_serve_says_so_at_once_and_once_more() {
    let mut core = ready(&[11]);
    let expected = arp::gratuitous_request(OWN, SERVICE);
    assert_eq!(core.announcement(at(5)), Some(expected));
    assert_eq!(core.announcement(at(5)), None);
    assert_eq!(core.announcement(at(6)), Some(expected));
    assert_eq!(core.announcement(at(60)), None);
}
