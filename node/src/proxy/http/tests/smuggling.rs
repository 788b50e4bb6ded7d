//! Requests that two readers could understand in two ways: none goes on, not even in part.

use super::*;

const HOST: &str = "Host: h\r\n";

/// (what it is, the request, the status)
type Row = (&'static str, String, u16);

fn table() -> Vec<Row> {
    [framing(), odd_framing(), lines(), odd_lines(), meanings()].concat()
}

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n")
}

fn get(line: &str) -> String {
    format!("{line}\r\n{HOST}\r\n")
}

fn framing() -> Vec<Row> {
    vec![
        ("CL.TE", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"), 400),
        ("0.CL", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("two lengths", post("Content-Length: 4\r\nContent-Length: 5\r\n"), 400),
        ("two lengths, other case", post("Content-Length: 4\r\ncontent-length: 5\r\n"), 400),
        ("underscore length", post("Content_Length: 4\r\n"), 400),
        ("underscore coding", post("Transfer_Encoding: chunked\r\n"), 400),
        ("TE in HTTP/1.0", format!("POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"), 400),
        ("two TE", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("two TE, identity", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 400),
        (
            "two TE, identity first",
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n"), 501),
        ("identity, chunked", post("Transfer-Encoding: identity, chunked\r\n"), 501),
    ]
}

fn odd_framing() -> Vec<Row> {
    let mut table = Vec::new();
    for coding in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "chunked, chunked",
        "identity",
        "gzip",
        "",
        ",chunked",
        "chunked,",
        "\"chunked\"",
        "chunked;a=b",
        "x y, chunked",
        "chunk ed",
        "'chunked'",
    ] {
        table.push(("coding", post(&format!("Transfer-Encoding: {coding}\r\n")), 400));
    }
    for length in [
        "",
        "-1",
        "+4",
        "0x4",
        "4 4",
        "4,4",
        "4, 4",
        "4;",
        "4.0",
        "1e3",
        "9223372036854775808",
        "99999999999999999999",
        "000000000000000000004",
        "²",
        "4\u{a0}",
    ] {
        table.push(("length", post(&format!("Content-Length: {length}\r\n")), 400));
    }
    table
}

fn lines() -> Vec<Row> {
    vec![
        ("folded TE", post("Transfer-Encoding:\r\n chunked\r\n"), 400),
        ("folded", post("A: b\r\n c\r\n"), 400),
        ("folded with a tab", post("A: b\r\n\tContent-Length: 4\r\n"), 400),
        ("blank before the first field", format!("POST / HTTP/1.1\r\n {HOST}\r\n"), 400),
        ("space before the colon", post("Transfer-Encoding : chunked\r\n"), 400),
        ("tab before the colon", post("Content-Length\t: 4\r\n"), 400),
        ("control before the colon", post("Content-Length\x0b: 4\r\n"), 400),
        ("NUL in a name", post("Content\0-Length: 4\r\n"), 400),
        ("no name", post(": 4\r\n"), 400),
        ("no colon", post("Content-Length 4\r\n"), 400),
        ("quote in a name", post("\"Content-Length\": 4\r\n"), 400),
        ("bare CR in a value", post("A: b\rContent-Length: 4\r\n"), 400),
        ("bare CR at the end", post("A: b\r\r\n"), 400),
        ("bare LF", post("A: b\nContent-Length: 4\r\n"), 400),
        ("bare LF at the end of the head", format!("POST / HTTP/1.1\r\n{HOST}\n"), 400),
        ("bare LF after the request line", format!("POST / HTTP/1.1\n{HOST}\r\n"), 400),
        ("NUL in a value", post("A: b\0c\r\n"), 400),
        ("control in a value", post("A: b\x01c\r\n"), 400),
        ("DEL in a value", post("A: b\x7fc\r\n"), 400),
    ]
}

fn odd_lines() -> Vec<Row> {
    let mut table = Vec::new();
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.1x",
        "GET / http/1.1",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\x0b HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /é HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / HTTP/11",
        "GET / HTTP/+1.1",
        "GET / HTTP/1.01",
        "GET /\r HTTP/1.1",
    ] {
        table.push(("request line", get(line), 400));
    }
    table
}

fn meanings() -> Vec<Row> {
    vec![
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("two Hosts", post("Host: h\r\n"), 400),
        ("a path as Host", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n".to_owned(), 400),
        ("a user in Host", "GET / HTTP/1.1\r\nHost: a@h\r\n\r\n".to_owned(), 400),
        ("two names in Host", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_owned(), 400),
        ("another host in the target", get("GET http://other/ HTTP/1.1"), 400),
        ("a user in the target", get("GET http://h@other/ HTTP/1.1"), 400),
        ("a target without a path", get("GET h HTTP/1.1"), 400),
        ("Connection takes X-Forwarded-For off", post("Connection: close, X-Forwarded-For\r\n"), 400),
        ("Connection takes X-Forwarded-Proto off", post("Connection: x-forwarded-proto\r\n"), 400),
        (
            "Connection takes Content-Length off",
            post("Connection: Content-Length\r\nContent-Length: 4\r\n"),
            400,
        ),
        ("Connection takes Host off", post("Connection: keep-alive,Host\r\n"), 400),
        ("CONNECT with a body", format!("CONNECT h:1 HTTP/1.1\r\n{HOST}Content-Length: 4\r\n\r\n"), 400),
        ("method in lower case", get("head / HTTP/1.1"), 400),
        ("CONNECT in mixed case", get("Connect h:1 HTTP/1.1"), 400),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("HTTP/2.0", get("GET / HTTP/2.0"), 505),
        ("HTTP/1.2", get("GET / HTTP/1.2"), 505),
        ("TLS", "\x16\x03\x01".to_owned(), 400),
        ("many empty lines", "\r\n".repeat(5), 400),
        ("many fields", post(&"a: b\r\n".repeat(128)), 431),
    ]
}

#[test]
fn none_of_these_goes_on() {
    for (what, request, status) in table() {
        let mut exchange = Exchange::strict();
        exchange.client(&request);
        assert_eq!(exchange.status(), Some(status), "{what}: {request:?} {:?}", exchange.refusal);
        assert_eq!(exchange.to_server, b"", "{what}: {request:?} went on in part");
        let response = exchange.refusal.expect("refused").response;
        let response = String::from_utf8(response).expect("text");
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
    }
}

#[test]
fn they_do_not_go_on_byte_by_byte_either() {
    for (what, request, status) in table() {
        let mut exchange = Exchange::strict();
        request.as_bytes().iter().for_each(|byte| {
            exchange.client([*byte]);
        });
        assert_eq!((exchange.status(), exchange.to_server.len()), (Some(status), 0), "{what}: {request:?}");
    }
}

#[test]
fn none_of_these_goes_on_behind_another_request_whose_answer_stays_whole() {
    for (what, request, status) in table() {
        let mut exchange = Exchange::strict();
        exchange.client(format!("GET /first HTTP/1.1\r\n{HOST}\r\n{request}"));
        exchange.goes_on();
        assert!(!exchange.filter.wants_requests(), "{what}: {request:?}");
        assert_eq!(exchange.at_server(), format!("GET /first HTTP/1.1\r\n{HOST}{OWN}\r\n"), "{what}");
        exchange.server("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\non");
        exchange.goes_on();
        exchange.server("e");
        assert_eq!(exchange.status(), Some(status), "{what}");
        assert!(exchange.at_client().ends_with("\r\n\r\none"));
        assert!(!exchange.refusal.expect("refused").response.is_empty());
    }
}

#[test]
fn chunks_that_are_not_in_order_end_the_connection_at_the_wrong_byte() {
    let head = format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    let huge = format!("{}4\r\n", "0".repeat(16));
    let long = format!("4;{}\r\n", "x".repeat(300));
    let table: &[(&str, usize)] = &[
        ("x", 0),
        (" 4\r\n", 0),
        ("-4\r\n", 0),
        ("+4\r\n", 0),
        ("0x4\r\n", 1),
        ("\r\n", 0),
        (";a\r\n", 0),
        ("4\n", 1),
        ("4 \r\n", 2),
        ("4\r\r\n", 2),
        ("4\rabcd", 2),
        ("4;a\nb\r\n", 3),
        ("4;\0\r\n", 2),
        ("4\r\nabcde\r\n", 7),
        ("4\r\nabcd\n", 7),
        ("4\r\nabcd\rx", 8),
        ("8000000000000000\r\n", 15),
        ("ffffffffffffffff\r\n", 15),
        (&huge, 16),
        (&long, 256),
        ("4\0\r\n", 1),
        ("4,\r\n", 1),
    ];
    for (chunks, good) in table {
        let mut exchange = Exchange::strict();
        exchange.client(format!("{head}{chunks}"));
        assert_eq!(exchange.status(), Some(400), "{chunks:?}");
        let body = exchange.at_server().split_once("\r\n\r\n").expect("a head").1;
        assert_eq!(body, &chunks[..*good], "{chunks:?}");
    }
}

#[test]
fn trailers_hold_nothing_that_belongs_to_the_head() {
    let head = format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    for (trailer, status) in [
        ("Content-Length: 4\r\n\r\n", 400),
        ("transfer-encoding: chunked\r\n\r\n", 400),
        ("Host: other\r\n\r\n", 400),
        ("X-Forwarded-For: 6.6.6.6\r\n\r\n", 400),
        ("X_Forwarded_Proto: https\r\n\r\n", 400),
        ("A: b\n\r\n", 400),
        ("A : b\r\n\r\n", 400),
        ("A: b\r\n c\r\n\r\n", 400),
        ("A: \0\r\n\r\n", 400),
        (&"a: b\r\n".repeat(129), 431),
        (&"a".repeat(8 * 1024), 431),
    ] {
        let mut exchange = Exchange::strict();
        exchange.client(format!("{head}0\r\n{trailer}"));
        assert_eq!(exchange.status(), Some(status), "{trailer:?}");
        assert!(exchange.at_server().ends_with("0\r\n"), "{trailer:?}");
    }
}

#[test]
fn a_client_does_not_choose_the_meaning_of_its_next_bytes() {
    let mut exchange = Exchange::strict();
    let upgrade = format!("GET / HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    exchange.client(format!("{upgrade}GET /hidden HTTP/1.1\r\n{HOST}\r\n")).goes_on();
    assert!(!exchange.at_server().contains("hidden"));
    exchange.server("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert_eq!((exchange.status(), exchange.at_client()), (Some(400), ""));

    // A body that the server did not ask for: it could be taken for the next request.
    let mut exchange = Exchange::strict();
    exchange.client(format!("POST / HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 50\r\n\r\n"));
    exchange.server("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
    assert!(exchange.refusal.as_ref().is_some_and(|refusal| refusal.response.is_empty()));
    assert!(exchange.at_client().ends_with("no"));
}

#[test]
fn a_body_that_is_not_in_order_is_answered_once_and_only_if_nothing_else_was() {
    let head = format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    let answer = "HTTP/1.1 413 Too much\r\nContent-Length: 2\r\n\r\nno";
    for (cut, answered) in [(0, false), (30, true), (answer.len(), true)] {
        let mut exchange = Exchange::strict();
        exchange.client(&head).server(&answer[..cut]).client("x");
        let refusal = exchange.refusal.as_ref().expect("refused");
        assert_eq!(refusal.response.is_empty(), answered && cut == answer.len(), "{cut}");
    }
    let mut exchange = Exchange::strict();
    exchange.client(&head).server(&answer[..answer.len() - 1]).client("x");
    assert!(exchange.refusal.expect("refused").response.is_empty());
}

#[test]
fn a_client_that_stops_within_a_head_is_told_so_and_the_server_is_not() {
    let mut exchange = Exchange::strict();
    exchange.client("GET / HTTP/1.1\r\nHost: h\r\n").client_ends();
    assert_eq!((exchange.status(), exchange.to_server.as_slice()), (Some(400), b"".as_slice()));
}

#[test]
fn a_pipeline_that_changes_its_kind_without_end_is_refused() {
    let mut exchange = Exchange::strict();
    let pair = format!("GET / HTTP/1.1\r\n{HOST}\r\nHEAD / HTTP/1.1\r\n{HOST}\r\n");
    exchange.client(pair.repeat(1000)).goes_on();
    assert!(!exchange.filter.wants_requests());
    let sent = exchange.at_server().matches("HTTP/1.1").count();
    assert!((60..200).contains(&sent), "{sent}");
    for _ in 0..sent {
        exchange.server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    assert_eq!(exchange.status(), Some(503));
}
