//! Disks that answer no more, while their servers live on (F9, §3.10): one thread of a server is stopped, the one that
//! writes. Where the system lets nobody do that, the tests say so and test nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raftd_tests::{Cluster, Ctl, Stalled};
use serde_json::{Value, json};

/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stops the disk of a server.
fn stall(cluster: &mut Cluster, id: u64) -> Option<Stalled> {
    let stalled = cluster.node(id).stall_disk();
    if stalled.is_none() {
        eprintln!("SKIPPED: this system lets nobody stop a thread of a program it has started (ptrace)");
    }
    stalled
}

/// Counts up a key until it is told to stop: how far it came, and its longest wait.
fn count_up(ctl: &Ctl, is_over: &Arc<AtomicBool>) -> JoinHandle<(u64, Duration)> {
    let (mut script, is_over) = (ctl.clone().with("--timeout", "30s").script(), Arc::clone(is_over));
    std::thread::spawn(move || {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let answer = script.ask("incr count");
            longest = longest.max(begun.elapsed());
            count += 1;
            assert_eq!(answer["value"], json!(count), "each once: {answer}");
        }
        assert_eq!(script.finish(), 0);
        (count, longest)
    })
}

/// How far the counting has come.
fn counted(ctl: &Ctl) -> u64 {
    let answer = ctl.run(&["get", "count"]).json();
    answer["value"].as_str().map_or(0, |value| value.parse().unwrap())
}

/// Asks until the answer is as wanted.
fn wait_for(ctl: &Ctl, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let status = ctl.run(&["status"]).json();
        if is_wanted(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {status}");
    }
}

#[test]
fn a_leader_whose_disk_stands_still_gives_way_and_no_write_is_lost() {
    let mut cluster = Cluster::start(3);
    let (ctl, is_over) = (cluster.ctl(), Arc::new(AtomicBool::new(false)));
    let leader = cluster.leader();
    let writer = count_up(&ctl, &is_over);
    let begun = Instant::now();
    let Some(stalled) = stall(&mut cluster, leader) else {
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        return;
    };
    let others = cluster.ctl();
    let status =
        wait_for(&others, "nobody else leads", |status| status["leader"].is_u64() && status["leader"] != json!(leader));
    println!("another leads after {:?}: {}", begun.elapsed(), status["last_change"]);
    let why = status["last_change"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("disk"), "{status}");

    // Meanwhile two disks of three are enough.
    let before = counted(&ctl);
    let begun = Instant::now();
    while counted(&ctl) == before {
        assert!(begun.elapsed() < PATIENCE, "no write goes on");
    }

    drop(stalled);
    is_over.store(true, Ordering::Relaxed);
    let (count, longest) = writer.join().unwrap();
    println!("{count} writes, the longest took {longest:?}");
    cluster.common_hash();
}

#[test]
fn a_follower_whose_disk_stands_still_is_nobodys_business_but_its_own() {
    let mut cluster = Cluster::start(3);
    let (ctl, is_over) = (cluster.ctl(), Arc::new(AtomicBool::new(false)));
    let leader = cluster.leader();
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let term = ctl.run(&["status"]).json()["term"].clone();
    let Some(stalled) = stall(&mut cluster, follower) else { return };
    let writer = count_up(&ctl, &is_over);
    let begun = Instant::now();
    while counted(&ctl) < 500 {
        assert!(begun.elapsed() < PATIENCE, "writes do not go on");
    }
    let status = ctl.run(&["status"]).json();
    assert_eq!((&status["leader"], &status["term"]), (&json!(leader), &term), "{status}");
    drop(stalled);
    is_over.store(true, Ordering::Relaxed);
    let (count, longest) = writer.join().unwrap();
    println!("{count} writes, the longest took {longest:?}");
    cluster.common_hash();
}
