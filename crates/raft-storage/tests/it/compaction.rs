//! A log that forgets its beginning, or all of it, once a snapshot covers that (§5.1).

use raft_core::{Entry, HardState, LogIndex, LogPosition, Term, Write, WriteNumber};
use raft_storage::{MemDisk, Snapshots, Storage};

use crate::common::{append, command, recover, reopen, sized, small_segments};
use crate::snapshot_words::{at, body, receive, snapshot, take};

/// A log of 12 entries in several segments of 4 KiB, and its files' names.
fn long_log() -> (MemDisk, Storage<MemDisk>) {
    let disk = MemDisk::new();
    let (mut storage, _) = Storage::open(disk.clone(), small_segments(1, 4096)).unwrap();
    for index in 1..=12 {
        append(&mut storage, &[sized(index, 1_200)]);
    }
    assert!(segments(&disk).len() >= 6, "{:?}", segments(&disk));
    (disk, storage)
}

fn segments(disk: &MemDisk) -> Vec<String> {
    use raft_storage::Disk as _;
    let mut names = disk.list().unwrap();
    names.retain(|name| name.starts_with("log-"));
    names.sort();
    names
}

fn files(disk: &MemDisk, storage: &Storage<MemDisk>) -> Snapshots<MemDisk> {
    Snapshots::new(disk.clone(), storage.identity())
}

fn restart(number: u64, after: LogPosition, entries: &[Entry]) -> Write {
    Write {
        number: WriteNumber(number),
        hard_state: Some(HardState { term: Term(5), voted_for: None }),
        restart_after: Some(after),
        truncate_from: None,
        entries: entries.to_vec(),
    }
}

#[test]
fn whole_segments_go_and_the_rest_is_read_back() {
    let (disk, mut storage) = long_log();
    take(&mut files(&disk, &storage), at(7, 1)).unwrap();
    let before = segments(&disk).len();
    storage.compact(LogIndex(7)).unwrap();
    assert!(segments(&disk).len() < before);
    append(&mut storage, &[sized(13, 1_200)]);
    drop(storage);
    disk.crash(|_, _| 0);
    let recovered = recover(&disk).unwrap();
    assert_eq!(recovered.snapshot, Some(snapshot(at(7, 1))));
    assert!(recovered.base > LogPosition::ORIGIN && recovered.base.index <= LogIndex(7), "{}", recovered.base);
    let expected: Vec<Entry> = (recovered.base.index.0 + 1..=13).map(|index| sized(index, 1_200)).collect();
    assert_eq!(recovered.entries, expected);
}

#[test]
fn the_segment_being_written_stays() {
    let (disk, mut storage) = long_log();
    take(&mut files(&disk, &storage), at(12, 1)).unwrap();
    storage.compact(LogIndex(12)).unwrap();
    assert_eq!(segments(&disk).len(), 1);
    append(&mut storage, &[sized(13, 10)]);
    drop(storage);
    assert_eq!(recover(&disk).unwrap().entries.last(), Some(&sized(13, 10)));
}

#[test]
fn a_crash_may_keep_any_of_the_names() {
    for kept in 0..64_usize {
        let (disk, mut storage) = long_log();
        take(&mut files(&disk, &storage), at(12, 1)).unwrap();
        // The last call, the sync of the directory, never happens.
        disk.fail_after(segments(&disk).len() as u64 - 1);
        storage.compact(LogIndex(12)).unwrap_err();
        drop(storage);
        disk.heal();
        let mut count = 0;
        disk.crash(|_, versions| {
            count += 1;
            if kept >> (count - 1) & 1 == 1 { versions } else { 0 }
        });
        let (storage, recovered) = Storage::open(disk.clone(), small_segments(2, 4096)).unwrap();
        assert_eq!(recovered.entries.last(), Some(&sized(12, 1_200)), "{kept:b}");
        let left = segments(&disk);
        let numbers: Vec<u64> = left.iter().map(|name| name[4..].parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{left:?} has a gap");
        drop(storage);
    }
}

#[test]
fn a_log_without_its_beginning_and_without_a_snapshot_is_damage() {
    let (disk, storage) = long_log();
    drop(storage);
    disk.lose(&segments(&disk)[0]);
    let refused = recover(&disk).unwrap_err().to_string();
    assert!(refused.contains("no snapshot covers what came before"), "{refused}");
}

#[test]
fn a_gap_in_the_middle_is_damage_if_the_snapshot_does_not_cover_it() {
    let (disk, storage) = long_log();
    take(&mut files(&disk, &storage), at(2, 1)).unwrap();
    drop(storage);
    disk.lose(&segments(&disk)[3]);
    assert!(recover(&disk).is_err());
}

#[test]
fn a_snapshot_beyond_the_log_voids_it() {
    for last in [at(12, 2), at(20, 1), at(13, 1)] {
        let (disk, mut storage) = long_log();
        // The server knows the term of what it is sent.
        storage.append(&[Write { restart_after: None, ..restart(1, last, &[]) }]).unwrap();
        receive(&mut files(&disk, &storage), last, &body(last)).unwrap();
        drop(storage);
        disk.crash(|_, _| 0);
        let recovered = recover(&disk).unwrap();
        assert_eq!((recovered.base, recovered.entries.len()), (last, 0), "{last}");
        // The start wrote down that the log goes on there.
        let (mut storage, _) = reopen(&disk, 3);
        let next = command(5, last.index.0 + 1, b"next");
        append(&mut storage, std::slice::from_ref(&next));
        drop(storage);
        disk.crash(|_, _| 0);
        assert_eq!(recover(&disk).unwrap().entries, [next]);
    }
}

#[test]
fn a_restart_is_a_write_like_any_other() {
    let (disk, mut storage) = long_log();
    let last = at(20, 5);
    receive(&mut files(&disk, &storage), last, &body(last)).unwrap();
    let next = [command(5, 21, b"one"), command(5, 22, b"two")];
    storage.append(&[restart(1, last, &next)]).unwrap();
    // Nothing of the old log counts any more.
    storage.compact(LogIndex(0)).unwrap();
    assert_eq!(segments(&disk).len(), 1);
    drop(storage);
    disk.crash(|_, _| 0);
    let recovered = recover(&disk).unwrap();
    assert_eq!((recovered.base, recovered.entries.as_slice()), (last, &next[..]));
}

#[test]
fn a_truncation_may_reach_into_what_is_gone() {
    let (disk, mut storage) = long_log();
    let truncation = Write { restart_after: None, truncate_from: Some(LogIndex(6)), ..restart(1, at(0, 0), &[]) };
    let again: Vec<Entry> = (6..=12).map(|index| command(5, index, &[7; 1_200])).collect();
    storage.append(&[Write { entries: again.clone(), ..truncation }]).unwrap();
    take(&mut files(&disk, &storage), at(11, 5)).unwrap();
    // The first segments hold 6@1 to 11@1, and what they go back to.
    storage.compact(LogIndex(12)).unwrap();
    drop(storage);
    let recovered = recover(&disk).unwrap();
    let kept: Vec<Entry> = again.into_iter().filter(|entry| entry.position > recovered.base).collect();
    assert_eq!(recovered.entries, kept);
    assert!(recovered.base.index <= LogIndex(11));
}

#[test]
fn a_damaged_snapshot_is_named() {
    use raft_storage::Disk as _;
    let (disk, storage) = long_log();
    take(&mut files(&disk, &storage), at(7, 1)).unwrap();
    drop(storage);
    let names = disk.list().unwrap();
    let name = names.iter().find(|name| name.starts_with("snapshot-")).unwrap();
    let mut bytes = disk.contents(name).unwrap();
    bytes[530] ^= 1;
    disk.set_contents(name, bytes);
    let refused = recover(&disk).unwrap_err().to_string();
    assert!(refused.contains(name) && refused.contains("damaged at byte"), "{refused}");
}
