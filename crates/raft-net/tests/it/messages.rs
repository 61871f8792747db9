//! The protocol's messages as frames: what goes in comes out, commands are not copied, and disorder never panics.

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use raft_core::{
    AppendResult, Body, ClusterTime, Configuration, DiskId, Entry, HandOver, Incarnation, Learner, LogIndex,
    LogPosition, Member, Message, NodeId, Payload, Poll, ReadId, ReadRound, Refusal, Standing, Term, Verdict,
};
use raft_net::peer::{decode, encode, link_of};
use raft_net::{Frame, FrameKind, LinkKind};

const MAX_NUMBER: u64 = 1 << 62;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..300, Just(MAX_NUMBER), 0..=MAX_NUMBER]
}

fn position() -> impl Strategy<Value = LogPosition> {
    (number(), number()).prop_map(|(term, index)| LogPosition::new(Term(term), LogIndex(index)))
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Granted),
        Just(Verdict::Refused(Refusal::HearsLeader)),
        Just(Verdict::Refused(Refusal::StaleTerm)),
        (1..=u64::MAX).prop_map(|id| Verdict::Refused(Refusal::VotedFor(NodeId::new(id).unwrap()))),
        position().prop_map(|ours| Verdict::Refused(Refusal::LogBehind { ours })),
        Just(Verdict::Refused(Refusal::NotAMember)),
    ]
}

fn payload() -> impl Strategy<Value = Payload> {
    let member = (any::<u128>(), ".{0,20}").prop_map(|(disk, address)| Member { disk: DiskId(disk), address });
    let id = (1..=u64::MAX).prop_map(|id| NodeId::new(id).unwrap());
    let learner = (member.clone(), any::<bool>()).prop_map(|(member, becomes_voter)| Learner { member, becomes_voter });
    let standing = prop_oneof![
        4 => Just(Standing::Voter),
        1 => Just(Standing::Incoming),
        1 => option::of(learner).prop_map(|then| Standing::Outgoing { then }),
        1 => any::<bool>().prop_map(|becomes_voter| Standing::Learner { becomes_voter }),
    ];
    let configuration = btree_map(id, (member, standing), 1..4)
        .prop_filter_map("nobody votes", |members| Configuration::new(members).ok().map(Payload::Configuration));
    prop_oneof![
        Just(Payload::Noop),
        vec(any::<u8>(), 0..50).prop_map(|command| Payload::Command(command.into())),
        configuration,
    ]
}

prop_compose! {
    /// Entries as a leader sends them: consecutive, terms and stamps never falling, none after the leader's.
    fn append_entries()(
        first in (0..MAX_NUMBER - 10, 0_u64..1_000),
        commit in number(),
        steps in vec((0_u64..3, 0_u64..1 << 58, payload()), 0..6),
        ahead in 0_u64..3,
    ) -> Message {
        let prev = LogPosition::new(Term(first.1), LogIndex(first.0));
        let (mut position, mut stamp_ns) = (prev, 0);
        let mut entries = Vec::new();
        for (term_step, stamp_step, payload) in steps {
            position = LogPosition::new(Term(position.term.0 + term_step), position.index.next());
            stamp_ns += stamp_step;
            entries.push(Entry { position, stamp: ClusterTime(stamp_ns), payload });
        }
        let term = Term(position.term.0 + ahead);
        Message { term, body: Body::AppendEntries { prev, entries, commit: LogIndex(commit) } }
    }
}

fn short_body() -> impl Strategy<Value = Body> {
    let read = (any::<u64>(), any::<u64>()).prop_map(|(id, incarnation)| (ReadId(id), Incarnation(incarnation)));
    prop_oneof![
        (any::<u64>(), position()).prop_map(|(poll, last_log)| Body::PreVote { poll: Poll(poll), last_log }),
        (any::<u64>(), verdict()).prop_map(|(poll, verdict)| Body::PreVoteReply { poll: Poll(poll), verdict }),
        (position(), proptest::bool::ANY)
            .prop_map(|(last_log, is_transfer)| Body::RequestVote { last_log, is_transfer }),
        Just(Body::TimeoutNow { why: HandOver::Planned }),
        Just(Body::TimeoutNow { why: HandOver::DiskStalled }),
        (position(), number(), prop::collection::vec(any::<u8>(), 0..200), any::<bool>())
            .prop_map(|(last, offset, data, done)| Body::InstallSnapshot { last, offset, data: data.into(), done }),
        (position(), number()).prop_map(|(last, offset)| Body::InstallSnapshotReply { last, offset }),
        verdict().prop_map(|verdict| Body::RequestVoteReply { verdict }),
        number().prop_map(|index| Body::AppendEntriesReply(AppendResult::Matched(LogIndex(index)))),
        (position(), position())
            .prop_map(|(prev, hint)| Body::AppendEntriesReply(AppendResult::Mismatch { prev, hint })),
        (number(), any::<u64>())
            .prop_map(|(commit, round)| Body::Heartbeat { commit: LogIndex(commit), round: ReadRound(round) }),
        any::<u64>().prop_map(|round| Body::HeartbeatReply { round: ReadRound(round) }),
        read.clone().prop_map(|(id, incarnation)| Body::ReadIndex { id, incarnation }),
        (read, number()).prop_map(|((id, incarnation), index)| Body::ReadIndexReply {
            id,
            incarnation,
            index: LogIndex(index)
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let short = (number(), short_body()).prop_map(|(term, body)| Message { term: Term(term), body });
    prop_oneof![short, append_entries()]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(message in message()) {
        let frame = encode(&message);
        prop_assert_eq!(frame.kind, FrameKind::Raft);
        prop_assert_eq!(decode(&frame), Ok(message));
    }

    /// A header with damage in it is refused, or is another message that encodes to what was decoded: nothing in
    /// between, and no panic.
    #[test]
    fn damaged_headers_never_panic(
        message in message(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        payload in vec(any::<u8>(), 0..80),
    ) {
        let mut frame = encode(&message);
        let mut header = frame.header.to_vec();
        for (place, byte) in damage {
            let at = place.index(header.len());
            header[at] = byte;
        }
        frame.header = header.into();
        frame.payload = payload.into();
        if let Ok(decoded) = decode(&frame) {
            prop_assert_eq!(decode(&encode(&decoded)), Ok(decoded));
        }
    }

    #[test]
    fn random_headers_never_panic(header in vec(any::<u8>(), 0..60), payload in vec(any::<u8>(), 0..60)) {
        let _ = decode(&Frame { kind: FrameKind::Raft, group: 0, header: header.into(), payload: payload.into() });
    }

    /// Cut anywhere, a header is none.
    #[test]
    fn a_header_cut_short_is_refused(message in message(), place in any::<prop::sample::Index>()) {
        let mut frame = encode(&message);
        frame.header.truncate(place.index(frame.header.len()));
        prop_assert!(decode(&frame).is_err());
    }
}

fn commands(commands: &[Bytes]) -> Message {
    let entry = |(place, command): (usize, &Bytes)| Entry {
        position: LogPosition::new(Term(1), LogIndex(place as u64 + 1)),
        stamp: ClusterTime(0),
        payload: Payload::Command(command.clone()),
    };
    let entries = commands.iter().enumerate().map(entry).collect();
    Message { term: Term(1), body: Body::AppendEntries { prev: LogPosition::ORIGIN, entries, commit: LogIndex(0) } }
}

/// Entry data are not copied on the way in, and a single command is not on the way out.
#[test]
fn commands_are_slices_of_the_payload() {
    let single = Bytes::from(vec![7; 1_000]);
    let frame = encode(&commands(std::slice::from_ref(&single)));
    assert_eq!(frame.payload.as_ptr(), single.as_ptr());

    let frame = encode(&commands(&[single, Bytes::new(), Bytes::from_static(b"other")]));
    assert_eq!(frame.payload.len(), 1_005, "and nothing but the commands is in it");
    let Body::AppendEntries { entries, .. } = decode(&frame).unwrap().body else { unreachable!() };
    let Some(Payload::Command(last)) = entries.last().map(|entry| &entry.payload) else { unreachable!() };
    assert_eq!(last.as_ptr(), frame.payload[1_000..].as_ptr());
}

#[test]
fn entries_and_snapshots_travel_on_the_bulk_link_and_nothing_else_does() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    runner
        .run(&message(), |message| {
            let is_bulk = matches!(message.body, Body::AppendEntries { .. } | Body::InstallSnapshot { .. });
            prop_assert_eq!(link_of(&message) == LinkKind::Bulk, is_bulk);
            Ok(())
        })
        .unwrap();
}
