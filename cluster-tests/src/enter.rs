//! Isolation: a scenario (or a command) runs again inside namespaces of its own.
//!
//! ```text
//!   cargo test / nextest          unshare (mount, net, pid, [user])          the same test      
//!   test thread: lab(body) ─────────► --kill-child ───────────────────────► lab(body): runs body
//!          │ holds a pipe  ─────────────────────────────────────────────────► end of file: abort
//! ```
//! The inner process is the only child of the first one of its process namespace: when it ends, for whatever reason, the
//! kernel ends all that it started. Its end is tied to the outer process by the pipe on its standard input.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::{command, figures};

/// Set for the process inside.
const INSIDE: &str = "CYGNET_LAB_INSIDE";
/// Set to anything: go through a user namespace even as root.
pub const ROOTLESS: &str = "CYGNET_LAB_ROOTLESS";
/// Where the lab's files live inside: a file system in memory that goes with the lab.
pub const FILES: &str = "/run/lab";
/// The first process inside: it reaps orphans, as the first process of a real host does (keepalived takes a dead child
/// that nobody has reaped for a living one), and ends with our program.
const INIT: &str = "exec 3<&0; \"$@\" <&3 3<&- & wait $!";
/// Lines of the inner test runner that would only be confusing in the output of the outer one.
const FRAME: [&str; 4] = ["running 1 test", "test result:", "test ", "ok"];
/// How many lines of each log are shown when a scenario fails.
const TAIL_LINES: usize = 40;

/// What a lab may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Root if we are root, else a user namespace.
    AsWeAre,
    /// A user namespace in any case.
    UserNamespace,
}

/// Runs a test's body in a lab of its own. To be called once, directly from a `#[test]` function.
///
/// Where the machine allows neither root nor user namespaces it says so, loudly, and passes.
///
/// # Errors
/// What the body returned, or that it ended badly inside.
pub fn lab(body: impl FnOnce() -> Result<()>) -> Result<()> {
    lab_with(Rights::AsWeAre, body)
}

/// As [`lab`], with a choice of rights.
///
/// # Errors
/// As [`lab`].
pub fn lab_with(rights: Rights, body: impl FnOnce() -> Result<()>) -> Result<()> {
    if is_inside() {
        return inside(body);
    }
    if let Err(reason) = possible(rights) {
        eprintln!("SKIPPED: no namespaces here: {reason:#}");
        return Ok(());
    }
    let name = test_name()?;
    let _turn = turn()?;
    let args = ["--exact", &name, "--nocapture", "--include-ignored", "--test-threads=1"];
    let output = isolated(rights, &args)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn_held()?;
    let said = String::from_utf8_lossy(&output.stdout);
    // Through the macros, so that the test runner's capture works; without the inner runner's frame.
    for line in said.lines().filter(|line| !FRAME.iter().any(|frame| line.starts_with(frame))) {
        println!("{line}");
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    figures::keep(&said);
    if !output.status.success() {
        bail!("{name} failed inside its lab ({}); its output is above", output.status);
    }
    if !said.contains("1 passed") {
        bail!("{name} did not run inside its lab");
    }
    Ok(())
}

/// Runs a program's body in a lab of its own: the program runs again with the same arguments, its output as it comes.
/// `None` outside when the inner program ended with 0.
///
/// # Errors
/// What the body returned, or the inner exit code.
pub fn program(body: impl FnOnce() -> Result<()>) -> Result<()> {
    if is_inside() {
        return inside(body);
    }
    possible(Rights::AsWeAre).context("neither root nor user namespaces are available")?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = isolated(Rights::AsWeAre, &args)?.spawn_held()?;
    if !output.status.success() {
        bail!("ended with {}", output.status);
    }
    Ok(())
}

/// The command that runs this executable again inside namespaces; it ends when its standard input does.
///
/// # Errors
/// If our own path is unknown.
pub(crate) fn isolated(rights: Rights, args: &[&str]) -> Result<Command> {
    let mut command = Command::new("unshare");
    if needs_user_namespace(rights) {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.args(["sh", "-c", INIT, "init"]);
    command.arg(std::env::current_exe()?).args(args).env(INSIDE, "1").stdin(Stdio::piped());
    // An error of a scenario says what was missing; where in the lab it was made is noise.
    command.env("RUST_LIB_BACKTRACE", "0");
    Ok(command)
}

/// Whether this process runs inside a lab.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

trait SpawnHeld {
    fn spawn_held(&mut self) -> Result<Output>;
}

impl SpawnHeld for Command {
    /// Runs to the end while we hold the other end of its standard input.
    fn spawn_held(&mut self) -> Result<Output> {
        let mut child = self.spawn().context("cannot run unshare (package util-linux)")?;
        let held = child.stdin.take();
        let output = child.wait_with_output()?;
        drop(held);
        Ok(output)
    }
}

fn inside(body: impl FnOnce() -> Result<()>) -> Result<()> {
    follow_standard_input()?;
    prepare()?;
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            show_logs();
            Err(error)
        }
        Err(panic) => {
            show_logs();
            resume_unwind(panic)
        }
    }
}

/// Ends this process, and with it the lab, when whoever holds our standard input is gone.
///
/// # Errors
/// If no thread can be started.
pub(crate) fn follow_standard_input() -> Result<()> {
    std::thread::Builder::new().name("parent".to_owned()).spawn(|| {
        let mut bytes = [0; 64];
        while std::io::stdin().read(&mut bytes).is_ok_and(|count| count > 0) {}
        std::process::abort();
    })?;
    Ok(())
}

/// A `/run` of our own (names of namespaces, sockets, logs) and the settings of real hosts.
///
/// # Errors
/// If a mount is refused.
pub(crate) fn prepare() -> Result<()> {
    command::run("mount", &["-t", "tmpfs", "-o", "mode=755", "cygnet-lab", "/run"])?;
    std::fs::create_dir_all("/run/netns")?;
    std::fs::create_dir_all(Path::new(FILES).join("logs"))?;
    command::run("ip", &["link", "set", "lo", "up"])?;
    Ok(())
}

fn show_logs() {
    let mut logs: Vec<_> = std::fs::read_dir(Path::new(FILES).join("logs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    logs.sort();
    for log in logs {
        let Ok(bytes) = std::fs::read(&log) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- {} (last of {} lines)", log.display(), lines.len());
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            eprintln!("    {line}");
        }
    }
    std::io::stderr().flush().unwrap_or_default();
}

/// One lab at a time: two that measure at once on a small machine measure each other. Ends with the returned file.
fn turn() -> Result<std::fs::File> {
    let program = std::env::current_exe()?;
    let folder = program.ancestors().find(|folder| folder.ends_with("target")).map(Path::to_owned);
    let path = folder.unwrap_or_else(std::env::temp_dir).join("cygnet-lab.lock");
    // Another user's is as good to wait at.
    let file = std::fs::File::create(&path).or_else(|_| std::fs::File::open(&path));
    let file = file.with_context(|| path.display().to_string())?;
    file.lock()?;
    Ok(file)
}

fn test_name() -> Result<String> {
    let thread = std::thread::current();
    match thread.name() {
        Some(name) if name != "main" => Ok(name.to_owned()),
        // A runner that runs the only test on the main thread has named it on the command line.
        _ => {
            let args: Vec<String> = std::env::args().collect();
            let at = args.iter().position(|arg| arg == "--exact").context("the test's name is unknown")?;
            args.get(at + 1).cloned().context("the test's name is unknown")
        }
    }
}

fn needs_user_namespace(rights: Rights) -> bool {
    rights == Rights::UserNamespace || std::env::var_os(ROOTLESS).is_some() || !is_root()
}

/// Whether the effective user is root (here: in whatever user namespace we are).
#[must_use]
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().nth(1) == Some("0")
}

fn possible(rights: Rights) -> Result<()> {
    let mut args = vec!["--mount", "--net", "--pid", "--fork", "--mount-proc"];
    if needs_user_namespace(rights) {
        args.splice(0..0, ["--user", "--map-root-user"]);
    }
    args.push("true");
    command::run("unshare", &args).map(drop)
}
