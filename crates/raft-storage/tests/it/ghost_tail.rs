//! What an overwritten tail leaves behind is never read (rule 4).

use raft_storage::MemDisk;

use crate::common::{FIRST_SEGMENT, append, damage, reopen, sized};
use raft_core::Entry;

/// The log of a first batch, and a second and third of the same sizes as ever. The same seed gives the same segment.
fn log_of(second: &Entry) -> Vec<u8> {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    append(&mut storage, &[sized(1, 50)]);
    append(&mut storage, std::slice::from_ref(second));
    append(&mut storage, &[sized(3, 50)]);
    disk.contents(FIRST_SEGMENT).unwrap()
}

/// A tail with the right segment id, place, number, length and index, after another entry than the one it followed:
/// only the chain tells.
#[test]
fn a_batch_of_another_history_never_continues_this_one() {
    let (ours, theirs) = (sized(2, 60), sized(7, 60));
    let theirs = Entry { position: ours.position, stamp: ours.stamp, ..theirs };
    let mut image = log_of(&ours);
    let ghost = log_of(&theirs);
    let third = 512 + 2 * 512..512 + 3 * 512;
    assert_ne!(image[third.clone()], ghost[third.clone()]);
    image[third.clone()].copy_from_slice(&ghost[third.clone()]);

    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    append(&mut storage, &[sized(1, 50)]);
    drop(storage);
    disk.set_contents(FIRST_SEGMENT, image);
    assert_eq!(damage(&disk).1, third.start as u64);
}

/// Records within a batch are chained too: one from another batch of the same shape does not fit in.
#[test]
fn a_record_of_another_batch_never_continues_this_one() {
    let batch_of = |first: &Entry| {
        let disk = MemDisk::new();
        let (mut storage, _) = reopen(&disk, 1);
        append(&mut storage, &[first.clone(), sized(2, 400)]);
        (disk.contents(FIRST_SEGMENT).unwrap(), disk)
    };
    let ours = sized(1, 431);
    let theirs = Entry { payload: sized(5, 431).payload, ..ours.clone() };
    let ((mut image, disk), (ghost, _)) = (batch_of(&ours), batch_of(&theirs));
    // Header 48, record 33 + 431: the second record begins with the batch's second sector.
    image[1024..1536].copy_from_slice(&ghost[1024..1536]);
    disk.set_contents(FIRST_SEGMENT, image);
    assert_eq!(damage(&disk).1, 1024);
}

/// The life of it: a long batch is torn, cut, and a shorter one written; the rest of the long one must be gone.
#[test]
fn a_torn_batch_is_wiped_before_anything_is_written_over_it() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    append(&mut storage, &[sized(1, 50)]);
    // The batch reaches the disk but for its second sector; its sync fails.
    disk.fail_after(1);
    storage.append(&[crate::common::write(2, &[sized(2, 2_000)])]).unwrap_err();
    drop(storage);
    disk.crash(|_, _| 0);
    let mut image = disk.contents(FIRST_SEGMENT).unwrap();
    let whole = {
        let other = MemDisk::new();
        let (mut storage, _) = reopen(&other, 1);
        append(&mut storage, &[sized(1, 50)]);
        append(&mut storage, &[sized(2, 2_000)]);
        other.contents(FIRST_SEGMENT).unwrap()
    };
    image[1024..1536].copy_from_slice(&whole[1024..1536]);
    image[2048..3584].copy_from_slice(&whole[2048..3584]);
    disk.set_contents(FIRST_SEGMENT, image);

    let (mut storage, recovered) = reopen(&disk, 2);
    assert_eq!(recovered.entries, [sized(1, 50)]);
    assert_eq!(recovered.torn.map(|torn| (torn.offset, torn.size_bytes)), Some((1024, 2560)));
    append(&mut storage, &[sized(2, 60)]);
    drop(storage);
    disk.crash(|_, _| 0);
    let (_, recovered) = reopen(&disk, 3);
    assert_eq!(recovered.entries, [sized(1, 50), sized(2, 60)]);
    assert_eq!(recovered.torn, None);
}
