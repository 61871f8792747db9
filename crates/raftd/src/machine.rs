//! The key-value store as the state machine of a node: where `kv-store` and `raft-node`, which know nothing of each
//! other, meet.

use bytes::Bytes;
use kv_store::{KvStore, Limits, Outcome, Refusal, RestoringStore, SnapshotCursor, SnapshotError, Stamp};
use raft_core::{ClusterTime, LogIndex};
use raft_node::{RestoreError, StateMachine};

/// A [`KvStore`] driven by the log.
#[derive(Debug)]
pub struct KvMachine {
    store: KvStore,
}

impl KvMachine {
    /// An empty store with the limits that all nodes share.
    #[must_use]
    pub fn new() -> Self {
        Self { store: KvStore::new(Limits::default()) }
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &KvStore {
        &self.store
    }

    /// The store, without the machine around it.
    #[must_use]
    pub fn into_store(self) -> KvStore {
        self.store
    }
}

impl Default for KvMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl StateMachine for KvMachine {
    type Snapshot = SnapshotCursor;

    fn apply(&mut self, index: LogIndex, stamp: ClusterTime, command: &Bytes) -> Bytes {
        let reply = self.store.apply(index.0, Stamp(stamp.0), command);
        postcard::to_allocvec(&reply).expect("encoding into memory that grows cannot fail").into()
    }

    fn revision(&self) -> u64 {
        self.store.revision().0
    }

    fn begin_snapshot(&mut self) -> SnapshotCursor {
        self.store.begin_snapshot()
    }

    fn snapshot_chunk(&mut self, cursor: &mut SnapshotCursor, budget_bytes: usize) -> Option<Bytes> {
        self.store.snapshot_chunk(cursor, budget_bytes)
    }

    fn restore(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<Self, RestoreError> {
        let refused = |error: SnapshotError| RestoreError { reason: error.to_string() };
        let mut restoring = RestoringStore::new(Limits::default());
        for chunk in chunks {
            restoring.push(&chunk).map_err(refused)?;
        }
        Ok(Self { store: restoring.finish().map_err(refused)? })
    }
}

/// Reads a reply that [`KvMachine::apply`] wrote, here or on another node. `None` if it is of a version this node does
/// not know.
pub(crate) fn decode_reply(reply: &[u8]) -> Option<Result<Outcome, Refusal>> {
    postcard::from_bytes(reply).ok()
}
