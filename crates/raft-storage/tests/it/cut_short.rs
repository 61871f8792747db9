//! The log file is cut short at each of its bytes, as by a careless copy or a failing file system.
//!
//! Our own crashes never do this: a batch goes only where filler is durable, and a sector of filler always follows the
//! last one. So a cut that takes anything of a batch, or the filler behind the last, is damage, and acknowledged
//! entries are never missing silently. A cut behind that is an interrupted step of filler and is mended.

use crate::common::{FIRST_SEGMENT, SECTOR, check_goes_on, damage, recover, three_batches};

#[test]
fn a_cut_at_any_byte_loses_no_entry_silently() {
    let log = three_batches();
    let needed = log.bounds[3] + SECTOR;
    for size in 0..=log.image.len() {
        let disk = log.with_image(&log.image[..size]);
        if size < needed {
            let (path, offset) = damage(&disk);
            assert_eq!(path, format!("memory/{FIRST_SEGMENT}"), "cut at {size}");
            assert!(offset <= size as u64, "cut at {size}, reported at {offset}");
        } else {
            let recovered = recover(&disk).unwrap();
            assert_eq!(recovered.entries, log.entries, "cut at {size}");
            assert_eq!(recovered.torn, None, "cut at {size}");
        }
    }
}

#[test]
fn after_a_cut_in_the_filler_the_log_goes_on() {
    let log = three_batches();
    for size in [log.bounds[3] + SECTOR, log.bounds[3] + SECTOR + 1, log.image.len() - 1] {
        let disk = log.with_image(&log.image[..size]);
        check_goes_on(&disk, &log.entries);
    }
}

/// The power goes while the next step of filler is written: the file has its new size, or some of it, and of the new
/// sectors some are zeros still, and one is not whole.
#[test]
fn a_step_of_filler_that_was_interrupted_is_filled_again() {
    let log = three_batches();
    let first_new = log.bounds[3] / SECTOR + 1;
    for written in 0..1_usize << 4 {
        let mut image = log.image[..(first_new + 4) * SECTOR].to_vec();
        for sector in (0..4).filter(|at| written >> at & 1 == 0) {
            image[(first_new + sector) * SECTOR..(first_new + sector + 1) * SECTOR].fill(0);
        }
        image.resize(image.len() + written * 7, 0);
        let disk = log.with_image(&image);
        let recovered = recover(&disk).unwrap();
        assert_eq!(recovered.entries, log.entries, "written {written:b}");
        assert_eq!(recovered.torn, None, "written {written:b}");
        check_goes_on(&disk, &log.entries);
    }
}
