//! The writer of the log (rule 4, §10.2.1): batches into filled regions, one write and one `fdatasync` each.
//!
//! Invariants:
//! - A batch is written only where filler is durable, so its crash never depends on the file's size changing.
//! - At least one sector of durable filler follows the last batch, so a log that was cut short from outside never
//!   looks like one that ends.
//! - A segment that has its name has a durable header, and the segment before it has ended for good.

use std::collections::VecDeque;

use raft_core::{Entry, LogIndex, LogPosition, Write};

use crate::batch::{BatchBuilder, MAX_BATCH_BYTES, RESTART_BYTES, TRUNCATION_BYTES, record_bytes};
use crate::disk::{Disk, DiskFile};
use crate::error::{WriteError, cannot_write};
use crate::hard_state::HardStateFile;
use crate::identity::Identity;
use crate::segment::{self, FIRST_BATCH_AT, LogEnd, SegmentHeader};
use crate::small_file::{TEMPORARY_SUFFIX, rename_durably};
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
            is_unmarked,
            batch: BatchBuilder::default(),
        }
    }

    /// Writes the log part of all `writes`; durable on return. One batch, unless they exceed the largest.
    pub(crate) fn append<D: Disk<File = F>>(
        &mut self,
        mut around: Surroundings<'_, D>,
        writes: &[Write],
    ) -> Result<(), WriteError> {
        self.batch.clear();
        for write in writes {
            if let Some(after) = write.restart_after {
                self.push_restart(&mut around, after)?;
            }
            if let Some(from) = write.truncate_from {
                self.push_truncation(&mut around, from)?;
            }
            for entry in &write.entries {
                self.push_entry(&mut around, entry)?;
            }
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        self.write_batch(&mut around)
    }

    /// Writes an empty batch behind the last, unless that is empty itself, and fills ahead for the next ones.
    pub(crate) fn mark_idle<D: Disk<File = F>>(&mut self, mut around: Surroundings<'_, D>) -> Result<(), WriteError> {
        if !self.is_unmarked {
            return Ok(());
        }
        self.batch.clear();
        self.write_batch(&mut around)?;
        self.segment.fill_ahead(self.segment_bytes)
    }

    fn push_truncation<D: Disk<File = F>>(
        &mut self,
        around: &mut Surroundings<'_, D>,
        from: LogIndex,
    ) -> Result<(), WriteError> {
        let last = self.last_index;
        assert!(from.0 > 0 && from <= last.next(), "truncation from {from} of a log that ends at {last}");
        self.make_room(around, TRUNCATION_BYTES)?;
        self.batch.push_truncation(from);
        self.last_index = from.previous();
        Ok(())
    }

    fn push_restart<D: Disk<File = F>>(
        &mut self,
        around: &mut Surroundings<'_, D>,
        after: LogPosition,
    ) -> Result<(), WriteError> {
        self.make_room(around, RESTART_BYTES)?;
        self.batch.push_restart(after);
        self.last_index = after.index;
        self.spans.iter_mut().for_each(SegmentSpan::forget_entries);
        Ok(())
    }

    /// Writes down that the log goes on after `base`; durable on return.
    pub(crate) fn restart<D: Disk<File = F>>(
        &mut self,
        mut around: Surroundings<'_, D>,
        base: LogPosition,
    ) -> Result<(), WriteError> {
        self.batch.clear();
        self.push_restart(&mut around, base)?;
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
        if has_removed { disk.sync_directory().map_err(cannot_write("sync", disk.describe(""))) } else { Ok(()) }
    }

    fn push_entry<D: Disk<File = F>>(
        &mut self,
        around: &mut Surroundings<'_, D>,
        entry: &Entry,
    ) -> Result<(), WriteError> {
        let last = self.last_index;
        assert!(entry.position.index == last.next(), "entry {entry} right after a log that ends at {last}");
        self.make_room(around, record_bytes(entry))?;
        self.batch.push_entry(entry)?;
        self.last_index = entry.position.index;
        self.highest_in_batch = self.highest_in_batch.max(entry.position.index);
        Ok(())
    }

    /// Writes what is gathered if `more_bytes` would make the batch larger than a segment, or than the largest batch.
    fn make_room<D: Disk<File = F>>(
        &mut self,
        around: &mut Surroundings<'_, D>,
        more_bytes: usize,
    ) -> Result<(), WriteError> {
        let in_segment = usize::try_from(self.segment_bytes - FIRST_BATCH_AT - SECTOR).unwrap_or(usize::MAX);
        let limit = in_segment.min(MAX_BATCH_BYTES);
        if self.batch.is_empty() || self.batch.size_bytes() + more_bytes <= limit {
            return Ok(());
        }
        self.write_batch(around)?;
        self.batch.clear();
        Ok(())
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

    /// Fills up to byte `to` of the file; durable on return.
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
            self.file.write_at(at, &buffer).map_err(cannot_write("write", self.path.clone()))?;
            at = step_end;
        }
        self.file.sync_data().map_err(cannot_write("sync", self.path.clone()))
    }
}

/// Makes a segment with durable header, first filler and name.
pub(crate) fn create_segment<D: Disk>(
    disk: &mut D,
    header: SegmentHeader,
    segment_bytes: u64,
) -> Result<ActiveSegment<D::File>, WriteError> {
    let name = segment::file_name(header.number);
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    let path = disk.describe(&temporary);
    let mut file = disk.create(&temporary).map_err(cannot_write("create", path.clone()))?;
    file.write_at(0, &header.encode()).map_err(cannot_write("write", path.clone()))?;
    let mut segment = ActiveSegment { file, path, header, end: FIRST_BATCH_AT, filled_to: FIRST_BATCH_AT };
    segment.fill_to(FILL_STEP_BYTES.min(sectors_up(segment_bytes.max(MIN_SEGMENT_BYTES))))?;
    rename_durably(disk, &temporary, &name)?;
    segment.path = disk.describe(&name);
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
