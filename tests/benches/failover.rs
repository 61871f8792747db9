//! How long writers wait when the leader is killed: `cargo bench -p raftd-tests --bench failover`.
//!
//! Writers write one after the other, each with one request at a time. The leader is killed with -9; the longest write
//! that ends in the window after it is the stall: until the others notice, elect one of them, and the client has found it.
//! The victim is started again in the next window, in which nothing is killed; its longest write shows what a node costs
//! that comes back, and what the machine does by itself. Only when it has applied what it missed is the next one killed.
//!
//! Prints, for one writer and for many, the median, the quartiles and the range of each kind, and how many kills stalled
//! writes for longer than two maximum election timeouts.

use std::time::{Duration, Instant};

use raftd_tests::Cluster;
use raftd_tests::stalls::{Writers, summary};

/// How often a leader is killed.
const KILLS: usize = 40;
/// How long a window is: longer than several elections.
const WINDOW: Duration = Duration::from_millis(1_500);
/// Two maximum election timeouts, as servers have them by default.
const GOAL: Duration = Duration::from_millis(600);
/// How many writers there are, in one measurement after the other.
const WRITERS: [usize; 2] = [1, 64];

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs every bench with this flag, to see that it starts; measuring would only take time.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3);
    for writers in WRITERS {
        measure(&mut cluster, writers)?;
    }
    Ok(())
}

fn measure(cluster: &mut Cluster, writers: usize) -> anyhow::Result<()> {
    let endpoints: Vec<String> = cluster.ids().into_iter().map(|id| cluster.address(id)).collect();
    let running = Writers::default();
    let (mut killed, mut started) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        // The writers have a thread of their own: to start a server is to wait for it.
        let writing = scope.spawn(|| write_all(&endpoints, writers, &running));
        for _ in 0..KILLS {
            let leader = cluster.leader();
            killed.push(in_window(&running, || cluster.node(leader).kill()));
            started.push(in_window(&running, || cluster.node(leader).start()));
            wait_until_applied(cluster, leader);
        }
        running.stop();
        writing.join().expect("a writer that fails says so")
    })?;
    let writes = running.count();
    let late = killed.iter().filter(|stall| **stall > GOAL).count();
    println!("{writers} writers, {writes} writes, none failed; {late} of {KILLS} kills stalled them for over {GOAL:?}");
    println!("    longest write after a leader was killed:   {}", summary(&mut killed));
    println!("    longest write after it was started again:  {}", summary(&mut started));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn write_all(endpoints: &[String], writers: usize, running: &Writers) -> anyhow::Result<()> {
    let mut writing = running.spawn(endpoints, writers)?;
    while let Some(ended) = writing.join_next().await {
        ended??;
    }
    Ok(())
}

/// Waits until a server has applied what was committed when it was asked to: one that is elected before has to catch up
/// with its own log first, and that is another measurement.
fn wait_until_applied(cluster: &Cluster, id: u64) {
    let field = |of: u64, name: &str| {
        let status = cluster.ctl().run(&["status"]).json();
        let nodes = status.get("nodes").and_then(|nodes| nodes.as_array()).cloned().unwrap_or_default();
        let node = nodes.iter().find(|node| node.get("id").and_then(|id| id.as_u64()) == Some(of)).cloned();
        node.and_then(|node| node.get(name).and_then(|value| value.as_u64())).unwrap_or(0)
    };
    let committed = field(cluster.leader(), "commit_index");
    while field(id, "applied_index") < committed {}
}

/// Does it, and returns the longest write of the window that began with it.
fn in_window(running: &Writers, what: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    running.begin_window();
    what();
    wait(WINDOW.saturating_sub(begun.elapsed()));
    running.longest()
}

#[tokio::main(flavor = "current_thread")]
async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}
