//! Files: what is accepted, what is refused and why, and what happens when they change.

use std::fs;
use std::sync::Arc;

use crate::config::model::{TlsConnect, TlsListen, TlsVersion};

use super::super::{ClientContext, ContextError, ServerContext, TicketKeys, TlsError};
use super::pki::{LEAF, Pki, Wish, issue, key};
use super::{agreed, client, ends, server, shake};

fn refused(listen: &TlsListen) -> ContextError {
    ServerContext::new(listen, &Arc::new(TicketKeys::random().unwrap())).unwrap_err()
}

/// Who the server of `name` is, to a client that trusts the root alone.
fn shown(pki: &Pki, context: &ServerContext, name: &str) -> String {
    agreed(&client(pki.path("root.pem")), context, name).0.session.info().peer.unwrap()
}

#[test]
fn the_chain_is_sent_in_order_whatever_file_holds_it() {
    let pki = Pki::new();
    let leaf = pki.leaf("a.test");
    let key = leaf.key.private_key_to_pem_pkcs8().unwrap();
    let [own, authority, root] = [&leaf.certificate, &pki.authority.certificate, &pki.root.certificate]
        .map(|one| one.to_pem().unwrap());
    let alone = TlsListen { key: Some(pki.write("k", &key)), ..TlsListen::new(pki.write("own", &own)) };
    let wide = TlsListen { chain: Some(pki.write("c", &[&root[..], &authority].concat())), ..alone.clone() };
    assert_eq!(shown(&pki, &server(&wide), "a.test"), "CN=a.test");
    let together = TlsListen::new(pki.write("all", &[&own[..], &root, &authority, &key].concat()));
    assert_eq!(shown(&pki, &server(&together), "a.test"), "CN=a.test");
    let (mut client, mut server) = ends(&client(pki.path("root.pem")), &server(&alone), "a.test");
    assert!(matches!(shake(&mut client, &mut server).0, Err(TlsError::Certificate(_))), "without its chain");
}

#[test]
fn a_chain_is_found_in_a_hashed_directory() {
    let pki = Pki::new();
    let leaf = pki.leaf("a.test");
    let hash = format!("hashed/{:08x}.0", pki.authority.certificate.subject_name_hash());
    pki.write(&hash, &pki.authority.certificate.to_pem().unwrap());
    let listen = TlsListen {
        key: Some(pki.write("k", &leaf.key.private_key_to_pem_pkcs8().unwrap())),
        client_authorities_directory: Some(pki.path("hashed")),
        ..TlsListen::new(pki.write("own", &leaf.certificate.to_pem().unwrap()))
    };
    assert_eq!(shown(&pki, &server(&listen), "a.test"), "CN=a.test");
}

#[test]
fn each_bad_file_is_named_with_its_remedy() {
    let pki = Pki::new();
    let good = pki.listen("a.test");
    let with = |file: &str, content: &[u8]| TlsListen { key: Some(pki.write(file, content)), ..good.clone() };
    let says = |listen: &TlsListen, words: &[&str]| {
        let said = refused(listen).to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    says(
        &with("wrong.key", &key().private_key_to_pem_pkcs8().unwrap()),
        &["wrong.key", "default.crt", "does not belong"],
    );
    says(&with("empty.key", b""), &["empty.key", "BEGIN PRIVATE KEY"]);
    let cipher = openssl::symm::Cipher::aes_128_cbc();
    let locked = key().private_key_to_pem_pkcs8_passphrase(cipher, b"secret").unwrap();
    says(&with("locked.key", &locked), &["locked.key", "passphrase", "openssl pkey"]);
    let missing = TlsListen { certificate: pki.path("nowhere.crt"), ..good.clone() };
    says(&missing, &["nowhere.crt", "No such file"]);
    let text = TlsListen { certificate: pki.write("text.crt", b"hello"), ..good.clone() };
    says(&text, &["text.crt", "BEGIN CERTIFICATE"]);
    let dated = |days| {
        let pair = issue("a.test", Some(&pki.authority), Wish { days, ..LEAF });
        pki.store("dated", &pair);
        TlsListen { key: Some(pki.path("dated.key")), ..TlsListen::new(pki.path("dated.crt")) }
    };
    says(&dated((-9, -1)), &["dated.crt", "expired on", "renew"]);
    says(&dated((2, 9)), &["dated.crt", "valid only from", "clock"]);
    says(&TlsListen { ciphers: Some("NONSENSE".to_owned()), ..good.clone() }, &["ciphers", "NONSENSE"]);
    // Security levels are OpenSSL's alone.
    if cfg!(feature = "fast-tls") {
        let level = TlsListen { ciphers: Some("DEFAULT:@SECLEVEL=0".to_owned()), ..good.clone() };
        says(&level, &["ciphers", "@SECLEVEL=0"]);
    }
    says(&TlsListen { client_required: true, ..good.clone() }, &["client_authorities"]);
    let backwards = TlsListen { oldest: TlsVersion::Tls13, newest: Some(TlsVersion::Tls12), ..good.clone() };
    says(&backwards, &["version", "1.2"]);
    says(&TlsListen { alpn: vec![String::new()], ..good }, &["alpn"]);
}

#[test]
fn names_have_certificates_of_their_own_and_the_rest_gets_the_default() {
    let pki = Pki::new();
    let listen = TlsListen { names: Some(pki.path("names")), ..pki.listen("default.test") };
    pki.store("names/Shop.Example.org", &pki.leaf("shop.example.org"));
    pki.store("names/_.apps.test", &pki.leaf("x.apps.test"));
    pki.write("names/README", b"not a certificate");
    pki.write("names/a b.crt", b"not a name");
    let context = server(&listen);
    assert_eq!(context.names(), 2);
    assert_eq!(shown(&pki, &context, "shop.example.org"), "CN=shop.example.org");
    assert_eq!(shown(&pki, &context, "x.apps.test"), "CN=x.apps.test");
    assert_eq!(shown(&pki, &context, "default.test"), "CN=default.test");
    for other in ["a.b.apps.test", "apps.test", "org"] {
        let (mut client, mut server) = ends(&client(pki.path("root.pem")), &context, other);
        let here = shake(&mut client, &mut server).0;
        assert!(matches!(here, Err(TlsError::Certificate(_))), "{other} gets the default");
    }
}

#[test]
fn a_renewed_certificate_serves_new_connections_and_running_ones_go_on() {
    let pki = Pki::new();
    let listen = TlsListen { names: Some(pki.path("names")), ..pki.listen("a.test") };
    pki.store("names/b.test", &pki.leaf("b.test"));
    let context = server(&listen);
    let (mut old, mut session) = agreed(&client(pki.path("root.pem")), &context, "b.test");
    assert_eq!((context.reload().changed, context.refresh().changed), (0, 0), "nothing to do");
    let renewed = issue("renewed", Some(&pki.authority), LEAF);
    pki.store("names/b.test", &renewed);
    pki.store("names/c.test", &pki.leaf("c.test"));
    let found = context.reload();
    assert_eq!((found.changed, found.problems.len()), (2, 0));
    let lenient = ClientContext::new(&TlsConnect { insecure: true, ..TlsConnect::default() }).unwrap();
    let (new, _) = agreed(&lenient, &context, "b.test");
    assert_eq!(new.session.info().peer.as_deref(), Some("CN=renewed"));
    assert_eq!(shown(&pki, &context, "c.test"), "CN=c.test");
    let wire = old.write(b"still the same connection");
    assert_eq!(session.plain(&wire), b"still the same connection");
    fs::remove_file(pki.path("names/c.test.crt")).unwrap();
    assert_eq!((context.reload().changed, context.names()), (1, 1));
}

#[test]
fn a_bad_new_file_keeps_the_old_one_and_is_reported() {
    let pki = Pki::new();
    let listen = TlsListen { names: Some(pki.path("names")), ..pki.listen("a.test") };
    pki.store("names/b.test", &pki.leaf("b.test"));
    let context = server(&listen);
    pki.write("names/b.test.crt", b"half a file");
    pki.write("default.key", &key().private_key_to_pem_pkcs8().unwrap());
    let found = context.refresh();
    assert_eq!((found.changed, found.problems.len()), (0, 2), "{found:?}");
    assert_eq!(shown(&pki, &context, "b.test"), "CN=b.test");
    assert_eq!(shown(&pki, &context, "a.test"), "CN=a.test");
    assert!(context.refresh().problems.is_empty(), "said once");
    assert_eq!(context.reload().problems.len(), 2, "and again to who asks");
    pki.store("names/b.test", &issue("b.test", Some(&pki.authority), LEAF));
    assert_eq!(context.refresh().changed, 1);
}

#[test]
fn client_certificates_are_asked_for_or_required() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    let alice = |pki: &Pki| pki.store_together("alice.pem", &pki.leaf("alice"));
    let connect = |certificate| TlsConnect {
        authorities: Some(pki.path("root.pem")),
        certificate,
        ..TlsConnect::default()
    };
    let [with, without, stranger] = [Some(alice(&pki)), None, Some(alice(&strangers))]
        .map(|file| ClientContext::new(&connect(file)).unwrap());
    let asked = TlsListen { client_authorities: Some(pki.path("root.pem")), ..pki.listen("a.test") };
    let context = server(&asked);
    assert_eq!(agreed(&with, &context, "a.test").1.session.info().peer.as_deref(), Some("CN=alice"));
    assert_eq!(agreed(&without, &context, "a.test").1.session.info().peer, None);
    let context = server(&TlsListen { client_required: true, ..asked });
    assert_eq!(agreed(&with, &context, "a.test").1.session.info().peer.as_deref(), Some("CN=alice"));
    for refused in [&without, &stranger] {
        let (mut client, mut server) = ends(refused, &context, "a.test");
        let (here, there) = shake(&mut client, &mut server);
        assert!(matches!(&there, Err(TlsError::Certificate(_))), "{there:?}");
        assert!(matches!(&here, Err(TlsError::Alert(_))), "{here:?}");
    }
}

#[test]
fn a_protocol_above_tls_is_chosen_by_our_order_and_passed_on() {
    let pki = Pki::new();
    let listen = TlsListen { alpn: vec!["h2".to_owned(), "http/1.1".to_owned()], ..pki.listen("a.test") };
    let context = server(&listen);
    let trusting = client(pki.path("root.pem"));
    let offering = |alpn: &[u8]| {
        let client = super::Session::connect_offering(&trusting, Some("a.test"), Some(alpn)).unwrap();
        let mut ends = (super::End::new(client), super::End::new(super::Session::accept(&context).unwrap()));
        let outcome = shake(&mut ends.0, &mut ends.1);
        (ends, outcome)
    };
    let ((client, server), outcome) = offering(b"http/1.1");
    assert_eq!(outcome, (Ok(()), Ok(())));
    assert_eq!(server.session.info().alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(client.session.info().alpn, server.session.info().alpn);
    let (_, (here, there)) = offering(b"smtp");
    assert!(here.is_err() && there.is_err(), "nothing in common: RFC 7301 section 3.2");
    assert_eq!(agreed(&trusting, &context, "a.test").1.session.info().alpn, None, "not asked for");
}

#[test]
fn a_client_without_a_name_to_check_is_refused_unless_it_may_trust_anyone() {
    let pki = Pki::new();
    let trusting = client(pki.path("root.pem"));
    assert!(matches!(super::Session::connect(&trusting, None), Err(TlsError::NoName)));
    let lenient = ClientContext::new(&TlsConnect { insecure: true, ..TlsConnect::default() }).unwrap();
    assert!(super::Session::connect(&lenient, None).is_ok());
}
