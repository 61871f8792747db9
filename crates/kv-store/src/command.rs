//! Commands and their outcomes: what is written to the log, and what the store says about it.
//!
//! Both are wire and disk formats (rule 11): variants are only ever appended.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ANSWER_BYTES, MAX_TRANSACTION_OPERATIONS, MAX_TTL_MS};
use crate::transaction::{OperationResult, Transaction};
use crate::types::{LeaseId, Revision};

/// A change of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Gives `key` the value `value`: a change even if it has that value already.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// Only if the key does not exist.
        if_absent: bool,
    },
    /// Removes one key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes keys that begin with `prefix`, in key order, at most [`crate::MAX_KEYS_PER_COMMAND`] of them (rule 13);
    /// the caller repeats while the outcome says `more`.
    DeletePrefix {
        /// What the keys begin with.
        prefix: Bytes,
    },
    /// Gives `key` the value `new` if its value is `expected`.
    CompareAndSwap {
        /// The key.
        key: Bytes,
        /// The value it must have.
        expected: Bytes,
        /// The value it then gets.
        new: Bytes,
    },
    /// Adds to a decimal integer of 64 bits; a missing key counts as 0. The value must be text as an increment writes it:
    /// `0`, or an optional `-` and digits that do not begin with 0. So `+1`, `007`, `-0` and ` 1` are refused.
    Increment {
        /// The key.
        key: Bytes,
        /// What to add, negative to subtract.
        by: i64,
    },
    /// Compares, then does one thing or another, as one change.
    Transact(Transaction),
    /// [`Self::Set`], and the key goes with a lease.
    SetLeased {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// Only if the key does not exist.
        if_absent: bool,
        /// Which lease.
        lease: LeaseChoice,
    },
    /// Makes a lease.
    GrantLease {
        /// How long it lives unless it is kept alive, in milliseconds; 1 to [`MAX_TTL_MS`].
        ttl_ms: u64,
    },
    /// Lets a lease live its whole time again, from now on.
    KeepAlive {
        /// The lease.
        id: LeaseId,
    },
    /// Ends a lease: its keys go, at most [`crate::MAX_KEYS_PER_COMMAND`] of them (rule 13); the caller repeats while the
    /// outcome says `more`.
    RevokeLease {
        /// The lease.
        id: LeaseId,
    },
}

/// The lease that a key goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseChoice {
    /// One that was granted.
    Granted(LeaseId),
    /// One of its own, that ends by itself so many milliseconds from now; 1 to [`MAX_TTL_MS`].
    Own {
        /// How long it lives.
        ttl_ms: u64,
    },
}

/// A change that the cluster makes of itself: the leader proposes it, no client may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterCommand {
    /// Forgets the oldest changes: all before `aged`, and more while history costs more than `history_bytes`. At most
    /// [`crate::COMPACTED_KEYS_PER_COMMAND`] keys' or one revision's; the leader repeats.
    Compact {
        /// The oldest revision that is young enough.
        aged: Revision,
        /// What history may cost.
        history_bytes: u64,
    },
    /// Ends the leases that are due at its stamp, the longest due first, with at most
    /// [`crate::EXPIRED_KEYS_PER_COMMAND`] keys; the leader repeats.
    Expire,
    /// Sets what the keys may cost.
    SetQuota {
        /// As [`crate::KvStore::live_bytes`] counts; `None`: anything.
        quota_bytes: Option<u64>,
    },
}

/// [`Command`] over borrowed bytes: the same variants in the same order, hence the same encoding. Decoding it copies
/// nothing, but for a transaction's parts.
#[derive(Debug, Deserialize)]
pub(crate) enum BorrowedCommand<'a> {
    Set { key: &'a [u8], value: &'a [u8], if_absent: bool },
    Delete { key: &'a [u8] },
    DeletePrefix { prefix: &'a [u8] },
    CompareAndSwap { key: &'a [u8], expected: &'a [u8], new: &'a [u8] },
    Increment { key: &'a [u8], by: i64 },
    Transact(Transaction),
    SetLeased { key: &'a [u8], value: &'a [u8], if_absent: bool, lease: LeaseChoice },
    GrantLease { ttl_ms: u64 },
    KeepAlive { id: LeaseId },
    RevokeLease { id: LeaseId },
}

impl BorrowedCommand<'_> {
    /// The command, its parts sharing the memory of `bytes`.
    ///
    /// # Panics
    /// If it was not decoded from `bytes`.
    pub(crate) fn within(self, bytes: &Bytes) -> Command {
        let share = |part: &[u8]| bytes.slice_ref(part);
        match self {
            Self::Set { key, value, if_absent } => Command::Set { key: share(key), value: share(value), if_absent },
            Self::Delete { key } => Command::Delete { key: share(key) },
            Self::DeletePrefix { prefix } => Command::DeletePrefix { prefix: share(prefix) },
            Self::CompareAndSwap { key, expected, new } => {
                Command::CompareAndSwap { key: share(key), expected: share(expected), new: share(new) }
            }
            Self::Increment { key, by } => Command::Increment { key: share(key), by },
            Self::Transact(transaction) => Command::Transact(transaction),
            Self::SetLeased { key, value, if_absent, lease } => {
                Command::SetLeased { key: share(key), value: share(value), if_absent, lease }
            }
            Self::GrantLease { ttl_ms } => Command::GrantLease { ttl_ms },
            Self::KeepAlive { id } => Command::KeepAlive { id },
            Self::RevokeLease { id } => Command::RevokeLease { id },
        }
    }
}

/// What a command did, with the store's revision after it (changed or not).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The revision after the command; the current one if it changed nothing.
    pub revision: Revision,
    /// What it did.
    pub effect: Effect,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Of [`Command::Set`]: whether it was set (`false`: present already, with `if_absent`).
    Set {
        /// Whether the value is now the given one.
        set: bool,
    },
    /// Of [`Command::Delete`] and [`Command::DeletePrefix`].
    Deleted {
        /// How many keys are gone.
        keys: u64,
        /// Whether keys with the prefix are left.
        more: bool,
    },
    /// Of [`Command::CompareAndSwap`].
    Swapped {
        /// Whether the value was the expected one and is now the new one.
        swapped: bool,
    },
    /// Of [`Command::Increment`]: the new value.
    Incremented {
        /// The new value.
        value: i64,
    },
    /// Of [`Command::Transact`].
    Transacted {
        /// Whether all comparisons held.
        succeeded: bool,
        /// What the operations of the list that was done did, in order.
        results: Vec<OperationResult>,
    },
    /// Of a [`ClusterCommand`].
    Kept,
    /// Of [`Command::GrantLease`] and [`Command::KeepAlive`].
    Leased {
        /// The lease.
        id: LeaseId,
        /// How long it lives from now on, in milliseconds.
        ttl_ms: u64,
    },
    /// Of [`Command::RevokeLease`].
    Revoked {
        /// How many keys are gone.
        keys: u64,
        /// Whether keys are left, and the lease with them.
        more: bool,
    },
}

/// Why a command was refused: the same on every replica, and nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The session is unknown and older than the window: whether an earlier try was applied is forgotten (rule 8). Also
    /// for a birth no leader can have given ([`crate::MAX_AHEAD_NS`]), or one that is not that of the client's session.
    #[error("the session is forgotten; open a new one, and check whether the write was applied before repeating it")]
    SessionExpired,
    /// The client said it has this answer already; a late duplicate.
    #[error("request {sequence} of this session was answered before")]
    AlreadyAnswered {
        /// The request's sequence number.
        sequence: u64,
    },
    /// The request's deadline had passed in cluster time when it came to be applied. It was not and never will be applied.
    #[error("the request's deadline had passed before it could be applied")]
    DeadlinePassed,
    /// Too many live sessions, or too many kept replies in this one. This try was not applied; another one still may be.
    #[error("too many {what}; try again later")]
    Overloaded {
        /// What there is too much of.
        what: Limit,
    },
    /// The value is no decimal integer of 64 bits, or the sum is none.
    #[error("{0}")]
    WrongType(NotAnInteger),
    /// Key or value over the store's limit.
    #[error("{what} has {size_bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// The part that is too large.
        what: Part,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A key of no bytes.
    #[error("a key has at least one byte")]
    EmptyKey,
    /// Bytes that are no command of a version this server knows.
    #[error("the command is of a version or form this server does not know; upgrade the servers before the clients")]
    Unreadable,
    /// A list of a transaction over [`crate::MAX_TRANSACTION_OPERATIONS`].
    #[error("{operations} operations or comparisons in one list, the limit is {MAX_TRANSACTION_OPERATIONS}")]
    TooManyOperations {
        /// How many there are.
        operations: u64,
    },
    /// What a transaction reads is over [`crate::MAX_ANSWER_BYTES`].
    #[error("what the transaction reads has more than {MAX_ANSWER_BYTES} bytes; read less in one transaction")]
    AnswerTooLarge,
    /// There is no such lease, or it has come to its end.
    #[error("there is no lease {id}: it has expired, or was revoked; grant a new one")]
    NoSuchLease {
        /// Which.
        id: LeaseId,
    },
    /// No time to live, or one that is too long.
    #[error("a time to live is 1 to {MAX_TTL_MS} milliseconds")]
    TtlOutOfRange,
    /// The keys would cost more than they may.
    #[error("the keys would cost {live_bytes} bytes, the quota is {quota_bytes}; delete some, or raise --quota-bytes")]
    NoSpace {
        /// What they would cost.
        live_bytes: u64,
        /// What they may cost.
        quota_bytes: u64,
    },
}

/// What can be too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Live sessions in the whole store.
    Sessions,
    /// Replies kept for one session.
    KeptReplies,
    /// Leases in the whole store.
    Leases,
}

/// What can be too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// A key.
    Key,
    /// A value.
    Value,
}

/// Why an increment is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotAnInteger {
    /// The stored value is something else.
    Value,
    /// The sum does not fit 64 bits.
    Overflow,
}

macro_rules! display_names {
    ($($type:ident { $($variant:ident => $text:literal),* $(,)? })*) => {$(
        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),* })
            }
        }
    )*};
}

display_names! {
    Limit { Sessions => "live sessions", KeptReplies => "unanswered requests in this session", Leases => "leases" }
    Part { Key => "the key", Value => "the value" }
    NotAnInteger {
        Value => "the value is not a decimal integer of 64 bits",
        Overflow => "the sum does not fit in 64 bits",
    }
}
