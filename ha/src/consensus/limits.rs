//! Times and sizes of the consensus layer, each with its reason.

use std::time::Duration;

/// Raft's unit of time. 20 wake-ups a second when idle.
pub const TICK: Duration = Duration::from_millis(50);

/// A leader shows that it lives every 100 ms; a heartbeat is some 20 bytes.
pub const HEARTBEAT_TICKS: usize = 2;

/// A follower that has heard nothing for 500 to 1,000 ms (drawn anew each time) asks for votes. Five heartbeats may
/// be lost before. Traffic and virtual addresses do not wait for this.
pub const ELECTION_TICKS: usize = 10;

/// A witness that leads looks so often for a node to hand over to. Not in step with [`ELECTION_TICKS`]: a leader forgets at
/// each of those who was active, and one that looked in the same ticks saw nobody, for ever.
pub const HAND_OVER_TICKS: u64 = ELECTION_TICKS as u64 + 1;

/// A snapshot is made after so many entries...
pub const SNAPSHOT_ENTRIES: u64 = 8192;

/// ...or so many bytes of log, or as many as the last snapshot was long, whichever is more: writing it costs no
/// more than the log did.
pub const SNAPSHOT_BYTES: u64 = 8 * 1024 * 1024;

/// Entries that stay behind a snapshot, so that a follower which is a little late needs no snapshot...
pub const TAIL_ENTRIES: u64 = 1024;

/// ...within so many bytes.
pub const TAIL_BYTES: u64 = 4 * 1024 * 1024;

/// When the log is cut, and what stays of it. Each node may have its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// A snapshot is made after so many entries ([`SNAPSHOT_ENTRIES`]) ...
    pub snapshot_entries: u64,
    /// ... or so many bytes of log ([`SNAPSHOT_BYTES`]), or as many as the last snapshot was long.
    pub snapshot_bytes: u64,
    /// Entries that stay behind a snapshot ([`TAIL_ENTRIES`]) ...
    pub tail_entries: u64,
    /// ... within so many bytes ([`TAIL_BYTES`]).
    pub tail_bytes: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            snapshot_entries: SNAPSHOT_ENTRIES,
            snapshot_bytes: SNAPSHOT_BYTES,
            tail_entries: TAIL_ENTRIES,
            tail_bytes: TAIL_BYTES,
        }
    }
}

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

/// A node puts its events into the log at most so often ...
pub const EVENTS_EVERY: Duration = Duration::from_millis(100);

/// ... and in the long run at most one in so much time: at some 250 bytes each a log that does nothing else grows by 5 KiB a
/// second. What happens faster waits in the node's own ring, and what turns out of that is a gap in its numbers.
pub const EVENT_COSTS: Duration = Duration::from_millis(50);

/// So many events may come at once before that counts: more than a start, a move and an operator make together.
pub const EVENTS_AT_ONCE: u32 = 128;

/// A node that stops waits so long until the others know what happened on it.
pub const EVENTS_PATIENCE: Duration = Duration::from_millis(300);

/// Frames that wait for one peer; beyond that the oldest raft message goes, for raft repeats what matters.
pub const OUTBOX_FRAMES: usize = 1024;

/// Bytes that wait for one peer: one snapshot and some appends.
pub const OUTBOX_BYTES: usize = 48 * 1024 * 1024;

/// Inputs that wait for the raft thread; beyond that raft messages are dropped and proposals refused.
pub const INBOX_INPUTS: usize = 1024;

/// Bytes that wait for the raft thread.
pub const INBOX_BYTES: usize = 64 * 1024 * 1024;

/// A connection with nothing to say says so this often; the freshness of a peer rests on it.
pub const PING_EVERY: Duration = Duration::from_millis(200);

/// A peer that was not heard for so long does not count as reachable: five pings.
pub const PEER_STALE: Duration = Duration::from_secs(1);

/// An incoming connection that is silent for so long, also within a frame, is closed.
pub const READ_IDLE: Duration = Duration::from_secs(3);

/// A frame that has begun must be complete after this: the largest snapshot at some 10 Mbit/s.
pub const READ_BODY: Duration = Duration::from_secs(30);

/// Connecting, and each step of the greeting, takes at most this long.
pub const GREETING: Duration = Duration::from_secs(2);

/// Sent bytes that are not acknowledged for so long end the connection (TCP_USER_TIMEOUT).
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// The first pause before a new attempt to connect; it doubles...
pub const RECONNECT_FIRST: Duration = Duration::from_millis(50);

/// ...up to this.
pub const RECONNECT_MOST: Duration = Duration::from_secs(1);

/// How often a certificate is looked at; it is renewed months before it ends.
pub const RENEW_EVERY: Duration = Duration::from_secs(3600);

/// One that is due and could not be renewed, for want of a peer that signs, is tried again after this.
pub const RENEW_AGAIN: Duration = Duration::from_secs(5);

/// Incoming connections per possible peer, so that old ones may linger while new ones come.
pub const CONNECTIONS_PER_PEER: usize = 4;

/// Connections from addresses that are no member's. They never take the members' room.
pub const STRANGERS: usize = 4;

/// Hard proposals that wait on one node; an operator has few hands.
pub const PENDING_MAX: usize = 64;

/// A hard proposal is given up after so long, whatever happens.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whoever asked for a change hears after so long that the raft thread does not answer; longer than
/// [`PROPOSE_TIMEOUT`], within which a thread that lives answers.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// A raft thread that has not finished a turn for so long is stuck, most likely in a write to a dying disk; this node
/// then counts neither for itself nor for the others. Ten times what a slow disk needs for a write.
pub const STUCK: Duration = Duration::from_secs(3);

/// A turn of the raft thread that takes so long is told of: half of the shortest time after which a leader that is silent is
/// taken for dead.
pub const SLOW_TURN: Duration = Duration::from_millis(250);

/// ... at most so often.
pub const SLOW_TOLD_EVERY: Duration = Duration::from_secs(60);

/// A node that stops waits so long for its raft thread.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Without a leader and without enough reachable nodes to elect one, a proposal is refused after this: longer than
/// an election, so that the change of a leader does not disturb an operator.
pub const NO_QUORUM_WAIT: Duration = Duration::from_secs(2);

/// A proposal whose result was not seen is sent again after this. The log applies it once.
pub const RESEND_AFTER: Duration = Duration::from_secs(2);

/// How often what is due every now and then is looked after: members, a configuration on trial. An election timeout.
pub const TEND_EVERY: Duration = Duration::from_millis(500);

/// Client facts become an entry at most this often.
pub const SOFT_EVERY: Duration = Duration::from_millis(5);

/// The answer to a preflight question is awaited so long.
pub const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(3);

/// Preflight questions that a node works on at the same time.
pub const PREFLIGHTS: usize = 2;

/// A node report is repeated this often even if it did not change.
pub const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Words between elections that wait to be read, of all peers together: they come a few a second, so this many wait only for a
/// reader that is stuck. What comes then is dropped; what matters is said again.
pub const WORDS_WAITING: usize = 64;
