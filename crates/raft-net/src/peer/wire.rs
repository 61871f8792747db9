//! The protocol's messages on the wire.
//!
//! The wire types stand apart from the protocol's own, because formats outlive code (rule 11). A header holds all fields;
//! the commands of an AppendEntries follow raw, one after the other, in the payload: they are never re-encoded on their
//! way from a client to the disks of all members. So does a chunk of a snapshot.
//!
//! Owns the layout. `encode` and `decode` go between it and the protocol's types.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most entries of one message: a frame of 8 MiB of the smallest entries, as the protocol counts them.
pub(super) const MAX_ENTRIES: usize = (8 << 20) / 32;
/// The most members of a configuration.
pub(super) const MAX_MEMBERS: usize = 1_024;

/// The header of a frame of kind [`FrameKind::Raft`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireMessage {
    pub(super) term: u64,
    pub(super) body: WireBody,
}

/// Term and index.
pub(super) type WirePosition = (u64, u64);

#[derive(Serialize, Deserialize)]
pub(super) enum WireBody {
    PreVote {
        poll: u64,
        last_log: WirePosition,
    },
    PreVoteReply {
        poll: u64,
        verdict: WireVerdict,
    },
    RequestVote {
        last_log: WirePosition,
    },
    RequestVoteReply {
        verdict: WireVerdict,
    },
    AppendEntries {
        prev: WirePosition,
        commit: u64,
        entries: AtMost<WireEntry, MAX_ENTRIES>,
    },
    Matched {
        index: u64,
    },
    Mismatch {
        prev: WirePosition,
        hint: WirePosition,
    },
    Heartbeat {
        commit: u64,
        round: u64,
    },
    HeartbeatReply {
        round: u64,
    },
    ReadIndex {
        id: u64,
        incarnation: u64,
    },
    ReadIndexReply {
        id: u64,
        incarnation: u64,
        index: u64,
    },
    TimeoutNow,
    RequestVoteForTransfer {
        last_log: WirePosition,
    },
    /// The frame's payload is the chunk.
    InstallSnapshot {
        last: WirePosition,
        offset: u64,
        done: bool,
    },
    InstallSnapshotReply {
        last: WirePosition,
        offset: u64,
    },
    TimeoutNowForDisk,
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireVerdict {
    Granted,
    HearsLeader,
    StaleTerm,
    VotedFor(u64),
    LogBehind(WirePosition),
    NotAMember,
}

/// An entry without its index, which follows from `prev`.
#[derive(Serialize, Deserialize)]
pub(super) struct WireEntry {
    pub(super) term: u64,
    pub(super) stamp_ns: u64,
    pub(super) payload: WirePayload,
}

/// Id, disk and peer address.
pub(super) type WireMember = (u64, u128, String);

#[derive(Serialize, Deserialize)]
pub(super) enum WirePayload {
    Noop,
    /// So many bytes of the frame's payload, after those of the entries before.
    Command {
        size_bytes: u32,
    },
    /// Each member of a configuration in which all vote: the only kind that the first version knew.
    Configuration(AtMost<WireMember, MAX_MEMBERS>),
    /// Each member and its standing, in any other configuration.
    Standings(AtMost<(WireMember, WireStanding), MAX_MEMBERS>),
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireStanding {
    Voter,
    Incoming,
    Outgoing,
    /// A learner afterwards: its disk, its address, whether it becomes a voter by itself.
    OutgoingThenLearner(u128, String, bool),
    /// Whether it becomes a voter by itself.
    Learner(bool),
}

/// A list of which no more than `LIMIT` items are kept, whatever comes: 3 bytes on the wire become a hundred in memory.
pub(super) struct AtMost<T, const LIMIT: usize> {
    items: Vec<T>,
    has_more: bool,
}

impl<T, const LIMIT: usize> AtMost<T, LIMIT> {
    pub(super) const fn new(items: Vec<T>) -> Self {
        Self { items, has_more: false }
    }

    /// The items; `None` if there were more.
    pub(super) fn into_items(self) -> Option<Vec<T>> {
        (!self.has_more).then_some(self.items)
    }
}

impl<T: Serialize, const LIMIT: usize> Serialize for AtMost<T, LIMIT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const LIMIT: usize> Deserialize<'de> for AtMost<T, LIMIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AtMostVisitor(PhantomData))
    }
}

struct AtMostVisitor<T, const LIMIT: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for AtMostVisitor<T, LIMIT> {
    type Value = AtMost<T, LIMIT>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // A claimed length is not believed further than this.
        let mut items = Vec::with_capacity(list.size_hint().unwrap_or(0).min(1_024));
        let mut has_more = false;
        while let Some(item) = list.next_element()? {
            if items.len() < LIMIT {
                items.push(item);
            } else {
                has_more = true;
            }
        }
        Ok(AtMost { items, has_more })
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, SeqDeserializer};

    use super::*;

    /// One item that claims to be a million.
    struct Claim(Option<u64>);

    impl Iterator for Claim {
        type Item = u64;

        fn next(&mut self) -> Option<u64> {
            self.0.take()
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            (1 << 20, Some(1 << 20))
        }
    }

    #[test]
    fn a_claimed_length_sets_little_aside() {
        let list = AtMost::<u64, MAX_ENTRIES>::deserialize(SeqDeserializer::<_, Error>::new(Claim(Some(7)))).unwrap();
        let items = list.into_items().unwrap();
        assert_eq!(items, [7]);
        assert!(items.capacity() <= 1_024, "room for {}", items.capacity());
    }
}
