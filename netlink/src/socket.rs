//! Stream sockets as the data path wants them, with as few system calls as that takes.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys;

/// A socket that neither blocks nor leaks into child processes, from its first moment: one call.
fn tcp(address: SocketAddr) -> io::Result<Socket> {
    // socket2 adds SOCK_CLOEXEC.
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

fn unix() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
}

/// How a listening socket is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Clients that may wait in its queue; the kernel cuts it to `net.core.somaxconn`. `None`: the socket is only bound,
    /// and listens later.
    pub backlog: Option<i32>,
    /// `[::]` takes IPv4 clients as well, with mapped addresses (`::ffff:a.b.c.d`).
    pub both_families: bool,
    /// Connections are probed when they are silent (`SO_KEEPALIVE`), and accepted ones inherit it.
    pub keepalive: bool,
    /// Seconds for which a client that has said nothing yet is kept in the queue (`TCP_DEFER_ACCEPT`); 0: it is handed
    /// out at once. Only for protocols in which the client speaks first.
    pub defer: i32,
}

/// Where a connection starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the address that the kernel chooses.
    Kernel,
    /// From this address of this node.
    Address(IpAddr),
    /// From an address that is not this node's (`IP_TRANSPARENT`); answers must be routed through this node.
    Foreign(IpAddr),
}

/// Listens on an address that need not be on this node yet (`IP_FREEBIND`), beside other sockets of this process that
/// do the same (`SO_REUSEPORT`). Nonblocking. `[::]` takes IPv6 only, so that `0.0.0.0` can be listened to as well,
/// unless both families are wanted.
/// Accepted connections inherit `TCP_NODELAY`, which saves a call for each.
///
/// Errors: the port is taken by another user's socket or one without `SO_REUSEPORT` (`EADDRINUSE`), no permission for
/// a low port.
pub fn listen(address: SocketAddr, how: Listening) -> io::Result<OwnedFd> {
    let socket = tcp(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    if how.keepalive {
        socket.set_keepalive(true)?;
    }
    if how.defer > 0 {
        set_defer(&socket, how.defer)?;
    }
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(!how.both_families)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    if let Some(backlog) = how.backlog {
        socket.listen(backlog)?;
    }
    Ok(socket.into())
}

/// Changes [`Listening::defer`] of a socket that listens already.
pub fn set_defer(socket: &impl AsRawFd, seconds: i32) -> io::Result<()> {
    sys::set_option(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Listens on a Unix stream socket. A socket file that is there already is removed first, for nobody removes it when a
/// process ends; any other file stays, and is an error (`EADDRINUSE`). Nonblocking. `backlog`: as in [`Listening`].
pub fn listen_unix(path: &Path, backlog: Option<i32>) -> io::Result<OwnedFd> {
    let socket = unix()?;
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    socket.bind(&SockAddr::unix(path)?)?;
    if let Some(backlog) = backlog {
        socket.listen(backlog)?;
    }
    Ok(socket.into())
}

/// Starts to connect and returns at once: the socket becomes writable when the connection stands or has failed
/// (`SO_ERROR` tells which). The source port is chosen only when the target is known (`IP_BIND_ADDRESS_NO_PORT`), so that
/// the same port serves for many targets. `TCP_NODELAY` is left to the caller: it cannot matter before the second send.
///
/// Errors: `InvalidInput` for a source of the other family or none at all (`0.0.0.0`: that would be the kernel's choice),
/// `EADDRNOTAVAIL` for a source that is not on this node or has no port left, `EPERM` for a foreign one without the
/// capability, `ENETUNREACH`.
pub fn connect(target: SocketAddr, origin: Origin) -> io::Result<OwnedFd> {
    let socket = tcp(target)?;
    if let Origin::Address(source) | Origin::Foreign(source) = origin {
        let source = bound(source, target)?;
        if matches!(origin, Origin::Foreign(_)) {
            let (level, option) = match target {
                SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_TRANSPARENT),
                SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
            };
            sys::set_option(&socket, level, option, 1)?;
        }
        // The option of IPv4 works for IPv6 sockets as well, which have no other.
        sys::set_option(&socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&source.into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => Ok(socket.into()),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error),
    }
}

/// Connects to a Unix stream socket: done at once, or not at all (`EAGAIN`: the queue of the other side is full).
pub fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = unix()?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// The source as a socket address without a port; link-local ones need the target's interface.
pub(crate) fn bound(source: IpAddr, target: SocketAddr) -> io::Result<SocketAddr> {
    if source.is_unspecified() || source.is_ipv4() != target.is_ipv4() {
        let why = format!("{source} cannot be the source of a connection to {}", target.ip());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(match (source, target) {
        (IpAddr::V6(source), SocketAddr::V6(target)) if source.is_unicast_link_local() => {
            SocketAddrV6::new(source, 0, 0, target.scope_id()).into()
        }
        _ => SocketAddr::new(source, 0),
    })
}

#[cfg(test)]
mod tests;
