//! One connection's HTTP: both directions, and what they know of each other.

mod answers;

use std::net::IpAddr;
use std::sync::Arc;

use super::HttpPlan;
use super::awaited::{Awaited, Kind};
use super::body::{Body, Next};
use super::edit::{self, Head, OwnLines};
use super::output::Output;
use super::refusal::{Fault, Refusal, bad};
use super::request::{RequestHead, Trailer, hosts_agree};
use super::response::ResponseHead;
use super::section::{Place, Section, is_token};
use crate::config::model::Forwarded;

/// What a request may begin with in lenient mode: anything else is some other protocol, whose first bytes must not wait
/// for the end of a head. The method and one space.
const METHODS: &[&str] = &[
    "GET ",
    "POST ",
    "HEAD ",
    "PUT ",
    "DELETE ",
    "OPTIONS ",
    "PATCH ",
    "CONNECT ",
    "TRACE ",
    "PROPFIND ",
    "PROPPATCH ",
    "MKCOL ",
    "COPY ",
    "MOVE ",
    "LOCK ",
    "UNLOCK ",
    "REPORT ",
    "SEARCH ",
    "PURGE ",
];
/// The longest of them, and what else may come before it, bytes.
const BEGINNING_MAX: usize = 24;

/// The HTTP of one connection. It holds at most one head or trailer of each direction, and only while that is split.
#[derive(Debug)]
pub struct Filter {
    plan: Arc<HttpPlan>,
    https: bool,
    own: OwnLines,
    up: Up,
    pub(super) request: Reading<RequestHead>,
    down: Down,
    response: Reading<ResponseHead>,
    /// What kind of request is on its way now.
    kind: Kind,
    /// It waits for 100 (Continue), and nothing of its body has come.
    expecting: bool,
    awaited: Awaited,
    /// Requests whose head went on.
    sent: u64,
    /// Of these, how many have their whole answer.
    answered: u64,
    refusal: Option<Pending>,
}

/// What of a direction is being read in lines.
#[derive(Debug)]
pub(super) struct Reading<Facts> {
    pub(super) section: Section,
    head: Facts,
    trailer: Trailer,
}

/// The way to the server.
#[derive(Debug, PartialEq, Eq)]
enum Up {
    Head,
    Body(Body),
    Trailer,
    /// The next bytes mean what the answer makes them: a tunnel's, or another request's.
    Waiting,
    Copy,
    Refused,
}

/// The way to the client.
#[derive(Debug, PartialEq, Eq)]
enum Down {
    Head,
    Body(Body),
    Trailer,
    Copy,
}

/// A refusal that waits until so many requests have their answers.
#[derive(Clone, Copy, Debug)]
struct Pending {
    fault: Fault,
    due: u64,
}

impl Filter {
    /// For a client that comes from `client`, over TLS or not.
    #[must_use]
    pub fn new(plan: &Arc<HttpPlan>, client: IpAddr, https: bool) -> Self {
        let own = match plan.forwarded {
            Forwarded::Keep => OwnLines::default(),
            _ => OwnLines::new(client.to_canonical(), https),
        };
        let strict = plan.strict;
        Self {
            plan: Arc::clone(plan),
            https,
            own,
            up: Up::Head,
            request: Reading::new(RequestHead::new(strict), strict),
            down: Down::Head,
            response: Reading::new(ResponseHead::default(), false),
            kind: Kind::Plain,
            expecting: false,
            awaited: Awaited::default(),
            sent: 0,
            answered: 0,
            refusal: None,
        }
    }

    /// Bytes of the client; appends to `out` what goes on to the server. All of `input` is dealt with.
    ///
    /// # Errors
    /// The request is refused, and nobody waits for an answer before it: the client is to get
    /// [`Refusal::response`], and both connections are to be closed. What is in `out` need not be sent.
    pub fn request(&mut self, input: &[u8], out: &mut Output) -> Result<(), Refusal> {
        let mut at = 0;
        while at < input.len() {
            if let Err(fault) = self.request_part(input, &mut at, out) {
                if self.plan.strict {
                    return self.refuse(fault);
                }
                (self.up, self.down) = (Up::Copy, Down::Copy);
            }
        }
        Ok(())
    }

    /// The client will send no more.
    ///
    /// # Errors
    /// As [`Self::request`]: it stopped within a head.
    pub fn request_end(&mut self, out: &mut Output) -> Result<(), Refusal> {
        let held = self.request.section.take();
        if !self.plan.strict || self.up == Up::Copy {
            out.insert(&held);
        } else if self.up == Up::Head && held.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            return self.refuse(bad("the request ends within its head"));
        }
        Ok(())
    }

    /// How many of the client's next bytes may go on without [`Self::request`] seeing them; they may also be given to it.
    #[must_use]
    pub fn request_passthrough(&self) -> u64 {
        match &self.up {
            Up::Body(body) => body.data(),
            Up::Copy if self.request.section.held().is_empty() => u64::MAX,
            _ => 0,
        }
    }

    /// `count` bytes of the client, at most [`Self::request_passthrough`], went on without [`Self::request`].
    pub fn request_passed(&mut self, count: u64) {
        if let Up::Body(body) = &mut self.up
            && count > 0
        {
            self.expecting = false;
            let next = body.passed(count);
            self.after_request_part(next);
        }
    }

    /// Whether the client is still listened to. `false`: its last request is refused, which it will be told after the
    /// answers before; until then there is no need to read from it.
    #[must_use]
    pub fn wants_requests(&self) -> bool {
        self.up != Up::Refused
    }

    /// Whether every request has its whole answer: a server that hangs up now takes nothing away.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.down == Down::Head && self.answered == self.sent && self.response.section.held().is_empty()
    }

    fn request_part(&mut self, input: &[u8], at: &mut usize, out: &mut Output) -> Result<(), Fault> {
        match &mut self.up {
            Up::Head => self.request_head(input, at, out)?,
            Up::Body(body) => {
                self.expecting = false;
                let (count, next) = body.look(&input[*at..]);
                out.input(*at..*at + count);
                *at += count;
                self.after_request_part(next?);
            }
            Up::Trailer => {
                if self.request.trailer(input, at, out)? {
                    self.after_request_part(Next::End);
                }
            }
            Up::Waiting => return Err(bad("bytes after a request for a tunnel, and before its answer")),
            Up::Copy => {
                out.insert(&self.request.section.take());
                out.input(*at..input.len());
                *at = input.len();
            }
            Up::Refused => *at = input.len(),
        }
        Ok(())
    }

    fn request_head(&mut self, input: &[u8], at: &mut usize, out: &mut Output) -> Result<(), Fault> {
        let strict = self.plan.strict;
        check_beginning(self.request.section.held(), &input[*at..], strict)?;
        let Some((place, next)) = self.request.section.read(input, *at, &mut self.request.head)? else {
            *at = input.len();
            return Ok(());
        };
        if place == Place::Held {
            *at = next;
        }
        let facts = &self.request.head;
        let meaning = facts.finish()?;
        let mut head = Head::new(input, self.request.section.held(), &place, out);
        if meaning.absolute && !hosts_agree(head.bytes()) {
            return Err(bad("the target and Host name different hosts"));
        }
        // Nobody counts the requests of a connection whose answers are just copied.
        if self.down != Down::Copy && !self.awaited.push(meaning.kind) {
            return Err(Fault { status: 503, reason: "too many requests without an answer" });
        }
        let from = if strict { facts.leading_bytes() } else { 0 };
        edit::request(&mut head, from, facts, self.plan.forwarded, &self.own);
        *at = next;
        self.sent += 1;
        self.kind = meaning.kind;
        self.expecting = facts.expects() && meaning.body.is_some();
        self.request.begin(RequestHead::new(strict));
        match meaning.body {
            Some(body) => self.up = Up::Body(body),
            None => self.after_request_part(Next::End),
        }
        Ok(())
    }

    fn after_request_part(&mut self, next: Next) {
        match next {
            Next::More => {}
            Next::Trailer => self.up = Up::Trailer,
            Next::End => {
                let tunnel = matches!(self.kind, Kind::Connect | Kind::Upgrade);
                // An answer that came before the end of its request was not a tunnel.
                let answered = self.answered == self.sent;
                self.up = match self.down {
                    _ if !tunnel || answered => Up::Head,
                    Down::Copy => Up::Copy,
                    _ => Up::Waiting,
                };
            }
        }
    }

    /// Refuses the request that is on its way now: at once, or after the answers to those before it.
    fn refuse(&mut self, fault: Fault) -> Result<(), Refusal> {
        let within = matches!(self.up, Up::Body(_) | Up::Trailer);
        let due = if within { self.sent - 1 } else { self.sent };
        self.up = Up::Refused;
        self.request.section.take();
        if self.answered < due {
            self.refusal = Some(Pending { fault, due });
            return Ok(());
        }
        Err(Refusal::new(fault, self.answered == due && self.down == Down::Head))
    }
}

impl<Facts> Reading<Facts> {
    fn new(head: Facts, strict: bool) -> Self {
        Self { section: Section::default(), head, trailer: Trailer { strict, fields: 0 } }
    }

    /// The head has gone on; the next one is read into `head`.
    fn begin(&mut self, head: Facts) {
        self.section.take();
        self.head = head;
        self.trailer.fields = 0;
    }

    /// Reads and passes on a trailer section: whether it is complete.
    fn trailer(&mut self, input: &[u8], at: &mut usize, out: &mut Output) -> Result<bool, Fault> {
        let Some((place, next)) = self.section.read(input, *at, &mut self.trailer)? else {
            *at = input.len();
            return Ok(false);
        };
        match place {
            Place::Input(range) => out.input(range),
            Place::Held => out.insert(self.section.held()),
        }
        self.section.take();
        *at = next;
        Ok(true)
    }
}

/// The first bytes of what should be a request: those that are held, and those that come now.
fn check_beginning(held: &[u8], more: &[u8], strict: bool) -> Result<(), Fault> {
    if strict {
        return match more.first() {
            Some(0x16) if held.is_empty() => Err(bad("TLS where HTTP without TLS is expected")),
            Some(byte) if held.is_empty() && !is_token(&[*byte]) && !matches!(byte, b'\r' | b'\n') => {
                Err(bad("something else than an HTTP request"))
            }
            _ => Ok(()),
        };
    }
    if held.len() >= BEGINNING_MAX {
        return Ok(());
    }
    let beginning = || held.iter().chain(more).skip_while(|byte| matches!(byte, b'\r' | b'\n'));
    let fits = |method: &&str| {
        beginning().zip(method.bytes()).all(|(byte, wanted)| byte.to_ascii_uppercase() == wanted)
    };
    if METHODS.iter().any(fits) { Ok(()) } else { Err(bad("no method that is known")) }
}
