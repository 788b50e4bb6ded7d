use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use socket2::SockRef;

use super::{Listening, Origin, connect_unix, listen_unix};
use crate::kernel::Kernel;
use crate::testns::{DEADLINE, in_namespace, ip, runtime, veth};

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    super::listen(address, Listening { backlog: Some(128), ..Listening::default() }).map(Into::into)
}

fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    super::connect(target, source.map_or(Origin::Kernel, Origin::Address)).map(Into::into)
}

/// Repeats a nonblocking call until it has done something.
fn until_done<T>(mut call: impl FnMut() -> io::Result<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            result => return result.expect("done in time"),
        }
    }
}

/// An IPv6 address takes part a moment after the kernel has accepted it.
fn not_yet(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL) => io::ErrorKind::WouldBlock.into(),
        _ => error,
    }
}

fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    until_done(|| listener.accept())
}

#[test]
fn an_absent_address_can_be_listened_to_and_serves_once_it_arrives() {
    in_namespace(|| {
        veth("eth0", "eth1");
        let index = crate::sys::interface_index("eth0").expect("eth0");
        for (address, absent) in [("192.0.2.100:80", "192.0.2.100"), ("[fd00::100]:80", "fd00::100")] {
            let listener = listen(at(address)).expect("not there yet");
            let absent = absent.parse().expect("an address");
            runtime().block_on(async {
                assert!(
                    Kernel::connect().expect("a kernel").add_address(index, absent).await.expect("added")
                );
            });
            let mut client = until_done(|| connect(at(address), None).map_err(not_yet));
            let (mut server, _) = accept(&listener);
            until_done(|| client.write_all(b"ping"));
            let mut buffer = [0; 4];
            until_done(|| server.read_exact(&mut buffer));
            assert_eq!(&buffer, b"ping");
        }
    });
}

#[test]
fn workers_share_a_port_and_accepted_connections_send_without_delay() {
    in_namespace(|| {
        let first = listen(at("127.0.0.1:0")).expect("a listener");
        let address = first.local_addr().expect("bound");
        let second = listen(address).expect("the same port again");
        let mut clients = Vec::new();
        let mut served = [0, 0];
        for _ in 0..64 {
            clients.push(connect(address, None).expect("started"));
        }
        let deadline = Instant::now() + DEADLINE;
        while served.iter().sum::<i32>() < 64 && Instant::now() < deadline {
            for (listener, count) in [&first, &second].into_iter().zip(&mut served) {
                while let Ok((stream, _)) = listener.accept() {
                    assert!(stream.nodelay().expect("the option"), "inherited from the listener");
                    *count += 1;
                }
            }
        }
        assert_eq!(served.iter().sum::<i32>(), 64);
        assert!(served.iter().all(|count| *count > 0), "both take part: {served:?}");
    });
}

#[test]
fn all_addresses_of_both_families_can_be_listened_to_at_once() {
    in_namespace(|| {
        let _six = listen(at("[::]:8080")).expect("IPv6");
        let _four = listen(at("0.0.0.0:8080")).expect("IPv4 beside it");
    });
}

#[test]
fn a_connection_starts_from_the_source_that_it_is_given() {
    in_namespace(|| {
        ip("address add 10.9.0.1/32 dev lo");
        ip("address add fd00::1/128 dev lo");
        ip("address add fd00::2/128 dev lo");
        for (target, source) in [("127.0.0.1:0", "10.9.0.1"), ("[fd00::2]:0", "fd00::1")] {
            let listener = listen(at(target)).expect("a listener");
            let source = source.parse().expect("an address");
            let target = listener.local_addr().expect("bound");
            let client = until_done(|| connect(target, Some(source)).map_err(not_yet));
            let (_, peer) = accept(&listener);
            assert_eq!(peer.ip(), source);
            assert!(SockRef::from(&client).nonblocking().expect("the flag"));
        }
    });
}

#[test]
fn an_impossible_source_is_refused_at_once() {
    in_namespace(|| {
        let refuse = |source: &str| {
            let source = source.parse().expect("an address");
            connect(at("127.0.0.1:9"), Some(source)).expect_err("impossible")
        };
        assert_eq!(refuse("192.0.2.7").raw_os_error(), Some(libc::EADDRNOTAVAIL), "not on this node");
        assert_eq!(refuse("::1").kind(), io::ErrorKind::InvalidInput, "of the other family");
        assert_eq!(refuse("0.0.0.0").kind(), io::ErrorKind::InvalidInput, "the kernel's choice");
    });
}

#[test]
fn bound_connections_to_several_targets_share_the_ports() {
    in_namespace(|| {
        ip("address add 10.9.0.1/32 dev lo");
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50015").expect("a setting");
        let targets = ["127.0.0.2:80", "127.0.0.3:80", "127.0.0.4:80"];
        let listeners: Vec<_> = targets.map(|target| listen(at(target)).expect("a listener")).into();
        let mut streams = Vec::new();
        let mut ports = BTreeSet::new();
        for listener in &listeners {
            for _ in 0..16 {
                let target = listener.local_addr().expect("bound");
                let source = "10.9.0.1".parse().expect("an address");
                let stream = connect(target, Some(source)).expect("a port is left for this target");
                ports.insert(stream.local_addr().expect("bound").port());
                streams.push(stream);
            }
        }
        assert_eq!((streams.len(), ports.len()), (48, 16), "three targets, each with every port");
    });
}

#[test]
fn one_socket_may_take_clients_of_both_families() {
    in_namespace(|| {
        let how = Listening { backlog: Some(128), both_families: true, ..Listening::default() };
        let listener = TcpListener::from(super::listen(at("[::]:8080"), how).expect("a listener"));
        let _client = connect(at("127.0.0.1:8080"), None).expect("started");
        assert_eq!(accept(&listener).1.ip().to_string(), "::ffff:127.0.0.1");
    });
}

#[test]
fn a_foreign_source_needs_no_address_of_this_node() {
    in_namespace(|| {
        ip("route add local 10.9.0.0/24 dev lo");
        let listener = listen(at("127.0.0.1:0")).expect("a listener");
        let target = listener.local_addr().expect("bound");
        let source = "10.9.0.77".parse().expect("an address");
        let _client = super::connect(target, Origin::Foreign(source)).expect("started");
        assert_eq!(accept(&listener).1.ip(), source);
    });
}

#[test]
fn accepted_connections_inherit_keepalive_and_those_who_say_nothing_wait_when_deferred() {
    in_namespace(|| {
        let how = Listening { backlog: Some(128), keepalive: true, defer: 5, ..Listening::default() };
        let listener = TcpListener::from(super::listen(at("127.0.0.1:0"), how).expect("a listener"));
        let mut client = until_done(|| connect(listener.local_addr().expect("bound"), None).map_err(not_yet));
        until_done(|| client.peer_addr().map_err(|_| io::ErrorKind::WouldBlock.into()));
        assert_eq!(listener.accept().expect_err("it said nothing").kind(), io::ErrorKind::WouldBlock);
        until_done(|| client.write_all(b"x"));
        let (accepted, _) = accept(&listener);
        assert!(SockRef::from(&accepted).keepalive().expect("the option"));
    });
}

#[test]
fn a_socket_file_that_is_left_over_is_replaced_and_another_file_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    drop(listen_unix(&path, Some(8)).expect("a listener"));
    let listener = UnixListener::from(listen_unix(&path, Some(8)).expect("over the left one"));
    let mut client = UnixStream::from(connect_unix(&path).expect("connected"));
    let (mut server, _) = listener.accept().expect("it waits");
    client.write_all(b"ping").expect("room");
    let mut buffer = [0; 4];
    server.read_exact(&mut buffer).expect("it is there");
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").expect("written");
    assert_eq!(listen_unix(&file, Some(8)).expect_err("not ours").kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "mine");
}
