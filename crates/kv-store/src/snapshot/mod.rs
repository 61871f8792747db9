//! Snapshots (rule 9, §5): the whole state at one log index as a stream of bytes, taken in pieces while commands go on.
//!
//! Owns: what is in a snapshot, its layout, and what is refused on the way back. Does not own: when one is taken, where
//! its bytes lie, which terms and configuration go with it (whoever drives the machine).
//!
//! # Why the view stands still
//! A snapshot is that of one revision R, with a past since another one. As long as it is under way no version is taken
//! away, they are only added, and what is added has a revision above R: so the versions up to R are the same whenever they
//! are read, in whatever order the keys are walked, and it does not matter that a removed key has moved to another map since.
//! The walk goes by key, hence keys may come and go beside it. All that does change in place (sessions, leases, times,
//! hashes) is small and is captured when the snapshot begins. What is compacted meanwhile is forgotten to all readers at
//! once, but its memory is given back only afterwards: the cursor holds a view of the store.
//!
//! # The stream
//! It is a function of the state alone: two equal stores, and a store and the one restored from it, give the same bytes,
//! however they are cut. `layout` has the items one by one:
//!
//! | item | how many |
//! |---|---|
//! | head: version, index, time, revision, hash, limits, counts, the recent hashes | 1 |
//! | session, followed by its kept replies | as the head counts |
//! | lease | as the head counts |
//! | key, followed by its versions | as the head counts |
//! | checksum: XXH3-128 of all bytes before it | 1 |
//!
//! # What is believed
//! Nothing. Each item is checked against those before it when it comes, with no memory set aside on its word; at the
//! end the checksum must be that of the bytes, and the state hash, summed from the restored keys (rule 10), that of the head.

mod layout;
mod restore;
mod take;

use crate::limits::Limits;
use crate::types::{LeaseId, StateHash};

pub use restore::RestoringStore;
pub use take::SnapshotCursor;

/// The version this crate writes. It reads the ones before it, too.
pub const SNAPSHOT_VERSION: u8 = 2;

/// Why bytes are no snapshot of this store. After any of these the restoring is over: begin again with
/// [`RestoringStore::new`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A later version's, or no snapshot at all.
    #[error(
        "the snapshot has version {found}, this server reads versions up to {SNAPSHOT_VERSION}; upgrade this server, or take the \
         snapshot from one of its own version"
    )]
    UnknownVersion {
        /// The version.
        found: u8,
    },
    /// Its replies would differ from those of the other nodes.
    #[error("the snapshot was taken under {found:?}, this server has {ours:?}; give all nodes the same limits")]
    OtherLimits {
        /// Those of the snapshot.
        found: Limits,
        /// Those given to [`RestoringStore::new`].
        ours: Limits,
    },
    /// An item that no store can have written.
    #[error("the snapshot is damaged at byte {offset}: {what}; discard it and fetch it again, or from another node")]
    Damaged {
        /// Where the item begins.
        offset: u64,
        /// What is wrong with it.
        what: Damage,
    },
    /// Each item could be, but these are not the bytes that were written.
    #[error("the snapshot's checksum is not that of its bytes; discard it and fetch it again, or from another node")]
    WrongChecksum,
    /// The bytes are those that were written, but their keys do not add up: the state was damaged in memory before.
    #[error(
        "the snapshot's keys have state hash {recomputed}, it says {recorded}: the node that took it holds a damaged \
         state; discard it and take one from another node"
    )]
    WrongStateHash {
        /// The sum over the restored keys.
        recomputed: StateHash,
        /// The one in the head.
        recorded: StateHash,
    },
    /// There is more to come.
    #[error("the snapshot ends after {size_bytes} bytes, before its checksum; push the rest, or fetch it again")]
    Incomplete {
        /// What there is.
        size_bytes: u64,
    },
    /// Something follows the checksum.
    #[error("{size_bytes} bytes follow the snapshot's checksum; discard it and fetch it again, or from another node")]
    TrailingBytes {
        /// How much, in the piece that was pushed.
        size_bytes: usize,
    },
}

/// What is wrong with an item of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// None, more than are kept, or more than there were revisions; or the last one is not the state's.
    #[error("the {count} recent hashes do not lead up to the state's")]
    RecentHashes {
        /// How many it announces.
        count: u32,
    },
    /// More than the limits allow.
    #[error("it announces {count} sessions")]
    SessionCount {
        /// How many it announces.
        count: u64,
    },
    /// Clients come in order, each once.
    #[error("the clients of the sessions do not rise")]
    ClientOrder,
    /// Every session outlives its birth by the window (rule 8).
    #[error("a session ends before its window does")]
    SessionWindow,
    /// More than the limits allow.
    #[error("a session announces {count} kept replies")]
    ReplyCount {
        /// How many it announces.
        count: u64,
    },
    /// Longer than any reply.
    #[error("a kept reply has {size_bytes} bytes")]
    ReplySize {
        /// Its size.
        size_bytes: u32,
    },
    /// Cut short, or a variant this server does not know.
    #[error("a kept reply cannot be read ({0})")]
    Reply(postcard::Error),
    /// Sequences rise, none below the lowest unanswered one; and a reply has one encoding.
    #[error("the kept reply to request {sequence} is out of order or has a form of its own")]
    ReplyOrder {
        /// The request's sequence number.
        sequence: u64,
    },
    /// Empty, or over the limit.
    #[error("a key has {size_bytes} bytes")]
    KeySize {
        /// Its size.
        size_bytes: u16,
    },
    /// Keys come in order, each once.
    #[error("the keys do not rise")]
    KeyOrder,
    /// None, or more than there were revisions.
    #[error("a key announces {count} versions")]
    VersionCount {
        /// How many it announces.
        count: u64,
    },
    /// Neither a value nor a tombstone.
    #[error("a version is of the unknown kind {found}")]
    VersionKind {
        /// The kind.
        found: u8,
    },
    /// Over the limit.
    #[error("a value has {size_bytes} bytes")]
    ValueSize {
        /// Its size.
        size_bytes: u32,
    },
    /// Above the snapshot's revision, not above the version before, or not counting on from it.
    #[error("the version of revision {revision} does not follow from those before it")]
    VersionOrder {
        /// Its revision.
        revision: u64,
    },
    /// Each revision has changed a key.
    #[error("not every revision up to {revision} has a version")]
    MissingVersions {
        /// The snapshot's revision.
        revision: u64,
    },
    /// Above the snapshot's revision.
    #[error("the oldest revision, {oldest}, is still to come")]
    Oldest {
        /// It.
        oldest: u64,
    },
    /// Too many, or not rising.
    #[error("{count} marks of the time of revisions are too many, or do not rise")]
    Marks {
        /// How many it announces.
        count: u32,
    },
    /// More than the limits allow, or than were granted.
    #[error("it announces {count} leases")]
    LeaseCount {
        /// How many it announces.
        count: u64,
    },
    /// Ids rise and are not 0, and a lease is of one kind or the other.
    #[error("the lease {id:016x} is out of order or of an unknown kind")]
    Lease {
        /// Its id.
        id: u64,
    },
    /// A key goes with a lease that is not there.
    #[error("a key has the lease {id}, which is not there")]
    NoSuchLease {
        /// Its id.
        id: LeaseId,
    },
}
