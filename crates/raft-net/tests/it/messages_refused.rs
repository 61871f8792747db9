//! Messages that no correct peer sends (FAULTS 2c): each is refused by name, before the protocol sees it.

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, ClusterTime, Entry, Incarnation, LogIndex, LogPosition, Message, NobodyVotes, Payload, Poll,
    ReadId, ReadRound, Refusal, Term, Verdict,
};
use raft_net::peer::{DecodeError, decode, encode};
use raft_net::{Frame, FrameKind};

/// The largest term, index and stamp there may be.
const MAX: u64 = 1 << 62;

const fn at(term: u64, index: u64) -> LogPosition {
    LogPosition::new(Term(term), LogIndex(index))
}

const fn message(term: u64, body: Body) -> Message {
    Message { term: Term(term), body }
}

/// Entries of these terms and stamps behind `prev`, in a message of `term`.
fn append(term: u64, prev: LogPosition, entries: &[(u64, u64)]) -> Message {
    let entry = |&(entry_term, stamp_ns): &(u64, u64)| Entry {
        position: at(entry_term, 0),
        stamp: ClusterTime(stamp_ns),
        payload: Payload::Noop,
    };
    let entries = entries.iter().map(entry).collect();
    message(term, Body::AppendEntries { prev, entries, commit: LogIndex(0) })
}

/// A frame with this header, number by number as `docs/formats-wire.md` has them.
fn raw(header: &[u8], payload: &'static [u8]) -> Frame {
    Frame {
        kind: FrameKind::Raft,
        group: 0,
        header: Bytes::copy_from_slice(header),
        payload: Bytes::from_static(payload),
    }
}

/// Term 1, AppendEntries, prev 0@0, commit 0; the list of entries follows.
const APPEND: [u8; 5] = [1, 4, 0, 0, 0];

#[track_caller]
fn is_refused(message: &Message, expected: &DecodeError) {
    assert_eq!(decode(&encode(message)).as_ref(), Err(expected), "{message}");
}

#[test]
fn impossible_numbers() {
    for number in [MAX + 1, u64::MAX] {
        let term = DecodeError::ImpossibleTerm(number);
        is_refused(&message(number, Body::HeartbeatReply { round: ReadRound(0) }), &term);
        is_refused(&message(1, Body::RequestVote { last_log: at(number, 0), is_transfer: false }), &term);
        is_refused(&append(1, at(number, 0), &[]), &term);
        is_refused(&append(1, at(0, 0), &[(number, 0)]), &term);
        let behind = Verdict::Refused(Refusal::LogBehind { ours: at(number, 0) });
        is_refused(&message(1, Body::RequestVoteReply { verdict: behind }), &term);

        let index = DecodeError::ImpossibleIndex(number);
        let (id, incarnation) = (ReadId(0), Incarnation(0));
        for body in [
            Body::PreVote { poll: Poll(0), last_log: at(0, number) },
            Body::RequestVote { last_log: at(0, number), is_transfer: false },
            Body::AppendEntries { prev: at(0, number), entries: Vec::new(), commit: LogIndex(0) },
            Body::AppendEntries { prev: at(0, 0), entries: Vec::new(), commit: LogIndex(number) },
            Body::AppendEntriesReply(AppendResult::Matched(LogIndex(number))),
            Body::AppendEntriesReply(AppendResult::Mismatch { prev: at(0, number), hint: at(0, 0) }),
            Body::AppendEntriesReply(AppendResult::Mismatch { prev: at(0, 0), hint: at(0, number) }),
            Body::Heartbeat { commit: LogIndex(number), round: ReadRound(0) },
            Body::InstallSnapshotReply { last: at(0, number), offset: 0 },
            Body::ReadIndexReply { id, incarnation, index: LogIndex(number) },
        ] {
            is_refused(&message(1, body), &index);
        }
        for body in [
            Body::InstallSnapshot { last: at(1, 1), offset: number, data: "x".into(), done: false },
            Body::InstallSnapshotReply { last: at(1, 1), offset: number },
        ] {
            is_refused(&message(1, body), &DecodeError::ImpossibleOffset(number));
        }
        is_refused(&append(1, at(0, 0), &[(1, number)]), &DecodeError::ImpossibleStamp(number));
    }
    // The second entry would stand beyond the last index there is.
    is_refused(&append(1, at(0, MAX - 1), &[(1, 0), (1, 0)]), &DecodeError::ImpossibleIndex(MAX + 1));
    assert!(decode(&encode(&append(1, at(0, MAX - 1), &[(1, 0)]))).is_ok());
}

#[test]
fn entries_out_of_order() {
    let beyond = DecodeError::EntryBeyondTerm { entry_term: 4, term: 3 };
    is_refused(&append(3, at(4, 9), &[]), &beyond);
    is_refused(&append(3, at(1, 9), &[(3, 0), (4, 0)]), &beyond);
    is_refused(&append(9, at(3, 9), &[(2, 0)]), &DecodeError::TermGoesBack { entry_term: 2, before: 3 });
    is_refused(&append(9, at(3, 9), &[(5, 0), (4, 0)]), &DecodeError::TermGoesBack { entry_term: 4, before: 5 });
    is_refused(&append(9, at(3, 9), &[(3, 8), (4, 7)]), &DecodeError::StampGoesBack { stamp_ns: 7, before_ns: 8 });
}

#[test]
fn commands_and_payload_that_do_not_fit() {
    let two_commands = [&APPEND[..], &[2], &[1, 0, 1, 3], &[1, 0, 1, 4]].concat();
    assert!(decode(&raw(&two_commands, b"onetwo!")).is_ok());
    assert_eq!(decode(&raw(&two_commands, b"onetwo")), Err(DecodeError::CommandBeyondPayload { available_bytes: 6 }));
    assert_eq!(decode(&raw(&two_commands, b"onetwo!?")), Err(DecodeError::TrailingBytes { size_bytes: 1 }));
    let largest = [&APPEND[..], &[1], &[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]].concat();
    assert_eq!(decode(&raw(&largest, b"")), Err(DecodeError::CommandBeyondPayload { available_bytes: 0 }));
    // A vote has no payload.
    assert_eq!(decode(&raw(&[1, 2, 0, 0], b"x")), Err(DecodeError::TrailingBytes { size_bytes: 1 }));
    assert_eq!(decode(&raw(&[1, 2, 0, 0, 7, 7], b"")), Err(DecodeError::TrailingHeaderBytes { size_bytes: 2 }));
}

/// A number as postcard writes it.
fn varint(number: u64) -> Vec<u8> {
    postcard::to_allocvec(&number).unwrap()
}

#[test]
fn lists_beyond_their_limit() {
    // Claims with nothing behind them cost nothing.
    for claim in [1, 1 << 18, u64::from(u32::MAX), u64::MAX] {
        let header = [&APPEND[..], &varint(claim)].concat();
        let expected = DecodeError::Header(postcard::Error::DeserializeUnexpectedEnd);
        assert_eq!(decode(&raw(&header, b"")), Err(expected), "a claim of {claim} entries");
    }
    // At the limit it is a message; one more entry and it is none, though every entry is there.
    let noop = [1, 0, 0];
    for (count, error) in [(1_u64 << 18, None), ((1 << 18) + 1, Some(DecodeError::TooManyEntries))] {
        let header = [&APPEND[..], &varint(count), &noop.repeat(usize::try_from(count).unwrap())].concat();
        assert_eq!(decode(&raw(&header, b"")).err(), error, "{count} entries");
    }
    let members = |count: u64| {
        let member = |id: u64| [varint(id), vec![0, 0]].concat();
        [&APPEND[..], &[1, 1, 0, 2], &varint(count), &(1..=count).flat_map(member).collect::<Vec<_>>()].concat()
    };
    assert!(decode(&raw(&members(1_024), b"")).is_ok());
    assert_eq!(decode(&raw(&members(1_025), b"")), Err(DecodeError::TooManyMembers));
}

#[test]
fn configurations_that_are_none() {
    let with_members = |members: &[u8]| raw(&[&APPEND[..], &[1, 1, 0, 2], members].concat(), b"");
    assert!(decode(&with_members(&[2, 1, 0, 0, 2, 0, 0])).is_ok());
    assert_eq!(decode(&with_members(&[1, 0, 0, 0])), Err(DecodeError::NodeIdZero));
    assert_eq!(decode(&with_members(&[2, 1, 0, 0, 1, 0, 0])), Err(DecodeError::MemberTwice(1)));
    assert_eq!(decode(&with_members(&[0])), Err(NobodyVotes.into()));
    // With standings: member 1, address empty, then 0 voter, 1 incoming, 2 outgoing, 4 learner; 5 is none.
    let with_standings = |members: &[u8]| raw(&[&APPEND[..], &[1, 1, 0, 3], members].concat(), b"");
    assert!(decode(&with_standings(&[2, 1, 0, 0, 0, 2, 0, 0, 1])).is_ok());
    for in_one_half_alone in [&[1, 1, 0, 0, 1][..], &[1, 1, 0, 0, 2], &[1, 1, 0, 0, 4, 1]] {
        assert_eq!(decode(&with_standings(in_one_half_alone)), Err(NobodyVotes.into()), "{in_one_half_alone:?}");
    }
    assert_eq!(decode(&with_standings(&[2, 1, 0, 0, 0, 1, 0, 0, 0])), Err(DecodeError::MemberTwice(1)));
    assert!(matches!(decode(&with_standings(&[1, 1, 0, 0, 5])), Err(DecodeError::Header(_))));
    // An address that is no text.
    assert!(matches!(decode(&with_members(&[1, 1, 0, 1, 0xFF])), Err(DecodeError::Header(_))));
    // A vote for nobody.
    assert_eq!(decode(&raw(&[1, 3, 3, 0], b"")), Err(DecodeError::NodeIdZero));
}

#[test]
fn what_this_version_does_not_know() {
    assert!(matches!(decode(&raw(&[1, 16, 0, 0], b"")), Err(DecodeError::Header(_))), "a body");
    assert!(matches!(decode(&raw(&[1, 3, 6], b"")), Err(DecodeError::Header(_))), "a verdict");
    let payload = [&APPEND[..], &[1, 1, 0, 3]].concat();
    assert!(matches!(decode(&raw(&payload, b"")), Err(DecodeError::Header(_))), "an entry's payload");

    let right = encode(&message(1, Body::HeartbeatReply { round: ReadRound(1) }));
    assert_eq!(decode(&Frame { group: 1, ..right.clone() }), Err(DecodeError::UnknownGroup(1)));
    let request = Frame { kind: FrameKind::Request, ..right };
    assert_eq!(decode(&request), Err(DecodeError::Kind(FrameKind::Request)));
}
