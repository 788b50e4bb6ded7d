//! What the configuration check is told. The driver at work is tested in `tests/vip.rs`, in network namespaces.

use super::*;

fn settings() -> VipSettings {
    VipSettings::new("www", "eth0", Protocol::Vrrp3, 51, vec![IpAddr::from([192, 0, 2, 100])])
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn what_can_be_held_is_supported_at_both_ends_of_the_interval() {
    let six = VipSettings { addresses: addresses(&["fe80::100", "2001:db8::100"]), ..settings() };
    for ms in [10, 50, 40_950] {
        let interval = Duration::from_millis(ms);
        assert_eq!(supported(&VipSettings { interval, ..settings() }), Ok(()));
        assert_eq!(supported(&VipSettings { interval, ..six.clone() }), Ok(()));
    }
    for seconds in [1, 255] {
        let two = VipSettings { protocol: Protocol::Vrrp2, ..settings() };
        assert_eq!(supported(&VipSettings { interval: Duration::from_secs(seconds), ..two }), Ok(()));
    }
}

#[test]
fn carp_is_held_with_a_password_and_watched_without() {
    let case = VipSettings { protocol: Protocol::Carp, ..settings() };
    let why = supported(&case).expect_err("hold");
    assert!(why.contains("password") && !why.ends_with('.'), "{why}");
    assert_eq!(supported(&VipSettings { password: Some("secret".into()), ..case.clone() }), Ok(()));
    assert_eq!(supported(&VipSettings { mode: Mode::Watch, ..case }), Ok(()));
}

#[test]
fn nonsense_is_refused_with_what_would_be_right() {
    let with = |texts: &[&str]| VipSettings { addresses: addresses(texts), ..settings() };
    let cases = [
        (VipSettings { id: 0, ..settings() }, "1 to 255"),
        (VipSettings { priority: 0, ..settings() }, "1 to 254"),
        (VipSettings { interval: Duration::ZERO, ..settings() }, "10 ms"),
        (VipSettings { interval: Duration::from_millis(15), ..settings() }, "steps of 10 ms"),
        (VipSettings { interval: Duration::from_millis(40_960), ..settings() }, "40.95 s"),
        (VipSettings { interval: Duration::MAX, ..settings() }, "40.95 s"),
        (
            VipSettings { protocol: Protocol::Vrrp2, interval: Duration::from_millis(100), ..settings() },
            "whole",
        ),
        (VipSettings { protocol: Protocol::Vrrp2, interval: Duration::from_secs(256), ..settings() }, "255"),
        (VipSettings { interface: "a-name-of-sixteen".into(), ..settings() }, "name of an interface"),
        (VipSettings { priority: 255, sync_group: Some("edge".into()), ..settings() }, "1 to 254"),
        (VipSettings { mode: Mode::Watch, sync_group: Some("edge".into()), ..settings() }, "another daemon"),
        (with(&["192.0.2.100", "224.0.0.18"]), "224.0.0.18 cannot be a virtual"),
        (with(&[]), "no virtual address"),
        (with(&["192.0.2.100", "2001:db8::100"]), "two families"),
        (with(&["192.0.2.100", "192.0.2.101", "192.0.2.100"]), "192.0.2.100 is there twice"),
        (with(&["10.0.0.1"; ADDRESSES_MAX + 1]), "21 addresses"),
    ];
    for (case, hint) in cases {
        let why = supported(&case).expect_err("nonsense");
        assert!(why.contains(hint), "{why}");
    }
}
