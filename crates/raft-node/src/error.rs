//! Why a node does not start, and why it stops.

use std::io;

use raft_storage::{OpenError, WriteError};

use crate::snapshots::RestoreFailure;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be opened.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The settings contradict each other, or the disk holds what cannot be a server's state.
    #[error(transparent)]
    Protocol(#[from] raft_core::StartError),
    /// The data directory is new and nobody said which cluster to form.
    #[error(
        "the data directory is empty and no cluster is given; say --cluster ID=HOST:PORT,.. to form one, or --join HOST:PORT to enter one"
    )]
    NoCluster,
    /// This node is not among the members to form a cluster.
    #[error("node {id} is not in the list of members to form a cluster; add it, or change --id")]
    NotInCluster {
        /// This node.
        id: u64,
    },
    /// The directory holds terms or entries of a cluster, but not which cluster that is. To form one anew would let this
    /// server vote twice.
    #[error(
        "the data directory holds a log, but its file `formation` is missing or was never completed; put the \
         missing file back from where the directory was copied; an empty directory would not be this member"
    )]
    FormationLost,
    /// The latest snapshot cannot be restored.
    #[error("{0}; put the data directory back from a copy, or remove the node and add it again with an empty one")]
    Restore(#[from] RestoreFailure),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another server running there?")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The operating system gives no thread, socket or random number.
    #[error("cannot start: {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Why a running node stopped by itself. It acknowledges nothing after this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The disk failed. Nothing is retried: after a failed `fsync` nobody knows what is on it (rule 1).
    #[error("the disk failed: {0}; check it, then start the node again")]
    Disk(#[from] WriteError),
    /// A leader's snapshot was stored, but cannot be restored: there is no state to go on with.
    #[error("{0}; start the node again; if it does not start, remove it and add it again with an empty directory")]
    Restore(#[from] RestoreFailure),
    /// The node's thread ended by a panic: a bug, reported on standard error.
    #[error("the node ended by a bug; its last lines say which. Start it again")]
    Panicked,
}
