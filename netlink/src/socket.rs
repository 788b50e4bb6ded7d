//! TCP sockets as the data path wants them, with as few system calls as that takes.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

use crate::sys;

/// A socket that neither blocks nor leaks into child processes, from its first moment: one call.
fn tcp(address: SocketAddr) -> io::Result<Socket> {
    // socket2 adds SOCK_CLOEXEC.
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

/// Listens on an address that need not be on this node yet (`IP_FREEBIND`), beside other sockets of this process that
/// do the same (`SO_REUSEPORT`). Nonblocking. `[::]` takes IPv6 only, so that `0.0.0.0` can be listened to as well.
/// Accepted connections inherit `TCP_NODELAY`, which saves a call for each. `backlog` is cut to `net.core.somaxconn`.
///
/// Errors: the port is taken by another user's socket or one without `SO_REUSEPORT` (`EADDRINUSE`), no permission for
/// a low port.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = tcp(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Starts to connect and returns at once: the socket becomes writable when the connection stands or has failed
/// (`take_error` tells which). With `source` the connection starts from this address; the port is chosen only when the
/// target is known (`IP_BIND_ADDRESS_NO_PORT`), so that the same port serves for many targets.
///
/// Errors: `InvalidInput` for a source of the other family or none at all (`0.0.0.0`: that would be the kernel's choice),
/// `EADDRNOTAVAIL` for a source that is not on this node or has no port left, `ENETUNREACH`.
pub fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = tcp(target)?;
    if let Some(source) = source {
        let source = bound(source, target)?;
        // The option of IPv4 works for IPv6 sockets as well, which have no other.
        sys::set_option(&socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&source.into())?;
    }
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Ok(()) => Ok(socket.into()),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error),
    }
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
