//! What several nodes' views add up to.

use kv_store::api::MemberAddress;

use super::*;

fn status(id: u64, term: u64, leader: Option<u64>, members: &[(u64, Option<&str>)]) -> (String, NodeStatus) {
    let status = NodeStatus {
        id,
        cluster: Some("c".into()),
        role: "follower".into(),
        term,
        leader,
        commit_index: 9,
        applied_index: 9,
        revision: Revision(8),
        last_change: Some(LeaderChange { term, reason: format!("term {term}") }),
        members: members
            .iter()
            .map(|(id, address)| MemberAddress { id: *id, address: address.map(Into::into) })
            .collect(),
    };
    (format!("seed:{id}"), status)
}

fn found(statuses: Vec<(String, NodeStatus)>) -> Found {
    statuses.into_iter().map(|(address, status)| (status.id, (address, status))).collect()
}

#[test]
fn members_that_do_not_answer_are_listed_with_what_others_know() {
    let members = [(1, Some("a:1")), (2, Some("a:2")), (3, None)];
    let summary = summary(found(vec![status(1, 7, Some(2), &members), status(4, 7, None, &[])]));
    let listed: Vec<_> =
        summary.nodes.iter().map(|node| (node.id, node.address.as_deref(), node.status.is_some())).collect();
    assert_eq!(listed, [(1, Some("a:1"), true), (2, Some("a:2"), false), (3, None, false), (4, Some("seed:4"), true)]);
}

#[test]
fn the_highest_term_says_who_leads() {
    // Node 1 is cut off and still believes in itself; node 2 and 3 have elected node 3.
    let views = vec![status(1, 7, Some(1), &[]), status(2, 8, Some(3), &[]), status(3, 8, Some(3), &[])];
    let summary = summary(found(views));
    assert_eq!((summary.leader, summary.term), (Some(3), 8));
    assert_eq!(summary.last_change, Some(LeaderChange { term: 8, reason: "term 8".into() }));
}

#[test]
fn without_a_leader_there_is_none() {
    assert_eq!(summary(found(vec![status(1, 7, None, &[])])).leader, None);
}

#[test]
fn hashes_are_equal_only_if_all_answered_and_agree() {
    let report = |hashes: &[Option<u128>]| HashReport {
        revision: Revision(1),
        hashes: (1..).zip(hashes.iter().map(|hash| hash.map(StateHash))).collect(),
    };
    assert!(report(&[Some(5), Some(5), Some(5)]).is_equal());
    assert!(!report(&[Some(5), Some(6), Some(5)]).is_equal());
    assert!(!report(&[Some(5), None, Some(5)]).is_equal());
    assert!(!report(&[None, None]).is_equal());
    assert!(!report(&[]).is_equal());
}
