//! VRRP and CARP packets off an interface, filtered in the kernel; and, where asked for, what says by ARP or neighbour
//! advertisement who has certain addresses.
//!
//! A packet socket rather than a raw IP socket: it also shows what the IP layer would drop without a word (a wrong
//! checksum, a wrong TTL), and the MAC address of the sender, by which two speakers with one address are told apart.

mod filter;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use socket2::{Domain, InterfaceIndexOrAddress, SockFilter, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::sys;
use crate::wire::Mac;

pub use filter::NEIGHBOURS_MAX;

/// A buffer of this many bytes holds every advertisement: 255 IPv4 addresses of VRRPv2 with all IP options are 1,108
/// bytes, and an Ethernet frame ends at 1,500. What is longer (jumbo frames) is cut, and fails the parser's length check.
pub const FRAME_MAX: usize = 2048;

/// The groups to which advertisements are sent; joined, so that network cards and snooping switches let them through.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// PACKET_OUTGOING of linux/if_packet.h; this and all above it are packets that this host sent.
pub(crate) const PACKET_OUTGOING: u32 = 4;
/// The VLAN number within a VLAN tag. Tag 0 means "no VLAN, only a priority".
pub(crate) const VLAN_ID: u32 = 0x0fff;
/// What the filter returns to take a packet whole.
pub(crate) const TAKE: u32 = 0x0004_0000;
/// PACKET_IGNORE_OUTGOING of linux/if_packet.h (Linux 4.20).
pub(crate) const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// One packet, from the header of its network layer on: IP, or ARP (whose first byte is 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The link-layer sender; zero on links that have none.
    pub source_mac: Mac,
    /// From the IP or ARP header on; may end with the padding of a short Ethernet frame.
    pub bytes: &'a [u8],
}

/// A packet socket on one interface that yields what other hosts send with IP protocol 112 (IPv4 and IPv6).
///
/// Not seen are packets that this host sends, and packets of a VLAN on top of the interface (open the VLAN's own
/// interface for these).
#[derive(Debug)]
pub struct Capture {
    socket: AsyncFd<OwnedFd>,
    interface: u32,
    // Kept open for their group memberships alone: without a port, they never receive anything.
    _members: Vec<Socket>,
}

impl Capture {
    /// Starts to listen on an interface. Needs a tokio runtime with I/O, and CAP_NET_RAW.
    ///
    /// Errors: no such interface (`ENODEV`), no permission, no runtime.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = sys::interface_index(interface)?;
        // Protocol 0 receives nothing until `bind`, so no packet slips in before the filter.
        let kind = Type::DGRAM.nonblocking();
        let socket = Socket::new(Domain::PACKET, kind, None)?;
        socket.attach_filter(&filter::program(&[]))?;
        // Without it the kernel clones every packet that the balancer sends before the filter drops the clone. Kernels
        // that do not know the option still have the filter.
        if let Err(error) = sys::set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1) {
            tracing::debug!(%error, interface, "the kernel cannot leave out sent packets; the filter does");
        }
        sys::bind_packet(&socket, index, libc::ETH_P_ALL as u16)?;
        Ok(Self {
            socket: sys::register(socket.into())?,
            interface: index,
            _members: join_groups(interface, index),
        })
    }

    /// From now on also yields what says that one of `addresses` is at some MAC: ARP with it as sender address (replies,
    /// gratuitous requests, and whatever its holder asks), and neighbour advertisements with it as target. Only what
    /// reaches this interface: a switch shows a third port broadcasts and multicasts, not unicast replies.
    ///
    /// At most [`NEIGHBOURS_MAX`] addresses; of more, the first.
    ///
    /// Errors: the kernel refuses the filter (`ENOMEM`); the former one stays.
    pub fn hear_neighbours(&self, addresses: &[IpAddr]) -> io::Result<()> {
        SockRef::from(self.socket.get_ref()).attach_filter(&filter::program(addresses))
    }

    /// The index of the interface.
    pub fn interface(&self) -> u32 {
        self.interface
    }

    /// Waits for the next packet and copies it into `buffer` (see [`FRAME_MAX`]). Cancel-safe.
    ///
    /// Errors: `ENETDOWN` once when the interface goes down or away. If it only went down, the capture goes on by itself
    /// when it comes up again; if it was deleted, open a new one.
    pub async fn next<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Frame<'b>> {
        loop {
            let mut ready = self.socket.ready(sys::INPUT).await?;
            match ready.try_io(|socket| sys::receive_packet(socket, buffer)) {
                Ok(Ok((len, address, address_len))) => {
                    let source_mac = source_mac(address, address_len);
                    return Ok(Frame { source_mac, bytes: buffer.get(..len).unwrap_or_default() });
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

fn source_mac(address: [u8; 8], len: usize) -> Mac {
    let [a, b, c, d, e, f, ..] = address;
    if len == 6 { Mac([a, b, c, d, e, f]) } else { Mac::default() }
}

/// Joins the advertisement groups. A family that the interface lacks is left out: there is nothing to hear in it.
fn join_groups(name: &str, index: u32) -> Vec<Socket> {
    let v4 = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
        Ok(socket)
    };
    let v6 = || {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.join_multicast_v6(&GROUP_V6, index)?;
        Ok(socket)
    };
    let members: [(&str, io::Result<Socket>); 2] = [("IPv4", v4()), ("IPv6", v6())];
    let joined = members.into_iter().filter_map(|(family, member)| match member {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::debug!(%error, family, interface = name, "the advertisement group was not joined");
            None
        }
    });
    joined.collect()
}

/// The address of a value that the kernel keeps beside the packet.
pub(crate) fn ancillary(field: libc::c_int) -> u32 {
    (libc::SKF_AD_OFF + field).cast_unsigned()
}

pub(crate) fn op(code: u32, yes: u8, no: u8, k: u32) -> SockFilter {
    SockFilter::new(code as u16, yes, no, k)
}

#[cfg(test)]
mod tests;
