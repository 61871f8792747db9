//! A disk: what is on it, and what is still on its way there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft_core::{
    Configuration, Entry, HardState, Input, LogIndex, LogPosition, Restored, Snapshot, Write, WriteNumber,
};

/// A chunk of a leader's snapshot on its way to the disk.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) last: LogPosition,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    pub(crate) done: bool,
    /// What the whole must turn out to be, if it is whole.
    pub(crate) whole: Option<(Snapshot, Bytes)>,
}

/// One server's disk. A restart finds what was persisted and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// Where the log begins.
    base: LogPosition,
    pub(crate) entries: Vec<Entry>,
    /// Snapshots and their data, by the last entry they cover.
    pub(crate) snapshots: BTreeMap<LogPosition, (Snapshot, Bytes)>,
    /// What is here of a leader's snapshot.
    partial: Vec<u8>,
    initial: Configuration,
    pending: VecDeque<Write>,
    chunks: VecDeque<Chunk>,
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
        self.pending.is_empty() && self.chunks.is_empty()
    }

    /// The bytes of the entries that wait to be persisted.
    pub(crate) fn unsynced_bytes(&self) -> usize {
        self.pending.iter().flat_map(|write| &write.entries).map(Entry::size_bytes).sum()
    }

    pub(crate) fn submit_chunk(&mut self, chunk: Chunk) {
        self.chunks.push_back(chunk);
    }

    /// Stores the oldest chunk that waits; after the last one checks the whole. Returns what to tell the server.
    pub(crate) fn store_chunk(&mut self) -> Option<Input> {
        let Chunk { last, offset, data, done, whole } = self.chunks.pop_front()?;
        if offset == 0 {
            self.partial.clear();
        }
        self.partial.truncate(usize::try_from(offset).unwrap());
        self.partial.extend_from_slice(&data);
        let stored = self.partial.len() as u64;
        assert!(stored <= offset + data.len() as u64);
        if !done {
            return Some(Input::ChunkStored { last, offset: stored });
        }
        let partial = Bytes::from(std::mem::take(&mut self.partial));
        match whole.filter(|(_, data)| *data == partial) {
            Some((snapshot, data)) => {
                self.snapshots.insert(last, (snapshot.clone(), data));
                Some(Input::SnapshotReceived(snapshot))
            }
            None => Some(Input::SnapshotRejected { last }),
        }
    }

    /// Forgets the log's entries up to `through`.
    pub(crate) fn compact(&mut self, through: LogIndex) {
        let base = self.position(through).expect("what is compacted is on disk");
        self.entries.retain(|entry| entry.position.index > through);
        self.base = base;
    }

    /// Removes the files of all snapshots but these.
    pub(crate) fn keep_snapshots(&mut self, in_use: &BTreeSet<LogPosition>) {
        self.snapshots.retain(|last, _| in_use.contains(last));
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Option<&(Snapshot, Bytes)> {
        self.snapshots.values().next_back()
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
        if let Some(base) = write.restart_after {
            assert!(self.snapshots.contains_key(&base), "the log is restarted after a snapshot that is not on disk");
            self.base = base;
            self.entries.clear();
        }
        if let Some(from) = write.truncate_from {
            assert!(from > self.base.index, "truncation at {from}, before the log's beginning {}", self.base);
            assert!(self.position(from).is_some(), "truncation at {from}, past the end of what is on disk");
            self.entries.retain(|entry| entry.position.index < from);
        }
        for entry in write.entries {
            assert_eq!(entry.position.index, self.last().index.next(), "entries follow the end of the log");
            assert!(entry.position.term <= self.hard_state.term, "an entry of a term the disk does not know");
            self.entries.push(entry);
        }
    }

    /// Power is gone: what was on its way never arrived.
    pub(crate) fn crash(&mut self) {
        self.pending.clear();
        self.chunks.clear();
        self.partial.clear();
    }

    fn last(&self) -> LogPosition {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    pub(crate) fn position(&self, index: LogIndex) -> Option<LogPosition> {
        if index == self.base.index {
            return Some(self.base);
        }
        let place = usize::try_from(index.0.checked_sub(self.base.index.0 + 1)?).unwrap();
        self.entries.get(place).map(|entry| entry.position)
    }

    /// Whether a restart would find this position, in the log or covered by a snapshot.
    pub(crate) fn has(&self, position: LogPosition) -> bool {
        let is_covered = self.snapshot().is_some_and(|(snapshot, _)| position.index <= snapshot.last.index);
        is_covered || position.index < self.base.index || self.position(position.index) == Some(position)
    }

    pub(crate) fn restored(&self) -> Restored {
        let snapshot = self.snapshot().map(|(snapshot, _)| snapshot.clone());
        let last = snapshot.as_ref().map_or(LogPosition::ORIGIN, |snapshot| snapshot.last);
        // A log that does not hold the snapshot's last entry is from before it (§5.1).
        let is_void = last.index < self.base.index || self.position(last.index) != Some(last);
        let (base, entries) = if is_void { (last, Vec::new()) } else { (self.base, self.entries.clone()) };
        Restored { hard_state: self.hard_state, initial: self.initial.clone(), snapshot, base, entries }
    }

    /// Makes what [`Disk::restored`] found the log, as the storage does before the server runs.
    pub(crate) fn recover(&mut self) {
        let Restored { base, entries, .. } = self.restored();
        (self.base, self.entries) = (base, entries);
    }
}
