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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = answers(&bytes, &mut |_| {});
    }
}
