//! Answers to health checks with any bytes, in any pieces, and any text as statuses. The body is that of the fuzz target.

#[path = "../../fuzz/bodies/answer.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod body;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Text that is often an answer.
fn nearly_an_answer() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(vec![
        "HTTP/1.1 ",
        "HTTP/1.0 ",
        "HTTP/2 ",
        "200",
        "503",
        "103",
        "100 Continue\r\n\r\n",
        "101",
        " OK",
        "\r\n",
        "\n",
        "\r\n\r\n",
        "A: b",
        "Content-Length: 5",
        ": ",
        " ",
        "\0",
        "é",
        "Transfer-Encoding: chunked",
    ]);
    vec(pieces, 0..16).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_come_to_the_same(bytes in vec(any::<u8>(), 0..300)) {
        body::answer(&bytes);
    }

    #[test]
    fn near_answers_in_any_pieces_come_to_the_same(bytes in nearly_an_answer(), cuts in vec(any::<u8>(), 1..9)) {
        let _ = body::compare(&bytes, &cuts);
    }

    #[test]
    fn an_answer_has_the_status_that_it_says(
        status in 200..=599_u16, interim in 0..4_usize, fields in vec("[A-Za-z]{1,9}: [ -~]{0,20}", 0..9),
        cuts in vec(any::<u8>(), 1..9),
    ) {
        let fields: String = fields.iter().map(|field| format!("X-{field}\r\n")).collect();
        let text = format!("{}HTTP/1.1 {status} Any Reason\r\n{fields}\r\nbody", "HTTP/1.1 103 H\r\n\r\n".repeat(interim));
        prop_assert_eq!(body::compare(text.as_bytes(), &cuts), Ok(Some(status)));
    }

    #[test]
    fn a_set_of_statuses_has_what_it_was_written_with(ranges in vec((200..=599_u16, 0..50_u16), 1..9)) {
        let ranges: Vec<_> = ranges.into_iter().map(|(first, more)| (first, (first + more).min(599))).collect();
        let text: Vec<String> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let statuses = body::statuses(&text.join(",")).expect("it is one");
        for status in 0..1000 {
            prop_assert_eq!(statuses.has(status), ranges.iter().any(|(first, last)| (*first..=*last).contains(&status)));
        }
    }

    #[test]
    fn near_sets_of_statuses_are_read_or_refused(text in "[0-9,\\- a]{0,20}") {
        let _ = body::statuses(&text);
    }
}
