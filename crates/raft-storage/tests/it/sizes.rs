//! Entries and batches at their limits (F10).

use raft_core::{Configuration, DiskId, Entry, HardState, LogIndex, LogPosition, Member, Payload, Term};
use raft_storage::{MAX_ENTRY_BYTES, MemDisk, Storage, WriteError};

use crate::common::{FIRST_SEGMENT, SECOND_SEGMENT, append, node, options, sized, small_segments, write};

#[test]
fn the_largest_entry_fits_and_one_byte_more_is_refused() {
    for segment_size_bytes in [4096, 1 << 20, 64 << 20] {
        let disk = MemDisk::new();
        let (mut storage, _) = Storage::open(disk.clone(), small_segments(1, segment_size_bytes)).unwrap();
        let expected = [sized(1, MAX_ENTRY_BYTES - 1), sized(2, MAX_ENTRY_BYTES), sized(3, 1)];
        append(&mut storage, &expected);
        let failed = storage.append(&[write(1, &[sized(4, MAX_ENTRY_BYTES + 1)])]).unwrap_err();
        assert!(matches!(failed, WriteError::EntryTooLarge { .. }));
        assert_eq!(failed.to_string(), "entry 4@1 has 2097153 bytes, at most 2097152 fit; lower the request limit");
        drop(storage);
        disk.crash(|_, _| 0);
        assert_eq!(Storage::open(disk, options(2)).unwrap().1.entries, expected);
    }
}

#[test]
fn a_configuration_too_large_is_refused_too() {
    let disk = MemDisk::new();
    let (mut storage, _) = Storage::open(disk, options(1)).unwrap();
    let member = Member { disk: DiskId(1), address: "x".repeat(MAX_ENTRY_BYTES - 31) };
    let payload = Payload::Configuration(Configuration::of_voters([(node(1), member)]));
    let entry = Entry { position: LogPosition::new(Term(1), LogIndex(1)), payload, ..sized(1, 0) };
    assert!(matches!(
        storage.append(&[write(1, &[entry])]),
        Err(WriteError::EntryTooLarge { size_bytes: 2_097_153, .. })
    ));
}

#[test]
fn a_group_larger_than_a_batch_or_a_segment_takes_several() {
    for segment_size_bytes in [4096, 100_000, 64 << 20] {
        let disk = MemDisk::new();
        let (mut storage, _) = Storage::open(disk.clone(), small_segments(1, segment_size_bytes)).unwrap();
        let expected: Vec<Entry> =
            (1..=60).map(|index| sized(index, 1_000 + 1_500 * usize::try_from(index).unwrap())).collect();
        append(&mut storage, &expected);
        let mut correction = write(2, &[sized(31, 5)]);
        correction.truncate_from = Some(LogIndex(31));
        storage.append(&[correction]).unwrap();
        drop(storage);
        disk.crash(|_, _| 0);
        let (_, recovered) = Storage::open(disk, options(2)).unwrap();
        assert_eq!(recovered.entries[..30], expected[..30]);
        assert_eq!(recovered.entries[30..], [sized(31, 5)]);
    }
}

#[test]
fn segments_have_their_size_and_a_batch_that_fits_exactly_fits() {
    // 4096 bytes: a header, six sectors for batches, and one of filler.
    for (payload, fits) in [(6 * 512 - 81, true), (6 * 512 - 81 + 1, false)] {
        let disk = MemDisk::new();
        let (mut storage, _) = Storage::open(disk.clone(), small_segments(1, 4096)).unwrap();
        append(&mut storage, &[sized(1, payload)]);
        let expected = if fits { 4096 } else { 4608 };
        assert_eq!(disk.contents(FIRST_SEGMENT).unwrap().len(), expected, "alone it gets a segment of its size");
        assert_eq!(disk.contents(SECOND_SEGMENT), None);
        append(&mut storage, &[sized(2, 1)]);
        assert_eq!(disk.contents(SECOND_SEGMENT).unwrap().len(), 4096);
        let (_, recovered) = Storage::open(disk, options(2)).unwrap();
        assert_eq!(recovered.entries, [sized(1, payload), sized(2, 1)]);
    }
}

#[test]
fn nothing_to_write_writes_nothing() {
    let disk = MemDisk::new();
    let (mut storage, _) = Storage::open(disk.clone(), options(1)).unwrap();
    let calls = disk.calls();
    storage.append(&[]).unwrap();
    storage.mark_idle().unwrap();
    storage.append(&[raft_core::Write { hard_state: Some(HardState::default()), ..write(1, &[]) }]).unwrap();
    assert_eq!(disk.calls(), calls);
}
