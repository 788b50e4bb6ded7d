//! How an answer tells penctl that the command was not carried out. Pen's protocol has no status; so the answers
//! themselves are the sign, and `penctl` ends with 1 when it sees one. It works with a Pen of old at the other end too.

use std::fmt::Display;

/// Begins every answer of ours to a command with a wrong or missing argument, which Pen would have answered with nothing
/// (or with a value that it made of the wrong word). No value that a command shows can begin so.
pub const REFUSED: &str = "error: ";

/// Pen's own answers to what it did not do.
const PEN_DID_NOT: &[&str] = &[
    "do_cmd: ignoring ",
    "Exit is not enabled",
    "Unable to create webstats",
    "unable to set source address to ",
];

/// Commands that have had no meaning since Pen 0.26: Pen says that it ignores them, and scripts that still give them
/// have lost nothing.
const OBSOLETE: &[&str] = &["'block'", "'delayed_forward'"];

/// The answer to a command that is wrong, or that could not be carried out.
pub fn refusal(why: impl Display) -> String {
    format!("{REFUSED}{why}\n")
}

/// Whether this is the answer to a command that was not carried out.
#[must_use]
pub fn is_refusal(answer: &[u8]) -> bool {
    let begins = |with: &&str| answer.starts_with(with.as_bytes());
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let ends = |with: &&str| line.ends_with(with.as_bytes());
    let out_of_range = line.starts_with(b"Connection ") && line.ends_with(b" out of range");
    begins(&REFUSED) || out_of_range || PEN_DID_NOT.iter().any(begins) && !OBSOLETE.iter().any(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_what_was_not_done_are_known() {
        for answer in [
            refusal("blacklist: 'x' is not a number").as_str(),
            "do_cmd: ignoring command starting with 'foo'\n",
            "do_cmd: ignoring tcp_fastclose without argument\n",
            "Connection 7 out of range\n",
            "unable to set source address to 'x'",
            "Exit is not enabled; restart with -X flag\n",
        ] {
            assert!(is_refusal(answer.as_bytes()), "{answer:?}");
        }
    }

    #[test]
    fn values_and_obsolete_commands_are_no_refusal() {
        for answer in [
            "",
            "30\n",
            "Forcibly closing connection 7\n",
            "Connection 7:\nstate = 0\n",
            "do_cmd: ignoring command starting with 'block'\n",
            "do_cmd: ignoring command starting with 'delayed_forward'\n",
        ] {
            assert!(!is_refusal(answer.as_bytes()), "{answer:?}");
        }
    }
}
