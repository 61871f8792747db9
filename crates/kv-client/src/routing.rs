//! Whom to ask next.
//!
//! The leader, where it is known; else the seeds in turn, from the one that worked last. A leader that could not be reached
//! is not believed in for a while, even if others name it: it may live behind an address that this client cannot reach,
//! and then any follower will forward.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

/// How long a leader that could not be reached is left out.
const SHUNNED_FOR: Duration = Duration::from_secs(5);

/// The most addresses remembered as unreachable.
const MAX_SHUNNED: usize = 64;

/// Seeds, leader, and who could not be reached.
#[derive(Debug)]
pub(crate) struct Routing {
    seeds: Vec<String>,
    /// The place of the seed to ask when no leader is known.
    next_seed: usize,
    leader: Option<String>,
    shunned_until: BTreeMap<String, Instant>,
}

impl Routing {
    pub(crate) const fn new(seeds: Vec<String>) -> Self {
        Self { seeds, next_seed: 0, leader: None, shunned_until: BTreeMap::new() }
    }

    /// Whom to ask: the leader if one is known, else the next seed.
    pub(crate) fn choose(&self) -> &str {
        self.leader.as_deref().unwrap_or_else(|| self.seed(self.next_seed))
    }

    /// The first endpoint, which alone answers local reads.
    pub(crate) fn first(&self) -> &str {
        self.seed(0)
    }

    pub(crate) fn seeds(&self) -> &[String] {
        &self.seeds
    }

    /// A node named the leader's address.
    pub(crate) fn learn_leader(&mut self, address: &str, now: Instant) {
        let is_shunned = self.shunned_until.get(address).is_some_and(|until| now < *until);
        if !address.is_empty() && !is_shunned {
            self.leader = Some(address.to_owned());
        }
    }

    /// The node at `address` knows no leader, or is about to stop: the next attempt goes elsewhere.
    pub(crate) fn move_on(&mut self, address: &str) {
        if self.leader.as_deref() == Some(address) {
            self.leader = None;
        }
        if self.seed(self.next_seed) == address {
            self.next_seed = (self.next_seed + 1) % self.seeds.len().max(1);
        }
    }

    /// The node at `address` could not be reached, or did not answer in time.
    pub(crate) fn failed(&mut self, address: &str, now: Instant) {
        self.move_on(address);
        self.shunned_until.retain(|_, until| now < *until);
        if self.shunned_until.len() < MAX_SHUNNED {
            self.shunned_until.insert(address.to_owned(), now + SHUNNED_FOR);
        }
    }

    /// The node at `address` answered: it may be named as leader again.
    pub(crate) fn worked(&mut self, address: &str) {
        self.shunned_until.remove(address);
    }

    fn seed(&self, place: usize) -> &str {
        // A configuration without endpoints is refused before a routing is made.
        self.seeds.get(place).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing() -> Routing {
        Routing::new(vec!["a".into(), "b".into(), "c".into()])
    }

    #[test]
    fn seeds_are_asked_in_turn_and_the_one_that_works_is_kept() {
        let (mut routing, now) = (routing(), Instant::now());
        assert_eq!(routing.choose(), "a");
        routing.failed("a", now);
        assert_eq!(routing.choose(), "b");
        // A second request that failed at `a` too changes nothing.
        routing.failed("a", now);
        assert_eq!(routing.choose(), "b");
        routing.failed("b", now);
        routing.failed("c", now);
        assert_eq!(routing.choose(), "a");
        assert_eq!(routing.first(), "a");
    }

    #[test]
    fn the_leader_is_preferred_until_it_fails() {
        let (mut routing, now) = (routing(), Instant::now());
        routing.learn_leader("d", now);
        assert_eq!(routing.choose(), "d");
        routing.failed("d", now);
        assert_eq!(routing.choose(), "a");
        // Others may go on naming it.
        routing.learn_leader("d", now + SHUNNED_FOR / 2);
        assert_eq!(routing.choose(), "a");
        routing.learn_leader("d", now + SHUNNED_FOR);
        assert_eq!(routing.choose(), "d");
    }

    #[test]
    fn a_node_without_a_leader_is_passed_over_and_not_shunned() {
        let (mut routing, now) = (routing(), Instant::now());
        routing.learn_leader("a", now);
        routing.move_on("a");
        assert_eq!(routing.choose(), "b");
        routing.learn_leader("a", now);
        assert_eq!(routing.choose(), "a");
    }

    #[test]
    fn an_answer_lifts_the_ban() {
        let (mut routing, now) = (routing(), Instant::now());
        routing.failed("a", now);
        routing.worked("a");
        routing.learn_leader("a", now);
        assert_eq!(routing.choose(), "a");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut routing, now) = (routing(), Instant::now());
        for number in 0..1_000 {
            routing.failed(&number.to_string(), now);
        }
        assert_eq!(routing.shunned_until.len(), MAX_SHUNNED);
    }
}
