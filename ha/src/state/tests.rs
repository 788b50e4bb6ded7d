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
    }))
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
        ("[a-z]{0,8}", option::of(0u64..5)).prop_map(|(text, if_version)| Kind::PutConfig(PutConfig {
            text,
            author: "anna".into(),
            unix_ms: 1,
            comment: String::new(),
            if_version,
        })),
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
