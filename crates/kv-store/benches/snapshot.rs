//! What a snapshot costs: of a million small keys, of a hundred thousand sessions, and for the writes beside it.
//!
//! `cargo bench -p kv-store`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails may panic")]

use std::time::Duration;

use bytes::Bytes;
use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kv_store::{
    ClientId, Command, Envelope, KvStore, Limits, Principal, RestoringStore, SessionHeader, SnapshotCursor, Stamp,
};

const KEYS: u64 = 1_000_000;
const SESSIONS: u64 = 100_000;
/// What a pull takes.
const BUDGET_BYTES: usize = 64 * 1024;

/// Applies a write of key `number`, with 16 bytes of key and of value, as one more request of `client`.
fn write(store: &mut KvStore, client: u64, number: u64) {
    let index = store.applied_index() + 1;
    let session = SessionHeader {
        client: ClientId(client.into()),
        birth: Stamp(0),
        sequence: index,
        lowest_unanswered: index,
        deadline: Stamp(u64::MAX),
    };
    let key = Bytes::from(format!("key/{number:012}"));
    let command = Command::Set { key, value: Bytes::from(format!("{index:016}")), if_absent: false };
    let entry = Envelope { session, principal: Principal::nobody(), command }.encode();
    store.apply(index, Stamp(index), &entry).unwrap();
}

fn store(sessions: u64) -> KvStore {
    let mut store = KvStore::default();
    for number in 0..KEYS {
        write(&mut store, number % sessions, number);
    }
    store
}

fn pieces(store: &KvStore) -> impl Iterator<Item = Bytes> {
    let mut cursor = store.begin_snapshot();
    std::iter::from_fn(move || store.snapshot_chunk(&mut cursor, BUDGET_BYTES))
}

fn begin(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("begin_a_snapshot_of_a_million_keys");
    group.sample_size(30);
    for sessions in [1, 1_000, SESSIONS] {
        let store = store(sessions);
        group.bench_function(BenchmarkId::new("sessions", sessions), |bencher| {
            bencher.iter(|| store.begin_snapshot());
        });
    }
    group.finish();
}

fn take_and_restore(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot_of_a_million_keys");
    group.measurement_time(Duration::from_secs(10)).sample_size(10).throughput(Throughput::Elements(KEYS));
    let store = store(1);
    group.bench_function("take, in pieces of 64 KiB", |bencher| {
        bencher.iter(|| pieces(&store).map(|piece| piece.len()).sum::<usize>());
    });
    let taken: Vec<Bytes> = pieces(&store).collect();
    group.bench_function("restore", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut restoring = RestoringStore::new(Limits::default());
            for piece in &taken {
                restoring.push(piece).unwrap();
            }
            restoring.finish().unwrap()
        });
    });
    group.finish();
}

/// One pull, going round and round over a snapshot that begins anew when it was given whole.
fn one_pull(store: &KvStore, cursor: &mut SnapshotCursor) -> Bytes {
    store.snapshot_chunk(cursor, BUDGET_BYTES).unwrap_or_else(|| {
        *cursor = store.begin_snapshot();
        Bytes::new()
    })
}

fn apply_beside(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write_of_a_key_among_a_million");
    for (name, is_pulled) in [("alone", false), ("with a pull of 64 KiB before each 1,000", true)] {
        let mut store = store(1);
        let mut cursor = store.begin_snapshot();
        // Every key now and then, in no order.
        let mut numbers = (0..KEYS).cycle().step_by(7_919);
        group.throughput(Throughput::Elements(1_000)).sample_size(50);
        group.bench_function(name, |bencher: &mut Bencher<'_>| {
            bencher.iter(|| {
                let piece = is_pulled.then(|| one_pull(&store, &mut cursor));
                for number in numbers.by_ref().take(1_000) {
                    write(&mut store, 0, number);
                }
                piece
            });
        });
    }
    group.finish();
}

criterion_group!(benches, begin, take_and_restore, apply_beside);
criterion_main!(benches);
