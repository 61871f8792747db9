//! What an application needs beyond keys and values, on real servers: transactions, watches, leases, history and the quota.

use raftd_tests::{Answer, Cluster, Ctl};
use serde_json::{Value, json};

fn set(ctl: &Ctl, key: &str, value: &str) -> u64 {
    ctl.run(&["set", key, value]).done()["revision"].as_u64().expect("a revision")
}

fn failed(answer: &Answer, code: i32, error: &str) -> Value {
    let line = answer.json();
    assert_eq!((answer.code, &line["ok"], &line["error"]), (code, &json!(false), &json!(error)), "{answer:?}");
    line
}

#[test]
fn a_transaction_is_done_whole_or_not_at_all() {
    let cluster = Cluster::start(3);
    let ctl = cluster.ctl();
    let one = set(&ctl, "a", "1");
    let text = "if value(a) == \"1\" && mod(b) < 7 then set b 2; get a; del nothing; scan b else get a";
    let done = json!({"ok": true, "op": "txn", "succeeded": true, "revision": one + 1, "results": [
        {"op": "set", "set": true},
        {"op": "get", "found": true, "key": "a", "value": "1", "create_revision": one, "mod_revision": one, "version": 1},
        {"op": "del", "deleted": 0},
        {"op": "scan", "items": [{"key": "b", "value": "2", "mod_revision": one + 1}], "more": false},
    ]});
    assert_eq!(ctl.run(&["txn", text]).done(), done);
    let otherwise = ctl.run(&["txn", "if absent(b) then del --prefix '' else get missing"]);
    let expected = json!({"ok": true, "op": "txn", "succeeded": false, "revision": one + 1,
        "results": [{"op": "get", "found": false, "key": "missing"}]});
    assert_eq!((otherwise.code, otherwise.json()), (1, expected));

    let many = |count: usize| format!("then {}", "get a;".repeat(count));
    ctl.run(&["txn", &many(128)]).done();
    let line = failed(&ctl.run(&["txn", &many(129)]), 2, "too_large");
    assert_eq!(line["maybe_applied"], json!(false));
    let line = failed(&ctl.run(&["txn", "if value(a) = 1 then get a"]), 2, "usage");
    assert!(line["message"].as_str().is_some_and(|text| text.contains("column 13")), "{line}");
}

/// A watch goes on while each node in turn is killed and started again: nothing is missing, nothing comes twice.
#[test]
fn a_watch_survives_every_node() {
    let mut cluster = Cluster::start(3);
    let ctl = cluster.ctl();
    let before = set(&ctl, "w/before", "0");
    let mut watch = ctl.script();
    let first = watch.ask("watch --prefix w/ --prev --count 11");
    assert_eq!(first, json!({"ok": true, "op": "watch", "revision": before}));
    let mut revision = before;
    for id in cluster.ids() {
        cluster.node(id).kill();
        revision = set(&ctl, "w/k", &id.to_string());
        set(&ctl, "elsewhere", "x");
        let mut event =
            json!({"event": "set", "key": "w/k", "value": id.to_string(), "revision": revision, "last": true});
        if id > 1 {
            event["prev"] = json!((id - 1).to_string());
        }
        assert_eq!(watch.next(), event);
        cluster.node(id).start();
        // Both of a transaction's changes, as one revision; what is not watched does not count.
        revision = ctl.run(&["txn", "then set w/b 1; set w/a 1; set x 1"]).done()["revision"].as_u64().expect("one");
        let (a, b) = (watch.next(), watch.next());
        assert_eq!((&a["key"], &a["last"], &a["revision"]), (&json!("w/a"), &json!(false), &json!(revision)));
        assert_eq!((&b["key"], &b["last"], &b["revision"]), (&json!("w/b"), &json!(true), &json!(revision)));
    }
    ctl.run(&["del", "--prefix", "w/a"]).done();
    let gone = json!({"event": "del", "key": "w/a", "prev": "1", "revision": revision + 1, "last": true});
    assert_eq!(watch.next(), gone);
    ctl.run(&["del", "w/b"]).done();
    assert_eq!(watch.next()["event"], json!("del"));
    assert_eq!(watch.finish(), 0, "after --count events it ends well");

    // The same from the beginning, out of the history, at any node.
    for id in cluster.ids() {
        let from = before.to_string();
        let told = cluster.ctl_of(id).run(&["watch", "--prefix", "w/", "--from", &from, "--count", "12"]);
        assert_eq!(told.code, 0, "{told:?}");
        assert_eq!(told.text().lines().count(), 13, "{told:?}");
    }
}

/// No sleep here: the watch tells when a key goes.
#[test]
fn leases_take_their_keys_with_them() {
    let mut cluster = Cluster::start(3);
    let ctl = cluster.ctl();
    let mut watch = ctl.script();
    let began = watch.ask("watch k --count 2");
    ctl.run(&["set", "k", "v", "--ttl", "300ms"]).done();
    assert_eq!(watch.next()["event"], json!("set"));
    assert_eq!(watch.next()["event"], json!("del"), "{began}");
    assert_eq!(ctl.run(&["get", "k"]).code, 1);

    let granted = ctl.run(&["lease", "grant", "1h"]).done();
    let id = granted["id"].as_str().expect("an id").to_owned();
    assert_eq!((id.len(), &granted["ttl_ms"], &granted["op"]), (16, &json!(3_600_000), &json!("lease")));
    ctl.run(&["set", "leased", "v", "--lease", &id]).done();
    let leader = cluster.leader();
    cluster.node(leader).kill();
    let kept = ctl.run(&["lease", "keep-alive", &id]).done();
    assert_eq!(kept["id"], json!(id));
    cluster.node(leader).start();
    let listed = ctl.run(&["lease", "list"]).done();
    assert_eq!((&listed["leases"][0]["id"], &listed["leases"][0]["keys"]), (&json!(id), &json!(1)));
    assert_eq!(ctl.run(&["get", "leased"]).done()["value"], json!("v"), "a change of leader ends no lease");
    assert_eq!(ctl.run(&["lease", "revoke", &id]).done()["deleted"], json!(1));
    assert_eq!(ctl.run(&["get", "leased"]).code, 1);
    let line = failed(&ctl.run(&["lease", "keep-alive", &id]), 6, "no_such_lease");
    assert_eq!(line["maybe_applied"], json!(false));
    failed(&ctl.run(&["set", "x", "v", "--lease", &id]), 6, "no_such_lease");
}

#[test]
fn history_is_kept_to_its_bytes_and_what_is_forgotten_says_so() {
    let cluster = Cluster::start_with(3, &["--history-bytes", "4KiB"]);
    let ctl = cluster.ctl();
    let first = set(&ctl, "k", "v").to_string();
    for number in 0..60 {
        set(&ctl, "k", &number.to_string());
    }
    for id in cluster.ids() {
        let ctl = cluster.ctl_of(id);
        // The leader forgets within moments, and each node when it has heard.
        let compacted = (0..2_000).map(|_| ctl.run(&["get", "k", "--rev", &first])).find(|answer| answer.code != 0);
        let line = failed(&compacted.expect("compacted at last"), 6, "compacted");
        let oldest = line["oldest"].as_u64().expect("the oldest").to_string();
        ctl.run(&["get", "k", "--rev", &oldest]).done();
        failed(&ctl.run(&["scan", "k", "--rev", &first]), 6, "compacted");
        let line = failed(&ctl.run(&["watch", "k", "--from", &first]), 6, "compacted");
        assert_eq!(line["resume"], line["oldest"], "where a watch may begin");
    }
    assert!(ctl.run(&["hash"]).done()["equal"].as_bool().is_some_and(|equal| equal));
}

#[test]
fn above_the_quota_sets_are_refused_and_deletes_go_on() {
    let cluster = Cluster::start_with(3, &["--quota-bytes", "2KiB"]);
    let ctl = cluster.ctl();
    let refused =
        (0..100).map(|number| ctl.run(&["set", &format!("k{number:03}"), "v"])).find(|answer| answer.code != 0);
    let line = failed(&refused.expect("2 KiB are 15 keys"), 6, "no_space");
    assert_eq!(line["maybe_applied"], json!(false));
    assert_eq!(ctl.run(&["get", "k000"]).done()["value"], json!("v"));
    ctl.run(&["del", "k000"]).done();
    set(&ctl, "again", "v");
}
