//! What requests get, and where they end.

use super::*;

fn with(forwarded: Forwarded) -> Exchange {
    Exchange::new(&Http { forwarded, ..Http::default() })
}

#[test]
fn every_request_of_a_kept_connection_gets_the_headers() {
    let mut exchange = Exchange::strict();
    for path in ["/a", "/b", "/c"] {
        exchange.client(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        exchange.server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    exchange.goes_on();
    let expected: String = ["/a", "/b", "/c"]
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n{OWN}\r\n"))
        .collect();
    assert_eq!(exchange.at_server(), expected);
}

#[test]
fn pipelined_requests_each_get_them_and_bodies_pass_as_they_are() {
    let mut exchange = Exchange::strict();
    exchange.client(
        "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    exchange.goes_on();
    let expected = format!(
        "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n{OWN}\r\nGET / HTTP/1.1\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{OWN}\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: h\r\n{OWN}\r\n"
    );
    assert_eq!(exchange.at_server(), expected);
}

#[test]
fn only_our_lines_are_copied_when_a_head_comes_in_one_piece() {
    let input = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut exchange = Exchange::strict();
    exchange.filter.request(input, &mut exchange.out).expect("in order");
    use super::super::Segment::{Input, Inserted};
    assert_eq!(exchange.out.segments(), [Input(0..25), Inserted(0..OWN.len()), Input(25..27)]);
    let mut exchange = with(Forwarded::Keep);
    exchange.filter.request(input, &mut exchange.out).expect("in order");
    assert!(exchange.out.is_all_of(input.len()));
}

#[test]
fn each_rule_does_to_forged_headers_what_the_page_says() {
    let forged = "GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nHost: h\r\nx-forwarded-proto: https\r\n\
                  X_Forwarded_For: 6.6.6.6\r\nX-FORWARDED-FOR: 7.7.7.7\r\n\r\n";
    let plain = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let with_own = format!("GET / HTTP/1.1\r\nHost: h\r\n{OWN}\r\n");
    let appended = "GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nHost: h\r\nx-forwarded-proto: https\r\n\
                    X-FORWARDED-FOR: 7.7.7.7, 192.0.2.7\r\n\r\n";
    let table = [
        (Forwarded::Keep, forged, plain),
        (Forwarded::Replace, with_own.as_str(), with_own.as_str()),
        (Forwarded::Append, appended, with_own.as_str()),
        (Forwarded::IfAbsent, forged, with_own.as_str()),
    ];
    for (rule, forged_becomes, plain_becomes) in table {
        for (input, output) in [(forged, forged_becomes), (plain, plain_becomes)] {
            let mut exchange = with(rule);
            exchange.client(input).goes_on();
            assert_eq!(exchange.at_server(), output, "{rule:?}");
        }
    }
}

#[test]
fn one_of_the_two_headers_may_be_there_already() {
    let mut exchange = with(Forwarded::IfAbsent);
    exchange.client("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    let expected = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: http\r\n\r\n";
    assert_eq!(exchange.at_server(), expected);
    let mut exchange = with(Forwarded::Append);
    exchange.client("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For:\r\nX-Forwarded-Proto: https\r\n\r\n");
    let expected =
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n";
    assert_eq!(exchange.at_server(), expected);
}

#[test]
fn clients_are_named_by_their_plain_address_and_their_protocol() {
    let plan = Arc::new(HttpPlan::new(&Http { forwarded: Forwarded::Replace, ..Http::default() }));
    for (client, https, expected) in [
        ("::ffff:192.0.2.9", false, "X-Forwarded-Proto: http\r\nX-Forwarded-For: 192.0.2.9\r\n"),
        ("2001:db8::1", true, "X-Forwarded-Proto: https\r\nX-Forwarded-For: 2001:db8::1\r\n"),
    ] {
        let mut exchange = Exchange::strict();
        exchange.filter = Filter::new(&plan, client.parse().expect("address"), https);
        exchange.client("GET / HTTP/1.1\r\nHost: h\r\n\r\n").goes_on();
        assert_eq!(exchange.at_server(), format!("GET / HTTP/1.1\r\nHost: h\r\n{expected}\r\n"));
    }
}

#[test]
fn a_content_length_that_is_there_twice_goes_on_once() {
    let mut exchange = with(Forwarded::Keep);
    exchange.client("POST / HTTP/1.1\r\nContent-Length: 2\r\nHost: h\r\ncontent-length: 2\r\n\r\nokGET");
    exchange.goes_on();
    assert_eq!(exchange.at_server(), "POST / HTTP/1.1\r\nContent-Length: 2\r\nHost: h\r\n\r\nok");
}

#[test]
fn an_upgrade_to_http2_is_not_passed_on_and_the_connection_stays_http1() {
    let mut exchange = Exchange::strict();
    exchange
        .client("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n");
    exchange.client("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n").goes_on();
    let expected = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n{OWN}\r\n\
         GET /2 HTTP/1.1\r\nHost: h\r\n{OWN}\r\n"
    );
    assert_eq!(exchange.at_server(), expected);
}

#[test]
fn an_empty_line_before_a_request_is_overlooked() {
    let mut exchange = with(Forwarded::Keep);
    exchange.client("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").client("\r").client("\n").client_ends();
    exchange.goes_on();
    assert_eq!(exchange.at_server(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
}

#[test]
fn old_clients_need_no_host() {
    let mut exchange = Exchange::strict();
    exchange.client("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n").goes_on();
    assert_eq!(exchange.at_server(), format!("GET / HTTP/1.0\r\n{OWN}\r\n").repeat(2));
}

#[test]
fn a_target_may_name_the_host_that_is_in_host() {
    for (target, host) in
        [("http://H:80/x", "h"), ("https://h", "h:443"), ("http://h:8080?x", "H:8080"), ("*", "h"), ("/", "")]
    {
        let mut exchange = Exchange::strict();
        exchange.client(format!("OPTIONS {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).goes_on();
        assert!(!exchange.to_server.is_empty());
    }
}

#[test]
fn the_body_may_pass_beside_the_filter() {
    let mut exchange = Exchange::strict();
    exchange.client("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n123");
    assert_eq!(exchange.filter.request_passthrough(), 7);
    exchange.filter.request_passed(4);
    exchange.client("890");
    assert_eq!(exchange.filter.request_passthrough(), 0);
    exchange.client("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n");
    assert_eq!(exchange.filter.request_passthrough(), 0x1f);
    exchange.filter.request_passed(0x1f);
    assert_eq!(exchange.filter.request_passthrough(), 0);
    exchange.client("\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").goes_on();
    assert!(exchange.at_server().ends_with(&format!("0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n{OWN}\r\n")));
}

#[test]
fn what_is_held_is_given_back_and_heads_have_a_limit() {
    use super::super::request::REQUEST_HEAD_MAX;
    let start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
    let fill = |length: usize| format!("{start}{}\r\n\r\n", "a".repeat(length - start.len() - 4));
    for pieces in [1, 7] {
        let send = |exchange: &mut Exchange, text: &str| {
            for piece in text.as_bytes().chunks(text.len().div_ceil(pieces)) {
                exchange.client(piece);
            }
        };
        let mut exchange = with(Forwarded::Keep);
        send(&mut exchange, &fill(REQUEST_HEAD_MAX));
        exchange.goes_on();
        assert_eq!(exchange.to_server.len(), REQUEST_HEAD_MAX);
        assert_eq!(exchange.filter.request.section.held().len(), 0);
        send(&mut exchange, &fill(REQUEST_HEAD_MAX + 1));
        exchange.server("HTTP/1.1 204 N\r\n\r\n");
        assert_eq!(exchange.status(), Some(431));
        assert_eq!(exchange.filter.request.section.held().len(), 0);
    }
}

#[test]
fn a_filter_is_small() {
    let size = size_of::<Filter>();
    assert!(size <= 512, "{size} bytes for every HTTP connection");
}
