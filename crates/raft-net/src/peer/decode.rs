//! From frames to the protocol's messages.
//!
//! What can be judged from the message alone is judged here, so that no arithmetic behind this door can overflow and no
//! list is longer than its limit. What only the receiver's log can judge is left to the protocol.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, ClusterTime, Configuration, DiskId, Entry, HandOver, Incarnation, Learner, LogIndex,
    LogPosition, Member, Message, NobodyVotes, NodeId, Payload, Poll, ReadId, ReadRound, Refusal, Standing, Term,
    Verdict,
};

use super::wire::{
    MAX_ENTRIES, MAX_MEMBERS, WireBody, WireEntry, WireMember, WireMessage, WirePayload, WirePosition, WireStanding,
    WireVerdict,
};
use crate::frame::{Frame, FrameKind};

/// The largest index, the latest stamp in nanoseconds, and the last byte of a snapshot. As with [`Term::MAX_ACCEPTED`], no cluster comes near it,
/// and numbers below leave room to count on.
const MAX_NUMBER: u64 = 1 << 62;

/// Why a frame is no message of the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Another kind of frame.
    #[error("a frame of kind {0:?} where a message of the protocol was expected")]
    Kind(FrameKind),
    /// Another group than the only one there is.
    #[error("a message for Raft group {0}; this version has group 0 alone")]
    UnknownGroup(u32),
    /// The header does not parse.
    #[error("the header does not parse: {0}")]
    Header(#[from] postcard::Error),
    /// More entries than a message may have.
    #[error("more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// More members than a configuration may have.
    #[error("a configuration of more than {MAX_MEMBERS} members")]
    TooManyMembers,
    /// Bytes behind the header's last field.
    #[error("{size_bytes} bytes behind the header")]
    TrailingHeaderBytes {
        /// How many.
        size_bytes: usize,
    },
    /// A node id of 0.
    #[error("a node id of 0")]
    NodeIdZero,
    /// A member named twice.
    #[error("a configuration that names node {0} twice")]
    MemberTwice(u64),
    /// A configuration that could decide nothing.
    #[error(transparent)]
    NobodyVotes(#[from] NobodyVotes),
    /// A term that no cluster reaches.
    #[error("the impossible term {0}")]
    ImpossibleTerm(u64),
    /// An index that no log reaches.
    #[error("the impossible index {0}")]
    ImpossibleIndex(u64),
    /// A place in a snapshot that no disk has room for.
    #[error("the impossible offset {0} in a snapshot")]
    ImpossibleOffset(u64),
    /// A stamp that no cluster lives to see.
    #[error("the impossible stamp {0} ns")]
    ImpossibleStamp(u64),
    /// An entry of a later term than its sender is in.
    #[error("an entry of term {entry_term} in a message of term {term}")]
    EntryBeyondTerm {
        /// The entry's.
        entry_term: u64,
        /// The message's.
        term: u64,
    },
    /// An entry of an earlier term than the one before it.
    #[error("an entry of term {entry_term} after one of term {before}")]
    TermGoesBack {
        /// The entry's.
        entry_term: u64,
        /// That of the entry before.
        before: u64,
    },
    /// An entry with an earlier stamp than the one before it (rule 6).
    #[error("an entry stamped {stamp_ns} ns after one stamped {before_ns} ns")]
    StampGoesBack {
        /// The entry's.
        stamp_ns: u64,
        /// That of the entry before.
        before_ns: u64,
    },
    /// The commands claim more bytes than there are.
    #[error("the commands claim more than the {available_bytes} bytes there are")]
    CommandBeyondPayload {
        /// What there is.
        available_bytes: usize,
    },
    /// More bytes than the commands claim.
    #[error("{size_bytes} bytes that belong to no command")]
    TrailingBytes {
        /// How many.
        size_bytes: usize,
    },
}

/// A message from a frame of kind [`FrameKind::Raft`]. Commands are slices of the frame, not copies.
///
/// # Errors
/// If it is none. What only the receiver's state can judge (does an index exist, is a term due) is not judged here.
pub fn decode(frame: &Frame) -> Result<Message, DecodeError> {
    if frame.kind != FrameKind::Raft {
        return Err(DecodeError::Kind(frame.kind));
    }
    if frame.group != 0 {
        return Err(DecodeError::UnknownGroup(frame.group));
    }
    let (WireMessage { term, body }, rest) = postcard::take_from_bytes(&frame.header)?;
    if !rest.is_empty() {
        return Err(DecodeError::TrailingHeaderBytes { size_bytes: rest.len() });
    }
    let term = check_term(term)?;
    let (body, used_bytes) = decode_body(term, body, &frame.payload)?;
    let size_bytes = frame.payload.len().saturating_sub(used_bytes);
    if size_bytes > 0 {
        return Err(DecodeError::TrailingBytes { size_bytes });
    }
    Ok(Message { term, body })
}

/// The message, and how many bytes of the payload it took.
fn decode_body(term: Term, body: WireBody, payload: &Bytes) -> Result<(Body, usize), DecodeError> {
    let body = match body {
        WireBody::PreVote { poll, last_log } => Body::PreVote { poll: Poll(poll), last_log: from_wire(last_log)? },
        WireBody::PreVoteReply { poll, verdict } => {
            Body::PreVoteReply { poll: Poll(poll), verdict: decode_verdict(&verdict)? }
        }
        WireBody::RequestVote { last_log } => Body::RequestVote { last_log: from_wire(last_log)?, is_transfer: false },
        WireBody::RequestVoteForTransfer { last_log } => {
            Body::RequestVote { last_log: from_wire(last_log)?, is_transfer: true }
        }
        WireBody::RequestVoteReply { verdict } => Body::RequestVoteReply { verdict: decode_verdict(&verdict)? },
        WireBody::AppendEntries { prev, commit, entries: wire_entries } => {
            let (prev, commit) = (from_wire(prev)?, check_index(commit)?);
            let wire_entries = wire_entries.into_items().ok_or(DecodeError::TooManyEntries)?;
            let (entries, used_bytes) = decode_entries(term, prev, wire_entries, payload)?;
            return Ok((Body::AppendEntries { prev, entries, commit }, used_bytes));
        }
        WireBody::InstallSnapshot { last, offset, done } => {
            let body = Body::InstallSnapshot {
                last: from_wire(last)?,
                offset: check_offset(offset)?,
                data: payload.clone(),
                done,
            };
            return Ok((body, payload.len()));
        }
        WireBody::InstallSnapshotReply { last, offset } => {
            Body::InstallSnapshotReply { last: from_wire(last)?, offset: check_offset(offset)? }
        }
        WireBody::Matched { index } => Body::AppendEntriesReply(AppendResult::Matched(check_index(index)?)),
        WireBody::Mismatch { prev, hint } => {
            Body::AppendEntriesReply(AppendResult::Mismatch { prev: from_wire(prev)?, hint: from_wire(hint)? })
        }
        WireBody::Heartbeat { commit, round } => {
            Body::Heartbeat { commit: check_index(commit)?, round: ReadRound(round) }
        }
        WireBody::HeartbeatReply { round } => Body::HeartbeatReply { round: ReadRound(round) },
        WireBody::TimeoutNow => Body::TimeoutNow { why: HandOver::Planned },
        WireBody::TimeoutNowForDisk => Body::TimeoutNow { why: HandOver::DiskStalled },
        WireBody::ReadIndex { id, incarnation } => {
            Body::ReadIndex { id: ReadId(id), incarnation: Incarnation(incarnation) }
        }
        WireBody::ReadIndexReply { id, incarnation, index } => {
            Body::ReadIndexReply { id: ReadId(id), incarnation: Incarnation(incarnation), index: check_index(index)? }
        }
    };
    Ok((body, 0))
}

/// The entries after `prev` in a message of `term`, and how many bytes of the payload they took.
fn decode_entries(
    term: Term,
    prev: LogPosition,
    wire_entries: Vec<WireEntry>,
    payload: &Bytes,
) -> Result<(Vec<Entry>, usize), DecodeError> {
    if prev.term > term {
        return Err(DecodeError::EntryBeyondTerm { entry_term: prev.term.0, term: term.0 });
    }
    let mut used_bytes = 0;
    let mut before = (prev, ClusterTime(0));
    let mut entries = Vec::with_capacity(wire_entries.len());
    for WireEntry { term: entry_term, stamp_ns, payload: wire_payload } in wire_entries {
        let position = LogPosition::new(check_term(entry_term)?, check_index(before.0.index.0 + 1)?);
        let now = (position, check_stamp(stamp_ns)?);
        check_order(term, before, now)?;
        let payload = decode_payload(wire_payload, payload, &mut used_bytes)?;
        entries.push(Entry { position, stamp: now.1, payload });
        before = now;
    }
    Ok((entries, used_bytes))
}

/// Terms and stamps never fall along a log, and nobody has entries of terms to come.
fn check_order(
    term: Term,
    (before, stamp_before): (LogPosition, ClusterTime),
    (position, stamp): (LogPosition, ClusterTime),
) -> Result<(), DecodeError> {
    let entry_term = position.term.0;
    if position.term > term {
        Err(DecodeError::EntryBeyondTerm { entry_term, term: term.0 })
    } else if position.term < before.term {
        Err(DecodeError::TermGoesBack { entry_term, before: before.term.0 })
    } else if stamp < stamp_before {
        Err(DecodeError::StampGoesBack { stamp_ns: stamp.0, before_ns: stamp_before.0 })
    } else {
        Ok(())
    }
}

fn decode_payload(wire: WirePayload, payload: &Bytes, used_bytes: &mut usize) -> Result<Payload, DecodeError> {
    Ok(match wire {
        WirePayload::Noop => Payload::Noop,
        WirePayload::Command { size_bytes } => {
            let start = *used_bytes;
            let end = start.checked_add(size_bytes as usize).filter(|&end| end <= payload.len());
            *used_bytes = end.ok_or(DecodeError::CommandBeyondPayload { available_bytes: payload.len() })?;
            Payload::Command(payload.slice(start..*used_bytes))
        }
        WirePayload::Configuration(members) => {
            let members = members.into_items().ok_or(DecodeError::TooManyMembers)?;
            Payload::Configuration(decode_configuration(members.into_iter().map(|it| (it, WireStanding::Voter)))?)
        }
        WirePayload::Standings(members) => {
            let members = members.into_items().ok_or(DecodeError::TooManyMembers)?;
            Payload::Configuration(decode_configuration(members)?)
        }
    })
}

fn decode_configuration(
    wire: impl IntoIterator<Item = (WireMember, WireStanding)>,
) -> Result<Configuration, DecodeError> {
    let mut members = BTreeMap::new();
    for ((id, disk, address), standing) in wire {
        let member = (Member { disk: DiskId(disk), address }, decode_standing(standing));
        if members.insert(node_id(id)?, member).is_some() {
            return Err(DecodeError::MemberTwice(id));
        }
    }
    Ok(Configuration::new(members)?)
}

fn decode_standing(wire: WireStanding) -> Standing {
    match wire {
        WireStanding::Voter => Standing::Voter,
        WireStanding::Incoming => Standing::Incoming,
        WireStanding::Outgoing => Standing::Outgoing { then: None },
        WireStanding::OutgoingThenLearner(disk, address, becomes_voter) => {
            let member = Member { disk: DiskId(disk), address };
            Standing::Outgoing { then: Some(Learner { member, becomes_voter }) }
        }
        WireStanding::Learner(becomes_voter) => Standing::Learner { becomes_voter },
    }
}

fn decode_verdict(verdict: &WireVerdict) -> Result<Verdict, DecodeError> {
    Ok(match verdict {
        WireVerdict::Granted => Verdict::Granted,
        WireVerdict::HearsLeader => Verdict::Refused(Refusal::HearsLeader),
        WireVerdict::StaleTerm => Verdict::Refused(Refusal::StaleTerm),
        WireVerdict::VotedFor(id) => Verdict::Refused(Refusal::VotedFor(node_id(*id)?)),
        WireVerdict::LogBehind(ours) => Verdict::Refused(Refusal::LogBehind { ours: from_wire(*ours)? }),
        WireVerdict::NotAMember => Verdict::Refused(Refusal::NotAMember),
    })
}

fn from_wire((term, index): WirePosition) -> Result<LogPosition, DecodeError> {
    Ok(LogPosition::new(check_term(term)?, check_index(index)?))
}

const fn check_offset(offset: u64) -> Result<u64, DecodeError> {
    if offset > MAX_NUMBER { Err(DecodeError::ImpossibleOffset(offset)) } else { Ok(offset) }
}

const fn check_index(index: u64) -> Result<LogIndex, DecodeError> {
    if index > MAX_NUMBER { Err(DecodeError::ImpossibleIndex(index)) } else { Ok(LogIndex(index)) }
}

fn check_term(term: u64) -> Result<Term, DecodeError> {
    let term = Term(term);
    if term > Term::MAX_ACCEPTED { Err(DecodeError::ImpossibleTerm(term.0)) } else { Ok(term) }
}

const fn check_stamp(stamp_ns: u64) -> Result<ClusterTime, DecodeError> {
    if stamp_ns > MAX_NUMBER { Err(DecodeError::ImpossibleStamp(stamp_ns)) } else { Ok(ClusterTime(stamp_ns)) }
}

fn node_id(id: u64) -> Result<NodeId, DecodeError> {
    NodeId::new(id).ok_or(DecodeError::NodeIdZero)
}
