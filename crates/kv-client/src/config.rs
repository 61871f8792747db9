//! What a client is told at its start, and the limits it keeps by itself.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// Requests in flight on one connection; more wait for a place, within their deadline.
pub const MAX_IN_FLIGHT: usize = 1_024;

/// The largest frame a client takes from a server: an answer of 1 MiB (rule 13), one item over that, and the metadata.
pub(crate) const MAX_FRAME_BYTES: usize = 4 << 20;

/// The most endpoints a client takes.
const MAX_ENDPOINTS: usize = 64;

/// How a client finds the cluster, and how long it tries.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `HOST:PORT` of any nodes of one cluster. They are seeds: the leader is learned from the answers. Reads with
    /// `Consistency::Local` go to the first one only.
    pub endpoints: Vec<String>,
    /// How long an operation may take, with all its retries.
    pub timeout: Duration,
    /// Who the client says it is, in at most [`kv_store::MAX_PRINCIPAL_BYTES`]. It is logged with each write; access
    /// control will use it.
    pub principal: Vec<u8>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { endpoints: Vec::new(), timeout: Duration::from_secs(5), principal: Vec::new() }
    }
}

impl ClientConfig {
    /// A configuration with these endpoints and the default time-out of 5 s.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::Invalid, message));
        if self.endpoints.is_empty() {
            return invalid("no endpoints given; name at least one node as HOST:PORT");
        }
        if self.endpoints.len() > MAX_ENDPOINTS {
            return invalid("more than 64 endpoints given; a few seeds are enough, the rest is learned");
        }
        if self.timeout.is_zero() {
            return invalid("a time-out of 0 leaves no time for an answer; give at least some milliseconds");
        }
        Ok(())
    }

    /// How long the `tries`th attempt (from 0) waits for a connection: short at first, so that one dead endpoint does not
    /// use up the operation's time, then patient, for networks that are merely slow.
    pub(crate) fn connect_limit(&self, tries: u32) -> Duration {
        doubled((self.timeout / 8).min(Duration::from_secs(1)), tries / self.endpoint_count())
    }

    /// How long the `tries`th attempt (from 0) waits for its answer: a paused leader must not use up the time in which
    /// its successor could answer.
    pub(crate) fn answer_limit(&self, tries: u32) -> Duration {
        doubled((self.timeout / 4).min(Duration::from_secs(2)), tries)
    }

    /// With less time than this left, no further attempt is begun.
    pub(crate) fn shortest_attempt(&self) -> Duration {
        (self.timeout / 20).min(Duration::from_millis(50))
    }

    pub(crate) fn endpoint_count(&self) -> u32 {
        u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX).max(1)
    }
}

fn doubled(base: Duration, times: u32) -> Duration {
    base.saturating_mul(1 << times.min(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_over_three_dead_endpoints_leaves_most_of_the_time() {
        let config = ClientConfig::new(["a:1", "b:1", "c:1"]);
        let round: Duration = (0..3).map(|tries| config.connect_limit(tries)).sum();
        assert!(round <= config.timeout / 2, "{round:?}");
        assert!(config.connect_limit(3) > config.connect_limit(2));
        assert!(config.answer_limit(0) <= config.timeout / 4);
    }

    #[test]
    fn senseless_configurations_are_refused() {
        assert!(ClientConfig::default().check().is_err());
        assert!(ClientConfig { timeout: Duration::ZERO, ..ClientConfig::new(["a:1"]) }.check().is_err());
        assert!(ClientConfig::new(vec!["a:1"; 65]).check().is_err());
        assert!(ClientConfig::new(["a:1"]).check().is_ok());
    }
}
