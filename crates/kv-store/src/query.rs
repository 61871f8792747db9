//! Reads of the store and their answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{LeaseId, Revision};

/// A read, of the present state or as of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// One key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Keys that begin with `prefix`, in key order.
    Scan {
        /// What the keys begin with; empty for all.
        prefix: Bytes,
        /// Begin at this key (inclusive) instead of the first.
        from: Option<Bytes>,
        /// At most so many; also cut at 1 MiB of keys and values (rule 13).
        limit: u32,
        /// Leave the values out.
        keys_only: bool,
    },
    /// Leases that were granted on their own, by id.
    Leases {
        /// Begin at this one (inclusive) instead of the first.
        from: Option<LeaseId>,
    },
}

/// What a read found, with the revision it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The store's revision at the read; of a read as of a revision, that one.
    pub revision: Revision,
    /// What was found.
    pub found: Found,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// Of [`Query::Get`].
    Value(Option<Item>),
    /// Of [`Query::Scan`].
    Items {
        /// The keys, in order.
        items: Vec<Item>,
        /// Where the next page begins, if there is one.
        next: Option<Bytes>,
    },
    /// Of [`Query::Leases`].
    Leases {
        /// The leases, by id.
        leases: Vec<LeaseInfo>,
        /// Where the next page begins, if there is one.
        next: Option<LeaseId>,
    },
}

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// Its id.
    pub id: LeaseId,
    /// How long it lives when it is kept alive, in milliseconds.
    pub ttl_ms: u64,
    /// How long it has left, in milliseconds of cluster time since the latest command.
    pub left_ms: u64,
    /// How many keys go with it.
    pub keys: u64,
}

/// One key with its value and metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    /// Its value; empty where the query left values out.
    pub value: Bytes,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// The revision that last changed it.
    pub mod_revision: Revision,
    /// How often it was written since it was created, from 1.
    pub version: u64,
}

/// Why there is no answer as of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// It is still to come.
    #[error("revision {asked} is not reached yet, the store is at {current}")]
    NotReached {
        /// What was asked for.
        asked: Revision,
        /// The revision of the latest change.
        current: Revision,
    },
    /// It is forgotten (rule 9).
    #[error("revision {asked} is compacted, the oldest that can be read is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest revision that can be read.
        oldest: Revision,
    },
}
