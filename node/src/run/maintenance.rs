//! The operator's wish that this node hold no address: a file of the node's own, so that it holds across restarts and
//! needs no quorum, which a node in maintenance may not have.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::control::status::DRAINED;

/// In the state directory.
const FILE: &str = "drained";
/// A longer file is not one of ours, bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Who wanted it, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drained {
    /// Whose wish.
    pub(crate) author: String,
    /// Why.
    pub(crate) comment: String,
}

impl Drained {
    /// The reason that is shown.
    pub(crate) fn reason(&self) -> String {
        let Self { author, comment } = self;
        let comment = if comment.is_empty() { String::new() } else { format!(": {comment}") };
        format!("{DRAINED} by {author}{comment}")
    }
}

/// The wish, and its file.
pub(crate) struct Maintenance {
    file: PathBuf,
    wish: watch::Sender<Option<Drained>>,
}

impl Maintenance {
    /// Reads the wish of the last life. A file that cannot be read counts as a wish: whoever drained the node did not
    /// want it to come back by itself.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let (wish, _) = watch::channel(read(&file));
        Self { file, wish }
    }

    /// The wish now, and its changes.
    pub(crate) fn wish(&self) -> watch::Receiver<Option<Drained>> {
        self.wish.subscribe()
    }

    /// Writes the wish down, then lets it count; true if it was another one. Blocks for a moment.
    ///
    /// # Errors
    /// The file cannot be written; nothing has changed.
    pub(crate) fn set(&self, wish: Option<Drained>) -> io::Result<bool> {
        match &wish {
            Some(drained) => write(&self.file, drained)?,
            None => match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => sync_folder(&self.file)?,
            },
        }
        let before = self.wish.send_replace(wish.clone());
        Ok(before.is_some() != wish.is_some())
    }
}

fn read(file: &Path) -> Option<Drained> {
    let unreadable = |why: String| {
        Some(Drained { author: "somebody".to_owned(), comment: format!("{}: {why}", file.display()) })
    };
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return unreadable(error.to_string()),
        Ok(facts) if facts.len() > FILE_BYTES_MAX => return unreadable("too long".to_owned()),
        Ok(_) => {}
    }
    let read = fs::read(file).map_err(|error| error.to_string());
    let parsed = read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    parsed.map_or_else(unreadable, Some)
}

/// Whole or not at all, also when the power fails.
fn write(file: &Path, drained: &Drained) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut out = File::create(&new)?;
    out.write_all(&serde_json::to_vec(drained)?)?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    sync_folder(file)
}

fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained() -> Drained {
        Drained { author: "alice".to_owned(), comment: "new disk".to_owned() }
    }

    #[test]
    fn the_wish_outlives_the_process_until_it_is_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Maintenance::open(folder.path());
        assert_eq!(*first.wish().borrow(), None);
        assert!(first.set(Some(drained())).expect("written"));
        assert!(!first.set(Some(drained())).expect("written"));
        let second = Maintenance::open(folder.path());
        let wish = second.wish();
        assert_eq!(
            wish.borrow().as_ref().map(Drained::reason).as_deref(),
            Some("drained by alice: new disk")
        );
        assert!(second.set(None).expect("removed"));
        assert!(!second.set(None).expect("nothing to remove"));
        assert_eq!(*Maintenance::open(folder.path()).wish().borrow(), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_keeps_the_node_drained_and_says_which() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE), "{").expect("written");
        let wish = Maintenance::open(folder.path()).wish();
        let reason = wish.borrow().as_ref().map(Drained::reason).expect("a wish");
        assert!(reason.starts_with(DRAINED) && reason.contains(FILE), "{reason}");
    }

    #[test]
    fn a_wish_that_cannot_be_written_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let gone = Maintenance::open(&folder.path().join("missing"));
        assert!(gone.set(Some(drained())).is_err());
        assert_eq!(*gone.wish().borrow(), None);
    }
}
