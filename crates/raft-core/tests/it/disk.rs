//! A disk: what is on it, and what is still on its way there.

use std::collections::VecDeque;

use raft_core::{Configuration, Entry, HardState, LogIndex, LogPosition, Restored, Write, WriteNumber};

/// One server's disk. A restart finds what was persisted and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
    initial: Configuration,
    pending: VecDeque<Write>,
}

impl Disk {
    /// A new disk of a member of `initial`.
    pub(crate) fn new(initial: Configuration) -> Self {
        Self { initial, ..Self::default() }
    }

    /// Takes a write, to be persisted later.
    pub(crate) fn submit(&mut self, write: Write) {
        if let Some(before) = self.pending.back() {
            assert_eq!(write.number.0, before.number.0 + 1, "writes are numbered one after the other");
        }
        self.pending.push_back(write);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Persists the first `count` pending writes as one batch.
    ///
    /// Returns the number to confirm.
    pub(crate) fn persist(&mut self, count: usize) -> Option<WriteNumber> {
        let count = count.min(self.pending.len());
        let mut last = None;
        for write in self.pending.drain(..count).collect::<Vec<_>>() {
            last = Some(write.number);
            self.apply(write);
        }
        last
    }

    fn apply(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            assert!(self.position(from).is_some(), "truncation at {from}, past the end of what is on disk");
            self.entries.truncate(usize::try_from(from.0).unwrap() - 1);
        }
        for entry in write.entries {
            assert_eq!(entry.position.index.0, self.entries.len() as u64 + 1, "entries follow the end of the log");
            assert!(entry.position.term <= self.hard_state.term, "an entry of a term the disk does not know");
            self.entries.push(entry);
        }
    }

    /// Power is gone: what was on its way never arrived.
    pub(crate) fn crash(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn position(&self, index: LogIndex) -> Option<LogPosition> {
        if index.0 == 0 {
            return Some(LogPosition::ORIGIN);
        }
        self.entries.get(usize::try_from(index.0).unwrap() - 1).map(|entry| entry.position)
    }

    pub(crate) fn has(&self, position: LogPosition) -> bool {
        self.position(position.index) == Some(position)
    }

    pub(crate) fn restored(&self) -> Restored {
        Restored { hard_state: self.hard_state, initial: self.initial.clone(), entries: self.entries.clone() }
    }
}
