//! The program `pen`: from the command line to the clean end.
//!
//! The order of the start is Pen's: options, file, background, sockets, servers, TLS, jail, user, log, pid file. What
//! can be wrong before the background is said on stderr, with exit status 1.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use cygnet_netlink::{memory, process};

use super::balancer::Balancer;
use super::daemon::{self, Birth, PidFile};
use super::figures::Before;
use super::messages::Messages;
use super::options::{self, Parsed, Start, Stop};
use super::signals::Signals;
use super::system::System;
use super::{Effect, Pen, Surroundings, control, listen_address};

/// The program: `program` is the name that it was called by, `arguments` what came after it.
#[must_use]
pub fn main(program: &str, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<String> =
        arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let around = Surroundings { facts: &Before, names: &System, files: &System };
    let parsed = match options::parse(program, &arguments, around) {
        Parsed::Start(start) => start.finish(around),
        Parsed::Stop(stop) => Err(stop),
    };
    match parsed {
        Ok(start) => begin(start),
        Err(stop) => stopped(&stop),
    }
}

fn stopped(stop: &Stop) -> ExitCode {
    say(&stop.out, &stop.err);
    ExitCode::from(stop.code)
}

fn say(out: &str, err: &str) {
    // Whoever called may have closed either; the exit status says what matters.
    let _ = io::stdout().write_all(out.as_bytes()).and_then(|()| io::stdout().flush());
    let _ = io::stderr().write_all(err.as_bytes());
}

fn begin(start: Start) -> ExitCode {
    process::load_time_zone();
    say(&start.out, &start.err);
    let ready = match daemon::be_born(start.pen.foreground) {
        Ok(Birth::Parent) => return ExitCode::SUCCESS,
        Ok(Birth::Balancer(ready)) => ready,
        Err(error) => {
            say("", &format!("cannot go into the background: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let messages = if start.pen.foreground { Messages::stderr() } else { Messages::syslog() };
    let abort = start.pen.abort_on_error;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(live(start, &messages, || daemon::tell_ready(ready))),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    let Err(why) = ended else { return ExitCode::SUCCESS };
    messages.fatal(why);
    if abort {
        std::process::abort();
    }
    ExitCode::FAILURE
}

/// The life of the balancer. An error is fatal.
async fn live(start: Start, messages: &Messages, ready: impl FnOnce()) -> Result<(), String> {
    let Start { pen, effects, .. } = start;
    let mut signals = Signals::listen().map_err(|error| format!("cannot wait for signals: {error}"))?;
    // None of these is worth not starting for.
    let _ = process::raise_core_limit();
    let _ = process::ignore_children_and_pipes();
    let _ = cygnet_netlink::limits::raise_open_files();
    let mut exit = false;
    for effect in effects {
        match effect {
            Effect::Message(text) => messages.tell(text),
            Effect::Print(text) => say(&text, ""),
            Effect::Exit => exit = true,
            // The start does all of it anyway.
            _ => {}
        }
    }
    let bound = open_control(&pen, messages)?;
    let mut control = control::Control::new(bound).map_err(|error| format!("control socket: {error}"))?;
    tell_sizes(&pen, messages);
    let mut balancer = Balancer::start(pen, messages.clone())?;
    daemon::leave(balancer.pen())?;
    balancer.open_log()?;
    let pid_file = balancer.pen().pid_file.as_deref().map(PidFile::write).transpose()?;
    balancer.open()?;
    tell_start(balancer.pen(), messages);
    // Not to be had in a jail without /proc; it only saves memory.
    let _ = memory::give_code_back();
    ready();
    if !exit {
        balancer.serve(&mut control, &mut signals).await;
    }
    balancer.end();
    drop(pid_file);
    Ok(())
}

fn open_control(pen: &Pen, messages: &Messages) -> Result<Option<control::Bound>, String> {
    let Some(words) = &pen.control else { return Ok(None) };
    if !daemon::may_open_control(pen) {
        messages.tell("Won't open control port running as root; use -u to run as different user");
        return Ok(None);
    }
    let endpoint = listen_address(words, false, &System)?;
    control::bind(&endpoint).map(Some).map_err(|error| format!("can't bind local address ({words}: {error})"))
}

/// Two messages at every start, as Pen has them.
fn tell_sizes(pen: &Pen, messages: &Messages) {
    messages.tell("Before: connections_max = 0, clients_max = 0");
    let Pen { conn_max, clients_max, .. } = pen;
    messages.tell(format_args!("After: connections_max = {conn_max}, clients_max = {clients_max}"));
}

fn tell_start(pen: &Pen, messages: &Messages) {
    if pen.debug < 1 {
        return;
    }
    messages.tell(format_args!("cygnet pen {} starting", env!("CARGO_PKG_VERSION")));
    messages.tell("servers:");
    for (number, slot) in pen.servers.iter().enumerate() {
        let (host, port) = (&slot.host, slot.shown_port());
        let (max, hard, weight, prio) = (slot.max, slot.hard, slot.weight, slot.prio);
        messages.tell(format_args!("{number:2} {host}:{port}:{max}:{hard}:{weight}:{prio}"));
    }
}
