//! Snapshot files (§5, rule 9): the state at one index, and what the protocol must know of it.
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic "raftdsnp"
//!      8      4  format version
//!     12     24  identity
//!     36    472  zeros
//!    508      4  CRC-32C of bytes 0..508
//!    512         the body: the same, byte for byte, on every server it is sent to
//!
//! offset  bytes  field of the body
//!      0      4  m, size of what describes the snapshot
//!      4      4  running checksum over all before
//!      8      m  the last entry's term (8), index (8) and stamp (8); index of the configuration's entry (8);
//!                configuration (as in an entry)
//!  8 + m         chunks of the data, each: size n, not 0 (4); running checksum (4); n bytes
//!                the end: 0 (4); running checksum (4); count of chunks (8); their bytes (8)
//! ```
//! The running checksum of a part covers its size and its bytes, seeded with that of the part before: parts cannot be
//! lost, doubled or exchanged. A file is written under a temporary name, synced as it grows, and renamed into place when
//! it is whole: a snapshot that has its name is complete.
//!
//! Errors here are not the end of the server: without a snapshot the log only stays longer. Nothing is retried on a file
//! whose `fdatasync` failed; it is removed.

use std::io;

use bytes::Bytes;
use raft_core::{ClusterTime, LogIndex, LogPosition, Snapshot, Term};

use crate::codec::{Fields, put_at};
use crate::configuration::{encode_configuration, take_configuration};
use crate::disk::{Disk, DiskFile};
use crate::identity::Identity;
use crate::small_file::TEMPORARY_SUFFIX;
use crate::{SECTOR, SECTOR_BYTES};

const MAGIC: [u8; 8] = *b"raftdsnp";
const VERSION: u32 = 1;
const CRC_AT: usize = SECTOR_BYTES - 4;
const NAME_PREFIX: &str = "snapshot-";
const RECEIVED_PREFIX: &str = "received-";
const NAME_DIGITS: usize = 20;

/// Size and checksum of a part.
const PART_HEADER_BYTES: usize = 8;
/// Count and bytes behind the end's header.
const TOTALS_BYTES: usize = 16;
/// The largest description: a configuration is far smaller.
const MAX_DESCRIPTION_BYTES: usize = 1 << 20;
/// The largest chunk of data, in bytes.
pub const MAX_SNAPSHOT_CHUNK_BYTES: usize = 16 << 20;
/// After so many bytes a growing file is synced, so that the last `fdatasync` has little left to do.
const SYNC_STEP_BYTES: u64 = 1 << 20;

/// Why a snapshot cannot be written or read. It costs the snapshot, not the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not those that were written.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// The first byte that cannot be right, counted from 0.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The file is of a version this program does not know.
    #[error("{path} has format version {found}, this program knows version {supported}; use the program that wrote it")]
    UnknownVersion {
        /// The file.
        path: String,
        /// The version it states.
        found: u32,
        /// The version this program reads.
        supported: u32,
    },
    /// It is of another member than the directory.
    #[error("{path} is of {found}, but the directory is of {expected}; put back the file that belongs here")]
    ForeignFile {
        /// The file.
        path: String,
        /// Whose file it is.
        found: Identity,
        /// Whose directory it is.
        expected: Identity,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot at {last} in {path}")]
    Unknown {
        /// The directory.
        path: String,
        /// The snapshot that was asked for.
        last: LogPosition,
    },
    /// A chunk begins where none is expected.
    #[error("a chunk of the snapshot at {last} begins at byte {offset}, byte {wanted} is wanted")]
    OutOfOrder {
        /// The snapshot.
        last: LogPosition,
        /// Where the chunk begins.
        offset: u64,
        /// Where the next one should.
        wanted: u64,
    },
    /// It is larger than it may be.
    #[error("the snapshot at {last} has more than {limit_bytes} bytes")]
    TooLarge {
        /// The snapshot.
        last: LogPosition,
        /// The most that is taken.
        limit_bytes: u64,
    },
}

/// The snapshot files of a data directory. Independent of [`crate::Storage`], so that another thread can have it: a
/// large file takes its time.
#[derive(Debug)]
pub struct Snapshots<D: Disk> {
    disk: D,
    identity: Identity,
    receiving: Option<Receiving<D::File>>,
}

/// A snapshot that is being sent to this server.
#[derive(Debug)]
struct Receiving<F> {
    last: LogPosition,
    file: GrowingFile<F>,
}

/// A file under a temporary name.
#[derive(Debug)]
struct GrowingFile<F> {
    file: F,
    name: String,
    path: String,
    /// Where the next byte goes.
    end: u64,
    synced: u64,
}

impl<D: Disk> Snapshots<D> {
    /// The snapshots of the directory on `disk`, which belongs to `identity`.
    pub const fn new(disk: D, identity: Identity) -> Self {
        Self { disk, identity, receiving: None }
    }

    // --- this server's own ---------------------------------------------------------------------------------------

    /// Begins the file of `snapshot`.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn begin(&mut self, snapshot: &Snapshot) -> Result<SnapshotWriter<D::File>, SnapshotError> {
        let mut file = self.create(NAME_PREFIX, snapshot.last)?;
        let mut description = Vec::new();
        encode_description(snapshot, &mut description);
        let chain = file.put_part(&description, 0)?;
        Ok(SnapshotWriter { last: snapshot.last, file, chain, chunks: 0, data_bytes: 0 })
    }

    /// Ends the file: durable under its name on return. Gives its size in bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; then the file is gone.
    pub fn finish(&mut self, writer: SnapshotWriter<D::File>) -> Result<u64, SnapshotError> {
        let SnapshotWriter { last, mut file, chain, chunks, data_bytes } = writer;
        let name = file.name.clone();
        let finished = file.put_end(chain, chunks, data_bytes).and_then(|()| self.put_in_place(file, last));
        if finished.is_err() {
            self.discard(&name);
        }
        finished
    }

    /// Gives up a file that was begun.
    pub fn abandon(&mut self, writer: SnapshotWriter<D::File>) {
        self.discard(&writer.file.name);
    }

    // --- a leader's ----------------------------------------------------------------------------------------------

    /// Stores bytes of the body of the snapshot at `last`, which begin at `offset`. Byte 0 begins a snapshot anew, whatever
    /// was stored of it or of another. Gives the next byte that is wanted.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfOrder`] if they are not the next ones; [`SnapshotError::TooLarge`]; [`SnapshotError::Io`].
    /// After an error byte 0 is wanted.
    pub fn receive(
        &mut self,
        last: LogPosition,
        offset: u64,
        bytes: &[u8],
        limit_bytes: u64,
    ) -> Result<u64, SnapshotError> {
        let mut receiving = match self.receiving.take() {
            Some(receiving) if receiving.last == last && offset > 0 => receiving,
            other => {
                if let Some(other) = other {
                    self.discard(&other.file.name);
                }
                Receiving { last, file: self.create(RECEIVED_PREFIX, last)? }
            }
        };
        let wanted = receiving.file.end - SECTOR;
        let stored = if offset != wanted {
            Err(SnapshotError::OutOfOrder { last, offset, wanted })
        } else if wanted.saturating_add(bytes.len() as u64) > limit_bytes {
            Err(SnapshotError::TooLarge { last, limit_bytes })
        } else {
            receiving.file.put(bytes)
        };
        if let Err(error) = stored {
            self.discard(&receiving.file.name);
            return Err(error);
        }
        let wanted = receiving.file.end - SECTOR;
        self.receiving = Some(receiving);
        Ok(wanted)
    }

    /// All of the snapshot at `last` is stored: checks it from end to end and puts it in its place, durable on return.
    ///
    /// # Errors
    /// If it is damaged, or another; then it is gone.
    pub fn finish_received(&mut self, last: LogPosition) -> Result<Snapshot, SnapshotError> {
        let path = self.disk.describe("");
        let receiving = self.receiving.take().filter(|receiving| receiving.last == last);
        let Receiving { file, .. } = receiving.ok_or(SnapshotError::Unknown { path, last })?;
        let name = file.name.clone();
        let finished = self.check_received(&name, last).and_then(|snapshot| {
            self.put_in_place(file, last)?;
            Ok(snapshot)
        });
        if finished.is_err() {
            self.discard(&name);
        }
        finished
    }

    fn check_received(&mut self, name: &str, last: LogPosition) -> Result<Snapshot, SnapshotError> {
        let mut reader = self.open_file(name, last)?;
        while reader.next_chunk()?.is_some() {}
        Ok(reader.snapshot)
    }

    // --- reading -------------------------------------------------------------------------------------------------

    /// Up to `max_bytes` of the body of the snapshot at `last`, from `offset` on, and whether they are its last.
    ///
    /// # Errors
    /// If there is no such snapshot, or it cannot be read, or it is shorter.
    pub fn read_body(
        &mut self,
        last: LogPosition,
        offset: u64,
        max_bytes: usize,
    ) -> Result<(Bytes, bool), SnapshotError> {
        let name = file_name(NAME_PREFIX, last);
        let path = self.disk.describe(&name);
        let file = self.disk.open(&name).map_err(cannot("open", &path))?;
        let file = file.ok_or_else(|| SnapshotError::Unknown { path: self.disk.describe(""), last })?;
        let size_bytes = file.len().map_err(cannot("read", &path))?;
        let start = offset.saturating_add(SECTOR);
        let Some(rest) = size_bytes.checked_sub(start) else {
            return Err(SnapshotError::Damaged {
                path,
                offset: size_bytes,
                what: format!("it ends before byte {start}"),
            });
        };
        let count = rest.min(max_bytes as u64);
        let mut bytes = vec![0; usize::try_from(count).expect("at most `max_bytes`")];
        file.read_at(start, &mut bytes).map_err(cannot("read", &path))?;
        Ok((bytes.into(), count == rest))
    }

    /// Opens the data of the snapshot at `last`.
    ///
    /// # Errors
    /// If there is no such snapshot, or its beginning is damaged.
    pub fn open_data(&mut self, last: LogPosition) -> Result<SnapshotReader<D::File>, SnapshotError> {
        let name = file_name(NAME_PREFIX, last);
        let reader = self.open_file(&name, last)?;
        let sector = reader.source.read_array::<SECTOR_BYTES>(0)?;
        check_header(&reader.source.path, &sector, self.identity)?;
        Ok(reader)
    }

    /// The latest snapshot. Its data is not looked at.
    ///
    /// # Errors
    /// If what describes it cannot be read.
    pub fn newest(&mut self) -> Result<Option<Snapshot>, SnapshotError> {
        let newest = self.list()?.into_iter().max_by_key(|last| last.index);
        newest.map(|last| self.open_data(last).map(|reader| reader.snapshot)).transpose()
    }

    /// Removes the files of all snapshots but those at `kept`, and of none that is newer than all of these: whoever names
    /// them may not have been told of it yet, and may be about to rely on it.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; what was not removed is found the next time.
    pub fn remove_all_but(&mut self, kept: &[LogPosition]) -> Result<(), SnapshotError> {
        let newest_kept = kept.iter().map(|last| last.index).max();
        for last in self.list()? {
            if Some(last.index) <= newest_kept && !kept.contains(&last) {
                let name = file_name(NAME_PREFIX, last);
                self.disk.remove(&name).map_err(cannot("remove", &self.disk.describe(&name)))?;
            }
        }
        Ok(())
    }

    // --- files ---------------------------------------------------------------------------------------------------

    fn list(&self) -> Result<Vec<LogPosition>, SnapshotError> {
        let names = self.disk.list().map_err(cannot("list", &self.disk.describe("")))?;
        Ok(names.iter().filter_map(|name| position_in(name)).collect())
    }

    fn create(&mut self, prefix: &str, last: LogPosition) -> Result<GrowingFile<D::File>, SnapshotError> {
        let name = format!("{}{TEMPORARY_SUFFIX}", file_name(prefix, last));
        let path = self.disk.describe(&name);
        let file = self.disk.create(&name).map_err(cannot("create", &path))?;
        Ok(GrowingFile { file, name, path, end: SECTOR, synced: 0 })
    }

    /// Writes the header, syncs, renames and syncs the directory (F6). Gives the file's size.
    fn put_in_place(&mut self, mut file: GrowingFile<D::File>, last: LogPosition) -> Result<u64, SnapshotError> {
        file.file.write_at(0, &encode_header(self.identity)).map_err(cannot("write", &file.path))?;
        file.file.sync_data().map_err(cannot("sync", &file.path))?;
        let name = file_name(NAME_PREFIX, last);
        self.disk.rename(&file.name, &name).map_err(cannot("rename", &file.path))?;
        self.disk.sync_directory().map_err(cannot("sync", &self.disk.describe("")))?;
        Ok(file.end)
    }

    /// Nobody reads a file under a temporary name, so one that stays does no harm; the next start removes it.
    fn discard(&mut self, name: &str) {
        let _ = self.disk.remove(name);
    }

    fn open_file(&mut self, name: &str, last: LogPosition) -> Result<SnapshotReader<D::File>, SnapshotError> {
        let path = self.disk.describe(name);
        let file = self.disk.open(name).map_err(cannot("open", &path))?;
        let file = file.ok_or_else(|| SnapshotError::Unknown { path: self.disk.describe(""), last })?;
        SnapshotReader::open(Source::new(file, path)?, last)
    }
}

/// Writes a snapshot of this server's own.
#[derive(Debug)]
pub struct SnapshotWriter<F> {
    last: LogPosition,
    file: GrowingFile<F>,
    chain: u32,
    chunks: u64,
    data_bytes: u64,
}

impl<F: DiskFile> SnapshotWriter<F> {
    /// Writes the next chunk of the data. An empty one is none.
    ///
    /// # Errors
    /// [`SnapshotError::Io`], [`SnapshotError::TooLarge`]: the writer is to be abandoned.
    pub fn append(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        if chunk.len() > MAX_SNAPSHOT_CHUNK_BYTES {
            let limit_bytes = MAX_SNAPSHOT_CHUNK_BYTES as u64;
            return Err(SnapshotError::TooLarge { last: self.last, limit_bytes });
        }
        if !chunk.is_empty() {
            self.chain = self.file.put_part(chunk, self.chain)?;
            self.chunks += 1;
            self.data_bytes += chunk.len() as u64;
        }
        Ok(())
    }
}

impl<F: DiskFile> GrowingFile<F> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write_at(self.end, bytes).map_err(cannot("write", &self.path))?;
        self.end += bytes.len() as u64;
        if self.end - self.synced >= SYNC_STEP_BYTES {
            self.file.sync_data().map_err(cannot("sync", &self.path))?;
            self.synced = self.end;
        }
        Ok(())
    }

    /// Writes a part behind one with running checksum `chain`; gives its own.
    fn put_part(&mut self, bytes: &[u8], chain: u32) -> Result<u32, SnapshotError> {
        let size = u32::try_from(bytes.len()).expect("parts are small").to_le_bytes();
        let chain = part_chain(chain, size, bytes);
        let mut part = Vec::with_capacity(PART_HEADER_BYTES + bytes.len());
        part.extend_from_slice(&size);
        part.extend_from_slice(&chain.to_le_bytes());
        part.extend_from_slice(bytes);
        self.put(&part)?;
        Ok(chain)
    }

    fn put_end(&mut self, chain: u32, chunks: u64, data_bytes: u64) -> Result<(), SnapshotError> {
        let totals = encode_totals(chunks, data_bytes);
        let mut part = [0; PART_HEADER_BYTES + TOTALS_BYTES];
        put_at(&mut part, 4, &part_chain(chain, [0; 4], &totals).to_le_bytes());
        put_at(&mut part, PART_HEADER_BYTES, &totals);
        self.put(&part)
    }
}

/// Reads a snapshot's data, chunk by chunk, each checked before it is given.
#[derive(Debug)]
pub struct SnapshotReader<F> {
    source: Source<F>,
    snapshot: Snapshot,
    at: u64,
    chain: u32,
    chunks: u64,
    data_bytes: u64,
    is_over: bool,
}

impl<F: DiskFile> SnapshotReader<F> {
    fn open(source: Source<F>, last: LogPosition) -> Result<Self, SnapshotError> {
        let (size, stated) = source.read_part_header(SECTOR)?;
        let size_bytes = usize::try_from(size).unwrap_or(usize::MAX);
        if size_bytes > MAX_DESCRIPTION_BYTES {
            return Err(source.damaged(SECTOR, "what describes the snapshot is larger than any"));
        }
        let description = source.read(SECTOR + PART_HEADER_BYTES as u64, size_bytes)?;
        let chain = part_chain(0, size.to_le_bytes(), &description);
        if chain != stated {
            return Err(source.damaged(SECTOR + 4, "a wrong checksum of what describes the snapshot"));
        }
        let Some(snapshot) = decode_description(&description) else {
            return Err(source.damaged(SECTOR + 8, "what describes the snapshot makes no sense"));
        };
        if snapshot.last != last {
            let what = format!("this is the snapshot at {}, under the name of that at {last}", snapshot.last);
            return Err(source.damaged(SECTOR + 8, what));
        }
        let at = SECTOR + (PART_HEADER_BYTES + size_bytes) as u64;
        Ok(Self { source, snapshot, at, chain, chunks: 0, data_bytes: 0, is_over: false })
    }

    /// What the snapshot is of.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The next chunk; `None` once all were given and their count is right.
    ///
    /// # Errors
    /// If the file is damaged or cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        if self.is_over {
            return Ok(None);
        }
        let (size, stated) = self.source.read_part_header(self.at)?;
        let is_end = size == 0;
        let size_bytes = if is_end { TOTALS_BYTES } else { usize::try_from(size).unwrap_or(usize::MAX) };
        if size_bytes > MAX_SNAPSHOT_CHUNK_BYTES {
            return Err(self.source.damaged(self.at, "a chunk is larger than any"));
        }
        let bytes = self.source.read(self.at + PART_HEADER_BYTES as u64, size_bytes)?;
        let chain = part_chain(self.chain, size.to_le_bytes(), &bytes);
        if chain != stated {
            return Err(self.source.damaged(self.at, "a chunk's checksum does not continue the chain"));
        }
        let after = self.at + (PART_HEADER_BYTES + size_bytes) as u64;
        if is_end {
            if *bytes != encode_totals(self.chunks, self.data_bytes) {
                return Err(self.source.damaged(self.at, "the end counts other chunks than there are"));
            }
            if after != self.source.size_bytes {
                return Err(self.source.damaged(after, "bytes follow the end"));
            }
            self.is_over = true;
            return Ok(None);
        }
        self.at = after;
        self.chain = chain;
        self.chunks += 1;
        self.data_bytes += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

/// A file to read from.
#[derive(Debug)]
struct Source<F> {
    file: F,
    path: String,
    size_bytes: u64,
}

impl<F: DiskFile> Source<F> {
    fn new(file: F, path: String) -> Result<Self, SnapshotError> {
        let size_bytes = file.len().map_err(cannot("read", &path))?;
        Ok(Self { file, path, size_bytes })
    }

    /// Reads `count` bytes, after a look at whether the file has them.
    fn read(&self, at: u64, count: usize) -> Result<Bytes, SnapshotError> {
        if at.saturating_add(count as u64) > self.size_bytes {
            return Err(self.damaged(self.size_bytes, "the file ends here, before its end record"));
        }
        let mut bytes = vec![0; count];
        self.file.read_at(at, &mut bytes).map_err(cannot("read", &self.path))?;
        Ok(bytes.into())
    }

    fn read_array<const N: usize>(&self, at: u64) -> Result<[u8; N], SnapshotError> {
        let bytes = self.read(at, N)?;
        Ok(*bytes.first_chunk().expect("as many as were asked for"))
    }

    /// A part's size and the checksum it states.
    fn read_part_header(&self, at: u64) -> Result<(u32, u32), SnapshotError> {
        let [a, b, c, d, e, f, g, h] = self.read_array::<PART_HEADER_BYTES>(at)?;
        Ok((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
    }

    fn damaged(&self, offset: u64, what: impl Into<String>) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.clone(), offset, what: what.into() }
    }
}

fn part_chain(chain: u32, size: [u8; 4], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, &size), bytes)
}

fn encode_totals(chunks: u64, data_bytes: u64) -> [u8; TOTALS_BYTES] {
    let mut totals = [0; TOTALS_BYTES];
    put_at(&mut totals, 0, &chunks.to_le_bytes());
    put_at(&mut totals, 8, &data_bytes.to_le_bytes());
    totals
}

fn encode_description(snapshot: &Snapshot, bytes: &mut Vec<u8>) {
    let Snapshot { last, stamp, configuration, configuration_index } = snapshot;
    for number in [last.term.0, last.index.0, stamp.0, configuration_index.0] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    encode_configuration(configuration, bytes);
}

fn decode_description(bytes: &[u8]) -> Option<Snapshot> {
    let mut fields = Fields::new(bytes);
    let last = LogPosition::new(Term(fields.take_u64()?), LogIndex(fields.take_u64()?));
    let stamp = ClusterTime(fields.take_u64()?);
    let configuration_index = LogIndex(fields.take_u64()?);
    let configuration = take_configuration(&mut fields)?;
    let makes_sense = fields.is_empty() && last.index.0 > 0 && configuration_index <= last.index;
    makes_sense.then_some(Snapshot { last, stamp, configuration, configuration_index })
}

fn encode_header(identity: Identity) -> [u8; SECTOR_BYTES] {
    let mut bytes = [0; SECTOR_BYTES];
    put_at(&mut bytes, 0, &MAGIC);
    put_at(&mut bytes, 8, &VERSION.to_le_bytes());
    put_at(&mut bytes, 12, &identity.encode());
    let crc = crc32c::crc32c(bytes.get(..CRC_AT).unwrap_or_default());
    put_at(&mut bytes, CRC_AT, &crc.to_le_bytes());
    bytes
}

fn check_header(path: &str, bytes: &[u8; SECTOR_BYTES], expected: Identity) -> Result<(), SnapshotError> {
    let damaged = |what: &str| SnapshotError::Damaged { path: path.to_owned(), offset: 0, what: what.to_owned() };
    let (covered, stated) = bytes.split_at(CRC_AT);
    if stated != crc32c::crc32c(covered).to_le_bytes() {
        return Err(damaged("the header has a wrong checksum"));
    }
    let mut fields = Fields::new(covered);
    if fields.take_array() != Some(MAGIC) {
        return Err(damaged("this is not the header of a snapshot"));
    }
    let found = fields.take_u32().unwrap_or_default();
    if found != VERSION {
        return Err(SnapshotError::UnknownVersion { path: path.to_owned(), found, supported: VERSION });
    }
    match Identity::take(&mut fields) {
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(SnapshotError::ForeignFile { path: path.to_owned(), found, expected }),
        None => Err(damaged("the header names no member")),
    }
}

/// The name of a file of the snapshot at `last`; names sort as indices do.
fn file_name(prefix: &str, last: LogPosition) -> String {
    format!("{prefix}{:0NAME_DIGITS$}-{:0NAME_DIGITS$}", last.index.0, last.term.0)
}

/// Which snapshot a file is of; `None` for any other file.
fn position_in(name: &str) -> Option<LogPosition> {
    let (index, term) = name.strip_prefix(NAME_PREFIX)?.split_once('-')?;
    let number = |digits: &str| {
        let is_number = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { digits.parse().ok() } else { None }
    };
    Some(LogPosition::new(Term(number(term)?), LogIndex(number(index)?)))
}

/// Whether this is the name, without its suffix, of a snapshot's file that was never completed.
pub(crate) fn is_partial(stem: &str) -> bool {
    let own = stem.replacen(RECEIVED_PREFIX, NAME_PREFIX, 1);
    position_in(&own).is_some()
}

/// Names the file and the action of a failed call.
fn cannot(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, action, source }
}
