//! Where every choice of a run comes from: one frozen generator, seeded by the run's seed and the chooser's name.

use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

/// A stream of choices.
#[derive(Clone, Debug)]
pub(crate) struct Random(Pcg64Mcg);

impl Random {
    /// The stream `stream` of `seed`. Streams are independent of each other, so a run with one fault less makes the same
    /// choices elsewhere for as long as it can.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let state = u128::from(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream) << 64;
        let mut random = Self(Pcg64Mcg::new(state | u128::from(seed ^ (stream << 32)) << 1 | 1));
        // Seeds that differ in few bits begin alike; a few steps later they do not.
        for _ in 0..4 {
            random.bits();
        }
        random
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn wide(&mut self) -> u128 {
        u128::from(self.bits()) << 64 | u128::from(self.bits())
    }

    /// A number below `limit`; 0 if that is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let high = (u128::from(self.bits()) * u128::from(limit)) >> 64;
        u64::try_from(high).unwrap_or_default()
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A place in something of `length`.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    /// True with a probability of so many per thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1_000) < per_mille
    }

    /// One of `options`.
    pub(crate) fn pick<T: Copy>(&mut self, options: &[T]) -> T {
        *options.get(self.place(options.len())).expect("there is something to choose from")
    }
}
