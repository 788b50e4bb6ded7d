//! What Pen does to its own process, in its order: into the background, into the jail, away from root, the pid file.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cygnet_netlink::account;
use cygnet_netlink::process::{self, Side};

use super::Pen;

/// How long the process that was started waits for the daemon to be ready. Whoever started it goes on then in any case.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// Which process goes on, and as what.
#[derive(Debug)]
pub(super) enum Birth {
    /// The one that was started, when the daemon is ready or has failed.
    Parent,
    /// The balancer. It says when it is ready, if anybody waits for that.
    Balancer(Option<PipeWriter>),
}

/// Goes into the background, unless in the foreground. The first process stays until the second one serves, so that
/// whatever follows it in a script finds a balancer.
pub(super) fn be_born(foreground: bool) -> io::Result<Birth> {
    if foreground {
        return Ok(Birth::Balancer(None));
    }
    let (ready, tell) = io::pipe()?;
    match process::into_background()? {
        Side::Daemon => {
            drop(ready);
            Ok(Birth::Balancer(Some(tell)))
        }
        Side::Parent => {
            drop(tell);
            wait_ready(ready);
            Ok(Birth::Parent)
        }
    }
}

/// Waits for a word, or for the end of the daemon.
fn wait_ready(mut ready: PipeReader) {
    let (told, heard) = std::sync::mpsc::sync_channel(1);
    let waiting = std::thread::Builder::new().spawn(move || {
        // One byte, or the end: both are worth the same to us.
        let _ = ready.read(&mut [0; 1]);
        let _ = told.send(());
    });
    if waiting.is_ok() {
        let _ = heard.recv_timeout(READY_PATIENCE);
    }
}

/// Tells the waiting parent that it may go.
pub(super) fn tell_ready(pipe: Option<PipeWriter>) {
    if let Some(mut pipe) = pipe {
        // Nobody waits any more: all the same.
        let _ = pipe.write_all(b"r");
    }
}

/// The user of `-u`.
pub(super) fn find_user(pen: &Pen) -> Result<Option<account::User>, String> {
    let Some(name) = &pen.user else { return Ok(None) };
    match account::user(name) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(format!("Can't getpwnam({name})")),
        Err(error) => Err(format!("Can't getpwnam({name}): {error}")),
    }
}

/// Into the jail (`-j`), then away from root (`-u`).
pub(super) fn leave(pen: &Pen) -> Result<(), String> {
    let user = find_user(pen)?;
    if let Some(jail) = &pen.jail {
        enter(jail).map_err(|error| format!("Can't chroot({}): {error}", jail.display()))?;
    }
    if let Some(user) = user {
        process::become_user(user).map_err(|error| {
            let name = pen.user.as_deref().unwrap_or_default();
            format!("Can't run as {name}: {error}")
        })?;
    }
    Ok(())
}

/// A working directory within the jail stays what it is, so that relative paths go on to work. One outside would be a way
/// out, so it becomes the jail's root.
fn enter(jail: &Path) -> io::Result<()> {
    let jail = fs::canonicalize(jail)?;
    let is_inside = std::env::current_dir().is_ok_and(|folder| folder.starts_with(&jail));
    process::chroot(&jail)?;
    if is_inside { Ok(()) } else { std::env::set_current_dir("/") }
}

/// The pid file; removed when this is dropped.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it: the number, without a newline.
    pub(super) fn write(path: &Path) -> Result<Self, String> {
        fs::write(path, std::process::id().to_string())
            .map_err(|error| format!("Can't create pidfile {}: {error}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Who runs as another user may not be allowed to; Pen leaves it, too, then.
        let _ = fs::remove_file(&self.0);
    }
}

/// A control socket that takes commands from anybody must not do so as root.
pub(super) fn may_open_control(pen: &Pen) -> bool {
    pen.user.is_some() || !process::is_root()
}
