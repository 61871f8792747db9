//! What stands behind a hole proves that the hole was durable (rule 4): damage, never cut.

use raft_storage::{MemDisk, Storage};

use crate::common::{
    FIRST_SEGMENT, SECOND_SEGMENT, SECTOR, append, damage, recover, reopen, sized, small_segments, three_batches,
};

/// Where the filler of the first segment comes from: the log before anything was written.
fn filler() -> Vec<u8> {
    let disk = MemDisk::new();
    reopen(&disk, 1);
    disk.contents(FIRST_SEGMENT).unwrap()
}

#[test]
fn a_batch_in_the_middle_that_reads_as_filler() {
    let log = three_batches();
    let filler = filler();
    for (from, to) in [(0, 1), (1, 2), (0, 2)] {
        let range = log.bounds[from]..log.bounds[to];
        let mut image = log.image.clone();
        image[range.clone()].copy_from_slice(&filler[range.clone()]);
        assert_eq!(damage(&log.with_image(&image)).1, range.start as u64);
        // Only the header's sector, and only the last sector.
        for sector_at in [range.start, range.end - SECTOR] {
            let sector = sector_at..sector_at + SECTOR;
            let mut image = log.image.clone();
            image[sector.clone()].copy_from_slice(&filler[sector]);
            damage(&log.with_image(&image));
        }
    }
}

#[test]
fn sectors_that_were_put_elsewhere() {
    let log = three_batches();
    let sectors = log.bounds[3] / SECTOR + 1;
    for from in 1..sectors {
        for to in (1..sectors).filter(|to| *to != from) {
            let mut image = log.image.clone();
            image.copy_within(from * SECTOR..(from + 1) * SECTOR, to * SECTOR);
            damage(&log.with_image(&image));
        }
    }
}

/// Many entries over at least four segments of 4 KiB.
fn four_segments() -> (MemDisk, usize) {
    let disk = MemDisk::new();
    let (mut storage, _) = Storage::open(disk.clone(), small_segments(3, 4096)).unwrap();
    for index in 1..=20 {
        append(&mut storage, &[sized(index, 600)]);
    }
    assert!(disk.contents("log-00000000000000000004").is_some());
    (disk, 20)
}

#[test]
fn an_entry_in_every_segment_comes_back() {
    let (disk, count) = four_segments();
    disk.crash(|_, _| 0);
    assert_eq!(recover(&disk).unwrap().entries.len(), count);
}

#[test]
fn a_segment_that_is_missing() {
    let (disk, _) = four_segments();
    let names: Vec<String> = (1..=9).map(|n| format!("log-{n:020}")).filter(|n| disk.contents(n).is_some()).collect();
    for name in &names {
        let without = disk.copy();
        without.lose(name);
        assert_eq!(damage(&without), (format!("memory/{name}"), 0), "the last is missed too: the hard state counts");
    }
}

#[test]
fn a_segment_in_the_place_of_another() {
    let (disk, _) = four_segments();
    let swapped = disk.copy();
    swapped.set_contents(SECOND_SEGMENT, disk.contents("log-00000000000000000003").unwrap());
    assert_eq!(damage(&swapped).0, format!("memory/{SECOND_SEGMENT}"));
}

#[test]
fn each_sector_of_an_older_segment() {
    let (disk, count) = four_segments();
    let clean = disk.contents(FIRST_SEGMENT).unwrap();
    let fresh = MemDisk::new();
    Storage::open(fresh.clone(), small_segments(3, 4096)).unwrap();
    let filler = fresh.contents(FIRST_SEGMENT).unwrap();
    assert_eq!(filler[..SECTOR], clean[..SECTOR], "the same segment, still empty");
    for sector_at in (SECTOR..clean.len()).step_by(SECTOR) {
        let sector = sector_at..sector_at + SECTOR;
        if clean[sector.clone()] == filler[sector.clone()] {
            continue;
        }
        let damaged = disk.copy();
        let mut image = clean.clone();
        image[sector.clone()].copy_from_slice(&filler[sector]);
        damaged.set_contents(FIRST_SEGMENT, image);
        // Each batch has two sectors. Without the first it reads as the segment's end, which the next one contradicts.
        let is_batch_header = (sector_at / SECTOR) % 2 == 1;
        let expected = if is_batch_header {
            (format!("memory/{SECOND_SEGMENT}"), 64)
        } else {
            (format!("memory/{FIRST_SEGMENT}"), (sector_at - SECTOR + 48) as u64)
        };
        assert_eq!(damage(&damaged), expected, "sector at {sector_at}");
    }
    assert_eq!(recover(&disk).unwrap().entries.len(), count);
}
