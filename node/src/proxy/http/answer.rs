//! The answer to a request of our own: its status, once its head is complete.

use super::response::ResponseHead;
use super::section::Section;

/// Interim answers (100, 103) before the one that counts; more of them are no answer.
const INTERIM_MAX: u32 = 16;

/// Reads the head of an answer, in whatever pieces it comes. What comes after it is of no interest.
#[derive(Debug, Default)]
pub struct Answer {
    section: Section,
    head: ResponseHead,
    interim: u32,
}

impl Answer {
    /// Takes the next bytes. `Some`: the status of the final answer; nothing more is to be fed. At most 64 KiB are held,
    /// and 17 heads read.
    ///
    /// # Errors
    /// What came is no answer of HTTP/1; the reason in words.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<u16>, &'static str> {
        let mut at = 0;
        loop {
            let read = self.section.read(bytes, at, &mut self.head).map_err(|fault| fault.reason)?;
            let Some((_, end)) = read else { return Ok(None) };
            match self.head.status {
                101 => return Err("the server switches protocols without being asked"),
                100..=199 if self.interim == INTERIM_MAX => {
                    return Err("the server sends interim answers only");
                }
                100..=199 => self.interim += 1,
                status => return Ok(Some(status)),
            }
            self.section.take();
            self.head = ResponseHead::default();
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::response::RESPONSE_HEAD_MAX;
    use super::*;

    fn fed(pieces: &[&[u8]]) -> Result<Option<u16>, &'static str> {
        let mut answer = Answer::default();
        for piece in pieces {
            if let Some(status) = answer.feed(piece)? {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_status_counts_when_the_head_is_complete_and_interim_answers_do_not() {
        let whole = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 Busy\r\nA: b\r\n\r\nbody";
        assert_eq!(fed(&[whole]), Ok(Some(503)));
        assert_eq!(fed(&whole.chunks(1).collect::<Vec<_>>()), Ok(Some(503)));
        assert_eq!(fed(&[b"HTTP/1.0 200\n\n"]), Ok(Some(200)));
        assert_eq!(fed(&[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"]), Ok(None), "half an answer is none");
    }

    #[test]
    fn what_is_no_answer_and_what_has_no_end_is_refused() {
        assert!(fed(&[b"SSH-2.0-OpenSSH_9.2\r\n"]).is_err());
        assert!(fed(&[b"HTTP/1.1 101 Switching\r\n\r\n"]).is_err());
        assert!(fed(&[b"HTTP/2 200\r\n\r\n"]).is_err());
        assert_eq!(
            fed(&[b"HTTP/1.1 100 Continue\r\n\r\n".repeat(99).as_slice()]),
            Err("the server sends interim answers only")
        );
        let endless =
            [b"HTTP/1.1 200 OK\r\n".as_slice()].into_iter().chain((0..99).map(|_| [b'x'; 1024].as_slice()));
        let error = fed(&endless.collect::<Vec<_>>()).unwrap_err();
        assert!(error.contains("too long"), "{error} ({RESPONSE_HEAD_MAX})");
    }
}
