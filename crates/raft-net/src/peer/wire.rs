//! The protocol's messages on the wire.
//!
//! The wire types stand apart from the protocol's own, because formats outlive code (rule 11). A header holds all fields;
//! the commands of an AppendEntries follow raw, one after the other, in the payload: they are never re-encoded on their
//! way from a client to the disks of all members.

use bytes::{Bytes, BytesMut};
use raft_core::{
    AppendResult, Body, ClusterTime, Configuration, DiskId, Entry, Incarnation, LogIndex, LogPosition, Member, Message,
    NodeId, Payload, Poll, ReadId, ReadRound, Refusal, Term, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::frame::{Frame, FrameKind};
use crate::handshake::LinkKind;

/// The header of a frame of kind [`FrameKind::Raft`].
#[derive(Serialize, Deserialize)]
struct WireMessage {
    term: u64,
    body: WireBody,
}

/// Term and index.
type WirePosition = (u64, u64);

#[derive(Serialize, Deserialize)]
enum WireBody {
    PreVote { poll: u64, last_log: WirePosition },
    PreVoteReply { poll: u64, verdict: WireVerdict },
    RequestVote { last_log: WirePosition },
    RequestVoteReply { verdict: WireVerdict },
    AppendEntries { prev: WirePosition, commit: u64, entries: Vec<WireEntry> },
    Matched { index: u64 },
    Mismatch { prev: WirePosition, hint: WirePosition },
    Heartbeat { commit: u64, round: u64 },
    HeartbeatReply { round: u64 },
    ReadIndex { id: u64, incarnation: u64 },
    ReadIndexReply { id: u64, incarnation: u64, index: u64 },
}

#[derive(Serialize, Deserialize)]
enum WireVerdict {
    Granted,
    HearsLeader,
    StaleTerm,
    VotedFor(u64),
    LogBehind(WirePosition),
    NotAMember,
}

/// An entry without its index, which follows from `prev`.
#[derive(Serialize, Deserialize)]
struct WireEntry {
    term: u64,
    stamp_ns: u64,
    payload: WirePayload,
}

#[derive(Serialize, Deserialize)]
enum WirePayload {
    Noop,
    /// So many bytes of the frame's payload, after those of the entries before.
    Command {
        size_bytes: u32,
    },
    /// Id, disk and peer address of each member.
    Configuration(Vec<(u64, u128, String)>),
}

/// Why a frame is no message of the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The header does not parse.
    #[error("the header does not parse: {0}")]
    Header(#[from] postcard::Error),
    /// A node id of 0.
    #[error("a node id of 0")]
    NodeIdZero,
    /// A member named twice.
    #[error("a configuration that names node {0} twice")]
    MemberTwice(u64),
    /// A term that no cluster reaches.
    #[error("the impossible term {0}")]
    ImpossibleTerm(u64),
    /// Indices past the last number.
    #[error("entries after index {0}, past the last possible one")]
    IndexOverflow(u64),
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

/// The link a message travels on: entries on the bulk link, everything short and urgent on the other.
#[must_use]
pub const fn link_of(message: &Message) -> LinkKind {
    match &message.body {
        Body::AppendEntries { .. } => LinkKind::Bulk,
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::RequestVote { .. }
        | Body::RequestVoteReply { .. }
        | Body::AppendEntriesReply(_)
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => LinkKind::Control,
    }
}

/// A message as a frame.
#[must_use]
pub fn encode(message: &Message) -> Frame {
    let (body, payload) = encode_body(&message.body);
    let header = WireMessage { term: message.term.0, body };
    let header = postcard::to_allocvec(&header).expect("encoding into memory that grows cannot fail").into();
    Frame { kind: FrameKind::Raft, group: 0, header, payload }
}

fn encode_body(body: &Body) -> (WireBody, Bytes) {
    let body = match body {
        Body::AppendEntries { prev, entries, commit } => {
            let (wire_entries, payload) = encode_entries(entries);
            let body = WireBody::AppendEntries { prev: to_wire(*prev), commit: commit.0, entries: wire_entries };
            return (body, payload);
        }
        Body::PreVote { poll, last_log } => WireBody::PreVote { poll: poll.0, last_log: to_wire(*last_log) },
        Body::PreVoteReply { poll, verdict } => {
            WireBody::PreVoteReply { poll: poll.0, verdict: encode_verdict(*verdict) }
        }
        Body::RequestVote { last_log } => WireBody::RequestVote { last_log: to_wire(*last_log) },
        Body::RequestVoteReply { verdict } => WireBody::RequestVoteReply { verdict: encode_verdict(*verdict) },
        Body::AppendEntriesReply(AppendResult::Matched(index)) => WireBody::Matched { index: index.0 },
        Body::AppendEntriesReply(AppendResult::Mismatch { prev, hint }) => {
            WireBody::Mismatch { prev: to_wire(*prev), hint: to_wire(*hint) }
        }
        Body::Heartbeat { commit, round } => WireBody::Heartbeat { commit: commit.0, round: round.0 },
        Body::HeartbeatReply { round } => WireBody::HeartbeatReply { round: round.0 },
        Body::ReadIndex { id, incarnation } => WireBody::ReadIndex { id: id.0, incarnation: incarnation.0 },
        Body::ReadIndexReply { id, incarnation, index } => {
            WireBody::ReadIndexReply { id: id.0, incarnation: incarnation.0, index: index.0 }
        }
    };
    (body, Bytes::new())
}

fn encode_entries(entries: &[Entry]) -> (Vec<WireEntry>, Bytes) {
    let mut payload = BytesMut::new();
    let mut wire_entries = Vec::with_capacity(entries.len());
    let mut only_command = None;
    for entry in entries {
        let wire_payload = match &entry.payload {
            Payload::Noop => WirePayload::Noop,
            Payload::Command(command) => {
                if entries.len() == 1 {
                    only_command = Some(command.clone());
                } else {
                    payload.extend_from_slice(command);
                }
                let size_bytes = u32::try_from(command.len()).expect("commands are far below 4 GiB");
                WirePayload::Command { size_bytes }
            }
            Payload::Configuration(configuration) => WirePayload::Configuration(
                configuration
                    .members
                    .iter()
                    .map(|(id, member)| (id.as_u64(), member.disk.0, member.address.clone()))
                    .collect(),
            ),
        };
        wire_entries.push(WireEntry { term: entry.position.term.0, stamp_ns: entry.stamp.0, payload: wire_payload });
    }
    (wire_entries, only_command.unwrap_or_else(|| payload.freeze()))
}

const fn encode_verdict(verdict: Verdict) -> WireVerdict {
    match verdict {
        Verdict::Granted => WireVerdict::Granted,
        Verdict::Refused(Refusal::HearsLeader) => WireVerdict::HearsLeader,
        Verdict::Refused(Refusal::StaleTerm) => WireVerdict::StaleTerm,
        Verdict::Refused(Refusal::VotedFor(id)) => WireVerdict::VotedFor(id.as_u64()),
        Verdict::Refused(Refusal::LogBehind { ours }) => WireVerdict::LogBehind(to_wire(ours)),
        Verdict::Refused(Refusal::NotAMember) => WireVerdict::NotAMember,
    }
}

const fn to_wire(position: LogPosition) -> WirePosition {
    (position.term.0, position.index.0)
}

/// A message from a frame of kind [`FrameKind::Raft`]. Commands are slices of the frame, not copies.
///
/// # Errors
/// If it is none. What only the receiver's state can judge (does an index exist, is a term due) is not judged here.
pub fn decode(frame: &Frame) -> Result<Message, DecodeError> {
    let WireMessage { term, body } = postcard::from_bytes(&frame.header)?;
    let (body, used_bytes) = decode_body(body, &frame.payload)?;
    let size_bytes = frame.payload.len() - used_bytes;
    if size_bytes > 0 {
        return Err(DecodeError::TrailingBytes { size_bytes });
    }
    Ok(Message { term: check_term(term)?, body })
}

/// The message, and how many bytes of the payload it took.
fn decode_body(body: WireBody, payload: &Bytes) -> Result<(Body, usize), DecodeError> {
    let body = match body {
        WireBody::PreVote { poll, last_log } => Body::PreVote { poll: Poll(poll), last_log: from_wire(last_log)? },
        WireBody::PreVoteReply { poll, verdict } => {
            Body::PreVoteReply { poll: Poll(poll), verdict: decode_verdict(&verdict)? }
        }
        WireBody::RequestVote { last_log } => Body::RequestVote { last_log: from_wire(last_log)? },
        WireBody::RequestVoteReply { verdict } => Body::RequestVoteReply { verdict: decode_verdict(&verdict)? },
        WireBody::AppendEntries { prev, commit, entries } => {
            return decode_entries(from_wire(prev)?, LogIndex(commit), entries, payload);
        }
        WireBody::Matched { index } => Body::AppendEntriesReply(AppendResult::Matched(LogIndex(index))),
        WireBody::Mismatch { prev, hint } => {
            Body::AppendEntriesReply(AppendResult::Mismatch { prev: from_wire(prev)?, hint: from_wire(hint)? })
        }
        WireBody::Heartbeat { commit, round } => Body::Heartbeat { commit: LogIndex(commit), round: ReadRound(round) },
        WireBody::HeartbeatReply { round } => Body::HeartbeatReply { round: ReadRound(round) },
        WireBody::ReadIndex { id, incarnation } => {
            Body::ReadIndex { id: ReadId(id), incarnation: Incarnation(incarnation) }
        }
        WireBody::ReadIndexReply { id, incarnation, index } => {
            Body::ReadIndexReply { id: ReadId(id), incarnation: Incarnation(incarnation), index: LogIndex(index) }
        }
    };
    Ok((body, 0))
}

/// The entries after `prev`, and how many bytes of the payload they took.
fn decode_entries(
    prev: LogPosition,
    commit: LogIndex,
    wire_entries: Vec<WireEntry>,
    payload: &Bytes,
) -> Result<(Body, usize), DecodeError> {
    let overflow = DecodeError::IndexOverflow(prev.index.0);
    if prev.index.0.checked_add(wire_entries.len() as u64).is_none_or(|last| last == u64::MAX) {
        return Err(overflow);
    }
    let mut used_bytes = 0_usize;
    let mut index = prev.index;
    let mut entries = Vec::with_capacity(wire_entries.len());
    for entry in wire_entries {
        index = index.next();
        let payload = match entry.payload {
            WirePayload::Noop => Payload::Noop,
            WirePayload::Command { size_bytes } => {
                let end = used_bytes.checked_add(size_bytes as usize).filter(|&end| end <= payload.len());
                let beyond = DecodeError::CommandBeyondPayload { available_bytes: payload.len() };
                let command = payload.slice(used_bytes..end.ok_or(beyond)?);
                used_bytes += command.len();
                Payload::Command(command)
            }
            WirePayload::Configuration(members) => Payload::Configuration(decode_configuration(members)?),
        };
        let position = LogPosition::new(check_term(entry.term)?, index);
        entries.push(Entry { position, stamp: ClusterTime(entry.stamp_ns), payload });
    }
    Ok((Body::AppendEntries { prev, entries, commit }, used_bytes))
}

fn decode_configuration(members: Vec<(u64, u128, String)>) -> Result<Configuration, DecodeError> {
    let mut configuration = Configuration::default();
    for (id, disk, address) in members {
        let member = Member { disk: DiskId(disk), address };
        if configuration.members.insert(node_id(id)?, member).is_some() {
            return Err(DecodeError::MemberTwice(id));
        }
    }
    Ok(configuration)
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
    Ok(LogPosition::new(check_term(term)?, LogIndex(index)))
}

fn check_term(term: u64) -> Result<Term, DecodeError> {
    let term = Term(term);
    if term > Term::MAX_ACCEPTED { Err(DecodeError::ImpossibleTerm(term.0)) } else { Ok(term) }
}

fn node_id(id: u64) -> Result<NodeId, DecodeError> {
    NodeId::new(id).ok_or(DecodeError::NodeIdZero)
}
