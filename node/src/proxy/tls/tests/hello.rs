//! What is read of a ClientHello.

use proptest::prelude::*;

use super::super::Session;
use super::super::client_hello::{HELLO_MAX, Hello, is_host_name, peek};
use super::pki::Pki;
use super::{End, client};

fn vector(length_octets: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[4 - length_octets..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector(2, &[&[0][..], &vector(2, name)].concat()))
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| vector(1, name)).collect();
    extension(16, &vector(2, &list))
}

/// A GREASE extension (RFC 8701).
fn grease() -> Vec<u8> {
    extension(0x3a3a, &[0])
}

fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.extend(vector(1, &[5; 32]));
    body.extend(vector(2, &[0x0a, 0x0a, 0x13, 0x01, 0xc0, 0x2b]));
    body.extend([1, 0]);
    body.extend(vector(2, &extensions.concat()));
    [&[1][..], &vector(3, &body)].concat()
}

fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut lengths = lengths.iter().copied().chain(std::iter::repeat(16_384));
    let (mut rest, mut all) = (message, Vec::new());
    while !rest.is_empty() {
        let (fragment, tail) = rest.split_at(lengths.next().unwrap().min(rest.len()));
        all.extend([22, 3, 1]);
        all.extend(vector(2, fragment));
        rest = tail;
    }
    all
}

fn hello(name: Option<&str>, alpn: &[&[u8]]) -> Hello {
    Hello::Hello {
        server_name: name.map(str::to_owned),
        alpn: alpn.iter().map(|name| name.to_vec()).collect(),
    }
}

#[test]
fn a_name_and_protocols_are_found_between_unknown_extensions() {
    let bytes = message(&[grease(), server_name(b"WWW.Example.org"), grease(), alpn(&[b"h2", b"http/1.1"])]);
    let wanted = hello(Some("www.example.org"), &[b"h2", b"http/1.1"]);
    assert_eq!(peek(&records(&bytes, &[])), wanted);
    assert_eq!(peek(&records(&bytes, &[1, 2, 3, 50])), wanted, "over several records");
    let more = [records(&bytes, &[]), b"what follows".to_vec()].concat();
    assert_eq!(peek(&more), wanted);
}

#[test]
fn the_library_s_own_hello_is_understood() {
    let pki = Pki::new();
    let mut client = End::new(Session::connect(&client(pki.path("root.pem")), Some("a.test")).unwrap());
    client.handshake(&[]).unwrap();
    assert_eq!(peek(&client.sent()), hello(Some("a.test"), &[]));
}

#[test]
fn no_extensions_are_a_hello_as_well() {
    let mut bytes = message(&[]);
    assert_eq!(peek(&records(&bytes, &[])), hello(None, &[]));
    bytes.truncate(bytes.len() - 2); // not even an empty list: TLS 1.2 and older
    bytes[3] -= 2;
    assert_eq!(peek(&records(&bytes, &[])), hello(None, &[]));
}

#[test]
fn a_name_that_is_no_host_name_is_none() {
    for name in
        [&b"../../etc/passwd"[..], b"a b", b"", b".", b"a..b", b"-\0-", "f\u{fc}r.example".as_bytes(), b"a/b"]
    {
        let bytes = records(&message(&[server_name(name)]), &[]);
        assert_eq!(peek(&bytes), hello(None, &[]), "{name:?}");
    }
    assert!(
        is_host_name("xn--fr-xka.example") && is_host_name("_dmarc.example.org") && is_host_name("localhost")
    );
    assert!(!is_host_name(&"a.".repeat(200)) && !is_host_name(&"a".repeat(64)));
}

#[test]
fn each_extension_may_stand_there_once() {
    let twice = message(&[server_name(b"a.test"), server_name(b"b.test")]);
    assert_eq!(peek(&records(&twice, &[])), Hello::NotTls);
    let twice = message(&[alpn(&[b"h2"]), alpn(&[b"h2"])]);
    assert_eq!(peek(&records(&twice, &[])), Hello::NotTls);
}

#[test]
fn other_protocols_are_told_from_the_first_octets() {
    for bytes in
        [&b"G"[..], b"SSH-2.0", &[22, 2], &[22, 3, 1, 0, 0], &[22, 3, 1, 0, 9, 2], &[23], &[0x80, 0x2e, 1]]
    {
        assert_eq!(peek(bytes), Hello::NotTls, "{bytes:?}");
    }
    for bytes in [&b""[..], &[22], &[22, 3, 1, 0, 9], &[22, 3, 3, 0, 9, 1]] {
        assert_eq!(peek(bytes), Hello::Incomplete, "{bytes:?}");
    }
}

#[test]
fn a_hello_longer_than_the_bound_is_refused_as_soon_as_it_says_so() {
    let length = (HELLO_MAX as u32).to_be_bytes();
    assert_eq!(peek(&[22, 3, 1, 0, 4, 1, length[1], length[2], length[3]]), Hello::NotTls);
}

#[test]
fn a_message_that_ends_within_a_field_is_refused() {
    let whole = message(&[server_name(b"a.test"), alpn(&[b"h2"])]);
    for length in 5..whole.len() {
        let mut short = whole[..length].to_vec();
        let says = (length as u32 - 4).to_be_bytes();
        short[1..4].copy_from_slice(&says[1..]);
        let found = peek(&records(&short, &[]));
        // Without the list of extensions it is a whole hello of old.
        assert!(found == Hello::NotTls || found == hello(None, &[]), "{length}: {found:?}");
        assert!(length == 4 + 2 + 32 + 33 + 8 + 2 || found == Hello::NotTls, "{length}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = peek(&bytes);
        let _ = peek(&records(&[&[1, 0, 1, 0][..], &bytes].concat(), &[]));
    }

    #[test]
    fn a_hello_is_found_at_its_last_octet_and_not_before(
        name in "[a-z]{1,10}\\.[a-z]{2,5}",
        protocols in proptest::collection::vec("[a-z0-9/.]{1,12}", 0..4),
        lengths in proptest::collection::vec(1_usize..200, 0..8),
    ) {
        let protocols: Vec<&[u8]> = protocols.iter().map(String::as_bytes).collect();
        let mut extensions = vec![grease(), server_name(name.as_bytes())];
        if !protocols.is_empty() {
            extensions.push(alpn(&protocols));
        }
        let bytes = records(&message(&extensions), &lengths);
        for length in 0..bytes.len() {
            prop_assert_eq!(peek(&bytes[..length]), Hello::Incomplete);
        }
        prop_assert_eq!(peek(&bytes), hello(Some(&name), &protocols));
    }
}
