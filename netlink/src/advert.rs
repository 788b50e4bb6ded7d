//! Sending advertisements: a raw socket of IP protocol 112 on one interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

/// Where VRRP over IPv4 sends (RFC 9568 section 5.1.1.2).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where VRRP over IPv6 sends (RFC 9568 section 5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// IP protocol number of VRRP (RFC 9568 section 5.1.1.4).
const PROTOCOL_VRRP: i32 = 112;
/// RFC 9568 sections 5.1.1.3 and 5.1.2.3: receivers discard anything else.
const TTL: u32 = 255;
/// Internetwork control (precedence 6), as keepalived sends; the kernel derives the queue priority from it.
const TOS: u32 = 0xc0;

/// Sends VRRP messages from one address to 224.0.0.18 or ff02::12 through one interface; receives nothing.
#[derive(Debug)]
pub struct AdvertSocket {
    socket: Socket,
    group: SockAddr,
}

impl AdvertSocket {
    /// Opens the socket. `source` is an address of this node (not the virtual one); for IPv6 the link-local one of the
    /// interface. Needs CAP_NET_RAW.
    ///
    /// Errors: no such interface (`ENODEV`), the address is not ours (`EADDRNOTAVAIL`), no permission.
    pub fn open(interface: &str, source: IpAddr) -> io::Result<Self> {
        // One that exists, and no longer than a name may be: the option below would cut it without a word.
        let index = crate::sys::interface_index(interface)?;
        let kind = Type::RAW.nonblocking();
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(source, 0)),
            kind,
            Some(Protocol::from(PROTOCOL_VRRP)),
        )?;
        // Each advertisement that this host hears would be queued here too, and nobody would read it.
        socket.attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])?;
        socket.bind_device(Some(interface.as_bytes()))?;
        let group = match source {
            IpAddr::V4(source) => {
                socket.bind(&SocketAddrV4::new(source, 0).into())?;
                socket.set_multicast_ttl_v4(TTL)?;
                socket.set_multicast_loop_v4(false)?;
                socket.set_tos_v4(TOS)?;
                SocketAddrV4::new(GROUP, 0).into()
            }
            IpAddr::V6(source) => {
                socket.bind(&SocketAddrV6::new(source, 0, 0, index).into())?;
                socket.set_multicast_if_v6(index)?;
                socket.set_multicast_hops_v6(TTL)?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_tclass_v6(TOS)?;
                SocketAddrV6::new(GROUP_V6, 0, 0, index).into()
            }
        };
        Ok(Self { socket, group })
    }

    /// Sends one VRRP message (from the VRRP header on, with its checksum; the kernel adds the IP header). Never waits.
    ///
    /// Errors: the interface is down (`ENETDOWN`, `ENETUNREACH`), gone (`ENODEV`, `ENXIO`: open anew), or its queue is
    /// full (`WouldBlock`, `ENOBUFS`).
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        let sent = self.socket.send_to(payload, &self.group)?;
        if sent == payload.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// Where adverts from this address go.
#[must_use]
pub fn group_of(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => IpAddr::V4(GROUP),
        IpAddr::V6(_) => IpAddr::V6(GROUP_V6),
    }
}

#[cfg(test)]
mod tests;
