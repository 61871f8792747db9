//! Tables of the field's conformance suites, as data: where the next probe goes, what a majority commits, who gets a
//! vote.

use raft_core::{
    AppendResult, Body, HardState, Incarnation, LogIndex, LogPosition, MemberChange, Message, Poll, Refusal, RoleName,
    Term, Verdict,
};

use crate::cluster::{Cluster, member, n};
use crate::script_words::entry;

fn position(index: u64, term: u64) -> LogPosition {
    LogPosition::new(Term(term), LogIndex(index))
}

/// Puts a log on a server's disk, given by the terms of its entries.
fn prepare(cluster: &mut Cluster, id: u64, terms: &[u64], term: u64) {
    cluster.prepare(n(id), |disk| {
        disk.entries = (1..).zip(terms).map(|(index, &term)| entry(position(index, term))).collect();
        disk.hard_state = HardState { term: Term(term), voted_for: None };
    });
}

fn tell(cluster: &mut Cluster, to: u64, from: u64, term: u64, body: Body) {
    cluster.inject(n(to), n(from), Incarnation(1), Message { term: Term(term), body });
}

/// The leader's terms, the follower's terms, the follower's hint, the leader's next probe; positions as (index, term).
type Vector = (&'static [u64], &'static [u64], (u64, u64), (u64, u64));

/// One refusal and one look into the leader's log skip whole terms (§3.5, end).
///
/// Of the field's nine vectors these are eight. In the ninth a follower has compacted beyond the end of its leader's log:
/// what is compacted is committed, and so in the log of every later leader (§3.4, Leader Completeness).
#[test]
fn a_refused_leader_skips_whole_terms() {
    const VECTORS: [Vector; 8] = [
        (&[1, 2, 2, 4, 4, 4, 4], &[1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3], (7, 3), (3, 2)),
        (&[1, 2, 2, 3, 4, 4, 4, 5], &[1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3], (8, 3), (4, 3)),
        (&[1, 1, 1, 1], &[1, 2, 2, 4], (1, 1), (1, 1)),
        (&[1, 1, 1, 1, 1, 1], &[1, 2, 2, 4], (1, 1), (1, 1)),
        (&[1, 1, 1, 1], &[1, 2, 2, 4, 4, 4], (1, 1), (1, 1)),
        (&[1, 1, 1, 4, 5], &[1, 1, 1, 4], (4, 4), (4, 4)),
        (&[2, 5, 5, 5, 5, 5, 5, 5, 5], &[2, 4, 4, 4, 4, 4], (6, 4), (1, 2)),
        (&[2, 2, 2, 2, 2], &[2, 4, 4, 4, 4, 4, 4, 4], (1, 2), (1, 2)),
    ];
    for (leader_terms, follower_terms, hint, probe) in VECTORS {
        let mut cluster = Cluster::new(3, false, |_| {});
        prepare(&mut cluster, 1, leader_terms, 9);
        prepare(&mut cluster, 2, follower_terms, 9);
        cluster.cut(n(1), n(2));
        cluster.wake(n(1));
        cluster.stabilize();
        assert_eq!(cluster.leader(), Some(n(1)));

        cluster.heal();
        cluster.wake(n(1));
        while cluster.deliver_one(n(2), n(1)) {}
        let hints: Vec<LogPosition> = cluster
            .queue(n(1), n(2))
            .iter()
            .filter_map(|packet| match &packet.message.body {
                Body::AppendEntriesReply(AppendResult::Mismatch { hint, .. }) => Some(*hint),
                _ => None,
            })
            .collect();
        assert_eq!(hints, [position(hint.0, hint.1)], "{leader_terms:?} {follower_terms:?}");

        while cluster.deliver_one(n(1), n(2)) {}
        let probes: Vec<LogPosition> = cluster
            .queue(n(2), n(1))
            .iter()
            .filter_map(|packet| match &packet.message.body {
                Body::AppendEntries { prev, .. } => Some(*prev),
                _ => None,
            })
            .collect();
        assert_eq!(probes, [position(probe.0, probe.1)], "{leader_terms:?} {follower_terms:?}");
        cluster.stabilize();
        assert_eq!(cluster.raft(n(1)).log(), cluster.raft(n(2)).log());
    }
}

/// The highest index that a majority holds, if an entry of the own term stands there or before (§3.6.2). How many
/// entries of earlier leaders the log begins with, what each server holds (the leader first), what is committed.
#[test]
fn a_majority_commits_from_the_leaders_first_entry_on() {
    const ROWS: [(usize, &[u64], u64); 14] = [
        (0, &[1], 1),
        (1, &[1], 0),
        (1, &[2], 2),
        (0, &[2], 2),
        (0, &[2, 1, 1], 1),
        (2, &[2, 1, 1], 0),
        (1, &[2, 1, 2], 2),
        (2, &[2, 1, 2], 0),
        (0, &[2, 1, 1, 1], 1),
        (2, &[2, 1, 1, 1], 0),
        (0, &[2, 1, 1, 2], 1),
        (2, &[2, 1, 1, 2], 0),
        (1, &[2, 1, 2, 2], 2),
        (2, &[2, 1, 2, 2], 0),
    ];
    for (earlier, held, committed) in ROWS {
        let mut cluster = Cluster::new(held.len() as u64, true, |_| {});
        prepare(&mut cluster, 1, &vec![1; earlier], 1);
        cluster.wake(n(1));
        for from in 2..=held.len() as u64 {
            tell(&mut cluster, 1, from, 0, Body::PreVoteReply { poll: Poll(1), verdict: Verdict::Granted });
        }
        cluster.persist(n(1), 1);
        for from in 2..=held.len() as u64 {
            tell(&mut cluster, 1, from, 2, Body::RequestVoteReply { verdict: Verdict::Granted });
        }
        assert_eq!(cluster.raft(n(1)).role(), RoleName::Leader);
        cluster.propose(n(1), &["a".to_owned()]);
        cluster.persist(n(1), usize::try_from(held[0]).unwrap() - earlier);
        for (from, &index) in (1..).zip(held).skip(1) {
            tell(&mut cluster, 1, from, 2, Body::AppendEntriesReply(AppendResult::Matched(LogIndex(index))));
        }
        assert_eq!(cluster.raft(n(1)).commit_index(), LogIndex(committed), "{earlier} {held:?}");
    }
}

/// Who gets a vote, with a log that ends at 2@2 (§3.4, §3.6.1): the candidate's last index and term, whom the voter has
/// chosen, whether the vote is granted.
#[test]
fn a_vote_by_log_and_earlier_vote() {
    const ROWS: [(u64, u64, Option<u64>, bool); 18] = [
        (0, 0, None, false),
        (0, 1, None, false),
        (0, 2, None, false),
        (0, 3, None, true),
        (1, 0, None, false),
        (1, 1, None, false),
        (1, 2, None, false),
        (1, 3, None, true),
        (2, 0, None, false),
        (2, 1, None, false),
        (2, 2, None, true),
        (2, 3, None, true),
        (3, 0, None, false),
        (3, 1, None, false),
        (3, 2, None, true),
        (3, 3, None, true),
        (3, 2, Some(2), true),
        (3, 2, Some(3), false),
    ];
    for (index, term, chosen, granted) in ROWS {
        let current = term.max(2);
        let mut cluster = Cluster::new(3, false, |_| {});
        prepare(&mut cluster, 1, &[2, 2], current);
        cluster.prepare(n(1), |disk| disk.hard_state.voted_for = chosen.map(n));
        tell(&mut cluster, 1, 2, current, Body::RequestVote { last_log: position(index, term), is_transfer: false });
        assert_eq!(was_granted(&mut cluster), granted, "{index}@{term}, voted for {chosen:?}");

        // The poll asks the same, but for the vote: it binds nobody.
        let mut cluster = Cluster::new(3, false, |_| {});
        prepare(&mut cluster, 1, &[2, 2], current);
        let last_log = position(index, term);
        tell(&mut cluster, 1, 2, current, Body::PreVote { poll: Poll(1), last_log });
        assert_eq!(was_granted(&mut cluster), last_log >= position(2, 2), "poll {index}@{term}");
    }
}

/// A candidate and a leader have voted for themselves; a pre-candidate keeps its vote.
#[test]
fn no_role_votes_twice() {
    for role in [RoleName::PreCandidate, RoleName::Candidate, RoleName::Leader] {
        let mut cluster = Cluster::new(3, false, |_| {});
        cluster.prepare(n(1), |disk| disk.hard_state.voted_for = Some(n(1)));
        cluster.wake(n(1));
        if role != RoleName::PreCandidate {
            tell(&mut cluster, 1, 3, 0, Body::PreVoteReply { poll: Poll(1), verdict: Verdict::Granted });
        }
        if role == RoleName::Leader {
            tell(&mut cluster, 1, 3, 1, Body::RequestVoteReply { verdict: Verdict::Granted });
        }
        assert_eq!(cluster.raft(n(1)).role(), role);
        let term = cluster.raft(n(1)).term();
        cluster.queue(n(2), n(1)).clear();
        tell(&mut cluster, 1, 2, term.0, Body::RequestVote { last_log: position(3, 3), is_transfer: false });
        assert!(!was_granted(&mut cluster), "{role}");
        assert_eq!(cluster.raft(n(1)).role(), role, "refusing changes nothing");
    }
}

/// The verdict on its way from n1 to n2.
fn was_granted(cluster: &mut Cluster) -> bool {
    let packet = cluster.queue(n(2), n(1)).pop_front().expect("an answer");
    match packet.message.body {
        Body::RequestVoteReply { verdict } | Body::PreVoteReply { verdict, .. } => verdict == Verdict::Granted,
        other => panic!("{other:?} is no answer to a candidate"),
    }
}

/// What both halves of a joint configuration commit: the voters of C_old, those of C_new, what each of n1.. holds (n1
/// leads), and the highest index that majorities of both hold.
#[test]
fn a_majority_of_both_halves_commits() {
    /// C_old, C_new, held by n1.., committed.
    type Row = (&'static [u64], &'static [u64], &'static [u64], u64);
    // The leader's log: no-op 1, C_old with learners 2, C_old,new 3, then 4 and 5.
    const ROWS: [Row; 14] = [
        (&[1], &[2], &[5, 2], 2),
        (&[1], &[2], &[5, 5], 5),
        (&[1, 2, 3], &[1, 4], &[5, 5, 2, 5], 5),
        (&[1, 2, 3], &[3, 4, 5], &[5, 5, 2, 5, 5], 5),
        // 3 by both halves, and the rest by C_new, which counts from then on.
        (&[1, 2, 3, 4], &[1, 5], &[5, 5, 2, 3, 5], 5),
        (&[1], &[1, 2], &[5, 2], 2),
        (&[1, 2], &[1], &[5, 2], 2),
        (&[1, 2, 3], &[1], &[5, 2, 2], 2),
        (&[1, 2, 3], &[1, 4], &[5, 5, 5, 2], 2),
        (&[1, 2, 3], &[3, 4, 5], &[5, 5, 2, 5, 2], 2),
        (&[1, 2, 3], &[2, 3, 4], &[5, 2, 2, 5], 2),
        (&[1, 2, 3], &[4, 5, 6], &[5, 5, 2, 2, 2, 5], 2),
        (&[1, 2, 3, 4], &[1, 5], &[5, 5, 2, 2, 5], 2),
        (&[1, 2], &[1, 3, 4], &[5, 2, 5, 5], 2),
    ];
    for (old, new, held, committed) in ROWS {
        let mut cluster = joint_leader(old, new);
        for (from, &index) in (1..).zip(held).skip(1) {
            tell(&mut cluster, 1, from, 1, Body::AppendEntriesReply(AppendResult::Matched(LogIndex(index))));
        }
        assert_eq!(cluster.raft(n(1)).commit_index(), LogIndex(committed), "{old:?} {new:?} {held:?}");
        assert_eq!(cluster.raft(n(1)).configuration().is_joint(), committed < 3);
        // Any majority of each half is enough; then the leader leaves the joint configuration.
        for from in old.iter().chain(new).filter(|from| **from != 1) {
            tell(&mut cluster, 1, *from, 1, Body::AppendEntriesReply(AppendResult::Matched(LogIndex(5))));
        }
        assert!(cluster.raft(n(1)).commit_index() >= LogIndex(5), "{old:?} {new:?}");
        assert!(!cluster.raft(n(1)).configuration().is_joint());
    }
}

/// Who would be elected with whose votes while a configuration is joint: n1 polls (§9.6).
#[test]
fn a_majority_of_both_halves_elects() {
    /// C_old, C_new, who grants, who refuses, what n1 is then.
    type Row = (&'static [u64], &'static [u64], &'static [u64], &'static [u64], RoleName);
    const ROWS: [Row; 9] = [
        (&[1, 2, 3], &[1], &[], &[], RoleName::PreCandidate),
        (&[1, 2, 3], &[1], &[2], &[], RoleName::Candidate),
        (&[1, 2, 3], &[1], &[], &[2, 3], RoleName::Follower),
        (&[1, 2, 3], &[1, 4, 5], &[2, 3], &[], RoleName::PreCandidate),
        (&[1, 2, 3], &[1, 4, 5], &[4, 5], &[], RoleName::PreCandidate),
        (&[1, 2, 3], &[1, 4, 5], &[2, 4], &[3, 5], RoleName::Candidate),
        (&[1, 2, 3], &[1, 4, 5], &[2, 3], &[4, 5], RoleName::Follower),
        (&[1, 2, 3], &[4, 5, 6], &[2, 3, 4], &[], RoleName::PreCandidate),
        (&[1, 2, 3], &[4, 5, 6], &[2, 4, 5], &[], RoleName::Candidate),
    ];
    for (old, new, grant, refuse, role) in ROWS {
        let mut cluster = joint_leader(old, new);
        cluster.restart(n(1));
        cluster.wake(n(1));
        assert_eq!(cluster.raft(n(1)).role(), RoleName::PreCandidate);
        let granted = grant.iter().map(|id| (id, Verdict::Granted));
        let refused = refuse.iter().map(|id| (id, Verdict::Refused(Refusal::HearsLeader)));
        for (from, verdict) in granted.chain(refused) {
            tell(&mut cluster, 1, *from, 1, Body::PreVoteReply { poll: Poll(1), verdict });
        }
        assert_eq!(cluster.raft(n(1)).role(), role, "{old:?} {new:?} {grant:?} {refuse:?}");
    }
}

/// A cluster whose leader n1 alone has C_old,new, at 3, and two commands after it; all else is cut off and holds 2.
fn joint_leader(old: &[u64], new: &[u64]) -> Cluster {
    let mut cluster = Cluster::new(old.len() as u64, false, |_| {});
    let is_old = |id: &&u64| old.contains(id);
    for id in new.iter().filter(|id| !is_old(id)) {
        cluster.start_new(n(*id), member(n(*id)).disk);
    }
    cluster.wake(n(1));
    cluster.stabilize();
    let add = |id: &u64| MemberChange::AddLearner { id: n(*id), member: member(n(*id)), becomes_voter: false };
    let strangers: Vec<_> = new.iter().filter(|id| !is_old(id)).map(add).collect();
    if strangers.is_empty() {
        cluster.propose(n(1), &["instead".to_owned()]);
    } else {
        cluster.change(n(1), strangers);
    }
    cluster.stabilize();
    cluster.wake(n(1));
    cluster.stabilize();
    for id in cluster.ids() {
        cluster.cut(n(1), id);
    }
    let come = new.iter().filter(|id| !is_old(id)).map(|id| MemberChange::Promote { id: n(*id) });
    let go = old.iter().filter(|id| !new.contains(id)).map(|id| MemberChange::Remove { id: n(*id) });
    cluster.change(n(1), come.chain(go).collect());
    cluster.propose(n(1), &["a".to_owned(), "b".to_owned()]);
    assert_eq!(cluster.raft(n(1)).log().last_index(), LogIndex(5));
    cluster
}
