//! A simulated machine: a disk, a clock, and the server's process while it runs.

use std::collections::{BTreeMap, VecDeque};

use raft_core::{Instant, NodeId};
use raft_net::{Frame, LinkKind, Welcome};
use raft_node::{
    ConnectionId, DiskDone, DiskJob, DiskQueue, NodeConfig, PeerIdentity, Server, SnapshotDone, SnapshotJob,
    SnapshotWorker, View,
};
use raft_storage::{MemDisk, Storage};
use raftd::machine::KvMachine;
use raftd::service::ClientService;

use crate::disk::SimDisk;
use crate::time::Time;

/// The server that ships.
pub(crate) type KvServer = Server<KvMachine, ClientService>;

/// A machine.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) config: NodeConfig,
    pub(crate) disk: MemDisk,
    pub(crate) process: Option<Box<Process>>,
    /// How often a process was started here.
    pub(crate) starts: u64,
    /// In millionths of the true rate.
    pub(crate) clock_rate: u64,
    pub(crate) paused_until: Time,
    /// A leader that sleeps until it is most wrong.
    pub(crate) ambush: Ambush,
    /// The next turn ends right after its clock was read, for so long.
    pub(crate) pause_after_clock: Option<Time>,
    /// Until when its disk does nothing.
    pub(crate) stalled_until: Time,
    /// The power goes in the middle of the disk's next work; the process starts again after so long.
    pub(crate) crash_in_write: Option<Time>,
    /// The next start reads a wrong sector at its n-th read.
    pub(crate) misdirect: u64,
    pub(crate) fate: Fate,
    /// Whether a start is planned.
    pub(crate) will_start: bool,
}

/// When a leader that stands still, and was replaced, wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ambush {
    /// When its time is over.
    None,
    /// With the first message after the first write under the new leader.
    Set,
    /// There was that write: with the next message, then.
    Sprung,
}

/// What has become of a machine's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All that was synced is there.
    Sound,
    /// Bits have rotted; the server has not been started since.
    Rotten,
    /// Bits have rotted, and the server has refused to start.
    Refused,
    /// The disk was replaced by an empty one, which is no voter yet.
    Wiped,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    /// Which start of the machine this is; starts that failed count.
    pub(crate) number: u64,
    pub(crate) server: KvServer,
    pub(crate) storage: Storage<SimDisk>,
    pub(crate) view: View,
    pub(crate) identity: PeerIdentity,
    /// Whom it wants links to.
    pub(crate) peers: BTreeMap<NodeId, String>,
    /// When it was started.
    pub(crate) started: Time,
    pub(crate) inbox: VecDeque<Happening>,
    pub(crate) has_turn: bool,
    pub(crate) alarm: Option<Time>,
    /// What waits for the disk.
    pub(crate) jobs: Vec<DiskJob>,
    /// What the disk is working on.
    pub(crate) working: Option<Vec<DiskJob>>,
    /// What waits for space.
    pub(crate) queue: DiskQueue,
    /// Whether a look for space is planned.
    pub(crate) will_look: bool,
    pub(crate) disk_rounds: u64,
    pub(crate) snapshots: SnapshotWorker<SimDisk>,
    /// What waits to be done for snapshots; the first is being done if `is_busy_with_snapshots`.
    pub(crate) snapshot_jobs: VecDeque<SnapshotJob<KvMachine>>,
    pub(crate) is_busy_with_snapshots: bool,
    /// A clock that was read before a pause and is used after it.
    pub(crate) held_clock: Option<Instant>,
    /// It is to stop in order, and to start again after so long.
    pub(crate) restart_after: Option<Time>,
    /// Since when it has been stopping, by its clock.
    pub(crate) stopping: Option<Instant>,
}

/// What a process is told.
#[derive(Debug)]
pub(crate) enum Happening {
    Disk(DiskDone),
    Snapshot(SnapshotDone<KvMachine>),
    Peer {
        from: PeerIdentity,
        frame: Frame,
    },
    PeerMet {
        from: PeerIdentity,
        client_address: String,
    },
    PeerLinkLost {
        peer: NodeId,
        link: LinkKind,
    },
    LinkUp {
        peer: NodeId,
        link: LinkKind,
        welcome: Welcome,
    },
    SeedFound {
        address: String,
        welcome: Welcome,
    },
    LinkLost {
        peer: NodeId,
        link: LinkKind,
    },
    Request {
        connection: ConnectionId,
        frame: Frame,
    },
    /// Pushed frames were written to a client.
    Pushed {
        connection: ConnectionId,
        frames: usize,
        size_bytes: usize,
    },
    /// A client has closed its connection.
    Left {
        connection: ConnectionId,
    },
    Stop,
}

impl Node {
    pub(crate) fn process(&self, number: u64) -> Option<&Process> {
        self.process.as_deref().filter(|process| process.number == number)
    }

    pub(crate) fn process_mut(&mut self, number: u64) -> Option<&mut Process> {
        self.process.as_deref_mut().filter(|process| process.number == number)
    }

    /// Whether its process runs and is not paused.
    pub(crate) fn is_awake(&self, now: Time) -> bool {
        self.process.is_some() && self.paused_until <= now
    }

    /// Whether its process runs and will not pause, on a disk that works and has space.
    pub(crate) fn is_fit(&self, now: Time) -> bool {
        let has_space = |process: &Process| !process.queue.is_full();
        let is_awake = self.is_awake(now) && self.pause_after_clock.is_none();
        is_awake && self.stalled_until <= now && self.process.as_deref().is_some_and(has_space)
    }

    /// What its process's clock shows.
    pub(crate) fn clock(&self, started: Time, now: Time) -> Instant {
        let elapsed = u128::from(now - started) * u128::from(self.clock_rate) / 1_000_000;
        Instant(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// When its process's clock will show `local`.
    pub(crate) fn moment(&self, started: Time, local: Instant) -> Time {
        let elapsed = (u128::from(local.0) * 1_000_000).div_ceil(u128::from(self.clock_rate));
        started.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}
