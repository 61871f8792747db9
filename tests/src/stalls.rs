//! What benches of stalls share: writers that note their longest write, and the summary of many such.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kv_client::{Client, ClientConfig};
use tokio::task::JoinSet;

/// Writers, each of which writes one key over and over, one request at a time; and the longest write of the window that is
/// measured. Clones are the same writers.
#[derive(Clone, Debug, Default)]
pub struct Writers(Arc<State>);

#[derive(Debug, Default)]
struct State {
    longest_ns: AtomicU64,
    writes: AtomicU64,
    is_over: AtomicBool,
}

impl Writers {
    /// Starts so many, on the runtime that this is called on.
    ///
    /// # Errors
    /// For endpoints that no client can have.
    pub fn spawn(
        &self,
        endpoints: &[String],
        count: usize,
    ) -> Result<JoinSet<Result<(), kv_client::Error>>, kv_client::Error> {
        let mut writing = JoinSet::new();
        for writer in 0..count {
            let client = Client::connect(ClientConfig::new(endpoints))?;
            writing.spawn(self.clone().write(client, writer));
        }
        Ok(writing)
    }

    /// Writes until it is over, and notes how long each write took.
    async fn write(self, client: Client, writer: usize) -> Result<(), kv_client::Error> {
        let Self(state) = self;
        while !state.is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            client.set(format!("writer/{writer:04}"), vec![b'v'; 128]).await?;
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            state.longest_ns.fetch_max(took, Ordering::Relaxed);
            state.writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Begins a window: writes that end from now on count for it.
    pub fn begin_window(&self) {
        self.0.longest_ns.store(0, Ordering::Relaxed);
    }

    /// The longest write that has ended in the window so far. 0 if none has: the machine stood still, and the next window
    /// has it.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.0.longest_ns.load(Ordering::Relaxed))
    }

    /// Lets the writers end.
    pub fn stop(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// How many writes there were.
    pub fn count(&self) -> u64 {
        self.0.writes.load(Ordering::Relaxed)
    }
}

/// Median, quartiles and range, in milliseconds.
pub fn summary(samples: &mut [Duration]) -> String {
    samples.sort_unstable();
    let at = |share: usize| {
        let place = (samples.len() * share / 100).min(samples.len().saturating_sub(1));
        samples.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!("median {:.1} ms, quartiles {:.1} and {:.1}, range {:.1} to {:.1}", at(50), at(25), at(75), at(0), at(100))
}
