//! What a raft message must look like before raft sees it. Raft trusts its peers and ends the process on a message
//! that makes no sense; here such a message is dropped with a reason.

use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType};

use super::limits::{INDEX_MAX, TERM_JUMP_MAX};
use crate::state::State;

/// Why a message was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("raft message dropped: {0}")]
pub struct Rejected(pub String);

/// What the receiver knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver {
    pub(super) id: u64,
    pub(super) term: u64,
    pub(super) last: u64,
}

/// Checks a message that came over the connection of node `from`.
pub(super) fn check(receiver: Receiver, from: u64, message: &Message) -> Result<MessageType, Rejected> {
    let reject = |reason: &str| Err(Rejected(reason.to_owned()));
    let Some(kind) = MessageType::from_i32(message.msg_type) else { return reject("unknown type") };
    if message.from != from || message.to != receiver.id {
        return reject("sender or receiver are not those of the connection");
    }
    if message.term > receiver.term.saturating_add(TERM_JUMP_MAX) {
        return reject("the term is absurd");
    }
    if [message.index, message.commit, message.reject_hint].iter().any(|&index| index > INDEX_MAX) {
        return reject("an index is absurd");
    }
    if message.request_snapshot != 0 {
        return reject("asks for a snapshot, which this version never does");
    }
    match kind {
        MessageType::MsgAppend => check_entries(message).map(|()| kind),
        MessageType::MsgSnapshot => check_snapshot(receiver, message).map(|()| kind),
        MessageType::MsgAppendResponse if !message.reject && message.index > receiver.last => {
            reject("acknowledges entries that were never sent")
        }
        MessageType::MsgAppendResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgTimeoutNow => {
            if message.term == 0 {
                reject("no term")
            } else {
                Ok(kind)
            }
        }
        _ => reject("a type that nodes do not send each other"),
    }
}

fn check_entries(message: &Message) -> Result<(), Rejected> {
    // Raft answers "term 0" for an index outside of its log, and would take it for a match.
    if message.term == 0 || message.log_term == 0 {
        return Err(Rejected("no term".to_owned()));
    }
    let mut last = (message.index, message.log_term);
    for Entry { entry_type, index, term, .. } in &message.entries {
        if Some(*index) != last.0.checked_add(1) || *term < last.1 || *term > message.term {
            return Err(Rejected(format!("entry {index} of term {term} does not follow {last:?}")));
        }
        if EntryType::from_i32(*entry_type).is_none() {
            return Err(Rejected(format!("entry {index} is of an unknown type")));
        }
        last = (*index, *term);
    }
    Ok(())
}

fn check_snapshot(receiver: Receiver, message: &Message) -> Result<(), Rejected> {
    let reject = |reason: String| Err(Rejected(reason));
    let snapshot = message.get_snapshot();
    let meta = snapshot.get_metadata();
    if meta.index == 0 || meta.term == 0 || meta.term > message.term {
        return reject(format!("a snapshot at index {}, term {}", meta.index, meta.term));
    }
    check_voters(meta.get_conf_state()).map_err(Rejected)?;
    let members = meta.get_conf_state();
    if !members.voters.contains(&receiver.id) && !members.learners.contains(&receiver.id) {
        return reject("a snapshot of a cluster without us".to_owned());
    }
    match State::restore(&snapshot.data) {
        Ok(state) if state.index() == meta.index => Ok(()),
        Ok(state) => reject(format!("a snapshot at {} with the state at {}", meta.index, state.index())),
        Err(error) => reject(error.to_string()),
    }
}

/// Joint and changing memberships are not sent in snapshots by this version.
fn check_voters(voters: &ConfState) -> Result<(), String> {
    let mut ids: Vec<u64> = voters.voters.iter().chain(&voters.learners).copied().collect();
    ids.sort_unstable();
    let simple = voters.voters_outgoing.is_empty() && voters.learners_next.is_empty() && !voters.auto_leave;
    if voters.voters.is_empty() || ids[0] == 0 || ids.windows(2).any(|pair| pair[0] == pair[1]) || !simple {
        return Err(format!("a snapshot with the members {voters:?}"));
    }
    Ok(())
}
