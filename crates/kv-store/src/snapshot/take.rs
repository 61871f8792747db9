//! Taking a snapshot, piece by piece.

use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::Xxh3;

use super::layout::{Head, KEY_OVERHEAD_BYTES, KeyItem, encode_lease, encode_reply, encode_session, encode_version};
use crate::compaction::Timeline;
use crate::history::Versions;
use crate::session::Sessions;
use crate::store::{Store, View};
use crate::types::{Revision, Stamp};

/// How far a snapshot has been given away. Belongs to the machine that began it, which takes no version away as long as the
/// cursor lives: drop one that is not wanted any more.
pub struct SnapshotCursor {
    _view: View,
    revision: Revision,
    /// The revision before the oldest that can be read.
    base: Revision,
    stage: Stage,
    /// Of all bytes given so far.
    checksum: Xxh3,
}

/// What comes next.
enum Stage {
    /// The rest of what was captured at the beginning.
    Captured {
        rest: Bytes,
        keys: u64,
    },
    Keys {
        place: Place,
        /// How many keys of the snapshot have not been given whole. The walk ends with the last, however many younger
        /// ones come behind.
        left: u64,
    },
    Nothing,
}

/// How far the walk over the keys is.
enum Place {
    Start,
    /// Everything up to this key was given, or is younger than the snapshot.
    Behind(Arc<[u8]>),
    /// Of this key, so many of its versions were given.
    Within {
        key: Arc<[u8]>,
        given: usize,
        versions: usize,
    },
}

/// A piece in the making.
struct Piece {
    bytes: Vec<u8>,
    /// What the keys that were only passed over would have had.
    passed_bytes: usize,
    budget_bytes: usize,
}

impl Piece {
    fn is_full(&self) -> bool {
        self.bytes.len().saturating_add(self.passed_bytes) >= self.budget_bytes
    }

    /// Leaves out a key that is younger than the snapshot.
    fn pass_over(&mut self, key: &[u8]) {
        self.passed_bytes += KEY_OVERHEAD_BYTES + key.len();
    }

    /// Adds versions from number `given` on until it is full, and says how many are then given.
    fn versions(&mut self, versions: Versions<'_>, mut given: usize) -> usize {
        for version in versions.skip(given) {
            if self.is_full() {
                break;
            }
            encode_version(version, &mut self.bytes);
            given += 1;
        }
        given
    }
}

impl SnapshotCursor {
    /// Fixes the view and captures what changes in place.
    pub(crate) fn begin(
        store: &Store,
        sessions: &Sessions,
        timeline: &Timeline,
        applied_index: u64,
        latest_stamp: Stamp,
    ) -> Self {
        let keys = store.history_count() as u64;
        let head = Head {
            applied_index,
            latest_stamp,
            revision: store.revision(),
            state_hash: store.hash(),
            limits: *sessions.limits(),
            sessions: sessions.len() as u64,
            keys,
            recent_hashes: store.recent_hashes().clone(),
            oldest: store.oldest(),
            timeline: timeline.clone(),
            quota_bytes: store.quota_bytes(),
            granted: store.leases().granted(),
            leases: store.leases().len() as u64,
        };
        let mut captured = Vec::new();
        head.encode(&mut captured);
        for (client, session) in sessions.iter() {
            encode_session(client, session, &mut captured);
            for (sequence, kept) in session.replies() {
                encode_reply(*sequence, kept, &mut captured);
            }
        }
        for (id, lease) in store.leases().iter() {
            encode_lease(id, lease, &mut captured);
        }
        let stage = Stage::Captured { rest: captured.into(), keys };
        let (revision, base) = (store.revision(), store.base());
        Self { _view: store.open_view(), revision, base, stage, checksum: Xxh3::new() }
    }

    /// See [`crate::KvStore::snapshot_chunk`].
    pub(crate) fn next_piece(&mut self, store: &Store, budget_bytes: usize) -> Option<Bytes> {
        let budget_bytes = budget_bytes.max(1);
        match &mut self.stage {
            Stage::Captured { rest, keys } => {
                let piece = rest.split_to(budget_bytes.min(rest.len()));
                self.checksum.update(&piece);
                if rest.is_empty() {
                    self.stage = Stage::Keys { place: Place::Start, left: *keys };
                }
                Some(piece)
            }
            Stage::Keys { place, left } => {
                let mut piece = Piece { bytes: Vec::new(), passed_bytes: 0, budget_bytes };
                place.walk(store, (self.base, self.revision), left, &mut piece);
                self.checksum.update(&piece.bytes);
                if *left == 0 {
                    piece.bytes.put_u128_le(self.checksum.digest128());
                    self.stage = Stage::Nothing;
                }
                Some(piece.bytes.into())
            }
            Stage::Nothing => None,
        }
    }
}

impl Place {
    /// Where the walk goes on, and how many versions of the key there were given, of how many.
    fn resume(&self) -> (Bound<&[u8]>, Option<(usize, usize)>) {
        match self {
            Self::Start => (Bound::Unbounded, None),
            Self::Behind(key) => (Bound::Excluded(key), None),
            Self::Within { key, given, versions } => (Bound::Included(key), Some((*given, *versions))),
        }
    }

    /// Goes on until the piece is full or no key is left.
    fn walk(&mut self, store: &Store, (base, revision): (Revision, Revision), left: &mut u64, piece: &mut Piece) {
        let (start, mut begun) = self.resume();
        let mut histories = store.histories(start);
        let mut reached = None;
        while *left > 0 && !piece.is_full() {
            let (key, history) = histories.next().expect("no key leaves while a snapshot is under way");
            let versions = history.versions(base, revision);
            let given = match begun.take() {
                Some((given, before)) => {
                    assert_eq!(versions.len(), before, "no version leaves while a snapshot is under way");
                    piece.versions(versions, given)
                }
                None if versions.len() == 0 => {
                    piece.pass_over(key);
                    reached = Some((key, None));
                    continue;
                }
                None => {
                    KeyItem { key, versions: versions.len() as u64 }.encode(&mut piece.bytes);
                    piece.versions(versions, 0)
                }
            };
            let is_whole = given == versions.len();
            *left -= u64::from(is_whole);
            reached = Some((key, (!is_whole).then_some((given, versions.len()))));
        }
        match reached.map(|(key, open)| (Arc::clone(key), open)) {
            Some((key, None)) => *self = Self::Behind(key),
            Some((key, Some((given, versions)))) => *self = Self::Within { key, given, versions },
            None => {}
        }
    }
}
