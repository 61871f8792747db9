//! Linearizability of each key (Herlihy & Wing 1990), by the histories that clients saw. Keys are independent objects, so
//! a history is linearizable if each key's is (locality, their theorem 1).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Verdict;
use super::key_model::{Action, KeyModel, Outcome, merge_unseen};
use super::wgl::{self, Operation};
use crate::coverage::{Count, Coverage};

/// How hard the search for an order may be; more than any sound history has needed by far.
const MAX_STEPS: u64 = 2_000_000;
/// A key gets no more operations than this, nor more of unknown outcome than that: the search grows with both.
const MAX_OPERATIONS: usize = 200;
const MAX_UNKNOWN: usize = 8;

/// What clients saw of each key.
#[derive(Debug, Default)]
pub(crate) struct Linearizable {
    clock: u64,
    keys: BTreeMap<Bytes, History>,
}

#[derive(Debug, Default)]
struct History {
    operations: Vec<Operation<Action, Outcome>>,
    /// Begun, and not ended.
    open: usize,
    unknown: usize,
}

impl Linearizable {
    /// Whether a key has had its share of operations.
    pub(crate) fn is_used_up(&self, key: &Bytes) -> bool {
        self.keys.get(key).is_some_and(|history| {
            history.operations.len() + history.open >= MAX_OPERATIONS || history.unknown >= MAX_UNKNOWN
        })
    }

    /// An operation begins; gives the number of the moment.
    pub(crate) fn called(&mut self, key: &Bytes) -> u64 {
        self.clock += 1;
        self.keys.entry(key.clone()).or_default().open += 1;
        self.clock
    }

    /// An operation that began at `called` has ended; `None`: its client never learned how.
    pub(crate) fn ended(&mut self, key: &Bytes, client: u32, called: u64, action: Action, outcome: Option<Outcome>) {
        self.clock += 1;
        let Some(history) = self.keys.get_mut(key) else { return };
        history.open = history.open.saturating_sub(1);
        if outcome.is_none() {
            history.unknown += 1;
        }
        let returned = outcome.map(|outcome| (self.clock, outcome));
        history.operations.push(Operation { client, called, returned, action });
    }

    /// An operation has ended that nobody need explain: a read without an answer, or a write that was not done.
    pub(crate) fn dropped(&mut self, key: &Bytes) {
        if let Some(history) = self.keys.get_mut(key) {
            history.open = history.open.saturating_sub(1);
        }
    }

    /// Whether each key's history has an order that explains it.
    pub(crate) fn check(&mut self, coverage: &mut Coverage) -> Verdict {
        for (key, history) in &mut self.keys {
            history.operations.sort_by_key(|operation| operation.called);
            match wgl::check(&KeyModel, &merge_unseen(&history.operations), MAX_STEPS) {
                wgl::Verdict::Linearizable => coverage.count(Count::Linearized),
                wgl::Verdict::TooHard { .. } => coverage.count(Count::TooHard),
                wgl::Verdict::NotLinearizable { prefix, stuck } => {
                    return Err(describe(key, &history.operations, &prefix, &stuck));
                }
            }
        }
        Ok(())
    }
}

fn describe(key: &Bytes, operations: &[Operation<Action, Outcome>], prefix: &[usize], stuck: &[usize]) -> String {
    let mut lines = format!("no order explains what clients saw of {key:?}; the longest one ends with");
    let tail = prefix.iter().skip(prefix.len().saturating_sub(6));
    for operation in tail.filter_map(|&place| operations.get(place)) {
        lines.push_str(&format!("\n    {operation:?}"));
    }
    lines.push_str("\n  and none of these can come next");
    for operation in stuck.iter().filter_map(|&place| operations.get(place)) {
        lines.push_str(&format!("\n    {operation:?}"));
    }
    lines
}
