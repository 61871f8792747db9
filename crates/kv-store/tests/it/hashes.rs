//! The state hash: what it depends on, and how long it is remembered.

use kv_store::{Command, KEPT_HASHES, Revision, StateHash};

use crate::support::{Shop, bytes, header, set};

#[test]
fn the_order_of_clients_and_sessions_does_not_matter_but_revisions_do() {
    let run = |first: &str, second: &str| {
        let mut shop = Shop::new();
        shop.request(1, header(1, 1), set(first, "v")).unwrap();
        shop.request(1, header(2, 1), set(second, "v")).unwrap();
        shop.store.state_hash()
    };
    assert_eq!(run("a", "b"), run("a", "b"));
    assert_ne!(run("a", "b"), run("b", "a"), "the same values, created at other revisions");
}

/// The documented bytes, put together by hand.
#[test]
fn the_share_of_a_key_is_the_hash_of_its_documented_encoding() {
    let mut shop = Shop::new();
    let mut sum = 0u128;
    for (revision, key, value) in [(1u64, "a", "one"), (2, "bb", "")] {
        shop.set(key, value).unwrap();
        let mut encoding = Vec::new();
        for part in [key, value] {
            encoding.extend_from_slice(&(part.len() as u64).to_le_bytes());
            encoding.extend_from_slice(part.as_bytes());
        }
        let (create_revision, mod_revision, version, lease) = (revision, revision, 1, 0);
        for number in [create_revision, mod_revision, version, lease] {
            encoding.extend_from_slice(&u64::to_le_bytes(number));
        }
        sum = sum.wrapping_add(xxhash_rust::xxh3::xxh3_128(&encoding));
    }
    assert_eq!(shop.store.state_hash(), StateHash(sum));
}

#[test]
fn a_byte_moved_from_key_to_value_is_another_state() {
    let run = |key, value| {
        let mut shop = Shop::new();
        shop.set(key, value).unwrap();
        shop.store.state_hash()
    };
    assert_ne!(run("ab", "c"), run("a", "bc"));
}

#[test]
fn every_kind_of_change_is_in_the_hash() {
    let mut shop = Shop::new();
    let mut seen = vec![shop.store.state_hash()];
    for command in [
        set("a", "1"),
        set("a", "1"),
        Command::Increment { key: bytes("a"), by: 1 },
        Command::CompareAndSwap { key: bytes("a"), expected: bytes("2"), new: bytes("3") },
        set("b", "1"),
        Command::Delete { key: bytes("a") },
        set("a", "1"),
        Command::DeletePrefix { prefix: bytes("a") },
    ] {
        shop.apply(command.clone()).unwrap();
        let hash = shop.store.state_hash();
        assert_eq!(hash, shop.store.recompute_hash(), "after {command:?}");
        seen.push(hash);
    }
    assert_eq!(seen.pop(), Some(seen[6]), "`b` alone, twice: the past is not in the hash");
    for (place, hash) in seen.iter().enumerate() {
        assert!(!seen[..place].contains(hash), "state {place} looks like an earlier one");
    }
}

#[test]
fn the_latest_hashes_are_kept_without_a_gap() {
    let mut shop = Shop::new();
    let mut hashes = vec![shop.store.state_hash()];
    let last = KEPT_HASHES + 10;
    for number in 1..=last {
        shop.set("k", &number.to_string()).unwrap();
        hashes.push(shop.store.state_hash());
        if number == KEPT_HASHES - 1 {
            assert_eq!(shop.store.hash_at(Revision(0)), Some(StateHash::default()), "the oldest of as many");
        }
    }
    let oldest = last + 1 - KEPT_HASHES;
    for (revision, hash) in hashes.iter().enumerate() {
        let expected = (revision >= oldest).then_some(*hash);
        assert_eq!(shop.store.hash_at(Revision(revision as u64)), expected, "at revision {revision}");
    }
    assert_eq!(shop.store.hash_at(Revision(last as u64 + 1)), None, "not reached yet");
    assert_eq!(shop.store.hash_at(Revision(u64::MAX)), None);
}
