//! The main job on real input: the machine's package list, a hundred thousand lines of it, while leaders die.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use raftd_tests::node::raftd;
use raftd_tests::{Cluster, Ctl};
use serde_json::{Value, json};

const LINES: usize = 100_000;
/// At these lines the leader is killed; it is started again at the ones of [`RESTARTS`].
const KILLS: [usize; 3] = [20_000, 45_000, 70_000];
const RESTARTS: [usize; 3] = [25_000, 50_000, 75_000];

/// The keys and values to be written: `ROUND/PACKAGE` and its version.
fn lines() -> Vec<(String, String)> {
    let packages = packages();
    let round =
        |round: usize| packages.iter().map(move |(name, version)| (format!("{round:04}/{name}"), version.clone()));
    (0..).flat_map(round).take(LINES).collect()
}

/// The machine's package list, or a bundled one where there is no dpkg.
fn packages() -> Vec<(String, String)> {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}\n"]).output();
    let listed = output.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let text = if listed.lines().count() >= 50 { listed.as_str() } else { include_str!("packages.txt") };
    let line = |line: &str| line.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()));
    // One name may be there for several architectures; a map keeps one of each.
    text.lines().filter_map(line).collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// Writes all lines through one script; tells `reached` when the ones of interest were answered.
fn write_all(ctl: &Ctl, lines: &[(String, String)], reached: &SyncSender<usize>) -> BTreeMap<String, String> {
    let mut script = ctl.script();
    let mut acknowledged = BTreeMap::new();
    for (number, (key, value)) in lines.iter().enumerate() {
        let answer = script.ask(&format!("set '{key}' '{value}'"));
        assert_eq!(answer["ok"], json!(true), "line {number}: {answer}");
        acknowledged.insert(key.clone(), value.clone());
        if KILLS.contains(&number) || RESTARTS.contains(&number) {
            reached.send(number).expect("the test waits for every one");
        }
    }
    assert_eq!(script.finish(), 0);
    acknowledged
}

/// Counts as long as the writer writes. Alone on its counter, it must see its own count in every answer.
fn count(ctl: &Ctl, is_written: &AtomicBool) -> i64 {
    let mut script = ctl.script();
    let mut count = 0;
    while !is_written.load(Ordering::Relaxed) {
        count += 1;
        let answer = script.ask("incr counter");
        assert_eq!(answer["value"], json!(count), "every increment applied exactly once: {answer}");
    }
    assert_eq!(script.finish(), 0);
    count
}

/// Kills the leader at each of [`KILLS`], under way as the writer is, and starts it again at each of [`RESTARTS`].
fn kill_leaders(cluster: &mut Cluster, reached: &Receiver<usize>) {
    for _ in KILLS {
        reached.recv().expect("the writer reaches every line");
        let leader = cluster.leader();
        cluster.node(leader).kill();
        reached.recv().expect("the writer reaches every line");
        cluster.node(leader).start();
    }
}

/// Everything one node holds, read from it alone, page by page.
fn scan_alone(cluster: &Cluster, id: u64) -> BTreeMap<String, String> {
    let mut script = cluster.ctl_of(id).with("--read", "local").script();
    let mut found = BTreeMap::new();
    let mut from = String::new();
    loop {
        let page = script.ask(&format!("scan --limit 5000{from}"));
        let item = |item: &Value| Some((item["key"].as_str()?.to_owned(), item["value"].as_str()?.to_owned()));
        found.extend(page["items"].as_array().expect("a page has items").iter().map(|one| item(one).expect("text")));
        match page["next"].as_str() {
            Some(next) => from = format!(" --from '{next}'"),
            None => break,
        }
    }
    assert_eq!(script.finish(), 0);
    found
}

#[track_caller]
fn check_every_node(cluster: &Cluster, expected: &BTreeMap<String, String>) -> String {
    let hash = cluster.common_hash();
    for id in cluster.ids() {
        let found = scan_alone(cluster, id);
        let missing = expected.iter().find(|(key, value)| found.get(*key) != Some(value));
        assert_eq!(missing, None, "node {id} lost what was acknowledged");
        assert_eq!(found.len(), expected.len(), "node {id} has what nobody wrote");
    }
    hash
}

#[test]
fn a_hundred_thousand_lines_survive_three_leaders_and_a_power_cut() {
    let mut cluster = Cluster::start_with(3, &["--segment-size", "4MiB"]);
    let lines = lines();
    let ctl = cluster.ctl().with("--timeout", "30s").with_switch("--keep-going");
    let (tell, reached) = sync_channel(KILLS.len() + RESTARTS.len());
    let is_written = AtomicBool::new(false);
    let (mut expected, count) = thread::scope(|scope| {
        let (ctl, lines, is_written) = (&ctl, &lines, &is_written);
        let counter = scope.spawn(move || count(ctl, is_written));
        let writer = scope.spawn(move || {
            // Said even if a line fails: the counter must not count forever. (And `tell` is dropped: nobody waits on.)
            let _said = SayWhenDone(is_written);
            write_all(ctl, lines, &tell)
        });
        kill_leaders(&mut cluster, &reached);
        (writer.join().expect("the writer"), counter.join().expect("the counter"))
    });
    assert_eq!(expected.len(), LINES);
    expected.insert("counter".to_owned(), count.to_string());

    let hash = check_every_node(&cluster, &expected);
    cluster.kill_all();
    cluster.start_all();
    cluster.leader();
    assert_eq!(check_every_node(&cluster, &expected), hash, "the same state after the power cut");
    check_replay(&mut cluster, &hash);
}

/// The log plays back to any state (`raftd replay`): before and after one more write.
fn check_replay(cluster: &mut Cluster, hash: &str) {
    let leader = cluster.leader();
    let index = applied_index(cluster, leader);
    cluster.ctl().run(&["set", "counter", "overwritten"]).done();
    cluster.common_hash();
    let later = applied_index(cluster, leader);
    assert!(later > index);
    let folders: Vec<PathBuf> = cluster.ids().iter().map(|id| cluster.node(*id).data().to_path_buf()).collect();
    for id in cluster.ids() {
        cluster.node(id).terminate();
    }
    for folder in &folders {
        let before = replay(folder, &["--to", &index.to_string()]);
        assert!(before.contains(hash), "the state at {index} is the one the cluster had: {before}");
    }
    let folder = &folders[0];
    let (index, later) = (index.to_string(), later.to_string());
    assert!(!replay(folder, &["--to", &later]).contains(hash));
    assert!(replay(folder, &["--to", &later, "get", "counter"]).contains("overwritten"));
    assert!(!replay(folder, &["--to", &index, "get", "counter"]).contains("overwritten"));
    let round = replay(folder, &["--to", &index, "scan", "0000/"]);
    assert_eq!(round.lines().filter(|line| line.contains("0000/")).count(), packages().len());
}

/// What `raftd replay` prints of the log in `folder`.
fn replay(folder: &Path, arguments: &[&str]) -> String {
    let output = raftd().args(["replay", "--data-dir"]).arg(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn applied_index(cluster: &Cluster, id: u64) -> u64 {
    let status = cluster.ctl().run(&["status"]).done();
    let nodes = status["nodes"].as_array().expect("a status has nodes");
    let node = nodes.iter().find(|node| node["id"] == json!(id)).expect("every node is listed");
    node["applied_index"].as_u64().expect("the node is there")
}

/// Sets a flag when it goes, however that comes about.
struct SayWhenDone<'a>(&'a AtomicBool);

impl Drop for SayWhenDone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
