//! The bodies of the fuzz targets for the link between nodes, under proptest.

#[path = "../../fuzz/bodies/link.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod link;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(kind in 0u8..40, body in vec(any::<u8>(), 0..120)) {
        let mut bytes = vec![kind];
        bytes.extend(body);
        link::node_frame(&bytes);
    }

    #[test]
    fn any_bytes_are_a_token_or_an_error(bytes in vec(any::<u8>(), 0..120)) {
        link::token(&bytes);
        let mut text = b"cyg1-".to_vec();
        text.extend(bytes);
        link::token(&text);
    }
}
