//! Transactions: comparisons, then one of two lists of operations, all at one revision.
//!
//! Owns: what a transaction means. Does not own: how its text is written (that is a client's).
//!
//! Operations see those before them in the same list. They work on a draft: a refused transaction has changed nothing, and a
//! key that is written twice is one change with the last value.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{Effect, Refusal};
use crate::execute::{check_key, check_quota, check_value};
use crate::limits::{MAX_ANSWER_BYTES, MAX_KEYS_PER_COMMAND, MAX_TRANSACTION_OPERATIONS};
use crate::query::Item;
use crate::store::{Change, Store};
use crate::types::Revision;

/// If all of `comparisons` hold, `then` is done, else `otherwise`. Each list has at most
/// [`MAX_TRANSACTION_OPERATIONS`] parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// What must hold of the store before it. None at all: it holds.
    pub comparisons: Vec<Comparison>,
    /// What is done if it does, in order.
    pub then: Vec<Operation>,
    /// What is done if it does not, in order.
    pub otherwise: Vec<Operation>,
}

/// A comparison of one key's value or metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// The key.
    pub key: Bytes,
    /// What must hold of it.
    pub test: Test,
}

/// What must hold of a key. The version and the revisions of an absent key are 0. It has no value: none that is equal to,
/// below or above another one; so its value is unequal to every other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// Its value, compared byte by byte.
    Value(Relation, Bytes),
    /// How often it was written since it was created.
    Version(Relation, u64),
    /// The revision that created it.
    CreateRevision(Relation, Revision),
    /// The revision that last changed it.
    ModRevision(Relation, Revision),
    /// It is there.
    Present,
    /// It is not there.
    Absent,
}

/// How the left side stands to the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Reads one key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Gives a key a value.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes one key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes keys that begin with `prefix`, as [`crate::Command::DeletePrefix`] does.
    DeletePrefix {
        /// What the keys begin with.
        prefix: Bytes,
    },
    /// Reads keys that begin with `prefix`, in key order.
    Scan {
        /// What the keys begin with.
        prefix: Bytes,
        /// At most so many.
        limit: u32,
        /// Leave the values out.
        keys_only: bool,
    },
}

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationResult {
    /// Of [`Operation::Get`].
    Got(Option<Item>),
    /// Of [`Operation::Set`].
    Set,
    /// Of [`Operation::Delete`] and [`Operation::DeletePrefix`].
    Deleted {
        /// How many keys are gone.
        keys: u64,
        /// Whether keys with the prefix are left.
        more: bool,
    },
    /// Of [`Operation::Scan`].
    Scanned {
        /// The keys, in order.
        items: Vec<Item>,
        /// The first one that was left out, if there is one.
        next: Option<Bytes>,
    },
}

impl Relation {
    fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Comparison {
    fn holds(&self, store: &Store) -> bool {
        let present = store.present(&self.key);
        let (version, created, modified) = present.map_or((0, Revision(0), Revision(0)), |present| {
            (present.value.version, present.value.create_revision, present.mod_revision)
        });
        match &self.test {
            Test::Value(relation, expected) => match present {
                Some(present) => relation.holds(&*present.value.bytes, &**expected),
                None => *relation == Relation::NotEqual,
            },
            Test::Version(relation, expected) => relation.holds(&version, expected),
            Test::CreateRevision(relation, expected) => relation.holds(&created, expected),
            Test::ModRevision(relation, expected) => relation.holds(&modified, expected),
            Test::Present => present.is_some(),
            Test::Absent => present.is_none(),
        }
    }
}

impl Transaction {
    /// Whether each part is within the limits of the store.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let Self { comparisons, then, otherwise } = self;
        let longest = comparisons.len().max(then.len()).max(otherwise.len());
        if longest > MAX_TRANSACTION_OPERATIONS {
            return Err(Refusal::TooManyOperations { operations: longest as u64 });
        }
        comparisons.iter().try_for_each(|comparison| check_key(&comparison.key))?;
        then.iter().chain(otherwise).try_for_each(Operation::check)
    }

    /// Does the one list or the other.
    pub(crate) fn perform(&self, change: &mut Change<'_>) -> Result<Effect, Refusal> {
        let succeeded = self.comparisons.iter().all(|comparison| comparison.holds(change.store()));
        let mut draft = Draft::new(change.store(), change.revision());
        let operations = if succeeded { &self.then } else { &self.otherwise };
        let results = operations.iter().map(|operation| draft.perform(operation)).collect::<Result<_, _>>()?;
        check_quota(draft.store, draft.growth())?;
        for (key, written) in draft.written {
            match written {
                Written::Value { value, anew } => change.put(&key, &value, None, anew),
                // It may be one that came and went within the draft.
                Written::Removed => _ = change.remove(&key),
            }
        }
        Ok(Effect::Transacted { succeeded, results })
    }
}

impl Operation {
    fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Get { key } | Self::Delete { key } => check_key(key),
            Self::Set { key, value } => {
                check_key(key)?;
                check_value(value)
            }
            Self::DeletePrefix { prefix: _ } | Self::Scan { prefix: _, limit: _, keys_only: _ } => Ok(()),
        }
    }
}

/// The store with what the operations so far have written.
struct Draft<'a> {
    store: &'a Store,
    revision: Revision,
    /// In key order: that of the change to come.
    written: BTreeMap<Bytes, Written>,
    /// How many keys the rest may touch.
    keys_left: usize,
    /// How much the rest may answer.
    answer_bytes_left: usize,
}

enum Written {
    /// `anew`: the key was removed before, by the same transaction.
    Value {
        value: Bytes,
        anew: bool,
    },
    Removed,
}

impl<'a> Draft<'a> {
    fn new(store: &'a Store, revision: Revision) -> Self {
        let (keys_left, answer_bytes_left) = (MAX_KEYS_PER_COMMAND, MAX_ANSWER_BYTES);
        Self { store, revision, written: BTreeMap::new(), keys_left, answer_bytes_left }
    }

    /// How much more the keys will cost.
    fn growth(&self) -> i64 {
        let growth = |(key, written): (&Bytes, &Written)| match written {
            Written::Value { value, .. } => self.store.growth(key, value.len()),
            Written::Removed => self.store.shrinkage(key),
        };
        self.written.iter().map(growth).sum()
    }

    fn perform(&mut self, operation: &Operation) -> Result<OperationResult, Refusal> {
        match operation {
            Operation::Get { key } => {
                let item = self.item(key);
                if let Some(item) = &item {
                    let size_bytes = item.key.len() + item.value.len();
                    let left = self.answer_bytes_left.checked_sub(size_bytes);
                    self.answer_bytes_left = left.ok_or(Refusal::AnswerTooLarge)?;
                }
                Ok(OperationResult::Got(item))
            }
            Operation::Set { key, value } => {
                self.set(key, value);
                Ok(OperationResult::Set)
            }
            Operation::Delete { key } => {
                let keys = u64::from(self.remove(key));
                Ok(OperationResult::Deleted { keys, more: false })
            }
            Operation::DeletePrefix { prefix } => {
                let (keys, next) = self.keys(prefix, self.keys_left);
                self.keys_left -= keys.len();
                for key in &keys {
                    self.remove(key);
                }
                Ok(OperationResult::Deleted { keys: keys.len() as u64, more: next.is_some() })
            }
            Operation::Scan { prefix, limit, keys_only } => Ok(self.scan(prefix, *limit, *keys_only)),
        }
    }

    fn set(&mut self, key: &Bytes, value: &Bytes) {
        let anew = match self.written.get(key) {
            Some(Written::Value { anew, .. }) => *anew,
            Some(Written::Removed) => true,
            None => false,
        };
        self.written.insert(key.clone(), Written::Value { value: value.clone(), anew });
    }

    fn remove(&mut self, key: &Bytes) -> bool {
        let was_there = match self.written.get(key) {
            Some(Written::Value { .. }) => true,
            Some(Written::Removed) => false,
            None => self.store.present(key).is_some(),
        };
        if was_there {
            self.written.insert(key.clone(), Written::Removed);
        }
        was_there
    }

    /// The key as the next operation sees it.
    fn item(&self, key: &Bytes) -> Option<Item> {
        match self.written.get(key) {
            Some(Written::Value { value, anew }) => {
                let before = self.store.present(key).filter(|_| !anew);
                Some(Item {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: before.map_or(self.revision, |before| before.value.create_revision),
                    mod_revision: self.revision,
                    version: before.map_or(1, |before| before.value.version + 1),
                })
            }
            Some(Written::Removed) => None,
            None => self.store.item(key),
        }
    }

    /// The first keys that begin with `prefix`, at most `limit`, and the one after them.
    fn keys(&self, prefix: &Bytes, limit: usize) -> (Vec<Bytes>, Option<Bytes>) {
        let written = self.written.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix));
        let mut written =
            written.filter_map(|(key, written)| matches!(written, Written::Value { .. }).then_some(key)).peekable();
        let untouched = self.store.range(prefix, prefix).map(|(key, _)| &**key);
        let mut untouched = untouched.filter(|key| !self.written.contains_key(*key)).peekable();
        let mut next = || match (untouched.peek(), written.peek()) {
            (Some(one), Some(other)) if *one < &***other => untouched.next().map(Bytes::copy_from_slice),
            (_, Some(_)) => written.next().cloned(),
            (_, None) => untouched.next().map(Bytes::copy_from_slice),
        };
        let keys = std::iter::from_fn(&mut next).take(limit).collect();
        (keys, next())
    }

    fn scan(&mut self, prefix: &Bytes, limit: u32, keys_only: bool) -> OperationResult {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(self.keys_left);
        let (keys, mut next) = self.keys(prefix, limit);
        let mut items = Vec::new();
        for key in keys {
            let mut item = self.item(&key).expect("a key that is listed is there");
            if keys_only {
                item.value = Bytes::new();
            }
            match self.answer_bytes_left.checked_sub(item.key.len() + item.value.len()) {
                Some(left) => self.answer_bytes_left = left,
                None => {
                    next = Some(key);
                    break;
                }
            }
            items.push(item);
        }
        self.keys_left -= items.len();
        OperationResult::Scanned { items, next }
    }
}
