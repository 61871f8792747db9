//! Which keys each revision changed: the order in which history is watched, and forgotten.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::types::Revision;

/// Room for so many revisions is never given back.
const LEAST_ROOM: usize = 4_096;

/// The keys of consecutive revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The revision of the first entry.
    first: Revision,
    by_revision: VecDeque<ChangedKeys>,
}

/// The keys that one revision changed, in order. Nearly always it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangedKeys {
    None,
    One(Arc<[u8]>),
    Many(Vec<Arc<[u8]>>),
}

impl ChangedKeys {
    /// Adds a key.
    ///
    /// # Panics
    /// If it is not above those before it.
    pub(crate) fn push(&mut self, key: Arc<[u8]>) {
        assert!(
            self.keys().last().is_none_or(|last| *last < key),
            "a revision changes each of its keys once, in order"
        );
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(key),
            Self::One(first) => Self::Many(vec![first, key]),
            Self::Many(mut keys) => {
                keys.push(key);
                Self::Many(keys)
            }
        };
    }

    fn keys(&self) -> &[Arc<[u8]>] {
        match self {
            Self::None => &[],
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

impl FromIterator<Arc<[u8]>> for ChangedKeys {
    fn from_iter<T: IntoIterator<Item = Arc<[u8]>>>(keys: T) -> Self {
        keys.into_iter().fold(Self::None, |mut changed, key| {
            changed.push(key);
            changed
        })
    }
}

impl Changes {
    /// None yet; the next one is that of `first`, which is not 0.
    pub(crate) const fn starting_at(first: Revision) -> Self {
        Self { first, by_revision: VecDeque::new() }
    }

    /// Adds the keys of the next revision.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn push(&mut self, mut keys: ChangedKeys) {
        assert!(keys != ChangedKeys::None, "a revision changes something");
        if let ChangedKeys::Many(keys) = &mut keys {
            keys.shrink_to_fit();
        }
        self.by_revision.push_back(keys);
    }

    /// The first revision there is.
    pub(crate) const fn first(&self) -> Revision {
        self.first
    }

    /// The last revision there is; the one before the first if there is none.
    pub(crate) fn last(&self) -> Revision {
        Revision(self.first.0 - 1 + self.by_revision.len() as u64)
    }

    /// The keys that `revision` changed, in order; none if it is not kept or not reached.
    pub(crate) fn keys(&self, revision: Revision) -> &[Arc<[u8]>] {
        let place = revision.0.checked_sub(self.first.0).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.by_revision.get(place)).map_or(&[], ChangedKeys::keys)
    }

    /// Takes the first revision away; the caller has done with [`Self::keys`] of it.
    pub(crate) fn pop(&mut self) {
        if self.by_revision.pop_front().is_some() {
            self.first = self.first.next();
        }
        // After a burst the room for it is given back.
        if self.by_revision.capacity() > LEAST_ROOM && self.by_revision.len() < self.by_revision.capacity() / 4 {
            self.by_revision.shrink_to(self.by_revision.capacity() / 2);
        }
    }
}
