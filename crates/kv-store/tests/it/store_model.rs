//! The store against a naive twin: a whole map for every revision.

use std::collections::BTreeMap;

use kv_store::{
    Answer, Command, Effect, Found, Item, KvStore, Limits, NotAnInteger, NotReached, Query, Refusal, Revision, Stamp,
};
use proptest::prelude::*;

use crate::support::{Reply, bytes, done, envelope, header};

#[derive(Clone, Debug, PartialEq)]
struct Row {
    value: String,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
}

type Table = BTreeMap<String, Row>;

/// One table a revision, the empty one first.
struct Model {
    tables: Vec<Table>,
}

impl Model {
    fn latest(&self) -> &Table {
        self.tables.last().unwrap()
    }

    fn revision(&self) -> u64 {
        self.tables.len() as u64 - 1
    }

    fn put(&mut self, key: &str, value: String) {
        let revision = self.revision() + 1;
        let mut table = self.latest().clone();
        let row = match table.get(key) {
            Some(old) => Row { value, mod_revision: revision, version: old.version + 1, ..old.clone() },
            None => Row { value, create_revision: revision, mod_revision: revision, version: 1 },
        };
        table.insert(key.to_owned(), row);
        self.tables.push(table);
    }

    fn remove_where(&mut self, gone: impl Fn(&str) -> bool) -> u64 {
        let table: Table =
            self.latest().iter().filter(|(key, _)| !gone(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let keys = self.latest().len() - table.len();
        if keys > 0 {
            self.tables.push(table);
        }
        keys as u64
    }

    fn apply(&mut self, command: &Text) -> Reply {
        let value = |model: &Self, key: &str| model.latest().get(key).map(|row| row.value.clone());
        let effect = match command {
            Text::Set(key, text, if_absent) => {
                let set = !if_absent || value(self, key).is_none();
                if set {
                    self.put(key, text.clone());
                }
                Effect::Set { set }
            }
            Text::Delete(key) => Effect::Deleted { keys: self.remove_where(|other| other == key), more: false },
            Text::DeletePrefix(prefix) => {
                Effect::Deleted { keys: self.remove_where(|key| key.starts_with(prefix)), more: false }
            }
            Text::Swap(key, expected, new) => {
                let swapped = value(self, key).as_ref() == Some(expected);
                if swapped {
                    self.put(key, new.clone());
                }
                Effect::Swapped { swapped }
            }
            Text::Increment(key, by) => {
                let old = value(self, key).unwrap_or_else(|| "0".into());
                let old: i128 = match old.parse::<i64>() {
                    Ok(number) if number.to_string() == old => number.into(),
                    _ => return Err(Refusal::WrongType(NotAnInteger::Value)),
                };
                let Ok(value) = i64::try_from(old + i128::from(*by)) else {
                    return Err(Refusal::WrongType(NotAnInteger::Overflow));
                };
                self.put(key, value.to_string());
                Effect::Incremented { value }
            }
        };
        done(self.revision(), effect)
    }
}

/// A command over text.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Set(String, String, bool),
    Delete(String),
    DeletePrefix(String),
    Swap(String, String, String),
    Increment(String, i64),
}

impl Text {
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Set(key, value, if_absent) => {
                Command::Set { key: bytes(key), value: bytes(value), if_absent: *if_absent }
            }
            Self::Delete(key) => Command::Delete { key: bytes(key) },
            Self::DeletePrefix(prefix) => Command::DeletePrefix { prefix: bytes(prefix) },
            Self::Swap(key, expected, new) => {
                Command::CompareAndSwap { key: bytes(key), expected: bytes(expected), new: bytes(new) }
            }
            Self::Increment(key, by) => Command::Increment { key: bytes(key), by: *by },
        }
    }
}

pub(crate) fn command() -> impl Strategy<Value = Text> {
    // Few keys, nested prefixes, few values: most commands meet an earlier one.
    let key = || "[ab]{1,3}";
    let value = || prop_oneof![Just(String::new()), Just("x".into()), Just("7".into()), Just(i64::MAX.to_string())];
    prop_oneof![
        4 => (key(), value(), any::<bool>()).prop_map(|(key, value, if_absent)| Text::Set(key, value, if_absent)),
        2 => key().prop_map(Text::Delete),
        1 => "[ab]{0,2}".prop_map(Text::DeletePrefix),
        2 => (key(), value(), value()).prop_map(|(key, expected, new)| Text::Swap(key, expected, new)),
        3 => (key(), prop_oneof![-2i64..3, Just(i64::MAX), Just(i64::MIN)]).prop_map(|(k, by)| Text::Increment(k, by)),
    ]
}

fn item((key, row): (&String, &Row)) -> Item {
    Item {
        key: bytes(key),
        value: bytes(&row.value),
        create_revision: Revision(row.create_revision),
        mod_revision: Revision(row.mod_revision),
        version: row.version,
    }
}

/// All pages of `limit` items, one after the other.
fn read_all(store: &KvStore, prefix: &str, limit: u32) -> Vec<Item> {
    read_pages(prefix, limit, |query| store.query(&query))
}

/// The same as of a revision.
fn read_all_at(store: &KvStore, prefix: &str, limit: u32, revision: Revision) -> Vec<Item> {
    read_pages(prefix, limit, |query| store.query_at(&query, revision).unwrap())
}

fn read_pages(prefix: &str, limit: u32, read: impl Fn(Query) -> Answer) -> Vec<Item> {
    let mut all = Vec::new();
    let mut from = None;
    loop {
        match read(Query::Scan { prefix: bytes(prefix), from, limit, keys_only: false }).found {
            Found::Value(_) => panic!("a scan finds items"),
            Found::Items { items, next } => {
                assert!(items.len() <= limit as usize && (next.is_none() || items.len() == limit as usize));
                all.extend(items);
                match next {
                    Some(key) => from = Some(key),
                    None => return all,
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn the_store_does_what_a_list_of_maps_does(
        commands in proptest::collection::vec(command(), 1..80),
        prefix in "[ab]{0,2}",
        from in "[ab]{0,3}",
        limit in 1u32..5,
    ) {
        let mut store = KvStore::new(Limits::default());
        let mut model = Model { tables: vec![Table::new()] };
        for (index, text) in (1..).zip(&commands) {
            let reply = store.apply(index, Stamp(index), &envelope(header(1, index), text.command()));
            prop_assert_eq!(&reply, &model.apply(text), "{:?}", text);
            prop_assert_eq!(store.revision(), Revision(model.revision()));
            prop_assert_eq!(store.state_hash(), store.recompute_hash());
            prop_assert_eq!(store.hash_at(store.revision()), Some(store.state_hash()));

            let table = model.latest();
            prop_assert_eq!(store.key_count(), table.len());
            prop_assert_eq!(read_all(&store, "", limit), table.iter().map(item).collect::<Vec<_>>());
            let with_prefix = || table.iter().filter(|(key, _)| key.starts_with(&prefix));
            prop_assert_eq!(read_all(&store, &prefix, limit), with_prefix().map(item).collect::<Vec<_>>());

            let query = Query::Scan { prefix: bytes(&prefix), from: Some(bytes(&from)), limit, keys_only: true };
            let mut rest = with_prefix().filter(|(key, _)| **key >= from).map(|(key, _)| bytes(key));
            let keys: Vec<_> = rest.by_ref().take(limit as usize).collect();
            match store.query(&query).found {
                Found::Value(_) => panic!("a scan finds items"),
                Found::Items { items, next } => {
                    prop_assert!(items.iter().all(|item| item.value.is_empty()));
                    prop_assert_eq!(items.into_iter().map(|item| item.key).collect::<Vec<_>>(), keys);
                    prop_assert_eq!(next, rest.next());
                }
            }
        }
        for (revision, table) in (0..).zip(&model.tables) {
            for key in ["a", "b", "aa", "ab", "ba", "bb", "aab", "bba", "c"] {
                let expected = table.get_key_value(key).map(item);
                prop_assert_eq!(store.get_at(key.as_bytes(), Revision(revision)), expected.clone(), "{} at {}", key, revision);
                let answer = store.query_at(&Query::Get { key: bytes(key) }, Revision(revision)).unwrap();
                prop_assert_eq!(answer, Answer { revision: Revision(revision), found: Found::Value(expected) });
            }
            let then = table.iter().filter(|(key, _)| key.starts_with(&prefix)).map(item).collect::<Vec<_>>();
            prop_assert_eq!(read_all_at(&store, &prefix, limit, Revision(revision)), then, "at {}", revision);
        }
        let (asked, current) = (store.revision().next(), store.revision());
        let to_come = store.query_at(&Query::Get { key: bytes("a") }, asked);
        prop_assert_eq!(to_come, Err(NotReached { asked, current }));
    }
}
