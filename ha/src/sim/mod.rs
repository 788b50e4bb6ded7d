//! The simulator: whole clusters in one thread, under one seed.
//!
//! The production cores run as they are: [`crate::consensus::core`] with its log, [`crate::state`], the queue before each
//! connection, the frames; [`crate::vip::watch`], [`crate::vip::holder`] and the elections beneath it. Simulated are
//! the clocks, both networks, the disks, the kernels with their guards, and the operators.
//!
//! ```text
//!   seed ──> plan: nodes, settings, classes of faults
//!             │
//!             ▼             one queue of events, one clock, one source of chance
//!          ┌─────────────────────────────────────────────────────────────┐
//!          │ process (core, pending changes)  ──frames──> network        │
//!          │ station (watcher, holder)        ──packets─> segment        │──> trace: a hash, or text
//!          │ disk, kernel, guard, clock       <──faults── plan           │
//!          └─────────────────────────────────────────────────────────────┘
//!             │ after each event
//!             ▼
//!          ledger (log), holders (address): a broken invariant ends the run
//! ```
//! A run lasts 60 simulated seconds: faults for 45, then none. [`CONVERGE_WITHIN`] later there must be one leader, one
//! holder, and equal states, and it must stay so; a last change must come through.
//!
//! Built for tests and with the feature `sim`; the program does not carry it.

mod campaign;
mod changes;
mod clock;
mod disk;
mod faults;
mod holders;
mod ledger;
mod machine;
mod mutation;
mod network;
mod plan;
mod process;
mod random;
mod station;
#[cfg(test)]
mod tests;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use campaign::{Campaign, Report};
pub use ledger::Violation;
pub use mutation::Mutation;

use crate::time::Time;
use ledger::ensure;
use world::{Event, World};

/// Faults happen until this time.
const FAULTS_END: Time = Time(45_000_000_000);

/// The end of a run.
const RUN_ENDS: Time = Time(60_000_000_000);

/// After the last fault there are a leader, a holder and equal states within this time: a failed change of the address is
/// tried again after at most 10 s (`vip::holder::RETRY_MAX`), all else takes less.
pub const CONVERGE_WITHIN: Duration = Duration::from_millis(10_500);

/// The last change is asked for at this time, and is to be everywhere at the end.
const LAST_CHANGE: Time = Time(56_000_000_000);

/// How often it is looked whether the cluster has converged.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Two runs of a seed have the same.
    pub hash: u64,
    /// Things that happened.
    pub events: u64,
    /// Changes whose result an operator was told.
    pub answers: u64,
    /// How long it took after the last fault until all was well.
    pub converged: Duration,
    /// The longest time for which two nodes held the address, or none did, in a network that was whole.
    pub overlap: Duration,
    /// As above.
    pub gap: Duration,
    /// The broken invariant, if one is.
    pub violation: Option<Violation>,
    /// What happened, if it was asked for.
    pub trace: String,
}

/// Runs a seed; with the text of what happens if `trace` is set.
#[must_use]
pub fn run(seed: u64, mutation: Option<Mutation>, trace: bool) -> Run {
    let mut world = World::new(seed, mutation, trace);
    let mut converged = Duration::ZERO;
    let lived = catch_unwind(AssertUnwindSafe(|| live(&mut world, &mut converged)));
    let result = lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Violation(format!("panic: {}", text.unwrap_or_default())))
    });
    if let Err(Violation(what)) = &result {
        world.trace.note(world.now, 0, format_args!("VIOLATION: {what}"));
    }
    Run {
        hash: world.trace.hash(),
        events: world.trace.events(),
        answers: world.ledger.answers,
        converged,
        overlap: world.watch.longest_overlap,
        gap: world.watch.longest_gap,
        violation: result.err(),
        trace: world.trace.into_text(),
    }
}

fn live(world: &mut World, converged: &mut Duration) -> Result<(), Violation> {
    world.run_until(FAULTS_END)?;
    world.heal()?;
    world.at(LAST_CHANGE, Event::LastChange);
    let mut trouble = None;
    while world.now < RUN_ENDS {
        world.run_until(world.now + LOOK_EVERY)?;
        // The last change takes a moment.
        let settling = world.last_change.is_some() && world.now < RUN_ENDS;
        trouble = unsettled(world);
        if let Some(trouble) = trouble.as_ref().filter(|_| !settling) {
            *converged = world.now.since(FAULTS_END);
            ensure(*converged <= CONVERGE_WITHIN, || {
                format!("{converged:?} after the last fault: {trouble}")
            })?;
        }
    }
    ensure(trouble.is_none(), || trouble.unwrap_or_default())?;
    let Some(core) = world.machines.first().and_then(|machine| machine.process.as_ref()?.core.as_ref())
    else {
        return Err(Violation("node 1 has lost its voice".to_owned()));
    };
    let last = core.state().configuration().current().map(|version| version.text.to_string());
    ensure(last == world.last_change, || format!("the last change did not come through: {last:?}"))?;
    world.ledger.kept(core.state())
}

/// What is wrong with the cluster now, if anything is.
fn unsettled(world: &World) -> Option<String> {
    let cores: Vec<_> = world
        .machines
        .iter()
        .filter_map(|machine| Some((machine.id, machine.process.as_ref()?.core.as_ref()?)))
        .collect();
    if cores.len() < world.machines.len() {
        return Some(format!("only {} nodes have a voice", cores.len()));
    }
    let leaders: Vec<u64> = cores.iter().filter(|(_, core)| core.is_leader()).map(|(id, _)| *id).collect();
    let &[leader] = &leaders[..] else { return Some(format!("the leaders are {leaders:?}")) };
    if let Some((id, core)) = cores.iter().find(|(_, core)| core.leader() != Some(leader)) {
        return Some(format!("node {id} follows {:?}, not {leader}", core.leader()));
    }
    let (_, first) = cores[0];
    if let Some((id, _)) = cores.iter().find(|(_, core)| core.state() != first.state()) {
        return Some(format!("the state of node {id} is not that of node 1"));
    }
    let last = cores.iter().map(|(_, core)| core.last()).max();
    if Some(first.state().index()) != last {
        return Some(format!("{last:?} entries were written, {} are applied", first.state().index()));
    }
    if let Some(waiting) = first.state().configuration().unconfirmed() {
        return Some(format!("v{} still waits for its confirmation", waiting.version));
    }
    if world.plan.witness == Some(leader) {
        return Some("the witness leads".to_owned());
    }
    let holders = world.holders();
    (holders.len() != 1).then(|| format!("the holders are {holders:?}"))
}
