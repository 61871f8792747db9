//! Reading the log back (rule 4, F3 to F5): what is an entry, what is torn, what is damage.
//!
//! Nothing here writes; [`LogScan`] says what `Storage::open` has to mend. The decisions, sector by sector, behind the
//! last valid batch of the last segment:
//!
//! | the next sector holds | and behind it | then |
//! |---|---|---|
//! | its filler | filler to the end of the file | the log ends here |
//! | its filler | something else within the largest batch, no batch header | torn: the header was lost, the rest came |
//! | its filler | a valid batch header, or something beyond the largest batch | damage: a later batch proves this one durable |
//! | the next header | a bad record, and a whole sector of filler in the batch, filler behind it | torn |
//! | the next header | a bad record, and no sector of filler | damage: the write had arrived everywhere |
//! | anything else, or the file ends | | damage: a sector is written whole or not at all |
//!
//! In every segment but the last, only the first row may happen: the next segment proves all batches durable, and
//! says how many there are.
//!
//! Filler that was lost *behind* the end reads as torn within the reach of a batch (nothing is lost, and it is written
//! anew), and as damage beyond, or in the first sector. A step of filler that was interrupted leaves zeros: no batch
//! can have been there, so zeros are mended wherever they are.

use std::collections::VecDeque;

use raft_core::{Entry, LogPosition, Term};

use crate::batch::{BATCH_HEADER_BYTES, BadRecord, BatchHeader, MAX_BATCH_BYTES, Record, read_records};
use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, cannot_open, damaged};
use crate::identity::Identity;
use crate::log::{SegmentSpan, sectors_up};
use crate::segment::{self, FIRST_BATCH_AT, LogEnd, SegmentHeader};
use crate::{SECTOR, SECTOR_BYTES};

/// How much of a segment is read at a time, in bytes, at least.
const WINDOW_BYTES: u64 = 1 << 20;

/// A batch that the power cut while it was being written: nobody was told of it, and it was cut off the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub path: String,
    /// Where the batch began, counted from 0.
    pub offset: u64,
    /// How far its bytes reached, in bytes.
    pub size_bytes: u64,
}

/// The log, as it is on disk.
#[derive(Debug, Default)]
pub(crate) struct LogScan {
    /// Where the log begins: the position before its first entry. The term is 0 if it went with an earlier segment.
    pub(crate) base: LogPosition,
    pub(crate) entries: Vec<Entry>,
    /// The segments, oldest first.
    pub(crate) spans: VecDeque<SegmentSpan>,
    pub(crate) end: LogEnd,
    /// Whether the last batch holds records, so that nothing proves it durable.
    pub(crate) is_unmarked: bool,
    /// Whether segments are gone from its beginning.
    pub(crate) is_compacted: bool,
}

impl LogScan {
    fn last(&self) -> LogPosition {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    /// The file that would have to be there if no snapshot covered the log's beginning.
    pub(crate) fn missing_file<D: Disk>(&self, disk: &D) -> String {
        let before = self.spans.front().and_then(|span| span.number.checked_sub(1)).filter(|_| self.is_compacted);
        disk.describe(&before.map(segment::file_name).unwrap_or_default())
    }
}

/// What the writer must know of the last segment.
#[derive(Debug)]
pub(crate) struct LastSegment {
    pub(crate) header: SegmentHeader,
    /// Where the next batch goes.
    pub(crate) end: u64,
    /// The file's size.
    pub(crate) file_bytes: u64,
    /// The bytes of the last batch, which ends at `end`; none if the segment has no batch. All before is proved durable.
    pub(crate) last_batch: Vec<u8>,
    /// What was cut, if a batch was.
    pub(crate) torn: Option<TornTail>,
}

/// Reads the whole log, which has at least the segments up to `last_known`, and the segment to go on with.
///
/// A compacted log begins with a later segment than the first; whether a snapshot covers what is gone is for the caller
/// to judge. Segments before a gap were on their way out when a crash came.
pub(crate) fn scan<D: Disk>(
    disk: &mut D,
    names: &[String],
    identity: Identity,
    last_known: u64,
) -> Result<(LogScan, LastSegment), OpenError> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_in(name)).collect();
    numbers.sort_unstable();
    let count = numbers.last().copied().unwrap_or(0).max(last_known).max(1);
    let first = (1..=count).rev().take_while(|number| numbers.binary_search(number).is_ok()).last();
    let Some(first) = first else {
        let path = disk.describe(&segment::file_name(count));
        return Err(damaged(path, 0, format!("the segment is missing, though the log has {count}")));
    };
    let mut log = LogScan { is_compacted: first > 1, ..LogScan::default() };
    for number in first..count {
        let end = scan_segment(disk, number, identity, &mut log)?;
        check_ended(&end)?;
    }
    let end = scan_segment(disk, count, identity, &mut log)?;
    Ok((log, judge_tail(end)?))
}

/// A segment, read up to where no valid batch is.
struct SegmentEnd<F> {
    window: Window<F>,
    header: SegmentHeader,
    at: u64,
    /// Where the last valid batch begins; `at` if there is none.
    last_batch_at: u64,
    tail: Tail,
}

fn scan_segment<D: Disk>(
    disk: &mut D,
    number: u64,
    identity: Identity,
    log: &mut LogScan,
) -> Result<SegmentEnd<D::File>, OpenError> {
    let name = segment::file_name(number);
    let path = disk.describe(&name);
    let file = disk.open(&name).map_err(cannot_open("open", path.clone()))?;
    let file = file.ok_or_else(|| damaged(path.clone(), 0, "the segment has gone"))?;
    let mut window = Window::new(file, path)?;
    let is_first = log.spans.is_empty();
    let expected = if is_first && log.is_compacted { None } else { Some(log.end) };
    let header = read_header(&mut window, number, identity, expected)?;
    if is_first {
        log.end = header.start;
        log.base = LogPosition::new(Term(0), header.start.last_index);
    }
    log.end.chain = header.first_chain();
    log.spans.push_back(SegmentSpan::new(number));
    let (mut last_batch_at, mut at) = (FIRST_BATCH_AT, FIRST_BATCH_AT);
    loop {
        match read_batch(&mut window, &header, at, log)? {
            Next::Batch { end } => (last_batch_at, at) = (at, end),
            Next::Tail(tail) => return Ok(SegmentEnd { window, header, at, last_batch_at, tail }),
        }
    }
}

/// A segment that is followed by another has ended. Whether with all its batches, the next one's header tells.
fn check_ended<F>(end: &SegmentEnd<F>) -> Result<(), OpenError> {
    match &end.tail {
        Tail::Filler => Ok(()),
        Tail::BadBatch { bad, .. } => {
            let what = format!("{}, though the next segment proves the batch durable", bad.what);
            Err(damaged(end.window.path.clone(), end.at + bad.in_batch(), what))
        }
    }
}

fn read_header<F: DiskFile>(
    window: &mut Window<F>,
    number: u64,
    expected: Identity,
    log_end: Option<LogEnd>,
) -> Result<SegmentHeader, OpenError> {
    let path = window.path.clone();
    let sector = window.sector(0)?.ok_or_else(|| damaged(path.clone(), 0, "the file ends within its header"))?;
    let header = SegmentHeader::decode(path.clone(), sector)?;
    if header.identity != expected {
        return Err(OpenError::ForeignFile { path, found: header.identity, expected });
    }
    if header.number != number {
        return Err(damaged(path, 56, format!("this is segment {}, under the name of another", header.number)));
    }
    if let Some(log_end) = log_end.filter(|log_end| header.start != *log_end) {
        let what = format!(
            "the segment continues batch {} at index {}, but the segments before end with batch {} at index {}",
            header.start.batch, header.start.last_index, log_end.batch, log_end.last_index
        );
        return Err(damaged(path, 64, what));
    }
    Ok(header)
}

/// What stands at a place of the log.
enum Next {
    /// A valid batch; its records are in the log.
    Batch { end: u64 },
    /// No valid batch.
    Tail(Tail),
}

/// What stands where the next batch would be.
enum Tail {
    /// Its filler.
    Filler,
    /// The next batch's header, but not all of its records.
    BadBatch { header: BatchHeader, bad: BadRecord },
}

/// Reads the batch at byte `at`.
fn read_batch<F: DiskFile>(
    window: &mut Window<F>,
    segment: &SegmentHeader,
    at: u64,
    log: &mut LogScan,
) -> Result<Next, OpenError> {
    let path = window.path.clone();
    let Some(sector) = window.sector(at)? else {
        return Err(damaged(path, at, "the file ends where filler or a batch must be; it was cut short"));
    };
    let Some((header, seed)) = BatchHeader::decode(sector, segment.segment_id) else {
        if segment.filler().is_filler(at, sector) {
            return Ok(Next::Tail(Tail::Filler));
        }
        return Err(damaged(path, at, "here is neither a batch nor filler"));
    };
    check_sequence(&path, &header, at, log.end)?;
    let size_bytes = sectors_up(header.size_bytes());
    if size_bytes > sectors_up(MAX_BATCH_BYTES as u64) {
        return Err(damaged(path, at + 32, "the batch is larger than any batch"));
    }
    let Some(batch) = window.slice(at, size_bytes)? else {
        return Err(damaged(path, at, "the file ends within a batch; it was cut short"));
    };
    let used = usize::try_from(header.size_bytes()).unwrap_or(usize::MAX);
    let mut records = Vec::new();
    let bytes = batch.get(BATCH_HEADER_BYTES..used).unwrap_or_default();
    let chain = match read_records(bytes, header.record_count, seed, &mut records) {
        Ok(chain) => chain,
        Err(bad) if bad.is_intact => {
            return Err(damaged(path, at + bad.in_batch(), bad.what));
        }
        Err(bad) => return Ok(Next::Tail(Tail::BadBatch { header, bad })),
    };
    check_padding(&path, segment, at, batch, used)?;
    log.is_unmarked = !records.is_empty();
    log.end.batch = header.number;
    log.end.chain = chain;
    for record in records {
        replay(log, record).map_err(|what| damaged(path.clone(), at, what))?;
    }
    Ok(Next::Batch { end: at + size_bytes })
}

/// A header that is whole must be the next one.
fn check_sequence(path: &str, header: &BatchHeader, at: u64, end: LogEnd) -> Result<(), OpenError> {
    let what = if header.offset != at {
        format!("this batch belongs to byte {}: the disk put it elsewhere", header.offset)
    } else if header.number != end.batch + 1 {
        format!("this is batch {}, but {} comes next", header.number, end.batch + 1)
    } else if header.chain != end.chain {
        format!("batch {} does not continue the batch before it", header.number)
    } else {
        return Ok(());
    };
    Err(damaged(path.to_owned(), at, what))
}

/// Behind the last record the sector keeps its filler.
fn check_padding(path: &str, segment: &SegmentHeader, at: u64, batch: &[u8], used: usize) -> Result<(), OpenError> {
    let in_last_sector = used % SECTOR_BYTES;
    if in_last_sector == 0 {
        return Ok(());
    }
    let last_sector_at = at + (used - in_last_sector) as u64;
    let filler = segment.filler().sector(last_sector_at);
    if batch.get(used..) == filler.get(in_last_sector..) {
        return Ok(());
    }
    Err(damaged(path.to_owned(), at + used as u64, "the filler behind the batch's last record is not its filler"))
}

/// Does to the entries what the record says.
fn replay(log: &mut LogScan, record: Record) -> Result<(), String> {
    let last = log.last();
    match record {
        Record::Entry(entry) => {
            let position = entry.position;
            if position.index.0.checked_sub(1) != Some(last.index.0) || position.term < last.term {
                return Err(format!("entry {position} cannot follow {last}"));
            }
            log.entries.push(entry);
            if let Some(span) = log.spans.back_mut() {
                span.note(position.index);
            }
        }
        Record::Truncation { from } => {
            if from.0 == 0 || from.0 - 1 > last.index.0 {
                return Err(format!("truncation from {from} of a log that ends at {last}"));
            }
            log.entries.truncate(usize::try_from((from.0 - 1).saturating_sub(log.base.index.0)).unwrap_or(usize::MAX));
            if from <= log.base.index {
                // It reached into segments that are gone. What is committed was not among it, so a snapshot covers that.
                log.base = LogPosition::new(Term(0), from.previous());
            }
        }
        Record::Restart { after } => {
            log.entries.clear();
            log.base = after;
            log.spans.iter_mut().for_each(SegmentSpan::forget_entries);
        }
    }
    log.end.last_index = log.last().index;
    Ok(())
}

/// Decides what stands behind the last valid batch of the last segment: nothing, a torn batch, or damage.
fn judge_tail<F: DiskFile>(segment_end: SegmentEnd<F>) -> Result<LastSegment, OpenError> {
    let SegmentEnd { mut window, header, at: end, last_batch_at, tail } = segment_end;
    let path = window.path.clone();
    let file_bytes = window.file_bytes;
    // A torn batch may have bytes up to here; behind it there was only filler when it was written.
    let reach = match &tail {
        Tail::Filler => end + sectors_up(MAX_BATCH_BYTES as u64),
        Tail::BadBatch { header: batch, bad } => {
            let batch_end = end + sectors_up(batch.size_bytes());
            let has_filler = has_filler_sector(&mut window, &header, end, batch_end)?;
            if !has_filler {
                return Err(damaged(
                    path,
                    end + bad.in_batch(),
                    format!("{}, and no sector of the batch is unwritten", bad.what),
                ));
            }
            batch_end
        }
    };
    let torn_to = read_strays(&mut window, &header, end, reach)?;
    let last_batch = window.slice(last_batch_at, end - last_batch_at)?.unwrap_or_default().to_vec();
    let torn = torn_to.map(|torn_to| TornTail { path, offset: end, size_bytes: torn_to - end });
    Ok(LastSegment { header, end, file_bytes, last_batch, torn })
}

fn has_filler_sector<F: DiskFile>(
    window: &mut Window<F>,
    header: &SegmentHeader,
    from: u64,
    to: u64,
) -> Result<bool, OpenError> {
    let mut at = from;
    while at < to {
        if window.sector(at)?.is_some_and(|sector| header.filler().is_filler(at, sector)) {
            return Ok(true);
        }
        at += SECTOR;
    }
    Ok(false)
}

/// Looks through everything behind `end`: gives the end of the last sector that holds more than filler or zeros, which
/// is part of a torn batch. Zeros are left by an interrupted step of filler.
///
/// # Errors
/// Damage: a later batch, or bytes from `reach` on.
fn read_strays<F: DiskFile>(
    window: &mut Window<F>,
    header: &SegmentHeader,
    end: u64,
    reach: u64,
) -> Result<Option<u64>, OpenError> {
    let path = window.path.clone();
    let mut torn_to = None;
    let mut at = end;
    while let Some(sector) = window.sector(at)? {
        if !header.filler().is_filler(at, sector) {
            let later = BatchHeader::decode(sector, header.segment_id).filter(|_| at > end);
            if let Some((later, _)) = later {
                let number = later.number;
                let what = format!("a batch is lost here: batch {number} at byte {at} proves that it was durable");
                return Err(damaged(path, end, what));
            }
            if sector.iter().any(|&byte| byte != 0) {
                if at >= reach {
                    let what = "here is neither a batch nor filler, and no torn batch reaches this far";
                    return Err(damaged(path, at, what));
                }
                torn_to = Some(at + SECTOR);
            }
        }
        at += SECTOR;
    }
    Ok(torn_to)
}

/// A file, read in large pieces.
struct Window<F> {
    file: F,
    path: String,
    file_bytes: u64,
    /// Where `bytes` begin in the file.
    start: u64,
    bytes: Vec<u8>,
}

impl<F: DiskFile> Window<F> {
    fn new(file: F, path: String) -> Result<Self, OpenError> {
        let file_bytes = file.len().map_err(cannot_open("read", path.clone()))?;
        Ok(Self { file, path, file_bytes, start: 0, bytes: Vec::new() })
    }

    /// The sector at byte `at`; `None` if the file ends before it does.
    fn sector(&mut self, at: u64) -> Result<Option<&[u8; SECTOR_BYTES]>, OpenError> {
        Ok(self.slice(at, SECTOR)?.and_then(<[u8]>::first_chunk))
    }

    /// The bytes from `at` on; `None` if the file ends before they do.
    fn slice(&mut self, at: u64, size_bytes: u64) -> Result<Option<&[u8]>, OpenError> {
        let end = at.saturating_add(size_bytes);
        if end > self.file_bytes {
            return Ok(None);
        }
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let to = end.max(at + WINDOW_BYTES).min(self.file_bytes);
            self.bytes.resize(usize::try_from(to - at).expect("a window fits memory"), 0);
            self.file.read_at(at, &mut self.bytes).map_err(cannot_open("read", self.path.clone()))?;
            self.start = at;
        }
        let from = usize::try_from(at - self.start).expect("within the window");
        let to = usize::try_from(end - self.start).expect("within the window");
        Ok(self.bytes.get(from..to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of the three alone is enough: a disk may put a whole sector elsewhere (F12).
    #[test]
    fn a_batch_has_one_place_one_number_and_one_predecessor() {
        let end = LogEnd { batch: 6, chain: 0xabcd, ..LogEnd::default() };
        let next =
            BatchHeader { segment_id: 1, offset: 1024, number: 7, records_bytes: 0, record_count: 0, chain: 0xabcd };
        let what = |header: BatchHeader| check_sequence("log", &header, 1024, end).map_err(|error| error.to_string());
        assert_eq!(what(next), Ok(()));
        for (header, part) in [
            (BatchHeader { offset: 512, ..next }, "belongs to byte 512"),
            (BatchHeader { number: 6, ..next }, "this is batch 6, but 7 comes next"),
            (BatchHeader { chain: 1, ..next }, "batch 7 does not continue the batch before it"),
        ] {
            assert!(what(header).is_err_and(|error| error.contains(part)), "{part}");
        }
    }
}
