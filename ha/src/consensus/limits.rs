//! Times and sizes of the consensus layer, each with its reason.

use std::time::Duration;

/// Raft's unit of time. 20 wake-ups a second when idle.
pub const TICK: Duration = Duration::from_millis(50);

/// A leader shows that it lives every 100 ms; a heartbeat is some 20 bytes.
pub const HEARTBEAT_TICKS: usize = 2;

/// A follower that has heard nothing for 500 to 1,000 ms (drawn anew each time) asks for votes. Five heartbeats may
/// be lost before. Traffic and virtual addresses do not wait for this.
pub const ELECTION_TICKS: usize = 10;

/// A snapshot is made after so many entries...
pub const SNAPSHOT_ENTRIES: u64 = 8192;

/// ...or so many bytes of log, or as many as the last snapshot was long, whichever is more: writing it costs no
/// more than the log did.
pub const SNAPSHOT_BYTES: u64 = 8 * 1024 * 1024;

/// Entries that stay behind a snapshot, so that a follower which is a little late needs no snapshot...
pub const TAIL_ENTRIES: u64 = 1024;

/// ...within so many bytes.
pub const TAIL_BYTES: u64 = 4 * 1024 * 1024;

/// Entries in one raft message, bytes. One entry may be longer (a configuration of 1 MiB).
pub const APPEND_BYTES: u64 = 256 * 1024;

/// Raft messages with entries on the way to one follower.
pub const APPENDS_IN_FLIGHT: usize = 64;

/// Entries that a leader holds without a quorum, bytes. More proposals are refused.
pub const UNCOMMITTED_BYTES: u64 = 16 * 1024 * 1024;

/// Committed entries that are applied in one go, bytes.
pub const APPLY_BYTES: u64 = 4 * 1024 * 1024;

/// The commit index alone is written to disk at least this often, so that a node which restarts without a quorum
/// comes back with nearly all that it had applied. In ticks: 1 s.
pub const COMMIT_SAVE_TICKS: u64 = 20;

/// A raft term that jumps by more than this is a forgery; it leaves room for four billion real elections.
pub const TERM_JUMP_MAX: u64 = 1 << 32;

/// An index beyond this is a forgery: a thousand entries a second would take 146 million years.
pub const INDEX_MAX: u64 = 1 << 62;
