//! Running the system's tools (`ip`, `nft`, `nsenter`) and sending signals.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A signal that the lab sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends the process at once.
    Kill,
    /// Asks it to end.
    Term,
    /// Freezes it.
    Stop,
    /// Lets it go on.
    Continue,
    /// Asks it to read its configuration again.
    Hangup,
    /// Asks it for statistics.
    User1,
    /// Asks ucarp to hand over.
    User2,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Term => "TERM",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Hangup => "HUP",
            Self::User1 => "USR1",
            Self::User2 => "USR2",
        }
    }
}

/// Runs a program to its end and gives its standard output.
///
/// # Errors
/// If it cannot be started or does not end with 0; the error holds what it wrote to standard error.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    let output = output(program, args)?;
    success(program, args, output)
}

/// Runs a program to its end and gives all that it left, whatever its exit code.
///
/// # Errors
/// If it cannot be started.
pub fn output<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<Output> {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))
}

/// Like [`run`], with `input` on its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input<S: AsRef<OsStr>>(program: &str, args: &[S], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    success(program, args, child.wait_with_output()?)
}

fn success<S: AsRef<OsStr>>(program: &str, args: &[S], output: Output) -> Result<String> {
    if !output.status.success() {
        let args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}: {}", args.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends `signal` to each of `pids` in one call.
///
/// # Errors
/// If one of them does not exist any more or is not ours.
pub fn signal(signal: Signal, pids: &[u32]) -> Result<()> {
    let mut line = format!("kill -s {}", signal.name());
    for pid in pids {
        line.push_str(&format!(" {pid}"));
    }
    // The shell's own `kill`: there is none in a minimal image.
    run("sh", &["-c", &line]).map(drop)
}

/// The children of `pid`, their children and so on, as far as they have not moved to another parent.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) = stat_field(child, 1).and_then(|field| field.parse::<u32>().ok()) {
            parents.push((child, parent));
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.remove(0);
    found
}

/// A field of `/proc/PID/stat` after the name: 0 is the state, 1 the parent, 19 the start time in clock ticks.
#[must_use]
pub fn stat_field(pid: u32, index: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; the fields start behind the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_says_why() {
        let error = run("sh", &["-c", "echo broken >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
    }

    #[test]
    fn children_and_their_children_are_found() {
        let mut child = Command::new("sh").args(["-c", "sleep 20 & wait"]).spawn().unwrap();
        let found = crate::wait::until(std::time::Duration::from_secs(5), "the child of the child", || {
            let found = descendants(child.id());
            Ok((!found.is_empty()).then_some(found))
        })
        .unwrap();
        assert_eq!(stat_field(found[0], 1), Some(child.id().to_string()));
        signal(Signal::Kill, &[found[0], child.id()]).unwrap();
        child.wait().unwrap();
    }
}
