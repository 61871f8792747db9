//! Reads under way: waiting for the next batch, for a read index, or for the state machine to reach it (§6.4); and local
//! reads that wait for the state machine alone.

use std::collections::BTreeMap;

use raft_core::{Instant, LogIndex, ReadId};

/// How many reads may be under way at most; more are refused as `Overloaded`.
pub(crate) const MAX_READS_UNDER_WAY: usize = 65_536;

/// One read: who waits, and until when.
#[derive(Debug)]
struct WaitingRead<W> {
    waiter: W,
    deadline: Instant,
}

/// All reads this server answers for. Reads that come while others are handled share one question to the protocol.
#[derive(Debug)]
pub(crate) struct Reads<W> {
    waiting: Vec<WaitingRead<W>>,
    asked: BTreeMap<ReadId, Vec<WaitingRead<W>>>,
    /// Those with an index that is not applied yet.
    indexed: BTreeMap<LogIndex, Vec<WaitingRead<W>>>,
    /// Local ones, by the revision that their client has seen and this server has not reached.
    behind: BTreeMap<u64, Vec<WaitingRead<W>>>,
    last_id: u64,
    count: usize,
}

impl<W> Default for Reads<W> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            asked: BTreeMap::new(),
            indexed: BTreeMap::new(),
            behind: BTreeMap::new(),
            last_id: 0,
            count: 0,
        }
    }
}

impl<W> Reads<W> {
    /// How many reads are under way.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Takes a read for the next batch, or gives it back if there are too many.
    pub(crate) fn admit(&mut self, waiter: W, deadline: Instant) -> Result<(), W> {
        if self.count >= MAX_READS_UNDER_WAY {
            return Err(waiter);
        }
        self.count += 1;
        self.waiting.push(WaitingRead { waiter, deadline });
        Ok(())
    }

    /// Takes a local read that waits for `revision`, or gives it back if there are too many.
    pub(crate) fn admit_local(&mut self, waiter: W, revision: u64, deadline: Instant) -> Result<(), W> {
        if self.count >= MAX_READS_UNDER_WAY {
            return Err(waiter);
        }
        self.count += 1;
        self.behind.entry(revision).or_default().push(WaitingRead { waiter, deadline });
        Ok(())
    }

    /// Makes one question of what is waiting.
    pub(crate) fn ask(&mut self) -> Option<ReadId> {
        if self.waiting.is_empty() {
            return None;
        }
        self.last_id += 1;
        let id = ReadId(self.last_id);
        self.asked.insert(id, std::mem::take(&mut self.waiting));
        Some(id)
    }

    /// The protocol gave a read index.
    pub(crate) fn note_index(&mut self, id: ReadId, index: LogIndex) {
        if let Some(reads) = self.asked.remove(&id) {
            self.indexed.entry(index).or_default().extend(reads);
        }
    }

    /// The protocol gave none, but is asked again with the next batch.
    pub(crate) fn ask_again(&mut self, id: ReadId) {
        self.waiting.extend(self.asked.remove(&id).unwrap_or_default());
    }

    /// The protocol gave none.
    pub(crate) fn take_failed(&mut self, id: ReadId) -> Vec<W> {
        let reads = self.asked.remove(&id).unwrap_or_default();
        self.leave(reads)
    }

    /// Those that may be answered now that `applied` is applied.
    pub(crate) fn take_ready(&mut self, applied: LogIndex) -> Vec<W> {
        let later = self.indexed.split_off(&applied.next());
        let ready = std::mem::replace(&mut self.indexed, later);
        self.leave(ready.into_values().flatten().collect())
    }

    /// The local ones that may be answered now that the state machine has reached `revision`.
    pub(crate) fn take_reached(&mut self, revision: u64) -> Vec<W> {
        let mut reached = Vec::new();
        while let Some(first) = self.behind.first_entry().filter(|first| *first.key() <= revision) {
            reached.extend(first.remove());
        }
        self.leave(reached)
    }

    /// Those that were not answered by their deadline.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Vec<W> {
        let mut overdue = Vec::new();
        let waiting = std::iter::once(&mut self.waiting);
        let waiting = waiting.chain(self.asked.values_mut()).chain(self.indexed.values_mut());
        for reads in waiting.chain(self.behind.values_mut()) {
            overdue.extend(reads.extract_if(.., |read| read.deadline <= now));
        }
        self.asked.retain(|_, reads| !reads.is_empty());
        self.indexed.retain(|_, reads| !reads.is_empty());
        self.behind.retain(|_, reads| !reads.is_empty());
        self.leave(overdue)
    }

    /// All of them.
    pub(crate) fn take_all(&mut self) -> Vec<W> {
        let mut reads = std::mem::take(&mut self.waiting);
        reads.extend(std::mem::take(&mut self.asked).into_values().flatten());
        reads.extend(std::mem::take(&mut self.indexed).into_values().flatten());
        reads.extend(std::mem::take(&mut self.behind).into_values().flatten());
        self.leave(reads)
    }

    fn leave(&mut self, reads: Vec<WaitingRead<W>>) -> Vec<W> {
        self.count -= reads.len();
        reads.into_iter().map(|read| read.waiter).collect()
    }
}
