//! Elections among our own nodes with VRRP: who holds the address, and when it moves.

use std::time::{Duration, Instant};

use cygnet_ha::vip::Role;

use crate::lab::{Lab, VIP, VIP_TWO, in_lab, wait};

#[test]
fn the_better_node_holds_the_address_and_it_moves_on_stop_and_on_link_down() {
    in_lab("election::the_better_node_holds_the_address_and_it_moves_on_stop_and_on_link_down", || {
        let mut lab = Lab::new(&["a", "b"]);
        lab.start("a", "hold 150 100 preempt");
        lab.start("b", "hold 100 100 preempt");
        lab.wait_for_holder("a");
        let view = lab.view("a");
        assert_eq!((view.holder, view.holder_priority), (Some(lab.address("a")), Some(150)));
        lab.wait_for_follower("b", lab.address("a"));

        // A planned stop: resigned, so b need not wait for its whole interval.
        lab.ask();
        let begin = Instant::now();
        lab.end("a");
        lab.wait_for_holder("b");
        println!("moved {} ms after the stop began", begin.elapsed().as_millis());
        assert!(!lab.has("a"), "removed by the end of the process");
        wait("hosts know b", || lab.neighbour() == lab.mac("b"));
        wait("b says so", || lab.says("b", "has resigned"));

        // a comes back and preempts.
        lab.start("a", "hold 150 100 preempt");
        lab.wait_for_holder("a");
        wait("hosts know a", || lab.neighbour() == lab.mac("a"));
        wait("b says so", || lab.says("b", "higher priority 150"));

        // Its link goes down, and comes back.
        lab.ip("-n a link set eth0 down");
        let begin = Instant::now();
        lab.wait_for_holder("b");
        println!("moved {} ms after the link went down", begin.elapsed().as_millis());
        wait("a says why", || {
            lab.view("a").role == Role::Down && lab.view("a").reason == "eth0 is down or has no carrier"
        });
        lab.ip("-n a link set eth0 up");
        lab.wait_for_holder("a");

        // The interface is taken away and made anew.
        lab.ip("link del v-a");
        lab.wait_for_holder("b");
        wait("a says why", || lab.view("a").reason == "there is no interface eth0");
        lab.cable("a");
        lab.wait_for_holder("a");

        // It gets another name while it works, and then its old one.
        lab.ip("-n a link set eth0 name lan0");
        lab.wait_for_holder("b");
        wait("a says why", || lab.view("a").reason == "eth0 has another name now");
        lab.ip("-n a link set lan0 name eth0");
        lab.wait_for_holder("a");

        // It cannot serve any more.
        lab.tell("a", "unready no listener on 192.0.2.100:80");
        lab.wait_for_holder("b");
        assert_eq!(lab.view("a").reason, "not ready: no listener on 192.0.2.100:80");
        lab.tell("a", "ready");
        lab.wait_for_holder("a");
        let strange = |event: &&String| event.contains("earlier process");
        assert_eq!(lab.events("a").iter().find(strange), None, "its own doing surprised it");
    });
}

#[test]
fn a_node_that_only_watches_names_the_holder_and_never_touches_the_address() {
    in_lab("election::a_node_that_only_watches_names_the_holder_and_never_touches_the_address", || {
        let mut lab = Lab::new(&["a", "w"]);
        lab.start("w", "watch 100 100 preempt");
        wait("w looks", || lab.view("w").role == Role::Standby);
        lab.start("a", "hold 150 100 preempt");
        lab.wait_for_holder("a");
        wait("w names a", || lab.view("w").holder == Some(lab.address("a")));
        lab.end("a");
        wait("w knows that nobody holds it", || lab.view("w").holder.is_none());
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            assert!(!lab.has("w"), "a watcher added the address");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Another daemon adds it here, and takes it away.
        lab.ip("-n w addr add 192.0.2.100/32 dev eth0");
        wait("w is Active", || lab.view("w").role == Role::Active);
        lab.end("w");
        assert!(lab.has("w"), "a watcher removed the address");
        assert_eq!(lab.view("w").adverts_sent, 0);
    });
}

#[test]
fn several_addresses_of_one_router_move_together_and_a_killed_node_leaves_none() {
    in_lab("election::several_addresses_of_one_router_move_together_and_a_killed_node_leaves_none", || {
        let mut lab = Lab::new(&["a", "b"]);
        let held = |lab: &Lab, name: &str| [VIP, VIP_TWO].map(|address| lab.has_address(name, address));
        lab.start("a", "hold 150 100 preempt two");
        lab.start("b", "hold 100 100 preempt two");
        lab.wait_for_holder("a");
        lab.wait_for_follower("b", lab.address("a"));
        assert_eq!((held(&lab, "a"), held(&lab, "b")), ([true; 2], [false; 2]));
        assert_eq!(lab.view("a").addresses, [VIP, VIP_TWO]);
        // The second alone is deleted by hand.
        lab.ip("-n a addr del 192.0.2.101/32 dev eth0");
        wait("it is added again", || held(&lab, "a") == [true; 2]);
        assert!(lab.says("a", "192.0.2.101 was gone"), "{:?}", lab.events("a"));
        lab.signal("a", "KILL");
        lab.wait_for_holder("b");
        wait("both are there", || held(&lab, "b") == [true; 2]);
        wait("both are gone", || held(&lab, "a") == [false; 2]);
        // Another list is another election, for speakers that check it (keepalived) discard the old one.
        lab.tell("b", "configure hold 100 100 preempt");
        wait("the second is gone", || held(&lab, "b") == [true, false]);
        assert!(!lab.says("b", "earlier process"), "its own doing surprised it: {:?}", lab.events("b"));
    });
}

#[test]
fn a_running_election_is_undisturbed_by_new_settings_and_follows_a_new_priority() {
    in_lab("election::a_running_election_is_undisturbed_by_new_settings_and_follows_a_new_priority", || {
        let mut lab = Lab::new(&["a", "b"]);
        lab.start("a", "hold 150 100 preempt");
        lab.start("b", "hold 100 100 preempt");
        lab.wait_for_holder("a");
        let age = lab.view("a").role_age_ms;
        lab.tell("a", "configure hold 150 100 preempt");
        wait("time passes", || lab.view("a").role_age_ms >= age + 300);
        // Another interval is another election: resigned, and begun anew.
        lab.tell("a", "configure hold 150 80 preempt");
        wait("b steps in", || lab.says("b", "has resigned"));
        lab.wait_for_holder("a");
        let strange = |event: &&String| event.contains("earlier process");
        assert_eq!(lab.events("a").iter().find(strange), None, "its own doing surprised it");
        wait("a says so", || lab.says("a", "its settings have changed; a new election begins"));
        lab.tell("a", "configure hold 90 80 preempt");
        lab.wait_for_holder("b");
        wait("b says so", || lab.says("b", "lower priority 90"));
        lab.tell("b", "configure");
        lab.wait_for_holder("a");
        wait("b says why", || lab.says("b", "it is not configured any more"));
    });
}

#[test]
fn an_ipv6_address_is_elected_announced_and_moves() {
    in_lab("election::an_ipv6_address_is_elected_announced_and_moves", || {
        let mut lab = Lab::new(&["a", "b"]);
        lab.ip("address add 2001:db8::fe/64 nodad dev br0");
        lab.start("a", "hold 150 100 preempt six");
        lab.start("b", "hold 100 100 preempt six");
        lab.wait_for_holder("a");
        lab.wait_for_follower("b", lab.link_local("a"));
        lab.believe_six("02:00:00:00:00:99");
        lab.end("a");
        lab.wait_for_holder("b");
        wait("b says so", || lab.says("b", "has resigned"));
        wait("hosts know b", || lab.neighbour_six() == lab.mac("b"));
        lab.start("a", "hold 150 100 preempt six");
        lab.wait_for_holder("a");
        wait("hosts know a", || lab.neighbour_six() == lab.mac("a"));
    });
}
