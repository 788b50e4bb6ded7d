//! A connection for each request.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cygnet_netlink::resumption::Resumption;
use openssl::ssl::SslStream;

use super::super::origin;
use super::super::sandbox::FRONT;
use super::super::tls::{self, Client};
use super::super::workload::Handshake;
use super::{Done, Latencies, Load, Until, Wire, connect, is_complete};

/// A head and 71 bytes fit.
const ANSWER_BYTES: usize = 1024;

/// Threads that open a connection, ask, read to the end, and open the next one.
pub(in super::super) struct Fresh<Open> {
    threads: usize,
    open: Open,
}

/// Plain connections to `address`, `together` at a time.
pub(in super::super) fn plain(
    address: &str,
    together: usize,
) -> Fresh<impl Fn() -> Result<TcpStream> + Sync> {
    let address = address.to_owned();
    Fresh { threads: together, open: move || connect(&address) }
}

/// TLS connections to the proxy, each of which begins as `handshake` says, or is an error.
pub(in super::super) fn tls(handshake: Handshake, together: usize) -> Result<Box<dyn Load>> {
    let client = Client::new(handshake)?;
    Ok(match handshake {
        Handshake::Full13 => {
            Box::new(Fresh { threads: together, open: move || client.connect(connect(FRONT)?) })
        }
        Handshake::Resumed13 | Handshake::Resumed12 => {
            let session = first_session(&client)?;
            Box::new(Fresh { threads: together, open: move || tls::resume(&session, connect(FRONT)?) })
        }
    })
}

/// A session that can be resumed: with TLS 1.3 its ticket comes with the answer.
fn first_session(client: &Client) -> Result<Resumption> {
    let mut stream: SslStream<TcpStream> = client.connect(connect(FRONT)?)?;
    ask(&mut stream)?;
    let session = Resumption::of(stream.ssl()).context("the server gave no session")?;
    stream.end();
    Ok(session)
}

/// One request and its answer, read until the server closes. Returns the bytes of the answer.
fn ask(stream: &mut impl Wire) -> Result<usize> {
    stream
        .write_all(origin::request(origin::SMALL_PATH, false).as_bytes())
        .context("cannot send a request")?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    stream.read_to_end(&mut answer).context("cannot read an answer")?;
    ensure!(is_complete(&answer)?, "an answer that is cut short");
    Ok(answer.len())
}

impl<S: Wire, Open: Fn() -> Result<S> + Sync> Load for Fresh<Open> {
    fn run(&mut self, until: Until) -> Result<Done> {
        let started = Instant::now();
        let begun = AtomicU64::new(0);
        let more = || match until {
            Until::Seconds(seconds) => started.elapsed() < Duration::from_secs(seconds.into()),
            Until::Operations(count) => begun.fetch_add(1, Ordering::Relaxed) < count,
        };
        let open = &self.open;
        let parts = thread::scope(|scope| {
            let more = &more;
            let threads: Vec<_> =
                (0..self.threads).map(|_| scope.spawn(move || one_thread(open, more))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread of the load has panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        let (mut all, mut latencies) = (Done::default(), Latencies::default());
        for (part, took) in parts {
            all.operations += part.operations;
            all.bytes += part.bytes;
            latencies.0.extend(took.0);
        }
        all.p99_us = latencies.p99_us();
        all.elapsed_us = started.elapsed().as_micros() as u64;
        Ok(all)
    }
}

fn one_thread<S: Wire>(open: impl Fn() -> Result<S>, more: impl Fn() -> bool) -> Result<(Done, Latencies)> {
    let (mut done, mut latencies) = (Done::default(), Latencies::default());
    while more() {
        let begun = Instant::now();
        let mut stream = open()?;
        done.bytes += ask(&mut stream)? as u64;
        stream.end();
        done.operations += 1;
        latencies.add(begun);
    }
    Ok((done, latencies))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_per_request_opens_exactly_the_connections_that_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            for _ in 0..9 {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 512]).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        });
        assert_eq!(plain(&address, 4).run(Until::Operations(9)).unwrap().operations, 9);
        server.join().unwrap();
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 512]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").unwrap();
        });
        assert!(plain(&address, 1).run(Until::Operations(1)).is_err());
        server.join().unwrap();
    }
}
