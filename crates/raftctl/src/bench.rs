//! `bench`: a closed loop. Each client has one request at a time and asks the next one when it is answered, so the
//! latency is a request's own, and throughput follows from it and from the number of clients.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use kv_client::{Client, ClientConfig, Consistency, Error};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::task::JoinSet;

use crate::answer::Measured;
use crate::parse::printable;

/// All keys begin with it, so that they can be told apart and removed.
const PREFIX: &str = "bench/";

/// The most different keys.
const MAX_KEYS: u64 = 100_000;

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Clients, each with one request at a time.
    pub clients: usize,
    /// Connections they share; no more than clients.
    pub connections: usize,
    /// Operations in all.
    pub operations: u64,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Shares of the operations.
    pub mix: Mix,
}

/// Shares of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    set: u64,
    get: u64,
}

impl Default for Mix {
    /// Writes alone: they are what durability costs.
    fn default() -> Self {
        Self { set: 100, get: 0 }
    }
}

impl Mix {
    /// Reads `set=10,get=90`; what is not named has no share.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let wrong = || format!("--mix wants shares such as set=10,get=90, not {}", printable(text));
        let mut mix = Self { set: 0, get: 0 };
        for part in std::str::from_utf8(text).map_err(|_| wrong())?.split(',') {
            let (name, share) = part.split_once('=').ok_or_else(wrong)?;
            let share: u32 = share.parse().map_err(|_| wrong())?;
            match name {
                "set" => mix.set += u64::from(share),
                "get" => mix.get += u64::from(share),
                _ => return Err(wrong()),
            }
        }
        if mix.set + mix.get == 0 { Err(wrong()) } else { Ok(mix) }
    }

    fn is_set(self, random: u64) -> bool {
        random % (self.set + self.get) < self.set
    }
}

/// What was counted so far.
struct Tally {
    latency_us: Histogram<u64>,
    errors: u64,
    first_error: Option<Error>,
}

impl Tally {
    fn count(&mut self, took: Duration, result: Result<(), Error>) {
        match result {
            Ok(()) => self.latency_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }
}

/// Runs `plan`. Failed operations are counted, not repeated.
///
/// # Errors
/// If the cluster does not answer before the first operation.
pub async fn run(plan: &Plan, config: &ClientConfig, reads: Consistency) -> Result<Measured, Error> {
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        let client = Client::connect(config.clone())?;
        // Opens the connection before the clock runs, and says early that nobody is there.
        client.get(PREFIX, Consistency::Linearizable).await?;
        connections.push(client);
    }
    let latency_us = latencies();
    let tally = Arc::new(Mutex::new(Tally { latency_us, errors: 0, first_error: None }));

    let start = Instant::now();
    let mut running = JoinSet::new();
    for (place, client) in (0..plan.clients).zip(connections.iter().cycle()) {
        let share = share_of(plan.operations, plan.clients, place);
        running.spawn(one_client(client.clone(), plan.clone(), reads, place, share, Arc::clone(&tally)));
    }
    while running.join_next().await.is_some() {}
    let elapsed = start.elapsed();

    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(measured(&tally, elapsed))
}

/// Latencies in µs, to three digits; a longest time-out of a day fits.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 86_400_000_000, 3).expect("the bounds are apart and three digits can be had")
}

/// How many of `operations` the client at `place` does.
fn share_of(operations: u64, clients: usize, place: usize) -> u64 {
    let clients = u64::try_from(clients).unwrap_or(u64::MAX).max(1);
    let extra = u64::try_from(place).is_ok_and(|place| place < operations % clients);
    operations / clients + u64::from(extra)
}

async fn one_client(
    client: Client,
    plan: Plan,
    reads: Consistency,
    place: usize,
    operations: u64,
    tally: Arc<Mutex<Tally>>,
) {
    // The same run asks for the same keys.
    let mut random = Pcg64Mcg::seed_from_u64(place as u64);
    let value = Bytes::from(vec![b'v'; plan.value_bytes]);
    for _ in 0..operations {
        let key = key(&plan, random.next_u64());
        let is_set = plan.mix.is_set(random.next_u64());
        let start = Instant::now();
        let result = if is_set {
            client.set(key, value.clone()).await.map(drop)
        } else {
            client.get(key, reads).await.map(drop)
        };
        tally.lock().unwrap_or_else(PoisonError::into_inner).count(start.elapsed(), result);
    }
}

/// One of the keys, all as long as the plan says: `bench/0000001234`.
fn key(plan: &Plan, random: u64) -> Bytes {
    let digits = plan.key_bytes.saturating_sub(PREFIX.len());
    let different = u32::try_from(digits).ok().and_then(|digits| 10_u64.checked_pow(digits)).unwrap_or(u64::MAX);
    let number = random % MAX_KEYS.min(plan.operations).min(different).max(1);
    Bytes::from(format!("{PREFIX}{number:0digits$}"))
}

fn measured(tally: &Tally, elapsed: Duration) -> Measured {
    let latency = &tally.latency_us;
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let per_second = latency.len() as f64 / elapsed.as_secs_f64().max(1e-9);
    Measured {
        ops_per_s: (per_second * 10.0).round() / 10.0,
        p50_us: latency.value_at_quantile(0.5),
        p90_us: latency.value_at_quantile(0.9),
        p99_us: latency.value_at_quantile(0.99),
        p999_us: latency.value_at_quantile(0.999),
        max_us: latency.max(),
        errors: tally.errors,
        first_error: tally.first_error.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(key_bytes: usize, operations: u64) -> Plan {
        Plan { clients: 3, connections: 1, operations, key_bytes, value_bytes: 1, mix: Mix::default() }
    }

    #[test]
    fn a_mix_is_read_and_kept() {
        assert_eq!(Mix::parse(b"set=10,get=90"), Ok(Mix { set: 10, get: 90 }));
        assert_eq!(Mix::parse(b"get=1"), Ok(Mix { set: 0, get: 1 }));
        for wrong in ["", "set", "set=", "set=-1", "put=1", "set=0,get=0", "set=1,"] {
            assert!(Mix::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let mix = Mix { set: 10, get: 90 };
        assert_eq!((0..1_000).filter(|number| mix.is_set(*number)).count(), 100);
    }

    #[test]
    fn keys_have_the_size_that_was_asked_for() {
        for size in [7, 8, 16, 4_096] {
            for random in [0, 9, 10, u64::MAX] {
                assert_eq!(key(&plan(size, 1_000_000), random).len(), size);
            }
        }
        assert_eq!(&key(&plan(16, 10), 1_234)[..], b"bench/0000000004");
    }

    #[test]
    fn every_operation_has_one_client() {
        assert_eq!((0..3).map(|place| share_of(10, 3, place)).collect::<Vec<_>>(), [4, 3, 3]);
        assert_eq!((0..3).map(|place| share_of(2, 3, place)).sum::<u64>(), 2);
    }

    #[test]
    fn failures_are_counted_apart_from_latencies() {
        let mut tally = Tally { latency_us: latencies(), errors: 0, first_error: None };
        for millis in [1, 2, 3, 4] {
            tally.count(Duration::from_millis(millis), Ok(()));
        }
        let error = Client::connect(ClientConfig::default()).unwrap_err();
        tally.count(Duration::from_secs(9), Err(error.clone()));
        let measured = measured(&tally, Duration::from_secs(2));
        assert_eq!((measured.ops_per_s, measured.errors), (2.0, 1));
        assert!(measured.max_us < 5_000 && measured.p50_us >= 1_990, "{measured:?}");
        assert_eq!(measured.first_error, Some(error.to_string()));
    }
}
