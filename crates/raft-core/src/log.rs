//! The replicated log (§3.5, §5.1), in memory: what is on its way to disk, to the peers and to the state machine.
//!
//! Owns: the Log Matching Property's local half (entries are consecutive and their terms never go backwards), and what
//! remains of the log when a snapshot has taken the place of its beginning. Does not know what is durable
//! (`durability`) or committed (`shared`).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::types::{ClusterTime, Entry, LogIndex, LogPosition, Term};

/// All entries after the base, to the last. The base is the origin until a snapshot replaces the entries before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// Where the log begins: the last entry that is gone. It is committed, and so the same in every log that has it.
    base: LogPosition,
    base_stamp: ClusterTime,
    entries: VecDeque<Entry>,
    /// The first index of each term, that of the base's term being the base: enough to find where two logs part
    /// without walking them.
    term_starts: BTreeMap<Term, LogIndex>,
    size_bytes: usize,
}

/// How a position of another log stands to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// This log has it; or it lies before the base, where what every log has is committed.
    Held,
    /// This log has another entry there.
    Conflict,
    /// This log ends before it.
    Missing,
}

impl Log {
    /// The log of `entries`, which follow `base`.
    pub(crate) fn restore(base: LogPosition, base_stamp: ClusterTime, entries: Vec<Entry>) -> Self {
        let mut term_starts = BTreeMap::from([(base.term, base.index)]);
        for entry in &entries {
            term_starts.entry(entry.position.term).or_insert(entry.position.index);
        }
        let size_bytes = entries.iter().map(Entry::size_bytes).sum();
        Self { base, base_stamp, entries: entries.into(), term_starts, size_bytes }
    }

    /// Where the log begins: the position before its first entry. [`LogPosition::ORIGIN`] until the log is compacted.
    #[must_use]
    pub const fn base(&self) -> LogPosition {
        self.base
    }

    /// Where the log ends; its base if it is empty.
    #[must_use]
    pub fn last_position(&self) -> LogPosition {
        self.entries.back().map_or(self.base, |entry| entry.position)
    }

    /// The index of the last entry; 0 for the empty log.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.last_position().index
    }

    /// The stamp of the last entry: the latest cluster time this server knows.
    #[must_use]
    pub fn last_stamp(&self) -> ClusterTime {
        self.entries.back().map_or(self.base_stamp, |entry| entry.stamp)
    }

    /// How many bytes its entries count for ([`Entry::size_bytes`]).
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The same for the entries after `index` alone.
    pub(crate) fn size_bytes_after(&self, index: LogIndex) -> usize {
        self.entries.range(self.place(index.next())..).map(Entry::size_bytes).sum()
    }

    /// The place in `entries` of the entry at `index`; of the first if that is before it, one past the last if after.
    fn place(&self, index: LogIndex) -> usize {
        let place = index.0.saturating_sub(self.base.index.0).saturating_sub(1);
        usize::try_from(place).unwrap_or(usize::MAX).min(self.entries.len())
    }

    /// The entry at `index`, if the log holds it.
    #[must_use]
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        if index <= self.base.index { None } else { self.entries.get(self.place(index)) }
    }

    /// The entries from `from` to `to`, both included; as much of that as the log holds.
    pub fn range(&self, from: LogIndex, to: LogIndex) -> impl Iterator<Item = &Entry> {
        let first = self.place(from);
        let end = usize::try_from(to.0.saturating_sub(self.base.index.0)).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.range(first..end.max(first))
    }

    /// The position at `index`: of the base and every entry after it.
    #[must_use]
    pub fn position(&self, index: LogIndex) -> Option<LogPosition> {
        if index == self.base.index { Some(self.base) } else { self.entry(index).map(|entry| entry.position) }
    }

    /// The stamp at `index`: of the base and every entry after it.
    pub(crate) fn stamp(&self, index: LogIndex) -> Option<ClusterTime> {
        if index == self.base.index { Some(self.base_stamp) } else { self.entry(index).map(|entry| entry.stamp) }
    }

    /// Compares a position that a leader names with this log (the consistency check of AppendEntries).
    pub(crate) fn compare(&self, position: LogPosition) -> Comparison {
        if position.index < self.base.index {
            return Comparison::Held;
        }
        match self.position(position.index) {
            Some(ours) if ours == position => Comparison::Held,
            Some(_) => Comparison::Conflict,
            None => Comparison::Missing,
        }
    }

    /// The last position that is beyond `limit` neither in index nor in term; the base if none is left.
    ///
    /// Logs of two servers that part at `limit` can agree at this position or before it, never after: terms rise along
    /// both. The follower sends it as its hint, the leader applies it to the hint again, and together they skip a
    /// whole term of conflicting entries a round trip (§3.5, end).
    pub(crate) fn last_not_beyond(&self, limit: LogPosition) -> LogPosition {
        use core::ops::Bound::{Excluded, Unbounded};
        let first_of_later_term = self.term_starts.range((Excluded(limit.term), Unbounded)).next();
        let end = first_of_later_term.map_or_else(|| self.last_index(), |(_, start)| start.previous());
        self.position(end.min(limit.index)).unwrap_or(self.base)
    }

    /// Copies of the entries from `from` on, about `max_bytes` of them, at least one if there is any. Payloads are
    /// shared, not copied.
    pub(crate) fn batch_from(&self, from: LogIndex, max_bytes: usize) -> Vec<Entry> {
        let mut room = max_bytes;
        let mut batch = Vec::new();
        for entry in self.range(from, self.last_index()) {
            let size = entry.size_bytes();
            if size > room && !batch.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            batch.push(entry.clone());
        }
        batch
    }

    /// Appends one entry.
    ///
    /// # Panics
    /// If it does not follow the last one: our bug, since what peers send is checked before.
    pub(crate) fn append(&mut self, entry: Entry) {
        let last = self.last_position();
        assert_eq!(entry.position.index, last.index.next(), "an entry is appended right after the last");
        assert!(entry.position.term >= last.term, "terms never go backwards: {} after {last}", entry.position);
        self.term_starts.entry(entry.position.term).or_insert(entry.position.index);
        self.size_bytes += entry.size_bytes();
        self.entries.push_back(entry);
    }

    /// Forgets the entry at `from` and all after it.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        let keep = self.place(from);
        assert!(from > self.base.index && keep < self.entries.len(), "truncation at {from} removes nothing");
        self.size_bytes -= self.size_bytes_after(from.previous());
        self.entries.truncate(keep);
        self.term_starts.retain(|_, start| *start < from);
    }

    /// Forgets the entries up to `through`, which becomes the base (§5.1). A snapshot holds what they did.
    ///
    /// # Panics
    /// If the log does not reach that far.
    pub(crate) fn compact(&mut self, through: LogIndex) {
        let (base, stamp) = (self.position(through), self.stamp(through));
        let base = base.expect("what is compacted is in the log");
        self.base_stamp = stamp.expect("an entry has a stamp");
        let gone = self.place(through.next());
        self.size_bytes -= self.entries.drain(..gone).map(|entry| entry.size_bytes()).sum::<usize>();
        self.base = base;
        self.term_starts.retain(|_, start| *start > base.index);
        self.term_starts.insert(base.term, base.index);
    }

    /// The smallest index such that the entries after it, up to `end`, count for at most `max_bytes`.
    pub(crate) fn tail_start(&self, end: LogIndex, max_bytes: usize) -> LogIndex {
        let mut room = max_bytes;
        let mut start = end;
        while let Some(entry) = self.entry(start) {
            let Some(rest) = room.checked_sub(entry.size_bytes()) else { break };
            room = rest;
            start = start.previous();
        }
        start
    }

    /// Forgets everything: the log goes on after `base`, which a snapshot covers (§5.1, InstallSnapshot).
    pub(crate) fn restart_after(&mut self, base: LogPosition, base_stamp: ClusterTime) {
        *self = Self::restore(base, base_stamp, Vec::new());
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::restore(LogPosition::ORIGIN, ClusterTime::default(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Payload;

    fn entry(term: u64, index: u64) -> Entry {
        let position = LogPosition::new(Term(term), LogIndex(index));
        Entry { position, stamp: ClusterTime(0), payload: Payload::Noop }
    }

    /// A log given by the terms of its entries.
    fn log(terms: &[u64]) -> Log {
        let entries = (1..).zip(terms).map(|(index, &term)| entry(term, index)).collect();
        Log::restore(LogPosition::ORIGIN, ClusterTime(0), entries)
    }

    /// The terms of its entries.
    fn terms(log: &Log) -> Vec<u64> {
        log.range(LogIndex(0), LogIndex(u64::MAX)).map(|entry| entry.position.term.0).collect()
    }

    fn rising_terms() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0_u64..3, 0..20).prop_map(|steps| {
            steps
                .into_iter()
                .scan(1, |term, step| {
                    *term += step / 2;
                    Some(*term)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_hint_is_what_a_walk_from_the_end_finds(
            terms in rising_terms(),
            compacted in 0_u64..20,
            term in 0_u64..12,
            index in 0_u64..25,
        ) {
            let mut log = log(&terms);
            log.compact(LogIndex(compacted).min(log.last_index()));
            let limit = LogPosition::new(Term(term), LogIndex(index));
            let walked = (0..=log.last_index().0)
                .rev()
                .filter_map(|index| log.position(LogIndex(index)))
                .find(|position| position.index <= limit.index && position.term <= limit.term);
            prop_assert_eq!(log.last_not_beyond(limit), walked.unwrap_or(log.base()));
        }

        #[test]
        fn a_compacted_log_is_the_end_of_the_whole_one(all in rising_terms(), first in 0_u64..20, second in 0_u64..20) {
            let whole = log(&all);
            let mut log = whole.clone();
            for through in [first.min(second), first.max(second)].map(|index| LogIndex(index).min(whole.last_index())) {
                log.compact(through);
                prop_assert_eq!(log.base(), whole.position(through).unwrap());
                for index in 0..25 {
                    let here = (through.0..).contains(&index);
                    let expected = whole.position(LogIndex(index)).filter(|_| here);
                    prop_assert_eq!(log.position(LogIndex(index)), expected);
                    prop_assert_eq!(log.entry(LogIndex(index)), whole.entry(LogIndex(index)).filter(|_| index > through.0));
                }
                let entries: Vec<Entry> = log.range(LogIndex(0), LogIndex(u64::MAX)).cloned().collect();
                prop_assert_eq!(&log, &Log::restore(log.base(), ClusterTime(0), entries));
            }
        }

        #[test]
        fn a_tail_is_as_long_as_its_bytes_allow(count in 0_u64..20, end in 0_u64..20, max_bytes in 0_usize..800) {
            let log = log(&alloc::vec![1; usize::try_from(count).unwrap()]);
            let end = LogIndex(end.min(count));
            let start = log.tail_start(end, max_bytes);
            let size = |from: LogIndex| log.range(from.next(), end).map(Entry::size_bytes).sum::<usize>();
            prop_assert!(start <= end && size(start) <= max_bytes);
            prop_assert!(start.0 == 0 || size(start.previous()) > max_bytes, "one more would not fit");
        }

        #[test]
        fn the_log_is_a_list_of_terms(steps in prop::collection::vec((any::<bool>(), 0_u64..3), 0..60)) {
            let mut log = Log::default();
            let mut twin: Vec<u64> = Vec::new();
            for (append, number) in steps {
                if append {
                    let term = twin.last().copied().unwrap_or(1) + number / 2;
                    twin.push(term);
                    log.append(entry(term, twin.len() as u64));
                } else if twin.len() as u64 > number {
                    twin.truncate(twin.len() - 1 - usize::try_from(number).unwrap());
                    log.truncate_from(LogIndex(twin.len() as u64 + 1));
                }
                prop_assert_eq!(&terms(&log), &twin);
                let entries = log.range(LogIndex(1), LogIndex(u64::MAX)).cloned().collect();
                let anew = Log::restore(LogPosition::ORIGIN, ClusterTime(0), entries);
                prop_assert_eq!(&log, &anew, "term starts and size follow the entries");
            }
        }

        #[test]
        fn a_batch_is_a_prefix_within_its_size_or_one_entry(count in 0_u64..20, from in 1_u64..22, max_bytes in 1_usize..400) {
            let log = log(&alloc::vec![1; usize::try_from(count).unwrap()]);
            let batch = log.batch_from(LogIndex(from), max_bytes);
            let size: usize = batch.iter().map(Entry::size_bytes).sum();
            prop_assert!(size <= max_bytes || batch.len() == 1);
            prop_assert_eq!(batch.is_empty(), from > count);
            for (index, entry) in (from..).zip(&batch) {
                prop_assert_eq!(entry.position.index, LogIndex(index));
            }
        }
    }
}
