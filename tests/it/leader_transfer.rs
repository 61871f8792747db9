//! Leadership on the move under load: on request and with leaders that are stopped. Writers count what was acknowledged;
//! nothing may be missing, and nothing there twice (§3.10).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raftd_tests::{Cluster, Ctl};
use serde_json::json;

/// Writers, each with one request at a time.
const WRITERS: u64 = 4;

/// Tells writers that it is enough.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// Counts up a key of its own until it is told to stop: how far it came, and its longest wait.
fn count_up(ctl: &Ctl, writer: u64) -> JoinHandle<(u64, Duration)> {
    let mut script = ctl.clone().with("--timeout", "30s").script();
    std::thread::spawn(move || {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !IS_OVER.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let answer = script.ask(&format!("incr writer{writer}"));
            longest = longest.max(begin.elapsed());
            count += 1;
            assert_eq!(answer["value"], json!(count), "each once: {answer}");
        }
        assert_eq!(script.finish(), 0);
        (count, longest)
    })
}

#[test]
fn no_write_is_lost_and_none_is_done_twice_however_often_the_leader_changes() {
    let mut cluster = Cluster::start(3);
    let ctl = cluster.ctl().with("--timeout", "30s");
    let writers: Vec<_> = (1..=WRITERS).map(|writer| count_up(&ctl, writer)).collect();
    for round in 0..10 {
        let before = cluster.leader();
        let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != before).collect();
        let to = others[round % 2];
        // Any node may be asked: the leader, the one that is to lead, the third.
        let asked = cluster.ctl_of(cluster.ids()[round % 3]).with("--timeout", "30s");
        let answer = asked.run(&["leader", "transfer", &to.to_string()]).done();
        assert_eq!(
            (&answer["ok"], &answer["op"], &answer["leader"]),
            (&json!(true), &json!("leader"), &json!(to)),
            "{answer}"
        );
        // A machine that stands still for an election timeout may have had another election since.
        let status = ctl.run(&["status"]).done();
        assert!(status["term"].as_u64() > answer["term"].as_u64() || status["leader"] == json!(to), "{status}");
    }
    let leader = cluster.leader();
    assert_eq!(cluster.node(leader).terminate().code(), Some(0), "it hands over and ends");
    let log = cluster.node(leader).log_text();
    let moved = ctl.run(&["status"]).done();
    assert_ne!(moved["leader"], json!(leader), "{moved}\n{log}");
    cluster.node(leader).start();
    let somebody = ctl.run(&["leader", "transfer"]).done();
    assert!(somebody["leader"].as_u64().is_some_and(|id| id <= 3), "{somebody}");
    IS_OVER.store(true, Ordering::Relaxed);
    for (writer, ended) in (1..).zip(writers) {
        let (count, longest) = ended.join().unwrap();
        assert!(count > 0);
        let there = ctl.run(&["get", &format!("writer{writer}")]).done();
        assert_eq!(there["value"], json!(count.to_string()), "as many as were acknowledged");
        println!("writer {writer}: {count} increments, the longest took {} ms", longest.as_millis());
    }
    cluster.common_hash();
}

#[test]
fn what_cannot_be_says_so() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let term = cluster.ctl().run(&["status"]).done()["term"].clone();
    for id in cluster.ids() {
        let itself = cluster.ctl_of(id).run(&["leader", "transfer", &leader.to_string()]).done();
        assert_eq!(itself, json!({"ok": true, "op": "leader", "leader": leader, "term": term}), "it leads already");
        let unknown = cluster.ctl_of(id).run(&["leader", "transfer", "9"]);
        let answer = unknown.json();
        assert_eq!((unknown.code, &answer["error"], &answer["maybe_applied"]), (2, &json!("usage"), &json!(false)));
    }
    let text = cluster.ctl().with("--output", "text").run(&["leader", "transfer", &leader.to_string()]);
    assert_eq!(String::from_utf8_lossy(&text.stdout), format!("node {leader} leads, term {term}\n"));
    // The successor hears nothing, so the leader goes on; nobody can say that the transfer never comes about.
    let other = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.node(other).pause();
    let late = cluster.ctl_of(leader).run(&["leader", "transfer", &other.to_string()]);
    let answer = late.json();
    assert_eq!(
        (late.code, &answer["error"], &answer["maybe_applied"]),
        (4, &json!("timeout"), &json!(true)),
        "{answer}"
    );
    cluster.ctl_of(leader).run(&["set", "k", "v"]).done();
    cluster.node(other).resume();

    let mut alone = Cluster::start(1);
    let nobody = alone.ctl().run(&["leader", "transfer"]);
    let answer = nobody.json();
    assert_eq!(
        (nobody.code, &answer["error"], &answer["maybe_applied"]),
        (6, &json!("server"), &json!(false)),
        "{answer}"
    );
    assert_eq!(alone.node(1).terminate().code(), Some(0));
}
