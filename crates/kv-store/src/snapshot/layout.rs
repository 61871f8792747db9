//! The items of a snapshot, byte by byte. All numbers are little-endian.
//!
//! Reading and writing stand side by side. Reading an item that is not whole yet says so and takes nothing; what a single
//! item cannot be, whatever surrounds it, is refused here.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};

use super::{Damage, SNAPSHOT_VERSION, SnapshotError};
use crate::hash::RecentHashes;
use crate::history::{Became, Version};
use crate::limits::{KEPT_HASHES, Limits, MAX_ANSWER_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::reader::Reader;
use crate::session::{KeptReply, Reply, Session};
use crate::types::{ClientId, Revision, Stamp, StateHash};

/// A key's item without the key.
pub(super) const KEY_OVERHEAD_BYTES: usize = 10;

const REMOVED: u8 = 0;
const PRESENT: u8 = 1;

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

/// The first item: all that is neither a session nor a key.
///
/// | bytes | field |
/// |---|---|
/// | 1 | format version, 1 |
/// | 8 | index applied |
/// | 8 | cluster time, ns |
/// | 8 | revision |
/// | 16 | state hash |
/// | 8, 8, 8 | limits: sessions, kept replies of one session, bytes of them |
/// | 8 | sessions |
/// | 8 | keys, removed ones too |
/// | 4 | h, the number of recent hashes |
/// | 16 h | the state hashes of the h latest revisions, oldest first |
pub(super) struct Head {
    pub(super) applied_index: u64,
    pub(super) latest_stamp: Stamp,
    pub(super) revision: Revision,
    pub(super) state_hash: StateHash,
    pub(super) limits: Limits,
    pub(super) sessions: u64,
    pub(super) keys: u64,
    pub(super) recent_hashes: RecentHashes,
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
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let [version] = array(reader)?;
        if version != SNAPSHOT_VERSION {
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
        Ok(Self { applied_index, latest_stamp, revision, state_hash, limits, sessions, keys, recent_hashes })
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
/// | 1 | 0: removed, and nothing follows; 1: a value |
/// | 8 | create_revision |
/// | 8 | version |
/// | 4 | n, the value's size |
/// | n | value |
pub(super) fn encode_version(version: &Version, out: &mut Vec<u8>) {
    out.put_u64_le(version.mod_revision.0);
    match &version.became {
        Became::Removed => out.put_u8(REMOVED),
        Became::Present { create_revision, version, value } => {
            out.put_u8(PRESENT);
            out.put_u64_le(create_revision.0);
            out.put_u64_le(*version);
            out.put_u32_le(u32::try_from(value.len()).expect("a value has at most 1 MiB"));
            out.put_slice(value);
        }
    }
}

/// Reads a version. The value is copied, so that it never pins a piece.
pub(super) fn decode_version(reader: &mut Reader<'_>) -> Result<Version, Stop> {
    let mod_revision = Revision(number(reader)?);
    let became = match array(reader)? {
        [REMOVED] => Became::Removed,
        [PRESENT] => {
            let (create_revision, version) = (Revision(number(reader)?), number(reader)?);
            let size = array(reader).map(u32::from_le_bytes)?;
            let size_bytes = bounded(size, MAX_VALUE_BYTES).ok_or(Damage::ValueSize { size_bytes: size })?;
            Became::Present { create_revision, version, value: Bytes::copy_from_slice(content(reader, size_bytes)?) }
        }
        [found] => return Err(Damage::VersionKind { found }.into()),
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
