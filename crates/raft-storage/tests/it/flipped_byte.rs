//! A disk that changes a byte (F3): it is noticed, and nothing is cut.

use raft_core::{ClusterId, Configuration, DiskId, Member};
use raft_storage::{Formation, OpenError};

use crate::common::{FIRST_SEGMENT, SECTOR, check_goes_on, damage, node, recover, reopen, three_batches};

#[test]
fn each_byte_of_the_log_in_turn() {
    let log = three_batches();
    let end = log.bounds[3];
    for at in 0..log.image.len() {
        let mut image = log.image.clone();
        image[at] ^= 1 << (at % 8);
        let disk = log.with_image(&image);
        if at < end + SECTOR {
            // Header, batches, and the sector where the next batch would begin.
            let (path, offset) = damage(&disk);
            assert_eq!(path, format!("memory/{FIRST_SEGMENT}"), "byte {at}");
            assert!(offset <= at as u64 && at as u64 - offset < 2_048, "byte {at}, reported at {offset}");
        } else {
            // Filler behind the end: nothing is lost, and it is written anew.
            assert_eq!(recover(&disk).unwrap().entries, log.entries, "byte {at}");
            check_goes_on(&disk, &log.entries);
        }
    }
}

#[test]
fn each_byte_of_the_hard_state_in_turn() {
    let log = three_batches();
    let clean = log.disk.contents("hard-state").unwrap();
    let expected = recover(&log.disk.copy()).unwrap();
    for at in 0..clean.len() {
        let disk = log.disk.copy();
        let mut bytes = clean.clone();
        bytes[at] ^= 1 << (at % 8);
        disk.set_contents("hard-state", bytes);
        assert_eq!(recover(&disk).unwrap(), expected, "the other slot tells");
        let mended = disk.contents("hard-state").unwrap();
        assert_eq!(mended[..SECTOR], mended[4096..4096 + SECTOR], "both slots are written again");
    }
}

#[test]
fn each_byte_of_identity_and_formation_in_turn() {
    let log = three_batches();
    let (mut storage, _) = reopen(&log.disk, 7);
    let member = Member { disk: DiskId(5), address: "10.0.0.1:7001".to_owned() };
    let configuration = Configuration::of_voters([(node(1), member)]);
    storage.write_formation(Formation { cluster: ClusterId(9), configuration, formed: true }).unwrap();
    drop(storage);
    for name in ["identity", "formation"] {
        let clean = log.disk.contents(name).unwrap();
        for at in 0..clean.len() {
            let disk = log.disk.copy();
            let mut bytes = clean.clone();
            bytes[at] ^= 1 << (at % 8);
            disk.set_contents(name, bytes);
            assert_eq!(damage(&disk).0, format!("memory/{name}"), "byte {at}");
        }
        for size in 0..clean.len() {
            let disk = log.disk.copy();
            disk.set_contents(name, clean[..size].to_vec());
            assert_eq!(damage(&disk).0, format!("memory/{name}"), "cut at {size}");
        }
    }
}

#[test]
fn both_slots_of_the_hard_state_is_damage_and_so_is_an_old_copy() {
    let log = three_batches();
    let mut bytes = log.disk.contents("hard-state").unwrap();
    bytes[50] ^= 1;
    bytes[4096 + 50] ^= 1;
    let both_bad = log.disk.copy();
    both_bad.set_contents("hard-state", bytes);
    assert_eq!(damage(&both_bad), ("memory/hard-state".to_owned(), 0));

    let fresh = raft_storage::MemDisk::new();
    reopen(&fresh, 1);
    let old_copy = log.disk.copy();
    old_copy.set_contents("hard-state", fresh.contents("hard-state").unwrap());
    let Err(error @ OpenError::Damaged { .. }) = recover(&old_copy) else { panic!("an old hard state was taken") };
    assert!(error.to_string().contains("it knows term 0, but the log ends with entry 3@1"), "{error}");
}
