//! Load: wrk for plain HTTP, our own generators where wrk does not do (TLS with a certain handshake, UDP, exact numbers).
//!
//! They need not be faster than the proxy: what counts is its CPU time per operation.

pub(super) mod datagrams;
pub(super) mod fresh;
pub(super) mod kept;
pub(super) mod many;
mod ready;
mod wrk;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use openssl::ssl::{ShutdownState, SslStream};
use serde::{Deserialize, Serialize};

use super::Workload;
use super::sandbox::FRONT;
use super::tls::Client;
use super::workload::Handshake;

/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// What a load did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// Requests answered in full, datagrams echoed to the one who sent them.
    pub(super) operations: u64,
    /// Bytes received, heads included.
    pub(super) bytes: u64,
    /// Microseconds.
    pub(super) elapsed_us: u64,
    /// Connections refused or broken, wrong status codes, time-outs.
    pub(super) errors: u64,
    /// 99 of 100 answers came within so many microseconds.
    pub(super) p99_us: u64,
    /// Datagrams that came to another client than the one who had sent them.
    pub(super) strays: u64,
    /// Datagrams whose echo did not come in time.
    pub(super) lost: u64,
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// After a time. What is on its way is finished.
    Seconds(u32),
    /// After exactly so many operations.
    Operations(u64),
}

/// A load that can be run again and again: connections that are kept stay between the runs.
pub(super) trait Load {
    /// Runs it once.
    fn run(&mut self, until: Until) -> Result<Done>;
}

/// The load of `workload`, its kept connections opened.
pub(super) fn open(workload: Workload, folder: &Path) -> Result<Box<dyn Load>> {
    Ok(match workload {
        Workload::Connection | Workload::KeepAlive | Workload::BulkOne | Workload::BulkEight => {
            Box::new(wrk::Wrk::new(workload, folder)?)
        }
        Workload::TlsFullEcdsa | Workload::TlsFullRsa | Workload::TlsResume13 | Workload::TlsResume12 => {
            fresh::tls(workload.handshake().context("no handshake")?, workload.together())?
        }
        Workload::TlsRequest => Box::new(kept::Kept::tls(workload, 1)?),
        // Each its own thread: one that waits for its turn would stop the proxy's reading.
        Workload::TlsBulk => Box::new(kept::Kept::tls(workload, workload.together())?),
        Workload::UdpEcho => Box::new(datagrams::Datagrams::echo()?),
        Workload::UdpFlow => Box::new(datagrams::Datagrams::fresh()?),
        Workload::Burst => Box::new(many::Burst),
        Workload::Idle | Workload::IdleTls => bail!("memory is not measured under load"),
    })
}

/// A connection, plain or TLS.
pub(super) trait Wire: Read + Write + Send {
    /// Ends it without a word more. (A TLS session stays good for resumption, and nothing is sent to who has closed.)
    fn end(self);
}

impl Wire for TcpStream {
    fn end(self) {}
}

impl Wire for SslStream<TcpStream> {
    fn end(mut self) {
        self.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
    }
}

/// A TCP connection to the proxy.
pub(super) fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true).context("no delay")?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE)).context("time limit")?;
    stream.set_write_timeout(Some(ANSWER_DEADLINE)).context("time limit")?;
    Ok(stream)
}

/// A TLS connection to the proxy, with a full TLS 1.3 handshake.
pub(super) fn connect_tls() -> Result<SslStream<TcpStream>> {
    Client::new(Handshake::Full13)?.connect(connect(FRONT)?)
}

/// The length of a whole answer as soon as its head is there.
fn answer_length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&answer[..head]);
    ensure!(text.starts_with("HTTP/1.1 200 "), "answer: {text}");
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).context("no Content-Length")?;
    Ok(Some(head + 4 + length))
}

/// Whether `answer` holds a head and as many bytes after it as the head says.
fn is_complete(answer: &[u8]) -> Result<bool> {
    let Some(length) = answer_length(answer)? else { return Ok(false) };
    ensure!(answer.len() <= length, "more bytes than the answer has");
    Ok(answer.len() == length)
}

/// How long operations took, for the 99th percentile.
#[derive(Default)]
struct Latencies(Vec<u32>);

impl Latencies {
    fn add(&mut self, since: Instant) {
        self.0.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
    }

    fn p99_us(mut self) -> u64 {
        self.0.sort_unstable();
        let at = (self.0.len() * 99).div_ceil(100).saturating_sub(1);
        self.0.get(at).copied().unwrap_or(0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte_and_wrong_with_one_more() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..whole.len() {
            assert!(!is_complete(&whole[..cut]).unwrap(), "{cut}");
        }
        assert!(is_complete(whole).unwrap());
        assert!(is_complete(&[whole.as_slice(), b"d"].concat()).is_err());
        assert!(is_complete(b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n").is_err());
    }

    #[test]
    fn of_a_hundred_answers_the_99th_counts() {
        assert_eq!(Latencies((1..=100).rev().collect()).p99_us(), 99);
        assert_eq!(Latencies(vec![7]).p99_us(), 7);
        assert_eq!(Latencies::default().p99_us(), 0);
    }
}
