//! The protocol's messages on the wire.
//!
//! The wire types stand apart from the protocol's own, because formats outlive code (rule 11). A header holds all fields;
//! the commands of an AppendEntries follow raw, one after the other, in the payload: they are never re-encoded on their
//! way from a client to the disks of all members.
//!
//! Owns the layout. `encode` and `decode` go between it and the protocol's types.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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
        #[serde(deserialize_with = "at_most::<_, MAX_ENTRIES, _>")]
        entries: Vec<WireEntry>,
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

#[derive(Serialize, Deserialize)]
pub(super) enum WirePayload {
    Noop,
    /// So many bytes of the frame's payload, after those of the entries before.
    Command {
        size_bytes: u32,
    },
    /// Id, disk and peer address of each member.
    Configuration(#[serde(deserialize_with = "at_most::<_, MAX_MEMBERS, _>")] Vec<(u64, u128, String)>),
}

/// A list that is given up at its limit: 3 bytes on the wire become a hundred in memory.
fn at_most<'de, T, const LIMIT: usize, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Bounded<T, const LIMIT: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for Bounded<T, LIMIT> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {LIMIT} of them")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let claimed = list.size_hint().unwrap_or(0);
            if claimed > LIMIT {
                return Err(A::Error::invalid_length(claimed, &self));
            }
            // The claim is not believed further than this.
            let mut items = Vec::with_capacity(claimed.min(1_024));
            while let Some(item) = list.next_element()? {
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, LIMIT>(PhantomData))
}
