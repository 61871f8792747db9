//! One server of the model: the shipped protocol, a disk with writes under way, and a clock that moves when told.

use std::sync::LazyLock;
use std::time::Duration;

use raft_core::{
    Config, Configuration, DiskId, Entry, HardState, Incarnation, Instant, LogIndex, Member, NodeId, Raft, Restored,
    Write,
};

/// The shortest election timeout, T. All timers are as short as they may be: only their order matters.
pub(crate) const TIMEOUT: Duration = Duration::from_nanos(3);

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    pub(crate) fn take(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.position.index < from);
        }
        self.entries.extend(write.entries.iter().cloned());
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) raft: Raft,
    pub(crate) now: Instant,
    pub(crate) incarnation: Incarnation,
    pub(crate) disk: Disk,
    /// What it has asked its disk to write, in order.
    pub(crate) under_way: Vec<Write>,
}

impl Server {
    /// The next incarnation, with what its disk has kept.
    pub(crate) fn restarted(&self, disk: Disk) -> Self {
        Self::start(self.raft.id(), Incarnation(self.incarnation.0 + 1), disk)
    }

    /// Its log, from index 1.
    pub(crate) fn log(&self) -> impl Iterator<Item = &Entry> {
        let log = self.raft.log();
        log.range(LogIndex(1), log.last_index())
    }

    pub(crate) fn start(id: NodeId, incarnation: Incarnation, disk: Disk) -> Self {
        let mut config = Config::new(id, disk_of(id), incarnation, id.as_u64());
        config.heartbeat_interval = Duration::from_nanos(1);
        config.election_timeout_min = TIMEOUT;
        config.election_timeout_max = 2 * TIMEOUT;
        let restored = Restored {
            hard_state: disk.hard_state,
            initial: initial_of(id).clone(),
            entries: disk.entries.clone(),
            ..Restored::default()
        };
        let raft = Raft::new(config, restored, Instant(0)).expect("what was written can be read");
        Self { raft, now: Instant(0), incarnation, disk, under_way: Vec::new() }
    }
}

/// The servers the cluster was formed with: n1, n2, n3.
pub(crate) fn founders() -> impl Iterator<Item = NodeId> {
    (1..=3).filter_map(NodeId::new)
}

/// The server that may come to them: n4.
pub(crate) fn newcomer() -> NodeId {
    NodeId::new(4).expect("not zero")
}

/// What a configuration says of the member `id`.
pub(crate) fn member(id: NodeId) -> Member {
    Member { disk: disk_of(id), address: String::new() }
}

/// The one disk each has.
pub(crate) fn disk_of(id: NodeId) -> DiskId {
    DiskId(u128::from(id.as_u64()))
}

/// The configuration a server begins with: the newcomer has not been told of any.
pub(crate) fn initial_of(id: NodeId) -> &'static Configuration {
    if id == newcomer() { &NOBODY } else { &FORMED }
}

/// What the cluster was formed with.
static FORMED: LazyLock<Configuration> =
    LazyLock::new(|| Configuration::of_voters(founders().map(|id| (id, member(id)))));

static NOBODY: LazyLock<Configuration> = LazyLock::new(Configuration::default);
