//! The state machine: entries of the log in, replies out.

use std::num::NonZeroU64;

use bytes::Bytes;

use crate::command::{ClusterCommand, Outcome, Refusal};
use crate::compaction::{self, Timeline};
use crate::envelope::{Entry, Envelope};
use crate::event::{self, Event};
use crate::execute::{execute, execute_for_cluster};
use crate::limits::{Limits, MAX_KEYS_LOOKED_AT, MAX_KEYS_PER_COMMAND, Policy, SWEPT_KEYS_PER_COMMAND};
use crate::query::{Answer, Found, Item, LeaseInfo, Query, RevisionError};
use crate::session::{Admission, Sessions};
use crate::snapshot::SnapshotCursor;
use crate::store::Store;
use crate::types::{LeaseId, Revision, Stamp, StateHash};

/// The replicated key-value store. Its state is a function of its [`Limits`] and the entries applied, in order; two
/// stores that applied the same are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvStore {
    store: Store,
    sessions: Sessions,
    timeline: Timeline,
    applied_index: u64,
    latest_stamp: Stamp,
}

/// The parts of a machine that a snapshot holds.
pub(crate) struct Restored {
    pub(crate) store: Store,
    pub(crate) sessions: Sessions,
    pub(crate) timeline: Timeline,
    pub(crate) applied_index: u64,
    pub(crate) latest_stamp: Stamp,
}

impl Default for KvStore {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl KvStore {
    /// An empty store. All nodes of a cluster must give the same limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            store: Store::default(),
            sessions: Sessions::new(limits),
            timeline: Timeline::default(),
            applied_index: 0,
            latest_stamp: Stamp::default(),
        }
    }

    /// The machine a snapshot holds.
    pub(crate) fn restored(restored: Restored) -> Self {
        let Restored { store, sessions, timeline, applied_index, latest_stamp } = restored;
        Self { store, sessions, timeline, applied_index, latest_stamp }
    }

    /// Applies the entry at log index `index`, or repeats the reply it had when it was applied before (rule 8).
    ///
    /// # Errors
    /// A [`Refusal`], the same on every replica. Those that the command itself earned (a wrong type, a key too large)
    /// are kept and repeated to a retry like any other reply. Those that were decided before the command was looked at
    /// (expired, answered, late, overloaded, unreadable) are not.
    ///
    /// # Panics
    /// If `index` does not rise. It may skip: the protocol has entries of its own.
    pub fn apply(&mut self, index: u64, stamp: Stamp, envelope: &Bytes) -> Result<Outcome, Refusal> {
        assert!(index > self.applied_index, "entry {index} is applied after entry {}", self.applied_index);
        self.applied_index = index;
        // Stamps never fall (rule 6). Should a leader ever break this, all replicas go on alike with the higher one.
        self.latest_stamp = self.latest_stamp.max(stamp);
        self.sessions.expire(self.latest_stamp);

        let before = self.store.revision();
        let reply = match Entry::decode(envelope) {
            Ok(Entry::Client(envelope)) => self.apply_of_client(envelope),
            Ok(Entry::Cluster(command)) => Ok(execute_for_cluster(&mut self.store, &command, self.latest_stamp)),
            Err(_) => Err(Refusal::Unreadable),
        };
        if self.store.revision() > before {
            self.timeline.note(self.latest_stamp, self.store.revision());
        }
        self.store.sweep(SWEPT_KEYS_PER_COMMAND);
        reply
    }

    fn apply_of_client(&mut self, envelope: Envelope) -> Result<Outcome, Refusal> {
        let Envelope { session, principal: _, command } = envelope;
        match self.sessions.admit(&session, self.latest_stamp)? {
            Admission::Repeated(reply) => reply,
            Admission::Fresh => {
                let reply = execute(&mut self.store, &command, self.latest_stamp);
                self.sessions.keep(&session, &reply);
                reply
            }
        }
    }

    /// What the leader is to propose for the good of the cluster ([`ClusterCommand::encode`]), now that it is `now`: nothing,
    /// mostly. To be asked again once that was applied, and from time to time.
    pub fn upkeep(&self, now: Stamp, policy: &Policy) -> Option<ClusterCommand> {
        if self.store.quota_bytes() != policy.quota_bytes {
            return Some(ClusterCommand::SetQuota { quota_bytes: policy.quota_bytes });
        }
        if self.store.leases().first_end().is_some_and(|(ends, _)| ends <= now) {
            return Some(ClusterCommand::Expire);
        }
        compaction::due(&self.store, &self.timeline, now, policy.history_bytes)
    }

    /// Begins a snapshot of the state as it is (rule 9), whatever is applied afterwards. Sessions, times and hashes are
    /// captured now, in time in proportion to the session table, which is bounded; the keys come piece by piece.
    pub fn begin_snapshot(&self) -> SnapshotCursor {
        SnapshotCursor::begin(&self.store, &self.sessions, &self.timeline, self.applied_index, self.latest_stamp)
    }

    /// The next piece of a snapshot, or `None` when all were given. A piece ends once it has `budget_bytes` or more, so
    /// it exceeds them by less than one key or version; with a budget of 0, it is one of these. It may be empty: to pass
    /// over keys that are younger than the snapshot costs budget too.
    ///
    /// Takes time in proportion to the budget, and to the logarithm of the store. The pieces are one stream: their borders
    /// mean nothing, and their bytes do not depend on what was applied meanwhile.
    ///
    /// # Panics
    /// If the cursor was begun by another machine whose keys are not here.
    pub fn snapshot_chunk(&self, cursor: &mut SnapshotCursor, budget_bytes: usize) -> Option<Bytes> {
        cursor.next_piece(&self.store, budget_bytes)
    }

    /// Reads the present state.
    pub fn query(&self, query: &Query) -> Answer {
        let found = match query {
            Query::Get { key } => Found::Value(self.store.item(key)),
            Query::Scan { prefix, from, limit, keys_only } => {
                self.store.page(prefix, from.as_ref().unwrap_or(prefix), scan_limit(*limit), *keys_only)
            }
            Query::Leases { from } => self.leases(*from),
        };
        Answer { revision: self.store.revision(), found }
    }

    /// Reads the state as it was at `revision`. The answer never changes: pages read as of one revision are one view.
    ///
    /// A page may have fewer keys than `limit`, even none, and still say where the next one begins
    /// ([`crate::MAX_KEYS_LOOKED_AT`]).
    ///
    /// # Errors
    /// For a revision that is still to come, and for one that is compacted.
    pub fn query_at(&self, query: &Query, revision: Revision) -> Result<Answer, RevisionError> {
        let (oldest, current) = (self.store.oldest(), self.store.revision());
        if revision > current {
            return Err(RevisionError::NotReached { asked: revision, current });
        }
        if revision < oldest {
            return Err(RevisionError::Compacted { asked: revision, oldest });
        }
        let found = match query {
            Query::Get { key } => Found::Value(self.store.item_at(key, revision)),
            Query::Scan { prefix, from, limit, keys_only } => {
                let from = from.as_ref().unwrap_or(prefix);
                self.store.page_at(prefix, from, scan_limit(*limit), *keys_only, revision)
            }
            // Leases have no past.
            Query::Leases { from } => self.leases(*from),
        };
        Ok(Answer { revision, found })
    }

    /// A page of the leases that were granted on their own, with what is left of them. It looks at no more than
    /// [`crate::MAX_KEYS_LOOKED_AT`].
    fn leases(&self, from: Option<LeaseId>) -> Found {
        let mut leases = Vec::new();
        for (looked_at, (id, lease)) in self.store.leases().from(from.unwrap_or(LeaseId(NonZeroU64::MIN))).enumerate() {
            if looked_at == MAX_KEYS_LOOKED_AT || leases.len() == MAX_KEYS_PER_COMMAND {
                return Found::Leases { leases, next: Some(id) };
            }
            if !lease.is_of_key {
                let left_ms = lease.ends.0.saturating_sub(self.latest_stamp.0) / 1_000_000;
                leases.push(LeaseInfo { id, ttl_ms: lease.ttl_ns / 1_000_000, left_ms, keys: lease.keys.len() as u64 });
            }
        }
        Found::Leases { leases, next: None }
    }

    /// One key as it was at `revision`; as it is, for a revision not reached yet. `None` too if the revision is compacted.
    pub fn get_at(&self, key: &[u8], revision: Revision) -> Option<Item> {
        (revision >= self.store.oldest()).then(|| self.store.item_at(key, revision))?
    }

    /// What `revision` changed: its events in key order, the last one marked. Nothing if it is compacted or not reached.
    pub fn events(&self, revision: Revision) -> impl ExactSizeIterator<Item = Event<'_>> {
        event::of(&self.store, revision)
    }

    /// The oldest revision that can be read, or watched from.
    pub fn oldest_revision(&self) -> Revision {
        self.store.oldest()
    }

    /// What the history since [`Self::oldest_revision`] costs: for each change of a key, the key, the value it replaced and
    /// [`crate::VERSION_OVERHEAD_BYTES`]. The same on every replica.
    pub fn history_bytes(&self) -> u64 {
        self.store.history_bytes()
    }

    /// What the keys there are cost: each one, its value, and [`crate::VERSION_OVERHEAD_BYTES`]. The same on every replica.
    pub fn live_bytes(&self) -> u64 {
        self.store.live_bytes()
    }

    /// The revision of the latest change.
    pub fn revision(&self) -> Revision {
        self.store.revision()
    }

    /// The hash of the present state (rule 10).
    pub fn state_hash(&self) -> StateHash {
        self.store.hash()
    }

    /// The hash of the state at `revision`: one of the latest [`crate::KEPT_HASHES`], else `None`.
    pub fn hash_at(&self, revision: Revision) -> Option<StateHash> {
        self.store.hash_at(revision)
    }

    /// The hash of the present state from nothing but the keys: equal to [`Self::state_hash`], or memory or code is at
    /// fault. Takes time in proportion to the whole state.
    pub fn recompute_hash(&self) -> StateHash {
        self.store.recompute_hash()
    }

    /// The index of the latest entry applied; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The highest stamp applied: the cluster time of this state.
    pub fn latest_stamp(&self) -> Stamp {
        self.latest_stamp
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.store.len()
    }
}

/// A limit that does not fit is above the one that holds anyway.
fn scan_limit(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
