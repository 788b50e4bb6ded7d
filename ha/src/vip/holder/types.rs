//! What goes into the holder and what comes out.

use std::net::IpAddr;

use cygnet_netlink::wire::Message;

use crate::events::Severity;

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add the address, and call [`super::Holder::added`] before anything else.
    AddAddress(IpAddr),
    /// Remove the address, and call [`super::Holder::removed`].
    RemoveAddress(IpAddr),
    /// One gratuitous ARP, or neighbor advertisement, for each address.
    Announce,
    /// Send the advert.
    SendAdvert(Message),
    /// Tell the operator.
    Event {
        /// How much it matters.
        severity: Severity,
        /// What happened.
        what: String,
        /// Why.
        why: String,
    },
}

/// The state of the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// There is no such interface.
    Missing,
    /// It was there, and has another name now. Our address is still on it.
    Renamed,
    /// It is there, without carrier or administratively down.
    Down,
    /// It works.
    Up,
}

/// What an election needs beneath it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ground {
    /// The interface.
    pub link: Link,
    /// Our own address on it, the source of adverts.
    pub source: Option<IpAddr>,
    /// Why the sockets cannot be used; `None` if they can.
    pub socket_error: Option<String>,
}

/// What the kernel says of the address on the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// It is there as /32 or /128.
    pub exact: bool,
    /// That one carries the mark of this program.
    pub marked: bool,
    /// It is there with this shorter prefix.
    pub shorter: Option<u8>,
}

impl Presence {
    /// Whether it is there at all.
    #[must_use]
    pub fn any(self) -> bool {
        self.exact || self.shorter.is_some()
    }
}
