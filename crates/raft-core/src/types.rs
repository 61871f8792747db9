//! The words of the protocol (§3.3, Figure 3.1): terms, indices, positions, entries.
//!
//! Every number is a newtype, and none has a value that means "none": where there may be nothing, there is an
//! `Option`. Index 0 and term 0 are not sentinels but the paper's own origin: the empty log ends at 0@0.

use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

use bytes::Bytes;

use crate::configuration::Configuration;

/// A server's number, given by the operator. Never reused for another disk without a configuration change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// The id `id`; `None` for 0, which is no server.
    #[must_use]
    pub const fn new(id: u64) -> Option<Self> {
        match NonZeroU64::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 128 random bits made with a data directory. Together with the [`NodeId`] it names a member: a wiped disk is
/// another member (rule 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub u128);

/// 128 random bits made when a cluster is formed. Servers of different clusters never exchange a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

macro_rules! display_as_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

display_as_hex!(DiskId, ClusterId);

/// How often a data directory has been started. Durable before the server speaks; a larger one voids what an
/// earlier incarnation of the same server said (rule 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// A term (§3.3): at most one leader each. Term 0 is before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    ///
    /// # Panics
    /// At `u64::MAX`, which no cluster reaches by itself: terms near it are refused at the door, see
    /// [`Term::MAX_ACCEPTED`].
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("terms are bounded by MAX_ACCEPTED"))
    }

    /// The largest term taken from a message. One election a nanosecond would need 146 years to get here, so a
    /// larger number is a broken peer, and accepting it would leave no room for the terms after it.
    pub const MAX_ACCEPTED: Self = Self(1 << 62);
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of an entry in the log, counted from 1. Index 0 is the place before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The index after this one.
    ///
    /// # Panics
    /// At `u64::MAX`: indices from the wire are bounded by what the log holds before they are counted up.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The index `count` further on.
    ///
    /// # Panics
    /// Past `u64::MAX`, as [`LogIndex::next`].
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("indices count entries that exist"))
    }

    /// The index before this one; 0 stays 0.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An entry's term and index. The derived order (term first, then index) *is* the up-to-date rule of §3.6.1.
///
/// Printed `index@term`, as in the scripts: `7@3`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// Where it stands in the log.
    pub index: LogIndex,
}

impl LogPosition {
    /// The position before the first entry, at which every two logs agree.
    pub const ORIGIN: Self = Self { term: Term(0), index: LogIndex(0) };

    /// The position `index` in `term`.
    #[must_use]
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl fmt::Debug for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A point in this server's monotonic time: nanoseconds since an origin of the caller's choice. Only differences
/// mean anything, and only on one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The instant `duration` later; saturates after 584 years.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The instant `duration` earlier; the origin if that is later.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long it is since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Cluster time in nanoseconds (rule 6): the last stamp in the log plus the monotonic time elapsed at the leader.
/// It never goes backwards, knows nothing of wall clocks, and stands still while there is no leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterTime(pub u64);

/// What the server promised (Figure 3.1, "persistent state"): one record, written in one piece (rule 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term this server has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its term and index.
    pub position: LogPosition,
    /// The cluster time at which the leader created it; never before that of the entry before (rule 6).
    pub stamp: ClusterTime,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// The bytes this entry counts for in batches and limits: its payload and a fixed share for its header.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        Self::HEADER_SHARE_BYTES
            + match &self.payload {
                Payload::Noop => 0,
                Payload::Command(command) => command.len(),
                Payload::Configuration(configuration) => configuration.members().count() * 64,
            }
    }

    pub(crate) const HEADER_SHARE_BYTES: usize = 32;
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.position, f)
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing: a new leader's first entry, which lets it commit those before (§3.6.2, §6.4).
    Noop,
    /// A command of the state machine: bytes, to this crate.
    Command(Bytes),
    /// A configuration (§4.1), in effect from the moment it is in the log.
    Configuration(Configuration),
}

/// What the protocol knows of a snapshot (§5.1; lastIndex, lastTerm and lastConfig of Figure 5.3): where it ends and
/// what was in effect there. Its data belongs to the driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The last entry it covers.
    pub last: LogPosition,
    /// That entry's stamp: cluster time goes on from here when the log behind it is empty (rule 6).
    pub stamp: ClusterTime,
    /// The latest configuration at or before `last`.
    pub configuration: Configuration,
    /// The index of the entry that configuration came with; 0 if the cluster was formed with it.
    pub configuration_index: LogIndex,
}
