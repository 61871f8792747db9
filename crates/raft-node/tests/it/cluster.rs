//! Replicas with real storages on disks in memory. Whoever uses it decides what is delivered, lost or synced, who
//! crashes, and when time passes; nothing else happens, so the same choices give the same run.
//!
//! Links are as TCP makes them: directed, in order, one for each pair of incarnations. What is on a link when its
//! sender dies still arrives, and then its end does; when the receiver dies it is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use raft_core::{ClusterId, DiskId, Instant, NodeId, RoleName};
use raft_net::peer::SendRefused;
use raft_net::{FrameCodec, LinkKind};
use raft_node::{
    Answer, DiskDone, DiskJob, DiskQueue, NodeEvent, Outputs, PeerIdentity, PeerMessage, Replica, ReplicaConfig,
    SnapshotDone, SnapshotJob, SnapshotWorker, StartError,
};
use raft_storage::{MIN_SEGMENT_BYTES, MemDisk, Options, Snapshots, Storage};
use tokio_util::codec::{Decoder, Encoder};

use crate::machine::{List, command};

/// How long a request waits unless the test says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A server's id in the tests: `n(1)` is n1.
pub(crate) fn n(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Where peers reach a server.
pub(crate) fn address_of(id: NodeId) -> String {
    format!("{id}:1")
}

/// The number of a request; also the number its command appends.
pub(crate) type Request = u64;

/// A server: its disk, and the process if it runs.
pub(crate) struct Server {
    pub(crate) disk: MemDisk,
    pub(crate) listed: BTreeMap<NodeId, String>,
    /// Where a newcomer looks for the members.
    pub(crate) seeds: Vec<NodeId>,
    pub(crate) running: Option<Running>,
    /// All it has said to its operator, over all incarnations.
    pub(crate) events: Vec<NodeEvent>,
}

pub(crate) struct Running {
    pub(crate) replica: Replica<List, Request>,
    storage: Storage<MemDisk>,
    pub(crate) identity: PeerIdentity,
    /// Whom it has links to.
    pub(crate) peers: BTreeSet<NodeId>,
    pub(crate) jobs: Vec<DiskJob>,
    pub(crate) queue: DiskQueue,
    done: VecDeque<DiskDone>,
    snapshots: SnapshotWorker<MemDisk>,
    snapshot_jobs: VecDeque<SnapshotJob<List>>,
    snapshots_done: VecDeque<SnapshotDone<List>>,
}

/// One directed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) kind: LinkKind,
    /// Which connection between the two this is.
    epoch: u64,
}

/// What is on a connection.
enum Item {
    Frame(PeerIdentity, BytesMut),
    /// The sender has closed it, or its process died.
    Closed,
}

/// How a request ended, and what a read saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) at: NodeId,
    pub(crate) answer: Answer,
    /// The list, if it was a read.
    pub(crate) seen: Option<Vec<u64>>,
}

pub(crate) struct Cluster {
    pub(crate) now: Instant,
    pub(crate) servers: BTreeMap<NodeId, Server>,
    links: BTreeMap<Link, VecDeque<Item>>,
    /// Links that have broken and whose sender has not noticed yet.
    broken: VecDeque<Link>,
    /// The connection that is open now between two servers, if it is not the first.
    epochs: BTreeMap<(NodeId, NodeId), u64>,
    last_epoch: u64,
    /// Directed pairs that cannot reach each other: what is sent is refused.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Links that take no more.
    pub(crate) full: BTreeSet<(NodeId, NodeId)>,
    /// Servers whose process is stopped: no time passes for them and nothing arrives.
    pub(crate) paused: BTreeSet<NodeId>,
    /// Servers whose disk stands still.
    pub(crate) stalled: BTreeSet<NodeId>,
    /// Requests without an answer yet, and where they were made.
    pub(crate) waiting: BTreeMap<Request, NodeId>,
    pub(crate) outcomes: BTreeMap<Request, Outcome>,
    pub(crate) requests: u64,
    /// Every message that a server has handed out.
    pub(crate) sent: Vec<(NodeId, NodeId, PeerMessage)>,
    /// By how much a log grows before a snapshot is taken; for servers started from now on.
    pub(crate) snapshot_threshold_bytes: u64,
    /// What may be uncommitted, and what a disk may have to write; likewise.
    pub(crate) max_uncommitted_bytes: usize,
    pub(crate) max_unsynced_bytes: usize,
    draws: u128,
    seed: u64,
}

impl Server {
    /// One with an empty disk that knows nobody.
    pub(crate) fn new() -> Self {
        Self { disk: MemDisk::new(), listed: BTreeMap::new(), seeds: Vec::new(), running: None, events: Vec::new() }
    }
}

impl Cluster {
    /// Servers with empty disks that are to form a cluster of all of them; none is started.
    pub(crate) fn new(count: u64, seed: u64) -> Self {
        let listed: BTreeMap<NodeId, String> = (1..=count).map(n).map(|id| (id, address_of(id))).collect();
        let server = |id| (n(id), Server { listed: listed.clone(), ..Server::new() });
        Self {
            now: Instant(0),
            servers: (1..=count).map(server).collect(),
            links: BTreeMap::new(),
            broken: VecDeque::new(),
            epochs: BTreeMap::new(),
            last_epoch: 0,
            cut: BTreeSet::new(),
            full: BTreeSet::new(),
            paused: BTreeSet::new(),
            stalled: BTreeSet::new(),
            waiting: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            requests: 0,
            sent: Vec::new(),
            snapshot_threshold_bytes: u64::MAX,
            max_uncommitted_bytes: 128 << 20,
            max_unsynced_bytes: 128 << 20,
            draws: u128::from(seed) << 64,
            seed,
        }
    }

    /// A cluster that has formed and elected a leader.
    pub(crate) fn formed(count: u64, seed: u64) -> Self {
        let mut cluster = Self::new(count, seed);
        cluster.start_all();
        cluster.settle();
        cluster
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    pub(crate) fn server(&mut self, id: NodeId) -> &mut Server {
        self.servers.get_mut(&id).unwrap()
    }

    pub(crate) fn is_running(&self, id: NodeId) -> bool {
        self.servers[&id].running.is_some()
    }

    pub(crate) fn running(&self, id: NodeId) -> &Running {
        self.servers[&id].running.as_ref().expect("it runs")
    }

    fn running_mut(&mut self, id: NodeId) -> &mut Running {
        self.server(id).running.as_mut().expect("it runs")
    }

    pub(crate) fn replica(&self, id: NodeId) -> &Replica<List, Request> {
        &self.running(id).replica
    }

    // --- processes and disks -------------------------------------------------------------------------------------

    /// Starts a server with what its disk holds.
    pub(crate) fn try_start(&mut self, id: NodeId) -> Result<(), StartError> {
        self.draws += 1 << 32;
        let mut draws = self.draws;
        let random = move || {
            draws += 1;
            draws
        };
        let server = self.server(id);
        let options = Options { node: id, segment_size_bytes: MIN_SEGMENT_BYTES, random: Box::new(random) };
        let (storage, recovered) = Storage::open(server.disk.clone(), options)?;
        let (disk, incarnation) = (storage.identity().disk, storage.incarnation());
        let listed = server.listed.clone();
        let seed = self.seed ^ (id.as_u64() << 32) ^ incarnation.0;
        let mut protocol = raft_core::Config::new(id, disk, incarnation, seed);
        // So that a snapshot takes several, and a follower soon needs one.
        (protocol.snapshot_chunk_bytes, protocol.log_tail_bytes) = (700, 100);
        protocol.max_uncommitted_bytes = self.max_uncommitted_bytes;
        protocol.max_unsynced_bytes = self.max_unsynced_bytes;
        let config = ReplicaConfig {
            disk,
            listed,
            address: address_of(id),
            protocol,
            snapshot_threshold_bytes: self.snapshot_threshold_bytes,
        };
        let files = Snapshots::new(self.servers[&id].disk.clone(), storage.identity());
        let mut snapshots = SnapshotWorker::new(files);
        let machine = match &recovered.snapshot {
            Some(snapshot) => snapshots.restore(snapshot.last)?,
            None => List::default(),
        };
        let restored = raft_core::Restored {
            hard_state: recovered.hard_state,
            snapshot: recovered.snapshot,
            base: recovered.base,
            entries: recovered.entries,
            ..raft_core::Restored::default()
        };
        let mut replica = Replica::new(config, storage.formation(), restored, machine, self.now)?;
        if !storage.has_space() {
            replica.handle_disk(self.now, DiskDone::Full);
        }
        let queue = DiskQueue::new(&storage);
        let identity = PeerIdentity { id, disk, incarnation };
        let running = Running {
            replica,
            storage,
            identity,
            peers: BTreeSet::new(),
            jobs: Vec::new(),
            queue,
            done: VecDeque::new(),
            snapshots,
            snapshot_jobs: VecDeque::new(),
            snapshots_done: VecDeque::new(),
        };
        self.server(id).running = Some(running);
        for other in self.ids() {
            self.open_links(id, other);
        }
        self.flush(id);
        Ok(())
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        self.try_start(id).unwrap_or_else(|error| panic!("{id} does not start: {error}"));
    }

    pub(crate) fn start_all(&mut self) {
        for id in self.ids() {
            if !self.is_running(id) {
                self.start(id);
            }
        }
    }

    /// The power goes: the process ends, and of what is not synced `choose` says how much was kept.
    pub(crate) fn crash_keeping(&mut self, id: NodeId, mut choose: impl FnMut(usize) -> usize) {
        let server = self.server(id);
        if server.running.take().is_some() {
            server.disk.crash(|_, versions| choose(versions));
            self.close_links_of(id);
            self.waiting.retain(|_, at| *at != id);
        }
    }

    /// The power goes, and nothing is kept that was not synced.
    pub(crate) fn crash(&mut self, id: NodeId) {
        self.crash_keeping(id, |_| 0);
    }

    /// Its disk is replaced by an empty one; the server must not run.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        assert!(!self.is_running(id));
        self.server(id).disk = MemDisk::new();
    }

    /// The disk works off what is waiting. If it fails, the process ends, as it must (rule 1).
    pub(crate) fn work(&mut self, id: NodeId) {
        let running = self.running_mut(id);
        let jobs = std::mem::take(&mut running.jobs);
        match running.queue.work_off(&mut running.storage, jobs) {
            Ok(done) => running.done.extend(done),
            Err(_) => self.crash(id),
        }
    }

    /// Its disk is so full that there is no byte more, not even where the reserve was.
    pub(crate) fn fill_disk(&mut self, id: NodeId) {
        let disk = &self.server(id).disk;
        disk.lose("ballast");
        disk.set_capacity(Some(disk.used_bytes()));
    }

    /// Its disk has space again.
    pub(crate) fn free_disk(&mut self, id: NodeId) {
        self.server(id).disk.set_capacity(None);
    }

    /// The disk looks for space, as it does once a second.
    pub(crate) fn look_for_space(&mut self, id: NodeId) {
        let running = self.running_mut(id);
        running.done.extend(running.queue.retry(&mut running.storage).expect("a sound disk"));
    }

    /// One job for snapshots is done.
    pub(crate) fn work_on_snapshots(&mut self, id: NodeId) {
        let running = self.running_mut(id);
        if let Some(job) = running.snapshot_jobs.pop_front() {
            running.snapshots_done.extend(running.snapshots.work(job).expect("what was written is restored"));
        }
    }

    /// And is told.
    pub(crate) fn report_snapshot(&mut self, id: NodeId) {
        let now = self.now;
        let running = self.running_mut(id);
        if let Some(done) = running.snapshots_done.pop_front() {
            running.replica.handle_snapshot(now, done);
            self.flush(id);
        }
    }

    pub(crate) fn has_snapshot_work(&self, id: NodeId) -> bool {
        let running = self.servers[&id].running.as_ref();
        !self.stalled.contains(&id) && running.is_some_and(|running| !running.snapshot_jobs.is_empty())
    }

    pub(crate) fn has_snapshot_report(&self, id: NodeId) -> bool {
        let running = self.servers[&id].running.as_ref();
        !self.paused.contains(&id) && running.is_some_and(|running| !running.snapshots_done.is_empty())
    }

    /// The disk says what it has done.
    pub(crate) fn report(&mut self, id: NodeId) {
        let now = self.now;
        let running = self.running_mut(id);
        if let Some(done) = running.done.pop_front() {
            running.replica.handle_disk(now, done);
            self.flush(id);
        }
    }

    pub(crate) fn has_work(&self, id: NodeId) -> bool {
        let running = self.servers[&id].running.as_ref();
        !self.stalled.contains(&id) && running.is_some_and(|running| !running.jobs.is_empty())
    }

    pub(crate) fn has_report(&self, id: NodeId) -> bool {
        let running = self.servers[&id].running.as_ref();
        !self.paused.contains(&id) && running.is_some_and(|running| !running.done.is_empty())
    }

    // --- network -------------------------------------------------------------------------------------------------

    fn link(&self, from: NodeId, to: NodeId, kind: LinkKind) -> Link {
        Link { from, to, kind, epoch: self.epochs.get(&(from, to)).copied().unwrap_or_default() }
    }

    fn open_links(&mut self, one: NodeId, other: NodeId) {
        self.last_epoch += 1;
        self.epochs.insert((one, other), self.last_epoch);
        self.epochs.insert((other, one), self.last_epoch);
    }

    fn close_links_of(&mut self, id: NodeId) {
        for other in self.ids() {
            for kind in [LinkKind::Control, LinkKind::Bulk] {
                let (outgoing, incoming) = (self.link(id, other, kind), self.link(other, id, kind));
                if self.is_running(other) {
                    self.links.entry(outgoing).or_default().push_back(Item::Closed);
                    self.broken.push_back(incoming);
                }
            }
        }
        self.links.retain(|link, _| link.to != id);
        self.broken.retain(|link| link.from != id);
    }

    /// The connections between two running servers break and are made anew. What was on them is lost.
    pub(crate) fn break_links(&mut self, one: NodeId, other: NodeId) {
        for (from, to) in [(one, other), (other, one)] {
            for kind in [LinkKind::Control, LinkKind::Bulk] {
                let link = self.link(from, to, kind);
                self.links.remove(&link);
                if self.is_running(to) {
                    self.links.entry(link).or_default().push_back(Item::Closed);
                }
                if self.is_running(from) {
                    self.broken.push_back(link);
                }
            }
        }
        self.open_links(one, other);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.full.clear();
        self.paused.clear();
        self.stalled.clear();
    }

    /// Cuts a server off from all others.
    pub(crate) fn isolate(&mut self, id: NodeId) {
        for other in self.ids() {
            if other != id {
                self.cut.extend([(id, other), (other, id)]);
                self.break_links(id, other);
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        let kind = message.link();
        let is_reachable = self.servers.contains_key(&to) && self.is_running(to) && !self.cut.contains(&(from, to));
        let refusal = if !is_reachable || !self.running(from).peers.contains(&to) {
            Some(SendRefused::NotConnected)
        } else if self.full.contains(&(from, to)) {
            Some(SendRefused::Full)
        } else {
            None
        };
        if let Some(why) = refusal {
            let now = self.now;
            self.running_mut(from).replica.handle_unsent(now, to, &message, why);
        } else {
            let mut bytes = BytesMut::new();
            FrameCodec::new(8 << 20).encode(message.to_frame(), &mut bytes).unwrap();
            let identity = self.running(from).identity;
            let link = self.link(from, to, kind);
            self.links.entry(link).or_default().push_back(Item::Frame(identity, bytes));
        }
        self.sent.push((from, to, message));
    }

    /// The connections with something on them that can arrive.
    pub(crate) fn busy_links(&self) -> Vec<Link> {
        let is_busy = |(link, items): &(&Link, &VecDeque<Item>)| !items.is_empty() && !self.paused.contains(&link.to);
        self.links.iter().filter(is_busy).map(|(&link, _)| link).collect()
    }

    /// What comes next on a connection, if it is a message.
    pub(crate) fn peek(&self, link: Link) -> Option<PeerMessage> {
        match self.links.get(&link)?.front()? {
            Item::Frame(_, bytes) => Some(decode(bytes.clone())),
            Item::Closed => None,
        }
    }

    /// Delivers the next item of one connection.
    pub(crate) fn deliver(&mut self, link: Link) {
        let Some(item) = self.links.get_mut(&link).and_then(VecDeque::pop_front) else { return };
        if !self.is_running(link.to) {
            return;
        }
        let now = self.now;
        let draws = &mut self.draws;
        let mut draw = || {
            *draws += 1;
            *draws
        };
        let running = self.servers.get_mut(&link.to).unwrap().running.as_mut().unwrap();
        match item {
            Item::Frame(from, bytes) => running.replica.handle_peer(now, from, decode(bytes), &mut draw),
            Item::Closed => running.replica.handle_peer_link_lost(link.from, link.kind),
        }
        self.flush(link.to);
    }

    /// Loses the next message of one connection.
    pub(crate) fn lose(&mut self, link: Link) {
        if let Some(items) = self.links.get_mut(&link)
            && matches!(items.front(), Some(Item::Frame(..)))
        {
            items.pop_front();
        }
    }

    /// A sender notices that one of its links has broken.
    pub(crate) fn notice_broken(&mut self) -> bool {
        let Some(link) = self.broken.pop_front() else { return false };
        if self.is_running(link.from) {
            let now = self.now;
            self.running_mut(link.from).replica.handle_link_lost(now, link.to, link.kind);
            self.flush(link.from);
        }
        true
    }

    // --- requests ------------------------------------------------------------------------------------------------

    pub(crate) fn note_request(&mut self, at: NodeId) -> Request {
        self.requests += 1;
        self.waiting.insert(self.requests, at);
        self.requests
    }

    /// Proposes without flushing: what is proposed so is one batch.
    pub(crate) fn propose_more(&mut self, at: NodeId, timeout: Duration) -> Request {
        self.propose_padded(at, timeout, 0)
    }

    /// Proposes a command of at least `size_bytes`, without flushing.
    pub(crate) fn propose_padded(&mut self, at: NodeId, timeout: Duration, size_bytes: usize) -> Request {
        let request = self.note_request(at);
        let deadline = self.now.after(timeout);
        let mut padded = command(request).to_vec();
        padded.resize(padded.len().max(size_bytes), 0);
        self.running_mut(at).replica.propose(request, padded.into(), deadline);
        request
    }

    pub(crate) fn propose(&mut self, at: NodeId) -> Request {
        let request = self.propose_more(at, PATIENCE);
        self.flush(at);
        request
    }

    pub(crate) fn read(&mut self, at: NodeId) -> Request {
        let request = self.note_request(at);
        let deadline = self.now.after(PATIENCE);
        self.running_mut(at).replica.read(request, deadline);
        self.flush(at);
        request
    }

    /// A local read by a client that has seen `revision`.
    pub(crate) fn read_local(&mut self, at: NodeId, revision: u64) -> Request {
        let request = self.note_request(at);
        let deadline = self.now.after(PATIENCE);
        self.with(at, |replica, _| replica.read_local(request, revision, deadline));
        request
    }

    /// Asks for another leader.
    pub(crate) fn transfer(&mut self, at: NodeId, to: Option<NodeId>) -> Request {
        let request = self.note_request(at);
        let deadline = self.now.after(PATIENCE);
        self.with(at, |replica, now| replica.transfer(now, request, to, deadline));
        request
    }

    /// Lets something be done with a replica, and carries out what comes of it.
    pub(crate) fn with<R>(&mut self, id: NodeId, act: impl FnOnce(&mut Replica<List, Request>, Instant) -> R) -> R {
        let now = self.now;
        let result = act(&mut self.running_mut(id).replica, now);
        self.flush(id);
        result
    }

    pub(crate) fn flush(&mut self, id: NodeId) {
        loop {
            let now = self.now;
            let outputs = self.running_mut(id).replica.flush(now);
            let Outputs { peers, messages, jobs, snapshot_jobs, answers, events } = outputs;
            if let Some(peers) = peers {
                self.running_mut(id).peers = peers.into_keys().collect();
            }
            let has_jobs = !jobs.is_empty() || !snapshot_jobs.is_empty();
            if messages.is_empty() && !has_jobs && answers.is_empty() && events.is_empty() {
                return;
            }
            for (to, message) in messages {
                self.send(id, to, message);
            }
            let server = self.server(id);
            server.events.extend(events);
            let running = server.running.as_mut().unwrap();
            running.jobs.extend(jobs);
            running.snapshot_jobs.extend(snapshot_jobs);
            for (request, answer) in answers {
                self.note_answer(id, request, answer);
            }
        }
    }

    fn note_answer(&mut self, at: NodeId, request: Request, answer: Answer) {
        assert_eq!(self.waiting.remove(&request), Some(at), "request {request} is answered once, where it was made");
        let seen = (answer == Answer::ReadReady).then(|| self.replica(at).machine().numbers.clone());
        let earlier = self.outcomes.insert(request, Outcome { at, answer, seen });
        assert_eq!(earlier, None, "request {request} is answered once");
    }

    // --- time ----------------------------------------------------------------------------------------------------

    /// Lets time pass to `until`, or to the next wakeup if that is earlier.
    pub(crate) fn pass_time_to(&mut self, until: Instant) {
        let awake: Vec<NodeId> =
            self.ids().into_iter().filter(|id| self.is_running(*id) && !self.paused.contains(id)).collect();
        let next = awake.iter().map(|&id| self.replica(id).next_wakeup()).min().unwrap_or(until);
        self.now = self.now.max(next.min(until));
        for id in awake {
            if self.replica(id).next_wakeup() <= self.now {
                let (now, draws) = (self.now, &mut self.draws);
                let mut draw = || {
                    *draws += 1;
                    *draws
                };
                self.servers.get_mut(&id).unwrap().running.as_mut().unwrap().replica.tick(now, &mut draw);
                self.seek_members(id);
                self.flush(id);
            }
        }
    }

    /// One thing happens that needs no time, in a fixed order. `false` if there is none.
    pub(crate) fn step(&mut self) -> bool {
        if self.notice_broken() {
            return true;
        }
        for id in self.ids() {
            if self.has_snapshot_report(id) {
                self.report_snapshot(id);
                return true;
            }
            if self.has_report(id) {
                self.report(id);
                return true;
            }
        }
        if let Some(&link) = self.busy_links().first() {
            self.deliver(link);
            return true;
        }
        for id in self.ids() {
            if self.has_snapshot_work(id) {
                self.work_on_snapshots(id);
                return true;
            }
            if self.has_work(id) {
                self.work(id);
                return true;
            }
        }
        false
    }

    /// Lets everything happen that needs no time.
    pub(crate) fn drain(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("100,000 steps without an end");
    }

    /// Lets time pass, with everything that happens meanwhile.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let until = self.now.after(duration);
        self.drain();
        while self.now < until {
            self.pass_time_to(until);
            self.drain();
        }
    }

    /// Runs until `is_so`, for 60 s at most. Whether it came to be.
    pub(crate) fn run_until(&mut self, is_so: impl Fn(&Self) -> bool) -> bool {
        let until = self.now.after(Duration::from_secs(60));
        self.drain();
        while !is_so(self) && self.now < until {
            self.pass_time_to(until);
            self.drain();
        }
        is_so(self)
    }

    /// Runs until all running servers follow one leader.
    pub(crate) fn settle(&mut self) {
        assert!(self.run_until(|cluster| cluster.agreed_leader().is_some()), "no leader in 60 s");
    }

    // --- what it comes to ----------------------------------------------------------------------------------------

    fn all_running(&self) -> impl Iterator<Item = &Replica<List, Request>> {
        let servers = self.servers.iter().filter(|(id, _)| !self.paused.contains(id));
        servers.filter_map(|(_, server)| server.running.as_ref()).map(|running| &running.replica)
    }

    /// The leader that every running server follows.
    pub(crate) fn agreed_leader(&self) -> Option<NodeId> {
        let mut leaders: BTreeSet<Option<NodeId>> = self.all_running().map(Replica::leader).collect();
        let leader = leaders.pop_first().flatten()?;
        let leads = self.is_running(leader)
            && !self.paused.contains(&leader)
            && self.replica(leader).status().role == Some(RoleName::Leader);
        (leaders.is_empty() && leads).then_some(leader)
    }

    pub(crate) fn leader(&self) -> NodeId {
        self.agreed_leader().expect("there is a leader")
    }

    /// One that does not lead.
    pub(crate) fn follower(&self) -> NodeId {
        let leader = self.leader();
        self.ids().into_iter().find(|&id| id != leader).unwrap()
    }

    /// The cluster ids of the running servers.
    pub(crate) fn cluster_ids(&self) -> BTreeSet<Option<ClusterId>> {
        self.all_running().map(Replica::cluster).collect()
    }

    pub(crate) fn disk_id(&self, id: NodeId) -> DiskId {
        self.running(id).identity.disk
    }

    /// What a server has said to its operator, one event a line.
    pub(crate) fn said(&self, id: NodeId) -> String {
        self.servers[&id].events.iter().map(|event| format!("{event}\n")).collect()
    }

    /// Runs until a request has its answer.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, request: Request) -> Answer {
        assert!(self.run_until(|cluster| cluster.answer(request).is_some()), "request {request} has no answer");
        self.answer(request).unwrap().clone()
    }

    pub(crate) fn answer(&self, request: Request) -> Option<&Answer> {
        self.outcomes.get(&request).map(|outcome| &outcome.answer)
    }

    /// What a read saw.
    pub(crate) fn seen(&self, request: Request) -> &[u64] {
        self.outcomes[&request].seen.as_deref().unwrap_or_else(|| panic!("no read: {:?}", self.outcomes[&request]))
    }
}

fn decode(mut bytes: BytesMut) -> PeerMessage {
    let frame = FrameCodec::new(8 << 20).decode(&mut bytes).unwrap().expect("a whole frame");
    assert!(bytes.is_empty());
    PeerMessage::from_frame(frame).expect("what a server sends, a server understands")
}
