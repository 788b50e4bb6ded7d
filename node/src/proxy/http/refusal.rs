//! Why something does not go on, and what the client is told.

/// What is wrong with a message: the status that says so, and the reason in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) reason: &'static str,
}

/// A request that cannot be understood, or one whose meaning depends on who reads it.
pub(super) const fn bad(reason: &'static str) -> Fault {
    Fault { status: 400, reason }
}

/// An answer of the server that cannot be passed on.
pub(super) const fn bad_answer(reason: &'static str) -> Fault {
    Fault { status: 502, reason }
}

/// The connection is to be ended: nothing of this message goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 431, 501, 502, 503 or 505.
    pub status: u16,
    /// For the log.
    pub reason: &'static str,
    /// The answer for the client, to be written before both connections are closed. Empty when the client has got a part
    /// of another answer in its place: then the connection is just closed.
    pub response: Vec<u8>,
}

impl Refusal {
    /// With an answer, if the client can still be given one.
    pub(super) fn new(fault: Fault, answerable: bool) -> Self {
        let response = if answerable { response(fault) } else { Vec::new() };
        Self { status: fault.status, reason: fault.reason, response }
    }
}

fn response(Fault { status, reason }: Fault) -> Vec<u8> {
    let phrase = match status {
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Bad Request",
    };
    let length = reason.len() + 1;
    format!(
        "HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{reason}\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_that_the_connection_ends() {
        let refusal = Refusal::new(bad("no reason"), true);
        let text = String::from_utf8(refusal.response).expect("text");
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 10\r\n\r\nno reason\n"), "{text}");
        assert!(Refusal::new(bad("no reason"), false).response.is_empty());
    }
}
