//! Somebody who is no node of ours.

use std::net::{IpAddr, Ipv4Addr};

use cygnet_netlink::advert::{AdvertSocket, GROUP};
use cygnet_netlink::wire::vrrp::{Advertisement, Auth, ChecksumForm, Version};

use crate::lab::VIP;

/// Somebody on the bridge who speaks VRRP.
pub(crate) struct Stranger {
    socket: AdvertSocket,
}

impl Stranger {
    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

    pub(crate) fn new() -> Self {
        Self { socket: AdvertSocket::open("br0", Self::SOURCE.into()).expect("a socket") }
    }

    pub(crate) fn source(&self) -> IpAddr {
        IpAddr::V4(Self::SOURCE)
    }

    pub(crate) fn claim(&self, priority: u8) {
        self.socket.send(GROUP.into(), &Self::advert(priority)).expect("sent");
    }

    /// With a wrong checksum.
    pub(crate) fn junk(&self, priority: u8) {
        let mut bytes = Self::advert(priority);
        bytes[6] ^= 0x55;
        self.socket.send(GROUP.into(), &bytes).expect("sent");
    }

    fn advert(priority: u8) -> Vec<u8> {
        let advert = Advertisement {
            version: Version::V3,
            vrid: 51,
            priority,
            interval_cs: 10,
            addresses: vec![VIP],
            auth: Auth::None,
            checksum: ChecksumForm::Message,
        };
        advert.emit(IpAddr::V4(Self::SOURCE), IpAddr::V4(GROUP))
    }
}
