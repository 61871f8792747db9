//! What snapshots cost: `cargo bench -p raftd-tests --bench snapshots`. Takes some minutes and a few GiB of disk.
//!
//! Three servers get a million keys; then writers go on changing them at random, until each server has taken some more
//! snapshots. Whether a server is taking one is looked up in its data directory, where the unfinished file lies. A write
//! that overlaps one, at any server, counts as "with", every other as "without": both kinds come from one run. Then a
//! server is started again, once from a snapshot and the log after it.
//!
//! Prints the percentiles of both kinds, and how long the start took until the server was ready, and until it had applied
//! all that the others had.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kv_client::{Client, ClientConfig};
use raftd_tests::Cluster;
use tokio::task::JoinSet;

const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 128;
/// Writers that fill the store, and writers that are measured: enough for batches, too few to overload two cores.
const LOADERS: u64 = 256;
const WRITERS: u64 = 16;
/// How many snapshots are waited for, all servers together.
const SNAPSHOTS: usize = 4;
/// How often the data directories are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// A write: when it began and ended.
type Write = (Instant, Instant);

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs every bench with this flag, to see that it starts; measuring would only take time.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3);
    let endpoints: Vec<String> = cluster.ids().into_iter().map(|id| cluster.address(id)).collect();
    let folders: Vec<PathBuf> = cluster.ids().into_iter().map(|id| cluster.node(id).data().to_owned()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(load(&endpoints))?;
    runtime.block_on(measure(&endpoints, &folders))?;
    measure_start(&mut cluster)
}

async fn load(endpoints: &[String]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut loading = JoinSet::new();
    for loader in 0..LOADERS {
        let client = Client::connect(ClientConfig::new(endpoints))?;
        loading.spawn(async move {
            for key in (loader..KEYS).step_by(usize::try_from(LOADERS).unwrap_or(1)) {
                client.set(key_of(key), vec![b'v'; VALUE_BYTES]).await?;
            }
            Ok::<(), kv_client::Error>(())
        });
    }
    while let Some(ended) = loading.join_next().await {
        ended??;
    }
    let took = begun.elapsed().as_secs_f64();
    println!("{KEYS} keys of {VALUE_BYTES} bytes loaded by {LOADERS} writers in {took:.0} s");
    Ok(())
}

async fn measure(endpoints: &[String], folders: &[PathBuf]) -> anyhow::Result<()> {
    let is_over = Arc::new(AtomicBool::new(false));
    let seed = Arc::new(AtomicU64::new(1));
    let mut writing = JoinSet::new();
    for _ in 0..WRITERS {
        let client = Client::connect(ClientConfig::new(endpoints))?;
        writing.spawn(write(client, Arc::clone(&seed), Arc::clone(&is_over)));
    }
    let begun = Instant::now();
    let snapshots = watch(folders).await;
    is_over.store(true, Ordering::Relaxed);
    let mut writes: Vec<Write> = Vec::new();
    while let Some(ended) = writing.join_next().await {
        writes.extend(ended??);
    }
    let overlaps = |&(from, to): &Write| snapshots.iter().any(|&(began, ended)| from < ended && to > began);
    let (with, without): (Vec<Write>, Vec<Write>) = writes.into_iter().partition(overlaps);
    let longest = snapshots.iter().map(|&(began, ended)| ended - began).max().unwrap_or_default();
    println!(
        "{} snapshots, the longest took {:.1} s; {WRITERS} writers, {:.0} s",
        snapshots.len(),
        longest.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    println!("    writes with a snapshot under way: {}", summary(with));
    println!("    writes without:                   {}", summary(without));
    Ok(())
}

/// Watches until enough snapshots have been taken; when each began and ended.
async fn watch(folders: &[PathBuf]) -> Vec<(Instant, Instant)> {
    let mut under_way: Vec<Option<Instant>> = vec![None; folders.len()];
    let mut taken = Vec::new();
    // Those that are under way now belong to the load.
    let mut has_been_idle = vec![false; folders.len()];
    while taken.len() < SNAPSHOTS {
        for ((folder, since), was_idle) in folders.iter().zip(&mut under_way).zip(&mut has_been_idle) {
            let now = Instant::now();
            match (is_taking(folder), since.take()) {
                (true, Some(began)) => *since = Some(began),
                (true, None) => *since = Some(now),
                (false, Some(began)) if *was_idle => taken.push((began, now)),
                (false, Some(_) | None) => *was_idle = true,
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    taken
}

/// Whether an unfinished snapshot lies in the data directory.
fn is_taking(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("snapshot") && name.ends_with(".tmp")
    })
}

/// Changes random keys until it is over.
async fn write(client: Client, seed: Arc<AtomicU64>, is_over: Arc<AtomicBool>) -> Result<Vec<Write>, kv_client::Error> {
    let mut writes = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        // A fixed walk over the keys, without a pattern that a cache could like (Knuth, TAOCP 3.2.1).
        let step = seed.fetch_add(1, Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005) >> 32;
        let begun = Instant::now();
        client.set(key_of(step % KEYS), vec![b'w'; VALUE_BYTES]).await?;
        writes.push((begun, Instant::now()));
    }
    Ok(writes)
}

fn measure_start(cluster: &mut Cluster) -> anyhow::Result<()> {
    let node = cluster.node(3);
    node.terminate();
    let begun = Instant::now();
    node.start();
    let ready = begun.elapsed().as_secs_f64();
    // A linearizable read blocks until the server that is asked has applied what the cluster has.
    let read = cluster.ctl_of(3).with("--timeout", "120s").run(&["get", &key_of(0)]);
    anyhow::ensure!(read.code == 0, "{read:?}");
    println!(
        "started from a snapshot: ready after {ready:.1} s, up to date after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn key_of(number: u64) -> String {
    format!("key/{number:012}")
}

fn summary(writes: Vec<Write>) -> String {
    let mut latencies: Vec<Duration> = writes.into_iter().map(|(began, ended)| ended - began).collect();
    latencies.sort_unstable();
    let at = |per_mille: usize| {
        let place = (latencies.len() * per_mille / 1_000).min(latencies.len().saturating_sub(1));
        latencies.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!(
        "{} writes, p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p999 {:.2} ms, longest {:.1} ms",
        latencies.len(),
        at(500),
        at(900),
        at(990),
        at(999),
        at(1_000)
    )
}
