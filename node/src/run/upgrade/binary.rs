//! Which files may be started in the place of this program. Whoever may use the API may ask for an upgrade, but must not have a program of
//! their own run with this node's rights: a file that is named must be one that only root, or the user of the node, can put there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cygnet_netlink::account::own_user;

/// Writable by the group or by everybody.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Where the file really is, if it may be started.
///
/// # Errors
/// It is not there, or others can write it, or a directory on the way to it; in words.
pub(super) fn trusted(named: &Path) -> Result<PathBuf, String> {
    let cannot = |error: io::Error| format!("{} cannot be started: {error}", named.display());
    let file = named.canonicalize().map_err(cannot)?;
    // In a user namespace root of the system may have another number.
    let root = fs::metadata("/").map_err(cannot)?.uid();
    for part in file.ancestors() {
        let found = fs::metadata(part).map_err(cannot)?;
        if let Some(why) = distrust(found.uid(), found.mode(), [0, root, own_user()]) {
            return Err(format!("{} is not started: {} {why}", named.display(), part.display()));
        }
    }
    Ok(file)
}

fn distrust(owner: u32, mode: u32, trusted: [u32; 3]) -> Option<&'static str> {
    match () {
        () if !trusted.contains(&owner) => Some("belongs neither to root nor to the user of this node"),
        () if mode & WRITABLE_BY_OTHERS != 0 => Some("can be written by others"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_root_or_the_user_of_the_node_alone_can_write_is_started() {
        let trusted = [0, 0, 990];
        assert_eq!(distrust(0, 0o100_755, trusted), None);
        assert_eq!(distrust(990, 0o100_700, trusted), None);
        assert!(distrust(1000, 0o100_755, trusted).is_some_and(|why| why.contains("belongs neither")));
        for mode in [0o100_775, 0o100_757, 0o041_777] {
            assert!(
                distrust(0, mode, trusted).is_some_and(|why| why.contains("written by others")),
                "{mode:o}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_lies_where_everybody_writes_is_refused_with_its_name() {
        assert!(trusted(Path::new("/no/such/file")).unwrap_err().contains("/no/such/file cannot be started"));
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let file = folder.path().join("cygnet");
        fs::write(&file, "").unwrap();
        let refused = trusted(&file).unwrap_err();
        assert!(refused.contains("is not started: /tmp"), "{refused}");
    }
}
