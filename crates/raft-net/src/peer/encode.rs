//! From the protocol's messages to frames, and which link carries which.

use bytes::{Bytes, BytesMut};
use raft_core::{
    AppendResult, Body, Configuration, Entry, HandOver, Learner, LogPosition, Member, Message, NodeId, Payload,
    Refusal, Standing, Verdict,
};

use super::wire::{AtMost, WireBody, WireEntry, WireMessage, WirePayload, WirePosition, WireStanding, WireVerdict};
use crate::frame::{Frame, FrameKind};
use crate::handshake::LinkKind;

/// The link a message travels on: entries and snapshots on the bulk link, everything short and urgent on the other.
#[must_use]
pub const fn link_of(message: &Message) -> LinkKind {
    match &message.body {
        Body::AppendEntries { .. } | Body::InstallSnapshot { .. } => LinkKind::Bulk,
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::RequestVote { .. }
        | Body::RequestVoteReply { .. }
        | Body::AppendEntriesReply(_)
        | Body::InstallSnapshotReply { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::TimeoutNow { .. }
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
            let body =
                WireBody::AppendEntries { prev: to_wire(*prev), commit: commit.0, entries: AtMost::new(wire_entries) };
            return (body, payload);
        }
        Body::InstallSnapshot { last, offset, data, done } => {
            let body = WireBody::InstallSnapshot { last: to_wire(*last), offset: *offset, done: *done };
            return (body, data.clone());
        }
        Body::InstallSnapshotReply { last, offset } => {
            WireBody::InstallSnapshotReply { last: to_wire(*last), offset: *offset }
        }
        Body::PreVote { poll, last_log } => WireBody::PreVote { poll: poll.0, last_log: to_wire(*last_log) },
        Body::PreVoteReply { poll, verdict } => {
            WireBody::PreVoteReply { poll: poll.0, verdict: encode_verdict(*verdict) }
        }
        Body::RequestVote { last_log, is_transfer: false } => WireBody::RequestVote { last_log: to_wire(*last_log) },
        Body::RequestVote { last_log, is_transfer: true } => {
            WireBody::RequestVoteForTransfer { last_log: to_wire(*last_log) }
        }
        Body::RequestVoteReply { verdict } => WireBody::RequestVoteReply { verdict: encode_verdict(*verdict) },
        Body::AppendEntriesReply(AppendResult::Matched(index)) => WireBody::Matched { index: index.0 },
        Body::AppendEntriesReply(AppendResult::Mismatch { prev, hint }) => {
            WireBody::Mismatch { prev: to_wire(*prev), hint: to_wire(*hint) }
        }
        Body::Heartbeat { commit, round } => WireBody::Heartbeat { commit: commit.0, round: round.0 },
        Body::HeartbeatReply { round } => WireBody::HeartbeatReply { round: round.0 },
        Body::TimeoutNow { why: HandOver::Planned } => WireBody::TimeoutNow,
        Body::TimeoutNow { why: HandOver::DiskStalled } => WireBody::TimeoutNowForDisk,
        Body::ReadIndex { id, incarnation } => WireBody::ReadIndex { id: id.0, incarnation: incarnation.0 },
        Body::ReadIndexReply { id, incarnation, index } => {
            WireBody::ReadIndexReply { id: id.0, incarnation: incarnation.0, index: index.0 }
        }
    };
    (body, Bytes::new())
}

fn encode_entries(entries: &[Entry]) -> (Vec<WireEntry>, Bytes) {
    let mut wire_entries = Vec::with_capacity(entries.len());
    let mut only_command = None;
    let command_bytes = |entry: &Entry| match &entry.payload {
        Payload::Command(command) => command.len(),
        Payload::Noop | Payload::Configuration(_) => 0,
    };
    // A single command is passed on as it is.
    let joined_bytes = if entries.len() == 1 { 0 } else { entries.iter().map(command_bytes).sum() };
    let mut payload = BytesMut::with_capacity(joined_bytes);
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
            Payload::Configuration(configuration) => encode_configuration(configuration),
        };
        wire_entries.push(WireEntry { term: entry.position.term.0, stamp_ns: entry.stamp.0, payload: wire_payload });
    }
    (wire_entries, only_command.unwrap_or_else(|| payload.freeze()))
}

fn encode_configuration(configuration: &Configuration) -> WirePayload {
    let member = |id: NodeId, member: &Member| (id.as_u64(), member.disk.0, member.address.clone());
    if configuration.standings().all(|(_, _, standing)| *standing == Standing::Voter) {
        let members = configuration.members().map(|(id, it)| member(id, it));
        return WirePayload::Configuration(AtMost::new(members.collect()));
    }
    let with_standing = configuration.standings().map(|(id, it, standing)| (member(id, it), encode_standing(standing)));
    WirePayload::Standings(AtMost::new(with_standing.collect()))
}

fn encode_standing(standing: &Standing) -> WireStanding {
    match standing {
        Standing::Voter => WireStanding::Voter,
        Standing::Incoming => WireStanding::Incoming,
        Standing::Outgoing { then: None } => WireStanding::Outgoing,
        Standing::Outgoing { then: Some(Learner { member, becomes_voter }) } => {
            WireStanding::OutgoingThenLearner(member.disk.0, member.address.clone(), *becomes_voter)
        }
        Standing::Learner { becomes_voter } => WireStanding::Learner(*becomes_voter),
    }
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
