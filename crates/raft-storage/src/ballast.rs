//! Space kept back (F8): the file `ballast`, which takes room and holds nothing.
//!
//! A log that finds no room for what it needs next gives the ballast up, and with its space writes on: what was under way
//! is finished, terms and votes and the first entry of a term can still be written, and a server on a full disk can start.
//! From then on the disk counts as full, so that nothing new is taken, until the ballast can be made again.
//!
//! Nobody ever reads the file, so it needs no format, no checksum and no temporary name.

use crate::disk::{Disk, DiskFile};
use crate::error::{WriteError, cannot_write, is_lack_of_space};
use crate::log::MIN_SEGMENT_BYTES;
use crate::small_file::sync_names;

pub(crate) const FILE_NAME: &str = "ballast";

/// More than this is never kept back, in bytes: it is enough for tens of thousands of small batches.
const MAX_BALLAST_BYTES: u64 = 64 << 20;

/// The reserve.
#[derive(Debug)]
pub(crate) struct Ballast {
    size_bytes: u64,
    is_there: bool,
}

impl Ballast {
    /// Not there yet. Its size is that of a segment: with its space the log can always begin its next one.
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { size_bytes: segment_bytes.clamp(MIN_SEGMENT_BYTES, MAX_BALLAST_BYTES), is_there: false }
    }

    pub(crate) const fn is_there(&self) -> bool {
        self.is_there
    }

    /// Takes the space, if there is so much.
    pub(crate) fn make<D: Disk>(&mut self, disk: &mut D) -> Result<(), WriteError> {
        let path = disk.describe(FILE_NAME);
        let reserved = disk.create(FILE_NAME).and_then(|mut file| {
            file.reserve(self.size_bytes)?;
            file.sync_data()
        });
        match reserved {
            Ok(()) => self.is_there = true,
            Err(error) if is_lack_of_space(&error) => remove(disk)?,
            Err(error) => return Err(cannot_write("reserve", path)(error)),
        }
        Ok(())
    }

    /// Gives the space back, for the log to use.
    pub(crate) fn release<D: Disk>(&mut self, disk: &mut D) -> Result<(), WriteError> {
        self.is_there = false;
        remove(disk)?;
        // Some file systems give freed space out only when that is durable.
        sync_names(disk)
    }
}

/// Removes the file, if it is there.
pub(crate) fn remove<D: Disk>(disk: &mut D) -> Result<(), WriteError> {
    let path = disk.describe(FILE_NAME);
    match disk.remove(FILE_NAME) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cannot_write("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
