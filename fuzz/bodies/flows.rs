//! Any bytes as the kernel's list of connections.

use cygnet_netlink::flows;

/// A header, and a connection over IPv4 up to its end; bytes.
const SHORTEST: usize = 16 + 28;

/// Reads `bytes` as a datagram of sock_diag.
pub fn flows(bytes: &[u8]) {
    assert!(flows::understood(bytes).len() <= bytes.len() / SHORTEST);
}
