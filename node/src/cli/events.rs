//! `cygnet events`.

use std::io;
use std::thread;
use std::time::Duration;

use clap::Args;
use cygnet_ha::events::{Event, Severity};

use super::Session;
use super::client::with_query;
use super::exit::{Exit, Outcome};
use super::output::{Colour, moment, printable};
use crate::control::types::{EVENTS_PAGE_MAX, Events};

/// How often `--follow` asks.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Width of the subject's column; a longer subject moves its own line only.
const SUBJECT_WIDTH: usize = 16;

/// `cygnet events`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet events --follow\n\n\
                        With -o json --follow, each event is one line of JSON.")]
pub struct EventsArgs {
    /// Go on and show events as they happen
    #[arg(long, short)]
    follow: bool,
    /// Only events with a greater number
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
}

pub(super) fn run(args: &EventsArgs, session: &mut Session<'_>) -> Outcome {
    let mut after = args.after;
    let mut whole: Option<Events> = None;
    loop {
        let query = [("after", Some(after.to_string())), ("limit", Some(EVENTS_PAGE_MAX.to_string()))];
        let page: Events = session.client.get(&with_query("/v1/events", &query))?;
        // The node has started anew, and counts from 1 again.
        let anew = args.follow && page.last < after;
        let newest = page.events.last().map_or(after, |event| event.sequence);
        let more = page.events.len() == EVENTS_PAGE_MAX && newest > after;
        after = if anew { 0 } else { newest };
        if args.follow || !session.screen.is_json() {
            for event in &page.events {
                print(event, args.follow, session)?;
            }
            session.screen.out.flush()?;
        } else if let Some(whole) = &mut whole {
            whole.events.extend(page.events);
        } else {
            whole = Some(page);
        }
        if more || anew {
            continue;
        }
        if !args.follow {
            break;
        }
        thread::sleep(FOLLOW_EVERY);
    }
    if let Some(whole) = whole {
        session.screen.json(&whole)?;
    }
    Ok(Exit::Ok)
}

fn print(event: &Event, follow: bool, session: &mut Session<'_>) -> io::Result<()> {
    let screen = &mut session.screen;
    if follow && screen.is_json() {
        serde_json::to_writer(&mut *screen.out, event)?;
        return writeln!(screen.out);
    }
    let (word, colour) = match event.severity {
        Severity::Info => ("info   ", None),
        Severity::Warning => ("warning", Some(Colour::Warning)),
        Severity::Alert => ("alert  ", Some(Colour::Bad)),
    };
    let word = screen.paint(word, colour);
    let why = if event.why.is_empty() { String::new() } else { format!(" ({})", printable(&event.why)) };
    let (number, time) = (event.sequence, moment(event.unix_ms));
    let (subject, what) = (printable(&event.subject), printable(&event.what));
    writeln!(screen.out, "{number:>5}  {time}  {word}  {subject:SUBJECT_WIDTH$}  {what}{why}")
}
