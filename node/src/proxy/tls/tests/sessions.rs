//! Handshakes, data, and ends.

use proptest::prelude::*;

use crate::config::model::{TlsListen, TlsVersion};

use super::super::client_hello::HELLO_MAX;
use super::super::{Handshake, INPUT_LEN, LEFT_MAX, ReadOutcome, Scratch, Session, TlsError};
use super::pki::Pki;
use super::{End, agreed, client, ends, server, shake};

fn at_most(version: TlsVersion, listen: TlsListen) -> TlsListen {
    TlsListen { newest: Some(version), ..listen }
}

#[test]
fn a_client_and_a_server_agree_and_pass_bytes_both_ways() {
    let pki = Pki::new();
    for (version, protocol) in [(TlsVersion::Tls12, "TLSv1.2"), (TlsVersion::Tls13, "TLSv1.3")] {
        let context = server(&at_most(version, pki.listen("www.example.org")));
        let (mut client, mut server) = agreed(&client(pki.path("root.pem")), &context, "www.example.org");
        let (theirs, ours) = (client.session.info(), server.session.info());
        assert_eq!((theirs.protocol, ours.protocol), (protocol, protocol));
        assert_eq!(ours.cipher, theirs.cipher);
        assert!(ours.cipher.contains("AES128") || ours.cipher.contains("AES_128"), "{}", ours.cipher);
        assert_eq!(ours.server_name.as_deref(), Some("www.example.org"));
        assert_eq!(theirs.peer.as_deref(), Some("CN=www.example.org"));
        assert!(!ours.resumed && ours.peer.is_none() && ours.alpn.is_none());
        let question = client.write(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(server.plain(&question), b"GET / HTTP/1.1\r\n\r\n");
        let answer = server.write(b"HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.plain(&answer), b"HTTP/1.1 204 No Content\r\n\r\n");
    }
}

#[test]
fn tickets_of_tls_1_3_wait_for_the_first_data_and_leave_in_front_of_it() {
    let pki = Pki::new();
    let (mut client, mut server) =
        ends(&client(pki.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    client.handshake(&[]).unwrap();
    server.handshake(&client.scratch.output.split_off(0)).unwrap();
    let flight = server.sent();
    assert_eq!(client.handshake(&flight), Ok(Handshake::Done));
    let finished = client.sent();
    assert_eq!(server.handshake(&finished), Ok(Handshake::Done));
    assert!(server.sent().is_empty(), "nothing to send for a handshake that the client has finished");
    let first = server.write(b"x");
    assert!(first.len() > 150, "ticket and data together: {}", first.len());
    assert!(server.write(b"x").len() < 40, "later only data");
    assert_eq!(client.plain(&first), b"x");
}

#[test]
fn the_last_flight_of_tls_1_2_does_not_wait() {
    let pki = Pki::new();
    let context = server(&at_most(TlsVersion::Tls12, pki.listen("a.test")));
    let (mut client, mut server) = ends(&client(pki.path("root.pem")), &context, "a.test");
    client.handshake(&[]).unwrap();
    let hello = client.sent();
    server.handshake(&hello).unwrap();
    let flight = server.sent();
    assert_eq!(client.handshake(&flight), Ok(Handshake::NeedsInput));
    let finished = client.sent();
    assert_eq!(server.handshake(&finished), Ok(Handshake::Done));
    let last = server.sent();
    assert_eq!(client.handshake(&last), Ok(Handshake::Done));
}

#[test]
fn a_close_comes_behind_tickets_that_waited() {
    let pki = Pki::new();
    let (mut client, mut server) =
        agreed(&client(pki.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    server.session.close(&mut server.scratch);
    let end = server.sent();
    assert_eq!(client.read(&end, 100), (Vec::new(), Ok(ReadOutcome::Closed)));
    // The other direction stays open: half-closed as TCP can be.
    let more = client.write(b"still here");
    assert_eq!(server.plain(&more), b"still here");
}

#[test]
fn data_before_a_close_comes_first_and_the_close_is_said_again_and_again() {
    let pki = Pki::new();
    let (mut client, mut server) =
        agreed(&client(pki.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    client.session.write(&mut client.scratch, b"the last words").unwrap();
    client.session.close(&mut client.scratch);
    let end = client.sent();
    assert_eq!(server.read(&end, 5), (b"the last words".to_vec(), Ok(ReadOutcome::Closed)));
    assert_eq!(server.read(&[], 5), (Vec::new(), Ok(ReadOutcome::Closed)));
}

#[test]
fn many_records_make_one_output() {
    let pki = Pki::new();
    let (mut client, mut server) =
        agreed(&client(pki.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    let plain: Vec<u8> = (0..INPUT_LEN).map(|at| (at % 251) as u8).collect();
    let wire = server.write(&plain);
    assert!(wire.len() < plain.len() + 16 * 96 + 512, "records of 16 KiB: {}", wire.len());
    let mut got = Vec::new();
    for piece in wire.chunks(INPUT_LEN) {
        got.extend(client.plain(piece));
    }
    assert_eq!(got, plain);
}

#[test]
fn what_a_short_read_leaves_stays_in_its_session_and_not_in_the_scratch() {
    let pki = Pki::new();
    let (mut client, mut server) =
        agreed(&client(pki.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    let wire = client.write(&[7; 100_000]);
    server.give(&wire);
    let mut plain = vec![0; 10_000];
    assert_eq!(server.session.read(&mut server.scratch, &mut plain), Ok(ReadOutcome::Bytes(10_000)));
    assert!(!server.scratch.has_input(), "another session may use the scratch now");
    assert!(server.session.has_left());
    let mut others = Scratch::new();
    let mut got = 10_000;
    while let Ok(ReadOutcome::Bytes(length)) = server.session.read(&mut others, &mut plain) {
        assert!(plain[..length].iter().all(|octet| *octet == 7));
        got += length;
    }
    assert_eq!(got, 100_000);
    assert!(!server.session.has_left());
}

#[test]
fn a_session_that_is_fed_and_not_read_ends_at_its_bound() {
    let pki = Pki::new();
    let (mut client, mut server) =
        agreed(&client(pki.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    let mut fed = 0;
    let outcome = loop {
        let wire = client.write(&[1; 65_536]);
        fed += wire.len();
        server.give(&wire);
        let outcome = server.session.read(&mut server.scratch, &mut [0; 1]);
        if outcome != Ok(ReadOutcome::Bytes(1)) {
            break outcome;
        }
    };
    assert_eq!(outcome, Err(TlsError::Backlog));
    assert!((LEFT_MAX..LEFT_MAX + 300_000).contains(&fed), "{fed}");
}

#[test]
fn a_changed_record_is_an_error_after_what_came_before_it() {
    let pki = Pki::new();
    let (mut client, mut server) =
        agreed(&client(pki.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    let mut wire = client.write(b"good");
    let good = wire.len();
    wire.extend(client.write(b"evil"));
    wire[good + 8] ^= 1;
    let (plain, end) = server.read(&wire, 100);
    assert_eq!(plain, b"good");
    assert!(matches!(end, Err(TlsError::Record(_))), "{end:?}");
    assert_eq!(server.read(&[], 100).1, end, "it stays ended, for the same reason");
    let alert = server.sent();
    assert!(matches!(client.read(&alert, 100).1, Err(TlsError::Alert(_))), "the peer is told");
    assert!(server.session.write(&mut server.scratch, b"x").is_err());
}

#[test]
fn data_before_the_handshake_is_refused_and_not_sent_in_clear() {
    let pki = Pki::new();
    let (mut client, mut server) =
        ends(&client(pki.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    for end in [&mut client, &mut server] {
        assert_eq!(end.session.write(&mut end.scratch, b"secret"), Err(TlsError::NotReady));
        assert_eq!(end.session.read(&mut end.scratch, &mut [0; 9]), Err(TlsError::NotReady));
        end.session.close(&mut end.scratch);
        assert!(end.sent().is_empty());
    }
}

#[test]
fn a_client_that_speaks_http_is_named_as_such() {
    let pki = Pki::new();
    let context = server(&pki.listen("a.test"));
    for words in [&b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0; 100]] {
        let mut server = End::new(Session::accept(&context).unwrap());
        let outcome = server.handshake(words);
        assert!(matches!(outcome, Err(TlsError::NotTls(_))), "{outcome:?}");
    }
}

#[test]
fn a_hello_without_an_end_is_bounded() {
    let pki = Pki::new();
    let mut server = End::new(Session::accept(&server(&pki.listen("a.test"))).unwrap());
    // Records of one octet each: the message says 16,000 octets, and comes for ever.
    let mut outcome = server.handshake(&[22, 3, 1, 0, 4, 1, 0, 0x3e, 0x80]);
    let mut fed = 9;
    while outcome == Ok(Handshake::NeedsInput) && fed < 2 * HELLO_MAX {
        outcome = server.handshake(&[22, 3, 1, 0, 1, 0]);
        fed += 6;
    }
    assert_eq!(outcome, Err(TlsError::HelloTooLong));
    assert!(fed <= HELLO_MAX + 6);
}

#[test]
fn a_client_without_anything_in_common_gets_an_alert() {
    let pki = Pki::new();
    let listen = TlsListen { oldest: TlsVersion::Tls13, ..pki.listen("a.test") };
    let context = server(&listen);
    let mut builder = openssl::ssl::SslContext::builder(openssl::ssl::SslMethod::tls_client()).unwrap();
    builder.set_max_proto_version(Some(openssl::ssl::SslVersion::TLS1_2)).unwrap();
    let (there, here) = std::os::unix::net::UnixStream::pair().unwrap();
    let peer = std::thread::spawn(move || {
        openssl::ssl::Ssl::new(&builder.build()).unwrap().connect(there).map(|_| ()).unwrap_err().to_string()
    });
    let outcome = drive_blocking(&mut End::new(Session::accept(&context).unwrap()), here);
    assert!(
        matches!(&outcome, Err(TlsError::Handshake(reason)) if reason.contains("protocol")),
        "{outcome:?}"
    );
    let said = peer.join().unwrap().to_lowercase().replace('_', " ");
    assert!(said.contains("protocol version"), "{said}");
}

/// A server's handshake over a real stream, in blocking steps.
fn drive_blocking(end: &mut End, mut stream: std::os::unix::net::UnixStream) -> Result<(), TlsError> {
    use std::io::{Read, Write};
    loop {
        let length = stream.read(end.scratch.space()).unwrap();
        end.scratch.filled(length);
        let outcome = end.session.handshake(&mut end.scratch);
        let out = end.sent();
        stream.write_all(&out).unwrap();
        match outcome {
            Ok(Handshake::NeedsInput) if length > 0 => {}
            Ok(Handshake::NeedsInput) => return Err(TlsError::NotReady),
            Ok(Handshake::Done) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Cuts `bytes` at the given distances, over and over.
fn cut<'a>(mut bytes: &'a [u8], distances: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut distances = distances.iter().copied().cycle();
    std::iter::from_fn(move || {
        let length = distances.next()?.clamp(1, bytes.len().max(1));
        let (piece, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some(piece)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn however_the_wire_is_cut_every_byte_arrives_once_and_in_order(
        tls13 in any::<bool>(),
        cuts in proptest::collection::vec(1_usize..3_000, 1..20),
        lengths in proptest::collection::vec(0_usize..60_000, 1..6),
        piece in 1_usize..40_000,
    ) {
        let pki = Pki::new();
        let newest = if tls13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
        let context = server(&at_most(newest, pki.listen("a.test")));
        let (mut client, mut server) = ends(&client(pki.path("root.pem")), &context, "a.test");
        let mut done = (client.handshake(&[]).unwrap(), Handshake::NeedsInput);
        while done != (Handshake::Done, Handshake::Done) {
            let (to_server, to_client) = (client.sent(), server.sent());
            prop_assert!(!to_server.is_empty() || !to_client.is_empty(), "both wait");
            for part in cut(&to_server, &cuts) {
                done.1 = server.handshake(part).unwrap();
            }
            for part in cut(&to_client, &cuts) {
                done.0 = client.handshake(part).unwrap();
            }
        }
        let rest = server.sent();
        prop_assert!(client.plain(&rest).is_empty());
        for (at, length) in lengths.iter().enumerate() {
            let plain: Vec<u8> = (0..*length).map(|octet| (octet * 7 + at) as u8).collect();
            let (from, to) = if at % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let wire = from.write(&plain);
            let mut got = Vec::new();
            for part in cut(&wire, &cuts) {
                let (some, end) = to.read(part, piece);
                prop_assert_eq!(end, Ok(ReadOutcome::NeedsInput));
                got.extend(some);
            }
            prop_assert_eq!(got, plain);
        }
    }

    #[test]
    fn no_bytes_from_a_client_do_more_than_end_its_session(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..400) {
        let pki = Pki::new();
        let context = server(&pki.listen("a.test"));
        // Noise alone, and noise in a hello.
        let mut server = End::new(Session::accept(&context).unwrap());
        let _ = server.handshake(&bytes);
        let (mut client, mut server) = ends(&client(pki.path("root.pem")), &context, "a.test");
        client.handshake(&[]).unwrap();
        let mut hello = client.sent();
        for (place, octet) in hello.iter_mut().skip(at).zip(&bytes) {
            *place ^= octet;
        }
        let _ = server.handshake(&hello);
        let _ = server.handshake(&bytes);
    }
}

#[test]
fn a_server_that_the_client_does_not_trust_hears_it() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (mut client, mut server) =
        ends(&client(other.path("root.pem")), &server(&pki.listen("a.test")), "a.test");
    let (here, there) = shake(&mut client, &mut server);
    assert!(matches!(&here, Err(TlsError::Certificate(_))), "{here:?}");
    assert!(matches!(&there, Err(TlsError::Alert(alert)) if alert.contains("ca")), "{there:?}");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let pki = Pki::new();
    let context = server(&pki.listen("a.test"));
    let (mut client, mut server) = ends(&client(pki.path("root.pem")), &context, "b.test");
    let here = shake(&mut client, &mut server).0;
    assert!(
        matches!(&here, Err(TlsError::Certificate(reason)) if reason.to_lowercase().contains("hostname")),
        "{here:?}"
    );
}

#[test]
fn an_address_is_checked_against_the_addresses_of_the_certificate() {
    let pki = Pki::new();
    let context = server(&pki.listen("a.test"));
    let trusting = client(pki.path("root.pem"));
    let (_, server) = agreed(&trusting, &context, "127.0.0.1");
    assert_eq!(server.session.info().server_name, None, "an address is not asked for");
    let (mut client, mut server) = ends(&trusting, &context, "127.0.0.2");
    assert!(matches!(shake(&mut client, &mut server).0, Err(TlsError::Certificate(_))));
}
