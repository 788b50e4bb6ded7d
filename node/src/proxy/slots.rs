//! A table of things with keys that are never mistaken for another's: each place counts who sat in it.
//!
//! It grows by chunks, so that growing moves nothing and takes no more memory than it needs.

use std::fmt;

/// Places per chunk.
const CHUNK: usize = 64;
/// Generations are told apart by so many bits: see [`Key::to_bits`].
const GENERATION_BITS: u32 = 28;

/// A place and who sits in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The place; small numbers, given again.
    pub(super) fn index(self) -> usize {
        self.index as usize
    }

    /// As one number of 60 bits.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// What [`Key::to_bits`] was made of.
    pub(super) fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 & ((1 << GENERATION_BITS) - 1) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}#{}", self.index, self.generation)
    }
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// The table.
pub(super) struct Slots<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
    live: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), live: 0 }
    }
}

impl<T> Slots<T> {
    /// Puts something in and says where.
    pub(super) fn insert(&mut self, value: T) -> Key {
        self.live += 1;
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        let slot = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        slot.value = Some(value);
        Key { index, generation: slot.generation }
    }

    fn grow(&mut self) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let Some(chunk) = self.chunks.last_mut() else { return 0 };
        chunk.push(Slot { generation: 0, value: None });
        (before + chunk.len() - 1) as u32
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot<T>> {
        let slot = self.chunks.get_mut(key.index() / CHUNK)?.get_mut(key.index() % CHUNK)?;
        (slot.generation == key.generation).then_some(slot)
    }

    /// Whoever has this key, if it is still there.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut T> {
        self.slot(key)?.value.as_mut()
    }

    /// Takes it out; its key stands for nothing from then on.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slot(key)?;
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & ((1 << GENERATION_BITS) - 1);
        self.live -= 1;
        self.free.push(key.index);
        Some(value)
    }

    /// The key of whoever sits at this place.
    pub(super) fn key_at(&self, index: usize) -> Option<Key> {
        let slot = self.chunks.get(index / CHUNK)?.get(index % CHUNK)?;
        slot.value.as_ref().map(|_| Key { index: index as u32, generation: slot.generation })
    }

    /// All, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let slots = self.chunks.iter().flatten().enumerate();
        slots.filter_map(|(index, slot)| {
            let key = Key { index: index as u32, generation: slot.generation };
            slot.value.as_ref().map(|value| (key, value))
        })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_finds_its_own_and_after_it_has_left_nobody(
            steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..600),
        ) {
            let (mut slots, mut there, mut gone) = (Slots::default(), HashMap::new(), Vec::new());
            for (n, (insert, which)) in steps.into_iter().enumerate() {
                if insert || there.is_empty() {
                    let key = slots.insert(n);
                    prop_assert_eq!(Key::from_bits(key.to_bits()), key);
                    prop_assert!(there.insert(key, n).is_none());
                } else {
                    let key = *there.keys().nth(which % there.len()).expect("one of them");
                    prop_assert_eq!(slots.remove(key), there.remove(&key));
                    gone.push(key);
                }
            }
            prop_assert_eq!(slots.live, there.len());
            prop_assert_eq!(slots.is_empty(), there.is_empty());
            for key in gone {
                prop_assert_eq!((slots.get(key).copied(), slots.remove(key)), (None, None));
            }
            let all: HashMap<Key, usize> = slots.iter().map(|(key, value)| (key, *value)).collect();
            prop_assert_eq!(&all, &there);
            for (key, value) in there {
                prop_assert_eq!(slots.key_at(key.index()), Some(key));
                prop_assert_eq!(slots.get(key).copied(), Some(value));
            }
        }
    }
}
