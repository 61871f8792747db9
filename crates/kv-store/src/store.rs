//! The keys, their histories and the store's revision.
//!
//! Owns: what changes together, at which revision, the state hash, and what is forgotten of the past. Does not own: what a
//! command means (`execute`), whether it may be applied (`session`), how much of the past is to be kept (`compaction`).
//!
//! Present values and past versions live in two maps. A listing thus never walks over tombstones, however many keys were
//! removed since the last compaction; a reader of the past looks into both.
//!
//! # Forgetting
//! [`Store::compact`] moves `oldest`, on every replica alike: what was before is not shown from then on. The memory is
//! given back by [`Store::sweep`], a bounded amount a command, and not while a snapshot is under way, which must
//! find the versions of its own moment. Nobody but a snapshot sees the difference.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::changes::{ChangedKeys, Changes};
use crate::hash::RecentHashes;
use crate::history::{self, Current, KeyHistory, Present, Value, Version};
use crate::lease::Leases;
use crate::limits::{
    COMPACTED_KEYS_PER_COMMAND, MAX_ANSWER_BYTES, MAX_KEYS_LOOKED_AT, MAX_KEYS_PER_COMMAND, VERSION_OVERHEAD_BYTES,
};
use crate::query::{Found, Item};
use crate::types::{LeaseId, Revision, StateHash};

/// All keys with their histories.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// The values that there are. Boxed: a map's nodes are half empty.
    present: BTreeMap<Arc<[u8]>, Box<Current>>,
    /// What was before them. The chain of a key that is removed ends with a tombstone.
    past: BTreeMap<Arc<[u8]>, VecDeque<Version>>,
    /// How many keys that are removed can still be read in the past.
    remembered: usize,
    changes: Changes,
    revision: Revision,
    /// The oldest revision that can be read, or watched from.
    oldest: Revision,
    /// What the changes since `oldest` cost, in replicated bytes.
    history_bytes: u64,
    hash: StateHash,
    recent_hashes: RecentHashes,
    leases: Leases,
    /// What the keys there are cost, in replicated bytes.
    live_bytes: u64,
    /// What they may cost.
    quota_bytes: Option<u64>,
    views: Views,
}

/// Counts the snapshots under way: each holds a copy.
#[derive(Debug, Default)]
pub(crate) struct Views(Arc<()>);

/// A snapshot's hold on the versions of its moment.
pub(crate) type View = Arc<()>;

impl Views {
    fn are_open(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Clone for Views {
    /// A copy of the store has its own snapshots.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Default for Store {
    fn default() -> Self {
        let (revision, hash) = (Revision::default(), StateHash::default());
        Self::restoring(revision, revision, RecentHashes::starting_at(revision, hash), Leases::default(), None)
    }
}

/// Equal to every reader: what is only not swept yet makes no difference.
impl PartialEq for Store {
    fn eq(&self, other: &Self) -> bool {
        let numbers = |store: &Self| (store.revision, store.oldest, store.history_bytes, store.remembered, store.hash);
        let live = |store: &Self| (store.live_bytes, store.quota_bytes);
        numbers(self) == numbers(other)
            && live(self) == live(other)
            && self.leases == other.leases
            && self.present == other.present
            && self.recent_hashes == other.recent_hashes
            && self.kept().eq(other.kept())
    }
}

impl Eq for Store {}

/// Changes that are one revision together. Made by [`Store::change`] alone.
pub(crate) struct Change<'a> {
    store: &'a mut Store,
    revision: Revision,
    keys: ChangedKeys,
    cost: u64,
}

impl Store {
    /// Runs `work`; whatever it changes is one revision. If it changes nothing, the revision stays.
    pub(crate) fn change<T>(&mut self, work: impl FnOnce(&mut Change<'_>) -> T) -> T {
        let revision = self.revision.next();
        let mut change = Change { store: self, revision, keys: ChangedKeys::None, cost: 0 };
        let result = work(&mut change);
        let Change { keys, cost, .. } = change;
        if keys != ChangedKeys::None {
            self.revision = revision;
            self.history_bytes += cost;
            self.changes.push(keys);
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
        self.present.iter().fold(StateHash::default(), |sum, (key, current)| {
            sum.plus(Current::new(key, current.mod_revision, current.value.clone()).hash)
        })
    }

    /// The hashes of the latest revisions.
    pub(crate) fn recent_hashes(&self) -> &RecentHashes {
        &self.recent_hashes
    }

    // --- the past ------------------------------------------------------------------------------------------------

    /// The oldest revision that can be read, or watched from.
    pub(crate) const fn oldest(&self) -> Revision {
        self.oldest
    }

    /// The revision before the oldest: each key's value then is still there, for those who ask what it was before.
    pub(crate) const fn base(&self) -> Revision {
        self.oldest.previous()
    }

    /// What the history costs.
    pub(crate) const fn history_bytes(&self) -> u64 {
        self.history_bytes
    }

    /// What the change of `key` at `revision` costs.
    fn cost(&self, key: &[u8], revision: Revision) -> u64 {
        let replaced = self.past.get(key).and_then(|past| history::last_until(past, revision.previous()));
        cost(key, replaced.and_then(Version::present).map_or(0, |present| present.value.bytes.len()))
    }

    /// Forgets the oldest changes: all before `aged`, and more while history costs more than `history_bytes`. Never the
    /// latest one, and no more than [`COMPACTED_KEYS_PER_COMMAND`] keys, or one change; the caller repeats.
    pub(crate) fn compact(&mut self, aged: Revision, history_bytes: u64) {
        let mut keys_left = COMPACTED_KEYS_PER_COMMAND;
        while self.oldest < self.revision && (self.oldest < aged || self.history_bytes > history_bytes) {
            let keys = self.changes.keys(self.oldest);
            if keys.len() > keys_left && keys_left < COMPACTED_KEYS_PER_COMMAND {
                return;
            }
            keys_left = keys_left.saturating_sub(keys.len());
            let (mut cost, mut forgotten) = (0, 0);
            for key in keys {
                cost += self.cost(key, self.oldest);
                let was_removed = !self.present.contains_key(key)
                    && self.past.get(key).and_then(VecDeque::back).is_some_and(|last| last.mod_revision == self.oldest);
                forgotten += usize::from(was_removed);
            }
            self.history_bytes -= cost;
            self.remembered -= forgotten;
            self.oldest = self.oldest.next();
        }
    }

    /// Gives back the memory of what was forgotten: about `keys` keys of it, unless a snapshot is under way.
    pub(crate) fn sweep(&mut self, mut keys_left: usize) {
        while self.changes.first() < self.oldest && keys_left > 0 && !self.views.are_open() {
            let revision = self.changes.first();
            for key in self.changes.keys(revision) {
                keys_left = keys_left.saturating_sub(1);
                let Some(past) = self.past.get_mut(key) else { continue };
                while past.pop_front_if(|version| version.mod_revision < revision).is_some() {}
                past.pop_front_if(|version| version.mod_revision == revision && version.became.is_none());
                if past.is_empty() {
                    self.past.remove(key);
                }
            }
            self.changes.pop();
        }
    }

    /// What `revision` changed, in key order; nothing if it is not kept or not reached.
    pub(crate) fn changed(&self, revision: Revision) -> impl ExactSizeIterator<Item = (&Arc<[u8]>, KeyHistory<'_>)> {
        let keys = if revision < self.oldest { &[] } else { self.changes.keys(revision) };
        keys.iter().map(|key| (key, self.history(key)))
    }

    fn history(&self, key: &[u8]) -> KeyHistory<'_> {
        KeyHistory { past: self.past.get(key), current: self.present.get(key).map(|current| &**current) }
    }

    /// How many keys have a history that can be read: those there are and those remembered.
    pub(crate) fn history_count(&self) -> usize {
        self.present.len() + self.remembered
    }

    /// All keys that have a history, removed ones too, from `start` on, in order.
    pub(crate) fn histories<'a>(
        &'a self,
        start: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, KeyHistory<'a>)> + use<'a> {
        let range = (start, Bound::Unbounded);
        let mut present = self.present.range::<[u8], _>(range).peekable();
        let mut past = self.past.range::<[u8], _>(range).peekable();
        std::iter::from_fn(move || {
            let order = match (present.peek(), past.peek()) {
                (Some((there, _)), Some((before, _))) => there.cmp(before),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, _) => std::cmp::Ordering::Greater,
            };
            let current = if order.is_le() { present.next() } else { None };
            let past = if order.is_ge() { past.next() } else { None };
            let key = current.map(|(key, _)| key).or(past.map(|(key, _)| key))?;
            let history =
                KeyHistory { past: past.map(|(_, past)| past), current: current.map(|(_, current)| &**current) };
            Some((key, history))
        })
    }

    /// What a reader can see of all histories.
    fn kept(&self) -> impl Iterator<Item = (&Arc<[u8]>, history::VersionRef<'_>)> {
        self.histories(Bound::Unbounded).flat_map(|(key, history)| {
            history.versions(self.base(), self.revision).skip(0).map(move |version| (key, version))
        })
    }

    /// Holds on to the versions there are, until the view is dropped.
    pub(crate) fn open_view(&self) -> View {
        Arc::clone(&self.views.0)
    }

    // --- leases and the quota ------------------------------------------------------------------------------------

    /// All leases.
    pub(crate) const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The same, to grant one or to keep it alive. Its keys are moved by changes alone.
    pub(crate) const fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// What the keys there are cost: each one, its value, and [`VERSION_OVERHEAD_BYTES`].
    pub(crate) const fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// What they may cost.
    pub(crate) const fn quota_bytes(&self) -> Option<u64> {
        self.quota_bytes
    }

    /// Lets them cost this much from now on.
    pub(crate) const fn set_quota(&mut self, quota_bytes: Option<u64>) {
        self.quota_bytes = quota_bytes;
    }

    /// Whether there is room for `key` with a value of so many bytes, whatever it has now.
    pub(crate) fn has_room_for(&self, key: &[u8], value_bytes: usize) -> bool {
        self.quota_bytes.is_none_or(|quota_bytes| self.live_bytes + live_bytes(key, value_bytes) <= quota_bytes)
    }

    /// How much more the keys cost once `key` has a value of so many bytes.
    pub(crate) fn growth(&self, key: &[u8], value_bytes: usize) -> i64 {
        let new = live_bytes(key, value_bytes);
        let old = self.value(key).map_or(0, |value| live_bytes(key, value.bytes.len()));
        new.cast_signed() - old.cast_signed()
    }

    /// The same once `key` is gone: 0 or less.
    pub(crate) fn shrinkage(&self, key: &[u8]) -> i64 {
        self.value(key).map_or(0, |value| -live_bytes(key, value.bytes.len()).cast_signed())
    }

    // --- out of a snapshot ---------------------------------------------------------------------------------------

    /// A store at `revision`, with a past since `oldest`, without keys: they follow by [`Self::restore_key`], and the hash
    /// with them. Its leases have no keys yet.
    pub(crate) fn restoring(
        revision: Revision,
        oldest: Revision,
        recent_hashes: RecentHashes,
        leases: Leases,
        quota_bytes: Option<u64>,
    ) -> Self {
        Self {
            present: BTreeMap::new(),
            past: BTreeMap::new(),
            remembered: 0,
            changes: Changes::starting_at(oldest.max(Revision(1))),
            revision,
            oldest,
            history_bytes: 0,
            hash: StateHash::default(),
            recent_hashes,
            leases,
            live_bytes: 0,
            quota_bytes,
            views: Views::default(),
        }
    }

    /// Takes a key from a snapshot. The state hash moves as if it were written.
    pub(crate) fn restore_key(&mut self, key: &Arc<[u8]>, past: VecDeque<Version>, current: Option<Current>) {
        match current {
            Some(current) => {
                self.hash = self.hash.plus(current.hash);
                self.live_bytes += live_bytes(key, current.value.bytes.len());
                self.leases.move_key(key, None, current.value.lease);
                self.present.insert(Arc::clone(key), Box::new(current));
            }
            None => self.remembered += 1,
        }
        if !past.is_empty() {
            self.past.insert(Arc::clone(key), past);
        }
    }

    /// Finds out which keys each revision changed, once all are there. `false` if there is a revision that changed none.
    pub(crate) fn restore_changes(&mut self) -> bool {
        let versions = self.kept().filter(|(_, version)| version.mod_revision >= self.oldest);
        let mut changed: Vec<_> = versions.map(|(key, version)| (version.mod_revision, Arc::clone(key))).collect();
        changed.sort_unstable();
        let mut history_bytes = 0;
        let mut changes = Changes::starting_at(self.changes.first());
        for of_one in changed.chunk_by(|(one, _), (other, _)| one == other) {
            let revision = changes.last().next();
            if of_one.first().is_none_or(|(found, _)| *found != revision) {
                return false;
            }
            history_bytes += of_one.iter().map(|(_, key)| self.cost(key, revision)).sum::<u64>();
            changes.push(of_one.iter().map(|(_, key)| Arc::clone(key)).collect());
        }
        let is_whole = changes.last() == self.revision;
        (self.changes, self.history_bytes) = (changes, history_bytes);
        is_whole
    }

    // --- reading -------------------------------------------------------------------------------------------------

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.present.len()
    }

    /// The value of a key now.
    pub(crate) fn value(&self, key: &[u8]) -> Option<&Value> {
        Some(&self.present.get(key)?.value)
    }

    /// A key now.
    pub(crate) fn present(&self, key: &[u8]) -> Option<Present<'_>> {
        Some(self.present.get(key)?.present())
    }

    /// The key now, with its metadata.
    pub(crate) fn item(&self, key: &[u8]) -> Option<Item> {
        Some(item(key, &self.present.get(key)?.present(), false))
    }

    /// The key as of `revision`, with its metadata.
    pub(crate) fn item_at(&self, key: &[u8], revision: Revision) -> Option<Item> {
        Some(item(key, &self.history(key).at(revision)?, false))
    }

    /// Keys that begin with `prefix`, from `from` on, in order.
    pub(crate) fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        from: &'a [u8],
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, Present<'a>)> {
        let start = Ord::max(prefix, from);
        self.present
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, current)| (key, current.present()))
    }

    /// The first keys that begin with `prefix`, at most `limit`, and whether there are more.
    pub(crate) fn keys(&self, prefix: &[u8], limit: usize) -> (Vec<Arc<[u8]>>, bool) {
        let mut range = self.range(prefix, prefix).map(|(key, _)| Arc::clone(key));
        let keys = range.by_ref().take(limit).collect();
        (keys, range.next().is_some())
    }

    /// One page of the keys that begin with `prefix`, from `from` on: at most `limit` items, at most
    /// [`MAX_KEYS_PER_COMMAND`], at most [`MAX_ANSWER_BYTES`] of keys and values but for a first item that is larger.
    pub(crate) fn page(&self, prefix: &[u8], from: &[u8], limit: usize, keys_only: bool) -> Found {
        page(self.range(prefix, from).map(|(key, present)| (key, Some(present))), limit, keys_only)
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

    /// The revision that this change makes.
    pub(crate) const fn revision(&self) -> Revision {
        self.revision
    }

    /// Writes a value: the next version of the key, or its first one if there is none, or if the key is to begin `anew`. Key
    /// and value are copied here, so that a small value never pins a receive buffer; the key also where it is there already,
    /// as that costs less than a second search. Keys must come in order.
    pub(crate) fn put(&mut self, key: &[u8], bytes: &[u8], lease: Option<LeaseId>, anew: bool) {
        let store = &mut *self.store;
        let mut value = Value { bytes: bytes.into(), create_revision: self.revision, version: 1, lease };
        let key = match store.present.entry(key.into()) {
            Entry::Occupied(mut slot) => {
                let key = Arc::clone(slot.key());
                let old = &slot.get().value;
                if !anew {
                    value.create_revision = old.create_revision;
                    value.version = old.version + 1;
                }
                self.cost += cost(&key, old.bytes.len());
                store.live_bytes -= live_bytes(&key, old.bytes.len());
                store.leases.move_key(&key, old.lease, lease);
                let current = Current::new(&key, self.revision, value);
                store.hash = store.hash.minus(slot.get().hash).plus(current.hash);
                let old = std::mem::replace(&mut **slot.get_mut(), current);
                store.past.entry(Arc::clone(&key)).or_default().push_back(old.into_version());
                key
            }
            Entry::Vacant(slot) => {
                let key = Arc::clone(slot.key());
                // A removed key counts as remembered, unless that was forgotten and is only not swept yet.
                let last = store.past.get(&key).and_then(VecDeque::back);
                store.remembered -= usize::from(last.is_some_and(|last| last.mod_revision >= store.oldest));
                self.cost += cost(&key, 0);
                store.leases.move_key(&key, None, lease);
                let current = Current::new(&key, self.revision, value);
                store.hash = store.hash.plus(current.hash);
                slot.insert(Box::new(current));
                key
            }
        };
        store.live_bytes += live_bytes(&key, bytes.len());
        self.keys.push(key);
    }

    /// Removes a key, and says whether it was there. Keys must come in order.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Some((key, current)) = self.store.present.remove_entry(key) else { return false };
        self.cost += cost(&key, current.value.bytes.len());
        self.store.hash = self.store.hash.minus(current.hash);
        self.store.live_bytes -= live_bytes(&key, current.value.bytes.len());
        self.store.leases.move_key(&key, current.value.lease, None);
        let past = self.store.past.entry(Arc::clone(&key)).or_default();
        past.push_back(current.into_version());
        past.push_back(Version { mod_revision: self.revision, became: None });
        self.store.remembered += 1;
        self.keys.push(key);
        true
    }
}

/// What a change costs for as long as it is kept: itself, and the value it replaced.
fn cost(key: &[u8], replaced_bytes: usize) -> u64 {
    (VERSION_OVERHEAD_BYTES + key.len() + replaced_bytes) as u64
}

/// What a key that is there costs.
const fn live_bytes(key: &[u8], value_bytes: usize) -> u64 {
    (VERSION_OVERHEAD_BYTES + key.len() + value_bytes) as u64
}

/// A page of what is there of `keys`.
fn page<'a>(keys: impl Iterator<Item = (&'a Arc<[u8]>, Option<Present<'a>>)>, limit: usize, keys_only: bool) -> Found {
    let limit = limit.min(MAX_KEYS_PER_COMMAND);
    let mut items = Vec::new();
    let mut size_bytes = 0;
    for (looked_at, (key, present)) in keys.enumerate() {
        let added_bytes = present.map_or(0, |present| item_bytes(key, &present, keys_only));
        let is_full = size_bytes + added_bytes > MAX_ANSWER_BYTES && !items.is_empty();
        if looked_at == MAX_KEYS_LOOKED_AT || (present.is_some() && (items.len() == limit || is_full)) {
            return Found::Items { items, next: Some(Bytes::copy_from_slice(key)) };
        }
        size_bytes += added_bytes;
        items.extend(present.map(|present| item(key, &present, keys_only)));
    }
    Found::Items { items, next: None }
}

/// What an item adds to an answer.
pub(crate) fn item_bytes(key: &[u8], present: &Present<'_>, key_only: bool) -> usize {
    key.len() + if key_only { 0 } else { present.value.bytes.len() }
}

pub(crate) fn item(key: &[u8], present: &Present<'_>, key_only: bool) -> Item {
    let Present { mod_revision, value } = present;
    Item {
        key: Bytes::copy_from_slice(key),
        value: if key_only { Bytes::new() } else { share(&value.bytes) },
        create_revision: value.create_revision,
        mod_revision: *mod_revision,
        version: value.version,
    }
}

/// A value on its way into an answer: not copied, however large.
pub(crate) fn share(value: &Arc<[u8]>) -> Bytes {
    Bytes::from_owner(Arc::clone(value))
}
