//! The transitions one by one, then properties; whole elections are in `simulated`.

use proptest::prelude::*;

use super::*;
use crate::vip::speaker::CROSSING_MAX;

mod simulated;

const ADDRESS: IpAddr = four(100);
const LOW: IpAddr = four(1);
const OWN: IpAddr = four(5);
const HIGH: IpAddr = four(9);

const fn four(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, last))
}

fn settings(priority: u8) -> Settings {
    Settings {
        version: Version::V3,
        vrid: 51,
        addresses: vec![ADDRESS],
        source: OWN,
        priority,
        interval_cs: 100,
        preempt: true,
        preempt_delay: Duration::ZERO,
        auth: Auth::None,
        checksum: None,
    }
}

fn advert(priority: u8, interval_cs: u16) -> Advertisement {
    Advertisement {
        version: Version::V3,
        vrid: 51,
        priority,
        interval_cs,
        addresses: vec![ADDRESS],
        auth: Auth::None,
        checksum: ChecksumForm::Message,
    }
}

fn ms(count: u64) -> Time {
    Time(count * 1_000_000)
}

fn backup(priority: u8) -> Speaker {
    let mut speaker = Speaker::new(settings(priority));
    assert_eq!(speaker.start(Time::ZERO), [Action::BecomeStandby(Reason::Started)]);
    speaker
}

/// Active since its Active_Down_Timer fired, with the time of that.
fn active(priority: u8) -> (Speaker, Time) {
    let mut speaker = backup(priority);
    let due = speaker.poll_timeout().expect("a backup has a timer");
    let actions = speaker.timeout(due);
    assert!(matches!(&actions[..], [Action::BecomeActive(_), Action::Send(_)]), "{actions:?}");
    (speaker, due)
}

fn sent(actions: &[Action]) -> Vec<u8> {
    let priority = |action: &Action| match action {
        Action::Send(advert) => Some(advert.priority),
        _ => None,
    };
    actions.iter().filter_map(priority).collect()
}

#[test]
fn at_start_the_owner_is_active_at_once_and_others_wait() {
    let mut owner = Speaker::new(settings(255));
    let actions = owner.start(Time::ZERO);
    assert_eq!(actions[0], Action::BecomeActive(Reason::Owner));
    assert_eq!(sent(&actions), [255]);
    assert_eq!(owner.poll_timeout(), Some(ms(1000)));
    // 3 x 1 s + 156/256 s.
    assert_eq!(backup(100).poll_timeout(), Some(Time(3_609_375_000)));
    assert!(owner.start(ms(1)).is_empty(), "a second start changes nothing");
}

#[test]
fn version_two_counts_in_whole_seconds_and_its_skew_does_not_follow_the_interval() {
    let two = |interval_cs| Speaker::new(Settings { version: Version::V2, interval_cs, ..settings(100) });
    // RFC 3768 section 6.1: (256 - 100) / 256 s, and three intervals.
    assert_eq!(two(500).skew(), Duration::from_nanos(609_375_000));
    assert_eq!(two(500).active_down_interval(), Duration::from_nanos(15_609_375_000));
    assert_eq!(two(150).settings().interval_cs, 100, "what the field cannot say");
    assert_eq!(two(30_000).settings().interval_cs, 25_500);
}

#[test]
fn each_version_is_deaf_to_the_other_and_version_two_keeps_its_own_interval() {
    let auth = Auth::Simple(*b"secret\0\0");
    let mut two = Speaker::new(Settings { version: Version::V2, auth, ..settings(100) });
    two.start(Time::ZERO);
    let due = two.poll_timeout();
    assert!(two.advert(ms(500), HIGH, &advert(200, 100)).is_empty());
    assert_eq!(two.poll_timeout(), due, "version 3 restarts no timer of version 2");
    let heard = Advertisement { version: Version::V2, ..advert(200, 300) };
    two.advert(ms(500), HIGH, &heard);
    assert_eq!(two.poll_timeout(), Some(Time(500_000_000 + 3_609_375_000)), "3 s are the other's business");
    let actions = two.timeout(two.poll_timeout().expect("a timer"));
    let [Action::BecomeActive(_), Action::Send(sent)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((sent.version, sent.auth), (Version::V2, auth));
}

#[test]
fn over_ipv6_the_higher_link_local_address_wins_among_equals_and_ipv4_is_nobody() {
    let six = |last: u16| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, last]);
    let addresses = vec![IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100])];
    let mut speaker =
        Speaker::new(Settings { source: six(5), addresses: addresses.clone(), ..settings(100) });
    speaker.start(Time::ZERO);
    let due = speaker.poll_timeout().expect("a timer");
    let said = speaker.timeout(due);
    let [Action::BecomeActive(_), Action::Send(sent)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(sent.addresses, addresses);
    let rival = Advertisement { addresses, ..advert(100, 100) };
    assert!(speaker.advert(due, HIGH, &rival).is_empty(), "another family is another virtual router");
    speaker.advert(due, six(4), &rival);
    assert_eq!(speaker.role(), Role::Active);
    let actions = speaker.advert(due, six(6), &rival);
    assert_eq!(actions[0], Action::BecomeStandby(Reason::HigherAddress(six(6))));
}

#[test]
fn a_configured_checksum_form_is_sent_whatever_is_heard() {
    let fixed = Some(ChecksumForm::PseudoHeader);
    let mut speaker = Speaker::new(Settings { checksum: fixed, ..settings(100) });
    speaker.start(Time::ZERO);
    speaker.advert(ms(1), HIGH, &advert(200, 100));
    let actions = speaker.timeout(speaker.poll_timeout().expect("a timer"));
    assert!(matches!(&actions[1], Action::Send(sent) if Some(sent.checksum) == fixed), "{actions:?}");
}

#[test]
fn a_backup_takes_over_when_its_timer_fires_and_not_before() {
    let mut speaker = backup(100);
    let due = speaker.poll_timeout().expect("a timer");
    assert!(speaker.timeout(due - Duration::from_nanos(1)).is_empty());
    let actions = speaker.timeout(due);
    let waited = Duration::from_nanos(3_609_375_000);
    assert_eq!(actions[0], Action::BecomeActive(Reason::Silence { last: None, waited }));
    assert_eq!(sent(&actions), [100]);
    assert_eq!(speaker.poll_timeout(), Some(due + Duration::from_secs(1)));
}

#[test]
fn a_backup_adopts_the_interval_of_the_active_router() {
    let mut speaker = backup(100);
    assert!(speaker.advert(ms(500), LOW, &advert(150, 5)).is_empty());
    // 3 x 50 ms + 156/256 x 50 ms = 180.46875 ms.
    assert_eq!(speaker.poll_timeout(), Some(ms(500) + Duration::from_nanos(180_468_750)));
    let due = speaker.poll_timeout().expect("a timer");
    let actions = speaker.timeout(due);
    let reason = Reason::Silence { last: Some(LOW), waited: Duration::from_nanos(180_468_750) };
    assert_eq!(actions[0], Action::BecomeActive(reason));
    let Action::Send(own) = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(own.interval_cs, 100, "as Active it advertises its own interval");
}

#[test]
fn an_interval_of_zero_says_nothing() {
    let mut speaker = backup(100);
    speaker.advert(ms(0), LOW, &advert(150, 0));
    assert_eq!(speaker.poll_timeout(), Some(Time(3_609_375_000)));
}

#[test]
fn a_backup_ignores_a_lower_priority_when_it_preempts() {
    let mut speaker = backup(100);
    let before = speaker.poll_timeout();
    assert!(speaker.advert(ms(3000), HIGH, &advert(99, 5)).is_empty());
    assert_eq!(speaker.poll_timeout(), before);
    let actions = speaker.timeout(before.expect("a timer"));
    assert_eq!(actions[0], Action::BecomeActive(Reason::Preempts { from: HIGH, priority: 99 }));
}

#[test]
fn a_backup_that_does_not_preempt_follows_a_lower_priority_unless_it_is_the_owner() {
    let mut speaker = Speaker::new(Settings { preempt: false, ..settings(100) });
    speaker.start(Time::ZERO);
    speaker.advert(ms(3000), LOW, &advert(1, 100));
    assert_eq!(speaker.poll_timeout(), Some(ms(3000) + Duration::from_nanos(3_609_375_000)));
    speaker.set_priority(ms(3000), 255);
    let before = speaker.poll_timeout();
    speaker.advert(ms(3001), LOW, &advert(1, 100));
    assert_eq!(speaker.poll_timeout(), before, "priority 255 preempts always");
}

#[test]
fn a_backup_with_a_delay_follows_a_lower_priority_for_so_long_and_then_preempts_it() {
    let preempt_delay = Duration::from_secs(10);
    let mut speaker = Speaker::new(Settings { preempt_delay, ..settings(100) });
    speaker.start(Time::ZERO);
    for second in 1..=10 {
        speaker.advert(ms(second * 1000), LOW, &advert(50, 100));
        assert_eq!(speaker.poll_timeout(), Some(ms(second * 1000) + speaker.active_down_interval()));
    }
    // A better one begins the time anew.
    speaker.advert(ms(10_500), HIGH, &advert(150, 100));
    for second in 11..=20 {
        speaker.advert(ms(second * 1000), LOW, &advert(50, 100));
    }
    let followed = ms(20_000) + speaker.active_down_interval();
    assert_eq!(speaker.poll_timeout(), Some(followed));
    speaker.advert(ms(21_000), LOW, &advert(50, 100));
    assert_eq!(speaker.poll_timeout(), Some(followed), "the delay is over: its timer runs out");
    let actions = speaker.timeout(followed);
    assert_eq!(actions[0], Action::BecomeActive(Reason::Preempts { from: LOW, priority: 50 }));
    // Silence is not waited for any longer than without a delay.
    let mut speaker = Speaker::new(Settings { preempt_delay, ..settings(100) });
    speaker.start(Time::ZERO);
    speaker.advert(ms(1000), LOW, &advert(50, 100));
    let due = speaker.poll_timeout().expect("a timer");
    assert_eq!(due, ms(1000) + speaker.active_down_interval());
    assert!(matches!(speaker.timeout(due)[0], Action::BecomeActive(Reason::Silence { .. })));
}

#[test]
fn a_resignation_leaves_a_backup_its_skew_time_only() {
    let mut speaker = backup(100);
    speaker.advert(ms(100), LOW, &advert(150, 10));
    assert!(speaker.advert(ms(200), LOW, &advert(0, 10)).is_empty());
    // 156/256 of the Active router's 100 ms.
    let due = ms(200) + Duration::from_nanos(60_937_500);
    assert_eq!(speaker.poll_timeout(), Some(due));
    assert_eq!(speaker.timeout(due)[0], Action::BecomeActive(Reason::Resigned(LOW)));
}

#[test]
fn an_active_router_advertises_steadily_and_resigns_when_it_stops() {
    let (mut speaker, start) = active(100);
    let late = Duration::from_millis(7);
    for n in 1..=3u32 {
        let due = start + Duration::from_secs(1) * n;
        assert_eq!(speaker.poll_timeout(), Some(due), "lateness does not add up");
        assert_eq!(sent(&speaker.timeout(due + late)), [100]);
    }
    let actions = speaker.stop("the operator's wish");
    assert_eq!(actions[0], Action::BecomeDown(Reason::Withdrawn("the operator's wish".into())));
    assert_eq!(sent(&actions), [0]);
    assert_eq!(speaker.poll_timeout(), None);
}

#[test]
fn a_backup_stops_without_a_word_on_the_wire() {
    let actions = backup(100).stop("x");
    assert_eq!(actions, [Action::BecomeDown(Reason::Withdrawn("x".into()))]);
    assert!(Speaker::new(settings(100)).stop("x").is_empty());
}

#[test]
fn an_active_router_answers_a_lower_claim_with_an_announcement_and_an_advert() {
    let (mut speaker, start) = active(100);
    let before = speaker.poll_timeout();
    let actions = speaker.advert(start + Duration::from_millis(100), HIGH, &advert(99, 100));
    assert_eq!(actions[0], Action::Announce);
    assert_eq!(sent(&actions), [100]);
    assert_eq!(speaker.role(), Role::Active);
    assert_eq!(speaker.poll_timeout(), before, "its Adver_Timer runs on");
}

#[test]
fn an_active_router_answers_a_resignation_and_restarts_its_timer() {
    let (mut speaker, start) = active(100);
    let now = start + Duration::from_millis(100);
    let actions = speaker.advert(now, HIGH, &advert(0, 100));
    assert_eq!(actions[0], Action::Announce);
    assert_eq!(sent(&actions), [100]);
    assert_eq!(speaker.poll_timeout(), Some(now + Duration::from_secs(1)));
}

#[test]
fn a_flood_of_claims_is_answered_once_in_ten_milliseconds_and_the_last_is_not_forgotten() {
    let (mut speaker, start) = active(100);
    let mut answers = 0;
    for step in 0..1000u32 {
        let now = start + Duration::from_micros(100) * step;
        answers += sent(&speaker.advert(now, LOW, &advert(99, 100))).len();
        answers += sent(&speaker.timeout(now)).len();
    }
    assert_eq!(answers, 10, "in 100 ms");
    let end = start + Duration::from_millis(100);
    assert_eq!(speaker.poll_timeout(), Some(end));
    assert_eq!(speaker.timeout(end)[0], Action::Announce);
    assert_eq!(speaker.poll_timeout(), Some(start + Duration::from_secs(1)));
}

#[test]
fn an_active_router_gives_way_to_a_higher_priority_and_repeats_its_claim() {
    let (mut speaker, start) = active(100);
    let now = start + Duration::from_millis(100);
    let actions = speaker.advert(now, LOW, &advert(101, 5));
    assert_eq!(actions[0], Action::BecomeStandby(Reason::Higher { to: LOW, priority: 101 }));
    assert_eq!(sent(&actions), [100]);
    assert_eq!(speaker.poll_timeout(), Some(now + Duration::from_nanos(180_468_750)));
}

#[test]
fn what_the_giver_said_before_it_heard_its_heir_is_no_claim() {
    let mut heir = backup(100);
    let taken = ms(2_000);
    heir.advert(ms(1_900), LOW, &advert(150, 100));
    let actions = heir.take(taken, LOW);
    assert_eq!(actions[0], Action::BecomeActive(Reason::Inherits(LOW)));
    // It was sent when the heir's first advert was under way.
    assert_eq!(heir.advert(taken + Duration::from_micros(400), LOW, &advert(150, 100)), []);
    assert_eq!(heir.role(), Role::Active);
    // A better one from elsewhere is one; and whoever goes on after that has not let go.
    let mut other = heir.clone();
    assert_eq!(other.advert(taken + Duration::from_millis(1), HIGH, &advert(150, 100)).len(), 2);
    assert_eq!(other.role(), Role::Standby);
    heir.advert(taken + CROSSING_MAX, LOW, &advert(150, 100));
    assert_eq!(heir.role(), Role::Standby);
}

#[test]
fn between_equal_priorities_the_higher_address_wins() {
    let (mut speaker, start) = active(100);
    let answered = speaker.advert(start, LOW, &advert(100, 100));
    assert_eq!(sent(&answered), [100]);
    assert_eq!(speaker.role(), Role::Active);
    let own = speaker.advert(start + Duration::from_millis(50), OWN, &advert(100, 100));
    assert_eq!(sent(&own), [100], "a copy of our own address does not win");
    let actions = speaker.advert(start + Duration::from_millis(100), HIGH, &advert(100, 100));
    assert_eq!(actions[0], Action::BecomeStandby(Reason::HigherAddress(HIGH)));
}

#[test]
fn a_changed_priority_is_told_at_once_and_moves_the_skew_of_a_running_timer() {
    let (mut speaker, start) = active(200);
    assert_eq!(sent(&speaker.set_priority(start, 50)), [50]);
    assert!(speaker.set_priority(start, 50).is_empty());
    let mut waiting = backup(100);
    waiting.set_priority(ms(100), 200);
    assert_eq!(waiting.poll_timeout(), Some(Time(3_218_750_000)), "3 s + 56/256 s since the start");
}

#[test]
fn an_active_router_that_was_frozen_listens_for_one_interval_before_it_claims_anything() {
    let (mut speaker, start) = active(100);
    let due = start + Duration::from_secs(1);
    let mut in_time = speaker.clone();
    assert_eq!(sent(&in_time.timeout(due + Duration::from_nanos(3_609_375_000))), [100], "late, not frozen");

    let woke = due + Duration::from_nanos(3_609_375_001);
    assert!(speaker.timeout(woke).is_empty());
    assert_eq!(speaker.poll_timeout(), Some(woke + Duration::from_secs(1)));
    let mut alone = speaker.clone();
    let actions = alone.timeout(woke + Duration::from_secs(1));
    assert_eq!(actions[0], Action::Announce, "nobody took over: it goes on, and says so to the hosts");
    assert_eq!(sent(&actions), [100]);
    assert_eq!(alone.role(), Role::Active);
    assert_eq!(sent(&alone.timeout(woke + Duration::from_secs(2))), [100]);

    let actions = speaker.advert(woke + Duration::from_millis(500), LOW, &advert(50, 100));
    let late = Duration::from_nanos(3_609_375_001);
    assert_eq!(
        actions[0],
        Action::BecomeStandby(Reason::Stalled { late }),
        "somebody took over, whoever it is"
    );
    assert_eq!(sent(&actions), [0]);
}

#[test]
fn a_busy_machine_is_no_freeze_however_short_the_interval() {
    let mut speaker = Speaker::new(Settings { interval_cs: 1, ..settings(100) });
    speaker.start(Time::ZERO);
    let start = speaker.poll_timeout().expect("a timer");
    speaker.timeout(start);
    let late = speaker.poll_timeout().expect("a timer") + STALL_MIN;
    assert_eq!(sent(&speaker.clone().timeout(late)), [100]);
    let answer = speaker.clone().advert(late, LOW, &advert(50, 1));
    assert_eq!(sent(&answer), [100], "who took over hastily gives it back at once");
    assert!(speaker.timeout(late + Duration::from_nanos(1)).is_empty(), "frozen");
}

#[test]
fn a_new_priority_is_no_claim_while_a_router_that_was_frozen_listens() {
    let (mut speaker, start) = active(100);
    speaker.frozen(start, Duration::from_secs(9));
    assert!(speaker.set_priority(start, 120).is_empty());
    assert_eq!(speaker.listens(), Some(Duration::from_secs(9)));
    assert_eq!(sent(&speaker.timeout(start + Duration::from_secs(1))), [120]);
    assert_eq!(speaker.listens(), None);
}

#[test]
fn a_resignation_in_the_queue_does_not_end_the_term_of_a_router_that_was_frozen() {
    let (mut speaker, start) = active(100);
    let actions = speaker.advert(start + Duration::from_secs(60), LOW, &advert(0, 100));
    assert_eq!(speaker.role(), Role::Active, "{actions:?}");
}

#[test]
fn a_frozen_active_router_gives_way_also_if_an_advert_is_read_before_the_timer() {
    let (mut speaker, start) = active(100);
    let actions = speaker.advert(start + Duration::from_secs(60), LOW, &advert(50, 100));
    assert!(matches!(actions[0], Action::BecomeStandby(Reason::Stalled { .. })), "{actions:?}");
    assert_eq!(speaker.role(), Role::Standby);
}

#[test]
fn a_frozen_backup_waits_once_more() {
    let mut speaker = backup(100);
    let actions = speaker.timeout(ms(60_000));
    assert!(matches!(&actions[..], [Action::BecomeStandby(Reason::Stalled { .. })]), "{actions:?}");
    assert_eq!(speaker.poll_timeout(), Some(ms(60_000) + Duration::from_nanos(3_609_375_000)));
}

#[test]
fn adverts_of_other_routers_and_versions_change_nothing() {
    let (mut speaker, start) = active(100);
    let other = Advertisement { vrid: 52, ..advert(200, 1) };
    assert!(speaker.advert(start, HIGH, &other).is_empty());
    let old = Advertisement { version: Version::V2, ..advert(200, 100) };
    assert!(speaker.advert(start, HIGH, &old).is_empty());
    assert_eq!(speaker.role(), Role::Active);
}

#[test]
fn adverts_go_out_with_the_checksum_form_that_was_heard() {
    let (mut speaker, start) = active(100);
    let form = |actions: &[Action]| match actions.last() {
        Some(Action::Send(advert)) => advert.checksum,
        other => panic!("{other:?}"),
    };
    assert_eq!(form(&speaker.clone().stop("x")), ChecksumForm::PseudoHeader);
    speaker.advert(start, LOW, &advert(50, 100));
    assert_eq!(form(&speaker.stop("x")), ChecksumForm::Message);
}

#[derive(Clone, Debug)]
enum Input {
    Start,
    Stop,
    Advert { source: u8, priority: u8, interval_cs: u16 },
    Timeout,
    Priority(u8),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        2 => Just(Input::Start),
        1 => Just(Input::Stop),
        6 => (1u8..10, any::<u8>(), 0u16..=4095).prop_map(|(source, priority, interval_cs)| {
            Input::Advert { source, priority, interval_cs }
        }),
        6 => Just(Input::Timeout),
        1 => (1u8..=255).prop_map(Input::Priority),
    ]
}

/// The RFC's arithmetic in whole centiseconds.
fn rfc_skew_cs(priority: u8, interval_cs: u16) -> u64 {
    (256 - u64::from(priority)) * u64::from(interval_cs) / 256
}

/// What the RFC demands of the timer of a Backup after an advert; `None` if it must stay as it was.
fn expected_timer_cs(own: u8, preempt: bool, adopted_cs: u16, heard: &Advertisement) -> Option<u64> {
    let told = if heard.interval_cs == 0 { 100 } else { heard.interval_cs };
    match heard.priority {
        0 => Some(rfc_skew_cs(own, adopted_cs)),
        lower if (preempt || own == 255) && lower < own => None,
        _ => Some(3 * u64::from(told) + rfc_skew_cs(own, told)),
    }
}

proptest! {
    /// Each role has one announcement that leads to it, whatever comes in; time never wakes it without need; and the
    /// timers of a Backup are the RFC's to the centisecond.
    #[test]
    fn any_sequence_keeps_one_role_and_the_rfcs_timers(
        own in 1u8..=255,
        preempt: bool,
        inputs in prop::collection::vec((0u64..6_000, input()), 1..60),
    ) {
        let mut speaker = Speaker::new(Settings { preempt, ..settings(own) });
        let (mut now, mut role) = (Time::ZERO, Role::Down);
        for (wait_ms, input) in inputs {
            now = now + Duration::from_millis(wait_ms);
            let before = speaker.clone();
            let stalled = before.poll_timeout()
                .is_some_and(|due| now.since(due) > before.active_down_interval().max(STALL_MIN));
            let actions = match &input {
                Input::Start => speaker.start(now),
                Input::Stop => speaker.stop("test"),
                Input::Timeout => speaker.timeout(now),
                Input::Priority(priority) => speaker.set_priority(now, *priority),
                Input::Advert { source, priority, interval_cs } => {
                    let source = four(*source);
                    let heard = advert(*priority, *interval_cs);
                    let actions = speaker.advert(now, source, &heard);
                    if before.role() == Role::Standby && !stalled {
                        let adopted_cs = (before.active_interval.as_millis() / 10) as u16;
                        let own = before.settings.priority;
                        match expected_timer_cs(own, preempt, adopted_cs, &heard) {
                            None => prop_assert_eq!(speaker.poll_timeout(), before.poll_timeout()),
                            Some(cs) => {
                                let runs = speaker.poll_timeout().expect("a timer").since(now);
                                prop_assert_eq!((runs.as_millis() / 10) as u64, cs);
                            }
                        }
                        prop_assert!(actions.is_empty());
                    }
                    actions
                }
            };
            let mut changes = 0;
            for action in &actions {
                let next = match action {
                    Action::BecomeActive(_) => Role::Active,
                    Action::BecomeStandby(_) => Role::Standby,
                    Action::BecomeDown(_) => Role::Down,
                    Action::Announce => { prop_assert_eq!(role, Role::Active); continue }
                    Action::Send(_) => { prop_assert!(role == Role::Active || before.role() == Role::Active); continue }
                };
                changes += 1;
                role = next;
            }
            prop_assert!(changes <= 1, "{:?}", actions);
            prop_assert_eq!(role, speaker.role());
            prop_assert_eq!(speaker.poll_timeout().is_none(), role == Role::Down);
            if matches!(input, Input::Timeout) && before.poll_timeout().is_none_or(|due| now < due) {
                prop_assert!(actions.is_empty());
                prop_assert_eq!(speaker.poll_timeout(), before.poll_timeout());
            }
            if matches!(input, Input::Timeout) {
                prop_assert!(speaker.poll_timeout().is_none_or(|due| due > now), "the driver would spin");
            }
        }
    }
}
