//! Where answers end, and what they get.

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn asked(request: &str) -> Exchange {
    let mut exchange = Exchange::strict();
    exchange.client(request).goes_on();
    exchange
}

fn hsts(https: bool) -> Exchange {
    let http = Http { hsts: Some("max-age=63072000\r\n".to_owned()), ..Http::default() };
    let mut exchange = Exchange::of(&http, https);
    exchange.client(GET.repeat(2));
    exchange
}

#[test]
fn hsts_is_set_once_and_only_over_tls() {
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let own = "HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\nContent-Length: 0\r\n\r\n";
    let with = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=63072000\r\n\r\n";
    for (https, answer, expected) in [(true, plain, with), (true, own, own), (false, plain, plain)] {
        let mut exchange = hsts(https);
        exchange.server(answer).server(answer).goes_on();
        assert_eq!(exchange.at_client(), expected.repeat(2));
    }
}

#[test]
fn interim_answers_pass_and_are_not_the_answer() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
    let mut exchange = hsts(true);
    exchange
        .server(interim)
        .server("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n");
    exchange.goes_on();
    assert!(exchange.at_client().starts_with(interim));
    assert_eq!(exchange.at_client().matches("Strict-Transport-Security").count(), 2);
}

#[test]
fn a_body_that_was_asked_for_goes_on() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut exchange = asked(head);
    exchange
        .server("HTTP/1.1 100 Continue\r\n\r\n")
        .client("ok")
        .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    exchange.client(GET).goes_on();
    assert_eq!(exchange.at_server().matches(OWN).count(), 2);
}

#[test]
fn what_follows_from_the_request_and_the_head_decides_where_an_answer_ends() {
    let head = "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n";
    let next = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast";
    for (request, answer) in [
        (head, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        (head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (GET, "HTTP/1.1 204 No Content\r\nContent-Length: 100\r\n\r\n"),
        (GET, "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n3  \r\nabc\r\n0\r\nA: b\r\n\r\n"),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        (GET, "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
        (GET, "HTTP/1.0 404 Not Found\nContent-Length: 3\n\nabc"),
    ] {
        let mut exchange = asked(&format!("{request}{GET}"));
        exchange.server(answer).server(next).goes_on();
        assert_eq!(exchange.at_client(), format!("{answer}{next}"));
        exchange.server("H");
        assert_eq!(exchange.status(), Some(502), "an answer too many: {answer}");
    }
}

#[test]
fn a_length_beside_chunks_does_not_go_on() {
    let mut exchange = asked(GET);
    exchange
        .server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .goes_on();
    assert_eq!(exchange.at_client(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

#[test]
fn an_answer_without_a_length_goes_on_until_the_connection_ends() {
    let mut exchange = asked(GET);
    exchange.server("HTTP/1.1 200 OK\r\n\r\nabc");
    assert_eq!(exchange.filter.response_passthrough(), u64::MAX);
    exchange.filter.response_passed(1000).expect("in order");
    exchange.server("HTTP/1.1 500 no head\r\n\r\n").server_ends().goes_on();
    assert!(exchange.at_client().ends_with("abcHTTP/1.1 500 no head\r\n\r\n"));
}

#[test]
fn the_body_of_an_answer_may_pass_beside_the_filter() {
    let mut exchange = asked(&GET.repeat(2));
    exchange.server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123");
    assert_eq!(exchange.filter.response_passthrough(), 7);
    exchange.filter.response_passed(7).expect("in order");
    exchange.server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").goes_on();
    assert_eq!(exchange.filter.response_passthrough(), 0);
    // The last answer before a refusal may end there.
    let mut exchange = asked(&format!("{GET}nonsense\r\n"));
    exchange.server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123");
    assert_eq!(exchange.filter.response_passed(7).map_err(|refusal| refusal.status), Err(400));
}

#[test]
fn a_tunnel_is_copied_both_ways() {
    for (request, answer) in [
        (
            "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 101 Yes\r\n\r\n",
        ),
        ("CONNECT h:22 HTTP/1.1\r\nHost: h:22\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
    ] {
        let mut exchange = asked(request);
        exchange.server(format!("{answer}\0\x01")).client("GET \n\0").server("x").goes_on();
        assert!(exchange.at_server().ends_with("\r\n\r\nGET \n\0"));
        assert!(exchange.at_client().ends_with("\r\n\r\n\0\x01x"));
        assert_eq!(
            (exchange.filter.request_passthrough(), exchange.filter.response_passthrough()),
            (u64::MAX, u64::MAX)
        );
    }
}

#[test]
fn a_tunnel_that_the_server_does_not_want_is_none() {
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "CONNECT h:22 HTTP/1.1\r\nHost: h:22\r\n\r\n",
    ] {
        let mut exchange = asked(request);
        exchange.server("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno").client(GET);
        exchange.server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").goes_on();
        assert!(exchange.at_server().ends_with(&format!("GET / HTTP/1.1\r\nHost: h\r\n{OWN}\r\n")));
    }
    // The answer may come before the end of the request.
    let mut exchange = asked("POST / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\n1");
    exchange.server("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").client("2").client(GET).goes_on();
    assert_eq!(exchange.at_server().matches(OWN).count(), 2);
}

#[test]
fn answers_that_are_not_in_order_are_not_passed_on() {
    for answer in [
        "SSH-2.0-x\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
    ] {
        for pieces in [1, answer.len()] {
            let mut exchange = asked(GET);
            for piece in answer.as_bytes().chunks(answer.len().div_ceil(pieces)) {
                exchange.server(piece);
            }
            assert_eq!((exchange.status(), exchange.at_client()), (Some(502), ""), "{answer:?}");
            assert!(exchange.refusal.expect("refused").response.starts_with(b"HTTP/1.1 502 Bad Gateway\r\n"));
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_followed_by_another() {
    let mut exchange = asked(GET);
    exchange.server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdef");
    let refusal = exchange.refusal.as_ref().expect("refused");
    assert_eq!((refusal.status, refusal.response.len()), (502, 0));
    assert!(exchange.at_client().ends_with("4\r\nabcd"));
    let mut exchange = asked(GET);
    exchange.server("HTTP/1.1 200 OK\r\nContent-").server_ends();
    assert_eq!((exchange.status(), exchange.at_client()), (Some(502), ""));
}

#[test]
fn a_server_that_closes_before_a_refusal_was_due_hastens_it() {
    let mut exchange = asked(&format!("{GET}nonsense\r\n"));
    exchange.server_ends();
    assert_eq!(exchange.status(), Some(400));
    assert!(!exchange.refusal.expect("refused").response.is_empty());
}
