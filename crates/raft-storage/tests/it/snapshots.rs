//! Snapshot files (§5): what is whole is read back, what is not is never taken for whole.

use raft_core::DiskId;
use raft_storage::{Identity, MemDisk, SnapshotError, Snapshots};

use crate::common::node;
use crate::snapshot_words::{NO_LIMIT, at, body, data, read_data, receive, snapshot, take};

fn identity() -> Identity {
    Identity { node: node(1), disk: DiskId(1) }
}

fn files() -> (MemDisk, Snapshots<MemDisk>) {
    let disk = MemDisk::new();
    (disk.clone(), Snapshots::new(disk, identity()))
}

fn the_name(disk: &MemDisk) -> String {
    use raft_storage::Disk as _;
    let names = disk.list().unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    names[0].clone()
}

#[test]
fn a_snapshot_is_read_back_after_a_crash() {
    let (disk, mut files) = files();
    assert_eq!(files.newest().unwrap(), None);
    let size = take(&mut files, at(7, 3)).unwrap();
    disk.crash(|_, _| 0);
    let mut files = Snapshots::new(disk.clone(), identity());
    assert_eq!(files.newest().unwrap(), Some(snapshot(at(7, 3))));
    assert_eq!(read_data(&mut files, at(7, 3)).unwrap(), data(at(7, 3)));
    assert_eq!(disk.contents(&the_name(&disk)).unwrap().len() as u64, size);
}

#[test]
fn the_newest_is_the_one_with_the_highest_index_and_the_rest_can_go() {
    let (_, mut files) = files();
    for last in [at(7, 3), at(12, 3), at(10, 3)] {
        take(&mut files, last).unwrap();
    }
    assert_eq!(files.newest().unwrap(), Some(snapshot(at(12, 3))));
    files.remove_all_but(&[at(12, 3), at(7, 3)]).unwrap();
    assert!(matches!(files.open_data(at(10, 3)), Err(SnapshotError::Unknown { .. })));
    assert!(files.open_data(at(7, 3)).is_ok());
}

/// A leader's snapshot is whole, and nobody has been told yet, when somebody tidies up who knows of older ones only.
#[test]
fn one_that_is_newer_than_all_that_is_kept_stays() {
    let (_, mut files) = files();
    take(&mut files, at(7, 3)).unwrap();
    receive(&mut files, at(12, 3), &body(at(12, 3))).unwrap();
    files.remove_all_but(&[at(7, 3)]).unwrap();
    assert_eq!(read_data(&mut files, at(12, 3)).unwrap(), data(at(12, 3)));
    files.remove_all_but(&[]).unwrap();
    assert_eq!(files.newest().unwrap(), Some(snapshot(at(12, 3))));
}

#[test]
fn what_one_server_sends_another_stores() {
    let (disk, mut files) = files();
    let (last, body) = (at(9, 4), body(at(9, 4)));
    assert_eq!(receive(&mut files, last, &body).unwrap(), snapshot(last));
    disk.crash(|_, _| 0);
    let mut files = Snapshots::new(disk, identity());
    assert_eq!(files.newest().unwrap(), Some(snapshot(last)));
    assert_eq!(read_data(&mut files, last).unwrap(), data(last));
    // And passes on, in pieces of any size.
    for size in [1, 7, 1_000, body.len(), usize::MAX] {
        let mut sent = Vec::new();
        loop {
            let (chunk, is_last) = files.read_body(last, sent.len() as u64, size).unwrap();
            sent.extend_from_slice(&chunk);
            if is_last {
                break;
            }
        }
        assert_eq!(sent, body);
    }
    assert!(files.read_body(last, body.len() as u64 + 1, 10).is_err());
}

#[test]
fn chunks_out_of_order_are_refused_and_the_first_byte_begins_anew() {
    let (_, mut files) = files();
    let (last, body) = (at(9, 4), body(at(9, 4)));
    assert_eq!(files.receive(last, 0, &body[..100], NO_LIMIT).unwrap(), 100);
    let refused = files.receive(last, 200, &body[200..300], NO_LIMIT).unwrap_err();
    assert_eq!(refused.to_string(), "a chunk of the snapshot at 9@4 begins at byte 200, byte 100 is wanted");
    // Another snapshot takes its place.
    assert_eq!(files.receive(last, 0, &body[..100], NO_LIMIT).unwrap(), 100);
    assert!(files.receive(at(10, 4), 100, b"x", NO_LIMIT).is_err());
    assert!(matches!(files.finish_received(last), Err(SnapshotError::Unknown { .. })));
    assert_eq!(files.receive(last, 0, b"nonsense", NO_LIMIT).unwrap(), 8);
    assert_eq!(receive(&mut files, last, &body).unwrap(), snapshot(last));
}

#[test]
fn a_snapshot_without_an_end_is_bounded() {
    let (disk, mut files) = files();
    files.receive(at(9, 4), 0, &[0; 600], 1_000).unwrap();
    assert!(matches!(files.receive(at(9, 4), 600, &[0; 600], 1_000), Err(SnapshotError::TooLarge { .. })));
    use raft_storage::Disk as _;
    assert!(disk.list().unwrap().is_empty(), "nothing of it stays");
}

#[test]
fn another_members_file_is_refused() {
    let (disk, mut files) = files();
    take(&mut files, at(7, 3)).unwrap();
    let other = Identity { node: node(1), disk: DiskId(2) };
    let refused = Snapshots::new(disk, other).newest().unwrap_err();
    assert!(matches!(refused, SnapshotError::ForeignFile { .. }), "{refused}");
}

/// What is read of a file must be what was written, or an error.
fn is_noticed(disk: &MemDisk, name: &str, bytes: Vec<u8>, what: &str) {
    let copy = disk.copy();
    copy.set_contents(name, bytes);
    let mut files = Snapshots::new(copy, identity());
    let read = files.newest().map(|_| ()).and_then(|()| read_data(&mut files, at(7, 3)));
    assert!(read.is_err(), "{what} is not noticed");
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let (disk, mut files) = files();
    take(&mut files, at(7, 3)).unwrap();
    let name = the_name(&disk);
    let image = disk.contents(&name).unwrap();
    for place in 0..image.len() {
        let mut bytes = image.clone();
        bytes[place] ^= 0x10;
        is_noticed(&disk, &name, bytes, &format!("byte {place}"));
        is_noticed(&disk, &name, image[..place].to_vec(), &format!("a cut at {place}"));
    }
    is_noticed(&disk, &name, [&image[..], b"x"].concat(), "a byte behind the end");
}

#[test]
fn a_received_one_is_checked_before_it_is_taken() {
    let last = at(7, 3);
    let body = body(last);
    for place in 0..body.len() {
        let (disk, mut files) = files();
        let mut bytes = body.clone();
        bytes[place] ^= 0x10;
        assert!(receive(&mut files, last, &bytes).is_err(), "byte {place}");
        assert!(receive(&mut files, last, &body[..place]).is_err(), "a cut at {place}");
        assert_eq!(files.newest().unwrap(), None);
        use raft_storage::Disk as _;
        assert!(disk.list().unwrap().is_empty(), "nothing of it stays");
    }
    // Whole, but another than it was said to be.
    let (_, mut files) = files();
    assert!(receive(&mut files, at(8, 3), &body).is_err());
}

#[test]
fn a_full_disk_costs_the_snapshot_and_nothing_else() {
    let (whole, mut files) = files();
    take(&mut files, at(7, 3)).unwrap();
    for calls in 0..whole.calls() {
        let (disk, mut files) = self::files();
        disk.fail_after(calls);
        assert!(take(&mut files, at(7, 3)).is_err(), "call {calls}");
        disk.heal();
        assert!(files.newest().is_ok_and(|newest| newest.is_none_or(|newest| newest == snapshot(at(7, 3)))));
        take(&mut files, at(7, 3)).unwrap();
        assert_eq!(read_data(&mut files, at(7, 3)).unwrap(), data(at(7, 3)));
    }
}
