//! The happy path: an empty directory, some writes, and everything is there after the next start.

use crate::common::{command, node, options, write};
use raft_core::{HardState, Incarnation, LogIndex, Term};
use raft_storage::{FsDisk, MemDisk, Options, Storage, read_log};

#[test]
fn what_was_appended_is_there_after_the_next_start() {
    let disk = MemDisk::new();
    let (mut storage, recovered) = Storage::open(disk.clone(), options(1)).unwrap();
    assert_eq!(recovered.incarnation, Incarnation(1));
    assert_eq!(recovered.hard_state, HardState::default());
    assert!(recovered.entries.is_empty());
    let identity = storage.identity();
    assert_eq!(identity.node, node(1));

    let promise = HardState { term: Term(2), voted_for: Some(node(3)) };
    let mut first = write(1, &[command(1, 1, b"one"), command(1, 2, b"two"), command(2, 3, b"three")]);
    first.hard_state = Some(promise);
    let mut second = write(2, &[command(2, 3, b"other")]);
    second.hard_state = None;
    second.truncate_from = Some(LogIndex(3));
    storage.append(&[first, second]).unwrap();
    drop(storage);

    let (storage, recovered) = Storage::open(disk, options(2)).unwrap();
    assert_eq!(storage.identity(), identity);
    assert_eq!(storage.incarnation(), Incarnation(2));
    assert_eq!(recovered.hard_state, promise);
    let expected = [command(1, 1, b"one"), command(1, 2, b"two"), command(2, 3, b"other")];
    assert_eq!(recovered.entries, expected);
    assert_eq!(recovered.torn, None);
}

#[test]
fn a_real_directory_does_the_same() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("deeper/data");
    let (mut storage, _) = Storage::open(FsDisk::open(&path).unwrap(), Options::new(node(1))).unwrap();
    let mut first = write(1, &[command(1, 1, b"one")]);
    first.hard_state = Some(HardState { term: Term(1), voted_for: None });
    storage.append(&[first]).unwrap();
    storage.mark_idle().unwrap();
    drop(storage);
    let contents = read_log(FsDisk::open_read_only(&path).unwrap()).unwrap();
    assert_eq!(contents.entries, [command(1, 1, b"one")]);
    let (_, recovered) = Storage::open(FsDisk::open(&path).unwrap(), Options::new(node(1))).unwrap();
    assert_eq!(recovered.entries, [command(1, 1, b"one")]);
    assert_eq!(recovered.incarnation, Incarnation(2));
}

#[test]
fn a_storage_may_move_to_its_own_thread() {
    fn check_send<T: Send>() {}
    check_send::<Storage<FsDisk>>();
    check_send::<Storage<MemDisk>>();
}
