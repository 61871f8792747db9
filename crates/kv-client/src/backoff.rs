//! Pauses between attempts: growing, and different in every client, so that a thousand clients of a dead leader do not
//! all come back in the same millisecond.

use std::time::Duration;

use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

/// The first pause: an answer of "no leader" is often true for one round trip only.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause: what a client may sleep through after a leader is elected.
const LONGEST: Duration = Duration::from_millis(50);

/// The client's own generator, for pauses and session ids. Not for secrets.
#[derive(Debug)]
pub(crate) struct Random(Pcg64Mcg);

impl Random {
    pub(crate) fn new(seed: u128) -> Self {
        Self(Pcg64Mcg::new(seed))
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.next_u64() % limit as u64).unwrap_or(0)
    }

    /// A number from half of `most` to `most`.
    fn upper_half(&mut self, most: u64) -> u64 {
        let half = most / 2;
        most - self.0.next_u64() % (half + 1)
    }
}

/// The pauses of one operation.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pauses: u32,
}

impl Backoff {
    /// The next pause: half of it is certain, half is chance.
    pub(crate) fn next(&mut self, random: &mut Random) -> Duration {
        let full = FIRST.saturating_mul(1 << self.pauses.min(8)).min(LONGEST);
        self.pauses = self.pauses.saturating_add(1);
        let full_us = u64::try_from(full.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(random.upper_half(full_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_keep_half_of_their_length() {
        let mut random = Random::new(7);
        let mut backoff = Backoff::default();
        let mut full = FIRST;
        for _ in 0..1_000 {
            let pause = backoff.next(&mut random);
            assert!((full / 2..=full).contains(&pause), "{pause:?} of {full:?}");
            full = (full * 2).min(LONGEST);
        }
    }

    #[test]
    fn two_clients_do_not_pause_in_step() {
        let pauses = |seed| {
            let (mut random, mut backoff) = (Random::new(seed), Backoff::default());
            (0..8).map(|_| backoff.next(&mut random)).collect::<Vec<_>>()
        };
        assert_ne!(pauses(1), pauses(2));
        assert_eq!(pauses(1), pauses(1));
    }
}
