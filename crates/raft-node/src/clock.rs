//! Cluster time as this server knows it between entries (rule 6).

use raft_core::{ClusterTime, Instant};

/// The latest stamp applied, carried on by this server's monotonic clock while there is a leader: time without a
/// leader does not count. New sessions are born at it.
///
/// It may run a little ahead of the leader's clock (the time to notice that a leader is gone, the difference of two
/// clock rates); nothing is decided by it, only by the stamps in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterClock {
    at: ClusterTime,
    read: Instant,
}

impl ClusterClock {
    pub(crate) const fn new(at: ClusterTime, now: Instant) -> Self {
        Self { at, read: now }
    }

    pub(crate) const fn now(&self) -> ClusterTime {
        self.at
    }

    /// Lets the time since the last call count, if there was a leader.
    pub(crate) fn advance(&mut self, now: Instant, has_leader: bool) {
        if has_leader {
            let elapsed_ns = now.0.saturating_sub(self.read.0);
            self.at = ClusterTime(self.at.0.saturating_add(elapsed_ns));
        }
        self.read = self.read.max(now);
    }

    /// Takes the stamp of an applied entry.
    pub(crate) fn observe(&mut self, stamp: ClusterTime) {
        self.at = self.at.max(stamp);
    }
}
