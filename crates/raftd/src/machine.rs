//! The key-value store as the state machine of a node: where `kv-store` and `raft-node`, which know nothing of each
//! other, meet.

use bytes::Bytes;
use kv_store::{KvStore, Limits, Outcome, Refusal, Stamp};
use raft_core::{ClusterTime, LogIndex};
use raft_node::StateMachine;

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
}

impl Default for KvMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl StateMachine for KvMachine {
    fn apply(&mut self, index: LogIndex, stamp: ClusterTime, command: &Bytes) -> Bytes {
        let reply = self.store.apply(index.0, Stamp(stamp.0), command);
        postcard::to_allocvec(&reply).expect("encoding into memory that grows cannot fail").into()
    }
}

/// Reads a reply that [`KvMachine::apply`] wrote, here or on another node. `None` if it is of a version this node does
/// not know.
pub(crate) fn decode_reply(reply: &[u8]) -> Option<Result<Outcome, Refusal>> {
    postcard::from_bytes(reply).ok()
}
