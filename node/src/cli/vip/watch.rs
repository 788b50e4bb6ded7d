//! `cygnet vip watch`: the addresses, live.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use cygnet_ha::events::{Event, Severity};
use cygnet_ha::vip::{Role, VipView};
use serde::Serialize;

use crate::cli::Session;
use crate::cli::client::with_query;
use crate::cli::exit::{Exit, Outcome, Stop};
use crate::cli::output::{Colour, Screen, moment, printable};
use crate::control::types::{EVENTS_PAGE_MAX, Events, Reply, Vips};

/// How often the node is asked. It refreshes its views as often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Width of the subject's column; a longer subject moves its own line only.
const SUBJECT_WIDTH: usize = 12;

/// `cygnet vip watch`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet vip watch --for 10m -o json\n\n\
                        With -o json, each line is one object: `state` when a role, a holder or a rival changes (and \
                        once at the beginning), `event` for what the node noticed.")]
pub(super) struct WatchArgs {
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
}

/// What a line is written for when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct State {
    vip: String,
    role: Role,
    holder: Option<std::net::IpAddr>,
    holder_priority: Option<u8>,
    rivals: Vec<std::net::IpAddr>,
    reason: String,
}

impl State {
    fn of(view: &VipView) -> Self {
        Self {
            vip: view.name.clone(),
            role: view.role,
            holder: view.holder,
            holder_priority: view.holder_priority,
            rivals: view.rivals.clone(),
            reason: view.reason.clone(),
        }
    }
}

pub(super) fn run(args: &WatchArgs, session: &mut Session<'_>) -> Outcome {
    let end = args.time.map(|time| Instant::now() + time);
    // Only what happens from now on.
    let mut after = events(u64::MAX, session)?.last;
    let mut known: BTreeMap<String, State> = BTreeMap::new();
    loop {
        let Vips { vips } = session.client.get("/v1/vips")?;
        let page = events(after, session)?;
        let screen = &mut session.screen;
        for event in page.events.iter().filter(|event| is_about_an_address(event)) {
            tell_event(event, screen)?;
        }
        // A node that has started anew counts from 1 again; what is new there is told from its beginning.
        let newest = page.events.last().map(|event| event.sequence);
        after = if page.last < after { 0 } else { newest.unwrap_or(after) };
        for view in &vips {
            let state = State::of(view);
            if known.get(&view.name) != Some(&state) {
                tell_state(&state, screen)?;
                known.insert(view.name.clone(), state);
            }
        }
        known.retain(|name, _| vips.iter().any(|view| view.name == *name));
        screen.out.flush()?;
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(Exit::Ok);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn events(after: u64, session: &Session<'_>) -> Result<Events, Stop> {
    let query = [("after", Some(after.to_string())), ("limit", Some(EVENTS_PAGE_MAX.to_string()))];
    Ok(session.client.get(&with_query("/v1/events", &query))?)
}

/// The address itself, or its segment.
fn is_about_an_address(event: &Event) -> bool {
    ["vip", "interface"].contains(&event.subject.split(' ').next().unwrap_or_default())
}

/// One object on one line.
fn object<T: Serialize>(kind: &'static str, body: &T, screen: &mut Screen<'_>) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'l, T> {
        kind: &'static str,
        #[serde(flatten)]
        body: &'l T,
    }
    serde_json::to_writer(&mut *screen.out, &Reply::new(Line { kind, body }))?;
    writeln!(screen.out)
}

fn tell_state(state: &State, screen: &mut Screen<'_>) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    if screen.is_json() {
        #[derive(Serialize)]
        struct Dated<'s> {
            unix_ms: u64,
            #[serde(flatten)]
            state: &'s State,
        }
        return object("state", &Dated { unix_ms, state }, screen);
    }
    let colour = match state.role {
        _ if !state.rivals.is_empty() => Some(Colour::Bad),
        Role::Active => Some(Colour::Good),
        Role::Standby => None,
        Role::Down => Some(Colour::Bad),
    };
    let role = screen.paint(&format!("{:7}", state.role.word()), colour);
    let holder = match (state.holder, state.holder_priority) {
        (Some(holder), Some(priority)) => format!("held by {holder} ({priority})"),
        (Some(holder), None) => format!("held by {holder}"),
        (None, _) => "held by nobody".to_owned(),
    };
    let rivals: Vec<String> = state.rivals.iter().map(ToString::to_string).collect();
    let rivals =
        if rivals.is_empty() { String::new() } else { format!(", claimed by {}", rivals.join(" and ")) };
    let (time, subject) = (moment(unix_ms), printable(&format!("vip {}", state.vip)));
    let reason = printable(&state.reason);
    writeln!(screen.out, "{time}  {role}  {subject:SUBJECT_WIDTH$}  here; {holder}{rivals} ({reason})")
}

fn tell_event(event: &Event, screen: &mut Screen<'_>) -> io::Result<()> {
    if screen.is_json() {
        /// `kind` says what line it is; the event's own word is its name here, as in `vip replay`.
        #[derive(Serialize)]
        struct Named<'e> {
            sequence: u64,
            unix_ms: u64,
            severity: Severity,
            subject: &'e str,
            name: &'e str,
            what: &'e str,
            why: &'e str,
        }
        let Event { sequence, unix_ms, severity, ref subject, ref kind, ref what, ref why } = *event;
        return object(
            "event",
            &Named { sequence, unix_ms, severity, subject, name: kind, what, why },
            screen,
        );
    }
    let (word, colour) = match event.severity {
        Severity::Info => ("info   ", None),
        Severity::Warning => ("warning", Some(Colour::Warning)),
        Severity::Alert => ("alert  ", Some(Colour::Bad)),
    };
    let word = screen.paint(word, colour);
    let why = if event.why.is_empty() { String::new() } else { format!(" ({})", printable(&event.why)) };
    let (time, subject, what) = (moment(event.unix_ms), printable(&event.subject), printable(&event.what));
    writeln!(screen.out, "{time}  {word}  {subject:SUBJECT_WIDTH$}  {what}{why}")
}
