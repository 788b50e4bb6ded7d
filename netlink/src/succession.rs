//! What one process needs to hand over to another: the socket between them, and a hold on the other one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use crate::sys::{self, check};

/// Another process, by a descriptor: its number may be given to somebody else, the descriptor is not (Linux 5.3).
#[derive(Debug)]
pub struct Other(OwnedFd);

impl Other {
    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none (`ESRCH`), or the kernel knows no such descriptors.
    pub fn open(pid: u32) -> io::Result<Self> {
        sys::pidfd_open(pid).map(Self)
    }

    /// Kills it.
    ///
    /// # Errors
    /// It has ended (`ESRCH`), or is somebody else's (`EPERM`).
    pub fn kill(&self) -> io::Result<()> {
        // SAFETY: a null pointer stands for no further information; the other arguments are integers, and the descriptor is open.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        check(libc::c_int::try_from(result).unwrap_or(-1)).map(drop)
    }

    /// Waits for its end, at most so long. Whether it has ended. Blocks.
    ///
    /// # Errors
    /// Those of poll(2); none is to be expected.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        Ok(sys::wait_readable([self.0.as_fd()], Some(timeout))? == [true])
    }
}

/// Takes what was given as standard input; that is `/dev/null` from now on, and no child gets it by accident.
///
/// # Errors
/// Out of descriptors, or there is no `/dev/null`.
pub fn take_standard_input() -> io::Result<OwnedFd> {
    let given = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    // SAFETY: the call takes two descriptors. `null` is open; standard input, which it replaces, is owned by nobody else.
    check(unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) })?;
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_killed_by_its_descriptor_and_its_end_is_seen() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let other = Other::open(child.id()).unwrap();
        assert!(!other.wait(Duration::ZERO).unwrap());
        other.kill().unwrap();
        assert!(other.wait(Duration::from_secs(10)).unwrap());
        child.wait().unwrap();
        assert!(other.kill().is_err(), "it has ended");
        assert!(Other::open(u32::MAX).is_err());
    }
}
