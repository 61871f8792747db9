//! Reading a directory without changing it: for `raftd log` and `raftd replay`, and for opening.

use raft_core::{Entry, HardState, Incarnation};

use crate::disk::Disk;
use crate::error::{OpenError, cannot_open, damaged};
use crate::formation::{self, Formation};
use crate::hard_state::{self, Slot};
use crate::identity::{self, Identity};
use crate::recovery::{self, LastSegment, LogScan, TornTail};
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
    /// The log, from index 1.
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
    let Directory { identity, formation, slot, log, last_segment, .. } = Directory::read(&mut disk)?;
    let Slot { hard_state, incarnation, .. } = slot;
    Ok(Contents { identity, formation, hard_state, incarnation, entries: log.entries, torn: last_segment.torn })
}

/// All files of a directory, checked against each other.
pub(crate) struct Directory {
    pub(crate) identity: Identity,
    pub(crate) formation: Option<Formation>,
    pub(crate) slot: Slot,
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
        let (log, last_segment) = recovery::scan(disk, &names, identity, slot.last_segment)?;
        check_terms(disk, &slot, &log.entries)?;
        Ok(Self { identity, formation, slot, log, last_segment, names })
    }
}
