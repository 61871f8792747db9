//! State Machine Safety (Figure 3.2), and committed stays committed: all servers commit the same entries in the same
//! places, for ever.
//!
//! The ledger is the one committed log of the run: whoever commits an index first writes it down, everybody else is
//! compared. A reference store applies it, so that answers to clients and the state of each server can be compared at
//! any index and revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_store::{
    ClientId, ClusterCommand, Command, Entry, Item, KvStore, Limits, Operation, Outcome, Refusal, Revision, Stamp,
    StateHash,
};
use raft_core::{LogIndex, LogPosition, Payload, Term};

use super::leases::Leases;

use super::{Turn, Verdict};
use crate::coverage::{Count, Coverage};

/// A write, named by its session and sequence.
pub(crate) type WriteId = (ClientId, u64);

/// The committed log of a run, and what it does.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: Vec<raft_core::Entry>,
    /// In which term each was committed, at the latest.
    committed_in: Vec<Term>,
    /// How far each server has been compared.
    compared: Vec<LogIndex>,
    /// Applies all of it, and forgets nothing.
    reference: KvStore,
    /// Applies all of it as servers do: forgets what is compacted.
    replica: KvStore,
    /// What each entry leaves every server with.
    marks: Vec<Mark>,
    leases: Leases,
    /// What became of each write: its reply where it was applied, and how often it stands in the log.
    writes: BTreeMap<WriteId, Fate>,
    keys: BTreeSet<Bytes>,
}

/// What every server has in common that has applied the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) hash: StateHash,
    pub(crate) oldest: Revision,
    pub(crate) history_bytes: u64,
    pub(crate) live_bytes: u64,
}

impl Mark {
    /// Of a store.
    pub(crate) fn of(store: &KvStore) -> Self {
        Self {
            hash: store.state_hash(),
            oldest: store.oldest_revision(),
            history_bytes: store.history_bytes(),
            live_bytes: store.live_bytes(),
        }
    }
}

/// What became of a write.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    /// How it was applied; `None`: only refused so far.
    pub(crate) applied: Option<Outcome>,
    /// Whether the command itself was at fault, which is a reply like any other.
    pub(crate) refused: Option<Refusal>,
    times: u64,
}

impl Ledger {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            entries: Vec::new(),
            committed_in: Vec::new(),
            compared: vec![LogIndex(0); nodes],
            reference: KvStore::new(Limits::default()),
            replica: KvStore::new(Limits::default()),
            marks: Vec::new(),
            leases: Leases::default(),
            writes: BTreeMap::new(),
            keys: BTreeSet::new(),
        }
    }

    /// A restarted server is compared from the beginning again.
    pub(crate) fn forget(&mut self, node: usize) {
        if let Some(compared) = self.compared.get_mut(node) {
            *compared = LogIndex(0);
        }
    }

    /// All of them, in order.
    pub(crate) fn entries(&self) -> &[raft_core::Entry] {
        &self.entries
    }

    /// How many entries are committed.
    pub(crate) const fn length(&self) -> usize {
        self.entries.len()
    }

    /// The last committed entry.
    pub(crate) fn last(&self) -> Option<&raft_core::Entry> {
        self.entries.last()
    }

    /// The last entry that was committed in a term before `term`. What counts is when it was committed: an entry of an
    /// earlier term may be committed by a later leader.
    pub(crate) fn last_committed_before(&self, term: Term) -> Option<LogPosition> {
        let until = self.committed_in.partition_point(|&committed| committed < term);
        until.checked_sub(1).and_then(|last| self.entries.get(last)).map(|entry| entry.position)
    }

    /// What a server is left with after entry `index`.
    pub(crate) fn mark(&self, index: LogIndex) -> Option<Mark> {
        let place = usize::try_from(index.0).ok()?.checked_sub(1);
        place.map_or(Some(Mark::default()), |place| self.marks.get(place).copied())
    }

    /// The oldest revision that any server can read.
    pub(crate) fn oldest(&self) -> Revision {
        self.replica.oldest_revision()
    }

    /// What every server comes to be.
    pub(crate) const fn replica(&self) -> &KvStore {
        &self.replica
    }

    /// The reference.
    pub(crate) const fn reference(&self) -> &KvStore {
        &self.reference
    }

    /// What became of a write; `None`: it is not in the log.
    pub(crate) fn fate(&self, write: &WriteId) -> Option<&Fate> {
        self.writes.get(write)
    }

    /// The keys with `prefix` at `revision`, in order.
    pub(crate) fn scan(&self, prefix: &Bytes, revision: Revision) -> Vec<Item> {
        let from_prefix = self.keys.range(prefix.clone()..).take_while(|key| key.starts_with(prefix));
        from_prefix.filter_map(|key| self.reference.get_at(key, revision)).collect()
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>, coverage: &mut Coverage) -> Verdict {
        let Some(raft) = turn.raft() else { return Ok(()) };
        let commit = raft.commit_index();
        let Some(compared) = self.compared.get(turn.node).copied() else { return Ok(()) };
        let base = raft.log().base();
        if base.index > compared {
            self.check_covered(turn.node, base)?;
        }
        for index in compared.max(base.index).0 + 1..=commit.0 {
            let index = LogIndex(index);
            let entry = raft
                .log()
                .entry(index)
                .ok_or_else(|| format!("n{} commits {index} without having it", turn.node + 1))?;
            let place = usize::try_from(index.0 - 1).unwrap_or(usize::MAX);
            match self.entries.get(place) {
                Some(known) if known == entry => {}
                Some(known) => {
                    return Err(format!(
                        "n{} commits {}, but {} was committed there before",
                        turn.node + 1,
                        entry.position,
                        known.position
                    ));
                }
                None => self.append(entry, raft.term(), coverage)?,
            }
        }
        if let Some(compared) = self.compared.get_mut(turn.node) {
            *compared = commit.max(*compared);
        }
        Ok(())
    }

    /// What a snapshot stands for must have been committed, as it says. (What it holds, `state_hash` compares.)
    fn check_covered(&self, node: usize, base: LogPosition) -> Verdict {
        let place = usize::try_from(base.index.0 - 1).unwrap_or(usize::MAX);
        match self.entries.get(place).map(|entry| entry.position) {
            Some(known) if known == base => Ok(()),
            known => Err(format!("n{} has a snapshot up to {base}, where {known:?} was committed", node + 1)),
        }
    }

    fn append(&mut self, entry: &raft_core::Entry, term: Term, coverage: &mut Coverage) -> Verdict {
        if let Some(last) = self.entries.last()
            && (entry.stamp < last.stamp || entry.position.term < last.position.term)
        {
            return Err(format!("entry {} has an earlier stamp or term than the one before it", entry.position));
        }
        self.entries.push(entry.clone());
        let before = self.committed_in.last().copied().unwrap_or(Term(0));
        self.committed_in.push(before.max(term));
        if let Payload::Command(command) = &entry.payload {
            self.apply(entry, command, coverage)?;
        }
        self.marks.push(Mark::of(&self.replica));
        Ok(())
    }

    fn apply(&mut self, entry: &raft_core::Entry, command: &Bytes, coverage: &mut Coverage) -> Verdict {
        let before = self.reference.revision();
        let (index, stamp) = (entry.position.index.0, Stamp(entry.stamp.0));
        let decoded =
            Entry::decode(command).map_err(|error| format!("entry {} is no command: {error}", entry.position))?;
        let as_server = self.replica.apply(index, stamp, command);
        if matches!(decoded, Entry::Cluster(ClusterCommand::Compact { .. })) {
            coverage.count(Count::Compacted);
            return Ok(());
        }
        let reply = self.reference.apply(index, stamp, command);
        if reply != as_server {
            return Err(format!("entry {}: compaction has changed the reply to {as_server:?}", entry.position));
        }
        let has_changed = self.reference.revision() != before;
        self.leases.applied(&decoded, stamp, has_changed, &self.reference, coverage)?;
        let Entry::Client(envelope) = decoded else { return Ok(()) };
        self.note_keys(&envelope.command);
        let id = (envelope.session.client, envelope.session.sequence);
        let fate = self.writes.entry(id).or_insert(Fate { applied: None, refused: None, times: 0 });
        fate.times += 1;
        let was_applied = fate.applied.is_some() || fate.refused.is_some();
        if was_applied && self.reference.revision() != before {
            return Err(format!("write {} of {:x} changed the store again at {}", id.1, id.0.0, entry.position));
        }
        match reply {
            Ok(outcome) => {
                if was_applied {
                    coverage.count(Count::DedupHit);
                }
                fate.applied.get_or_insert(outcome);
            }
            Err(Refusal::AlreadyAnswered { .. }) => coverage.count(Count::AlreadyAnswered),
            Err(Refusal::DeadlinePassed) => coverage.count(Count::DeadlinePassed),
            Err(
                refusal @ (Refusal::WrongType(_)
                | Refusal::TooLarge { .. }
                | Refusal::EmptyKey
                | Refusal::NoSpace { .. }),
            ) => {
                fate.refused.get_or_insert(refusal);
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn note_keys(&mut self, command: &Command) {
        match command {
            Command::Set { key, .. }
            | Command::SetLeased { key, .. }
            | Command::Delete { key }
            | Command::CompareAndSwap { key, .. }
            | Command::Increment { key, .. } => self.note_key(key),
            Command::Transact(transaction) => {
                for operation in transaction.then.iter().chain(&transaction.otherwise) {
                    if let Operation::Set { key, .. } = operation {
                        self.note_key(key);
                    }
                }
            }
            Command::DeletePrefix { .. }
            | Command::GrantLease { .. }
            | Command::KeepAlive { .. }
            | Command::RevokeLease { .. } => {}
        }
    }

    fn note_key(&mut self, key: &Bytes) {
        if !self.keys.contains(key) {
            self.keys.insert(Bytes::copy_from_slice(key));
        }
    }
}
