//! Requests on connections that stay open.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use openssl::ssl::SslStream;

use super::super::{Workload, origin};
use super::{Done, Latencies, Load, Until, Wire, answer_length, connect, connect_tls};

/// Bytes read at once: large answers in few steps.
const READ_BYTES: usize = 128 << 10;

/// Kept connections in groups, each group a thread's; every connection has had its first answer: what follows is requests
/// and nothing else.
pub(in super::super) struct Kept<S> {
    groups: Vec<Group<S>>,
}

/// Within a group all connections ask, then all answers are read, and so on.
struct Group<S> {
    streams: Vec<S>,
    request: String,
    buffer: Vec<u8>,
}

impl Kept<TcpStream> {
    /// Opens `count` plain connections to `address`, for small answers.
    pub(in super::super) fn plain(address: &str, count: usize) -> Result<Self> {
        Self::open(count, 1, origin::SMALL_PATH, || connect(address))
    }
}

impl Kept<SslStream<TcpStream>> {
    /// Opens the connections of `workload` in so many groups.
    pub(in super::super) fn tls(workload: Workload, groups: usize) -> Result<Self> {
        Self::open(workload.together(), groups, workload.path(), connect_tls)
    }

    /// Opens `count` TLS connections, for small answers.
    pub(in super::super) fn tls_small(count: usize) -> Result<Self> {
        Self::open(count, 1, origin::SMALL_PATH, connect_tls)
    }
}

impl<S: Wire> Kept<S> {
    fn open(count: usize, groups: usize, path: &str, connect: impl Fn() -> Result<S> + Sync) -> Result<Self> {
        let open = |count: usize| -> Result<Group<S>> {
            let streams = (0..count).map(|_| connect()).collect::<Result<_>>()?;
            let mut group =
                Group { streams, request: origin::request(path, true), buffer: vec![0; READ_BYTES] };
            group.round(&mut Done::default(), &mut Latencies::default())?;
            Ok(group)
        };
        let groups = thread::scope(|scope| {
            let open = &open;
            let threads: Vec<_> =
                (0..groups).map(|_| scope.spawn(move || open(count.div_ceil(groups)))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread of the load has panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { groups })
    }

    /// Connections that are open.
    pub(in super::super) fn count(&self) -> usize {
        self.groups.iter().map(|group| group.streams.len()).sum()
    }
}

impl<S: Wire> Load for Kept<S> {
    fn run(&mut self, until: Until) -> Result<Done> {
        let started = Instant::now();
        let connections = self.count() as u64;
        let parts = thread::scope(|scope| {
            let threads: Vec<_> = self
                .groups
                .iter_mut()
                .map(|group| scope.spawn(move || group.run(until, started, connections)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread of the load has panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        let mut all = Done::default();
        for part in parts {
            all.operations += part.operations;
            all.bytes += part.bytes;
            all.p99_us = all.p99_us.max(part.p99_us);
        }
        all.elapsed_us = started.elapsed().as_micros() as u64;
        Ok(all)
    }
}

impl<S: Wire> Group<S> {
    /// `connections`: in all groups, which share the operations evenly.
    fn run(&mut self, until: Until, started: Instant, connections: u64) -> Result<Done> {
        let (mut done, mut latencies) = (Done::default(), Latencies::default());
        match until {
            Until::Seconds(seconds) => {
                let end = started + Duration::from_secs(seconds.into());
                while Instant::now() < end {
                    self.round(&mut done, &mut latencies)?;
                }
            }
            Until::Operations(count) => {
                ensure!(count % connections == 0, "{count} requests on {connections} connections");
                for _ in 0..count / connections {
                    self.round(&mut done, &mut latencies)?;
                }
            }
        }
        done.p99_us = latencies.p99_us();
        Ok(done)
    }

    /// One request on every connection, all connections at a time.
    fn round(&mut self, done: &mut Done, latencies: &mut Latencies) -> Result<()> {
        let asked = Instant::now();
        for stream in &mut self.streams {
            stream.write_all(self.request.as_bytes()).context("cannot send a request")?;
        }
        for stream in &mut self.streams {
            done.bytes += read_answer(stream, &mut self.buffer)? as u64;
            done.operations += 1;
            latencies.add(asked);
        }
        Ok(())
    }
}

/// Reads one answer to its end, and not beyond: the server sends no more than was asked for.
fn read_answer(stream: &mut impl Wire, buffer: &mut [u8]) -> Result<usize> {
    let (mut length, mut filled) = (None, 0);
    while length.is_none() {
        let free =
            buffer.get_mut(filled..).filter(|free| !free.is_empty()).context("a head that is too long")?;
        let count = stream.read(free).context("cannot read an answer")?;
        ensure!(count > 0, "the connection was closed");
        filled += count;
        length = answer_length(&buffer[..filled])?;
    }
    let length = length.unwrap_or(0);
    while filled < length {
        let count = stream.read(buffer).context("cannot read an answer")?;
        ensure!(count > 0, "the connection was closed");
        filled += count;
    }
    ensure!(filled == length, "more bytes than the answer has");
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers `answers` requests on each of `clients` connections.
    fn server(clients: usize, answers: usize) -> (String, thread::JoinHandle<()>) {
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
            }
        });
        (address, thread)
    }

    #[test]
    fn kept_connections_send_exactly_the_requests_that_are_counted() {
        let (address, server) = server(3, 1 + 5); // the server ends after exactly so many, or the test fails
        let mut kept = Kept::plain(&address, 3).unwrap();
        assert_eq!(kept.count(), 3);
        let done = kept.run(Until::Operations(15)).unwrap();
        assert_eq!(done.operations, 15);
        server.join().unwrap();
    }

    #[test]
    fn requests_that_do_not_divide_among_the_connections_are_refused() {
        let (address, server) = server(3, 1);
        let mut kept = Kept::plain(&address, 3).unwrap();
        assert!(kept.run(Until::Operations(4)).is_err());
        server.join().unwrap();
    }
}
