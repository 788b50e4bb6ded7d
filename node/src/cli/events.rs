//! `cygnet events`.

use std::io;
use std::thread;
use std::time::Duration;

use clap::Args;
use cygnet_ha::events::{Event, Severity};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Session;
use super::client::with_query;
use super::exit::{Exit, Outcome};
use super::output::{Colour, moment, printable};
use crate::control::types::{ClusterEvent, ClusterEvents, EVENTS_PAGE_MAX, Events};

/// How often `--follow` asks.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Width of the subject's column; a longer subject moves its own line only.
const SUBJECT_WIDTH: usize = 16;
/// Width of the node's column, likewise.
const NODE_WIDTH: usize = 8;

/// `cygnet events`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cygnet events --follow\n\
                        Example: cygnet events --cluster --kind command\n\n\
                        With -o json --follow, each event is one line of JSON.")]
pub struct EventsArgs {
    /// Go on and show events as they happen
    #[arg(long, short)]
    follow: bool,
    /// Only events with a greater number
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// Those of all nodes, by the memory that they share: it outlives a restart and the loss of a node
    #[arg(long)]
    cluster: bool,
    /// Only events of this kind: command, active, standby, down, second-holder, ...
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

pub(super) fn run(args: &EventsArgs, session: &mut Session<'_>) -> Outcome {
    if args.cluster { show::<ClusterEvents>(args, session) } else { show::<Events>(args, session) }
}

/// A page of events, of one node or of all.
trait Page: DeserializeOwned + Serialize {
    const PATH: &'static str;
    type Item: Serialize;
    fn items(&mut self) -> &mut Vec<Self::Item>;
    /// The newest number that exists.
    fn last(&self) -> u64;
    /// What is to be said under the last page.
    fn remark(&self) -> Option<String>;
    fn number(item: &Self::Item) -> u64;
    fn node(item: &Self::Item) -> Option<&str>;
    fn event(item: &Self::Item) -> &Event;
}

impl Page for Events {
    const PATH: &'static str = "/v1/events";
    type Item = Event;
    fn items(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }
    fn last(&self) -> u64 {
        self.last
    }
    fn remark(&self) -> Option<String> {
        None
    }
    fn number(item: &Event) -> u64 {
        item.sequence
    }
    fn node(_: &Event) -> Option<&str> {
        None
    }
    fn event(item: &Event) -> &Event {
        item
    }
}

impl Page for ClusterEvents {
    const PATH: &'static str = "/v1/cluster/events";
    type Item = ClusterEvent;
    fn items(&mut self) -> &mut Vec<ClusterEvent> {
        &mut self.events
    }
    fn last(&self) -> u64 {
        self.last
    }
    fn remark(&self) -> Option<String> {
        let Self { waiting, .. } = self;
        let remark =
            || format!("{waiting} newer events of this node are not shared yet; see `cygnet events`");
        (*waiting > 0).then(remark)
    }
    fn number(item: &ClusterEvent) -> u64 {
        item.number
    }
    fn node(item: &ClusterEvent) -> Option<&str> {
        Some(&item.node)
    }
    fn event(item: &ClusterEvent) -> &Event {
        &item.event
    }
}

fn show<P: Page>(args: &EventsArgs, session: &mut Session<'_>) -> Outcome {
    let mut after = args.after;
    let mut whole: Option<P> = None;
    loop {
        let query = [("after", Some(after.to_string())), ("limit", Some(EVENTS_PAGE_MAX.to_string()))];
        let mut page: P = session.client.get(&with_query(P::PATH, &query))?;
        // The node has started anew, and counts from 1 again.
        let anew = args.follow && page.last() < after;
        let newest = page.items().last().map_or(after, P::number);
        let more = page.items().len() == EVENTS_PAGE_MAX && newest > after;
        after = if anew { 0 } else { newest };
        page.items().retain(|item| args.kind.as_ref().is_none_or(|kind| P::event(item).kind == *kind));
        if args.follow || !session.screen.is_json() {
            for item in page.items() {
                print::<P>(item, args.follow, session)?;
            }
            session.screen.out.flush()?;
        }
        match &mut whole {
            _ if args.follow => {}
            Some(whole) => whole.items().append(page.items()),
            None => whole = Some(page),
        }
        if more || anew {
            continue;
        }
        if !args.follow {
            break;
        }
        thread::sleep(FOLLOW_EVERY);
    }
    match whole {
        Some(whole) if session.screen.is_json() => session.screen.json(&whole)?,
        Some(whole) => whole.remark().map_or(Ok(()), |remark| session.screen.line(&remark))?,
        None => {}
    }
    Ok(Exit::Ok)
}

fn print<P: Page>(item: &P::Item, follow: bool, session: &mut Session<'_>) -> io::Result<()> {
    let screen = &mut session.screen;
    if follow && screen.is_json() {
        serde_json::to_writer(&mut *screen.out, item)?;
        return writeln!(screen.out);
    }
    let event = P::event(item);
    let (word, colour) = match event.severity {
        Severity::Info => ("info   ", None),
        Severity::Warning => ("warning", Some(Colour::Warning)),
        Severity::Alert => ("alert  ", Some(Colour::Bad)),
    };
    let word = screen.paint(word, colour);
    let why = if event.why.is_empty() { String::new() } else { format!(" ({})", printable(&event.why)) };
    let (number, time) = (P::number(item), moment(event.unix_ms));
    let (subject, what) = (printable(&event.subject), printable(&event.what));
    let node = P::node(item).map(|node| format!("{:NODE_WIDTH$}  ", printable(node))).unwrap_or_default();
    writeln!(screen.out, "{number:>5}  {time}  {node}{word}  {subject:SUBJECT_WIDTH$}  {what}{why}")
}
