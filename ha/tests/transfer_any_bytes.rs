//! The body of the fuzz target for words about planned moves, under proptest.

#[path = "../../fuzz/bodies/transfer_word.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod transfer_word;

use cygnet_ha::vip::peers::transfer_word::Flows;
use cygnet_ha::vip::peers::word::{Transfer, Word};
use proptest::collection::vec;
use proptest::prelude::*;

/// A word of whole flows or nearly, with anything said beside them, and perhaps one byte changed.
fn nearly_a_word() -> impl Strategy<Value = Vec<u8>> {
    let flows = (0u64..3, any::<bool>(), any::<bool>(), vec(any::<u8>(), 0..5), 0usize..4);
    let flows = flows.prop_map(|(number, last, v6, add, times)| {
        let bytes = if v6 { 36 } else { 12 };
        let remove =
            add.iter().cycle().take(if add.is_empty() { 0 } else { times * bytes }).copied().collect();
        Flows { number, last, v6, add, remove }
    });
    let rest = (any::<bool>(), any::<bool>(), any::<Option<u64>>(), proptest::option::of(".{0,80}"));
    let flip = (any::<prop::sample::Index>(), prop_oneof![3 => Just(0u8), 1 => any::<u8>()]);
    (proptest::option::of(flows), rest, flip).prop_map(
        |(flows, (prepare, abort, confirm, refuse), (at, flip))| {
            let (vip, source, mac) = ("www".to_owned(), "192.0.2.1".to_owned(), vec![2; 6]);
            let transfer = Transfer { vip, id: 7, source, mac, prepare, flows, abort, confirm, refuse };
            let mut bytes = Word::transfer(transfer).encode();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            bytes
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_a_word_or_none(bytes in vec(any::<u8>(), 0..120)) {
        transfer_word::transfer_word(&bytes);
    }

    #[test]
    fn a_word_about_a_move_may_be_garbled(bytes in nearly_a_word()) {
        transfer_word::transfer_word(&bytes);
    }
}
