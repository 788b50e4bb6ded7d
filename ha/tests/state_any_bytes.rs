//! The bodies of the fuzz targets for the replicated state, under proptest.

#[path = "../../fuzz/bodies/state.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod state;

use cygnet_ha::state::{Command, ConfirmConfig, Kind, PutConfig, ReturnConfig};
use proptest::collection::vec;
use proptest::prelude::*;

/// An entry around the trial of a configuration, with one byte changed.
fn nearly_an_entry() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        any::<Option<u64>>().prop_map(|confirm_within_ms| {
            Kind::PutConfig(PutConfig { confirm_within_ms, ..PutConfig::default() })
        }),
        (0u64..4)
            .prop_map(|version| Kind::ConfirmConfig(ConfirmConfig { version, ..ConfirmConfig::default() })),
        (0u64..4).prop_map(|version| Kind::ReturnConfig(ReturnConfig { version, ..ReturnConfig::default() })),
    ];
    (kind, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(kind, at, flip)| {
        let mut bytes = Command::new(kind).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_are_an_entry_or_an_error(bytes in vec(any::<u8>(), 0..120)) {
        state::command(&bytes);
    }

    #[test]
    fn an_entry_around_a_trial_may_be_garbled(bytes in nearly_an_entry()) {
        state::command(&bytes);
    }

    #[test]
    fn any_bytes_are_a_snapshot_or_an_error(bytes in vec(any::<u8>(), 0..120)) {
        state::snapshot(&bytes);
    }
}
