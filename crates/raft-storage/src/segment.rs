//! One file of the log: its name and its first sector (rule 4).
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic "raftdlog"
//!      8      4  format version
//!     12      4  chain: the running checksum at the end of the segment before (0 in the first)
//!     16     24  identity
//!     40     16  segment id: random, and never told to anybody
//!     56      8  segment number, from 1
//!     64      8  number of the last batch before this segment (0: none)
//!     72      8  index of the last entry before this segment (0: none)
//!     80    428  zeros
//!    508      4  CRC-32C of bytes 0..508
//!    512         batches, then filler to the end; at least one sector of it
//! ```
//! A segment is made under a temporary name with its header and its first filler, synced, and renamed into place: a
//! segment that has its name has its header. The header repeats where the segment before ends, so a segment that is
//! missing, or was cut, or is of another log is noticed.

use raft_core::LogIndex;

use crate::codec::{Fields, put_at};
use crate::error::{OpenError, damaged};
use crate::filler::Filler;
use crate::identity::Identity;
use crate::{SECTOR, SECTOR_BYTES};

const MAGIC: [u8; 8] = *b"raftdlog";
const VERSION: u32 = 1;
const CRC_AT: usize = SECTOR_BYTES - 4;
const NAME_PREFIX: &str = "log-";
const NAME_DIGITS: usize = 20;

/// Where the first batch of a segment stands.
pub(crate) const FIRST_BATCH_AT: u64 = SECTOR;

/// The first sector of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    pub(crate) segment_id: u128,
    /// Counted from 1.
    pub(crate) number: u64,
    /// Where the log stood when the segment was begun.
    pub(crate) start: LogEnd,
}

/// Where a log ends: what the next batch continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// The last batch's number.
    pub(crate) batch: u64,
    /// The running checksum.
    pub(crate) chain: u32,
    /// The last entry's index.
    pub(crate) last_index: LogIndex,
}

impl SegmentHeader {
    pub(crate) const fn filler(&self) -> Filler {
        Filler::new(self.segment_id)
    }

    /// What the first batch's checksums are seeded with.
    pub(crate) fn first_chain(&self) -> u32 {
        crc32c::crc32c(&self.segment_id.to_le_bytes())
    }

    pub(crate) fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut bytes = [0; SECTOR_BYTES];
        put_at(&mut bytes, 0, &MAGIC);
        put_at(&mut bytes, 8, &VERSION.to_le_bytes());
        put_at(&mut bytes, 12, &self.start.chain.to_le_bytes());
        put_at(&mut bytes, 16, &self.identity.encode());
        put_at(&mut bytes, 40, &self.segment_id.to_le_bytes());
        put_at(&mut bytes, 56, &self.number.to_le_bytes());
        put_at(&mut bytes, 64, &self.start.batch.to_le_bytes());
        put_at(&mut bytes, 72, &self.start.last_index.0.to_le_bytes());
        let crc = crc32c::crc32c(bytes.get(..CRC_AT).unwrap_or_default());
        put_at(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }

    /// Reads the first sector of the file at `path`.
    pub(crate) fn decode(path: String, bytes: &[u8; SECTOR_BYTES]) -> Result<Self, OpenError> {
        let (covered, stated) = bytes.split_at(CRC_AT);
        if stated != crc32c::crc32c(covered).to_le_bytes() {
            return Err(damaged(path, 0, "the segment's header has a wrong checksum"));
        }
        let mut fields = Fields::new(covered);
        if fields.take_array() != Some(MAGIC) {
            return Err(damaged(path, 0, "this is not the header of a log segment"));
        }
        match fields.take_u32() {
            Some(VERSION) => {}
            other => {
                let found = other.unwrap_or_default();
                return Err(OpenError::UnknownVersion { path, found, supported: VERSION });
            }
        }
        Self::take(&mut fields).ok_or_else(|| damaged(path, 12, "the header's fields make no sense"))
    }

    fn take(fields: &mut Fields<'_>) -> Option<Self> {
        let chain = fields.take_u32()?;
        let identity = Identity::take(fields)?;
        let segment_id = fields.take_u128()?;
        let number = fields.take_u64()?;
        let batch = fields.take_u64()?;
        let last_index = LogIndex(fields.take_u64()?);
        Some(Self { identity, segment_id, number, start: LogEnd { batch, chain, last_index } })
    }
}

/// The file name of segment `number`; names sort as numbers do.
pub(crate) fn file_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:0NAME_DIGITS$}")
}

/// The segment number in a file name; `None` for any other file.
pub(crate) fn number_in(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    let is_number = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}
