//! Cygnet and the real keepalived in one group.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use cygnet_ha::vip::Role;

use crate::lab::{Lab, VIP, VIP_LINK_LOCAL, VIP_SIX, VIP_TWO, in_lab, wait};

#[test]
fn with_keepalived_in_one_group_there_is_one_holder_each_way() {
    in_lab("keepalived::with_keepalived_in_one_group_there_is_one_holder_each_way", || {
        if Command::new("keepalived").arg("--version").output().is_err() {
            eprintln!("SKIPPED: keepalived is not installed");
            return;
        }
        let mut lab = Lab::new(&["a", "k"]);
        lab.start("a", "hold 100 100 preempt");
        lab.wait_for_holder("a");
        // keepalived is better: it takes the address, and we follow it.
        lab.keepalived("k", 150);
        lab.wait_for_holder("k");
        lab.wait_for_follower("a", lab.address("k"));
        wait("a says so", || lab.says("a", "higher priority 150"));
        // It resigns; it comes back worse, and follows us.
        lab.end_keepalived();
        lab.wait_for_holder("a");
        wait("a says so", || lab.says("a", "has resigned"));
        lab.keepalived("k", 50);
        lab.stays_holder("a", Duration::from_secs(2));
        lab.end("a");
        lab.wait_for_holder("k");
        // We come back better: keepalived gives way.
        lab.start("a", "hold 100 100 preempt");
        lab.wait_for_holder("a");
        lab.stays_holder("a", Duration::from_secs(1));
        lab.end_keepalived();
        assert_eq!(lab.complaints(), [] as [String; 0]);
    });
}

/// keepalived discards adverts with another list than its own: then both would hold the addresses.
fn lists_agree(test: &str, settings: &str, addresses: [IpAddr; 2]) {
    in_lab(test, || {
        if Command::new("keepalived").arg("--version").output().is_err() {
            eprintln!("SKIPPED: keepalived is not installed");
            return;
        }
        let mut lab = Lab::new(&["a", "k"]);
        let all = |lab: &Lab, name: &str| addresses.iter().all(|address| lab.has_address(name, *address));
        let none = |lab: &Lab, name: &str| !addresses.iter().any(|address| lab.has_address(name, *address));
        lab.start("a", &format!("hold 100 100 preempt {settings}"));
        lab.wait_for_holder("a");
        lab.keepalived_with("k", 150, &addresses);
        wait("keepalived has both", || all(&lab, "k") && none(&lab, "a"));
        let heard = |lab: &Lab| lab.view("a").holder_priority == Some(150);
        wait("a follows keepalived", || lab.view("a").role == Role::Standby && heard(&lab));
        assert!(!lab.says("a", "list of virtual addresses"), "{:?}", lab.events("a"));
        lab.end_keepalived();
        wait("a has both", || all(&lab, "a") && none(&lab, "k"));
        wait("a says why", || lab.says("a", "has resigned"));
        // Worse, it follows; it hears that we resign, and that we are back.
        lab.keepalived_with("k", 50, &addresses);
        lab.stays_holder("a", Duration::from_secs(2));
        lab.end("a");
        wait("keepalived has both again", || all(&lab, "k") && none(&lab, "a"));
        lab.start("a", &format!("hold 100 100 preempt {settings}"));
        wait("a has both again", || all(&lab, "a") && none(&lab, "k"));
        lab.stays_holder("a", Duration::from_secs(1));
        lab.end_keepalived();
        assert_eq!(lab.complaints(), [] as [String; 0]);
    });
}

#[test]
fn with_keepalived_a_list_of_addresses_is_one_group() {
    let test = "keepalived::with_keepalived_a_list_of_addresses_is_one_group";
    lists_agree(test, "two", [VIP, VIP_TWO]);
}

#[test]
fn with_keepalived_an_ipv6_list_that_begins_with_a_link_local_address_is_one_group() {
    let test = "keepalived::with_keepalived_an_ipv6_list_that_begins_with_a_link_local_address_is_one_group";
    lists_agree(test, "two-six", [VIP_LINK_LOCAL, VIP_SIX]);
}

/// Two unicast peers, each preferred once, each going and coming back.
fn peers_agree(test: &str, (version, settings): (u8, &str), addresses: &[IpAddr], nodes: [IpAddr; 2]) {
    in_lab(test, || {
        if Command::new("keepalived").arg("--version").output().is_err() {
            eprintln!("SKIPPED: keepalived is not installed");
            return;
        }
        let mut lab = Lab::new(&["a", "k"]);
        let [own, peer] = nodes;
        if own.is_ipv6() {
            lab.ip(&format!("-n a addr add {own}/64 dev eth0 nodad"));
            lab.ip(&format!("-n k addr add {peer}/64 dev eth0 nodad"));
        } else {
            lab.without_multicast(&["a", "k"]);
        }
        // The same list on all nodes: this node's own address is among them.
        let settings = format!("{settings} peers={own},{peer}");
        lab.start("a", &settings);
        lab.wait_for_holder("a");
        lab.keepalived_to_a_peer("k", (version, 150), addresses, (peer, own));
        lab.wait_for_holder("k");
        lab.wait_for_follower("a", peer);
        wait("a says so", || lab.says("a", "higher priority 150"));
        lab.end_keepalived();
        lab.wait_for_holder("a");
        wait("a says so", || lab.says("a", "has resigned"));
        lab.keepalived_to_a_peer("k", (version, 50), addresses, (peer, own));
        lab.stays_holder("a", Duration::from_secs(2));
        lab.end("a");
        lab.wait_for_holder("k");
        lab.start("a", &settings);
        lab.wait_for_holder("a");
        lab.stays_holder("a", Duration::from_secs(1));
        lab.end_keepalived();
        assert_eq!(lab.complaints(), [] as [String; 0]);
    });
}

#[test]
fn with_keepalived_as_unicast_peer_of_version_three_there_is_one_holder_each_way() {
    let test = "keepalived::with_keepalived_as_unicast_peer_of_version_three_there_is_one_holder_each_way";
    let nodes = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
    peers_agree(test, (3, "hold 100 100 preempt"), &[VIP], nodes);
}

#[test]
fn with_keepalived_as_unicast_peer_of_version_two_there_is_one_holder_each_way() {
    let test = "keepalived::with_keepalived_as_unicast_peer_of_version_two_there_is_one_holder_each_way";
    let nodes = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
    peers_agree(test, (2, "hold 100 1000 preempt v2"), &[VIP], nodes);
}

#[test]
fn with_keepalived_as_unicast_peer_over_ipv6_there_is_one_holder_each_way() {
    let test = "keepalived::with_keepalived_as_unicast_peer_over_ipv6_there_is_one_holder_each_way";
    let nodes = [1, 2].map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
    peers_agree(test, (3, "hold 100 100 preempt two-six"), &[VIP_LINK_LOCAL, VIP_SIX], nodes);
}

#[test]
fn with_keepalived_in_one_group_of_version_two_there_is_one_holder_at_a_time() {
    in_lab("keepalived::with_keepalived_in_one_group_of_version_two_there_is_one_holder_at_a_time", || {
        if Command::new("keepalived").arg("--version").output().is_err() {
            eprintln!("SKIPPED: keepalived is not installed");
            return;
        }
        let mut lab = Lab::new(&["a", "k"]);
        lab.start("a", "hold 100 1000 preempt v2 secret");
        lab.wait_for_holder("a");
        lab.keepalived_two("k", 150, "secret");
        lab.wait_for_holder("k");
        lab.wait_for_follower("a", lab.address("k"));
        lab.end_keepalived();
        lab.wait_for_holder("a");
        wait("a says so", || lab.says("a", "has resigned"));
        // With another password each is deaf to the other: said, not obeyed.
        lab.keepalived_two("k", 50, "other");
        wait("the wrong password is told", || lab.says("a", "password"));
        lab.end_keepalived();
    });
}

#[test]
fn keepalived_need_not_wait_for_three_intervals_when_our_process_is_killed() {
    in_lab("keepalived::keepalived_need_not_wait_for_three_intervals_when_our_process_is_killed", || {
        if Command::new("keepalived").arg("--version").output().is_err() {
            eprintln!("SKIPPED: keepalived is not installed");
            return;
        }
        let mut lab = Lab::new(&["a", "k"]);
        lab.start("a", "hold 100 1000 preempt v2 secret");
        lab.wait_for_holder("a");
        lab.keepalived_two("k", 50, "secret");
        // It hears us: else it would take the address after 3.8 s of its own.
        lab.stays_holder("a", Duration::from_secs(5));
        let begin = Instant::now();
        lab.signal("a", "KILL");
        lab.wait_for_holder("k");
        let gap = begin.elapsed();
        println!("keepalived has the address {} ms after the kill", gap.as_millis());
        // Skew_Time for priority 50: 0.8 s; without the guard's word 3.8 s, less what was left of our interval.
        assert!(gap < Duration::from_millis(2_500), "{gap:?}");
        lab.end_keepalived();
        assert_eq!(lab.complaints(), [] as [String; 0]);
    });
}

#[test]
fn a_split_brain_heals_and_hosts_know_the_one_that_stays() {
    in_lab("keepalived::a_split_brain_heals_and_hosts_know_the_one_that_stays", || {
        let mut lab = Lab::new(&["a", "b", "k"]);
        lab.start("a", "hold 100 50 preempt");
        lab.start("b", "hold 150 50 preempt");
        lab.wait_for_holder("b");
        wait("the announcements of the take-over are out", || lab.view("b").role_age_ms > 1_500);
        heal_splits(&lab, "a", "b");
        lab.end("b");

        if Command::new("keepalived").arg("--version").output().is_err() {
            eprintln!("SKIPPED: keepalived is not installed");
            return;
        }
        lab.keepalived("k", 150);
        lab.wait_for_holder("k");
        // keepalived announces when it takes the address, and once more after 5 s.
        lab.stays_holder("k", Duration::from_secs(6));
        heal_splits(&lab, "a", "k");
        lab.end_keepalived();
    });
}

/// Cuts two nodes off from each other, not from their hosts, and joins them again, in several phases of their timers.
fn heal_splits(lab: &Lab, worse: &str, better: &str) {
    for round in 0..5 {
        lab.isolate(&[worse, better], true);
        wait("both hold the address", || lab.has(worse) && lab.has(better));
        std::thread::sleep(Duration::from_millis(13 * round));
        lab.believe(&lab.mac(worse));
        lab.isolate(&[worse, better], false);
        let begin = Instant::now();
        wait("hosts know the one that stays", || lab.neighbour() == lab.mac(better));
        println!("{better}, round {round}: healed after {} ms", begin.elapsed().as_millis());
        lab.wait_for_holder(better);
        assert!(begin.elapsed() < Duration::from_secs(5), "that was chance");
    }
}
