//! Telling the neighbours where an address lives now: gratuitous ARP, and the unsolicited neighbor advertisement for IPv6.
//!
//! One call is one frame; how often to repeat it is the caller's policy.

use std::io;
use std::net::IpAddr;

use socket2::{Domain, Socket, Type};

use crate::sys;
use crate::wire::{Mac, arp, ndp};

/// Sends announcements on one interface; receives nothing.
#[derive(Debug)]
pub struct Announcer {
    socket: Socket,
}

impl Announcer {
    /// Opens a packet socket on the interface. Needs CAP_NET_RAW.
    ///
    /// Errors: no such interface (`ENODEV`), no permission, `Unsupported` where there is no Ethernet, hence no ARP.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = sys::interface_index(interface)?;
        let kind = Type::RAW.nonblocking();
        let socket = Socket::new(Domain::PACKET, kind, None)?;
        sys::bind_packet(&socket, index, 0)?;
        if has_arp(sys::hardware_type(&socket)?) {
            return Ok(Self { socket });
        }
        let why = format!("{interface} is no Ethernet link: there is no ARP on it");
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    /// Tells the whole link: `address` is at `mac`. IPv4: one gratuitous ARP request (RFC 5227 section 3, RFC 9568 section
    /// 6.4.2); IPv6: one unsolicited neighbor advertisement (RFC 4861 section 7.2.6). Never waits.
    ///
    /// Errors: the interface is down (`ENETDOWN`), gone (`ENXIO`: open anew), or its queue is full (`WouldBlock`,
    /// `ENOBUFS`).
    pub fn announce(&self, mac: Mac, address: IpAddr) -> io::Result<()> {
        match address {
            IpAddr::V4(address) => self.send(&arp::gratuitous_request(mac, address)),
            IpAddr::V6(address) => self.send(&ndp::unsolicited_advertisement(mac, address)),
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = self.socket.send(frame)?;
        if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// Ethernet, and the loopback, which has an Ethernet header too and hears nobody.
pub(crate) fn has_arp(hardware: u16) -> bool {
    matches!(hardware, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK)
}

#[cfg(test)]
mod tests;
