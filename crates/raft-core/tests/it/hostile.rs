//! Broken peers: arbitrary messages, near what a server could believe and far beyond, into a running server.
//!
//! It must never panic, and what it owes by itself must hold throughout: the assertions after each step, one vote a
//! term, nothing said that is not on its disk.

use proptest::prelude::*;
use raft_core::{
    AppendResult, Body, ClusterTime, Configuration, DiskId, Entry, HandOver, Incarnation, Input, Learner, LogIndex,
    LogPosition, MemberChange, Message, NodeId, Payload, Poll, ReadId, ReadRound, Refusal, Standing, Term, Verdict,
};

use crate::cluster::{Cluster, member, member_on, n};

/// What happens to the server.
#[derive(Clone, Debug)]
enum Happening {
    Message { from: u64, incarnation: u64, message: Message },
    Wake,
    Persist { count: usize },
    Propose,
    Read,
    Snapshot,
    Unreachable { peer: u64 },
    Change(MemberChange),
    Restart,
}

fn index() -> impl Strategy<Value = LogIndex> {
    prop_oneof![20 => 0_u64..8, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()].prop_map(LogIndex)
}

/// Terms stay low, so that many messages are of the server's own.
fn term() -> impl Strategy<Value = Term> {
    let near = prop_oneof![40 => 0_u64..4, 2 => 4_u64..9];
    prop_oneof![60 => near, 1 => Just(Term::MAX_ACCEPTED.0), 1 => Just(u64::MAX), 1 => any::<u64>()].prop_map(Term)
}

fn position() -> impl Strategy<Value = LogPosition> {
    let any = (term(), index()).prop_map(|(term, index)| LogPosition::new(term, index));
    prop_oneof![1 => Just(LogPosition::ORIGIN), 4 => any]
}

fn node() -> impl Strategy<Value = NodeId> {
    (1_u64..5).prop_map(n)
}

fn payload() -> impl Strategy<Value = Payload> {
    let configuration = prop::collection::btree_set(1_u64..5, 0..4).prop_map(|ids| {
        Payload::Configuration(Configuration::of_voters(ids.into_iter().map(|id| (n(id), member(n(id))))))
    });
    let standing = prop_oneof![
        Just(Standing::Voter),
        Just(Standing::Incoming),
        Just(Standing::Outgoing { then: None }),
        any::<bool>().prop_map(|becomes_voter| Standing::Learner { becomes_voter }),
        any::<bool>().prop_map(|becomes_voter| {
            Standing::Outgoing { then: Some(Learner { member: member_on(n(1), DiskId(9)), becomes_voter }) }
        }),
    ];
    let joint = prop::collection::btree_map(1_u64..5, standing, 1..5).prop_map(|standings| {
        let members = standings.into_iter().map(|(id, standing)| (n(id), (member(n(id)), standing)));
        Configuration::new(members.collect()).map_or(Payload::Noop, Payload::Configuration)
    });
    prop_oneof![8 => Just(Payload::Noop), 4 => Just(Payload::Command("x".into())), 1 => configuration, 2 => joint]
}

/// Mostly consecutive from where they say they begin, with terms that mostly rise.
fn entries(prev: LogPosition) -> impl Strategy<Value = Vec<Entry>> {
    let step = (prop_oneof![9 => Just(1_u64), 1 => 0_u64..4], prop_oneof![6 => Just(0_u64), 1 => 1_u64..3], payload());
    prop::collection::vec(step, 0..4).prop_map(move |steps| {
        let mut last = prev;
        let make = |(by_index, by_term, payload): (u64, u64, Payload)| {
            last = LogPosition::new(
                Term(last.term.0.wrapping_add(by_term).max(1)),
                LogIndex(last.index.0.wrapping_add(by_index)),
            );
            Entry { position: last, stamp: ClusterTime(last.index.0), payload }
        };
        steps.into_iter().map(make).collect()
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let refusal = prop_oneof![
        Just(Refusal::HearsLeader),
        Just(Refusal::StaleTerm),
        Just(Refusal::NotAMember),
        node().prop_map(Refusal::VotedFor),
        position().prop_map(|ours| Refusal::LogBehind { ours }),
    ];
    prop_oneof![3 => Just(Verdict::Granted), 1 => refusal.prop_map(Verdict::Refused)]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0_u64..5, 1 => Just(u64::MAX)]
}

fn body() -> impl Strategy<Value = Body> {
    let append = position().prop_flat_map(|prev| (Just(prev), entries(prev), index()));
    prop_oneof![
        1 => (number(), position()).prop_map(|(poll, last_log)| Body::PreVote { poll: Poll(poll), last_log }),
        4 => (number(), verdict()).prop_map(|(poll, verdict)| Body::PreVoteReply { poll: Poll(poll), verdict }),
        1 => (position(), proptest::bool::ANY)
            .prop_map(|(last_log, is_transfer)| Body::RequestVote { last_log, is_transfer }),
        1 => Just(Body::TimeoutNow { why: HandOver::Planned }),
        1 => Just(Body::TimeoutNow { why: HandOver::DiskStalled }),
        4 => verdict().prop_map(|verdict| Body::RequestVoteReply { verdict }),
        6 => append.prop_map(|(prev, entries, commit)| Body::AppendEntries { prev, entries, commit }),
        4 => index().prop_map(|index| Body::AppendEntriesReply(AppendResult::Matched(index))),
        4 => (position(), position())
            .prop_map(|(prev, hint)| Body::AppendEntriesReply(AppendResult::Mismatch { prev, hint })),
        3 => (position(), number(), "[a-z]{0,4}", proptest::bool::ANY).prop_map(|(last, offset, data, done)| {
            Body::InstallSnapshot { last, offset, data: data.into(), done }
        }),
        2 => (position(), number()).prop_map(|(last, offset)| Body::InstallSnapshotReply { last, offset }),
        2 => (index(), number()).prop_map(|(commit, round)| Body::Heartbeat { commit, round: ReadRound(round) }),
        2 => number().prop_map(|round| Body::HeartbeatReply { round: ReadRound(round) }),
        1 => (number(), number())
            .prop_map(|(id, incarnation)| Body::ReadIndex { id: ReadId(id), incarnation: Incarnation(incarnation) }),
        1 => (number(), number(), index()).prop_map(|(id, incarnation, index)| Body::ReadIndexReply {
            id: ReadId(id),
            incarnation: Incarnation(incarnation),
            index
        }),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let incarnation = prop_oneof![20 => Just(1_u64), 1 => 0_u64..4];
    prop_oneof![
        20 => (1_u64..5, incarnation, term(), body()).prop_map(|(from, incarnation, term, body)| {
            Happening::Message { from, incarnation, message: Message { term, body } }
        }),
        3 => Just(Happening::Wake),
        4 => (1_usize..4).prop_map(|count| Happening::Persist { count }),
        1 => Just(Happening::Propose),
        1 => Just(Happening::Read),
        1 => Just(Happening::Snapshot),
        1 => (1_u64..5).prop_map(|peer| Happening::Unreachable { peer }),
        1 => Just(Happening::Restart),
        2 => change().prop_map(Happening::Change),
    ]
}

fn change() -> impl Strategy<Value = MemberChange> {
    let member = || (node(), 1_u128..6).prop_map(|(id, disk)| (id, member_on(id, DiskId(disk))));
    prop_oneof![
        (member(), any::<bool>()).prop_map(|((id, member), becomes_voter)| MemberChange::AddLearner {
            id,
            member,
            becomes_voter
        }),
        node().prop_map(|id| MemberChange::Promote { id }),
        node().prop_map(|id| MemberChange::Demote { id }),
        node().prop_map(|id| MemberChange::Remove { id }),
        member().prop_map(|(id, member)| MemberChange::Replace { id, member }),
    ]
}

fn run(happenings: Vec<Happening>, elect_first: bool) {
    let mut cluster = Cluster::new(3, true, |_| {});
    if elect_first {
        cluster.wake(n(1));
        cluster.stabilize();
    }
    for happening in happenings {
        match happening {
            Happening::Message { from, incarnation, message } => {
                cluster.inject(n(1), n(from), Incarnation(incarnation), message);
            }
            Happening::Wake => cluster.wake(n(1)),
            Happening::Persist { count } => cluster.persist(n(1), count),
            Happening::Propose => cluster.propose(n(1), &["a".to_owned()]),
            Happening::Read => cluster.read(n(1)),
            Happening::Snapshot => cluster.take_snapshot(n(1)),
            Happening::Unreachable { peer } => cluster.step(n(1), Input::Unreachable { peer: n(peer) }),
            Happening::Restart => cluster.restart(n(1)),
            Happening::Change(change) => cluster.change(n(1), vec![change]),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_a_peer_says_brings_a_server_down(happenings in prop::collection::vec(happening(), 1..80)) {
        run(happenings, false);
    }

    #[test]
    fn nor_a_leader(happenings in prop::collection::vec(happening(), 1..80)) {
        run(happenings, true);
    }
}
