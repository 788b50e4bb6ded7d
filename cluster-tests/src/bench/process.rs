//! Child processes that do not outlive us, and conditions that are waited for with a deadline.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a condition is looked at, in milliseconds: short beside what is waited for (a process starting).
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running process: killed and waited for when dropped. What it forked ends with the process namespace.
pub(super) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts `command` without input; what it prints goes to `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone().context("cannot duplicate the log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if the process has ended already.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("cannot wait")? {
            Some(status) => bail!("{} has ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Sends SIGINT and waits for the end.
    pub(super) fn interrupt(mut self, deadline: Duration) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-INT", &pid]).status().context("cannot run kill")?;
        if !status.success() {
            bail!("cannot interrupt {}", self.name);
        }
        wait_for(&format!("the end of {}", self.name), deadline, || {
            Ok(self.child.try_wait().context("cannot wait")?.map(|_| ()))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries `attempt` until it gives something, fails, or the deadline passes.
pub(super) fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {} s for {what}", deadline.as_secs());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Finds a program in PATH, or in the folders of the system's programs that PATH may lack.
pub(super) fn find(program: &str) -> Result<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(Into::into))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{program} is not installed: make bench-deps"))
}
