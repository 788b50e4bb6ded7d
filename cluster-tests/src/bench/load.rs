//! Load: wrk for time, our own generator where the number of operations must be exact.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::Workload;
use super::origin;
use super::process::find;
use super::sandbox::FRONT;

/// Makes wrk print its own counters instead of rounded ones. It defines no request(), so the load itself stays in C.
const SUMMARY: &str = r#"
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("SUMMARY %d %d %d %d %d %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
        e.connect, e.read, e.write, e.status, e.timeout, latency:percentile(99)))
end
"#;

/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// What a load did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// Requests answered in full.
    pub(super) operations: u64,
    /// Bytes received, heads included.
    pub(super) bytes: u64,
    /// Microseconds.
    pub(super) elapsed_us: u64,
    /// Connections refused or broken, wrong status codes, time-outs.
    pub(super) errors: u64,
    /// 99 of 100 answers came within so many microseconds.
    pub(super) p99_us: u64,
}

/// Runs wrk against the proxy.
pub(super) fn wrk(workload: Workload, seconds: u32, folder: &Path) -> Result<Done> {
    let script = folder.join("summary.lua");
    fs::write(&script, SUMMARY).context("cannot write wrk's script")?;
    let mut command = Command::new(find("wrk")?);
    command.args([
        "-t1",
        &format!("-c{}", workload.connections()),
        &format!("-d{seconds}s"),
        "--timeout",
        "10s",
    ]);
    command.arg("-s").arg(script);
    if workload == Workload::Connection {
        command.args(["-H", "Connection: close"]);
    }
    let output =
        command.arg(format!("http://{FRONT}{}", workload.path())).output().context("cannot run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("wrk: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    parse_summary(&text).with_context(|| format!("wrk printed no summary: {text}"))
}

fn parse_summary(text: &str) -> Option<Done> {
    let line = text.lines().find_map(|line| line.strip_prefix("SUMMARY "))?;
    let numbers = line.split(' ').map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let &[operations, bytes, elapsed_us, connect, read, write, status, timeout, p99_us] = numbers.as_slice()
    else {
        return None;
    };
    Some(Done { operations, bytes, elapsed_us, errors: connect + read + write + status + timeout, p99_us })
}

/// Kept connections, each of which has had its first answer: what follows is requests and nothing else.
pub(super) struct Kept {
    streams: Vec<TcpStream>,
}

impl Kept {
    /// Opens `count` connections to `address`.
    pub(super) fn open(address: &str, count: usize) -> Result<Self> {
        let mut kept = Self { streams: Vec::with_capacity(count) };
        for _ in 0..count {
            kept.streams.push(connect(address)?);
        }
        kept.requests(1)?;
        Ok(kept)
    }

    /// `rounds` requests on every connection, all connections at a time. Returns their number.
    pub(super) fn requests(&mut self, rounds: u64) -> Result<u64> {
        let request = origin::request(origin::SMALL_PATH, true);
        for _ in 0..rounds {
            for stream in &mut self.streams {
                stream.write_all(request.as_bytes()).context("cannot send a request")?;
            }
            for stream in &mut self.streams {
                read_answer(stream)?;
            }
        }
        Ok(rounds * self.streams.len() as u64)
    }
}

/// `count` connections with one request each, `together` of them at a time. Returns their number.
pub(super) fn connections(address: &str, count: usize, together: usize) -> Result<u64> {
    let request = origin::request(origin::SMALL_PATH, false);
    let mut done = 0;
    while done < count {
        let mut streams = Vec::with_capacity(together);
        for _ in 0..together.min(count - done) {
            let mut stream = connect(address)?;
            stream.write_all(request.as_bytes()).context("cannot send a request")?;
            streams.push(stream);
        }
        for stream in &mut streams {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).context("cannot read an answer")?;
            ensure!(answer.starts_with(b"HTTP/1.1 200 "), "a wrong answer");
        }
        done += streams.len();
    }
    Ok(done as u64)
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true).context("no delay")?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE)).context("time limit")?;
    Ok(stream)
}

/// Reads one answer to its end, and not beyond: the server sends no more than was asked for.
fn read_answer(stream: &mut TcpStream) -> Result<()> {
    let mut buffer = [0; 4096];
    let mut filled = 0;
    loop {
        let free =
            buffer.get_mut(filled..).filter(|free| !free.is_empty()).context("an answer that is too long")?;
        let count = stream.read(free).context("cannot read an answer")?;
        ensure!(count > 0, "the connection was closed");
        filled += count;
        if is_complete(&buffer[..filled])? {
            return Ok(());
        }
    }
}

/// Whether `answer` holds a head and as many bytes after it as the head says.
fn is_complete(answer: &[u8]) -> Result<bool> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let text = String::from_utf8_lossy(&answer[..head]);
    ensure!(text.starts_with("HTTP/1.1 200 "), "answer: {text}");
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).context("no Content-Length")?;
    let body = answer.len() - head - 4;
    ensure!(body <= length, "more bytes than the answer has");
    Ok(body == length)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn the_summary_of_wrk_is_read_and_all_its_errors_are_added() {
        let text = "Running 1s test\nSUMMARY 1000 71000 2000000 1 2 3 4 5 900\nRequests/sec: 1\n";
        let done = parse_summary(text).unwrap();
        assert_eq!(
            done,
            Done { operations: 1000, bytes: 71_000, elapsed_us: 2_000_000, errors: 15, p99_us: 900 }
        );
        assert_eq!(parse_summary("SUMMARY 1 2"), None);
        assert_eq!(parse_summary("Requests/sec: 1"), None);
    }

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

    /// A server that answers `answers` requests on each of `clients` connections.
    fn server(clients: usize, answers: usize, close: bool) -> (String, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = thread::spawn(move || {
            let mut streams: Vec<_> = (0..clients).map(|_| listener.accept().unwrap().0).collect();
            for _ in 0..answers {
                for stream in &mut streams {
                    let mut request = [0; 512];
                    assert!(stream.read(&mut request).unwrap() > 0);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                }
                if close {
                    streams.clear();
                }
            }
        });
        (address, thread)
    }

    #[test]
    fn kept_connections_send_exactly_the_requests_that_are_counted() {
        let (address, server) = server(3, 1 + 5, false); // the server ends after exactly so many, or the test fails
        let mut kept = Kept::open(&address, 3).unwrap();
        assert_eq!(kept.requests(5).unwrap(), 15);
        server.join().unwrap();
    }

    #[test]
    fn a_connection_per_request_opens_exactly_the_connections_that_are_counted() {
        let (address, server) = server(4, 1, true);
        assert_eq!(connections(&address, 4, 4).unwrap(), 4);
        server.join().unwrap();
    }
}
