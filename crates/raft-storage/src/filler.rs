//! What a segment holds where no batch has been written yet (rule 4).
//!
//! Each sector's filler is drawn from a frozen generator (PCG XSL-RR 128/64) whose state is the segment's random id
//! and whose stream is the sector's number. The id never leaves the log, so nothing a client sends can look like
//! filler; and filler of one sector is wrong in every other.

use rand_core::Rng;
use rand_pcg::Pcg64;

use crate::{SECTOR, SECTOR_BYTES};

/// The filler of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filler {
    segment_id: u128,
}

impl Filler {
    pub(crate) const fn new(segment_id: u128) -> Self {
        Self { segment_id }
    }

    /// The filler of the sector at byte `offset` of the file, a multiple of the sector size.
    pub(crate) fn sector(self, offset: u64) -> [u8; SECTOR_BYTES] {
        debug_assert_eq!(offset % SECTOR, 0, "filler belongs to whole sectors");
        let mut generator = Pcg64::new(self.segment_id, u128::from(offset / SECTOR));
        let mut sector = [0; SECTOR_BYTES];
        for word in sector.chunks_exact_mut(8) {
            word.copy_from_slice(&generator.next_u64().to_le_bytes());
        }
        sector
    }

    /// Appends the filler of the bytes from `start` to `end`, both multiples of the sector size.
    pub(crate) fn append_to(self, buffer: &mut Vec<u8>, start: u64, end: u64) {
        let mut offset = start;
        while offset < end {
            buffer.extend_from_slice(&self.sector(offset));
            offset += SECTOR;
        }
    }

    /// Whether `bytes`, read at `offset`, are one whole sector of filler.
    pub(crate) fn is_filler(self, offset: u64, bytes: &[u8]) -> bool {
        bytes == self.sector(offset)
    }
}
