//! The state hash (rule 10): a sum over all keys, so that it can be kept at each change and does not depend on an order.
//!
//! The share of a key is the XXH3-128 (seed 0) of these bytes, integers little-endian, lengths before contents, so that no
//! two states have the same encoding:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | length of the key |
//! | n | key |
//! | 8 | length of the value |
//! | m | value |
//! | 8 | create_revision |
//! | 8 | mod_revision |
//! | 8 | version |
//! | 8 | lease, 0 if there is none |
//!
//! Not a defence against an attacker who chooses values: it finds replicas that differ by accident.

use std::collections::VecDeque;

use xxhash_rust::xxh3::Xxh3;

use crate::history::Present;
use crate::limits::KEPT_HASHES;
use crate::types::{Revision, StateHash};

/// One key's share of the sum, as bytes: a number would want its own alignment, and every key has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash([u8; 16]);

impl KeyHash {
    pub(crate) fn of(key: &[u8], present: &Present<'_>) -> Self {
        let mut hasher = Xxh3::new();
        let Present { mod_revision, value } = present;
        for part in [key, &*value.bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let lease = value.lease.map_or(0, |lease| lease.0.get());
        for number in [value.create_revision.0, mod_revision.0, value.version, lease] {
            hasher.update(&number.to_le_bytes());
        }
        Self(hasher.digest128().to_ne_bytes())
    }
}

impl StateHash {
    /// With one key more.
    pub(crate) fn plus(self, key: KeyHash) -> Self {
        Self(self.0.wrapping_add(u128::from_ne_bytes(key.0)))
    }

    /// With one key less.
    pub(crate) fn minus(self, key: KeyHash) -> Self {
        Self(self.0.wrapping_sub(u128::from_ne_bytes(key.0)))
    }
}

/// The hashes of the latest revisions, without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecentHashes {
    oldest: Revision,
    hashes: VecDeque<StateHash>,
}

impl RecentHashes {
    /// Knows the hash of one revision.
    pub(crate) fn starting_at(revision: Revision, hash: StateHash) -> Self {
        Self { oldest: revision, hashes: VecDeque::from([hash]) }
    }

    /// Knows the hashes of the revisions up to `latest`, oldest first. `None` if there are none, more than are kept, or
    /// more than revisions.
    pub(crate) fn ending_at(latest: Revision, hashes: VecDeque<StateHash>) -> Option<Self> {
        let earlier = hashes.len().checked_sub(1).filter(|earlier| *earlier < KEPT_HASHES)?;
        let oldest = Revision(latest.0.checked_sub(earlier as u64)?);
        Some(Self { oldest, hashes })
    }

    /// All of them, oldest first.
    pub(crate) fn hashes(&self) -> &VecDeque<StateHash> {
        &self.hashes
    }

    /// Adds the hash of the next revision.
    pub(crate) fn push(&mut self, hash: StateHash) {
        if self.hashes.len() == KEPT_HASHES {
            self.hashes.pop_front();
            self.oldest = self.oldest.next();
        }
        self.hashes.push_back(hash);
    }

    /// The hash at `revision`, if it is still kept and already there.
    pub(crate) fn at(&self, revision: Revision) -> Option<StateHash> {
        let place = revision.0.checked_sub(self.oldest.0)?;
        self.hashes.get(usize::try_from(place).ok()?).copied()
    }
}
