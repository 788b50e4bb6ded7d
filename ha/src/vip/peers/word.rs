//! What the elections of two nodes say to each other over the nodes' own connection, as bytes (protobuf: unknown fields are
//! passed over, so that nodes of two versions understand each other).

use prost::Message as _;

pub use super::transfer_word::Transfer;
use crate::vip::fitness::LOST_MAX;

/// Texts and lists in a word, at most; what is longer came from no node of ours.
const TEXT_MAX: usize = 1024;

/// Virtual routers in a standing, at most: as many as a node handles.
const VIPS_MAX: usize = crate::vip::driver::VIPS_MAX;

/// One message; one of its parts is there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Word {
    /// How the sender is.
    #[prost(message, optional, tag = "1")]
    pub standing: Option<Standing>,
    /// The sender holds an address and wants the receiver to take it.
    #[prost(message, optional, tag = "2")]
    pub take: Option<Take>,
    /// The sender does not take what it was asked to.
    #[prost(message, optional, tag = "3")]
    pub refused: Option<Refused>,
    /// The sender has let go of an address, and nobody else has it.
    #[prost(message, optional, tag = "4")]
    pub released: Option<Released>,
    /// A move that keeps connections.
    #[prost(message, optional, tag = "5")]
    pub transfer: Option<Transfer>,
}

/// How a node is; said on every change, and every now and then.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Standing {
    /// The seal of its last word ([`cygnet_netlink::guard::LastWord`]); empty: it has no guard.
    #[prost(bytes = "vec", tag = "1")]
    pub seal: Vec<u8>,
    /// Whether it can serve.
    #[prost(bool, tag = "2")]
    pub ready: bool,
    /// Why.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// Its virtual routers.
    #[prost(message, repeated, tag = "4")]
    pub vips: Vec<VipStanding>,
    /// Services that cannot be served from there.
    #[prost(string, repeated, tag = "5")]
    pub lost: Vec<String>,
    /// It can take an address over so that connections go on; why not, if it cannot. A node that says nothing cannot.
    #[prost(message, optional, tag = "6")]
    pub keeps: Option<Keeps>,
    /// The transfers that it takes part in.
    #[prost(uint64, repeated, tag = "7")]
    pub transfers: Vec<u64>,
}

/// Whether a node can take part in a transfer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Keeps {
    /// Why not; empty: it can.
    #[prost(string, tag = "1")]
    pub why_not: String,
}

/// A virtual router on the sender.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VipStanding {
    /// The name in the configuration.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The source of its adverts, as text; empty: it has none.
    #[prost(string, tag = "2")]
    pub source: String,
    /// It follows another and could take over.
    #[prost(bool, tag = "3")]
    pub standby: bool,
    /// Its priority at this moment.
    #[prost(uint32, tag = "4")]
    pub priority: u32,
}

/// "Take this address; I hold it until you do."
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Take {
    /// The name in the configuration.
    #[prost(string, tag = "1")]
    pub vip: String,
    /// The source of the sender's adverts: whom the receiver must be following.
    #[prost(string, tag = "2")]
    pub source: String,
}

/// "I do not take it."
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refused {
    /// The name in the configuration.
    #[prost(string, tag = "1")]
    pub vip: String,
    /// Why not.
    #[prost(string, tag = "2")]
    pub why: String,
}

/// "I do not have it any more."
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Released {
    /// The name in the configuration.
    #[prost(string, tag = "1")]
    pub vip: String,
    /// The source of the sender's adverts.
    #[prost(string, tag = "2")]
    pub source: String,
}

impl Word {
    /// A release.
    #[must_use]
    pub fn released(vip: &str, source: &str) -> Self {
        Self {
            released: Some(Released { vip: vip.to_owned(), source: source.to_owned() }),
            ..Self::default()
        }
    }

    /// A standing.
    #[must_use]
    pub fn standing(standing: Standing) -> Self {
        Self { standing: Some(standing), ..Self::default() }
    }

    /// A word of a transfer.
    #[must_use]
    pub fn transfer(transfer: Transfer) -> Self {
        Self { transfer: Some(transfer), ..Self::default() }
    }

    /// A take.
    #[must_use]
    pub fn take(vip: &str, source: &str) -> Self {
        Self { take: Some(Take { vip: vip.to_owned(), source: source.to_owned() }), ..Self::default() }
    }

    /// A refusal.
    #[must_use]
    pub fn refused(vip: &str, why: &str) -> Self {
        Self { refused: Some(Refused { vip: vip.to_owned(), why: why.to_owned() }), ..Self::default() }
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// From bytes; `None` if they are none of ours. Never panics.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let word = <Self as prost::Message>::decode(bytes).ok()?;
        let mut texts: Vec<&str> = Vec::new();
        if let Some(standing) = &word.standing {
            texts.push(&standing.reason);
            if standing.vips.len() > VIPS_MAX
                || standing.lost.len() > LOST_MAX
                || standing.seal.len() > TEXT_MAX
                || standing.transfers.len() > 2 * VIPS_MAX
            {
                return None;
            }
            texts.extend(standing.keeps.iter().map(|keeps| keeps.why_not.as_str()));
            texts.extend(standing.lost.iter().map(String::as_str));
            texts.extend(standing.vips.iter().flat_map(|vip| [vip.name.as_str(), vip.source.as_str()]));
        }
        texts.extend(word.take.iter().flat_map(|take| [take.vip.as_str(), take.source.as_str()]));
        texts.extend(word.refused.iter().flat_map(|refused| [refused.vip.as_str(), refused.why.as_str()]));
        texts.extend(word.released.iter().flat_map(|it| [it.vip.as_str(), it.source.as_str()]));
        if let Some(transfer) = &word.transfer {
            texts.extend(transfer.texts());
        }
        texts.iter().all(|text| text.len() <= TEXT_MAX).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_survives_the_wire_and_one_beyond_its_bounds_is_none() {
        let vip =
            VipStanding { name: "www".into(), source: "192.0.2.1".into(), standby: true, priority: 150 };
        let standing = Standing {
            seal: vec![7; 32],
            ready: true,
            reason: "listening".into(),
            vips: vec![vip],
            lost: vec!["web".into()],
            keeps: Some(Keeps { why_not: "no nf_tables".into() }),
            transfers: vec![7, u64::MAX],
        };
        for word in [
            Word::standing(standing.clone()),
            Word::take("www", "192.0.2.1"),
            Word::refused("www", "no"),
            Word::released("www", "192.0.2.1"),
        ] {
            assert_eq!(Word::decode(&word.encode()), Some(word));
        }
        let many = vec![standing.vips[0].clone(); VIPS_MAX + 1];
        let long = "x".repeat(TEXT_MAX + 1);
        for word in [
            Word::standing(Standing { vips: many, ..standing.clone() }),
            Word::standing(Standing { reason: long.clone(), ..standing }),
            Word::refused("www", &long),
            Word::standing(Standing { lost: vec!["web".into(); LOST_MAX + 1], ..Standing::default() }),
        ] {
            assert_eq!(Word::decode(&word.encode()), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_a_word_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Word::decode(&bytes);
        }
    }
}
