use super::*;
use crate::state::{Command, Kind, Outcome, SnapshotError, State};

fn announce(after: u64, hurry: bool) -> Command {
    let sealed = vec![u8::try_from(after).unwrap() + 1; 108];
    Command::new(Kind::AnnounceTicketKey(AnnounceTicketKey {
        after,
        unix_ms: 1000 * (after + 1),
        sealed,
        hurry,
        author: String::new(),
    }))
}

fn switch(number: u64) -> Command {
    Command::new(Kind::UseTicketKey(UseTicketKey { number, unix_ms: 1000 * number + 500 }))
}

/// A state to which these were applied, none of them refused.
fn after(commands: &[Command]) -> State {
    let mut state = State::default();
    for (index, command) in (1..).zip(commands) {
        let outcome = state.apply(index, command).unwrap();
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    state
}

fn refused(state: &mut State, command: &Command) -> Refusal {
    match state.apply(state.index() + 1, command).unwrap() {
        Outcome::Refused(refusal) => refusal,
        outcome => panic!("{outcome:?}"),
    }
}

fn numbers(state: &State) -> Vec<u64> {
    state.tickets().keys().map(|key| key.number).collect()
}

#[test]
fn a_key_is_announced_then_used_then_opens_and_is_then_forgotten() {
    let mut state = after(&[announce(0, false)]);
    assert!(state.tickets().current().is_none() && state.tickets().next().is_some());
    state.apply(2, &switch(1)).unwrap();
    assert_eq!(state.tickets().current().map(|key| (key.announced_ms, key.used_ms)), Some((1000, 1500)));
    state.apply(3, &announce(1, false)).unwrap();
    state.apply(4, &switch(2)).unwrap();
    assert_eq!(numbers(&state), [2, 1]);
    state.apply(5, &announce(2, false)).unwrap();
    assert_eq!(numbers(&state), [2, 3, 1], "three at most");
    state.apply(6, &switch(3)).unwrap();
    assert_eq!(numbers(&state), [3, 2], "the first is gone");
}

#[test]
fn of_two_nodes_that_think_it_is_time_one_is_refused_and_nothing_is_overwritten() {
    let mut state = after(&[announce(0, false)]);
    let before = state.tickets().clone();
    assert_eq!(refused(&mut state, &announce(0, false)), Refusal::TicketKeyKnown { newest: 1 });
    assert_eq!(refused(&mut state, &announce(1, false)), Refusal::TicketKeyKnown { newest: 1 });
    assert_eq!(refused(&mut state, &switch(2)), Refusal::TicketKeyUnknown { number: 2 });
    assert_eq!(*state.tickets(), before);
    state.apply(9, &switch(1)).unwrap();
    assert_eq!(refused(&mut state, &switch(1)), Refusal::TicketKeyUnknown { number: 1 });
    assert_eq!(refused(&mut state, &announce(7, true)), Refusal::TicketKeyKnown { newest: 1 });
}

#[test]
fn who_hurries_gets_the_key_that_is_announced_already() {
    let mut state = after(&[announce(0, false), switch(1), announce(1, false)]);
    let sealed = state.tickets().next().unwrap().sealed.clone();
    let outcome = state.apply(4, &announce(0, true)).unwrap();
    assert!(matches!(outcome, Outcome::TicketKeyAnnounced { number: 2, .. }), "{outcome:?}");
    assert!(state.tickets().hurries());
    assert_eq!(state.tickets().next().unwrap().sealed, sealed);
    state.apply(5, &switch(2)).unwrap();
    assert!(!state.tickets().hurries());
}

#[test]
fn keys_need_the_fourth_level_and_the_third_format_and_come_back_from_a_snapshot() {
    assert_eq!((announce(0, false).level, switch(1).level), (4, 4));
    let state = after(&[announce(0, false), switch(1), announce(1, true)]);
    assert_eq!((state.level(), state.snapshot()[4]), (4, 3));
    assert_eq!(State::restore(&state.snapshot()), Ok(state.clone()));
    let long = AnnounceTicketKey { sealed: vec![0; SEALED_MAX + 1], ..AnnounceTicketKey::default() };
    assert!(Command::new(Kind::AnnounceTicketKey(long)).check().is_err());
}

#[test]
fn a_snapshot_whose_keys_do_not_belong_together_is_refused() {
    let key = |number| Some(SealedKey { number, announced_ms: 1, used_ms: 1, sealed: vec![1] });
    let restore = |newest, keys| TicketKeyring::restore(newest, false, keys);
    assert!(restore(3, [key(3), key(2), key(1)]).is_some());
    assert!(restore(2, [None, key(2), key(1)]).is_some());
    for (newest, keys) in [
        (4, [key(3), key(2), key(1)]),
        (2, [key(2), key(2), key(1)]),
        (1, [key(1), key(2), None]),
        (1, [None, None, key(1)]),
        (0, [key(0), None, None]),
        (5, [None, None, None]),
    ] {
        assert!(restore(newest, keys.clone()).is_none(), "{newest} {keys:?}");
    }
    let mut state = after(&[announce(0, false)]);
    state.tickets.newest = 9;
    assert!(matches!(State::restore(&state.snapshot()), Err(SnapshotError::Content(_))));
}

#[test]
fn what_is_sealed_is_not_printed() {
    let state = after(&[announce(0, false)]);
    let text = format!("{state:?}");
    assert!(text.contains("SealedKey(1") && !text.contains("1, 1, 1, 1"), "{text}");
}
