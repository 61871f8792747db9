//! What a million keys take in memory (16 bytes of key, 128 of value, one version each), by what.
//!
//! `cargo bench -p kv-store --bench memory`. Reads the resident memory of its own process, so it runs on Linux alone.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails may panic")]

use bytes::Bytes;
use kv_store::{ClientId, ClusterCommand, Command, Envelope, KvStore, Principal, Revision, SessionHeader, Stamp};

const KEYS: u64 = 1_000_000;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn apply(store: &mut KvStore, entry: &Bytes) {
    store.apply(store.applied_index() + 1, Stamp(1), entry).unwrap();
}

fn set(store: &mut KvStore, number: u64) {
    let sequence = store.applied_index() + 1;
    let session = SessionHeader {
        client: ClientId(1),
        birth: Stamp(0),
        sequence,
        lowest_unanswered: sequence,
        deadline: Stamp(u64::MAX),
    };
    let command = Command::Set {
        key: Bytes::from(format!("key/{number:012}")),
        value: Bytes::from(vec![b'v'; 128]),
        if_absent: false,
    };
    apply(store, &Envelope { session, principal: Principal::nobody(), command }.encode());
}

/// Forgets all but the latest change, and gives the memory back.
fn compact(store: &mut KvStore) {
    let all = ClusterCommand::Compact { aged: Revision(u64::MAX), history_bytes: u64::MAX }.encode();
    while store.oldest_revision() < store.revision() {
        apply(store, &all);
    }
    for _ in 0..2 * KEYS / 256 {
        apply(store, &all);
    }
}

/// In a process of its own for each order, as an allocator uses again what was freed.
fn measure(order: &str) {
    // Each number once, in an order without order.
    let place = |number: u64| if order == "in-order" { number } else { number * 7_919 % KEYS };
    let before = resident_bytes();
    let mut store = KvStore::default();
    (0..KEYS).for_each(|number| set(&mut store, place(number)));
    let with_changes = resident_bytes() - before;
    compact(&mut store);
    let without = resident_bytes() - before;
    println!("{order}: {} bytes a key, {} once its creation is compacted", with_changes / KEYS, without / KEYS);
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some(order @ ("in-order" | "scattered")) => measure(order),
        _ => {
            for order in ["in-order", "scattered"] {
                let program = std::env::current_exe().unwrap();
                assert!(std::process::Command::new(program).arg(order).status().unwrap().success());
            }
        }
    }
}
