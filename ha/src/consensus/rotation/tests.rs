use super::*;
use crate::state::{AnnounceTicketKey, Command, Kind, State, UseTicketKey};

const HOUR: u64 = 3_600_000;

/// A cluster that does at once whatever is due, and a clock that only goes on.
struct Bench {
    state: State,
    rotation: Rotation,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        Self { state: State::default(), rotation: Rotation::default(), now: 1000 }
    }

    /// Moves the clock on; what became due, and when.
    fn run(&mut self, ms: u64) -> Vec<(u64, Step)> {
        let (end, mut done) = (self.now + ms, Vec::new());
        while self.now < end {
            self.now += 500;
            if let Some(step) = self.rotation.due(self.now, 0) {
                self.apply(step);
                done.push((self.now, step));
            }
        }
        done
    }

    fn apply(&mut self, step: Step) {
        let (index, unix_ms) = (self.state.index() + 1, self.now);
        let kind = match step {
            Step::Announce { after } => {
                Kind::AnnounceTicketKey(AnnounceTicketKey { after, unix_ms, ..AnnounceTicketKey::default() })
            }
            Step::Use { number } => Kind::UseTicketKey(UseTicketKey { number, unix_ms }),
        };
        self.state.apply(index, &Command::new(kind)).unwrap();
        self.rotation.follow(self.state.tickets(), true, self.now, 0);
    }

    /// The node starts again after `ms`, when its wall clock shows `unix_ms`.
    fn restart(&mut self, unix_ms: u64) {
        self.rotation = Rotation::default();
        self.now = 1000;
        self.rotation.follow(self.state.tickets(), false, self.now, unix_ms);
    }
}

#[test]
fn the_first_key_is_used_as_soon_as_every_node_can_have_it_and_later_ones_are_announced_long_before() {
    let mut bench = Bench::new();
    let done = bench.run(3 * HOUR);
    let steps: Vec<Step> = done.iter().map(|(_, step)| *step).collect();
    let expected = [
        Step::Announce { after: 0 },
        Step::Use { number: 1 },
        Step::Announce { after: 1 },
        Step::Use { number: 2 },
    ];
    assert_eq!(steps, expected);
    assert_eq!(done[1].0 - done[0].0, 2000);
    assert_eq!(done[3].0 - done[1].0, 2 * HOUR, "a key lives 2 h");
    assert_eq!(done[3].0 - done[2].0, 600_000);
}

#[test]
fn a_key_opens_for_a_whole_life_after_it_was_replaced_and_three_are_kept_at_most() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.run(HOUR / 2);
        let keys: Vec<u64> = bench.state.tickets().keys().map(|key| key.number).collect();
        assert!(keys.len() <= 3, "{keys:?}");
    }
    assert_eq!(bench.state.tickets().current().map(|key| key.number), Some(5));
    assert_eq!(bench.state.tickets().previous().map(|key| key.number), Some(4));
}

#[test]
fn after_a_restart_the_wall_clock_counts_but_a_clock_that_is_behind_makes_no_key_younger_than_new() {
    let mut bench = Bench::new();
    bench.run(HOUR);
    let used = bench.state.tickets().current().unwrap().used_ms;
    bench.restart(used + HOUR);
    assert_eq!(bench.rotation.current(bench.now), Some((1, HOUR)));
    bench.restart(0);
    assert_eq!(bench.rotation.current(bench.now), Some((1, 0)));
    bench.restart(used + 9 * HOUR);
    assert!(bench.rotation.is_late(bench.now));
    let steps: Vec<_> = bench.run(10_000).into_iter().map(|(_, step)| step).collect();
    assert_eq!(steps, [Step::Announce { after: 1 }, Step::Use { number: 2 }], "and it is replaced at once");
}

#[test]
fn without_a_quorum_the_key_goes_on_and_is_late_when_it_should_have_been_replaced() {
    let mut bench = Bench::new();
    bench.run(10_000);
    let (_, age) = bench.rotation.current(bench.now).unwrap();
    let end = bench.now - age + 2 * HOUR;
    assert!(!bench.rotation.is_late(end + 599_000));
    assert!(bench.rotation.is_late(end + 600_000));
    assert_eq!(bench.rotation.due(end + 9 * HOUR, 0), Some(Step::Announce { after: 1 }), "for ever due");
}

#[test]
fn a_follower_waits_for_the_leader_to_do_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.rotation.due(9_999, 10_000), None);
    assert_eq!(bench.rotation.due(10_000, 10_000), Some(Step::Announce { after: 0 }));
    bench.apply(Step::Announce { after: 0 });
    assert_eq!(bench.rotation.due(bench.now + 2000, 0), Some(Step::Use { number: 1 }));
    assert_eq!(bench.rotation.due(bench.now + 11_999, 10_000), None);
    assert_eq!(bench.rotation.due(bench.now + 12_000, 10_000), Some(Step::Use { number: 1 }));
    bench.apply(Step::Use { number: 1 });
    let announced = bench.now + 2 * HOUR - 600_000;
    assert_eq!(bench.rotation.due(announced + 9_999, 10_000), None);
    assert_eq!(bench.rotation.due(announced + 10_000, 10_000), Some(Step::Announce { after: 1 }));
}

#[test]
fn an_operator_gets_a_new_key_as_soon_as_every_node_can_have_it() {
    let mut bench = Bench::new();
    bench.run(10_000);
    let hurry = AnnounceTicketKey { after: 1, hurry: true, ..AnnounceTicketKey::default() };
    bench.state.apply(bench.state.index() + 1, &Command::new(Kind::AnnounceTicketKey(hurry))).unwrap();
    bench.rotation.follow(bench.state.tickets(), true, bench.now, 0);
    let asked = bench.now;
    let done = bench.run(10_000);
    assert_eq!(done, [(asked + 2000, Step::Use { number: 2 })]);
}
