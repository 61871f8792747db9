//! Snapshots, rule by rule (rule 9): how they are cut, and what a pull costs.

use bytes::Bytes;
use kv_store::{Command, KEPT_HASHES, KvStore, Limits, RestoringStore, Revision, SessionHeader, SnapshotError};

use crate::support::{Shop, bytes, header, increment, restore, set, snapshot};

fn pieces(store: &KvStore, budget_bytes: usize) -> Vec<Bytes> {
    let mut cursor = store.begin_snapshot();
    std::iter::from_fn(|| store.snapshot_chunk(&mut cursor, budget_bytes)).collect()
}

fn restored(store: &KvStore) -> KvStore {
    restore(Limits::default(), [&*snapshot(store)]).unwrap()
}

#[test]
fn an_empty_store_has_a_snapshot() {
    let store = KvStore::default();
    assert_eq!(restored(&store), store);
    assert_eq!(pieces(&store, usize::MAX).len(), 2, "what was captured, then the checksum");
}

#[test]
fn a_retry_after_the_restore_gets_the_reply_of_before() {
    let mut shop = Shop::new();
    let open = SessionHeader { lowest_unanswered: 1, ..header(1, 2) };
    let first = shop.request(1, header(1, 1), increment("n"));
    let second = shop.request(2, open, increment(""));
    shop.store = restored(&shop.store);
    assert_eq!(shop.request(3, header(1, 1), increment("n")), first);
    assert_eq!(shop.request(4, open, increment("n")), second, "refusals of the command are kept too");
    assert_eq!(shop.value("n").as_deref(), Some("1"));
}

#[test]
fn removed_keys_are_remembered_and_come_back_as_new_ones() {
    let mut shop = Shop::new();
    shop.set("k", "1").unwrap();
    shop.delete("k").unwrap();
    shop.store = restored(&shop.store);
    assert_eq!((shop.store.key_count(), shop.value("k")), (0, None));
    assert_eq!(shop.store.get_at(b"k", Revision(1)).unwrap().value, bytes("1"));
    shop.set("k", "3").unwrap();
    let item = shop.store.get_at(b"k", Revision(3)).unwrap();
    assert_eq!((item.create_revision, item.version), (Revision(3), 1));
}

#[test]
fn all_kept_hashes_are_in_it_and_no_more() {
    let mut shop = Shop::new();
    for number in 0..KEPT_HASHES + 10 {
        shop.set("k", &number.to_string()).unwrap();
    }
    let restored = restored(&shop.store);
    assert_eq!(restored, shop.store);
    assert_eq!(restored.hash_at(Revision(10)), None);
    assert!(restored.hash_at(Revision(11)).is_some());
}

/// A piece exceeds its budget by less than one item, and falls short of it only at the end of a part.
#[test]
fn a_long_chain_of_versions_is_cut_too() {
    // A version with the value `younger`, and one with a number of four digits.
    const LARGEST_BYTES: usize = 29 + 7;
    const SMALLEST_BYTES: usize = 29 + 4;
    let mut shop = Shop::new();
    shop.set("a", "").unwrap();
    for number in 0..10_000 {
        shop.set("k", &format!("{number:04}")).unwrap();
    }
    shop.set("z", "").unwrap();
    for budget in [0, 1, 100, 4_096] {
        let mut cursor = shop.store.begin_snapshot();
        let mut sizes = Vec::new();
        while let Some(piece) = shop.store.snapshot_chunk(&mut cursor, budget) {
            sizes.push(piece.len());
            shop.set("k", "younger").unwrap();
        }
        let (last, rest) = sizes.split_last().unwrap();
        let limit = budget.max(1) + LARGEST_BYTES;
        assert!(rest.iter().all(|size| *size > 0 && *size < limit), "{budget}: {:?}", rest.iter().max());
        assert!(*last < limit + 16, "the checksum too");
        assert!(sizes.len() >= 10_000 * SMALLEST_BYTES / limit, "{budget}: {}", sizes.len());
    }
}

#[test]
fn a_value_larger_than_the_budget_is_one_item() {
    let mut shop = Shop::new();
    let large = "v".repeat(100_000);
    for key in ["a", "b"] {
        shop.set(key, &large).unwrap();
    }
    let sizes: Vec<_> = pieces(&shop.store, 1_000).iter().map(Bytes::len).collect();
    let is_large = |size: &&usize| **size > 100_000;
    assert_eq!(sizes.iter().filter(is_large).count(), 2, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 101_100));
    assert_eq!(restored(&shop.store), shop.store);
}

/// To find out that a key is younger costs time, and thus budget: else one pull could walk over all that was written since.
#[test]
fn younger_keys_are_passed_over_a_budget_at_a_time_and_not_at_all_behind_the_last() {
    let mut shop = Shop::new();
    for key in ["a", "z"] {
        shop.set(key, "old").unwrap();
    }
    let view = shop.store.clone();
    let mut cursor = shop.store.begin_snapshot();
    for number in 0..1_000 {
        shop.set(&format!("m{number:04}"), "young").unwrap();
        shop.set(&format!("zz{number:04}"), "young").unwrap();
    }
    let mut pulled = Vec::new();
    while let Some(piece) = shop.store.snapshot_chunk(&mut cursor, 150) {
        pulled.push(piece);
    }
    assert_eq!(pulled.concat(), snapshot(&view));
    let passing = pulled.iter().filter(|piece| piece.is_empty()).count();
    assert!((99..=101).contains(&passing), "1,000 keys of 15 bytes, 10 a pull: {passing}");
}

#[test]
fn keys_removed_and_written_again_beside_the_walk_are_in_it_as_they_were() {
    let mut shop = Shop::new();
    for key in ["a", "b", "c", "d"] {
        shop.set(key, "old").unwrap();
    }
    shop.delete("b").unwrap();
    let view = shop.store.clone();
    let mut cursor = shop.store.begin_snapshot();
    let mut pulled = Vec::new();
    while let Some(piece) = shop.store.snapshot_chunk(&mut cursor, 1) {
        pulled.extend(piece);
        shop.apply(Command::DeletePrefix { prefix: Bytes::new() }).unwrap();
        for key in ["0", "b", "bb", "d", "e"] {
            shop.set(key, "new").unwrap();
        }
    }
    assert_eq!(pulled, snapshot(&view));
    assert_eq!(restore(Limits::default(), [&*pulled]), Ok(view));
}

#[test]
fn two_snapshots_under_way_do_not_know_of_each_other() {
    let mut shop = Shop::new();
    shop.set("k", "1").unwrap();
    let (first_view, mut first) = (shop.store.clone(), shop.store.begin_snapshot());
    let mut early = shop.store.snapshot_chunk(&mut first, 10).unwrap().to_vec();
    shop.apply(set("k", "2")).unwrap();
    let second = snapshot(&shop.store);
    early.extend(std::iter::from_fn(|| shop.store.snapshot_chunk(&mut first, 10)).flatten());
    assert_eq!(early, snapshot(&first_view));
    assert_eq!(restore(Limits::default(), [&*second]).as_ref(), Ok(&shop.store));
}

#[test]
#[should_panic(expected = "no key leaves while a snapshot is under way")]
fn a_cursor_belongs_to_the_store_that_began_it() {
    let mut shop = Shop::new();
    shop.set("k", "1").unwrap();
    let mut cursor = shop.store.begin_snapshot();
    while KvStore::default().snapshot_chunk(&mut cursor, 1_000).is_some() {}
}

#[test]
fn what_was_restored_pins_no_piece() {
    let mut shop = Shop::new();
    shop.set("key", "value").unwrap();
    let mut stream = snapshot(&shop.store);
    let mut restoring = RestoringStore::new(Limits::default());
    restoring.push(&stream).unwrap();
    stream.fill(0);
    assert_eq!(restoring.finish().as_ref(), Ok(&shop.store));
}

#[test]
fn a_restore_that_failed_stays_failed() {
    let mut restoring = RestoringStore::new(Limits::default());
    let error = SnapshotError::UnknownVersion { found: 0 };
    assert_eq!(restoring.push(&[0]), Err(error.clone()));
    assert_eq!(restoring.push(&snapshot(&KvStore::default())), Err(error.clone()));
    assert_eq!(restoring.finish(), Err(error));
}
