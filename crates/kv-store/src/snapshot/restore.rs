//! A store from a snapshot, from bytes that may be anything.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::layout::{Head, KeyItem, LeaseItem, ReplyItem, SessionItem, Stop, decode_checksum, decode_version};
use super::{Damage, SnapshotError};
use crate::compaction::Timeline;
use crate::history::RestoringHistory;
use crate::lease::Leases;
use crate::limits::{Limits, MAX_LEASES};
use crate::machine::{KvStore, Restored};
use crate::reader::Reader;
use crate::session::{Session, Sessions};
use crate::store::Store;
use crate::types::{ClientId, Revision, Stamp, StateHash};

/// Memory for so many versions of a key at most is set aside on a snapshot's word.
const VERSIONS_AHEAD: u64 = 64;

/// A store on its way out of a snapshot. Takes the stream in pieces cut anywhere, not only where they were given.
///
/// Holds, beside what it has restored, at most one item that is not whole yet: a little more than a key or a value.
pub struct RestoringStore {
    limits: Limits,
    /// The beginning of an item that is not whole yet.
    pending: Vec<u8>,
    /// The size of all items taken.
    offset: u64,
    /// Of all items taken.
    checksum: Xxh3,
    stage: Stage,
}

enum Stage {
    /// Nothing has come yet.
    Head,
    Contents(Box<Contents>),
    Whole(Box<KvStore>),
    Failed(SnapshotError),
}

/// What has come behind the head, and what is still to come.
struct Contents {
    applied_index: u64,
    latest_stamp: Stamp,
    state_hash: StateHash,
    timeline: Timeline,
    sessions: Sessions,
    sessions_left: u64,
    last_client: Option<ClientId>,
    open_session: Option<OpenSession>,
    leases_left: u64,
    store: Store,
    keys_left: u64,
    /// Empty before the first, and as such below it.
    last_key: Vec<u8>,
    open_key: Option<OpenKey>,
}

/// A session some of whose replies are still to come.
struct OpenSession {
    client: ClientId,
    session: Session,
    replies_left: u64,
}

/// A key some of whose versions are still to come.
struct OpenKey {
    key: Arc<[u8]>,
    history: RestoringHistory,
    versions_left: u64,
}

impl RestoringStore {
    /// Expects a snapshot taken under these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, pending: Vec::new(), offset: 0, checksum: Xxh3::new(), stage: Stage::Head }
    }

    /// Takes the next bytes of the stream. The last ones are believed only if checksum and state hash are right.
    ///
    /// # Errors
    /// Whatever the bytes, a [`SnapshotError`] and never a panic; and that error again from then on.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        if let Stage::Failed(error) = &self.stage {
            return Err(error.clone());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(chunk);
        match self.take_items(&pending) {
            Ok(taken_bytes) => {
                pending.drain(..taken_bytes);
                self.pending = pending;
                Ok(())
            }
            Err(error) => {
                self.stage = Stage::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// The store, equal to the one the snapshot was taken of.
    ///
    /// # Errors
    /// [`SnapshotError::Incomplete`] if there is more to come; or what [`Self::push`] failed with.
    pub fn finish(self) -> Result<KvStore, SnapshotError> {
        match self.stage {
            Stage::Whole(machine) => Ok(*machine),
            Stage::Head | Stage::Contents(_) => {
                Err(SnapshotError::Incomplete { size_bytes: self.offset + self.pending.len() as u64 })
            }
            Stage::Failed(error) => Err(error),
        }
    }

    /// Takes all whole items, and says how many bytes they had.
    fn take_items(&mut self, bytes: &[u8]) -> Result<usize, SnapshotError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut reader = Reader { rest };
            match self.take_item(&mut reader) {
                Ok(()) => {}
                Err(Stop::NeedsMore) => break,
                Err(Stop::Damaged(what)) => return Err(SnapshotError::Damaged { offset: self.offset, what }),
                Err(Stop::Refused(error)) => return Err(error),
            }
            let (item, behind) = rest.split_at(rest.len() - reader.rest.len());
            self.checksum.update(item);
            self.offset += item.len() as u64;
            rest = behind;
        }
        Ok(bytes.len() - rest.len())
    }

    fn take_item(&mut self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        match &mut self.stage {
            Stage::Head => {
                self.stage = Stage::Contents(Box::new(Contents::begin(Head::decode(reader)?, self.limits)?));
                Ok(())
            }
            Stage::Contents(contents) if contents.is_whole() => {
                if decode_checksum(reader)? != self.checksum.digest128() {
                    return Err(Stop::Refused(SnapshotError::WrongChecksum));
                }
                let stage = std::mem::replace(&mut self.stage, Stage::Head);
                let Stage::Contents(contents) = stage else { unreachable!("matched above") };
                self.stage = Stage::Whole(Box::new(contents.finish()?));
                Ok(())
            }
            Stage::Contents(contents) => contents.take_item(reader),
            Stage::Whole(_) => Err(Stop::Refused(SnapshotError::TrailingBytes { size_bytes: reader.rest.len() })),
            Stage::Failed(error) => Err(Stop::Refused(error.clone())),
        }
    }
}

impl Contents {
    fn begin(head: Head, limits: Limits) -> Result<Self, Stop> {
        if head.limits != limits {
            return Err(Stop::Refused(SnapshotError::OtherLimits { found: head.limits, ours: limits }));
        }
        if head.sessions > limits.sessions as u64 {
            return Err(Damage::SessionCount { count: head.sessions }.into());
        }
        if head.leases > head.granted.min(MAX_LEASES as u64) {
            return Err(Damage::LeaseCount { count: head.leases }.into());
        }
        let leases = Leases::restored(head.granted);
        Ok(Self {
            applied_index: head.applied_index,
            latest_stamp: head.latest_stamp,
            state_hash: head.state_hash,
            sessions: Sessions::new(limits),
            sessions_left: head.sessions,
            last_client: None,
            open_session: None,
            timeline: head.timeline,
            leases_left: head.leases,
            store: Store::restoring(head.revision, head.oldest, head.recent_hashes, leases, head.quota_bytes),
            keys_left: head.keys,
            last_key: Vec::new(),
            open_key: None,
        })
    }

    fn is_whole(&self) -> bool {
        let all_sessions = self.sessions_left == 0 && self.open_session.is_none();
        all_sessions && self.leases_left == 0 && self.keys_left == 0 && self.open_key.is_none()
    }

    fn take_item(&mut self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        if let Some(open) = &mut self.open_session {
            open.take_reply(reader)?;
            self.close_session();
        } else if self.sessions_left > 0 {
            self.open_session(SessionItem::decode(reader)?)?;
            self.close_session();
        } else if self.leases_left > 0 {
            let LeaseItem { id, lease } = LeaseItem::decode(reader)?;
            if !self.store.leases_mut().restore(id, lease) {
                return Err(Damage::Lease { id: id.0.get() }.into());
            }
            self.leases_left -= 1;
        } else if let Some(open) = &mut self.open_key {
            open.take_version(reader, self.store.revision())?;
            self.close_key()?;
        } else {
            self.open_key(&KeyItem::decode(reader)?)?;
        }
        Ok(())
    }

    fn open_session(&mut self, item: SessionItem) -> Result<(), Damage> {
        let SessionItem { client, session, replies } = item;
        if self.last_client >= Some(client) {
            return Err(Damage::ClientOrder);
        }
        if replies > self.sessions.limits().kept_replies_per_session as u64 {
            return Err(Damage::ReplyCount { count: replies });
        }
        self.last_client = Some(client);
        self.sessions_left -= 1;
        self.open_session = Some(OpenSession { client, session, replies_left: replies });
        Ok(())
    }

    fn close_session(&mut self) {
        if let Some(OpenSession { client, session, .. }) = self.open_session.take_if(|open| open.replies_left == 0) {
            self.sessions.restore(client, session);
        }
    }

    fn open_key(&mut self, item: &KeyItem<'_>) -> Result<(), Damage> {
        let KeyItem { key, versions } = *item;
        if *self.last_key >= *key {
            return Err(Damage::KeyOrder);
        }
        if versions == 0 || versions > self.store.revision().0 {
            return Err(Damage::VersionCount { count: versions });
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        let key = Arc::from(key);
        let capacity = usize::try_from(versions.min(VERSIONS_AHEAD)).expect("a small number");
        self.keys_left -= 1;
        let history = RestoringHistory::new(self.store.base(), capacity);
        self.open_key = Some(OpenKey { key, history, versions_left: versions });
        Ok(())
    }

    fn close_key(&mut self) -> Result<(), Damage> {
        if let Some(OpenKey { key, history, .. }) = self.open_key.take_if(|open| open.versions_left == 0) {
            let (past, current) = history.finish(&key);
            let lease = current.as_ref().and_then(|current| current.value.lease);
            if let Some(id) = lease.filter(|id| self.store.leases().get(*id).is_none()) {
                return Err(Damage::NoSuchLease { id });
            }
            self.store.restore_key(&key, past, current);
        }
        Ok(())
    }

    /// The machine, if its keys are those of the head's state hash (rule 10).
    fn finish(mut self) -> Result<KvStore, Stop> {
        if !self.store.restore_changes() {
            return Err(Damage::MissingVersions { revision: self.store.revision().0 }.into());
        }
        let (recomputed, recorded) = (self.store.hash(), self.state_hash);
        if recomputed != recorded {
            return Err(Stop::Refused(SnapshotError::WrongStateHash { recomputed, recorded }));
        }
        let Self { store, sessions, timeline, applied_index, latest_stamp, .. } = self;
        Ok(KvStore::restored(Restored { store, sessions, timeline, applied_index, latest_stamp }))
    }
}

impl OpenSession {
    fn take_reply(&mut self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        let ReplyItem { sequence, reply, size_bytes } = ReplyItem::decode(reader)?;
        if !self.session.restore_reply(sequence, reply, size_bytes) {
            return Err(Damage::ReplyOrder { sequence }.into());
        }
        self.replies_left -= 1;
        Ok(())
    }
}

impl OpenKey {
    fn take_version(&mut self, reader: &mut Reader<'_>, limit: Revision) -> Result<(), Stop> {
        let version = decode_version(reader)?;
        let revision = version.mod_revision;
        if revision > limit || !self.history.push(version) {
            return Err(Damage::VersionOrder { revision: revision.0 }.into());
        }
        self.versions_left -= 1;
        Ok(())
    }
}
