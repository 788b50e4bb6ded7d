//! Whatever is sent, the watcher neither panics nor spins, its memory is bounded, its counters are complete. The
//! body is that of the fuzz target.

#[path = "../../fuzz/bodies/watch.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod watch;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_story_keeps_the_watcher_in_order(bytes in vec(any::<u8>(), 0..2000)) {
        watch::watch(&bytes);
    }

    #[test]
    fn any_bytes_are_a_word_of_another_node_or_none(bytes in vec(any::<u8>(), 0..300)) {
        watch::word(&bytes);
    }

    /// Few senders that speak often: more elections, fewer accidents.
    #[test]
    fn a_quarrel_keeps_the_watcher_in_order(
        steps in vec((0u8..3, 0u8..120, 1u8..4, any::<u8>(), any::<u8>(), 0u8..3, any::<u8>()), 0..300),
    ) {
        let bytes: Vec<u8> = steps
            .into_iter()
            .flat_map(|(kind, delay, source, mac, priority, interval, counter)| {
                [kind, delay, source, if mac < 250 { source } else { mac }, priority, interval, 51, counter]
            })
            .collect();
        watch::watch(&bytes);
    }
}
