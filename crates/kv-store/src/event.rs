//! Events: what a revision did to a key, as a watch tells it.

use bytes::Bytes;

use crate::history::{Change, KeyHistory};
use crate::store::{Store, share};
use crate::types::Revision;

/// What one revision did to one key, where the store holds it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    key: &'a [u8],
    revision: Revision,
    history: KeyHistory<'a>,
    is_last: bool,
}

impl<'a> Event<'a> {
    /// The key.
    pub const fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The revision.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether it is the last one of its revision.
    pub const fn is_last(&self) -> bool {
        self.is_last
    }

    /// The value that the key has since; `None` if it is gone. Not copied.
    ///
    /// # Panics
    /// If the revision did not change the key, which no event of [`crate::KvStore::events`] says.
    pub fn value(&self) -> Option<Bytes> {
        match self.history.change_at(self.revision).expect("an event is about a change") {
            Change::Written(present) => Some(share(&present.value.bytes)),
            Change::Removed => None,
        }
    }

    /// The value that it had before, if it was there.
    pub fn previous(&self) -> Option<Bytes> {
        self.history.at(self.revision.previous()).map(|present| share(&present.value.bytes))
    }
}

/// The events of `revision`, in key order.
pub(crate) fn of(store: &Store, revision: Revision) -> impl ExactSizeIterator<Item = Event<'_>> {
    let changed = store.changed(revision);
    let count = changed.len();
    changed.enumerate().map(move |(place, (key, history))| {
        let is_last = place + 1 == count;
        Event { key, revision, history, is_last }
    })
}
