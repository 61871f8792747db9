//! What each operation does when all is well.

use kv_client::{Consistency, ErrorKind, ScanRequest};
use kv_store::Revision;
use kv_store::api::RequestBody;

use crate::fake::{Cluster, Server, patient};

#[tokio::test]
async fn each_operation_says_what_it_did() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = patient([server.address.as_str()]);

    let absent = client.get("k", Consistency::Linearizable).await.unwrap();
    assert_eq!((absent.item, absent.revision), (None, Revision(0)));
    let set = client.set("k", "1").await.unwrap();
    assert_eq!((set.result, set.revision), (true, Revision(1)));
    assert!(!client.set_if_absent("k", "2").await.unwrap().result);
    assert!(!client.compare_and_swap("k", "2", "3").await.unwrap().result);
    assert!(client.compare_and_swap("k", "1", "3").await.unwrap().result);
    assert_eq!(client.increment("k", -5).await.unwrap().result, -2);
    let item = client.get("k", Consistency::Local).await.unwrap().item.unwrap();
    assert_eq!((&item.value[..], item.version), (&b"-2"[..], 3));
    assert_eq!(client.delete("k").await.unwrap().result, 1);
    assert_eq!(client.delete("k").await.unwrap().result, 0);
    assert_eq!(server.handshakes(), 1, "one connection carries it all");
}

#[tokio::test]
async fn a_local_read_asks_for_what_its_session_has_seen() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = patient([server.address.as_str()]);
    let asked = |server: &Server| match server.bodies().pop() {
        Some(RequestBody::Read { consistency, .. }) => consistency,
        other => panic!("no read: {other:?}"),
    };
    client.get("k", Consistency::Local).await.unwrap();
    assert_eq!(asked(&server), Consistency::Local, "it has seen nothing");
    client.set("k", "1").await.unwrap();
    client.get("k", Consistency::Local).await.unwrap();
    assert_eq!(asked(&server), Consistency::LocalFrom { revision: Revision(1) }, "its own write");
    patient([server.address.as_str()]).set("k", "2").await.unwrap();
    client.clone().get("k", Consistency::Linearizable).await.unwrap();
    client.get("k", Consistency::Local).await.unwrap();
    assert_eq!(asked(&server), Consistency::LocalFrom { revision: Revision(2) }, "what its clone has read");
    let further = Consistency::LocalFrom { revision: Revision(9) };
    client.get("k", further).await.unwrap();
    assert_eq!(asked(&server), further, "more, if it is asked for");
}

#[tokio::test]
async fn refusals_of_the_store_have_their_class() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = patient([server.address.as_str()]);

    client.set("text", "x").await.unwrap();
    let wrong_type = client.increment("text", 1).await.unwrap_err();
    assert_eq!((wrong_type.kind(), wrong_type.maybe_applied()), (ErrorKind::WrongType, false));
    assert_eq!(client.set("k", vec![0; (1 << 20) + 1]).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(client.set("", "v").await.unwrap_err().kind(), ErrorKind::Invalid);

    let before = server.requests();
    let huge = client.set("k", vec![0; 5 << 20]).await.unwrap_err();
    assert_eq!((huge.kind(), huge.maybe_applied()), (ErrorKind::TooLarge, false));
    assert_eq!(server.requests(), before, "what no server takes is not sent");
    assert!(client.set("k", vec![0; 1 << 20]).await.is_ok());
}

#[tokio::test]
async fn a_large_prefix_goes_in_pieces_and_pages_follow_each_other() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = patient([server.address.as_str()]);
    let keys = kv_store::MAX_KEYS_PER_COMMAND + 1;
    let mut writing = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let client = client.clone();
        writing.spawn(async move {
            for key in (writer..keys).step_by(64) {
                client.set(format!("p/{key:06}"), "v").await.unwrap();
            }
        });
    }
    writing.join_all().await;

    let mut request = ScanRequest {
        prefix: "p/".into(),
        from: None,
        limit: 4_000,
        keys_only: true,
        consistency: Consistency::Linearizable,
        revision: None,
    };
    let mut seen = Vec::new();
    loop {
        let page = client.scan(request.clone()).await.unwrap();
        seen.extend(page.items.into_iter().map(|item| item.key));
        let Some(next) = page.next else { break };
        // The pages behind it are of the same state, whatever happens meanwhile.
        request.from = Some(next.clone());
        request.revision = Some(page.revision);
        client.delete(next.clone()).await.unwrap();
        client.set([&next[..], b"/new"].concat(), "v").await.unwrap();
    }
    assert_eq!(seen.len(), keys);
    assert!(seen.is_sorted() && seen.iter().all(|key| !key.ends_with(b"/new")));

    assert_eq!(client.delete_prefix("p/").await.unwrap().result, keys as u64);
    assert_eq!(client.delete_prefix("p/").await.unwrap().result, 0);
    assert_eq!(cluster.state().store.key_count(), 0);
}

#[tokio::test]
async fn the_past_is_read_as_it_was_and_the_future_is_refused() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = patient([server.address.as_str()]);
    let first = client.set("k", "old").await.unwrap().revision;
    let second = client.set("k", "new").await.unwrap().revision;
    let then = client.get_at("k", first).await.unwrap();
    assert_eq!((then.item.unwrap().value, then.revision), ("old".into(), first));
    assert_eq!(client.get_at("k", second).await.unwrap().item.unwrap().value, "new");
    assert_eq!(client.get_at("k", Revision(0)).await.unwrap().item, None);
    let refused = client.get_at("k", Revision(second.0 + 1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert!(refused.to_string().contains("not reached yet"), "{refused}");
}

#[tokio::test]
async fn many_requests_share_one_connection_and_none_is_lost() {
    let cluster = Cluster::new(1);
    let server = cluster.server(1).await;
    let client = patient([server.address.as_str()]);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let client = client.clone();
        running.spawn(async move { client.increment("n", 1).await.unwrap().result });
    }
    let mut values = running.join_all().await;
    values.sort_unstable();
    assert_eq!(values, (1..=2_000).collect::<Vec<i64>>());
    assert_eq!(server.handshakes(), 1);
}
