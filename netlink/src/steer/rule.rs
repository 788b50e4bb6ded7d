//! Rules as lists of expressions (linux/netfilter/nf_tables.h). The names are those that `nft --debug=netlink` prints.

use std::net::IpAddr;

use super::message::{Attributes, Family};
use crate::guard::LOOPBACK;
use crate::wire::Mac;

/// The register of verdicts.
const VERDICT: u32 = 0;
/// The first register; keys begin there, in steps of four bytes from [`WORDS`] on.
const FIRST: u32 = 1;
/// The second register of 16 bytes.
const SECOND: u32 = 2;
/// The number of the first register of four bytes (NFT_REG32_00), the same as [`FIRST`].
const WORDS: u32 = 8;
/// In lists (NFTA_LIST_ELEM).
pub(super) const ITEM: u16 = 1;

/// NF_DROP, NF_ACCEPT.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// Where a field is counted from (NFT_PAYLOAD).
#[derive(Clone, Copy)]
enum Base {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// NFT_CMP.
#[derive(Clone, Copy)]
enum Is {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// What happens to a set when a packet comes by (NFT_DYNSET_OP).
#[derive(Clone, Copy)]
pub(super) enum Note {
    Update = 1,
    Delete = 2,
}

/// Which of the two addresses of an IP packet.
#[derive(Clone, Copy)]
pub(super) enum End {
    Source,
    Destination,
}

/// The bytes of an address.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Writes one rule: each method is one expression, or a few that belong together.
pub(super) struct Rule<'a, 'b> {
    list: &'a mut Attributes<'b>,
    family: Family,
}

impl<'a, 'b> Rule<'a, 'b> {
    pub(super) fn new(list: &'a mut Attributes<'b>, family: Family) -> Self {
        Self { list, family }
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.list.nest(ITEM, |item| {
            item.text(1, name);
            item.nest(2, fill);
        });
        self
    }

    fn load(&mut self, base: Base, offset: u32, length: u32, register: u32) -> &mut Self {
        self.expression("payload", |it| {
            it.number(1, register);
            it.number(2, base as u32);
            it.number(3, offset);
            it.number(4, length);
        })
    }

    fn compare(&mut self, is: Is, value: &[u8]) -> &mut Self {
        self.expression("cmp", |it| {
            it.number(1, FIRST);
            it.number(2, is as u32);
            it.nest(3, |data| data.bytes(1, value));
        })
    }

    fn meta(&mut self, key: u32) -> &mut Self {
        self.expression("meta", |it| {
            it.number(1, FIRST);
            it.number(2, key);
        })
    }

    /// The value goes into a register.
    fn value(&mut self, register: u32, value: &[u8]) -> &mut Self {
        self.expression("immediate", |it| {
            it.number(1, register);
            it.nest(2, |data| data.bytes(1, value));
        })
    }

    pub(super) fn verdict(&mut self, verdict: Verdict) -> &mut Self {
        self.expression("immediate", |it| {
            it.number(1, VERDICT);
            it.nest(2, |data| data.nest(2, |of| of.number(1, verdict as u32)));
        })
    }

    /// Offset and length of an address in the IP header.
    fn address_at(&self, end: End) -> (u32, u32) {
        match (self.family, end) {
            (Family::Ip6, End::Source) => (8, 16),
            (Family::Ip6, End::Destination) => (24, 16),
            (_, End::Source) => (12, 4),
            (_, End::Destination) => (16, 4),
        }
    }

    /// From, or to, this address.
    pub(super) fn address(&mut self, end: End, address: IpAddr) -> &mut Self {
        let (at, length) = self.address_at(end);
        self.load(Base::Network, at, length, FIRST).compare(Is::Equal, &octets(address))
    }

    /// To any other address.
    pub(super) fn not_to(&mut self, address: IpAddr) -> &mut Self {
        let (at, length) = self.address_at(End::Destination);
        self.load(Base::Network, at, length, FIRST).compare(Is::NotEqual, &octets(address))
    }

    /// Came in over the loopback.
    pub(super) fn came_over_loopback(&mut self) -> &mut Self {
        const IIF: u32 = 4;
        self.meta(IIF).compare(Is::Equal, &LOOPBACK.to_ne_bytes())
    }

    /// Comes from this neighbour on an Ethernet.
    pub(super) fn sent_by(&mut self, mac: Mac) -> &mut Self {
        const IIFTYPE: u32 = 8;
        const ETHER: u16 = 1;
        self.meta(IIFTYPE).compare(Is::Equal, &ETHER.to_ne_bytes());
        self.load(Base::Link, 6, 6, FIRST).compare(Is::Equal, &mac.0)
    }

    fn protocol(&mut self, number: u8) -> &mut Self {
        const L4PROTO: u32 = 16;
        self.meta(L4PROTO).compare(Is::Equal, &[number])
    }

    /// TCP with these of the flags SYN and ACK.
    pub(super) fn syn(&mut self, with_ack: bool) -> &mut Self {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        self.protocol(6).load(Base::Transport, 13, 1, FIRST);
        self.expression("bitwise", |it| {
            it.number(1, FIRST);
            it.number(2, FIRST);
            it.number(3, 1);
            it.nest(4, |mask| mask.bytes(1, &[SYN | ACK]));
            it.nest(5, |xor| xor.bytes(1, &[0]));
        });
        self.compare(Is::Equal, &[if with_ack { SYN | ACK } else { SYN }])
    }

    /// An ICMP message of a type in this range.
    pub(super) fn icmp(&mut self, from: u8, to: u8) -> &mut Self {
        self.protocol(if self.family == Family::Ip6 { 58 } else { 1 }).load(Base::Transport, 0, 1, FIRST);
        match from == to {
            true => self.compare(Is::Equal, &[from]),
            false => self.compare(Is::AtLeast, &[from]).compare(Is::AtMost, &[to]),
        }
    }

    /// Client address, client port, our address, our port: the key of a flow.
    fn key(&mut self) -> &mut Self {
        let (source, length) = self.address_at(End::Source);
        let (destination, _) = self.address_at(End::Destination);
        let port = WORDS + length / 4;
        self.load(Base::Network, source, length, FIRST).load(Base::Transport, 0, 2, port);
        self.load(Base::Network, destination, length, port + 1);
        self.load(Base::Transport, 2, 2, port + 1 + length / 4)
    }

    /// Puts the flow of a TCP segment into a set, or takes it out.
    pub(super) fn note(&mut self, note: Note, set: &str) -> &mut Self {
        self.key().expression("dynset", |it| {
            it.text(1, set);
            it.number(3, note as u32);
            it.number(4, FIRST);
        })
    }

    /// TCP whose flow is in the set.
    pub(super) fn known(&mut self, set: &str) -> &mut Self {
        self.protocol(6).key().expression("lookup", |it| {
            it.text(1, set);
            it.number(2, FIRST);
        })
    }

    /// A copy goes to a neighbour; counted.
    pub(super) fn copy_to(&mut self, neighbour: IpAddr, interface: u32) -> &mut Self {
        self.expression("counter", |it| {
            it.bytes(1, &0_u64.to_be_bytes());
            it.bytes(2, &0_u64.to_be_bytes());
        });
        self.value(FIRST, &octets(neighbour)).value(SECOND, &interface.to_ne_bytes());
        self.expression("dup", |it| {
            it.number(1, FIRST);
            it.number(2, SECOND);
        })
    }

    /// An ARP packet whose sender says to be this address.
    pub(super) fn arp_from(&mut self, address: IpAddr) -> &mut Self {
        self.load(Base::Network, 14, 4, FIRST).compare(Is::Equal, &octets(address))
    }

    /// ... says to be another one.
    pub(super) fn arp_as(&mut self, address: IpAddr) -> &mut Self {
        self.value(FIRST, &octets(address)).expression("payload", |it| {
            it.number(5, FIRST);
            it.number(2, Base::Network as u32);
            it.number(3, 14);
            it.number(4, 4);
            it.number(6, 0);
            it.number(7, 0);
            it.number(8, 0);
        })
    }

    /// An ARP request for this address.
    pub(super) fn arp_asks_for(&mut self, address: IpAddr) -> &mut Self {
        self.load(Base::Network, 6, 2, FIRST).compare(Is::Equal, &[0, 1]);
        self.load(Base::Network, 24, 4, FIRST).compare(Is::Equal, &octets(address))
    }
}
