//! The items of a snapshot, byte by byte. All numbers are little-endian.
//!
//! Reading and writing stand side by side. Reading an item that is not whole yet says so and takes nothing; what a single
//! item cannot be, whatever surrounds it, is refused here.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU64;

use bytes::BufMut;

use super::{Damage, SNAPSHOT_VERSION, SnapshotError};
use crate::compaction::{MAX_MARKS, Timeline};
use crate::hash::RecentHashes;
use crate::history::{Value, Version, VersionRef};
use crate::lease::Lease;
use crate::limits::{KEPT_HASHES, Limits, MAX_ANSWER_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::reader::Reader;
use crate::session::{KeptReply, Reply, Session};
use crate::types::{ClientId, LeaseId, Revision, Stamp, StateHash};

/// A key's item without the key.
pub(super) const KEY_OVERHEAD_BYTES: usize = 10;

const REMOVED: u8 = 0;
const PRESENT: u8 = 1;
const LEASED: u8 = 2;

/// The version before compaction and leases.
const FIRST_VERSION: u8 = 1;
/// In place of a quota.
const NO_QUOTA: u64 = u64::MAX;

/// Why no item was read.
pub(super) enum Stop {
    /// It is not whole yet.
    NeedsMore,
    /// It cannot be.
    Damaged(Damage),
    /// It may be right, but not here.
    Refused(SnapshotError),
}

impl From<Damage> for Stop {
    fn from(what: Damage) -> Self {
        Self::Damaged(what)
    }
}

fn array<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], Stop> {
    reader.array().ok_or(Stop::NeedsMore)
}

fn number(reader: &mut Reader<'_>) -> Result<u64, Stop> {
    array(reader).map(u64::from_le_bytes)
}

fn content<'a>(reader: &mut Reader<'a>, size_bytes: usize) -> Result<&'a [u8], Stop> {
    reader.take(size_bytes).ok_or(Stop::NeedsMore)
}

/// The first item: all that is neither a session nor a lease nor a key.
///
/// | bytes | field |
/// |---|---|
/// | 1 | format version, 2 |
/// | 8 | index applied |
/// | 8 | cluster time, ns |
/// | 8 | revision |
/// | 16 | state hash |
/// | 8, 8, 8 | limits: sessions, kept replies of one session, bytes of them |
/// | 8 | sessions |
/// | 8 | keys, removed ones too |
/// | 4 | h, the number of recent hashes |
/// | 16 h | the state hashes of the h latest revisions, oldest first |
/// | 8 | the oldest revision that can be read |
/// | 8 | cluster time of the latest change, ns |
/// | 4 | m, the number of marks |
/// | 16 m | marks, rising: cluster time in ns (8) and the revision that came then (8) |
/// | 8 | what the keys may cost, 2^64 - 1 for anything |
/// | 8 | how many leases were ever granted |
/// | 8 | leases |
///
/// Version 1 ends with the hashes: nothing was forgotten then, and there were no leases.
pub(super) struct Head {
    pub(super) applied_index: u64,
    pub(super) latest_stamp: Stamp,
    pub(super) revision: Revision,
    pub(super) state_hash: StateHash,
    pub(super) limits: Limits,
    pub(super) sessions: u64,
    pub(super) keys: u64,
    pub(super) recent_hashes: RecentHashes,
    pub(super) oldest: Revision,
    pub(super) timeline: Timeline,
    pub(super) quota_bytes: Option<u64>,
    pub(super) granted: u64,
    pub(super) leases: u64,
}

impl Head {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(SNAPSHOT_VERSION);
        out.put_u64_le(self.applied_index);
        out.put_u64_le(self.latest_stamp.0);
        out.put_u64_le(self.revision.0);
        out.put_u128_le(self.state_hash.0);
        let Limits { sessions, kept_replies_per_session, kept_bytes_per_session } = self.limits;
        for limit in [sessions, kept_replies_per_session, kept_bytes_per_session] {
            out.put_u64_le(limit as u64);
        }
        out.put_u64_le(self.sessions);
        out.put_u64_le(self.keys);
        let hashes = self.recent_hashes.hashes();
        out.put_u32_le(u32::try_from(hashes.len()).expect("at most KEPT_HASHES are kept"));
        for hash in hashes {
            out.put_u128_le(hash.0);
        }
        out.put_u64_le(self.oldest.0);
        out.put_u64_le(self.timeline.last_change().0);
        let marks = self.timeline.marks();
        out.put_u32_le(u32::try_from(marks.len()).expect("at most MAX_MARKS are kept"));
        for (stamp, revision) in marks {
            out.put_u64_le(stamp.0);
            out.put_u64_le(revision.0);
        }
        out.put_u64_le(self.quota_bytes.unwrap_or(NO_QUOTA));
        out.put_u64_le(self.granted);
        out.put_u64_le(self.leases);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let [version] = array(reader)?;
        if version != SNAPSHOT_VERSION && version != FIRST_VERSION {
            return Err(Stop::Refused(SnapshotError::UnknownVersion { found: version }));
        }
        let applied_index = number(reader)?;
        let latest_stamp = Stamp(number(reader)?);
        let revision = Revision(number(reader)?);
        let state_hash = StateHash(array(reader).map(u128::from_le_bytes)?);
        // A limit that does not fit here is no limit of ours, whichever it is.
        let mut limit = || Ok::<_, Stop>(usize::try_from(number(reader)?).unwrap_or(usize::MAX));
        let limits =
            Limits { sessions: limit()?, kept_replies_per_session: limit()?, kept_bytes_per_session: limit()? };
        let sessions = number(reader)?;
        let keys = number(reader)?;
        let recent_hashes = Self::decode_recent_hashes(reader, revision, state_hash)?;
        let first = Self {
            applied_index,
            latest_stamp,
            revision,
            state_hash,
            limits,
            sessions,
            keys,
            recent_hashes,
            oldest: Revision(0),
            timeline: Timeline::default(),
            quota_bytes: None,
            granted: 0,
            leases: 0,
        };
        if version == FIRST_VERSION {
            return Ok(first);
        }
        let oldest = Revision(number(reader)?);
        if oldest > revision {
            return Err(Damage::Oldest { oldest: oldest.0 }.into());
        }
        let timeline = Self::decode_timeline(reader, revision)?;
        let quota_bytes = Some(number(reader)?).filter(|quota| *quota != NO_QUOTA);
        let (granted, leases) = (number(reader)?, number(reader)?);
        Ok(Self { oldest, timeline, quota_bytes, granted, leases, ..first })
    }

    fn decode_timeline(reader: &mut Reader<'_>, revision: Revision) -> Result<Timeline, Stop> {
        let last_change = Stamp(number(reader)?);
        let count = array(reader).map(u32::from_le_bytes)?;
        let size = bounded(count, MAX_MARKS).ok_or(Damage::Marks { count })?;
        let marks = (0..size).map(|_| Ok((Stamp(number(reader)?), Revision(number(reader)?))));
        let marks = marks.collect::<Result<VecDeque<_>, Stop>>()?;
        Ok(Timeline::restored(marks, last_change, revision).ok_or(Damage::Marks { count })?)
    }

    fn decode_recent_hashes(
        reader: &mut Reader<'_>,
        revision: Revision,
        state_hash: StateHash,
    ) -> Result<RecentHashes, Stop> {
        let count = array(reader).map(u32::from_le_bytes)?;
        let damage = Damage::RecentHashes { count };
        let size = usize::try_from(count).ok().filter(|size| *size <= KEPT_HASHES);
        let size = size.ok_or_else(|| damage.clone())?;
        let (hashes, _) = content(reader, size * 16)?.as_chunks::<16>();
        let hashes: VecDeque<_> = hashes.iter().map(|hash| StateHash(u128::from_le_bytes(*hash))).collect();
        let is_last = hashes.back() == Some(&state_hash);
        Ok(RecentHashes::ending_at(revision, hashes).filter(|_| is_last).ok_or(damage)?)
    }
}

/// A session without its replies.
///
/// | bytes | field |
/// |---|---|
/// | 16 | client id |
/// | 8 | birth, cluster time in ns |
/// | 8 | lowest unanswered sequence |
/// | 8 | needed until, cluster time in ns |
/// | 8 | kept replies, which follow |
pub(super) struct SessionItem {
    pub(super) client: ClientId,
    pub(super) session: Session,
    pub(super) replies: u64,
}

pub(super) fn encode_session(client: ClientId, session: &Session, out: &mut Vec<u8>) {
    out.put_u128_le(client.0);
    out.put_u64_le(session.birth().0);
    out.put_u64_le(session.lowest_unanswered());
    out.put_u64_le(session.needed_until().0);
    out.put_u64_le(session.replies().len() as u64);
}

impl SessionItem {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let client = ClientId(array(reader).map(u128::from_le_bytes)?);
        let (birth, lowest_unanswered, needed_until) = (number(reader)?, number(reader)?, number(reader)?);
        let replies = number(reader)?;
        let session = Session::restored(Stamp(birth), lowest_unanswered, Stamp(needed_until));
        Ok(Self { client, session: session.ok_or(Damage::SessionWindow)?, replies })
    }
}

/// A kept reply.
///
/// | bytes | field |
/// |---|---|
/// | 8 | sequence of the request |
/// | 4 | n, the reply's size |
/// | n | reply, in postcard |
pub(super) struct ReplyItem {
    pub(super) sequence: u64,
    pub(super) reply: Reply,
    pub(super) size_bytes: usize,
}

pub(super) fn encode_reply(sequence: u64, kept: &KeptReply, out: &mut Vec<u8>) {
    out.put_u64_le(sequence);
    out.put_u32_le(u32::try_from(kept.size_bytes).expect("a reply has a few bytes"));
    *out = postcard::to_extend(&kept.reply, std::mem::take(out)).expect("only memory is written to");
}

impl ReplyItem {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let sequence = number(reader)?;
        let size = array(reader).map(u32::from_le_bytes)?;
        let size_bytes = bounded(size, MAX_ANSWER_BYTES).ok_or(Damage::ReplySize { size_bytes: size })?;
        let reply = postcard::from_bytes(content(reader, size_bytes)?).map_err(Damage::Reply)?;
        Ok(Self { sequence, reply, size_bytes })
    }
}

/// A lease without its keys: these say so themselves.
///
/// | bytes | field |
/// |---|---|
/// | 8 | id, not 0 |
/// | 8 | time to live, ns |
/// | 8 | end, cluster time in ns |
/// | 1 | 0: granted on its own; 1: made for one key |
pub(super) struct LeaseItem {
    pub(super) id: LeaseId,
    pub(super) lease: Lease,
}

pub(super) fn encode_lease(id: LeaseId, lease: &Lease, out: &mut Vec<u8>) {
    out.put_u64_le(id.0.get());
    out.put_u64_le(lease.ttl_ns);
    out.put_u64_le(lease.ends.0);
    out.put_u8(lease.is_of_key.into());
}

impl LeaseItem {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let (id, ttl_ns, ends) = (number(reader)?, number(reader)?, Stamp(number(reader)?));
        let is_of_key = match array(reader)? {
            [0] => false,
            [1] => true,
            [_] => return Err(Damage::Lease { id }.into()),
        };
        let lease = Lease { ttl_ns, ends, is_of_key, keys: BTreeSet::new() };
        Ok(Self { id: LeaseId(NonZeroU64::new(id).ok_or(Damage::Lease { id })?), lease })
    }
}

/// A key without its versions.
///
/// | bytes | field |
/// |---|---|
/// | 2 | n, the key's size |
/// | n | key |
/// | 8 | versions, which follow, oldest first |
pub(super) struct KeyItem<'a> {
    pub(super) key: &'a [u8],
    pub(super) versions: u64,
}

impl<'a> KeyItem<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16_le(u16::try_from(self.key.len()).expect("a key has at most 4,096 bytes"));
        out.put_slice(self.key);
        out.put_u64_le(self.versions);
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, Stop> {
        let size_bytes = array(reader).map(u16::from_le_bytes)?;
        if size_bytes == 0 || usize::from(size_bytes) > MAX_KEY_BYTES {
            return Err(Damage::KeySize { size_bytes }.into());
        }
        Ok(Self { key: content(reader, size_bytes.into())?, versions: number(reader)? })
    }
}

/// Writes a version.
///
/// | bytes | field |
/// |---|---|
/// | 8 | mod_revision |
/// | 1 | 0: removed, and nothing follows; 1: a value; 2: a value with a lease |
/// | 8 | create_revision |
/// | 8 | version |
/// | 8 | lease, not 0; only where there is one |
/// | 4 | n, the value's size |
/// | n | value |
pub(super) fn encode_version(version: VersionRef<'_>, out: &mut Vec<u8>) {
    out.put_u64_le(version.mod_revision.0);
    let Some(value) = version.became else {
        out.put_u8(REMOVED);
        return;
    };
    out.put_u8(if value.lease.is_some() { LEASED } else { PRESENT });
    out.put_u64_le(value.create_revision.0);
    out.put_u64_le(value.version);
    if let Some(lease) = value.lease {
        out.put_u64_le(lease.0.get());
    }
    out.put_u32_le(u32::try_from(value.bytes.len()).expect("a value has at most 1 MiB"));
    out.put_slice(&value.bytes);
}

/// Reads a version. The value is copied, so that it never pins a piece.
pub(super) fn decode_version(reader: &mut Reader<'_>) -> Result<Version, Stop> {
    let mod_revision = Revision(number(reader)?);
    let [kind] = array(reader)?;
    let became = match kind {
        REMOVED => None,
        PRESENT | LEASED => {
            let (create_revision, version) = (Revision(number(reader)?), number(reader)?);
            let lease = if kind == LEASED {
                Some(LeaseId(NonZeroU64::new(number(reader)?).ok_or(Damage::Lease { id: 0 })?))
            } else {
                None
            };
            let size = array(reader).map(u32::from_le_bytes)?;
            let size_bytes = bounded(size, MAX_VALUE_BYTES).ok_or(Damage::ValueSize { size_bytes: size })?;
            Some(Value { bytes: content(reader, size_bytes)?.into(), create_revision, version, lease })
        }
        found => return Err(Damage::VersionKind { found }.into()),
    };
    Ok(Version { mod_revision, became })
}

/// Reads the last item.
pub(super) fn decode_checksum(reader: &mut Reader<'_>) -> Result<u128, Stop> {
    array(reader).map(u128::from_le_bytes)
}

/// A size, if it is within its limit.
fn bounded(size: u32, limit_bytes: usize) -> Option<usize> {
    usize::try_from(size).ok().filter(|size_bytes| *size_bytes <= limit_bytes)
}
