//! Lenient mode: what is not understood goes on as it is, and the connection is a copy from there on.

use super::*;

#[test]
fn every_request_that_is_understood_gets_the_headers_where_there_are_none() {
    let mut exchange = Exchange::lenient();
    exchange.client(
        "get / HTTP/1.0\nA: b\n\nPUT / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 2\r\n\r\nok",
    );
    exchange.client("\r\nGET / HTTP/1.1\r\n\r\n").goes_on();
    let expected = format!(
        "get / HTTP/1.0\nA: b\n{OWN}\n\
         PUT / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 2\r\nX-Forwarded-Proto: http\r\n\r\nok\
         \r\nGET / HTTP/1.1\r\n{OWN}\r\n"
    );
    assert_eq!(exchange.at_server(), expected);
}

#[test]
fn another_protocol_does_not_wait_for_the_end_of_a_head() {
    for bytes in
        ["EHLO x\r\n", "\x16\x03\x01", "SSH-2.0-x\r\n", "PRI * HTTP/2.0\r\n", "GEX", "G\0", "GET /\r\n"]
    {
        let mut exchange = Exchange::lenient();
        exchange.client(bytes).goes_on();
        assert_eq!(exchange.at_server(), bytes);
        exchange.client("GET / HTTP/1.1\r\n\r\n").server("220 hello\r\n").goes_on();
        assert_eq!(exchange.at_server(), format!("{bytes}GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(exchange.at_client(), "220 hello\r\n");
    }
    // The server may speak first.
    let mut exchange = Exchange::lenient();
    exchange.server("220 hello\r\n").client("EHLO x\r\n").goes_on();
    assert_eq!((exchange.at_client(), exchange.at_server()), ("220 hello\r\n", "EHLO x\r\n"));
}

#[test]
fn a_conflict_goes_on_unchanged_and_so_does_everything_after_it() {
    for conflict in [
        "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
    ] {
        let (first, last) = ("GET /1 HTTP/1.1\r\n\r\n", "GET /2 HTTP/1.1\r\n\r\n");
        let all = format!("{first}{conflict}{last}");
        for pieces in [1, 3, all.len()] {
            let mut exchange = Exchange::lenient();
            for piece in all.as_bytes().chunks(all.len().div_ceil(pieces)) {
                exchange.client(piece);
            }
            exchange.server("anything").goes_on();
            assert_eq!(exchange.at_server(), format!("GET /1 HTTP/1.1\r\n{OWN}\r\n{conflict}{last}"));
            assert_eq!(exchange.at_client(), "anything");
        }
    }
}

#[test]
fn a_chunk_that_is_not_in_order_goes_on_unchanged() {
    let mut exchange = Exchange::lenient();
    exchange
        .client("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\nabcd\n0\n\nGET / HTTP/1.1\r\n\r\n")
        .goes_on();
    assert!(exchange.at_server().ends_with(&format!("{OWN}\r\n4\nabcd\n0\n\nGET / HTTP/1.1\r\n\r\n")));
}

#[test]
fn answers_that_are_not_understood_do_not_end_the_rewriting_of_requests() {
    let get = "GET / HTTP/1.1\r\n\r\n";
    let mut exchange = Exchange::lenient();
    exchange.client(get).server("<html>").client(get).server("</html>").goes_on();
    assert_eq!(exchange.at_server(), format!("GET / HTTP/1.1\r\n{OWN}\r\n").repeat(2));
    assert_eq!(exchange.at_client(), "<html></html>");
    exchange.client("GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n").client(get).goes_on();
    assert!(exchange.at_server().ends_with(&format!("Upgrade: h2c\r\n{OWN}\r\n{get}")));
}

#[test]
fn nothing_that_is_held_is_lost_at_the_end() {
    let mut exchange = Exchange::lenient();
    exchange.client("GET / HTT").client_ends();
    assert_eq!(exchange.at_server(), "GET / HTT");
    let mut exchange = Exchange::lenient();
    exchange.client("GET / HTTP/1.1\r\n\r\n").server("HTTP/1.").server_ends().goes_on();
    assert_eq!(exchange.at_client(), "HTTP/1.");
}
