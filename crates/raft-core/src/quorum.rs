//! Majorities (§3.3): how many is enough, and what a majority has reached.

use alloc::collections::BTreeMap;

use crate::types::NodeId;

/// The smallest number of `servers` that any two such groups share a server.
pub(crate) const fn majority(servers: usize) -> usize {
    servers / 2 + 1
}

/// The largest value that a majority has reached: of match indices the highest replicated one, of instants the latest
/// at which a majority had been heard, of rounds the highest confirmed one. `None` of no values.
///
/// Quadratic, and free of allocation: clusters have 3 to 9 servers.
pub(crate) fn reached_by_majority<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> Option<T> {
    let needed = majority(values.clone().count());
    values.clone().filter(|value| values.clone().filter(|other| other >= value).count() >= needed).max()
}

/// The answers to a request for votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Votes {
    /// One a server: a repeated answer changes nothing.
    answers: BTreeMap<NodeId, bool>,
}

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// A majority said yes.
    Won,
    /// A majority said no.
    Lost,
    /// Neither yet.
    Open,
}

impl Votes {
    /// Records an answer; the first of a server counts.
    pub(crate) fn record(&mut self, voter: NodeId, granted: bool) {
        self.answers.entry(voter).or_insert(granted);
    }

    pub(crate) fn has_granted(&self, voter: NodeId) -> bool {
        self.answers.get(&voter) == Some(&true)
    }

    /// Counts the answers of `voters` alone.
    pub(crate) fn tally(&self, voters: impl Iterator<Item = NodeId>) -> Tally {
        let (mut total, mut granted, mut refused) = (0, 0, 0);
        for voter in voters {
            total += 1;
            match self.answers.get(&voter) {
                Some(true) => granted += 1,
                Some(false) => refused += 1,
                None => {}
            }
        }
        if granted >= majority(total) {
            Tally::Won
        } else if refused >= majority(total) {
            Tally::Lost
        } else {
            Tally::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The naive twin: sort, and pick the place that a majority stands at or above.
    fn sort_and_pick(mut values: Vec<u64>) -> Option<u64> {
        values.sort_unstable();
        let place = values.len().checked_sub(majority(values.len()))?;
        values.get(place).copied()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_a_majority_reached_equals_sort_and_pick(values in prop::collection::vec(0_u64..20, 0..10)) {
            prop_assert_eq!(reached_by_majority(values.iter().copied()), sort_and_pick(values));
        }

        #[test]
        fn an_election_is_never_both_won_and_lost(answers in prop::collection::vec(prop::option::of(any::<bool>()), 1..10)) {
            let ids: Vec<NodeId> = (1..=answers.len() as u64).map(|id| NodeId::new(id).unwrap()).collect();
            let mut votes = Votes::default();
            for (&id, answer) in ids.iter().zip(&answers) {
                if let Some(granted) = answer {
                    votes.record(id, *granted);
                }
            }
            let count = |wanted| answers.iter().filter(|&&answer| answer == Some(wanted)).count() * 2;
            let expected = if count(true) > answers.len() {
                Tally::Won
            } else if count(false) > answers.len() {
                Tally::Lost
            } else {
                Tally::Open
            };
            prop_assert_eq!(votes.tally(ids.into_iter()), expected);
        }
    }

    #[test]
    fn nobody_votes_twice_and_strangers_do_not_count() {
        let [one, two, three, stranger] = [1, 2, 3, 9].map(|id| NodeId::new(id).unwrap());
        let mut votes = Votes::default();
        votes.record(one, true);
        votes.record(one, true);
        votes.record(stranger, true);
        votes.record(two, false);
        votes.record(two, true);
        assert_eq!(votes.tally([one, two, three].into_iter()), Tally::Open);
    }
}
