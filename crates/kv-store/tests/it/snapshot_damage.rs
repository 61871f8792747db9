//! Snapshots that are none: each damage has its name, and nothing panics.

use std::num::NonZeroU64;

use bytes::BufMut;
use kv_store::{
    Command, Damage, KvStore, LeaseId, Limits, MAX_AHEAD_NS, Revision, SESSION_WINDOW_NS, SessionHeader, SnapshotError,
    StateHash,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::exactly_once::LIMITS;
use crate::support::{Shop, bytes, envelope, header, increment, restore, set, snapshot};

/// A store with everything in it: sessions with replies and refusals, a removed key, one that came back, one of some
/// versions.
fn shop() -> Shop {
    let mut shop = Shop::with(LIMITS);
    let lowest_1 = |sequence| SessionHeader { lowest_unanswered: 1, ..header(1, sequence) };
    shop.request(1, lowest_1(1), set("a", "1")).unwrap();
    shop.request(2, lowest_1(2), increment("")).unwrap_err();
    shop.request(3, lowest_1(3), increment("a")).unwrap();
    shop.request(4, header(2, 7), Command::Delete { key: bytes("a") }).unwrap();
    shop.request(5, header(2, 8), set("bb", "value")).unwrap();
    shop.request(6, header(2, 9), set("a", "again")).unwrap();
    shop.request(7, header(3, 1), set("c", "")).unwrap();
    shop.request(8, header(3, 2), Command::Delete { key: bytes("c") }).unwrap();
    shop
}

fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let checksum = xxh3_128(&body);
    body.put_u128_le(checksum);
    body
}

/// The snapshot without its checksum.
fn body(store: &KvStore) -> Vec<u8> {
    let mut stream = snapshot(store);
    stream.truncate(stream.len() - 16);
    stream
}

#[test]
fn a_snapshot_that_ends_early_is_incomplete_wherever_it_ends() {
    let shop = shop();
    let stream = snapshot(&shop.store);
    for size in 0..stream.len() {
        let incomplete = SnapshotError::Incomplete { size_bytes: size as u64 };
        assert_eq!(restore(LIMITS, [&stream[..size]]), Err(incomplete), "{size} bytes");
    }
    assert_eq!(restore(LIMITS, stream.chunks(1)), Ok(shop.store));
}

#[test]
fn bytes_behind_the_end_are_an_error() {
    let stream = snapshot(&shop().store);
    let trailing = |size_bytes| Err(SnapshotError::TrailingBytes { size_bytes });
    assert_eq!(restore(LIMITS, [&*stream, &[0]]), trailing(1));
    assert_eq!(restore(LIMITS, [&*[&*stream, &*stream].concat()]), trailing(stream.len()));
    assert!(restore(LIMITS, [&*stream, &[]]).is_ok(), "no bytes are none");
}

#[test]
fn every_flipped_bit_is_found() {
    let stream = snapshot(&shop().store);
    for place in 0..stream.len() {
        for flip in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut damaged = stream.clone();
            damaged[place] ^= flip;
            restore(LIMITS, [&*damaged]).expect_err(&format!("byte {place} ^ {flip:#x}"));
        }
    }
}

/// What a hostile sender would send: the checksum is right. What is taken all the same is a snapshot of the store that it
/// made, and that store works.
#[test]
fn flipped_bits_under_a_right_checksum_make_an_error_or_a_store_with_that_very_snapshot() {
    let body = body(&shop().store);
    let mut taken = 0;
    for place in 0..body.len() {
        for flip in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut damaged = body.clone();
            damaged[place] ^= flip;
            let stream = sealed(damaged);
            let Ok(mut store) = restore(LIMITS, [&*stream]) else { continue };
            taken += 1;
            assert!(snapshot(&store) == stream, "byte {place} ^ {flip:#x} has another snapshot");
            assert_eq!(store.recompute_hash(), store.state_hash());
            let now = store.latest_stamp();
            for (index, client) in [(u64::MAX - 1, 1), (u64::MAX, 9)] {
                let session = SessionHeader { birth: now, ..header(client, 5) };
                if store.applied_index() < index {
                    let _ = store.apply(index, now, &envelope(session, set("a", "x")));
                }
            }
        }
    }
    assert!(taken > 0, "an index or a time may be any");
}

#[test]
fn what_was_taken_under_other_limits_is_refused() {
    let stream = snapshot(&shop().store);
    for ours in [
        Limits { sessions: 4, ..LIMITS },
        Limits { kept_replies_per_session: 4, ..LIMITS },
        Limits { kept_bytes_per_session: 999, ..LIMITS },
    ] {
        assert_eq!(restore(ours, [&*stream]), Err(SnapshotError::OtherLimits { found: LIMITS, ours }));
    }
}

#[test]
fn keys_that_do_not_add_up_to_the_hash_are_refused() {
    let shop = shop();
    let recorded = StateHash(shop.store.state_hash().0 ^ 1);
    let mut body = body(&shop.store);
    let last_hash = 85 + 16 * shop.store.revision().0 as usize;
    for place in [25, last_hash] {
        body[place] ^= 1;
    }
    let expected = SnapshotError::WrongStateHash { recomputed: shop.store.state_hash(), recorded };
    assert_eq!(restore(LIMITS, [&*sealed(body)]), Err(expected));
}

/// Sequences and encoded replies.
type Replies = Vec<(u64, Vec<u8>)>;

/// The parts of a small snapshot, put together by hand after `docs/formats-kv.md`.
#[derive(Clone)]
struct Parts {
    version: u8,
    revision: u64,
    sessions: u64,
    keys: u64,
    hashes: Vec<u128>,
    hash_count: u32,
    oldest: u64,
    marks: Vec<(u64, u64)>,
    granted: u64,
    /// Id, kind.
    leases: Vec<(u64, u8)>,
    /// Client, birth, lowest unanswered, needed until, replies: all sessions.
    tables: Vec<(u128, [u64; 4], Replies)>,
    /// Key, number of versions, versions.
    histories: Vec<(Vec<u8>, u64, Vec<Vec<u8>>)>,
}

fn removed(revision: u64) -> Vec<u8> {
    let mut out = revision.to_le_bytes().to_vec();
    out.put_u8(0);
    out
}

fn present(mod_revision: u64, create_revision: u64, version: u64, value: &str) -> Vec<u8> {
    let mut out = mod_revision.to_le_bytes().to_vec();
    out.put_u8(1);
    out.put_u64_le(create_revision);
    out.put_u64_le(version);
    out.put_u32_le(value.len() as u32);
    out.put_slice(value.as_bytes());
    out
}

impl Parts {
    /// Of a store with the keys `a` (1, 2, removed) and `b`, and two sessions.
    fn of(store: &KvStore) -> Self {
        let needed_until = |touched: u64| touched + MAX_AHEAD_NS + SESSION_WINDOW_NS;
        let set = |revision: u8| vec![0, revision, 0, 1];
        Self {
            version: 2,
            revision: 4,
            oldest: 0,
            marks: vec![(1, 1)],
            granted: 0,
            leases: vec![],
            sessions: 2,
            keys: 2,
            hashes: (0..=4).map(|revision| store.hash_at(Revision(revision)).unwrap().0).collect(),
            hash_count: 5,
            tables: vec![
                (1, [0, 1, needed_until(2), 2], vec![(1, set(1)), (2, set(2))]),
                (5, [0, 2, needed_until(4), 1], vec![(2, set(4))]),
            ],
            histories: vec![
                (b"a".to_vec(), 3, vec![present(1, 1, 1, "1"), present(2, 1, 2, "2"), removed(3)]),
                (b"b".to_vec(), 1, vec![present(4, 4, 1, "x")]),
            ],
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.version];
        for number in [4, 4, self.revision] {
            out.put_u64_le(number);
        }
        out.put_u128_le(*self.hashes.last().unwrap_or(&0));
        for limit in [LIMITS.sessions, LIMITS.kept_replies_per_session, LIMITS.kept_bytes_per_session] {
            out.put_u64_le(limit as u64);
        }
        out.put_u64_le(self.sessions);
        out.put_u64_le(self.keys);
        out.put_u32_le(self.hash_count);
        for hash in &self.hashes {
            out.put_u128_le(*hash);
        }
        if self.version > 1 {
            let quota = u64::MAX;
            for number in [self.oldest, 4] {
                out.put_u64_le(number);
            }
            out.put_u32_le(self.marks.len() as u32);
            for (stamp, revision) in &self.marks {
                out.put_u64_le(*stamp);
                out.put_u64_le(*revision);
            }
            for number in [quota, self.granted, self.leases.len() as u64] {
                out.put_u64_le(number);
            }
        }
        for (client, numbers, replies) in &self.tables {
            out.put_u128_le(*client);
            for number in numbers {
                out.put_u64_le(*number);
            }
            for (sequence, reply) in replies {
                out.put_u64_le(*sequence);
                out.put_u32_le(reply.len() as u32);
                out.put_slice(reply);
            }
        }
        for (id, kind) in &self.leases {
            for number in [*id, 1_000_000, 5] {
                out.put_u64_le(number);
            }
            out.put_u8(*kind);
        }
        for (key, count, versions) in &self.histories {
            out.put_u16_le(key.len() as u16);
            out.put_slice(key);
            out.put_u64_le(*count);
            out.extend(versions.iter().flatten());
        }
        sealed(out)
    }
}

fn parts() -> (KvStore, Parts) {
    let mut shop = Shop::with(LIMITS);
    let lowest_1 = |sequence| SessionHeader { lowest_unanswered: 1, ..header(1, sequence) };
    shop.request(1, lowest_1(1), set("a", "1")).unwrap();
    shop.request(2, lowest_1(2), set("a", "2")).unwrap();
    shop.request(3, header(5, 1), Command::Delete { key: bytes("a") }).unwrap();
    shop.request(4, header(5, 2), set("b", "x")).unwrap();
    let parts = Parts::of(&shop.store);
    (shop.store, parts)
}

#[test]
fn a_snapshot_put_together_by_hand_is_one() {
    let (store, parts) = parts();
    assert_eq!(snapshot(&store), parts.encode());
    assert_eq!(restore(LIMITS, [&*parts.encode()]), Ok(store));
}

#[track_caller]
fn check(expected: &Damage, change: impl FnOnce(&mut Parts)) {
    let (_, mut parts) = parts();
    change(&mut parts);
    match restore(LIMITS, [&*parts.encode()]) {
        Err(SnapshotError::Damaged { what, .. }) => assert_eq!(&what, expected),
        other => panic!("not found: {expected}: {other:?}"),
    }
}

#[test]
fn versions_of_the_format_that_are_not_known_are_named() {
    let (_, mut parts) = parts();
    parts.version = 3;
    assert_eq!(restore(LIMITS, [&*parts.encode()]), Err(SnapshotError::UnknownVersion { found: 3 }));
}

#[test]
fn the_version_before_is_read_too() {
    let (store, mut parts) = parts();
    parts.version = 1;
    let restored = restore(LIMITS, [&*parts.encode()]).unwrap();
    assert_eq!((restored.revision(), restored.state_hash()), (store.revision(), store.state_hash()));
    assert_eq!(restored.oldest_revision(), Revision(0));
}

#[test]
fn damage_in_the_head_is_named() {
    check(&Damage::RecentHashes { count: 0 }, |parts| parts.hash_count = 0);
    check(&Damage::RecentHashes { count: u32::MAX }, |parts| parts.hash_count = u32::MAX);
    check(&Damage::RecentHashes { count: 4_097 }, |parts| {
        parts.hashes.resize(4_097, 0);
        parts.hash_count = 4_097;
    });
    check(&Damage::RecentHashes { count: 6 }, |parts| {
        parts.hashes.insert(0, 0);
        parts.hash_count = 6;
    });
    check(&Damage::RecentHashes { count: 5 }, |parts| {
        // The head's own hash is the last of all, one behind those that it counts.
        parts.hashes.push(parts.hashes[4] ^ 1);
    });
    check(&Damage::SessionCount { count: 4 }, |parts| parts.sessions = 4);
    check(&Damage::SessionCount { count: u64::MAX }, |parts| parts.sessions = u64::MAX);
    check(&Damage::MissingVersions { revision: 5 }, |parts| parts.revision = 5);
    check(&Damage::MissingVersions { revision: u64::MAX }, |parts| parts.revision = u64::MAX);
    check(&Damage::Oldest { oldest: 5 }, |parts| parts.oldest = 5);
    check(&Damage::Marks { count: 2 }, |parts| parts.marks = vec![(1, 1), (2, 1)]);
    check(&Damage::Marks { count: 2 }, |parts| parts.marks = vec![(2, 1), (2, 2)]);
    check(&Damage::Marks { count: 1 }, |parts| parts.marks = vec![(5, 1)]);
    check(&Damage::Marks { count: 1 }, |parts| parts.marks = vec![(1, 5)]);
    check(&Damage::Marks { count: 303 }, |parts| parts.marks = (1..=303).map(|place| (place, place)).collect());
}

#[test]
fn damage_in_the_leases_is_named() {
    let leases = |damage: &Damage, leases: &[(u64, u8)]| {
        check(damage, |parts| (parts.granted, parts.leases) = (2, leases.to_vec()));
    };
    leases(&Damage::LeaseCount { count: 3 }, &[(1, 0), (2, 0), (3, 0)]);
    leases(&Damage::Lease { id: 0 }, &[(0, 0)]);
    leases(&Damage::Lease { id: 1 }, &[(1, 2)]);
    leases(&Damage::Lease { id: 1 }, &[(1, 0), (1, 0)]);
    let leased = |id: u64| {
        let mut version = present(4, 4, 1, "x");
        version[8] = 2;
        version.splice(25..25, id.to_le_bytes());
        version
    };
    check(&Damage::Lease { id: 0 }, |parts| parts.histories[1].2[0] = leased(0));
    check(&Damage::NoSuchLease { id: LeaseId(NonZeroU64::MIN) }, |parts| parts.histories[1].2[0] = leased(1));
}

#[test]
fn damage_in_the_sessions_is_named() {
    let set = |parts: &mut Parts, session: usize, number: usize, to| parts.tables[session].1[number] = to;
    check(&Damage::ClientOrder, |parts| parts.tables[1].0 = 1);
    check(&Damage::ClientOrder, |parts| parts.tables[1].0 = 0);
    check(&Damage::SessionWindow, |parts| set(parts, 0, 2, SESSION_WINDOW_NS - 1));
    check(&Damage::ReplyCount { count: 4 }, |parts| set(parts, 0, 3, 4));
    check(&Damage::ReplyCount { count: u64::MAX }, |parts| set(parts, 0, 3, u64::MAX));
    check(&Damage::ReplyOrder { sequence: 1 }, |parts| parts.tables[0].2[1].0 = 1);
    check(&Damage::ReplyOrder { sequence: 1 }, |parts| set(parts, 0, 1, 2));
    check(&Damage::ReplyOrder { sequence: 2 }, |parts| parts.tables[1].2[0].1 = vec![0, 0x84, 0, 0, 1]);
    check(&Damage::ReplyOrder { sequence: 2 }, |parts| parts.tables[1].2[0].1.push(0));
    check(&Damage::Reply(postcard::Error::DeserializeUnexpectedEnd), |parts| parts.tables[1].2[0].1.truncate(3));
    check(&Damage::ReplySize { size_bytes: 1024 * 1024 + 1 }, |parts| {
        parts.tables[1].2[0].1 = vec![0; 1024 * 1024 + 1];
    });
}

#[test]
fn damage_in_the_keys_is_named() {
    let key = |text: &str| text.as_bytes().to_vec();
    check(&Damage::KeyOrder, |parts| parts.histories[1].0 = key("a"));
    check(&Damage::KeyOrder, |parts| parts.histories[1].0 = key("Z"));
    check(&Damage::KeySize { size_bytes: 0 }, |parts| parts.histories[0].0 = key(""));
    check(&Damage::KeySize { size_bytes: 4_097 }, |parts| parts.histories[0].0 = vec![b'a'; 4_097]);
    check(&Damage::VersionCount { count: 0 }, |parts| parts.histories[0].1 = 0);
    check(&Damage::VersionCount { count: 5 }, |parts| parts.histories[0].1 = 5);
    check(&Damage::VersionKind { found: 3 }, |parts| parts.histories[0].2[2][8] = 3);
    check(&Damage::ValueSize { size_bytes: 1024 * 1024 + 1 }, |parts| {
        parts.histories[1].2[0] = present(4, 4, 1, &"v".repeat(1024 * 1024 + 1));
    });
}

#[test]
fn damage_in_a_chain_of_versions_is_named() {
    let order = |revision, place: usize, version: Vec<u8>| {
        check(&Damage::VersionOrder { revision }, |parts| parts.histories[0].2[place] = version);
    };
    order(5, 2, removed(5));
    order(2, 2, removed(2));
    order(1, 0, removed(1));
    order(1, 0, present(1, 0, 1, "1"));
    order(1, 0, present(1, 1, 2, "1"));
    order(2, 1, present(2, 2, 2, "2"));
    order(2, 1, present(2, 1, 1, "2"));
    order(2, 1, present(2, 1, 3, "2"));
    order(2, 1, present(2, 1, 0, "2"));
    check(&Damage::VersionOrder { revision: 3 }, |parts| parts.histories[0].2[1] = removed(2));
    check(&Damage::VersionOrder { revision: 0 }, |parts| parts.histories[0].2[0] = present(0, 0, 1, "1"));
}

#[test]
fn errors_say_what_to_do_next() {
    let (_, mut parts) = parts();
    parts.keys = 3;
    let text = |stream: &[u8]| restore(LIMITS, [stream]).unwrap_err().to_string();
    assert_eq!(
        text(&sealed(vec![9])),
        "the snapshot has version 9, this server reads versions up to 2; upgrade this server, or take the snapshot from one of \
         its own version"
    );
    assert_eq!(text(&[1]), "the snapshot ends after 1 bytes, before its checksum; push the rest, or fetch it again");
    parts.histories[0].2[2][8] = 7;
    assert_eq!(
        text(&parts.encode()),
        "the snapshot is damaged at byte 440: a version is of the unknown kind 7; discard it and fetch it again, or from \
         another node"
    );
}
