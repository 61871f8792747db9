//! How much of the past is kept: what the leader has forgotten, and when (rule 9).
//!
//! Owns: the times of revisions, and the decision. Does not own: the forgetting ([`crate::store`]).
//!
//! Compaction is a command like any other, so that all replicas have the same past, whatever their clocks and settings say.
//! Only the leader's are asked: it proposes [`ClusterCommand::Compact`] when [`crate::KvStore::upkeep`] says so.

use std::collections::VecDeque;

use crate::command::ClusterCommand;
use crate::limits::HISTORY_KEPT_NS;
use crate::store::Store;
use crate::types::{Revision, Stamp};

/// How far apart marks are, in nanoseconds of cluster time.
const MARK_INTERVAL_NS: u64 = 1_000_000_000;

/// When revisions came to be: one mark a second at most, for as long as history is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// Both rise.
    marks: VecDeque<(Stamp, Revision)>,
    /// When the latest revision came to be.
    last_change: Stamp,
}

/// No more marks than this can be there.
pub(crate) const MAX_MARKS: usize = (HISTORY_KEPT_NS / MARK_INTERVAL_NS) as usize + 2;

impl Timeline {
    /// The store has come to `revision`.
    pub(crate) fn note(&mut self, now: Stamp, revision: Revision) {
        self.last_change = now;
        if self.marks.back().is_none_or(|(last, _)| last.plus_ns(MARK_INTERVAL_NS) <= now) {
            self.marks.push_back((now, revision));
        }
        // The first one is the latest that has aged; those before it say nothing more.
        while self.marks.get(1).is_some_and(|(second, _)| second.plus_ns(HISTORY_KEPT_NS) <= now) {
            self.marks.pop_front();
        }
    }

    /// The latest revision that is known to be there for as long as history is kept.
    fn aged(&self, now: Stamp, latest: Revision) -> Revision {
        if self.last_change.plus_ns(HISTORY_KEPT_NS) <= now {
            return latest;
        }
        let later = self.marks.partition_point(|(stamp, _)| stamp.plus_ns(HISTORY_KEPT_NS) <= now);
        let mark = later.checked_sub(1).and_then(|place| self.marks.get(place));
        mark.map_or(Revision(0), |(_, revision)| *revision)
    }

    pub(crate) const fn last_change(&self) -> Stamp {
        self.last_change
    }

    pub(crate) const fn marks(&self) -> &VecDeque<(Stamp, Revision)> {
        &self.marks
    }

    /// Those of a snapshot at `latest`. `None` if there are too many, or they do not rise.
    pub(crate) fn restored(marks: VecDeque<(Stamp, Revision)>, last_change: Stamp, latest: Revision) -> Option<Self> {
        let rises = marks.iter().is_sorted_by(|(one, first), (other, second)| one < other && first < second);
        let within = marks.back().is_none_or(|(stamp, revision)| *stamp <= last_change && *revision <= latest);
        (marks.len() <= MAX_MARKS && rises && within).then_some(Self { marks, last_change })
    }
}

/// What the leader is to have forgotten, now that it is `now`, if it keeps history up to `history_bytes`.
pub(crate) fn due(store: &Store, timeline: &Timeline, now: Stamp, history_bytes: u64) -> Option<ClusterCommand> {
    let aged = timeline.aged(now, store.revision()).max(store.oldest());
    let is_full = store.history_bytes() > history_bytes && store.oldest() < store.revision();
    if aged == store.oldest() && !is_full {
        return None;
    }
    // Some room is made at once, so that not every further change takes a command of its own.
    let history_bytes = if is_full { history_bytes - history_bytes / 16 } else { history_bytes };
    Some(ClusterCommand::Compact { aged, history_bytes })
}
