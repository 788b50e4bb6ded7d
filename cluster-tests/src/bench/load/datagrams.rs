//! Datagrams that must come back to the one who sent them.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::sandbox::{FLOWS, FRONT};
use super::super::workload::Workload;
use super::ready::Ready;
use super::{Done, Latencies, Load, Until};

/// Flows that stay.
const FLOWS_KEPT: usize = 1_000;
/// Bytes of a datagram: its flow, its number, and zeros.
pub(in super::super) const DATAGRAM_BYTES: usize = 64;
/// An echo that takes longer is lost: hundreds of times what it takes.
const ECHO_DEADLINE: Duration = Duration::from_millis(250);
/// How often lost ones are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Ports that flows that do not stay are sent from, at each of the addresses.
const PORTS: std::ops::Range<u64> = 10_240..60_000;

/// Clients with a socket each. Some have a datagram on its way, at most [`Workload::together`].
pub(in super::super) struct Datagrams {
    ready: Ready,
    clients: Vec<Client>,
    /// Each datagram from a new socket, of an address and port that were never used.
    is_fresh: bool,
    /// Flows opened so far.
    flows: u64,
    /// Datagrams sent so far.
    sent: u64,
    /// Where the next idle client is looked for.
    next: usize,
}

struct Client {
    socket: UdpSocket,
    flow: u64,
    /// Its number, and when it was sent.
    on_its_way: Option<(u64, Instant)>,
}

impl Datagrams {
    /// Over flows that stay; each has had its first echo.
    pub(in super::super) fn echo() -> Result<Self> {
        let mut echo = Self::open(FLOWS_KEPT, false)?;
        let first = echo.run(Until::Operations(FLOWS_KEPT as u64))?;
        // A peer that loses some may take part, one that loses most does not work.
        if first.operations * 2 < FLOWS_KEPT as u64 {
            bail!("only {} of {FLOWS_KEPT} datagrams came back", first.operations);
        }
        Ok(echo)
    }

    /// A new flow for each datagram.
    pub(in super::super) fn fresh() -> Result<Self> {
        Self::open(Workload::UdpFlow.together(), true)
    }

    fn open(clients: usize, is_fresh: bool) -> Result<Self> {
        let ready = Ready::new()?;
        let mut all =
            Self { ready, clients: Vec::with_capacity(clients), is_fresh, flows: 0, sent: 0, next: 0 };
        for number in 0..clients {
            let (socket, flow) = all.socket(number)?;
            all.clients.push(Client { socket, flow, on_its_way: None });
        }
        Ok(all)
    }

    /// A socket of an address and port that no other flow ever had, watched under `number`.
    fn socket(&mut self, number: usize) -> Result<(UdpSocket, u64)> {
        let flow = self.flows;
        self.flows += 1;
        let ports = PORTS.end - PORTS.start;
        let address = u32::from(FLOWS) + 1 + u32::try_from(flow / ports).context("too many flows")?;
        let port = u16::try_from(PORTS.start + flow % ports).context("a port")?;
        let socket = UdpSocket::bind((Ipv4Addr::from(address), port)).context("cannot bind")?;
        socket.connect(FRONT).context("cannot connect")?;
        socket.set_nonblocking(true).context("cannot set non-blocking")?;
        self.ready.add(&socket, number)?;
        Ok((socket, flow))
    }

    /// Sends one datagram from the next idle client.
    fn send(&mut self) -> Result<()> {
        while self.clients[self.next].on_its_way.is_some() {
            self.next = (self.next + 1) % self.clients.len();
        }
        let number = self.next;
        self.next = (self.next + 1) % self.clients.len();
        if self.is_fresh {
            let (socket, flow) = self.socket(number)?;
            self.clients[number] = Client { socket, flow, on_its_way: None };
        }
        let client = &mut self.clients[number];
        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[..8].copy_from_slice(&client.flow.to_be_bytes());
        datagram[8..16].copy_from_slice(&self.sent.to_be_bytes());
        match client.socket.send(&datagram) {
            Ok(_) => {}
            // The answer to an earlier datagram: nobody listened. This one is lost then, and counted so.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error).context("cannot send a datagram"),
        }
        client.on_its_way = Some((self.sent, Instant::now()));
        self.sent += 1;
        Ok(())
    }

    /// Takes all that has come to one client. Returns how many of its datagrams have come home.
    fn receive(&mut self, number: usize, done: &mut Done, latencies: &mut Latencies) -> Result<usize> {
        let client = &mut self.clients[number];
        let mut home = 0;
        let mut buffer = [0; 2 * DATAGRAM_BYTES];
        loop {
            let count = match client.socket.recv(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(home),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error).context("cannot receive a datagram"),
            };
            let Some((flow, datagram)) = parse(&buffer[..count]) else { bail!("{count} bytes, not ours") };
            if flow != client.flow {
                done.strays += 1;
            } else if let Some((_, sent)) = client.on_its_way.take_if(|(waited, _)| *waited == datagram) {
                latencies.add(sent);
                done.operations += 1;
                done.bytes += count as u64;
                home += 1;
            }
        }
    }

    /// Gives up those that are too late. Returns their number.
    fn give_up(&mut self) -> usize {
        let mut late = 0;
        for client in &mut self.clients {
            late +=
                usize::from(client.on_its_way.take_if(|(_, sent)| sent.elapsed() > ECHO_DEADLINE).is_some());
        }
        late
    }
}

/// The flow and the number in an echo.
fn parse(datagram: &[u8]) -> Option<(u64, u64)> {
    if datagram.len() != DATAGRAM_BYTES {
        return None;
    }
    let number = |at: usize| Some(u64::from_be_bytes(datagram.get(at..at + 8)?.try_into().ok()?));
    Some((number(0)?, number(8)?))
}

impl Load for Datagrams {
    fn run(&mut self, until: Until) -> Result<Done> {
        let started = Instant::now();
        let (mut done, mut latencies) = (Done::default(), Latencies::default());
        let (mut begun, mut on_their_way) = (0, 0);
        let mut looked = started;
        let mut numbers = Vec::new();
        loop {
            let more = match until {
                Until::Seconds(seconds) => started.elapsed() < Duration::from_secs(seconds.into()),
                Until::Operations(count) => begun < count,
            };
            if !more && on_their_way == 0 {
                break;
            }
            let room = if more { Workload::UdpEcho.together() - on_their_way } else { 0 };
            let left = if let Until::Operations(count) = until { (count - begun) as usize } else { room };
            for _ in 0..room.min(left) {
                self.send()?;
                begun += 1;
                on_their_way += 1;
            }
            self.ready.wait(LOOK_EVERY, &mut numbers)?;
            for &number in &numbers {
                on_their_way -= self.receive(number, &mut done, &mut latencies)?;
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                let late = self.give_up();
                on_their_way -= late;
                done.lost += late as u64;
            }
        }
        done.p99_us = latencies.p99_us();
        done.elapsed_us = started.elapsed().as_micros() as u64;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_says_whose_it_is_and_which() {
        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[7] = 3;
        datagram[15] = 9;
        assert_eq!(parse(&datagram), Some((3, 9)));
        assert_eq!(parse(&datagram[..63]), None);
    }
}
