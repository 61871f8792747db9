//! Why the leader changed, as each server tells it (promise 7).

use std::time::Duration;

use raft_core::{NodeId, RoleName, Term};
use raft_node::{FormationState, PeerMessage};

use crate::cluster::{Cluster, n};

/// What a server says of the last change of leader.
fn last_change(cluster: &Cluster, id: NodeId) -> (Term, String) {
    let change = cluster.replica(id).status().last_change.expect("there was one");
    (change.term, change.reason)
}

/// Runs until everybody who runs follows the leader, and has heard what it had to say.
fn settle(cluster: &mut Cluster) -> NodeId {
    cluster.settle();
    cluster.run_for(Duration::from_secs(1));
    cluster.leader()
}

#[track_caller]
fn check_all(cluster: &Cluster, is_right: impl Fn(&str) -> bool) {
    let leader = cluster.leader();
    let term = cluster.replica(leader).status().term;
    for id in cluster.ids().into_iter().filter(|&id| cluster.is_running(id)) {
        let (changed_in, reason) = last_change(cluster, id);
        assert!(changed_in == term && is_right(&reason), "{id}: in term {changed_in}, not {term}: {reason:?}");
    }
}

fn is_silence(reason: &str) -> bool {
    let milliseconds = reason.strip_prefix("no leader for ").and_then(|rest| rest.strip_suffix(" ms"));
    milliseconds.and_then(|number| number.parse().ok()).is_some_and(|number: u64| number >= 150)
}

#[test]
fn when_the_leader_dies_everybody_knows_that_it_fell_silent() {
    let mut cluster = Cluster::formed(3, 1);
    let old = settle(&mut cluster);
    check_all(&cluster, is_silence);
    cluster.crash(old);
    assert_ne!(settle(&mut cluster), old);
    check_all(&cluster, is_silence);
    // One that was down when it happened knows who was elected, and who can be asked why.
    let leader = cluster.leader();
    cluster.start(old);
    settle(&mut cluster);
    assert_eq!(last_change(&cluster, old).1, format!("{leader} was elected; it knows why"));
}

#[test]
fn when_it_hands_over_everybody_knows() {
    let mut cluster = Cluster::formed(3, 1);
    let (old, to) = (cluster.leader(), cluster.follower());
    cluster.transfer(old, Some(to));
    assert_eq!(settle(&mut cluster), to);
    check_all(&cluster, |reason| reason == format!("{old} hands over"));
}

#[test]
fn when_it_is_cut_off_it_hears_afterwards_why_another_leads() {
    let mut cluster = Cluster::formed(3, 1);
    let old = settle(&mut cluster);
    cluster.isolate(old);
    cluster.run_for(Duration::from_secs(2));
    assert!(cluster.said(old).contains("leader → follower: no majority heard for 3"), "{}", cluster.said(old));
    cluster.heal();
    assert_ne!(settle(&mut cluster), old);
    let (_, of_old) = last_change(&cluster, old);
    assert!(of_old.starts_with("no leader for") || of_old.starts_with("no majority heard for"), "{of_old}");
    for id in cluster.ids().into_iter().filter(|&id| id != old) {
        assert!(is_silence(&last_change(&cluster, id).1));
    }
}

#[test]
fn one_that_was_cut_off_and_comes_back_has_seen_no_change() {
    let mut cluster = Cluster::formed(3, 1);
    settle(&mut cluster);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let before = last_change(&cluster, follower);
    cluster.isolate(follower);
    cluster.run_for(Duration::from_secs(2));
    assert_eq!(cluster.replica(follower).status().role, Some(RoleName::PreCandidate));
    cluster.heal();
    assert_eq!(settle(&mut cluster), leader);
    assert_eq!(last_change(&cluster, follower), before, "the same leader in the same term");
}

#[test]
fn without_a_majority_the_last_change_stays_and_the_log_says_what_is_missing() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = settle(&mut cluster);
    let before = last_change(&cluster, leader);
    for id in cluster.ids().into_iter().filter(|&id| id != leader) {
        cluster.crash(id);
    }
    cluster.run_for(Duration::from_secs(2));
    assert_eq!(cluster.replica(leader).leader(), None);
    assert_eq!(last_change(&cluster, leader), before);
    assert!(cluster.said(leader).contains("no majority heard for 3"), "{}", cluster.said(leader));
}

#[test]
fn a_reason_that_is_no_line_is_refused_and_one_of_an_earlier_term_is_no_news() {
    let long = PeerMessage::Elected { term: Term(8), reason: "x".repeat(257) }.to_frame();
    assert_eq!(PeerMessage::from_frame(long).unwrap_err().to_string(), "a reason of 257 bytes, the limit is 256");
    let mut cluster = Cluster::formed(3, 1);
    settle(&mut cluster);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let before = last_change(&cluster, follower);
    let from = cluster.running(leader).identity;
    for term in [Term(0), Term(u64::MAX)] {
        let elected = PeerMessage::Elected { term, reason: "noise".to_owned() };
        cluster.with(follower, |replica, now| replica.handle_peer(now, from, elected, &mut || 1));
        assert_eq!(last_change(&cluster, follower), before);
    }
    // Nor does anybody listen before there is a cluster.
    let mut forming = Cluster::new(3, 1);
    forming.start(n(1));
    let elected = PeerMessage::Elected { term: Term(1), reason: "noise".to_owned() };
    forming.with(n(1), |replica, now| replica.handle_peer(now, from, elected, &mut || 1));
    assert!(forming.replica(n(1)).status().last_change.is_none());
    let waiting = PeerMessage::Formation(FormationState::Waiting { listed: vec![1, 2, 3] });
    assert_eq!(waiting.link(), PeerMessage::Elected { term: Term(1), reason: String::new() }.link());
}
