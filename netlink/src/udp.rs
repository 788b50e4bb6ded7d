//! UDP sockets as the data path wants them: a listening one per worker, from which datagrams come in batches and to which
//! answers go in batches, and one connected to a server per flow.
//!
//! A connected socket takes datagrams of its server alone. One that stays open for the next flow to the same server saves
//! what a flow costs most for: socket, bind, connect, epoll_ctl and close are as dear as five datagrams.

mod address;
mod batch;
mod control;
mod train;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{socket, sys};

pub(crate) use batch::Messages;
pub use batch::{BATCH, DATAGRAM_MAX, Datagram, Flushed, Inbox, Outbox};
pub use train::Train;

/// Room for datagrams that wait while a worker does something else, bytes of kernel memory, where the kernel lets us have it
/// (CAP_NET_ADMIN, or `net.core.rmem_max`): some 5,000 small datagrams, or 20 ms at 250,000 a second.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Room for answers on their way to the network card, bytes.
const SEND_BUFFER: usize = 1 << 20;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Bound to an address of many (`0.0.0.0`, `::`): each datagram says which one the client asked.
    wildcard: bool,
}

/// Listens on an address that need not be on this node yet (`IP_FREEBIND`), beside other sockets of this process that do the
/// same (`SO_REUSEPORT`; the kernel gives all datagrams of one client's address and port to the same one). `only_v6`: `[::]`
/// takes IPv6 alone, otherwise IPv4 clients as well, with mapped addresses. Nonblocking.
///
/// # Errors
/// The port is taken (`EADDRINUSE`), no permission for a low port.
pub fn listen(address: SocketAddr, only_v6: bool) -> io::Result<Listener> {
    let socket = udp(address)?;
    socket.set_reuse_port(true)?;
    let wildcard = address.ip().is_unspecified();
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(only_v6)?;
            socket.set_freebind_v6(true)?;
        }
    }
    if wildcard {
        let (level, option) = match address {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
        };
        sys::set_option(&socket, level, option, 1)?;
    }
    coalesce(&socket);
    enlarge(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER);
    enlarge(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER);
    socket.bind(&address.into())?;
    Ok(Listener { socket, wildcard })
}

impl Listener {
    /// Whether datagrams say which of this node's addresses the client asked.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The same socket once more, for another process of this node.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }

    /// A socket of [`listen`] that another process of this node has opened, with all that was set there.
    #[must_use]
    pub fn succeed(socket: OwnedFd, address: SocketAddr) -> Self {
        Self { socket: socket.into(), wildcard: address.ip().is_unspecified() }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of getsockname(2); none is to be expected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Where datagrams to a server start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The kernel's choice by its routes, for this family.
    Kernel {
        /// Whether the servers are IPv6 ones.
        v6: bool,
    },
    /// This address of the node.
    Own(IpAddr),
    /// The address of somebody else, the client (`IP_TRANSPARENT`; needs CAP_NET_ADMIN, and routes that bring the answers
    /// here).
    Foreign(IpAddr),
}

/// A socket for one flow at a time, connected to the flow's server.
#[derive(Debug)]
pub struct Upstream(Socket);

impl Upstream {
    /// A socket with a port of its own, to which nobody but `target` can send. Nonblocking.
    ///
    /// # Errors
    /// `InvalidInput` for `0.0.0.0` or `::` as an own address (that would be the kernel's choice), `EADDRNOTAVAIL` for one
    /// that is not on this node, `EPERM` for a foreign one without the privilege, `EMFILE`; `EAGAIN`: no port is left;
    /// `ENETUNREACH`.
    pub fn connect(target: SocketAddr, origin: Origin) -> io::Result<Self> {
        let socket = udp(target)?;
        let source = match origin {
            Origin::Kernel { .. } => None,
            Origin::Own(source) => Some(source),
            Origin::Foreign(source) => {
                match source {
                    IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
                    IpAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
                }
                Some(source)
            }
        };
        if let Some(source) = source {
            // The port is chosen when the socket is connected.
            sys::set_option(&socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
            socket.bind(&socket::bound(source, target)?.into())?;
        }
        socket.connect(&target.into())?;
        Ok(Self(socket))
    }

    /// Throws away up to `most` datagrams, and errors, that wait in the queue, and returns their number. `most`: there may
    /// be more.
    pub fn discard(&self, most: usize) -> usize {
        let mut byte = [0];
        let is_there =
            |_: &usize| !self.receive(&mut byte).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        (0..most).take_while(is_there).count()
    }

    /// Sends a datagram, or a train of them, to the server.
    ///
    /// # Errors
    /// What an ICMP message said of an earlier datagram (`ECONNREFUSED`, `EHOSTUNREACH`; this one has not been sent then),
    /// `EMSGSIZE`, `WouldBlock`.
    pub fn send(&self, train: Train<'_>) -> io::Result<()> {
        let Some(segment) = train.segment else { return self.send_one(train.bytes) };
        match train::send(&self.0, train.bytes, segment) {
            Err(error) if train::is_uncut(&error) => {
                train.datagrams().try_for_each(|bytes| self.send_one(bytes))
            }
            done => done,
        }
    }

    fn send_one(&self, bytes: &[u8]) -> io::Result<()> {
        Ok(send(&self.0, bytes, SendFlags::empty()).map(drop)?)
    }

    /// From now on datagrams of the server that come close together are received as a train, where the kernel can (Linux 5.0).
    /// Worth it for a server that sends many: receiving what is none costs a little more then.
    pub fn coalesce(&self) {
        coalesce(&self.0);
    }

    /// Takes the next datagram or train of the server out of the queue, and returns its length, and that of each datagram
    /// if there are several.
    ///
    /// # Errors
    /// As for [`Upstream::receive`].
    pub fn receive_train(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<NonZeroU16>)> {
        train::receive(&self.0, buffer)
    }

    /// Takes the next datagram of the server out of the queue, and returns its length.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, and what an ICMP message said of an earlier datagram.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.0, buffer, RecvFlags::empty())?.0)
    }

    /// Its own address and port.
    ///
    /// # Errors
    /// Those of getsockname(2); none is to be expected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl From<Upstream> for std::net::UdpSocket {
    /// For whoever waits with a runtime of its own.
    fn from(Upstream(socket): Upstream) -> Self {
        socket.into()
    }
}

impl AsFd for Upstream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn udp(address: SocketAddr) -> io::Result<Socket> {
    // socket2 adds SOCK_CLOEXEC.
    Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))
}

/// Trains instead of single datagrams, where the kernel knows them. A receiver must have room for the longest.
fn coalesce(socket: &Socket) {
    let _ = sys::set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1);
}

/// Past the limit on buffers if we may, else up to it. A smaller buffer loses datagrams sooner, and that is all.
fn enlarge(socket: &Socket, force: libc::c_int, ask: libc::c_int, size: usize) {
    let size = size as i32;
    if sys::set_option(socket, libc::SOL_SOCKET, force, size).is_err() {
        let _ = sys::set_option(socket, libc::SOL_SOCKET, ask, size);
    }
}

#[cfg(test)]
mod tests;
