use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use crate::guard::lines::{self, BYE, Told};
use crate::guard::{
    HELD_MAX, LastWord, PEERS_MAX, RESIGNATION_MAX, RESIGNATIONS_MAX, Resignation, WORD_LEN, seal_of,
};

fn told(text: &str) -> Told {
    let mut told = Told::default();
    told.hear(text.as_bytes());
    told
}

fn entry(interface: u32, address: &str) -> (u32, IpAddr) {
    (interface, address.parse().expect("an address"))
}

#[test]
fn lines_are_understood_as_they_are_written() {
    let (interface, address) = entry(u32::MAX, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe");
    let (other, v4) = entry(3, "192.0.2.100");
    let text = lines::parent(4711)
        + &lines::hold(interface, address)
        + &lines::hold(other, v4)
        + &lines::release(interface, address)
        + &lines::lease(Duration::from_millis(150));
    let heard = told(&text);
    assert_eq!(heard.parent, Some(4711));
    assert_eq!(heard.held, BTreeSet::from([(other, v4)]));
    assert_eq!((heard.lease, heard.leases), (Some(Duration::from_millis(150)), 1));
    assert!(!heard.bye && told(BYE).bye);
    assert_eq!(told(&lines::lease(Duration::ZERO)).lease, None, "no limit");
}

#[test]
fn a_line_that_makes_no_sense_is_skipped_and_the_next_one_counts() {
    let long = "hold 1 10.0.0.1".to_owned() + &" ".repeat(5000);
    for nonsense in
        ["", "hold", "hold 1", "hold x 10.0.0.1", "hold 1 10.0.0.256", "hold -1 ::1", "adieu", &long]
    {
        let heard = told(&format!("{nonsense}\nhold 2 10.0.0.2\n"));
        assert_eq!(heard, told("hold 2 10.0.0.2\n"), "{nonsense:?}");
    }
}

#[test]
fn a_line_counts_only_when_it_has_ended() {
    assert!(!told("bye").bye);
    assert!(told("hold 1 10.0.0.1").held.is_empty(), "10.0.0.1 could become 10.0.0.17");
}

#[test]
fn what_is_held_is_bounded() {
    let many: String = (0..2000).map(|i| lines::hold(i, entry(0, "::1").1)).collect();
    assert_eq!(told(&many).held.len(), HELD_MAX);
}

#[test]
fn a_last_word_is_understood_as_it_is_written_and_the_newest_counts() {
    let own: SocketAddr =
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe%4294967295]:65535".parse().expect("an address");
    let (old, new) = (LastWord::new().expect("random"), LastWord::new().expect("random"));
    assert_ne!(old.seal(), new.seal());
    let many = [own; PEERS_MAX + 3];
    let text = lines::word(&old, own, &[]) + &lines::word(&new, own, &many);
    let heard = told(&text).word.expect("a word");
    assert_eq!((heard.word.seal(), heard.own, heard.peers.len()), (new.seal(), own, PEERS_MAX));
    assert_eq!(seal_of(&new.datagram()), Some(new.seal()));
    assert!(!format!("{new:?}").contains(&new.to_hex()), "it must not come into a log");
    for nonsense in ["word", "word 00 10.0.0.1:1", &format!("word {} 10.0.0.1", new.to_hex())] {
        assert_eq!(told(&format!("{nonsense}\n")).word, None, "{nonsense}");
    }
}

#[test]
fn other_datagrams_are_no_last_words() {
    let good = LastWord::new().expect("random").datagram();
    let mut other = good;
    other[0] ^= 1;
    assert_eq!(
        [seal_of(&other), seal_of(&good[1..]), seal_of(&[]), seal_of(&good[..good.len() - 1])],
        [None; 4]
    );
    other = good;
    other[WORD_LEN - 1] ^= 1;
    assert_ne!(seal_of(&other), seal_of(&good));
}

#[test]
fn a_resignation_is_understood_as_it_is_written_and_taken_back() {
    let one = Resignation {
        interface: "eth0.100".to_owned(),
        source: "fe80::1".parse().expect("an address"),
        destination: "ff02::12".parse().expect("an address"),
        payload: vec![0x31, 51, 0, 0xff],
    };
    let other = Resignation { payload: vec![0; RESIGNATION_MAX], ..one.clone() };
    let both = lines::resign(&one) + &lines::resign(&other);
    assert_eq!(told(&both).resignations, BTreeSet::from([one.clone(), other.clone()]));
    assert_eq!(told(&(both + &lines::unresign(&one))).resignations, BTreeSet::from([other]));
    for nonsense in [
        "eth0",
        "eth0 10.0.0.1 10.0.0.2",
        "eth0 10.0.0.1 10.0.0.2 ",
        "eth0 10.0.0.1 10.0.0.2 0",
        "eth0 x y 00",
    ] {
        assert!(told(&format!("resign {nonsense}\n")).resignations.is_empty(), "{nonsense}");
    }
    let many: String =
        (0..500_u16).map(|count| format!("resign eth0 10.0.0.1 10.0.0.2 {count:04x}\n")).collect();
    assert_eq!(told(&many).resignations.len(), RESIGNATIONS_MAX);
}

fn line() -> impl Strategy<Value = String> {
    let held = (0..4_u32, prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "fd00::1"]));
    prop_oneof![
        held.clone().prop_map(|(interface, address)| format!("hold {interface} {address}\n")),
        held.prop_map(|(interface, address)| format!("release {interface} {address}\n")),
        (0..3_u32).prop_map(|time| format!("lease {time}\n")),
        "[a-z0-9 .:]{0,100}\n",
        "(un)?resign eth0 10.0.0.1 10.0.0.[23] (00){0,2}[0-9a-g]{0,3}\n",
        "word [0-9a-f]{64} 10.0.0.1:7300( 10.0.0.2:7300){0,3}\n",
        Just(BYE.to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut heard = Told::default();
        heard.hear(&bytes);
        prop_assert!(heard.held.len() <= HELD_MAX);
    }

    #[test]
    fn the_pieces_in_which_lines_arrive_do_not_matter(
        lines in prop::collection::vec(line(), 0..20), size in 1..50_usize
    ) {
        let text = lines.concat();
        let mut pieces = Told::default();
        text.as_bytes().chunks(size).for_each(|piece| pieces.hear(piece));
        prop_assert_eq!(pieces, told(&text));
    }
}
