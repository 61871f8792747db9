//! Disks that stand still, and what is taken on meanwhile (F9, H2).

use std::time::Duration;

use raft_node::{Answer, Failure};

use crate::cluster::{Cluster, Request, n};
use crate::requests::{applied_at, followers};

const OVERLOADED: Answer = Answer::Failed(Failure::Overloaded);
/// The longest election timeout of these clusters.
const LONGEST: Duration = Duration::from_millis(300);

/// Asks everybody in turn for a write each 10 ms, for `duration`.
fn write_for(cluster: &mut Cluster, duration: Duration) -> Vec<Request> {
    let until = cluster.now.after(duration);
    let mut requests = Vec::new();
    while cluster.now < until {
        let ids = cluster.ids();
        requests.push(cluster.propose(ids[requests.len() % ids.len()]));
        cluster.run_for(Duration::from_millis(10));
    }
    requests
}

/// Each of `requests` is applied, once, in the same order everywhere; nothing else is.
#[track_caller]
fn check_applied(cluster: &mut Cluster, requests: &[Request]) {
    for &request in requests {
        applied_at(&cluster.wait_for(request));
    }
    cluster.run_for(Duration::from_secs(1));
    let applied = cluster.replica(cluster.leader()).machine().numbers.clone();
    assert!(cluster.ids().into_iter().all(|id| cluster.replica(id).machine().numbers == applied));
    let (mut applied, mut requests) = (applied, requests.to_vec());
    applied.sort_unstable();
    requests.sort_unstable();
    assert_eq!(applied, requests);
}

#[test]
fn a_leader_whose_disk_stands_still_hands_over_and_no_write_fails() {
    let mut cluster = Cluster::formed(3, 1);
    let old = cluster.leader();
    cluster.stalled.insert(old);
    let mut requests = write_for(&mut cluster, LONGEST * 5);
    let new = cluster.leader();
    assert_ne!(new, old, "another leads within five longest election timeouts");
    assert_eq!(cluster.replica(old).status().counters.transfers_begun, 1);
    let said = cluster.said(old);
    assert!(said.contains(&format!("hands over to {new}: its disk has stood still for 6")), "{said}");
    // Everybody can say why. And nothing of it is left when the disk is back.
    for id in cluster.ids() {
        let change = cluster.replica(id).status().last_change.unwrap();
        assert_eq!(change.reason, format!("{old} hands over, as its disk stands still"), "{id}");
    }
    cluster.stalled.clear();
    requests.extend(write_for(&mut cluster, LONGEST));
    check_applied(&mut cluster, &requests);
    assert_eq!(cluster.leader(), new);
}

#[test]
fn a_follower_whose_disk_stands_still_costs_nothing() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, [stalled, _]) = (cluster.leader(), followers(&cluster));
    let before = cluster.replica(leader).status();
    cluster.stalled.insert(stalled);
    let requests = write_for(&mut cluster, LONGEST * 10);
    assert!(requests.iter().all(|&request| cluster.answer(request).is_some()), "each within 10 ms");
    assert_eq!(cluster.leader(), leader);
    assert_eq!(cluster.replica(leader).status().term, before.term);
    cluster.stalled.clear();
    check_applied(&mut cluster, &requests);
}

#[test]
fn a_leader_of_which_most_disks_stand_still_goes_on_and_answers_reads() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, [stalled, _]) = (cluster.leader(), followers(&cluster));
    cluster.stalled.extend([leader, stalled]);
    let write = cluster.propose(leader);
    cluster.run_for(LONGEST * 10);
    assert_eq!((cluster.leader(), cluster.answer(write)), (leader, None), "nobody could do better");
    let read = cluster.read(leader);
    assert_eq!(cluster.wait_for(read), Answer::ReadReady);
    cluster.stalled.clear();
    check_applied(&mut cluster, &[write]);
}

#[test]
fn a_server_alone_waits_for_its_disk() {
    let mut cluster = Cluster::formed(1, 1);
    cluster.stalled.insert(n(1));
    let write = cluster.propose(n(1));
    cluster.run_for(LONGEST * 10);
    assert_eq!((cluster.leader(), cluster.answer(write)), (n(1), None));
    cluster.stalled.clear();
    check_applied(&mut cluster, &[write]);
}

#[test]
fn what_would_be_too_much_uncommitted_is_refused_as_overloaded() {
    let mut cluster = Cluster::new(3, 1);
    cluster.max_uncommitted_bytes = 10 * (32 + 8);
    cluster.start_all();
    cluster.settle();
    cluster.run_for(Duration::from_secs(1));
    let (leader, [follower, other]) = (cluster.leader(), followers(&cluster));
    cluster.stalled.extend([follower, other]);
    let mut taken: Vec<Request> = (0..10).map(|_| cluster.propose(leader)).collect();
    for at in [leader, follower] {
        let refused = cluster.propose(at);
        cluster.run_for(Duration::from_millis(10));
        assert_eq!(cluster.answer(refused), Some(&OVERLOADED), "asked {at}");
    }
    assert!(!Failure::Overloaded.maybe_applied());
    cluster.stalled.clear();
    cluster.run_for(Duration::from_secs(1));
    taken.extend((0..10).map(|_| cluster.propose(leader)));
    check_applied(&mut cluster, &taken);
}

#[test]
fn what_would_be_too_much_for_the_own_disk_is_refused_as_overloaded() {
    let mut cluster = Cluster::new(3, 1);
    cluster.max_unsynced_bytes = 10 * (32 + 8);
    cluster.start_all();
    cluster.settle();
    cluster.run_for(Duration::from_secs(1));
    let leader = cluster.leader();
    cluster.stalled.insert(leader);
    let mut taken: Vec<Request> = (0..10).map(|_| cluster.propose(leader)).collect();
    for &request in &taken {
        applied_at(&cluster.wait_for(request));
    }
    let refused = cluster.propose(leader);
    assert_eq!(cluster.answer(refused), Some(&OVERLOADED), "committed, but not on its own disk");
    cluster.stalled.clear();
    cluster.run_for(Duration::from_millis(10));
    taken.push(cluster.propose(leader));
    check_applied(&mut cluster, &taken);
}
