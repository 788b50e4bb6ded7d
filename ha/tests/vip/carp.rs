//! CARP: among our own nodes, and with the real ucarp.

use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, in_lab, wait};

#[test]
fn with_carp_the_better_node_holds_the_address_and_a_stop_is_a_bow_out() {
    in_lab("carp::with_carp_the_better_node_holds_the_address_and_a_stop_is_a_bow_out", || {
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
    in_lab("carp::with_ucarp_on_one_vhid_there_is_one_holder_after_each_step", || {
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
