//! Snapshots of real servers (§5): the log forgets, and nobody loses anything by it.

use std::path::Path;

use raftd_tests::{Cluster, raftd};
use serde_json::json;

/// Small enough that a few hundred writes are several snapshots and many segments.
const FLAGS: [&str; 4] = ["--snapshot-threshold", "64KiB", "--segment-size", "64KiB"];

/// Counts `counter` up once, and writes a kilobyte, so many times.
fn write(cluster: &Cluster, times: u64) {
    let mut script = cluster.ctl().with("--timeout", "30s").script();
    let value = "x".repeat(1_000);
    for round in 0..times {
        assert_eq!(script.ask("incr counter")["ok"], json!(true));
        assert_eq!(script.ask(&format!("set key{} {value}", round % 50))["ok"], json!(true));
    }
    assert_eq!(script.finish(), 0);
}

fn files(data: &Path, prefix: &str) -> Vec<String> {
    let names = data.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

fn counter(cluster: &Cluster) -> String {
    let answer = cluster.ctl().with("--timeout", "30s").run(&["get", "counter"]).done();
    answer["value"].as_str().unwrap().to_owned()
}

/// What a stopped node's log plays back to: `index=.. hash=..`.
fn replayed_hash(data: &Path) -> String {
    let output = raftd().args(["replay", "--data-dir"]).arg(data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().find_map(|word| word.strip_prefix("hash=")).expect("the state has a hash").to_owned()
}

#[test]
fn a_log_that_forgot_its_beginning_loses_nothing() {
    let mut cluster = Cluster::start_with(3, &FLAGS);
    write(&cluster, 400);
    cluster.common_hash();
    for id in cluster.ids() {
        let data = cluster.node(id).data().to_owned();
        assert!(!files(&data, "snapshot-").is_empty(), "node {id} has taken a snapshot");
        let segments = files(&data, "log-");
        assert_ne!(segments[0], "log-00000000000000000001", "node {id} has forgotten: {segments:?}");
    }

    // One is away for longer than the others remember.
    let leader = cluster.leader();
    let away = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.node(away).kill();
    // The log has to grow by the last snapshot's size before the next is taken.
    write(&cluster, 700);
    cluster.node(away).start();
    let hash = cluster.common_hash();
    let log = cluster.node(away).log_text();
    assert!(log.contains("installs snapshot"), "node {away} was sent a snapshot:\n{log}");

    // All lose their memory at once, and count on from what snapshot and log give.
    cluster.kill_all();
    cluster.start_all();
    assert_eq!(cluster.common_hash(), hash);
    assert_eq!(counter(&cluster), "1100", "each once");
    write(&cluster, 10);
    assert_eq!(counter(&cluster), "1110");

    // And a stopped node's directory plays back to the same.
    let hash = cluster.common_hash();
    let data = cluster.node(away).data().to_owned();
    assert_eq!(cluster.node(away).terminate().code(), Some(0));
    assert_eq!(replayed_hash(&data), hash);
    let early = raftd().args(["replay", "--to", "5", "--data-dir"]).arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert_eq!(early.status.code(), Some(2), "{said}");
    assert!(said.contains("is before the snapshot at index"), "{said}");
}
