//! Many seeds, on as many threads as there are cores; each run has a thread to itself.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Mutation, Violation, run};

/// Which seeds to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first one.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// How many at the same time.
    pub jobs: usize,
    /// With this fault in the program.
    pub mutation: Option<Mutation>,
    /// End when this many have failed.
    pub failures: usize,
}

impl Default for Campaign {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { from: 0, seeds: 1000, jobs, mutation: None, failures: usize::MAX }
    }
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Runs.
    pub seeds: u64,
    /// Events, over all runs.
    pub events: u64,
    /// Changes whose result an operator was told.
    pub answers: u64,
    /// The longest time to converge, and its seed.
    pub converged: (Duration, u64),
    /// The longest time with two holders in a network that was whole, and its seed.
    pub overlap: (Duration, u64),
    /// The longest time without one.
    pub gap: (Duration, u64),
    /// Seeds with a broken invariant, in ascending order.
    pub failed: Vec<(u64, Violation)>,
}

impl Campaign {
    /// Runs them all.
    #[must_use]
    pub fn run(&self) -> Report {
        let next = AtomicU64::new(self.from);
        let report = Mutex::new(Report::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| self.work(&next, &report));
            }
        });
        let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        report.failed.sort_unstable_by_key(|(seed, _)| *seed);
        report
    }

    fn work(&self, next: &AtomicU64, report: &Mutex<Report>) {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.from + self.seeds {
                return;
            }
            let run = run(seed, self.mutation, false);
            let mut report = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            report.seeds += 1;
            report.events += run.events;
            report.answers += run.answers;
            report.converged = report.converged.max((run.converged, seed));
            report.overlap = report.overlap.max((run.overlap, seed));
            report.gap = report.gap.max((run.gap, seed));
            report.failed.extend(run.violation.map(|violation| (seed, violation)));
            if report.failed.len() >= self.failures {
                return;
            }
        }
    }
}
