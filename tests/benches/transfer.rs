//! How long a planned change of leader holds up a writer: `cargo bench -p raftd-tests --bench transfer`.
//!
//! Writers write one after the other, each with one request at a time. In windows of a fixed number of milliseconds, by turns, the
//! leadership is transferred at the beginning of one and left where it is in the next; the longest write that ends in a
//! window is the window's stall. What the machine does by itself is in both kinds; transfers that are given up are in theirs.
//!
//! Prints, for one writer and for many, the median and the range of each kind. A window in which no write ends has 0: the
//! machine stood still, and the next one has it.

use std::time::{Duration, Instant};

use kv_client::{Client, ClientConfig};
use raftd_tests::Cluster;
use raftd_tests::stalls::{Writers, summary};

/// Windows of each kind.
const WINDOWS: usize = 60;
/// How long a window is: longer than any election.
const WINDOW: Duration = Duration::from_millis(500);
/// How many writers there are, in one measurement after the other.
const WRITERS: [usize; 2] = [1, 64];

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
    let running = Writers::default();
    let mut writing = running.spawn(endpoints, writers)?;
    let operator = Client::connect(ClientConfig::new(endpoints))?;
    let (mut with, mut without, mut answers, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for place in 0..2 * WINDOWS {
        running.begin_window();
        let begun = Instant::now();
        let has_transfer = place % 2 == 0;
        if has_transfer {
            if operator.transfer_leadership(None).await.is_err() {
                failed += 1;
            }
            answers.push(begun.elapsed());
        }
        tokio::time::sleep(WINDOW.saturating_sub(begun.elapsed())).await;
        if has_transfer { &mut with } else { &mut without }.push(running.longest());
    }
    running.stop();
    while let Some(ended) = writing.join_next().await {
        ended??;
    }
    let writes = running.count();
    println!("{writers} writers, {writes} writes, none failed; {failed} transfers of {WINDOWS} were not done in time");
    println!("    longest write of a window with a transfer:    {}", summary(&mut with));
    println!("    longest write of a window without:            {}", summary(&mut without));
    println!("    from the wish to the answer:                  {}", summary(&mut answers));
    Ok(())
}
