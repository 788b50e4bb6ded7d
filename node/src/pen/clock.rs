//! The time of day, for what people and scripts read. Durations are kept by the workers' own clock.

use std::time::{SystemTime, UNIX_EPOCH};

use cygnet_netlink::process::wall_time;

/// Seconds since 1970.
pub(super) fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// `YYYY-MM-DD HH:MM:SS` in the zone of the machine.
pub(super) fn local_time(unix: i64) -> String {
    wall_time(unix).map_or_else(|| unix.to_string(), |time| time.to_string())
}
