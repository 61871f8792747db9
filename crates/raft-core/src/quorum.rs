//! Majorities (§3.3): how many is enough, and what they have reached. While a configuration is joint every decision needs
//! a majority of each of its halves (§4.3); everything that counts, counts here.

use alloc::collections::BTreeMap;

use crate::configuration::{Configuration, Half};
use crate::types::NodeId;

/// The smallest number of `servers` that any two such groups share a server.
pub(crate) const fn majority(servers: usize) -> usize {
    servers / 2 + 1
}

/// The largest value that a majority has reached: of match indices the highest replicated one, of instants the latest
/// at which a majority had been heard, of rounds the highest confirmed one. `None` of no values.
///
/// Quadratic, and free of allocation: clusters have 3 to 9 servers.
fn reached_by_majority<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> Option<T> {
    let needed = majority(values.clone().count());
    values.clone().filter(|value| values.clone().filter(|other| other >= value).count() >= needed).max()
}

/// What the majorities of both halves have reached, where `value` is what a voter has.
pub(crate) fn reached_by_quorum<T: Ord + Copy>(
    configuration: &Configuration,
    value: impl Fn(NodeId) -> T + Clone,
) -> Option<T> {
    let in_half = |half| reached_by_majority(configuration.voters_in(half).map(value.clone()));
    in_half(Half::Old).min(in_half(Half::New))
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
    /// So many said no that a majority can never say yes: of an even number of voters, half is enough.
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

    /// Counts the answers of voters alone: won by both halves, lost by one.
    pub(crate) fn tally(&self, configuration: &Configuration) -> Tally {
        match Half::BOTH.map(|half| self.tally_of(configuration.voters_in(half))) {
            [Tally::Won, Tally::Won] => Tally::Won,
            [Tally::Lost, Tally::Won | Tally::Lost | Tally::Open] | [Tally::Won | Tally::Open, Tally::Lost] => {
                Tally::Lost
            }
            [Tally::Open, Tally::Won | Tally::Open] | [Tally::Won, Tally::Open] => Tally::Open,
        }
    }

    fn tally_of(&self, voters: impl Iterator<Item = NodeId>) -> Tally {
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
        // Where nobody votes nothing is decided.
        } else if refused > 0 && total - refused < majority(total) {
            Tally::Lost
        } else {
            Tally::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::configuration::{Member, Standing};
    use crate::types::DiskId;

    fn n(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// A configuration with these voters in its halves; nobody but voters.
    fn joint(old: &BTreeSet<u64>, new: &BTreeSet<u64>) -> Configuration {
        let standing = |id: &u64| match (old.contains(id), new.contains(id)) {
            (true, true) => Standing::Voter,
            (true, false) => Standing::Outgoing { then: None },
            (false, true | false) => Standing::Incoming,
        };
        let member = |id: u64| Member { disk: DiskId(u128::from(id)), address: String::new() };
        Configuration::new(old.union(new).map(|id| (n(*id), (member(*id), standing(id)))).collect()).unwrap()
    }

    fn voters() -> impl Strategy<Value = BTreeSet<u64>> {
        prop::collection::btree_set(1_u64..10, 1..8)
    }

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
        fn what_a_quorum_reached_equals_the_lower_of_both_halves(
            old in voters(),
            new in voters(),
            values in prop::collection::vec(0_u64..20, 10),
        ) {
            let of = |half: &BTreeSet<u64>| sort_and_pick(half.iter().map(|id| values[usize::try_from(*id).unwrap()]).collect());
            let reached = reached_by_quorum(&joint(&old, &new), |id| values[usize::try_from(id.as_u64()).unwrap()]);
            prop_assert_eq!(reached, of(&old).min(of(&new)));
        }

        #[test]
        fn an_election_needs_both_halves(
            old in voters(),
            new in voters(),
            answers in prop::collection::vec(prop::option::of(any::<bool>()), 10),
        ) {
            let mut votes = Votes::default();
            for (id, answer) in (0_u64..).zip(&answers).skip(1) {
                if let Some(granted) = answer {
                    votes.record(n(id), *granted);
                }
            }
            let said = |half: &BTreeSet<u64>, wanted| {
                half.iter().filter(|id| answers[usize::try_from(**id).unwrap()] == Some(wanted)).count()
            };
            let most = |half: &BTreeSet<u64>| said(half, true) * 2 > half.len();
            // Half of them is enough to keep the others from being the most.
            let is_hopeless = |half: &BTreeSet<u64>| said(half, false) * 2 >= half.len();
            let expected = if most(&old) && most(&new) {
                Tally::Won
            } else if is_hopeless(&old) || is_hopeless(&new) {
                Tally::Lost
            } else {
                Tally::Open
            };
            prop_assert_eq!(votes.tally(&joint(&old, &new)), expected);
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
        let member = |id: NodeId| Member { disk: DiskId(u128::from(id.as_u64())), address: String::new() };
        let configuration = Configuration::of_voters([one, two, three].map(|id| (id, member(id))));
        assert_eq!(votes.tally(&configuration), Tally::Open);
        assert_eq!(Votes::default().tally(&Configuration::default()), Tally::Open, "nobody elects nobody");
    }
}
