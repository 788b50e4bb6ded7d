//! Both parts together, under a clock, a network and kernels that fail as they like.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::time::Time;

fn flow(port: u16) -> Flow {
    let at = |last, port| SocketAddr::from(([192, 0, 2, last], port));
    Flow { client: at(9, port), service: at(100, 80) }
}

const VIP: [u8; 4] = [192, 0, 2, 100];

/// Two nodes. The first has the address.
struct Pair {
    now: Time,
    giver: Option<Giver>,
    taker: Option<Taker>,
    active: [bool; 2],
    alive: [bool; 2],
    /// Connections that live on each node.
    live: [BTreeSet<Flow>; 2],
    /// What the second one forwards.
    forwarded: BTreeSet<Flow>,
    to: [VecDeque<Said>; 2],
    /// What the kernel refuses from now on, on each node.
    refuses: [bool; 2],
    asked: bool,
    /// The first one's kernel closes connections when it is told to.
    closes: bool,
    told: Vec<String>,
}

impl Pair {
    fn new(flows: u16) -> Self {
        let mut pair = Self {
            now: Time(1_000_000_000),
            giver: None,
            taker: None,
            active: [true, false],
            alive: [true, true],
            live: [(0..flows).map(|number| flow(1000 + number)).collect(), BTreeSet::new()],
            forwarded: BTreeSet::new(),
            to: [VecDeque::new(), VecDeque::new()],
            refuses: [false; 2],
            asked: false,
            closes: true,
            told: Vec::new(),
        };
        let (giver, given) = Giver::begin(pair.now);
        pair.giver = Some(giver);
        pair.given(given);
        pair
    }

    fn wanted(&self, node: usize) -> Wanted {
        match node {
            0 => Wanted::of(self.active[0], self.giver.as_ref(), None),
            _ => Wanted::of(self.active[1], None, self.taker.as_ref()),
        }
    }

    fn given(&mut self, given: Vec<Given>) {
        let mut queue = VecDeque::from(given);
        while let Some(next) = queue.pop_front() {
            match next {
                Given::Say(said) => self.to[1].push_back(said),
                Given::List => {
                    let list = Ok(self.live[0].iter().copied().collect());
                    let now = self.now;
                    queue
                        .extend(self.giver.as_mut().map(|giver| giver.listed(now, list)).unwrap_or_default());
                }
                Given::Ask => self.asked = true,
                Given::Stays(why) => self.told.push(why),
                Given::Tell(told) => self.told.push(format!("{told:?}")),
                Given::Close(flows) => {
                    let live = &mut self.live[0];
                    let closed = flows.iter().filter(|flow| self.closes && live.remove(flow)).count();
                    let (now, list) = (self.now, Ok(live.iter().copied().collect()));
                    self.giver.iter_mut().for_each(|giver| giver.has_closed(closed));
                    queue
                        .extend(self.giver.as_mut().map(|giver| giver.listed(now, list)).unwrap_or_default());
                }
            }
        }
    }

    fn give(&mut self, input: impl FnOnce(&mut Giver, Time) -> Vec<Given>) {
        let now = self.now;
        let given = self.giver.as_mut().map(|giver| input(giver, now)).unwrap_or_default();
        self.given(given);
        // The kernel follows what is wanted; where it refuses, the transfer fails.
        if self.refuses[0] && self.wanted(0).hand != Hand::None {
            let given =
                self.giver.as_mut().map(|giver| giver.failed("the kernel refuses")).unwrap_or_default();
            self.given(given);
        }
    }

    fn take(&mut self, said: Said) {
        let now = self.now;
        if said == Said::Prepare {
            if self.taker.is_some() {
                return;
            }
            let mut taker = Taker::begin();
            let done = if self.refuses[1] { Err("the kernel refuses".to_owned()) } else { Ok(()) };
            let taking = taker.done(now, 0, done);
            self.taker = Some(taker);
            return self.taking(taking);
        }
        let taking =
            self.taker.as_mut().map(|taker| taker.hear(now, said, &[VIP.into()])).unwrap_or_default();
        self.taking(taking);
    }

    fn taking(&mut self, taking: Vec<Taking>) {
        let (now, mut queue) = (self.now, VecDeque::from(taking));
        while let Some(next) = queue.pop_front() {
            match next {
                Taking::Say(said) => self.to[0].push_back(said),
                Taking::List => {
                    let count = self.live[1].len();
                    self.taker.iter_mut().for_each(|taker| taker.listed(now, Some(count)));
                }
                Taking::Change(Said::Flows { number, add, remove, .. }) => {
                    let done = if self.refuses[1] { Err("the kernel refuses".to_owned()) } else { Ok(()) };
                    if done.is_ok() {
                        self.forwarded.extend(add);
                        remove.iter().for_each(|flow| _ = self.forwarded.remove(flow));
                    }
                    let taker = self.taker.as_mut();
                    queue.extend(taker.map(|taker| taker.done(now, number, done)).unwrap_or_default());
                }
                Taking::Change(Said::Ended(flows)) => {
                    flows.iter().for_each(|flow| _ = self.forwarded.remove(flow));
                }
                Taking::Change(_) => panic!("nothing to change"),
            }
        }
    }

    /// The second node takes the address, as in every hand-over, and the first hears it.
    fn moves(&mut self) {
        if !std::mem::take(&mut self.asked) || !self.alive[1] {
            return;
        }
        // With every flow forwarded there is no moment without.
        if self.alive[0] && self.giver.as_ref().is_some_and(Giver::is_under_way) {
            assert!(self.live[0].is_subset(&self.forwarded), "{:?} {:?}", self.live[0], self.forwarded);
        }
        self.active = [false, true];
        self.taker.iter_mut().for_each(|taker| taker.active(true));
        self.give(|giver, now| giver.active(now, false));
    }

    fn deliver(&mut self, to: usize) {
        let Some(said) = self.to[to].pop_front().filter(|_| self.alive[to]) else { return };
        match (to, said) {
            (1, said) => self.take(said),
            (_, Said::Confirm(number)) => self.give(|giver, now| giver.confirmed(now, number)),
            (_, Said::Refuse(why)) => self.give(|giver, _| giver.failed(&why)),
            _ => panic!("the old holder does not hear that"),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.give(Giver::timeout);
        let now = self.now;
        let taking = self.taker.as_mut().map(|taker| taker.timeout(now)).unwrap_or_default();
        self.taking(taking);
    }

    /// Each says what it takes part in, after all that it has said before.
    fn standings(&mut self) {
        while self.to.iter().any(|queue| !queue.is_empty()) {
            (0..2).for_each(|to| self.deliver(to));
        }
        let giver = self.alive[0] && self.giver.as_ref().is_some_and(|giver| !giver.is_over());
        let taker = self.alive[1] && self.taker.as_ref().is_some_and(|taker| !taker.is_over());
        let now = self.now;
        if !giver {
            self.taker.iter_mut().for_each(|taker| taker.forgotten(now));
        }
        if !taker {
            self.give(|giver, _| giver.forgotten("it is not heard"));
        }
    }

    fn dies(&mut self, node: usize) {
        self.alive[node] = false;
        self.live[node].clear();
        self.active[node] = false;
        match node {
            0 => self.giver = None,
            _ => (self.taker = None, self.forwarded.clear()).1,
        }
    }

    /// Nothing fails any more; connections end; time goes by.
    fn settles(&mut self) {
        for round in 0..20 {
            (0..50).for_each(|_| (0..2).for_each(|to| self.deliver(to)));
            self.moves();
            self.standings();
            if round == 10 {
                self.live = [BTreeSet::new(), BTreeSet::new()];
            }
            self.pass(Duration::from_secs(1));
        }
    }
}

#[test]
fn a_move_hands_all_over_and_ends_when_the_last_connection_has() {
    let mut pair = Pair::new(2500);
    let mut handed = false;
    for _ in 0..200 {
        (0..2).for_each(|to| pair.deliver(to));
        if pair.wanted(0).hand != Hand::None && !std::mem::replace(&mut handed, true) {
            // One that was half open in the first list, and one that has ended.
            pair.live[0].insert(flow(9));
            pair.live[0].remove(&flow(1000));
        }
        pair.pass(Duration::from_millis(5));
        pair.moves();
    }
    assert_eq!((pair.active, pair.told.len()), ([false, true], 0));
    assert_eq!(pair.forwarded, pair.live[0]);
    assert_eq!(pair.wanted(0), Wanted { loopback: true, hand: Hand::Silent, forward: false });
    assert_eq!(pair.wanted(1), Wanted { forward: true, ..Wanted::default() });
    pair.live[0].clear();
    for _ in 0..5 {
        pair.pass(LOOK_EVERY);
        pair.standings();
    }
    assert!(pair.forwarded.is_empty());
    assert_eq!((pair.wanted(0), pair.wanted(1)), (Wanted::default(), Wanted::default()));
}

/// Moved, with so many connections left on the old holder.
fn moved(flows: u16, patience: Patience) -> Pair {
    let mut pair = Pair::new(flows);
    pair.giver.as_mut().expect("it begins").set_patience(patience);
    for _ in 0..200 {
        (0..2).for_each(|to| pair.deliver(to));
        pair.pass(Duration::from_millis(5));
        pair.moves();
    }
    let left = pair.giver.as_ref().and_then(Giver::left).expect("it has moved");
    assert_eq!((left.of, left.flows.len(), left.closed), (flows.into(), flows.into(), 0));
    assert_eq!(pair.taker.as_ref().and_then(Taker::sends_on), Some(flows.into()));
    pair
}

fn look(pair: &mut Pair) {
    pair.pass(LOOK_EVERY);
    pair.standings();
}

#[test]
fn what_is_left_is_counted_on_both_nodes_and_its_end_is_told() {
    let mut pair = moved(1000, Patience::default());
    for port in 0..990 {
        pair.live[0].remove(&flow(1000 + port));
    }
    look(&mut pair);
    assert_eq!(pair.giver.as_ref().and_then(Giver::left).map(|left| left.flows.len()), Some(10));
    assert_eq!(pair.taker.as_ref().and_then(Taker::sends_on), Some(10));
    pair.live[0].clear();
    (0..5).for_each(|_| look(&mut pair));
    assert!(pair.told.len() == 1 && pair.told[0].starts_with("Ended { of: 1000,"), "{:?}", pair.told);
    assert_eq!((pair.wanted(0), pair.wanted(1)), (Wanted::default(), Wanted::default()));
}

#[test]
fn at_the_deadline_they_are_closed_or_kept_as_configured_and_it_is_told_once() {
    let deadline = Some(Duration::from_secs(10));
    let mut pair = moved(7, Patience { deadline, at_deadline: AtDeadline::Keep });
    (0..30).for_each(|_| look(&mut pair));
    assert_eq!((pair.live[0].len(), &pair.told[..]), (7, &["Overdue(7, Keep)".to_owned()][..]));
    // The operator changes his mind; and the kernel refuses at first.
    let close = Patience { deadline, at_deadline: AtDeadline::Close };
    pair.giver.as_mut().expect("it goes on").set_patience(close);
    pair.closes = false;
    (0..3).for_each(|_| look(&mut pair));
    assert_eq!((pair.live[0].len(), pair.told.len()), (7, 2), "{:?}", pair.told);
    pair.closes = true;
    (0..5).for_each(|_| look(&mut pair));
    assert_eq!(pair.told[1], "Overdue(7, Close)");
    assert!(pair.told[2].contains("of: 7") && pair.told[2].contains("closed: 7"), "{:?}", pair.told);
    assert_eq!((pair.wanted(0), pair.wanted(1)), (Wanted::default(), Wanted::default()));
}

#[test]
fn what_is_lost_with_the_new_holder_is_told() {
    let mut pair = moved(3, Patience::default());
    pair.dies(1);
    pair.standings();
    assert_eq!(pair.told, [r#"Lost(3, "it is not heard")"#]);
}

#[test]
fn what_was_handed_over_before_a_failure_is_served_until_it_ends() {
    let mut pair = Pair::new(3);
    while pair.wanted(0).hand == Hand::None {
        (0..2).for_each(|to| pair.deliver(to));
    }
    pair.live[1].insert(flow(7));
    pair.refuses[0] = true;
    pair.pass(Duration::from_millis(20));
    assert_eq!(pair.told, ["the kernel refuses"]);
    pair.standings();
    pair.pass(LOOK_EVERY);
    assert_eq!(pair.wanted(0).hand, Hand::Known);
    assert_eq!(pair.wanted(1), Wanted { loopback: true, ..Wanted::default() });
    pair.live[1].clear();
    for _ in 0..3 {
        pair.pass(LOOK_EVERY);
        pair.standings();
    }
    assert_eq!((pair.wanted(0), pair.wanted(1)), (Wanted::default(), Wanted::default()));
    assert_eq!(pair.active, [true, false]);
}

#[test]
fn a_flow_of_another_address_is_refused() {
    let mut taker = Taker::begin();
    let add = vec![Flow { service: SocketAddr::from(([192, 0, 2, 1], 22)), ..flow(1) }];
    let said = Said::Flows { number: 1, last: true, add, remove: Vec::new() };
    assert!(matches!(taker.hear(Time(1), said, &[VIP.into()])[..], [Taking::Say(Said::Refuse(_))]));
    assert!(!taker.wanted().forward);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Deliver(bool),
    Lose(bool),
    Refuse(bool),
    Die(bool),
    End(u16),
    Pass(u16),
    Standing,
    Move,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => any::<bool>().prop_map(Event::Deliver),
        1 => any::<bool>().prop_map(Event::Lose),
        1 => any::<bool>().prop_map(Event::Refuse),
        1 => any::<bool>().prop_map(Event::Die),
        2 => (0..2000_u16).prop_map(Event::End),
        8 => (0..100_u16).prop_map(Event::Pass),
        2 => Just(Event::Standing),
        4 => Just(Event::Move),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_one_of_the_two_goes_on_and_nothing_is_left_behind(
        flows in 0..2000_u16,
        events in prop::collection::vec(event(), 0..120),
    ) {
        let mut pair = Pair::new(flows);
        for event in events {
            match event {
                Event::Deliver(to) => pair.deliver(usize::from(to)),
                Event::Lose(to) => _ = pair.to[usize::from(to)].pop_front(),
                Event::Refuse(node) => pair.refuses[usize::from(node)] = true,
                Event::Die(node) if pair.alive == [true; 2] => pair.dies(usize::from(node)),
                Event::Die(_) => {}
                Event::End(port) => _ = pair.live[0].remove(&flow(1000 + port)),
                Event::Pass(ms) => pair.pass(Duration::from_millis(ms.into())),
                Event::Standing => pair.standings(),
                Event::Move => pair.moves(),
            }
            // While both live, exactly one has the address.
            prop_assert!(pair.alive != [true; 2] || pair.active[0] != pair.active[1]);
        }
        pair.settles();
        prop_assert_eq!(pair.wanted(0), Wanted::default());
        prop_assert_eq!(pair.wanted(1), Wanted::default());
    }
}
