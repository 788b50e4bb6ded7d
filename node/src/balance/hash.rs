//! Hashing that comes out the same on all nodes, and whose choice changes as little as can be when a server comes or
//! goes (rendezvous hashing: each server draws a lot for the client, and the best lot wins).

use std::net::{IpAddr, SocketAddr};

/// Stirs all bits (the finalizer of SplitMix64): each bit of the input changes half of the output.
fn stir(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What the name of a server comes to (FNV-1a, stirred).
#[must_use]
pub fn hash_of_name(name: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    stir(name.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// What a client's address comes to. An IPv4 address is the same in IPv6 clothes.
pub(super) fn hash_of_client(peer: SocketAddr, with_port: bool) -> u64 {
    let bits = match peer.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let port = if with_port { u64::from(peer.port()) << 1 | 1 } else { 0 };
    stir(stir((bits >> 64) as u64 ^ 0x9e37_79b9_7f4a_7c15) ^ stir(bits as u64 ^ port.rotate_left(32)))
}

/// The lot that a server draws for a client: the lowest wins. A server of twice the weight wins twice as often.
pub(super) fn lot(client: u64, server: u64, weight: u16) -> f64 {
    /// 2^53: whole numbers up to here are exact.
    const STEPS: f64 = 9_007_199_254_740_992.0;
    let drawn = ((stir(client ^ server) >> 11) as f64 + 0.5) / STEPS;
    -drawn.ln() / f64::from(weight.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Worked out by another program.
    const HASH_OF_S1: u64 = 0x4c59_4168_be82_e9fe;
    const HASH_OF_CLIENT: u64 = 0xcc5a_c3d9_89e5_2f97;

    fn winner(client: u64, servers: &[(&str, u16)]) -> usize {
        let lots = servers.iter().map(|(name, weight)| lot(client, hash_of_name(name), *weight));
        lots.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(n, _)| n).unwrap()
    }

    fn clients() -> impl Iterator<Item = u64> {
        (0..40_000u32)
            .map(|n| hash_of_client(SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 1000)), false))
    }

    #[test]
    fn shares_are_in_proportion_to_weights() {
        let servers = [("s1", 1), ("s2", 2), ("s3", 5)];
        let mut wins = [0.0; 3];
        clients().for_each(|client| wins[winner(client, &servers)] += 1.0);
        for (won, (_, weight)) in wins.iter().zip(servers) {
            let due = 5_000.0 * f64::from(weight);
            assert!((won - due).abs() < 0.06 * due, "{wins:?}");
        }
    }

    #[test]
    fn only_the_clients_of_a_server_that_goes_move() {
        let all = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        let without_c = [("a", 1), ("b", 1), ("d", 1)];
        let mut moved_to = [0; 3];
        for client in clients() {
            let (before, after) = (all[winner(client, &all)].0, winner(client, &without_c));
            if before == "c" {
                moved_to[after] += 1;
            } else {
                assert_eq!(before, without_c[after].0);
            }
        }
        assert!(moved_to.iter().all(|clients| *clients > 2_800), "shared by all others: {moved_to:?}");
    }

    #[test]
    fn the_hash_is_the_same_in_every_version_of_this_program() {
        // Nodes of a pair may run different ones: a change of these numbers moves every client.
        let client = |text: &str, port| hash_of_client(text.parse().unwrap(), port);
        assert_eq!(hash_of_name("s1"), HASH_OF_S1);
        assert_eq!(client("192.0.2.7:1234", false), HASH_OF_CLIENT);
        assert_eq!(client("192.0.2.7:1234", false), client("[::ffff:192.0.2.7]:99", false));
        assert_ne!(client("192.0.2.7:1234", true), client("192.0.2.7:1235", true));
    }
}
