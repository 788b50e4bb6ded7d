use proptest::prelude::*;

use super::*;
use crate::state::{Command, Kind, Origin, Outcome, SnapshotError, State};

fn event(sequence: u64, what: &str) -> Event {
    let (subject, kind, why) = ("vip www".to_owned(), "active".to_owned(), String::new());
    let what = what.to_owned();
    Event { sequence, unix_ms: 1000 + sequence, severity: Severity::Warning, subject, kind, what, why }
}

fn batch(life: u64, sequences: impl IntoIterator<Item = u64>) -> EventBatch {
    let wire = |sequence| WireEvent::of(&event(sequence, &format!("event {sequence}")));
    EventBatch { life, events: sequences.into_iter().map(wire).collect() }
}

fn entry(node: u64, batch: EventBatch) -> Command {
    Command { origin: Some(Origin { node, sequence: 1 }), ..Command::new(Kind::Events(batch)) }
}

fn sequences(chronicle: &Chronicle) -> Vec<(u64, u64)> {
    chronicle.after(0).map(|event| (event.node, event.event.sequence)).collect()
}

#[test]
fn what_comes_twice_is_taken_once_and_a_new_life_counts_anew() {
    let mut state = State::default();
    let mut put = |index, node, batch| state.apply(index, &entry(node, batch)).unwrap();
    assert_eq!(put(1, 1, batch(7, 1..=3)), Outcome::Events { new: 3 });
    assert_eq!(put(2, 1, batch(7, 2..=4)), Outcome::Events { new: 1 });
    assert_eq!(put(3, 2, batch(9, 1..=1)), Outcome::Events { new: 1 });
    assert_eq!(put(4, 1, batch(8, 1..=1)), Outcome::Events { new: 1 });
    let all = vec![(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (1, 1)];
    assert_eq!(sequences(state.chronicle()), all);
    assert_eq!(state.chronicle().after(4).map(|event| event.number).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(state.chronicle().after(0).next().map(|first| first.event.clone()), Some(event(1, "event 1")));
}

#[test]
fn an_event_of_nobody_is_of_no_use() {
    let mut state = State::default();
    let command = Command::new(Kind::Events(batch(1, 1..=3)));
    assert_eq!(state.apply(1, &command), Ok(Outcome::Events { new: 0 }));
    assert!(state.chronicle().is_empty());
}

#[test]
fn the_oldest_goes_and_the_numbers_go_on() {
    let mut chronicle = Chronicle::default();
    for first in (0..CHRONICLE_MAX as u64 + 64).step_by(64) {
        chronicle.put(1, &batch(1, first + 1..=first + 64));
    }
    assert_eq!(chronicle.after(0).count(), CHRONICLE_MAX);
    assert_eq!(chronicle.after(0).next().unwrap().number, 65);
    assert_eq!(chronicle.newest(), CHRONICLE_MAX as u64 + 64);
}

#[test]
fn a_long_text_is_cut_at_a_letter_and_stays_within_the_limit_of_an_entry() {
    let wire = WireEvent::of(&event(1, &"ä".repeat(TEXT_MAX)));
    assert!(wire.what.ends_with("ä...") && wire.what.len() <= TEXT_MAX, "{}", wire.what.len());
    let events = vec![wire; BATCH_EVENTS_MAX];
    assert_eq!(Command::new(Kind::Events(EventBatch { life: 1, events: events.clone() })).check(), Ok(()));
    let mut longer = events.clone();
    longer[3].why = "x".repeat(TEXT_MAX + 1);
    assert!(Command::new(Kind::Events(EventBatch { life: 1, events: longer })).check().is_err());
    let more = [events, batch(1, 1..=1).events].concat();
    let command = entry(1, EventBatch { life: 1, events: more });
    assert!(command.check().is_err());
    let mut state = State::default();
    assert_eq!(state.apply(1, &command), Ok(Outcome::Events { new: 0 }), "a bad batch counts for nothing");
}

#[test]
fn only_a_state_with_events_needs_a_version_that_knows_them() {
    let mut state = State::default();
    assert_eq!((state.level(), state.snapshot()[4]), (1, 1));
    state.apply(1, &entry(1, batch(1, 1..=1))).unwrap();
    assert_eq!((state.level(), state.snapshot()[4]), (5, 4));
    assert_eq!(Command::new(Kind::Events(batch(1, 1..=1))).level, 5);
}

#[test]
fn a_snapshot_whose_events_are_out_of_order_is_refused() {
    let mut wire = WireChronicle { newest: 1, events: Vec::new(), heard: Vec::new() };
    assert!(Chronicle::from_wire(wire.clone()).is_some());
    let remembered =
        |number| WireRemembered { number, event: Some(WireEvent::default()), ..Default::default() };
    wire.events = vec![remembered(2)];
    assert_eq!(Chronicle::from_wire(wire.clone()), None, "a number that was never given");
    wire.newest = 9;
    wire.events = vec![remembered(2), remembered(2)];
    assert_eq!(Chronicle::from_wire(wire.clone()), None, "twice the same");
    wire.events = vec![WireRemembered { event: None, ..remembered(2) }];
    assert_eq!(Chronicle::from_wire(wire), None, "no event");
}

proptest! {
    #[test]
    fn any_row_of_batches_gives_each_event_once_and_survives_a_snapshot(
        batches in proptest::collection::vec((1u64..4, 1u64..3, 0u64..40, 0u64..9), 0..40)
    ) {
        let mut state = State::default();
        for (index, (node, life, first, count)) in batches.into_iter().enumerate() {
            state.apply(index as u64 + 1, &entry(node, batch(life, first..first + count))).unwrap();
        }
        let numbers: Vec<u64> = state.chronicle().after(0).map(|event| event.number).collect();
        prop_assert_eq!(numbers, (1..=state.chronicle().newest()).collect::<Vec<_>>());
        let restored: Result<State, SnapshotError> = State::restore(&state.snapshot());
        prop_assert_eq!(restored, Ok(state));
    }
}
