//! What everybody tries first: every command, through every node, and then a node is killed.

use raftd_tests::{Cluster, Ctl};
use serde_json::{Value, json};

/// Runs every command once and checks its whole answer. `revision` is the store's before.
fn run_every_command(ctl: &Ctl, tag: &str, mut revision: u64) -> u64 {
    let mut next = || {
        revision += 1;
        revision
    };
    let key = format!("{tag}/a");
    let one = next();
    assert_eq!(ctl.run(&["set", &key, "1"]).done(), json!({"ok": true, "op": "set", "set": true, "revision": one}));
    let found = json!({"ok": true, "op": "get", "found": true, "key": key, "value": "1",
        "create_revision": one, "mod_revision": one, "version": 1, "revision": one});
    assert_eq!(ctl.run(&["get", &key]).done(), found);
    let refused = ctl.run(&["set", &key, "2", "--if-absent"]);
    assert_eq!((refused.code, refused.json()), (1, json!({"ok": true, "op": "set", "set": false, "revision": one})));
    let two = next();
    assert_eq!(
        ctl.run(&["cas", &key, "1", "2"]).done(),
        json!({"ok": true, "op": "cas", "swapped": true, "revision": two})
    );
    let refused = ctl.run(&["cas", &key, "1", "3"]);
    assert_eq!(
        (refused.code, refused.json()),
        (1, json!({"ok": true, "op": "cas", "swapped": false, "revision": two}))
    );
    let three = next();
    let sum = json!({"ok": true, "op": "incr", "value": 42, "value_str": "42", "revision": three});
    assert_eq!(ctl.run(&["incr", &key, "40"]).done(), sum);
    let four = next();
    let sum = json!({"ok": true, "op": "incr", "value": -1, "value_str": "-1", "revision": four});
    assert_eq!(ctl.run(&["incr", &format!("{tag}/n"), "--", "-1"]).done(), sum);
    let items = json!([{"key": format!("{tag}/a"), "value": "42", "mod_revision": three},
        {"key": format!("{tag}/n"), "value": "-1", "mod_revision": four}]);
    let scan = ctl.run(&["scan", &format!("{tag}/")]).done();
    assert_eq!((&scan["items"], &scan["more"], &scan["revision"]), (&items, &json!(false), &json!(four)));
    let page = ctl.run(&["scan", &format!("{tag}/"), "--limit", "1", "--keys"]).done();
    assert_eq!((&page["more"], &page["next"]), (&json!(true), &json!(format!("{tag}/n"))));
    let five = next();
    assert_eq!(ctl.run(&["del", &key]).done(), json!({"ok": true, "op": "del", "deleted": 1, "revision": five}));
    let gone = ctl.run(&["del", &key]);
    assert_eq!((gone.code, gone.json()), (1, json!({"ok": true, "op": "del", "deleted": 0, "revision": five})));
    let absent = ctl.run(&["get", &key]);
    assert_eq!(absent.code, 1);
    assert_eq!((&absent.json()["found"], absent.json().get("value")), (&json!(false), None));
    // What was stays what it was, at every node, whatever is written since.
    assert_eq!(ctl.run(&["get", &key, "--rev", &one.to_string()]).done(), found);
    let then = ctl.run(&["scan", &format!("{tag}/"), "--rev", &four.to_string()]).done();
    assert_eq!((&then["items"], &then["revision"]), (&items, &json!(four)));
    let gone = ctl.run(&["get", &key, "--rev", &five.to_string()]);
    assert_eq!((gone.code, &gone.json()["found"], &gone.json()["revision"]), (1, &json!(false), &json!(five)));
    let to_come = ctl.run(&["get", &key, "--rev", &(five + 1).to_string()]);
    assert_eq!((to_come.code, &to_come.json()["error"]), (2, &json!("usage")), "{to_come:?}");
    let six = next();
    let all = ctl.run(&["del", "--prefix", &format!("{tag}/")]).done();
    assert_eq!(all, json!({"ok": true, "op": "del", "deleted": 1, "revision": six}));
    six
}

#[test]
fn every_command_through_every_node() {
    let cluster = Cluster::start(3);
    let mut revision = 0;
    for id in cluster.ids() {
        revision = run_every_command(&cluster.ctl_of(id), &format!("through{id}"), revision);
    }
    assert_eq!(cluster.ctl_of(1).run(&["get", "x"]).json()["revision"], json!(revision));
    cluster.common_hash();
}

#[test]
fn one_node_is_a_cluster_and_keeps_its_data() {
    let mut cluster = Cluster::start(1);
    let revision = run_every_command(&cluster.ctl(), "alone", 0);
    cluster.ctl().run(&["set", "kept", "yes"]).done();
    cluster.node(1).kill();
    cluster.node(1).start();
    let kept = cluster.ctl().run(&["get", "kept"]).done();
    assert_eq!((&kept["value"], &kept["mod_revision"]), (&json!("yes"), &json!(revision + 1)));
    assert_eq!(cluster.node(1).terminate().code(), Some(0));
    cluster.node(1).start();
    assert_eq!(cluster.ctl().run(&["get", "kept"]).done()["value"], json!("yes"));
}

#[test]
fn status_names_every_node_its_role_and_the_reason_of_the_election() {
    // Patient nodes: this is about one leader, also on a machine that is busy with other tests.
    let patient = ["--election-timeout", "1s..2s", "--heartbeat-interval", "100ms"];
    let mut cluster = Cluster::start_with(3, &patient);
    let leader = cluster.leader();
    cluster.common_hash();
    let status = cluster.ctl().run(&["status"]).done();
    assert_eq!(status["leader"], json!(leader));
    assert_eq!(status["last_change"]["term"], status["term"]);
    assert!(status["last_change"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{status}");
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        let id = node["id"].as_u64().unwrap();
        assert_eq!(node["addr"], json!(cluster.address(id)));
        assert_eq!(node["role"], json!(if id == leader { "leader" } else { "follower" }), "{status}");
    }
    // Of a node that is gone there is only its name; of the cluster without a quorum there is still a status.
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        cluster.node(*id).kill();
    }
    let status = cluster.ctl_of(leader).run(&["status"]).done();
    let gone = status["nodes"].as_array().unwrap().iter().find(|node| node["id"] == json!(others[0])).unwrap();
    assert_eq!((&gone["reachable"], gone.get("role")), (&json!(false), None));
}

#[test]
fn writes_go_on_when_the_leader_is_killed() {
    let mut cluster = Cluster::start(3);
    let mut script = cluster.ctl().with("--timeout", "30s").script();
    let mut count = 0;
    for _ in 0..3 {
        let leader = cluster.leader();
        for _ in 0..20 {
            count += 1;
            assert_eq!(script.ask("incr n")["value"], json!(count));
        }
        cluster.node(leader).kill();
        for _ in 0..20 {
            count += 1;
            assert_eq!(script.ask("incr n")["value"], json!(count), "applied exactly once over the change of leader");
        }
        assert_ne!(cluster.leader(), leader);
        cluster.node(leader).start();
    }
    assert_eq!(script.finish(), 0);
    cluster.common_hash();
}

/// A leader that was paused and does not know that it was replaced must not answer from its old state (§6.4).
#[test]
fn a_leader_back_from_a_pause_reads_nothing_stale() {
    let mut cluster = Cluster::start(3);
    let old = cluster.leader();
    let others: Vec<String> = cluster.ids().into_iter().filter(|id| *id != old).map(|id| cluster.address(id)).collect();
    cluster.ctl().run(&["set", "k", "before"]).done();
    cluster.node(old).pause();
    let majority = Ctl::new(&others.join(",")).with("--timeout", "30s");
    majority.run(&["set", "k", "after"]).done();
    cluster.node(old).resume();
    let read = cluster.ctl_of(old).run(&["get", "k"]).done();
    assert_eq!(read["value"], json!("after"));
}

#[test]
fn without_a_quorum_nothing_is_acknowledged_and_local_reads_still_work() {
    let mut cluster = Cluster::start(3);
    cluster.ctl().run(&["set", "k", "v"]).done();
    cluster.common_hash();
    cluster.node(2).kill();
    cluster.node(3).kill();
    let short = cluster.ctl_of(1).with("--timeout", "2s");
    let write = short.run(&["set", "k", "w"]);
    assert_eq!(write.code, 4, "{write:?}");
    assert!(matches!(write.json()["error"].as_str(), Some("timeout" | "no_leader")), "{write:?}");
    assert_eq!(short.run(&["get", "k"]).code, 4);
    let local = short.clone().with("--read", "local").run(&["get", "k"]).done();
    assert_eq!(local["value"], json!("v"));
    // The write may or may not be there when the quorum is back; what was acknowledged is.
    cluster.start_all();
    cluster.leader();
    let value: Value = cluster.ctl().run(&["get", "k"]).done()["value"].clone();
    assert!(value == json!("v") || value == json!("w"), "{value}");
    cluster.common_hash();
}

#[test]
fn all_killed_at_once_come_back_with_everything() {
    let mut cluster = Cluster::start(3);
    let mut script = cluster.ctl().script();
    for number in 0..200 {
        assert_eq!(script.ask(&format!("set key{number:03} {number}"))["ok"], json!(true));
    }
    drop(script);
    let before = cluster.common_hash();
    cluster.kill_all();
    cluster.start_all();
    cluster.leader();
    assert_eq!(cluster.common_hash(), before);
    let scan = cluster.ctl().run(&["scan", "key", "--limit", "500"]).done();
    assert_eq!(scan["items"].as_array().map(Vec::len), Some(200));
}

#[test]
fn a_session_that_reads_locally_never_goes_back_in_time() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let session = cluster.ctl_of(follower).with("--read", "local").with_switch("--keep-going").with("--timeout", "3s");
    let mut script = session.script();
    for value in 1..=20 {
        assert_eq!(script.ask(&format!("set k {value}"))["ok"], json!(true));
        assert_eq!(script.ask("get k")["value"], json!(value.to_string()), "its own write");
    }
    // A node that was restarted knows nothing of what is committed until it hears a leader, and there is none.
    for id in cluster.ids() {
        cluster.node(id).kill();
    }
    cluster.node(follower).start();
    let behind = script.ask("get k");
    assert_eq!((&behind["ok"], &behind["error"]), (&json!(false), &json!("timeout")), "{behind}");
    let message = behind["message"].as_str().unwrap();
    assert!(message.contains("revision 0") && message.contains("revision 20 was seen before"), "{message}");
    let other = cluster.ctl_of(follower).with("--read", "local").run(&["get", "k"]);
    assert_eq!(other.code, 1, "another session has seen nothing, and is shown what the node has: {other:?}");
    cluster.node(leader).start();
    cluster.leader();
    assert_eq!(script.ask("get k")["value"], json!("20"));
}

/// What `status` says of the last change of leader, in JSON and in text.
fn last_change(ctl: &Ctl) -> (Value, String, String) {
    let status = ctl.run(&["status"]).done();
    let text = ctl.clone().with("--output", "text").run(&["status"]).text();
    let changed = text.lines().find_map(|line| line.strip_prefix("changed  ")).unwrap_or_default().to_owned();
    let reason = status["last_change"]["reason"].as_str().unwrap_or_default().to_owned();
    (status["last_change"]["term"].clone(), reason, changed)
}

#[test]
fn status_says_why_the_leader_changed() {
    // Patient nodes, so that only what the test does changes the leader.
    let patient = ["--election-timeout", "1s..2s", "--heartbeat-interval", "100ms"];
    let mut cluster = Cluster::start_with(3, &patient);
    let ctl = cluster.ctl().with("--timeout", "30s");
    let old = cluster.leader();
    let to = cluster.ids().into_iter().find(|id| *id != old).unwrap();
    ctl.run(&["leader", "transfer", &to.to_string()]).done();
    cluster.common_hash();
    // The leader, a follower, or all: everybody knows.
    for asked in [cluster.ctl_of(1), cluster.ctl_of(2), cluster.ctl_of(3), ctl.clone()] {
        let (term, reason, changed) = last_change(&asked);
        assert_eq!(reason, format!("n{old} hands over"));
        assert_eq!(changed, format!("in term {term}: {reason}"));
    }

    cluster.node(to).kill();
    cluster.leader();
    let (term, reason, changed) = last_change(&ctl);
    assert!(reason.starts_with("no leader for ") && reason.ends_with(" ms"), "{reason}");
    assert_eq!(changed, format!("in term {term}: {reason}"));

    // Without a majority nobody leads, and the last change is still the last one.
    let left = cluster.leader();
    let third = cluster.ids().into_iter().find(|id| ![to, left].contains(id)).unwrap();
    cluster.node(third).kill();
    let refused = cluster.ctl_of(left).with("--timeout", "3s").run(&["get", "k"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert_eq!(last_change(&ctl), (term, reason, changed));
    assert!(cluster.node(left).log_text().contains("no majority heard for "));
}
