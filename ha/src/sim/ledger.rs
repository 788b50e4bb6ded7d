//! What must always be true of the log, written down as it happens and compared with what happens next.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::process::{Answer, REPEAT};
use crate::consensus::core::{AppliedEntry, Core};
use crate::state::{Kind, Outcome, State};

/// A broken invariant, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// The result of a check.
pub(super) type Checked = Result<(), Violation>;

/// Unless `truth` holds, a violation.
pub(super) fn ensure(truth: bool, what: impl FnOnce() -> String) -> Checked {
    if truth { Ok(()) } else { Err(Violation(what())) }
}

/// States are compared whenever two nodes rest at such an index.
const COMPARE_EVERY: u64 = 8;

/// What is known of all nodes together.
#[derive(Default)]
pub(super) struct Ledger {
    leaders: BTreeMap<u64, u64>,
    /// What was applied at each index, by whoever did it first.
    applied: BTreeMap<u64, AppliedEntry>,
    /// Where a change was made: once.
    made: BTreeMap<(u64, u64), u64>,
    /// States by index, as checksums.
    states: BTreeMap<u64, u64>,
    /// The last entry that any node in a term knew to be committed, by term.
    committed: BTreeMap<u64, u64>,
    /// What operators were told: version and text.
    promised: BTreeMap<u64, String>,
    nodes: BTreeMap<u64, Seen>,
    pub(super) answers: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    term: u64,
    commit: u64,
    version: u64,
    /// The newest key of session tickets.
    key: u64,
    leads: bool,
    /// The version of the last change that an operator of this node was told of.
    told: u64,
}

impl Ledger {
    /// The last entry that any node knew to be committed.
    pub(super) fn committed(&self) -> u64 {
        self.committed_until(u64::MAX)
    }

    /// The last entry that was committed in this term or before.
    fn committed_until(&self, term: u64) -> u64 {
        self.committed.range(..=term).map(|(_, index)| *index).max().unwrap_or(0)
    }

    /// A node has started, with what its disk had.
    pub(super) fn started(&mut self, node: u64, core: &Core<Disk>) -> Checked {
        let seen = self.nodes.entry(node).or_default();
        let version = core.state().version();
        ensure(version >= seen.told, || {
            format!("node {node} came back at version {version}; its operator was told of {}", seen.told)
        })?;
        let key = core.state().tickets().newest();
        *seen =
            Seen { term: core.term(), commit: core.commit(), version, key, leads: false, told: seen.told };
        Ok(())
    }

    /// The node's disk was replaced: it may begin from nothing.
    pub(super) fn wiped(&mut self, node: u64) {
        self.nodes.insert(node, Seen::default());
    }

    /// A node has applied entries.
    pub(super) fn applied(&mut self, node: u64, entries: Vec<AppliedEntry>) -> Checked {
        for entry in entries {
            let index = entry.index;
            let made = matches!(
                entry.outcome,
                Outcome::Config { .. } | Outcome::Returned { .. } | Outcome::Server { .. }
            );
            if let Some(origin) = entry.origin.filter(|_| made) {
                let change = (origin.node, origin.sequence & !REPEAT);
                let made = *self.made.entry(change).or_insert(index);
                ensure(made == index, || {
                    format!("change {change:?} was made at {made} and again at {index}")
                })?;
            }
            let known = self.applied.entry(index).or_insert_with(|| entry.clone());
            ensure(*known == entry, || {
                format!("node {node} applied {entry:?}, where another had applied {known:?}")
            })?;
        }
        Ok(())
    }

    /// A node has finished a turn.
    pub(super) fn turned(&mut self, node: u64, core: &Core<Disk>, restored: bool) -> Checked {
        let seen = self.nodes.entry(node).or_default();
        let (term, commit, version) = (core.term(), core.commit(), core.state().version());
        ensure(term >= seen.term, || format!("the term of node {node} went from {} to {term}", seen.term))?;
        ensure(commit >= seen.commit, || {
            format!("the commit index of node {node} went from {} to {commit}", seen.commit)
        })?;
        ensure(version >= seen.version, || {
            format!("the version of node {node} went from {} to {version}", seen.version)
        })?;
        let key = core.state().tickets().newest();
        ensure(key >= seen.key, || {
            format!("the newest ticket key of node {node} went from {} to {key}", seen.key)
        })?;
        let began = core.is_leader() && !seen.leads;
        *seen = Seen { term, commit, version, key, leads: core.is_leader(), told: seen.told };
        if core.is_leader() {
            let leader = *self.leaders.entry(term).or_insert(node);
            ensure(leader == node, || format!("nodes {leader} and {node} lead in term {term}"))?;
        }
        if began {
            // One that was frozen may learn that it was elected when others are two terms further.
            let (last, committed) = (core.last(), self.committed_until(term));
            ensure(last >= committed, || {
                format!("node {node} leads with a log up to {last}; {committed} was committed")
            })?;
        }
        let known = self.committed.entry(term).or_default();
        *known = commit.max(*known);
        self.compare(node, core.state(), restored)
    }

    fn compare(&mut self, node: u64, state: &State, restored: bool) -> Checked {
        let index = state.index();
        if !restored && !index.is_multiple_of(COMPARE_EVERY) {
            return Ok(());
        }
        let sum = checksum(&state.snapshot());
        let known = *self.states.entry(index).or_insert(sum);
        ensure(known == sum, || format!("the state of node {node} at {index} is not that of the others"))
    }

    /// An operator is told of the result of a change.
    pub(super) fn answered(&mut self, node: u64, answer: &Answer) -> Checked {
        self.answers += 1;
        let Ok(version) = answer.result else { return Ok(()) };
        if let Some(seen) = self.nodes.get_mut(&node) {
            seen.told = seen.told.max(version);
        }
        let Kind::PutConfig(put) = &*answer.kind else { return Ok(()) };
        let known = self.promised.entry(version).or_insert_with(|| put.text.clone());
        ensure(*known == put.text, || {
            format!("version {version} was promised for {known:?} and for {:?} at {}", put.text, answer.index)
        })
    }

    /// At the end: all that was promised is there.
    pub(super) fn kept(&self, state: &State) -> Checked {
        let index = state.index();
        let committed = self.committed();
        ensure(index >= committed, || format!("the log ends at {index}; {committed} had been committed"))?;
        if let Some((promised, _)) = self.promised.last_key_value() {
            let version = state.version();
            ensure(version >= *promised, || {
                format!("version {promised} was promised; {version} is the last")
            })?;
        }
        for version in state.configuration().history() {
            let text = &*version.text;
            let promised = self.promised.get(&version.version).is_none_or(|promised| promised == text);
            ensure(promised, || format!("version {} is not the one that was promised", version.version))?;
        }
        Ok(())
    }
}

/// FNV-1a over words.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |sum, chunk| {
        let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}
