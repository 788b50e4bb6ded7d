//! The prober's loop: requests on an absolute schedule, a line of state ten times a second, the report at the end.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::record::{self, Record};
use super::{Answer, Failure, Settings, Tick, request, session, unix_ms};

/// How often the state is printed.
const TICK: Duration = Duration::from_millis(100);
/// Requests that are kept: one every 2 ms for over an hour, 200 MB at most. The prober stops there.
const MAX_RECORDS: usize = 2_000_000;

#[derive(Default)]
struct Seen {
    records: Vec<Record>,
    tick: Tick,
}

/// Runs until the standard input ends, or for `duration`. Writes `{"tick":..}` lines and at the end `{"report":..}`.
///
/// # Errors
/// If the report cannot be written.
pub async fn run(settings: Settings, duration: Option<Duration>) -> Result<()> {
    let (stop, stopped) = watch::channel(false);
    let started_ms = unix_ms();
    let origin = Instant::now();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut sessions = JoinSet::new();
    for number in 0..settings.sessions {
        let name = format!("{started_ms}-{number}");
        sessions.spawn(session::run(name, settings.clone(), stopped.clone()));
    }
    let printer = tokio::spawn(print_ticks(Arc::clone(&seen)));
    tokio::select! {
        () = send(&settings, origin, started_ms, &seen) => {}
        () = end(duration) => {}
    }
    let end = origin.elapsed();
    // What is under way may still succeed; it counts by its start.
    tokio::time::sleep(settings.deadline + Duration::from_millis(20)).await;
    stop.send_replace(true);
    let mut fates = sessions.join_all().await;
    fates.sort_by(|one, other| one.session.cmp(&other.session));
    printer.abort();
    let records = std::mem::take(&mut seen.lock().unwrap_or_else(PoisonError::into_inner).records);
    let report = record::report(records, started_ms, micros(end), fates);
    println!("{}", serde_json::json!({ "report": report }));
    Ok(())
}

async fn send(settings: &Settings, origin: Instant, started_ms: u64, seen: &Arc<Mutex<Seen>>) {
    let mut schedule = interval_at(origin, settings.interval);
    // Absolute: after a hang of the machine the missed requests are sent at once and marked as late.
    schedule.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut started = 0;
    while started < MAX_RECORDS {
        let planned = schedule.tick().await;
        started += 1;
        let settings = settings.clone();
        let seen = Arc::clone(seen);
        tokio::spawn(async move {
            let start = Instant::now();
            let outcome = request(settings.target, None, settings.deadline).await;
            let took = micros(start.elapsed());
            let start_us = micros(start.duration_since(origin));
            let late_us = micros(start.saturating_duration_since(planned));
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let start_ms = started_ms + start_us / 1000;
            seen.note(start_ms, &outcome);
            let outcome = outcome.map(|answer| (answer.server, took));
            seen.records.push(Record { start_us, late_us, outcome });
        });
    }
}

impl Seen {
    fn note(&mut self, start_ms: u64, outcome: &Result<Answer, Failure>) {
        match outcome {
            Ok(answer) => {
                self.tick.succeeded += 1;
                self.tick.last_success_ms = self.tick.last_success_ms.max(start_ms);
                self.tick.server.clone_from(&answer.server);
            }
            Err(_) => {
                self.tick.failed += 1;
                self.tick.last_failure_ms = self.tick.last_failure_ms.max(start_ms);
            }
        }
    }
}

async fn print_ticks(seen: Arc<Mutex<Seen>>) {
    let mut every = interval(TICK);
    loop {
        every.tick().await;
        let mut tick = seen.lock().unwrap_or_else(PoisonError::into_inner).tick.clone();
        tick.unix_ms = unix_ms();
        println!("{}", serde_json::json!({ "tick": tick }));
    }
}

/// The end of the time if one was given, else of the standard input.
async fn end(duration: Option<Duration>) {
    if let Some(duration) = duration {
        return tokio::time::sleep(duration).await;
    }
    let (tell, told) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while std::io::stdin().read(&mut bytes).is_ok_and(|count| count > 0) {}
        drop(tell);
    });
    // The sender's end is the message.
    let _ = told.await;
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
