//! Programs that run in a node: their log, their end, by pid only.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{self, Signal};
use crate::{enter, wait};

/// A program that runs in a node. Dropping it kills it and its children.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where our part of the log begins.
    from: usize,
}

/// The command that runs `program` in the network namespace of `node`. It keeps its pid through `nsenter`.
#[must_use]
pub fn in_node(node: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{node}")).arg("--").arg(program);
    command
}

/// This program (`cygnet-lab`), also when called from a test, whose executable lies one folder deeper.
///
/// # Errors
/// If it has not been built.
pub fn lab_program() -> Result<PathBuf> {
    sibling("cygnet-lab").context("cygnet-lab is not built: cargo build -p cygnet-cluster-tests")
}

/// A program next to ours in the target folder.
pub(crate) fn sibling(name: &str) -> Option<PathBuf> {
    let ours = std::env::current_exe().ok()?;
    ours.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file())
}

impl Process {
    /// Starts `command`; what it writes goes to a log named after it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let log = Path::new(enter::FILES).join("logs").join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let from = usize::try_from(file.metadata()?.len())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name} ({:?})", command.get_program()))?;
        Ok(Self { name: name.to_owned(), child, log, from })
    }

    /// Its process id inside the lab.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written; an earlier process of the same name left out.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        command::signal(signal, &[self.pid()]).with_context(|| self.name.clone())
    }

    /// Sends a signal to it and all its descendants at once.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        let mut pids = command::descendants(self.pid());
        pids.push(self.pid());
        command::signal(signal, &pids).with_context(|| self.name.clone())
    }

    /// Kills it alone, as `kill -9` does, and waits for its end.
    ///
    /// # Errors
    /// If it had ended already.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::Term)?;
        self.wait_end(limit)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(limit, &what, || Ok(self.child.try_wait()?))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Its children may have ended meanwhile; then there is nothing left to do for them.
            let _ = self.signal_all(Signal::Kill);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
