//! Which server gets a client: 256 places, each of which belongs to one server.
//!
//! There is no memory of connections: whoever hashes to a place goes to its server. So the places must stay where they are,
//! as far as possible, when servers come and go, and be the same on both nodes of a pair. Each server has a score for each
//! place that depends on nothing but the server's address and the place; servers take the places with their best scores,
//! as many as their weights give them. When a server goes, the others take over its places, and it gets the same ones
//! when it comes back.

use std::net::Ipv4Addr;

/// Places in the table: what one byte of hash can tell apart.
pub(super) const PLACES: usize = 256;
/// Servers that can have a place.
pub(crate) const SERVERS_MAX: usize = PLACES;

/// The table: the position of the server of each place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table(Option<Box<[u8; PLACES]>>);

impl Table {
    /// The table of these servers, by position: address, and weight (`None`: it cannot serve; 0 counts as 1).
    pub(super) fn new(servers: impl Iterator<Item = (Ipv4Addr, Option<u16>)>) -> Self {
        let servers: Vec<(u8, Ipv4Addr, u64)> = (0..=u8::MAX)
            .zip(servers.take(SERVERS_MAX))
            .filter_map(|(position, (address, weight))| Some((position, address, u64::from(weight?.max(1)))))
            .collect();
        let mut left = quotas(&servers);
        let mut wishes: Vec<(u64, usize, usize)> = Vec::with_capacity(servers.len() * PLACES);
        for (n, (_, address, _)) in servers.iter().enumerate() {
            wishes.extend((0..PLACES).map(|place| (score(*address, place), n, place)));
        }
        wishes.sort_unstable_by(|one, other| other.cmp(one));
        let mut places = [None; PLACES];
        for (_, n, place) in wishes {
            if left[n] > 0 && places[place].is_none() {
                places[place] = Some(servers[n].0);
                left[n] -= 1;
            }
        }
        // Without servers none is taken, with any all are: the quotas add up.
        let owners = places.iter().copied().collect::<Option<Vec<u8>>>();
        Self(owners.and_then(|owners| owners.try_into().ok()))
    }

    /// The position of the server for this hash; `None` when none can serve.
    pub(super) fn server(&self, hash: u8) -> Option<usize> {
        self.0.as_ref().map(|places| usize::from(places[usize::from(hash)]))
    }
}

/// How many places each server gets: in proportion to the weights, all [`PLACES`] together; what the division leaves goes to
/// those with the largest remainders, the lower address first.
fn quotas(servers: &[(u8, Ipv4Addr, u64)]) -> Vec<usize> {
    let total: u64 = servers.iter().map(|(.., weight)| weight).sum();
    let share = |weight: u64| weight * PLACES as u64;
    let mut quotas: Vec<usize> =
        servers.iter().map(|(.., weight)| (share(*weight) / total) as usize).collect();
    let given: usize = quotas.iter().sum();
    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_unstable_by_key(|n| {
        let (_, address, weight) = servers[*n];
        (std::cmp::Reverse(share(weight) % total), address)
    });
    let missing = if servers.is_empty() { 0 } else { PLACES - given };
    for n in order.into_iter().take(missing) {
        quotas[n] += 1;
    }
    quotas
}

/// How much a server wants a place: evenly spread, and the same everywhere and for ever (the finalizer of SplitMix64).
fn score(address: Ipv4Addr, place: usize) -> u64 {
    let mut bits = u64::from(address.to_bits()) << 8 | place as u64;
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The hash of a client: its address's bytes, and those of its port if asked for, one over the other.
pub(super) fn hash(client: Ipv4Addr, port: Option<u16>) -> u8 {
    let [a, b] = port.unwrap_or(0).to_be_bytes();
    client.octets().into_iter().fold(a ^ b, |hash, byte| hash ^ byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, n)
    }

    fn table(weights: &[Option<u16>]) -> Table {
        Table::new((0..).zip(weights).map(|(n, weight)| (server(n), *weight)))
    }

    fn places_of(table: &Table, position: usize) -> Vec<u8> {
        (0..=255).filter(|hash| table.server(*hash) == Some(position)).collect()
    }

    #[test]
    fn without_a_server_there_is_nothing() {
        for weights in [&[][..], &[None, None]] {
            assert_eq!(table(weights).server(7), None);
        }
    }

    #[test]
    fn a_weight_of_zero_counts_as_one() {
        let table = table(&[Some(0), Some(3)]);
        assert_eq!((places_of(&table, 0).len(), places_of(&table, 1).len()), (64, 192));
    }

    #[test]
    fn the_hash_is_made_of_all_bytes() {
        assert_eq!(hash(Ipv4Addr::new(1, 2, 4, 8), None), 15);
        assert_eq!(hash(Ipv4Addr::new(1, 2, 4, 8), Some(0x1020)), 0x3f);
    }

    #[test]
    fn more_servers_than_places_leave_some_without() {
        let servers = (0..1000_u32).map(|n| (Ipv4Addr::from_bits(n), Some(1)));
        let table = Table::new(servers);
        assert!((0..=255).all(|hash| table.server(hash).is_some()));
    }

    fn weights() -> impl Strategy<Value = Vec<Option<u16>>> {
        prop::collection::vec(prop::option::weighted(0.8, 0u16..=256), 1..12)
    }

    proptest! {
        #[test]
        fn places_are_in_proportion_to_the_weights(weights in weights()) {
            let table = table(&weights);
            let of = |weight: &Option<u16>| weight.map_or(0, |weight| usize::from(weight.max(1)));
            let total: usize = weights.iter().map(of).sum();
            for (position, weight) in weights.iter().enumerate() {
                let places = places_of(&table, position).len();
                let exact = of(weight) * PLACES;
                prop_assert!(places * total < exact + total.max(1) && exact < (places + 1) * total.max(1), "{places}");
            }
        }

        #[test]
        fn a_server_that_goes_gives_its_places_away_and_gets_them_back(weights in weights(), which: prop::sample::Index) {
            let (before, gone) = (table(&weights), which.index(weights.len()));
            let mut fewer = weights.clone();
            fewer[gone] = None;
            let during = table(&fewer);
            let others = (0..weights.len()).filter(|n| *n != gone);
            let moved: usize = others
                .map(|n| {
                    let now = places_of(&during, n);
                    places_of(&before, n).iter().filter(|place| !now.contains(place)).count()
                })
                .sum();
            // Quotas are filled in the order of scores: a place may change hands among those that stay. Few do.
            prop_assert!(moved <= PLACES / 4, "{moved} places moved between servers that stayed");
            prop_assert_eq!(table(&weights), before);
        }

        #[test]
        fn the_order_of_the_servers_does_not_matter(weights in weights()) {
            let listed: Vec<_> = (0..).zip(&weights).map(|(n, weight)| (server(n), *weight)).collect();
            let forth = Table::new(listed.iter().copied());
            let back = Table::new(listed.iter().rev().copied());
            for hash in 0..=255 {
                let address = |found: Option<usize>, list: Vec<&(Ipv4Addr, Option<u16>)>| found.map(|n| list[n].0);
                let one = address(forth.server(hash), listed.iter().collect());
                let other = address(back.server(hash), listed.iter().rev().collect());
                prop_assert_eq!(one, other);
            }
        }
    }
}
