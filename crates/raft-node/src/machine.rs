//! The state machine that the log drives (§3.5) and snapshots hold (§5): the one trait an embedder writes.

use bytes::{Bytes, BytesMut};
use raft_core::{ClusterTime, LogIndex};

/// A deterministic state machine.
///
/// Every replica applies the same commands in the same order with the same stamps and must get the same state and the
/// same replies: no clock but the stamp, no randomness, no order of a hash map, nothing read from outside.
///
/// A machine that is small enough to be written out at once implements [`SmallMachine`] instead, and runs as
/// [`Small`].
pub trait StateMachine: Send + Sized + 'static {
    /// A snapshot being written out (§5): which state it is of, and how far it is.
    type Snapshot: Send;

    /// Applies the committed command at `index` and returns what its proposer is told.
    ///
    /// `stamp` is the cluster time of the entry; it never goes backwards. Indices rise, with gaps where the protocol
    /// itself wrote an entry. A command that makes no sense is refused in the reply, the same way on every replica; a
    /// panic here stops every replica, one after the other.
    fn apply(&mut self, index: LogIndex, stamp: ClusterTime, command: &Bytes) -> Bytes;

    /// How far the state has come: a number that [`StateMachine::apply`] never lowers and that is the same for the same
    /// commands, on every replica and after [`StateMachine::restore`]. A local read can ask for at least one
    /// ([`crate::Access::read_local`]), so that its client does not go back in time.
    fn revision(&self) -> u64;

    /// Begins a snapshot of the state as it is now. Later commands must not show in it. Takes a bounded time, however
    /// large the state: it holds up every other request.
    fn begin_snapshot(&mut self) -> Self::Snapshot;

    /// The next piece of `snapshot`, of about `budget_bytes`; `None` after the last. Called between commands, on the
    /// node's own thread: the work of one call must not grow with the size of the state.
    fn snapshot_chunk(&mut self, snapshot: &mut Self::Snapshot, budget_bytes: usize) -> Option<Bytes>;

    /// The machine that a snapshot holds: `chunks` are what [`StateMachine::snapshot_chunk`] gave, in order. Called on
    /// another thread than the node's, and may take its time.
    ///
    /// # Errors
    /// If the chunks are not what this version of the machine writes. The node cannot go on without its state, and
    /// stops.
    fn restore(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<Self, RestoreError>;
}

/// Why a snapshot cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RestoreError {
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// A state machine whose whole state is quickly written out as bytes; see [`Small`].
pub trait SmallMachine: Send + Sized + 'static {
    /// As [`StateMachine::apply`].
    fn apply(&mut self, index: LogIndex, stamp: ClusterTime, command: &Bytes) -> Bytes;

    /// As [`StateMachine::revision`].
    fn revision(&self) -> u64;

    /// The whole state.
    fn encode(&self) -> Bytes;

    /// The machine with this state.
    ///
    /// # Errors
    /// If `state` is not what [`SmallMachine::encode`] writes.
    fn decode(state: &[u8]) -> Result<Self, RestoreError>;
}

/// Runs a [`SmallMachine`]: a snapshot is its encoded state, taken in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Small<M>(pub M);

impl<M: SmallMachine> StateMachine for Small<M> {
    type Snapshot = Bytes;

    fn apply(&mut self, index: LogIndex, stamp: ClusterTime, command: &Bytes) -> Bytes {
        self.0.apply(index, stamp, command)
    }

    fn revision(&self) -> u64 {
        self.0.revision()
    }

    fn begin_snapshot(&mut self) -> Bytes {
        self.0.encode()
    }

    fn snapshot_chunk(&mut self, rest: &mut Bytes, budget_bytes: usize) -> Option<Bytes> {
        let chunk = rest.split_to(rest.len().min(budget_bytes.max(1)));
        (!chunk.is_empty()).then_some(chunk)
    }

    fn restore(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<Self, RestoreError> {
        let mut state = BytesMut::new();
        chunks.for_each(|chunk| state.extend_from_slice(&chunk));
        M::decode(&state).map(Self)
    }
}
