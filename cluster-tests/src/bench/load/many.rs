//! Very many connections at once.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::super::origin;
use super::super::sandbox::FRONT;
use super::super::workload::Workload;
use super::ready::Ready;
use super::{ANSWER_DEADLINE, Done, Latencies, Load, Until, is_complete};

/// Connections that are all asked for before the first answer is read.
pub(in super::super) struct Burst;

/// One of them.
struct Waiting {
    stream: TcpStream,
    asked: bool,
    answer: Vec<u8>,
}

impl Load for Burst {
    /// All of [`Workload::together`], once, however long it takes.
    fn run(&mut self, _until: Until) -> Result<Done> {
        let address: SocketAddr = FRONT.parse().context("an address")?;
        burst(address, Workload::Burst.together())
    }
}

fn burst(address: SocketAddr, count: usize) -> Result<Done> {
    let request = origin::request(origin::SMALL_PATH, false);
    let mut ready = Ready::new()?;
    let mut waiting = Vec::with_capacity(count);
    let started = Instant::now();
    for number in 0..count {
        let stream = begin(address)?;
        ready.add(&stream, number)?;
        let mut connection = Waiting { stream, asked: false, answer: Vec::new() };
        // On loopback the handshake is over when connect returns, unless the listener's queue is full.
        connection.ask(request.as_bytes())?;
        waiting.push(Some(connection));
    }
    let (mut done, mut latencies) = (Done::default(), Latencies::default());
    let (mut numbers, mut left) = (Vec::new(), count);
    while left > 0 {
        ready.wait(Duration::from_millis(100), &mut numbers)?;
        ensure!(started.elapsed() < 3 * ANSWER_DEADLINE, "{left} of {count} connections are not through");
        for &number in &numbers {
            let Some(connection) = waiting.get_mut(number).and_then(Option::as_mut) else { continue };
            if connection.read()? {
                latencies.add(started);
                done.operations += 1;
                done.bytes += connection.answer.len() as u64;
                waiting[number] = None;
                left -= 1;
            }
        }
        if numbers.is_empty() {
            for connection in waiting.iter_mut().flatten() {
                connection.ask(request.as_bytes())?;
            }
        }
    }
    done.p99_us = latencies.p99_us();
    done.elapsed_us = started.elapsed().as_micros() as u64;
    Ok(done)
}

/// Asks for a connection, and does not wait for it.
fn begin(address: SocketAddr) -> Result<TcpStream> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).context("socket")?;
    socket.set_nonblocking(true).context("cannot set non-blocking")?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error).context("cannot connect"),
    }
    Ok(socket.into())
}

impl Waiting {
    /// Sends the request, if the connection stands and it has not been sent.
    fn ask(&mut self, request: &[u8]) -> Result<()> {
        if self.asked {
            return Ok(());
        }
        match self.stream.write(request) {
            Ok(count) => {
                ensure!(count == request.len(), "a request of {} bytes does not fit", request.len());
                self.asked = true;
                Ok(())
            }
            Err(error)
                if [io::ErrorKind::WouldBlock, io::ErrorKind::NotConnected].contains(&error.kind()) =>
            {
                Ok(())
            }
            Err(error) => Err(error).context("cannot send a request"),
        }
    }

    /// Reads what is there. Returns whether all has come, and the end.
    fn read(&mut self) -> Result<bool> {
        match self.stream.read_to_end(&mut self.answer) {
            Ok(_) => {
                ensure!(is_complete(&self.answer)?, "an answer that is cut short");
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("cannot read an answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn all_connections_are_asked_for_before_the_first_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            // It answers nobody before it has accepted all.
            let streams: Vec<_> = (0..50).map(|_| listener.accept().unwrap().0).collect();
            for mut stream in streams {
                assert!(stream.read(&mut [0; 512]).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        });
        assert_eq!(burst(address, 50).unwrap().operations, 50);
        server.join().unwrap();
    }
}
