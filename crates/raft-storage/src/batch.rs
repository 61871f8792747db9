//! What one `fdatasync` makes durable (rule 4): a batch of records.
//!
//! A batch begins on a sector boundary; behind its last record the sector keeps its filler.
//! ```text
//! offset  bytes  field of the batch header
//!      0     16  segment id
//!     16      8  byte offset of this header in the file
//!     24      8  batch number: rises by one through all segments
//!     32      4  size of the records in bytes
//!     36      4  count of records
//!     40      4  chain: the running checksum so far (at a segment's start the CRC-32C of its id)
//!     44      4  CRC-32C of bytes 0..44
//!     48         records
//!
//! offset  bytes  field of a record
//!      0      4  CRC-32C of the rest of the record, seeded with the CRC before: the previous record's, or the header's
//!      4      4  n, size of the body in bytes
//!      8      1  kind: 1 no-op, 2 command, 3 configuration, 4 truncation, 5 restart
//!      9      n  body
//! ```
//! Body of an entry (kinds 1 to 3): term (8), index (8), stamp (8), payload. Body of a truncation: the index (8) from
//! which on entries are forgotten. Body of a restart: the position (term 8, index 8) of the last entry that a snapshot
//! covers, after which the log goes on: all entries before the record are forgotten.
//!
//! The running checksum never passes over a checksum's own bytes: CRC(m · CRC(m)) is a constant, and the chain would
//! forget all before it.

use bytes::Bytes;
use raft_core::{ClusterTime, Entry, LogIndex, LogPosition, Payload, Term};

use crate::codec::{Fields, put_at};
use crate::configuration::{encode_configuration, take_configuration};
use crate::error::WriteError;

/// The largest payload of an entry, in bytes: the largest request of a client.
pub const MAX_ENTRY_BYTES: usize = 2 << 20;

/// The largest batch, in bytes: bounds what recovery reads at once, and how far a torn tail can reach.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

pub(crate) const BATCH_HEADER_BYTES: usize = 48;
const BATCH_CRC_AT: usize = 44;
const RECORD_HEADER_BYTES: usize = 9;
const RECORD_CRC_BYTES: usize = 4;
const ENTRY_FIELDS_BYTES: usize = 24;

/// How many bytes a truncation takes in a batch.
pub(crate) const TRUNCATION_BYTES: usize = RECORD_HEADER_BYTES + 8;

/// How many bytes a restart takes in a batch.
pub(crate) const RESTART_BYTES: usize = RECORD_HEADER_BYTES + 16;

const KIND_NOOP: u8 = 1;
const KIND_COMMAND: u8 = 2;
const KIND_CONFIGURATION: u8 = 3;
const KIND_TRUNCATION: u8 = 4;
const KIND_RESTART: u8 = 5;

/// The first bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) segment_id: u128,
    pub(crate) offset: u64,
    pub(crate) number: u64,
    pub(crate) records_bytes: u32,
    pub(crate) record_count: u32,
    pub(crate) chain: u32,
}

impl BatchHeader {
    /// The header, and its checksum: the seed of the first record.
    fn encode(&self) -> ([u8; BATCH_HEADER_BYTES], u32) {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        put_at(&mut bytes, 0, &self.segment_id.to_le_bytes());
        put_at(&mut bytes, 16, &self.offset.to_le_bytes());
        put_at(&mut bytes, 24, &self.number.to_le_bytes());
        put_at(&mut bytes, 32, &self.records_bytes.to_le_bytes());
        put_at(&mut bytes, 36, &self.record_count.to_le_bytes());
        put_at(&mut bytes, 40, &self.chain.to_le_bytes());
        let crc = crc32c::crc32c(bytes.get(..BATCH_CRC_AT).unwrap_or_default());
        put_at(&mut bytes, BATCH_CRC_AT, &crc.to_le_bytes());
        (bytes, crc)
    }

    /// The header at the start of `sector`, and its checksum; `None` if there is none of this segment.
    pub(crate) fn decode(sector: &[u8], segment_id: u128) -> Option<(Self, u32)> {
        let mut fields = Fields::new(sector);
        if fields.take_u128()? != segment_id {
            return None;
        }
        let header = Self {
            segment_id,
            offset: fields.take_u64()?,
            number: fields.take_u64()?,
            records_bytes: fields.take_u32()?,
            record_count: fields.take_u32()?,
            chain: fields.take_u32()?,
        };
        let crc = crc32c::crc32c(sector.get(..BATCH_CRC_AT)?);
        (fields.take_u32()? == crc).then_some((header, crc))
    }

    /// Size of header and records, in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        (BATCH_HEADER_BYTES as u64) + u64::from(self.records_bytes)
    }
}

/// One record, read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Entry(Entry),
    Truncation { from: LogIndex },
    Restart { after: LogPosition },
}

/// Why records cannot be read, and where, counted from their start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadRecord {
    pub(crate) at: usize,
    pub(crate) what: &'static str,
    /// Whether the bytes are those that were written, and only make no sense. Such a batch is never torn.
    pub(crate) is_intact: bool,
}

impl BadRecord {
    /// Where the record is, counted from the start of its batch.
    pub(crate) const fn in_batch(&self) -> u64 {
        (BATCH_HEADER_BYTES + self.at) as u64
    }
}

/// Reads the `count` records in `bytes` into `records`; gives the running checksum behind them.
pub(crate) fn read_records(bytes: &[u8], count: u32, seed: u32, records: &mut Vec<Record>) -> Result<u32, BadRecord> {
    let mut fields = Fields::new(bytes);
    let mut chain = seed;
    let mut at = 0;
    for _ in 0..count {
        let bad = |what, is_intact| BadRecord { at, what, is_intact };
        let covered = bytes.get(at + RECORD_CRC_BYTES..).unwrap_or_default();
        let header = (fields.take_u32(), fields.take_u32(), fields.take_u8());
        let (Some(stated), Some(body_bytes), Some(kind)) = header else {
            return Err(bad("the batch ends within a record", false));
        };
        let body_bytes = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        let body = fields.take_bytes(body_bytes).ok_or_else(|| bad("a record is longer than its batch", false))?;
        let covered_bytes = RECORD_HEADER_BYTES - RECORD_CRC_BYTES + body.len();
        chain = crc32c::crc32c_append(chain, covered.get(..covered_bytes).unwrap_or_default());
        if chain != stated {
            return Err(bad("a record's checksum does not continue the chain", false));
        }
        records.push(decode_record(kind, body).ok_or_else(|| bad("a record is of no known kind or form", true))?);
        at += RECORD_HEADER_BYTES + body.len();
    }
    if fields.is_empty() {
        Ok(chain)
    } else {
        Err(BadRecord { at, what: "bytes follow the last record", is_intact: true })
    }
}

fn decode_record(kind: u8, body: &[u8]) -> Option<Record> {
    let mut fields = Fields::new(body);
    if kind == KIND_TRUNCATION {
        let from = LogIndex(fields.take_u64()?);
        return fields.is_empty().then_some(Record::Truncation { from });
    }
    let position = LogPosition::new(Term(fields.take_u64()?), LogIndex(fields.take_u64()?));
    if kind == KIND_RESTART {
        return fields.is_empty().then_some(Record::Restart { after: position });
    }
    let stamp = ClusterTime(fields.take_u64()?);
    let payload = match kind {
        KIND_NOOP => Payload::Noop,
        // A copy: a small command must not keep a whole segment in memory.
        KIND_COMMAND => Payload::Command(Bytes::copy_from_slice(fields.take_rest())),
        KIND_CONFIGURATION => Payload::Configuration(take_configuration(&mut fields)?),
        _ => return None,
    };
    fields.is_empty().then_some(Record::Entry(Entry { position, stamp, payload }))
}

/// Builds one batch in a buffer that is used again and again. Payloads are copied once, into it.
#[derive(Debug, Default)]
pub(crate) struct BatchBuilder {
    /// Room for the header, then the records with their checksums still open.
    buffer: Vec<u8>,
    record_count: u32,
    /// Where each record starts in the buffer.
    starts: Vec<usize>,
}

impl BatchBuilder {
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.resize(BATCH_HEADER_BYTES, 0);
        self.record_count = 0;
        self.starts.clear();
    }

    /// Header and records so far.
    pub(crate) const fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    pub(crate) fn push_truncation(&mut self, from: LogIndex) {
        self.push(KIND_TRUNCATION, |body| body.extend_from_slice(&from.0.to_le_bytes()));
    }

    pub(crate) fn push_restart(&mut self, after: LogPosition) {
        self.push(KIND_RESTART, |body| {
            body.extend_from_slice(&after.term.0.to_le_bytes());
            body.extend_from_slice(&after.index.0.to_le_bytes());
        });
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`WriteError::EntryTooLarge`]; the builder is as before.
    pub(crate) fn push_entry(&mut self, entry: &Entry) -> Result<(), WriteError> {
        let payload_bytes = record_bytes(entry) - RECORD_HEADER_BYTES - ENTRY_FIELDS_BYTES;
        if payload_bytes > MAX_ENTRY_BYTES {
            let (position, limit_bytes) = (entry.position, MAX_ENTRY_BYTES);
            return Err(WriteError::EntryTooLarge { position, size_bytes: payload_bytes, limit_bytes });
        }
        let kind = match &entry.payload {
            Payload::Noop => KIND_NOOP,
            Payload::Command(_) => KIND_COMMAND,
            Payload::Configuration(_) => KIND_CONFIGURATION,
        };
        self.push(kind, |body| {
            body.extend_from_slice(&entry.position.term.0.to_le_bytes());
            body.extend_from_slice(&entry.position.index.0.to_le_bytes());
            body.extend_from_slice(&entry.stamp.0.to_le_bytes());
            match &entry.payload {
                Payload::Noop => {}
                Payload::Command(command) => body.extend_from_slice(command),
                Payload::Configuration(configuration) => encode_configuration(configuration, body),
            }
        });
        Ok(())
    }

    fn push(&mut self, kind: u8, write_body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        write_body(&mut self.buffer);
        let body_bytes = u32::try_from(self.buffer.len() - start - RECORD_HEADER_BYTES).expect("a batch is small");
        put_at(&mut self.buffer, start + 4, &body_bytes.to_le_bytes());
        put_at(&mut self.buffer, start + 8, &[kind]);
        self.starts.push(start);
        self.record_count += 1;
    }

    /// Closes the batch at its place: computes all checksums. Gives its bytes, to be padded with filler, and the
    /// running checksum behind it.
    pub(crate) fn seal(&mut self, segment_id: u128, offset: u64, number: u64, chain: u32) -> (&mut Vec<u8>, u32) {
        let records_bytes = u32::try_from(self.buffer.len() - BATCH_HEADER_BYTES).expect("a batch is small");
        let header = BatchHeader { segment_id, offset, number, records_bytes, record_count: self.record_count, chain };
        let (bytes, mut running) = header.encode();
        put_at(&mut self.buffer, 0, &bytes);
        for (position, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(position + 1).copied().unwrap_or(self.buffer.len());
            let covered = self.buffer.get(start + RECORD_CRC_BYTES..end).unwrap_or_default();
            running = crc32c::crc32c_append(running, covered);
            put_at(&mut self.buffer, start, &running.to_le_bytes());
        }
        (&mut self.buffer, running)
    }
}

/// How many bytes an entry takes in a batch.
pub(crate) fn record_bytes(entry: &Entry) -> usize {
    let payload_bytes = match &entry.payload {
        Payload::Noop => 0,
        Payload::Command(command) => command.len(),
        Payload::Configuration(configuration) => {
            let mut bytes = Vec::new();
            encode_configuration(configuration, &mut bytes);
            bytes.len()
        }
    };
    RECORD_HEADER_BYTES + ENTRY_FIELDS_BYTES + payload_bytes
}
