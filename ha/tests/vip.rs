//! The driver at work: nodes in network namespaces on a bridge, which elect, move, die and freeze.
//!
//! Each test runs again inside namespaces of its own. A node is a process of this very binary (`node_process`), told what
//! to do by lines; its guard is another (`guard_process`).

#[path = "vip/lab.rs"]
mod lab;
#[path = "vip/node.rs"]
mod node;

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use cygnet_ha::vip::Role;
use cygnet_netlink::advert::{AdvertSocket, GROUP};
use cygnet_netlink::wire::vrrp::{Advertisement, Auth, ChecksumForm, Version};

use lab::{Lab, VIP, VIP_TWO, in_lab, wait};

/// Not a test: the life of a node, when a test starts one.
#[test]
#[ignore = "a part of the other tests"]
fn node_process() {
    node::live();
}

/// Not a test: the guard of such a node.
#[test]
#[ignore = "a part of the other tests"]
fn guard_process() {
    if std::env::var_os(node::SETTINGS).is_some() {
        cygnet_netlink::guard::run().expect("the guard runs");
    }
}

#[test]
fn the_better_node_holds_the_address_and_it_moves_on_stop_and_on_link_down() {
    in_lab("the_better_node_holds_the_address_and_it_moves_on_stop_and_on_link_down", || {
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
fn a_deleted_address_comes_back_and_a_foreign_claim_is_answered() {
    in_lab("a_deleted_address_comes_back_and_a_foreign_claim_is_answered", || {
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
    in_lab("a_killed_node_leaves_no_address_and_a_frozen_one_neither", || {
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
    in_lab("a_lone_node_that_was_frozen_puts_the_address_back_and_says_why_it_was_gone", || {
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
    in_lab("an_address_left_behind_by_node_and_guard_is_removed_by_the_next_start", || {
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
fn a_node_that_only_watches_names_the_holder_and_never_touches_the_address() {
    in_lab("a_node_that_only_watches_names_the_holder_and_never_touches_the_address", || {
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
    in_lab("several_addresses_of_one_router_move_together_and_a_killed_node_leaves_none", || {
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
    in_lab("a_running_election_is_undisturbed_by_new_settings_and_follows_a_new_priority", || {
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
fn a_flood_of_claims_and_junk_moves_nothing() {
    in_lab("a_flood_of_claims_and_junk_moves_nothing", || {
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
fn with_keepalived_in_one_group_there_is_one_holder_each_way() {
    in_lab("with_keepalived_in_one_group_there_is_one_holder_each_way", || {
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
    });
}

#[test]
fn an_ipv6_address_is_elected_announced_and_moves() {
    in_lab("an_ipv6_address_is_elected_announced_and_moves", || {
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

#[test]
fn with_keepalived_in_one_group_of_version_two_there_is_one_holder_at_a_time() {
    in_lab("with_keepalived_in_one_group_of_version_two_there_is_one_holder_at_a_time", || {
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
fn with_carp_the_better_node_holds_the_address_and_a_stop_is_a_bow_out() {
    in_lab("with_carp_the_better_node_holds_the_address_and_a_stop_is_a_bow_out", || {
        let mut lab = Lab::new(&["a", "b"]);
        lab.start("a", "hold 250 1000 preempt carp secret");
        lab.start("b", "hold 200 1000 preempt carp secret");
        lab.wait_for_holder("a");
        lab.wait_for_follower("b", lab.address("a"));
        lab.ask();
        lab.end("a");
        lab.wait_for_holder("b");
        wait("b says so", || lab.says("b", "has resigned"));
        wait("hosts know b", || lab.neighbour() == lab.mac("b"));
        lab.start("a", "hold 250 1000 preempt carp secret");
        lab.wait_for_holder("a");
        wait("hosts know a", || lab.neighbour() == lab.mac("a"));
        wait("b says so", || lab.says("b", "which is better"));
    });
}

#[test]
fn with_ucarp_on_one_vhid_there_is_one_holder_after_each_step() {
    in_lab("with_ucarp_on_one_vhid_there_is_one_holder_after_each_step", || {
        if Command::new("ucarp").arg("--help").output().is_err() {
            eprintln!("SKIPPED: ucarp is not installed");
            return;
        }
        let mut lab = Lab::new(&["a", "u"]);
        // advskew 154.
        lab.start("a", "hold 100 1000 preempt carp secret");
        lab.wait_for_holder("a");
        // ucarp is better, and preempts.
        lab.ucarp("u", 10, "secret");
        lab.wait_for_holder("u");
        lab.wait_for_follower("a", lab.address("u"));
        // ucarp says nothing when it ends: we wait out its time.
        lab.end_keepalived();
        lab.wait_for_holder("a");
        // It comes back worse, and follows us; it takes over when we bow out.
        lab.ucarp("u", 240, "secret");
        lab.stays_holder("a", Duration::from_secs(2));
        lab.end("a");
        lab.wait_for_holder("u");
        lab.start("a", "hold 100 1000 preempt carp secret");
        lab.wait_for_holder("a");
        lab.end_keepalived();
        assert!(!lab.says("a", "HMAC"), "{:?}", lab.events("a"));
    });
}

/// Somebody on the bridge who speaks VRRP.
struct Stranger {
    socket: AdvertSocket,
}

impl Stranger {
    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

    fn new() -> Self {
        Self { socket: AdvertSocket::open("br0", Self::SOURCE.into()).expect("a socket") }
    }

    fn source(&self) -> IpAddr {
        IpAddr::V4(Self::SOURCE)
    }

    fn claim(&self, priority: u8) {
        self.socket.send(&Self::advert(priority)).expect("sent");
    }

    /// With a wrong checksum.
    fn junk(&self, priority: u8) {
        let mut bytes = Self::advert(priority);
        bytes[6] ^= 0x55;
        self.socket.send(&bytes).expect("sent");
    }

    fn advert(priority: u8) -> Vec<u8> {
        let advert = Advertisement {
            version: Version::V3,
            vrid: 51,
            priority,
            interval_cs: 10,
            addresses: vec![VIP],
            auth: Auth::None,
            checksum: ChecksumForm::Message,
        };
        advert.emit(IpAddr::V4(Self::SOURCE), IpAddr::V4(GROUP))
    }
}

#[test]
fn a_split_brain_heals_and_hosts_know_the_one_that_stays() {
    in_lab("a_split_brain_heals_and_hosts_know_the_one_that_stays", || {
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

#[test]
fn elections_at_twenty_milliseconds_stand_still_on_a_busy_machine() {
    in_lab("elections_at_twenty_milliseconds_stand_still_on_a_busy_machine", || {
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
