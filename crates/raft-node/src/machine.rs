//! The state machine that the log drives (§3.5): the one trait an embedder writes.

use bytes::Bytes;
use raft_core::{ClusterTime, LogIndex};

/// A deterministic state machine.
///
/// Every replica applies the same commands in the same order with the same stamps and must get the same state and the
/// same replies: no clock but the stamp, no randomness, no order of a hash map, nothing read from outside.
pub trait StateMachine: Send + 'static {
    /// Applies the committed command at `index` and returns what its proposer is told.
    ///
    /// `stamp` is the cluster time of the entry; it never goes backwards. Indices rise, with gaps where the protocol
    /// itself wrote an entry. A command that makes no sense is refused in the reply, the same way on every replica; a
    /// panic here stops every replica, one after the other.
    fn apply(&mut self, index: LogIndex, stamp: ClusterTime, command: &Bytes) -> Bytes;
}
