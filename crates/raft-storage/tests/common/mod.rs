//! Short names for what the tests write.
#![allow(dead_code, reason = "each test binary uses some of it")]

use bytes::Bytes;
use raft_core::{ClusterTime, Entry, HardState, LogIndex, LogPosition, NodeId, Payload, Term, Write, WriteNumber};
use raft_storage::{MemDisk, Options, Recovered, Storage};

/// The first segment's file.
pub const FIRST_SEGMENT: &str = "log-00000000000000000001";

pub fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Options of node 1 with a seeded source of ids, so that a failing test fails again.
pub fn options(seed: u64) -> Options {
    let mut state = u128::from(seed) << 64 | 0x9e37_79b9_7f4a_7c15;
    let random = move || {
        state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        state ^ (state >> 61)
    };
    Options { random: Box::new(random), ..Options::new(node(1)) }
}

/// Options with small segments.
pub fn small_segments(seed: u64, segment_size_bytes: u64) -> Options {
    Options { segment_size_bytes, ..options(seed) }
}

pub fn command(term: u64, index: u64, bytes: &[u8]) -> Entry {
    Entry {
        position: LogPosition::new(Term(term), LogIndex(index)),
        stamp: ClusterTime(index * 1_000),
        payload: Payload::Command(Bytes::copy_from_slice(bytes)),
    }
}

/// A write of `entries`, with the hard state that knows their term.
pub fn write(number: u64, entries: &[Entry]) -> Write {
    let hard_state = entries.last().map(|last| HardState { term: last.position.term, voted_for: None });
    Write { number: WriteNumber(number), hard_state, truncate_from: None, entries: entries.to_vec() }
}

/// Appends one write as one batch.
pub fn append(storage: &mut Storage<MemDisk>, entries: &[Entry]) {
    storage.append(&[write(1, entries)]).unwrap();
}

/// Opens, which must succeed.
pub fn reopen(disk: &MemDisk, seed: u64) -> (Storage<MemDisk>, Recovered) {
    Storage::open(disk.clone(), options(seed)).unwrap()
}
