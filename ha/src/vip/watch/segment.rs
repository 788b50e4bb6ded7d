//! What else lives on the segment: virtual routers that are not configured here.

use std::net::IpAddr;

use cygnet_netlink::wire::Message;
use cygnet_netlink::wire::vrrp::Version;

use crate::time::Time;
use crate::vip::Protocol;

/// How many senders of unknown virtual routers are remembered; with more, the one heard longest ago is forgotten.
pub const STRANGERS_KEPT: usize = 128;
/// How many virtual addresses of each are remembered. With [`STRANGERS_KEPT`]: at most 70 KiB.
pub const STRANGER_ADDRESSES_KEPT: usize = 32;

/// A sender of a virtual router that is not configured here. Nothing of it is verified beyond the checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The protocol.
    pub protocol: Protocol,
    /// VRID or vhid.
    pub id: u8,
    /// Who advertises.
    pub source: IpAddr,
    /// Which addresses (CARP does not say them).
    pub addresses: Vec<IpAddr>,
    /// When it was heard last.
    pub heard: Time,
}

/// The protocol of a message.
pub(super) fn protocol(message: &Message) -> Protocol {
    match message {
        Message::Carp(_) => Protocol::Carp,
        Message::Vrrp(advertisement) => match advertisement.version {
            Version::V2 => Protocol::Vrrp2,
            Version::V3 => Protocol::Vrrp3,
        },
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    pub(super) strangers: Vec<Stranger>,
}

impl Segment {
    /// Remembers who sent `message`; returns the first of `own` addresses that it claims. Own addresses are not
    /// remembered: a forged packet must not make us believe that our own address is virtual.
    pub(super) fn remember(
        &mut self,
        now: Time,
        source: IpAddr,
        message: &Message,
        own: &[IpAddr],
    ) -> Option<IpAddr> {
        let (protocol, id) = (protocol(message), message.id());
        let claimed: &[IpAddr] = match message {
            Message::Vrrp(advertisement) => &advertisement.addresses,
            Message::Carp(_) => &[],
        };
        let others = claimed.iter().filter(|address| !own.contains(address));
        let addresses = others.take(STRANGER_ADDRESSES_KEPT).copied().collect();
        let stranger = Stranger { protocol, id, source, addresses, heard: now };
        let same = |known: &Stranger| (known.protocol, known.id, known.source) == (protocol, id, source);
        if let Some(known) = self.strangers.iter_mut().find(|known| same(known)) {
            *known = stranger;
        } else {
            if self.strangers.len() == STRANGERS_KEPT {
                let oldest =
                    self.strangers.iter().enumerate().min_by_key(|(_, known)| known.heard).map(|(at, _)| at);
                self.strangers.swap_remove(oldest.unwrap_or(0));
            }
            self.strangers.push(stranger);
        }
        claimed.iter().find(|address| own.contains(address)).copied()
    }

    /// Whether the number was heard in the other protocol family (VRRP or CARP).
    pub(super) fn number_in_other_protocol(&self, message: &Message) -> bool {
        let is_carp = matches!(message, Message::Carp(_));
        self.strangers
            .iter()
            .any(|known| known.id == message.id() && (known.protocol == Protocol::Carp) != is_carp)
    }
}
