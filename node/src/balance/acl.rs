//! Access lists: who may come in, and who may go to a server.
//!
//! The first entry that fits a client decides; if none does, the opposite of the last entry, of whatever family it is; an
//! empty list permits. Entries of another family than the client's are passed over. A client over a Unix socket has no
//! address, and is not asked for (`attempt.rs`). An IPv4 client of an IPv6 listener (`::ffff:192.0.2.1`) is an IPv6 client, as in Pen.
//!
//! A list is compiled, so that thousands of entries cost little: those with the same mask stand in order of their address,
//! and a look-up is one binary search for each different mask that could still decide earlier. Lists of networks have at most
//! 33 masks (IPv6: 129 prefixes); with ever new odd masks it becomes a walk through the list. The country is looked up
//! at most once, and only if an entry with a country could still decide.

use std::net::IpAddr;
use std::sync::Arc;

use super::attempt::Permits;
use super::geo::Countries;
use crate::config::model::{Acl, AclEntry, AclMatch};

/// An access list, ready for use.
#[derive(Debug, Default)]
pub struct AccessList {
    v4: Vec<Masked<u32>>,
    v6: Vec<Masked<u128>>,
    /// In order; each country once, with the first entry that names it.
    places: Vec<([u8; 2], u32)>,
    /// Of the entries in `places`, the first.
    first_place: u32,
    countries: Option<Arc<Countries>>,
    /// What each entry says.
    permits: Vec<bool>,
    /// What is said when no entry fits.
    otherwise: bool,
}

/// The entries with one mask.
#[derive(Debug)]
struct Masked<Address> {
    mask: Address,
    /// The first of them.
    first: u32,
    /// In order; each address once, with the first entry that has it.
    entries: Vec<(Address, u32)>,
}

/// No entry.
const NONE: u32 = u32::MAX;

impl AccessList {
    /// Of the configuration. Without `countries`, entries that name one fit nobody.
    #[must_use]
    pub fn new(acl: &Acl, countries: Option<&Arc<Countries>>) -> Self {
        let (mut v4, mut v6, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (entry, index) in acl.entries.iter().zip(0..NONE) {
            match entry.who {
                AclMatch::V4 { address, mask } => v4.push((mask.to_bits(), address.to_bits(), index)),
                AclMatch::V6 { address, prefix } => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
                    v6.push((mask, address.to_bits() & mask, index));
                }
                AclMatch::Country(code) => places.push((code, index)),
            }
        }
        Self {
            // With bits outside its mask an IPv4 entry fits nobody.
            v4: by_mask(v4.into_iter().filter(|(mask, address, _)| address & mask == *address).collect()),
            v6: by_mask(v6),
            first_place: places.iter().map(|(_, index)| *index).min().unwrap_or(NONE),
            places: each_once(places),
            countries: countries.map(Arc::clone),
            permits: acl.entries.iter().map(|entry| entry.permit).collect(),
            otherwise: acl.entries.last().is_none_or(|entry| !entry.permit),
        }
    }
}

impl Permits for AccessList {
    fn permits(&self, client: IpAddr) -> bool {
        let mut best = match client {
            IpAddr::V4(address) => first_fit(&self.v4, |mask| address.to_bits() & mask),
            IpAddr::V6(address) => first_fit(&self.v6, |mask| address.to_bits() & mask),
        };
        if self.first_place < best
            && let Some(countries) = &self.countries
            && let Some(country) = countries.country(client)
            && let Ok(found) = self.places.binary_search_by_key(&country, |(code, _)| *code)
        {
            best = best.min(self.places[found].1);
        }
        self.permits.get(best as usize).copied().unwrap_or(self.otherwise)
    }
}

/// Whether a list can only be used with a country database.
#[must_use]
pub fn names_countries(acl: &Acl) -> bool {
    acl.entries.iter().any(|AclEntry { who, .. }| matches!(who, AclMatch::Country(_)))
}

/// Entries (mask, address, index) as groups of one mask each, the one with the earliest entry first.
fn by_mask<Address: Copy + Ord>(mut entries: Vec<(Address, Address, u32)>) -> Vec<Masked<Address>> {
    entries.sort_unstable();
    let mut groups: Vec<_> = entries
        .chunk_by(|left, right| left.0 == right.0)
        .map(|group| Masked {
            mask: group[0].0,
            first: group.iter().map(|(_, _, index)| *index).min().unwrap_or(NONE),
            entries: each_once(group.iter().map(|(_, address, index)| (*address, *index)).collect()),
        })
        .collect();
    groups.sort_unstable_by_key(|group| group.first);
    groups
}

/// In order, each key with its lowest index.
fn each_once<Key: Copy + Ord>(mut entries: Vec<(Key, u32)>) -> Vec<(Key, u32)> {
    entries.sort_unstable();
    entries.dedup_by_key(|(key, _)| *key);
    entries
}

/// The first entry that fits, or [`NONE`].
fn first_fit<Address: Copy + Ord>(groups: &[Masked<Address>], cut: impl Fn(Address) -> Address) -> u32 {
    let mut best = NONE;
    for group in groups {
        if group.first > best {
            break;
        }
        let address = cut(group.mask);
        if let Ok(found) = group.entries.binary_search_by_key(&address, |(address, _)| *address) {
            best = best.min(group.entries[found].1);
        }
    }
    best
}

#[cfg(test)]
mod tests;
