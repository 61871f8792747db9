//! The power goes while the last batch is being written: any of its sectors may hold filler still (F3 to F5).

use proptest::prelude::*;
use raft_storage::{MAX_BATCH_BYTES, MAX_ENTRY_BYTES, MemDisk, Storage};

use crate::common::{
    FIRST_SEGMENT, SECTOR, append, batch_sectors, check_goes_on, damage, options, recover, reopen, sized, three_batches,
};

/// Puts back what was in these sectors of `image` before.
fn revert(image: &mut [u8], before: &[u8], sectors: impl Iterator<Item = usize>) {
    for sector in sectors {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        image[range.clone()].copy_from_slice(&before[range]);
    }
}

#[test]
fn every_subset_of_its_sectors_may_be_lost() {
    let log = three_batches();
    let first = log.bounds[2] / SECTOR;
    let count = batch_sectors(&log.entries[2..]);
    for lost in 1_usize..1 << count {
        let mut image = log.image.clone();
        revert(&mut image, &log.before_last, (0..count).filter(|at| lost >> at & 1 == 1).map(|at| first + at));
        let disk = log.with_image(&image);
        let recovered = recover(&disk).unwrap();
        assert_eq!(recovered.entries, log.entries[..2], "lost {lost:b}");
        let all_lost = lost == (1 << count) - 1;
        assert_eq!(
            recovered.torn.map(|torn| torn.offset),
            (!all_lost).then_some(log.bounds[2] as u64),
            "lost {lost:b}"
        );
        check_goes_on(&disk, &log.entries[..2]);
    }
}

#[test]
fn torn_means_filler_from_an_offset_on_not_only_a_short_file() {
    let log = three_batches();
    let (start, end) = (log.bounds[2], log.bounds[3]);
    let used = start + 48 + 33 + 1_300;
    for from in 0..=log.image.len() {
        let mut image = log.image.clone();
        if from < end {
            image[from.max(start)..end].copy_from_slice(&log.before_last[from.max(start)..end]);
        }
        let disk = log.with_image(&image);
        if from <= start || (start + 48..=end - SECTOR).contains(&from) {
            // A whole sector of filler, and the sectors that were written are as written.
            assert_eq!(recover(&disk).unwrap().entries, log.entries[..2], "filler from {from}");
        } else if from >= used {
            assert_eq!(recover(&disk).unwrap().entries, log.entries, "filler from {from}");
        } else {
            // Half a header, or a batch without one whole sector of filler: no disk writes half a sector.
            let (path, offset) = damage(&disk);
            assert_eq!((path.as_str(), offset), ("memory/log-00000000000000000001", damage_at(from, start)));
        }
    }
}

/// A bad header is reported where the batch begins, bad records where they begin.
fn damage_at(from: usize, start: usize) -> u64 {
    if from < start + 48 { start as u64 } else { start as u64 + 48 }
}

/// Two batches, the last with `count` sectors; gives the disk, and the segment before and after the last.
fn large_last_batch(count: usize) -> (MemDisk, Vec<u8>, Vec<u8>) {
    let disk = MemDisk::new();
    let (mut storage, _) = Storage::open(disk.clone(), options(5)).unwrap();
    append(&mut storage, &[sized(1, 100)]);
    let before = disk.contents(FIRST_SEGMENT).unwrap();
    append(&mut storage, &[sized(2, count * SECTOR - 81)]);
    let after = disk.contents(FIRST_SEGMENT).unwrap();
    (disk, before, after)
}

#[test]
fn any_of_two_hundred_sectors_may_be_lost() {
    const COUNT: usize = 200;
    let (disk, before, after) = large_last_batch(COUNT);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) };
    proptest!(config, |(lost in prop::collection::btree_set(0..COUNT, 1..COUNT))| {
        let mut image = after.clone();
        revert(&mut image, &before, lost.iter().map(|sector| 2 + sector));
        let torn = disk.copy();
        torn.set_contents(FIRST_SEGMENT, image);
        prop_assert_eq!(recover(&torn).unwrap().entries, [sized(1, 100)]);
        prop_assert_eq!(reopen(&torn, 6).1.torn, None);
    });
}

#[test]
fn a_batch_that_an_empty_one_follows_is_never_torn() {
    let log = three_batches();
    let (mut storage, _) = reopen(&log.disk, 2);
    let fourth = sized(4, 600);
    append(&mut storage, std::slice::from_ref(&fourth));
    storage.mark_idle().unwrap();
    let calls = log.disk.calls();
    storage.mark_idle().unwrap();
    assert_eq!(log.disk.calls(), calls, "marked already");
    drop(storage);
    let marked = log.disk.contents(FIRST_SEGMENT).unwrap();
    let first = log.bounds[3] / SECTOR;
    for lost in 1_usize..4 {
        let mut image = marked.clone();
        revert(&mut image, &log.image, (0..2).filter(|at| lost >> at & 1 == 1).map(|at| first + at));
        let (_, offset) = damage(&log.with_image(&image));
        assert!(
            (log.bounds[3]..log.bounds[3] + 49).contains(&usize::try_from(offset).unwrap()),
            "lost {lost:b}: {offset}"
        );
    }
}

/// Behind the batch that was being written there was durable filler: a stray there is no part of the tear.
#[test]
fn nothing_stands_behind_a_torn_batch() {
    let log = three_batches();
    for stray_at in (log.bounds[3]..log.image.len()).step_by(SECTOR) {
        let mut image = log.image.clone();
        revert(&mut image, &log.before_last, [log.bounds[2] / SECTOR + 1].into_iter());
        image[stray_at + 5] ^= 1;
        assert_eq!(damage(&log.with_image(&image)).1, stray_at as u64);
    }
}

/// A torn batch whose header was lost reaches as far as the largest batch, and no further.
#[test]
fn a_stray_beyond_the_largest_batch_is_damage() {
    let disk = MemDisk::new();
    let (mut storage, _) = Storage::open(disk.clone(), options(1)).unwrap();
    append(&mut storage, &[sized(1, 100)]);
    // A large batch has four steps of filler made for it, and is torn at its own write.
    disk.fail_after(5);
    storage
        .append(&[crate::common::write(1, &[sized(2, MAX_ENTRY_BYTES), sized(3, MAX_ENTRY_BYTES - 400)])])
        .unwrap_err();
    drop(storage);
    disk.heal();
    Storage::open(disk.clone(), options(2)).unwrap();
    let clean = disk.contents(FIRST_SEGMENT).unwrap();
    let reach = 2 * SECTOR + MAX_BATCH_BYTES;
    assert!(clean.len() > reach + SECTOR, "{} bytes of filler", clean.len());
    for (stray_at, is_damage) in [(reach - 1, false), (reach, true)] {
        let strayed = disk.copy();
        let mut image = clean.clone();
        image[stray_at] ^= 1;
        strayed.set_contents(FIRST_SEGMENT, image);
        if is_damage {
            assert_eq!(damage(&strayed).1, reach as u64);
        } else {
            assert_eq!(recover(&strayed).unwrap().entries, [sized(1, 100)]);
        }
    }
}
