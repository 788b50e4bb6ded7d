//! Many clients.

use super::*;

/// Lets every server answer what it has with the same bytes.
fn echo(servers: &[UdpSocket]) {
    let mut buffer = [0; 2048];
    for server in servers {
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            server.send_to(&buffer[..length], from).expect("sent");
        }
    }
}

#[test]
fn each_of_many_clients_gets_its_own_answers_and_no_others() {
    const CLIENTS: usize = 200;
    let servers = [peer(), peer(), peer()];
    let mut stand = Stand::new(&servers.each_ref().map(address), CLIENTS);
    let clients: Vec<_> = (0..CLIENTS).map(|_| peer()).collect();
    for round in 0..5_usize {
        let word = |n: usize| format!("{n} in {round}{}", " ".repeat(n)).into_bytes();
        let (mut waiting, start) = (CLIENTS, Instant::now());
        for (n, client) in clients.iter().enumerate() {
            client.send_to(&word(n), stand.listen).expect("sent");
        }
        let mut answered = [false; CLIENTS];
        while waiting > 0 {
            assert!(start.elapsed() < DEADLINE, "{waiting} still wait in round {round}");
            stand.turn();
            echo(&servers);
            for (n, client) in clients.iter().enumerate() {
                let mut buffer = [0; 2048];
                if let Ok((length, from)) = client.recv_from(&mut buffer) {
                    assert_eq!((&buffer[..length], from), (&word(n)[..], stand.listen));
                    assert!(!std::mem::replace(&mut answered[n], true), "once");
                    waiting -= 1;
                }
            }
        }
    }
    assert_eq!((stand.udp.len(), stand.figure(|shard| shard.accepted.get())), (CLIENTS, CLIENTS as u64));
    for server in 0..servers.len() {
        let state = &stand.service().servers[server].state;
        assert!((CLIENTS / 3..=CLIENTS / 3 + 1).contains(&(state.connections() as usize)), "in turn");
    }
}

#[test]
fn new_clients_take_the_place_of_those_that_were_silent_for_the_longest_time() {
    const MAX: usize = 8;
    let server = peer();
    let mut stand = Stand::new(&[address(&server)], MAX);
    let faithful = peer();
    let flow = stand.say(&faithful, b"0", &server);
    for n in 0..50_u8 {
        stand.pass(table::GRAIN);
        stand.say(&peer(), &[n], &server);
        assert_eq!(stand.say(&faithful, b"still here", &server), flow, "after {n} others");
        assert!(stand.udp.len() <= MAX);
        let connections = stand.service().servers[0].state.connections() as usize;
        assert_eq!(connections, stand.udp.len());
    }
    assert!(stand.udp.sockets.open() <= MAX + RESTING, "{}", stand.udp.sockets.open());
}

#[test]
fn many_answers_to_one_client_all_come_in_order() {
    const ANSWERS: u32 = 150;
    let (server, client) = (peer(), peer());
    let mut stand = Stand::new(&[address(&server)], 4);
    let flow = stand.say(&client, b"?", &server);
    for n in 0..ANSWERS {
        server.send_to(&n.to_be_bytes(), flow).expect("sent");
    }
    for n in 0..ANSWERS {
        assert_eq!(stand.receive(&client).0, n.to_be_bytes());
    }
}

#[test]
fn descriptors_are_shared_with_the_connections() {
    assert_eq!(Limits::of_one(2, None, 1 << 20), Limits { flows: 8192, resting: 4096 });
    assert_eq!(Limits::of_one(1, Some(500), 1024), Limits { flows: 256, resting: 256 });
    assert_eq!(Limits::of_one(64, Some(1), 4), Limits { flows: 1, resting: 1 });
}

#[test]
fn trains_both_ways_arrive_as_the_datagrams_that_they_are() {
    use cygnet_netlink::udp::{Origin, Train, Upstream};
    const DATAGRAM: u16 = 700;
    // The server is a socket that can send trains; the client is one that can.
    let server = cygnet_netlink::udp::listen("127.0.0.1:0".parse().unwrap(), true).expect("a server");
    let mut stand = Stand::new(&[server.local_addr().expect("bound")], 16);
    let client = Upstream::connect(stand.listen, Origin::Kernel { v6: false }).expect("a client");
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
    let mut buffer = vec![0; 1 << 16];
    for round in 0..6_u8 {
        let bytes: Vec<u8> = (0..10_000_u32).map(|at| (at / 3) as u8 ^ round).collect();
        let train = Train::new(&bytes, std::num::NonZeroU16::new(DATAGRAM));
        client.send(train).expect("sent");
        let (mut asked, mut answered, start) = (Vec::new(), Vec::new(), Instant::now());
        // The server answers each train with two, so that its socket is seen to be one that sends many.
        while answered.len() < 2 * train.count() {
            assert!(start.elapsed() < DEADLINE, "{} asked, {} answered", asked.len(), answered.len());
            stand.turn();
            for n in 0..inbox.receive(&server).expect("no error") {
                let datagram = inbox.datagram(n).expect("one each");
                asked.extend(datagram.train.datagrams().map(<[u8]>::to_vec));
                for _ in 0..2 {
                    let length = datagram.train.bytes.len();
                    outbox.room().expect("room")[..length].copy_from_slice(datagram.train.bytes);
                    outbox.push(length, datagram.train.segment, datagram.from, None);
                }
                outbox.flush(&server);
            }
            while let Ok(length) = client.receive(&mut buffer) {
                answered.push(buffer[..length].to_vec());
            }
        }
        let sent: Vec<_> = train.datagrams().map(<[u8]>::to_vec).collect();
        assert_eq!(asked, sent, "round {round}");
        assert_eq!(answered, [sent.clone(), sent].concat(), "round {round}");
    }
    assert_eq!(stand.of_server(0, |shard| shard.to_client.get()), 120_000);
}
