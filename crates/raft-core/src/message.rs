//! What servers say to each other: the RPCs of Figure 3.1 and §6.4, requests and replies as separate one-way messages.
//!
//! Every message names its sender's term. Its one-line form (`Display`) is what scripts, simulator and logs show.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::types::{Entry, Incarnation, LogIndex, LogPosition, NodeId, Term};

/// One message, from one server to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender's term. In [`Body::PreVote`] it is the sender's *current* term; the term it would stand in is the
    /// next one.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// A read round (§6.4, rule 12): one number, rising within a term. Confirming a round confirms all lower ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadRound(pub u64);

/// One poll of a pre-candidate: rising within an incarnation, so that a late answer to an earlier poll is known as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Poll(pub u64);

/// A read that a server's driver asked for; unique within its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// The contents of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me in the next term? Changes nothing at the receiver (§9.6).
    PreVote {
        /// Which poll of the sender this is.
        poll: Poll,
        /// Where the sender's log ends.
        last_log: LogPosition,
    },
    /// Answer to [`Body::PreVote`].
    PreVoteReply {
        /// The poll it answers.
        poll: Poll,
        /// Yes, or why not.
        verdict: Verdict,
    },
    /// Vote for me in this term (§3.4).
    RequestVote {
        /// Where the candidate's log ends.
        last_log: LogPosition,
        /// The leader of the term before wants this: grant it though you hear that leader (§3.10, §4.2.3).
        is_transfer: bool,
    },
    /// Answer to [`Body::RequestVote`].
    RequestVoteReply {
        /// Yes, or why not.
        verdict: Verdict,
    },
    /// Store these entries (§3.5).
    AppendEntries {
        /// The entry just before the new ones.
        prev: LogPosition,
        /// Consecutive, from `prev.index + 1`.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: LogIndex,
    },
    /// Answer to [`Body::AppendEntries`]; also to [`Body::InstallSnapshot`], once what it brings is here.
    AppendEntriesReply(AppendResult),
    /// A chunk of a snapshot (§5, Figure 5.3). Stamp and configuration are part of its data.
    InstallSnapshot {
        /// The last entry the snapshot covers.
        last: LogPosition,
        /// Where in the snapshot the chunk begins, in bytes.
        offset: u64,
        /// The chunk.
        data: Bytes,
        /// Whether it is the last one.
        done: bool,
    },
    /// Answer to a chunk: everything before `offset` is stored.
    InstallSnapshotReply {
        /// Which snapshot.
        last: LogPosition,
        /// The next byte that is wanted.
        offset: u64,
    },
    /// I lead (§3.4). An AppendEntries without the consistency check, so that it can overtake entries on a link of
    /// its own.
    Heartbeat {
        /// The leader's commit index, bounded by what it knows the follower to hold.
        commit: LogIndex,
        /// The latest read round.
        round: ReadRound,
    },
    /// Answer to [`Body::Heartbeat`]: the sender follows the leader of this term.
    HeartbeatReply {
        /// The round it answers, and so confirms.
        round: ReadRound,
    },
    /// From a leader to the successor it has chosen: stand at once (§3.10).
    TimeoutNow {
        /// Why it hands over: the successor passes it on to whoever asks why it leads.
        why: HandOver,
    },
    /// A follower asks for a read index (§6.4).
    ReadIndex {
        /// The read.
        id: ReadId,
        /// The asking server's incarnation: `id` means nothing to a later one.
        incarnation: Incarnation,
    },
    /// Answer to [`Body::ReadIndex`], sent once a round confirmed it.
    ReadIndexReply {
        /// The read.
        id: ReadId,
        /// The incarnation that asked.
        incarnation: Incarnation,
        /// The state at this index, or any later one, answers the read.
        index: LogIndex,
    },
}

impl Body {
    /// Whether a leader or a candidate says this: to whomever its configuration names, which need not name it (§4.1).
    pub(crate) const fn is_of_a_leader_or_candidate(&self) -> bool {
        match self {
            Self::PreVote { .. }
            | Self::RequestVote { .. }
            | Self::AppendEntries { .. }
            | Self::InstallSnapshot { .. }
            | Self::Heartbeat { .. }
            | Self::TimeoutNow { .. }
            | Self::ReadIndexReply { .. } => true,
            Self::PreVoteReply { .. }
            | Self::RequestVoteReply { .. }
            | Self::AppendEntriesReply(_)
            | Self::InstallSnapshotReply { .. }
            | Self::HeartbeatReply { .. }
            | Self::ReadIndex { .. } => false,
        }
    }
}

/// Why a leader hands over (§3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandOver {
    /// It was asked to, it stops, or it is no voter any more.
    Planned,
    /// Its disk stands still.
    DiskStalled,
}

/// How an AppendEntries ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendResult {
    /// The logs agree, on this server's disk, up to and including this index.
    Matched(LogIndex),
    /// The receiver has no entry at `prev`, or one of another term.
    Mismatch {
        /// The `prev` it answers.
        prev: LogPosition,
        /// The last position of the receiver that may still agree: the largest not beyond `prev`, in index and in term.
        hint: LogPosition,
    },
}

/// The answer to a request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// No.
    Refused(Refusal),
}

/// Why a vote was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The voter has heard from a leader within the minimum election timeout (§4.2.3).
    HearsLeader,
    /// The candidate's term is behind.
    StaleTerm,
    /// One vote a term, and this one is given (§3.4).
    VotedFor(NodeId),
    /// The candidate's log is less up to date than the voter's (§3.6.1).
    LogBehind {
        /// Where the voter's log ends.
        ours: LogPosition,
    },
    /// The voter hears a leader, and its committed configuration has left the candidate out: it waits in vain.
    NotAMember,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HearsLeader => f.write_str("hears a leader"),
            Self::StaleTerm => f.write_str("stale term"),
            Self::VotedFor(chosen) => write!(f, "voted for {chosen}"),
            Self::LogBehind { ours } => write!(f, "log behind, ours {ours}"),
            Self::NotAMember => f.write_str("not a member"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("granted"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

/// Without the sender's term, which the trace shows in front: `n1@2 → n3 AppendEntries prev=4@1 [5@2] commit=4`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::PreVote { last_log, .. } => write!(f, "PreVote term={} last={last_log}", self.term.next()),
            Body::PreVoteReply { verdict, .. } => write!(f, "PreVoteReply {verdict}"),
            Body::RequestVote { last_log, is_transfer } => {
                let wanted = if *is_transfer { ", as its leader wants" } else { "" };
                write!(f, "RequestVote term={} last={last_log}{wanted}", self.term)
            }
            Body::RequestVoteReply { verdict } => write!(f, "RequestVoteReply {verdict}"),
            Body::AppendEntries { prev, entries, commit } => {
                write!(f, "AppendEntries prev={prev} [")?;
                write_spaced(f, entries)?;
                write!(f, "] commit={commit}")
            }
            Body::AppendEntriesReply(AppendResult::Matched(index)) => write!(f, "AppendEntriesReply matched={index}"),
            Body::AppendEntriesReply(AppendResult::Mismatch { prev, hint }) => {
                write!(f, "AppendEntriesReply mismatch at {prev}, hint {hint}")
            }
            Body::InstallSnapshot { last, offset, data, done } => {
                let end = if *done { ", its last" } else { "" };
                write!(f, "InstallSnapshot last={last} offset={offset} [{} bytes{end}]", data.len())
            }
            Body::InstallSnapshotReply { last, offset } => {
                write!(f, "InstallSnapshotReply last={last} offset={offset}")
            }
            Body::Heartbeat { commit, round } => write!(f, "Heartbeat commit={commit} round={}", round.0),
            Body::HeartbeatReply { round } => write!(f, "HeartbeatReply round={}", round.0),
            Body::TimeoutNow { why: HandOver::Planned } => f.write_str("TimeoutNow"),
            Body::TimeoutNow { why: HandOver::DiskStalled } => f.write_str("TimeoutNow, for its disk"),
            Body::ReadIndex { id, .. } => write!(f, "ReadIndex #{}", id.0),
            Body::ReadIndexReply { id, index, .. } => write!(f, "ReadIndexReply #{} index={index}", id.0),
        }
    }
}

/// Entries as `5@2 6@2`.
pub(crate) fn write_spaced(f: &mut fmt::Formatter<'_>, entries: &[Entry]) -> fmt::Result {
    for (place, entry) in entries.iter().enumerate() {
        let space = if place == 0 { "" } else { " " };
        write!(f, "{space}{entry}")?;
    }
    Ok(())
}
