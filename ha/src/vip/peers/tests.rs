//! Who is known to live, and who takes over from whom.

use super::*;

fn ms(count: u64) -> Time {
    Time(count * 1_000_000)
}

fn nodes(count: u64) -> Peers {
    let mut peers = Peers::default();
    let nodes: Vec<_> = (2..2 + count).map(|id| PeerNode { id, name: format!("lb{id}") }).collect();
    peers.set(&nodes);
    peers
}

fn source(id: u64) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(id).expect("small")])
}

fn standing(id: u64, standby: bool, priority: u32) -> Standing {
    let vip = VipStanding { name: "www".into(), source: source(id).to_string(), standby, priority };
    let seal = vec![u8::try_from(id).expect("small"); 32];
    Standing { seal, ready: true, reason: String::new(), vips: vec![vip], ..Standing::default() }
}

#[test]
fn a_last_word_counts_once_and_only_for_the_life_that_it_ends() {
    let mut peers = nodes(1);
    assert_eq!(peers.last_word(ms(0), &[2; 32]), None, "whose seal was never told");
    peers.hear(ms(0), 2, standing(2, false, 150));
    assert_eq!(peers.last_word(ms(1), &[9; 32]), None, "another secret");
    let bereft = Bereft { vip: "www".into(), source: source(2), rival: None };
    assert_eq!(peers.last_word(ms(1), &[2; 32]), Some((2, vec![bereft])));
    assert_eq!(peers.last_word(ms(2), &[2; 32]), None, "a replay");
    // Its next life has another seal: the old word does not end it.
    peers.hear(ms(3), 2, Standing { seal: vec![77; 32], ..standing(2, false, 150) });
    assert_eq!(peers.last_word(ms(4), &[2; 32]), None, "a replay");
    // A node without guard has no seal, and no empty word is one.
    peers.hear(ms(5), 2, Standing { seal: Vec::new(), ..standing(2, false, 150) });
    assert_eq!(peers.last_word(ms(6), &[0; 32]), None);
}

#[test]
fn with_three_nodes_a_survivor_knows_the_better_one() {
    let mut peers = nodes(3);
    peers.hear(ms(0), 2, standing(2, false, 150));
    peers.hear(ms(0), 3, standing(3, true, 90));
    peers.hear(ms(0), 4, standing(4, true, 120));
    let (_, bereft) = peers.last_word(ms(1), &[2; 32]).expect("known");
    assert_eq!(bereft[0].rival, Some((120, source(4))));
    // Who was not heard for long is no rival: it may be dead as well.
    peers.hear(ms(5_000), 2, standing(2, false, 150));
    peers.hear(ms(5_000), 3, standing(3, true, 90));
    let (_, bereft) = peers.last_word(ms(5_001), &[2; 32]).expect("known");
    assert_eq!(bereft[0].rival, Some((90, source(3))));
}

#[test]
fn a_successor_stands_by_is_ready_and_was_heard_just_now() {
    let mut peers = nodes(2);
    let why = |peers: &Peers, now, to| peers.successor(now, "www", to).expect_err("nobody");
    assert_eq!(why(&peers, ms(0), Some("lb2")), "lb2 has not been heard");
    assert_eq!(why(&peers, ms(0), Some("lb9")), "lb9 is no other node of this cluster");
    assert_eq!(why(&nodes(0), ms(0), None), "there is no other node");
    peers.hear(ms(0), 2, standing(2, true, 100));
    peers.hear(ms(0), 3, standing(3, true, 120));
    assert_eq!(peers.successor(ms(0), "www", None), Ok(3));
    assert_eq!(peers.successor(ms(0), "www", Some("lb2")), Ok(2));
}

#[test]
fn who_cannot_take_over_is_named_with_the_reason() {
    let mut peers = nodes(1);
    let why = |peers: &Peers, now| peers.successor(now, "www", None).expect_err("nobody");
    peers.hear(
        ms(0),
        2,
        Standing { ready: false, reason: "worker 1 hangs".into(), ..standing(2, true, 100) },
    );
    assert_eq!(why(&peers, ms(1)), "lb2 cannot serve: worker 1 hangs");
    peers.hear(ms(0), 2, standing(2, false, 100));
    assert_eq!(why(&peers, ms(1)), "lb2 does not stand by");
    peers.hear(ms(0), 2, Standing { vips: Vec::new(), ..standing(2, true, 100) });
    assert_eq!(why(&peers, ms(1)), "lb2 does not know www");
    peers.hear(ms(0), 2, standing(2, true, 100));
    assert_eq!(peers.successor(ms(2_000), "www", None), Ok(2));
    assert_eq!(why(&peers, ms(2_001)), "lb2 was last heard 2001 ms ago");
    // A stranger is not heard.
    peers.hear(ms(2_001), 7, standing(7, true, 200));
    assert_eq!(peers.source(7, "www"), None);
    assert_eq!(peers.source(2, "www"), Some(source(2)));
    // A node that was removed and replaced under the same number is another one.
    peers.set(&[PeerNode { id: 2, name: "new".into() }]);
    assert_eq!(peers.source(2, "www"), None);
}
