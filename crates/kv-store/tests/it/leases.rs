//! Leases, rule by rule: they end by stamps (rule 6), at an entry of the leader's, in pieces.

use bytes::Bytes;
use kv_store::{
    ClusterCommand, Command, EXPIRED_KEYS_PER_COMMAND, Effect, Found, LeaseChoice, LeaseId, LeaseInfo, MAX_TTL_MS,
    Outcome, Policy, Query, Refusal, Revision, Stamp,
};

use crate::support::{Reply, Shop, bytes, restore, set, snapshot};

const MS: u64 = 1_000_000;

fn grant(shop: &mut Shop, stamp: u64, ttl_ms: u64) -> LeaseId {
    let granted = shop.at(stamp, Command::GrantLease { ttl_ms }).unwrap();
    let Effect::Leased { id, ttl_ms: ttl } = granted.effect else { panic!("not granted: {granted:?}") };
    assert_eq!(ttl, ttl_ms);
    id
}

fn put(key: &str, lease: LeaseChoice) -> Command {
    Command::SetLeased { key: bytes(key), value: bytes("v"), if_absent: false, lease }
}

fn leases(shop: &Shop) -> Vec<LeaseInfo> {
    let found = shop.store.query(&Query::Leases { from: None }).found;
    let Found::Leases { leases, next: None } = found else { panic!("not all leases: {found:?}") };
    leases
}

/// What the leader does once it is `now`.
fn upkeep(shop: &mut Shop, now: u64) -> Option<Reply> {
    let command = shop.store.upkeep(Stamp(now), &Policy { quota_bytes: None, ..Policy::default() })?;
    Some(shop.entry(now, &command.encode()))
}

#[test]
fn a_lease_takes_its_keys_with_it_when_it_is_due_and_not_before() {
    let mut shop = Shop::new();
    let id = grant(&mut shop, 1, 10);
    for key in ["b", "a"] {
        shop.at(2, put(key, LeaseChoice::Granted(id))).unwrap();
    }
    shop.at(3, set("c", "stays")).unwrap();
    assert_eq!(upkeep(&mut shop, 10 * MS), None, "it was granted at 1");
    let due = 10 * MS + 1;
    assert_eq!(upkeep(&mut shop, due), Some(Ok(Outcome { revision: Revision(4), effect: Effect::Kept })));
    assert_eq!((shop.value("a"), shop.value("b"), shop.value("c").as_deref()), (None, None, Some("stays")));
    let gone: Vec<_> = shop.store.events(Revision(4)).map(|event| (event.key().to_vec(), event.value())).collect();
    assert_eq!(gone, [(b"a".to_vec(), None), (b"b".to_vec(), None)], "one revision, in key order");
    assert_eq!(upkeep(&mut shop, due), None);
    assert_eq!(shop.at(due, Command::KeepAlive { id }), Err(Refusal::NoSuchLease { id }));
    assert_eq!(shop.store.state_hash(), shop.store.recompute_hash());
}

#[test]
fn a_lease_that_is_kept_alive_lives_its_whole_time_again() {
    let mut shop = Shop::new();
    let id = grant(&mut shop, 0, 10);
    shop.at(1, put("k", LeaseChoice::Granted(id))).unwrap();
    let kept = shop.at(9 * MS, Command::KeepAlive { id }).unwrap();
    assert_eq!(kept, Outcome { revision: Revision(1), effect: Effect::Leased { id, ttl_ms: 10 } });
    assert_eq!(upkeep(&mut shop, 19 * MS - 1), None);
    assert_eq!(leases(&shop), [LeaseInfo { id, ttl_ms: 10, left_ms: 10, keys: 1 }]);
    upkeep(&mut shop, 19 * MS).unwrap().unwrap();
    assert_eq!((shop.value("k"), leases(&shop)), (None, vec![]));
}

/// Whatever the order of a late keep-alive and the end: what has ended by its stamp is not brought back.
#[test]
fn a_lease_that_is_over_is_over_even_if_nobody_has_ended_it_yet() {
    let mut shop = Shop::new();
    let id = grant(&mut shop, 0, 10);
    shop.at(1, put("k", LeaseChoice::Granted(id))).unwrap();
    let gone = Err(Refusal::NoSuchLease { id });
    assert_eq!(shop.at(10 * MS, Command::KeepAlive { id }), gone);
    assert_eq!(shop.at(10 * MS, put("other", LeaseChoice::Granted(id))), gone);
    assert_eq!(shop.value("k").as_deref(), Some("v"), "its keys go when the leader says so");
    upkeep(&mut shop, 10 * MS).unwrap().unwrap();
    assert_eq!(shop.value("k"), None);
}

/// A leader that has just come up believes in an earlier time than it thinks: only stamps end a lease.
#[test]
fn an_end_that_comes_too_early_by_its_stamp_ends_nothing() {
    let mut shop = Shop::new();
    let id = grant(&mut shop, 0, 10);
    shop.at(1, put("k", LeaseChoice::Granted(id))).unwrap();
    shop.entry(10 * MS - 1, &ClusterCommand::Expire.encode()).unwrap();
    assert_eq!(shop.value("k").as_deref(), Some("v"));
    assert_eq!(shop.store.revision(), Revision(1));
}

#[test]
fn a_key_with_a_time_to_live_goes_by_itself_and_its_lease_goes_with_the_key() {
    let mut shop = Shop::new();
    let own = LeaseChoice::Own { ttl_ms: 10 };
    shop.at(0, put("a", own)).unwrap();
    shop.at(0, put("b", own)).unwrap();
    shop.at(0, put("c", own)).unwrap();
    assert_eq!(leases(&shop), [], "nobody has granted one");
    shop.at(5 * MS, put("a", own)).unwrap();
    shop.at(5 * MS, set("b", "for good")).unwrap();
    upkeep(&mut shop, 10 * MS).unwrap().unwrap();
    let values = |shop: &Shop| ["a", "b", "c"].map(|key| shop.value(key).is_some());
    assert_eq!(values(&shop), [true, true, false]);
    upkeep(&mut shop, 15 * MS).unwrap().unwrap();
    assert_eq!(values(&shop), [false, true, false]);
    assert_eq!(upkeep(&mut shop, 1_000 * MS), None, "and nothing is left to end");
}

#[test]
fn a_key_is_on_the_lease_it_was_last_set_with() {
    let mut shop = Shop::new();
    let (one, other) = (grant(&mut shop, 0, 10), grant(&mut shop, 0, 20));
    assert!(one != other);
    for (key, lease) in [("moved", one), ("moved", other), ("kept", one), ("counted", one), ("freed", one)] {
        shop.at(1, put(key, LeaseChoice::Granted(lease))).unwrap();
    }
    shop.at(2, set("freed", "v")).unwrap();
    let swap = Command::CompareAndSwap { key: bytes("kept"), expected: bytes("v"), new: bytes("5") };
    shop.at(2, swap).unwrap();
    shop.at(3, Command::Increment { key: bytes("kept"), by: 1 }).unwrap();
    upkeep(&mut shop, 10 * MS).unwrap().unwrap();
    let left: Vec<_> =
        ["moved", "kept", "counted", "freed"].into_iter().filter(|key| shop.value(key).is_some()).collect();
    assert_eq!(left, ["moved", "freed"], "cas and incr change a value, not its lease");
}

#[test]
fn a_revoked_lease_takes_its_keys_at_once() {
    let mut shop = Shop::new();
    let id = grant(&mut shop, 0, 10);
    shop.at(1, put("k", LeaseChoice::Granted(id))).unwrap();
    let revoked = shop.at(2, Command::RevokeLease { id }).unwrap();
    assert_eq!(revoked, Outcome { revision: Revision(2), effect: Effect::Revoked { keys: 1, more: false } });
    assert_eq!(shop.value("k"), None);
    assert_eq!(shop.at(3, Command::RevokeLease { id }), Err(Refusal::NoSuchLease { id }));
}

#[test]
fn a_mass_expiry_is_cut() {
    let mut shop = Shop::new();
    let id = grant(&mut shop, 0, 10);
    let count = 2 * EXPIRED_KEYS_PER_COMMAND + 10;
    for number in 0..count {
        shop.at(1, put(&format!("{number:05}"), LeaseChoice::Granted(id))).unwrap();
    }
    for number in 0..10 {
        shop.at(1, put(&format!("own{number}"), LeaseChoice::Own { ttl_ms: 10 })).unwrap();
    }
    let mut left = vec![shop.store.key_count()];
    while let Some(reply) = upkeep(&mut shop, 20 * MS) {
        reply.unwrap();
        left.push(shop.store.key_count());
    }
    assert_eq!(left, [count + 10, count + 10 - EXPIRED_KEYS_PER_COMMAND, 20, 0]);
}

#[test]
fn a_time_to_live_has_its_limits() {
    let mut shop = Shop::new();
    for ttl_ms in [0, MAX_TTL_MS + 1, u64::MAX] {
        assert_eq!(shop.at(0, Command::GrantLease { ttl_ms }), Err(Refusal::TtlOutOfRange));
        assert_eq!(shop.at(0, put("k", LeaseChoice::Own { ttl_ms })), Err(Refusal::TtlOutOfRange));
    }
    grant(&mut shop, 0, MAX_TTL_MS);
    assert_eq!(shop.store.revision(), Revision(0));
}

#[test]
fn a_restored_store_ends_leases_like_the_one_it_was_taken_of() {
    let mut shop = Shop::new();
    let id = grant(&mut shop, 0, 10);
    shop.at(1, put("granted", LeaseChoice::Granted(id))).unwrap();
    shop.at(1, put("own", LeaseChoice::Own { ttl_ms: 20 })).unwrap();
    let mut restored = Shop::new();
    restored.store = restore(kv_store::Limits::default(), [&*snapshot(&shop.store)]).unwrap();
    assert_eq!(restored.store, shop.store);
    let entry = |command: ClusterCommand| command.encode();
    for stamp in [10 * MS, 20 * MS + 1] {
        let index = shop.store.applied_index() + 1;
        let expire: Bytes = entry(ClusterCommand::Expire);
        let one = shop.store.apply(index, Stamp(stamp), &expire);
        assert_eq!(restored.store.apply(index, Stamp(stamp), &expire), one);
        assert_eq!(restored.store, shop.store);
    }
    assert_eq!(restored.store.key_count(), 0);
}

/// Replicas that end leases must agree on who gets the next id.
#[test]
fn ids_are_the_same_for_the_same_log() {
    let ids = || {
        let mut shop = Shop::new();
        (0..3).map(|_| grant(&mut shop, 0, 10)).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ids());
    let first = ids()[0];
    assert_eq!(first.to_string().len(), 16);
}
