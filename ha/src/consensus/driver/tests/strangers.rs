//! What connects to a node and is no member, or not in its senses.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::silent::{members, start};
use super::{Cluster, Seen, config, settings, wait};
use crate::consensus::frame::{Frame, HEADER, Hello, PROTOCOL, decode, decode_header};
use crate::consensus::limits::{GREETING, PEER_STALE, READ_BODY, READ_IDLE, STRANGERS};
use crate::state::command::CONFIG_TEXT_MAX;

async fn greet(address: SocketAddr, hello: Hello) -> Frame {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&Frame::Hello(Box::new(hello)).encode()).await.unwrap();
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await.unwrap();
    let (kind, length) = decode_header(header).unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    decode(kind, &body).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_with_the_reason_and_garbage_disturbs_nobody() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    let address = cluster.members[0].address;
    let good = Hello {
        protocol: PROTOCOL,
        cluster: "demo".into(),
        node: 2,
        to: 1,
        level: 1,
        last: 0,
        ..Hello::default()
    };
    let wrong = [
        (Hello { protocol: 99, ..good.clone() }, "update the older node"),
        (Hello { cluster: "other".into(), ..good.clone() }, "this is the cluster \"demo\""),
        (Hello { node: 7, ..good.clone() }, "is no member here"),
        (Hello { node: 1, ..good.clone() }, "two nodes have the id 1"),
        (Hello { to: 2, ..good.clone() }, "check the addresses"),
    ];
    for (hello, reason) in wrong {
        let answer = greet(address, hello).await;
        assert!(matches!(&answer, Frame::Refused(why) if why.contains(reason)), "{answer:?}");
    }
    for garbage in [vec![0xff; 4096], vec![4, 0xff, 0xff, 0xff, 0xff], b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&garbage).await.unwrap();
        let mut rest = Vec::new();
        // Closed or reset, but not served.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    cluster.handle(1).put_config(config("still here")).await.unwrap();
    cluster.stop_all().await;
}

/// From an address that is no member's.
async fn stranger(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 99], 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_come_and_say_nothing_do_not_keep_a_member_out() {
    let mut cluster = Cluster::new(2, None);
    cluster.settled().await;
    cluster.stop(2).await;
    let address = cluster.members[0].address;
    let stale = u64::try_from(PEER_STALE.as_millis()).unwrap();
    let silent_ms = || cluster.handle(1).status().members[1].last_heard_ms;
    wait("what was heard before to be stale", || silent_ms() > Some(stale)).await;
    let mut crowd = Vec::new();
    for _ in 0..8 * STRANGERS {
        crowd.push(stranger(address).await);
    }
    cluster.start(2);
    let start = Instant::now();
    wait("the member to be heard", || cluster.handle(1).status().reachable == 2).await;
    assert!(start.elapsed() < GREETING, "{:?}", start.elapsed());
    drop(crowd);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_its_hello_nobody_may_send_more_than_a_hello() {
    let mut cluster = Cluster::new(2, None);
    // The header of a snapshot of 32 MiB: all kinds but a hello are closed before their body is read.
    let mut header = vec![5];
    header.extend_from_slice(&(32u32 << 20).to_be_bytes());
    let mut stream = TcpStream::connect(cluster.members[0].address).await.unwrap();
    stream.write_all(&header).await.unwrap();
    let start = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert!(start.elapsed() < GREETING / 2, "{:?}", start.elapsed());
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_stops_in_the_middle_ends_the_connection_as_silence_does() {
    let mut cluster = Cluster::new(2, None);
    let mut stream = TcpStream::connect(cluster.members[0].address).await.unwrap();
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: "demo".into(),
        node: 2,
        to: 1,
        level: 1,
        last: 0,
        ..Hello::default()
    };
    stream.write_all(&Frame::Hello(Box::new(hello)).encode()).await.unwrap();
    let mut welcome = [0; HEADER];
    stream.read_exact(&mut welcome).await.unwrap();
    stream.write_all(&[5, 0, 0, 1, 0, 7, 7, 7]).await.unwrap();
    let start = Instant::now();
    let ended = tokio::time::timeout(READ_BODY, stream.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok() && start.elapsed() < READ_IDLE + GREETING, "{:?}", start.elapsed());
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_long_is_not_sent_and_the_connection_stands() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let members = members(2);
    let own = settings("demo", 1, &members, dirs[0].path());
    let events = own.events.clone();
    let one = start(own, Seen::default());
    let two = start(settings("demo", 2, &members, dirs[1].path()), Seen::default());
    wait("a pair", || one.status().quorum && one.status().reachable == 2).await;
    let answers = one.preflight(&"x".repeat(2 * CONFIG_TEXT_MAX)).await;
    assert!(matches!(answers.as_slice(), [(_, Err(_))]), "{answers:?}");
    one.put_config(config("goes on")).await.unwrap();
    let said: Vec<String> = events.after(0).into_iter().map(|event| event.what).collect();
    assert!(said.iter().any(|what| what.contains("too long")), "{said:?}");
    assert!(!said.iter().any(|what| what.contains("lost lb2")), "{said:?}");
    one.stop().await;
    two.stop().await;
}
