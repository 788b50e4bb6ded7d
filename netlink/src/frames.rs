//! Whole Ethernet frames that are for an address which this node serves without having it: they are looked at, changed, and
//! sent on through the same interface, many with one system call.
//!
//! Each frame comes with a header in which the kernel says what is still to be done to it (`PACKET_VNET_HDR`: checksums that
//! the network card is to fill in, segments that were put together and are to be cut again), and leaves with the same one.
//! Without it, frames longer than the link's MTU and frames of a neighbour on the same machine would be lost.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, SockFilter, Socket, Type};

use crate::announce::has_arp;
use crate::capture::{PACKET_IGNORE_OUTGOING, PACKET_OUTGOING, TAKE, VLAN_ID, ancillary, op};
use crate::sys;
use crate::udp::{BATCH, Messages};
use crate::wire::{Mac, ethernet, transit};

/// `virtio_net_hdr` of linux/virtio_net.h, bytes.
const VNET_HEADER: usize = 10;
/// PACKET_VNET_HDR of linux/if_packet.h.
const PACKET_VNET_HDR: libc::c_int = 15;
/// The longest frame, bytes: 64 KiB that were put together from segments, and its Ethernet header.
pub const FRAME_MAX: usize = (1 << 16) + ethernet::HEADER;
/// Room for frames that wait, bytes of kernel memory; one of 64 KiB takes twice as much.
const RECEIVE_BUFFER: i32 = 4 << 20;
/// Where the fields are that the filter looks at, bytes from the Ethernet header.
const PROTOCOL_AT: u32 = 14 + 9;
const DESTINATION_AT: u32 = 14 + 16;

/// Which frames come in, besides ARP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// IPv4 to this address.
    pub address: Ipv4Addr,
    /// TCP to any address.
    pub all_tcp: bool,
}

/// What is to be done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Drop,
    /// It goes on, with the same length.
    Forward,
    /// Its first bytes have become an answer of this length.
    Answer(usize),
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Frames that came.
    pub received: usize,
    /// Frames that left.
    pub sent: usize,
    /// Frames that were too long, or that the interface did not take.
    pub lost: usize,
}

/// A packet socket for whole frames on one interface.
#[derive(Debug)]
pub struct Frames {
    socket: Socket,
    mac: Mac,
    messages: Messages,
    /// Headers that may not be as a call wants them.
    stale: usize,
}

impl Frames {
    /// Starts to receive. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// No such interface (`ENODEV`), no permission, `Unsupported` for an interface without Ethernet.
    pub fn open(interface: &str, wanted: Wanted) -> io::Result<Self> {
        let index = sys::interface_index(interface)?;
        // Protocol 0 receives nothing until `bind`, so no frame slips in before the filter.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
        socket.attach_filter(&filter(wanted))?;
        sys::set_option(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
        // The filter leaves sent frames out, too; this saves their copies.
        let _ = sys::set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
        if sys::set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
            let _ = sys::set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER);
        }
        sys::bind_packet(&socket, index, libc::ETH_P_ALL as u16)?;
        let ([a, b, c, d, e, f, ..], length) = sys::hardware_address(&socket)?;
        if !has_arp(sys::hardware_type(&socket)?) || length != 6 {
            let why = format!("{interface} is no Ethernet link");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let messages = Messages::new(VNET_HEADER + FRAME_MAX);
        Ok(Self { socket, mac: Mac([a, b, c, d, e, f]), messages, stale: BATCH })
    }

    /// The interface's address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Waits until frames are there, or the time is over.
    ///
    /// # Errors
    /// Those of poll(2); none is to be expected.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        sys::wait_readable([self.socket.as_fd()], Some(timeout)).map(|[readable]| readable)
    }

    /// Takes in what waits, at most [`BATCH`] frames, asks `judge` about each, and sends what it says. Never waits: what the
    /// interface has no room for is lost.
    ///
    /// # Errors
    /// `ENETDOWN` once when the interface goes down or away: it receives again when it is up again, but not when it was
    /// deleted; open a new one then.
    pub fn turn(&mut self, mut judge: impl FnMut(&mut [u8]) -> Verdict) -> io::Result<Turn> {
        let received = self.receive()?;
        let mut turn = Turn { received, ..Turn::default() };
        let mut outgoing = 0;
        for at in 0..received {
            let header = self.messages.headers.items()[at];
            let length = header.msg_len as usize;
            let (cut, buffer) =
                (header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0, self.messages.buffer_mut(at));
            let frame = buffer.get_mut(VNET_HEADER..length).filter(|_| !cut);
            let Some(frame) = frame else {
                turn.lost += 1;
                continue;
            };
            let length = match judge(frame) {
                Verdict::Drop => continue,
                Verdict::Forward => frame.len(),
                Verdict::Answer(length) => {
                    let length = length.min(frame.len());
                    // Ours, and whole.
                    buffer[..VNET_HEADER].fill(0);
                    length
                }
            };
            self.queue(outgoing, at, VNET_HEADER + length);
            outgoing += 1;
        }
        turn.sent = self.send_queued(outgoing);
        turn.lost += outgoing - turn.sent;
        Ok(turn)
    }

    /// Sends one whole frame of our own. Never waits.
    ///
    /// # Errors
    /// The interface is down (`ENETDOWN`), gone (`ENXIO`), or its queue is full (`WouldBlock`, `ENOBUFS`).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let parts = [io::IoSlice::new(&[0; VNET_HEADER]), io::IoSlice::new(frame)];
        self.socket.send_vectored(&parts).map(drop)
    }

    fn receive(&mut self) -> io::Result<usize> {
        for at in 0..self.stale {
            let vector = self.messages.vectors.pointer(at);
            let header = &mut self.messages.headers.items_mut()[at].msg_hdr;
            (header.msg_iov, header.msg_name) = (vector, std::ptr::null_mut());
            self.messages.set_lengths(at, 0, 0);
            self.messages.vectors.items_mut()[at].iov_len = VNET_HEADER + FRAME_MAX;
        }
        self.stale = BATCH;
        let headers = self.messages.headers.pointer(0);
        // SAFETY: there are BATCH headers, and each points to one vector and buffer of `self.messages` with their lengths
        // (name and control lengths are 0); all of it lives as long as `self`, to which no other reference exists now.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers,
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(received) {
            Ok(received) => {
                self.stale = received.min(BATCH);
                Ok(self.stale)
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
            }
        }
    }

    /// Makes the `next`-th header say what leaves of the buffer at `at` (never before `next`).
    fn queue(&mut self, next: usize, at: usize, length: usize) {
        self.messages.vectors.items_mut()[at].iov_len = length;
        let vector = self.messages.vectors.pointer(at);
        self.messages.headers.items_mut()[next].msg_hdr.msg_iov = vector;
    }

    fn send_queued(&mut self, outgoing: usize) -> usize {
        let (mut next, mut sent) = (0, 0);
        while next < outgoing {
            let headers = self.messages.headers.pointer(next);
            // SAFETY: the headers from `next` to `outgoing` point to vectors and buffers of `self.messages` with their
            // lengths; the kernel reads them, and writes the headers' `msg_len`, until the call returns.
            let taken = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    headers,
                    (outgoing - next) as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            // An error is the first frame's: those behind it may go.
            match usize::try_from(taken) {
                Ok(taken) if taken > 0 => (sent, next) = (sent + taken, next + taken),
                _ => next += 1,
            }
        }
        sent
    }
}

/// The classic BPF program; offset 0 is the Ethernet header.
fn filter(wanted: Wanted) -> [SockFilter; 14] {
    let load = |at: u32| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let load_byte = |at: u32| op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, at);
    // Jumps count from the next instruction.
    let equal = |value: u32, yes: u8, no: u8| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let at_least =
        |value: u32, yes: u8, no: u8| op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, yes, no, value);
    let any_bit =
        |mask: u32, yes: u8, no: u8| op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, yes, no, mask);
    let answer = |value: u32| op(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let tcp = if wanted.all_tcp { TAKE } else { 0 };
    [
        /*  0 */ load(ancillary(libc::SKF_AD_PKTTYPE)),
        /*  1 */ at_least(PACKET_OUTGOING, 11, 0), // ours: drop
        /*  2 */ load(ancillary(libc::SKF_AD_VLAN_TAG)),
        /*  3 */ any_bit(VLAN_ID, 9, 0), // of a VLAN above this interface: drop
        /*  4 */ load(ancillary(libc::SKF_AD_PROTOCOL)),
        /*  5 */ equal(u32::from(ethernet::ARP), 5, 0), // to take
        /*  6 */ equal(u32::from(ethernet::IPV4), 0, 6), // or drop
        /*  7 */ load(DESTINATION_AT),
        /*  8 */ equal(wanted.address.to_bits(), 2, 0), // to take
        /*  9 */ load_byte(PROTOCOL_AT),
        /* 10 */ equal(u32::from(transit::TCP), 1, 2), // any TCP, if wanted, or drop
        /* 11 */ answer(TAKE),
        /* 12 */ answer(tcp),
        /* 13 */ answer(0),
    ]
}

#[cfg(test)]
mod tests;
