//! Any bytes from a client and a server through the HTTP filter. Whatever they are: their pieces do not matter, what
//! goes on is understood again in the same way, and what is not checked goes on unchanged.

use std::net::IpAddr;
use std::sync::Arc;

use cygnet::config::model::{Forwarded, Http};
use cygnet::proxy::http::{Filter, HttpPlan, Output, Refusal};

/// What came out of a filter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    refused: Option<(u16, &'static str, Vec<u8>)>,
}

fn plan(settings: u8) -> Http {
    let forwarded = match settings & 3 {
        0 => Forwarded::Keep,
        1 => Forwarded::Replace,
        2 => Forwarded::Append,
        _ => Forwarded::IfAbsent,
    };
    Http { forwarded, lenient: settings & 4 != 0, hsts: (settings & 8 != 0).then(|| "max-age=1".to_owned()) }
}

/// The lengths of the pieces, again and again; no cuts: one piece.
fn pieces<'a>(bytes: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut cuts = cuts.iter().cycle();
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1).min(rest.len());
        let (piece, more) = rest.split_at(length);
        rest = more;
        (!piece.is_empty()).then_some(piece)
    })
}

fn pass(http: &Http, requests: &[u8], responses: &[u8], cuts: &[u8]) -> Passed {
    let client = IpAddr::from([192, 0, 2, 1]);
    let mut filter = Filter::new(&Arc::new(HttpPlan::new(http)), client, true);
    let mut passed = Passed::default();
    let mut out = Output::default();
    let mut step = |filter: &mut Filter, piece: Option<&[u8]>, up: bool| -> Result<(), Refusal> {
        out.clear();
        let result = match (piece, up) {
            (Some(piece), true) => filter.request(piece, &mut out),
            (None, true) => filter.request_end(&mut out),
            (Some(piece), false) => filter.response(piece, &mut out),
            (None, false) => filter.response_end(&mut out),
        };
        out.append_to(
            piece.unwrap_or_default(),
            if up { &mut passed.to_server } else { &mut passed.to_client },
        );
        result
    };
    let mut all = || {
        pieces(requests, cuts).try_for_each(|piece| step(&mut filter, Some(piece), true))?;
        pieces(responses, cuts).try_for_each(|piece| step(&mut filter, Some(piece), false))?;
        step(&mut filter, None, true)?;
        step(&mut filter, None, false)
    };
    let refused = all().err();
    passed.refused = refused.map(|refusal| (refusal.status, refusal.reason, refusal.response));
    passed
}

/// The same bytes in one piece and in many.
pub fn compare(settings: u8, requests: &[u8], responses: &[u8], cuts: &[u8]) {
    let http = plan(settings);
    let whole = pass(&http, requests, responses, &[]);
    assert_eq!(whole, pass(&http, requests, responses, cuts));
    assert_eq!(whole, pass(&http, requests, responses, &[0]));
    if http.lenient {
        assert_eq!(whole.refused, None, "lenient mode refuses nothing");
        if http.forwarded == Forwarded::Keep {
            assert_eq!(whole.to_server, requests);
        }
    }
}

/// What goes on in strict mode must mean the same to whoever reads it next: the same filter finds nothing more to change.
pub fn again(settings: u8, requests: &[u8]) {
    let http = Http { lenient: false, ..plan(settings) };
    let once = pass(&http, requests, b"", &[]);
    let rule = if http.forwarded == Forwarded::Replace { Forwarded::Replace } else { Forwarded::Keep };
    let twice = pass(&Http { forwarded: rule, ..http }, &once.to_server, b"", &[]);
    assert_eq!(once.to_server, twice.to_server);
}

/// Settings, the length of the requests, some cuts; then requests and answers.
pub fn http(bytes: &[u8]) {
    let [settings, length, cuts @ .., _] = bytes else { return };
    let (cuts, rest) = cuts.split_at(cuts.len().min(4));
    let (requests, responses) = rest.split_at(rest.len() * usize::from(*length) / 256);
    compare(*settings, requests, responses, cuts);
    again(*settings, requests);
}
