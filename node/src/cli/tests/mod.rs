//! Commands from end to end: arguments in, output and exit code out, over a real socket to a node that is not there.

mod audit;
mod config;
mod failures;
mod moves;
mod replay;
mod upgrade;
mod views;

use std::io::{self, Write};
use std::path::Path;

use super::{Exit, Surroundings, execute, misunderstood, parse};
use crate::control::tests::fake::Served;

/// What a command left behind.
pub(super) struct Ran {
    pub(super) exit: Exit,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ran {
    /// A command that has not run.
    fn none() -> Self {
        Self { exit: Exit::Error, out: String::new(), err: String::new() }
    }
}

/// How a command is run.
pub(super) struct Terminal<'t> {
    pub(super) answer: Option<&'t str>,
    pub(super) colour: bool,
}

pub(super) fn run(served: &Served, arguments: &[&str]) -> Ran {
    run_on(&served.socket(), arguments, &Terminal { answer: None, colour: false })
}

pub(super) fn run_on(socket: &Path, arguments: &[&str], terminal: &Terminal<'_>) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run_into(socket, arguments, terminal, &mut out, &mut err);
    Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

fn run_into(
    socket: &Path,
    arguments: &[&str],
    terminal: &Terminal<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let arguments = || std::iter::once("cygnet").chain(arguments.iter().copied());
    let surroundings = Surroundings {
        api: Some(socket.to_path_buf()),
        interactive: terminal.answer.is_some(),
        colour: terminal.colour,
        author: "alice".into(),
    };
    match parse(arguments()) {
        Ok(cli) => execute(&cli, &surroundings, &mut terminal.answer.unwrap_or("").as_bytes(), out, err),
        Err(error) => misunderstood(&error, arguments().map(Into::into), out, err),
    }
}

/// A reader that went away after so many bytes.
pub(super) struct Closed(pub(super) usize);

impl Write for Closed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
