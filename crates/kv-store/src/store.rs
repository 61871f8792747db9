//! The keys, their histories and the store's revision.
//!
//! Owns: what changes together, at which revision, and the state hash. Does not own: what a command means
//! (`execute`), whether it may be applied (`session`).
//!
//! Keys that are there and keys that are only remembered live in two maps. A listing thus never walks over tombstones,
//! however many keys were removed since the last compaction; a reader of the past looks into both.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::hash::{KeyHash, RecentHashes};
use crate::history::{KeyHistory, Present};
use crate::limits::{MAX_ANSWER_BYTES, MAX_KEYS_LOOKED_AT, MAX_KEYS_PER_COMMAND};
use crate::query::{Found, Item};
use crate::types::{Revision, StateHash};

/// All keys with their histories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// Keys whose latest version is a value.
    present: BTreeMap<Bytes, KeyHistory>,
    /// Keys whose latest version is a tombstone.
    removed: BTreeMap<Bytes, KeyHistory>,
    revision: Revision,
    hash: StateHash,
    recent_hashes: RecentHashes,
}

impl Default for Store {
    fn default() -> Self {
        let (revision, hash) = (Revision::default(), StateHash::default());
        Self {
            present: BTreeMap::new(),
            removed: BTreeMap::new(),
            revision,
            hash,
            recent_hashes: RecentHashes::starting_at(revision, hash),
        }
    }
}

/// Changes that are one revision together. Made by [`Store::change`] alone.
pub(crate) struct Change<'a> {
    store: &'a mut Store,
    revision: Revision,
    changed: bool,
}

impl Store {
    /// Runs `work`; whatever it changes is one revision. If it changes nothing, the revision stays.
    pub(crate) fn change<T>(&mut self, work: impl FnOnce(&mut Change<'_>) -> T) -> T {
        let revision = self.revision.next();
        let mut change = Change { store: self, revision, changed: false };
        let result = work(&mut change);
        if change.changed {
            self.revision = revision;
            self.recent_hashes.push(self.hash);
        }
        result
    }

    /// The revision of the latest change.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The state hash, kept at each change.
    pub(crate) fn hash(&self) -> StateHash {
        self.hash
    }

    /// The state hash at a recent revision.
    pub(crate) fn hash_at(&self, revision: Revision) -> Option<StateHash> {
        self.recent_hashes.at(revision)
    }

    /// The state hash, from nothing but the keys.
    pub(crate) fn recompute_hash(&self) -> StateHash {
        self.present.iter().fold(StateHash::default(), |sum, (key, history)| {
            let present = history.latest().expect("a key in `present` has a value");
            sum.plus(KeyHash::of(key, &present))
        })
    }

    /// The hashes of the latest revisions.
    pub(crate) fn recent_hashes(&self) -> &RecentHashes {
        &self.recent_hashes
    }

    /// How many keys have a history: those there are and those only remembered.
    pub(crate) fn history_count(&self) -> usize {
        self.present.len() + self.removed.len()
    }

    /// All keys that have a history, removed ones too, from `start` on, in order.
    pub(crate) fn histories<'a>(
        &'a self,
        start: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a KeyHistory)> + use<'a> {
        let range = (start, Bound::Unbounded);
        let mut present = self.present.range::<[u8], _>(range).peekable();
        let mut removed = self.removed.range::<[u8], _>(range).peekable();
        std::iter::from_fn(move || match (present.peek(), removed.peek()) {
            (Some((there, _)), Some((gone, _))) if gone < there => removed.next(),
            (Some(_), _) => present.next(),
            (None, _) => removed.next(),
        })
    }

    /// A store at `revision` without keys: they follow by [`Self::restore_key`], and the hash with them.
    pub(crate) fn restoring(revision: Revision, recent_hashes: RecentHashes) -> Self {
        Self { revision, recent_hashes, ..Self::default() }
    }

    /// Takes a key from a snapshot. The state hash moves as if it were written.
    pub(crate) fn restore_key(&mut self, key: Bytes, history: KeyHistory) {
        let keys = match history.hash() {
            Some(hash) => {
                self.hash = self.hash.plus(hash);
                &mut self.present
            }
            None => &mut self.removed,
        };
        let before = keys.insert(key, history);
        assert!(before.is_none(), "each key is restored once");
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.present.len()
    }

    /// The key now.
    pub(crate) fn value(&self, key: &[u8]) -> Option<&Bytes> {
        Some(self.present.get(key)?.latest()?.value)
    }

    /// The key now, with its metadata.
    pub(crate) fn item(&self, key: &[u8]) -> Option<Item> {
        let (key, history) = self.present.get_key_value(key)?;
        Some(item(key, &history.latest()?, false))
    }

    /// The key as of `revision`, with its metadata.
    pub(crate) fn item_at(&self, key: &[u8], revision: Revision) -> Option<Item> {
        let (key, history) = self.present.get_key_value(key).or_else(|| self.removed.get_key_value(key))?;
        Some(item(key, &history.at(revision)?, false))
    }

    /// Keys that begin with `prefix`, from `from` on, in order.
    fn range<'a>(&'a self, prefix: &'a [u8], from: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, &'a KeyHistory)> {
        let start = Ord::max(prefix, from);
        self.present
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// The first keys that begin with `prefix`, at most `limit`, and whether there are more.
    pub(crate) fn keys(&self, prefix: &[u8], limit: usize) -> (Vec<Bytes>, bool) {
        let mut range = self.range(prefix, prefix).map(|(key, _)| key.clone());
        let keys = range.by_ref().take(limit).collect();
        (keys, range.next().is_some())
    }

    /// One page of the keys that begin with `prefix`, from `from` on: at most `limit` items, at most
    /// [`MAX_KEYS_PER_COMMAND`], at most [`MAX_ANSWER_BYTES`] of keys and values but for a first item that is larger.
    pub(crate) fn page(&self, prefix: &[u8], from: &[u8], limit: usize, keys_only: bool) -> Found {
        page(self.range(prefix, from).map(|(key, history)| (key, history.latest())), limit, keys_only)
    }

    /// The same as of `revision`. Keys that came later, or had gone, are passed over, up to [`MAX_KEYS_LOOKED_AT`] keys a
    /// page.
    pub(crate) fn page_at(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
        keys_only: bool,
        revision: Revision,
    ) -> Found {
        let histories = self.histories(Bound::Included(Ord::max(prefix, from)));
        let within = histories.take_while(|(key, _)| key.starts_with(prefix));
        page(within.map(|(key, history)| (key, history.at(revision))), limit, keys_only)
    }
}

impl Change<'_> {
    /// The store as it is, with what this change did so far.
    pub(crate) fn store(&self) -> &Store {
        self.store
    }

    /// Writes a value. Key and value are copied here, once, so that a small value never pins a receive buffer.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        let hash = if let Some(history) = self.store.present.get_mut(key) {
            let old = history.hash().expect("a key in `present` has a hash");
            self.store.hash = self.store.hash.minus(old);
            history.write(key, self.revision, value)
        } else if let Some((key, mut history)) = self.store.removed.remove_entry(key) {
            let hash = history.write(&key, self.revision, value);
            self.store.present.insert(key, history);
            hash
        } else {
            let (history, hash) = KeyHistory::begin(key, self.revision, value);
            self.store.present.insert(Bytes::copy_from_slice(key), history);
            hash
        };
        self.store.hash = self.store.hash.plus(hash);
        self.changed = true;
    }

    /// Removes a key, and says whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Some((key, mut history)) = self.store.present.remove_entry(key) else { return false };
        let old = history.hash().expect("a key in `present` has a hash");
        self.store.hash = self.store.hash.minus(old);
        history.remove(self.revision);
        self.store.removed.insert(key, history);
        self.changed = true;
        true
    }
}

/// A page of what is there of `keys`.
fn page<'a>(keys: impl Iterator<Item = (&'a Bytes, Option<Present<'a>>)>, limit: usize, keys_only: bool) -> Found {
    let limit = limit.min(MAX_KEYS_PER_COMMAND);
    let mut items = Vec::new();
    let mut size_bytes = 0;
    for (looked_at, (key, present)) in keys.enumerate() {
        let added_bytes = present.map_or(0, |present| key.len() + if keys_only { 0 } else { present.value.len() });
        let is_full = size_bytes + added_bytes > MAX_ANSWER_BYTES && !items.is_empty();
        if looked_at == MAX_KEYS_LOOKED_AT || (present.is_some() && (items.len() == limit || is_full)) {
            return Found::Items { items, next: Some(key.clone()) };
        }
        size_bytes += added_bytes;
        items.extend(present.map(|present| item(key, &present, keys_only)));
    }
    Found::Items { items, next: None }
}

fn item(key: &Bytes, present: &Present<'_>, key_only: bool) -> Item {
    Item {
        key: key.clone(),
        value: if key_only { Bytes::new() } else { present.value.clone() },
        create_revision: present.create_revision,
        mod_revision: present.mod_revision,
        version: present.version,
    }
}
