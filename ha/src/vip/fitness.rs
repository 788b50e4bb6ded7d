//! Whether another node would serve better than this one; pure.
//!
//! ```text
//!             worse than a peer, as standby at once, as holder for [`WORSE_FOR`]
//!   +---------+ ------------------------------------------------------> +----------+
//!   |  Equal  |                                                         |  Yields  |
//!   +---------+ <------------------------------------------------------ +----------+
//!             not worse than any peer for [`BETTER_FOR`]
//! ```
//!
//! A node that yields has a priority below that of the better peer, and hands over what it holds. What is broken for both is no
//! reason to move: only the difference counts. A peer that was not heard just now is compared with nobody.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::time::Time;

/// A holder must have been worse for so long: what is broken for both is not noticed by both in the same moment.
pub const WORSE_FOR: Duration = Duration::from_secs(3);

/// A node that yields must have been no worse for so long: a server that comes and goes must not take the address along.
pub const BETTER_FOR: Duration = Duration::from_secs(10);

/// Services that are told by name; beyond that a node counts as having lost so many.
pub const LOST_MAX: usize = 64;

/// What a node cannot do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// Services that no client gets through this node: no listener, or no server within reach. At most [`LOST_MAX`].
    pub lost: BTreeSet<String>,
}

/// Another node, as it was heard just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its number in the cluster.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Its priority, lowered if it yields itself.
    pub priority: u8,
    /// What it cannot do.
    pub fitness: Fitness,
}

/// To whom this node yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yield {
    /// The best of the better nodes.
    pub to: u64,
    /// Why, in one line.
    pub why: String,
    /// The priority must not be above this one.
    pub priority: u8,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This node yields from now on.
    Yields(Yield),
    /// It does not any more; why.
    Recovers(String),
}

/// The comparison over time.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    yields: Option<Yield>,
    /// Since when the next change is due, if nothing intervenes.
    since: Option<Time>,
}

impl Judge {
    /// To whom this node yields at this moment.
    #[must_use]
    pub fn yields(&self) -> Option<&Yield> {
        self.yields.as_ref()
    }

    /// The priority of this node, which was configured with `base`.
    #[must_use]
    pub fn priority(&self, base: u8) -> u8 {
        self.yields.as_ref().map_or(base, |yields| base.min(yields.priority))
    }

    /// Compares. `holds`: some address is held here. To be called on every change, and every now and then.
    pub fn look(&mut self, now: Time, own: &Fitness, holds: bool, rivals: &[Rival]) -> Option<Change> {
        let better = rivals.iter().filter(|rival| rival.fitness.lost.len() < own.lost.len());
        let best = better.min_by_key(|rival| (rival.fitness.lost.len(), u8::MAX - rival.priority));
        match (best, self.yields.is_some()) {
            (None, false) => {
                self.since = None;
                None
            }
            (Some(best), false) => {
                let since = *self.since.get_or_insert(now);
                let patience = if holds { WORSE_FOR } else { Duration::ZERO };
                (now.since(since) >= patience).then(|| self.give_way(own, best))
            }
            (Some(best), true) => {
                self.since = None;
                // The better one may be another by now; the reason that was told stands.
                let priority = best.priority.saturating_sub(1).max(1);
                if let Some(yields) = &mut self.yields {
                    (yields.to, yields.priority) = (best.node, priority);
                }
                None
            }
            (None, true) => {
                let since = *self.since.get_or_insert(now);
                (now.since(since) >= BETTER_FOR).then(|| self.recover(own))
            }
        }
    }

    fn give_way(&mut self, own: &Fitness, best: &Rival) -> Change {
        self.since = None;
        let more: Vec<&str> = own.lost.difference(&best.fitness.lost).map(String::as_str).collect();
        let yields = Yield {
            to: best.node,
            why: format!("{} cannot be served from here, but from {}", List(&more), best.name),
            priority: best.priority.saturating_sub(1).max(1),
        };
        self.yields = Some(yields.clone());
        Change::Yields(yields)
    }

    fn recover(&mut self, own: &Fitness) -> Change {
        (self.since, self.yields) = (None, None);
        Change::Recovers(match own.lost.is_empty() {
            true => "everything can be served from here again".to_owned(),
            false => "no other node can serve more".to_owned(),
        })
    }
}

/// Names, the first few of them.
struct List<'a>(&'a [&'a str]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, more) = self.0.split_at(self.0.len().min(3));
        f.write_str(&first.join(", "))?;
        if more.is_empty() { Ok(()) } else { write!(f, " and {} more", more.len()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lost(names: &[&str]) -> Fitness {
        Fitness { lost: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn rival(priority: u8, names: &[&str]) -> Rival {
        Rival { node: 2, name: "lb2".into(), priority, fitness: lost(names) }
    }

    fn s(count: u64) -> Time {
        Time(count * 1_000_000_000)
    }

    #[test]
    fn what_is_broken_for_both_moves_nothing_although_one_notices_it_first() {
        let mut judge = Judge::default();
        assert_eq!(judge.look(s(0), &lost(&["web"]), true, &[rival(100, &[])]), None);
        assert_eq!(judge.look(s(2), &lost(&["web"]), true, &[rival(100, &["web"])]), None);
        assert_eq!(judge.look(s(20), &lost(&["web"]), true, &[rival(100, &["web"])]), None);
        assert_eq!(judge.priority(150), 150);
        // Nobody to compare with.
        assert_eq!(judge.look(s(30), &lost(&["web"]), true, &[]), None);
        assert_eq!(judge.look(s(90), &lost(&["web"]), true, &[]), None);
    }

    #[test]
    fn a_holder_that_is_worse_yields_after_a_while_with_its_reason_and_takes_back_after_a_longer_one() {
        let mut judge = Judge::default();
        let (own, other) = (lost(&["web"]), [rival(100, &[])]);
        assert_eq!(judge.look(s(0), &own, true, &other), None);
        assert_eq!(judge.look(s(2), &own, true, &other), None);
        let Some(Change::Yields(yields)) = judge.look(s(3), &own, true, &other) else {
            panic!("it is worse")
        };
        assert_eq!((yields.to, yields.why.as_str()), (2, "web cannot be served from here, but from lb2"));
        assert_eq!((judge.priority(150), judge.priority(50)), (99, 50));
        let well = lost(&[]);
        assert_eq!(judge.look(s(4), &well, false, &other), None);
        assert_eq!(judge.look(s(9), &own, false, &other), None, "it flaps");
        assert_eq!(judge.look(s(10), &well, false, &other), None);
        assert_eq!(judge.look(s(19), &well, false, &other), None);
        let recovers = Change::Recovers("everything can be served from here again".into());
        assert_eq!(judge.look(s(20), &well, false, &other), Some(recovers));
        assert_eq!(judge.priority(150), 150);
    }

    #[test]
    fn a_standby_that_is_worse_yields_at_once_so_that_it_does_not_preempt() {
        let mut judge = Judge::default();
        let change = judge.look(s(0), &lost(&["web"]), false, &[rival(100, &[])]);
        assert!(matches!(change, Some(Change::Yields(_))), "{change:?}");
        assert_eq!(judge.priority(150), 99);
    }

    fn services() -> impl Strategy<Value = Fitness> {
        prop::collection::btree_set(prop::sample::select(vec!["a", "b", "c"]), 0..3)
            .prop_map(|names| Fitness { lost: names.into_iter().map(str::to_owned).collect() })
    }

    fn step() -> impl Strategy<Value = (u64, Fitness, bool, Vec<Rival>)> {
        let rival = (2..5_u64, 1..=254_u8, services()).prop_map(|(node, priority, fitness)| Rival {
            node,
            name: format!("lb{node}"),
            priority,
            fitness,
        });
        (0..6_000_u64, services(), any::<bool>(), prop::collection::vec(rival, 0..3))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens: it yields only to a node that is better at this moment, is never raised above what was
        /// configured nor lowered to nothing, and does not change back within [`BETTER_FOR`].
        #[test]
        fn it_never_yields_to_a_node_that_is_no_better_and_does_not_flap(steps in prop::collection::vec(step(), 1..60)) {
            let mut judge = Judge::default();
            let (mut now, mut yielded) = (Time::ZERO, None::<Time>);
            for (wait_ms, own, holds, rivals) in steps {
                now = now + Duration::from_millis(wait_ms);
                match judge.look(now, &own, holds, &rivals) {
                    Some(Change::Yields(yields)) => {
                        let to: Vec<_> = rivals.iter().filter(|rival| rival.node == yields.to).collect();
                        prop_assert!(to.iter().any(|rival| rival.fitness.lost.len() < own.lost.len()));
                        let least = rivals.iter().map(|rival| rival.fitness.lost.len()).min();
                        prop_assert!(to.iter().any(|rival| Some(rival.fitness.lost.len()) == least), "the best");
                        yielded = Some(now);
                    }
                    Some(Change::Recovers(_)) => {
                        prop_assert!(rivals.iter().all(|rival| rival.fitness.lost.len() >= own.lost.len()));
                        let since = yielded.take().expect("it had yielded");
                        prop_assert!(now.since(since) >= BETTER_FOR);
                    }
                    None => {}
                }
                prop_assert_eq!(judge.yields().is_some(), yielded.is_some());
                prop_assert!((1..=150).contains(&judge.priority(150)));
            }
        }
    }
}
