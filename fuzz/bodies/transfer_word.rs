//! Any bytes as a word about a planned move: what is understood means the same when it is said again.

use cygnet_ha::vip::peers::word::{Transfer, Word};
use cygnet_ha::vip::transfer::Said;

/// Reads `bytes` as a word of another node.
pub fn transfer_word(bytes: &[u8]) {
    let Some(transfer) = Word::decode(bytes).and_then(|word| word.transfer) else { return };
    let (Some(said), Some(own)) = (transfer.said(), transfer.own()) else { return };
    let again = Transfer::of(&transfer.vip, transfer.id, own, &said);
    assert_eq!((again.own(), again.id), (Some(own), transfer.id));
    match (said, again.said()) {
        // A long reason is shortened.
        (Said::Refuse(why), Some(Said::Refuse(told))) => assert!(why.starts_with(&told)),
        (said, again) => assert_eq!(again, Some(said)),
    }
}
