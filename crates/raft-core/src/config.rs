//! What a server is told before it starts: its name, its timers, its limits and its seed.

use core::fmt;
use core::time::Duration;

use crate::configuration::Configuration;
use crate::types::{DiskId, Entry, HardState, Incarnation, LogIndex, LogPosition, NodeId, Snapshot, Term};

use alloc::vec::Vec;

/// The settings of one server's protocol. Fixed while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This server.
    pub id: NodeId,
    /// Its disk: it is a member only where a configuration names both (rule 2).
    pub disk: DiskId,
    /// Which start of its data directory this is (rule 3).
    pub incarnation: Incarnation,
    /// T: the shortest election timeout. Also for how long a follower that heard its leader grants no vote (§4.2.3).
    pub election_timeout_min: Duration,
    /// The longest election timeout, at least 2 T. Also for how long a leader leads without hearing a quorum (§6.2).
    pub election_timeout_max: Duration,
    /// How often a leader makes itself heard; below half of T, so that one lost heartbeat starts no election.
    pub heartbeat_interval: Duration,
    /// Decides every random choice of this server. Two servers with one seed would stand at the same moment for ever.
    pub seed: u64,
    /// About how many bytes of entries one AppendEntries carries. One entry is sent whatever its size.
    pub max_append_bytes: usize,
    /// How many AppendEntries may be on their way to one follower, unanswered; then the leader waits for an answer.
    pub max_inflight_messages: usize,
    /// How many bytes of entries may be on their way to one follower, unanswered.
    pub max_inflight_bytes: usize,
    /// How many bytes of the log may be uncommitted before a leader refuses proposals ([`Entry::size_bytes`]). One
    /// proposal passes whatever its size, if nothing is before it.
    pub max_uncommitted_bytes: usize,
    /// How many bytes of entries the disk may have to write before a leader refuses proposals, and a follower drops what
    /// its leader sends. One proposal, and one message, pass whatever their size, if nothing is before them.
    pub max_unsynced_bytes: usize,
    /// How many writes the disk may owe before the same happens: a driver whose queue holds some more never has to wait for
    /// its disk.
    pub max_unsynced_writes: usize,
    /// How many bytes of entries the log may hold in memory before it waits for nobody who is being sent a snapshot, and a
    /// leader refuses proposals. The driver takes snapshots before ([`Entry::size_bytes`]).
    pub max_log_bytes: usize,
    /// How many bytes of entries that a snapshot covers stay in the log, so that a follower a little behind needs no
    /// snapshot ([`Entry::size_bytes`]).
    pub log_tail_bytes: usize,
    /// How many bytes of a snapshot one InstallSnapshot carries.
    pub snapshot_chunk_bytes: usize,
    /// How many bytes of snapshots a second a leader sends, to all followers together.
    pub snapshot_bytes_per_second: u64,
}

impl Config {
    /// The defaults: T = 150 ms, heartbeats every 30 ms, 1 MiB a message, 256 messages or 32 MiB in flight, 128 MiB
    /// uncommitted and as much unsynced, in 8,000 writes, 1 GiB of log in memory, a tail of 8 MiB, snapshots in chunks of 1 MiB, 128 MiB of them a second.
    ///
    /// Those 128 MiB are twice the 64 that `raft-node` takes from clients at a time, so that it refuses at the door what would
    /// be too much, and nothing of what it has let in; and more than a log has between two snapshots, as a server that has just
    /// started does not know that any of it is committed. A disk of 140 MB a second writes as much while a leader still leads
    /// though its disk stands still.
    #[must_use]
    pub const fn new(id: NodeId, disk: DiskId, incarnation: Incarnation, seed: u64) -> Self {
        Self {
            id,
            disk,
            incarnation,
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            heartbeat_interval: Duration::from_millis(30),
            seed,
            max_append_bytes: 1 << 20,
            max_inflight_messages: 256,
            max_inflight_bytes: 32 << 20,
            max_uncommitted_bytes: 128 << 20,
            max_unsynced_bytes: 128 << 20,
            max_unsynced_writes: 8_000,
            max_log_bytes: 1 << 30,
            log_tail_bytes: 8 << 20,
            snapshot_chunk_bytes: 1 << 20,
            snapshot_bytes_per_second: 128 << 20,
        }
    }

    /// How long a chunk takes at the rate that snapshots may have.
    pub(crate) fn snapshot_chunk_interval(&self) -> Duration {
        let nanos = self.snapshot_chunk_bytes as u128 * 1_000_000_000 / u128::from(self.snapshot_bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What a server knows when it starts: read back from its disk.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The configuration the cluster was formed with; a later one in the snapshot or the log takes its place.
    pub initial: Configuration,
    /// The latest snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
    /// Where the log begins: the position before its first entry. The origin, unless a snapshot covers it.
    pub base: LogPosition,
    /// The log, from `base` on.
    pub entries: Vec<Entry>,
}

/// Why a server cannot start from what it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The longest election timeout is below twice the shortest.
    ElectionTimeoutsTooClose,
    /// The heartbeat interval is not below half the shortest election timeout, or zero.
    HeartbeatTooSlow,
    /// A limit is zero.
    LimitZero,
    /// The log does not go on where it should, has a gap, or its terms go backwards.
    LogBroken {
        /// The index that was expected.
        expected: LogIndex,
    },
    /// The snapshot does not reach where the log begins, or its last entry is not the log's.
    SnapshotApart {
        /// Where the log begins.
        base: LogPosition,
        /// Where the snapshot ends, if there is one.
        snapshot: Option<LogPosition>,
    },
    /// The log holds an entry of a term that the hard state does not know: the hard state is an old copy.
    HardStateBehindLog {
        /// The hard state's term.
        term: Term,
        /// The last entry's.
        log_term: Term,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ElectionTimeoutsTooClose => {
                f.write_str("the longest election timeout must be at least twice the shortest; raise it")
            }
            Self::HeartbeatTooSlow => {
                f.write_str("the heartbeat interval must be above zero and below half the shortest election timeout")
            }
            Self::LimitZero => f.write_str("a limit of zero lets nothing through; raise it"),
            Self::LogBroken { expected } => write!(f, "the log is broken: entry {expected} is missing or out of order"),
            Self::SnapshotApart { base, snapshot: Some(last) } => {
                write!(f, "the log begins after {base}, and the snapshot at {last} does not lead there")
            }
            Self::SnapshotApart { base, snapshot: None } => {
                write!(f, "the log begins after {base}, and there is no snapshot of what came before")
            }
            Self::HardStateBehindLog { term, log_term } => {
                write!(f, "the hard state is of term {term}, the log of term {log_term}: an old copy of the hard state")
            }
        }
    }
}

impl core::error::Error for StartError {}

impl Config {
    pub(crate) fn check(&self) -> Result<(), StartError> {
        if self.election_timeout_max < self.election_timeout_min * 2 {
            return Err(StartError::ElectionTimeoutsTooClose);
        }
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval * 2 >= self.election_timeout_min {
            return Err(StartError::HeartbeatTooSlow);
        }
        let limits = [
            self.max_append_bytes,
            self.max_inflight_messages,
            self.max_inflight_bytes,
            self.max_uncommitted_bytes,
            self.max_unsynced_bytes,
            self.max_unsynced_writes,
            self.max_log_bytes,
        ];
        let snapshot_limits = [self.snapshot_chunk_bytes as u64, self.snapshot_bytes_per_second];
        if limits.contains(&0) || snapshot_limits.contains(&0) {
            return Err(StartError::LimitZero);
        }
        Ok(())
    }
}

impl Restored {
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let mut expected = self.base.index.next();
        let mut log_term = self.base.term;
        for entry in &self.entries {
            if entry.position.index != expected || entry.position.term < log_term {
                return Err(StartError::LogBroken { expected });
            }
            log_term = entry.position.term;
            expected = expected.next();
        }
        if log_term > self.hard_state.term {
            return Err(StartError::HardStateBehindLog { term: self.hard_state.term, log_term });
        }
        self.check_snapshot()
    }

    /// The snapshot covers what the log has forgotten, and ends at a position of the log.
    fn check_snapshot(&self) -> Result<(), StartError> {
        let last = self.snapshot.as_ref().map_or(LogPosition::ORIGIN, |snapshot| snapshot.last);
        let after_base = last.index.0.checked_sub(self.base.index.0).map(|distance| distance.checked_sub(1));
        let ours = match after_base {
            None => None,
            Some(None) => Some(self.base),
            Some(Some(place)) => {
                usize::try_from(place).ok().and_then(|place| self.entries.get(place)).map(|entry| entry.position)
            }
        };
        if ours != Some(last) {
            let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.last);
            return Err(StartError::SnapshotApart { base: self.base, snapshot });
        }
        Ok(())
    }
}
