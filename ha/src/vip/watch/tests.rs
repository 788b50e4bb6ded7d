use std::time::Duration;

use cygnet_netlink::wire::vrrp::{Advertisement, Auth, ChecksumForm, Version};

use super::*;

const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 3;
const OWN: u8 = 9;
const VIP: u8 = 100;

fn ip(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn settings(protocol: Protocol) -> WatchSettings {
    let password = (protocol == Protocol::Carp).then(|| "secret".to_owned());
    let vip = VipSettings::new("www", "eth0", protocol, 51, vec![ip(VIP)]);
    WatchSettings { password, ..WatchSettings::of(&vip) }
}

fn watcher(protocol: Protocol) -> Watcher {
    let mut watcher = Watcher::new(vec![ip(OWN)], vec![settings(protocol)]);
    watcher.timeout(Time::ZERO);
    watcher
}

fn vrrp3(priority: u8) -> Advertisement {
    Advertisement {
        version: Version::V3,
        vrid: 51,
        priority,
        interval_cs: 100,
        addresses: vec![ip(VIP)],
        auth: Auth::None,
        checksum: ChecksumForm::PseudoHeader,
    }
}

fn vrrp2(priority: u8) -> Advertisement {
    Advertisement { version: Version::V2, checksum: ChecksumForm::Message, ..vrrp3(priority) }
}

fn carp(advskew: u8, counter: u64) -> carp::Advertisement {
    let (vhid, authlen, demote, advbase, hmac) = (51, carp::AUTHLEN, 0, 1, [0; 20]);
    let mut advertisement = carp::Advertisement { vhid, advskew, authlen, demote, advbase, counter, hmac };
    advertisement.sign("secret", &[ip(VIP)]).unwrap();
    advertisement
}

fn packet_from(source: IpAddr, payload: &[u8]) -> Vec<u8> {
    let packet =
        ip::Packet { source, destination: [224, 0, 0, 18].into(), hop_limit: 255, protocol: 112, payload };
    packet.emit(0xc0, &mut [0; 256]).unwrap().to_vec()
}

impl Watcher {
    fn hear(&mut self, ms: u64, from: u8, advertisement: &Advertisement) -> Heard {
        self.hear_from(ms, from, mac(from), advertisement)
    }

    fn hear_from(&mut self, ms: u64, from: u8, mac: Mac, advertisement: &Advertisement) -> Heard {
        let payload = advertisement.emit(ip(from), [224, 0, 0, 18].into());
        self.packet(at(ms), mac, &packet_from(ip(from), &payload))
    }

    fn hear_carp(&mut self, ms: u64, from: u8, mac: Mac, advertisement: &carp::Advertisement) -> Heard {
        self.packet(at(ms), mac, &packet_from(ip(from), &advertisement.emit()))
    }

    fn holder(&self) -> Option<IpAddr> {
        self.router(0).holder.map(|holder| holder.source)
    }
}

fn names(heard: &Heard) -> Vec<&'static str> {
    let anomalies = heard.events.iter().filter_map(|event| match event {
        WatchEvent::Anomaly { anomaly, .. } => Some(anomaly.name()),
        _ => None,
    });
    anomalies.collect()
}

#[test]
fn silence_from_the_start_is_said_once() {
    let mut watcher = Watcher::new(vec![], vec![settings(Protocol::Vrrp3)]);
    assert_eq!(watcher.poll_timeout(), Some(Time::ZERO));
    assert_eq!(watcher.timeout(at(500)), []);
    assert_eq!(watcher.poll_timeout(), Some(at(4500)));
    assert_eq!(watcher.timeout(at(4499)), []);
    let events = watcher.timeout(at(4500));
    assert_eq!(events, [WatchEvent::NothingHeard { router: 0 }]);
    assert!(events[0].to_string().contains("unicast"));
    assert_eq!(watcher.poll_timeout(), None);
}

#[test]
fn a_valid_advertisement_comes_out_as_it_was_sent() {
    let mut watcher = watcher(Protocol::Vrrp3);
    let heard = watcher.hear(10, A, &vrrp3(150));
    let message = Message::Vrrp(vrrp3(150));
    assert_eq!(heard.valid, Some(ValidAdvert { router: 0, source: ip(A), message }));
    let holder = Holder { source: ip(A), priority: 150, since: at(10), heard: at(10) };
    assert_eq!(watcher.router(0).holder, Some(holder));
    watcher.hear(1010, A, &vrrp3(150));
    assert_eq!(watcher.router(0).holder, Some(Holder { heard: at(1010), ..holder }));
    assert_eq!(watcher.router(0).valid, 2);
}

#[test]
fn the_deadline_is_that_of_the_best_backup_heard() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, B, &vrrp3(200));
    // Nobody else is known: a backup of priority 100 is assumed, skew 156/256 s.
    assert_eq!(watcher.poll_timeout(), Some(Time::ZERO + Duration::from_nanos(3_609_375_000)));
    watcher.hear(100, A, &vrrp3(250));
    // B is known now: skew 56/256 s.
    assert_eq!(watcher.poll_timeout(), Some(at(100) + Duration::from_nanos(3_218_750_000)));
}

#[test]
fn a_resignation_counts_only_from_the_one_who_holds() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    assert!(watcher.hear(10, C, &vrrp3(0)).events.is_empty());
    assert_eq!(watcher.holder(), Some(ip(A)));
    let heard = watcher.hear(20, A, &vrrp3(0));
    assert_eq!(heard.events, [WatchEvent::Resigned { router: 0, holder: ip(A) }]);
    assert_eq!(watcher.holder(), None);
    assert_eq!(watcher.poll_timeout(), None);
    let heard = watcher.hear(630, B, &vrrp3(100));
    let gap = Some(Duration::from_millis(610));
    assert_eq!(heard.events, [WatchEvent::Appeared { router: 0, holder: ip(B), priority: 100, gap }]);
}

#[test]
fn a_rival_takes_the_place_of_a_holder_that_resigns_or_lowers_itself() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    watcher.hear(100, B, &vrrp3(100));
    assert_eq!(watcher.router(0).rivals, [ip(B)]);
    let heard = watcher.hear(1000, A, &vrrp3(50));
    assert_eq!(heard.events.len(), 2, "{:?}", heard.events);
    assert_eq!((watcher.holder(), &watcher.router(0).rivals[..]), (Some(ip(B)), &[ip(A)][..]));
    let heard = watcher.hear(1100, B, &vrrp3(0));
    let (from, to) = (ip(B), ip(A));
    let change = Change::Resigned;
    assert_eq!(heard.events, [WatchEvent::Changed { router: 0, from, to, priority: 50, change }]);
    assert_eq!((watcher.holder(), watcher.router(0).rivals.len()), (Some(ip(A)), 0));
}

#[test]
fn the_last_word_of_a_preempted_holder_makes_no_second_holder() {
    for protocol in [Protocol::Vrrp3, Protocol::Vrrp2] {
        let mut watcher = watcher(protocol);
        let advert = |priority| if protocol == Protocol::Vrrp2 { vrrp2(priority) } else { vrrp3(priority) };
        watcher.hear(0, A, &advert(100));
        watcher.hear(300, B, &advert(150));
        assert_eq!(watcher.hear(301, A, &advert(100)).events, [], "its last word");
        assert_eq!((watcher.holder(), watcher.router(0).rivals.len()), (Some(ip(B)), 0));
        // The handover back, at once: the other one has a last word too.
        watcher.hear(400, A, &advert(200));
        assert_eq!(watcher.hear(401, B, &advert(150)).events, []);
        assert_eq!((watcher.holder(), watcher.router(0).rivals.len()), (Some(ip(A)), 0));
    }
}

#[test]
fn a_preempted_holder_that_goes_on_or_speaks_late_is_a_second_holder() {
    let second = WatchEvent::SecondHolder { router: 0, holder: ip(B), rival: ip(A) };
    let preempted = || {
        let mut watcher = watcher(Protocol::Vrrp3);
        watcher.hear(0, A, &vrrp3(100));
        watcher.hear(300, B, &vrrp3(150));
        watcher
    };
    let mut goes_on = preempted();
    assert_eq!(goes_on.hear(301, A, &vrrp3(100)).events, []);
    assert_eq!(goes_on.hear(302, A, &vrrp3(100)).events, std::slice::from_ref(&second), "two words");
    let mut late = preempted();
    late.hear(1300, B, &vrrp3(150));
    assert_eq!(late.hear(1301, A, &vrrp3(100)).events, std::slice::from_ref(&second));
    // One that speaks too often is not excused by the interval that it claims.
    let mut slow = preempted();
    slow.hear(1300, B, &vrrp3(150));
    let claim = Advertisement { interval_cs: 4095, ..vrrp3(100) };
    assert_eq!(slow.hear(1301, A, &claim).events[..1], [second]);
    // CARP has no last word: who goes on speaking goes on holding.
    let mut ucarp = watcher(Protocol::Carp);
    ucarp.hear_carp(0, A, mac(A), &carp(100, 1));
    ucarp.hear_carp(300, B, mac(B), &carp(0, 9));
    assert_eq!(ucarp.hear_carp(301, A, mac(A), &carp(100, 2)).events.len(), 1);
    // Somebody else has no last word.
    assert_eq!(preempted().hear(301, C, &vrrp3(100)).events.len(), 1);
}

#[test]
fn a_driver_that_comes_late_finds_the_same_state() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    watcher.hear(100, B, &vrrp3(100));
    let events = watcher.timeout(at(60_000));
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!((watcher.holder(), watcher.router(0).rivals.len()), (None, 0));
    assert_eq!(watcher.poll_timeout(), None);
}

#[test]
fn an_interval_of_zero_makes_no_timer_of_zero() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &Advertisement { interval_cs: 0, ..vrrp3(150) });
    assert!(watcher.poll_timeout().unwrap() > at(3000));
}

#[test]
fn another_mac_with_other_content_is_forged_while_the_sender_is_heard() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    for forged in [vrrp3(0), vrrp3(200), Advertisement { interval_cs: 4095, ..vrrp3(150) }] {
        let heard = watcher.hear_from(1000, A, mac(C), &forged);
        assert_eq!((heard.discarded, heard.valid), (Some(Reason::Spoof), None));
    }
    assert_eq!(watcher.router(0).discarded["spoof"], 3);
    // The sender itself may say what it likes.
    assert_eq!(watcher.hear(1100, A, &vrrp3(0)).discarded, None);
}

#[test]
fn the_same_content_from_another_mac_is_accepted_but_does_not_move_the_binding() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    for second in 1..=2 {
        let heard = watcher.hear_from(second * 1000, A, mac(C), &vrrp3(150));
        assert!(heard.valid.is_some());
    }
    assert_eq!(watcher.hear_from(2100, A, mac(C), &vrrp3(0)).discarded, Some(Reason::Spoof));
    // Its old MAC silent for the whole down interval, the new one is its own.
    assert!(watcher.hear_from(3000, A, mac(C), &vrrp3(150)).valid.is_some());
    assert!(watcher.hear_from(4000, A, mac(C), &vrrp3(150)).valid.is_some());
    assert!(watcher.hear_from(4100, A, mac(C), &vrrp3(0)).valid.is_some());
}

#[test]
fn our_own_address_as_source_changes_nothing_and_is_an_alert() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    let heard = watcher.hear(10, OWN, &vrrp3(255));
    assert_eq!(heard.discarded, Some(Reason::OwnSource));
    assert_eq!(heard.events[0].severity(), crate::events::Severity::Alert);
    assert_eq!(watcher.holder(), Some(ip(A)));
}

#[test]
fn version_2_is_checked_for_password_interval_and_addresses() {
    let with_password = WatchSettings { password: Some("s3cret".to_owned()), ..settings(Protocol::Vrrp2) };
    let mut watcher = Watcher::new(vec![], vec![with_password]);
    let right = Advertisement { auth: Auth::Simple(*b"s3cret\0\0"), ..vrrp2(150) };
    let cases = [
        (vrrp2(150), Some(Reason::AuthType)),
        (Advertisement { auth: Auth::Simple(*b"s3cret12"), ..vrrp2(150) }, Some(Reason::Password)),
        (Advertisement { auth: Auth::Other(2), ..vrrp2(150) }, Some(Reason::AuthType)),
        (Advertisement { interval_cs: 200, ..right.clone() }, Some(Reason::IntervalMismatch)),
        (Advertisement { addresses: vec![ip(101)], ..right.clone() }, Some(Reason::AddressMismatch)),
        (vrrp3(150), Some(Reason::VersionMismatch)),
        (right, None),
    ];
    for (advertisement, reason) in cases {
        assert_eq!(watcher.hear(0, A, &advertisement).discarded, reason, "{advertisement:?}");
    }
}

#[test]
fn a_counter_that_never_changes_is_no_replay() {
    let mut watcher = watcher(Protocol::Carp);
    for second in 0..10 {
        assert!(watcher.hear_carp(second * 1000, A, mac(A), &carp(0, 7)).valid.is_some());
    }
    // OpenBSD raises its skew when it is demoted; the counter stays.
    assert!(watcher.hear_carp(10_000, A, mac(A), &carp(200, 7)).valid.is_some());
}

#[test]
fn an_old_counter_is_a_replay_unless_it_follows_one_just_heard() {
    let mut watcher = watcher(Protocol::Carp);
    for (second, counter) in [900, 20, 21, 22].into_iter().enumerate() {
        assert!(watcher.hear_carp(second as u64 * 1000, A, mac(A), &carp(0, counter)).valid.is_some());
    }
    assert_eq!(watcher.hear_carp(3100, A, mac(A), &carp(0, 900)).discarded, Some(Reason::Replay));
    // ucarp adopts what it hears: after B's 19, A's 20 is in order, and then its own 21.
    assert!(watcher.hear_carp(3200, B, mac(B), &carp(100, 19)).valid.is_some());
    assert_eq!(watcher.hear_carp(3300, A, mac(C), &carp(0, 20)).discarded, Some(Reason::Replay));
    assert!(watcher.hear_carp(4000, A, mac(A), &carp(0, 20)).valid.is_some());
    assert!(watcher.hear_carp(5000, A, mac(A), &carp(0, 21)).valid.is_some());
}

#[test]
fn a_carp_packet_from_another_mac_is_refused_even_if_it_is_too_old_to_be_remembered() {
    let mut watcher = watcher(Protocol::Carp);
    for counter in 0..=COUNTERS_KEPT as u64 + 1 {
        watcher.hear_carp(counter * 1000, A, mac(A), &carp(0, counter));
    }
    let now = (COUNTERS_KEPT as u64 + 1) * 1000 + 500;
    assert_eq!(watcher.hear_carp(now, A, mac(C), &carp(0, 0)).discarded, Some(Reason::Spoof));
    assert_eq!(watcher.hear_carp(now, A, mac(C), &carp(0, 9)).discarded, Some(Reason::Replay));
}

#[test]
fn a_wrong_carp_password_is_discarded() {
    let mut watcher = watcher(Protocol::Carp);
    let mut advertisement = carp(0, 1);
    advertisement.sign("secrets", &[ip(VIP)]).unwrap();
    assert_eq!(watcher.hear_carp(0, A, mac(A), &advertisement).discarded, Some(Reason::Hmac));
}

#[test]
fn the_same_number_in_both_families_is_two_virtual_routers() {
    let v6: IpAddr = "fe80::5:1".parse().unwrap();
    let over_v6 = WatchSettings { addresses: vec![v6], ..settings(Protocol::Vrrp3) };
    let mut watcher = Watcher::new(vec![], vec![settings(Protocol::Vrrp3), over_v6]);
    watcher.hear(0, A, &vrrp3(150));
    let (source, destination) = ("fe80::1".parse().unwrap(), "ff02::12".parse().unwrap());
    let payload = Advertisement { addresses: vec![v6], ..vrrp3(100) }.emit(source, destination);
    let packet = ip::Packet { source, destination, hop_limit: 255, protocol: 112, payload: &payload };
    let heard = watcher.packet(at(1), mac(B), packet.emit(0, &mut [0; 128]).unwrap());
    assert_eq!(heard.valid.map(|valid| valid.router), Some(1));
    assert_eq!(watcher.holder(), Some(ip(A)));
    assert!(watcher.router(0).rivals.is_empty());
}

#[test]
fn unknown_virtual_routers_are_remembered_without_our_own_addresses() {
    let mut watcher = watcher(Protocol::Vrrp3);
    assert_eq!(watcher.heard_addresses().count(), 0);
    let unknown = Advertisement { vrid: 7, addresses: vec![ip(200), ip(OWN)], ..vrrp3(100) };
    let heard = watcher.hear(0, C, &unknown);
    assert_eq!(heard.discarded, Some(Reason::UnknownId));
    assert_eq!(names(&heard), ["unknown-id", "own-address-claimed"]);
    watcher.hear(0, A, &vrrp3(150));
    assert_eq!(watcher.heard_addresses().collect::<Vec<_>>(), [ip(VIP), ip(200)]);
}

#[test]
fn the_rhythm_is_that_of_the_holder_since_it_holds() {
    let mut watcher = watcher(Protocol::Vrrp3);
    for ms in [0, 1000, 2000, 4100] {
        watcher.hear(ms, B, &vrrp3(100));
    }
    let rhythm = watcher.router(0).rhythm;
    assert_eq!((rhythm.adverts, rhythm.missed, rhythm.longest.as_millis()), (4, 1, 2100));
    assert!(rhythm.jitter > Duration::from_millis(60), "{:?}", rhythm.jitter);
    watcher.hear(4200, A, &vrrp3(150));
    let rhythm = watcher.router(0).rhythm;
    assert_eq!((rhythm.adverts, rhythm.missed, rhythm.interval.as_millis()), (1, 0, 1000));
    // What is discarded has no part in it.
    watcher.hear_from(4900, A, mac(C), &vrrp3(0));
    assert_eq!(watcher.router(0).rhythm, rhythm);
}

#[test]
fn another_interval_is_named_and_counted_where_the_protocol_allows_it() {
    let mut watcher = watcher(Protocol::Vrrp3);
    let fast = Advertisement { interval_cs: 10, ..vrrp3(150) };
    let heard = watcher.hear(0, A, &fast);
    assert_eq!((heard.valid.is_some(), &names(&heard)[..]), (true, &["other-interval"][..]));
    assert_eq!(names(&watcher.hear(100, A, &fast)), [""; 0]);
    assert_eq!(watcher.router(0).anomalies.count("other-interval"), 2);
    assert!(watcher.hear(200, A, &Advertisement { priority: 0, ..fast }).events.len() == 1, "a resignation");
}

#[test]
fn each_anomaly_is_counted_where_it_belongs_however_rarely_it_is_reported() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    for n in 0..1000 {
        watcher.hear(n, OWN, &vrrp3(150));
        watcher.hear(n, C, &Advertisement { vrid: 7, ..vrrp3(150) });
    }
    watcher.hear(1000, B, &vrrp3(100));
    let of_router = &watcher.router(0).anomalies;
    assert_eq!((of_router.count("own-source"), of_router.count("second-holder")), (1000, 1));
    assert_eq!(watcher.anomalies().count("unknown-id"), 1000);
    let (name, tally) = watcher.anomalies().iter().last().unwrap();
    assert_eq!((name, tally.last, tally.event.name()), ("unknown-id", at(999), "unknown-id"));
}

fn arp(from: Mac, address: IpAddr) -> Vec<u8> {
    let IpAddr::V4(address) = address else { panic!("ARP is for IPv4") };
    cygnet_netlink::wire::arp::gratuitous_request(from, address)[14..].to_vec()
}

impl Watcher {
    fn hear_arp(&mut self, ms: u64, mac: Mac) -> Heard {
        self.packet(at(ms), mac, &arp(mac, ip(VIP)))
    }
}

#[test]
fn who_has_the_address_beside_the_holder_is_named_once_the_holder_speaks_again() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    assert_eq!(watcher.hear_arp(100, mac(A)).answered, Some((0, ip(VIP), mac(A))));
    assert_eq!(watcher.hear_arp(200, mac(C)).events, []);
    assert_eq!(names(&watcher.hear(1000, A, &vrrp3(150))), ["other-answers"]);
    let answers: Vec<(Mac, u64)> = watcher.router(0).answers.iter().map(|it| (it.mac, it.count)).collect();
    assert_eq!(answers, [(mac(A), 1), (mac(C), 1)]);
    assert_eq!(watcher.router(0).anomalies.count("other-answers"), 1);
    // A virtual MAC is everybody's.
    watcher.hear_arp(1100, Mac([0, 0, 0x5e, 0, 1, 51]));
    assert_eq!(names(&watcher.hear(2000, A, &vrrp3(150))), [""; 0]);
    // Other addresses are nobody's business.
    let heard = watcher.packet(at(2100), mac(C), &arp(mac(C), ip(77)));
    assert_eq!(heard, Heard::default());
}

#[test]
fn who_announces_and_then_takes_over_answers_for_nobody_else() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(100));
    watcher.hear_arp(900, mac(B));
    watcher.hear(901, B, &vrrp3(150));
    assert_eq!(names(&watcher.hear(1900, B, &vrrp3(150))), [""; 0]);
    // The one that was replaced goes on answering.
    watcher.hear_arp(2000, mac(A));
    assert_eq!(names(&watcher.hear(2900, B, &vrrp3(150))), ["other-answers"]);
}

#[test]
fn two_macs_that_answer_in_turn_are_named_where_adverts_come_from_a_virtual_mac() {
    let virtual_mac = Mac([0, 0, 0x5e, 0, 0, 51]);
    let mut watcher = watcher(Protocol::Carp);
    let mut counter = 0;
    let mut speak = |watcher: &mut Watcher, ms: u64| {
        counter += 1;
        watcher.hear_carp(ms, A, virtual_mac, &carp(0, counter));
    };
    speak(&mut watcher, 0);
    // Around a change of the holder the old one may announce late.
    assert_eq!(watcher.hear_arp(100, mac(A)).events, []);
    assert_eq!(watcher.hear_arp(200, mac(B)).events, []);
    (1..5).for_each(|second| speak(&mut watcher, second * 1000));
    assert_eq!(watcher.hear_arp(4100, mac(A)).events, []);
    assert_eq!(watcher.hear_arp(4200, mac(C)).events, []);
    assert_eq!(names(&watcher.hear_arp(4300, mac(A))), ["other-answers"]);
}

#[test]
fn a_flood_of_claims_is_bounded_and_moves_no_timer() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    let due = watcher.poll_timeout();
    for n in 0..5000_u32 {
        let [_, _, high, low] = n.to_be_bytes();
        watcher.hear_arp(1, Mac([2, 1, 0, 0, high, low]));
    }
    assert_eq!(watcher.router(0).answers.len(), ANSWERS_KEPT);
    assert_eq!(watcher.poll_timeout(), due);
    let malformed = watcher.packet(at(2), mac(C), &[0, 1, 8]);
    assert_eq!(malformed.discarded.map(Reason::name), Some("truncated"));
}

#[test]
fn memory_is_bounded_under_a_flood_and_the_holder_is_never_forgotten() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    for n in 0..2000_u32 {
        let [_, _, high, low] = n.to_be_bytes();
        let source = IpAddr::from([10, 9, high, low]);
        for vrid in [51, 52] {
            let addresses = if vrid == 51 { vec![ip(VIP)] } else { vec![[10, 8, high, low].into(); 255] };
            let advertisement = Advertisement { vrid, addresses, ..vrrp3(100) };
            let payload = advertisement.emit(source, [224, 0, 0, 18].into());
            let destination = [224, 0, 0, 18].into();
            let packet = ip::Packet { source, destination, hop_limit: 255, protocol: 112, payload: &payload };
            let mut buffer = [0; 1100];
            watcher.packet(at(1), mac(C), packet.emit(0, &mut buffer).unwrap());
        }
    }
    assert_eq!(watcher.holder(), Some(ip(A)));
    assert_eq!(watcher.router(0).rivals.len(), SENDERS_KEPT - 1);
    assert_eq!(watcher.router(0).valid, 2001);
    assert_eq!(watcher.strangers().len(), STRANGERS_KEPT);
    assert!(watcher.heard_addresses().count() <= STRANGERS_KEPT * STRANGER_ADDRESSES_KEPT + 1);
    assert_eq!(watcher.discarded()["unknown-id"], 2000);
    assert!(watcher.suppressed() > 3000);
}

#[test]
fn a_flood_of_anomalies_does_not_hide_a_change_of_the_holder() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    for n in 0..1000 {
        watcher.packet(at(1), mac(C), &[n as u8]);
    }
    let heard = watcher.hear(2, B, &vrrp3(200));
    assert!(matches!(heard.events[..], [WatchEvent::Changed { .. }]), "{:?}", heard.events);
}

#[test]
fn unchanged_virtual_routers_keep_their_state_when_others_are_configured() {
    let mut watcher = watcher(Protocol::Vrrp3);
    watcher.hear(0, A, &vrrp3(150));
    let other = WatchSettings { id: 52, ..settings(Protocol::Vrrp3) };
    watcher.configure(vec![ip(OWN)], vec![other.clone(), settings(Protocol::Vrrp3)]);
    assert_eq!(watcher.router(1).holder.map(|holder| holder.source), Some(ip(A)));
    assert_eq!(watcher.get(0), Some(&RouterView::default()));
    watcher.configure(vec![ip(OWN)], vec![other]);
    assert_eq!(watcher.get(1), None);
}

/// An advertisement to this node alone.
fn unicast(from: u8, hop_limit: u8) -> Vec<u8> {
    let (source, destination) = (ip(from), ip(OWN));
    let payload = vrrp3(150).emit(source, destination);
    let packet = ip::Packet { source, destination, hop_limit, protocol: 112, payload: &payload };
    packet.emit(0xc0, &mut [0; 256]).unwrap().to_vec()
}

#[test]
fn only_peers_are_heard_where_there_are_peers() {
    let with_peers = WatchSettings { peers: vec![ip(A), ip(OWN)], ..settings(Protocol::Vrrp3) };
    let mut watcher = Watcher::new(vec![ip(OWN)], vec![with_peers]);
    let heard = watcher.packet(at(10), mac(C), &unicast(C, 255));
    assert_eq!((heard.valid.is_some(), heard.discarded), (false, Some(Reason::NotAPeer)));
    assert_eq!((names(&heard), watcher.holder()), (vec!["not-a-peer"], None));
    assert!(heard.events.iter().any(|event| event.to_string().contains("from 192.0.2.3")));
    let claims_ours = watcher.packet(at(15), mac(C), &unicast(OWN, 255));
    assert_eq!(claims_ours.discarded, Some(Reason::OwnSource));
    assert!(watcher.packet(at(20), mac(A), &unicast(A, 64)).valid.is_some(), "from beyond a router");
    assert_eq!(watcher.holder(), Some(ip(A)));
}

#[test]
fn peers_may_have_to_be_near() {
    let near = WatchSettings { peers: vec![ip(A)], min_ttl: 254, ..settings(Protocol::Vrrp3) };
    let mut watcher = Watcher::new(vec![ip(OWN)], vec![near]);
    assert!(watcher.packet(at(10), mac(A), &unicast(A, 254)).valid.is_some());
    let far = watcher.packet(at(20), mac(A), &unicast(A, 253));
    assert_eq!((names(&far), far.discarded), (vec!["peer-ttl"], Some(Reason::PeerTtl)));
}

#[test]
fn without_peers_an_advertisement_to_a_single_address_needs_ttl_255() {
    let mut watcher = watcher(Protocol::Vrrp3);
    let far = watcher.packet(at(10), mac(A), &unicast(A, 254));
    assert_eq!(far.discarded, Some(Reason::Wire(Error::HopLimit)));
    assert!(watcher.packet(at(20), mac(A), &unicast(A, 255)).valid.is_some());
}

#[test]
fn address_lists_that_differ_are_named_with_the_addresses_that_differ() {
    let mut watcher = watcher(Protocol::Vrrp3);
    let heard = watcher.hear(10, A, &Advertisement { addresses: vec![ip(101), ip(102)], ..vrrp3(150) });
    assert_eq!((names(&heard), heard.discarded), (vec!["address-mismatch"], Some(Reason::AddressMismatch)));
    let said = heard.events[0].to_string();
    let differ =
        "only the sender has 192.0.2.101, 192.0.2.102; only this node has 192.0.2.100, from 192.0.2.1";
    assert!(said.ends_with(differ), "{said}");
    let heard = watcher.hear(20, B, &Advertisement { addresses: vec![ip(VIP), ip(VIP)], ..vrrp3(150) });
    assert!(!heard.events[0].to_string().contains("only"), "the same one twice: {:?}", heard.events);
}
