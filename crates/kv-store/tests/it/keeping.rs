//! What the leader keeps and lets go: history by time and by bytes, and the quota.

use kv_store::{
    COMPACTED_KEYS_PER_COMMAND, ClusterCommand, Command, HISTORY_KEPT_NS, Operation, Policy, Query, Refusal, Revision,
    RevisionError, Stamp, Transaction, VERSION_OVERHEAD_BYTES,
};

use crate::support::{SECOND_NS, Shop, bytes, set};

const ALL: Policy = Policy { history_bytes: u64::MAX, quota_bytes: None };

fn keep(shop: &mut Shop, now: u64, policy: &Policy) -> usize {
    let commands = std::iter::from_fn(|| {
        let command = shop.store.upkeep(Stamp(now), policy)?;
        shop.entry(now, &command.encode()).unwrap();
        Some(())
    });
    commands.count()
}

#[test]
fn five_minutes_can_be_read_and_what_is_older_goes() {
    let mut shop = Shop::new();
    for second in 0..600 {
        let now = second * SECOND_NS;
        shop.at(now, set("k", &second.to_string())).unwrap();
        keep(&mut shop, now, &ALL);
        let kept = shop.store.revision().0 - shop.store.oldest_revision().0;
        let expected = second.min(HISTORY_KEPT_NS / SECOND_NS);
        assert!((expected..=expected + 1).contains(&kept), "at {second} s {kept} revisions are kept");
    }
    // Nothing happens any more: only the latest revision is left.
    let idle = 599 * SECOND_NS + HISTORY_KEPT_NS;
    keep(&mut shop, idle - 1, &ALL);
    assert!(shop.store.oldest_revision() < shop.store.revision());
    keep(&mut shop, idle, &ALL);
    assert_eq!(shop.store.oldest_revision(), shop.store.revision());
    assert_eq!(keep(&mut shop, idle + HISTORY_KEPT_NS, &ALL), 0, "the latest change stays");
    assert_eq!(shop.store.events(shop.store.revision()).next().unwrap().previous(), Some(bytes("598")));
}

#[test]
fn history_keeps_to_its_bytes_however_young_it_is() {
    let mut shop = Shop::new();
    let policy = Policy { history_bytes: 20_000, quota_bytes: None };
    let mut commands = 0;
    for number in 0..1_000 {
        shop.at(number, set("key", &"v".repeat(100))).unwrap();
        commands += keep(&mut shop, number, &policy);
        assert!(shop.store.history_bytes() <= policy.history_bytes);
    }
    let one = VERSION_OVERHEAD_BYTES as u64 + 3 + 100;
    assert!(shop.store.history_bytes() > policy.history_bytes * 14 / 16, "and uses them");
    assert!(commands < 250, "a change has no compaction of its own: {commands} for {}", 1_000 * one);
    let asked = Revision(10);
    let oldest = shop.store.oldest_revision();
    let refused = shop.store.query_at(&Query::Get { key: bytes("key") }, asked);
    assert_eq!(refused, Err(RevisionError::Compacted { asked, oldest }));
}

#[test]
fn one_command_forgets_a_bounded_number_of_changes() {
    let mut shop = Shop::new();
    let revisions = 3 * COMPACTED_KEYS_PER_COMMAND as u64;
    for number in 0..revisions {
        shop.at(number, set("k", "v")).unwrap();
    }
    let command = ClusterCommand::Compact { aged: Revision(u64::MAX), history_bytes: 0 }.encode();
    let mut oldest = Vec::new();
    while shop.store.oldest_revision() < shop.store.revision() {
        shop.entry(revisions, &command).unwrap();
        oldest.push(shop.store.oldest_revision().0);
    }
    let step = COMPACTED_KEYS_PER_COMMAND as u64;
    assert_eq!(oldest, [step + 1, 2 * step + 1, 3 * step]);
}

/// A reader of a revision is never shown a state that was not: what is compacted under it is refused.
#[test]
fn a_scan_whose_revision_is_compacted_ends_with_its_name() {
    let mut shop = Shop::new();
    for key in ["a", "b", "c"] {
        shop.set(key, "old").unwrap();
    }
    let at = shop.store.revision();
    let scan = Query::Scan { prefix: bytes(""), from: None, limit: 2, keys_only: false };
    shop.store.query_at(&scan, at).unwrap();
    shop.delete("c").unwrap();
    shop.entry(1_000, &ClusterCommand::Compact { aged: at.next(), history_bytes: u64::MAX }.encode()).unwrap();
    let rest = Query::Scan { prefix: bytes(""), from: Some(bytes("c")), limit: 2, keys_only: false };
    assert_eq!(shop.store.query_at(&rest, at), Err(RevisionError::Compacted { asked: at, oldest: at.next() }));
}

/// What was forgotten is not forgotten by a snapshot that is under way, and its memory is given back afterwards.
#[test]
fn a_snapshot_under_way_keeps_what_is_compacted_meanwhile() {
    let mut shop = Shop::new();
    for number in 0..100 {
        shop.set("k", &number.to_string()).unwrap();
        shop.set(&format!("gone{number:02}"), "v").unwrap();
        shop.delete(&format!("gone{number:02}")).unwrap();
    }
    let whole = crate::support::snapshot(&shop.store);
    let mut cursor = shop.store.begin_snapshot();
    let mut pulled = Vec::new();
    while let Some(piece) = shop.store.snapshot_chunk(&mut cursor, 100) {
        pulled.extend(piece);
        let aged = shop.store.oldest_revision().next().next();
        shop.entry(1_000, &ClusterCommand::Compact { aged, history_bytes: u64::MAX }.encode()).unwrap();
    }
    assert_eq!(pulled, whole);
    assert!(shop.store.oldest_revision() > Revision(50));
    // One begun meanwhile is of what was left then.
    let second = crate::support::snapshot(&shop.store);
    assert_eq!(crate::support::restore(kv_store::Limits::default(), [&*second]).as_ref(), Ok(&shop.store));
    drop(cursor);
    shop.set("k", "more").unwrap();
    let third = crate::support::snapshot(&shop.store);
    assert_eq!(crate::support::restore(kv_store::Limits::default(), [&*third]).as_ref(), Ok(&shop.store));
}

#[test]
fn above_the_quota_writes_are_refused_and_deletes_go_on() {
    let mut shop = Shop::new();
    let key_bytes = (VERSION_OVERHEAD_BYTES + 1 + 10) as u64;
    let policy = Policy { quota_bytes: Some(2 * key_bytes), ..ALL };
    assert_eq!(keep(&mut shop, 1, &policy), 1, "the leader's setting becomes everybody's");
    let ten = "0123456789";
    for key in ["a", "b"] {
        shop.set(key, ten).unwrap();
    }
    let full = Err(Refusal::NoSpace { live_bytes: 2 * key_bytes + 1, quota_bytes: 2 * key_bytes });
    assert_eq!(shop.set("b", "0123456789a"), full);
    assert!(matches!(shop.increment("c", 1), Err(Refusal::NoSpace { .. })));
    let operations = |operations| Command::Transact(Transaction { then: operations, ..Transaction::default() });
    let put = |key: &str| Operation::Set { key: bytes(key), value: bytes(ten) };
    assert!(matches!(shop.apply(operations(vec![put("a"), put("c")])), Err(Refusal::NoSpace { .. })));
    assert_eq!((shop.store.revision(), shop.store.live_bytes()), (Revision(2), 2 * key_bytes));
    shop.set("b", "shorter").unwrap();
    shop.set("a", ten).unwrap();
    let swap = vec![Operation::Delete { key: bytes("a") }, put("c")];
    shop.apply(operations(swap)).unwrap();
    shop.delete("b").unwrap();
    shop.set("d", ten).unwrap();
    // A lower quota than what is there takes nothing away.
    keep(&mut shop, 2, &Policy { quota_bytes: Some(1), ..ALL });
    assert!(matches!(shop.set("e", ""), Err(Refusal::NoSpace { .. })));
    shop.set("d", "").unwrap();
    shop.delete("c").unwrap();
    keep(&mut shop, 3, &ALL);
    shop.set("e", ten).unwrap();
}
