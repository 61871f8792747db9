//! Machines: their processes start, end and lose their power; their disks keep what was synced, and of the rest what the
//! seed says.

use raft_node::{DiskQueue, PeerIdentity, Randomness, RecoveredServer, StartError};
use raft_storage::{OpenError, Unsynced};
use raftd::machine::KvMachine;
use raftd::service::{ClientService, ServiceLimits};

use crate::checkers::Violation;
use crate::coverage::Count;
use crate::disk::{Misdirected, SimDisk};
use crate::node::{Ambush, Fate, KvServer, Process};
use crate::random::Random;
use crate::time::{SECONDS, Time};
use crate::world::{Event, World, address_of};

/// Where the batches of a segment begin.
const SECTOR_BYTES: usize = 512;

impl World {
    /// A server is started with what its disk holds.
    pub(crate) fn start(&mut self, node: usize) {
        let seed = self.random.bits();
        let machine = self.node_mut(node);
        machine.will_start = false;
        if machine.process.is_some() || machine.fate == Fate::Refused {
            return;
        }
        machine.starts += 1;
        let misdirected = Misdirected::at(std::mem::take(&mut machine.misdirect));
        let was_to_misread = !misdirected.is_over();
        let mut ids = Random::new(seed, 3);
        let randomness = Randomness { seed, ids: Box::new(move || ids.wide()) };
        let settings = &self.scenario.settings;
        let (policy, unwritten_bytes) = (settings.policy, settings.unwritten_bytes);
        let limits = ServiceLimits { policy, unwritten_bytes, ..ServiceLimits::default() };
        let machine = self.node_mut(node);
        let disk = SimDisk::new(machine.disk.clone(), misdirected.clone());
        let recovered =
            KvServer::recover(&machine.config, disk, randomness, KvMachine::new(), ClientService::new(limits));
        let has_misread = was_to_misread && misdirected.is_over();
        misdirected.end();
        if has_misread {
            self.coverage.count(Count::Misdirected);
        }
        match recovered {
            Ok(recovered) => self.begin_process(node, recovered),
            Err(error) => self.note_refused_start(node, &error, has_misread),
        }
    }

    fn begin_process(&mut self, node: usize, recovered: RecoveredServer<SimDisk, KvMachine, ClientService>) {
        let RecoveredServer { storage, snapshots, mut server, torn } = recovered;
        let id = self.node(node).id;
        self.trace.line(self.now, || format!("{id} starts, incarnation {}", storage.incarnation().0));
        if torn.is_some() {
            self.coverage.count(Count::TornBatch);
        }
        if server.replica().raft().is_some_and(|raft| raft.snapshot().is_some()) {
            self.coverage.count(Count::StartFromSnapshot);
        }
        self.note_segments(node);
        if self.node(node).fate == Fate::Rotten {
            self.coverage.count(Count::DamageHarmless);
            self.node_mut(node).fate = Fate::Sound;
        }
        let verdict = self.checkers.disks.recovered(node, server.replica());
        self.judge(verdict);
        self.checkers.begin(node);
        let identity = PeerIdentity { id, disk: storage.identity().disk, incarnation: storage.incarnation() };
        server.handle_peer_met(id, address_of(node));
        let view = server.view(identity.disk, address_of(node));
        let number = self.node(node).starts;
        if !storage.has_space() {
            self.coverage.count(Count::StartFull);
        }
        let mut process = Box::new(Process {
            number,
            server,
            view,
            identity,
            peers: std::collections::BTreeMap::new(),
            started: self.now,
            inbox: std::collections::VecDeque::new(),
            has_turn: false,
            alarm: None,
            jobs: Vec::new(),
            working: None,
            queue: DiskQueue::new(&storage),
            will_look: false,
            disk_rounds: 0,
            snapshots,
            snapshot_jobs: std::collections::VecDeque::new(),
            is_busy_with_snapshots: false,
            held_clock: None,
            restart_after: None,
            stopping: None,
            storage,
        });
        let clock = self.node(node).clock(self.now, self.now);
        self.first_turn(node, &mut process, clock);
        self.plan_look(node, &mut process);
        self.node_mut(node).process = Some(process);
        self.schedule(self.now, Event::Inquire { node, process: number });
    }

    /// What a recovery went over.
    fn note_segments(&mut self, node: usize) {
        let disk = &self.node(node).disk;
        let segments: Vec<Vec<u8>> = {
            use raft_storage::Disk as _;
            let mut names = disk.list().unwrap_or_default();
            names.retain(|name| name.starts_with("log-"));
            names.sort();
            names.iter().filter_map(|name| disk.contents(name)).collect()
        };
        // A batch begins with its segment's id, as the header of the segment has it.
        let begins_batch = |bytes: &Vec<u8>| {
            bytes.get(40..56).is_some_and(|id| bytes.get(SECTOR_BYTES..SECTOR_BYTES + 16) == Some(id))
        };
        if segments.len() > 1 {
            self.coverage.count(Count::SeveralSegments);
            if segments.last().is_some_and(|last| !begins_batch(last)) {
                self.coverage.count(Count::SegmentBoundary);
            }
        }
    }

    fn note_refused_start(&mut self, node: usize, error: &StartError, has_misread: bool) {
        let id = self.node(node).id;
        self.trace.line(self.now, || format!("{id} does not start: {error}"));
        if matches!(error, StartError::Storage(OpenError::Write(_))) && !has_misread {
            // Its disk fails or is full; whoever runs it tries again.
            self.coverage.count(Count::StartFailed);
            self.node(node).disk.heal();
        } else if has_misread {
            self.coverage.count(Count::MisdirectedNoticed);
        } else if self.node(node).fate == Fate::Rotten {
            self.coverage.count(Count::DamageNoticed);
            self.node_mut(node).fate = Fate::Refused;
            return;
        } else {
            let what = format!("{id} refuses to start though its disk lost nothing it had promised: {error}");
            self.judge(Err(Violation::new("Durability: a crash damages nothing", what)));
            return;
        }
        let at = self.now + self.random.between(SECONDS / 5, SECONDS);
        self.plan_start(node, at);
    }

    /// The process ends; what it had written and not synced is still in the page cache.
    pub(crate) fn end_process(&mut self, node: usize) {
        let machine = self.node_mut(node);
        if machine.process.take().is_none() {
            return;
        }
        machine.paused_until = 0;
        machine.ambush = Ambush::None;
        machine.pause_after_clock = None;
        machine.crash_in_write = None;
        self.checkers.end(node);
        self.break_links_of(node);
    }

    /// The power goes. The server starts again after a while.
    pub(crate) fn lose_power(&mut self, node: usize, restart_after: Time) {
        let id = self.node(node).id;
        self.trace.line(self.now, || format!("{id} loses its power"));
        self.coverage.count(Count::Crash);
        if self.node(node).process.as_ref().is_some_and(|process| process.server.replica().raft().is_none()) {
            self.coverage.count(Count::FormationFault);
        }
        self.end_process(node);
        let kept_per_mille = self.scenario.settings.kept_per_mille;
        let disk = self.node(node).disk.clone();
        let (random, coverage) = (&mut self.random, &mut self.coverage);
        disk.crash(|what, versions| {
            let is_kept = random.chance(kept_per_mille);
            coverage.count(match (what, is_kept) {
                (_, true) => Count::SectorKept,
                (Unsynced::Sector { .. }, false) => Count::SectorLost,
                (Unsynced::Size { .. }, false) => Count::SizeLost,
                (Unsynced::Name { .. }, false) => Count::NameLost,
            });
            if is_kept { 1 + random.place(versions) } else { 0 }
        });
        let at = self.now + restart_after;
        self.plan_start(node, at);
    }
}
