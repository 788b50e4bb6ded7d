//! Frames in, frames out: who gets what, without socket and clock.

use std::net::Ipv4Addr;
use std::time::Duration;

use cygnet_ha::time::Time;
use cygnet_netlink::frames::Verdict;
use cygnet_netlink::wire::arp::{self, Operation};
use cygnet_netlink::wire::tcp::flag::{ACK, FIN, RST, SYN};
use cygnet_netlink::wire::{Mac, ethernet, tcp, transit};

use super::table::{SERVERS_MAX, Table, hash};
use crate::config::model::Transport;

/// How often a server is asked for its hardware address until it answers.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer holds before the server is asked again.
const ANSWER_HOLDS: Duration = Duration::from_secs(60);
/// A server that has not answered for so long has no hardware address any more, and gets no clients.
const ANSWER_ENDS: Duration = Duration::from_secs(65);
/// When it is told that this node serves the address from now on: at once, and again in case that was lost.
const ANNOUNCE_AFTER: [Duration; 2] = [Duration::ZERO, Duration::from_secs(1)];
/// The first sequence number of the tarpit: Pen's.
const TARPIT_SEQUENCE: u32 = 42;
/// Bytes of an ARP packet in its frame.
const ARP_FRAME: usize = arp::FRAME_LENGTH;
/// Bytes of an answer to a first segment in its frame.
const SYN_ACK_FRAME: usize = ethernet::HEADER + tcp::PACKET;

/// What is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// The address that clients ask.
    pub(super) address: Ipv4Addr,
    /// The port; `None`: all of them.
    pub(super) port: Option<u16>,
    /// TCP or UDP.
    pub(super) transport: Transport,
    /// The client's port counts for the choice.
    pub(super) with_port: bool,
}

/// A server, as the configuration and the operator have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Ipv4Addr,
    pub(super) weight: u16,
    /// It may get clients.
    pub(super) available: bool,
}

/// Whether an address is one of the tarpit's.
pub(super) type Tarpit<'t> = dyn Fn(Ipv4Addr) -> bool + 't;

/// A server, and what is known of it.
#[derive(Debug)]
struct Known {
    target: Target,
    mac: Option<Mac>,
    /// When it last said where it is.
    heard: Time,
    asked: Option<Time>,
    /// Bytes that went to it and were not counted yet.
    bytes: u64,
}

/// The machine.
pub(super) struct Core {
    served: Served,
    mac: Mac,
    servers: Vec<Known>,
    table: Table,
    /// When this machine was first asked for announcements, and how many it has made.
    announced: Option<(Time, usize)>,
}

impl Core {
    /// `mac`: the hardware address of the interface.
    pub(super) fn new(served: Served, mac: Mac) -> Self {
        Self { served, mac, servers: Vec::new(), table: Table::new(std::iter::empty()), announced: None }
    }

    /// These are the servers now, [`SERVERS_MAX`] at most. What is known of those that were there before stays.
    pub(super) fn set_servers(&mut self, targets: &[Target]) {
        let targets = targets.get(..SERVERS_MAX).unwrap_or(targets);
        if self.servers.iter().map(|known| &known.target).eq(targets) {
            return;
        }
        let mut before = std::mem::take(&mut self.servers);
        self.servers = targets
            .iter()
            .map(|target| {
                let known = before.iter().position(|known| known.target.address == target.address);
                let known = known.map(|at| before.swap_remove(at));
                let new = Known { target: *target, mac: None, heard: Time::ZERO, asked: None, bytes: 0 };
                Known { target: *target, ..known.unwrap_or(new) }
            })
            .collect();
        self.rebuild();
    }

    /// Looks at a frame, and changes it into what is to leave.
    pub(super) fn frame(&mut self, frame: &mut [u8], tarpit: Option<&Tarpit<'_>>, now: Time) -> Verdict {
        let Ok((header, payload)) = ethernet::Header::parse(frame) else { return Verdict::Drop };
        match header.ethertype {
            ethernet::ARP => match arp::Packet::parse(payload) {
                Ok(packet) => self.arp(frame, &packet, tarpit, now),
                Err(_) => Verdict::Drop,
            },
            ethernet::IPV4 if header.destination == self.mac => match transit::parse(payload) {
                Ok(packet) if packet.destination == self.served.address => {
                    let (source, ports) = (packet.source, packet.ports);
                    let ports = if packet.is_fragment { None } else { ports };
                    if self.is_ours(&packet) {
                        self.forward(frame, header, source, ports)
                    } else {
                        Verdict::Drop
                    }
                }
                Ok(packet) if tarpit.is_some_and(|tarpit| tarpit(packet.destination)) => {
                    let answer = syn_ack(&packet);
                    self.answer_syn(frame, header, answer)
                }
                _ => Verdict::Drop,
            },
            _ => Verdict::Drop,
        }
    }

    /// What is to be asked now: whole frames. To be called several times a second.
    pub(super) fn tick(&mut self, now: Time) -> Vec<[u8; ARP_FRAME]> {
        let (own, mut lost, mut requests) = (self.mac, false, Vec::new());
        for known in &mut self.servers {
            let age = now.since(known.heard);
            if known.mac.is_some() && age >= ANSWER_ENDS {
                known.mac = None;
                lost = true;
            }
            let is_wanted = known.mac.is_none() || age >= ANSWER_HOLDS;
            let is_time = known.asked.is_none_or(|asked| now.since(asked) >= ASK_EVERY);
            if is_wanted && is_time {
                known.asked = Some(now);
                requests.push(request(own, known.target.address));
            }
        }
        if lost {
            self.rebuild();
        }
        requests
    }

    /// Whoever remembers another node for the service's address is to forget it (RFC 5227 section 3).
    pub(super) fn announcement(&mut self, now: Time) -> Option<[u8; ARP_FRAME]> {
        let (since, made) = self.announced.get_or_insert((now, 0));
        let due = ANNOUNCE_AFTER.get(*made).is_some_and(|after| now.since(*since) >= *after);
        due.then(|| {
            *made += 1;
            arp::gratuitous_request(self.mac, self.served.address)
        })
    }

    /// Bytes that went to each server since the last call, in the order of the servers.
    pub(super) fn take_bytes(&mut self) -> impl Iterator<Item = u64> {
        self.servers.iter_mut().map(|known| std::mem::take(&mut known.bytes))
    }

    /// How many servers can get clients.
    pub(super) fn reachable(&self) -> usize {
        self.servers.iter().filter(|known| known.target.available && known.mac.is_some()).count()
    }

    fn rebuild(&mut self) {
        self.table = Table::new(self.servers.iter().map(|known| {
            let may = known.target.available && known.mac.is_some();
            (known.target.address, may.then_some(known.target.weight))
        }));
    }

    /// Learns where servers are, and says where the service is.
    fn arp(
        &mut self,
        frame: &mut [u8],
        packet: &arp::Packet,
        tarpit: Option<&Tarpit<'_>>,
        now: Time,
    ) -> Verdict {
        if packet.sender_mac == self.mac {
            return Verdict::Drop;
        }
        self.learn(packet, now);
        let asked = packet.target_ip;
        let is_server = || self.servers.iter().any(|known| known.target.address == asked);
        let is_ours = asked == self.served.address
            || !asked.is_unspecified() && !is_server() && tarpit.is_some_and(|tarpit| tarpit(asked));
        // Who announces an address does not ask.
        if packet.operation != Operation::Request || packet.is_gratuitous() || !is_ours {
            return Verdict::Drop;
        }
        let reply = arp::Packet {
            operation: Operation::Reply,
            sender_mac: self.mac,
            sender_ip: asked,
            target_mac: packet.sender_mac,
            target_ip: packet.sender_ip,
        };
        let header =
            ethernet::Header { destination: packet.sender_mac, source: self.mac, ethertype: ethernet::ARP };
        write(frame, header, &reply.emit())
    }

    fn learn(&mut self, packet: &arp::Packet, now: Time) {
        let is_it = |known: &&mut Known| known.target.address == packet.sender_ip;
        let Some(known) = self.servers.iter_mut().find(is_it) else { return };
        if !packet.sender_mac.is_unicast() {
            return;
        }
        known.heard = now;
        if known.mac.replace(packet.sender_mac).is_none() {
            self.rebuild();
        }
    }

    /// Whether a packet to the service's address is for the service. Later fragments do not say for which port they are:
    /// without their first one nobody takes them.
    fn is_ours(&self, packet: &transit::Packet<'_>) -> bool {
        let protocol = match self.served.transport {
            Transport::Tcp => transit::TCP,
            Transport::Udp => transit::UDP,
        };
        let is_port = match (self.served.port, packet.ports) {
            (None, _) => true,
            (Some(port), Some((_, asked))) => port == asked,
            (Some(_), None) => packet.is_fragment,
        };
        packet.protocol == protocol && is_port
    }

    /// On to the server. Fragments go by the address alone, so that all of them come to the same one.
    fn forward(
        &mut self,
        frame: &mut [u8],
        header: ethernet::Header,
        client: Ipv4Addr,
        ports: Option<(u16, u16)>,
    ) -> Verdict {
        let port = ports.map(|(source, _)| source).filter(|_| self.served.with_port);
        let Some(position) = self.table.server(hash(client, port)) else { return Verdict::Drop };
        let Some(known) = self.servers.get_mut(position) else { return Verdict::Drop };
        // From the server itself: it does not have the service's address, and would send it back for ever.
        let Some(mac) = known.mac.filter(|mac| *mac != header.source) else { return Verdict::Drop };
        let onward = ethernet::Header { destination: mac, source: self.mac, ..header };
        if onward.write(frame).is_none() {
            return Verdict::Drop;
        }
        known.bytes += (frame.len() - ethernet::HEADER) as u64;
        Verdict::Forward
    }

    fn answer_syn(
        &self,
        frame: &mut [u8],
        header: ethernet::Header,
        answer: Option<[u8; tcp::PACKET]>,
    ) -> Verdict {
        let Some(answer) = answer.filter(|_| header.source.is_unicast()) else { return Verdict::Drop };
        let back = ethernet::Header { destination: header.source, source: self.mac, ..header };
        write(frame, back, &answer)
    }
}

/// The answer to a first segment that comes to nobody; `None` for anything else.
fn syn_ack(packet: &transit::Packet<'_>) -> Option<[u8; tcp::PACKET]> {
    let is_client =
        !packet.source.is_multicast() && !packet.source.is_broadcast() && !packet.source.is_unspecified();
    if packet.protocol != transit::TCP || packet.is_fragment || !is_client {
        return None;
    }
    let syn = tcp::Header::parse(packet.payload).ok()?;
    if syn.flags & (SYN | ACK | RST | FIN) != SYN {
        return None;
    }
    let answer = tcp::Header {
        source: syn.destination,
        destination: syn.source,
        sequence: TARPIT_SEQUENCE,
        acknowledgment: syn.sequence.wrapping_add(1),
        flags: SYN | ACK,
        window: syn.window,
    };
    Some(answer.packet(packet.destination, packet.source))
}

/// Makes an answer of the frame, which is as long at least.
fn write(frame: &mut [u8], header: ethernet::Header, payload: &[u8]) -> Verdict {
    let length = ethernet::HEADER + payload.len();
    let Some(room) = frame.get_mut(ethernet::HEADER..length) else { return Verdict::Drop };
    room.copy_from_slice(payload);
    if header.write(frame).is_some() { Verdict::Answer(length) } else { Verdict::Drop }
}

/// Asks everybody where a server is. Our own address is left out (RFC 5227 section 2.1.1): nobody is to remember it.
fn request(own: Mac, server: Ipv4Addr) -> [u8; ARP_FRAME] {
    let packet = arp::Packet {
        operation: Operation::Request,
        sender_mac: own,
        sender_ip: Ipv4Addr::UNSPECIFIED,
        target_mac: Mac::default(),
        target_ip: server,
    };
    let mut frame = [0; ARP_FRAME];
    let header = ethernet::Header { destination: Mac::BROADCAST, source: own, ethertype: ethernet::ARP };
    let _ = write(&mut frame, header, &packet.emit());
    frame
}

/// The frames that are written are no longer than those that they are written into.
const _: () = assert!(ARP_FRAME == 42 && SYN_ACK_FRAME == 54);

#[cfg(test)]
mod tests;
