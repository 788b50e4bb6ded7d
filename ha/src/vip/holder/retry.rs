//! When to try again.

use std::time::Duration;

use crate::time::Time;

/// A failed change of the address is tried again after this time, then after twice as long, ...
pub const RETRY_FIRST: Duration = Duration::from_millis(100);

/// ... and at least so often.
pub const RETRY_MAX: Duration = Duration::from_secs(10);

/// A change of the address that failed and will be tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// `None` while the next try is under way: should it fail, the pause after it is twice as long.
    pub(super) due: Option<Time>,
    pause: Duration,
}

impl Retry {
    pub(super) fn after(now: Time, before: Option<Self>) -> Self {
        let pause = before.map_or(RETRY_FIRST, |retry| (retry.pause * 2).min(RETRY_MAX));
        Self { due: Some(now + pause), pause }
    }

    /// Whether it is due; if so, the try begins.
    pub(super) fn begin(retry: &mut Option<Self>, now: Time) -> bool {
        match retry {
            Some(Self { due, .. }) if due.is_some_and(|due| due <= now) => {
                *due = None;
                true
            }
            _ => false,
        }
    }
}
