//! Groups of real holders on one node, whose kernel and wire are in the test's hand.

use std::net::{IpAddr, Ipv4Addr};

use cygnet_netlink::wire::Message;
use cygnet_netlink::wire::vrrp::{Advertisement, Auth, ChecksumForm, Version};
use proptest::prelude::*;

use super::*;
use crate::vip::holder::{Action, Ground, Link, Presence, RETRY_MAX};
use crate::vip::speaker::Reason;
use crate::vip::{Protocol, VipSettings};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 5));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 6));
const PRIORITY: u8 = 100;

/// What a member did that others can see.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Announced,
    Advert(u8),
}

struct Member {
    holder: Holder,
    address: IpAddr,
    present: bool,
    refuses: bool,
    seen: Vec<Seen>,
    /// Roles that it has had.
    changes: usize,
}

struct Node {
    members: Vec<Member>,
    group: Group,
    now: Time,
    moving: bool,
    told: usize,
}

fn up() -> Ground {
    Ground { link: Link::Up, source: Some(OWN), socket_error: None }
}

fn down() -> Ground {
    Ground { link: Link::Down, ..up() }
}

impl Node {
    fn new(count: u8) -> Self {
        let member = |index: u8| {
            let address = IpAddr::from([192, 0, 2, 100 + index]);
            let (name, interface) = (format!("v{index}"), format!("eth{index}"));
            let settings = VipSettings {
                priority: PRIORITY,
                sync_group: Some("edge".into()),
                ..VipSettings::new(name, interface, Protocol::Vrrp3, 51, vec![address])
            };
            let holder = Holder::new(Time::ZERO, settings, 7);
            Member { holder, address, present: false, refuses: false, seen: Vec::new(), changes: 0 }
        };
        let members = (0..count).map(member).collect();
        Self { members, group: Group::default(), now: Time::ZERO, moving: false, told: 0 }
    }

    /// All stand by.
    fn standby(count: u8) -> Self {
        let mut node = Self::new(count);
        for which in 0..usize::from(count) {
            node.each(which, |holder, now| holder.ground(now, up()));
            node.each(which, |holder, now| holder.ready(now, true, ""));
        }
        node.settle();
        assert_eq!(node.roles(), vec![Role::Standby; count.into()]);
        node
    }

    /// All are active.
    fn active(count: u8) -> Self {
        let mut node = Self::standby(count);
        node.pass(Duration::from_secs(4));
        assert_eq!(node.roles(), vec![Role::Active; count.into()]);
        node
    }

    fn roles(&self) -> Vec<Role> {
        self.members.iter().map(|member| member.holder.role()).collect()
    }

    fn each(&mut self, which: usize, input: impl FnOnce(&mut Holder, Time) -> Vec<Action>) {
        let now = self.now;
        let member = &mut self.members[which];
        let before = member.holder.role();
        let mut queue = input(&mut member.holder, now);
        while !queue.is_empty() {
            let answer = match queue.remove(0) {
                Action::AddAddress(address) if member.refuses => {
                    member.holder.added(now, address, Err("no room".into()))
                }
                Action::AddAddress(address) => {
                    let new = !std::mem::replace(&mut member.present, true);
                    member.holder.added(now, address, Ok(new))
                }
                Action::RemoveAddress(address) => {
                    let was = std::mem::replace(&mut member.present, false);
                    member.holder.removed(now, address, Ok(was))
                }
                Action::Announce => {
                    member.seen.push(Seen::Announced);
                    Vec::new()
                }
                Action::SendAdvert(Message::Vrrp(advert)) => {
                    member.seen.push(Seen::Advert(advert.priority));
                    Vec::new()
                }
                Action::SendAdvert(Message::Carp(_)) | Action::Event { .. } => Vec::new(),
            };
            queue.splice(0..0, answer);
        }
        member.changes += usize::from(before != member.holder.role());
    }

    /// The group's steps, as the driver does them.
    fn settle(&mut self) {
        for count in 0.. {
            assert!(count < 4 * self.members.len(), "the steps never end");
            let holders: Vec<&Holder> = self.members.iter().map(|member| &member.holder).collect();
            let Some((which, step)) = self.group.step(self.now, "edge", &holders, self.moving) else {
                return;
            };
            match step {
                Step::Bar(why) => self.each(which, |holder, now| holder.bar(now, why)),
                Step::Consent => self.each(which, Holder::consent),
                Step::Claim => self.each(which, Holder::claim),
                Step::StepDown(why) => self.each(which, |holder, now| holder.step_down(now, &why)),
                Step::Tell(_) => self.told += 1,
            }
        }
    }

    fn ground(&mut self, which: usize, ground: Ground) {
        self.each(which, |holder, now| holder.ground(now, ground));
        self.settle();
    }

    fn hear(&mut self, which: usize, priority: u8) {
        let advert = Message::Vrrp(Advertisement {
            version: Version::V3,
            vrid: 51,
            priority,
            interval_cs: 100,
            addresses: vec![self.members[which].address],
            auth: Auth::None,
            checksum: ChecksumForm::PseudoHeader,
        });
        self.each(which, |holder, now| holder.advert(now, PEER, &advert));
        self.settle();
    }

    fn due(&self) -> Option<Time> {
        let holders: Vec<&Holder> = self.members.iter().map(|member| &member.holder).collect();
        let timers = self.members.iter().filter_map(|member| member.holder.poll_timeout());
        timers.chain(self.group.poll_timeout(&holders)).min()
    }

    /// Time passes, and every timer fires when it is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.timers();
        }
        self.now = end;
    }

    fn timers(&mut self) {
        for which in 0..self.members.len() {
            if self.members[which].holder.poll_timeout().is_some_and(|due| due <= self.now) {
                self.each(which, Holder::timeout);
            }
        }
        self.settle();
    }

    fn reason(&self, which: usize) -> &str {
        self.members[which].holder.reason()
    }

    fn forget(&mut self) {
        self.members.iter_mut().for_each(|member| (member.seen, member.changes) = (Vec::new(), 0));
    }
}

#[test]
fn a_link_that_goes_down_takes_the_whole_group_away_and_brings_it_back() {
    let mut node = Node::active(3);
    node.forget();
    node.ground(1, down());
    assert_eq!(node.roles(), [Role::Down; 3]);
    for which in [0, 2] {
        assert_eq!(node.reason(which), "its group edge moves as one: v1: eth1 is down or has no carrier");
        assert_eq!(node.members[which].seen, [Seen::Advert(0)], "it resigns");
        assert!(!node.members[which].present);
    }
    // Another one down, and the first one up again: nobody is let in.
    node.ground(2, down());
    node.ground(1, up());
    assert_eq!(node.roles(), [Role::Down; 3]);
    node.ground(2, up());
    assert_eq!(node.roles(), [Role::Standby; 3]);
    node.pass(Duration::from_secs(4));
    assert_eq!(node.roles(), [Role::Active; 3]);
}

#[test]
fn a_better_router_on_one_link_takes_all_addresses_and_they_come_back_together() {
    let mut node = Node::active(2);
    node.forget();
    node.hear(0, 200);
    assert_eq!(node.roles(), [Role::Standby; 2]);
    assert_eq!(
        node.reason(1),
        "its group edge moves as one: v0: 192.0.2.6 advertised the higher priority 200"
    );
    assert_eq!(node.members[1].seen, [Seen::Advert(0)]);
    // It is heard on one link only: the silence of the other is no reason to take half of the group.
    for _ in 0..30 {
        node.pass(Duration::from_secs(1));
        node.hear(0, 200);
    }
    assert_eq!(node.roles(), [Role::Standby; 2]);
    assert_eq!(node.told, 1, "that nobody holds v1 is told, once");
    node.pass(Duration::from_secs(4));
    assert_eq!(node.roles(), [Role::Active; 2]);
}

#[test]
fn nobody_claims_anything_before_all_have_their_addresses() {
    let mut node = Node::standby(3);
    node.members[2].refuses = true;
    node.forget();
    node.pass(Duration::from_secs(60));
    for member in &node.members {
        assert_eq!(member.seen, [], "{}", member.holder.settings().name);
        assert!(!member.present);
    }
    assert!(node.roles().iter().all(|role| *role != Role::Active));
    // The first try had them there for a moment; after that the one that fails is tried first.
    node.members[2].refuses = false;
    node.pass(RETRY_MAX + Duration::from_secs(8));
    assert_eq!(node.roles(), [Role::Active; 3]);
    for member in &node.members {
        assert_eq!(member.seen[..2], [Seen::Announced, Seen::Advert(PRIORITY)]);
    }
}

#[test]
fn a_dead_holder_is_followed_by_the_whole_group_at_once() {
    let mut node = Node::standby(2);
    node.hear(0, 150);
    node.hear(1, 150);
    node.each(0, |holder, now| holder.bereft(now, PEER, true, Reason::Died(PEER)));
    node.settle();
    assert_eq!(node.roles(), [Role::Standby; 2]);
    node.each(1, |holder, now| holder.bereft(now, PEER, true, Reason::Died(PEER)));
    node.settle();
    assert_eq!(node.roles(), [Role::Active; 2]);
    assert!(node.reason(0).contains("has died") && node.reason(1).contains("has died"));
}

#[test]
fn a_planned_move_goes_router_by_router_and_what_is_left_behind_follows() {
    let mut node = Node::active(2);
    node.moving = true;
    for which in 0..2 {
        node.members[which].holder.set_heir(Some(PEER)).expect("it is active");
    }
    node.hear(0, 50);
    assert_eq!(node.roles(), [Role::Standby, Role::Active], "the other one's turn comes");
    let mut whole = Node { moving: true, ..node };
    whole.hear(1, 50);
    whole.moving = false;
    whole.settle();
    assert_eq!(whole.roles(), [Role::Standby; 2]);

    let mut node = Node::active(2);
    node.moving = true;
    node.members[0].holder.set_heir(Some(PEER)).expect("it is active");
    node.hear(0, 50);
    // The other node does not take the second one.
    node.moving = false;
    node.settle();
    assert_eq!(node.roles(), [Role::Standby; 2]);
    assert_eq!(node.reason(1), "its group edge moves as one: v0: handed over to 192.0.2.6");
}

#[test]
fn who_was_handed_one_waits_for_the_others_and_gives_it_back_if_they_do_not_come() {
    let mut node = Node::standby(2);
    (0..2).for_each(|which| node.hear(which, 50));
    node.each(0, |holder, now| holder.take(now, PEER).expect("it stands by"));
    node.settle();
    assert_eq!(node.roles(), [Role::Active, Role::Standby]);
    node.each(1, |holder, now| holder.take(now, PEER).expect("it stands by"));
    node.settle();
    assert_eq!(node.roles(), [Role::Active; 2]);

    let mut node = Node::standby(2);
    node.each(0, |holder, now| holder.take(now, PEER).expect("it stands by"));
    for _ in 0..14 {
        node.hear(1, 200);
        node.pass(Duration::from_secs(1));
    }
    assert_eq!(node.roles(), [Role::Standby; 2]);
    assert!(node.reason(0).contains("v1 has not come along"), "{}", node.reason(0));
}

#[test]
fn a_router_that_is_new_in_the_group_comes_along_and_disturbs_nobody() {
    let mut node = Node::active(2);
    let fresh = Node::standby(3).members.remove(2);
    node.members.push(fresh);
    node.forget();
    node.settle();
    assert_eq!(node.roles(), [Role::Active, Role::Active, Role::Standby]);
    node.pass(Duration::from_secs(4));
    assert_eq!(node.roles(), [Role::Active; 3]);
    assert_eq!(node.members.iter().map(|member| member.changes).collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn who_leaves_a_group_decides_alone() {
    let mut node = Node::standby(2);
    node.ground(1, down());
    assert_eq!(node.roles(), [Role::Down; 2]);
    let mut alone = node.members.remove(0);
    alone.holder.set_group(node.now, None);
    assert_eq!(alone.holder.role(), Role::Standby);
}

/// Anything that can happen to a member, or to all.
#[derive(Clone, Debug)]
enum Input {
    Link(usize, bool),
    Ready(bool),
    Advert(usize, u8),
    Refuses(usize, bool),
    Vanishes(usize),
    Take(usize),
    Heir(usize, bool),
    Bereft(usize, bool),
    Frozen(u64),
    Timers,
}

fn input() -> impl Strategy<Value = Input> {
    let which = || 0..3_usize;
    prop_oneof![
        3 => (which(), prop::bool::weighted(0.7)).prop_map(|(which, up)| Input::Link(which, up)),
        1 => prop::bool::weighted(0.8).prop_map(Input::Ready),
        6 => (which(), prop_oneof![Just(0), Just(50), Just(100), Just(200)])
            .prop_map(|(which, priority)| Input::Advert(which, priority)),
        1 => (which(), prop::bool::weighted(0.3)).prop_map(|(which, no)| Input::Refuses(which, no)),
        1 => which().prop_map(Input::Vanishes),
        1 => which().prop_map(Input::Take),
        1 => (which(), any::<bool>()).prop_map(|(which, set)| Input::Heir(which, set)),
        1 => (which(), any::<bool>()).prop_map(|(which, once)| Input::Bereft(which, once)),
        1 => (300..9_000_u64).prop_map(Input::Frozen),
        8 => Just(Input::Timers),
    ]
}

fn give(node: &mut Node, input: Input) {
    match input {
        Input::Link(which, is_up) => node.ground(which, if is_up { up() } else { down() }),
        Input::Ready(ready) => {
            (0..node.members.len())
                .for_each(|which| node.each(which, |holder, now| holder.ready(now, ready, "test")));
        }
        Input::Advert(which, priority) => node.hear(which, priority),
        Input::Refuses(which, refuses) => node.members[which].refuses = refuses,
        Input::Vanishes(which) => {
            node.members[which].present = false;
            node.each(which, |holder, now| holder.presence_seen(now, &[Presence::default()]));
        }
        Input::Take(which) => node.each(which, |holder, now| holder.take(now, PEER).unwrap_or_default()),
        Input::Heir(which, set) => {
            let _ = node.members[which].holder.set_heir(set.then_some(PEER));
        }
        Input::Bereft(which, at_once) => {
            node.each(which, |holder, now| holder.bereft(now, PEER, at_once, Reason::Died(PEER)));
        }
        Input::Frozen(ms) => node.now = node.now + Duration::from_millis(ms),
        Input::Timers => {
            node.now = node.due().map_or(node.now, |due| due.max(node.now));
            node.timers();
        }
    }
    node.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: roles differ only while somebody may still come along, a member that claims has its address, and left
    /// to themselves they all have one role, without changing it twice.
    #[test]
    fn members_have_one_role_and_keep_it(
        steps in prop::collection::vec((0..3_000_u64, input()), 1..60),
    ) {
        let mut node = Node::standby(3);
        for (wait_ms, input) in steps {
            node.now = node.now + Duration::from_millis(wait_ms);
            give(&mut node, input);
            let roles = node.roles();
            let down = roles.contains(&Role::Down);
            prop_assert!(!down || roles.iter().all(|role| *role == Role::Down), "{:?}", roles);
            for member in &node.members {
                prop_assert!(!member.holder.waits_to_claim(), "an address is held and not claimed");
            }
        }
        // The first may still wait for another try, or for its own freeze to end.
        node.pass(RETRY_MAX + Duration::from_secs(30));
        let refuses = node.members.iter().any(|member| member.refuses);
        let roles = node.roles();
        prop_assert!(roles.iter().all(|role| *role == roles[0]), "{:?}", roles);
        node.forget();
        node.pass(Duration::from_secs(100));
        prop_assert!(node.roles().iter().all(|role| *role == node.roles()[0]), "{:?}", node.roles());
        for member in &node.members {
            if refuses && roles[0] != Role::Active {
                prop_assert!(member.seen.is_empty(), "it claims what the group cannot hold: {:?}", member.seen);
            } else {
                prop_assert_eq!(member.changes, 0);
            }
        }
    }
}
