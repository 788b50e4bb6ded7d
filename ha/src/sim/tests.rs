use std::fmt::Write;

use super::*;

/// What `make test` and CI run.
const SEEDS: u64 = 2000;

/// A mutation that none of so many seeds finds is not found.
const MUTATION_SEEDS: u64 = 200;

#[test]
fn a_seed_gives_the_same_run_twice_byte_for_byte() {
    for seed in 0..12 {
        let (one, two) = (run(seed, None, true), run(seed, None, true));
        assert!(one.trace.len() > 1000, "something happens");
        assert_eq!(one, two, "seed {seed}");
        assert_eq!(run(seed, None, false).hash, one.hash, "the text changes nothing");
    }
}

#[test]
fn no_invariant_is_broken_in_2000_runs_and_all_converge() {
    let report = Campaign { seeds: SEEDS, ..Campaign::default() }.run();
    assert_eq!(report.seeds, SEEDS);
    assert!(report.answers > 20 * SEEDS, "work is done in them: {report:?}");
    let Some((seed, violation)) = report.failed.first() else { return };
    let trace = run(*seed, None, true).trace;
    let last: Vec<&str> = trace.lines().rev().take(60).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    let failed = report.failed.len();
    panic!(
        "{failed} seeds failed; seed {seed}: {}\n{}\n(make sim SEED={seed})",
        violation.0,
        last.join("\n")
    );
}

#[test]
fn every_mutation_of_the_cores_is_found() {
    let mut missed = String::new();
    for mutation in Mutation::ALL {
        let campaign =
            Campaign { seeds: MUTATION_SEEDS, mutation: Some(mutation), failures: 1, ..Campaign::default() };
        match campaign.run().failed.first() {
            Some((seed, violation)) => println!("{mutation:?}: seed {seed}: {}", violation.0),
            None => writeln!(missed, "{mutation:?}").unwrap(),
        }
    }
    assert!(missed.is_empty(), "not found within {MUTATION_SEEDS} seeds:\n{missed}");
}

/// A run without faults in which, from 10 s to 50 s, each write takes 500 ms on the disks of these nodes.
fn with_slow_disks(seed: u64, slow: impl Fn(u64) -> bool) -> World {
    let mut world = World::new(seed, None, false);
    world.plan.classes.clear();
    world.run_until(Time(10_000_000_000)).unwrap();
    let holders = world.holders();
    for machine in world.machines.iter().filter(|machine| slow(machine.id)) {
        machine.disk.set_latency(Duration::from_millis(500));
    }
    world.run_until(Time(50_000_000_000)).unwrap();
    assert_eq!(world.holders(), holders, "seed {seed}: the address does not wait for a disk");
    world
}

#[test]
fn with_one_disk_that_takes_500_ms_for_each_write_changes_are_made_and_the_address_stays() {
    for seed in 0..20 {
        let nodes = World::new(seed, None, false).plan.nodes;
        if nodes < 3 {
            continue;
        }
        let world = with_slow_disks(seed, |node| node == 1 + seed % nodes);
        let answers = world.ledger.answers;
        assert!(answers > 50, "seed {seed}: {answers} changes");
    }
}

#[test]
fn with_all_disks_that_slow_the_address_stays_and_all_is_well_when_they_are_quick_again() {
    for seed in 0..20 {
        let mut world = with_slow_disks(seed, |_| true);
        world.heal().unwrap();
        world.run_until(Time(57_000_000_000)).unwrap();
        assert_eq!(unsettled(&world), None, "seed {seed}");
    }
}

/// A simulator in which nothing happens finds nothing.
#[test]
fn the_runs_meet_what_they_are_made_for() {
    let traces: Vec<String> = (0..60).map(|seed| run(seed, None, true).trace).collect();
    let met = |what: &str| traces.iter().filter(|trace| trace.contains(what)).count();
    let wanted = [
        ("sends a snapshot", 10),
        ("its disk is lost", 3),
        ("loses power", 10),
        ("the guard takes the address away", 5),
        ("takes no part any more: (simulated): Full", 3),
        ("takes no part any more: (simulated): KeepButFail", 3),
        ("has lost", 20),
        ("Repeated", 1),
        ("Returned", 20),
        ("Confirmed", 5),
        ("TicketKeyAnnounced", 40),
        ("TicketKeyUsed { number: 3", 20),
        ("Refused", 10),
        ("witness: Some", 5),
        ("protocol: Carp", 3),
        ("protocol: Vrrp2", 3),
        ("nodes: 2", 5),
        ("nodes: 5", 3),
    ];
    for (what, at_least) in wanted {
        let found = met(what);
        assert!(found >= at_least, "{what:?} is in {found} of 60 runs, not in {at_least}");
    }
}
