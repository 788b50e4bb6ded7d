//! What disturbs a node: death, freezing, strangers, a busy machine.

use std::process::Command;
use std::time::{Duration, Instant};

use cygnet_ha::vip::Role;

use crate::lab::{Lab, in_lab, wait};
use crate::stranger::Stranger;

#[test]
fn a_deleted_address_comes_back_and_a_foreign_claim_is_answered() {
    in_lab("faults::a_deleted_address_comes_back_and_a_foreign_claim_is_answered", || {
        let mut lab = Lab::new(&["a"]);
        lab.start("a", "hold 150 100 preempt");
        lab.wait_for_holder("a");

        lab.ip("-n a addr del 192.0.2.100/32 dev eth0");
        wait("it is added again", || lab.has("a"));
        wait("a says so", || lab.says("a", "somebody else removed it"));

        // A host that believes another node: the claim of a worse one heals it.
        wait("the announcements of the take-over are out", || lab.view("a").role_age_ms > 1_500);
        lab.ask();
        lab.believe("02:00:00:00:00:99");
        let stranger = Stranger::new();
        stranger.claim(50);
        wait("the holder announces", || lab.neighbour() == lab.mac("a"));
        wait("the operator is told", || lab.says("a", "192.0.2.254 claims 192.0.2.100 as well"));
        assert_eq!(lab.view("a").rivals, [lab.address("a"), stranger.source()]);
        assert_eq!(lab.view("a").role, Role::Active);

        // A better one gets it.
        stranger.claim(200);
        wait("a gives way", || lab.view("a").role == Role::Standby && !lab.has("a"));
        lab.wait_for_holder("a");
        wait("the stranger is forgotten", || lab.view("a").rivals.is_empty());
    });
}

#[test]
fn a_killed_node_leaves_no_address_and_a_frozen_one_neither() {
    in_lab("faults::a_killed_node_leaves_no_address_and_a_frozen_one_neither", || {
        let mut lab = Lab::new(&["a", "b"]);
        lab.start("a", "hold 150 50 preempt");
        lab.start("b", "hold 100 50 preempt");
        lab.wait_for_holder("a");
        wait("b follows", || lab.view("b").role == Role::Standby);

        // The guard dies first, and is started again.
        lab.kill_children("a");
        wait("a new guard", || lab.says("a", "guard process had ended"));
        assert_eq!(lab.view("a").role, Role::Active);

        let begin = Instant::now();
        lab.signal("a", "KILL");
        wait("the guard takes the address away", || !lab.has("a"));
        println!("removed {} ms after the kill", begin.elapsed().as_millis());
        lab.wait_for_holder("b");
        println!("taken over {} ms after the kill", begin.elapsed().as_millis());

        lab.start("a", "hold 150 50 preempt");
        lab.wait_for_holder("a");
        wait("b follows", || lab.view("b").role == Role::Standby);
        let begin = Instant::now();
        lab.signal("a", "STOP");
        lab.wait_for_holder("b");
        println!("exactly one holder {} ms after the freeze", begin.elapsed().as_millis());
        // Longer than Active_Down_Interval (171 ms) after its timer: a shorter pause would not count.
        lab.stays_holder("b", Duration::from_millis(500));
        lab.signal("a", "CONT");
        wait("a notices", || lab.says("a", "this process did not run"));
        lab.wait_for_holder("a");
    });
}

#[test]
fn a_lone_node_that_was_frozen_puts_the_address_back_and_says_why_it_was_gone() {
    in_lab("faults::a_lone_node_that_was_frozen_puts_the_address_back_and_says_why_it_was_gone", || {
        let mut lab = Lab::new(&["a"]);
        lab.start("a", "hold 150 50 preempt");
        lab.wait_for_holder("a");
        lab.signal("a", "STOP");
        wait("the guard takes the address away", || !lab.has("a"));
        let begin = Instant::now();
        lab.signal("a", "CONT");
        wait("it is back", || lab.has("a"));
        println!("back {} ms after it woke", begin.elapsed().as_millis());
        wait("the operator is told", || lab.says("a", "because this process did not run for"));
        assert!(!lab.says("a", "somebody else"), "{:?}", lab.events("a"));
        assert!(!lab.says("a", "gives up"), "{:?}", lab.events("a"));
        wait("hosts know it", || {
            lab.ask();
            lab.neighbour() == lab.mac("a")
        });
    });
}

#[test]
fn an_address_left_behind_by_node_and_guard_is_removed_by_the_next_start() {
    in_lab("faults::an_address_left_behind_by_node_and_guard_is_removed_by_the_next_start", || {
        let mut lab = Lab::new(&["a", "b"]);
        lab.start("a", "hold 150 200 preempt");
        lab.wait_for_holder("a");
        // Frozen first, so that it starts no other guard; killed before its lease of 800 ms runs out.
        lab.signal("a", "STOP");
        lab.kill_children("a");
        lab.signal("a", "KILL");
        lab.start("b", "hold 100 50 preempt");
        wait("b holds it", || lab.view("b").address_present);
        assert!(lab.has("a"), "nobody was left to remove it");
        lab.start("a", "hold 50 50 preempt");
        lab.wait_for_holder("b");
        wait("a says so", || lab.says("a", "an earlier process of Cygnet left it there"));
        // Without our mark it is somebody else's, and stays.
        lab.ip("-n a addr add 192.0.2.100/32 dev eth0");
        wait("a is surprised", || lab.says("a", "it is left alone"));
        assert!(lab.has("a"));
    });
}

#[test]
fn a_flood_of_claims_and_junk_moves_nothing() {
    in_lab("faults::a_flood_of_claims_and_junk_moves_nothing", || {
        let mut lab = Lab::new(&["a", "b"]);
        lab.start("a", "hold 150 50 preempt");
        lab.start("b", "hold 100 50 preempt");
        lab.wait_for_holder("a");
        let stranger = Stranger::new();
        let mut sent = 0;
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            for priority in [0, 1, 50, 120] {
                stranger.claim(priority);
                stranger.junk(priority);
            }
            sent += 8;
            if sent % 800 == 0 {
                assert!(lab.has("a"), "{:?}", lab.events("a"));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        let view = lab.view("a");
        println!("{sent} packets, {} valid, {} adverts sent", view.adverts_heard, view.adverts_sent);
        assert!(sent > 2_000);
        assert_eq!(lab.view("a").role, Role::Active);
        assert!(view.role_age_ms > 1_900, "it has never lost the role");
        assert!(view.adverts_sent < 400, "answers are bounded");
        assert!(lab.events("a").len() < 60, "so are events: {:?}", lab.events("a"));
        lab.wait_for_holder("a");
    });
}

#[test]
fn elections_at_twenty_milliseconds_stand_still_on_a_busy_machine() {
    in_lab("faults::elections_at_twenty_milliseconds_stand_still_on_a_busy_machine", || {
        let mut lab = Lab::new(&["a", "b"]);
        lab.start("a", "hold 150 20 preempt");
        lab.start("b", "hold 100 20 preempt");
        lab.wait_for_holder("a");
        wait("b follows", || lab.view("b").role == Role::Standby);
        if lab.says("a", "is not scheduled in real time") {
            eprintln!("SKIPPED: real-time scheduling is not allowed here");
            return;
        }
        let busy = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell");
        let mut loops: Vec<_> = (0..4).map(|_| busy()).collect();
        let begun = lab.events("b").len();
        std::thread::sleep(Duration::from_secs(3));
        for busy in &mut loops {
            busy.kill().expect("it runs");
            busy.wait().expect("it ends");
        }
        assert_eq!(lab.events("b")[begun..], [] as [String; 0]);
        assert!(lab.view("a").role_age_ms > 2_900);
    });
}
