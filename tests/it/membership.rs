//! Members come and go (§4, rule 2) while clients work: what was acknowledged stays, and no read is stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kv_client::{Client, ClientConfig, Consistency};
use raftd_tests::Cluster;
use serde_json::{Value, json};

/// How often something is asked for that must come about; each time takes some milliseconds.
const TRIES: usize = 3_000;
const WRITERS: usize = 4;
const READERS: usize = 2;

/// What is being done to the cluster while the clients work.
const PHASES: [&str; 5] =
    ["nothing", "two nodes are added", "the leader is removed", "a disk is lost", "all are restarted"];

/// Clients that work until they are told to stop.
struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    phase: AtomicUsize,
    /// How far each writer has counted, by what was acknowledged.
    counted: [AtomicU64; WRITERS],
    reads: AtomicU64,
    /// The longest write that ended in each phase.
    longest_ns: [AtomicU64; PHASES.len()],
}

impl Load {
    fn start(endpoints: &[String]) -> Self {
        let shared = Arc::new(Shared::default());
        let spawn = |number: usize| {
            let (shared, mut endpoints) = (Arc::clone(&shared), endpoints.to_vec());
            let first = number % endpoints.len();
            endpoints.rotate_left(first);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let config = ClientConfig { timeout: Duration::from_secs(20), ..ClientConfig::new(&endpoints) };
                let client = runtime.block_on(async { Client::connect(config) }).unwrap();
                if number < WRITERS {
                    runtime.block_on(count(&client, number, &shared));
                } else {
                    runtime.block_on(look(&client, &shared));
                }
            })
        };
        let clients = (0..WRITERS + READERS).map(spawn).collect();
        Self { shared, clients }
    }

    fn enter(&self, phase: usize) {
        // Something is written in each, so that each has its longest write.
        let before = self.shared.counted[0].load(Ordering::SeqCst);
        while self.shared.counted[0].load(Ordering::SeqCst) < before + 20 {
            std::thread::yield_now();
        }
        self.shared.phase.store(phase, Ordering::SeqCst);
    }

    fn stop(self) -> Arc<Shared> {
        self.enter(0);
        self.shared.is_over.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("nothing acknowledged was lost, and no read was stale");
        }
        self.shared
    }
}

/// Counts in a key of its own. Each step is applied exactly once, so the answers have no gap and no repetition.
async fn count(client: &Client, number: usize, shared: &Shared) {
    let mut expected = 0;
    while !shared.is_over.load(Ordering::SeqCst) {
        expected += 1;
        let begun = Instant::now();
        let written =
            client.increment(format!("count/{number}"), 1).await.expect("whatever happens takes less than 20 s");
        assert_eq!(written.result, expected, "applied once, and never lost");
        shared.counted[number].store(expected.unsigned_abs(), Ordering::SeqCst);
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        shared.longest_ns[shared.phase.load(Ordering::SeqCst)].fetch_max(took, Ordering::SeqCst);
    }
}

/// Reads what the writers count: never less than was acknowledged before the read began.
async fn look(client: &Client, shared: &Shared) {
    while !shared.is_over.load(Ordering::SeqCst) {
        for (number, counted) in shared.counted.iter().enumerate() {
            let before = counted.load(Ordering::SeqCst);
            let got = client.get(format!("count/{number}"), Consistency::Linearizable).await.unwrap();
            let found = got.item.map_or(0, |item| String::from_utf8_lossy(&item.value).parse::<u64>().unwrap());
            assert!(found >= before, "read {found} after {before} was acknowledged");
            shared.reads.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Looks until it is as wanted, and lets the nodes say how they are in between: that takes them and us some milliseconds.
#[track_caller]
fn wait_until(cluster: &mut Cluster, what: &str, is_so: impl Fn(&mut Cluster) -> bool) {
    for _ in 0..TRIES {
        if is_so(cluster) {
            return;
        }
        cluster.ctl().run(&["status"]);
    }
    panic!("{what} did not come about");
}

fn ids(answer: &Value, which: &str) -> Vec<u64> {
    answer[which].as_array().map(|ids| ids.iter().filter_map(Value::as_u64).collect()).unwrap_or_default()
}

/// Waits until `id` votes and serves.
#[track_caller]
fn wait_for_voter(cluster: &mut Cluster, id: u64) {
    wait_until(cluster, &format!("the vote of node {id}"), |cluster| {
        // A linearizable read through it blocks until it has come as far as the cluster.
        let serves = cluster.ctl_of(id).with("--timeout", "1s").run(&["get", "anything"]).code <= 1;
        let members = cluster.ctl().run(&["member", "list"]).json();
        serves && ids(&members, "voters").contains(&id) && ids(&members, "learners").is_empty()
    });
}

#[test]
fn nothing_is_lost_while_nodes_are_added_removed_wiped_and_restarted() {
    let mut cluster = Cluster::start(3);
    let endpoints: Vec<String> = (1..=5).map(|id| cluster.address(id)).collect();
    let load = Load::start(&endpoints);

    load.enter(1);
    for id in [4, 5] {
        cluster.add_newcomer(id).start();
        let answer = cluster.ctl().run(&["member", "add", &cluster.member(id), "--wait"]).done();
        assert!(ids(&answer, "voters").contains(&id), "{answer}");
    }

    load.enter(2);
    let leader = cluster.leader();
    let answer = cluster.ctl().run(&["member", "remove", &leader.to_string()]).done();
    assert!(!ids(&answer, "voters").contains(&leader), "{answer}");
    cluster.node(leader).terminate();
    cluster.forget(leader);
    cluster.leader();

    load.enter(3);
    let leader = cluster.leader();
    let wiped = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let node = cluster.node(wiped);
    node.kill();
    std::fs::remove_dir_all(node.data()).unwrap();
    node.start();
    wait_until(&mut cluster, "its asking to join", |cluster| {
        cluster.node(wiped).log_text().contains("asks to join cluster")
    });
    wait_for_voter(&mut cluster, wiped);

    load.enter(4);
    for id in cluster.ids() {
        assert!(cluster.node(id).terminate().success());
        cluster.node(id).start();
        wait_for_voter(&mut cluster, id);
    }

    let shared = load.stop();
    for (number, counted) in shared.counted.iter().enumerate() {
        let acknowledged = counted.load(Ordering::SeqCst);
        let answer = cluster.ctl().run(&["get", &format!("count/{number}")]).done();
        assert_eq!(answer["value"], json!(acknowledged.to_string()));
    }
    cluster.common_hash();
    for (phase, longest) in PHASES.iter().zip(&shared.longest_ns) {
        println!("{phase}: the longest write took {} ms", longest.load(Ordering::SeqCst) / 1_000_000);
    }
    let writes: u64 = shared.counted.iter().map(|counted| counted.load(Ordering::SeqCst)).sum();
    println!("{writes} writes, {} reads", shared.reads.load(Ordering::SeqCst));
}

#[test]
fn the_answers_are_the_contracts() {
    let mut cluster = Cluster::start(3);
    cluster.ctl().run(&["set", "k", "v"]).done();
    let members = |voters: &[u64], learners: &[u64]| json!({"ok": true, "op": "member", "voters": voters, "learners": learners, "revision": 1});
    assert_eq!(cluster.ctl().run(&["member", "list"]).done(), members(&[1, 2, 3], &[]));

    // Nobody has started node 4. The answer says what to do, and that nothing was done.
    let early = cluster.ctl().with("--timeout", "8s").run(&["member", "add", &cluster.member(4)]);
    assert_eq!(
        (early.code, &early.json()["error"], &early.json()["maybe_applied"]),
        (4, &json!("timeout"), &json!(false))
    );
    assert!(early.json()["message"].as_str().unwrap().contains("--join"), "{early:?}");

    // Ready before it is let in.
    cluster.add_newcomer(4).start();
    wait_until(&mut cluster, "its asking to join", |cluster| {
        cluster.node(4).log_text().contains("asks to join cluster")
    });
    let alone = cluster.ctl_of(4).with("--timeout", "1s").run(&["get", "k"]);
    assert_eq!((alone.code, &alone.json()["error"]), (4, &json!("no_leader")), "{alone:?}");

    // Through every node: whoever does not lead names who does.
    assert_eq!(cluster.ctl_of(1).run(&["member", "add", &cluster.member(4)]).done(), members(&[1, 2, 3], &[4]));
    wait_until(&mut cluster, "the learner's role", |cluster| {
        let status = cluster.ctl().run(&["status"]).done();
        status["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|node| node["role"] == json!("learner")))
    });
    assert_eq!(cluster.ctl_of(2).run(&["member", "list"]).done(), members(&[1, 2, 3], &[4]));
    wait_until(&mut cluster, "the promotion", |cluster| cluster.ctl_of(3).run(&["member", "promote", "4"]).code == 0);
    assert_eq!(cluster.ctl_of(4).run(&["member", "list"]).done(), members(&[1, 2, 3, 4], &[]));
    assert_eq!(cluster.ctl().run(&["member", "promote", "9"]).json()["error"], json!("usage"));
    assert_eq!(cluster.ctl().run(&["member", "remove", "9"]).done(), members(&[1, 2, 3, 4], &[]), "it is none already");

    // A removed node says so, shows as removed, and waits to be stopped.
    cluster.ctl().run(&["member", "remove", "4"]).done();
    wait_until(&mut cluster, "its knowing", |cluster| cluster.node(4).log_text().contains("removed from the cluster"));
    let status = cluster.ctl_of(4).run(&["status"]).json();
    let own = status["nodes"].as_array().and_then(|nodes| nodes.iter().find(|node| node["id"] == json!(4)));
    assert!(own.is_none_or(|own| own["role"] == json!("removed")), "{status}");
    assert!(cluster.node(4).is_running());
    assert!(cluster.node(4).terminate().success());

    // With an empty directory the id comes back.
    let data = cluster.node(4).data().to_owned();
    std::fs::remove_dir_all(data).unwrap();
    cluster.node(4).start();
    assert_eq!(cluster.ctl().run(&["member", "add", &cluster.member(4), "--wait"]).done(), members(&[1, 2, 3, 4], &[]));
    cluster.common_hash();
}

#[test]
fn a_second_process_under_a_members_id_is_refused_and_disturbs_nobody() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let before = cluster.ctl().run(&["status"]).done()["term"].clone();
    let follower = if leader == 3 { 2 } else { 3 };
    // On another address and disk, with the member's id.
    let (address, seeds) = (cluster.address(7), cluster.address(leader));
    let flags = ["--listen", &address, "--join", &seeds];
    let folder = raftd_tests::programs::folder();
    let mut twin = raftd_tests::Node::new(folder.path(), follower, &flags);
    twin.start();
    wait_until(&mut cluster, "its refusal", |_| twin.log_text().contains("is there already, with another disk"));
    assert_eq!(ids(&cluster.ctl().run(&["member", "list"]).done(), "voters"), [1, 2, 3]);
    cluster.ctl().run(&["set", "k", "v"]).done();
    assert_eq!(cluster.ctl().run(&["status"]).done()["term"], before, "nobody stood for election");
    assert!(twin.terminate().success());
}
