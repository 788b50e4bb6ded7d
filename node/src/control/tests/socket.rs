use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::fake::Served;
use crate::control::{BODY_BYTES_MAX, CONNECTIONS_MAX, bind};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_socket_is_for_owner_and_group_and_its_directory_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/c.sock");
    let _runtime = runtime();
    let _guard = _runtime.enter();
    let _listener = bind(&path, false).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
}

#[test]
fn the_socket_of_a_dead_process_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.sock");
    drop(UnixListener::bind(&path).unwrap());
    let before = fs::metadata(&path).unwrap().ino();
    let _runtime = runtime();
    let _guard = _runtime.enter();
    let _listener = bind(&path, false).unwrap();
    assert!(UnixStream::connect(&path).is_ok(), "inode {before} was replaced by one that answers");
}

#[test]
fn the_socket_of_a_living_process_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.sock");
    let living = UnixListener::bind(&path).unwrap();
    let _runtime = runtime();
    let _guard = _runtime.enter();
    let error = bind(&path, false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string(),
        format!(
            "another process listens on {}; stop it, or give this node another socket with `api`",
            path.display()
        )
    );
    let _peer = UnixStream::connect(&path).unwrap();
    living.accept().unwrap();
}

#[test]
fn a_process_that_hangs_with_a_full_queue_counts_as_living() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.sock");
    let hung = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let address = socket2::SockAddr::unix(&path).unwrap();
    hung.bind(&address).unwrap();
    hung.listen(1).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&address) {
            Ok(()) => waiting.push(socket),
            Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    let _runtime = runtime();
    let _guard = _runtime.enter();
    assert_eq!(bind(&path, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.sock");
    fs::write(&path, "precious").unwrap();
    let _runtime = runtime();
    let _guard = _runtime.enter();
    assert_eq!(bind(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn the_file_stays_when_serving_ends_for_another_process_may_listen_on_it() {
    let mut served = Served::start();
    assert!(served.socket().exists());
    served.stop();
    assert!(served.socket().exists());
}

/// One request by hand; the whole answer.
fn raw(served: &Served, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The server may answer and close before it has read all of a request that is too large.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn head(method: &str, path: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

#[test]
fn wrong_requests_are_answered_in_json() {
    let served = Served::start();
    let cases = [
        (head("GET", "/v2/status", 0), "404", "no such resource", "not_found"),
        (head("DELETE", "/v1/status", 0), "400", "not allowed", "usage"),
        (head("GET", "/v1/events?after=x", 0), "400", "after", "usage"),
        (head("GET", "/v1/config?verison=4", 0), "400", "verison", "usage"),
        (head("GET", "/v1/servers?service=nope", 0), "404", "no service nope", "not_found"),
        (head("POST", "/v1/config/diff", 1) + "{", "400", "", "usage"),
        (head("POST", "/v1/servers", 2) + "{}", "400", "service", "usage"),
        (head("GET", "/v1/config?version=7", 0), "404", "not kept", "not_found"),
    ];
    for (request, status, error, code) in cases {
        let answer = raw(&served, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(body["code"], code, "{answer}");
        assert_eq!(body["schema"], 1, "{answer}");
        assert!(body["error"].as_str().unwrap().contains(error), "{answer}");
    }
}

#[test]
fn a_request_that_is_too_large_is_refused() {
    let served = Served::start();
    let length = BODY_BYTES_MAX + 1;
    let mut request = head("POST", "/v1/config/diff", length).into_bytes();
    request.resize(request.len() + length, b' ');
    let answer = raw(&served, &request);
    assert!(answer.contains("\"code\":\"usage\"") && answer.contains("limit"), "{answer}");
}

#[test]
fn connections_beyond_the_limit_wait_and_are_served_when_there_is_room() {
    let served = Served::start();
    let mut idle: Vec<UnixStream> =
        (0..CONNECTIONS_MAX).map(|_| UnixStream::connect(served.socket()).unwrap()).collect();
    let mut waiting = UnixStream::connect(served.socket()).unwrap();
    waiting.write_all(head("GET", "/v1/status", 0).as_bytes()).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut byte = [0];
    let early = waiting.read(&mut byte).unwrap_err();
    assert_eq!(early.kind(), io::ErrorKind::WouldBlock, "the last one must wait");
    idle.pop();
    let start = Instant::now();
    waiting.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(waiting.read(&mut byte).unwrap(), 1);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn with_roles_the_socket_is_for_everybody_and_asks_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.sock");
    let runtime = runtime();
    runtime.block_on(async {
        let listener = bind(&path, true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        let (here, _) = tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
        let caller = crate::control::roles::Caller::of(&here.unwrap()).expect("the kernel says");
        let (uid, mut gids) = crate::control::roles::Caller::own();
        gids.sort_unstable();
        assert_eq!(caller.parts(), (uid, gids));
    });
}
