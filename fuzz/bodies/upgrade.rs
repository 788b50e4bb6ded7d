//! Any bytes as what two processes of a node say in a hand-over: what is understood is said again in the same way.

use cygnet::run::upgrade::word::{Decoder, SOCKETS_PER_WORD};

/// Reads `bytes` as words of the other process.
pub fn upgrade(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(7) {
        decoder.feed(piece);
        while let Ok(Some(word)) = decoder.word() {
            assert!(word.sockets() <= SOCKETS_PER_WORD);
            let mut again = Decoder::default();
            again.feed(&word.encode().expect("it was not too long"));
            assert_eq!(again.word(), Ok(Some(word)));
        }
    }
}
