//! The turns of weighted round robin, worked out once per plan.

/// The longest cycle, in turns (128 KiB of memory). Weights that need more are scaled down, none below one turn.
const TURNS_MAX: usize = 65_536;

/// Which server's turn it is. In one cycle each server has as many turns as its weight says, spread evenly, so that a
/// heavy server gets no burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    turns: Box<[u16]>,
}

impl Schedule {
    /// `weights` in the order of the servers. Servers beyond 65,536 get no turn (the configuration cannot hold so many).
    #[must_use]
    pub fn new(weights: impl Iterator<Item = u16>) -> Self {
        let weights: Vec<u64> =
            weights.take(usize::from(u16::MAX) + 1).map(|weight| u64::from(weight.max(1))).collect();
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let total: u64 = weights.iter().map(|weight| weight / divisor).sum();
        // Only with very many servers of uneven weights.
        let shrink = total.div_ceil(TURNS_MAX as u64).max(1);
        let mut turns: Vec<(u64, u16)> = Vec::new();
        for (server, weight) in (0..=u16::MAX).zip(&weights) {
            let share = (weight / divisor / shrink).max(1);
            // The k-th of n turns lies in the middle of the k-th n-th of the cycle.
            turns.extend((0..share).map(|k| (((2 * k + 1) << 32) / (2 * share), server)));
        }
        turns.sort_unstable();
        Self { turns: turns.into_iter().map(|(_, server)| server).collect() }
    }

    /// Turns in a cycle; 0 without servers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether there is no server at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The position of the server whose turn it is.
    #[must_use]
    pub fn server(&self, turn: u64) -> Option<usize> {
        let place = turn.checked_rem(self.turns.len() as u64)?;
        self.turns.get(usize::try_from(place).ok()?).map(|server| usize::from(*server))
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cycle(weights: &[u16]) -> Vec<usize> {
        let schedule = Schedule::new(weights.iter().copied());
        (0..schedule.len() as u64).filter_map(|turn| schedule.server(turn)).collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(cycle(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(cycle(&[7, 7]), [0, 1], "only the ratio counts");
    }

    #[test]
    fn a_heavy_server_gets_its_turns_spread_over_the_cycle() {
        assert_eq!(cycle(&[4, 2]).iter().filter(|server| **server == 0).count(), 2);
        assert_eq!(cycle(&[5, 1]), [0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn no_server_no_turn() {
        assert_eq!(Schedule::new(std::iter::empty()).server(3), None);
    }

    #[test]
    fn very_many_uneven_servers_stay_below_the_limit_and_all_get_a_turn() {
        let weights: Vec<u16> = (0..3_000).map(|n| if n % 2 == 0 { 256 } else { 255 }).collect();
        let turns = cycle(&weights);
        assert!(turns.len() <= TURNS_MAX);
        let mut seen = vec![false; weights.len()];
        turns.iter().for_each(|server| seen[*server] = true);
        assert!(seen.iter().all(|seen| *seen));
    }

    proptest! {
        #[test]
        fn turns_are_in_proportion_to_the_weights(weights in prop::collection::vec(1u16..=256, 1..12)) {
            let turns = cycle(&weights);
            let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            for (server, weight) in weights.iter().enumerate() {
                let share = turns.iter().filter(|turn| **turn == server).count();
                prop_assert_eq!(share * total, usize::from(*weight) * turns.len());
            }
        }
    }
}
