use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;
use crate::testns::{DEADLINE, in_namespace, ip};

fn client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    client
}

/// Waits for what must come.
fn received(inbox: &mut Inbox, listener: &Listener) -> usize {
    let start = Instant::now();
    loop {
        match inbox.receive(listener).expect("no error") {
            0 => assert!(start.elapsed() < DEADLINE, "nothing came"),
            count => return count,
        }
    }
}

#[test]
fn a_batch_comes_whole_and_each_answer_goes_to_its_client() {
    let listener = listen("127.0.0.1:0".parse().unwrap(), true).expect("listening");
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
    assert_eq!(inbox.receive(&listener).expect("no error"), 0, "that nothing waits is no error");
    for round in 0..3_usize {
        let clients: Vec<_> = (0..BATCH).map(|_| client()).collect();
        for (n, client) in clients.iter().enumerate() {
            // The last rounds are shorter: what was there before does not show through.
            let bytes = vec![n as u8; 3000 / (round + 1) + n];
            client.send_to(&bytes, listener.local_addr().unwrap()).expect("sent");
        }
        assert_eq!(received(&mut inbox, &listener), BATCH, "on loopback all are there at once");
        for (n, client) in clients.iter().enumerate() {
            let datagram = inbox.datagram(n).expect("one each");
            assert_eq!(datagram.from, client.local_addr().unwrap());
            assert_eq!(datagram.to, None);
            assert_eq!(datagram.train.bytes, vec![n as u8; 3000 / (round + 1) + n]);
            outbox.room().expect("room")[..2].copy_from_slice(&[n as u8, 7]);
            outbox.push(2, None, datagram.from, None);
        }
        assert!(inbox.datagram(BATCH).is_none() && outbox.room().is_none());
        assert_eq!(outbox.flush(&listener), Flushed { sent: BATCH, dropped: 0 });
        for (n, client) in clients.iter().enumerate() {
            let mut answer = [0; 10];
            assert_eq!(client.recv(&mut answer).expect("an answer"), 2);
            assert_eq!(answer[..2], [n as u8, 7]);
        }
    }
}

#[test]
fn the_longest_datagram_passes() {
    const LONGEST: usize = 65_507;
    let listener = listen("127.0.0.1:0".parse().unwrap(), true).expect("listening");
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
    let client = client();
    client.send_to(&vec![7; LONGEST], listener.local_addr().unwrap()).expect("sent");
    assert_eq!(received(&mut inbox, &listener), 1);
    assert_eq!(inbox.datagram(0).expect("it").train.bytes, vec![7; LONGEST]);
    outbox.room().expect("room")[..LONGEST].fill(9);
    outbox.push(LONGEST, None, client.local_addr().unwrap(), None);
    assert_eq!(outbox.flush(&listener).sent, 1);
    let mut answer = vec![0; DATAGRAM_MAX];
    assert_eq!(client.recv(&mut answer).expect("an answer"), LONGEST);
    assert!(answer[..LONGEST].iter().all(|byte| *byte == 9));
}

#[test]
fn an_answer_that_cannot_be_sent_does_not_hold_up_the_others() {
    let listener = listen("127.0.0.1:0".parse().unwrap(), true).expect("listening");
    let (client, mut outbox) = (client(), Outbox::new());
    for to in ["127.0.0.1:0".parse().unwrap(), client.local_addr().unwrap(), "[::1]:9".parse().unwrap()] {
        outbox.push(1, None, to, None);
    }
    assert_eq!(outbox.flush(&listener), Flushed { sent: 1, dropped: 2 });
    assert_eq!(client.recv(&mut [0; 4]).expect("an answer"), 1);
    assert!(outbox.is_empty());
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    in_namespace(|| {
        ip("address add 192.0.2.1/24 dev lo");
        ip("address add 192.0.2.2/24 dev lo");
        ip("address add 2001:db8::1/64 dev lo nodad");
        ip("address add 2001:db8::2/64 dev lo nodad");
        let v4 = ["0.0.0.0:5300", "192.0.2.1:4000", "192.0.2.2:5300"];
        let v6 = ["[::]:5300", "[2001:db8::1]:4000", "[2001:db8::2]:5300"];
        let mapped = ["[::]:5301", "192.0.2.1:4000", "192.0.2.2:5301"];
        for ([listen_at, client_at, ask], only_v6) in [(v4, true), (v6, true), (mapped, false)] {
            let listener = listen(listen_at.parse().unwrap(), only_v6).expect("listening");
            assert!(listener.is_wildcard());
            let client = UdpSocket::bind(client_at).expect("a client");
            client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
            let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
            // Addresses that are seconds old: the kernel may lose a datagram without a word.
            let start = Instant::now();
            while inbox.receive(&listener).expect("no error") == 0 {
                assert!(start.elapsed() < DEADLINE, "nothing came from {ask}");
                client.send_to(b"?", ask).expect("sent");
                std::thread::sleep(Duration::from_millis(1));
            }
            let question = inbox.datagram(0).expect("a question");
            let to = question.to.expect("a wildcard listener is told");
            assert_eq!(to.ip().to_canonical(), ask.parse::<SocketAddr>().unwrap().ip());
            outbox.push(3, None, question.from, question.to);
            assert_eq!(outbox.flush(&listener).sent, 1);
            let (length, from) = client.recv_from(&mut [0; 9]).expect("an answer");
            assert_eq!((length, from), (3, ask.parse().unwrap()));
        }
    });
}

fn one(bytes: &[u8]) -> Train<'_> {
    Train::new(bytes, None)
}

/// So many datagrams of so many bytes, and one that is shorter by three; all bytes tell where they stand.
fn train(count: usize, length: u16) -> (Vec<u8>, Option<NonZeroU16>) {
    let bytes = (0..count * usize::from(length) + usize::from(length) - 3).map(|at| (at / 7) as u8).collect();
    (bytes, NonZeroU16::new(length))
}

#[test]
fn a_train_from_a_client_comes_whole_and_is_never_joined_with_anothers() {
    let listener = listen("127.0.0.1:0".parse().unwrap(), true).expect("listening");
    let at = listener.local_addr().unwrap();
    let clients: Vec<_> =
        (0..3).map(|_| Upstream::connect(at, Origin::Kernel { v6: false }).expect("a client")).collect();
    let (bytes, segment) = train(9, 1200);
    for client in &clients {
        client.send(Train::new(&bytes, segment)).expect("sent");
        client.send(one(b"alone")).expect("sent");
    }
    let (mut inbox, mut seen) = (Inbox::new(), Vec::new());
    while seen.iter().map(|(_, bytes): &(_, Vec<u8>)| bytes.len()).sum::<usize>() < 3 * (bytes.len() + 5) {
        for n in 0..received(&mut inbox, &listener) {
            let datagram = inbox.datagram(n).expect("one each");
            seen.extend(datagram.train.datagrams().map(|bytes| (datagram.from, bytes.to_vec())));
        }
    }
    let sent: Vec<_> = Train::new(&bytes, segment).datagrams().chain([&b"alone"[..]]).collect();
    for client in &clients {
        let from = client.local_addr().unwrap();
        let of_client: Vec<_> =
            seen.iter().filter(|(of, _)| *of == from).map(|(_, bytes)| &bytes[..]).collect();
        assert_eq!(of_client, sent);
    }
}

/// A train that a listener sends to an upstream socket and to a plain one, from an address of its own.
fn trains_arrive(at: &str, segment: u16, count: usize) {
    let listener = listen(at.parse().unwrap(), true).expect("listening");
    let port = listener.local_addr().unwrap().port();
    let from = SocketAddr::from(([127, 0, 0, 1], port));
    let upstream = Upstream::connect(from, Origin::Kernel { v6: false }).expect("a socket");
    upstream.coalesce();
    let plain = client();
    let (bytes, segment) = train(count, segment);
    let mut outbox = Outbox::new();
    // Twice: what a train leaves behind in the outbox does not show in the next one.
    for _ in 0..2 {
        for to in [upstream.local_addr().unwrap(), plain.local_addr().unwrap()] {
            outbox.room().expect("room")[..bytes.len()].copy_from_slice(&bytes);
            outbox.push(bytes.len(), segment, to, Some(from));
            outbox.room().expect("room")[..3].copy_from_slice(b"end");
            outbox.push(3, None, to, Some(from));
        }
        assert_eq!(outbox.flush(&listener).dropped, 0);
        let (mut seen, mut buffer) = (Vec::new(), vec![0; DATAGRAM_MAX]);
        while seen.last().is_none_or(|last: &Vec<u8>| last != b"end") {
            let (length, segment) = upstream.receive_train(&mut buffer).expect("all is there");
            seen.extend(Train::new(&buffer[..length], segment).datagrams().map(<[u8]>::to_vec));
        }
        let sent: Vec<_> = Train::new(&bytes, segment).datagrams().chain([&b"end"[..]]).collect();
        assert_eq!(seen, sent);
        for datagram in sent {
            let length = plain.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], datagram);
        }
    }
}

#[test]
fn a_train_to_a_client_is_cut_into_its_datagrams() {
    trains_arrive("127.0.0.1:0", 1200, 20);
    trains_arrive("0.0.0.0:0", 100, 50);
}

#[test]
fn a_train_that_the_kernel_does_not_cut_goes_datagram_by_datagram() {
    in_namespace(|| {
        // Each datagram is longer than a packet may be, and passes in fragments.
        ip("link set lo mtu 1500");
        trains_arrive("127.0.0.1:5300", 4000, 5);
        trains_arrive("0.0.0.0:5301", 4000, 5);
        let (server, target) = server();
        let upstream = Upstream::connect(target, Origin::Kernel { v6: false }).expect("a socket");
        let (bytes, segment) = train(5, 4000);
        upstream.send(Train::new(&bytes, segment)).expect("sent");
        let mut buffer = vec![0; DATAGRAM_MAX];
        for datagram in Train::new(&bytes, segment).datagrams() {
            let length = server.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], datagram);
        }
    });
}

/// A socket that plays the server.
fn server() -> (UdpSocket, SocketAddr) {
    let server = client();
    let address = server.local_addr().expect("bound");
    (server, address)
}

#[test]
fn sockets_have_their_source_and_a_port_each() {
    let (server, target) = server();
    let own = Origin::Own("127.0.0.9".parse().unwrap());
    let upstreams: Vec<_> = (0..8).map(|_| Upstream::connect(target, own).expect("a socket")).collect();
    let mut ports = std::collections::BTreeSet::new();
    for upstream in &upstreams {
        upstream.send(one(b"x")).expect("sent");
        let (_, from) = server.recv_from(&mut [0; 4]).expect("it came");
        assert_eq!(from, upstream.local_addr().expect("bound"));
        assert_eq!(from.ip().to_string(), "127.0.0.9");
        assert!(ports.insert(from.port()), "{from} twice");
    }
}

#[test]
fn what_waits_in_the_queue_is_discarded_and_counted() {
    let (server, target) = server();
    let upstream = Upstream::connect(target, Origin::Kernel { v6: false }).expect("a socket");
    let port = upstream.local_addr().expect("bound");
    assert_eq!(upstream.discard(3), 0);
    for length in [0, 100, 1, 60_000, 7] {
        server.send_to(&vec![1; length], port).expect("sent");
    }
    assert_eq!(upstream.discard(3), 3, "two more are there");
    assert_eq!(upstream.discard(3), 2);
    server.send_to(b"new", port).expect("sent");
    let mut buffer = [0; 200];
    assert_eq!(upstream.receive(&mut buffer).expect("one datagram"), 3);
    drop(server);
    upstream.send(one(b"x")).expect("sent");
    assert_eq!(upstream.discard(3), 1, "the server is gone: an error");
    assert_eq!(upstream.discard(3), 0);
}

#[test]
fn a_connected_socket_hears_its_server_alone_and_learns_that_it_is_gone() {
    let (server, target) = server();
    let upstream = Upstream::connect(target, Origin::Kernel { v6: false }).expect("a socket");
    let own = upstream.local_addr().expect("bound");
    client().send_to(b"forged", own).expect("sent");
    let mut buffer = [0; 9];
    assert_eq!(upstream.receive(&mut buffer).expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
    drop(server);
    upstream.send(one(b"x")).expect("sent");
    assert_eq!(upstream.receive(&mut buffer).expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_flow_can_start_from_the_clients_address() {
    in_namespace(|| {
        let (server, target) = server();
        let foreign = Origin::Foreign("198.51.100.7".parse().unwrap());
        let upstream = Upstream::connect(target, foreign).expect("privileged in a namespace of our own");
        upstream.send(one(b"x")).expect("sent");
        let (_, from) = server.recv_from(&mut [0; 4]).expect("it came");
        assert_eq!(from.ip().to_string(), "198.51.100.7");
    });
}

#[test]
fn the_kernel_chooses_no_source_in_the_name_of_an_own_one() {
    let target = "127.0.0.1:9".parse().unwrap();
    for wrong in ["0.0.0.0", "::1"] {
        let refused = Upstream::connect(target, Origin::Own(wrong.parse().unwrap())).expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{wrong}");
    }
}
