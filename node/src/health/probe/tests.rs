//! Against real servers, each of which does one thing wrong, or nothing.

use std::net::{IpAddr, Ipv4Addr};

use openssl::ssl::{SslAcceptor, SslMethod};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config::model::TlsConnect;
use crate::proxy::tls::tests::pki::Pki;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than a loaded machine takes for what is done at once.
const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

fn target(address: SocketAddr, kind: CheckKind, limit: Duration) -> Target {
    let check = Check { timeout: limit, ..Check::new(kind) };
    Target { address: address.into(), start: Ok(Start::At(HERE)), tls: None, check: Arc::new(check) }
}

fn http() -> CheckKind {
    CheckKind::Http(HttpCheck { path: "/health?full=1".into(), ..HttpCheck::default() })
}

fn talk(send: &str, expect: &str) -> Talk {
    Talk { send: send.into(), expect: expect.into() }
}

fn failed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server for one connection: reads until `until` has come, answers, and waits for the end. What it has read.
async fn serving(
    answer: impl Into<Vec<u8>>,
    until: &'static str,
) -> (SocketAddr, JoinHandle<(String, io::Result<usize>)>) {
    let (listener, address) = listening().await;
    let answer = answer.into();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&heard).contains(until) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "ended after {:?}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&buffer[..count]);
        }
        // The other side may be gone before all is written.
        let _ = stream.write_all(&answer).await;
        (String::from_utf8_lossy(&heard).into_owned(), stream.read(&mut buffer).await)
    });
    (address, served)
}

#[tokio::test]
async fn an_answer_with_an_expected_status_passes_and_the_connection_ends_with_a_reset() {
    let (address, served) = serving("HTTP/1.1 204 No Content\r\n\r\n", "\r\n\r\n").await;
    let outcome = probe(&target(address, http(), PATIENCE)).await;
    assert!(matches!(outcome, Outcome::Passed(_)), "{outcome:?}");
    let (request, end) = served.await.unwrap();
    let expected = format!("GET /health?full=1 HTTP/1.1\r\nHost: {address}\r\n");
    assert!(request.starts_with(&expected) && request.contains("\r\nConnection: close\r\n"), "{request}");
    // After the end that `leave` sends, the reset; which of them the reader meets first is the kernel's choice.
    assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn another_status_fails_with_both_in_the_reason() {
    let (address, _served) = serving("HTTP/1.1 503 Busy\r\n\r\n", "\r\n\r\n").await;
    let outcome = probe(&target(address, http(), PATIENCE)).await;
    assert_eq!(failed(outcome), "HTTP 503 instead of 200-399");
}

#[tokio::test]
async fn a_closed_port_is_refused_and_a_silent_server_is_not_waited_for() {
    let (listener, address) = listening().await;
    let silent = probe(&target(address, http(), SHORT)).await;
    assert_eq!(failed(silent), "no answer within 200ms");
    let connects = probe(&target(address, CheckKind::Tcp(Talk::default()), PATIENCE)).await;
    assert!(matches!(connects, Outcome::Passed(_)), "{connects:?}");
    drop(listener);
    let refused = probe(&target(address, http(), PATIENCE)).await;
    assert_eq!(failed(refused), "connection refused");
}

#[tokio::test]
async fn half_an_answer_is_none_whether_the_server_goes_or_stays() {
    let (listener, address) = listening().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").await.unwrap();
            stream.shutdown().await.unwrap();
            // Until the other side has gone: no reset for what was not read.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let gone = failed(probe(&target(address, http(), PATIENCE)).await);
    assert_eq!(gone, "the connection ended before the head of an answer was whole");
    let (address, _served) = serving("HTTP/1.1 200 OK\r\nContent-Le", "\r\n\r\n").await;
    assert_eq!(failed(probe(&target(address, http(), SHORT)).await), "no answer within 200ms");
}

#[tokio::test]
async fn a_head_without_end_is_read_up_to_its_bound_only() {
    let (listener, address) = listening().await;
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut written = 0_usize;
        let line = format!("X: {}\r\n", "x".repeat(1000));
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(line.as_bytes()).await.is_ok() {
            written += line.len();
        }
        written
    });
    let reason = failed(probe(&target(address, http(), PATIENCE)).await);
    assert!(reason.contains("too long"), "{reason}");
    // Our bound, and what fits into the two sockets' buffers.
    assert!(served.await.unwrap() < 16 << 20);
}

#[tokio::test]
async fn a_banner_must_begin_as_expected() {
    let (address, served) = serving("+PONG\r\nmore", "PING\r\n").await;
    let outcome = probe(&target(address, CheckKind::Tcp(talk("PING\r\n", "+PONG")), PATIENCE)).await;
    assert!(matches!(outcome, Outcome::Passed(_)), "{outcome:?}");
    assert_eq!(served.await.unwrap().0, "PING\r\n");
    let (address, _served) = serving("-LOADING", "PING\r\n").await;
    let outcome = probe(&target(address, CheckKind::Tcp(talk("PING\r\n", "+PONG")), PATIENCE)).await;
    assert_eq!(failed(outcome), "answered \"-LOAD\" instead of \"+PONG\"");
}

#[tokio::test]
async fn a_datagram_must_be_answered_as_expected() {
    let server = UdpSocket::bind((HERE, 0)).await.unwrap();
    let address = server.local_addr().unwrap();
    let ask = |expect| target(address, CheckKind::Udp(talk("ping", expect)), PATIENCE);
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 100];
        for _ in 0..3 {
            let (count, peer) = server.recv_from(&mut buffer).await.unwrap();
            assert!(peer.ip() == HERE && &buffer[..count] == b"ping");
            server.send_to(b"pong!", peer).await.unwrap();
        }
    });
    assert!(matches!(probe(&ask("pong")).await, Outcome::Passed(_)));
    assert!(matches!(probe(&ask("")).await, Outcome::Passed(_)), "any answer");
    assert_eq!(failed(probe(&ask("ok")).await), "answered \"po\" instead of \"ok\"");
    echo.await.unwrap();
    assert_eq!(failed(probe(&ask("pong")).await), "connection refused", "the kernel says so by ICMP");
    let silent = UdpSocket::bind((HERE, 0)).await.unwrap();
    let address = silent.local_addr().unwrap();
    let outcome = probe(&target(address, CheckKind::Udp(talk("ping", "")), SHORT)).await;
    assert_eq!(failed(outcome), "no answer within 200ms");
}

#[tokio::test]
async fn what_this_node_cannot_do_is_not_the_servers_fault() {
    let (_listener, address) = listening().await;
    let foreign = Ok(Start::At(IpAddr::from([192, 0, 2, 1])));
    let asked = Target { start: foreign, ..target(address, http(), PATIENCE) };
    assert!(matches!(probe(&asked).await, Outcome::NotAsked(_)));
    let nowhere = Target { start: Err("no source address".into()), ..target(address, http(), PATIENCE) };
    assert_eq!(failed(probe(&nowhere).await), "no source address");
}

/// A TLS server with a certificate of `pki` that answers every request with 200.
async fn tls_server(pki: &Pki) -> SocketAddr {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    let listen = pki.listen("server.test");
    acceptor.set_certificate_chain_file(&listen.certificate).unwrap();
    acceptor.set_private_key_file(listen.key.as_ref().unwrap(), openssl::ssl::SslFiletype::PEM).unwrap();
    let acceptor = acceptor.build();
    let (listener, address) = listening().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            if Pin::new(&mut stream).accept().await.is_err() {
                continue;
            }
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let _ = stream.read(&mut buffer).await;
        }
    });
    address
}

#[tokio::test]
async fn over_tls_the_certificate_must_be_the_one_that_connections_want() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let address = tls_server(&pki).await;
    let ask = |kind, name: &str, authorities: &Pki| {
        let (name, authorities) = (Some(name.to_owned()), Some(authorities.path("root.pem")));
        let context = ClientContext::new(&TlsConnect { name, authorities, ..TlsConnect::default() }).unwrap();
        Target { tls: Some(Ok(context)), ..target(address, kind, PATIENCE) }
    };
    let good = ask(http(), "server.test", &pki);
    assert_eq!(host(&HttpCheck::default(), &good), "server.test");
    let outcome = probe(&good).await;
    assert!(matches!(outcome, Outcome::Passed(_)), "{outcome:?}");
    let handshake = probe(&ask(CheckKind::Tls(Talk::default()), "server.test", &pki)).await;
    assert!(matches!(handshake, Outcome::Passed(_)), "{handshake:?}");
    let unknown = failed(probe(&ask(http(), "server.test", &stranger)).await);
    assert!(unknown.starts_with("TLS: the peer's certificate: "), "{unknown}");
    let misnamed = failed(probe(&ask(http(), "other.test", &pki)).await);
    assert!(misnamed.to_lowercase().contains("hostname mismatch"), "{misnamed}");
    let (plain, _served) = serving("not TLS at all\r\n", "").await;
    let plain = Target { address: plain.into(), ..ask(http(), "server.test", &pki) };
    assert!(failed(probe(&plain).await).starts_with("TLS: the peer does not speak TLS"));
    let (_silent, address) = listening().await;
    let silent = ask(http(), "server.test", &pki);
    let check = Arc::new(Check { timeout: SHORT, ..(*silent.check).clone() });
    let silent = Target { address: address.into(), check, ..silent };
    assert_eq!(failed(probe(&silent).await), "no TLS handshake within 200ms");
}
