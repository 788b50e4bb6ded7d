//! The TCP connections of an address, by the kernel's word (sock_diag; linux/inet_diag.h).
//!
//! The kernel's list and not the proxy's: a connection that is half open, waits to be accepted, or is closing is one too, and
//! so is one of any other program that serves the address.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rtnetlink::sys::{Socket, SocketAddr as PortAddress};

use crate::steer::Flow;

/// NETLINK_SOCK_DIAG.
const SOCK_DIAG: isize = 4;
/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// INET_DIAG_REQ_BYTECODE: a program that chooses.
const BYTECODE: u16 = 1;
/// INET_DIAG_BC_S_COND: the local address.
const LOCAL_ADDRESS: u8 = 7;
/// All states of TCP, as bits, but those of a listener (10) and of what only waits for stragglers (TIME-WAIT, 6).
const STATES: u32 = 0xfff & !(1 << 10 | 1 << 6 | 1);
const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;
/// SOCK_DESTROY: a socket is closed as if by its owner's death; the other end gets a reset.
const DESTROY: u16 = 21;
/// NLM_F_REQUEST and NLM_F_ACK.
const REQUEST_ACK: u16 = 5;
/// INET_DIAG_INFO: an attribute of an answer, and its bit in the request for it.
const INFO: u16 = 2;
const WANT_INFO: u8 = 1 << (INFO - 1);
/// Where `tcp_info` has the time since the last data was sent, and received, ms (linux/tcp.h).
const LAST_SENT: usize = 44;
const LAST_RECEIVED: usize = 52;
/// `inet_diag_msg`, bytes; in it `inet_diag_sockid`: both ends, the interface, the cookie.
const MESSAGE: usize = 72;
const MESSAGE_ID: usize = 4;
const MESSAGE_ID_END: usize = MESSAGE_ID + 48;
/// Bytes of the answers that are read at once.
const READ: usize = 64 * 1024;

/// A connection, and for how long nothing has gone over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// The connection.
    pub flow: Flow,
    /// Since the last data either way, ms; `None`: this kernel does not say.
    pub idle_ms: Option<u32>,
}

/// The connections of these addresses, in order, at most `limit`; and how many there are beyond that. Waits for the kernel:
/// about a millisecond for a thousand.
///
/// # Errors
/// The kernel's: no sock_diag in it.
pub fn of(addresses: &[IpAddr], limit: usize) -> io::Result<(Vec<Flow>, usize)> {
    let (mut found, mut beyond) = (BTreeSet::new(), 0);
    list(addresses, 0, |body| {
        let Some(flow) = flow(body) else { return };
        if found.len() < limit {
            found.insert(flow);
        } else if !found.contains(&flow) {
            beyond += 1;
        }
    })?;
    Ok((found.into_iter().collect(), beyond))
}

/// Those of these connections of the addresses that are there, with how long each has been idle. `wanted` is in order. As
/// [`of`], but takes about three times as long.
///
/// # Errors
/// The kernel's.
pub fn idle(addresses: &[IpAddr], wanted: &[Flow]) -> io::Result<Vec<Idle>> {
    let mut found = Vec::with_capacity(wanted.len());
    list(addresses, WANT_INFO, |body| {
        let flow = flow(body).filter(|flow| wanted.binary_search(flow).is_ok());
        found.extend(flow.map(|flow| Idle { flow, idle_ms: idle_of(body) }));
    })?;
    Ok(found)
}

/// Closes connections, whoever has them, with a reset; how many there were. `flows` is in order. Waits for the kernel: some
/// microseconds each. Those that are gone already are no error.
///
/// # Errors
/// The kernel's: no CAP_NET_ADMIN, or built without INET_DIAG_DESTROY (`EOPNOTSUPP`). Some may be closed then.
pub fn close(flows: &[Flow]) -> io::Result<usize> {
    let addresses: BTreeSet<IpAddr> = flows.iter().map(|flow| flow.service.ip()).collect();
    let addresses: Vec<IpAddr> = addresses.into_iter().collect();
    let mut sockets = Vec::with_capacity(flows.len());
    list(&addresses, 0, |body| {
        let wanted = flow(body).is_some_and(|flow| flows.binary_search(&flow).is_ok());
        sockets.extend(body.get(..MESSAGE_ID_END).filter(|_| wanted).map(destroy));
    })?;
    let socket = connect()?;
    let mut closed = 0;
    for request in sockets {
        socket.send(&request, 0)?;
        match read(&socket, |_| {}) {
            Ok(()) => closed += 1,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(closed)
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&PortAddress::new(0, 0))?;
    Ok(socket)
}

/// Has each connection of the addresses looked at, with what `extensions` ask for.
fn list(addresses: &[IpAddr], extensions: u8, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = connect()?;
    for &address in addresses {
        // A listener on [::] takes IPv4 clients too; their connections are in the family of the listener.
        let families: &[u8] = if address.is_ipv4() { &[AF_INET, AF_INET6] } else { &[AF_INET6] };
        for family in families {
            socket.send(&request(*family, extensions, address), 0)?;
            read(&socket, &mut each)?;
        }
    }
    Ok(())
}

/// `nlmsghdr`, and `inet_diag_req_v2` with what the kernel has said of a socket (`inet_diag_msg`): its family, and its ends with its
/// cookie. Without that the kernel would take the listener where the connection has just ended, and close it.
fn destroy(told: &[u8]) -> Vec<u8> {
    const LENGTH: usize = 72;
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend((LENGTH as u32).to_ne_bytes());
    bytes.extend(DESTROY.to_ne_bytes());
    bytes.extend(REQUEST_ACK.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([told.first().copied().unwrap_or(0), libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(STATES.to_ne_bytes());
    bytes.extend(told.iter().skip(MESSAGE_ID));
    bytes
}

/// `nlmsghdr`, `inet_diag_req_v2`, and a program of one condition.
fn request(family: u8, extensions: u8, local: IpAddr) -> Vec<u8> {
    let (octets, kind) = match local {
        IpAddr::V4(address) => (address.octets().to_vec(), AF_INET),
        IpAddr::V6(address) => (address.octets().to_vec(), AF_INET6),
    };
    // The condition, with its address, is followed by nothing; on a mismatch the jump leads beyond the end.
    let program = u8::try_from(4 + 8 + octets.len()).unwrap_or(0);
    let mut code = vec![LOCAL_ADDRESS, program];
    code.extend(u16::from(program + 4).to_ne_bytes());
    code.extend([kind, u8::try_from(octets.len() * 8).unwrap_or(0), 0, 0]);
    code.extend((-1_i32).to_ne_bytes());
    code.extend(octets);
    let length = 16 + 56 + 4 + code.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(0).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, libc::IPPROTO_TCP as u8, extensions, 0]);
    bytes.extend(STATES.to_ne_bytes());
    bytes.extend([0; 48]);
    bytes.extend(u16::try_from(4 + code.len()).unwrap_or(0).to_ne_bytes());
    bytes.extend(BYTECODE.to_ne_bytes());
    bytes.extend(code);
    bytes
}

/// Until the kernel says that it was all.
fn read(socket: &Socket, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ);
    loop {
        buffer.clear();
        let length = socket.recv(&mut buffer, 0)?;
        if length > buffer.len() {
            return Err(io::Error::other("an answer of sock_diag is longer than expected"));
        }
        if answers(&buffer, &mut each)? {
            return Ok(());
        }
    }
}

/// What one datagram of the kernel says, connection by connection; true at the end.
fn answers(mut bytes: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let Some(header) = bytes.get(..16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(16..length) else { return Err(io::ErrorKind::InvalidData.into()) };
        match u16::from_ne_bytes([header[4], header[5]]) {
            DONE => return Ok(true),
            ERROR => {
                let code =
                    body.get(..4).map_or(0, |code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
                return if code == 0 {
                    Ok(true)
                } else {
                    Err(io::Error::from_raw_os_error(code.saturating_neg()))
                };
            }
            _ => each(body),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// `inet_diag_msg`: family, state, timer, retransmissions; then both ports, both addresses.
fn flow(body: &[u8]) -> Option<Flow> {
    let port = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let v6 = *body.first()? == AF_INET6;
    let address = |at: usize| -> Option<IpAddr> {
        if v6 {
            let octets: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
            let address = Ipv6Addr::from(octets);
            return Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4));
        }
        let octets: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::from(octets))
    };
    let service = SocketAddr::new(address(8)?, port(4)?);
    let client = SocketAddr::new(address(24)?, port(6)?);
    Some(Flow { client, service })
}

/// The attributes behind `inet_diag_msg`: the one that has `tcp_info`.
fn idle_of(body: &[u8]) -> Option<u32> {
    let mut rest = body.get(MESSAGE..)?;
    loop {
        let [l0, l1, k0, k1] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == INFO {
            let word = |at: usize| value.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
            return Some(word(LAST_SENT)?.min(word(LAST_RECEIVED)?));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// What one datagram of sock_diag says, read as a list of connections; for fuzzing, which has no kernel.
#[must_use]
pub fn understood(bytes: &[u8]) -> Vec<Idle> {
    let mut found = Vec::new();
    let each = &mut |body: &[u8]| found.extend(flow(body).map(|flow| Idle { flow, idle_ms: idle_of(body) }));
    // What makes no sense ends it.
    let _ = answers(bytes, each);
    found
}

#[cfg(test)]
mod tests;
