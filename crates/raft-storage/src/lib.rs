//! The Raft log and hard state on disk (§3.8, §11.7.3; rules 1, 2, 4 and 5 of the design).
//!
//! A Raft server may say "I have it" only when a power cut can no longer take it back. This crate is where that
//! becomes true: [`Storage::append`] takes what the protocol wants written ([`raft_core::Write`]) and returns when it
//! is durable; [`Storage::open`] gives it all back after a crash, or says in which file and at which byte it cannot.
//!
//! # The idea of the log
//! Every storage engine must tell two kinds of bad bytes apart at the end of its log:
//! - **torn**: the power went while the last batch was being written. Nobody was told it is durable, so it is cut.
//! - **damaged**: the disk lost something it had promised to keep. Cutting it could lose acknowledged writes, so it
//!   never happens silently: the server refuses to start.
//!
//! A checksum alone cannot tell them apart. Three things together can:
//! 1. Segments are *filled ahead* with a pattern made from the segment's secret random id, and the filler is synced
//!    before a batch may use the place. A sector the interrupted write never reached still holds exactly its filler.
//!    So bad bytes without a whole sector of filler were not torn by us: they are damage.
//! 2. Batch k+1 is written only after the `fdatasync` of batch k returned. So anything after batch k proves that
//!    k was durable, and only the very last batch can be torn. [`Storage::mark_idle`] writes an empty batch
//!    behind the last one when there is time, so that even that doubt is gone soon.
//! 3. Each checksum is seeded with the one before it, the first with the segment's id. Whatever an overwritten or
//!    recycled place still holds cannot continue the chain: no ghost ever reads as an entry.
//!
//! # Where to read
//! `storage` is the door, `log` the writer, `recovery` the reader with all decisions about torn and damaged; `batch`,
//! `segment`, `snapshot`, `hard_state`, `identity` and `formation` are the formats (drawn byte by byte in `docs/formats.md`);
//! [`Disk`] is what the world must offer, [`FsDisk`] a directory, [`MemDisk`] a disk for tests that loses what was
//! not synced.
//!
//! # What it deliberately does not do
//! No retries: after one failed write or fsync nobody knows what the disk holds (F1), so every later call fails and
//! the process must stop. A lack of space is no such failure, since it is noticed before anything is promised
//! ([`WriteError::NoSpace`]; F8). No repair of damage from peers yet. No thread of its own: the calls block, and `raft-node`
//! gives them threads: one for the log, one for snapshots ([`Snapshots`]).

mod ballast;
mod batch;
mod codec;
mod configuration;
mod disk;
mod error;
mod filler;
mod formation;
mod fs_disk;
mod hard_state;
mod identity;
mod log;
pub mod mem_disk;
mod reader;
mod recovery;
mod segment;
mod small_file;
mod snapshot;
mod storage;

pub use batch::{MAX_BATCH_BYTES, MAX_ENTRY_BYTES};
pub use disk::{Disk, DiskFile};
pub use error::{OpenError, WriteError};
pub use formation::Formation;
pub use fs_disk::{FsDisk, FsFile};
pub use identity::Identity;
pub use log::MIN_SEGMENT_BYTES;
pub use mem_disk::{MemDisk, Unsynced};
pub use reader::{Contents, read_log};
pub use recovery::TornTail;
pub use snapshot::{MAX_SNAPSHOT_CHUNK_BYTES, SnapshotError, SnapshotReader, SnapshotWriter, Snapshots};
pub use storage::{Options, RandomSource, Recovered, Storage};

/// The unit a disk writes whole or not at all. Larger physical sectors are multiples of it.
const SECTOR_BYTES: usize = 512;
/// [`SECTOR_BYTES`], where file offsets are counted.
const SECTOR: u64 = 512;
