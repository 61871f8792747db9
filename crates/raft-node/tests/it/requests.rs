//! Each request is answered exactly once, and what is answered is true.

use std::time::Duration;

use bytes::Bytes;
use raft_core::{Body, ClusterTime, Entry, LogIndex, LogPosition, Message, NodeId, Payload, RoleName, Term};
use raft_net::LinkKind;
use raft_node::{Answer, Failure, FormationState, ForwardRefusal, Leadership, MAX_COMMAND_BYTES, PeerMessage};

use crate::cluster::{Cluster, Link, PATIENCE, Request, n};
use crate::machine::{command, length_in};

#[track_caller]
pub(crate) fn applied_at(answer: &Answer) -> u64 {
    let Answer::Applied(reply) = answer else { panic!("not applied: {answer:?}") };
    length_in(reply)
}

/// The link on which the next message is one that `is_it` holds for.
#[track_caller]
pub(crate) fn link_with(cluster: &Cluster, is_it: impl Fn(&PeerMessage) -> bool) -> Link {
    let links = cluster.busy_links();
    *links.iter().find(|&&link| cluster.peek(link).is_some_and(|message| is_it(&message))).expect("it is on its way")
}

pub(crate) fn is_forward(message: &PeerMessage) -> bool {
    matches!(message, PeerMessage::Forward { .. })
}

fn is_forward_reply(message: &PeerMessage) -> bool {
    matches!(message, PeerMessage::ForwardReply { .. })
}

/// Two that do not lead.
pub(crate) fn followers(cluster: &Cluster) -> [NodeId; 2] {
    let leader = cluster.leader();
    let others: Vec<NodeId> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
    others.try_into().unwrap()
}

// --- commands ----------------------------------------------------------------------------------------------------

#[test]
fn a_command_is_applied_wherever_it_is_proposed() {
    let mut cluster = Cluster::formed(3, 1);
    for (place, id) in (1..).zip(cluster.ids()) {
        let request = cluster.propose(id);
        assert_eq!(applied_at(&cluster.wait_for(request)), place);
    }
    cluster.run_for(Duration::from_secs(1));
    for id in cluster.ids() {
        assert_eq!(cluster.replica(id).machine().numbers, [1, 2, 3], "{id}");
    }
}

#[test]
fn what_comes_together_is_one_batch() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    let before = cluster.replica(leader).status().counters;
    cluster.sent.clear();
    let requests: Vec<Request> = (0..100).map(|_| cluster.propose_more(leader, PATIENCE)).collect();
    cluster.flush(leader);
    let appends =
        |message: &PeerMessage| matches!(message, PeerMessage::Raft(Message { body: Body::AppendEntries { .. }, .. }));
    assert_eq!(cluster.sent.iter().filter(|(_, _, message)| appends(message)).count(), 2, "one a follower");
    for request in requests {
        cluster.wait_for(request);
    }
    let after = cluster.replica(leader).status().counters;
    assert_eq!(after.batches_proposed - before.batches_proposed, 1);
    assert_eq!(after.commands_applied - before.commands_applied, 100);
}

#[test]
fn a_forwarded_command_goes_one_hop_at_most() {
    let mut cluster = Cluster::formed(3, 1);
    let [follower, other] = followers(&cluster);
    let from = cluster.running(other).identity;
    cluster.sent.clear();
    let message = PeerMessage::Forward { id: 77, timeout_ms: 1_000, command: command(99) };
    cluster.with(follower, |replica, now| replica.handle_peer(now, from, message, &mut || 1));
    let refusal = PeerMessage::ForwardReply { id: 77, outcome: Err(ForwardRefusal::NotLeader) };
    assert_eq!(cluster.sent, [(follower, other, refusal)], "refused, and not passed on");
}

#[test]
fn a_leader_that_is_cut_off_answers_all_in_its_log() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    cluster.isolate(leader);
    let asked = cluster.now;
    let requests: Vec<Request> = (0..5).map(|_| cluster.propose(leader)).collect();
    for &request in &requests {
        let answer = cluster.wait_for(request);
        assert_eq!(answer, Answer::Failed(Failure::LeaderChanged));
    }
    assert!(cluster.now.since(asked) < Duration::from_secs(1), "at once, not at the deadline");
    // The others go on, and the commands are gone.
    cluster.run_for(Duration::from_secs(2));
    cluster.heal();
    cluster.settle();
    let request = cluster.propose(leader);
    assert_eq!(applied_at(&cluster.wait_for(request)), 1);
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.replica(leader).machine().numbers, [request]);
}

#[test]
fn a_command_whose_place_is_taken_is_certainly_not_applied() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    let from = cluster.running(cluster.follower()).identity;
    cluster.isolate(leader);
    let request = cluster.propose(leader);
    // The next leader's first words to it are the entry in that place, committed already.
    let raft = cluster.replica(leader).raft().unwrap();
    let (term, prev) = (raft.term().next(), raft.log().position(raft.commit_index()).unwrap());
    let entry = Entry {
        position: LogPosition::new(term, prev.index.next()),
        stamp: raft.log().last_stamp(),
        payload: Payload::Noop,
    };
    assert_eq!(raft.log().last_index(), entry.position.index, "the command stands there");
    let body = Body::AppendEntries { prev, commit: entry.position.index, entries: vec![entry] };
    let message = PeerMessage::Raft(Message { term, body });
    cluster.with(leader, |replica, now| replica.handle_peer(now, from, message, &mut || 1));
    assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::Overwritten)));
    assert!(!Failure::Overwritten.maybe_applied());
}

#[test]
fn a_command_is_answered_at_its_deadline() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    cluster.paused.insert(leader);
    let timeout = Duration::from_millis(100);
    let request = cluster.propose_more(follower, timeout);
    cluster.flush(follower);
    let asked = cluster.now;
    assert_eq!(cluster.wait_for(request), Answer::Failed(Failure::Timeout));
    let waited = cluster.now.since(asked);
    assert!(waited >= timeout && waited < timeout * 2, "{waited:?}");
}

#[test]
fn a_command_that_was_answered_at_its_deadline_is_not_answered_again() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    cluster.stalled = cluster.ids().into_iter().collect();
    let request = cluster.propose(leader);
    assert_eq!(cluster.wait_for(request), Answer::Failed(Failure::Timeout));
    assert_eq!(cluster.replica(leader).requests_under_way(), 0);
    cluster.heal();
    // The driver fails the test if there is a second answer.
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.replica(leader).machine().numbers, [request], "it was applied after all, as a timeout may be");
}

#[test]
fn a_forwarded_command_is_answered_when_its_leader_dies() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let request = cluster.propose(follower);
    cluster.deliver(link_with(&cluster, is_forward));
    cluster.crash(leader);
    cluster.drain();
    assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::LeaderChanged)), "at once, not at the deadline");
    cluster.settle();
    cluster.start(leader);
    let request = cluster.propose(follower);
    assert!(matches!(cluster.wait_for(request), Answer::Applied(_)));
}

#[test]
fn a_forwarded_command_is_answered_when_either_link_breaks() {
    for reply_is_lost in [false, true] {
        let mut cluster = Cluster::formed(3, 1);
        let (leader, follower) = (cluster.leader(), cluster.follower());
        let request = cluster.propose(follower);
        if reply_is_lost {
            cluster.deliver(link_with(&cluster, is_forward));
            while cluster.replica(leader).machine().numbers.is_empty() {
                assert!(cluster.step());
            }
        }
        cluster.break_links(leader, follower);
        cluster.drain();
        assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::LeaderChanged)), "{reply_is_lost}");
        let applied = cluster.replica(leader).machine().numbers.contains(&request);
        assert_eq!(applied, reply_is_lost, "either may be, which is why the answer says so");
    }
}

#[test]
fn a_forwarded_command_that_never_left_was_certainly_not_applied() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let on_its_way = cluster.propose(follower);
    cluster.full.insert((follower, leader));
    let refused = cluster.propose(follower);
    assert_eq!(cluster.answer(refused), Some(&Answer::Failed(Failure::Overloaded)));
    cluster.full.clear();
    cluster.cut.insert((follower, leader));
    let unreachable = cluster.propose(follower);
    assert_eq!(cluster.answer(unreachable), Some(&Answer::Failed(Failure::NoLeader)));
    cluster.heal();
    // What left before is not touched by it.
    assert!(matches!(cluster.wait_for(on_its_way), Answer::Applied(_)));
    assert_eq!(cluster.replica(leader).machine().numbers, [on_its_way]);
}

#[test]
fn a_reply_to_an_earlier_incarnation_is_not_taken_for_another() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    // The first command reaches the leader, whose cluster cannot commit it yet.
    let first = cluster.propose(follower);
    cluster.stalled = cluster.ids().into_iter().collect();
    cluster.deliver(link_with(&cluster, is_forward));
    cluster.crash(follower);
    cluster.start(follower);
    while cluster.replica(follower).leader() != Some(leader) {
        if !cluster.step() {
            let later = cluster.now.after(Duration::from_secs(1));
            cluster.pass_time_to(later);
        }
    }
    // The second is on its way when the reply to the first arrives.
    let second = cluster.propose(follower);
    let to_hold = link_with(&cluster, is_forward);
    cluster.heal();
    let mut replied = false;
    while !replied {
        let links = cluster.busy_links().into_iter().filter(|&link| link != to_hold).collect::<Vec<_>>();
        for link in links {
            replied |= cluster.peek(link).as_ref().is_some_and(is_forward_reply);
            cluster.deliver(link);
        }
        for id in cluster.ids() {
            cluster.work(id);
            cluster.report(id);
        }
        let later = cluster.now.after(Duration::from_millis(10));
        cluster.pass_time_to(later);
    }
    assert_eq!(cluster.answer(first), None, "its client has gone with the process");
    assert_eq!(cluster.answer(second), None, "the second is not in any log yet");
    assert_eq!(applied_at(&cluster.wait_for(second)), 2);
}

// --- limits ------------------------------------------------------------------------------------------------------

#[test]
fn a_command_larger_than_an_entry_is_refused_and_one_as_large_is_not() {
    let mut cluster = Cluster::formed(3, 1);
    for id in cluster.ids() {
        let too_large = cluster.propose_padded(id, PATIENCE, MAX_COMMAND_BYTES + 1);
        cluster.flush(id);
        assert_eq!(cluster.answer(too_large), Some(&Answer::Failed(Failure::TooLarge)), "{id}");
    }
    let follower = cluster.follower();
    let largest = cluster.propose_padded(follower, PATIENCE, MAX_COMMAND_BYTES);
    cluster.flush(follower);
    assert!(matches!(cluster.wait_for(largest), Answer::Applied(_)));
    cluster.run_for(Duration::from_secs(1));
    assert!(cluster.ids().into_iter().all(|id| cluster.is_running(id)));
}

#[test]
fn an_entry_larger_than_the_log_holds_is_refused_at_the_door() {
    let entry = Entry {
        position: LogPosition::new(Term(1), LogIndex(1)),
        stamp: ClusterTime(0),
        payload: Payload::Command(Bytes::from(vec![0; MAX_COMMAND_BYTES + 1])),
    };
    let body = Body::AppendEntries { prev: LogPosition::ORIGIN, entries: vec![entry], commit: LogIndex(0) };
    let frame = PeerMessage::Raft(Message { term: Term(1), body }).to_frame();
    let refused = PeerMessage::from_frame(frame).unwrap_err().to_string();
    assert_eq!(refused, format!("entry 1@1 is larger than {MAX_COMMAND_BYTES} bytes"));
}

#[test]
fn a_list_of_members_that_no_cluster_has_is_refused_before_it_is_decoded() {
    let state = FormationState::Waiting { listed: vec![1; 40_000] };
    let frame = PeerMessage::Formation(state).to_frame();
    let refused = PeerMessage::from_frame(frame).unwrap_err().to_string();
    assert!(refused.contains("the limit is 32768"), "{refused}");
}

#[test]
fn a_node_message_with_something_left_over_is_none() {
    let forward = PeerMessage::Forward { id: 1, timeout_ms: 2, command: Bytes::from_static(b"c") };
    let formation = PeerMessage::Formation(FormationState::Waiting { listed: vec![1] });
    let transfer = PeerMessage::Transfer { id: 1, timeout_ms: 2, to: Some(n(3)) };
    let leadership = Leadership { leader: n(3), term: Term(8) };
    let transferred = PeerMessage::Transferred { id: 1, leadership };
    let elected = PeerMessage::Elected { term: Term(8), reason: "no leader for 204 ms".to_owned() };
    for message in [&forward, &formation, &transfer, &transferred, &PeerMessage::DiskFull, &elected] {
        let mut frame = message.to_frame();
        assert_eq!(PeerMessage::from_frame(frame.clone()).unwrap(), *message);
        frame.header = [&frame.header[..], b"x"].concat().into();
        assert_eq!(PeerMessage::from_frame(frame).unwrap_err().to_string(), "1 bytes that belong to nothing");
    }
    let mut frame = formation.to_frame();
    frame.payload = Bytes::from_static(b"behind");
    assert_eq!(PeerMessage::from_frame(frame).unwrap_err().to_string(), "6 bytes that belong to nothing");
}

#[test]
fn commands_beyond_the_bytes_under_way_are_refused() {
    let mut cluster = Cluster::formed(1, 1);
    for _ in 0..32 {
        cluster.propose_padded(n(1), PATIENCE, 2 << 20);
    }
    let refused = cluster.propose_padded(n(1), PATIENCE, 0);
    cluster.flush(n(1));
    assert_eq!(cluster.answer(refused), Some(&Answer::Failed(Failure::Overloaded)));
    assert_eq!(cluster.outcomes.len(), 1);
}

#[test]
fn what_no_majority_takes_counts_until_it_is_committed() {
    const LIMIT: usize = 65_536;
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    // Everybody is alive, but no disk of the followers writes: the leader leads on, and can commit nothing.
    cluster.stalled = followers(&cluster).into();
    let requests: Vec<Request> = (0..LIMIT).map(|_| cluster.propose_more(leader, Duration::from_millis(10))).collect();
    cluster.flush(leader);
    let refused = cluster.propose(leader);
    assert_eq!(cluster.answer(refused), Some(&Answer::Failed(Failure::Overloaded)));
    cluster.run_for(Duration::from_millis(200));
    assert!(requests.iter().all(|&request| cluster.answer(request) == Some(&Answer::Failed(Failure::Timeout))));
    assert_eq!(cluster.leader(), leader);
    // Nobody waits any more, and still the log must not grow.
    let refused = cluster.propose(leader);
    assert_eq!(cluster.answer(refused), Some(&Answer::Failed(Failure::Overloaded)));
    cluster.heal();
    cluster.run_for(Duration::from_secs(2));
    let taken = cluster.propose(leader);
    assert_eq!(applied_at(&cluster.wait_for(taken)), LIMIT as u64 + 1);
}

#[test]
fn reads_beyond_their_limit_are_refused() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    cluster.isolate(leader);
    cluster.with(leader, |replica, now| {
        for request in 0..65_537 {
            replica.read(1_000_000 + request, now.after(PATIENCE));
        }
        let answers = replica.flush(now).answers;
        assert_eq!(answers, [(1_065_536, Answer::Failed(Failure::Overloaded))]);
    });
}

// --- stopping ----------------------------------------------------------------------------------------------------

#[test]
fn a_node_that_stops_now_answers_everything() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    cluster.stalled = cluster.ids().into_iter().collect();
    let requests = [cluster.propose(leader), cluster.propose(follower), cluster.read(leader), cluster.read(follower)];
    for id in [leader, follower] {
        cluster.with(id, |replica, now| {
            replica.stop(now);
            replica.abandon_requests();
        });
        assert_eq!(cluster.replica(id).requests_under_way(), 0);
    }
    for request in requests {
        assert_eq!(cluster.answer(request), Some(&Answer::Failed(Failure::Timeout)), "{request}");
    }
    cluster.heal();
    cluster.run_for(Duration::from_secs(10));
}

// --- reads -------------------------------------------------------------------------------------------------------

#[test]
fn a_read_sees_what_was_acknowledged_before_wherever_it_is_asked() {
    let mut cluster = Cluster::formed(3, 1);
    let writer = cluster.follower();
    let write = cluster.propose(writer);
    cluster.wait_for(write);
    let reads: Vec<Request> = cluster.ids().into_iter().map(|id| cluster.read(id)).collect();
    for read in reads {
        assert_eq!(cluster.wait_for(read), Answer::ReadReady);
        assert_eq!(cluster.seen(read), [write]);
    }
}

#[test]
fn a_read_without_a_leader_fails_at_once() {
    let mut cluster = Cluster::new(3, 1);
    cluster.start(n(1));
    let before_forming = cluster.read(n(1));
    assert_eq!(cluster.answer(before_forming), Some(&Answer::Failed(Failure::NoLeader)));

    let mut cluster = Cluster::formed(3, 1);
    let [one, other] = followers(&cluster);
    let leader = cluster.leader();
    cluster.crash(leader);
    cluster.crash(other);
    cluster.run_for(Duration::from_secs(2));
    let read = cluster.read(one);
    let write = cluster.propose(one);
    assert_eq!(cluster.answer(read), Some(&Answer::Failed(Failure::NoLeader)));
    assert_eq!(cluster.answer(write), Some(&Answer::Failed(Failure::NoLeader)));
}

#[test]
fn a_leader_that_slept_through_an_election_answers_no_read_from_its_old_state() {
    let mut cluster = Cluster::formed(3, 1);
    let old = cluster.leader();
    let other = cluster.follower();
    cluster.paused.insert(old);
    cluster.settle();
    assert_ne!(cluster.leader(), old);
    let write = cluster.propose(other);
    assert!(matches!(cluster.wait_for(write), Answer::Applied(_)));
    // It wakes, and is asked before it hears of anything.
    assert_eq!(cluster.replica(old).status().role, Some(RoleName::Leader), "so it believes");
    cluster.paused.clear();
    let read = cluster.read(old);
    match cluster.wait_for(read) {
        Answer::ReadReady => assert_eq!(cluster.seen(read), [write]),
        Answer::Failed(failure) => assert!(matches!(failure, Failure::NotLeader | Failure::NoLeader), "{failure:?}"),
        Answer::Applied(_) | Answer::Transferred(_) | Answer::Members(_) => panic!("a read is answered as one"),
    }
}

#[test]
fn a_read_after_a_restart_of_all_is_never_stale() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    let write = cluster.propose(leader);
    assert!(matches!(cluster.wait_for(write), Answer::Applied(_)));
    cluster.ids().into_iter().for_each(|id| cluster.crash(id));
    cluster.start_all();
    assert!(
        cluster.ids().into_iter().all(|id| cluster.replica(id).machine().numbers.is_empty()),
        "nothing is applied yet"
    );
    // Read from then on, here and there, until all have applied the write.
    let mut steps = 0;
    while !cluster.ids().into_iter().all(|id| cluster.replica(id).machine().numbers == [write]) {
        if steps % 5 == 0 {
            cluster.read(n(1 + steps % 3));
        }
        if !cluster.step() {
            let later = cluster.now.after(Duration::from_secs(1));
            cluster.pass_time_to(later);
        }
        steps += 1;
        assert!(steps < 10_000);
    }
    cluster.run_for(PATIENCE * 2);
    let reads: Vec<&[u64]> = cluster.outcomes.values().filter_map(|outcome| outcome.seen.as_deref()).collect();
    assert!(reads.len() > 3, "some were answered: {}", reads.len());
    assert!(reads.iter().all(|seen| *seen == [write]), "{reads:?}");
    assert!(cluster.waiting.is_empty(), "all were answered");
}

#[test]
fn reads_that_come_together_share_one_question() {
    let mut cluster = Cluster::formed(3, 1);
    let follower = cluster.follower();
    cluster.sent.clear();
    cluster.with(follower, |replica, now| (0..50).for_each(|read| replica.read(1_000 + read, now.after(PATIENCE))));
    let questions =
        |message: &PeerMessage| matches!(message, PeerMessage::Raft(Message { body: Body::ReadIndex { .. }, .. }));
    assert_eq!(cluster.sent.iter().filter(|(_, _, message)| questions(message)).count(), 1);
    assert_eq!(cluster.sent[0].2.link(), LinkKind::Control, "short and urgent");
}
