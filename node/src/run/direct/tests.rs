use super::*;

fn vip(role: Role) -> VipView {
    VipView { role, ..crate::control::tests::fake::vip() }
}

fn word(entry: &Entry) -> &str {
    match entry {
        Entry::Serves(..) => "serves",
        Entry::Waits(reason) | Entry::Fails(reason) => reason,
    }
}

#[test]
fn only_the_holder_of_the_virtual_address_serves() {
    let www = Place::Vip("www".to_owned());
    let at = |views: &[VipView]| place(&www, views, || false).map_err(|entry| word(&entry).to_owned());
    assert_eq!(at(&[vip(Role::Active)]), Ok("eth0".to_owned()));
    for role in [Role::Standby, Role::Down] {
        assert!(at(&[vip(role)]).unwrap_err().contains("this node is not it"), "{role:?}");
    }
    assert!(at(&[]).unwrap_err().contains("not set up"));
}

#[test]
fn an_interface_is_for_a_node_that_has_no_other_beside_it() {
    let eth1 = Place::Interface("eth1".to_owned());
    assert_eq!(place(&eth1, &[], || true).map_err(|_| ()), Ok("eth1".to_owned()));
    let refused = place(&eth1, &[], || false).unwrap_err();
    assert!(matches!(&refused, Entry::Fails(problem) if problem.contains("name a vip")), "{refused:?}");
}
