//! The only randomness of the protocol: election timeouts (§3.4), drawn from the seed in the configuration.

use core::time::Duration;

use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

/// A stream of random numbers that is a plain value: seed and how many were drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Random {
    seed: u64,
    draws: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, draws: 0 }
    }

    /// A duration in [min, max], to the nanosecond.
    pub(crate) fn duration_between(&mut self, min: Duration, max: Duration) -> Duration {
        let span_ns = u64::try_from((max.saturating_sub(min)).as_nanos()).unwrap_or(u64::MAX);
        // The generator ignores the lowest bit of its state, so the count stands above it.
        let mut generator = Pcg64Mcg::new((u128::from(self.seed) << 64) | (u128::from(self.draws) << 1));
        self.draws = self.draws.wrapping_add(1);
        // The multiplication maps 64 random bits onto 0..=span; its bias is below span / 2^64.
        generator.next_u64();
        let scaled = (u128::from(generator.next_u64()) * (u128::from(span_ns) + 1)) >> 64;
        min + Duration::from_nanos(u64::try_from(scaled).expect("scaled to at most the span"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_range_is_drawn_and_nothing_outside() {
        let (min, max) = (Duration::from_millis(150), Duration::from_millis(300));
        let mut seen = [0_u32; 10];
        for seed in 0..50 {
            let mut random = Random::new(seed);
            for _ in 0..100 {
                let drawn = random.duration_between(min, max);
                assert!((min..=max).contains(&drawn));
                let tenth = (drawn - min).as_micros() * 10 / 150_001;
                seen[usize::try_from(tenth).unwrap()] += 1;
            }
        }
        // 5,000 draws, 500 expected in each tenth; 350 is seven standard deviations away.
        assert!(seen.iter().all(|&count| count > 350), "{seen:?}");
    }

    #[test]
    fn the_same_seed_draws_the_same_numbers_and_another_seed_others() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            [(); 4].map(|()| random.duration_between(Duration::ZERO, Duration::from_secs(1)))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    /// After a split vote, the same timeout again would be the same split again.
    #[test]
    fn no_two_draws_in_a_row_are_the_same() {
        let mut random = Random::new(7);
        let draws = [(); 100].map(|()| random.duration_between(Duration::ZERO, Duration::from_secs(1)));
        assert!(draws.windows(2).all(|pair| pair[0] != pair[1]), "{draws:?}");
    }
}
