//! The replicated key-value state machine: a function from log entries to a store and to replies.
//!
//! [`KvStore::apply`] takes one committed entry (its index, its stamp, its bytes) and gives the reply;
//! [`KvStore::query`] reads. Nothing else comes in: no clock, no randomness, no order of a hash map. Two stores that were
//! given the same entries are equal, and a store that is given its log again is the store it was.
//!
//! # An entry on its way
//! 1. **Envelope** (`envelope`, rule 7). The entry's bytes are read without copying. Bytes that are no envelope are
//!    refused, never a panic: all replicas hold them, and all must get past them.
//! 2. **Session** (`session`, rule 8, §6.3). Has this request been applied before? Then its reply is repeated. May it
//!    still be applied? Else it is refused, and the refusal says what that means for the client.
//! 3. **Command** (`execute`, `transaction`, `lease`). What it changes is one [`Revision`], however many keys that are; what
//!    changes nothing leaves the revision alone.
//! 4. **Store** (`store`, `history`, `changes`). Each key has a chain of versions, so that the past can be read, and
//!    each revision the keys it changed, so that it can be watched. Key and value are copied here, once.
//! 5. **Hash** (`hash`, rule 10). Each change moves the state hash, by which replicas are compared.
//! 6. **Reply** (`session` again). It is kept until the client says that it has arrived.
//!
//! # Time
//! The only time is the stamp of an entry: cluster time (rule 6), which moves with the log and stands still without a
//! leader. Deadlines, births, leases and expiry are all measured by it; thus all replicas forget the same session at
//! the same entry.
//!
//! # What the leader proposes
//! Some commands no client sends ([`ClusterCommand`]): the leader asks [`KvStore::upkeep`] what is due. They forget old
//! revisions (`compaction`), end leases (`lease`), and set the quota; all replicas do so at the same entry.
//!
//! # Snapshots
//! [`KvStore::begin_snapshot`] fixes the state at the index applied so far; [`KvStore::snapshot_chunk`] gives it away in
//! pieces while entries go on being applied; [`RestoringStore`] makes an equal store of them (`snapshot`, rule 9).
//!
//! # What is bounded
//! See `limits`: each bound with its reason and what happens there.
//!
//! # Formats
//! Commands, replies and [`api`] are postcard; the layouts of envelope and snapshot are fixed. Variants are only ever appended (rule 11);
//! `tests/it/golden` holds the bytes that every later version must read.
//!
//! # Caveats
//! - Memory of forgotten versions is given back with the commands that follow, and not while a snapshot is under way.
//! - The state hash covers keys, not sessions; a snapshot's checksum covers all of its bytes.

pub mod api;
mod changes;
mod command;
mod compaction;
mod envelope;
mod event;
mod execute;
mod hash;
mod history;
mod lease;
mod limits;
mod machine;
mod query;
mod reader;
mod session;
mod snapshot;
mod store;
mod transaction;
mod types;

pub use command::{ClusterCommand, Command, Effect, LeaseChoice, Limit, NotAnInteger, Outcome, Part, Refusal};
pub use envelope::{ENVELOPE_VERSION, Entry, Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, Principal, SessionHeader};
pub use event::Event;
pub use limits::{
    COMPACTED_KEYS_PER_COMMAND, DEFAULT_HISTORY_BYTES, DEFAULT_QUOTA_BYTES, EXPIRED_KEYS_PER_COMMAND,
    EXPIRIES_PER_COMMAND, HISTORY_KEPT_NS, KEPT_HASHES, Limits, MAX_AHEAD_NS, MAX_ANSWER_BYTES, MAX_KEPT_BYTES,
    MAX_KEY_BYTES, MAX_KEYS_LOOKED_AT, MAX_KEYS_PER_COMMAND, MAX_LEASES, MAX_PRINCIPAL_BYTES,
    MAX_TRANSACTION_OPERATIONS, MAX_TTL_MS, MAX_VALUE_BYTES, Policy, SESSION_WINDOW_NS, VERSION_OVERHEAD_BYTES,
};
pub use machine::KvStore;
pub use query::{Answer, Found, Item, LeaseInfo, Query, RevisionError};
pub use snapshot::{Damage, RestoringStore, SNAPSHOT_VERSION, SnapshotCursor, SnapshotError};
pub use transaction::{Comparison, Operation, OperationResult, Relation, Test, Transaction};
pub use types::{ClientId, LeaseId, Revision, Stamp, StateHash};

/// The README's example is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
