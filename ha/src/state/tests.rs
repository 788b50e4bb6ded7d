use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::clients::Clients;
use super::command::{BATCH_FACTS_MAX, CONFIG_TEXT_MAX};
use super::configuration::{HISTORY_BYTES, HISTORY_VERSIONS};
use super::*;

fn put(text: &str) -> Command {
    put_if(text, None)
}

fn put_if(text: &str, if_version: Option<u64>) -> Command {
    Command::new(Kind::PutConfig(PutConfig {
        text: text.to_owned(),
        author: "anna".to_owned(),
        unix_ms: 7,
        comment: "because".to_owned(),
        if_version,
        confirm_within_ms: None,
    }))
}

fn trial(text: &str) -> Command {
    let put = PutConfig { text: text.to_owned(), confirm_within_ms: Some(300_000), ..PutConfig::default() };
    Command::new(Kind::PutConfig(put))
}

fn confirm(version: u64) -> Command {
    Command::new(Kind::ConfirmConfig(ConfirmConfig { version, author: "anna".to_owned() }))
}

fn return_from(version: u64) -> Command {
    Command::new(Kind::ReturnConfig(ReturnConfig { version, unix_ms: 9, ..ReturnConfig::default() }))
}

fn refused(outcome: Outcome) -> Refusal {
    let Outcome::Refused(reason) = outcome else { panic!("{outcome:?}") };
    reason
}

fn fact(client: u8, server: &str, seen: u32) -> ClientFact {
    let client = IpAddr::V4(Ipv4Addr::new(10, 0, 0, client));
    ClientFact { service: "web".into(), client, server: server.into(), seen }
}

fn clients(facts: &[ClientFact]) -> Command {
    Command::new(Kind::Clients(ClientBatch::pack(facts)))
}

fn any_fact() -> impl Strategy<Value = ClientFact> {
    let address = prop_oneof![
        (0u8..12).prop_map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))),
        (0u16..4).prop_map(|n| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n))),
    ];
    ("[ab]", address, "s[1-3]", 0u32..6).prop_map(|(service, client, server, seen)| ClientFact {
        service: service.into(),
        client,
        server: server.into(),
        seen,
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let kind = prop_oneof![
        ("[a-z]{0,8}", option::of(0u64..5), option::of(0u64..9)).prop_map(
            |(text, if_version, confirm_within_ms)| Kind::PutConfig(PutConfig {
                text,
                author: "anna".into(),
                unix_ms: 1,
                comment: String::new(),
                if_version,
                confirm_within_ms,
            })
        ),
        (0u64..8).prop_map(|version| Kind::ConfirmConfig(ConfirmConfig { version, author: "eve".into() })),
        (0u64..8, "[a-z]{0,3}", 0u64..9).prop_map(|(version, author, unix_ms)| {
            Kind::ReturnConfig(ReturnConfig { version, author, unix_ms, comment: "no".into() })
        }),
        ("[ab]", "s[1-3]", 0i32..3).prop_map(|(service, server, state)| Kind::SetServer(SetServer {
            service,
            server,
            state
        })),
        vec(any_fact(), 0..8).prop_map(|facts| Kind::Clients(ClientBatch::pack(&facts))),
    ];
    (kind, option::of((1u64..3, 0u64..6))).prop_map(|(kind, origin)| {
        let origin = origin.map(|(node, sequence)| Origin { node, sequence });
        Command { origin, ..Command::new(kind) }
    })
}

fn applied(commands: &[Command]) -> State {
    let mut state = State::with_client_limit(10);
    apply_all(&mut state, 1, commands);
    state
}

fn apply_all(state: &mut State, first: u64, commands: &[Command]) {
    for (offset, command) in commands.iter().enumerate() {
        state.apply_bytes(first + offset as u64, &command.encode()).unwrap();
    }
}

proptest! {
    #[test]
    fn replicas_that_applied_the_same_log_are_equal(commands in vec(any_command(), 0..40)) {
        let (one, two) = (applied(&commands), applied(&commands));
        prop_assert_eq!(one.snapshot(), two.snapshot());
        prop_assert_eq!(one, two);
    }

    #[test]
    fn a_snapshot_and_the_tail_equal_the_full_log(commands in vec(any_command(), 0..40), cut in 0usize..40) {
        let cut = cut.min(commands.len());
        let mut restored = State::restore(&applied(&commands[..cut]).snapshot()).unwrap();
        apply_all(&mut restored, cut as u64 + 1, &commands[cut..]);
        let full = applied(&commands);
        prop_assert_eq!(restored.snapshot(), full.snapshot());
        prop_assert_eq!(restored, full);
    }

    #[test]
    fn a_truncated_snapshot_is_an_error(commands in vec(any_command(), 0..12), part in 0.0f64..1.0) {
        let bytes = applied(&commands).snapshot();
        let length = (bytes.len() as f64 * part) as usize;
        prop_assert!(State::restore(&bytes[..length]).is_err());
    }

    #[test]
    fn a_garbled_snapshot_is_an_error(commands in vec(any_command(), 0..12), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = applied(&commands).snapshot();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(State::restore(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_a_snapshot_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(State::restore(&bytes).is_err());
    }

    #[test]
    fn a_garbled_command_never_panics(command in any_command(), at in any::<prop::sample::Index>(), flip in 1u8.., bytes in vec(any::<u8>(), 0..100)) {
        let mut garbled = command.encode();
        let at = at.index(garbled.len());
        garbled[at] ^= flip;
        let mut state = State::default();
        let _ = state.apply_bytes(1, &garbled);
        let _ = state.apply_bytes(2, &bytes);
    }

    #[test]
    fn a_command_survives_the_wire(command in any_command()) {
        prop_assert_eq!(Command::decode(&command.encode()).unwrap(), command);
    }

    #[test]
    fn facts_survive_a_batch(facts in vec(any_fact(), 0..50)) {
        prop_assert_eq!(ClientBatch::pack(&facts).unpack(), facts);
    }
}

#[test]
fn versions_count_from_one_and_a_wrong_if_version_is_refused_with_the_reason() {
    let mut state = State::default();
    assert_eq!(state.apply(1, &put("a")).unwrap(), Outcome::Config { version: 1 });
    assert_eq!(state.apply(2, &put_if("b", Some(1))).unwrap(), Outcome::Config { version: 2 });
    let refused = state.apply(3, &put_if("c", Some(1))).unwrap();
    let Outcome::Refused(reason) = refused else { panic!("{refused:?}") };
    assert_eq!(reason, Refusal::VersionMismatch { expected: 1, current: 2 });
    assert!(reason.to_string().contains("at version 2, not 1"));
    assert_eq!(&*state.configuration().current().unwrap().text, "b");
    assert_eq!(state.index(), 3);
}

#[test]
fn a_configuration_on_trial_comes_back_once_unless_it_was_confirmed() {
    let mut state = State::default();
    assert_eq!(refused(state.apply(1, &trial("a")).unwrap()), Refusal::NothingToReturnTo);
    state.apply(2, &put("a")).unwrap();
    assert_eq!(state.apply(3, &trial("b")).unwrap(), Outcome::Config { version: 2 });
    assert_eq!(state.configuration().unconfirmed().unwrap().back_to.version, 1);
    let returned = Outcome::Returned { version: 3, back_to: 1, unasked: true };
    assert_eq!(state.apply(4, &return_from(2)).unwrap(), returned);
    let current = state.configuration().current().unwrap();
    assert_eq!((&*current.text, current.author.as_str(), current.unix_ms), ("a", "cygnet", 9));
    // Another node has proposed the same.
    let again = refused(state.apply(5, &return_from(2)).unwrap());
    assert_eq!((again, state.version()), (Refusal::NothingToConfirm { current: 3 }, 3));

    state.apply(6, &trial("c")).unwrap();
    let confirmed = Outcome::Confirmed { version: 4, author: "anna".to_owned() };
    assert_eq!(state.apply(7, &confirm(4)).unwrap(), confirmed);
    assert_eq!(refused(state.apply(8, &return_from(4)).unwrap()), Refusal::NothingToConfirm { current: 4 });
    assert_eq!(&*state.configuration().current().unwrap().text, "c");
}

#[test]
fn a_trial_may_follow_a_trial_and_a_change_for_good_has_to_wait_for_its_end() {
    let mut state = State::default();
    state.apply(1, &put("a")).unwrap();
    state.apply(2, &trial("b")).unwrap();
    let reason = refused(state.apply(3, &put("c")).unwrap());
    assert_eq!(reason, Refusal::Unconfirmed { version: 2 });
    assert!(reason.to_string().contains("`cygnet config confirm` or `cygnet config rollback`"), "{reason}");
    state.apply(4, &trial("c")).unwrap();
    // The time of the first trial is over only now: it has been replaced.
    let late = refused(state.apply(5, &return_from(2)).unwrap());
    assert_eq!(late, Refusal::VersionMismatch { expected: 2, current: 3 });
    assert_eq!(
        refused(state.apply(6, &confirm(2)).unwrap()),
        Refusal::VersionMismatch { expected: 2, current: 3 }
    );
    state.apply(7, &return_from(3)).unwrap();
    assert_eq!(&*state.configuration().current().unwrap().text, "a", "not b, which nobody confirmed either");
    state.apply(8, &put("d")).unwrap();
    assert_eq!(state.version(), 5);
}

#[test]
fn what_comes_back_is_kept_when_the_history_has_forgotten_it_and_over_a_snapshot() {
    let mut state = State::default();
    state.apply(1, &put("good")).unwrap();
    for index in 2..60 {
        state.apply(index, &trial("bad")).unwrap();
    }
    assert!(state.configuration().get(1).is_none());
    let mut restored = State::restore(&state.snapshot()).unwrap();
    assert_eq!(restored, state);
    restored.apply(60, &return_from(59)).unwrap();
    assert_eq!(&*restored.configuration().current().unwrap().text, "good");
}

#[test]
fn a_snapshot_has_the_old_format_until_it_holds_what_an_older_version_would_pass_over() {
    let format = |state: &State| state.snapshot()[4];
    let mut state = State::default();
    state.apply(1, &put("a")).unwrap();
    assert_eq!((format(&state), state.level()), (1, 1));
    state.apply(2, &trial("b")).unwrap();
    assert_eq!((format(&state), state.level()), (2, 3));
    state.apply(3, &confirm(2)).unwrap();
    assert_eq!((format(&state), state.level()), (1, 1));
    let mut newer = state.snapshot();
    newer[4] = 5;
    assert_eq!(State::restore(&newer), Err(SnapshotError::TooNew(5)));
}

#[test]
fn a_snapshot_of_the_first_format_is_still_read() {
    // Byte by byte: "a" as v1 by anna, and a server that is drained.
    let old = include_bytes!("fixtures/format-1.snapshot");
    let state = State::restore(old).unwrap();
    assert_eq!((state.version(), state.index()), (1, 2));
    assert_eq!(&*state.configuration().current().unwrap().text, "a");
    assert_eq!(state.servers().get("web", "s1"), Admin::Drain);
    assert!(state.configuration().unconfirmed().is_none());
}

#[test]
fn a_snapshot_of_the_second_format_is_still_read_and_written() {
    // Byte by byte: "a" as v1, and "b" on trial for a minute as v2, by anna.
    let old = include_bytes!("fixtures/format-2.snapshot");
    let state = State::restore(old).unwrap();
    assert_eq!((old[4], state.version(), state.level()), (2, 2, 3));
    assert_eq!(state.configuration().unconfirmed().map(|waiting| waiting.back_to.version), Some(1));
    assert!(state.tickets().is_empty());
    assert_eq!(state.snapshot(), old);
}

#[test]
fn only_a_configuration_on_trial_needs_the_third_level_and_its_time_has_a_limit() {
    assert_eq!((put("a").level, trial("a").level, confirm(1).level, return_from(1).level), (1, 3, 3, 3));
    let long = PutConfig { confirm_within_ms: Some(86_400_001), ..PutConfig::default() };
    assert!(Command::new(Kind::PutConfig(long)).check().is_err());
    assert!(trial("a").check().is_ok());
}

#[test]
fn the_history_is_bounded_in_versions_and_in_bytes() {
    let mut state = State::default();
    for index in 1..=40 {
        state.apply(index, &put("small")).unwrap();
    }
    let kept: Vec<u64> = state.configuration().history().map(|version| version.version).collect();
    assert_eq!(kept, (9..=40).collect::<Vec<_>>());
    assert_eq!(kept.len(), HISTORY_VERSIONS);

    let large = "x".repeat(CONFIG_TEXT_MAX);
    for index in 41..=60 {
        state.apply(index, &put(&large)).unwrap();
    }
    let bytes: usize = state.configuration().history().map(|version| version.text.len()).sum();
    assert!(bytes <= HISTORY_BYTES);
    assert_eq!(state.version(), 60);
}

#[test]
fn a_configuration_over_the_limit_is_refused() {
    let mut state = State::default();
    let outcome = state.apply(1, &put(&"x".repeat(CONFIG_TEXT_MAX + 1))).unwrap();
    assert!(matches!(outcome, Outcome::Refused(Refusal::TooLong(_))), "{outcome:?}");
    assert_eq!(state.version(), 0);
    assert!(clients(&vec![fact(1, "s1", 1); BATCH_FACTS_MAX + 1]).check().is_err());
}

#[test]
fn a_command_that_arrives_twice_is_applied_once_with_the_same_result() {
    let mut state = State::default();
    let command = Command { origin: Some(Origin { node: 1, sequence: 9 }), ..put("a") };
    assert_eq!(state.apply(1, &command).unwrap(), Outcome::Config { version: 1 });
    assert_eq!(state.apply(2, &command).unwrap(), Outcome::Repeated(Ok(1)));
    assert_eq!(state.version(), 1);
    let mut restored = State::restore(&state.snapshot()).unwrap();
    assert_eq!(restored.apply(3, &command).unwrap(), Outcome::Repeated(Ok(1)));
}

#[test]
fn an_unknown_command_stops_the_apply_and_changes_nothing() {
    let mut state = State::default();
    state.apply(1, &put("a")).unwrap();
    let before = state.clone();
    // Field 99 does not exist: length-delimited, empty.
    let unknown = [0x08, 0x01, 0x9a, 0x06, 0x00];
    let error = state.apply_bytes(2, &unknown).unwrap_err();
    assert_eq!(error, ApplyError::Command { index: 2, error: CommandError::Unknown });
    let newer = Command { level: FEATURE_LEVEL + 1, ..put("b") };
    let error = state.apply_bytes(2, &newer.encode()).unwrap_err();
    assert!(error.to_string().contains("update this node"), "{error}");
    assert_eq!(state, before);
}

#[test]
fn an_older_fact_does_not_overwrite_a_newer_one() {
    let mut state = State::default();
    state.apply(1, &clients(&[fact(1, "s1", 100)])).unwrap();
    let outcome = state.apply(2, &clients(&[fact(1, "s2", 99), fact(2, "s2", 1)])).unwrap();
    assert_eq!(outcome, Outcome::Clients(vec![fact(2, "s2", 1)]));
    assert_eq!(state.clients().get("web", fact(1, "", 0).client), Some(fact(1, "s1", 100)));
    state.apply(3, &clients(&[fact(1, "s3", 101)])).unwrap();
    assert_eq!(&*state.clients().get("web", fact(1, "", 0).client).unwrap().server, "s3");
}

#[test]
fn a_full_client_table_forgets_the_one_written_longest_ago() {
    let mut table = Clients::with_limit(3);
    for n in 1..=3 {
        assert!(table.put(&fact(n, "s1", 500)));
    }
    assert!(table.put(&fact(1, "s1", 500)), "refreshed: now 2 is the oldest");
    assert!(table.put(&fact(4, "s1", 1)));
    let kept: Vec<ClientFact> = table.iter().collect();
    assert_eq!(kept, vec![fact(3, "s1", 500), fact(1, "s1", 500), fact(4, "s1", 1)]);
}

#[test]
fn a_drained_server_stays_drained_over_a_snapshot_until_it_is_made_ready() {
    let set = |state| {
        Command::new(Kind::SetServer(SetServer { service: "web".into(), server: "s1".into(), state }))
    };
    let mut state = State::default();
    state.apply(1, &set(1)).unwrap();
    let mut state = State::restore(&state.snapshot()).unwrap();
    assert_eq!(state.servers().get("web", "s1"), Admin::Drain);
    assert_eq!(state.apply(2, &set(9)).unwrap(), Outcome::Refused(Refusal::UnknownAdmin(9)));
    state.apply(3, &set(0)).unwrap();
    assert_eq!(state.servers().get("web", "s1"), Admin::Ready);
}
