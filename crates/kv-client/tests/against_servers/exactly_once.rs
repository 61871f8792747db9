//! Retries under a session (rules 7 and 8): what is applied, and what an error says about it.

use std::time::Duration;

use kv_client::ErrorKind;
use kv_store::api::RequestErrorKind;
use kv_store::{Envelope, SESSION_WINDOW_NS};

use crate::fake::{Cluster, Reaction, bounded, patient};

#[tokio::test]
async fn a_retry_after_a_lost_answer_applies_once() {
    let cluster = Cluster::new(1);
    let (first, second) = (cluster.server(1).await, cluster.server(2).await);
    first.script([Reaction::ApplyAndHangUp]);
    second.script([Reaction::ApplyAndHangUp]);
    let client = patient([first.address.as_str(), second.address.as_str()]);

    assert_eq!(client.increment("n", 1).await.unwrap().result, 1);
    assert_eq!(client.increment("n", 1).await.unwrap().result, 2);
    assert_eq!(cluster.value("n").as_deref(), Some("2"));
    let envelopes = cluster.state().envelopes.clone();
    assert_eq!(envelopes.len(), 4);
    assert!(envelopes[0] == envelopes[1] && envelopes[1] == envelopes[2], "a retry is the same bytes");
}

#[tokio::test]
async fn a_retry_after_silence_applies_once() {
    let cluster = Cluster::new(1);
    let (first, second) = (cluster.server(1).await, cluster.server(2).await);
    first.script([Reaction::ApplyAndBeSilent]);
    let config = kv_client::ClientConfig {
        timeout: Duration::from_secs(4),
        ..kv_client::ClientConfig::new([first.address.as_str(), second.address.as_str()])
    };
    let client = kv_client::Client::connect(config).unwrap();
    assert_eq!(client.increment("n", 1).await.unwrap().result, 1);
    assert_eq!(cluster.value("n").as_deref(), Some("1"));
    assert_eq!((first.requests(), second.requests()), (1, 1));
}

#[tokio::test]
async fn a_write_without_an_answer_is_in_doubt_and_a_read_never_is() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = bounded([server.address.as_str()]);
    server.script(vec![Reaction::ApplyAndBeSilent; 100]);
    let error = client.increment("n", 1).await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied(), error.is_retry_safe()), (ErrorKind::Timeout, true, false));
    assert_eq!(cluster.value("n").as_deref(), Some("1"));

    let error = client.get("n", kv_client::Consistency::Linearizable).await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Timeout, false));
}

#[tokio::test]
async fn a_leader_is_asked_for_again_only_by_name() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = patient([server.address.as_str()]);
    // Somebody may lead already: to ask again for somebody else would be another change.
    server.script([Reaction::ApplyAndHangUp]);
    let error = client.transfer_leadership(None).await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Timeout, true));
    assert_eq!(server.requests(), 1);

    server.script([Reaction::ApplyAndHangUp, Reaction::Fail(RequestErrorKind::LeaderChanged)]);
    let leadership = client.transfer_leadership(Some(3)).await.unwrap();
    assert_eq!((leadership.leader, leadership.term), (3, 2));
    assert_eq!(server.requests(), 3, "the one that failed did nothing");

    // What was certainly not done is asked for again in any case.
    server.script([Reaction::Fail(RequestErrorKind::NoLeader)]);
    assert_eq!(client.transfer_leadership(None).await.unwrap().leader, 1);
    let error = {
        server.script([Reaction::Fail(RequestErrorKind::Conflict)]);
        client.transfer_leadership(Some(2)).await.unwrap_err()
    };
    assert_eq!((error.kind(), error.maybe_applied(), error.is_retry_safe()), (ErrorKind::Conflict, false, true));
}

#[tokio::test]
async fn a_cluster_without_a_leader_applies_nothing_and_the_error_says_so() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    server.script(vec![Reaction::Fail(RequestErrorKind::NoLeader); 1_000]);
    let error = bounded([server.address.as_str()]).set("k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied(), error.is_retry_safe()), (ErrorKind::NoLeader, false, true));
    assert!(cluster.state().envelopes.is_empty());
}

#[tokio::test]
async fn a_session_born_too_early_is_replaced_without_a_word() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    // The first handshake tells a time of long ago, as a node does that has slept.
    let now_ns = SESSION_WINDOW_NS * 10;
    cluster.state().stamp_ns = now_ns;
    server.tell_time(now_ns - 2 * SESSION_WINDOW_NS);
    let client = patient([server.address.as_str()]);
    assert_eq!(client.increment("n", 1).await.unwrap().result, 1);

    let headers: Vec<_> =
        cluster.state().envelopes.iter().map(|bytes| Envelope::decode(bytes).unwrap().session).collect();
    assert_eq!(headers.len(), 2);
    assert_ne!(headers[0].client, headers[1].client);
    assert!(headers[1].birth.0 >= now_ns);
}

#[tokio::test]
async fn a_session_born_too_late_is_replaced_too() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    // Cluster time fell back behind what an earlier leader had told (its idle time is in no log).
    let now_ns = cluster.state().stamp_ns;
    server.tell_time(now_ns + 3 * kv_store::MAX_AHEAD_NS);
    let client = patient([server.address.as_str()]);
    assert_eq!(client.increment("n", 1).await.unwrap().result, 1);
    assert_eq!(server.handshakes(), 2);
}

#[tokio::test]
async fn an_expired_session_after_a_lost_answer_is_an_error_in_doubt() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    server.script([
        Reaction::ApplyAndHangUp,
        // So much later that the session is gone, and with it the memory of what it did. The store drops what is over
        // before it looks.
        Reaction::AfterTime(Duration::from_nanos(3 * SESSION_WINDOW_NS)),
    ]);
    let client = patient([server.address.as_str()]);
    let error = client.increment("n", 1).await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::SessionExpired, true));
    assert_eq!(cluster.value("n").as_deref(), Some("1"));
    // The next write has a session again.
    assert_eq!(client.increment("n", 1).await.unwrap().result, 2);
}

#[tokio::test]
async fn a_deadline_that_passed_too_early_is_set_anew() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    // The clock that the first handshake gives is behind by more than the time-out, and by less than makes a session old.
    let now_ns = SESSION_WINDOW_NS * 10;
    cluster.state().stamp_ns = now_ns;
    server.tell_time(now_ns - SESSION_WINDOW_NS / 4);
    let client = patient([server.address.as_str()]);
    assert_eq!(client.increment("n", 1).await.unwrap().result, 1);
    let sequences: Vec<_> =
        cluster.state().envelopes.iter().map(|bytes| Envelope::decode(bytes).unwrap().session.sequence).collect();
    assert_eq!(sequences, [1, 2], "the refused one is not asked again");
}

#[tokio::test]
async fn a_caller_that_left_does_not_hold_up_the_session() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    server.script([Reaction::BeSilent]);
    let client = patient([server.address.as_str()]);
    let abandoned = tokio::spawn({
        let client = client.clone();
        async move { client.set("k", "1").await }
    });
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    client.set("k", "2").await.unwrap();
    let session = Envelope::decode(&cluster.state().envelopes[0]).unwrap().session;
    assert_eq!((session.sequence, session.lowest_unanswered), (2, 2));
}

#[tokio::test]
async fn a_piece_of_a_large_delete_that_fails_leaves_the_earlier_ones_in_the_error() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = patient([server.address.as_str()]);
    let mut writing = tokio::task::JoinSet::new();
    for key in 0..=kv_store::MAX_KEYS_PER_COMMAND {
        let client = client.clone();
        writing.spawn(async move { client.set(format!("p/{key}"), "v").await.unwrap() });
        if writing.len() == 256 {
            writing.join_next().await.unwrap().unwrap();
        }
    }
    writing.join_all().await;
    server.script([Reaction::Answer, Reaction::Fail(RequestErrorKind::Overloaded)]);
    let error = client.delete_prefix("p/").await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Overloaded, true));
    assert_eq!(cluster.state().store.key_count(), 1);
}
