//! The scout: pictures of the kernel, one at a time, whenever something changed. A task of its own, so that a large
//! routing table delays no advert.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cygnet_netlink::kernel::{Changes, Kernel, Snapshot};
use tokio::sync::{Notify, mpsc};

/// A picture is taken at least so often, should a change have gone unnoticed.
const RESYNC: Duration = Duration::from_secs(5);

/// At least so long between two pictures: a host whose routes change all the time is not read all the time.
const REST: Duration = Duration::from_millis(20);

/// After a failure.
const RETRY: Duration = Duration::from_secs(1);

/// What the scout reports.
pub(super) enum Scouted {
    /// A picture, without routes.
    Picture {
        /// The epoch in which it was begun: what we changed since then it may lack.
        epoch: u64,
        /// Links and addresses.
        snapshot: Snapshot,
    },
    /// The kernel could not be asked.
    Failed(String),
}

/// Shared by the driver and its scout.
#[derive(Clone, Default)]
pub(super) struct Order {
    /// Grows with each change that the driver makes.
    pub(super) epoch: Arc<AtomicU64>,
    /// Asks for another picture.
    pub(super) again: Arc<Notify>,
}

/// Never ends, except with its reader.
pub(super) async fn scout(order: Order, report: mpsc::Sender<Scouted>) {
    loop {
        let failed = match (Kernel::connect(), Kernel::watch()) {
            (Ok(kernel), Ok(changes)) => watch(&order, &report, &kernel, changes).await,
            (Err(error), _) | (_, Err(error)) => error.to_string(),
        };
        if report.send(Scouted::Failed(failed)).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Takes pictures until something fails.
async fn watch(
    order: &Order,
    report: &mpsc::Sender<Scouted>,
    kernel: &Kernel,
    mut changes: Changes,
) -> String {
    loop {
        let epoch = order.epoch.load(Ordering::Acquire);
        let mut snapshot = match kernel.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => return error.to_string(),
        };
        snapshot.routes = Vec::new();
        if report.send(Scouted::Picture { epoch, snapshot }).await.is_err() {
            return "the driver has ended".to_owned();
        }
        tokio::time::sleep(REST).await;
        tokio::select! {
            changed = changes.changed() => if let Err(error) = changed {
                return error.to_string();
            },
            () = order.again.notified() => {}
            () = tokio::time::sleep(RESYNC) => {}
        }
    }
}
