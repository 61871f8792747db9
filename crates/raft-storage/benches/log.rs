//! What the disk path costs: appends of 128-byte entries, one by one and in groups, and the recovery of a million.
//!
//! `cargo bench -p raft-storage`. The directory is under `target/`, on the file system of the checkout: never a tmpfs,
//! whose `fdatasync` is free (F7).
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails may panic")]

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft_core::{ClusterTime, Entry, HardState, LogIndex, LogPosition, NodeId, Payload, Term, Write, WriteNumber};
use raft_storage::{FsDisk, Options, Storage, read_log};

const PAYLOAD_BYTES: usize = 128;
const RECOVERED_ENTRIES: u64 = 1_000_000;
/// How many entries a batch of the recovered log has: what one fdatasync gathers under load, and what a client leaves that
/// writes alone. The second log takes a million fdatasyncs to make, some minutes.
const RECOVERED_BATCHES: [u64; 2] = [64, 1];

fn scratch(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-log").join(name);
    if directory.exists() {
        std::fs::remove_dir_all(&directory).unwrap();
    }
    directory
}

fn open(directory: &PathBuf) -> Storage<FsDisk> {
    Storage::open(FsDisk::open(directory).unwrap(), Options::new(NodeId::new(1).unwrap())).unwrap().0
}

/// A write of `count` entries right after index `last`.
fn write_after(last: u64, count: u64) -> Write {
    let entry = |index: u64| Entry {
        position: LogPosition::new(Term(1), LogIndex(index)),
        stamp: ClusterTime(index),
        payload: Payload::Command(Bytes::from(vec![index.to_le_bytes()[0]; PAYLOAD_BYTES])),
    };
    Write {
        number: WriteNumber(1),
        hard_state: Some(HardState { term: Term(1), voted_for: None }),
        restart_after: None,
        truncate_from: None,
        entries: (last + 1..=last + count).map(entry).collect(),
    }
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append_128_bytes_durable");
    group.measurement_time(Duration::from_secs(5)).sample_size(30);
    for batch in [1_u64, 64, 1024] {
        let directory = scratch(&format!("append-{batch}"));
        let mut storage = open(&directory);
        let mut last = 0;
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter_batched(
                || {
                    last += batch;
                    write_after(last - batch, batch)
                },
                |write| storage.append(std::slice::from_ref(&write)).unwrap(),
                criterion::BatchSize::PerIteration,
            );
        });
        drop(storage);
        std::fs::remove_dir_all(directory).unwrap();
    }
    group.finish();
}

fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery_of_a_million_entries_of_128_bytes");
    group.measurement_time(Duration::from_secs(10)).sample_size(10);
    group.throughput(Throughput::Elements(RECOVERED_ENTRIES));
    for batch in RECOVERED_BATCHES {
        let directory = scratch("recovery");
        let mut storage = open(&directory);
        for last in (0..RECOVERED_ENTRIES).step_by(usize::try_from(batch).unwrap()) {
            storage.append(&[write_after(last, batch)]).unwrap();
        }
        drop(storage);
        group.bench_function(BenchmarkId::new("open, entries a batch", batch), |bencher| {
            bencher.iter(|| open(&directory));
        });
        group.bench_function(BenchmarkId::new("read only, entries a batch", batch), |bencher| {
            bencher.iter(|| read_log(FsDisk::open_read_only(&directory).unwrap()).unwrap());
        });
        std::fs::remove_dir_all(directory).unwrap();
    }
    group.finish();
}

criterion_group!(benches, appends, recovery);
criterion_main!(benches);
