//! Sending advertisements: a raw socket of IP protocol 112 on one interface.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

/// Where VRRP over IPv4 sends (RFC 9568 section 5.1.1.2).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// IP protocol number of VRRP (RFC 9568 section 5.1.1.4).
const PROTOCOL_VRRP: i32 = 112;
/// RFC 9568 section 5.1.1.3: receivers discard anything else.
const TTL: u32 = 255;
/// Internetwork control (precedence 6), as keepalived sends; the kernel derives the queue priority from it.
const TOS: u32 = 0xc0;

/// Sends VRRP messages from one address to 224.0.0.18 through one interface; receives nothing.
#[derive(Debug)]
pub struct AdvertSocket {
    socket: Socket,
    group: SockAddr,
}

impl AdvertSocket {
    /// Opens the socket. `source` is an address of this node (not the virtual one). Needs CAP_NET_RAW.
    ///
    /// Errors: no such interface (`ENODEV`), the address is not ours (`EADDRNOTAVAIL`), no permission.
    pub fn open(interface: &str, source: Ipv4Addr) -> io::Result<Self> {
        // One that exists, and no longer than a name may be: the option below would cut it without a word.
        crate::sys::interface_index(interface)?;
        let kind = Type::RAW.nonblocking();
        let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::from(PROTOCOL_VRRP)))?;
        // Each advertisement that this host hears would be queued here too, and nobody would read it.
        socket.attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
        socket.set_multicast_ttl_v4(TTL)?;
        socket.set_multicast_loop_v4(false)?;
        socket.set_tos_v4(TOS)?;
        Ok(Self { socket, group: SocketAddrV4::new(GROUP, 0).into() })
    }

    /// Sends one VRRP message (from the VRRP header on; the kernel adds the IP header). Never waits.
    ///
    /// Errors: the interface is down (`ENETDOWN`, `ENETUNREACH`), gone (`ENODEV`, `ENXIO`: open anew), or its queue is
    /// full (`WouldBlock`, `ENOBUFS`).
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        let sent = self.socket.send_to(payload, &self.group)?;
        if sent == payload.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

#[cfg(test)]
mod tests;
