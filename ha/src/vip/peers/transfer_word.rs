//! What two nodes say to each other about a move that keeps connections ([`crate::vip::transfer`]), as bytes.

use std::net::{IpAddr, SocketAddr};

use cygnet_netlink::steer::Flow;
use cygnet_netlink::wire::Mac;

use crate::vip::transfer::{FLOWS_IN_WORD, Said};

/// A word of a transfer; one of its parts is there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Transfer {
    /// The virtual router's name in the configuration.
    #[prost(string, tag = "1")]
    pub vip: String,
    /// The transfer: a random number of the old holder.
    #[prost(uint64, tag = "2")]
    pub id: u64,
    /// The sender's own address on the link, as text.
    #[prost(string, tag = "3")]
    pub source: String,
    /// ... and its MAC.
    #[prost(bytes = "vec", tag = "4")]
    pub mac: Vec<u8>,
    /// "Prepare".
    #[prost(bool, tag = "5")]
    pub prepare: bool,
    /// Flows that begin or end to be forwarded.
    #[prost(message, optional, tag = "6")]
    pub flows: Option<Flows>,
    /// "The address stays here".
    #[prost(bool, tag = "7")]
    pub abort: bool,
    /// "Done up to this number".
    #[prost(uint64, optional, tag = "8")]
    pub confirm: Option<u64>,
    /// "I cannot", and why.
    #[prost(string, optional, tag = "9")]
    pub refuse: Option<String>,
}

/// Some flows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Flows {
    /// Counts from 1; 0: these have ended, after the move.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The last one of a list.
    #[prost(bool, tag = "2")]
    pub last: bool,
    /// They are IPv6: 36 bytes each, otherwise 12: the client's address and port, ours and its port.
    #[prost(bool, tag = "3")]
    pub v6: bool,
    /// To be forwarded.
    #[prost(bytes = "vec", tag = "4")]
    pub add: Vec<u8>,
    /// Ended.
    #[prost(bytes = "vec", tag = "5")]
    pub remove: Vec<u8>,
}

impl Transfer {
    /// `own`: the sender's address and MAC on the link.
    #[must_use]
    pub fn of(vip: &str, id: u64, own: (IpAddr, Mac), said: &Said) -> Self {
        let mut transfer = Self {
            vip: vip.to_owned(),
            id,
            source: own.0.to_string(),
            mac: own.1.0.to_vec(),
            ..Self::default()
        };
        let pack = |number, last, add: &[Flow], remove: &[Flow]| Flows {
            number,
            last,
            v6: add.iter().chain(remove).any(|flow| flow.client.is_ipv6()),
            add: packed(add),
            remove: packed(remove),
        };
        match said {
            Said::Prepare => transfer.prepare = true,
            Said::Flows { number, last, add, remove } => {
                transfer.flows = Some(pack(*number, *last, add, remove));
            }
            Said::Ended(flows) => transfer.flows = Some(pack(0, false, &[], flows)),
            Said::Abort => transfer.abort = true,
            Said::Confirm(number) => transfer.confirm = Some(*number),
            Said::Refuse(why) => transfer.refuse = Some(why.chars().take(200).collect()),
        }
        transfer
    }

    /// What it says; `None` if it makes no sense.
    #[must_use]
    pub fn said(&self) -> Option<Said> {
        if let Some(Flows { number, last, v6, add, remove }) = &self.flows {
            let (add, remove) = (unpacked(add, *v6)?, unpacked(remove, *v6)?);
            return Some(match number {
                0 => Said::Ended(remove),
                _ => Said::Flows { number: *number, last: *last, add, remove },
            });
        }
        match (self.prepare, self.abort, self.confirm, &self.refuse) {
            (true, ..) => Some(Said::Prepare),
            (_, true, ..) => Some(Said::Abort),
            (_, _, Some(number), _) => Some(Said::Confirm(number)),
            (.., Some(why)) => Some(Said::Refuse(why.clone())),
            _ => None,
        }
    }

    /// The sender's address and MAC on the link.
    #[must_use]
    pub fn own(&self) -> Option<(IpAddr, Mac)> {
        Some((self.source.parse().ok()?, Mac(self.mac.as_slice().try_into().ok()?)))
    }

    /// Whatever must not be too long.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        [self.vip.as_str(), self.source.as_str()].into_iter().chain(self.refuse.as_deref())
    }
}

fn packed(flows: &[Flow]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(flows.len() * 12);
    for end in flows.iter().flat_map(|flow| [flow.client, flow.service]) {
        match end.ip() {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
        bytes.extend(end.port().to_be_bytes());
    }
    bytes
}

/// `None`: too many, or a part of one.
fn unpacked(bytes: &[u8], v6: bool) -> Option<Vec<Flow>> {
    let length = if v6 { 18 } else { 6 };
    if !bytes.len().is_multiple_of(2 * length) || bytes.len() > 2 * length * FLOWS_IN_WORD {
        return None;
    }
    let end = |bytes: &[u8]| -> Option<SocketAddr> {
        let (address, port) = bytes.split_at_checked(length - 2)?;
        let address: IpAddr = match v6 {
            true => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
            false => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        };
        Some(SocketAddr::new(address, u16::from_be_bytes(port.try_into().ok()?)))
    };
    let flow = |both: &[u8]| -> Option<Flow> {
        let (client, service) = both.split_at_checked(length)?;
        Some(Flow { client: end(client)?, service: end(service)? })
    };
    bytes.chunks_exact(2 * length).map(flow).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vip::peers::word::Word;

    fn flow(host: u8, port: u16, v6: bool) -> Flow {
        let (client, service) = match v6 {
            true => ([u8::from(v6); 16].into(), IpAddr::from([host; 16])),
            false => (IpAddr::from([198, 51, 100, host]), IpAddr::from([192, 0, 2, 100])),
        };
        Flow { client: SocketAddr::new(client, port), service: SocketAddr::new(service, 80) }
    }

    fn survives(said: &Said) {
        let own = (IpAddr::from([192, 0, 2, 1]), Mac([2, 0, 0, 0, 0, 1]));
        let word = Word::transfer(Transfer::of("www", 7, own, said));
        let bytes = word.encode();
        assert!(bytes.len() <= crate::consensus::frame::WORD_MAX, "{} bytes", bytes.len());
        let heard = Word::decode(&bytes).and_then(|word| word.transfer).expect("a transfer");
        assert_eq!((heard.said().as_ref(), heard.own(), heard.id), (Some(said), Some(own), 7));
    }

    #[test]
    fn each_word_of_a_transfer_survives_the_wire_and_the_longest_fits() {
        for said in [
            Said::Prepare,
            Said::Abort,
            Said::Confirm(0),
            Said::Confirm(u64::MAX),
            Said::Refuse("no nf_tables".to_owned()),
            Said::Flows { number: 1, last: true, add: Vec::new(), remove: Vec::new() },
        ] {
            survives(&said);
        }
        for v6 in [false, true] {
            let many: Vec<Flow> = (0..FLOWS_IN_WORD).map(|port| flow(9, port as u16, v6)).collect();
            survives(&Said::Flows { number: 3, last: false, add: many.clone(), remove: Vec::new() });
            survives(&Said::Ended(many));
        }
    }

    #[test]
    fn a_list_that_is_too_long_or_ends_within_a_flow_is_none() {
        let one = packed(&[flow(1, 1, false)]);
        assert_eq!(unpacked(&one, false), Some(vec![flow(1, 1, false)]));
        assert_eq!(unpacked(&one[1..], false), None);
        assert_eq!(unpacked(&one, true), None);
        assert_eq!(unpacked(&one.repeat(FLOWS_IN_WORD + 1), false), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_flows_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), v6: bool) {
            let _ = unpacked(&bytes, v6);
        }
    }
}
