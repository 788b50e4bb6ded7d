//! HTTP/1.0 and HTTP/1.1 as they pass, without a socket: each request of a connection gets the headers that the service
//! asks for, and what two readers could understand in two ways does not go on (RFC 9112; `docs/http.md` has the rules).
//!
//! ```text
//! client bytes -> Filter::request  -> Output -> server        heads are held until they are whole, and checked;
//! client bytes <- Output <- Filter::response <- server        bodies pass as they come, as ranges of the input
//! ```
//!
//! The two directions know of each other: what an answer's head means depends on its request, a tunnel (CONNECT, or an
//! Upgrade that the server agrees to) makes both of them plain copies, and a request that is refused behind others that
//! are still unanswered is refused only after their answers, so that these stay whole.
//!
//! Bodies need not come through here: [`Filter::request_passthrough`] says how many of the next bytes may be moved in
//! any way (spliced, for instance), and [`Filter::request_passed`] is told how many were.

mod answer;
mod awaited;
mod body;
mod edit;
mod filter;
mod output;
mod refusal;
mod request;
mod response;
mod section;

use crate::config::model::{Forwarded, Http};

pub use answer::Answer;
pub use filter::Filter;
pub use output::{Output, Segment};
pub use refusal::Refusal;

/// What is done to the heads of a service, ready for use.
#[derive(Clone, Debug, Default)]
pub struct HttpPlan {
    forwarded: Forwarded,
    strict: bool,
    /// The whole line `Strict-Transport-Security: ...`, or nothing.
    hsts: Box<[u8]>,
}

impl HttpPlan {
    /// Of the configuration. Characters that cannot stand in a header are left out of the value of `hsts`.
    #[must_use]
    pub fn new(http: &Http) -> Self {
        let hsts = http.hsts.as_ref().map_or_else(Vec::new, |value| {
            let printable = value.bytes().filter(|byte| (b' '..=b'~').contains(byte));
            b"Strict-Transport-Security: ".iter().copied().chain(printable).chain(*b"\r\n").collect()
        });
        Self { forwarded: http.forwarded, strict: !http.lenient, hsts: hsts.into_boxed_slice() }
    }
}

#[cfg(test)]
mod tests;
