//! What is bounded, and by how much (rule 13). What happens at each bound stands beside it.

/// The longest key. A longer one is refused ([`crate::Refusal::TooLarge`]): keys are names, and every replica holds them
/// all in memory, in an ordered map that compares them.
pub const MAX_KEY_BYTES: usize = 4 * 1024;

/// The largest value. A larger one is refused ([`crate::Refusal::TooLarge`]): an entry must pass through log, links and
/// queues without holding up a heartbeat's worth of others.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// The longest principal in an envelope. A longer one makes the envelope unreadable.
pub const MAX_PRINCIPAL_BYTES: usize = 256;

/// The most keys one command touches, and the most one answer lists (rule 13). The rest is left for the next command or
/// page, and the answer says so.
pub const MAX_KEYS_PER_COMMAND: usize = 10_000;

/// An answer ends before its keys and values exceed this (rule 13), and says where the next page begins. The first item
/// is always in it, whatever its size, so that every page gets on.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A page of the past looks at no more keys than this, those that were not there at the time included: then it ends, with
/// what it has found, and says where the next one begins. So no page holds up a node, whatever was written since.
pub const MAX_KEYS_LOOKED_AT: usize = 4 * MAX_KEYS_PER_COMMAND;

/// The most operations, and the most comparisons, in each part of a transaction. A longer one is refused
/// ([`crate::Refusal::TooManyOperations`]).
pub const MAX_TRANSACTION_OPERATIONS: usize = 128;

/// How long the past can be read, in nanoseconds of cluster time: 5 minutes, as long as history has room. Long enough to
/// read the largest store page by page, and for a watch to find its way to another node.
pub const HISTORY_KEPT_NS: u64 = 5 * 60 * 1_000_000_000;

/// So many bytes of history are kept unless the leader is told otherwise: 256 MiB. Beyond it the oldest revisions are
/// forgotten, however young.
pub const DEFAULT_HISTORY_BYTES: u64 = 256 << 20;

/// What a change counts for in the history, beside its key and the value it replaced: about what its version and its place in
/// the order of changes take.
pub const VERSION_OVERHEAD_BYTES: usize = 128;

/// One compaction forgets the changes of no more keys than this, or one revision: the leader goes on with the next one.
pub const COMPACTED_KEYS_PER_COMMAND: usize = 1_024;

/// After each command, the memory of so many forgotten changes of keys is given back, or that of one revision. More than a
/// command makes, so what is forgotten cannot pile up.
pub(crate) const SWEPT_KEYS_PER_COMMAND: usize = 256;

/// One command ends leases with no more keys than this: the leader goes on with the next one.
pub const EXPIRED_KEYS_PER_COMMAND: usize = 1_024;

/// The most leases, those of single keys included. A further one is refused ([`crate::Limit::Leases`]).
pub const MAX_LEASES: usize = 1_000_000;

/// The longest time to live of a lease, in milliseconds: a year.
pub const MAX_TTL_MS: u64 = 365 * 24 * 3_600 * 1_000;

/// What the keys of a store may cost unless the leader is told otherwise: 4 GiB, as [`crate::KvStore::live_bytes`] counts.
/// Beyond it writes are refused ([`crate::Refusal::NoSpace`]), and deletes go on.
pub const DEFAULT_QUOTA_BYTES: u64 = 4 << 30;

/// How long a session outlives its last deadline, and how old an unknown session may be, in nanoseconds of cluster time:
/// 10 minutes (rule 8). Longer than any client keeps trying, short enough that a table full of the dead empties itself.
pub const SESSION_WINDOW_NS: u64 = 10 * 60 * 1_000_000_000;

/// How far ahead of an entry's stamp a deadline counts and a birth may lie, in nanoseconds of cluster time: 1 hour.
///
/// A later deadline is honoured, but holds its session only as if it were this one. A birth further ahead is refused as
/// [`crate::Refusal::SessionExpired`]. Some lead is honest: after a change of leader, cluster time goes on from the last
/// stamp in the log, and the idle time the old leader had told its clients is not in it.
pub const MAX_AHEAD_NS: u64 = 60 * 60 * 1_000_000_000;

/// So many expired sessions are dropped before each command at most, to bound its work. As each command adds one
/// session at most, the dead cannot pile up.
pub const EXPIRIES_PER_COMMAND: usize = 16;

/// So many pairs of revision and state hash are kept for [`crate::KvStore::hash_at`], the oldest leaving first: nodes
/// that differ by less in what they have applied can still be compared.
pub const KEPT_HASHES: usize = 4_096;

/// The bytes of kept replies, encoded, of all sessions together: 256 MiB. With more no command is applied
/// ([`crate::Limit::KeptReplies`]) until clients say that they have received some, or sessions expire. A reply has a few
/// bytes, but that of a transaction that reads may have [`MAX_ANSWER_BYTES`].
pub const MAX_KEPT_BYTES: usize = 256 << 20;

/// The limits a machine is built with.
///
/// They are part of the function from log to state: all nodes of a cluster must have the same. They can be chosen only
/// so that tests can reach them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most sessions. A further client is refused ([`crate::Limit::Sessions`]) until one expires.
    pub sessions: usize,
    /// The most replies kept for one session. Its further commands are refused ([`crate::Limit::KeptReplies`]) until it
    /// says that it has received some.
    pub kept_replies_per_session: usize,
    /// No command of a session that has as many bytes of kept replies, encoded, is applied
    /// ([`crate::Limit::KeptReplies`]).
    pub kept_bytes_per_session: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions: 100_000, kept_replies_per_session: 1_024, kept_bytes_per_session: 64 * 1024 }
    }
}

/// What the leader decides about the whole cluster, by commands ([`crate::KvStore::upkeep`]). Its own settings count, and
/// only while it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What history may cost, as [`crate::KvStore::history_bytes`] counts.
    pub history_bytes: u64,
    /// What the keys may cost, as [`crate::KvStore::live_bytes`] counts; `None`: anything.
    pub quota_bytes: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { history_bytes: DEFAULT_HISTORY_BYTES, quota_bytes: Some(DEFAULT_QUOTA_BYTES) }
    }
}
