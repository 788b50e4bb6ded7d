use std::net::{TcpListener, TcpStream};

use proptest::prelude::*;

use super::*;
use crate::testns::{in_namespace, ip};

#[test]
fn the_list_has_every_connection_of_the_address_and_no_other() {
    in_namespace(|| {
        ip("address add 192.0.2.100/32 dev lo");
        ip("address add 192.0.2.1/32 dev lo");
        ip("address add 2001:db8::100/128 dev lo nodad");
        let v4 = TcpListener::bind("192.0.2.100:80").expect("a listener");
        let v6 = TcpListener::bind("[2001:db8::100]:80").expect("a listener");
        let both = TcpListener::bind("[::]:81").expect("a listener");
        // None is accepted: who waits in the queue is connected already.
        let clients: Vec<TcpStream> =
            ["192.0.2.100:80", "192.0.2.100:80", "192.0.2.100:81", "192.0.2.1:81", "[2001:db8::100]:80"]
                .iter()
                .map(|to| TcpStream::connect(to).expect("connected"))
                .collect();
        let flow = |at: usize| Flow {
            client: clients[at].local_addr().expect("bound"),
            service: clients[at].peer_addr().expect("connected"),
        };
        let mut expected = vec![flow(0), flow(1), flow(2)];
        // A client of this host connects from the address itself: its own end is one of the address too.
        expected.extend(
            expected
                .clone()
                .into_iter()
                .filter(|flow| flow.client.ip() == flow.service.ip())
                .map(|flow| Flow { client: flow.service, service: flow.client }),
        );
        expected.sort();
        let address = "192.0.2.100".parse().expect("an address");
        assert_eq!(of(&[address], 100).expect("listed"), (expected.clone(), 0));
        let (some, beyond) = of(&[address], 2).expect("listed");
        assert!(some.len() == 2 && some.iter().all(|flow| expected.contains(flow)), "{some:?}");
        assert_eq!(beyond, expected.len() - 2);
        let six = "2001:db8::100".parse().expect("an address");
        assert!(of(&[six], 100).expect("listed").0.contains(&flow(4)));
        assert_eq!(of(&["192.0.2.7".parse().expect("an address")], 100).expect("listed"), (vec![], 0));
        drop((v4, v6, both));
    });
}

#[test]
fn sixteen_thousand_connections_are_listed_in_a_moment() {
    const COUNT: usize = 8000;
    in_namespace(|| {
        ip("address add 192.0.2.100/32 dev lo");
        crate::limits::raise_open_files().expect("raised");
        let listener = TcpListener::bind("192.0.2.100:80").expect("a listener");
        let mut held = Vec::new();
        for _ in 0..COUNT {
            held.push(TcpStream::connect("192.0.2.100:80").expect("connected"));
            held.push(listener.accept().expect("accepted").0);
        }
        let started = std::time::Instant::now();
        let (flows, beyond) = of(&["192.0.2.100".parse().expect("an address")], 3 * COUNT).expect("listed");
        let took = started.elapsed();
        // Both ends are on this host.
        assert_eq!((flows.len(), beyond), (2 * COUNT, 0));
        println!("{} connections listed in {took:?}", flows.len());
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn a_connection_tells_its_idle_time_and_is_reset_when_it_is_closed_and_no_other() {
    use std::io::{Read, Write};
    in_namespace(|| {
        ip("address add 192.0.2.100/32 dev lo");
        ip("address add 2001:db8::100/128 dev lo nodad");
        let both = TcpListener::bind("[::]:81").expect("a listener");
        for to in ["192.0.2.100:81", "[2001:db8::100]:81"] {
            let connect = || {
                let client = TcpStream::connect(to).expect("connected");
                (client, both.accept().expect("accepted").0)
            };
            let ((mut one, mut server), (mut other, mut others)) = (connect(), connect());
            let flow = Flow {
                client: one.local_addr().expect("bound"),
                service: one.peer_addr().expect("connected"),
            };
            let address = [flow.service.ip()];
            one.write_all(b"x").expect("written");
            server.read_exact(&mut [0]).expect("read");
            std::thread::sleep(std::time::Duration::from_millis(50));
            let told = idle(&address, &[flow]).expect("listed");
            assert!(told.len() == 1 && told[0].flow == flow, "{told:?}");
            assert!(told[0].idle_ms.is_some_and(|ms| (40..60_000).contains(&ms)), "{told:?}");
            assert_eq!(close(&[flow]).expect("closed"), 1);
            assert_eq!(close(&[flow]).expect("gone already"), 0);
            let reset = one.read(&mut [0]).expect_err("a reset");
            assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
            TcpStream::connect(to).expect("the listener lives");
            both.accept().expect("accepted");
            other.write_all(b"x").expect("written");
            others.read_exact(&mut [0]).expect("the other one lives");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = understood(&bytes);
    }

    #[test]
    fn a_connection_with_any_attributes_is_read_or_passed_over(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = u32::try_from(16 + body.len()).expect("short").to_ne_bytes().to_vec();
        bytes.extend(BY_FAMILY.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(&body);
        prop_assert!(understood(&bytes).len() <= 1);
    }
}
