//! Leadership changes hands (§3.10): at a request or because a leader stops. Whoever asks for something meanwhile waits a
//! little and is answered; nothing is refused for it, and nothing lost.

use std::time::Duration;

use raft_core::{Body, HandOver, Message, NodeId, RoleName, Term};
use raft_node::{Answer, Failure, ForwardRefusal, Leadership, PeerMessage};

use crate::cluster::{Cluster, PATIENCE, Request, n};
use crate::machine::command;
use crate::requests::{applied_at, followers, is_forward, link_with};

#[track_caller]
fn leadership(answer: &Answer) -> Leadership {
    let Answer::Transferred(leadership) = answer else { panic!("not transferred: {answer:?}") };
    *leadership
}

fn term(cluster: &Cluster, id: NodeId) -> Term {
    cluster.replica(id).raft().unwrap().term()
}

/// A leader that hands over, and the one it hands over to; the word to that one is on its way.
fn handing_over() -> (Cluster, NodeId, NodeId, Request) {
    let mut cluster = Cluster::formed(3, 1);
    let (old, [successor, _]) = (cluster.leader(), followers(&cluster));
    let request = cluster.transfer(old, Some(successor));
    assert!(cluster.replica(old).is_handing_over());
    (cluster, old, successor, request)
}

// --- what is asked for -------------------------------------------------------------------------------------------

#[test]
fn the_leadership_goes_where_it_is_wanted_whoever_is_asked() {
    let mut cluster = Cluster::formed(3, 1);
    for asked in cluster.ids() {
        for to in cluster.ids() {
            let before = term(&cluster, cluster.leader());
            let is_there = cluster.leader() == to;
            let begun = cluster.now;
            let request = cluster.transfer(asked, Some(to));
            let Leadership { leader, term } = leadership(&cluster.wait_for(request));
            assert_eq!((leader, term), (to, if is_there { before } else { before.next() }), "asked {asked} for {to}");
            assert!(cluster.now.since(begun) < Duration::from_millis(30), "without an election timeout");
            cluster.settle();
            assert_eq!(cluster.leader(), to);
        }
    }
}

#[test]
fn without_a_name_somebody_else_leads() {
    let mut cluster = Cluster::formed(3, 1);
    for asked in cluster.ids() {
        let before = cluster.leader();
        let request = cluster.transfer(asked, None);
        assert_ne!(leadership(&cluster.wait_for(request)).leader, before);
        cluster.settle();
    }
}

#[test]
fn what_cannot_be_is_refused_at_once_with_the_reason() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    for asked in cluster.ids() {
        let begun = cluster.now;
        let unknown = cluster.transfer(asked, Some(n(9)));
        assert_eq!(cluster.wait_for(unknown), Answer::Failed(Failure::NotAVoter), "{asked}");
        assert_eq!(cluster.now, begun);
    }
    let [one, other] = followers(&cluster);
    let first = cluster.transfer(leader, Some(one));
    let second = cluster.transfer(leader, Some(other));
    assert_eq!(cluster.answer(second), Some(&Answer::Failed(Failure::TransferUnderWay)));
    assert_eq!(leadership(&cluster.wait_for(first)).leader, one, "the first is not disturbed by it");
}

#[test]
fn a_leader_alone_has_no_successor() {
    let mut cluster = Cluster::formed(1, 1);
    let request = cluster.transfer(n(1), None);
    assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::NobodyToSucceed)));
    let itself = cluster.transfer(n(1), Some(n(1)));
    assert_eq!(leadership(&cluster.wait_for(itself)).leader, n(1));
}

#[test]
fn without_a_leader_nobody_hands_over() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, [one, other]) = (cluster.leader(), followers(&cluster));
    cluster.crash(leader);
    cluster.crash(other);
    cluster.run_for(Duration::from_secs(2));
    let request = cluster.transfer(one, None);
    assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::NoLeader)));
}

#[test]
fn a_wish_goes_one_hop_at_most() {
    let mut cluster = Cluster::formed(3, 1);
    let [follower, other] = followers(&cluster);
    let from = cluster.running(other).identity;
    cluster.sent.clear();
    let message = PeerMessage::Transfer { id: 77, timeout_ms: 1_000, to: None };
    cluster.with(follower, |replica, now| replica.handle_peer(now, from, message, &mut || 1));
    let refusal = PeerMessage::ForwardReply { id: 77, outcome: Err(ForwardRefusal::NotLeader) };
    assert_eq!(cluster.sent, [(follower, other, refusal)]);
}

#[test]
fn a_wish_that_was_passed_on_is_answered_when_the_link_breaks() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, [follower, other]) = (cluster.leader(), followers(&cluster));
    let request = cluster.transfer(follower, Some(other));
    cluster.break_links(leader, follower);
    cluster.drain();
    assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::LeaderChanged)));
    cluster.cut.insert((follower, leader));
    let request = cluster.transfer(follower, Some(other));
    assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::NoLeader)), "it never left");
}

#[test]
fn wishes_beyond_their_limit_are_refused() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, [follower, _]) = (cluster.leader(), followers(&cluster));
    cluster.paused.insert(leader);
    let requests: Vec<Request> = (0..64).map(|_| cluster.transfer(follower, None)).collect();
    let refused = cluster.transfer(follower, None);
    assert_eq!(cluster.answer(refused), Some(&Answer::Failed(Failure::Overloaded)));
    for request in requests {
        assert_eq!(cluster.wait_for(request), Answer::Failed(Failure::Timeout), "at its deadline");
    }
}

#[test]
fn a_successor_that_is_not_elected_may_be_yet() {
    let (mut cluster, old, successor, request) = handing_over();
    cluster.paused.insert(successor);
    let answer = cluster.wait_for(request);
    assert_eq!(answer, Answer::Failed(Failure::SuccessorNotElected));
    assert!(Failure::SuccessorNotElected.maybe_applied());
    assert_eq!(cluster.leader(), old, "it leads on");
    let write = cluster.propose(old);
    assert!(matches!(cluster.wait_for(write), Answer::Applied(_)));
}

#[test]
fn another_than_the_one_that_was_wanted_is_no_success() {
    let (mut cluster, old, successor, request) = handing_over();
    cluster.crash(successor);
    let other = followers_of(&cluster, old)[0];
    // The other one stands by itself, and the old leader hears of it before it gives up.
    let message =
        PeerMessage::Raft(Message { term: term(&cluster, old), body: Body::TimeoutNow { why: HandOver::Planned } });
    let from = cluster.running(old).identity;
    cluster.with(other, |replica, now| replica.handle_peer(now, from, message, &mut || 1));
    assert_eq!(cluster.wait_for(request), Answer::Failed(Failure::SuccessorNotElected));
    assert_eq!(cluster.leader(), other);
}

fn followers_of(cluster: &Cluster, leader: NodeId) -> Vec<NodeId> {
    cluster.ids().into_iter().filter(|&id| id != leader && cluster.is_running(id)).collect()
}

// --- who asks for something else meanwhile -----------------------------------------------------------------------

#[test]
fn commands_and_reads_wait_for_the_successor_and_are_answered() {
    let (mut cluster, old, successor, transfer) = handing_over();
    let write = cluster.propose(old);
    let read_before = cluster.read(old);
    assert_eq!(cluster.answer(write), None, "it waits");
    // The old leader follows, and does not know whom.
    while cluster.replica(old).leader().is_some() {
        assert!(cluster.step());
    }
    assert_eq!(cluster.replica(old).status().role, Some(RoleName::Follower));
    let (late_write, late_read) = (cluster.propose(old), cluster.read(old));
    assert_eq!((cluster.answer(late_write), cluster.answer(late_read)), (None, None), "they wait too");
    assert_eq!(leadership(&cluster.wait_for(transfer)).leader, successor);
    assert_eq!([applied_at(&cluster.wait_for(write)), applied_at(&cluster.wait_for(late_write))], [1, 2]);
    for read in [read_before, late_read] {
        assert_eq!(cluster.wait_for(read), Answer::ReadReady);
    }
    cluster.run_for(Duration::from_secs(1));
    for id in cluster.ids() {
        assert_eq!(cluster.replica(id).machine().numbers, [write, late_write], "{id}: once, in order");
    }
}

#[test]
fn what_stands_in_the_log_is_answered_though_its_leader_leads_no_more() {
    let mut cluster = Cluster::formed(3, 1);
    let (old, [successor, other]) = (cluster.leader(), followers(&cluster));
    // Only the successor's disk works, so that nothing is committed before it leads.
    cluster.stalled = [old, other].into();
    let write = cluster.propose(old);
    cluster.drain();
    let transfer = cluster.transfer(old, Some(successor));
    cluster.drain();
    assert_eq!(cluster.replica(old).status().role, Some(RoleName::Follower));
    assert_eq!(cluster.answer(write), None, "it waits for the successor");
    cluster.heal();
    assert_eq!(applied_at(&cluster.wait_for(write)), 1);
    assert_eq!(leadership(&cluster.wait_for(transfer)).leader, successor);
}

#[test]
fn what_waits_for_a_successor_that_is_never_heard_is_given_up() {
    let mut cluster = Cluster::formed(3, 1);
    let (old, [successor, other]) = (cluster.leader(), followers(&cluster));
    cluster.stalled = [old, other].into();
    let in_log = cluster.propose(old);
    cluster.drain();
    let transfer = cluster.transfer(old, Some(successor));
    let held = cluster.propose(old);
    while cluster.replica(old).leader().is_some() {
        assert!(cluster.step());
    }
    cluster.crash(successor);
    cluster.isolate(old);
    let begun = cluster.now;
    assert_eq!(cluster.wait_for(held), Answer::Failed(Failure::NoLeader), "it is in no log");
    assert_eq!(cluster.answer(in_log), Some(&Answer::Failed(Failure::LeaderChanged)), "the others may have it");
    assert!(cluster.now.since(begun) <= Duration::from_millis(350), "the longest election timeout, and a sweep");
    assert_eq!(cluster.wait_for(transfer), Answer::Failed(Failure::Timeout), "at its deadline");
}

#[test]
fn what_a_follower_passed_on_is_not_lost() {
    let (mut cluster, _, successor, transfer) = handing_over();
    let other = followers(&cluster)[1];
    let forwarded = cluster.propose(other);
    cluster.deliver(link_with(&cluster, is_forward));
    assert_eq!(cluster.answer(forwarded), None, "it waits at the old leader");
    cluster.wait_for(transfer);
    // Its own server sees that the leader has changed, and its client tries again.
    assert_eq!(cluster.wait_for(forwarded), Answer::Failed(Failure::LeaderChanged));
    cluster.settle();
    assert_eq!(cluster.leader(), successor);
    cluster.run_for(Duration::from_secs(1));
    assert!(cluster.replica(successor).machine().numbers.is_empty(), "one hop at most");
}

#[test]
fn when_nobody_succeeds_the_leader_does_what_waited() {
    let (mut cluster, old, successor, transfer) = handing_over();
    cluster.paused.insert(successor);
    let (write, read) = (cluster.propose(old), cluster.read(old));
    assert_eq!(cluster.wait_for(read), Answer::ReadReady, "it leads, so it answers reads");
    let begun = cluster.now;
    assert_eq!(applied_at(&cluster.wait_for(write)), 1);
    assert!(cluster.now.since(begun) <= Duration::from_millis(200), "the shortest election timeout, and a sweep");
    assert_eq!(cluster.answer(transfer), Some(&Answer::Failed(Failure::SuccessorNotElected)));
}

#[test]
fn what_waits_is_bounded_and_keeps_its_deadline() {
    let (mut cluster, old, successor, _) = handing_over();
    cluster.paused.insert(successor);
    let short = cluster.propose_more(old, Duration::from_millis(20));
    for _ in 1..32 {
        cluster.propose_padded(old, PATIENCE, 2 << 20);
    }
    let largest = cluster.propose_padded(old, PATIENCE, (2 << 20) - command(1).len());
    let refused = cluster.propose_more(old, PATIENCE);
    cluster.flush(old);
    assert_eq!(cluster.answer(refused), Some(&Answer::Failed(Failure::Overloaded)));
    assert_eq!(cluster.wait_for(short), Answer::Failed(Failure::Timeout));
    assert!(cluster.replica(old).is_handing_over(), "before the transfer ends");
    // Its place is free again.
    let taken = cluster.propose(old);
    assert!(matches!(cluster.wait_for(largest), Answer::Applied(_)));
    assert!(matches!(cluster.wait_for(taken), Answer::Applied(_)));
    assert!(!cluster.replica(old).machine().numbers.contains(&short), "what was answered so was never proposed");
}

// --- stopping ----------------------------------------------------------------------------------------------------

#[test]
fn a_leader_that_stops_hands_over_and_refuses_only_then() {
    let mut cluster = Cluster::formed(3, 1);
    let (old, follower) = (cluster.leader(), cluster.follower());
    let under_way = [cluster.propose(old), cluster.read(old), cluster.propose(follower)];
    cluster.deliver(link_with(&cluster, is_forward));
    cluster.with(old, |replica, now| replica.stop(now));
    assert!(cluster.replica(old).is_handing_over());
    let (late_write, late_read) = (cluster.propose(old), cluster.read(old));
    assert!(cluster.run_until(|cluster| cluster.replica(old).leader().is_some_and(|leader| leader != old)));
    assert!(matches!(cluster.wait_for(under_way[0]), Answer::Applied(_)));
    assert_eq!(cluster.wait_for(under_way[1]), Answer::ReadReady);
    assert!(matches!(cluster.wait_for(under_way[2]), Answer::Applied(_)));
    assert!(matches!(cluster.wait_for(late_write), Answer::Applied(_)));
    assert_eq!(cluster.wait_for(late_read), Answer::ReadReady);
    let too_late = [cluster.propose(old), cluster.read(old), cluster.transfer(old, None)];
    for request in too_late {
        assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::Stopping)));
    }
    assert_eq!(cluster.replica(old).requests_under_way(), 0);
}

#[test]
fn a_follower_and_a_server_alone_have_nothing_to_hand_over() {
    let mut cluster = Cluster::formed(3, 1);
    let (follower, before) = (cluster.follower(), cluster.leader());
    cluster.with(follower, |replica, now| replica.stop(now));
    let late = [cluster.propose(follower), cluster.read(follower)];
    for request in late {
        assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::Stopping)));
    }
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.leader(), before);

    let mut cluster = Cluster::formed(1, 1);
    cluster.with(n(1), |replica, now| replica.stop(now));
    assert!(!cluster.replica(n(1)).is_handing_over());
    assert_eq!(cluster.replica(n(1)).requests_under_way(), 0);
}

#[test]
fn a_leader_that_finds_no_successor_stops_all_the_same() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, others) = (cluster.leader(), followers(&cluster));
    cluster.paused.extend(others);
    let begun = cluster.now;
    cluster.with(leader, |replica, now| replica.stop(now));
    assert!(cluster.replica(leader).is_handing_over(), "they were heard a moment ago");
    assert!(cluster.run_until(|cluster| !cluster.replica(leader).is_handing_over()));
    assert!(cluster.now.since(begun) <= Duration::from_millis(160), "the shortest election timeout");
    let late = cluster.propose(leader);
    assert_eq!(cluster.answer(late), Some(&Answer::Failed(Failure::Stopping)));

    cluster.heal();
    cluster.settle();
    let leader = cluster.leader();
    cluster.paused.extend(followers_of(&cluster, leader));
    cluster.run_for(Duration::from_millis(200));
    cluster.with(leader, |replica, now| replica.stop(now));
    assert!(!cluster.replica(leader).is_handing_over(), "nobody was heard");
}
