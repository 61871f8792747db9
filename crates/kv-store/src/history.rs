//! The versions of one key: the value it has now, and those it had before.
//!
//! Owns: what a key was at each revision. Does not own: which keys exist (`store`), how long versions are kept
//! (`compaction`).
//!
//! Most keys have one version. It lives apart from the older ones ([`Current`] here, a chain of [`Version`]s there), so that
//! a key without a past costs nothing for it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::hash::KeyHash;
use crate::types::{LeaseId, Revision};

/// A value and its metadata, but for the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) create_revision: Revision,
    pub(crate) version: u64,
    pub(crate) lease: Option<LeaseId>,
}

/// What a key became at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) mod_revision: Revision,
    /// `None`: a tombstone, the key was removed.
    pub(crate) became: Option<Value>,
}

/// The value that a key has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) mod_revision: Revision,
    pub(crate) value: Value,
    /// Its share of the state hash. Kept, so that removing ten thousand large values does not hash them all again.
    pub(crate) hash: KeyHash,
}

/// The value of a key, now or at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present<'a> {
    pub(crate) mod_revision: Revision,
    pub(crate) value: &'a Value,
}

/// All versions of one key, to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHistory<'a> {
    /// Older than `current`; the last one is a tombstone if there is no `current`.
    pub(crate) past: Option<&'a VecDeque<Version>>,
    pub(crate) current: Option<&'a Current>,
}

impl Version {
    pub(crate) fn present(&self) -> Option<Present<'_>> {
        Some(Present { mod_revision: self.mod_revision, value: self.became.as_ref()? })
    }
}

impl Current {
    /// The first or next value of a key, with its share of the state hash.
    pub(crate) fn new(key: &[u8], mod_revision: Revision, value: Value) -> Self {
        let hash = KeyHash::of(key, &Present { mod_revision, value: &value });
        Self { mod_revision, value, hash }
    }

    pub(crate) fn present(&self) -> Present<'_> {
        Present { mod_revision: self.mod_revision, value: &self.value }
    }

    /// As a version among others.
    pub(crate) fn into_version(self) -> Version {
        Version { mod_revision: self.mod_revision, became: Some(self.value) }
    }
}

impl<'a> KeyHistory<'a> {
    /// The key as of `revision`; `None` if it was not there.
    pub(crate) fn at(&self, revision: Revision) -> Option<Present<'a>> {
        match self.current {
            Some(current) if current.mod_revision <= revision => Some(current.present()),
            Some(_) | None => last_until(self.past?, revision)?.present(),
        }
    }

    /// What the key became at this very revision. `None` if it was not changed then.
    pub(crate) fn change_at(&self, revision: Revision) -> Option<Change<'a>> {
        if let Some(current) = self.current.filter(|current| current.mod_revision == revision) {
            return Some(Change::Written(current.present()));
        }
        let version = last_until(self.past?, revision).filter(|version| version.mod_revision == revision)?;
        Some(version.present().map_or(Change::Removed, Change::Written))
    }

    /// The versions after `base` and up to `until`, oldest first, led by the one that was the key's at `base`: all that a
    /// reader of a revision in between can be shown.
    pub(crate) fn versions(self, base: Revision, until: Revision) -> Versions<'a> {
        let up_to = |revision: Revision| {
            let past = self.past.map_or(0, |past| past.partition_point(|version| version.mod_revision <= revision));
            past + usize::from(self.current.is_some_and(|current| current.mod_revision <= revision))
        };
        let (at_base, end) = (up_to(base), up_to(until));
        let last_at_base = at_base.checked_sub(1).filter(|place| self.version(*place).became.is_some());
        Versions { history: self, start: last_at_base.unwrap_or(at_base).min(end), end }
    }

    /// The version at this place, the oldest one at 0.
    fn version(&self, place: usize) -> VersionRef<'a> {
        if let Some(version) = self.past.and_then(|past| past.get(place)) {
            return VersionRef { mod_revision: version.mod_revision, became: version.became.as_ref() };
        }
        let current = self.current.expect("behind the past there is the present");
        VersionRef { mod_revision: current.mod_revision, became: Some(&current.value) }
    }
}

/// Some consecutive versions of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Versions<'a> {
    history: KeyHistory<'a>,
    start: usize,
    end: usize,
}

impl<'a> Versions<'a> {
    pub(crate) const fn len(&self) -> usize {
        self.end - self.start
    }

    /// All but the first ones.
    pub(crate) fn skip(self, count: usize) -> impl Iterator<Item = VersionRef<'a>> {
        (self.start + count..self.end).map(move |place| self.history.version(place))
    }
}

/// What a revision did to a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    /// It has this value since.
    Written(Present<'a>),
    /// It is gone.
    Removed,
}

/// A version of a key, wherever it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VersionRef<'a> {
    pub(crate) mod_revision: Revision,
    pub(crate) became: Option<&'a Value>,
}

/// The last version that is not above `revision`.
pub(crate) fn last_until(versions: &VecDeque<Version>, revision: Revision) -> Option<&Version> {
    let later = versions.partition_point(|version| version.mod_revision <= revision);
    versions.get(later.checked_sub(1)?)
}

/// A history on its way out of a snapshot, version by version. May still be empty.
#[derive(Debug)]
pub(crate) struct RestoringHistory {
    base: Revision,
    versions: VecDeque<Version>,
}

impl RestoringHistory {
    /// Of a store whose past begins at `base`; expects about so many versions.
    pub(crate) fn new(base: Revision, versions: usize) -> Self {
        Self { base, versions: VecDeque::with_capacity(versions) }
    }

    /// Takes the next version. `false` if it cannot follow those before it: a chain begins with a first value, or with
    /// whatever value the key had at the base; each further one counts on or begins anew, and a tombstone stands behind a
    /// value.
    pub(crate) fn push(&mut self, version: Version) -> bool {
        let last = self.versions.back();
        let before = last.map_or(Revision::default(), |last| last.mod_revision.max(self.base));
        let rises = before < version.mod_revision;
        let follows = match (last.and_then(|last| last.became.as_ref()), &version.became) {
            (Some(last), Some(next)) => {
                let counts_on =
                    next.create_revision == last.create_revision && next.version.checked_sub(1) == Some(last.version);
                counts_on || is_first(version.mod_revision, next)
            }
            (Some(_), None) => true,
            (None, Some(next)) if last.is_none() && version.mod_revision <= self.base => {
                is_possible(version.mod_revision, next)
            }
            (None, Some(next)) => is_first(version.mod_revision, next),
            (None, None) => false,
        };
        if rises && follows {
            self.versions.push_back(version);
        }
        rises && follows
    }

    /// The history, when all its versions are there: those of the past, and the present one.
    pub(crate) fn finish(mut self, key: &[u8]) -> (VecDeque<Version>, Option<Current>) {
        let last = self.versions.pop_back_if(|last| last.became.is_some());
        let current = last.and_then(|Version { mod_revision, became }| Some(Current::new(key, mod_revision, became?)));
        (self.versions, current)
    }
}

/// Whether this revision can have created a key with this value.
fn is_first(mod_revision: Revision, value: &Value) -> bool {
    value.create_revision == mod_revision && value.version == 1
}

/// Whether a value can have been written at this revision, whatever was before it: each version takes a revision.
fn is_possible(mod_revision: Revision, value: &Value) -> bool {
    let Some(since_creation) = mod_revision.0.checked_sub(value.create_revision.0) else { return false };
    let later_versions = value.version.wrapping_sub(1);
    value.create_revision > Revision(0)
        && later_versions <= since_creation
        && (later_versions == 0) == (since_creation == 0)
}
