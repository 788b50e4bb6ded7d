//! Links, addresses and routes around this node, as last read.

use std::io;
use std::time::Duration;

use anyhow::Context;
use cygnet_ha::events::{EventLog, Severity};
use cygnet_netlink::kernel::{Changes, Kernel, Snapshot};
use tokio::time::{Instant, sleep_until, timeout};

/// The kernel is read not more often than this, however much changes: a routing daemon may change thousands of routes a
/// second, and reading a large table takes a good part of this time.
const LOOK_GAP: Duration = Duration::from_millis(100);
/// Where the kernel does not tell, or could not be read, it is read this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The largest table that is read takes a quarter of a second; after this time the reading has failed. What
/// the log says waits for it, so it is not long.
const KERNEL_PATIENCE: Duration = Duration::from_secs(2);

/// What the kernel said last, and the wires to it.
pub(crate) struct Surroundings {
    kernel: Kernel,
    /// News of changes; `None`: they have ended with an error and are to be had again.
    changes: Option<Changes>,
    /// The news have failed, and have not come since.
    deaf: bool,
    /// The last reading failed.
    blind: bool,
    looked: Instant,
    snapshot: Snapshot,
    events: EventLog,
}

impl Surroundings {
    /// Opens the wires. Nothing has been read yet.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub(crate) fn open(events: EventLog) -> anyhow::Result<Self> {
        Ok(Self {
            kernel: Kernel::connect().context("cannot talk to the kernel (rtnetlink)")?,
            changes: Some(Kernel::watch().context("cannot watch addresses and routes (rtnetlink)")?),
            deaf: false,
            blind: false,
            looked: Instant::now(),
            snapshot: Snapshot::default(),
            events,
        })
    }

    /// The last reading.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Waits until it is worth to [`Surroundings::look`] again. Cancel-safe.
    pub(crate) async fn stale(&mut self) {
        if let Some(changes) = self.changes.as_mut().filter(|_| !self.blind) {
            sleep_until(self.looked + LOOK_GAP).await;
            match changes.changed().await {
                Ok(()) => return self.deaf = false,
                Err(error) => self.lose_news(&error),
            }
        }
        sleep_until(self.looked + LOOK_AGAIN).await;
    }

    fn lose_news(&mut self, error: &io::Error) {
        self.changes = None;
        if !std::mem::replace(&mut self.deaf, true) {
            let what = "the kernel does not tell of changes; addresses and routes are read every second";
            self.events.record(Severity::Warning, "node", what, error.to_string());
        }
    }

    /// Reads everything. If that fails the last reading stands.
    pub(crate) async fn look(&mut self) {
        // Before the reading, so that nothing falls between the two.
        if self.changes.is_none() {
            self.changes = Kernel::watch().ok();
        }
        let read = timeout(KERNEL_PATIENCE, self.kernel.snapshot()).await;
        self.looked = Instant::now();
        match read.unwrap_or_else(|_| Err(io::Error::other("the kernel did not answer"))) {
            Ok(snapshot) => {
                self.snapshot = snapshot;
                if std::mem::take(&mut self.blind) {
                    self.events.record(Severity::Info, "node", "addresses and routes can be read again", "");
                }
            }
            Err(error) => self.lose_sight(&error),
        }
    }

    fn lose_sight(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.blind, true) {
            let what = "addresses and routes cannot be read; the last known ones are used";
            self.events.record(Severity::Warning, "node", what, error.to_string());
        }
        // It may be the connection: a new one for the next try.
        if let Ok(kernel) = Kernel::connect() {
            self.kernel = kernel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often something is stale within a time, with a look after each.
    async fn looks_within(
        surroundings: &mut Surroundings,
        time: Duration,
        each: fn(&mut Surroundings),
    ) -> u32 {
        let mut looks = 0;
        let _ = timeout(time, async {
            loop {
                each(surroundings);
                surroundings.stale().await;
                surroundings.look().await;
                looks += 1;
            }
        })
        .await;
        looks
    }

    #[tokio::test]
    async fn the_addresses_of_this_machine_are_read() {
        let mut surroundings = Surroundings::open(EventLog::default()).unwrap();
        surroundings.look().await;
        assert!(surroundings.snapshot().links.iter().any(|link| link.name == "lo"));
        assert!(!surroundings.blind);
    }

    #[tokio::test]
    async fn news_that_fail_again_and_again_are_told_once_and_cost_one_look_a_second() {
        let events = EventLog::default();
        let mut surroundings = Surroundings::open(events.clone()).unwrap();
        surroundings.look().await;
        let fails =
            |surroundings: &mut Surroundings| surroundings.lose_news(&io::ErrorKind::BrokenPipe.into());
        let looks = looks_within(&mut surroundings, Duration::from_millis(1500), fails).await;
        assert_eq!(looks, 1);
        assert_eq!(events.after(0).len(), 1);
        surroundings.look().await;
        assert!(surroundings.changes.is_some(), "they are had again");
    }

    #[tokio::test]
    async fn a_kernel_that_cannot_be_read_is_told_once_asked_once_a_second_and_found_again() {
        let events = EventLog::default();
        let mut surroundings = Surroundings::open(events.clone()).unwrap();
        surroundings.look().await;
        let fails = |surroundings: &mut Surroundings| {
            surroundings.lose_sight(&io::ErrorKind::BrokenPipe.into());
            surroundings.lose_sight(&io::ErrorKind::BrokenPipe.into());
        };
        let looks = looks_within(&mut surroundings, Duration::from_millis(1500), fails).await;
        assert_eq!(looks, 1);
        let told: Vec<String> = events.after(0).into_iter().map(|event| event.what).collect();
        assert!(told[0].contains("cannot be read") && told[1].contains("can be read again"), "{told:?}");
        assert!(!surroundings.snapshot().links.is_empty());
    }
}
