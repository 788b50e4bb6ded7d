//! What a fuzz target does with an entry of the log, and with a snapshot of the state. The same functions run under proptest in
//! `ha/tests/state_any_bytes.rs`.

use cygnet_ha::state::{Command, Kind, PutConfig, State};

/// Any bytes as a log entry, applied to a state in which a configuration waits for its confirmation. What is accepted must
/// survive being written and read again, and versions only grow.
pub fn command(bytes: &[u8]) {
    let mut state = State::default();
    for (index, confirm_within_ms) in [(1, None), (2, Some(1000))] {
        let put = PutConfig { text: index.to_string(), confirm_within_ms, ..PutConfig::default() };
        state.apply(index, &Command::new(Kind::PutConfig(put))).expect("in order");
    }
    if let Ok(command) = Command::decode(bytes) {
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
    }
    let before = state.version();
    if state.apply_bytes(3, bytes).is_ok() {
        assert!(state.version() >= before);
        snapshot(&state.snapshot());
    }
}

/// Any bytes as a snapshot. What is accepted is written in the same way again.
pub fn snapshot(bytes: &[u8]) {
    if let Ok(state) = State::restore(bytes) {
        let written = state.snapshot();
        assert_eq!(State::restore(&written).as_ref(), Ok(&state));
    }
}
