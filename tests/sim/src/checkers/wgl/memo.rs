//! Where the search has been (the memo of Lowe 2017).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// How many operations that returned a history may have: the width of a set in the memo.
pub(crate) const MAX_RETURNED: usize = 64 * WORDS;
/// How many operations of unknown outcome a history may have: as many as one integer has bits.
pub(crate) const MAX_UNKNOWN: usize = 128;
const WORDS: usize = 8;

/// An operation's number among those that returned, or among the unknown, in the order of calling.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    Returned(usize),
    Unknown(usize),
}

/// Which operations are placed: one bit for each slot.
#[derive(Clone, Copy, Default)]
pub(super) struct Placed {
    returned: [u64; WORDS],
    unknown: u128,
}

impl Placed {
    /// Whether the operation that returned is placed.
    pub(super) fn has_returned(&self, slot: usize) -> bool {
        self.returned.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Whether the unknown operation is placed.
    pub(super) const fn has_unknown(&self, slot: usize) -> bool {
        self.unknown >> (slot % MAX_UNKNOWN) & 1 == 1
    }

    /// Places an operation, or takes it back.
    pub(super) fn toggle(&mut self, slot: Slot) {
        match slot {
            Slot::Returned(slot) => {
                self.returned.get_mut(slot / 64).into_iter().for_each(|word| *word ^= 1 << (slot % 64))
            }
            Slot::Unknown(slot) => self.unknown ^= 1 << (slot % MAX_UNKNOWN),
        }
    }
}

/// The configurations from which the search came back: for each set of operations that returned and each state, the
/// smallest sets of unknown operations.
pub(super) struct Memo<S> {
    hopeless: HashMap<([u64; WORDS], S), Vec<u128>, BuildHasherDefault<Folding>>,
}

impl<S> Default for Memo<S> {
    fn default() -> Self {
        Self { hopeless: HashMap::default() }
    }
}

impl<S: Clone + Eq + Hash> Memo<S> {
    /// Whether the search came back from here, or from where more unknown operations were left.
    pub(super) fn is_hopeless(&self, placed: &Placed, state: &S) -> bool {
        !self.hopeless.is_empty()
            && self
                .hopeless
                .get(&(placed.returned, state.clone()))
                .is_some_and(|sets| sets.iter().any(|set| set & placed.unknown == *set))
    }

    /// The search comes back from here.
    pub(super) fn give_up(&mut self, placed: &Placed, state: S) {
        let sets = self.hopeless.entry((placed.returned, state)).or_default();
        sets.retain(|set| set & placed.unknown != placed.unknown);
        sets.push(placed.unknown);
    }
}

/// Hashes words by folded multiplication: a few instructions each, and the same in every run.
#[derive(Default)]
struct Folding(u64);

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // Digits of pi and of the golden ratio: without a pattern.
        let product = u128::from(self.0.rotate_left(23) ^ word ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}
