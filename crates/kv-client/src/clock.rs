//! The client's idea of cluster time (rule 6).
//!
//! Servers tell their cluster time in the handshake; from there on the client counts monotonic time by itself. Cluster
//! time stands still while there is no leader, and a follower's may lag, so the estimate can be off either way:
//!
//! - a little ahead: a deadline lies later than meant. Harmless: the client has given up by then and says `maybe_applied`.
//! - far ahead, or behind: a session is born too early or too late, or a deadline has passed before it should. The store
//!   refuses all of these without applying anything, and the client shakes hands again and learns better.

use kv_store::Stamp;
use tokio::time::{Duration, Instant};

/// The best estimate of cluster time so far.
#[derive(Debug, Default)]
pub(crate) struct ClusterClock {
    told: Option<(Stamp, Instant)>,
}

impl ClusterClock {
    /// A server said `stamp` at `at`. Cluster time never goes back, so of two estimates the later one is nearer.
    pub(crate) fn observe(&mut self, stamp: Stamp, at: Instant) {
        if self.now(at).is_none_or(|estimate| estimate < stamp) {
            self.told = Some((stamp, at));
        }
    }

    /// Cluster time at `at`; `None` before the first handshake.
    pub(crate) fn now(&self, at: Instant) -> Option<Stamp> {
        let (stamp, told_at) = self.told?;
        Some(later(stamp, at.saturating_duration_since(told_at)))
    }

    /// Forgets what was told: the next handshake counts, even if it says an earlier time. After a change of leader, time
    /// goes on from the last stamp in the log, and an estimate that ran on through hours of rest is too far ahead.
    pub(crate) fn forget(&mut self) {
        self.told = None;
    }
}

/// `stamp` and `by` more.
pub(crate) fn later(stamp: Stamp, by: Duration) -> Stamp {
    Stamp(stamp.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_the_latest_estimate() {
        let start = Instant::now();
        let mut clock = ClusterClock::default();
        assert_eq!(clock.now(start), None);
        clock.observe(Stamp(1_000), start);
        assert_eq!(clock.now(start + Duration::from_nanos(5)), Some(Stamp(1_005)));
        // A lagging follower does not turn it back, a leader who is ahead moves it on.
        clock.observe(Stamp(500), start + Duration::from_nanos(5));
        assert_eq!(clock.now(start + Duration::from_nanos(5)), Some(Stamp(1_005)));
        clock.observe(Stamp(2_000), start + Duration::from_nanos(10));
        assert_eq!(clock.now(start + Duration::from_nanos(10)), Some(Stamp(2_000)));
        clock.forget();
        clock.observe(Stamp(1), start);
        assert_eq!(clock.now(start), Some(Stamp(1)));
    }
}
