//! Users and groups: by name, and those of whoever is at the other end of a Unix socket.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_char, c_int, size_t};

use crate::sys::check;

/// The buffer for an entry of the database, bytes; doubled up to [`ENTRY_BYTES_MAX`] when it does not do.
const ENTRY_BYTES: usize = 1024;
/// No entry is larger, bytes (a group with tens of thousands of members is not); one that is makes the look-up fail.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Supplementary groups of one process (NGROUPS_MAX of Linux).
const GROUPS_MAX: usize = 65_536;
/// Room for groups to begin with.
const GROUPS: usize = 64;

/// A user to run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
}

/// Looks a user up by name, wherever the system keeps its users (nsswitch.conf). `None`: there is no such user.
///
/// # Errors
/// If the database cannot be read.
pub fn user(name: &str) -> io::Result<Option<User>> {
    look_up(name, libc::getpwnam_r, |entry: &libc::passwd| User { uid: entry.pw_uid, gid: entry.pw_gid })
}

/// The same for a group: its number.
///
/// # Errors
/// If the database cannot be read.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    look_up(name, libc::getgrnam_r, |entry: &libc::group| entry.gr_gid)
}

/// getpwnam_r(3) or getgrnam_r(3).
type Call<E> = unsafe extern "C" fn(*const c_char, *mut E, *mut c_char, size_t, *mut *mut E) -> c_int;

fn look_up<E, T>(name: &str, call: Call<E>, read: impl FnOnce(&E) -> T) -> io::Result<Option<T>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let mut buffer = vec![0; ENTRY_BYTES];
    loop {
        let mut entry = MaybeUninit::<E>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: `name` is closed by a zero; `entry`, `found` and `buffer` (with its length) live until the call returns
        // and may be written; they are read below only if the call says that it has filled them. `call` is one of the two
        // functions of libc with this signature.
        let error = unsafe {
            call(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        match error {
            0 if found.is_null() => return Ok(None),
            // SAFETY: a result that is not null points to `entry`, which the call has filled; what it points to is in
            // `buffer`, which lives on.
            0 => return Ok(Some(read(unsafe { entry.assume_init_ref() }))),
            libc::ERANGE if buffer.len() < ENTRY_BYTES_MAX => buffer.resize(buffer.len() * 2, 0),
            libc::EINTR => {}
            // Some databases say so instead of an empty result (getpwnam_r(3), ERRORS).
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The user that this process acts as.
#[must_use]
pub fn own_user() -> u32 {
    // SAFETY: the call takes and touches nothing.
    unsafe { libc::geteuid() }
}

/// The supplementary groups that whoever connected this Unix socket had when it did (SO_PEERGROUPS, unix(7)).
///
/// # Errors
/// Those of getsockopt(2): it is no connected Unix socket.
pub fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let socket = socket.as_fd();
    let mut groups = vec![0_u32; GROUPS];
    loop {
        let mut length = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the pointer and the length describe `groups`, which lives until the call returns and may be written;
        // `length` likewise. The kernel writes no more than it was given room for, and says how much that was.
        let result = check(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        });
        match result {
            Ok(_) => {
                groups.truncate(length as usize / size_of::<u32>());
                return Ok(groups);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && groups.len() < GROUPS_MAX => {
                groups.resize(groups.len() * 2, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn root_and_its_group_are_known_and_nobody_else_by_a_name_that_no_one_has() {
        assert_eq!(user("root").expect("readable"), Some(User { uid: 0, gid: 0 }));
        assert_eq!(group("root").expect("readable"), Some(0));
        for name in ["no such user", "", "a\0b"] {
            assert_eq!((user(name).expect("readable"), group(name).expect("readable")), (None, None));
        }
    }

    #[test]
    fn the_groups_of_the_other_end_are_those_of_its_process() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        let output = std::process::Command::new("id").arg("-G").output().expect("id runs");
        let own: Vec<u32> = String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(|gid| gid.parse().expect("a number"))
            .collect();
        // `id` names the effective group, too, which may be none of the supplementary ones.
        for gid in peer_groups(&here).expect("a Unix socket") {
            assert!(own.contains(&gid), "{gid} of {own:?}");
        }
        let other = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        assert!(peer_groups(&other).map_or(true, |groups| groups.is_empty()));
    }
}
