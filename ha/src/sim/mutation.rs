//! Faults of the program itself, put in from outside, to show that the simulator would find them.
//!
//! No core knows of this: each mutation lives in what the simulator wraps around a core, namely its store, its transport,
//! its kernel or its timers. A core whose store forgets a vote behaves exactly like one that does not write it.

use raft::eraftpb::{Message, MessageType};

use super::disk::Written;

/// One deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// Term and vote are not written.
    SkipVote,
    /// What was promised is not on the disk yet: a crash loses the last writes.
    AnswerBeforeFsync,
    /// The commit index of a hard entry is not written with it.
    SkipCommit,
    /// A new leader's entries do not replace those that they contradict.
    KeepConflicts,
    /// The log is cut, but the snapshot that takes its place is not written.
    LoseSnapshot,
    /// A newer term is not noticed.
    IgnoreTerm,
    /// Whoever asks for a vote gets it.
    GrantEveryVote,
    /// A leader takes a refused append for a success.
    AckRefused,
    /// A follower commits all that it has when it hears the leader.
    CommitAll,
    /// An entry is another one when it arrives.
    AlterEntry,
    /// A repeated proposal is taken for a new one.
    ForgetRepeats,
    /// The address stays when the role goes.
    KeepAddress,
    /// An Active node does not listen to a better one.
    IgnoreBetter,
    /// A Standby node takes over after a tenth of the time.
    TakeOverEarly,
    /// Nobody takes the address from a node that was killed.
    NoGuard,
    /// What the kernel says of the address is not read.
    IgnoreKernel,
    /// A Standby node never takes over.
    NeverTakeOver,
    /// A leader does not take a configuration back that nobody has confirmed.
    NeverReturn,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::SkipVote,
        Self::AnswerBeforeFsync,
        Self::SkipCommit,
        Self::KeepConflicts,
        Self::LoseSnapshot,
        Self::IgnoreTerm,
        Self::GrantEveryVote,
        Self::AckRefused,
        Self::CommitAll,
        Self::AlterEntry,
        Self::ForgetRepeats,
        Self::KeepAddress,
        Self::IgnoreBetter,
        Self::TakeOverEarly,
        Self::NoGuard,
        Self::IgnoreKernel,
        Self::NeverTakeOver,
        Self::NeverReturn,
    ];

    /// By its name in the code.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutation| format!("{mutation:?}").eq_ignore_ascii_case(name))
    }

    /// Spoils what a core wants written.
    pub(super) fn spoil_write(self, batch: &mut Written, before: Option<&raft::eraftpb::HardState>) {
        match (self, before, &mut batch.hard_state) {
            (Self::SkipVote, Some(before), Some(state)) => {
                (state.term, state.vote) = (before.term, before.vote);
            }
            (Self::SkipCommit, Some(before), Some(state)) if batch.snapshot.is_none() => {
                state.commit = before.commit;
            }
            (Self::LoseSnapshot, Some(_), _) => batch.snapshot = None,
            _ => {}
        }
    }

    /// Spoils a message before its receiver sees it. `term` and `last` are the receiver's.
    pub(super) fn spoil_message(self, message: &mut Message, term: u64, last: u64) {
        let kind = message.get_msg_type();
        match self {
            Self::IgnoreTerm if message.term > term => message.term = term,
            Self::GrantEveryVote if kind == MessageType::MsgRequestVoteResponse => message.reject = false,
            Self::AckRefused if kind == MessageType::MsgAppendResponse && message.reject => {
                message.reject = false;
                message.index = last.min(message.index);
            }
            Self::CommitAll if kind == MessageType::MsgHeartbeat => message.commit = last,
            Self::AlterEntry if kind == MessageType::MsgAppend && message.to == 2 => {
                for entry in message.entries.iter_mut().filter(|entry| entry.index % 16 == 0) {
                    entry.data.clear();
                }
            }
            _ => {}
        }
    }
}
