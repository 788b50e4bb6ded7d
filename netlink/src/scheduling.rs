//! Which thread the scheduler prefers.
//!
//! An election with short intervals must not wait behind the data path: with ordinary priority, and four busy loops on two
//! CPUs, advertisements every 10 ms came up to 0.8 s late; as a real-time thread they were on time.

use std::io;

/// The lowest real-time priority but a few: ahead of all ordinary threads, behind what an administrator made urgent.
const REALTIME_PRIORITY: libc::c_int = 5;

/// Where real-time is not allowed: well before ordinary threads (0). It counts within a session only if the kernel groups by
/// session (`sched_autogroup`).
const NICENESS: libc::c_int = -15;

/// What the kernel has allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Before all ordinary threads.
    RealTime,
    /// Preferred among ordinary threads.
    Preferred,
}

/// Makes the calling thread urgent. Threads and processes that it starts are ordinary again under [`Urgency::RealTime`].
///
/// The thread must not spin: ordinary threads get no more than what is left of its CPU.
///
/// # Errors
/// The kernel allows neither (no CAP_SYS_NICE, no limit `rtprio` or `nice`).
pub fn make_urgent() -> io::Result<Urgency> {
    let parameters = libc::sched_param { sched_priority: REALTIME_PRIORITY };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads `parameters`, which lives through the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &parameters) } == 0 {
        return Ok(Urgency::RealTime);
    }
    // SAFETY: three numbers by value; PRIO_PROCESS with 0 is the calling thread (Linux).
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } == 0 {
        return Ok(Urgency::Preferred);
    }
    Err(io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scheduling policy and niceness of this thread (proc(5), fields 41 and 19).
    fn policy_and_niceness() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("proc");
        let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
        let field = |number: usize| rest.split_whitespace().nth(number - 3).expect("a field").to_owned();
        (field(41), field(19))
    }

    #[test]
    fn the_calling_thread_alone_becomes_urgent() {
        let check = || match make_urgent() {
            Ok(Urgency::RealTime) => {
                assert_eq!(policy_and_niceness().0, "2", "SCHED_RR");
                let child = std::thread::spawn(policy_and_niceness).join().expect("no panic");
                assert_eq!(child.0, "0", "its children are ordinary");
            }
            Ok(Urgency::Preferred) => assert_eq!(policy_and_niceness().1, "-15"),
            Err(error) => eprintln!("SKIPPED: {error}"),
        };
        // Whoever runs the tests may have been nice about it.
        let before = policy_and_niceness();
        std::thread::spawn(check).join().expect("no panic");
        assert_eq!(policy_and_niceness(), before, "the others stay as they were");
    }
}
