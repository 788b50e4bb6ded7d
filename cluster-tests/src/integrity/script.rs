//! What a connection does, from its number alone.

use super::Settings;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Each side ends when it has sent everything.
    Both,
    /// The server sends nothing before the client has ended.
    ClientFirst,
    /// The client sends nothing before the server has ended.
    ServerFirst,
    /// The client breaks off in the middle of its bytes.
    ClientResets,
    /// The server does.
    ServerResets,
}

/// The script of one connection.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its number.
    pub number: u64,
    /// Bytes to the server.
    pub up: u64,
    /// Bytes to the client.
    pub down: u64,
    /// How it ends.
    pub ending: Ending,
    /// When one side breaks off, the other does not send meanwhile.
    pub quiet: bool,
    /// Whoever breaks off does it after so many of its bytes.
    pub breaks_after: u64,
    seed: u64,
}

/// Bytes of the number that a client says first.
pub(super) const NUMBER_LEN: u64 = 8;
/// To the server.
pub(super) const UP: u64 = 1;
/// To the client.
pub(super) const DOWN: u64 = 2;

/// Splitmix64.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

fn mix(value: u64) -> u64 {
    let mixed = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Script {
    /// The script of connection `number`.
    #[must_use]
    pub fn new(settings: &Settings, number: u64) -> Self {
        let mut random = Random(mix(settings.seed) ^ number);
        let mut size = || {
            // Small ones are as many as large ones: each power of two is as likely as the next.
            let bits = random.below(u64::from(settings.bytes_max.ilog2()) + 1);
            random.below(1 << bits)
        };
        let (up, down) = (size(), size());
        let ending = match random.below(if settings.resets { 10 } else { 8 }) {
            0..=3 => Ending::Both,
            4 | 5 => Ending::ClientFirst,
            6 | 7 => Ending::ServerFirst,
            8 => Ending::ClientResets,
            _ => Ending::ServerResets,
        };
        let own = if ending == Ending::ClientResets { up } else { down };
        let (quiet, breaks_after) = (random.below(2) == 0, random.below(own.max(1)));
        Self { number, up, down, ending, quiet, breaks_after, seed: settings.seed }
    }

    /// Whether the client sends nothing before it has heard an end.
    pub(super) fn client_waits(&self) -> bool {
        self.ending == Ending::ServerFirst || self.ending == Ending::ServerResets && self.quiet
    }

    /// Whether the server sends nothing before it has heard an end.
    pub(super) fn server_waits(&self) -> bool {
        self.ending == Ending::ClientFirst || self.ending == Ending::ClientResets && self.quiet
    }

    /// The bytes of one direction from `at` on.
    pub(super) fn fill(&self, direction: u64, mut at: u64, bytes: &mut [u8]) {
        let key = mix(self.seed ^ self.number.rotate_left(32) ^ direction);
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = mix(key ^ (at / 8)).to_le_bytes();
            let from = usize::try_from(at % 8).unwrap_or_default();
            let count = rest.len().min(8 - from);
            rest[..count].copy_from_slice(&word[from..from + count]);
            at += count as u64;
            rest = &mut rest[count..];
        }
    }

    /// The dice of one direction's pace.
    pub(super) fn dice(&self, direction: u64) -> Random {
        Random(mix(self.seed) ^ self.number.rotate_left(16) ^ direction)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dress;
    use super::*;

    #[test]
    fn bytes_are_the_same_in_whatever_pieces_they_are_asked_for() {
        let settings = Settings {
            connections: 1,
            at_once: 1,
            seed: 7,
            bytes_max: 1 << 16,
            resets: true,
            deaths: false,
            dress: Dress::default(),
        };
        let script = Script::new(&settings, 3);
        let mut whole = [0; 100];
        script.fill(UP, 0, &mut whole);
        for (from, to) in [(0, 7), (5, 6), (13, 99), (8, 16)] {
            let mut part = vec![0; to - from];
            script.fill(UP, from as u64, &mut part);
            assert_eq!(part, whole[from..to]);
        }
        let mut other = [0; 100];
        script.fill(DOWN, 0, &mut other);
        assert_ne!(whole, other);
    }
}
