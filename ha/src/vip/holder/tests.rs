//! What the holder does with the address, step by step.

use std::net::Ipv4Addr;

use super::*;
use crate::vip::Protocol;
use cygnet_netlink::wire::vrrp::{Advertisement, Auth, ChecksumForm, Version};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 5));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 101));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 6));

fn settings(mode: Mode) -> VipSettings {
    VipSettings { mode, ..VipSettings::new("www", "eth0", Protocol::Vrrp3, 51, vec![VIP]) }
}

fn up() -> Ground {
    Ground { link: Link::Up, source: Some(OWN), socket_error: None }
}

const ABSENT: Presence = Presence { exact: false, marked: false, shorter: None };
const OURS: Presence = Presence { exact: true, marked: true, shorter: None };
const FOREIGN: Presence = Presence { exact: true, marked: false, shorter: None };

fn ms(count: u64) -> Time {
    Time(count * 1_000_000)
}

fn advert(priority: u8) -> Message {
    Message::Vrrp(Advertisement {
        version: Version::V3,
        vrid: 51,
        priority,
        interval_cs: 100,
        addresses: vec![VIP],
        auth: Auth::None,
        checksum: ChecksumForm::PseudoHeader,
    })
}

fn priority_of(advert: &Message) -> u8 {
    match advert {
        Message::Vrrp(advert) => advert.priority,
        Message::Carp(advert) => unreachable!("this election speaks VRRP: {advert:?}"),
    }
}

fn standby() -> Holder {
    let mut holder = Holder::new(Time::ZERO, settings(Mode::Hold), 7);
    assert!(holder.ground(Time::ZERO, up()).is_empty());
    assert!(holder.presence_seen(Time::ZERO, &[ABSENT]).is_empty());
    holder.ready(Time::ZERO, true, "");
    assert_eq!(holder.role(), Role::Standby);
    holder
}

/// Active, with the time since when.
fn active() -> (Holder, Time) {
    let mut holder = standby();
    let due = holder.poll_timeout().expect("a timer");
    assert_eq!(brief(&holder.timeout(due)), ["add"]);
    assert_eq!(brief(&holder.added(due, VIP, Ok(true))), ["info", "announce", "advert 100"]);
    assert_eq!(holder.role(), Role::Active);
    (holder, due)
}

/// The actions in short, events by their severity.
fn brief(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::AddAddress(_) => "add".to_owned(),
        Action::RemoveAddress(_) => "remove".to_owned(),
        Action::Announce => "announce".to_owned(),
        Action::SendAdvert(advert) => format!("advert {}", priority_of(advert)),
        Action::Event { severity, .. } => format!("{severity:?}").to_lowercase(),
    };
    actions.iter().map(word).collect()
}

#[test]
fn a_node_does_not_contend_before_it_is_ready_and_says_why() {
    let mut holder = Holder::new(Time::ZERO, settings(Mode::Hold), 7);
    assert!(holder.ground(Time::ZERO, up()).is_empty());
    assert_eq!(holder.role(), Role::Down);
    assert_eq!(holder.reason(), "not ready: starting");
    assert_eq!(holder.poll_timeout(), None);
    holder.ready(Time::ZERO, false, "service web has no listener");
    assert_eq!(holder.reason(), "not ready: service web has no listener");
    assert_eq!(brief(&holder.ready(ms(1), true, "")), ["info"]);
    assert_eq!(holder.role(), Role::Standby);
}

#[test]
fn the_address_is_announced_at_once_twice_more_and_then_every_minute() {
    let (mut holder, start) = active();
    let mut announced = Vec::new();
    while let Some(due) = holder.poll_timeout().filter(|due| due.since(start) < Duration::from_secs(150)) {
        let actions = brief(&holder.timeout(due));
        if actions.contains(&"announce".to_owned()) {
            announced.push(due.since(start).as_millis());
        }
    }
    assert_eq!(announced, [100, 1_100, 61_100, 121_100]);
}

#[test]
fn a_foreign_claim_is_answered_and_the_announcement_repeated() {
    let (mut holder, start) = active();
    let now = start + Duration::from_secs(30);
    // The adverts of 30 s.
    for second in 1..=30 {
        holder.timeout(start + Duration::from_secs(second));
    }
    assert_eq!(brief(&holder.advert(now, PEER, &advert(50))), ["announce", "advert 100"]);
    assert_eq!(holder.poll_timeout(), Some(now + ANNOUNCE_AGAIN[0]));
}

#[test]
fn a_better_router_takes_the_address_away_before_the_last_word() {
    let (mut holder, start) = active();
    let actions = holder.advert(start, PEER, &advert(150));
    // It has the address and has announced it: what is under way here may end, and the last word comes after that.
    assert_eq!(brief(&actions), ["info"]);
    assert_eq!((holder.role(), holder.is_ours(), holder.lingers()), (Role::Standby, true, true));
    assert_eq!(holder.poll_timeout(), Some(start + LINGER_MAX));
    assert_eq!(brief(&holder.timeout(start + LINGER_MAX)), ["remove"]);
    assert_eq!(brief(&holder.removed(start, VIP, Ok(true))), ["advert 100"]);
    assert_eq!((holder.role(), holder.is_ours(), holder.lingers()), (Role::Standby, false, false));
    assert_eq!(holder.reason(), "192.0.2.6 advertised the higher priority 150");
}

#[test]
fn a_stop_removes_the_address_and_then_resigns() {
    let (mut holder, start) = active();
    assert_eq!(brief(&holder.stop(start, "bye")), ["remove", "info", "advert 0"]);
    assert_eq!((holder.role(), holder.reason()), (Role::Down, "bye"));
    holder.removed(start, VIP, Ok(true));
    assert_eq!(holder.poll_timeout(), None);
    assert!(holder.ready(start, true, "").is_empty(), "stopped for good");
}

#[test]
fn a_lost_link_takes_the_address_away_and_its_return_joins_again() {
    let (mut holder, start) = active();
    let down = Ground { link: Link::Down, ..up() };
    assert_eq!(brief(&holder.ground(start, down)), ["remove", "alert", "advert 0"]);
    assert_eq!((holder.role(), holder.reason()), (Role::Down, "eth0 is down or has no carrier"));
    holder.removed(start, VIP, Ok(true));
    assert_eq!(brief(&holder.ground(start, up())), ["info"]);
    assert_eq!(holder.role(), Role::Standby);
}

#[test]
fn an_interface_that_vanishes_took_the_address_with_it() {
    let (mut holder, start) = active();
    let gone = Ground { link: Link::Missing, source: None, socket_error: None };
    assert_eq!(brief(&holder.ground(start, gone)), ["alert", "advert 0"]);
    assert!(!holder.is_ours());
    assert_eq!(holder.reason(), "there is no interface eth0");
}

#[test]
fn an_interface_with_a_new_name_does_not_keep_the_address() {
    let (mut holder, start) = active();
    let renamed = Ground { link: Link::Renamed, source: None, socket_error: None };
    assert_eq!(brief(&holder.ground(start, renamed)), ["remove", "alert", "advert 0"]);
    assert_eq!((holder.role(), holder.reason()), (Role::Down, "eth0 has another name now"));
}

#[test]
fn an_address_deleted_by_hand_is_added_again_with_an_event_and_not_in_a_storm() {
    let (mut holder, start) = active();
    assert_eq!(brief(&holder.presence_seen(start, &[ABSENT])), ["warning", "add"]);
    assert_eq!(brief(&holder.added(start, VIP, Ok(true))), ["announce"]);
    let again = start + Duration::from_millis(10);
    assert!(holder.presence_seen(again, &[ABSENT]).is_empty(), "within the pause");
    let due = start + READD_SPACING;
    let mut seen = Vec::new();
    while let Some(next) = holder.poll_timeout().filter(|next| *next <= due) {
        seen.extend(brief(&holder.timeout(next)));
        if seen.last().is_some_and(|last| last == "add") {
            seen.extend(brief(&holder.added(next, VIP, Ok(true))));
        }
    }
    assert_eq!(seen.iter().filter(|word| *word == "add").count(), 1, "{seen:?}");
}

#[test]
fn a_failed_add_claims_nothing_and_is_tried_again_ever_later() {
    let mut holder = standby();
    let (mut failures, mut pauses) = (0, Vec::new());
    let mut failed_at = None;
    while failures < 9 {
        let due = holder.poll_timeout().expect("it never gives up");
        let actions = holder.timeout(due);
        if holder.role() == Role::Standby
            && let Some(before) = failed_at.take()
        {
            pauses.push(due.since(before).as_millis());
        }
        if brief(&actions).contains(&"add".to_owned()) {
            let answer = brief(&holder.added(due, VIP, Err("not permitted".into())));
            assert!(
                !answer.iter().any(|word| word.starts_with("advert") || word == "announce"),
                "{answer:?}"
            );
            assert!(answer.contains(&"alert".to_owned()));
            assert_eq!(holder.role(), Role::Down);
            (failures, failed_at) = (failures + 1, Some(due));
        }
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000]);
    assert!(!holder.is_ours());
}

/// Settings with a second address, and a holder that has just been elected.
fn elected_with_two() -> (Holder, Time, Vec<Action>) {
    let settings = VipSettings { addresses: vec![VIP, OTHER], ..settings(Mode::Hold) };
    let mut holder = Holder::new(Time::ZERO, settings, 7);
    holder.ground(Time::ZERO, up());
    holder.presence_seen(Time::ZERO, &[ABSENT, ABSENT]);
    holder.ready(Time::ZERO, true, "");
    let due = holder.poll_timeout().expect("a timer");
    let actions = holder.timeout(due);
    (holder, due, actions)
}

#[test]
fn several_addresses_are_claimed_when_all_are_there_and_go_together() {
    let (mut holder, due, actions) = elected_with_two();
    assert_eq!(actions, [Action::AddAddress(VIP), Action::AddAddress(OTHER)]);
    assert!(holder.added(due, VIP, Ok(true)).is_empty(), "the other is not there yet");
    let actions = holder.added(due, OTHER, Ok(true));
    assert_eq!(brief(&actions), ["info", "announce", "advert 100"]);
    let Some(Action::SendAdvert(Message::Vrrp(advert))) = actions.last() else { panic!("{actions:?}") };
    assert_eq!(advert.addresses, [VIP, OTHER]);
    // One is deleted by hand: it alone comes back.
    let actions = holder.presence_seen(due, &[OURS, ABSENT]);
    assert_eq!(actions.last(), Some(&Action::AddAddress(OTHER)));
    assert_eq!(brief(&holder.added(due, OTHER, Ok(true))), ["announce"]);
    let actions = holder.stop(due, "bye");
    assert_eq!(actions[..2], [Action::RemoveAddress(VIP), Action::RemoveAddress(OTHER)]);
    assert_eq!(brief(&actions), ["remove", "remove", "info", "advert 0"]);
}

#[test]
fn one_of_several_that_cannot_be_added_gives_up_all_without_a_claim() {
    let (mut holder, due, _) = elected_with_two();
    let actions = holder.added(due, VIP, Err("not permitted".into()));
    assert_eq!(brief(&actions), ["alert", "alert"]);
    assert_eq!(holder.role(), Role::Down);
    // The kernel had been asked for the other already.
    assert_eq!(holder.added(due, OTHER, Ok(true)), [Action::RemoveAddress(OTHER)]);
    holder.removed(due, OTHER, Ok(true));
    assert!(!holder.is_ours());
}

#[test]
fn a_holder_that_has_ceded_an_address_does_not_remove_it() {
    let (mut holder, due, _) = elected_with_two();
    holder.added(due, VIP, Ok(true));
    holder.added(due, OTHER, Ok(true));
    holder.cede(&[VIP]);
    assert_eq!((holder.holds(VIP), holder.holds(OTHER)), (false, true));
    assert_eq!(holder.stop(due, "bye")[0], Action::RemoveAddress(OTHER));
}

#[test]
fn an_active_node_that_cannot_add_the_address_again_resigns() {
    let (mut holder, start) = active();
    holder.presence_seen(start, &[ABSENT]);
    let answer = holder.added(start, VIP, Err("not permitted".into()));
    assert!(brief(&answer).contains(&"advert 0".to_owned()), "{answer:?}");
    assert_eq!(holder.role(), Role::Down);
}

#[test]
fn a_failed_removal_is_told_once_and_tried_until_it_works() {
    let (mut holder, start) = active();
    holder.stop(start, "bye");
    assert_eq!(brief(&holder.removed(start, VIP, Err("busy".into()))), ["alert"]);
    assert!(holder.is_ours(), "the guard must still know of it");
    for wait in [100, 200] {
        let due = holder.poll_timeout().expect("a retry");
        assert_eq!(brief(&holder.timeout(due)), ["remove"], "after {wait} ms");
        assert!(holder.removed(due, VIP, Err("busy".into())).is_empty());
    }
    let due = holder.poll_timeout().expect("a retry");
    assert_eq!(due.since(start), Duration::from_millis(100 + 200 + 400));
    holder.timeout(due);
    holder.removed(due, VIP, Ok(true));
    assert_eq!((holder.is_ours(), holder.poll_timeout()), (false, None));
}

#[test]
fn a_leftover_of_our_own_is_removed_and_a_strangers_is_left_alone() {
    let mut holder = Holder::new(Time::ZERO, settings(Mode::Hold), 7);
    holder.ground(Time::ZERO, up());
    assert_eq!(brief(&holder.presence_seen(Time::ZERO, &[OURS])), ["warning", "remove"]);
    holder.removed(Time::ZERO, VIP, Ok(true));
    assert_eq!(brief(&holder.presence_seen(Time::ZERO, &[FOREIGN])), ["warning"]);
    assert!(holder.presence_seen(Time::ZERO, &[FOREIGN]).is_empty(), "told once");
    assert!(!brief(&holder.stop(ms(1), "bye")).contains(&"remove".to_owned()));
}

#[test]
fn a_strangers_address_is_adopted_by_the_active_node_and_goes_with_the_role() {
    let mut holder = standby();
    holder.presence_seen(ms(1), &[FOREIGN]);
    let due = holder.poll_timeout().expect("a timer");
    assert_eq!(brief(&holder.timeout(due)), ["add"]);
    assert_eq!(brief(&holder.added(due, VIP, Ok(false))), ["info", "info", "announce", "advert 100"]);
    assert_eq!(brief(&holder.stop(due, "bye")), ["remove", "info", "advert 0"]);
}

#[test]
fn an_address_with_a_shorter_prefix_is_never_touched() {
    let mut holder = standby();
    holder.presence_seen(ms(1), &[Presence { shorter: Some(24), ..ABSENT }]);
    let due = holder.poll_timeout().expect("a timer");
    assert_eq!(brief(&holder.timeout(due)), ["info", "announce", "advert 100"]);
    assert_eq!(brief(&holder.stop(due, "bye")), ["info", "advert 0"]);
}

#[test]
fn in_watch_mode_the_role_is_what_the_kernel_shows_and_nothing_is_touched() {
    let mut holder = Holder::new(Time::ZERO, settings(Mode::Watch), 7);
    let no_source = Ground { link: Link::Up, source: None, socket_error: Some("x".into()) };
    assert_eq!(brief(&holder.ground(Time::ZERO, no_source)), ["info"]);
    assert_eq!(holder.role(), Role::Standby);
    holder.ready(ms(1), true, "");
    assert_eq!(brief(&holder.presence_seen(ms(2), &[FOREIGN])), ["info"]);
    assert_eq!((holder.role(), holder.since()), (Role::Active, ms(2)));
    assert!(holder.advert(ms(3), PEER, &advert(0)).is_empty());
    assert_eq!(brief(&holder.ready(ms(3), false, "no listener")), ["alert"]);
    assert_eq!(brief(&holder.presence_seen(ms(4), &[ABSENT])), ["info"]);
    assert_eq!(brief(&holder.ground(ms(5), Ground { link: Link::Down, ..up() })), ["warning"]);
    assert_eq!(holder.reason(), "eth0 is down or has no carrier");
    assert_eq!(holder.poll_timeout(), None);
}

#[test]
fn a_holder_that_was_frozen_drops_the_address_when_it_finds_that_another_has_taken_over() {
    let (mut holder, start) = active();
    let woke = start + Duration::from_secs(60);
    assert!(!brief(&holder.timeout(woke)).contains(&"remove".to_owned()), "nobody has claimed it yet");
    let actions = holder.advert(woke, PEER, &advert(50));
    assert_eq!(brief(&actions), ["remove", "warning", "advert 0"]);
    assert_eq!(holder.role(), Role::Standby);
}

#[test]
fn a_lone_holder_whose_address_went_while_it_was_frozen_listens_and_adds_it_again_first() {
    let (mut holder, start) = active();
    let woke = start + Duration::from_secs(60);
    assert!(holder.frozen(woke, Duration::from_secs(60)).is_empty());
    assert!(holder.presence_seen(woke, &[ABSENT]).is_empty(), "perhaps another has it now");
    let mut seen = Vec::new();
    while let Some(due) = holder.poll_timeout().filter(|due| due.since(woke) <= Duration::from_secs(1)) {
        let actions = holder.timeout(due);
        if let Some(Action::Event { what, why, .. }) = actions.first() {
            assert_eq!(what, "192.0.2.100 was gone from eth0");
            assert!(why.contains("did not run for 60000 ms") && !why.contains("somebody"), "{why}");
        }
        seen.extend(brief(&actions));
        if seen.last().is_some_and(|last| last == "add") {
            seen.extend(brief(&holder.added(due, VIP, Ok(true))));
        }
    }
    seen.retain(|word| word != "announce");
    assert_eq!(seen, ["warning", "add", "advert 100"]);
    assert_eq!((holder.role(), holder.is_present()), (Role::Active, true));
}

#[test]
fn a_holder_whose_address_went_while_it_was_frozen_leaves_it_to_whoever_claims_it() {
    let (mut holder, start) = active();
    let woke = start + Duration::from_secs(60);
    holder.frozen(woke, Duration::from_secs(60));
    holder.presence_seen(woke, &[ABSENT]);
    let actions = brief(&holder.advert(woke, PEER, &advert(50)));
    assert!(!actions.contains(&"add".to_owned()), "{actions:?}");
    assert_eq!(holder.role(), Role::Standby);
}

#[test]
fn while_the_driver_waits_only_the_regular_adverts_go_out_and_none_for_an_address_that_is_not_there_yet() {
    let (mut holder, start) = active();
    assert_eq!(holder.beat_due(), Some(start + Duration::from_secs(1)));
    assert_eq!(holder.beat(start + Duration::from_millis(999)), None);
    for second in 1..=3 {
        let now = start + Duration::from_secs(second) + Duration::from_millis(7);
        assert_eq!(holder.beat(now).as_ref().map(priority_of), Some(100));
        assert_eq!(
            holder.beat_due(),
            Some(start + Duration::from_secs(second + 1)),
            "from the time that it was due"
        );
    }
    // So late that the process must have been frozen: not without a look around.
    assert_eq!(holder.beat(start + Duration::from_secs(9)), None);
    let mut taking = standby();
    let due = taking.poll_timeout().expect("a timer");
    assert_eq!(brief(&taking.timeout(due)), ["add"]);
    assert_eq!((taking.beat_due(), taking.beat(due + Duration::from_secs(1))), (None, None));
    assert_eq!(standby().beat_due(), None);
}

#[test]
fn an_address_is_handed_to_the_heir_and_to_nobody_else_and_is_not_taken_back() {
    let (mut holder, start) = active();
    holder.set_heir(Some(PEER)).expect("active");
    let other = IpAddr::from([192, 0, 2, 7]);
    assert_eq!(brief(&holder.advert(start, other, &advert(50))), ["announce", "advert 100"], "a worse one");
    let actions = holder.advert(start + Duration::from_millis(20), PEER, &advert(50));
    assert_eq!(brief(&actions), ["info"], "no claim of ours: the heir would give way to it");
    assert_eq!((holder.role(), holder.reason()), (Role::Standby, "handed over to 192.0.2.6"));
    // It keeps the address for a while, and hears the heir, which is worse: it does not preempt.
    let until = start + Duration::from_millis(20) + LINGER_MAX;
    assert_eq!(brief(&holder.timeout(until)), ["remove"]);
    holder.removed(until, VIP, Ok(true));
    for second in 1..10 {
        let now = start + Duration::from_secs(second);
        assert!(holder.timeout(now).is_empty() && holder.advert(now, PEER, &advert(50)).is_empty());
    }
    assert_eq!(holder.role(), Role::Standby);
    // The heir falls silent: as always.
    let due = holder.poll_timeout().expect("a timer");
    assert_eq!(brief(&holder.timeout(due)), ["add"]);
}

#[test]
fn who_does_not_get_an_answer_keeps_the_address_as_before() {
    let (mut holder, start) = active();
    holder.set_heir(Some(PEER)).expect("active");
    holder.set_heir(None).expect("active");
    assert_eq!(brief(&holder.advert(start, PEER, &advert(50))), ["announce", "advert 100"]);
    let mut waits = standby();
    assert_eq!(waits.set_heir(Some(PEER)), Err("this node does not hold it".to_owned()));
}

#[test]
fn a_standby_that_is_asked_takes_the_address_at_once_also_from_a_better_one() {
    let mut holder = standby();
    holder.advert(ms(10), PEER, &advert(200));
    assert_eq!(brief(&holder.take(ms(20), PEER).expect("it stands by")), ["add"]);
    assert_eq!(brief(&holder.added(ms(20), VIP, Ok(true))), ["info", "announce", "advert 100"]);
    assert_eq!(holder.take(ms(30), PEER), Err("this node holds it already".to_owned()));
    let mut down = Holder::new(Time::ZERO, settings(Mode::Hold), 7);
    assert_eq!(down.take(ms(30), PEER), Err("starting".to_owned()));
}

#[test]
fn a_death_is_followed_at_once_by_whoever_follows_the_dead_and_is_the_best_of_the_living() {
    let died = |holder: &mut Holder, source, at_once| {
        brief(&holder.bereft(ms(20), source, at_once, Reason::Died(source)))
    };
    let mut holder = standby();
    holder.advert(ms(10), PEER, &advert(200));
    let other = IpAddr::from([192, 0, 2, 7]);
    assert!(died(&mut holder, other, true).is_empty(), "it follows another");
    assert_eq!(died(&mut holder, PEER, true), ["add"]);
    assert!(holder.reason().contains("has died"), "{}", holder.reason());
    // A better one is there: as after a resignation.
    let mut second = standby();
    second.advert(ms(10), PEER, &advert(200));
    assert!(died(&mut second, PEER, false).is_empty());
    let skew = Duration::from_secs(1) * 156 / 256;
    assert_eq!(second.poll_timeout(), Some(ms(20) + skew));
    // One that was frozen does not know how old the news is.
    let mut frozen = standby();
    frozen.advert(ms(10), PEER, &advert(200));
    let late = brief(&frozen.bereft(ms(60_000), PEER, true, Reason::Died(PEER)));
    assert_eq!((late, frozen.role()), (vec!["warning".to_owned()], Role::Standby));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Input {
        Ground(Ground),
        Presence([Presence; 2]),
        Ready(bool),
        Advert(u8),
        Timeout,
        Heir(bool),
        Take,
        Bereft(bool),
        Stop,
    }

    fn input() -> impl Strategy<Value = Input> {
        let link = prop_oneof![4 => Just(Link::Up), 1 => Just(Link::Down), 1 => Just(Link::Missing)];
        let ground = (link, any::<bool>()).prop_map(|(link, has_source)| {
            Input::Ground(Ground { link, source: has_source.then_some(OWN), socket_error: None })
        });
        let presence = || prop_oneof![Just(ABSENT), Just(OURS), Just(FOREIGN)];
        prop_oneof![
            2 => ground,
            1 => [presence(), presence()].prop_map(Input::Presence),
            1 => prop::bool::weighted(0.8).prop_map(Input::Ready),
            3 => any::<u8>().prop_map(Input::Advert),
            8 => Just(Input::Timeout),
            1 => any::<bool>().prop_map(Input::Heir),
            1 => Just(Input::Take),
            1 => any::<bool>().prop_map(Input::Bereft),
            1 => Just(Input::Stop),
        ]
    }

    /// Tells the holder; what it wants done.
    fn given(holder: &mut Holder, now: &mut Time, input: Input, kernel: &mut [Presence; 2]) -> Vec<Action> {
        match input {
            Input::Ground(ground) => {
                if ground.link == Link::Missing {
                    *kernel = [ABSENT; 2];
                }
                holder.ground(*now, ground)
            }
            Input::Presence(presences) => {
                *kernel = presences;
                holder.presence_seen(*now, &presences)
            }
            Input::Ready(ready) => holder.ready(*now, ready, "test"),
            Input::Advert(priority) => holder.advert(*now, PEER, &advert(priority)),
            Input::Stop => holder.stop(*now, "bye"),
            Input::Heir(set) => {
                let _ = holder.set_heir(set.then_some(PEER));
                Vec::new()
            }
            Input::Take => holder.take(*now, PEER).unwrap_or_default(),
            Input::Bereft(at_once) => holder.bereft(*now, PEER, at_once, Reason::Died(PEER)),
            Input::Timeout => {
                *now = holder.poll_timeout().map_or(*now, |due| due.max(*now));
                holder.timeout(*now)
            }
        }
    }

    proptest! {
        /// Whatever happens and whichever change fails: no advert but a resignation or the loser's last word leaves a node
        /// that is not Active, an Active node has the address, and at rest nobody else keeps what is ours.
        #[test]
        fn the_address_and_the_adverts_follow_the_role(
            steps in prop::collection::vec(
                (0u64..5_000, input(), [prop::bool::weighted(0.8), prop::bool::weighted(0.8)]),
                1..80,
            ),
        ) {
            let addresses = vec![VIP, OTHER];
            let mut holder =
                Holder::new(Time::ZERO, VipSettings { addresses, ..settings(Mode::Hold) }, 7);
            let (mut now, mut kernel) = (Time::ZERO, [ABSENT; 2]);
            let at = |address| usize::from(address == OTHER);
            for (wait_ms, input, works) in steps {
                now = now + Duration::from_millis(wait_ms);
                let (was, lingered) = (holder.role(), holder.lingers());
                let mut queue = given(&mut holder, &mut now, input, &mut kernel);
                let mut steps = 0;
                while !queue.is_empty() {
                    steps += 1;
                    prop_assert!(steps < 50, "the actions never end");
                    match queue.remove(0) {
                        Action::AddAddress(address) => {
                            let (kernel, works) = (&mut kernel[at(address)], works[at(address)]);
                            let answer = if works { Ok(!kernel.exact) } else { Err("no".to_owned()) };
                            if works { *kernel = OURS; }
                            queue.extend(holder.added(now, address, answer));
                        }
                        Action::RemoveAddress(address) => {
                            let (kernel, works) = (&mut kernel[at(address)], works[at(address)]);
                            let answer = if works { Ok(kernel.exact) } else { Err("no".to_owned()) };
                            if works { *kernel = ABSENT; }
                            queue.extend(holder.removed(now, address, answer));
                        }
                        Action::SendAdvert(advert) => {
                            let active = holder.role() == Role::Active && kernel.iter().all(|one| one.exact);
                            let gone = kernel.iter().all(|one| !one.exact);
                            let last_word = was == Role::Active || (lingered && gone);
                            prop_assert!(active || priority_of(&advert) == 0 || last_word);
                        }
                        Action::Announce => prop_assert_eq!(holder.role(), Role::Active),
                        Action::Event { .. } => {}
                    }
                }
                prop_assert!(holder.adding.is_none());
                if holder.role() == Role::Active {
                    let all = kernel.iter().all(|one| one.exact);
                    prop_assert!(all || holder.lacks_address() || holder.speaker.listens().is_some());
                } else if holder.is_ours() {
                    let remembered = |place: &Place| !place.ours || place.remove_retry.is_some();
                    prop_assert!(
                        holder.lingers() || holder.places.iter().all(remembered),
                        "an address of ours is forgotten"
                    );
                }
            }
        }
    }
}

#[test]
fn a_resignation_may_be_said_for_a_node_that_holds_all_addresses_and_for_no_other() {
    let (mut holder, start) = active();
    assert_eq!(holder.resignation().map(|advert| priority_of(&advert)), Some(0));
    let now = start + Duration::from_millis(10);
    holder.frozen(now, Duration::from_secs(5));
    assert_eq!(holder.resignation(), None, "another may have taken over meanwhile");
    let (mut holder, start) = active();
    holder.advert(start, PEER, &advert(150));
    assert_eq!((holder.role(), holder.resignation()), (Role::Standby, None));
    let mut taking = standby();
    taking.timeout(taking.poll_timeout().expect("a timer"));
    assert_eq!(taking.resignation(), None, "the address is not there yet");
    // An owner's address is its own, and stays when the process is killed.
    let owner = VipSettings { priority: 255, ..settings(Mode::Hold) };
    let mut owner = Holder::new(Time::ZERO, owner, 7);
    owner.ground(Time::ZERO, up());
    owner.presence_seen(Time::ZERO, &[Presence { shorter: Some(24), ..ABSENT }]);
    owner.ready(Time::ZERO, true, "");
    assert_eq!((owner.role(), owner.resignation()), (Role::Active, None));
}

#[test]
fn a_process_that_succeeds_another_begins_as_active_once_it_can_serve_and_removes_nothing() {
    let mut holder = Holder::new(Time::ZERO, settings(Mode::Hold), 7);
    holder.succeed();
    assert!(holder.ground(Time::ZERO, up()).is_empty());
    assert!(holder.presence_seen(Time::ZERO, &[OURS]).is_empty(), "it is no leftover");
    assert_eq!((holder.role(), holder.is_to_succeed()), (Role::Down, true));
    assert_eq!(brief(&holder.ready(ms(5), true, "")), ["add"]);
    assert_eq!(brief(&holder.added(ms(5), VIP, Ok(false))), ["info", "info", "announce", "advert 100"]);
    assert_eq!((holder.role(), holder.is_ours(), holder.is_to_succeed()), (Role::Active, true, false));
    assert!(holder.reason().contains("the process before this one"), "{}", holder.reason());
    // From here on it is a holder as any other.
    assert_eq!(brief(&holder.advert(ms(6), PEER, &advert(150))), ["info"]);
    assert_eq!(brief(&holder.timeout(ms(6) + LINGER_MAX)), ["remove"]);
}

#[test]
fn what_the_process_before_leaves_behind_when_it_dies_first_is_removed_as_after_any_start() {
    let mut holder = Holder::new(Time::ZERO, settings(Mode::Hold), 7);
    holder.succeed();
    holder.ground(Time::ZERO, up());
    holder.presence_seen(Time::ZERO, &[OURS]);
    holder.settle_down();
    assert_eq!(brief(&holder.presence_seen(ms(1), &[OURS])), ["warning", "remove"]);
    assert!(holder.removed(ms(1), VIP, Ok(true)).is_empty());
    assert_eq!(brief(&holder.ready(ms(1), true, "")), ["info"]);
    assert_eq!(holder.role(), Role::Standby);
    let mut watcher = Holder::new(Time::ZERO, settings(Mode::Watch), 7);
    watcher.succeed();
    assert!(!watcher.is_to_succeed(), "another daemon holds it");
}
