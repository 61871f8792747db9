//! Files that are replaced as a whole: `identity` and `formation`.
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic, one per file
//!      8      4  format version
//!     12      4  n, the body's size in bytes
//!     16      n  body
//! 16 + n      4  CRC-32C of everything before
//! ```
//! A file is written under a temporary name, synced, renamed into place, and the directory is synced: after a crash
//! there is the old file or the new one, whole.

use crate::codec::Fields;
use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, WriteError, cannot_make_room, cannot_open, cannot_write, damaged};

const HEADER_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

/// More than any such file needs; a larger one is damage, and is not read into memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What ends the name of a file that is being written. Whatever has it at start was never in use.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// One kind of such file.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
}

impl Kind {
    /// Reads the file's body; `None` if there is no such file.
    pub(crate) fn read<D: Disk>(&self, disk: &mut D) -> Result<Option<Vec<u8>>, OpenError> {
        let path = disk.describe(self.name);
        let Some(file) = disk.open(self.name).map_err(cannot_open("open", path.clone()))? else { return Ok(None) };
        let size_bytes = file.len().map_err(cannot_open("read", path.clone()))?;
        if size_bytes > MAX_FILE_BYTES {
            return Err(damaged(
                path,
                0,
                format!("the file has {size_bytes} bytes, at most {MAX_FILE_BYTES} make sense"),
            ));
        }
        let mut bytes = vec![0; usize::try_from(size_bytes).expect("at most 1 MiB")];
        file.read_at(0, &mut bytes).map_err(cannot_open("read", path.clone()))?;
        self.decode(path, &bytes).map(|body| Some(body.to_vec()))
    }

    fn decode<'a>(&self, path: String, bytes: &'a [u8]) -> Result<&'a [u8], OpenError> {
        let mut fields = Fields::new(bytes);
        let header = (fields.take_array::<8>(), fields.take_u32(), fields.take_u32());
        let (Some(magic), Some(version), Some(body_bytes)) = header else {
            return Err(damaged(path, 0, "the file ends within its header"));
        };
        if magic != self.magic {
            return Err(damaged(path, 0, format!("this is not the header of a file `{}`", self.name)));
        }
        let body = fields.take_bytes(usize::try_from(body_bytes).unwrap_or(usize::MAX));
        let (Some(body), Some(stated)) = (body, fields.take_u32()) else {
            return Err(damaged(path, 12, "the file ends before its body does"));
        };
        if !fields.is_empty() {
            return Err(damaged(path, 12, "the file goes on after its checksum"));
        }
        let covered = bytes.get(..HEADER_BYTES + body.len()).unwrap_or_default();
        let computed = crc32c::crc32c(covered);
        if computed != stated {
            return Err(damaged(path, 0, format!("the checksum is {stated:08x}, the bytes give {computed:08x}")));
        }
        // Only now: a flipped bit in the version is damage, not a file from the future.
        if version != self.version {
            return Err(OpenError::UnknownVersion { path, found: version, supported: self.version });
        }
        Ok(body)
    }

    pub(crate) fn encode(&self, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() + CRC_BYTES);
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(body.len()).expect("a body is small").to_le_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Puts a file with this body in place; durable on return.
    pub(crate) fn replace<D: Disk>(&self, disk: &mut D, body: &[u8]) -> Result<(), WriteError> {
        let temporary = format!("{}{TEMPORARY_SUFFIX}", self.name);
        let written =
            write_new(disk, &temporary, &self.encode(body)).and_then(|()| give_name(disk, &temporary, self.name));
        remove_if_no_room(disk, &temporary, written)?;
        sync_names(disk)
    }
}

fn write_new<D: Disk>(disk: &mut D, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
    let path = disk.describe(name);
    let mut file = disk.create(name).map_err(cannot_make_room("create", path.clone()))?;
    file.write_at(0, bytes).map_err(cannot_make_room("write", path.clone()))?;
    file.sync_data().map_err(cannot_make_room("sync", path))
}

/// Renames a synced file into place (F6). It counts once [`sync_names`] has returned.
pub(crate) fn give_name<D: Disk>(disk: &mut D, from: &str, to: &str) -> Result<(), WriteError> {
    disk.rename(from, to).map_err(cannot_make_room("rename", disk.describe(from)))
}

/// Makes names durable. If this fails nobody knows which are: also for a lack of space that is the end (rule 1).
pub(crate) fn sync_names<D: Disk>(disk: &mut D) -> Result<(), WriteError> {
    disk.sync_directory().map_err(cannot_write("sync", disk.describe("")))
}

/// A file that did not get all its room gives back what it got.
pub(crate) fn remove_if_no_room<D: Disk, T>(
    disk: &mut D,
    temporary: &str,
    made: Result<T, WriteError>,
) -> Result<T, WriteError> {
    if matches!(made, Err(WriteError::NoSpace { .. })) {
        // It may not even have been created; what stays is emptied by the next attempt.
        let _ = disk.remove(temporary);
    }
    made
}
