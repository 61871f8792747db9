//! The replicated log (§3.5), in memory: what is on its way to disk, to the peers and to the state machine.
//!
//! Owns the Log Matching Property's local half: entries are consecutive and their terms never go backwards. Does not
//! know what is durable (`durability`) or committed (`shared`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::types::{ClusterTime, Entry, LogIndex, LogPosition, Term};

/// All entries from index 1 to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    entries: Vec<Entry>,
    /// The first index of each term: enough to find where two logs part without walking them.
    term_starts: BTreeMap<Term, LogIndex>,
}

impl Log {
    pub(crate) fn restore(entries: Vec<Entry>) -> Self {
        let mut term_starts = BTreeMap::new();
        for entry in &entries {
            term_starts.entry(entry.position.term).or_insert(entry.position.index);
        }
        Self { entries, term_starts }
    }

    /// Where the log ends; [`LogPosition::ORIGIN`] for the empty one.
    #[must_use]
    pub fn last_position(&self) -> LogPosition {
        self.entries.last().map_or(LogPosition::ORIGIN, |entry| entry.position)
    }

    /// The index of the last entry; 0 for the empty log.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.last_position().index
    }

    /// The stamp of the last entry: the latest cluster time this server knows.
    #[must_use]
    pub fn last_stamp(&self) -> ClusterTime {
        self.entries.last().map_or(ClusterTime::default(), |entry| entry.stamp)
    }

    /// The entry at `index`, if the log holds it.
    #[must_use]
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        let place = usize::try_from(index.0).ok()?.checked_sub(1)?;
        self.entries.get(place)
    }

    /// The entries from `from` to `to`, both included; as much of that as the log holds.
    pub fn range(&self, from: LogIndex, to: LogIndex) -> impl Iterator<Item = &Entry> {
        let place = |index: LogIndex| usize::try_from(index.0).unwrap_or(usize::MAX).min(self.entries.len());
        let first = place(from.previous());
        self.entries.get(first..place(to).max(first)).unwrap_or_default().iter()
    }

    /// The position at `index`; the origin for index 0, `None` past the end.
    #[must_use]
    pub fn position(&self, index: LogIndex) -> Option<LogPosition> {
        if index == LogPosition::ORIGIN.index {
            return Some(LogPosition::ORIGIN);
        }
        self.entry(index).map(|entry| entry.position)
    }

    /// Whether the log holds exactly this position (the consistency check of AppendEntries).
    pub(crate) fn has(&self, position: LogPosition) -> bool {
        self.position(position.index) == Some(position)
    }

    /// The last position that is beyond `limit` neither in index nor in term.
    ///
    /// Logs of two servers that part at `limit` can agree at this position or before it, never after: terms rise along
    /// both. The follower sends it as its hint, the leader applies it to the hint again, and together they skip a
    /// whole term of conflicting entries a round trip (§3.5, end).
    pub(crate) fn last_not_beyond(&self, limit: LogPosition) -> LogPosition {
        use core::ops::Bound::{Excluded, Unbounded};
        let first_of_later_term = self.term_starts.range((Excluded(limit.term), Unbounded)).next();
        let end = first_of_later_term.map_or_else(|| self.last_index(), |(_, start)| start.previous());
        self.position(end.min(limit.index)).expect("bounded by the last index")
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
        self.entries.push(entry);
    }

    /// Forgets the entry at `from` and all after it.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        let keep = usize::try_from(from.previous().0).expect("an index within the log");
        assert!(from.0 > 0 && keep < self.entries.len(), "truncation at {from} removes nothing");
        self.entries.truncate(keep);
        self.term_starts.retain(|_, start| *start < from);
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
        Log::restore((1..).zip(terms).map(|(index, &term)| entry(term, index)).collect())
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
        fn the_hint_is_what_a_walk_from_the_end_finds(terms in rising_terms(), term in 0_u64..12, index in 0_u64..25) {
            let log = log(&terms);
            let limit = LogPosition::new(Term(term), LogIndex(index));
            let walked = (0..=log.last_index().0)
                .rev()
                .filter_map(|index| log.position(LogIndex(index)))
                .find(|position| position.index <= limit.index && position.term <= limit.term);
            prop_assert_eq!(Some(log.last_not_beyond(limit)), walked);
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
                let terms: Vec<u64> = log.range(LogIndex(1), LogIndex(u64::MAX)).map(|entry| entry.position.term.0).collect();
                prop_assert_eq!(&terms, &twin);
                prop_assert_eq!(&log, &Log::restore(log.entries.clone()), "term starts follow the entries");
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
