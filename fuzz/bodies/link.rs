//! What a fuzz target does with what comes over the link between nodes, or from whoever types a token. The same functions run
//! under proptest in `ha/tests/link_any_bytes.rs`.

use cygnet_ha::consensus::frame;
use cygnet_ha::consensus::token::JoinToken;

/// Any bytes as frames: the first is the kind, the rest the body. What is accepted must survive being written and read again.
pub fn node_frame(bytes: &[u8]) {
    let Some((&kind, body)) = bytes.split_first() else { return };
    if let Ok(Some(read)) = frame::decode(kind, body) {
        let written = read.encode();
        let again = frame::decode(written[0], &written[frame::HEADER..]);
        assert_eq!(again, Ok(Some(read)));
    }
    if let Some(header) = bytes.first_chunk() {
        let _ = frame::decode_header(*header);
        let _ = frame::decode_first_header(*header);
    }
}

/// Any text as a token.
pub fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(token) = JoinToken::parse(&text) {
        assert_eq!(token.to_string(), text.trim());
    }
}
