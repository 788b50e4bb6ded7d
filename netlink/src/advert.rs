//! Sending advertisements: a raw socket of IP protocol 112 on one interface, to the group or to single peers.

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

/// Sends VRRP messages from one address through one interface, to 224.0.0.18 or ff02::12, or to a peer; receives nothing.
///
/// While it is open the kernel does not answer unicast advertisements to its address with "protocol unreachable".
#[derive(Debug)]
pub struct AdvertSocket {
    socket: Socket,
    interface: u32,
}

impl AdvertSocket {
    /// Opens the socket. `source` is an address of this node (not the virtual one); for the IPv6 group the link-local one of
    /// the interface. Needs CAP_NET_RAW.
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
        match source {
            IpAddr::V4(source) => {
                socket.bind(&SocketAddrV4::new(source, 0).into())?;
                socket.set_multicast_ttl_v4(TTL)?;
                socket.set_ttl_v4(TTL)?;
                socket.set_multicast_loop_v4(false)?;
                socket.set_tos_v4(TOS)?;
            }
            IpAddr::V6(source) => {
                socket.bind(&scoped(source, index))?;
                socket.set_multicast_if_v6(index)?;
                socket.set_multicast_hops_v6(TTL)?;
                socket.set_unicast_hops_v6(TTL)?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_tclass_v6(TOS)?;
            }
        }
        Ok(Self { socket, interface: index })
    }

    /// Sends one VRRP message (from the VRRP header on, with its checksum; the kernel adds the IP header) to the group
    /// ([`group_of`]) or to a peer, of the family of the source. Never waits.
    ///
    /// Errors: the interface is down or has no route to the peer (`ENETDOWN`, `ENETUNREACH`), gone (`ENODEV`, `ENXIO`: open anew), or its queue is
    /// full (`WouldBlock`, `ENOBUFS`).
    pub fn send(&self, destination: IpAddr, payload: &[u8]) -> io::Result<()> {
        let destination = match destination {
            IpAddr::V4(address) => SocketAddrV4::new(address, 0).into(),
            IpAddr::V6(address) => scoped(address, self.interface),
        };
        let sent = self.socket.send_to(payload, &destination)?;
        if sent == payload.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// Only link-local addresses, and groups, belong to an interface (RFC 4007 section 4).
fn scoped(address: Ipv6Addr, interface: u32) -> SockAddr {
    let scope = if address.is_unicast_link_local() || address.is_multicast() { interface } else { 0 };
    SocketAddrV6::new(address, 0, 0, scope).into()
}

/// Where adverts from this address go when there are no single peers.
#[must_use]
pub fn group_of(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => IpAddr::V4(GROUP),
        IpAddr::V6(_) => IpAddr::V6(GROUP_V6),
    }
}

#[cfg(test)]
mod tests;
