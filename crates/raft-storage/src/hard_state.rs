//! Term, vote and incarnation (Figure 3.1; rules 3 and 5): the file `hard-state`.
//!
//! Two slots of one sector each, in different 4 KiB blocks. A write fills both before the one `fdatasync` that makes
//! it count; a crash in between leaves each slot old or new, and the newer valid one wins. Either answer is honest:
//! nobody was told of the new one yet. Recovery writes both again before the server acts, so that one bad slot never
//! meets a second one.
//!
//! It also counts the log's segments: a last segment that went missing leaves no other trace.
//!
//! ```text
//! offset  bytes  field (slot 0 at byte 0, slot 1 at byte 4096)
//!      0      8  magic "raftd-hs"
//!      8      4  format version
//!     12      4  1 if there is a vote, else 0
//!     16     24  identity
//!     40      8  sequence number: rises by one with each write
//!     48      8  term
//!     56      8  vote (0 if there is none)
//!     64      8  incarnation
//!     72      8  number of the log's last segment
//!     80    428  zeros
//!    508      4  CRC-32C of bytes 0..508
//! ```

use raft_core::{HardState, Incarnation, NodeId, Term};

use crate::codec::{Fields, put_at};
use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, WriteError, cannot_open, cannot_write, damaged};
use crate::identity::Identity;
use crate::{SECTOR, SECTOR_BYTES};

pub(crate) const FILE_NAME: &str = "hard-state";

const MAGIC: [u8; 8] = *b"raftd-hs";
const VERSION: u32 = 1;
const CRC_AT: usize = SECTOR_BYTES - 4;

/// Where the slots begin. Different blocks: whatever spoils one 4 KiB block spares the other slot.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) identity: Identity,
    pub(crate) sequence: u64,
    pub(crate) hard_state: HardState,
    pub(crate) incarnation: Incarnation,
    /// The log has at least the segments up to this number.
    pub(crate) last_segment: u64,
}

/// Why a slot does not count.
enum BadSlot {
    Damaged(String),
    UnknownVersion(u32),
}

impl Slot {
    pub(crate) fn encode(&self) -> [u8; SECTOR_BYTES] {
        let vote = self.hard_state.voted_for;
        let mut bytes = [0; SECTOR_BYTES];
        put_at(&mut bytes, 0, &MAGIC);
        put_at(&mut bytes, 8, &VERSION.to_le_bytes());
        put_at(&mut bytes, 12, &u32::from(vote.is_some()).to_le_bytes());
        put_at(&mut bytes, 16, &self.identity.encode());
        put_at(&mut bytes, 40, &self.sequence.to_le_bytes());
        put_at(&mut bytes, 48, &self.hard_state.term.0.to_le_bytes());
        put_at(&mut bytes, 56, &vote.map_or(0, NodeId::as_u64).to_le_bytes());
        put_at(&mut bytes, 64, &self.incarnation.0.to_le_bytes());
        put_at(&mut bytes, 72, &self.last_segment.to_le_bytes());
        let crc = crc32c::crc32c(bytes.get(..CRC_AT).unwrap_or_default());
        put_at(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SECTOR_BYTES]) -> Result<Self, BadSlot> {
        let (covered, stated) = bytes.split_at(CRC_AT);
        let computed = crc32c::crc32c(covered);
        if stated != computed.to_le_bytes() {
            return Err(BadSlot::Damaged(format!(
                "its bytes give the checksum {computed:08x}, which it does not have"
            )));
        }
        let mut fields = Fields::new(covered);
        if fields.take_array() != Some(MAGIC) {
            return Err(BadSlot::Damaged("it does not begin as a hard state".to_owned()));
        }
        match fields.take_u32() {
            Some(VERSION) => {}
            other => return Err(BadSlot::UnknownVersion(other.unwrap_or_default())),
        }
        Self::take(&mut fields).ok_or_else(|| BadSlot::Damaged("its fields make no sense".to_owned()))
    }

    fn take(fields: &mut Fields<'_>) -> Option<Self> {
        let has_vote = fields.take_u32()?;
        let identity = Identity::take(fields)?;
        let sequence = fields.take_u64()?;
        let term = Term(fields.take_u64()?);
        let voted_for = match (has_vote, NodeId::new(fields.take_u64()?)) {
            (0, None) => None,
            (1, Some(vote)) => Some(vote),
            _ => return None,
        };
        let incarnation = Incarnation(fields.take_u64()?);
        let last_segment = fields.take_u64()?;
        Some(Self { identity, sequence, hard_state: HardState { term, voted_for }, incarnation, last_segment })
    }
}

/// Reads both slots; the newer valid one. `None` if there is no such file.
pub(crate) fn read<D: Disk>(disk: &mut D) -> Result<Option<Slot>, OpenError> {
    let path = disk.describe(FILE_NAME);
    let Some(file) = disk.open(FILE_NAME).map_err(cannot_open("open", path.clone()))? else { return Ok(None) };
    let size_bytes = file.len().map_err(cannot_open("read", path.clone()))?;
    let mut newest: Option<Slot> = None;
    let mut problems = Vec::new();
    for offset in SLOT_OFFSETS {
        if size_bytes < offset + SECTOR {
            problems.push("the file ends before it".to_owned());
            continue;
        }
        let mut bytes = [0; SECTOR_BYTES];
        file.read_at(offset, &mut bytes).map_err(cannot_open("read", path.clone()))?;
        match Slot::decode(&bytes) {
            Ok(slot) if newest.is_none_or(|other| other.sequence < slot.sequence) => newest = Some(slot),
            Ok(_) => {}
            Err(BadSlot::UnknownVersion(found)) => {
                return Err(OpenError::UnknownVersion { path, found, supported: VERSION });
            }
            Err(BadSlot::Damaged(what)) => problems.push(what),
        }
    }
    if newest.is_none() {
        return Err(damaged(path, 0, format!("neither slot holds a hard state: {}", problems.join("; "))));
    }
    Ok(newest)
}

/// The open file, and what it holds durably.
#[derive(Debug)]
pub(crate) struct HardStateFile<F> {
    file: F,
    path: String,
    durable: Slot,
}

impl<F: DiskFile> HardStateFile<F> {
    /// Makes the file of a new directory: the first slot contents, synced. Its name is not durable yet.
    pub(crate) fn create<D: Disk<File = F>>(disk: &mut D, first: Slot) -> Result<Self, WriteError> {
        let path = disk.describe(FILE_NAME);
        let file = disk.create(FILE_NAME).map_err(cannot_write("create", path.clone()))?;
        let mut created = Self { file, path, durable: first };
        created.write_slots(first)?;
        Ok(created)
    }

    /// Opens the file whose content [`read`] gave as `durable`.
    pub(crate) fn open<D: Disk<File = F>>(disk: &mut D, durable: Slot) -> Result<Self, OpenError> {
        let path = disk.describe(FILE_NAME);
        let file = disk.open(FILE_NAME).map_err(cannot_open("open", path.clone()))?;
        let file = file.ok_or_else(|| damaged(path.clone(), 0, "the file has gone"))?;
        Ok(Self { file, path, durable })
    }

    pub(crate) const fn durable(&self) -> Slot {
        self.durable
    }

    /// Writes a new hard state; durable on return. One already durable costs nothing.
    pub(crate) fn write(&mut self, hard_state: HardState) -> Result<(), WriteError> {
        if hard_state == self.durable.hard_state {
            return Ok(());
        }
        self.write_slots(Slot { hard_state, sequence: self.durable.sequence + 1, ..self.durable })
    }

    /// Notes that the log has begun a segment.
    pub(crate) fn note_segment(&mut self, last_segment: u64) -> Result<(), WriteError> {
        self.write_slots(Slot { last_segment, sequence: self.durable.sequence + 1, ..self.durable })
    }

    /// Counts one start more, and thereby writes both slots anew.
    pub(crate) fn begin_incarnation(&mut self, last_segment: u64) -> Result<(), WriteError> {
        let incarnation = Incarnation(self.durable.incarnation.0 + 1);
        let sequence = self.durable.sequence + 1;
        self.write_slots(Slot { incarnation, last_segment, sequence, ..self.durable })
    }

    fn write_slots(&mut self, slot: Slot) -> Result<(), WriteError> {
        let bytes = slot.encode();
        for offset in SLOT_OFFSETS {
            self.file.write_at(offset, &bytes).map_err(cannot_write("write", self.path.clone()))?;
        }
        self.file.sync_data().map_err(cannot_write("sync", self.path.clone()))?;
        self.durable = slot;
        Ok(())
    }
}
