//! Whom the client asks, and what it makes of servers that are dead, mute, strange or of another opinion.

use std::time::Duration;

use kv_client::{Client, ClientConfig, Consistency, ErrorKind, MemberChange};
use kv_store::api::RequestErrorKind;

use crate::fake::{Cluster, Reaction, bounded, hasty, mute, nobody, patient, stranger};

#[tokio::test]
async fn endpoints_that_accept_and_never_speak_end_in_an_error_in_time() {
    let (first, _first) = mute().await;
    let (second, _second) = mute().await;
    let client = hasty([first.as_str(), second.as_str()]);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Unavailable, false));
    assert_eq!(client.status().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_mute_or_dead_or_strange_endpoint_does_not_prevent_using_the_next_one() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let (mute, _mute) = mute().await;
    let (dead, strange) = (nobody().await, stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    let addresses = [mute.as_str(), dead.as_str(), strange.as_str(), server.address.as_str()];
    let config = ClientConfig { timeout: Duration::from_secs(4), ..ClientConfig::new(addresses) };
    let client = Client::connect(config).unwrap();
    client.set("k", "v").await.unwrap();
    // From then on it knows whom to ask.
    let connected = server.handshakes();
    client.set("k", "w").await.unwrap();
    assert_eq!((server.handshakes(), server.requests()), (connected, 2));
}

#[tokio::test]
async fn where_nobody_listens_the_error_says_so() {
    let address = nobody().await;
    let error = hasty([address.as_str()]).set("k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Unavailable, false));
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn a_server_that_babbles_is_left_for_another() {
    let cluster = Cluster::new(1);
    let (babbling, sane) = (cluster.server(1).await, cluster.server(2).await);
    babbling.script([Reaction::Babble]);
    let client = patient([babbling.address.as_str(), sane.address.as_str()]);
    assert_eq!(client.increment("n", 1).await.unwrap().result, 1);
    assert_eq!(sane.requests(), 1);
}

#[tokio::test]
async fn the_leader_is_learned_from_an_answer() {
    let cluster = Cluster::new(1);
    let (follower, leader) = (cluster.server(1).await, cluster.server(2).await);
    follower.name_leader(&leader);
    leader.name_leader(&leader);
    let client = patient([follower.address.as_str()]);
    for _ in 0..3 {
        client.increment("n", 1).await.unwrap();
    }
    assert_eq!((follower.requests(), leader.requests()), (1, 2));
    // A local read is about the first endpoint, whoever leads.
    client.get("n", Consistency::Local).await.unwrap();
    assert_eq!((follower.requests(), leader.requests()), (2, 2));
}

/// Only the leader changes the members; whoever was asked first names it.
#[tokio::test]
async fn a_change_of_the_members_finds_the_leader() {
    let cluster = Cluster::new(1);
    let (follower, leader) = (cluster.server(1).await, cluster.server(2).await);
    follower.name_leader(&leader);
    follower.script([Reaction::Fail(RequestErrorKind::LeaderChanged)]);
    let client = patient([follower.address.as_str()]);
    let add = MemberChange::Add { id: 4, address: "h:1".to_owned(), becomes_voter: false };
    let members = client.change_members(add.clone()).await.unwrap();
    assert_eq!((members.voters, members.learners), (vec![1, 2, 3], vec![4]));
    assert_eq!((follower.requests(), leader.requests()), (0, 1), "the one that failed did nothing");

    leader.script([Reaction::Fail(RequestErrorKind::Conflict)]);
    let error = client.change_members(MemberChange::Remove { id: 4 }).await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Conflict, false));
    // What may have been done already is asked for again: it is the same thing.
    leader.script([Reaction::ApplyAndHangUp]);
    client.change_members(add).await.unwrap();
    assert_eq!(client.members().await.unwrap().learners, Vec::<u64>::new());
}

#[tokio::test]
async fn a_leader_that_cannot_be_reached_is_not_believed_in() {
    let cluster = Cluster::new(1);
    let follower = cluster.server(1).await;
    let gone = cluster.server(2).await;
    follower.name_leader(&gone);
    drop(gone);
    let client = patient([follower.address.as_str()]);
    for expected in 1..=3 {
        assert_eq!(client.increment("n", 1).await.unwrap().result, expected);
    }
}

#[tokio::test]
async fn a_change_of_leader_is_waited_for() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    server.script([
        Reaction::Fail(RequestErrorKind::NoLeader),
        Reaction::Fail(RequestErrorKind::LeaderChanged),
        Reaction::Fail(RequestErrorKind::Stopping),
    ]);
    let client = patient([server.address.as_str()]);
    assert_eq!(client.increment("n", 1).await.unwrap().result, 1);
    assert_eq!(cluster.state().envelopes.len(), 1);
}

#[tokio::test]
async fn answers_may_come_in_any_order() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    server.script([Reaction::AnswerAfterNext, Reaction::AnswerAfterNext]);
    let client = patient([server.address.as_str()]);
    let set = |key: &'static str| {
        let client = client.clone();
        async move { client.set(key, key).await.unwrap().revision.0 }
    };
    let (a, b, c) = tokio::join!(set("a"), set("b"), set("c"));
    let mut revisions = [a, b, c];
    revisions.sort_unstable();
    assert_eq!(revisions, [1, 2, 3]);
    for key in ["a", "b", "c"] {
        assert_eq!(cluster.value(key).as_deref(), Some(key));
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let (ours, theirs) = (Cluster::new(1), Cluster::new(2));
    let (first, other) = (ours.server(1).await, theirs.server(1).await);
    // The first endpoint answers, then is gone; what is left belongs to somebody else.
    let client = bounded([first.address.as_str(), other.address.as_str()]);
    client.set("k", "v").await.unwrap();
    first.script(vec![Reaction::ApplyAndHangUp; 100]);
    drop(first);
    assert!(client.set("k", "w").await.is_err());
    assert_eq!(other.requests(), 0);
    assert_eq!(theirs.state().envelopes.len(), 0);
}

#[tokio::test]
async fn status_lists_everybody_and_needs_no_quorum() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let dead = nobody().await;
    server.name_members(&[(1, Some(&server.address)), (2, Some(&dead)), (3, None)]);
    let status = patient([server.address.as_str()]).status().await.unwrap();
    let nodes: Vec<_> =
        status.nodes.iter().map(|node| (node.id, node.address.as_deref(), node.status.is_some())).collect();
    assert_eq!(nodes, [(1, Some(server.address.as_str()), true), (2, Some(dead.as_str()), false), (3, None, false)]);
    assert_eq!(status.leader, None);
}

#[tokio::test]
async fn hashes_of_all_members_are_compared_at_one_revision() {
    let cluster = Cluster::new(1);
    let (first, second) = (cluster.server(1).await, cluster.server(2).await);
    for server in [&first, &second] {
        server.name_members(&[(1, Some(&first.address)), (2, Some(&second.address))]);
    }
    let client = patient([first.address.as_str()]);
    client.set("k", "v").await.unwrap();
    let report = client.state_hash(None).await.unwrap();
    assert!(report.is_equal());
    assert_eq!((report.revision.0, report.hashes.len()), (1, 2));
    assert_eq!(report.hashes[&1], Some(cluster.state().store.state_hash()));
    assert!(second.requests() > 0);

    client.set("k", "w").await.unwrap();
    let earlier = client.state_hash(Some(report.revision)).await.unwrap();
    assert_eq!(earlier, report);
}

#[tokio::test]
async fn a_hash_of_a_revision_that_never_comes_is_none_in_time() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    server.name_members(&[(1, Some(&server.address))]);
    let client = bounded([server.address.as_str()]);
    let report = client.state_hash(Some(kv_store::Revision(7))).await.unwrap();
    assert_eq!(report.hashes[&1], None);
    assert!(!report.is_equal());
}
