//! Which settings go together.

use std::net::IpAddr;

use super::*;

fn settings(name: &str, address: [u8; 4], id: u8) -> VipSettings {
    VipSettings::new(name, "eth0", Protocol::Vrrp3, id, vec![IpAddr::from(address)])
}

#[test]
fn two_that_would_disturb_each_other_are_not_handled_together() {
    let www = settings("www", [192, 0, 2, 100], 51);
    let reason = |other: &VipSettings| conflict(other, &www).unwrap_or_default();
    assert!(reason(&settings("www", [192, 0, 2, 101], 52)).contains("of this name"));
    assert!(
        reason(&settings("mail", [192, 0, 2, 100], 52)).contains("`www` has the address 192.0.2.100 on eth0")
    );
    assert!(reason(&settings("mail", [192, 0, 2, 101], 51)).contains("`www` has the identifier 51 on eth0"));
    let version_2 = VipSettings { protocol: Protocol::Vrrp2, ..settings("mail", [192, 0, 2, 101], 51) };
    assert!(reason(&version_2).contains("identifier 51"), "the versions share their numbers");
}

#[test]
fn two_on_one_interface_and_one_on_two_interfaces_go_together() {
    let www = settings("www", [192, 0, 2, 100], 51);
    let mail = settings("mail", [192, 0, 2, 101], 52);
    assert_eq!(conflict(&mail, &www), None);
    let elsewhere = VipSettings { name: "inner".into(), interface: "eth1".into(), ..www.clone() };
    assert_eq!(conflict(&elsewhere, &www), None);
    let v6 = VipSettings {
        name: "six".into(),
        addresses: vec![IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 5, 1])],
        ..www.clone()
    };
    assert_eq!(conflict(&v6, &www), None);
}
