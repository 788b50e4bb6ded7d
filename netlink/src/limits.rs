//! What the kernel lets this process have.

use std::io;

/// How many files and sockets this process may have open at once (`RLIMIT_NOFILE`, see getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit that counts.
    pub soft: u64,
    /// How far the process may raise it by itself.
    pub hard: u64,
}

/// The limit on open files as it is now.
///
/// # Errors
/// Those of getrlimit(2); none is to be expected.
pub fn open_files() -> io::Result<OpenFiles> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit` to where the pointer points, which is a live value of this frame.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        Ok(OpenFiles { soft: limit.rlim_cur, hard: limit.rlim_max })
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Raises the limit on open files as far as the process may, and says what it was before. The soft limit is low by tradition
/// (1024, for programs that use select(2)); the hard one is what the administrator means.
///
/// # Errors
/// `EPERM` when the hard limit is above `fs.nr_open`, which has been lowered since. The limit is what it was, then.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let before = open_files()?;
    let raised = libc::rlimit { rlim_cur: before.hard, rlim_max: before.hard };
    // SAFETY: the kernel reads one `rlimit` from where the pointer points, which lives until the call returns.
    if before.soft == before.hard || unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        Ok(before)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Says to the test's other process that its limit is low.
    const LOW: &str = "CYGNET_TEST_LOW_LIMIT";

    /// Runs itself again in a process with a low limit: the limit is one of the whole process.
    #[test]
    fn the_limit_on_open_files_is_raised_to_the_hard_one_and_the_old_one_is_told() {
        if std::env::var_os(LOW).is_some() {
            assert_eq!(raise_open_files().expect("may be raised"), OpenFiles { soft: 70, hard: 120 });
            assert_eq!(open_files().expect("readable"), OpenFiles { soft: 120, hard: 120 });
            let held: Vec<_> = (0..90).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
            assert_eq!(held.len(), 90, "more than before the raise");
            assert_eq!(raise_open_files().expect("nothing to do"), OpenFiles { soft: 120, hard: 120 });
            return;
        }
        let name = "limits::tests::the_limit_on_open_files_is_raised_to_the_hard_one_and_the_old_one_is_told";
        let output = Command::new("sh")
            .args(["-c", "ulimit -Sn 70 && ulimit -Hn 120 && exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().expect("known"))
            .arg(name)
            .env(LOW, "1")
            .output()
            .expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
