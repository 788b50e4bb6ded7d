//! The HTTP filter with any bytes, in any pieces, and against a reader of its own. The body is that of the fuzz target.

#[path = "../../fuzz/bodies/http.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod body;

use std::sync::Arc;

use cygnet::config::model::{Forwarded, Http};
use cygnet::proxy::http::{Filter, HttpPlan, Output};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A request as a client means it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    line: String,
    /// Names in lower case, values without the blanks around them.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

/// How its body is sent.
#[derive(Clone, Debug)]
enum Framing {
    Length,
    Chunks(usize),
}

#[derive(Clone, Debug)]
struct Sent {
    request: Request,
    framing: Framing,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let Request { line, fields, body } = &self.request;
        let mut bytes = format!("{line}\r\n").into_bytes();
        for (name, value) in fields {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        match self.framing {
            Framing::Length => {
                bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
                bytes.extend(body);
            }
            Framing::Chunks(size) => {
                bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in body.chunks(size) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\nx-sum: 1\r\n\r\n");
            }
        }
        bytes
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let method = select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "X-ODD"]);
    let names =
        select(vec!["x-forwarded-for", "x-forwarded-proto", "accept", "cookie", "x_forwarded_for", "a"]);
    let fields = vec((names, "[ -~]{0,12}"), 0..6);
    let framing = prop_oneof![Just(Framing::Length), (1usize..40).prop_map(Framing::Chunks)];
    (method, "/[!-~]{0,20}", fields, vec(any::<u8>(), 0..100), framing).prop_map(
        |(method, path, fields, body, framing)| {
            let host = ("host".to_owned(), "example.org".to_owned());
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
            let fields = std::iter::once(host).chain(fields).collect();
            Sent { request: Request { line: format!("{method} {path} HTTP/1.1"), fields, body }, framing }
        },
    )
}

/// Reads requests the plain way: whole text, line by line. Only for requests that are in order.
fn read(mut bytes: &[u8]) -> Vec<Request> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an empty line");
        let head = std::str::from_utf8(&bytes[..end]).expect("text");
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next().expect("a first line").to_owned();
        let mut fields: Vec<_> = lines
            .map(|line| line.split_once(':').expect("a field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = fields.iter().position(|(name, _)| name == "content-length");
        let body = if let Some(at) = length {
            let length = fields.remove(at).1.parse().expect("a number");
            let (body, rest) = bytes.split_at(length);
            bytes = rest;
            body.to_vec()
        } else {
            fields.retain(|(name, _)| name != "transfer-encoding");
            chunks(&mut bytes)
        };
        requests.push(Request { line, fields, body });
    }
    requests
}

fn chunks(bytes: &mut &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").expect("a line");
        let size = std::str::from_utf8(&bytes[..end]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a size");
        *bytes = &bytes[end + 2..];
        if size == 0 {
            *bytes = bytes.strip_prefix(b"x-sum: 1\r\n\r\n").expect("the trailer");
            return body;
        }
        body.extend(&bytes[..size]);
        *bytes = &bytes[size + 2..];
    }
}

/// What a request is to become.
fn expected(mut request: Request, rule: Forwarded) -> Request {
    let own = [("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1")];
    let is_alias = |name: &str| name == "x_forwarded_for";
    match rule {
        Forwarded::Keep => return request,
        Forwarded::Replace => {
            request.fields.retain(|(name, _)| !is_alias(name) && own.iter().all(|(ours, _)| name != ours));
        }
        Forwarded::Append => {
            request.fields.retain(|(name, _)| !is_alias(name));
            if let Some((_, value)) = request.fields.iter_mut().rfind(|(name, _)| name == "x-forwarded-for") {
                let between = if value.is_empty() { "" } else { ", " };
                *value = format!("{value}{between}192.0.2.1");
            }
        }
        Forwarded::IfAbsent => {}
    }
    for (name, value) in own {
        if request.fields.iter().all(|(there, _)| there != name) {
            request.fields.push((name.to_owned(), value.to_owned()));
        }
    }
    request
}

fn filtered(rule: Forwarded, pieces: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let plan = Arc::new(HttpPlan::new(&Http { forwarded: rule, ..Http::default() }));
    let mut filter = Filter::new(&plan, [192, 0, 2, 1].into(), true);
    let (mut out, mut passed) = (Output::default(), Vec::new());
    for piece in pieces {
        out.clear();
        filter.request(&piece, &mut out).expect("these requests are in order");
        out.append_to(&piece, &mut passed);
    }
    passed
}

/// A connection with a few bytes of its requests damaged: mostly understood, and sometimes nearly.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<Index>(), select(&b"\r\n\0 :,;0aT-_\xff\t1"[..]), 0u8..3);
    (vec(sent(), 1..5), vec(damage, 0..4)).prop_map(|(requests, damages)| {
        let mut bytes: Vec<u8> = requests.iter().flat_map(Sent::bytes).collect();
        for (place, byte, how) in damages {
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

fn answers() -> impl Strategy<Value = Vec<u8>> {
    let heads = select(vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
        "HTTP/1.1 101 S\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nrest",
        "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    ]);
    vec(heads, 0..8).prop_map(|heads| heads.concat().into_bytes())
}

proptest! {
    #[test]
    fn a_plain_reader_finds_every_request_again_with_the_headers_that_the_rule_says(
        requests in vec(sent(), 1..8),
        rule in select(vec![Forwarded::Keep, Forwarded::Replace, Forwarded::Append, Forwarded::IfAbsent]),
        cuts in vec(1usize..300, 1..10),
    ) {
        let mut bytes: Vec<u8> = requests.iter().flat_map(Sent::bytes).collect();
        let mut cuts = cuts.into_iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let length = cuts.next().unwrap_or(1).min(bytes.len());
            (length > 0).then(|| bytes.drain(..length).collect::<Vec<u8>>())
        });
        let found = read(&filtered(rule, pieces));
        let wanted: Vec<_> = requests.into_iter().map(|sent| expected(sent.request, rule)).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn any_split_of_the_same_bytes_gives_the_same_output(
        settings in any::<u8>(), bytes in damaged(), cuts in vec(any::<u8>(), 1..20), answers in answers(),
    ) {
        body::compare(settings, &bytes, &answers, &cuts);
    }

    #[test]
    fn any_bytes_keep_the_filter_in_order(bytes in vec(any::<u8>(), 0..300)) {
        body::http(&bytes);
    }

    #[test]
    fn what_goes_on_is_understood_again_and_in_the_same_way(settings in any::<u8>(), bytes in damaged()) {
        body::again(settings, &bytes);
    }
}
