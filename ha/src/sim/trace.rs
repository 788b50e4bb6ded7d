//! What happened in a run, as a hash, and on demand as text.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write};

use crate::time::Time;

/// The record of a run. The hash covers what the text says, and what is not
/// worth a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
    text: Option<String>,
    line: String,
    roles: BTreeMap<u64, String>,
}

impl Trace {
    /// A record; with the text if `keep` is set.
    #[must_use]
    pub(super) fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, text: keep.then(String::new), ..Self::default() }
    }

    /// One event; `node` 0 is nobody in particular.
    pub(super) fn note(&mut self, now: Time, node: u64, what: Arguments<'_>) {
        self.line.clear();
        let (seconds, micros) = (now.0 / 1_000_000_000, now.0 / 1_000 % 1_000_000);
        // Writing into a string cannot fail.
        let _ = writeln!(self.line, "{seconds:>3}.{micros:06} n{node} {what}");
        // FNV-1a, over words to be quick.
        for chunk in self.line.as_bytes().chunks(8) {
            let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        self.events += 1;
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }

    /// Numbers that are not worth a line.
    pub(super) fn mix(&mut self, node: u64, numbers: &[u64]) {
        for number in std::iter::once(&node).chain(numbers) {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    /// The role of somebody, noted when it is another than before.
    pub(super) fn role(&mut self, now: Time, who: u64, role: Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{role}");
        if self.roles.get(&who) != Some(&self.line) {
            self.roles.insert(who, self.line.clone());
            let what = if who > 100 { "the address: " } else { "" };
            self.note(now, who % 100, format_args!("{what}{role}"));
        }
    }

    /// Two runs with the same hash were the same.
    #[must_use]
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events.
    #[must_use]
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The text, if it was kept.
    #[must_use]
    pub(super) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}
