//! Changing who is in the cluster (§4, rule 2): newcomers, removed servers, and disks that were replaced.

use std::time::Duration;

use raft_core::{ChangeRefusal, DiskId, Incarnation, Standing};
use raft_node::{Answer, Failure, MemberRequest, Members, NodeEvent, PeerIdentity, PeerMessage};

use crate::cluster::{Cluster, address_of, n};

fn members(voters: &[u64], learners: &[u64]) -> Members {
    let ids = |ids: &[u64]| ids.iter().copied().map(n).collect();
    Members { voters: ids(voters), learners: ids(learners) }
}

/// Commits `count` commands.
#[track_caller]
fn write(cluster: &mut Cluster, count: usize) {
    for _ in 0..count {
        let leader = cluster.leads().expect("somebody leads");
        let request = cluster.propose(leader);
        assert!(matches!(cluster.wait_for(request), Answer::Applied(_)), "{request}");
    }
}

#[test]
fn a_newcomer_becomes_a_learner_then_a_voter_and_then_it_counts() {
    let mut cluster = Cluster::formed(3, 1);
    write(&mut cluster, 5);
    cluster.add_newcomer(n(4), &[n(2)]);
    cluster.start(n(4));
    cluster.run_for(Duration::from_secs(2));
    assert!(cluster.said(n(4)).contains("asks to join"), "{}", cluster.said(n(4)));
    assert!(cluster.said(n(4)).contains("`raftctl member add` adds it"), "{}", cluster.said(n(4)));
    assert!(cluster.replica(n(4)).machine().numbers.is_empty(), "nobody sends it anything");
    let leader = cluster.leads().unwrap();

    let added = cluster.add(n(4), false);
    assert_eq!(cluster.wait_for_members(added), members(&[1, 2, 3], &[4]));
    cluster.catch_up(n(4));
    let promoted = cluster.change(leader, MemberRequest::Promote { id: n(4) });
    assert_eq!(cluster.wait_for_members(promoted), members(&[1, 2, 3, 4], &[]));

    // Three of four are needed now, and n4 is one of them.
    let silent = cluster.ids().into_iter().find(|&id| id != leader && id != n(4)).unwrap();
    cluster.crash(silent);
    write(&mut cluster, 1);
    cluster.crash(n(4));
    let request = cluster.propose(leader);
    assert_ne!(cluster.wait_for(request), Answer::Applied(Default::default()), "two of four commit nothing");
}

#[test]
fn whoever_waits_for_the_vote_gets_it_in_one_go() {
    let mut cluster = Cluster::formed(1, 2);
    write(&mut cluster, 20);
    for id in [2, 3] {
        cluster.add_newcomer(n(id), &[n(1)]);
        cluster.start(n(id));
    }
    let second = cluster.add(n(2), true);
    assert_eq!(cluster.wait_for_members(second), members(&[1, 2], &[]));
    let third = cluster.add(n(3), true);
    assert_eq!(cluster.wait_for_members(third), members(&[1, 2, 3], &[]));

    cluster.crash(n(1));
    cluster.wait_for_leader_besides(n(1));
    write(&mut cluster, 1);
}

#[test]
fn an_add_waits_for_a_newcomer_that_is_not_there_yet() {
    let mut cluster = Cluster::formed(3, 3);
    cluster.add_newcomer(n(4), &[n(1), n(2), n(3)]);
    let early = cluster.add(n(4), false);
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.answer(early), None);
    cluster.start(n(4));
    assert_eq!(cluster.wait_for_members(early), members(&[1, 2, 3], &[4]));

    let vain = cluster.add(n(5), false);
    assert_eq!(cluster.wait_for(vain), Answer::Failed(Failure::NotMet { id: n(5) }));
}

#[test]
fn only_the_leader_changes_the_members_and_one_change_at_a_time() {
    let mut cluster = Cluster::formed(3, 4);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let request = cluster.change(follower, MemberRequest::Remove { id: leader });
    assert_eq!(cluster.wait_for(request), Answer::Failed(Failure::NotLeader));

    let first = cluster.change(leader, MemberRequest::Remove { id: follower });
    let second = cluster.change(leader, MemberRequest::Remove { id: follower });
    let Answer::Failed(Failure::ChangeRefused(ChangeRefusal::UnderWay { .. })) = cluster.wait_for(second) else {
        panic!("{:?}", cluster.answer(second));
    };
    cluster.wait_for_members(first);
    let again = cluster.change(leader, MemberRequest::Remove { id: follower });
    assert_eq!(cluster.wait_for_members(again).voters.len(), 2, "there is nothing left to do");
    let stranger = cluster.change(leader, MemberRequest::Promote { id: n(9) });
    let unknown = ChangeRefusal::UnknownMember { id: n(9) };
    assert_eq!(cluster.wait_for(stranger), Answer::Failed(Failure::ChangeRefused(unknown)));
}

#[test]
fn a_removed_leader_answers_hands_over_and_says_so() {
    let mut cluster = Cluster::formed(3, 5);
    write(&mut cluster, 3);
    let leader = cluster.leader();
    let removed = cluster.change(leader, MemberRequest::Remove { id: leader });
    let left = cluster.wait_for_members(removed);
    assert!(!left.voters.contains(&leader) && left.voters.len() == 2, "{left:?}");
    cluster.wait_for_leader_besides(leader);
    write(&mut cluster, 2);
    cluster.run_for(Duration::from_secs(2));
    assert!(cluster.servers[&leader].events.contains(&NodeEvent::Removed), "{}", cluster.said(leader));
    assert!(cluster.replica(leader).is_removed());
    let request = cluster.propose(leader);
    assert_eq!(cluster.wait_for(request), Answer::Failed(Failure::NoLeader));

    // It disturbs nobody, and a restart changes nothing.
    let terms = |cluster: &Cluster| cluster.replica(cluster.leads().unwrap()).status().term;
    let term = terms(&cluster);
    cluster.crash(leader);
    cluster.start(leader);
    cluster.run_for(Duration::from_secs(10));
    assert_eq!(terms(&cluster), term);
    assert!(cluster.replica(leader).is_removed());
}

#[test]
fn a_wiped_disk_comes_back_as_a_learner_and_votes_once_it_has_caught_up() {
    for wiped in [1, 2, 3].map(n) {
        let mut cluster = Cluster::formed(3, 6);
        write(&mut cluster, 10);
        let old = cluster.disk_id(wiped);
        cluster.crash(wiped);
        cluster.wipe(wiped);
        cluster.start(wiped);
        let new = cluster.disk_id(wiped);
        assert_ne!(new, old);
        assert!(
            cluster.run_until(|cluster| cluster.leads().is_some_and(|leader| {
                leader != wiped && cluster.configuration(leader).has(wiped, new) && cluster.votes_at(leader, wiped)
            })),
            "{wiped} does not come back: {}",
            cluster.said(wiped)
        );
        cluster.catch_up(wiped);
        assert!(!cluster.replica(wiped).is_removed());

        // It is needed, and it does what is needed.
        let leader = cluster.leads().unwrap();
        let other = cluster.ids().into_iter().find(|&id| id != leader && id != wiped).unwrap();
        cluster.crash(other);
        write(&mut cluster, 1);
    }
}

/// Nobody is left who was there when the cluster formed; what the log says is enough.
#[test]
fn all_disks_may_be_replaced_one_after_the_other() {
    let mut cluster = Cluster::formed(3, 11);
    write(&mut cluster, 5);
    for _ in 0..2 {
        for wiped in [1, 2, 3].map(n) {
            cluster.crash(wiped);
            cluster.wipe(wiped);
            cluster.start(wiped);
            let new = cluster.disk_id(wiped);
            let is_back = |cluster: &Cluster| {
                let others = cluster.leads().filter(|&leader| leader != wiped);
                others.is_some_and(|leader| {
                    cluster.configuration(leader).has(wiped, new) && cluster.votes_at(leader, wiped)
                })
            };
            assert!(cluster.run_until(is_back), "{wiped} does not come back: {}", cluster.said(wiped));
            cluster.catch_up(wiped);
        }
    }
    write(&mut cluster, 1);
}

#[test]
fn a_disk_does_not_take_the_place_of_one_that_lives() {
    let mut cluster = Cluster::formed(3, 7);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let twin = PeerIdentity { id: follower, disk: DiskId(99), incarnation: Incarnation(1) };
    let asks = PeerMessage::Introduction { address: "elsewhere:1".to_owned(), is_newcomer: true };
    cluster.sent.clear();
    cluster.with(leader, |replica, now| replica.handle_peer(now, twin, asks, &mut || unreachable!()));
    let reason = format!("{follower} is alive with its old disk; stop it first");
    let refusal = (leader, follower, PeerMessage::NotAdmitted { reason });
    assert!(cluster.sent.contains(&refusal), "{:?}", cluster.sent);
    cluster.run_for(Duration::from_secs(5));
    assert!(!cluster.configuration(leader).has(follower, DiskId(99)));
    assert_eq!(cluster.leader(), leader, "nobody is disturbed");
    write(&mut cluster, 1);
}

/// §4.1: whoever missed a change is asked for its vote by a server it has never heard of, and must be able to answer.
#[test]
fn a_voter_that_missed_the_change_elects_a_server_it_did_not_know() {
    let mut cluster = Cluster::formed(3, 8);
    let (leader, asleep) = (cluster.leader(), cluster.follower());
    cluster.add_newcomer(n(4), &[n(1), n(2), n(3)]);
    cluster.start(n(4));
    cluster.crash(asleep);
    let added = cluster.add(n(4), true);
    cluster.wait_for_members(added);
    write(&mut cluster, 3);

    // Three of four are needed: only n4 reaches both others, and the one that was asleep has a log behind its own.
    let third = cluster.ids().into_iter().find(|&id| ![leader, asleep, n(4)].contains(&id)).unwrap();
    cluster.crash(leader);
    cluster.cut.extend([(third, asleep), (asleep, third)]);
    cluster.start(asleep);
    assert!(!cluster.configuration(asleep).members().any(|(id, _)| id == n(4)), "it knows nothing of n4");
    assert_eq!(cluster.wait_for_leader_besides(leader), n(4));
    write(&mut cluster, 1);
}

#[test]
fn a_newcomer_may_crash_at_any_moment() {
    for moment in 0..60 {
        let mut cluster = Cluster::formed(3, 9);
        write(&mut cluster, 5);
        cluster.add_newcomer(n(4), &[n(1)]);
        cluster.start(n(4));
        let added = cluster.add(n(4), true);
        for _ in 0..moment {
            if !cluster.step() {
                let soon = cluster.now.after(Duration::from_millis(40));
                cluster.pass_time_to(soon);
            }
        }
        cluster.crash_keeping(n(4), |versions| moment % (versions + 1));
        cluster.start(n(4));
        if cluster.run_until(|cluster| cluster.answer(added).is_some()) {
            let answer = cluster.answer(added).unwrap().clone();
            assert_eq!(answer, Answer::Members(members(&[1, 2, 3, 4], &[])), "crashed at step {moment}");
        }
        cluster.catch_up(n(4));
    }
}

#[test]
fn an_address_may_change_and_an_id_may_come_back_with_a_new_disk() {
    let mut cluster = Cluster::formed(3, 10);
    let leader = cluster.leader();
    let follower = cluster.follower();
    let moved = MemberRequest::Add { id: follower, address: "moved:9".to_owned(), becomes_voter: false };
    let request = cluster.change(leader, moved);
    assert_eq!(cluster.wait_for_members(request), members(&[1, 2, 3], &[]));
    assert_eq!(cluster.configuration(leader).member(follower).unwrap().address, "moved:9");

    let removed = cluster.change(leader, MemberRequest::Remove { id: follower });
    cluster.wait_for_members(removed);
    cluster.crash(follower);
    let seeds: Vec<_> = cluster.ids().into_iter().filter(|&id| id != follower).collect();
    cluster.add_newcomer(follower, &seeds);
    cluster.start(follower);
    let added =
        cluster.change(leader, MemberRequest::Add { id: follower, address: address_of(follower), becomes_voter: true });
    assert_eq!(cluster.wait_for_members(added), members(&[1, 2, 3], &[]));
    assert_eq!(cluster.configuration(leader).standing(follower), Some(&Standing::Voter));
}
