//! Reads in numbers, and local ones: how many questions and rounds many of them cost (§6.4), and that a client that has
//! seen something is never shown less.

use std::time::Duration;

use raft_core::{Body, Message, NodeId};
use raft_node::{Answer, Failure, PeerMessage};

use crate::cluster::{Cluster, PATIENCE, Request, n};
use crate::requests::applied_at;

/// Heartbeats that a leader has sent to one follower: a round each.
fn rounds(cluster: &Cluster, leader: NodeId, follower: NodeId) -> usize {
    let is_round =
        |message: &PeerMessage| matches!(message, PeerMessage::Raft(Message { body: Body::Heartbeat { .. }, .. }));
    cluster.sent.iter().filter(|(from, to, message)| (*from, *to) == (leader, follower) && is_round(message)).count()
}

fn propose_and_wait(cluster: &mut Cluster, at: NodeId) -> Request {
    let request = cluster.propose(at);
    assert!(matches!(cluster.wait_for(request), Answer::Applied(_)));
    request
}

#[test]
fn three_hundred_reads_at_three_servers_cost_three_rounds_at_most() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    propose_and_wait(&mut cluster, leader);
    cluster.drain();
    cluster.sent.clear();
    for id in cluster.ids() {
        let reads = 1_000 * id.as_u64()..1_000 * id.as_u64() + 100;
        cluster.waiting.extend(reads.clone().map(|read| (read, id)));
        cluster.with(id, |replica, now| reads.for_each(|read| replica.read(read, now.after(PATIENCE))));
    }
    cluster.drain();
    assert_eq!(cluster.outcomes.values().filter(|outcome| outcome.seen.is_some()).count(), 300, "all are answered");
    // One question a server and turn, and no round begins while another is on its way.
    assert!((1..=3).contains(&rounds(&cluster, leader, follower)), "{}", rounds(&cluster, leader, follower));
}

// --- local -------------------------------------------------------------------------------------------------------

#[test]
fn a_local_read_asks_nobody() {
    let mut cluster = Cluster::formed(3, 1);
    let follower = cluster.follower();
    cluster.isolate(follower);
    cluster.run_for(Duration::from_secs(1));
    cluster.sent.clear();
    let read = cluster.read_local(follower, 0);
    assert_eq!(cluster.answer(read), Some(&Answer::ReadReady));
    assert!(cluster.sent.is_empty());
}

#[test]
fn a_local_read_waits_until_its_server_has_what_its_client_has_seen() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let first = propose_and_wait(&mut cluster, leader);
    cluster.run_for(Duration::from_secs(1));
    cluster.isolate(follower);
    let second = propose_and_wait(&mut cluster, leader);
    let content = cluster.read_local(follower, 1);
    assert_eq!(cluster.seen(content), [first], "it has that");
    let waiting = cluster.read_local(follower, 2);
    let beyond = cluster.read_local(follower, 3);
    cluster.run_for(Duration::from_secs(1));
    assert_eq!((cluster.answer(waiting), cluster.answer(beyond)), (None, None));
    cluster.heal();
    assert_eq!(cluster.wait_for(waiting), Answer::ReadReady);
    assert_eq!(cluster.seen(waiting), [first, second]);
    // What does not come in time is said, not waited for.
    assert_eq!(cluster.wait_for(beyond), Answer::Failed(Failure::Timeout));
    assert_eq!(cluster.replica(follower).requests_under_way(), 0);
}

#[test]
fn a_local_read_waits_for_a_restarted_server_to_play_its_log_back() {
    let mut cluster = Cluster::formed(3, 1);
    let follower = cluster.follower();
    let write = propose_and_wait(&mut cluster, follower);
    cluster.crash(follower);
    cluster.start(follower);
    assert_eq!(cluster.replica(follower).machine().numbers, [], "it knows of nothing that is committed");
    let read = cluster.read_local(follower, 1);
    assert_eq!(cluster.answer(read), None);
    assert_eq!(cluster.wait_for(read), Answer::ReadReady);
    assert_eq!(cluster.seen(read), [write]);
}

#[test]
fn a_local_read_waits_for_a_snapshot_to_be_restored() {
    let mut cluster = Cluster::new(3, 1);
    cluster.snapshot_threshold_bytes = 300;
    cluster.start_all();
    cluster.settle();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    cluster.isolate(follower);
    let writes: Vec<Request> = (0..100).map(|_| propose_and_wait(&mut cluster, leader)).collect();
    cluster.run_for(Duration::from_secs(1));
    let read = cluster.read_local(follower, 100);
    assert_eq!(cluster.answer(read), None);
    cluster.heal();
    assert_eq!(cluster.wait_for(read), Answer::ReadReady);
    assert_eq!(cluster.seen(read), writes);
    assert!(cluster.replica(follower).status().counters.snapshots_installed > 0);
}

#[test]
fn local_reads_that_wait_are_bounded_and_end_with_the_server() {
    const LIMIT: u64 = 65_536;
    let mut cluster = Cluster::formed(1, 1);
    cluster.requests = LIMIT;
    cluster.waiting.extend((1..=LIMIT).map(|read| (read, n(1))));
    cluster.with(n(1), |replica, now| {
        (1..=LIMIT).for_each(|read| replica.read_local(read, u64::MAX, now.after(PATIENCE)));
    });
    let refused = cluster.read_local(n(1), u64::MAX);
    assert_eq!(cluster.answer(refused), Some(&Answer::Failed(Failure::Overloaded)));
    let applied = cluster.propose(n(1));
    assert_eq!(applied_at(&cluster.wait_for(applied)), 1);
    cluster.with(n(1), |replica, _| replica.abandon_requests());
    assert_eq!(cluster.replica(n(1)).requests_under_way(), 0);
}
