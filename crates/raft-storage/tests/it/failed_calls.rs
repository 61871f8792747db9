//! Each changing call fails in turn (F1): the storage is poisoned, and the next start loses nothing acknowledged.

use raft_core::{ClusterId, Configuration, Incarnation};
use raft_storage::{Formation, MemDisk, OpenError, Storage, WriteError};

use crate::common::{append, options, reopen, sized, small_segments, write};

#[test]
fn after_one_failure_every_later_call_fails() {
    // The hard state's two writes and its sync, the batch and its sync.
    for calls in 0..5 {
        let disk = MemDisk::new();
        let (mut storage, _) = reopen(&disk, 1);
        append(&mut storage, &[sized(1, 10)]);
        disk.fail_after(calls);
        let mut second = write(2, &[sized(2, 10)]);
        second.hard_state = Some(raft_core::HardState { term: raft_core::Term(5), voted_for: None });
        let failed = storage.append(std::slice::from_ref(&second)).unwrap_err();
        assert!(matches!(failed, WriteError::Io { .. }), "{failed}");
        assert!(disk.heal());
        // The disk would work again. Nobody knows what it holds, so it is not asked.
        let calls_before = disk.calls();
        assert!(matches!(storage.append(&[second]), Err(WriteError::Stopped)));
        assert!(matches!(storage.mark_idle(), Err(WriteError::Stopped)));
        let formation = Formation { cluster: ClusterId(1), configuration: Configuration::default(), formed: false };
        assert!(matches!(storage.write_formation(formation), Err(WriteError::Stopped)));
        assert_eq!(disk.calls(), calls_before);
    }
}

#[test]
fn a_killed_server_makes_durable_what_its_failed_sync_did_not() {
    // The sync of the batch fails and leaves the pages clean: the next start reads the batch, the disk has none of it.
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    append(&mut storage, &[sized(1, 10)]);
    disk.fail_after(1);
    storage.append(&[write(2, &[sized(2, 900)])]).unwrap_err();
    assert!(disk.heal());
    drop(storage);
    let (storage, recovered) = reopen(&disk, 2);
    assert_eq!(recovered.entries, [sized(1, 10), sized(2, 900)]);
    drop(storage);
    disk.crash(|_, _| 0);
    assert_eq!(reopen(&disk, 3).1.entries, [sized(1, 10), sized(2, 900)], "what a start has shown stays");
}

#[test]
fn the_creation_of_a_directory_fails_at_each_call() {
    let whole = MemDisk::new();
    reopen(&whole, 1);
    for calls in 0..whole.calls() {
        for keep in 0..4_usize {
            let disk = MemDisk::new();
            disk.fail_after(calls);
            let failed = Storage::open(disk.clone(), options(1)).unwrap_err();
            assert!(matches!(failed, OpenError::Write(_)), "{failed}");
            disk.heal();
            // The process only dies, or the power goes and keeps nothing, all, or every other thing.
            let mut count = 0;
            if keep > 0 {
                disk.crash(|_, versions| {
                    count += 1;
                    [0, versions, usize::from(count % 2 == 0)][keep - 1]
                });
            }
            let (storage, recovered) = Storage::open(disk.clone(), options(2)).unwrap();
            assert!(recovered.entries.is_empty());
            assert!(recovered.incarnation >= Incarnation(1));
            let identity = storage.identity();
            drop(storage);
            disk.crash(|_, _| 0);
            assert_eq!(Storage::open(disk, options(3)).unwrap().0.identity(), identity, "call {calls}, keep {keep}");
        }
    }
}

#[test]
fn a_lost_identity_is_never_made_anew() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    append(&mut storage, &[sized(1, 10)]);
    drop(storage);
    disk.lose("identity");
    let failed = Storage::open(disk, options(2)).unwrap_err();
    assert_eq!(
        failed.to_string().split(';').next(),
        Some("memory/identity is damaged at byte 0: the file is missing, though a server has run on this directory")
    );
}

#[test]
fn only_two_syncs_for_any_number_of_writes_and_one_for_entries_alone() {
    let disk = MemDisk::new();
    let (mut storage, _) = Storage::open(disk.clone(), small_segments(1, 1 << 20)).unwrap();
    let writes: Vec<_> = (1..=100).map(|index| write(index, &[sized(index, 128)])).collect();
    let before = disk.syncs();
    storage.append(&writes).unwrap();
    assert_eq!(disk.syncs() - before, 2);
    let before = disk.syncs();
    storage.append(&[write(101, &[sized(101, 128)])]).unwrap();
    assert_eq!(disk.syncs() - before, 1, "the hard state is durable already");
}
