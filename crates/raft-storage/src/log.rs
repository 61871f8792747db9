//! The writer of the log (rule 4, §10.2.1): batches into filled regions, one write and one `fdatasync` each.
//!
//! Invariants:
//! - A batch is written only where filler is durable, so its crash never depends on the file's size changing.
//! - At least one sector of durable filler follows the last batch, so a log that was cut short from outside never
//!   looks like one that ends.
//! - A segment that has its name has a durable header, and the segment before it has ended for good.
//! - New space is needed only for filler and for new segments, before anything is promised: a lack of it is noticed there
//!   ([`WriteError::NoSpace`]), and the log is then as if the call had not been made (F8).

use std::collections::VecDeque;

use raft_core::{Entry, LogIndex, LogPosition, Write};

use crate::batch::{BatchBuilder, MAX_BATCH_BYTES, RESTART_BYTES, TRUNCATION_BYTES, record_bytes};
use crate::disk::{Disk, DiskFile};
use crate::error::{WriteError, cannot_make_room, cannot_write};
use crate::hard_state::HardStateFile;
use crate::identity::Identity;
use crate::segment::{self, FIRST_BATCH_AT, LogEnd, SegmentHeader};
use crate::small_file::{TEMPORARY_SUFFIX, give_name, remove_if_no_room, sync_names};
use crate::storage::RandomSource;
use crate::{SECTOR, SECTOR_BYTES};

/// The smallest size of a segment, in bytes; a smaller setting counts as this one.
pub const MIN_SEGMENT_BYTES: u64 = 4096;

/// How far the segment is filled ahead at a time, in bytes: one sync of filler for that much log.
const FILL_STEP_BYTES: u64 = 1 << 20;

/// What a segment holds: enough to know when nobody needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSpan {
    pub(crate) number: u64,
    /// No entry in it that may still count has a higher index.
    highest: LogIndex,
}

impl SegmentSpan {
    /// Segment `number`, without an entry.
    pub(crate) const fn new(number: u64) -> Self {
        Self { number, highest: LogIndex(0) }
    }

    pub(crate) fn note(&mut self, index: LogIndex) {
        self.highest = self.highest.max(index);
    }

    /// A restart after it made all its entries void.
    pub(crate) const fn forget_entries(&mut self) {
        self.highest = LogIndex(0);
    }
}

/// What a write adds to the log.
enum LogRecord<'a> {
    Restart(LogPosition),
    Truncation(LogIndex),
    Entry(&'a Entry),
}

impl LogRecord<'_> {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Restart(_) => RESTART_BYTES,
            Self::Truncation(_) => TRUNCATION_BYTES,
            Self::Entry(entry) => record_bytes(entry),
        }
    }
}

/// In the order of their effect.
fn records_of(write: &Write) -> impl Iterator<Item = LogRecord<'_>> {
    let restart = write.restart_after.map(LogRecord::Restart);
    let truncation = write.truncate_from.map(LogRecord::Truncation);
    restart.into_iter().chain(truncation).chain(write.entries.iter().map(LogRecord::Entry))
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct ActiveSegment<F> {
    pub(crate) file: F,
    pub(crate) path: String,
    pub(crate) header: SegmentHeader,
    /// Where the next batch goes.
    pub(crate) end: u64,
    /// Up to here the filler behind `end` is durable.
    pub(crate) filled_to: u64,
}

/// What the writer works with and does not own.
pub(crate) struct Surroundings<'a, D: Disk> {
    pub(crate) disk: &'a mut D,
    pub(crate) random: &'a mut RandomSource,
    pub(crate) hard_state: &'a mut HardStateFile<D::File>,
}

/// The end of the log, open for writing.
#[derive(Debug)]
pub(crate) struct LogWriter<F> {
    identity: Identity,
    segment_bytes: u64,
    segment: ActiveSegment<F>,
    /// Where the written batches end.
    end: LogEnd,
    /// The last entry's index, with the records of the open batch.
    last_index: LogIndex,
    /// The segments of the log, the one being written last.
    spans: VecDeque<SegmentSpan>,
    /// The highest index of an entry in the open batch.
    highest_in_batch: LogIndex,
    /// Whether the open batch restarts the log.
    restarts_in_batch: bool,
    /// How many records of the call under way are durable. Not 0 between calls only if one found no space: then it is
    /// made again, and goes on there.
    records_done: usize,
    /// Whether the last batch may hold records: then an empty one behind it proves it durable.
    is_unmarked: bool,
    batch: BatchBuilder,
}

impl<F: DiskFile> LogWriter<F> {
    /// Goes on at the end of a recovered log.
    pub(crate) fn new(
        identity: Identity,
        segment_bytes: u64,
        segment: ActiveSegment<F>,
        end: LogEnd,
        spans: VecDeque<SegmentSpan>,
        is_unmarked: bool,
    ) -> Self {
        let segment_bytes = sectors_up(segment_bytes.max(MIN_SEGMENT_BYTES));
        Self {
            identity,
            segment_bytes,
            segment,
            end,
            last_index: end.last_index,
            spans,
            highest_in_batch: LogIndex(0),
            restarts_in_batch: false,
            records_done: 0,
            is_unmarked,
            batch: BatchBuilder::default(),
        }
    }

    /// Writes the log part of all `writes`; durable on return. One batch, unless they exceed the largest.
    ///
    /// After [`WriteError::NoSpace`] it is to be called again with the same writes; further ones may follow them.
    pub(crate) fn append<D: Disk<File = F>>(
        &mut self,
        mut around: Surroundings<'_, D>,
        writes: &[Write],
    ) -> Result<(), WriteError> {
        let appended = self.append_records(&mut around, writes);
        match appended {
            Ok(()) => self.records_done = 0,
            Err(_) => self.forget_batch(),
        }
        appended
    }

    fn append_records<D: Disk<File = F>>(
        &mut self,
        around: &mut Surroundings<'_, D>,
        writes: &[Write],
    ) -> Result<(), WriteError> {
        self.batch.clear();
        let mut gathered = 0;
        for record in writes.iter().flat_map(records_of).skip(self.records_done) {
            if self.make_room(around, record.size_bytes())? {
                self.records_done += std::mem::take(&mut gathered);
            }
            self.push(&record)?;
            gathered += 1;
        }
        if self.batch.is_empty() { Ok(()) } else { self.write_batch(around) }
    }

    /// What was gathered and not written does not count.
    fn forget_batch(&mut self) {
        self.batch.clear();
        self.last_index = self.end.last_index;
        self.highest_in_batch = LogIndex(0);
        self.restarts_in_batch = false;
    }

    /// Writes an empty batch behind the last, unless that is empty itself, and fills ahead for the next ones.
    pub(crate) fn mark_idle<D: Disk<File = F>>(&mut self, mut around: Surroundings<'_, D>) -> Result<(), WriteError> {
        if self.is_unmarked {
            self.batch.clear();
            self.write_batch(&mut around)?;
        }
        self.segment.fill_ahead(self.segment_bytes)
    }

    fn push(&mut self, record: &LogRecord<'_>) -> Result<(), WriteError> {
        let last = self.last_index;
        match *record {
            LogRecord::Restart(after) => {
                self.batch.push_restart(after);
                self.last_index = after.index;
                self.restarts_in_batch = true;
            }
            LogRecord::Truncation(from) => {
                assert!(from.0 > 0 && from <= last.next(), "truncation from {from} of a log that ends at {last}");
                self.batch.push_truncation(from);
                self.last_index = from.previous();
            }
            LogRecord::Entry(entry) => {
                let index = entry.position.index;
                assert!(index == last.next(), "entry {entry} right after a log that ends at {last}");
                self.batch.push_entry(entry)?;
                self.last_index = index;
                self.highest_in_batch = self.highest_in_batch.max(index);
            }
        }
        Ok(())
    }

    /// Writes down that the log goes on after `base`; durable on return.
    pub(crate) fn restart<D: Disk<File = F>>(
        &mut self,
        mut around: Surroundings<'_, D>,
        base: LogPosition,
    ) -> Result<(), WriteError> {
        self.batch.clear();
        self.push(&LogRecord::Restart(base))?;
        self.write_batch(&mut around)
    }

    /// Removes the segments that hold no entry after `through`, but never the one being written. The oldest goes first:
    /// a crash in between leaves a log that begins later.
    pub(crate) fn compact<D: Disk<File = F>>(&mut self, disk: &mut D, through: LogIndex) -> Result<(), WriteError> {
        let mut has_removed = false;
        while self.spans.len() > 1
            && let Some(oldest) = self.spans.front().filter(|span| span.highest <= through)
        {
            let name = segment::file_name(oldest.number);
            disk.remove(&name).map_err(cannot_write("remove", disk.describe(&name)))?;
            self.spans.pop_front();
            has_removed = true;
        }
        if has_removed { sync_names(disk) } else { Ok(()) }
    }

    /// Writes what is gathered if `more_bytes` would make the batch larger than a segment, or than the largest batch.
    /// Whether it did.
    fn make_room<D: Disk<File = F>>(
        &mut self,
        around: &mut Surroundings<'_, D>,
        more_bytes: usize,
    ) -> Result<bool, WriteError> {
        let in_segment = usize::try_from(self.segment_bytes - FIRST_BATCH_AT - SECTOR).unwrap_or(usize::MAX);
        let limit = in_segment.min(MAX_BATCH_BYTES);
        if self.batch.is_empty() || self.batch.size_bytes() + more_bytes <= limit {
            return Ok(false);
        }
        self.write_batch(around)?;
        self.batch.clear();
        Ok(true)
    }

    fn write_batch<D: Disk<File = F>>(&mut self, around: &mut Surroundings<'_, D>) -> Result<(), WriteError> {
        let size_bytes = sectors_up(self.batch.size_bytes() as u64);
        let is_first = self.segment.end == FIRST_BATCH_AT;
        if !is_first && self.segment.end + size_bytes + SECTOR > self.segment_bytes {
            self.begin_segment(around)?;
        }
        self.segment.make_filled(size_bytes + SECTOR, self.segment_bytes)?;
        let at = self.segment.end;
        let number = self.end.batch + 1;
        let segment_id = self.segment.header.segment_id;
        let (bytes, chain) = self.batch.seal(segment_id, at, number, self.end.chain);
        pad_with_filler(bytes, &self.segment.header, at);
        let path = &self.segment.path;
        self.segment.file.write_at(at, bytes).map_err(cannot_write("write", path.clone()))?;
        self.segment.file.sync_data().map_err(cannot_write("sync", path.clone()))?;
        self.segment.end = at + size_bytes;
        self.end = LogEnd { batch: number, chain, last_index: self.last_index };
        if std::mem::take(&mut self.restarts_in_batch) {
            self.spans.iter_mut().for_each(SegmentSpan::forget_entries);
        }
        if let Some(span) = self.spans.back_mut() {
            span.note(std::mem::take(&mut self.highest_in_batch));
        }
        self.is_unmarked = !self.batch.is_empty();
        Ok(())
    }

    /// Ends the segment and begins the next. On the path of one write in many thousands.
    fn begin_segment<D: Disk<File = F>>(&mut self, around: &mut Surroundings<'_, D>) -> Result<(), WriteError> {
        let number = self.segment.header.number + 1;
        let header = SegmentHeader { identity: self.identity, segment_id: (around.random)(), number, start: self.end };
        self.segment = create_segment(around.disk, header, self.segment_bytes)?;
        // Before anything stands in it: from now on the segment's absence is damage.
        around.hard_state.note_segment(number)?;
        self.end.chain = header.first_chain();
        self.spans.push_back(SegmentSpan::new(number));
        Ok(())
    }
}

impl<F: DiskFile> ActiveSegment<F> {
    /// Makes sure that `size_bytes` of durable filler follow the last batch.
    fn make_filled(&mut self, size_bytes: u64, segment_bytes: u64) -> Result<(), WriteError> {
        let needed = self.end + size_bytes;
        if needed <= self.filled_to {
            return Ok(());
        }
        let stepped = needed.next_multiple_of(FILL_STEP_BYTES).min(segment_bytes);
        self.fill_to(stepped.max(needed))
    }

    /// In a quiet moment: one step of filler more, if less than half a step is left.
    fn fill_ahead(&mut self, segment_bytes: u64) -> Result<(), WriteError> {
        let wanted = (self.end + FILL_STEP_BYTES / 2).min(segment_bytes);
        if wanted <= self.filled_to {
            return Ok(());
        }
        self.fill_to((self.filled_to + FILL_STEP_BYTES).min(segment_bytes))
    }

    /// Fills up to byte `to` of the file; durable on return. If there is no space, what was written of it is written again
    /// the next time.
    fn fill_to(&mut self, to: u64) -> Result<(), WriteError> {
        self.write_filler(self.filled_to, to)?;
        self.filled_to = self.filled_to.max(to);
        Ok(())
    }

    /// Writes the filler of a part of the file and syncs it.
    pub(crate) fn write_filler(&mut self, from: u64, to: u64) -> Result<(), WriteError> {
        let mut buffer = Vec::new();
        let mut at = from;
        while at < to {
            let step_end = to.min(at + FILL_STEP_BYTES);
            buffer.clear();
            self.header.filler().append_to(&mut buffer, at, step_end);
            self.file.write_at(at, &buffer).map_err(cannot_make_room("write", self.path.clone()))?;
            at = step_end;
        }
        // Also a sync may be the first to notice that there is no space: nothing stands there yet.
        self.file.sync_data().map_err(cannot_make_room("sync", self.path.clone()))
    }
}

/// Makes a segment with durable header, first filler and name. If there is no space for it, there is none of it.
pub(crate) fn create_segment<D: Disk>(
    disk: &mut D,
    header: SegmentHeader,
    segment_bytes: u64,
) -> Result<ActiveSegment<D::File>, WriteError> {
    let name = segment::file_name(header.number);
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    let made = fill_segment(disk, &temporary, header, segment_bytes)
        .and_then(|segment| give_name(disk, &temporary, &name).map(|()| segment));
    let mut segment = remove_if_no_room(disk, &temporary, made)?;
    sync_names(disk)?;
    segment.path = disk.describe(&name);
    Ok(segment)
}

fn fill_segment<D: Disk>(
    disk: &mut D,
    temporary: &str,
    header: SegmentHeader,
    segment_bytes: u64,
) -> Result<ActiveSegment<D::File>, WriteError> {
    let path = disk.describe(temporary);
    let mut file = disk.create(temporary).map_err(cannot_make_room("create", path.clone()))?;
    file.write_at(0, &header.encode()).map_err(cannot_make_room("write", path.clone()))?;
    let mut segment = ActiveSegment { file, path, header, end: FIRST_BATCH_AT, filled_to: FIRST_BATCH_AT };
    segment.fill_to(FILL_STEP_BYTES.min(sectors_up(segment_bytes.max(MIN_SEGMENT_BYTES))))?;
    Ok(segment)
}

/// Completes the last sector of a batch that stands at `at` with the filler it has already.
fn pad_with_filler(bytes: &mut Vec<u8>, header: &SegmentHeader, at: u64) {
    let used = bytes.len() % SECTOR_BYTES;
    if used > 0 {
        let last_sector_at = at + (bytes.len() - used) as u64;
        let filler = header.filler().sector(last_sector_at);
        bytes.extend_from_slice(filler.get(used..).unwrap_or_default());
    }
}

/// The next multiple of the sector size.
pub(crate) const fn sectors_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(SECTOR)
}
