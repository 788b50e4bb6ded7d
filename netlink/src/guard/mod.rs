//! The guard: a small process that takes the addresses away when the node dies.
//!
//! A killed process cannot clean up after itself, and an address that it leaves behind goes on answering ARP beside the
//! new holder. The guard outlives the node, whatever kills it: it has a session of its own (so that a signal to the
//! node's group or terminal does not reach it), ignores polite signals, and waits for two things, the end of the node
//! (pidfd) and the lines that the node writes to its standard input. When the node ends without a `bye`, it removes what
//! is held and ends too.
//!
//! | line | meaning |
//! |---|---|
//! | `parent PID` | who the node is; the first line |
//! | `hold IFINDEX ADDRESS` | to be removed if the node dies |
//! | `release IFINDEX ADDRESS` | no longer |
//! | `lease MILLISECONDS` | to be removed also if no further `lease` follows in time: the node is frozen |
//! | `word SECRET OWN PEER...` | to be said to the peers when the node has died and its addresses are gone ([`LastWord`]) |
//! | `resign INTERFACE SOURCE DESTINATION BYTES` | an advertisement that says that the address is held no more; to be sent when the node has died and its addresses are gone |
//! | `unresign INTERFACE SOURCE DESTINATION BYTES` | no longer: the node holds it no more |
//! | `rules` | the node steers packets ([`crate::steer`]): its rules are to be deleted if it dies |
//! | `bye` | the node ends in good order: touch nothing |

mod life;
mod lines;
mod word;

pub use life::run;
pub use lines::{RESIGNATION_MAX, RESIGNATIONS_MAX, Resignation};
pub use word::{LastWord, PEERS_MAX, Seal, WORD_LEN, seal_of};

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::sys;

/// Addresses that a guard can hold. Their lines, 60 bytes each at most, fit into an unread pipe (64 KiB) together.
pub const HELD_MAX: usize = 512;

/// The number of the loopback interface, in each network namespace.
pub const LOOPBACK: u32 = 1;

/// How long [`Guard::bye`] waits for the guard's end before it kills it.
const BYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The node's end: starts a guard and tells it what is held.
///
/// Dropping it without [`Guard::bye`] has the guard remove the addresses, as if the node had died: a node that panics
/// must not keep them.
#[derive(Debug)]
pub struct Guard {
    program: PathBuf,
    args: Vec<String>,
    child: Child,
    pipe: ChildStdin,
    held: BTreeSet<(u32, IpAddr)>,
    /// The line of the last word.
    word: Option<String>,
    resignations: BTreeSet<Resignation>,
    rules: bool,
}

impl Guard {
    /// Starts `program` with `args`, which must end in [`run`] (`/proc/self/exe guard`). Returns at once; what is told to
    /// the guard before it is up waits in the pipe.
    ///
    /// Errors: the program cannot be started, or ends at once.
    pub fn spawn(program: &Path, args: &[&str]) -> io::Result<Self> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let (child, pipe) = start(program, &args)?;
        Ok(Self {
            program: program.to_owned(),
            args,
            child,
            pipe,
            held: BTreeSet::new(),
            word: None,
            resignations: BTreeSet::new(),
            rules: false,
        })
    }

    /// Has the guard remove this address (exactly /32 or /128) when the node dies. To be called before the address is
    /// added, so that there is no moment without a guard. Never waits.
    ///
    /// Errors: the guard is gone (`BrokenPipe`) or does not read (`WouldBlock`): [`Guard::respawn`] makes good for both, the
    /// address is remembered. Over [`HELD_MAX`] (`QuotaExceeded`) it is not.
    pub fn hold(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        if self.held.len() >= HELD_MAX && !self.held.contains(&(interface, address)) {
            let why = format!("the guard holds {HELD_MAX} addresses already");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        self.held.insert((interface, address));
        self.tell(&lines::hold(interface, address))
    }

    /// The address is no longer held; to be called after it was removed. Never waits. Errors as in [`Guard::hold`].
    pub fn release(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        self.held.remove(&(interface, address));
        self.tell(&lines::release(interface, address))
    }

    /// Tells the guard that the node is not frozen, and that it will say so again within `time`. If it does not, the
    /// guard removes the addresses, as the peers will have taken over by then; it stays, and the next lease is good again
    /// (the node sees the loss of the address like any other change). Until the first call there is no such limit, and
    /// a `time` of zero ends it. Never waits. Errors as in [`Guard::hold`].
    pub fn lease(&mut self, time: Duration) -> io::Result<()> {
        self.tell(&lines::lease(time))
    }

    /// Has the guard say this to the peers, from `own`, when the node has died and the addresses that it held are gone: they
    /// need not wait then. Replaces an earlier one; peers over [`PEERS_MAX`] are left out. Never waits. Errors as in
    /// [`Guard::hold`].
    pub fn last_word(&mut self, word: &LastWord, own: SocketAddr, peers: &[SocketAddr]) -> io::Result<()> {
        let line = lines::word(word, own, peers);
        self.word = Some(line.clone());
        self.tell(&line)
    }

    /// Has the guard send this advertisement when the node has died and the addresses that it held are gone: whoever is no node
    /// of ours (keepalived, ucarp) need not wait then either. Never waits.
    ///
    /// Errors: as in [`Guard::hold`]; one that is longer than [`RESIGNATION_MAX`], or over [`RESIGNATIONS_MAX`] or 30,000 bytes in
    /// all (`QuotaExceeded`), is not remembered.
    pub fn resign(&mut self, resignation: Resignation) -> io::Result<()> {
        let line = lines::resign(&resignation);
        if !self.resignations.contains(&resignation) {
            let lines: usize = self.resignations.iter().map(|known| lines::resign(known).len()).sum();
            let is_full = self.resignations.len() >= RESIGNATIONS_MAX
                || lines + line.len() > lines::RESIGNATION_LINES_MAX
                || resignation.payload.len() > RESIGNATION_MAX;
            if is_full {
                let why = "the guard has as many resignations as it can take";
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
            }
            self.resignations.insert(resignation);
        }
        self.tell(&line)
    }

    /// Takes it back: the node holds the address no more, or may have lost it. Never waits. Errors as in [`Guard::hold`].
    pub fn unresign(&mut self, resignation: &Resignation) -> io::Result<()> {
        if !self.resignations.remove(resignation) {
            return Ok(());
        }
        self.tell(&lines::unresign(resignation))
    }

    /// Has the guard delete the rules of [`crate::steer`] when the node dies. Never waits. Errors as in [`Guard::hold`].
    pub fn rules(&mut self) -> io::Result<()> {
        self.rules = true;
        self.tell(lines::RULES)
    }

    /// Whether the guard runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The guard's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts another guard in the place of one that is gone or does not read, and tells it everything that is held. A
    /// lease must be told again.
    ///
    /// Errors: the program cannot be started.
    pub fn respawn(&mut self) -> io::Result<()> {
        // Killed before its pipe is closed: at the pipe's end it would remove the addresses.
        self.child.kill()?;
        self.child.wait()?;
        (self.child, self.pipe) = start(&self.program, &self.args)?;
        let held: String =
            self.held.iter().map(|&(interface, address)| lines::hold(interface, address)).collect();
        let rules = if self.rules { lines::RULES } else { "" };
        let resignations: String = self.resignations.iter().map(lines::resign).collect();
        self.tell(&(held + rules + self.word.as_deref().unwrap_or_default() + &resignations))
    }

    /// Ends the guard without touching an address: the node ends in good order and has removed what is its own. Waits up
    /// to a second for the guard's end.
    pub fn bye(mut self) -> io::Result<()> {
        let told = self.tell(lines::BYE);
        if told.is_ok() {
            let end = sys::pidfd_open(self.child.id())?;
            let _ = sys::wait_readable([end.as_fd()], Some(BYE_TIMEOUT))?;
        }
        // It is gone already, or has not listened; in both cases nobody may be left to touch the addresses.
        self.child.kill()?;
        self.child.wait()?;
        told
    }

    /// Each line is shorter than `PIPE_BUF`, so the kernel takes it whole or not at all. All of a respawn's lines together
    /// may be longer, but go into an empty pipe.
    fn tell(&mut self, text: &str) -> io::Result<()> {
        self.pipe.write_all(text.as_bytes())
    }
}

fn start(program: &Path, args: &[String]) -> io::Result<(Child, ChildStdin)> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = sys::start_in_own_session(&mut command).spawn()?;
    match introduce(&mut child) {
        Ok(pipe) => Ok((child, pipe)),
        Err(error) => {
            // Of no use, but not to be left behind.
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// Tells a new guard who we are.
fn introduce(child: &mut Child) -> io::Result<ChildStdin> {
    let mut pipe = child.stdin.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    sys::set_nonblocking(&pipe)?;
    pipe.write_all(lines::parent(std::process::id()).as_bytes())?;
    Ok(pipe)
}

#[cfg(test)]
mod tests;
