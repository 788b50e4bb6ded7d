//! A question and its answer, from the numbers of both alone.

use std::time::Duration;

use super::super::script::{DOWN, Random, UP};
use super::Settings;

/// The flow (8 bytes), the question's number in it (4) and the direction (1), in front of each datagram.
const HEADER: usize = 13;
/// The longest datagram of IPv4, without its own headers.
const LONGEST: u64 = 65_507;
/// Each power of two is as likely as the next.
const BITS: u64 = 17;
/// Questions of a flow, at most.
const QUESTIONS: u64 = 4;
/// One answer in so many comes late ...
const LATE_ONE_IN: u64 = 12;
/// ... by at most so many milliseconds.
const LATE_MAX_MS: u64 = 200;
/// One in so many comes twice.
const DOUBLED_ONE_IN: u64 = 12;

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) flow: u64,
    pub(super) number: u32,
    seed: u64,
    question_bytes: usize,
    answer_bytes: usize,
    /// How long the server takes.
    pub(super) delay: Duration,
    pub(super) is_doubled: bool,
}

impl Exchange {
    /// The question `number` of a flow.
    pub(super) fn new(settings: Settings, flow: u64, number: u32) -> Self {
        let mut dice = Random(settings.seed ^ flow.rotate_left(20) ^ u64::from(number));
        let mut size = || {
            let bits = dice.below(BITS);
            (HEADER as u64 + dice.below(1 << bits)).min(LONGEST) as usize
        };
        let (question_bytes, answer_bytes) = (size(), size());
        let is_late = dice.below(LATE_ONE_IN) == 0;
        let delay = Duration::from_millis(if is_late { dice.below(LATE_MAX_MS) } else { 0 });
        let is_doubled = dice.below(DOUBLED_ONE_IN) == 0;
        Self { flow, number, seed: settings.seed, question_bytes, answer_bytes, delay, is_doubled }
    }

    /// How many questions a flow has.
    pub(super) fn count(settings: Settings, flow: u64) -> u32 {
        1 + Random(!settings.seed ^ flow.rotate_left(40)).below(QUESTIONS) as u32
    }

    /// The one to which a datagram belongs, if any of this run.
    pub(super) fn of(settings: Settings, datagram: &[u8]) -> Option<Self> {
        let flow = u64::from_be_bytes(*datagram.first_chunk()?);
        let number = u32::from_be_bytes(*datagram.get(8..)?.first_chunk()?);
        let is_ours = flow < settings.flows && number < Self::count(settings, flow);
        is_ours.then(|| Self::new(settings, flow, number))
    }

    pub(super) fn question(&self) -> Vec<u8> {
        self.bytes(UP, self.question_bytes)
    }

    pub(super) fn answer(&self) -> Vec<u8> {
        self.bytes(DOWN, self.answer_bytes)
    }

    fn bytes(&self, direction: u64, length: usize) -> Vec<u8> {
        let mut dice = Random(self.seed ^ self.flow.rotate_left(8) ^ u64::from(self.number) << 2 ^ direction);
        let mut bytes = Vec::with_capacity(length + 8);
        bytes.extend(self.flow.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.push(direction as u8);
        while bytes.len() < length {
            bytes.extend(dice.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_says_what_it_must_be() {
        let settings = Settings { flows: 100, at_once: 1, seed: 7 };
        let mut lengths = std::collections::BTreeSet::new();
        for flow in 0..settings.flows {
            let exchange = Exchange::new(settings, flow, 0);
            assert_eq!(Exchange::of(settings, &exchange.question()), Some(exchange));
            assert_eq!(Exchange::of(settings, &exchange.answer()), Some(exchange));
            assert_ne!(exchange.question(), exchange.answer());
            lengths.insert(exchange.question().len());
        }
        assert!(lengths.len() > 50, "{lengths:?}");
        assert_eq!(Exchange::of(settings, &[0; 11]), None);
        assert_eq!(Exchange::of(settings, &[0xff; 12]), None, "not of this run");
    }
}
