//! Pen's front end with any bytes. The bodies are those of the fuzz targets.

#[path = "../../fuzz/bodies/pen.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets, where it is a module of a binary")]
mod body;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_bytes_are_commands_that_keep_the_bounds(bytes in vec(any::<u8>(), 0..500)) {
        body::commands(&bytes);
    }

    #[test]
    fn words_of_commands_in_any_order_keep_the_bounds(
        lines in "((server|acl|no|permit|deny|address|max|port|blacklist|country|-?[0-9]{1,6}|::1|/[a-z]|[.a-z]{1,3})[ \n]){0,60}"
    ) {
        body::commands(lines.as_bytes());
    }

    #[test]
    fn any_bytes_are_a_command_line(bytes in vec(any::<u8>(), 0..200)) {
        body::command_line(&bytes);
    }

    #[test]
    fn options_in_any_order_are_a_command_line(line in "((-[a-zA-Z]|[0-9]{1,6}|f|(::1|a|1\\.2)?(:[0-9]{0,3}){0,6})\0){0,20}") {
        body::command_line(line.as_bytes());
    }
}
