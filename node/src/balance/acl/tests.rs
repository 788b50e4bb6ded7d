use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::balance::attempt::Client;
use crate::balance::geo::tests::{database, network};

fn v4(permit: bool, address: &str, mask: &str) -> AclEntry {
    let who = AclMatch::V4 { address: address.parse().expect("address"), mask: mask.parse().expect("mask") };
    AclEntry { permit, who }
}

fn v6(permit: bool, address: &str, prefix: u8) -> AclEntry {
    AclEntry { permit, who: AclMatch::V6 { address: address.parse().expect("address"), prefix } }
}

fn country(permit: bool, code: &str) -> AclEntry {
    let code = code.as_bytes();
    AclEntry { permit, who: AclMatch::Country([code[0], code[1]]) }
}

fn acl(entries: Vec<AclEntry>) -> Acl {
    Acl { name: "list".to_owned(), entries }
}

/// The addresses among these that the list permits.
fn permitted(entries: &[AclEntry], clients: &[&'static str]) -> Vec<&'static str> {
    let list = AccessList::new(&acl(entries.to_vec()), Some(&places()));
    let may = |client: &&&str| list.permits(client.parse().expect("address"));
    clients.iter().filter(may).copied().collect()
}

/// 10.0.0.0/8 is in Sweden, 10.1.0.0/16 in Norway, 2001:db8::/32 in Sweden.
fn places() -> Arc<Countries> {
    let networks =
        [network("10.0.0.0/8", "SE"), network("10.1.0.0/16", "NO"), network("2001:db8::/32", "SE")];
    Arc::new(Countries::from_bytes("countries", database(&networks)).expect("a database"))
}

#[test]
fn an_empty_list_permits() {
    assert_eq!(permitted(&[], &["192.0.2.1", "::1"]), ["192.0.2.1", "::1"]);
}

#[test]
fn the_first_entry_that_fits_decides() {
    let entries = [
        v4(false, "192.0.2.1", "255.255.255.255"),
        v4(true, "192.0.2.0", "255.255.255.0"),
        v4(false, "192.0.2.2", "255.255.255.255"),
        v4(true, "0.0.0.0", "0.0.0.0"),
        v4(false, "0.0.0.0", "0.0.0.0"),
    ];
    assert_eq!(permitted(&entries, &["192.0.2.1", "192.0.2.2", "9.9.9.9"]), ["192.0.2.2", "9.9.9.9"]);
}

#[test]
fn if_none_fits_the_opposite_of_the_last_entry_holds_whatever_its_family() {
    let clients = &["192.0.2.1", "192.0.2.2", "2001:db8::1"];
    let one = v4(true, "192.0.2.1", "255.255.255.255");
    assert_eq!(permitted(std::slice::from_ref(&one), clients), ["192.0.2.1"]);
    assert_eq!(permitted(&[one.clone(), v6(false, "::1", 128)], clients), *clients);
    assert_eq!(permitted(&[one.clone(), v6(true, "::1", 128)], clients), ["192.0.2.1"]);
    assert_eq!(permitted(&[one, country(false, "DE")], clients), *clients);
}

#[test]
fn bits_of_an_address_outside_its_mask_fit_nobody() {
    let entries = [v4(true, "192.0.2.1", "255.255.255.0"), v4(true, "10.0.0.0", "255.0.0.255")];
    assert_eq!(permitted(&entries, &["192.0.2.1", "192.0.2.0", "10.9.9.0", "10.9.9.1"]), ["10.9.9.0"]);
}

#[test]
fn prefixes_cut_both_addresses() {
    let clients = &["2001:db8::9", "2001:db9::9", "fe80::1"];
    assert_eq!(permitted(&[v6(true, "2001:db8::1", 32)], clients), ["2001:db8::9"]);
    assert_eq!(permitted(&[v6(true, "2001:db8::1", 31)], clients), ["2001:db8::9", "2001:db9::9"]);
    assert_eq!(permitted(&[v6(true, "2001:db8::1", 0)], clients), *clients);
    assert_eq!(permitted(&[v6(true, "2001:db8::9", 128)], clients), ["2001:db8::9"]);
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_an_ipv6_client() {
    let clients = &["::ffff:10.0.0.1", "10.0.0.1"];
    assert_eq!(permitted(&[v4(true, "10.0.0.0", "255.0.0.0")], clients), ["10.0.0.1"]);
    assert_eq!(permitted(&[v6(true, "::ffff:0:0", 96)], clients), ["::ffff:10.0.0.1"]);
    assert_eq!(permitted(&[country(true, "SE")], clients), *clients);
}

#[test]
fn a_client_over_a_unix_socket_is_always_permitted() {
    let list: Arc<dyn Permits> = Arc::new(AccessList::new(&acl(vec![v4(false, "0.0.0.0", "0.0.0.0")]), None));
    let client = |port| {
        let peer = (Ipv4Addr::UNSPECIFIED, port).into();
        Client { peer, remembered: None, permitted: true }.may_pass(Some(&list))
    };
    assert_eq!((client(0), client(1)), (true, false));
}

#[test]
fn countries_count_in_their_place_and_without_a_database_fit_nobody() {
    let entries =
        [v4(true, "10.2.0.0", "255.255.0.0"), country(false, "SE"), country(true, "NO"), country(true, "SE")];
    let clients = &["10.2.0.1", "10.1.0.1", "10.3.0.1", "2001:db8::1", "9.9.9.9"];
    assert_eq!(permitted(&entries, clients), ["10.2.0.1", "10.1.0.1"]);
    let without = AccessList::new(&acl(entries.to_vec()), None);
    assert!(!without.permits("10.1.0.1".parse().expect("address")));
    assert!(names_countries(&acl(entries.to_vec())) && !names_countries(&acl(entries[..1].to_vec())));
}

/// Entry by entry, as the text says it.
fn naive(acl: &Acl, countries: &Countries, client: IpAddr) -> bool {
    let fits = |who: &AclMatch| match (who, client) {
        (AclMatch::V4 { address, mask }, IpAddr::V4(client)) => {
            client.to_bits() & mask.to_bits() == address.to_bits()
        }
        (AclMatch::V6 { address, prefix }, IpAddr::V6(client)) => {
            let same = (client.to_bits() ^ address.to_bits()).leading_zeros();
            same >= u32::from(*prefix)
        }
        (AclMatch::Country(code), client) => countries.country(client) == Some(*code),
        _ => false,
    };
    match acl.entries.iter().find(|entry| fits(&entry.who)) {
        Some(entry) => entry.permit,
        None => acl.entries.last().is_none_or(|entry| !entry.permit),
    }
}

/// Few different addresses, so that entries and clients meet.
fn narrow_v4() -> impl Strategy<Value = Ipv4Addr> {
    (select(vec![10u8, 192]), 0u8..3, 0u8..2, 0u8..3).prop_map(|(a, b, c, d)| Ipv4Addr::new(a, b, c, d))
}

fn narrow_v6() -> impl Strategy<Value = Ipv6Addr> {
    (select(vec![0x2001u16, 0]), select(vec![0xdb8u16, 0]), 0u16..3)
        .prop_map(|(a, b, c)| Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, c))
}

fn entry() -> impl Strategy<Value = AclEntry> {
    let masks = select(vec![0u32, 0xff00_0000, 0xffff_0000, 0xffff_ff00, u32::MAX, 0xff00_00ff, 0xffff_fffe]);
    let who = prop_oneof![
        4 => (narrow_v4(), masks, any::<bool>()).prop_map(|(address, mask, cut)| {
            let mask = Ipv4Addr::from_bits(mask);
            AclMatch::V4 { address: if cut { address & mask } else { address }, mask }
        }),
        4 => (narrow_v6(), select(vec![0u8, 16, 32, 100, 127, 128]))
            .prop_map(|(address, prefix)| AclMatch::V6 { address, prefix }),
        1 => select(vec![*b"SE", *b"NO", *b"DE"]).prop_map(AclMatch::Country),
    ];
    (any::<bool>(), who).prop_map(|(permit, who)| AclEntry { permit, who })
}

proptest! {
    #[test]
    fn a_compiled_list_says_what_a_walk_through_its_entries_says(
        entries in vec(entry(), 0..40),
        v4 in vec(narrow_v4(), 10),
        v6 in vec(narrow_v6(), 10),
    ) {
        let (acl, countries) = (acl(entries), places());
        let list = AccessList::new(&acl, Some(&countries));
        for client in v4.into_iter().map(IpAddr::V4).chain(v6.into_iter().map(IpAddr::V6)) {
            prop_assert_eq!(list.permits(client), naive(&acl, &countries, client), "{}", client);
        }
    }
}

#[test]
fn thousands_of_networks_are_as_many_searches_as_they_have_masks() {
    let networks = (0..20_000u32).map(|index| {
        let mask = u32::MAX << (index % 12);
        let who =
            AclMatch::V4 { address: (index.wrapping_mul(0x9e37_79b9) & mask).into(), mask: mask.into() };
        AclEntry { permit: false, who }
    });
    let list = AccessList::new(&acl(networks.collect()), None);
    assert_eq!(list.v4.len(), 12);
    assert!(!list.permits(Ipv4Addr::from(0x9e37_79b9 & (u32::MAX << 1)).into()));
}
