//! Reading a directory without changing it: for `raftd log` and `raftd replay`, and for opening.

use raft_core::{Entry, HardState, Incarnation, LogIndex, LogPosition, Snapshot, Term};

use crate::disk::Disk;
use crate::error::{OpenError, cannot_open, damaged};
use crate::formation::{self, Formation};
use crate::hard_state::{self, Slot};
use crate::identity::{self, Identity};
use crate::recovery::{self, LastSegment, LogScan, TornTail};
use crate::snapshot::Snapshots;
use crate::storage::check_terms;

/// What a stopped server's directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Whose it is.
    pub identity: Identity,
    /// The cluster, if one was formed.
    pub formation: Option<Formation>,
    /// Term and vote.
    pub hard_state: HardState,
    /// How often a server has started on it.
    pub incarnation: Incarnation,
    /// The latest snapshot, if there is one; its data is read with [`crate::Snapshots::open_data`].
    pub snapshot: Option<Snapshot>,
    /// The position before the log's first entry: the origin, unless the log was compacted.
    pub base: LogPosition,
    /// The log, after `base`.
    pub entries: Vec<Entry>,
    /// A batch that the last crash tore. It is not in `entries`, and is still on the disk.
    pub torn: Option<TornTail>,
}

/// Reads all of a directory, and changes nothing: no repair, no new incarnation. The disk is given up at the end, and
/// with it the directory's lock.
///
/// # Errors
/// [`OpenError`]; a directory no server has run on is [`OpenError::NotInitialised`].
pub fn read_log<D: Disk>(mut disk: D) -> Result<Contents, OpenError> {
    let Directory { identity, formation, slot, snapshot, log, last_segment, .. } = Directory::read(&mut disk)?;
    let Slot { hard_state, incarnation, .. } = slot;
    let KeptLog { base, entries, .. } = KeptLog::judge(&disk, log, snapshot.as_ref())?;
    let torn = last_segment.torn;
    Ok(Contents { identity, formation, hard_state, incarnation, snapshot, base, entries, torn })
}

/// All files of a directory, checked against each other.
pub(crate) struct Directory {
    pub(crate) identity: Identity,
    pub(crate) formation: Option<Formation>,
    pub(crate) slot: Slot,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) log: LogScan,
    pub(crate) last_segment: LastSegment,
    /// The names of all files.
    pub(crate) names: Vec<String>,
}

impl Directory {
    pub(crate) fn read<D: Disk>(disk: &mut D) -> Result<Self, OpenError> {
        let Some(identity) = identity::read(disk)? else {
            return Err(OpenError::NotInitialised { path: disk.describe("") });
        };
        let names = disk.list().map_err(cannot_open("list", disk.describe("")))?;
        let formation = formation::read(disk, identity)?;
        let path = disk.describe(hard_state::FILE_NAME);
        let slot = hard_state::read(disk)?.ok_or_else(|| damaged(path.clone(), 0, "the file is missing"))?;
        if slot.identity != identity {
            return Err(OpenError::ForeignFile { path, found: slot.identity, expected: identity });
        }
        let snapshot = Snapshots::new(&mut *disk, identity).newest()?;
        let (log, last_segment) = recovery::scan(disk, &names, identity, slot.last_segment)?;
        let last_entry = log.entries.last().map(|entry| entry.position);
        let last = last_entry.max(snapshot.as_ref().map(|snapshot| snapshot.last));
        check_terms(disk, &slot, last)?;
        Ok(Self { identity, formation, slot, snapshot, log, last_segment, names })
    }
}

/// What of the log counts beside the snapshot (§5.1).
pub(crate) struct KeptLog {
    pub(crate) base: LogPosition,
    pub(crate) entries: Vec<Entry>,
    /// The log does not hold the snapshot's last entry: all of it is from before, and goes on after that entry.
    pub(crate) is_void: bool,
}

impl KeptLog {
    /// A log that holds the snapshot's last entry stays, any other is void. What neither holds was lost.
    pub(crate) fn judge<D: Disk>(disk: &D, log: LogScan, snapshot: Option<&Snapshot>) -> Result<Self, OpenError> {
        let covered = snapshot.map_or(LogPosition::ORIGIN, |snapshot| snapshot.last);
        if log.base.index > covered.index {
            let what = format!(
                "the log begins after index {}, and no snapshot covers what came before; a file is missing",
                log.base.index
            );
            return Err(damaged(log.missing_file(disk), 0, what));
        }
        let LogScan { mut base, mut entries, .. } = log;
        if base.term == Term(0) && base.index == covered.index {
            // Both are committed, so they are the same.
            base = covered;
        } else if base.term == Term(0) && base.index > LogIndex(0) && !entries.is_empty() {
            base = entries.remove(0).position;
        }
        let after_base = covered.index.0.checked_sub(base.index.0).map(|distance| distance.checked_sub(1));
        let ours = match after_base {
            None => None,
            Some(None) => Some(base),
            Some(Some(place)) => {
                let place = usize::try_from(place).ok();
                place.and_then(|place| entries.get(place)).map(|entry| entry.position)
            }
        };
        if ours != Some(covered) {
            return Ok(Self { base: covered, entries: Vec::new(), is_void: true });
        }
        Ok(Self { base, entries, is_void: false })
    }
}
