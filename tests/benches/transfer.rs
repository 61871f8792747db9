//! How long a planned change of leader holds up a writer: `cargo bench -p raftd-tests --bench transfer`.
//!
//! Writers write one after the other, each with one request at a time. In windows of a fixed number of milliseconds, by turns, the
//! leadership is transferred at the beginning of one and left where it is in the next; the longest write that ends in a
//! window is the window's stall. What the machine does by itself is in both kinds; transfers that are given up are in theirs.
//!
//! Prints, for one writer and for many, the median and the range of each kind. A window in which no write ends has 0: the
//! machine stood still, and the next one has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kv_client::{Client, ClientConfig};
use raftd_tests::Cluster;
use tokio::task::JoinSet;

/// Windows of each kind.
const WINDOWS: usize = 60;
/// How long a window is: longer than any election.
const WINDOW: Duration = Duration::from_millis(500);
/// How many writers there are, in one measurement after the other.
const WRITERS: [usize; 2] = [1, 64];

/// What the writers share: the longest write of the window, in nanoseconds.
#[derive(Default)]
struct Window {
    longest_ns: AtomicU64,
    writes: AtomicU64,
    is_over: AtomicBool,
}

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs every bench with this flag, to see that it starts; measuring would only take time.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let cluster = Cluster::start(3);
    let endpoints: Vec<String> = cluster.ids().into_iter().map(|id| cluster.address(id)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for writers in WRITERS {
        runtime.block_on(measure(&endpoints, writers))?;
    }
    Ok(())
}

async fn measure(endpoints: &[String], writers: usize) -> anyhow::Result<()> {
    let window = Arc::new(Window::default());
    let mut writing = JoinSet::new();
    for writer in 0..writers {
        let client = Client::connect(ClientConfig::new(endpoints))?;
        writing.spawn(write(client, writer, Arc::clone(&window)));
    }
    let operator = Client::connect(ClientConfig::new(endpoints))?;
    let (mut with, mut without, mut answers, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for place in 0..2 * WINDOWS {
        window.longest_ns.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        let has_transfer = place % 2 == 0;
        if has_transfer {
            if operator.transfer_leadership(None).await.is_err() {
                failed += 1;
            }
            answers.push(begun.elapsed());
        }
        tokio::time::sleep(WINDOW.saturating_sub(begun.elapsed())).await;
        let longest = Duration::from_nanos(window.longest_ns.load(Ordering::Relaxed));
        if has_transfer { &mut with } else { &mut without }.push(longest);
    }
    window.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = writing.join_next().await {
        ended??;
    }
    let writes = window.writes.load(Ordering::Relaxed);
    println!("{writers} writers, {writes} writes, none failed; {failed} transfers of {WINDOWS} were not done in time");
    println!("    longest write of a window with a transfer:    {}", summary(&mut with));
    println!("    longest write of a window without:            {}", summary(&mut without));
    println!("    from the wish to the answer:                  {}", summary(&mut answers));
    Ok(())
}

/// Writes until it is over, and notes how long each write took.
async fn write(client: Client, writer: usize, window: Arc<Window>) -> Result<(), kv_client::Error> {
    while !window.is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client.set(format!("writer/{writer:04}"), vec![b'v'; 128]).await?;
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        window.longest_ns.fetch_max(took, Ordering::Relaxed);
        window.writes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Median, quartiles and range, in milliseconds.
fn summary(samples: &mut [Duration]) -> String {
    samples.sort_unstable();
    let at = |share: usize| {
        let place = (samples.len() * share / 100).min(samples.len().saturating_sub(1));
        samples.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!("median {:.1} ms, quartiles {:.1} and {:.1}, range {:.1} to {:.1}", at(50), at(25), at(75), at(0), at(100))
}
