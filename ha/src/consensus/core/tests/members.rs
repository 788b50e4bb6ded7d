//! Nodes that come, leave, lose their disk, and clusters that lose their quorum.

use super::group::Group;
use super::*;
use crate::state::{AddMember, CreateToken, MemberId, MemberRecord, Standing, Token, WireMember};

fn record(id: u64, standing: Standing) -> MemberRecord {
    MemberRecord {
        id,
        name: format!("lb{id}"),
        address: ([10, 0, 0, u8::try_from(id).unwrap()], 7300).into(),
        witness: false,
        standing,
        key: Vec::new(),
    }
}

fn token(id: u64) -> CreateToken {
    let token = Token { id, hash: vec![7; 32], expires_unix_ms: 1000, ..Token::default() };
    CreateToken { token: Some(token), unix_ms: 0 }
}

fn add(id: u64) -> Kind {
    let member = WireMember::from(&record(id, Standing::Joining));
    Kind::AddMember(AddMember { member: Some(member), token: id, unix_ms: 1 })
}

/// A cluster of one, with tokens for the nodes 2 to 5.
fn first(seed: u64) -> Group {
    let tokens: Vec<CreateToken> = (2..=5).map(token).collect();
    let state = State::begin([record(1, Standing::Voter)], &tokens).unwrap();
    Group::begin(state, seed)
}

/// Lets node `id` in and waits until it is a voter.
fn join(group: &mut Group, id: u64) {
    let leader = group.leader().unwrap();
    group.propose(leader, add(id));
    group.run_until(SETTLED, |group| group.core(leader).state().members().get(id).is_some()).unwrap();
    group.join(id);
    group.run_until(SETTLED, |group| group.core(leader).has_caught_up(id)).expect("it catches up");
    assert!(!group.core(leader).voters().contains(&id), "a learner first");
    group.propose(leader, Kind::PromoteMember(MemberId { id }));
    group.run_until(SETTLED, |group| group.core(id).voters().contains(&id)).expect("it becomes a voter");
}

#[test]
fn a_cluster_grows_from_one_node_to_five_and_shrinks_again() {
    for seed in 0..10 {
        let mut group = first(seed);
        group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
        group.put(1, "before");
        for id in 2..=5 {
            join(&mut group, id);
        }
        let leader = group.leader().unwrap();
        group.put(leader, "after");
        group.run_until(SETTLED, |group| group.all_at_version(2)).expect("all five have it");
        for id in (2..=5).rev() {
            group.propose(1, Kind::RemoveMember(MemberId { id }));
            group.run_until(SETTLED, |group| !group.core(1).voters().contains(&id)).unwrap();
            group.stop(id);
        }
        group.put(1, "alone");
        group.run_until(SETTLED, |group| group.core(1).state().version() == 3).expect("alone again");
        group.propose(1, Kind::RemoveMember(MemberId { id: 1 }));
        group.run_until(20, |_| false);
        assert_eq!(group.core(1).voters(), [1], "the last voter stays");
    }
}

#[test]
fn a_member_that_restarts_remembers_who_belongs_to_the_cluster() {
    let mut group = first(3);
    group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
    join(&mut group, 2);
    join(&mut group, 3);
    for id in 1..=3 {
        group.stop(id);
    }
    for id in 1..=3 {
        group.start(id);
    }
    group.run_until(SETTLED, Group::settled).expect("they agree again");
    for id in 1..=3 {
        assert_eq!(group.core(id).voters(), [1, 2, 3]);
        assert_eq!(group.core(id).state().members().voters(), [1, 2, 3]);
    }
}

#[test]
fn a_leader_that_is_to_leave_hands_over_first() {
    let mut group = first(5);
    group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
    join(&mut group, 2);
    join(&mut group, 3);
    let leaver = group.leader().unwrap();
    group.propose(leaver, Kind::RemoveMember(MemberId { id: leaver }));
    group
        .run_until(SETTLED, |group| group.leader().is_some_and(|leader| leader != leaver))
        .expect("handed over");
    let leader = group.leader().unwrap();
    group.propose(leader, Kind::RemoveMember(MemberId { id: leaver }));
    group.run_until(SETTLED, |group| !group.core(leader).voters().contains(&leaver)).expect("gone");
}

#[test]
fn a_voter_that_lost_its_disk_does_not_help_to_lose_what_it_had_acknowledged() {
    for seed in 0..40 {
        let mut group = first(seed);
        group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
        join(&mut group, 2);
        join(&mut group, 3);
        // Node 3 is late: only 1 and 2 have what is acknowledged now.
        group.run_until(SETTLED, |group| {
            let leader = group.leader();
            if leader.is_some_and(|leader| leader != 1) {
                group.core(leader.unwrap()).hand_over_to(Some(1));
            }
            leader == Some(1) && group.settled()
        });
        group.stop(3);
        group.put(1, "acknowledged");
        group.run_until(SETTLED, |group| group.core(2).state().version() == 1).unwrap();
        // 1 dies, 2 loses its disk, 3 comes back: if 2 voted for 3, the acknowledged change would be gone.
        group.stop(1);
        group.stop(2);
        group.lose_disk(2);
        group.start(3);
        assert!(
            group.run_until(SETTLED, |group| group.leader().is_some()).is_none(),
            "seed {seed}: a leader"
        );
        assert!(group.core(2).is_waiting());
        group.start(1);
        group.run_until(SETTLED, Group::settled).expect("with the one who knows, it goes on");
        assert!(group.all_at_version(1));
        assert!(!group.core(2).is_incomplete(), "it votes again");
        group.stop(1);
        group.run_until(SETTLED, |group| group.leader().is_some()).expect("now 2 and 3 are a quorum");
    }
}

#[test]
fn in_a_pair_a_voter_that_lost_its_disk_lets_the_other_lead() {
    let mut group = first(9);
    group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
    join(&mut group, 2);
    group.put(1, "acknowledged");
    group.run_until(SETTLED, |group| group.all_at_version(1)).unwrap();
    group.stop(1);
    group.stop(2);
    group.lose_disk(2);
    group.start(1);
    group.run_until(SETTLED, Group::settled).expect("the pair goes on");
    assert!(group.all_at_version(1));
}

#[test]
fn the_survivor_of_a_pair_goes_on_alone_and_the_other_gives_up_what_it_had_not_shared() {
    for seed in 0..20 {
        let mut group = first(seed);
        group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
        join(&mut group, 2);
        group.put(1, "both have it");
        group.run_until(SETTLED, |group| group.all_at_version(1)).unwrap();
        // Node 1 leads, is alone, and writes down what nobody else gets.
        group.run_until(SETTLED, |group| {
            group.core(2).hand_over_to(Some(1));
            group.leader() == Some(1)
        });
        group.stop(2);
        group.put(1, "nobody else has it");
        group.stop(1);
        group.start(2);
        assert!(group.run_until(40, |group| group.core(2).is_leader()).is_none(), "no quorum");
        group.recover(2);
        group.run_until(SETTLED, |group| group.core(2).is_leader()).expect("the survivor leads alone");
        group.put(2, "after the recovery");
        group.run_until(SETTLED, |group| group.core(2).state().version() == 2).unwrap();
        // The other one comes back into another life of the log.
        let epoch = group.core(2).epoch();
        group.start(1);
        let discarded = group.adopt(1, epoch);
        assert_eq!(discarded.configurations.len(), 1, "seed {seed}: {discarded:?}");
        assert_eq!(discarded.configurations[0].text, "nobody else has it");
        assert_eq!(
            group.core(1).state().version(),
            1,
            "until the leader's snapshot comes, the last state stays"
        );
        group.run_until(SETTLED, Group::settled).expect("it has caught up");
        assert_eq!(group.core(1).epoch(), epoch);
        group.propose(2, Kind::PromoteMember(MemberId { id: 1 }));
        group.run_until(SETTLED, |group| group.core(1).voters() == [1, 2]).expect("a voter again");
        group.stop(1);
        group.start(1);
        assert_eq!(group.core(1).epoch(), epoch, "it is on its disk");
    }
}

#[test]
fn a_node_that_crashes_between_two_lives_of_the_log_still_has_the_old_one() {
    let mut group = first(2);
    group.run_until(SETTLED, |group| group.leader().is_some()).unwrap();
    join(&mut group, 2);
    group.put(1, "kept");
    group.run_until(SETTLED, |group| group.all_at_version(1)).unwrap();
    group.stop(1);
    group.recover(2);
    let epoch = group.core(2).epoch();
    group.run_until(SETTLED, |group| group.core(2).is_leader()).unwrap();
    group.stop(2);
    group.start(1);
    group.adopt(1, epoch);
    group.run_until(30, |_| false);
    group.stop(1);
    group.start(1);
    group.advance(1);
    assert_eq!(group.core(1).state().version(), 1);
    assert_eq!(group.core(1).epoch(), Epoch::default());
}
