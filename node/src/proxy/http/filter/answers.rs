//! The way from the server to the client.

use super::{Down, Filter, Up};
use crate::proxy::http::body::Next;
use crate::proxy::http::edit::{self, Head};
use crate::proxy::http::output::Output;
use crate::proxy::http::refusal::{Fault, Refusal, bad_answer};
use crate::proxy::http::response::{Meaning, ResponseHead, could_begin};
use crate::proxy::http::section::Place;

/// Why an answer does not go on.
enum Stop {
    /// It is not in order.
    Fault(Fault),
    /// It was the last one before this.
    Refusal(Refusal),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        // Whatever is wrong, it is the server that is wrong.
        Self::Fault(Fault { status: 502, ..fault })
    }
}

impl Filter {
    /// Bytes of the server; appends to `out` what goes on to the client. All of `input` is dealt with.
    ///
    /// # Errors
    /// The server's answer is not in order, or an earlier request was refused and it is now its turn: the client is to
    /// get what is in `out`, then [`Refusal::response`], and both connections are to be closed.
    pub fn response(&mut self, input: &[u8], out: &mut Output) -> Result<(), Refusal> {
        let mut at = 0;
        while at < input.len() {
            match self.response_part(input, &mut at, out) {
                Ok(()) => {}
                Err(Stop::Refusal(refusal)) => return Err(refusal),
                Err(Stop::Fault(fault)) if self.plan.strict => return Err(self.refuse_answer(fault)),
                Err(Stop::Fault(_)) => self.copy_answers(),
            }
        }
        Ok(())
    }

    /// The server will send no more.
    ///
    /// # Errors
    /// As [`Self::response`].
    pub fn response_end(&mut self, out: &mut Output) -> Result<(), Refusal> {
        let held = self.response.section.take();
        if !self.plan.strict || self.down == Down::Copy {
            out.insert(&held);
        } else if self.down == Down::Head && !held.is_empty() {
            return Err(self.refuse_answer(bad_answer("the server's answer ends within its head")));
        }
        // The end of such a body is an end as good as any; that of the others is one too early, which the client sees.
        if self.response_passthrough() == u64::MAX && self.down != Down::Copy {
            self.answer_complete()?;
        }
        match self.refusal {
            Some(pending) => Err(Refusal::new(pending.fault, self.down == Down::Head)),
            None => Ok(()),
        }
    }

    /// How many of the server's next bytes may go on without [`Self::response`] seeing them; they may also be given to it.
    #[must_use]
    pub fn response_passthrough(&self) -> u64 {
        match &self.down {
            Down::Body(body) => body.data(),
            Down::Copy if self.response.section.held().is_empty() => u64::MAX,
            _ => 0,
        }
    }

    /// `count` bytes of the server, at most [`Self::response_passthrough`], went on without [`Self::response`].
    ///
    /// # Errors
    /// As [`Self::response`]: it was the end of the last answer before a refusal.
    pub fn response_passed(&mut self, count: u64) -> Result<(), Refusal> {
        match &mut self.down {
            Down::Body(body) if count > 0 => match body.passed(count) {
                Next::End => self.answer_complete(),
                Next::More | Next::Trailer => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn response_part(&mut self, input: &[u8], at: &mut usize, out: &mut Output) -> Result<(), Stop> {
        match &mut self.down {
            Down::Head => self.response_head(input, at, out)?,
            Down::Body(body) => {
                let (count, next) = body.look(&input[*at..]);
                out.input(*at..*at + count);
                *at += count;
                match next? {
                    Next::More => {}
                    Next::Trailer => self.down = Down::Trailer,
                    Next::End => self.answer_complete().map_err(Stop::Refusal)?,
                }
            }
            Down::Trailer => {
                if self.response.trailer(input, at, out)? {
                    self.answer_complete().map_err(Stop::Refusal)?;
                }
            }
            Down::Copy => {
                out.insert(&self.response.section.take());
                out.input(*at..input.len());
                *at = input.len();
            }
        }
        Ok(())
    }

    fn response_head(&mut self, input: &[u8], at: &mut usize, out: &mut Output) -> Result<(), Stop> {
        let Some(kind) = self.awaited.next() else {
            return Err(bad_answer("the server sends an answer that nobody asked for").into());
        };
        let section = &mut self.response.section;
        if section.held().is_empty() && !could_begin(&input[*at..]) {
            return Err(bad_answer("the server sends something else than an HTTP/1 answer").into());
        }
        let Some((place, next)) = section.read(input, *at, &mut self.response.head)? else {
            *at = input.len();
            return Ok(());
        };
        if place == Place::Held {
            *at = next;
        }
        let facts = &self.response.head;
        let meaning = facts.finish(kind)?;
        if meaning == Meaning::Tunnel {
            if let Some(pending) = self.refusal {
                return Err(Stop::Refusal(Refusal::new(pending.fault, true)));
            }
            if self.up != Up::Waiting {
                return Err(bad_answer("the server makes a tunnel before the request is complete").into());
            }
        }
        let hsts: &[u8] =
            if self.https && facts.status >= 200 && !facts.hsts { &self.plan.hsts } else { b"" };
        let mut head = Head::new(input, section.held(), &place, out);
        edit::response(&mut head, facts.drops_length(), hsts);
        *at = next;
        if facts.status == 100 {
            self.expecting = false;
        }
        self.response.begin(ResponseHead::default());
        match meaning {
            Meaning::Interim => {}
            Meaning::Tunnel => (self.up, self.down) = (Up::Copy, Down::Copy),
            Meaning::Body(body) => self.down = Down::Body(body),
            Meaning::Complete => self.answer_complete().map_err(Stop::Refusal)?,
        }
        Ok(())
    }

    fn answer_complete(&mut self) -> Result<(), Refusal> {
        self.awaited.pop();
        self.answered += 1;
        self.down = Down::Head;
        if self.up == Up::Waiting && self.answered == self.sent {
            self.up = Up::Head;
        }
        if let Some(pending) = self.refusal.filter(|pending| pending.due == self.answered) {
            return Err(Refusal::new(pending.fault, true));
        }
        if self.expecting && self.answered == self.sent && self.plan.strict {
            // The client may leave the body out now, or send it: its next bytes mean one thing or the other, and the
            // server may not choose as we would (RFC 9110 section 10.1.1).
            let reason = "answered before its body was asked for: the next bytes could be either";
            return Err(Refusal::new(Fault { status: 400, reason }, false));
        }
        Ok(())
    }

    fn refuse_answer(&mut self, fault: Fault) -> Refusal {
        self.response.section.take();
        // What nobody asked for needs no answer, and a client that has got a part of one cannot be given another.
        Refusal::new(fault, self.down == Down::Head && self.awaited.next().is_some())
    }

    /// The rest of the answers is not looked at. Requests still are, until one asks for a tunnel.
    fn copy_answers(&mut self) {
        self.down = Down::Copy;
        if self.up == Up::Waiting {
            self.up = Up::Copy;
        }
    }
}
