//! The memory that a process holds without need.

use std::fs;
use std::io;
use std::ops::Range;

/// Gives back the pages of the program and its libraries that were read from their files and never written: those that
/// only the start needed do not come back, the others do, by a fault each that reads nothing from the disk. A start runs
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
    for range in clean_mappings(&fs::read_to_string("/proc/self/smaps")?) {
        // SAFETY: the range is a mapping of a file without permission to write, of which no page is a private copy (a
        // relocated table, a breakpoint): whatever is touched in it again is read from the file as it was. It cannot have
        // become another mapping since it was read: what the loader mapped is never unmapped in a process that closes no library.
        let given =
            unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
        if given != 0 {
            return Err(io::Error::last_os_error());
        }
        bytes += range.len();
    }
    Ok(bytes)
}

/// The mappings of files that can be read and not written, and of which nothing is private, in the text of proc(5)
/// `smaps`. What makes no sense is passed over.
fn clean_mappings(smaps: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(range) = heading(line) {
            current = range;
        } else if let Some(kib) = line.strip_prefix("Private_Dirty:")
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
    let is_read_only = matches!(words.next(), Some("r--p" | "r-xp"));
    // Offset and device lie between; what is no file has the inode 0.
    let is_file = words.nth(2).is_some_and(|inode| inode != "0");
    Some((is_read_only && is_file).then_some(start..end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0100000 r--p 00000000 fe:00 1234    /usr/sbin/cygnet
Size:               1024 kB
Private_Dirty:         0 kB
55d0c0100000-55d0c0800000 r-xp 00100000 fe:00 1234    /usr/sbin/cygnet (deleted)
Private_Dirty:         0 kB
55d0c0800000-55d0c0820000 r--p 00800000 fe:00 1234    /usr/sbin/cygnet
Private_Dirty:       128 kB
55d0c0820000-55d0c0840000 rw-p 00820000 fe:00 1234    /usr/sbin/cygnet
Private_Dirty:         0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0       [vdso]
Private_Dirty:         0 kB
";

    #[test]
    fn only_what_the_files_still_have_is_given_back() {
        let ranges = clean_mappings(SMAPS);
        assert_eq!(ranges, [0x55d0_c000_0000..0x55d0_c010_0000, 0x55d0_c010_0000..0x55d0_c080_0000]);
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
        fn any_text_is_survived(text in ".{0,400}", lines in prop::collection::vec("[0-9a-f]{0,17}-[0-9a-f]{0,17} r-xp 0 0 1", 0..4)) {
            clean_mappings(&text);
            let all = format!("{}\nPrivate_Dirty: 0 kB", lines.join("\nPrivate_Dirty: 0 kB\n"));
            prop_assert!(clean_mappings(&all).iter().all(|range| range.start < range.end));
        }
    }
}
