//! What two processes of a node say in a hand-over, with any bytes and with damaged words. The body is that of the fuzz target.

#[path = "../../fuzz/bodies/upgrade.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod body;

use cygnet::control::types::Program;
use cygnet::run::upgrade::word::{Go, LEVEL, Name, State, Word};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn words() -> [Word; 6] {
    let program = Program { version: "0.1.0".into(), pid: 7 };
    let names = vec![
        Name::Tcp(([192, 0, 2, 1], 80).into()),
        Name::Earlier { program: program.clone(), connections: 5 },
    ];
    [
        Word::Here { level: LEVEL, program },
        Word::State(Box::default()),
        Word::State(Box::new(State { text: "[[vip]]\n\u{1}\"".into(), ..State::default() })),
        Word::Sockets(names),
        Word::Go(Go { held: vec!["www".into()], down: vec![("web".into(), "s1".into())] }),
        Word::End { within_ms: u64::MAX },
    ]
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..4096)) {
        body::upgrade(&bytes);
    }

    #[test]
    fn words_with_a_byte_changed_are_other_words_or_none(which in 0..6_usize, at in any::<Index>(), byte in any::<u8>()) {
        let mut bytes = words()[which].encode().expect("it is short");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        body::upgrade(&bytes);
    }
}
