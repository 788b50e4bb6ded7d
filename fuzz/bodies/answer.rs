//! Any bytes as the answer to a health check, and any text as the statuses that are expected. Their pieces do not
//! matter, and a set of statuses means the same when it is written and read again.

use cygnet::config::model::Statuses;
use cygnet::proxy::http::Answer;

/// The outcome over pieces of these lengths, again and again.
fn fed(bytes: &[u8], cuts: &[u8]) -> Result<Option<u16>, &'static str> {
    let mut answer = Answer::default();
    let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
    while !rest.is_empty() {
        let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1).min(rest.len());
        let (piece, more) = rest.split_at(length);
        if let Some(status) = answer.feed(piece)? {
            return Ok(Some(status));
        }
        rest = more;
    }
    Ok(None)
}

/// The same bytes in one piece, in many, and byte by byte.
pub fn compare(bytes: &[u8], cuts: &[u8]) -> Result<Option<u16>, &'static str> {
    let whole = fed(bytes, &[]);
    assert_eq!(whole, fed(bytes, cuts));
    assert_eq!(whole, fed(bytes, &[0]));
    assert!(!matches!(whole, Ok(Some(status)) if !(200..=999).contains(&status)), "{whole:?}");
    whole
}

/// A text that may be a set of statuses.
pub fn statuses(text: &str) -> Option<Statuses> {
    let statuses: Statuses = text.parse().ok()?;
    assert_eq!(statuses.to_string().parse().as_ref(), Ok(&statuses));
    assert!((0..200).chain(600..1000).all(|status| !statuses.has(status)));
    Some(statuses)
}

/// Some cuts, then an answer; and the whole as a text.
pub fn answer(bytes: &[u8]) {
    let (cuts, rest) = bytes.split_at(bytes.len().min(4));
    let _ = compare(rest, cuts);
    let _ = statuses(&String::from_utf8_lossy(bytes));
}
