//! Forming a cluster (rule 2): one cluster id on all, or a stated refusal, whatever is lost; no vote before.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{AppendResult, Body, Message, NodeId};
use raft_node::{Answer, FormationState, NodeEvent, PeerMessage, StartError};
use raft_storage::MemDisk;

use crate::cluster::{Cluster, Link, n};

/// All have formed one cluster, follow one leader, and apply what is proposed at each of them.
#[track_caller]
fn serves(cluster: &mut Cluster) {
    cluster.settle();
    assert_eq!(cluster.cluster_ids().len(), 1, "one cluster");
    for id in cluster.ids() {
        if cluster.is_running(id) {
            let request = cluster.propose(id);
            assert!(cluster.run_until(|cluster| cluster.answer(request).is_some()));
            assert!(matches!(cluster.answer(request), Some(raft_node::Answer::Applied(_))), "{id}");
        }
    }
}

fn is_about_votes(message: &PeerMessage) -> bool {
    let PeerMessage::Raft(message) = message else { return false };
    matches!(
        message.body,
        Body::PreVote { .. } | Body::PreVoteReply { .. } | Body::RequestVote { .. } | Body::RequestVoteReply { .. }
    )
}

#[test]
fn three_nodes_form_one_cluster_and_elect() {
    let mut cluster = Cluster::new(3, 1);
    cluster.start_all();
    serves(&mut cluster);
    let formed =
        |id| cluster.servers[&id].events.iter().filter(|event| matches!(event, NodeEvent::Formed { .. })).count();
    assert_eq!(cluster.ids().into_iter().map(formed).collect::<Vec<_>>(), [1, 1, 1]);
    // Everybody was there within a second, so nobody was missed.
    assert!(!cluster.said(n(1)).contains("waits for"));
}

#[test]
fn one_node_is_a_cluster_too() {
    let mut cluster = Cluster::new(1, 1);
    cluster.start_all();
    serves(&mut cluster);
    let before = cluster.cluster_ids();
    cluster.crash(n(1));
    cluster.start(n(1));
    serves(&mut cluster);
    assert_eq!(cluster.cluster_ids(), before, "the cluster id outlives the process");
}

#[test]
fn nothing_but_formation_leaves_a_node_that_has_not_formed() {
    let mut cluster = Cluster::new(3, 1);
    cluster.start(n(1));
    cluster.start(n(2));
    cluster.run_for(Duration::from_secs(20));
    assert!(cluster.sent.iter().all(|(_, _, message)| matches!(message, PeerMessage::Formation(_))));
    assert_eq!(cluster.cluster_ids().into_iter().collect::<Vec<_>>(), [None]);
    cluster.start(n(3));
    serves(&mut cluster);
}

#[test]
fn a_missing_member_is_named_once_until_others_are_missing() {
    let mut cluster = Cluster::new(4, 1);
    cluster.start(n(1));
    cluster.run_for(Duration::from_millis(900));
    assert_eq!(cluster.said(n(1)), "", "members may take a second to come up");
    cluster.run_for(Duration::from_secs(20));
    cluster.start(n(2));
    cluster.run_for(Duration::from_secs(20));
    let lines = cluster.said(n(1));
    let missing: Vec<&str> = lines.lines().map(|line| line.split(" before").next().unwrap()).collect();
    assert_eq!(missing, ["waits for [n2, n3, n4]", "waits for [n3, n4]"]);
}

/// Plays the start of three nodes and lets `disturb` act before step `at`; then everything goes well.
fn disturbed(at: usize, disturb: &dyn Fn(&mut Cluster)) -> (Cluster, bool) {
    let mut cluster = Cluster::new(3, 1);
    cluster.start_all();
    let mut steps = 0;
    let mut is_disturbed = false;
    while cluster.agreed_leader().is_none() || !is_disturbed {
        if steps == at {
            disturb(&mut cluster);
            is_disturbed = true;
        }
        steps += 1;
        if !cluster.step() {
            if cluster.agreed_leader().is_some() {
                break;
            }
            let later = cluster.now.after(Duration::from_secs(1));
            cluster.pass_time_to(later);
        }
        assert!(steps < 100_000, "disturbed before step {at}, it never ends");
    }
    (cluster, is_disturbed)
}

/// Disturbs the formation before each of its steps in turn; they are over when the disturbance comes too late.
fn at_every_step(disturb: &dyn Fn(&mut Cluster), check: &dyn Fn(usize, Cluster)) {
    let mut at = 0;
    loop {
        let (cluster, was_disturbed) = disturbed(at, disturb);
        if !was_disturbed {
            break;
        }
        check(at, cluster);
        at += 1;
    }
    assert!(at > 30, "a formation and an election have more steps than {at}");
}

#[test]
fn any_message_may_be_lost() {
    let lose_next = |cluster: &mut Cluster| {
        if let Some(&link) = cluster.busy_links().first() {
            cluster.lose(link);
        }
    };
    at_every_step(&lose_next, &|_, mut cluster| serves(&mut cluster));
}

#[test]
fn any_message_may_be_delayed() {
    let delay = |cluster: &mut Cluster| {
        let slow: Option<Link> = cluster.busy_links().first().copied();
        // Everything else goes on for a second first.
        let until = cluster.now.after(Duration::from_secs(1));
        while cluster.now < until {
            while let Some(&link) = cluster.busy_links().iter().find(|&&link| Some(link) != slow) {
                cluster.deliver(link);
            }
            for id in cluster.ids() {
                while cluster.has_work(id) || cluster.has_report(id) {
                    cluster.work(id);
                    cluster.report(id);
                }
            }
            cluster.pass_time_to(until);
        }
    };
    at_every_step(&delay, &|_, mut cluster| serves(&mut cluster));
}

#[test]
fn any_node_may_crash_at_any_step() {
    for id in [1, 2, 3].map(n) {
        for kept in [0, usize::MAX] {
            let crash = |cluster: &mut Cluster| {
                cluster.crash_keeping(id, |versions| kept.min(versions));
                cluster.start(id);
            };
            at_every_step(&crash, &|_, mut cluster| serves(&mut cluster));
        }
    }
}

#[test]
fn all_nodes_may_crash_at_any_step() {
    let crash_all = |cluster: &mut Cluster| {
        cluster.ids().into_iter().for_each(|id| cluster.crash(id));
        cluster.start_all();
    };
    at_every_step(&crash_all, &|_, mut cluster| serves(&mut cluster));
}

#[test]
fn any_call_to_the_disk_may_be_the_last() {
    for id in [1, 2, 3].map(n) {
        for calls in 0..40 {
            let mut cluster = Cluster::new(3, 1);
            cluster.start_all();
            cluster.server(id).disk.fail_after(calls);
            cluster.run_for(Duration::from_secs(2));
            // A failed disk has ended the process (rule 1); a new one finds what was synced.
            if cluster.is_running(id) {
                cluster.server(id).disk.heal();
            } else {
                cluster.start(id);
            }
            serves(&mut cluster);
        }
    }
}

#[test]
fn a_disk_wiped_at_any_step_ends_in_one_cluster_or_a_stated_refusal() {
    for id in [1, 2, 3].map(n) {
        let wipe = |cluster: &mut Cluster| {
            cluster.crash(id);
            cluster.wipe(id);
            cluster.start(id);
        };
        let check = |at: usize, mut cluster: Cluster| {
            cluster.run_for(Duration::from_secs(5));
            let running = cluster.ids().into_iter().map(|id| cluster.replica(id).cluster());
            let clusters: Vec<_> = running.flatten().collect();
            let together = clusters.len() == 3 && clusters.windows(2).all(|pair| pair[0] == pair[1]);
            if together {
                serves(&mut cluster);
            } else {
                let said: String = cluster.ids().into_iter().map(|id| cluster.said(id)).collect();
                assert!(said.contains("has another disk"), "{id} wiped before step {at}: {said}");
                let votes = votes_of(&cluster, id);
                assert!(votes.is_empty() || cluster.replica(id).cluster().is_some(), "{votes:?}");
            }
        };
        // Without an end that all agree on, a run ends when the others have a leader.
        let mut at = 0;
        loop {
            let mut cluster = Cluster::new(3, 1);
            cluster.start_all();
            let mut steps = 0;
            while steps < at && cluster.agreed_leader().is_none() {
                if !cluster.step() {
                    let later = cluster.now.after(Duration::from_secs(1));
                    cluster.pass_time_to(later);
                }
                steps += 1;
            }
            if steps < at {
                break;
            }
            wipe(&mut cluster);
            cluster.sent.clear();
            check(at, cluster);
            at += 1;
        }
        assert!(at > 30);
    }
}

fn votes_of(cluster: &Cluster, id: NodeId) -> Vec<String> {
    let votes = cluster.sent.iter().filter(|(from, _, message)| *from == id && is_about_votes(message));
    votes.map(|(_, to, message)| format!("→ {to} {message}")).collect()
}

#[test]
fn a_disk_wiped_before_the_cluster_formed_takes_part_with_its_new_id() {
    let mut cluster = Cluster::new(3, 1);
    cluster.start(n(1));
    cluster.start(n(2));
    cluster.run_for(Duration::from_secs(1));
    let before = cluster.disk_id(n(2));
    cluster.crash(n(2));
    cluster.wipe(n(2));
    cluster.start(n(2));
    cluster.start(n(3));
    serves(&mut cluster);
    assert_ne!(cluster.disk_id(n(2)), before);
    let configuration = cluster.replica(n(1)).configuration().unwrap();
    assert!(configuration.has(n(2), cluster.disk_id(n(2))));
}

/// Rule 2: with its old disk's vote it could elect a second leader of a term, or one that lacks what is committed.
#[test]
fn a_disk_wiped_after_the_cluster_formed_is_no_voter_any_more() {
    for id in [1, 2, 3].map(n) {
        let mut cluster = Cluster::formed(3, 1);
        let formed = cluster.cluster_ids();
        let request = cluster.propose(id);
        assert!(cluster.run_until(|cluster| cluster.answer(request).is_some()));
        let other = cluster.ids().into_iter().find(|&other| other != id).unwrap();
        cluster.crash(id);
        cluster.crash(other);
        cluster.wipe(id);
        cluster.start(id);
        cluster.run_for(Duration::from_secs(30));
        assert_eq!(cluster.leads(), None, "one of three, and a stranger");
        assert_eq!(cluster.cluster_ids(), formed, "it has found its cluster");

        // With the other one there is a majority, and that lets the new disk in.
        cluster.start(other);
        cluster.settle();
        serves(&mut cluster);
        let disk = cluster.disk_id(id);
        assert!(cluster.run_until(|cluster| cluster.configuration(other).has(id, disk) && cluster.votes_at(other, id)));
    }
}

#[test]
fn different_lists_are_named_on_both_sides() {
    let mut cluster = Cluster::new(3, 1);
    cluster.server(n(3)).listed = [(n(1), "n1:1".to_owned()), (n(3), "n3:1".to_owned())].into();
    cluster.start_all();
    cluster.run_for(Duration::from_secs(5));
    let said = cluster.said(n(1));
    assert!(
        said.contains(
            "cannot form a cluster with n3: it was started with --cluster listing [1, 3], this node with [1, 2, 3]"
        ),
        "{said}"
    );
    assert!(cluster.said(n(3)).contains(
        "cannot form a cluster with n1: it was started with --cluster listing [1, 2, 3], this node with [1, 3]"
    ));
    assert_eq!(said.matches("cannot form").count(), 1, "once: {said}");
    assert_eq!(cluster.cluster_ids().len(), 1, "nobody has formed");

    // Corrected, it forms.
    let listed = cluster.servers[&n(1)].listed.clone();
    cluster.crash(n(3));
    cluster.server(n(3)).listed = listed;
    cluster.start(n(3));
    serves(&mut cluster);
}

#[test]
fn a_list_changed_after_it_was_prepared_counts_and_the_record_is_drawn_anew() {
    let mut cluster = Cluster::new(3, 1);
    cluster.start_all();
    // Stopped when all have prepared and none has formed.
    let is_prepared = |cluster: &Cluster, id| {
        cluster.sent.iter().any(|(from, _, message)| {
            *from == id && matches!(message, PeerMessage::Formation(FormationState::Prepared(_)))
        })
    };
    while !cluster.ids().into_iter().all(|id| is_prepared(&cluster, id)) {
        if !cluster.step() {
            let later = cluster.now.after(Duration::from_secs(1));
            cluster.pass_time_to(later);
        }
    }
    cluster.ids().into_iter().for_each(|id| cluster.crash(id));
    let moved: BTreeMap<NodeId, String> = (1..=3).map(|id| (n(id), format!("elsewhere{id}:1"))).collect();
    for id in cluster.ids() {
        cluster.server(id).listed = moved.clone();
    }
    cluster.start_all();
    serves(&mut cluster);
    let configuration = cluster.replica(n(2)).configuration().unwrap();
    assert_eq!(configuration.member(n(3)).unwrap().address, "elsewhere3:1");
}

#[test]
fn a_record_that_names_others_than_listed_is_not_prepared() {
    let mut other = Cluster::new(2, 2);
    other.start_all();
    other.run_for(Duration::from_secs(1));
    // A coordinator of two speaks to a node that was told of three.
    let mut messages = other.sent.iter().map(|(_, _, message)| message);
    let prepared = messages.find(|message| matches!(message, PeerMessage::Formation(FormationState::Prepared(_))));
    let mut cluster = Cluster::new(3, 1);
    cluster.start(n(2));
    let from = raft_node::PeerIdentity { id: n(1), disk: raft_core::DiskId(7), incarnation: raft_core::Incarnation(1) };
    cluster.with(n(2), |replica, now| {
        replica.handle_peer(now, from, prepared.unwrap().clone(), &mut || 1);
    });
    assert!(!cluster.has_work(n(2)), "nothing is written");
    assert!(cluster.said(n(2)).contains("listing [1, 2], this node with [1, 2, 3]"), "{}", cluster.said(n(2)));
}

#[test]
fn a_stranger_has_no_say_in_the_formation() {
    let mut cluster = Cluster::new(3, 1);
    cluster.start_all();
    let stranger =
        raft_node::PeerIdentity { id: n(9), disk: raft_core::DiskId(9), incarnation: raft_core::Incarnation(1) };
    let waiting = PeerMessage::Formation(FormationState::Waiting { listed: vec![1, 2, 3] });
    for id in cluster.ids() {
        cluster.with(id, |replica, now| replica.handle_peer(now, stranger, waiting.clone(), &mut || 1));
    }
    serves(&mut cluster);
}

#[test]
fn a_list_that_is_not_the_clusters_is_ignored_and_said_so() {
    let mut cluster = Cluster::formed(3, 1);
    cluster.crash(n(2));
    cluster.server(n(2)).listed = [(n(2), "n2:1".to_owned()), (n(7), "n7:1".to_owned())].into();
    cluster.start(n(2));
    serves(&mut cluster);
    let said = cluster.said(n(2));
    assert!(said.contains("lists 2=n2:1,7=n7:1"), "{said}");
    assert!(said.contains("a cluster of 1=n1:1,2=n2:1,3=n3:1 already"), "{said}");
    assert!(!cluster.said(n(1)).contains("ignored --cluster"));
}

#[test]
fn a_log_without_its_formation_is_not_formed_anew() {
    let mut cluster = Cluster::formed(3, 1);
    cluster.crash(n(1));
    let disk: &MemDisk = &cluster.servers[&n(1)].disk;
    disk.lose("formation");
    let refused = cluster.try_start(n(1));
    assert!(matches!(refused, Err(StartError::FormationLost)), "{refused:?}");
}

#[test]
fn a_member_on_another_disk_is_no_member_and_named_once() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    let id = cluster.follower();
    let mut impostor = cluster.running(id).identity;
    impostor.disk.0 ^= 1;
    let last = cluster.replica(leader).raft().unwrap().log().last_position();
    cluster.isolate(id);
    let third = cluster.ids().into_iter().find(|&other| other != id && other != leader).unwrap();
    cluster.isolate(third);
    let request = cluster.propose(leader);
    for _ in 0..3 {
        let introduction = PeerMessage::Introduction { address: "x:1".to_owned(), is_newcomer: false };
        let term = cluster.replica(leader).status().term;
        let outcome = AppendResult::Matched(last.index.next());
        let said = Body::AppendEntriesReply(outcome);
        let acknowledgement = PeerMessage::Raft(Message { term, body: said });
        for message in [introduction, acknowledgement] {
            cluster.with(leader, |replica, now| replica.handle_peer(now, impostor, message, &mut || 1));
        }
    }
    cluster.run_for(Duration::from_secs(1));
    assert!(!matches!(cluster.answer(request), Some(Answer::Applied(_))), "its acknowledgement counted");
    assert_eq!(cluster.said(leader).matches("another disk").count(), 1);
}
