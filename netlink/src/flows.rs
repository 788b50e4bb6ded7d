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
/// Bytes of the answers that are read at once.
const READ: usize = 64 * 1024;

/// The connections of these addresses, in order, at most `limit`; and how many there are beyond that. Waits for the kernel:
/// about a millisecond for a thousand.
///
/// # Errors
/// The kernel's: no sock_diag in it.
pub fn of(addresses: &[IpAddr], limit: usize) -> io::Result<(Vec<Flow>, usize)> {
    let mut socket = Socket::new(SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&PortAddress::new(0, 0))?;
    let (mut found, mut beyond) = (BTreeSet::new(), 0);
    for &address in addresses {
        // A listener on [::] takes IPv4 clients too; their connections are in the family of the listener.
        let families: &[u8] = if address.is_ipv4() { &[AF_INET, AF_INET6] } else { &[AF_INET6] };
        for family in families {
            socket.send(&request(*family, address), 0)?;
            read(&socket, |flow| {
                if found.len() < limit {
                    found.insert(flow);
                } else if !found.contains(&flow) {
                    beyond += 1;
                }
            })?;
        }
    }
    Ok((found.into_iter().collect(), beyond))
}

/// `nlmsghdr`, `inet_diag_req_v2`, and a program of one condition.
fn request(family: u8, local: IpAddr) -> Vec<u8> {
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
    bytes.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(STATES.to_ne_bytes());
    bytes.extend([0; 48]);
    bytes.extend(u16::try_from(4 + code.len()).unwrap_or(0).to_ne_bytes());
    bytes.extend(BYTECODE.to_ne_bytes());
    bytes.extend(code);
    bytes
}

/// Until the kernel says that it was all.
fn read(socket: &Socket, mut each: impl FnMut(Flow)) -> io::Result<()> {
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

/// What one datagram of the kernel says; true at the end.
fn answers(mut bytes: &[u8], each: &mut impl FnMut(Flow)) -> io::Result<bool> {
    while let Some(header) = bytes.get(..16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(16..length) else { return Err(io::ErrorKind::InvalidData.into()) };
        match u16::from_ne_bytes([header[4], header[5]]) {
            DONE => return Ok(true),
            ERROR => {
                let code =
                    body.get(..4).map_or(0, |code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
                return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
            _ => {
                if let Some(flow) = flow(body) {
                    each(flow);
                }
            }
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

#[cfg(test)]
mod tests;
