use std::net::UdpSocket;

use super::*;

fn line(text: &[u8]) -> Line {
    Line {
        client: IpAddr::from([10, 0, 0, 1]),
        unix: 1_783_000_000,
        server: Arc::from("10.0.0.2"),
        text: Box::from(text),
    }
}

#[test]
fn a_line_of_the_file_says_who_when_where_and_what() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    std::fs::write(&file, "before\n").unwrap();
    let (logs, writer) = Logs::start(Messages::stderr()).unwrap();
    logs.line(line(b"to nowhere"));
    logs.turn(Some(Sink::file(&file).unwrap()));
    assert!(logs.is_open());
    logs.line(line(b"GET /\xe9\x01 HTTP/1.0\r\nHost: x\r\n"));
    logs.line(line(&[b'q'; 2000]));
    logs.end(writer);
    let expected = format!(
        "before\n10.0.0.1 1783000000 10.0.0.2 GET /.\u{1} HTTP/1.0\n10.0.0.1 1783000000 10.0.0.2 {}\n",
        "q".repeat(100)
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
}

#[test]
fn a_turn_writes_the_old_file_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let (logs, writer) = Logs::start(Messages::stderr()).unwrap();
    logs.turn(Some(Sink::file(&old).unwrap()));
    logs.line(line(b"one"));
    logs.turn(Some(Sink::file(&new).unwrap()));
    logs.line(line(b"two"));
    logs.turn(None);
    assert!(!logs.is_open());
    logs.end(writer);
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "10.0.0.1 1783000000 10.0.0.2 one\n");
    assert_eq!(std::fs::read_to_string(&new).unwrap(), "10.0.0.1 1783000000 10.0.0.2 two\n");
}

#[test]
fn a_datagram_is_what_penlogd_expects() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (logs, writer) = Logs::start(Messages::stderr()).unwrap();
    logs.turn(Some(Sink::network(receiver.local_addr().unwrap()).unwrap()));
    logs.line(line(b"GET /\xe9\x01x\r\nfoo"));
    logs.line(line(&[b'q'; 1024]));
    let mut buffer = [0; 2048];
    let length = receiver.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"+ 10.0.0.1 10.0.0.2 GET /\xe9\x01x\n");
    let length = receiver.recv(&mut buffer).unwrap();
    assert_eq!((length, &buffer[1022..1024]), (1024, b"q\n".as_slice()));
    logs.end(writer);
}

#[test]
fn what_does_not_fit_is_left_out_and_counted_and_nobody_waits() {
    let (logs, writer) = Logs::start(Messages::stderr()).unwrap();
    let long = vec![b'x'; BYTES_MAX / 4];
    // Without the writer's turn: the bound is on what waits.
    logs.waiting_bytes.fetch_add(BYTES_MAX - 10, Ordering::Relaxed);
    logs.dump(&long, true);
    logs.line(line(b"fits"));
    assert_eq!(logs.lost.load(Ordering::Relaxed), 1);
    logs.end(writer);
}

#[test]
fn dumps_are_hexadecimal_or_text() {
    assert_eq!(dump(b"a\n\xff", false), "3: 61 0a ff \n");
    assert_eq!(dump(b"a b\n\xff", true), "5: a b..\n");
}
