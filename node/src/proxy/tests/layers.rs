//! TLS on either side, HTTP, and routes by name.

use std::io::{Read, Write};
use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslConnector, SslFiletype, SslMethod, SslStream, SslVerifyMode};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509Builder, X509NameBuilder};
use tempfile::TempDir;

use super::*;
use crate::config::model::{Forwarded, Http, Route, TlsConnect, TlsListen};

/// A certificate for `web.test` that trusts itself, with its key, in one file.
fn certificate() -> (TempDir, PathBuf) {
    let key = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
    let key = PKey::from_ec_key(key).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "web.test").unwrap();
    let name = name.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(9).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    let mut names = SubjectAlternativeName::new();
    let names = names.dns("web.test").build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let mut pem = builder.build().to_pem().unwrap();
    pem.extend(key.private_key_to_pem_pkcs8().unwrap());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("web.pem");
    std::fs::write(&path, pem).unwrap();
    (folder, path)
}

/// A client that asks for this name; blocking.
fn client(at: SocketAddr, name: &str) -> SslStream<std::net::TcpStream> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let stream = std::net::TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connector.build().connect(name, stream).unwrap()
}

/// Runs something that blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// A server that speaks TLS and says what it got, twice.
fn tls_backend(certificate: PathBuf) -> SocketAddr {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate_chain_file(&certificate).unwrap();
    acceptor.set_private_key_file(&certificate, SslFiletype::PEM).unwrap();
    let acceptor = acceptor.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let acceptor = acceptor.clone();
            std::thread::spawn(move || {
                let Ok(mut stream) = acceptor.accept(stream) else { return };
                let mut request = [0; 5];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(&request.repeat(2)).unwrap();
                stream.shutdown().unwrap();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_ends_here_and_bytes_pass_both_ways_with_their_ends() {
    let (_folder, path) = certificate();
    let mut stand = Stand::new(&[backend(echo).await]);
    stand.service().tls = Some(TlsListen::new(path));
    stand.apply();
    let listen = stand.listen;
    for size in [1usize, 16_384, 3_000_000] {
        let back = blocking(move || {
            let stream = client(listen, "web.test");
            let raw = stream.get_ref().try_clone().unwrap();
            let body: Vec<u8> = (0..size).map(|n| ((n * 31) >> 3) as u8).collect();
            let (mut stream, sent) = (stream, body.clone());
            let mut back = Vec::new();
            // Half of it, read, the other half: nobody waits for both.
            for part in sent.chunks(100_000) {
                stream.write_all(part).unwrap();
                let mut piece = vec![0; part.len()];
                stream.read_exact(&mut piece).unwrap();
                back.extend(piece);
            }
            stream.shutdown().unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "the end comes back, properly closed");
            drop(raw);
            assert!(back == body, "{size}");
            back.len()
        });
        assert_eq!(back.await, size);
    }
    until("all are over", || stand.server_stats(0).connections == 0).await;
    assert_eq!((stand.stats().aborted, stand.server_stats(0).to_server), (0, 3_016_385));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_only_begins_its_handshake_costs_no_server_anything() {
    let (_folder, path) = certificate();
    let mut stand = Stand::new(&[named("s0").await]);
    stand.service().tls = Some(TlsListen::new(path));
    stand.apply();
    let mut half = Vec::new();
    for _ in 0..20 {
        let mut stream = stand.connect().await;
        stream.write_all(&[22, 3, 1, 2]).await.unwrap();
        half.push(stream);
    }
    let listed =
        || stand.workers.connections(100).iter().filter(|info| info.stage == Stage::Greeting).count();
    until("all have begun", || listed() == 20).await;
    assert_eq!((stand.server_stats(0).connected, stand.server_stats(0).connections), (0, 0));
    let mut broken = stand.connect().await;
    broken.write_all(&[22, 3, 1, 0, 4, 1, 0, 0, 0]).await.unwrap();
    let mut alert = Vec::new();
    broken.read_to_end(&mut alert).await.unwrap();
    assert_eq!(alert.first(), Some(&21), "an alert, not a reset");
    assert_eq!(stand.events_with("no TLS with 127.0.0.1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_must_have_the_certificate_that_is_expected_of_it() {
    let (_folder, path) = certificate();
    let server = tls_backend(path.clone());
    let mut stand = Stand::new(&[server, server]);
    let tls = |name: &str| TlsConnect {
        name: Some(name.to_owned()),
        authorities: Some(path.clone()),
        ..TlsConnect::default()
    };
    stand.server(0).tls = Some(tls("other.test"));
    stand.server(1).tls = Some(tls("web.test"));
    stand.apply();
    for _ in 0..3 {
        let mut stream = stand.connect().await;
        stream.write_all(b"12345").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"1234512345");
    }
    assert_eq!((stand.server_stats(0).connected, stand.server_stats(1).connected), (0, 3));
    assert_eq!(stand.server_stats(0).failed, 1, "left alone after the first");
    assert_eq!(stand.events_with("TLS: the peer's certificate"), 1);
}

/// Answers each request head with its own text, for ever.
async fn mirror(mut stream: TcpStream) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.write_all(&head).await.unwrap();
            head.clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_kept_connection_gets_its_headers_and_a_forged_one_is_replaced() {
    let (_folder, path) = certificate();
    let mut stand = Stand::new(&[backend(mirror).await]);
    stand.service().tls = Some(TlsListen::new(path));
    let hsts = Some("max-age=600".to_owned());
    stand.service().http = Some(Http { forwarded: Forwarded::Replace, hsts, lenient: false });
    stand.apply();
    let listen = stand.listen;
    blocking(move || {
        let mut stream = client(listen, "web.test");
        for request in 0..3 {
            let text = format!("GET /{request} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n");
            // In two pieces: a head may be split anywhere.
            let (one, other) = text.split_at(20);
            stream.write_all(one.as_bytes()).unwrap();
            stream.write_all(other.as_bytes()).unwrap();
            let mut answer = String::new();
            while !answer.ends_with("\r\n\r\n") || answer.matches("\r\n\r\n").count() < 2 {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.push(char::from(byte[0]));
            }
            assert!(answer.contains("Strict-Transport-Security: max-age=600\r\n"), "{answer}");
            assert!(answer.contains(&format!("GET /{request} HTTP/1.1\r\n")), "{answer}");
            assert!(answer.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{answer}");
            assert!(answer.contains("X-Forwarded-Proto: https\r\n"), "{answer}");
            assert!(!answer.contains("9.9.9.9"), "{answer}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_could_be_smuggled_is_refused_and_reaches_no_server() {
    let (sender, mut seen) = tokio::sync::mpsc::channel(1);
    let recording = move |mut stream: TcpStream| {
        let sender = sender.clone();
        async move {
            let mut request = Vec::new();
            let _ = stream.read_to_end(&mut request).await;
            sender.send(request).await.unwrap();
        }
    };
    let mut stand = Stand::new(&[backend(recording).await]);
    stand.service().http = Some(Http::default());
    stand.apply();
    let mut stream = stand.connect().await;
    let smuggled =
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(smuggled).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"), "{answer}");
    assert_eq!(seen.recv().await.unwrap(), b"");
    until("it has left", || stand.workers.connections(10).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_routed_by_name_without_being_ended_and_the_rest_is_served_here() {
    let (_folder, path) = certificate();
    let through = tls_backend(path.clone());
    let home = |mut stream: TcpStream| async move {
        stream.read_exact(&mut [0; 5]).await.unwrap();
        stream.write_all(b"home").await.unwrap();
    };
    let mut stand = Stand::new(&[backend(home).await]);
    let mut other = Service::new("other");
    other.servers.push(Server::new("t0", through));
    stand.config.services.push(other);
    stand.service().tls = Some(TlsListen::new(path));
    stand.service().routes =
        vec![Route { names: vec!["*.through.test".to_owned()], service: "other".to_owned() }];
    stand.apply();
    let listen = stand.listen;
    let ask = move |name: &'static str| {
        blocking(move || {
            let mut stream = client(listen, name);
            stream.write_all(b"12345").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            String::from_utf8(answer).unwrap()
        })
    };
    assert_eq!(ask("a.through.test").await, "1234512345");
    assert_eq!(ask("web.test").await, "home");
    let stats = stand.workers.stats();
    assert_eq!(stats.services[1].servers[0].connected, 1);
}
