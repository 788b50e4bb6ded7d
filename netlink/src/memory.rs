//! The memory that a process holds without need.

use std::fs;
use std::io;
use std::ops::Range;

/// Gives back the code of the program and its libraries, which was read from their files and never written: what
/// only the start needed does not come back, the rest does, by a fault for some pages that reads nothing from the disk. A start runs
/// through most of a program once (command line, configuration, the state on disk); a balancer then lives for a year
/// in a tenth of it.
///
/// Returns how many bytes are mapped by what was given back. Takes milliseconds: for the end of a start, or
/// of a change of the configuration, never for the data path.
///
/// # Errors
/// There is no `/proc`, or what madvise(2) says; nothing is lost in either case.
pub fn give_code_back() -> io::Result<usize> {
    let mut bytes = 0;
    for range in code(&fs::read_to_string("/proc/self/smaps")?) {
        // SAFETY: the range is a mapping of a file without permission to write, of which no page is a copy of its own, in
        // memory or swapped out (a relocated table, also one that is shared with a parent after a fork; a breakpoint):
        // whatever is touched in it again is read from the file as it was. It cannot have become another mapping since
        // it was read: what the loader mapped is never unmapped in a process that closes no library.
        let given =
            unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
        if given != 0 {
            return Err(io::Error::last_os_error());
        }
        bytes += range.len();
    }
    Ok(bytes)
}

/// The mappings of files that can be executed and not written, and of which no page is anything but the file's, in the
/// text of proc(5) `smaps`. What makes no sense is passed over.
fn code(smaps: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(range) = heading(line) {
            current = range;
        } else if line.strip_prefix("Anonymous:").is_some_and(|kib| kib.trim() != "0 kB") {
            current = None;
        } else if let Some(kib) = line.strip_prefix("Swap:")
            && let Some(range) = current.take()
            && kib.trim() == "0 kB"
        {
            found.push(range);
        }
    }
    found
}

/// The first line of a mapping; `Some(None)`: one of another kind.
fn heading(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok().filter(|end| *end > start)?;
    let is_code = words.next() == Some("r-xp");
    // Offset and device lie between; what is no file has the inode 0.
    let is_file = words.nth(2).is_some_and(|inode| inode != "0");
    Some((is_code && is_file).then_some(start..end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0100000 r--p 00000000 fe:00 1234    /usr/sbin/cygnet
Anonymous:             0 kB
Swap:                  0 kB
55d0c0100000-55d0c0800000 r-xp 00100000 fe:00 1234    /usr/sbin/cygnet (deleted)
Size:               7168 kB
Anonymous:             0 kB
Swap:                  0 kB
55d0c0900000-55d0c0a00000 r-xp 00800000 fe:00 1235    /usr/lib/with-a-breakpoint.so
Anonymous:             4 kB
Swap:                  0 kB
55d0c0b00000-55d0c0c00000 r-xp 00800000 fe:00 1236    /usr/lib/with-one-that-is-swapped-out.so
Anonymous:             0 kB
Swap:                  4 kB
55d0c0d00000-55d0c0e00000 rwxp 00820000 fe:00 1237    /usr/lib/that-may-be-written.so
Anonymous:             0 kB
Swap:                  0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0       [vdso]
Anonymous:             0 kB
Swap:                  0 kB
";

    #[test]
    fn only_code_that_the_files_still_have_is_given_back() {
        let plain = 0x55d0_c010_0000..0x55d0_c080_0000;
        assert_eq!(code(SMAPS), std::slice::from_ref(&plain));
    }

    #[test]
    fn the_process_lives_on_with_less() {
        let resident = || {
            let text = fs::read_to_string("/proc/self/statm").expect("a process has one");
            text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number")
        };
        let before = resident();
        assert!(give_code_back().expect("allowed") > 0);
        let after = resident();
        assert!(after < before, "{after} pages of {before}");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(
            text in ".{0,400}",
            headings in prop::collection::vec("[0-9a-f]{0,17}-[0-9a-f]{0,17} r-xp 0 0 1", 0..4),
        ) {
            code(&text);
            let all: String = headings.iter().map(|heading| format!("{heading}\nSwap: 0 kB\n")).collect();
            prop_assert!(code(&all).iter().all(|range| range.start < range.end));
        }
    }
}
