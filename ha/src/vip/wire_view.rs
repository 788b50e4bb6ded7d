//! What was heard of a virtual address on the wire, beyond who holds it: plain data for status, CLI and tests.

use serde::{Deserialize, Serialize};

use super::watch::{RouterView, Tallies};
use crate::events::Severity;
use crate::time::Time;

/// What the watcher knows of one virtual address. Times are ages or lengths, so that the view means the same wherever it is
/// read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WireView {
    /// For how long the holder that is heard has held the address, ms.
    pub holder_since_ms: Option<u64>,
    /// What the holder says of its interval, µs.
    pub interval_us: Option<u64>,
    /// How far the time between its advertisements is from that, in the running mean, µs.
    pub jitter_us: Option<u64>,
    /// The longest time between two of them, µs; 0 before the second.
    pub longest_us: Option<u64>,
    /// Its advertisements that did not come in time since it holds the address.
    pub missed: u64,
    /// Who said by ARP or neighbour advertisement that it has the address.
    pub answers: Vec<AnswerView>,
    /// What was wrong with it since it is watched, by name.
    pub anomalies: Vec<AnomalyView>,
    /// What was wrong on its interface besides, and is about no virtual address of ours.
    pub segment: Vec<AnomalyView>,
}

/// A MAC that says it has the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerView {
    /// The MAC.
    pub mac: String,
    /// When it said so last, ms ago.
    pub heard_ms: u64,
    /// How often it did.
    pub count: u64,
}

/// Something wrong, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnomalyView {
    /// A short stable word.
    pub name: String,
    /// The last of its kind, in words.
    pub what: String,
    /// How much it matters.
    pub severity: Severity,
    /// How often it was noticed; events are rarer.
    pub count: u64,
    /// When last, ms ago.
    pub last_ms: u64,
}

impl WireView {
    /// The view at this moment. `segment`: what is wrong on the interface besides.
    #[must_use]
    pub fn of(now: Time, router: &RouterView, segment: &Tallies) -> Self {
        let rhythm = router.holder.is_some().then_some(router.rhythm);
        Self {
            holder_since_ms: router.holder.map(|holder| ms(now, holder.since)),
            interval_us: rhythm.map(|rhythm| us(rhythm.interval)),
            jitter_us: rhythm.map(|rhythm| us(rhythm.jitter)),
            longest_us: rhythm.map(|rhythm| us(rhythm.longest)),
            missed: rhythm.map_or(0, |rhythm| rhythm.missed),
            answers: router
                .answers
                .iter()
                .map(|answer| AnswerView {
                    mac: answer.mac.to_string(),
                    heard_ms: ms(now, answer.heard),
                    count: answer.count,
                })
                .collect(),
            anomalies: anomalies(now, &router.anomalies),
            segment: anomalies(now, segment),
        }
    }
}

fn anomalies(now: Time, tallies: &Tallies) -> Vec<AnomalyView> {
    let view = |(name, tally): (&str, &super::watch::Tally)| AnomalyView {
        name: name.to_owned(),
        what: tally.event.to_string(),
        severity: tally.event.severity(),
        count: tally.count,
        last_ms: ms(now, tally.last),
    };
    tallies.iter().map(view).collect()
}

fn ms(now: Time, then: Time) -> u64 {
    u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)
}

fn us(length: std::time::Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}
