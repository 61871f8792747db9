//! A name is durable only after the directory's own sync (F6).

use raft_core::{ClusterId, Configuration, HardState, Term};
use raft_storage::{Formation, MemDisk, Storage, Unsynced};

use crate::common::{append, node, options, reopen, sized, small_segments, write};

fn keep_no_unsynced_name(disk: &MemDisk) {
    disk.crash(|thing, versions| if matches!(thing, Unsynced::Name { .. }) { 0 } else { versions });
}

#[test]
fn identity_hard_state_and_log_have_durable_names_when_open_returns() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    let identity = storage.identity();
    append(&mut storage, &[sized(1, 10)]);
    drop(storage);
    keep_no_unsynced_name(&disk);
    let (storage, recovered) = reopen(&disk, 2);
    assert_eq!((storage.identity(), recovered.entries), (identity, vec![sized(1, 10)]));
}

#[test]
fn a_formation_has_a_durable_name_when_it_is_written() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    let prepared = Formation { cluster: ClusterId(7), configuration: Configuration::default(), formed: false };
    storage.write_formation(prepared.clone()).unwrap();
    keep_no_unsynced_name(&disk);
    assert_eq!(reopen(&disk, 2).0.formation(), Some(&prepared));
    let (mut storage, _) = reopen(&disk, 3);
    let formed = Formation { formed: true, ..prepared };
    storage.write_formation(formed.clone()).unwrap();
    keep_no_unsynced_name(&disk);
    assert_eq!(reopen(&disk, 4).0.formation(), Some(&formed));
}

#[test]
fn a_new_segment_has_a_durable_name_before_a_batch_stands_in_it() {
    let disk = MemDisk::new();
    let (mut storage, _) = Storage::open(disk.clone(), small_segments(1, 4096)).unwrap();
    let mut expected = Vec::new();
    for index in 1..=12 {
        expected.push(sized(index, 900));
        append(&mut storage, &expected[expected.len() - 1..]);
        let copy_after_power_loss = disk.copy_after_crash();
        assert_eq!(reopen(&copy_after_power_loss, 2).1.entries, expected);
    }
}

#[test]
fn the_newer_slot_of_the_hard_state_wins_and_an_older_one_survives() {
    let (old, new) =
        (HardState { term: Term(1), voted_for: None }, HardState { term: Term(2), voted_for: Some(node(2)) });
    for (slots_written, expected) in
        [([false, false], old), ([true, false], new), ([false, true], new), ([true, true], new)]
    {
        let disk = MemDisk::new();
        let (mut storage, _) = Storage::open(disk.clone(), options(1)).unwrap();
        storage.append(&[raft_core::Write { hard_state: Some(old), ..write(1, &[]) }]).unwrap();
        disk.fail_after(2);
        storage.append(&[raft_core::Write { hard_state: Some(new), ..write(2, &[]) }]).unwrap_err();
        drop(storage);
        // The sync failed, so the disk has none; put there what the power left.
        let mut bytes = disk.contents("hard-state").unwrap();
        disk.crash(|_, _| 0);
        let before = disk.contents("hard-state").unwrap();
        for (slot, is_written) in slots_written.into_iter().enumerate() {
            if !is_written {
                bytes[slot * 4096..slot * 4096 + 512].copy_from_slice(&before[slot * 4096..slot * 4096 + 512]);
            }
        }
        disk.set_contents("hard-state", bytes);
        assert_eq!(reopen(&disk, 2).1.hard_state, expected, "{slots_written:?}");
    }
}
