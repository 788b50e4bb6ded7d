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
            assert_eq!(datagram.bytes, vec![n as u8; 3000 / (round + 1) + n]);
            outbox.room().expect("room")[..2].copy_from_slice(&[n as u8, 7]);
            outbox.push(2, datagram.from, None);
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
    assert_eq!(inbox.datagram(0).expect("it").bytes, vec![7; LONGEST]);
    outbox.room().expect("room")[..LONGEST].fill(9);
    outbox.push(LONGEST, client.local_addr().unwrap(), None);
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
        outbox.push(1, to, None);
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
            outbox.push(3, question.from, question.to);
            assert_eq!(outbox.flush(&listener).sent, 1);
            let (length, from) = client.recv_from(&mut [0; 9]).expect("an answer");
            assert_eq!((length, from), (3, ask.parse().unwrap()));
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
        upstream.send(b"x").expect("sent");
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
    upstream.send(b"x").expect("sent");
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
    upstream.send(b"x").expect("sent");
    assert_eq!(upstream.receive(&mut buffer).expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_flow_can_start_from_the_clients_address() {
    in_namespace(|| {
        let (server, target) = server();
        let foreign = Origin::Foreign("198.51.100.7".parse().unwrap());
        let upstream = Upstream::connect(target, foreign).expect("privileged in a namespace of our own");
        upstream.send(b"x").expect("sent");
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
