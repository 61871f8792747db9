//! What each command does, refuses and leaves alone.

use bytes::Bytes;
use kv_store::{
    Command, Effect, Found, MAX_ANSWER_BYTES, MAX_KEY_BYTES, MAX_KEYS_LOOKED_AT, MAX_KEYS_PER_COMMAND, MAX_VALUE_BYTES,
    NotAnInteger, Part, Query, Refusal, Revision, StateHash,
};

use crate::support::{Shop, bytes, done, envelope, header, set};

#[test]
fn every_write_is_a_revision_even_of_the_same_value() {
    let mut shop = Shop::new();
    assert_eq!(shop.set("a", "1"), done(1, Effect::Set { set: true }));
    assert_eq!(shop.set("a", "1"), done(2, Effect::Set { set: true }));
    let item = shop.store.get_at(b"a", Revision(2)).unwrap();
    assert_eq!((item.create_revision, item.mod_revision, item.version), (Revision(1), Revision(2), 2));
}

#[test]
fn what_changes_nothing_keeps_the_revision() {
    let mut shop = Shop::new();
    shop.set("a", "1").unwrap();
    let hash = shop.store.state_hash();
    let absent = Command::Set { key: bytes("a"), value: bytes("2"), if_absent: true };
    assert_eq!(shop.apply(absent), done(1, Effect::Set { set: false }));
    assert_eq!(shop.delete("b"), done(1, Effect::Deleted { keys: 0, more: false }));
    let prefix = Command::DeletePrefix { prefix: bytes("b") };
    assert_eq!(shop.apply(prefix), done(1, Effect::Deleted { keys: 0, more: false }));
    let swap = Command::CompareAndSwap { key: bytes("a"), expected: bytes("2"), new: bytes("3") };
    assert_eq!(shop.apply(swap), done(1, Effect::Swapped { swapped: false }));
    let swap = Command::CompareAndSwap { key: bytes("b"), expected: bytes(""), new: bytes("3") };
    assert_eq!(
        shop.apply(swap),
        done(1, Effect::Swapped { swapped: false }),
        "an absent key has no value, not even \"\""
    );
    assert_eq!(shop.value("a").as_deref(), Some("1"));
    assert_eq!(shop.store.state_hash(), hash);
}

#[test]
fn a_removed_key_begins_anew_and_its_past_stays() {
    let mut shop = Shop::new();
    shop.set("a", "1").unwrap();
    shop.set("a", "2").unwrap();
    assert_eq!(shop.delete("a"), done(3, Effect::Deleted { keys: 1, more: false }));
    assert_eq!(shop.store.state_hash(), StateHash::default(), "an empty store, whatever its past");
    assert_eq!(shop.delete("a"), done(3, Effect::Deleted { keys: 0, more: false }));
    let absent = Command::Set { key: bytes("a"), value: bytes("3"), if_absent: true };
    assert_eq!(shop.apply(absent), done(4, Effect::Set { set: true }));

    let at = |revision| shop.store.get_at(b"a", Revision(revision));
    assert_eq!(at(0), None);
    assert_eq!(at(1).unwrap().value, "1");
    assert_eq!(at(2).unwrap().version, 2);
    assert_eq!(at(3), None);
    let item = at(4).unwrap();
    assert_eq!((item.create_revision, item.mod_revision, item.version), (Revision(4), Revision(4), 1));
    assert_eq!(at(99), at(4));
}

#[test]
fn a_prefix_is_deleted_in_bounded_pieces_each_one_revision() {
    let mut shop = Shop::new();
    let keys = MAX_KEYS_PER_COMMAND + 5;
    for number in 0..keys {
        shop.set(&format!("k{number:06}"), "v").unwrap();
    }
    shop.set("l", "other").unwrap();
    let base = shop.store.revision().0;
    let delete = || Command::DeletePrefix { prefix: bytes("k") };
    let all = MAX_KEYS_PER_COMMAND as u64;
    assert_eq!(shop.apply(delete()), done(base + 1, Effect::Deleted { keys: all, more: true }));
    assert_eq!(shop.page("", None, 1, true), (vec!["k010000".into()], Some("k010001".into())), "in key order");
    assert_eq!(shop.apply(delete()), done(base + 2, Effect::Deleted { keys: 5, more: false }));
    assert_eq!(shop.apply(delete()), done(base + 2, Effect::Deleted { keys: 0, more: false }));
    assert_eq!(shop.page("", None, 10, true), (vec!["l".into()], None), "tombstones cost a listing nothing");
    assert_eq!(shop.store.get_at(b"k000000", Revision(base)).unwrap().value, "v");
}

/// As of a revision a page passes over what came later, or had gone: over so much and no more.
#[test]
fn a_page_of_the_past_looks_at_a_bounded_number_of_keys() {
    let mut shop = Shop::new();
    shop.set("z", "old").unwrap();
    let then = shop.store.revision();
    for number in 0..=MAX_KEYS_LOOKED_AT {
        shop.set(&format!("k{number:06}"), "later").unwrap();
    }
    let page = |from| {
        let query = Query::Scan { prefix: bytes(""), from, limit: 10, keys_only: true };
        match shop.store.query_at(&query, then).unwrap().found {
            Found::Items { items, next } => (items.into_iter().map(|item| item.key).collect::<Vec<_>>(), next),
            Found::Value(_) | Found::Leases { .. } => panic!("a scan finds items"),
        }
    };
    let next = bytes(&format!("k{MAX_KEYS_LOOKED_AT:06}"));
    assert_eq!(page(None), (vec![], Some(next.clone())));
    assert_eq!(page(Some(next)), (vec![bytes("z")], None));
}

#[test]
fn exactly_the_most_keys_leave_no_more() {
    let mut shop = Shop::new();
    for key in ["a", "b1", "b2", "c"] {
        shop.set(key, "").unwrap();
    }
    assert_eq!(
        shop.apply(Command::DeletePrefix { prefix: bytes("b") }),
        done(5, Effect::Deleted { keys: 2, more: false })
    );
    assert_eq!(
        shop.apply(Command::DeletePrefix { prefix: bytes("") }),
        done(6, Effect::Deleted { keys: 2, more: false })
    );
    assert_eq!(shop.store.key_count(), 0);
}

#[test]
fn a_swap_needs_the_whole_value() {
    let mut shop = Shop::new();
    shop.set("a", "10").unwrap();
    let swap = |expected, new| Command::CompareAndSwap { key: bytes("a"), expected: bytes(expected), new: bytes(new) };
    assert_eq!(shop.apply(swap("1", "x")), done(1, Effect::Swapped { swapped: false }));
    assert_eq!(shop.apply(swap("10", "11")), done(2, Effect::Swapped { swapped: true }));
    assert_eq!(shop.value("a").as_deref(), Some("11"));
}

#[test]
fn an_increment_counts_from_zero_and_stores_decimal_text() {
    let mut shop = Shop::new();
    assert_eq!(shop.increment("n", 5), done(1, Effect::Incremented { value: 5 }));
    assert_eq!(shop.increment("n", -7), done(2, Effect::Incremented { value: -2 }));
    assert_eq!(shop.value("n").as_deref(), Some("-2"));
    assert_eq!(shop.increment("n", 2), done(3, Effect::Incremented { value: 0 }));
    assert_eq!(shop.value("n").as_deref(), Some("0"));
    assert_eq!(shop.increment("n", 0), done(4, Effect::Incremented { value: 0 }), "a write like any other");
}

#[test]
fn an_increment_takes_only_text_it_could_have_written() {
    let wrong = [
        "",
        " ",
        "+1",
        "-",
        "-0",
        "00",
        "01",
        "-01",
        "1 ",
        " 1",
        "1.0",
        "1e3",
        "0x1",
        "1_0",
        "9223372036854775808",
        "é",
    ];
    for text in wrong {
        let mut shop = Shop::new();
        shop.set("n", text).unwrap();
        assert_eq!(shop.increment("n", 1), Err(Refusal::WrongType(NotAnInteger::Value)), "{text:?}");
        assert_eq!((shop.value("n").as_deref(), shop.store.revision()), (Some(text), Revision(1)));
    }
    for text in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
        let mut shop = Shop::new();
        shop.set("n", text).unwrap();
        assert_eq!(shop.increment("n", 0), done(2, Effect::Incremented { value: text.parse().unwrap() }));
    }
}

#[test]
fn an_increment_out_of_range_is_refused_and_changes_nothing() {
    for (start, by) in [(i64::MAX, 1), (i64::MIN, -1), (-1, i64::MIN), (1, i64::MAX)] {
        let mut shop = Shop::new();
        shop.increment("n", start).unwrap();
        assert_eq!(shop.increment("n", by), Err(Refusal::WrongType(NotAnInteger::Overflow)));
        assert_eq!(shop.value("n"), Some(start.to_string()));
        assert_eq!(shop.store.revision(), Revision(1));
    }
}

#[test]
fn keys_and_values_at_their_limits() {
    let mut shop = Shop::new();
    let key = |size| Bytes::from(vec![b'k'; size]);
    let value = |size| Bytes::from(vec![0; size]);
    let set_raw = |key, value| Command::Set { key, value, if_absent: false };
    assert!(shop.apply(set_raw(key(MAX_KEY_BYTES), value(MAX_VALUE_BYTES))).is_ok());
    assert!(shop.apply(set_raw(key(1), value(0))).is_ok());

    let too_large =
        |what, limit: usize| Err(Refusal::TooLarge { what, size_bytes: limit as u64 + 1, limit_bytes: limit as u64 });
    let long_key = key(MAX_KEY_BYTES + 1);
    let swap = |key, new| Command::CompareAndSwap { key, expected: Bytes::new(), new };
    for command in [
        set_raw(long_key.clone(), value(0)),
        swap(long_key.clone(), value(0)),
        Command::Delete { key: long_key.clone() },
        Command::Increment { key: long_key.clone(), by: 1 },
    ] {
        assert_eq!(shop.apply(command), too_large(Part::Key, MAX_KEY_BYTES));
    }
    for command in [set_raw(key(2), value(MAX_VALUE_BYTES + 1)), swap(key(2), value(MAX_VALUE_BYTES + 1))] {
        assert_eq!(shop.apply(command), too_large(Part::Value, MAX_VALUE_BYTES));
    }
    for command in [
        set_raw(key(0), value(0)),
        swap(key(0), value(0)),
        Command::Delete { key: key(0) },
        Command::Increment { key: key(0), by: 1 },
    ] {
        assert_eq!(shop.apply(command), Err(Refusal::EmptyKey));
    }
    assert_eq!(
        shop.apply(Command::DeletePrefix { prefix: long_key }),
        done(2, Effect::Deleted { keys: 0, more: false })
    );
    assert_eq!(shop.store.key_count(), 2);
}

#[test]
fn pages_begin_where_the_last_one_ended() {
    let mut shop = Shop::new();
    for key in ["a", "b/1", "b/2", "b/3", "c"] {
        shop.set(key, "v").unwrap();
    }
    let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shop.page("b/", None, 2, false), (keys(&["b/1", "b/2"]), Some("b/3".into())));
    assert_eq!(shop.page("b/", Some("b/3"), 2, false), (keys(&["b/3"]), None));
    assert_eq!(shop.page("b/", None, 3, false), (keys(&["b/1", "b/2", "b/3"]), None), "no page after an exact fit");
    assert_eq!(shop.page("b/", Some("b/11"), 9, false), (keys(&["b/2", "b/3"]), None), "from between two keys");
    assert_eq!(shop.page("b/", Some("a"), 9, false), (keys(&["b/1", "b/2", "b/3"]), None), "from before the prefix");
    assert_eq!(shop.page("b/", Some("c"), 9, false), (keys(&[]), None), "from behind the prefix");
    assert_eq!(shop.page("b/", None, 0, false), (keys(&[]), Some("b/1".into())), "nothing fits in no room");
    assert_eq!(shop.page("", None, u32::MAX, true).0.len(), 5);
}

#[test]
fn a_page_ends_before_its_bytes_exceed_the_limit() {
    let mut shop = Shop::new();
    // Keys of one byte: two values of half the limit less one byte fit exactly, with nothing left for a third.
    let half = Bytes::from(vec![b'x'; MAX_ANSWER_BYTES / 2 - 1]);
    for key in ["a", "b"] {
        shop.apply(Command::Set { key: bytes(key), value: half.clone(), if_absent: false }).unwrap();
    }
    assert_eq!(shop.page("", None, 9, false), (vec!["a".into(), "b".into()], None));
    shop.set("c", "").unwrap();
    assert_eq!(shop.page("", None, 9, false), (vec!["a".into(), "b".into()], Some("c".into())));
    assert_eq!(shop.page("", None, 9, true).0.len(), 3, "values left out take no room");

    let full = Bytes::from(vec![b'x'; MAX_VALUE_BYTES]);
    shop.apply(Command::Set { key: bytes("a"), value: full, if_absent: false }).unwrap();
    assert_eq!(shop.page("", None, 9, false), (vec!["a".into()], Some("b".into())), "the first item always gets on");
}

#[test]
fn a_stored_value_does_not_pin_the_entry_it_came_in() {
    let mut shop = Shop::new();
    let entry = envelope(header(1, 1), set("k", "v"));
    let address = entry.as_ptr() as usize..entry.as_ptr() as usize + entry.len();
    shop.entry(1, &entry).unwrap();
    let item = shop.store.get_at(b"k", Revision(1)).unwrap();
    assert!(!address.contains(&(item.key.as_ptr() as usize)) && !address.contains(&(item.value.as_ptr() as usize)));
    assert!(entry.is_unique(), "nobody else holds the entry");
}
