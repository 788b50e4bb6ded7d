//! Socket addresses as the kernel writes them, read and written as plain bytes (ip(7), ipv6(7)).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either family: the length of `sockaddr_in6`, the longer one.
const LENGTH: usize = size_of::<libc::sockaddr_in6>();
const V4_LENGTH: usize = size_of::<libc::sockaddr_in>();

/// A `sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub(super) struct Name([u8; LENGTH]);

impl Name {
    /// The bytes that the kernel may write.
    pub(super) const LENGTH: libc::socklen_t = LENGTH as libc::socklen_t;

    /// `None` for another family.
    pub(super) fn parse(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(self.array(2));
        match libc::c_int::from(u16::from_ne_bytes(self.array(0))) {
            libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(self.array::<4>(4)), port).into()),
            libc::AF_INET6 => {
                let address = Ipv6Addr::from(self.array::<16>(8));
                // The flow label is the sender's and tells no client from another.
                Some(SocketAddrV6::new(address, port, 0, u32::from_ne_bytes(self.array(24))).into())
            }
            _ => None,
        }
    }

    /// Writes the address, and returns its length.
    pub(super) fn write(&mut self, address: SocketAddr) -> libc::socklen_t {
        self.0 = [0; LENGTH];
        self.0[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                self.0[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                self.0[4..8].copy_from_slice(&v4.ip().octets());
                V4_LENGTH as libc::socklen_t
            }
            SocketAddr::V6(v6) => {
                self.0[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                self.0[8..24].copy_from_slice(&v6.ip().octets());
                self.0[24..].copy_from_slice(&v6.scope_id().to_ne_bytes());
                Self::LENGTH
            }
        }
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.0[at + i])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ip: std::net::IpAddr, port: u16, scope: u32) {
            let mut address = SocketAddr::new(ip, port);
            if let SocketAddr::V6(v6) = &mut address {
                v6.set_scope_id(scope);
            }
            let mut name = Name([0xa5; LENGTH]);
            name.write(address);
            prop_assert_eq!(name.parse(), Some(address));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_c_library() {
        let mut name = Name::default();
        let length = name.write(SocketAddr::from(([192, 0, 2, 1], 0x1234)));
        let here = socket2::SockAddr::from(SocketAddr::from(([192, 0, 2, 1], 0x1234)));
        assert_eq!(length, here.len());
        assert_eq!(name.0[..8], [2, 0, 0x12, 0x34, 192, 0, 2, 1]);
        assert_eq!(Name::default().parse(), None, "no family");
    }
}
