//! How long a link pauses before it dials again.

use std::time::Duration;

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// The first pause. A server that was restarted is found again at once.
const FIRST: Duration = Duration::from_millis(10);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double up to a second, each drawn between half of its length and one and a half.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    generator: Pcg64Mcg,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { next: FIRST, generator: Pcg64Mcg::seed_from_u64(seed) }
    }

    /// The pause after an attempt whose connection, if there was one, lasted so long.
    ///
    /// Only one that lasted as long as the longest pause was a good one: a peer that lets in and closes at once is not
    /// to be dialled every 10 ms.
    pub(super) fn pause_after(&mut self, lasted: Option<Duration>) -> Duration {
        if lasted.is_some_and(|lasted| lasted >= LONGEST) {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        let share = f64::from(self.generator.next_u32()) / f64::from(u32::MAX);
        pause / 2 + pause.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(seed: u64, lasted: Option<Duration>, count: usize) -> Vec<Duration> {
        let mut backoff = Backoff::new(seed);
        (0..count).map(|_| backoff.pause_after(lasted)).collect()
    }

    #[test]
    fn pauses_grow_to_a_second_and_no_further() {
        let mut middle = FIRST;
        for pause in pauses(1, None, 100) {
            assert!(pause >= middle / 2 && pause <= middle * 3 / 2, "{pause:?} is not about {middle:?}");
            middle = (middle * 2).min(LONGEST);
        }
    }

    #[test]
    fn a_connection_that_ends_at_once_does_not_start_the_pauses_over() {
        let lasted = Some(LONGEST - Duration::from_millis(1));
        assert_eq!(pauses(2, lasted, 20), pauses(2, None, 20));
    }

    #[test]
    fn a_good_connection_does() {
        assert!(pauses(3, Some(LONGEST), 20).iter().all(|&pause| pause <= FIRST * 3 / 2));
    }

    #[test]
    fn two_links_do_not_dial_in_step() {
        assert_ne!(pauses(4, None, 20), pauses(5, None, 20));
        assert_eq!(pauses(4, None, 20), pauses(4, None, 20));
    }
}
