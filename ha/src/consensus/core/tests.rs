//! Whole groups in one thread: no sockets, no clock, one seed.

mod group;
mod members;

use std::collections::BTreeSet;

use group::{Faults, Group};
use proptest::collection::vec;
use proptest::prelude::*;
use raft::eraftpb::{Entry, HardState, Message, MessageType};

use super::*;
use crate::consensus::store::memory::{Fault, MemoryStore};
use crate::state::{Command, Kind, PutConfig};

/// Ticks within which a healthy group has a leader again and all that was asked is applied: 6 s.
const SETTLED: u64 = 120;

#[test]
fn a_fresh_pair_and_a_fresh_three_elect_a_leader_within_two_election_timeouts() {
    for seed in 0..50 {
        for (nodes, witnesses) in [(2, vec![]), (3, vec![]), (3, vec![3])] {
            let mut group = Group::new(nodes, witnesses, seed);
            let ticks = group.run_until(4 * ELECTION_TICKS as u64, |group| group.leader().is_some());
            assert!(ticks.is_some(), "seed {seed}, {nodes} nodes");
        }
    }
}

#[test]
fn a_witness_that_leads_hands_over_to_a_node_with_traffic() {
    for seed in 0..60 {
        let mut group = Group::new(3, vec![3], seed);
        group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
        // In whatever phase of its clock the witness begins to lead.
        for _ in 0..seed % 10 {
            group.tick();
        }
        // Only the witness is to have the last entry when the first leader dies.
        let leader = group.leader().unwrap();
        assert_ne!(leader, 3, "of equals, the node with traffic leads");
        let late = 3 - leader;
        group.stop(late);
        group.put(leader, "a");
        group.run_until(SETTLED, |group| group.all_at_version(1)).unwrap();
        group.stop(leader);
        group.start(late);
        group.run_until(SETTLED, |group| group.core(3).is_leader()).expect("the witness can lead");
        group.run_until(SETTLED, |group| group.leader() == Some(late)).expect("and hands over");
        assert!(group.all_at_version(1));
    }
}

#[test]
fn committed_entries_survive_lost_doubled_and_reordered_messages_and_crashes() {
    for seed in 0..60 {
        for (nodes, witnesses) in [(2, vec![]), (3, vec![]), (3, vec![2])] {
            torture(nodes, &witnesses, seed);
        }
    }
}

fn torture(nodes: u64, witnesses: &[u64], seed: u64) {
    let mut group = Group::new(nodes, witnesses.to_vec(), seed);
    group.faults = Faults { lose: 10, double: 5, delay: 4, crash: 2 };
    for round in 0..400 {
        if round % 3 == 0 {
            let node = 1 + group.random(nodes);
            group.put(node, &format!("round {round}"));
        }
        group.tick();
    }
    let promised: BTreeSet<u64> = group.applied.keys().copied().collect();
    group.heal();
    group
        .run_until(SETTLED, Group::settled)
        .unwrap_or_else(|| panic!("seed {seed}: no progress after healing"));
    let version = group.core(1).state().version();
    // A leader that is about to hand over refuses; whoever leads then is asked.
    let took = group.run_until(SETTLED, |group| {
        if let Some(leader) = group.leader().filter(|_| group.all_at_version(version)) {
            group.put(leader, "after");
        }
        group.settled() && group.core(1).state().version() > version
    });
    assert!(took.is_some(), "seed {seed}: nothing is committed after healing");
    for index in promised {
        assert!(index <= group.core(1).state().index(), "seed {seed}: entry {index} was lost");
    }
    let first = group.core(1).state().clone();
    for id in 2..=nodes {
        assert_eq!(*group.core(id).state(), first, "seed {seed}: node {id} differs");
    }
}

#[test]
fn a_node_that_was_away_gets_a_snapshot_when_the_log_was_cut() {
    let mut group = Group::new(3, vec![], 1);
    group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
    let leader = group.leader().unwrap();
    let away = if leader == 1 { 2 } else { 1 };
    group.stop(away);
    for n in 0..60 {
        group.put(leader, &format!("{n}"));
        group.tick();
    }
    group.run_until(SETTLED, |group| group.core(leader).state().version() == 60).unwrap();
    assert!(group.core(leader).truncated().index > 2, "the log was cut");
    group.start(away);
    group.run_until(SETTLED, |group| group.all_at_version(60)).unwrap();
    assert!(group.restored.contains(&away));
}

#[test]
fn a_node_whose_disk_was_replaced_catches_up() {
    for seed in 0..10 {
        let mut group = Group::new(3, vec![], seed);
        group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
        let leader = group.leader().unwrap();
        for n in 0..60 {
            group.put(leader, &format!("{n}"));
            group.tick();
        }
        group.run_until(SETTLED, |group| group.all_at_version(60)).unwrap();
        let victim = if leader == 3 { 2 } else { 3 };
        group.stop(victim);
        group.disk(victim).wipe();
        group.start(victim);
        group.run_until(SETTLED, |group| group.all_at_version(60)).expect("caught up");
    }
}

#[test]
fn a_pair_with_one_node_dead_commits_nothing_and_goes_on_when_it_returns() {
    let mut group = Group::new(2, vec![], 3);
    group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
    let leader = group.leader().unwrap();
    let other = 3 - leader;
    group.put(leader, "a");
    group.run_until(SETTLED, |group| group.all_at_version(1)).unwrap();
    group.stop(other);
    group.put(leader, "b");
    for _ in 0..SETTLED {
        group.tick();
    }
    assert_eq!(group.core(leader).state().version(), 1, "one of two is no quorum");
    assert!(!group.core(leader).is_leader(), "a leader without a quorum steps down");
    group.start(other);
    group.run_until(SETTLED, |group| group.leader().is_some() && group.all_at_version(2)).unwrap();
}

#[test]
fn a_failed_write_stops_the_core_and_a_restart_goes_on() {
    for fault in [Fault::Lost, Fault::Kept] {
        let mut group = Group::new(3, vec![], 5);
        group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
        let leader = group.leader().unwrap();
        group.disk(leader).fail_next_write(fault);
        group.put(leader, "a");
        assert!(!group.is_up(leader), "the core refused to go on");
        group.start(leader);
        group.run_until(SETTLED, Group::settled).unwrap();
    }
}

#[test]
fn a_hard_entry_is_durable_on_the_leader_with_its_commit_index_when_it_is_applied() {
    let mut group = Group::new(2, vec![], 7);
    group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
    let leader = group.leader().unwrap();
    group.put(leader, "a");
    group.run_until(SETTLED, |group| group.core(leader).state().version() == 1).unwrap();
    // Power fails on both at this moment; the leader comes back alone.
    group.stop(1);
    group.stop(2);
    group.start(leader);
    group.tick();
    assert_eq!(group.core(leader).state().version(), 1);
}

#[test]
fn other_members_than_those_of_the_log_are_refused() {
    let disk = MemoryStore::default();
    Core::open(CoreSettings::new(1, vec![1, 2], vec![]), disk.clone()).unwrap();
    let error = Core::open(CoreSettings::new(1, vec![1, 2, 3], vec![3]), disk).err().unwrap();
    assert!(matches!(error, CoreError::Members { .. }), "{error}");
}

#[test]
fn an_entry_of_a_newer_version_stops_the_core_with_the_reason() {
    let disk = MemoryStore::default();
    let mut core = Core::open(CoreSettings::new(1, vec![1], vec![]), disk).unwrap();
    while !core.is_leader() {
        core.tick().unwrap();
        core.advance().unwrap();
    }
    let put = Command::new(Kind::PutConfig(PutConfig { text: "a".into(), ..PutConfig::default() }));
    core.propose(put.encode(), false).unwrap();
    assert_eq!(core.advance().unwrap().applied.len(), 1);
    core.propose(Command { level: 99, ..put }.encode(), false).unwrap();
    let error = core.advance().unwrap_err();
    assert!(error.to_string().contains("needs feature level 99"), "{error}");
    assert_eq!(core.state().version(), 1, "and the state is what it was");
}

fn any_message() -> impl Strategy<Value = Message> {
    let numbers = || prop_oneof![4 => 0u64..8, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)];
    let entry = (numbers(), numbers(), 0i32..4).prop_map(|(index, term, entry_type)| Entry {
        index,
        term,
        entry_type,
        ..Entry::default()
    });
    let first = (-1i32..20, numbers(), numbers(), numbers(), numbers(), numbers());
    let second = (any::<bool>(), numbers(), prop_oneof![9 => Just(0u64), 1 => Just(1)], vec(entry, 0..3));
    (first, second).prop_map(|(first, second)| {
        let (msg_type, term, log_term, index, commit, commit_term) = first;
        let (reject, reject_hint, request_snapshot, entries) = second;
        Message {
            msg_type,
            to: 1,
            from: 2,
            term,
            log_term,
            index,
            commit,
            commit_term,
            reject,
            reject_hint,
            request_snapshot,
            entries,
            ..Message::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_sequence_of_forged_messages_makes_the_core_panic(
        messages in vec((any_message(), 0u8..12), 1..30),
        leads in any::<bool>(),
    ) {
        let disk = MemoryStore::default();
        let mut core = Core::open(CoreSettings::new(1, vec![1, 2], vec![]), disk).unwrap();
        if leads {
            let term = core.term() + 1;
            while core.role() != RaftRole::Candidate {
                core.tick().unwrap();
                core.advance().unwrap();
            }
            for kind in [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse] {
                let vote = Message { msg_type: kind as i32, to: 1, from: 2, term, ..Message::default() };
                core.step(2, vote).unwrap();
                core.advance().unwrap();
            }
            prop_assert!(core.is_leader());
        }
        for (message, ticks) in messages {
            // Refused or not: it must not panic. An entry that was forged well enough may stop the core.
            let _ = core.step(2, message);
            if core.advance().is_err() {
                break;
            }
            for _ in 0..ticks {
                core.tick().unwrap();
            }
            if core.advance().is_err() {
                break;
            }
        }
    }
}

#[test]
fn the_hard_state_of_a_new_group_is_not_at_term_zero() {
    let disk = MemoryStore::default();
    Core::open(CoreSettings::new(1, vec![1, 2], vec![]), disk.clone()).unwrap();
    let stored = disk.stored().unwrap();
    assert_eq!(stored.hard_state, HardState { term: 1, vote: 0, commit: 1 });
    stored.check().unwrap();
}
