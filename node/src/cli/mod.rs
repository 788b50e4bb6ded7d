//! The command line. One file a noun; all of them ask the local node over its API.
//!
//! [`main`] is the program: it parses, runs client commands itself, and leaves `run` and `guard` to the [`Hooks`].

mod client;
mod clients;
mod cluster;
mod config;
mod drain;
mod events;
mod exit;
mod from_pen;
mod man;
mod node;
mod output;
mod replay;
mod server;
mod status;
mod switchover;
mod token;
mod upgrade;
mod vip;
mod why;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use client::Client;
pub use exit::Exit;
use exit::{Outcome, Stop};
pub use output::Format;
use output::Screen;

use crate::config::DEFAULT_API;
use crate::control::types::{ApiError, ErrorCode};

/// The environment variable that names the API's socket.
const API_VARIABLE: &str = "CYGNET_API";

/// High-availability balancer pair: TCP, UDP and TLS
#[derive(Debug, Parser)]
#[command(name = "cygnet", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 error, 2 usage, 3 differs or would change, 4 degraded, 5 no quorum, \
                        6 refused, 7 timed out."
)]
pub struct Cli {
    /// The node's API socket [env: CYGNET_API] [default: /run/cygnet/cygnet.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub api: Option<PathBuf>,

    /// How answers are written
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node
    Run(RunArgs),
    /// The state of the pair, with a verdict
    Status(status::StatusArgs),
    /// The virtual addresses, as this node sees them
    Vip(vip::VipArgs),
    /// The cluster's configuration: look, compare, change
    Config(config::ConfigArgs),
    /// The members of the cluster: begin, join, remove, recover
    Cluster(cluster::ClusterArgs),
    /// Tokens with which nodes join the cluster
    Token(token::TokenArgs),
    /// The servers behind the services
    Server(server::ServerArgs),
    /// The remembered clients
    Clients(clients::ClientsArgs),
    /// What happened on this node, and why
    Events(events::EventsArgs),
    /// How a virtual address came to be where it is: the last move, from all nodes' memory
    Why(why::WhyArgs),
    /// Move virtual addresses to another node without losing a new connection
    Switchover(switchover::SwitchoverArgs),
    /// Connections that still go on through this node although their address was moved
    Drain(drain::DrainArgs),
    /// Put a new program in the place of the one that runs, without losing a connection
    Upgrade(upgrade::UpgradeArgs),
    /// The nodes: look, take one out of service, put it back
    Node(node::NodeArgs),
    /// Watch a node from outside and remove its addresses when it dies (started by `run`)
    #[command(hide = true)]
    Guard,
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// `cygnet run`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet run --config /etc/cygnet/node.toml")]
pub struct RunArgs {
    /// The node's file
    #[arg(long, value_name = "FILE", default_value = "/etc/cygnet/node.toml")]
    pub config: PathBuf,

    /// How a process that runs starts the one that takes over from it; standard input is the way to it
    #[arg(long, hide = true, value_enum, value_name = "STAGE")]
    pub successor: Option<Stage>,
}

/// What a program that is to take over was started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// A child of the process that runs. It starts the second one and ends, so that this is a child of the service manager, which
    /// notices its end.
    First,
    /// The new process.
    Second,
}

/// What the program does besides asking a node.
pub struct Hooks {
    /// `cygnet run`: the node's whole life.
    pub run: fn(&RunArgs) -> anyhow::Result<()>,
    /// `cygnet guard`: the guard's whole life.
    pub guard: fn() -> anyhow::Result<()>,
}

/// Parses a command line, the program's name first.
///
/// # Errors
/// What clap has to say, which includes the help.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments)
}

/// The program: arguments, streams and environment of this process.
#[must_use]
pub fn main(hooks: &Hooks) -> ExitCode {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let surroundings = Surroundings {
        api: set(API_VARIABLE).map(PathBuf::from),
        interactive: io::stdin().is_terminal(),
        colour: io::stdout().is_terminal() && set("NO_COLOR").is_none(),
        author: author(|name| set(name)?.into_string().ok(), host()),
    };
    let (mut out, mut err, mut input) = (io::stdout().lock(), io::stderr().lock(), io::stdin().lock());
    let cli = match parse(std::env::args_os()) {
        // The node writes its log to these streams from many threads: it must not find them locked.
        Ok(Cli { command: Command::Run(args), .. }) => {
            drop((out, err, input));
            return hooked((hooks.run)(&args));
        }
        Ok(Cli { command: Command::Guard, .. }) => {
            drop((out, err, input));
            return hooked((hooks.guard)());
        }
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error, std::env::args_os(), &mut out, &mut err).into(),
    };
    execute(&cli, &surroundings, &mut input, &mut out, &mut err).into()
}

fn hooked(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return Exit::Ok.into() };
    // There is nowhere left to complain to if this fails.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    Exit::Error.into()
}

/// What a command takes from around it.
pub(super) struct Surroundings {
    /// The socket that the environment names.
    api: Option<PathBuf>,
    /// Whether somebody can be asked.
    interactive: bool,
    /// Whether colours are wanted.
    colour: bool,
    /// Whom changes are written down for.
    author: String,
}

/// Who sits there, `user@host`: the person behind `sudo`, if any.
fn author(variable: impl Fn(&str) -> Option<String>, host: Option<String>) -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(variable);
    let name = name.unwrap_or_else(|| "unknown".to_owned());
    host.map_or_else(|| name.clone(), |host| format!("{name}@{host}"))
}

/// The name of this machine.
fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// A command at work.
struct Session<'s> {
    client: Client,
    screen: Screen<'s>,
    input: &'s mut dyn BufRead,
    interactive: bool,
    author: &'s str,
}

impl Session<'_> {
    /// Asks before something that matters; without a terminal, `--yes` must have been said.
    fn confirm(&mut self, yes: bool, question: &str) -> Result<(), Stop> {
        if yes {
            return Ok(());
        }
        if !self.interactive {
            let error = format!("not confirmed: {question}");
            return Err(ApiError::new(ErrorCode::Refused, error, "add --yes").into());
        }
        write!(self.screen.err, "{question} [y/N] ")?;
        self.screen.err.flush()?;
        let mut answer = String::new();
        self.input.read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(ApiError::new(ErrorCode::Refused, "not confirmed; nothing was changed", "").into())
    }
}

impl Session<'_> {
    /// Asks for a name to be typed before something that cannot be undone.
    fn confirm_by_name(&mut self, given: Option<&str>, name: &str, option: &str) -> Result<(), Stop> {
        let refused =
            |error: &str| Err(ApiError::new(ErrorCode::Refused, error, format!("{option} {name}")).into());
        let typed = match given {
            Some(given) => given.to_owned(),
            None if !self.interactive => return refused("not confirmed"),
            None => {
                write!(self.screen.err, "Type the name of the cluster ({name}) to go on: ")?;
                self.screen.err.flush()?;
                let mut answer = String::new();
                self.input.read_line(&mut answer)?;
                answer
            }
        };
        if typed.trim() == name { Ok(()) } else { refused("that is not its name; nothing was changed") }
    }
}

/// Runs a client command.
fn execute(
    cli: &Cli,
    surroundings: &Surroundings,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let mut screen = Screen { format: cli.output, colour: surroundings.colour, out, err };
    let socket = cli.api.as_deref().or(surroundings.api.as_deref()).unwrap_or(Path::new(DEFAULT_API));
    let outcome = match Client::new(socket) {
        Ok(client) => {
            let Screen { format, colour, .. } = screen;
            let screen = Screen { format, colour, out: &mut *screen.out, err: &mut *screen.err };
            let (interactive, author) = (surroundings.interactive, surroundings.author.as_str());
            dispatch(&cli.command, &mut Session { client, screen, input, interactive, author })
        }
        Err(error) => Err(ApiError::new(ErrorCode::Error, format!("cannot start: {error}"), "").into()),
    };
    finish(outcome, &mut screen)
}

fn dispatch(command: &Command, session: &mut Session<'_>) -> Outcome {
    match command {
        Command::Status(args) => status::run(args, session),
        Command::Vip(args) => vip::run(args, session),
        Command::Config(args) => config::run(args, session),
        Command::Cluster(args) => cluster::run(args, session),
        Command::Token(args) => token::run(args, session),
        Command::Server(args) => server::run(args, session),
        Command::Clients(args) => clients::run(args, session),
        Command::Events(args) => events::run(args, session),
        Command::Why(args) => why::run(args, session),
        Command::Node(args) => node::run(args, session),
        Command::Upgrade(args) => upgrade::run(args, session),
        Command::Drain(args) => drain::run(args, session),
        Command::Switchover(args) => switchover::run(args, session),
        Command::Man(args) => man::run(args, session),
        Command::Run(_) | Command::Guard => {
            Err(ApiError::new(ErrorCode::Usage, "this command is not for a client", "").into())
        }
    }
}

fn finish(outcome: Outcome, screen: &mut Screen<'_>) -> Exit {
    let (exit, written) = match outcome {
        Ok(exit) => (exit, screen.out.flush()),
        Err(Stop::Failed(error)) => {
            (error.code.into(), screen.failure(&error).and_then(|()| screen.out.flush()))
        }
        Err(Stop::Output(error)) => (Exit::Error, Err(error)),
    };
    match written {
        Ok(()) => exit,
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            // There is nowhere left to complain to if this fails too.
            let _ = writeln!(screen.err, "error: cannot write: {error}");
            Exit::Error
        }
    }
}

/// A command line that could not be understood, or a call for help.
fn misunderstood(
    error: &clap::Error,
    mut arguments: impl Iterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    if !error.use_stderr() {
        return match write!(out, "{}", error.render()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Error,
            _ => Exit::Ok,
        };
    }
    let json = arguments
        .any(|argument| matches!(argument.to_str(), Some("json" | "-ojson" | "-o=json" | "--output=json")));
    let format = if json { Format::Json } else { Format::Table };
    let rendered = error.render().to_string();
    let written = if json {
        let what = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let mut screen = Screen { format, colour: false, out, err };
        screen.failure(&ApiError::new(ErrorCode::Usage, what, "cygnet --help"))
    } else {
        write!(err, "{rendered}")
    };
    // The exit code says it, whoever reads the words.
    let _ = written;
    Exit::Usage
}
