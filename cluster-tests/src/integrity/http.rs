//! A script's bytes as the body of a request, and of its answer.
//!
//! How the answer is to be framed is what the request says, so that the server knows it without the script. A body that
//! ends before its framing says so is an error: it was broken off.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::Stream;
use super::script::{NUMBER_LEN, Script};

/// What a read asks for.
const READ_LEN: usize = 16 * 1024;
/// The longest head that either side sends, with what the proxy adds.
const HEAD_MAX: usize = 4096;
/// The longest line before a chunk.
const LINE_MAX: usize = 64;
/// A head in so many goes out byte by byte.
const DRIPS_ONE_IN: u64 = 5;

/// How a body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Length(u64),
    Chunked,
    /// It ends with the connection.
    Close,
}

impl Frame {
    fn lines(self) -> String {
        match self {
            Self::Length(length) => format!("Content-Length: {length}\r\n"),
            Self::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Self::Close => "Connection: close\r\n".to_owned(),
        }
    }

    fn of(head: &str, is_answer: bool) -> io::Result<Self> {
        if field(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Ok(Self::Chunked);
        }
        match field(head, "content-length").map(str::parse) {
            Some(Ok(length)) => Ok(Self::Length(length)),
            None if is_answer => Ok(Self::Close),
            _ => Err(wrong("no end of the body")),
        }
    }
}

/// What is sent.
enum Sending {
    /// The head, once it is known: a server waits for the request.
    Head(Option<String>),
    Body,
    Over,
}

/// What is read.
enum Reading {
    Head,
    Length(u64),
    /// The size of a chunk; before it the end of the one before, if there was one.
    ChunkLine {
        is_first: bool,
    },
    Chunk(u64),
    Trailer,
    Close,
    /// After the body: the end of the connection, if that is promised.
    End,
    Over,
}

/// One side of one request and its answer.
pub(super) struct Spoken {
    inner: Stream,
    is_server: bool,
    sending: Sending,
    frame: Frame,
    /// The client says its end by the end of the connection, too.
    half_closes: bool,
    drips: bool,
    out: Vec<u8>,
    written: usize,
    /// Bytes of a write that are in `out`.
    accepted: Option<usize>,
    reading: Reading,
    raw: Vec<u8>,
    at: usize,
}

impl Spoken {
    pub(super) fn of_client(inner: Stream, script: &Script) -> Self {
        let number = script.number;
        let frame =
            if number.is_multiple_of(2) { Frame::Length(script.up + NUMBER_LEN) } else { Frame::Chunked };
        let answer = match number % 3 {
            0 => format!("length {}", script.down),
            1 => "chunked".to_owned(),
            _ => "close".to_owned(),
        };
        let half_closes = (number / 6).is_multiple_of(2);
        let after = if half_closes { "ends" } else { "stays" };
        let head = format!(
            "POST /{number} HTTP/1.1\r\nHost: integrity.test\r\nX-Forwarded-For: 6.6.6.6\r\nX-Answer: {answer}\r\n\
             X-Client: {after}\r\n{}\r\n",
            frame.lines()
        );
        let sending = Sending::Head(Some(head));
        Self {
            half_closes,
            drips: number.is_multiple_of(DRIPS_ONE_IN),
            ..Self::new(inner, false, sending, frame)
        }
    }

    pub(super) fn of_server(inner: Stream) -> Self {
        Self::new(inner, true, Sending::Head(None), Frame::Close)
    }

    fn new(inner: Stream, is_server: bool, sending: Sending, frame: Frame) -> Self {
        Self {
            inner,
            is_server,
            sending,
            frame,
            half_closes: false,
            drips: false,
            out: Vec::new(),
            written: 0,
            accepted: None,
            reading: Reading::Head,
            raw: Vec::new(),
            at: 0,
        }
    }

    /// The head is read: what it makes of the body, and of the answer.
    fn has_head(&mut self, head: &str) -> io::Result<()> {
        let frame = Frame::of(head, !self.is_server)?;
        self.reading = match frame {
            Frame::Length(length) => Reading::Length(length),
            Frame::Chunked => Reading::ChunkLine { is_first: true },
            Frame::Close => Reading::Close,
        };
        if !self.is_server {
            return if head.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(wrong("another answer")) };
        }
        // The rule is "replace": what the client says of itself is not to be believed.
        if head.contains("6.6.6.6") || field(head, "x-forwarded-for").is_none() {
            return Err(wrong("a forged X-Forwarded-For, or none"));
        }
        let answer = field(head, "x-answer").unwrap_or_default();
        self.frame = match answer.split_once(' ') {
            Some(("length", length)) => Frame::Length(length.parse().map_err(|_| wrong("a bad X-Answer"))?),
            _ if answer == "chunked" => Frame::Chunked,
            _ => Frame::Close,
        };
        self.half_closes = field(head, "x-client") == Some("ends");
        self.drips = (answer.len() as u64).is_multiple_of(DRIPS_ONE_IN);
        self.sending = Sending::Head(Some(format!(
            "HTTP/1.1 200 OK\r\nServer: integrity\r\n{}\r\n",
            self.frame.lines()
        )));
        Ok(())
    }

    /// What goes out before the next bytes of the body.
    fn begin(&mut self) -> io::Result<()> {
        if let Sending::Head(head) = &mut self.sending {
            let head = head.take().ok_or_else(|| wrong("an answer before the request"))?;
            self.out.extend_from_slice(head.as_bytes());
            self.sending = Sending::Body;
        }
        Ok(())
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let mut bytes = &self.out[self.written..];
            if self.drips && self.written < HEAD_MAX {
                bytes = &bytes[..1];
            }
            let count = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
            self.written += count;
        }
        self.out.clear();
        self.written = 0;
        // Only the head.
        self.drips = false;
        Poll::Ready(Ok(()))
    }

    /// A line of what was read, without its end.
    fn line(&mut self) -> Option<String> {
        let unread = &self.raw[self.at..];
        let end = unread.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(&unread[..end]).into_owned();
        self.at += end + 2;
        Some(line)
    }

    /// Goes as far as what was read allows. `Some(n)`: bytes of the body, or its end.
    fn step(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<Option<usize>> {
        loop {
            match self.reading {
                Reading::Head => {
                    let unread = &self.raw[self.at..];
                    let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") else {
                        return if unread.len() > HEAD_MAX { Err(wrong("a long head")) } else { Ok(None) };
                    };
                    let head = String::from_utf8_lossy(&unread[..end + 2]).into_owned();
                    self.at += end + 4;
                    self.has_head(&head)?;
                }
                Reading::Length(0) | Reading::End if !self.is_server || !self.half_closes => {
                    self.reading = Reading::Over;
                }
                Reading::Length(0) => self.reading = Reading::End,
                Reading::Length(left) => {
                    let count = self.give(left, buffer);
                    self.reading = Reading::Length(left - count as u64);
                    return Ok((count > 0).then_some(count));
                }
                Reading::ChunkLine { is_first } => {
                    let Some(left) = self.chunk_line(is_first)? else { return Ok(None) };
                    self.reading = if left == 0 { Reading::Trailer } else { Reading::Chunk(left) };
                }
                Reading::Chunk(0) => self.reading = Reading::ChunkLine { is_first: false },
                Reading::Chunk(left) => {
                    let count = self.give(left, buffer);
                    self.reading = Reading::Chunk(left - count as u64);
                    return Ok((count > 0).then_some(count));
                }
                Reading::Trailer => match self.line() {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.reading = Reading::End,
                    Some(_) => return Err(wrong("a trailer")),
                },
                Reading::Close => {
                    let count = self.give(u64::MAX, buffer);
                    return Ok((count > 0).then_some(count));
                }
                Reading::End if self.at < self.raw.len() => return Err(wrong("bytes after the body")),
                Reading::End => return Ok(None),
                Reading::Over => return Ok(Some(0)),
            }
        }
    }

    /// The size of the next chunk; `None`: not all of it is here yet.
    fn chunk_line(&mut self, is_first: bool) -> io::Result<Option<u64>> {
        let begin = self.at;
        let ending = if is_first { Some(String::new()) } else { self.line() };
        if ending.as_ref().is_some_and(|line| !line.is_empty()) {
            return Err(wrong("a chunk that does not end where it should"));
        }
        let Some(line) = ending.and_then(|_| self.line()) else {
            self.at = begin;
            let is_long = self.raw.len() - begin > LINE_MAX;
            return if is_long { Err(wrong("a long line before a chunk")) } else { Ok(None) };
        };
        u64::from_str_radix(&line, 16).map(Some).map_err(|_| wrong("a bad chunk size"))
    }

    fn give(&mut self, most: u64, buffer: &mut ReadBuf<'_>) -> usize {
        let unread = &self.raw[self.at..];
        let count = unread.len().min(buffer.remaining()).min(usize::try_from(most).unwrap_or(usize::MAX));
        buffer.put_slice(&unread[..count]);
        self.at += count;
        count
    }
}

impl AsyncRead for Spoken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.step(buffer)?.is_some() {
                return Poll::Ready(Ok(()));
            }
            let this = &mut *self;
            this.raw.drain(..this.at);
            this.at = 0;
            let mut space = [0; READ_LEN];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut space))?;
            if space.filled().is_empty() {
                return Poll::Ready(match this.reading {
                    Reading::Close | Reading::End => {
                        this.reading = Reading::Over;
                        Ok(())
                    }
                    _ => Err(ErrorKind::UnexpectedEof.into()),
                });
            }
            this.raw.extend_from_slice(space.filled());
        }
    }
}

impl AsyncWrite for Spoken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let accepted = match this.accepted {
            Some(accepted) => accepted,
            None => {
                this.begin()?;
                if this.frame == Frame::Chunked {
                    this.out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                }
                this.out.extend_from_slice(bytes);
                if this.frame == Frame::Chunked {
                    this.out.extend_from_slice(b"\r\n");
                }
                bytes.len()
            }
        };
        // Whoever writes comes with the same bytes until they are out.
        this.accepted = Some(accepted);
        ready!(this.poll_out(context))?;
        this.accepted = None;
        Poll::Ready(Ok(accepted))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !matches!(this.sending, Sending::Over) {
            this.begin()?;
            if this.frame == Frame::Chunked {
                this.out.extend_from_slice(b"0\r\n\r\n");
            }
            this.sending = Sending::Over;
        }
        ready!(this.poll_out(context))?;
        let ends = if this.is_server { this.frame == Frame::Close } else { this.half_closes };
        if ends { Pin::new(&mut this.inner).poll_shutdown(context) } else { Poll::Ready(Ok(())) }
    }
}

/// The value of a field.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::super::{Dress, Settings};
    use super::*;

    fn script(number: u64) -> Script {
        let settings = Settings {
            connections: 1,
            at_once: 1,
            seed: 7,
            bytes_max: 1 << 16,
            resets: true,
            deaths: false,
            dress: Dress::default(),
        };
        let mut script = Script::new(&settings, number);
        (script.up, script.down) = (3000, 5000);
        script
    }

    fn run(body: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(body);
    }

    /// A proxy that only adds what the server looks for.
    fn forwarded(request: &[u8]) -> Vec<u8> {
        String::from_utf8(request.to_vec()).expect("text").replace("6.6.6.6", "127.0.0.1").into_bytes()
    }

    #[test]
    fn each_framing_carries_the_same_bytes_and_a_broken_one_is_an_error() {
        run(async {
            for (number, cut) in (0..12).flat_map(|number| [(number, 0), (number, 1)]) {
                let script = script(number);
                let (client, mut wire) = duplex(1 << 20);
                let mut client = Spoken::of_client(Box::new(client), &script);
                let body = vec![b'b'; usize::try_from(script.up + NUMBER_LEN).expect("small")];
                client.write_all(&body[..100]).await.expect("sent");
                client.write_all(&body[100..]).await.expect("sent");
                client.shutdown().await.expect("ended");
                drop(client);
                let mut request = Vec::new();
                wire.read_to_end(&mut request).await.expect("read");
                let request = forwarded(&request);
                let (server, mut wire) = duplex(1 << 20);
                let mut server = Spoken::of_server(Box::new(server));
                wire.write_all(&request[..request.len() - cut]).await.expect("sent");
                wire.shutdown().await.expect("ended");
                let mut read = Vec::new();
                let outcome = server.read_to_end(&mut read).await;
                assert_eq!(outcome.is_ok(), cut == 0, "{number}: {outcome:?}");
                assert!(body.starts_with(&read), "{number}");
                assert!(cut == 1 || read == body, "{number}");
            }
        });
    }
}
