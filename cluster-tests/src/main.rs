//! The command `cygnet-lab`: a pair to play with, a demonstration, and the programs that run inside the nodes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use cygnet_lab::matrix::{self, MatrixArguments, TrialArguments};
use cygnet_lab::{backend, clients, demo, health, lasting, probe, stand_in};

#[derive(Parser)]
#[command(name = "cygnet-lab", about = "A pair of balancers in network namespaces", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds a pair that lasts until `down`.
    Up,
    /// Shows a pair serve, die, take over and move its address, in less than a minute.
    Demo,
    /// Opens a shell (or runs a command) in a node of the pair: lb1, lb2, client, watch, backend1, backend2.
    Shell {
        /// The node.
        node: String,
        /// The command; a shell if there is none.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Ends the pair.
    Down,
    /// Measures each fault on Cygnet, keepalived with HAProxy and ucarp with Pen.
    Matrix(MatrixArguments),
    /// One fault on one pair.
    #[command(hide = true)]
    Trial(TrialArguments),
    /// Keeps the pair of `up`.
    #[command(hide = true)]
    Keep,
    /// Measures what a client sees (runs in the client's node).
    #[command(hide = true)]
    Probe(ProbeArguments),
    /// A server (runs in a server's node).
    #[command(hide = true)]
    Backend {
        #[arg(long)]
        name: String,
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Answers health checks (runs in a server's node).
    #[command(hide = true)]
    Health {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        file: PathBuf,
    },
    /// One request.
    #[command(hide = true)]
    Ask {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        source: Option<IpAddr>,
    },
    /// One stream, only listened to.
    #[command(hide = true)]
    Hold {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        name: String,
        #[arg(long)]
        every_ms: u64,
    },
    /// A program that does not take over from a node (started by that node).
    #[command(hide = true)]
    StandIn {
        #[arg(long, value_enum)]
        end: stand_in::End,
        /// What the node says to a new program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        more: Vec<String>,
    },
    /// Many clients with an address each.
    #[command(hide = true)]
    Clients(ClientsArguments),
}

#[derive(Args)]
struct ProbeArguments {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, default_value_t = 2000)]
    interval_us: u64,
    #[arg(long, default_value_t = 250)]
    deadline_ms: u64,
    #[arg(long, default_value_t = 5)]
    sessions: usize,
    #[arg(long, default_value_t = 50)]
    session_interval_ms: u64,
    /// Ends after this time; without it, with the standard input.
    #[arg(long)]
    duration_ms: Option<u64>,
}

#[derive(Args)]
struct ClientsArguments {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    first: Ipv4Addr,
    #[arg(long)]
    count: u32,
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    #[arg(long, default_value_t = 5000)]
    deadline_ms: u64,
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cygnet-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let outcome = match command {
        Command::Up => demo::check_tools().and_then(|()| lasting::up()),
        Command::Demo => demo::check_tools().and_then(|()| demo::run()),
        Command::Shell { node, command } => {
            let status = lasting::shell(&node, &command)?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        Command::Down => lasting::down(),
        Command::Keep => lasting::keep(),
        Command::Matrix(arguments) => demo::check_tools().and_then(|()| matrix::run(&arguments)),
        Command::Trial(arguments) => matrix::trial(&arguments),
        Command::Probe(arguments) => runtime()?.block_on(probe_run(&arguments)),
        Command::Backend { name, listen } => runtime()?.block_on(backend::serve(&name, listen)),
        Command::Health { listen, file } => health::serve(listen, &file),
        Command::Ask { target, source } => runtime()?.block_on(ask(target, source)),
        Command::Hold { target, name, every_ms } => {
            runtime()?.block_on(probe::hold(target, &name, Duration::from_millis(every_ms)))
        }
        Command::StandIn { end, .. } => stand_in::run(end),
        Command::Clients(arguments) => runtime()?.block_on(clients_run(&arguments)),
    };
    outcome.map(|()| ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn probe_run(arguments: &ProbeArguments) -> Result<()> {
    let settings = probe::Settings {
        target: arguments.target,
        interval: Duration::from_micros(arguments.interval_us.max(100)),
        deadline: Duration::from_millis(arguments.deadline_ms),
        sessions: arguments.sessions,
        session_interval: Duration::from_millis(arguments.session_interval_ms.max(1)),
    };
    probe::run(settings, arguments.duration_ms.map(Duration::from_millis)).await
}

async fn ask(target: SocketAddr, source: Option<IpAddr>) -> Result<()> {
    // One that nobody has to wait for: longer than the kernel's first two retransmissions.
    let deadline = Duration::from_secs(5);
    match probe::request(target, source, deadline).await {
        Ok(answer) => println!("{} {}", answer.server, answer.peer),
        Err(failure) => anyhow::bail!("{failure:?}"),
    }
    Ok(())
}

async fn clients_run(arguments: &ClientsArguments) -> Result<()> {
    let crowd = clients::Crowd {
        target: arguments.target,
        first: arguments.first,
        count: arguments.count,
        rate: arguments.rate,
        at_once: arguments.at_once,
        deadline: Duration::from_millis(arguments.deadline_ms),
        list: arguments.list,
    };
    println!("{}", serde_json::to_string(&clients::run(crowd).await?)?);
    Ok(())
}
