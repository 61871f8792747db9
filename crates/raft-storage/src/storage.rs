//! The door: opening a data directory, and everything written to it since (rules 1 to 5).

use std::collections::VecDeque;
use std::fmt;

use raft_core::{DiskId, Entry, HardState, Incarnation, LogIndex, LogPosition, NodeId, Snapshot, Write};

use crate::ballast::{self, Ballast};
use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, WriteError, cannot_open, cannot_write, damaged};
use crate::formation::{self, Formation};
use crate::hard_state::{self, HardStateFile, Slot};
use crate::identity::{self, Identity};
use crate::log::{ActiveSegment, LogWriter, SegmentSpan, Surroundings, create_segment, sectors_up};
use crate::reader::{Directory, KeptLog};
use crate::recovery::{LastSegment, TornTail};
use crate::segment::{self, LogEnd, SegmentHeader};
use crate::small_file::{TEMPORARY_SUFFIX, sync_names};
use crate::snapshot;

/// Gives 128 random bits a call: disk ids and segment ids. They must be unpredictable and never repeat; a test gives
/// a seeded one.
pub type RandomSource = Box<dyn FnMut() -> u128 + Send>;

/// How to open a directory.
pub struct Options {
    /// Who opens it.
    pub node: NodeId,
    /// Size of a segment of the log, in bytes; default 64 MiB, at least [`crate::MIN_SEGMENT_BYTES`]. Counts for
    /// segments begun from now on. A batch that is larger gets a segment of its own size.
    pub segment_size_bytes: u64,
    /// Where ids come from; by default the system's generator.
    pub random: RandomSource,
}

impl Options {
    /// The defaults for `node`.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self { node, segment_size_bytes: 64 << 20, random: Box::new(system_random) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("node", &self.node)
            .field("segment_size_bytes", &self.segment_size_bytes)
            .finish_non_exhaustive()
    }
}

fn system_random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("without randomness no id is safe to make");
    u128::from_le_bytes(bytes)
}

/// What a directory held when it was opened. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The latest snapshot, if there is one; its data is read with [`crate::Snapshots::open_data`].
    pub snapshot: Option<Snapshot>,
    /// The position before the log's first entry: the origin, unless the log was compacted.
    pub base: LogPosition,
    /// The log, after `base`. It holds the snapshot's last entry, or `base` is that entry.
    pub entries: Vec<Entry>,
    /// Which start of this directory this is, from 1.
    pub incarnation: Incarnation,
    /// What the last crash tore off the log, if anything. Nobody was told that it was durable.
    pub torn: Option<TornTail>,
}

/// An open data directory.
pub struct Storage<D: Disk> {
    disk: D,
    identity: Identity,
    formation: Option<Formation>,
    hard_state: HardStateFile<D::File>,
    log: LogWriter<D::File>,
    random: RandomSource,
    ballast: Ballast,
    /// After one failure nobody knows what the disk holds: every later call fails (F1).
    has_failed: bool,
}

impl<D: Disk> fmt::Debug for Storage<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("identity", &self.identity)
            .field("incarnation", &self.incarnation())
            .field("has_failed", &self.has_failed)
            .finish_non_exhaustive()
    }
}

impl<D: Disk> Storage<D> {
    /// Opens a directory: initialises an empty one, else reads it back, mends what a crash left, and counts one
    /// incarnation more. On return all that was recovered is durable, also what only the page cache knew before.
    ///
    /// # Errors
    /// [`OpenError`]; unless it is [`OpenError::Write`] nothing was changed.
    pub fn open(mut disk: D, options: Options) -> Result<(Self, Recovered), OpenError> {
        let Options { node, segment_size_bytes, mut random } = options;
        match identity::read(&mut disk)? {
            Some(found) if found.node != node => return Err(foreign(&mut disk, found, node)),
            Some(_) => {}
            None => initialise(&mut disk, node, segment_size_bytes, &mut random)?,
        }
        let Directory { identity, formation, slot, snapshot, log, last_segment, names } = Directory::read(&mut disk)?;
        let (end, is_unmarked, spans) = (log.end, log.is_unmarked, log.spans.clone());
        let KeptLog { base, entries, is_void } = KeptLog::judge(&disk, log, snapshot.as_ref())?;
        // On a full disk the rest may need its space.
        ballast::remove(&mut disk)?;
        remove_left_over_files(&mut disk, &names, &spans)?;
        let (torn, last_number) = (last_segment.torn.clone(), last_segment.header.number);
        let segment = reopen_segment(&mut disk, last_segment)?;
        sync_names(&mut disk)?;
        let mut hard_state = HardStateFile::open(&mut disk, slot)?;
        hard_state.begin_incarnation(last_number)?;
        let log = LogWriter::new(identity, segment_size_bytes, segment, end, spans, is_unmarked);
        let Slot { hard_state: promised, incarnation, .. } = hard_state.durable();
        let recovered = Recovered { hard_state: promised, snapshot, base, entries, incarnation, torn };
        let ballast = Ballast::new(segment_size_bytes);
        let mut storage = Self { disk, identity, formation, hard_state, log, random, ballast, has_failed: false };
        if is_void {
            storage.restart_log(base)?;
        }
        storage.regain_space()?;
        Ok((storage, recovered))
    }

    /// Whose directory this is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Which start of this directory this is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.hard_state.durable().incarnation
    }

    /// The cluster this server belongs to, once that is written.
    #[must_use]
    pub const fn formation(&self) -> Option<&Formation> {
        self.formation.as_ref()
    }

    /// Whether the ballast is in place. If it is not, its space was needed or was never there, so the disk is full: nothing
    /// new should be taken on until [`Storage::regain_space`] has made it again.
    #[must_use]
    pub const fn has_space(&self) -> bool {
        self.ballast.is_there()
    }

    /// Makes the ballast again, if it is gone and there is space for it. Whether it is in place.
    ///
    /// # Errors
    /// [`WriteError`], but never for a lack of space: the process must stop.
    pub fn regain_space(&mut self) -> Result<bool, WriteError> {
        if !self.ballast.is_there() {
            self.guarded(|storage| storage.ballast.make(&mut storage.disk))?;
        }
        Ok(self.ballast.is_there())
    }

    /// Writes the formation in place of an earlier one; durable on return.
    ///
    /// # Errors
    /// [`WriteError`]: the process must stop, unless it is [`WriteError::NoSpace`]; then the earlier one is still there.
    pub fn write_formation(&mut self, formation: Formation) -> Result<(), WriteError> {
        self.growing(|storage| formation::write(&mut storage.disk, storage.identity, &formation))?;
        self.formation = Some(formation);
        Ok(())
    }

    /// Writes all of `writes`; durable on return. The last hard state first, if it changed, with one `fdatasync`; then
    /// truncations and entries as one batch with another. Only writes that exceed [`crate::MAX_BATCH_BYTES`] or a
    /// segment take several batches; a crash in between keeps those that came first.
    ///
    /// # Errors
    /// [`WriteError::NoSpace`]: the rest of the log's part is not written. The call is to be made again, with the same
    /// writes first, before any other writes to the log. Any other [`WriteError`]: the process must stop, and which part of
    /// the writes is durable, the next start finds out.
    ///
    /// # Panics
    /// If the entries do not follow the end of the log: the protocol's bug, and the log would be unreadable.
    pub fn append(&mut self, writes: &[Write]) -> Result<(), WriteError> {
        self.growing(|storage| {
            if let Some(hard_state) = writes.iter().rev().find_map(|write| write.hard_state) {
                storage.hard_state.write(hard_state)?;
            }
            let (log, around) = storage.log_and_surroundings();
            log.append(around, writes)
        })
    }

    /// Removes what the log no longer needs: whole files of entries up to `through`, which a snapshot on this disk covers.
    ///
    /// # Errors
    /// [`WriteError`]: the process must stop.
    pub fn compact(&mut self, through: LogIndex) -> Result<(), WriteError> {
        self.guarded(|storage| storage.log.compact(&mut storage.disk, through))
    }

    /// Writes down that the log goes on after `base`, which the latest snapshot covers.
    fn restart_log(&mut self, base: LogPosition) -> Result<(), WriteError> {
        self.guarded(|storage| {
            let (log, around) = storage.log_and_surroundings();
            log.restart(around, base)
        })
    }

    /// For a quiet moment and for the end: proves the last batch durable by an empty one behind it, unless it is proved
    /// already, and fills the segment ahead. If there is no space for that, nobody misses it.
    ///
    /// # Errors
    /// [`WriteError`], but never for a lack of space: the process must stop.
    pub fn mark_idle(&mut self) -> Result<(), WriteError> {
        let marked = self.growing(|storage| {
            let (log, around) = storage.log_and_surroundings();
            log.mark_idle(around)
        });
        if matches!(marked, Err(WriteError::NoSpace { .. })) { Ok(()) } else { marked }
    }

    fn log_and_surroundings(&mut self) -> (&mut LogWriter<D::File>, Surroundings<'_, D>) {
        let Self { disk, random, hard_state, log, .. } = self;
        (log, Surroundings { disk, random, hard_state })
    }

    /// Runs one change that may need new space. If there is none, once more with the ballast's.
    fn growing(&mut self, mut change: impl FnMut(&mut Self) -> Result<(), WriteError>) -> Result<(), WriteError> {
        self.guarded(|storage| match change(storage) {
            Err(WriteError::NoSpace { .. }) if storage.ballast.is_there() => {
                storage.ballast.release(&mut storage.disk)?;
                change(storage)
            }
            outcome => outcome,
        })
    }

    /// Runs one change, unless one has failed before.
    fn guarded(&mut self, change: impl FnOnce(&mut Self) -> Result<(), WriteError>) -> Result<(), WriteError> {
        if self.has_failed {
            return Err(WriteError::Stopped);
        }
        // Set first, so that a panic in between counts as a failure too.
        self.has_failed = true;
        let changed = change(self);
        self.has_failed = !matches!(changed, Ok(()) | Err(WriteError::NoSpace { .. }));
        changed
    }
}

/// The refusal of another node's directory; its cluster is named if it can be read.
fn foreign<D: Disk>(disk: &mut D, found: Identity, wanted: NodeId) -> OpenError {
    let formation = formation::read(disk, found).ok().flatten();
    let cluster = formation.map(|formation| formation.cluster);
    OpenError::Foreign { path: disk.describe(""), found: found.node, cluster, wanted }
}

/// Makes the files of a new directory. `identity` comes last: before it is durable, everything may be made again.
fn initialise<D: Disk>(
    disk: &mut D,
    node: NodeId,
    segment_bytes: u64,
    random: &mut RandomSource,
) -> Result<(), OpenError> {
    check_never_used(disk)?;
    let identity = Identity { node, disk: DiskId(random()) };
    let (hard_state, incarnation) = (HardState::default(), Incarnation(0));
    HardStateFile::create(disk, Slot { identity, sequence: 1, hard_state, incarnation, last_segment: 1 })?;
    let header = SegmentHeader { identity, segment_id: random(), number: 1, start: LogEnd::default() };
    create_segment(disk, header, segment_bytes)?;
    identity::write(disk, identity)?;
    Ok(())
}

/// A directory without `identity` must be new, or its creation was interrupted. If a server has run on it, `identity`
/// was lost, and starting afresh would forget votes and entries.
fn check_never_used<D: Disk>(disk: &mut D) -> Result<(), OpenError> {
    let names = disk.list().map_err(cannot_open("list", disk.describe("")))?;
    let is_late =
        |name: &String| name == formation::FILE.name || segment::number_in(name).is_some_and(|number| number > 1);
    let has_run = match hard_state::read(disk) {
        Ok(slot) => slot.is_some_and(|slot| slot.incarnation > Incarnation(0)),
        // Cut off while it was being made, or damaged: the file of an interrupted creation was never synced.
        Err(OpenError::Damaged { .. }) => false,
        Err(other) => return Err(other),
    };
    if has_run || names.iter().any(is_late) {
        let path = disk.describe(identity::FILE.name);
        return Err(damaged(path, 0, "the file is missing, though a server has run on this directory"));
    }
    Ok(())
}

/// What a crash left under a temporary name was never in use, and segments before the log's first were on their way out.
fn remove_left_over_files<D: Disk>(
    disk: &mut D,
    names: &[String],
    spans: &VecDeque<SegmentSpan>,
) -> Result<(), WriteError> {
    let first = spans.front().map_or(0, |span| span.number);
    for name in names {
        let stem = name.strip_suffix(TEMPORARY_SUFFIX);
        let is_unfinished = stem.is_some_and(|stem| {
            stem == identity::FILE.name
                || stem == formation::FILE.name
                || segment::number_in(stem).is_some()
                || snapshot::is_partial(stem)
        });
        if is_unfinished || segment::number_in(name).is_some_and(|number| number < first) {
            disk.remove(name).map_err(cannot_write("remove", disk.describe(name)))?;
        }
    }
    Ok(())
}

/// Opens the last segment for writing. What was read may be in the page cache only: the process was killed before its
/// `fdatasync`, or that failed and left the pages clean (F1). So everything that no later batch proves durable is
/// written again: the last batch, and the filler behind it, which also wipes out a torn batch (F4).
fn reopen_segment<D: Disk>(disk: &mut D, last: LastSegment) -> Result<ActiveSegment<D::File>, OpenError> {
    let name = segment::file_name(last.header.number);
    let path = disk.describe(&name);
    let file = disk.open(&name).map_err(cannot_open("open", path.clone()))?;
    let file = file.ok_or_else(|| damaged(path.clone(), 0, "the segment has gone"))?;
    let filled_to = sectors_up(last.file_bytes);
    let mut segment = ActiveSegment { file, path, header: last.header, end: last.end, filled_to };
    let batch_at = last.end - last.last_batch.len() as u64;
    segment.file.write_at(batch_at, &last.last_batch).map_err(cannot_write("write", segment.path.clone()))?;
    segment.write_filler(last.end, filled_to)?;
    Ok(segment)
}

/// The hard state must know the term of every entry: it is written first.
pub(crate) fn check_terms<D: Disk>(disk: &D, slot: &Slot, last: Option<LogPosition>) -> Result<(), OpenError> {
    let known = slot.hard_state.term;
    match last {
        Some(last) if last.term > known => {
            let what = format!("it knows term {known}, but the log ends with entry {last}; it is an old copy");
            Err(damaged(disk.describe(hard_state::FILE_NAME), 48, what))
        }
        Some(_) | None => Ok(()),
    }
}
