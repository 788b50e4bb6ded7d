use proptest::prelude::*;

use super::*;
use crate::vip::speaker::CROSSING_MAX;

const ADDRESS: IpAddr = four(100);
const LOW: IpAddr = four(1);
const OWN: IpAddr = four(5);
const HIGH: IpAddr = four(9);

const fn four(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, last))
}

fn settings(advskew: u8) -> Settings {
    Settings {
        vhid: 51,
        addresses: vec![ADDRESS],
        source: OWN,
        advbase: 1,
        advskew,
        preempt: true,
        preempt_delay: Duration::ZERO,
        password: "secret".into(),
        counter: 7,
    }
}

fn advert(demote: u8, advbase: u8, advskew: u8) -> Advertisement {
    Advertisement { vhid: 51, advskew, authlen: AUTHLEN, demote, advbase, counter: 1, hmac: [0; 20] }
}

fn ms(count: u64) -> Time {
    Time(count * 1_000_000)
}

fn backup(settings: Settings) -> Speaker {
    let mut speaker = Speaker::new(settings);
    assert_eq!(speaker.start(Time::ZERO), [Action::BecomeStandby(Reason::Started)]);
    speaker
}

fn master(settings: Settings) -> (Speaker, Time) {
    let mut speaker = backup(settings);
    let due = speaker.poll_timeout().expect("a timer");
    speaker.timeout(due);
    assert_eq!(speaker.role(), Role::Active);
    (speaker, due)
}

fn sent(actions: &[Action]) -> Vec<(u8, u8)> {
    let ranks = actions.iter().filter_map(|action| match action {
        Action::Send(advert) => Some((advert.advbase, advert.advskew)),
        _ => None,
    });
    ranks.collect()
}

#[test]
fn what_the_giver_said_before_it_heard_its_heir_is_no_claim() {
    let mut heir = backup(settings(128));
    let taken = ms(2_000);
    heir.advert(ms(1_900), LOW, &advert(0, 1, 0));
    assert_eq!(heir.take(taken, LOW)[0], Action::BecomeActive(Reason::Inherits(LOW)));
    assert_eq!(heir.advert(taken + Duration::from_micros(400), LOW, &advert(0, 1, 0)), []);
    assert_eq!(heir.role(), Role::Active);
    heir.advert(taken + CROSSING_MAX, LOW, &advert(0, 1, 0));
    assert_eq!(heir.role(), Role::Standby);
}

#[test]
fn a_backup_waits_three_times_its_own_advbase_and_its_own_skew() {
    let mut speaker = backup(settings(128));
    let due = ms(3_500);
    assert_eq!(speaker.poll_timeout(), Some(due));
    assert!(speaker.timeout(due - Duration::from_nanos(1)).is_empty());
    let actions = speaker.timeout(due);
    let silence = Reason::Silence { last: None, waited: Duration::from_millis(3_500) };
    assert_eq!(actions[0], Action::BecomeActive(silence));
    assert_eq!(sent(&actions), [(1, 128)]);
    assert_eq!(speaker.poll_timeout(), Some(due + Duration::from_millis(1_500)));
    let mut heard = backup(settings(128));
    heard.advert(ms(1_000), HIGH, &advert(0, 2, 0));
    heard.advert(ms(2_000), HIGH, &advert(0, 1, 0));
    assert_eq!(heard.poll_timeout(), Some(ms(5_500)), "the other's values do not count");
}

#[test]
fn adverts_are_signed_and_no_counter_is_used_twice() {
    let (mut speaker, mut now) = master(settings(0));
    let mut last = 8;
    for _ in 0..5 {
        now = speaker.poll_timeout().expect("a timer");
        let actions = speaker.timeout(now);
        let [Action::Send(advert)] = &actions[..] else { panic!("{actions:?}") };
        assert!(advert.verify("secret", &[ADDRESS]) && !advert.verify("other", &[ADDRESS]));
        assert_eq!(advert.counter, last + 1);
        last = advert.counter;
    }
    let bow = speaker.stop("it is stopped");
    let [Action::BecomeDown(_), Action::Send(advert)] = &bow[..] else { panic!("{bow:?}") };
    assert!(advert.is_resignation() && advert.verify("secret", &[ADDRESS]));
    assert_eq!((speaker.poll_timeout(), now > Time::ZERO), (None, true));
}

#[test]
fn a_worse_master_is_replaced_at_once_with_preempt_and_followed_without() {
    let worse = advert(0, 1, 200);
    let mut speaker = backup(settings(100));
    let actions = speaker.advert(ms(10), HIGH, &worse);
    assert!(
        matches!(actions[0], Action::BecomeActive(Reason::PreemptsRank { from: HIGH, .. })),
        "{actions:?}"
    );
    let mut modest = backup(Settings { preempt: false, ..settings(100) });
    assert!(modest.advert(ms(10), HIGH, &worse).is_empty());
    assert_eq!(modest.poll_timeout(), Some(ms(10) + modest.down_interval()));
    // One that demotes itself, as OpenBSD does, wants to be replaced.
    assert_eq!(modest.advert(ms(20), HIGH, &advert(1, 1, 0)).len(), 2);
    assert_eq!(modest.role(), Role::Active);
}

#[test]
fn a_backup_with_a_delay_follows_a_worse_host_for_so_long_but_not_one_that_demotes_itself() {
    let with_delay = Settings { preempt_delay: Duration::from_secs(10), ..settings(100) };
    let mut speaker = backup(with_delay.clone());
    for second in 1..=10 {
        assert!(speaker.advert(ms(second * 1000), HIGH, &advert(0, 1, 200)).is_empty());
    }
    assert_eq!(speaker.advert(ms(11_000), HIGH, &advert(0, 1, 200)).len(), 2);
    assert_eq!(speaker.role(), Role::Active);
    let mut speaker = backup(with_delay);
    assert_eq!(speaker.advert(ms(1000), HIGH, &advert(1, 1, 0)).len(), 2);
}

#[test]
fn a_bow_out_and_a_host_that_is_too_slow_are_not_waited_for() {
    let mut speaker = backup(Settings { preempt: false, ..settings(100) });
    let actions = speaker.advert(ms(10), LOW, &advert(0, 255, 255));
    assert_eq!(actions[0], Action::BecomeActive(Reason::Resigned(LOW)));
    let mut speaker = backup(Settings { preempt: false, ..settings(100) });
    assert!(speaker.advert(ms(10), LOW, &advert(0, 3, 0)).is_empty());
    let actions = speaker.advert(ms(20), LOW, &advert(0, 4, 0));
    assert!(matches!(actions[0], Action::BecomeActive(Reason::TooSlow { from: LOW, .. })), "{actions:?}");
}

#[test]
fn a_master_gives_way_to_a_better_one_and_between_equals_to_the_lower_address() {
    for (source, heard, gives_way) in [
        (HIGH, advert(0, 1, 99), true),
        (HIGH, advert(0, 1, 100), false),
        (LOW, advert(0, 1, 100), true),
        (LOW, advert(0, 1, 101), false),
        (LOW, advert(1, 1, 0), false),
        (LOW, advert(0, 2, 0), false),
    ] {
        let (mut speaker, now) = master(settings(100));
        let actions = speaker.advert(now + Duration::from_millis(50), source, &heard);
        assert_eq!(speaker.role() == Role::Standby, gives_way, "{heard:?}");
        // The last word of the loser comes after the address is gone; the winner announces.
        match gives_way {
            true => assert!(matches!(actions[..], [Action::BecomeStandby(_), Action::Send(_)])),
            false => assert!(matches!(actions[..], [Action::Announce, Action::Send(_)])),
        }
    }
}

#[test]
fn a_flood_of_claims_is_answered_at_a_bounded_rate_and_not_forgotten() {
    let (mut speaker, now) = master(settings(100));
    let claim = advert(0, 1, 200);
    assert_eq!(speaker.advert(now, HIGH, &claim).len(), 2);
    for _ in 0..100 {
        assert!(speaker.advert(now, HIGH, &claim).is_empty());
    }
    let due = speaker.poll_timeout().expect("an answer is owed");
    assert_eq!(due, now + ANSWER_SPACING);
    assert!(matches!(speaker.timeout(due)[..], [Action::Announce, Action::Send(_)]));
}

#[test]
fn who_was_frozen_as_master_listens_and_gives_way_to_whoever_claims() {
    let (mut speaker, now) = master(settings(0));
    let late = now + Duration::from_secs(60);
    assert!(speaker.timeout(late).is_empty());
    assert!(speaker.listens().is_some());
    let mut alone = speaker.clone();
    let actions = speaker.advert(late, HIGH, &advert(0, 1, 250));
    assert!(matches!(actions[..], [Action::BecomeStandby(Reason::Stalled { .. }), Action::Send(_)]));
    assert_eq!(sent(&actions), [(255, 255)]);
    let actions = alone.timeout(alone.poll_timeout().expect("a timer"));
    assert!(matches!(actions[..], [Action::Announce, Action::Send(_)]), "nobody took over: {actions:?}");
}

#[test]
fn a_priority_becomes_an_advskew_that_orders_the_same_way() {
    assert_eq!([255, 254, 150, 100, 1, 0].map(advskew_of), [0, 0, 104, 154, 253, 254]);
}

proptest! {
    /// Any two hosts, any ranks: an order of minutes later exactly one is master, the better one if it preempts.
    #[test]
    fn of_two_hosts_exactly_one_is_master_in_the_end(
        skews in any::<[u8; 2]>(), bases in [1u8..4, 1u8..4], preempt: bool, starts in [0u64..9_000, 0u64..9_000],
    ) {
        let make = |n: usize| {
            let (advskew, advbase) = (skews[n], bases[n]);
            Speaker::new(Settings { source: four(n as u8 + 1), advbase, preempt, ..settings(advskew) })
        };
        let mut hosts = [make(0), make(1)];
        let mut masters = 0;
        for step in 0..12_000u64 {
            let now = ms(step * 10);
            for n in 0..2 {
                let mut said = if step * 10 >= starts[n] { hosts[n].start(now) } else { Vec::new() };
                said.extend(hosts[n].timeout(now));
                for _ in 0..8 {
                    let heard: Vec<Advertisement> = said.iter().filter_map(|action| match action {
                        Action::Send(advert) => Some(*advert),
                        _ => None,
                    }).collect();
                    // Answers to answers die out; the two speak in turn.
                    said = heard.iter().flat_map(|advert| {
                        hosts[1 - n].advert(now, four(n as u8 + 1), advert)
                    }).collect();
                    let back: Vec<Advertisement> = said.iter().filter_map(|action| match action {
                        Action::Send(advert) => Some(*advert),
                        _ => None,
                    }).collect();
                    said = back.iter().flat_map(|advert| hosts[n].advert(now, four(2 - n as u8), advert)).collect();
                }
            }
            if step > 6_000 {
                masters = hosts.iter().filter(|host| host.role() == Role::Active).count();
                prop_assert_eq!(masters, 1, "at {:?}", now);
            }
        }
        prop_assert_eq!(masters, 1);
        let slow = bases[0].max(bases[1]) > 3 * bases[0].min(bases[1]);
        if preempt && !slow {
            let rank = |n: usize| (bases[n], skews[n].min(254));
            // Of two that are equal, the first to be master stays it.
            if rank(0) != rank(1) {
                let best = usize::from(rank(1) < rank(0));
                prop_assert_eq!(hosts[best].role(), Role::Active);
            }
        }
    }
}
