//! Log Matching (Figure 3.2): logs that have an entry of the same index and term are equal up to it.
//!
//! By induction it is enough that every entry ever written under one index and term is the same, and follows the same
//! predecessor.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use raft_core::{Entry, LogIndex, LogPosition};

use super::{Turn, Verdict};
use crate::world::writes_in;

/// Looked up only, never walked through, so its order cannot be seen.
type Entries = HashMap<LogPosition, (LogPosition, Entry), BuildHasherDefault<DefaultHasher>>;

/// Every entry that a server wanted written.
#[derive(Debug, Default)]
pub(crate) struct LogMatching {
    entries: Entries,
}

impl LogMatching {
    pub(crate) fn observe(&mut self, turn: &Turn<'_>) -> Verdict {
        let Some(raft) = turn.raft() else { return Ok(()) };
        for write in writes_in(&turn.orders.jobs) {
            for (place, entry) in write.entries.iter().enumerate() {
                let previous = match place.checked_sub(1).and_then(|before| write.entries.get(before)) {
                    Some(before) => Some(before.position),
                    // A later write of this turn may have cut it off again; then it cannot be told any more.
                    None if entry.position.index == LogIndex(1) => Some(LogPosition::ORIGIN),
                    None => raft.log().position(entry.position.index.previous()),
                };
                let is_there = raft.log().position(entry.position.index) == Some(entry.position);
                if let (Some(previous), true) = (previous, is_there) {
                    self.check(turn.node, previous, entry)?;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, node: usize, previous: LogPosition, entry: &Entry) -> Verdict {
        let known = self.entries.entry(entry.position).or_insert_with(|| (previous, entry.clone()));
        if known.0 != previous {
            let before = known.0;
            return Err(format!(
                "n{} has {} behind {previous}, another server behind {before}",
                node + 1,
                entry.position
            ));
        }
        if known.1 != *entry {
            return Err(format!("n{} has another entry {} than another server", node + 1, entry.position));
        }
        Ok(())
    }
}
