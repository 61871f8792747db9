//! The store against a naive twin: a whole map for every revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_store::{
    Answer, ClusterCommand, Command, Comparison, Effect, Found, Item, KvStore, Limits, NotAnInteger, Operation,
    OperationResult, Query, Refusal, Relation, Revision, RevisionError, SessionHeader, Stamp, Test, Transaction,
    VERSION_OVERHEAD_BYTES,
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
    oldest: u64,
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

    /// What `revision` did to each key it changed: the value before and after.
    fn changed(&self, revision: u64) -> Vec<(String, Option<String>, Option<String>)> {
        let Some(before) = revision.checked_sub(1).map(|before| &self.tables[before as usize]) else { return vec![] };
        let after = &self.tables[revision as usize];
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let value = |table: &Table, key| table.get(key).map(|row: &Row| row.value.clone());
        let is_changed = |key: &String| after.get(key).is_none_or(|row| row.mod_revision == revision);
        let keys = keys.into_iter().filter(|key| is_changed(key));
        keys.map(|key| (key.clone(), value(before, key), value(after, key))).collect()
    }

    fn history_bytes(&self) -> u64 {
        let changes = (self.oldest..=self.revision()).flat_map(|revision| self.changed(revision));
        let cost = |(key, old, _): (String, Option<String>, _)| {
            VERSION_OVERHEAD_BYTES + key.len() + old.map_or(0, |old| old.len())
        };
        changes.map(cost).sum::<usize>() as u64
    }

    fn compact(&mut self, aged: u64, history_bytes: u64) {
        while self.oldest < self.revision() && (self.oldest < aged || self.history_bytes() > history_bytes) {
            self.oldest += 1;
        }
    }

    /// The steps of a transaction, one after the other on one table, all of one revision.
    fn transact(&mut self, steps: &[Step]) -> Vec<OperationResult> {
        let revision = self.revision() + 1;
        let before = self.latest().clone();
        let mut table = before.clone();
        let mut results = Vec::new();
        for step in steps {
            results.push(match step {
                Step::Get(key) => OperationResult::Got(table.get_key_value(key).map(item)),
                Step::Set(key, value) => {
                    let old = table.get(key).map(|row| (row.create_revision, row.version, row.mod_revision));
                    let (create_revision, version) = match old {
                        Some((created, version, modified)) if modified == revision => (created, version),
                        Some((created, version, _)) => (created, version + 1),
                        None => (revision, 1),
                    };
                    let row = Row { value: value.clone(), create_revision, mod_revision: revision, version };
                    table.insert(key.clone(), row);
                    OperationResult::Set
                }
                Step::Delete(key) => {
                    let keys = u64::from(table.remove(key).is_some());
                    OperationResult::Deleted { keys, more: false }
                }
                Step::DeletePrefix(prefix) => {
                    let count = table.len();
                    table.retain(|key, _| !key.starts_with(prefix));
                    OperationResult::Deleted { keys: (count - table.len()) as u64, more: false }
                }
                Step::Scan(prefix, limit) => {
                    let mut all = table.iter().filter(|(key, _)| key.starts_with(prefix));
                    let items = all.by_ref().take(*limit as usize).map(item).collect();
                    OperationResult::Scanned { items, next: all.next().map(|(key, _)| bytes(key)) }
                }
            });
        }
        if table != before {
            self.tables.push(table);
        }
        results
    }

    fn holds(&self, key: &str, check: &Check) -> bool {
        let row = self.latest().get(key);
        match check {
            Check::Value(expected) => row.is_some_and(|row| row.value == *expected),
            Check::NotValue(expected) => row.is_none_or(|row| row.value != *expected),
            Check::VersionBelow(limit) => row.map_or(0, |row| row.version) < *limit,
            Check::ModifiedSince(revision) => row.map_or(0, |row| row.mod_revision) >= *revision,
            Check::CreatedUntil(revision) => row.map_or(0, |row| row.create_revision) <= *revision,
            Check::Present => row.is_some(),
            Check::Absent => row.is_none(),
        }
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
            Text::Transact(checks, then, otherwise) => {
                let succeeded = checks.iter().all(|(key, check)| self.holds(key, check));
                let results = self.transact(if succeeded { then } else { otherwise });
                Effect::Transacted { succeeded, results }
            }
            Text::Compact(aged, history_bytes) => {
                self.compact(*aged, *history_bytes);
                Effect::Kept
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
    Transact(Vec<(String, Check)>, Vec<Step>, Vec<Step>),
    /// One that the cluster asks of itself.
    Compact(u64, u64),
}

/// What a transaction asks of a key.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    Value(String),
    NotValue(String),
    VersionBelow(u64),
    ModifiedSince(u64),
    CreatedUntil(u64),
    Present,
    Absent,
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Get(String),
    Set(String, String),
    Delete(String),
    DeletePrefix(String),
    Scan(String, u32),
}

impl Check {
    fn test(&self) -> Test {
        match self {
            Self::Value(value) => Test::Value(Relation::Equal, bytes(value)),
            Self::NotValue(value) => Test::Value(Relation::NotEqual, bytes(value)),
            Self::VersionBelow(limit) => Test::Version(Relation::Less, *limit),
            Self::ModifiedSince(revision) => Test::ModRevision(Relation::GreaterOrEqual, Revision(*revision)),
            Self::CreatedUntil(revision) => Test::CreateRevision(Relation::LessOrEqual, Revision(*revision)),
            Self::Present => Test::Present,
            Self::Absent => Test::Absent,
        }
    }
}

impl Step {
    fn operation(&self) -> Operation {
        match self {
            Self::Get(key) => Operation::Get { key: bytes(key) },
            Self::Set(key, value) => Operation::Set { key: bytes(key), value: bytes(value) },
            Self::Delete(key) => Operation::Delete { key: bytes(key) },
            Self::DeletePrefix(prefix) => Operation::DeletePrefix { prefix: bytes(prefix) },
            Self::Scan(prefix, limit) => Operation::Scan { prefix: bytes(prefix), limit: *limit, keys_only: false },
        }
    }
}

impl Text {
    /// The entry that asks for it.
    pub(crate) fn entry(&self, session: SessionHeader) -> Bytes {
        if let Self::Compact(aged, history_bytes) = self {
            return ClusterCommand::Compact { aged: Revision(*aged), history_bytes: *history_bytes }.encode();
        }
        envelope(session, self.command())
    }

    fn command(&self) -> Command {
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
            Self::Transact(checks, then, otherwise) => Command::Transact(Transaction {
                comparisons: checks
                    .iter()
                    .map(|(key, check)| Comparison { key: bytes(key), test: check.test() })
                    .collect(),
                then: then.iter().map(Step::operation).collect(),
                otherwise: otherwise.iter().map(Step::operation).collect(),
            }),
            Self::Compact(..) => unreachable!("no client's command"),
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
        3 => transaction(),
        1 => (0u64..60, prop_oneof![Just(u64::MAX), 0u64..4_000]).prop_map(|(aged, kept)| Text::Compact(aged, kept)),
    ]
}

fn transaction() -> impl Strategy<Value = Text> {
    let value = || prop_oneof![Just(String::new()), Just("x".to_owned()), Just("7".to_owned())];
    let check = prop_oneof![
        value().prop_map(Check::Value),
        value().prop_map(Check::NotValue),
        (0u64..4).prop_map(Check::VersionBelow),
        (0u64..40).prop_map(Check::ModifiedSince),
        (0u64..40).prop_map(Check::CreatedUntil),
        Just(Check::Present),
        Just(Check::Absent),
    ];
    let checks = proptest::collection::vec(("[ab]{1,2}", check), 0..3);
    (checks, steps(), steps()).prop_map(|(checks, then, otherwise)| Text::Transact(checks, then, otherwise))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Fewer keys yet: most steps meet an earlier one of the same transaction.
    let step = prop_oneof![
        "[ab]{1,2}".prop_map(Step::Get),
        ("[ab]{1,2}", "[x7]").prop_map(|(key, value)| Step::Set(key, value)),
        "[ab]{1,2}".prop_map(Step::Delete),
        "[ab]{0,1}".prop_map(Step::DeletePrefix),
        ("[ab]{0,1}", 0u32..4).prop_map(|(prefix, limit)| Step::Scan(prefix, limit)),
    ];
    proptest::collection::vec(step, 0..6)
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
            Found::Value(_) | Found::Leases { .. } => panic!("a scan finds items"),
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
        let mut model = Model { tables: vec![Table::new()], oldest: 0 };
        for (index, text) in (1..).zip(&commands) {
            let reply = store.apply(index, Stamp(index), &text.entry(header(1, index)));
            prop_assert_eq!(&reply, &model.apply(text), "{:?}", text);
            prop_assert_eq!(store.revision(), Revision(model.revision()));
            prop_assert_eq!(store.state_hash(), store.recompute_hash());
            prop_assert_eq!(store.hash_at(store.revision()), Some(store.state_hash()));

            let table = model.latest();
            prop_assert_eq!(store.key_count(), table.len());
            let live = table.iter().map(|(key, row)| (VERSION_OVERHEAD_BYTES + key.len() + row.value.len()) as u64);
            prop_assert_eq!(store.live_bytes(), live.sum::<u64>());
            prop_assert_eq!(store.oldest_revision(), Revision(model.oldest));
            prop_assert_eq!(store.history_bytes(), model.history_bytes());
            prop_assert_eq!(read_all(&store, "", limit), table.iter().map(item).collect::<Vec<_>>());
            let with_prefix = || table.iter().filter(|(key, _)| key.starts_with(&prefix));
            prop_assert_eq!(read_all(&store, &prefix, limit), with_prefix().map(item).collect::<Vec<_>>());

            let query = Query::Scan { prefix: bytes(&prefix), from: Some(bytes(&from)), limit, keys_only: true };
            let mut rest = with_prefix().filter(|(key, _)| **key >= from).map(|(key, _)| bytes(key));
            let keys: Vec<_> = rest.by_ref().take(limit as usize).collect();
            match store.query(&query).found {
                Found::Value(_) | Found::Leases { .. } => panic!("a scan finds items"),
                Found::Items { items, next } => {
                    prop_assert!(items.iter().all(|item| item.value.is_empty()));
                    prop_assert_eq!(items.into_iter().map(|item| item.key).collect::<Vec<_>>(), keys);
                    prop_assert_eq!(next, rest.next());
                }
            }
        }
        for (revision, table) in (0..).zip(&model.tables) {
            let at = Revision(revision);
            if revision < model.oldest {
                let oldest = Revision(model.oldest);
                let compacted = Err(RevisionError::Compacted { asked: at, oldest });
                prop_assert_eq!(store.query_at(&Query::Get { key: bytes("a") }, at), compacted);
                prop_assert_eq!(store.events(at).len(), 0);
                continue;
            }
            for key in ["a", "b", "aa", "ab", "ba", "bb", "aab", "bba", "c"] {
                let expected = table.get_key_value(key).map(item);
                prop_assert_eq!(store.get_at(key.as_bytes(), at), expected.clone(), "{} at {}", key, revision);
                let answer = store.query_at(&Query::Get { key: bytes(key) }, at).unwrap();
                prop_assert_eq!(answer, Answer { revision: at, found: Found::Value(expected) });
            }
            let then = table.iter().filter(|(key, _)| key.starts_with(&prefix)).map(item).collect::<Vec<_>>();
            prop_assert_eq!(read_all_at(&store, &prefix, limit, at), then, "at {}", revision);
            // Watched: in key order, each once, the last one marked, with the values before and after.
            let text = |value: Option<Bytes>| value.map(|value| String::from_utf8(value.to_vec()).unwrap());
            let seen: Vec<_> = store.events(at).map(|event| (event.key().to_vec(), event.previous(), event.value())).collect();
            let seen: Vec<_> = seen.into_iter().map(|(key, old, new)| (String::from_utf8(key).unwrap(), text(old), text(new))).collect();
            prop_assert_eq!(&seen, &model.changed(revision), "at {}", revision);
            let marks: Vec<bool> = store.events(at).map(|event| event.is_last()).collect();
            prop_assert_eq!(marks.iter().position(|last| *last), marks.len().checked_sub(1));
        }
        let (asked, current) = (store.revision().next(), store.revision());
        let to_come = store.query_at(&Query::Get { key: bytes("a") }, asked);
        prop_assert_eq!(to_come, Err(RevisionError::NotReached { asked, current }));
    }
}
