//! The life of a daemon in the old style: into the background, into a jail, away from root; and the clock on the wall.
//!
//! In the order in which a daemon needs them: [`load_time_zone`] and [`crate::account::user`] while the whole file system is there,
//! [`into_background`] before the first thread, [`chroot`], [`become_user`].

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use crate::account::{User, own_user};
use crate::sys::{check, ignore_signal, own_session};

/// Which of the two processes this is, after [`into_background`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was started: it has nothing left to do but to end.
    Parent,
    /// The daemon: it leads a session of its own, and its standard streams are `/dev/null`.
    Daemon,
}

/// Makes a daemon of this process: forks, and gives the child a session of its own and `/dev/null` for its standard
/// streams. The working directory stays, so that relative paths keep their meaning. What has been written to buffers must
/// be flushed before, or both will write it.
///
/// # Errors
/// If there is more than one thread (the others, and the locks that they hold, would be lost), or what fork(2), setsid(2)
/// or dup2(2) say.
pub fn into_background() -> io::Result<Side> {
    // Without /proc nobody can count; a daemon that calls this first thing has one thread all the same.
    if fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("cannot go into the background with more than one thread"));
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: the call takes no pointer. There is one thread (counted above), so the child is a whole copy: no lock is held
    // by a thread that it does not have.
    if check(unsafe { libc::fork() })? > 0 {
        return Ok(Side::Parent);
    }
    own_session()?;
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: the call takes two descriptors. `null` is open; what the standard streams were is closed by it, and no
        // owned descriptor of ours is one of the three.
        check(unsafe { libc::dup2(null.as_raw_fd(), stream) })?;
    }
    Ok(Side::Daemon)
}

/// Whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    own_user() == 0
}

/// Makes `directory` the root of this process. The working directory stays where it is, as a caller who wants to be shut
/// in must know: [`become_user`] afterwards, and no descriptor of a directory kept open.
///
/// # Errors
/// Those of chroot(2).
pub fn chroot(directory: &std::path::Path) -> io::Result<()> {
    std::os::unix::fs::chroot(directory)
}

/// Becomes `user` for good: its groups are dropped down to its own, then the group, then the user. In all threads, as
/// the C library sees to.
///
/// # Errors
/// If a step is refused (only root may), or root could be had back.
pub fn become_user(user: User) -> io::Result<()> {
    // SAFETY: a length of zero means that the kernel reads nothing from the pointer.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: the calls take integers and touch no memory of ours.
    check(unsafe { libc::setgid(user.gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::setuid(user.uid) })?;
    // SAFETY: as above. It must fail: a saved root would be worth nothing to us, and much to an intruder.
    if user.uid != 0 && unsafe { libc::setuid(0) } == 0 {
        return Err(io::Error::other("root could be had back"));
    }
    Ok(())
}

/// Lets core dumps be as large as the administrator allows.
///
/// # Errors
/// Those of setrlimit(2); none is to be expected.
pub fn raise_core_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit` to where the pointer points, which is a live value of this frame.
    check(unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one `rlimit` from where the pointer points, which lives until the call returns.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) }).map(drop)
}

/// Ignores the end of children, and of readers of our pipes and sockets (the latter as the Rust runtime does).
///
/// # Errors
/// Those of signal(2); none is to be expected.
pub fn ignore_children_and_pipes() -> io::Result<()> {
    ignore_signal(libc::SIGCHLD)?;
    ignore_signal(libc::SIGPIPE)
}

/// A moment on the wall, by the zone of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// The year.
    pub year: i32,
    /// 1..=12.
    pub month: u8,
    /// 1..=31.
    pub day: u8,
    /// 0..=23.
    pub hour: u8,
    /// 0..=59.
    pub minute: u8,
    /// 0..=60.
    pub second: u8,
}

impl fmt::Display for WallTime {
    /// `YYYY-MM-DD HH:MM:SS`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(out, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

// The C library's own; libc does not declare it for all systems.
unsafe extern "C" {
    safe fn tzset();
}

/// Reads the zone of the machine (`TZ`, `/etc/localtime`) now: after [`chroot`] its files are out of reach.
pub fn load_time_zone() {
    tzset();
}

/// `unix`, seconds since 1970, on the wall. `None` for a year that does not fit.
#[must_use]
pub fn wall_time(unix: i64) -> Option<WallTime> {
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of this frame; the call keeps neither. The environment that the first call
    // reads is never changed by this program (`set_var` is banned).
    let filled = unsafe { libc::localtime_r(&raw const unix, parts.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: the call has filled it, and all bits zero would be a valid value too.
    let parts = unsafe { parts.assume_init() };
    let small = |number: libc::c_int| u8::try_from(number).ok();
    Some(WallTime {
        year: parts.tm_year.checked_add(1900)?,
        month: small(parts.tm_mon + 1)?,
        day: small(parts.tm_mday)?,
        hour: small(parts.tm_hour)?,
        minute: small(parts.tm_min)?,
        second: small(parts.tm_sec)?,
    })
}

#[cfg(test)]
mod tests;
