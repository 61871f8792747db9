//! Short names for what the tests write.

use bytes::Bytes;
use raft_core::{ClusterTime, Entry, HardState, LogIndex, LogPosition, NodeId, Payload, Term, Write, WriteNumber};
use raft_storage::{Contents, MemDisk, OpenError, Options, Recovered, Storage, read_log};

pub(crate) const SECTOR: usize = 512;

/// The first segment's file.
pub(crate) const FIRST_SEGMENT: &str = "log-00000000000000000001";
/// The second segment's file.
pub(crate) const SECOND_SEGMENT: &str = "log-00000000000000000002";

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Options of node 1 with a seeded source of ids, so that a failing test fails again.
pub(crate) fn options(seed: u64) -> Options {
    let mut state = u128::from(seed) << 64 | 0x9e37_79b9_7f4a_7c15;
    let random = move || {
        state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        state ^ (state >> 61)
    };
    Options { random: Box::new(random), ..Options::new(node(1)) }
}

/// Options with small segments.
pub(crate) fn small_segments(seed: u64, segment_size_bytes: u64) -> Options {
    Options { segment_size_bytes, ..options(seed) }
}

pub(crate) fn command(term: u64, index: u64, bytes: &[u8]) -> Entry {
    Entry {
        position: LogPosition::new(Term(term), LogIndex(index)),
        stamp: ClusterTime(index * 1_000),
        payload: Payload::Command(Bytes::copy_from_slice(bytes)),
    }
}

/// An entry of term 1 whose payload has `size` bytes, none of them alike for long.
pub(crate) fn sized(index: u64, size: usize) -> Entry {
    let bytes: Vec<u8> =
        (0..size).map(|at| (at as u64 * 31 + at as u64 / 256 + index * 7 + 1).to_le_bytes()[0]).collect();
    command(1, index, &bytes)
}

/// A write of `entries`, with the hard state that knows their term.
pub(crate) fn write(number: u64, entries: &[Entry]) -> Write {
    let hard_state = entries.last().map(|last| HardState { term: last.position.term, voted_for: None });
    Write {
        number: WriteNumber(number),
        hard_state,
        restart_after: None,
        truncate_from: None,
        entries: entries.to_vec(),
    }
}

/// Appends `entries` as one batch.
pub(crate) fn append(storage: &mut Storage<MemDisk>, entries: &[Entry]) {
    storage.append(&[write(1, entries)]).unwrap();
}

/// How many sectors a batch of `entries` (commands) has: header of 48 bytes, 33 bytes a record.
pub(crate) fn batch_sectors(entries: &[Entry]) -> usize {
    let records: usize = entries.iter().map(|entry| entry.size_bytes() - 32 + 33).sum();
    (48 + records).div_ceil(SECTOR)
}

/// Opens, which must succeed.
pub(crate) fn reopen(disk: &MemDisk, seed: u64) -> (Storage<MemDisk>, Recovered) {
    Storage::open(disk.clone(), small_segments(seed, 8192)).unwrap()
}

/// A log of three batches in one segment of 8 KiB: one sector, four sectors, three sectors.
pub(crate) struct ThreeBatches {
    pub(crate) disk: MemDisk,
    pub(crate) entries: [Entry; 3],
    /// The segment before the last batch was written.
    pub(crate) before_last: Vec<u8>,
    /// The segment.
    pub(crate) image: Vec<u8>,
    /// Where each batch begins, and where the last ends.
    pub(crate) bounds: [usize; 4],
}

pub(crate) fn three_batches() -> ThreeBatches {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    let entries = [sized(1, 100), sized(2, 1_700), sized(3, 1_300)];
    append(&mut storage, &entries[..1]);
    append(&mut storage, &entries[1..2]);
    let before_last = disk.contents(FIRST_SEGMENT).unwrap();
    append(&mut storage, &entries[2..]);
    let image = disk.contents(FIRST_SEGMENT).unwrap();
    assert_eq!((before_last.len(), image.len()), (8192, 8192));
    let mut bounds = [SECTOR; 4];
    for batch in 0..3 {
        bounds[batch + 1] = bounds[batch] + SECTOR * batch_sectors(&entries[batch..=batch]);
    }
    assert_eq!(bounds, [512, 1024, 3072, 4608]);
    ThreeBatches { disk, entries, before_last, image, bounds }
}

impl ThreeBatches {
    /// Another disk with `image` as its log.
    pub(crate) fn with_image(&self, image: &[u8]) -> MemDisk {
        let disk = self.disk.copy();
        disk.set_contents(FIRST_SEGMENT, image.to_vec());
        disk
    }
}

/// What the disk holds, or the error; checks that opening and only reading judge alike, and that a refusal changed
/// nothing.
pub(crate) fn recover(disk: &MemDisk) -> Result<Recovered, OpenError> {
    let calls = disk.calls();
    let read: Result<Contents, OpenError> = read_log(disk.clone());
    assert_eq!(disk.calls(), calls, "reading changes nothing");
    match (Storage::open(disk.clone(), small_segments(99, 8192)), read) {
        (Ok((_, recovered)), Ok(contents)) => {
            assert_eq!(recovered.entries, contents.entries);
            assert_eq!(recovered.torn, contents.torn);
            Ok(recovered)
        }
        (Err(error), Err(other)) => {
            assert_eq!(error.to_string(), other.to_string());
            assert_eq!(disk.calls(), calls, "a refusal changes nothing");
            Err(error)
        }
        (opened, read) => panic!("opening gives {opened:?}, reading {read:?}"),
    }
}

/// The file and offset of the damage that opening must report.
pub(crate) fn damage(disk: &MemDisk) -> (String, u64) {
    match recover(disk) {
        Err(OpenError::Damaged { path, offset, .. }) => (path, offset),
        other => panic!("expected damage, got {other:?}"),
    }
}

/// After a cut the log must take new entries and keep them over the next start (F4).
pub(crate) fn check_goes_on(disk: &MemDisk, entries: &[Entry]) {
    let (mut storage, recovered) = reopen(disk, 1_000);
    assert_eq!(recovered.entries, entries);
    assert_eq!(recovered.torn, None, "a torn tail is cut once");
    let next = sized(entries.len() as u64 + 1, 700);
    append(&mut storage, std::slice::from_ref(&next));
    drop(storage);
    disk.crash(|_, _| 0);
    let (_, recovered) = reopen(disk, 1_001);
    let expected: Vec<Entry> = entries.iter().cloned().chain([next]).collect();
    assert_eq!(recovered.entries, expected);
}
