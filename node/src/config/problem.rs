//! What is wrong with a configuration, where, and what helps.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How many problems of one file are reported. A file with more is not a configuration with mistakes but another
/// file altogether; the rest would only scroll the first ones away.
pub const PROBLEMS_MAX: usize = 100;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: String,
    /// Line, from 1; 0 when the problem belongs to no line.
    pub line: usize,
    /// Column in characters, from 1; 0 when the problem belongs to no line.
    pub column: usize,
    /// The key, as in `service[web].server[s1].weight`; empty when the text cannot be read at all.
    pub key: String,
    /// What is wrong, with the offending value.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.file)?;
        if self.line > 0 {
            write!(out, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(out, " {}:", self.key)?;
        }
        write!(out, " {}", self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(out, "; {}", self.remedy) }
    }
}

/// A problem before it is known where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// Gathers the problems of one text and knows its lines.
pub(super) struct Report<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str, file: &'t str) -> Self {
        Self { file, text, problems: Vec::new() }
    }

    /// Notes a fault at a byte range of the text. Beyond [`PROBLEMS_MAX`] nothing is kept.
    pub(super) fn add(&mut self, at: &Range<usize>, key: impl Into<String>, fault: Fault) {
        if !self.is_full() {
            let (line, column) = position(self.text, at.start);
            let Fault { what, remedy } = fault;
            let key = key.into();
            self.problems.push(Problem { file: self.file.to_owned(), line, column, key, what, remedy });
        }
    }

    /// How many problems there are.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    /// Whether further problems would not be kept: looking for their remedies is in vain.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems in the order of the text.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }
}

/// Line and column (in characters) of a byte, both from 1.
pub(super) fn position(text: &str, byte: usize) -> (usize, usize) {
    let byte = (0..=byte.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let before = &text[..byte];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The candidate that was probably meant: a few slips away at most.
pub(super) fn did_you_mean<'c>(given: &str, candidates: &[&'c str]) -> Option<&'c str> {
    /// Longer words are no slip of the pen, and the comparison costs length times length.
    const COMPARED_MAX: usize = 40;
    if given.chars().count() > COMPARED_MAX {
        return None;
    }
    let given = given.to_lowercase().replace('_', "-");
    candidates
        .iter()
        .map(|candidate| (slips(&given, &candidate.replace('_', "-")), *candidate))
        .filter(|(slips, candidate)| *slips <= (candidate.len() / 3).max(1))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour to get from one word to the other.
fn slips(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_characters_and_survives_any_offset() {
        let text = "a\nüb = 1\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 2), (2, 1));
        assert_eq!(position(text, 3), (2, 1), "inside a character counts as its start");
        assert_eq!(position(text, 4), (2, 2));
        assert_eq!(position(text, 999), (3, 1));
        assert_eq!(position("", 7), (1, 1));
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let keys = ["address", "weight", "round-robin", "idle_timeout"];
        assert_eq!(did_you_mean("adress", &keys), Some("address"));
        assert_eq!(did_you_mean("wieght", &keys), Some("weight"));
        assert_eq!(did_you_mean("round_robin", &keys), Some("round-robin"));
        assert_eq!(did_you_mean("idle-timeout", &keys), Some("idle_timeout"));
        assert_eq!(did_you_mean("colour", &keys), None);
        assert_eq!(did_you_mean(&"a".repeat(100_000), &keys), None);
    }
}
