//! Measured figures: printed, and kept for whoever runs the tests with their output captured.

use std::io::Write;
use std::path::PathBuf;

/// What a line with a figure starts with; the outer process looks for it.
pub(crate) const MARK: &str = "FIGURE ";

/// Environment variable: the file to which figures are appended. Default: `figures.txt` in the target folder.
pub const FILE_VARIABLE: &str = "CYGNET_FIGURES";

/// From so many runs on the published bars are judged: `make bars`, on a machine that does nothing else.
pub const BARS_RUNS: usize = 20;
/// With fewer, requests that may fail in a planned move: one whose connection is made in the moment in which the clients learn of
/// the new holder, and that is not sent before, meets a node that does not know it (2 of 50,909 in 40 moves).
const FAILURES_A_MOVE: u64 = 2;

/// Requests that may fail in so many planned moves.
#[must_use]
pub fn may_fail(moves: usize) -> u64 {
    if runs() >= BARS_RUNS { 0 } else { FAILURES_A_MOVE * moves as u64 }
}

/// Prints one figure, for example `figure("failover killed", "longest gap 131 ms")`.
pub fn figure(what: &str, value: &str) {
    // The test runner has begun a line with the test's name.
    println!("\n{MARK}{what}: {value}");
}

/// How often a scenario repeats what it measures: `CYGNET_RUNS`, else 2.
#[must_use]
pub fn runs() -> usize {
    std::env::var("CYGNET_RUNS")
        .ok()
        .and_then(|value| value.parse().ok())
        .filter(|runs| *runs > 0)
        .unwrap_or(2)
}

/// Appends the figures among `lines` to the file. Called outside the lab, where the file is writable and stays.
pub(crate) fn keep(lines: &str) {
    let Some(path) = file() else { return };
    let figures: String = lines
        .lines()
        .filter_map(|line| line.split_once(MARK))
        .map(|(_, figure)| format!("{figure}\n"))
        .collect();
    if figures.is_empty() {
        return;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(figures.as_bytes())) {
        eprintln!("cannot keep figures in {}: {error}", path.display());
    }
}

fn file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(FILE_VARIABLE) {
        return Some(path.into());
    }
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().find(|folder| folder.ends_with("target"))?;
    Some(target.join("figures.txt"))
}

/// The middle and the largest of some values, with a unit: `median 3 max 9 ms of 20`.
#[must_use]
pub fn median_and_max(values: &[f64], unit: &str) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.last() {
        None => "no values".to_owned(),
        Some(max) => {
            let median = sorted[sorted.len() / 2];
            format!("median {median:.0} max {max:.0} {unit} ({} runs)", sorted.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_the_middle_and_the_largest() {
        assert_eq!(median_and_max(&[9.0, 1.0, 3.0], "ms"), "median 3 max 9 ms (3 runs)");
        assert_eq!(median_and_max(&[], "ms"), "no values");
    }
}
