//! The chain of versions of one key.
//!
//! Owns: what a key was at each revision. Does not own: which keys exist now (`store`).

use bytes::Bytes;

use crate::hash::KeyHash;
use crate::types::Revision;

/// All versions of one key, oldest first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyHistory {
    versions: Vec<Version>,
    /// The present value's share of the state hash; `None` if the key is removed. Kept, so that removing ten thousand
    /// large values does not hash them all again.
    hash: Option<KeyHash>,
}

/// What a key became at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) mod_revision: Revision,
    pub(crate) became: Became,
}

/// A value or a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    Present { create_revision: Revision, version: u64, value: Bytes },
    Removed,
}

/// The present state of a key, or that at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present<'a> {
    pub(crate) value: &'a Bytes,
    pub(crate) create_revision: Revision,
    pub(crate) mod_revision: Revision,
    pub(crate) version: u64,
}

impl Version {
    fn present(&self) -> Option<Present<'_>> {
        match &self.became {
            Became::Present { create_revision, version, value } => Some(Present {
                value,
                create_revision: *create_revision,
                mod_revision: self.mod_revision,
                version: *version,
            }),
            Became::Removed => None,
        }
    }
}

impl KeyHistory {
    /// The history of a key that was never there before, with its first value's share of the state hash.
    pub(crate) fn begin(key: &[u8], revision: Revision, value: Bytes) -> (Self, KeyHash) {
        let mut history = Self { versions: Vec::with_capacity(1), hash: None };
        let hash = history.write(key, revision, value);
        (history, hash)
    }

    /// Adds a value (the next version, or the first if the key was removed) and gives its share of the state hash.
    pub(crate) fn write(&mut self, key: &[u8], revision: Revision, value: Bytes) -> KeyHash {
        let (create_revision, version) = match self.latest() {
            Some(present) => (present.create_revision, present.version + 1),
            None => (revision, 1),
        };
        let present = Present { value: &value, create_revision, mod_revision: revision, version };
        let hash = KeyHash::of(key, &present);
        self.hash = Some(hash);
        self.push(revision, Became::Present { create_revision, version, value });
        hash
    }

    /// Adds a tombstone.
    pub(crate) fn remove(&mut self, revision: Revision) {
        assert!(self.latest().is_some(), "a key is removed once, at {revision}");
        self.hash = None;
        self.push(revision, Became::Removed);
    }

    fn push(&mut self, mod_revision: Revision, became: Became) {
        let last = self.versions.last().map(|version| version.mod_revision);
        assert!(last < Some(mod_revision), "revisions rise: {mod_revision} after {last:?}");
        self.versions.push(Version { mod_revision, became });
    }

    /// The key now; `None` if removed.
    pub(crate) fn latest(&self) -> Option<Present<'_>> {
        self.versions.last().and_then(Version::present)
    }

    /// The key as of `revision`; `None` if it was not there.
    pub(crate) fn at(&self, revision: Revision) -> Option<Present<'_>> {
        self.until(revision).last()?.present()
    }

    /// The versions up to `revision`, oldest first: what a snapshot of that revision has of the key, whatever became of
    /// it since.
    pub(crate) fn until(&self, revision: Revision) -> &[Version] {
        let later = self.versions.partition_point(|version| version.mod_revision <= revision);
        self.versions.get(..later).expect("a partition point is within")
    }

    /// The present value's share of the state hash.
    pub(crate) fn hash(&self) -> Option<KeyHash> {
        self.hash
    }
}

/// A history on its way out of a snapshot, version by version. May still be empty.
#[derive(Debug)]
pub(crate) struct RestoringHistory {
    versions: Vec<Version>,
}

impl RestoringHistory {
    /// Expects about so many versions.
    pub(crate) fn with_capacity(versions: usize) -> Self {
        Self { versions: Vec::with_capacity(versions) }
    }

    /// Takes the next version. `false` if it cannot follow those before it: a chain begins with a first value, each
    /// further one counts on, and a tombstone stands behind a value.
    pub(crate) fn push(&mut self, version: Version) -> bool {
        let last = self.versions.last();
        let before = last.map_or(Revision::default(), |last| last.mod_revision);
        let rises = before < version.mod_revision;
        let counts_on = match (last.and_then(Version::present), version.present()) {
            (Some(last), Some(next)) => {
                next.create_revision == last.create_revision && next.version.checked_sub(1) == Some(last.version)
            }
            (Some(_), None) => true,
            (None, Some(first)) => first.create_revision == first.mod_revision && first.version == 1,
            (None, None) => false,
        };
        if rises && counts_on {
            self.versions.push(version);
        }
        rises && counts_on
    }

    /// The history, when all its versions are there.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn finish(self, key: &[u8]) -> KeyHistory {
        let last = self.versions.last().expect("a history is never empty");
        let hash = last.present().map(|present| KeyHash::of(key, &present));
        KeyHistory { versions: self.versions, hash }
    }
}
