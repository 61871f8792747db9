//! One server without its I/O: the replica and the service that speaks with its clients, joined.
//!
//! This is all of a server but sockets, threads and the clock. Its driver tells it what happened, calls
//! [`Server::flush`] once it has told all, and carries out the [`Orders`] it gets: it sends messages, hands jobs to the
//! disk, gives replies to connections. No order needs looking into. The node's loop is one such driver, the simulator
//! another; both run this code.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{ClusterId, Config, DiskId, Instant, NodeId, Restored};
use raft_net::peer::SendRefused;
use raft_net::{Frame, LinkKind, Welcome};
use raft_storage::{Disk, Options, RandomSource, Snapshots, Storage, TornTail};

use crate::admission::View;
use crate::answer::Answer;
use crate::config::NodeConfig;
use crate::disk::{DiskDone, DiskJob};
use crate::error::StartError;
use crate::event::NodeEvent;
use crate::machine::StateMachine;
use crate::peer_message::PeerMessage;
use crate::replica::{MemberRequest, Outputs, PeerIdentity, Replica, ReplicaConfig};
use crate::service::{Access, ConnectionId, Replies, Service, Waiter};
use crate::snapshots::{SnapshotDone, SnapshotJob, SnapshotWorker};

/// What a server draws once when it starts; a simulator gives it from its seed.
pub struct Randomness {
    /// Decides the election timeouts (§3.4).
    pub seed: u64,
    /// Where disk and segment ids come from.
    pub ids: RandomSource,
}

impl std::fmt::Debug for Randomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Randomness").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// What [`Server::recover`] makes of a data directory.
#[derive(Debug)]
pub struct RecoveredServer<D: Disk, M: StateMachine, S: Service<M>> {
    /// Where the disk's jobs are carried out ([`crate::DiskQueue`]).
    pub storage: Storage<D>,
    /// Where the jobs for snapshots are, on a thread of their own.
    pub snapshots: SnapshotWorker<D>,
    /// The server.
    pub server: Server<M, S>,
    /// What the last crash tore off the log, if anything.
    pub torn: Option<TornTail>,
}

/// What a server wants done, in order within each kind; links first, then messages, so that they travel while the disk
/// works (§10.2.1).
#[derive(Debug)]
pub struct Orders<M> {
    /// Whom there are to be links to from now on, and where they are reached; `None` if that has not changed. Links to
    /// anybody else are closed.
    pub peers: Option<BTreeMap<NodeId, String>>,
    /// Messages to send. They may be lost; if one cannot be sent at all, [`Server::handle_unsent`] wants to know.
    pub messages: Vec<(NodeId, PeerMessage)>,
    /// Work for the disk, after all earlier work.
    pub jobs: Vec<DiskJob>,
    /// Work for the snapshots' files, after all earlier work on them.
    pub snapshot_jobs: Vec<SnapshotJob<M>>,
    /// Frames for clients, and connections to close.
    pub replies: Replies,
    /// Lines for the log.
    pub events: Vec<NodeEvent>,
}

impl<M> Default for Orders<M> {
    fn default() -> Self {
        Self {
            peers: None,
            messages: Vec::new(),
            jobs: Vec::new(),
            snapshot_jobs: Vec::new(),
            replies: Replies::default(),
            events: Vec::new(),
        }
    }
}

impl<M> Orders<M> {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { peers, messages, jobs, snapshot_jobs, replies, events } = self;
        peers.is_none()
            && messages.is_empty()
            && jobs.is_empty()
            && snapshot_jobs.is_empty()
            && replies.frames.is_empty()
            && replies.closed.is_empty()
            && events.is_empty()
    }
}

/// One server without its I/O.
#[derive(Debug)]
pub struct Server<M: StateMachine, S: Service<M>> {
    replica: Replica<M, Waiter<M, S::Waiter>>,
    service: S,
    replies: Replies,
}

impl<M: StateMachine, S: Service<M>> Server<M, S> {
    /// Opens the data directory on `disk` and makes a server of what it holds: its machine is restored from the latest
    /// snapshot, or `machine` if there is none. Its clock begins at 0.
    ///
    /// # Errors
    /// If the directory or the settings are unusable, or a snapshot cannot be restored.
    pub fn recover<D: Disk + Clone>(
        config: &NodeConfig,
        disk: D,
        randomness: Randomness,
        machine: M,
        service: S,
    ) -> Result<RecoveredServer<D, M, S>, StartError> {
        let Randomness { seed, ids } = randomness;
        let options = Options { node: config.id, segment_size_bytes: config.segment_size_bytes, random: ids };
        let (storage, recovered) = Storage::open(disk.clone(), options)?;
        if storage.formation().is_none_or(|formation| !formation.formed) {
            check_cluster(config)?;
        }
        let mut protocol = Config::new(config.id, storage.identity().disk, storage.incarnation(), seed);
        protocol.election_timeout_min = config.election_timeout_min;
        protocol.election_timeout_max = config.election_timeout_max;
        protocol.heartbeat_interval = config.heartbeat_interval;
        protocol.max_uncommitted_bytes = config.max_uncommitted_bytes;
        protocol.max_unsynced_bytes = config.max_unsynced_bytes;
        // Whoever lets the log grow so far before a snapshot has the memory for it, and for what comes while that is taken.
        let expected_bytes = usize::try_from(config.snapshot_threshold_bytes).unwrap_or(usize::MAX).saturating_mul(4);
        protocol.max_log_bytes = config.max_log_bytes.max(expected_bytes);
        protocol.log_tail_bytes = config.log_tail_bytes;
        protocol.snapshot_chunk_bytes = config.snapshot_chunk_bytes;
        protocol.snapshot_bytes_per_second = config.snapshot_bytes_per_second;
        let mut snapshots = SnapshotWorker::new(Snapshots::new(disk, storage.identity()));
        let machine = match &recovered.snapshot {
            Some(snapshot) => snapshots.restore(snapshot.last)?,
            None => machine,
        };
        let restored = Restored {
            hard_state: recovered.hard_state,
            snapshot: recovered.snapshot,
            base: recovered.base,
            entries: recovered.entries,
            ..Restored::default()
        };
        let replica_config = ReplicaConfig {
            disk: storage.identity().disk,
            listed: config.cluster.clone(),
            address: config.peer_address().to_owned(),
            protocol,
            snapshot_threshold_bytes: config.snapshot_threshold_bytes,
        };
        let mut replica = Replica::new(replica_config, storage.formation(), restored, machine, Instant(0))?;
        if !storage.has_space() {
            replica.handle_disk(Instant(0), DiskDone::Full);
        }
        let server = Self { replica, service, replies: Replies::default() };
        Ok(RecoveredServer { storage, snapshots, server, torn: recovered.torn })
    }

    /// Where its peers reach it, now that its ports are known.
    pub(crate) fn note_own_address(&mut self, address: String) {
        self.replica.note_own_address(address);
    }

    /// Its replica, to look at.
    pub const fn replica(&self) -> &Replica<M, Waiter<M, S::Waiter>> {
        &self.replica
    }

    /// Whether there is anything for clients over the network.
    pub fn serves_clients(&self) -> bool {
        self.service.serves_clients()
    }

    /// Who it is, for handshakes; see [`Server::renew_view`].
    pub fn view(&self, disk: DiskId, client_address: String) -> View {
        let mut view = View::new(&self.replica.status(), disk, self.replica.incarnation(), client_address);
        self.renew_view(&mut view);
        view
    }

    /// Brings what handshakes know of this server up to date.
    pub fn renew_view(&self, view: &mut View) {
        view.renew(&self.replica);
    }

    /// When [`Server::tick`] is next due.
    pub fn next_wakeup(&self) -> Instant {
        let wakeup = self.replica.next_wakeup();
        self.service.next_wakeup().map_or(wakeup, |of_service| wakeup.min(of_service))
    }

    // --- what happens --------------------------------------------------------------------------------------------

    /// Time has passed. `draw` gives a random number, wanted at most once in a cluster's life.
    pub fn tick(&mut self, now: Instant, draw: &mut dyn FnMut() -> u128) {
        if now >= self.replica.next_wakeup() {
            self.replica.tick(now, draw);
        }
    }

    /// A peer has opened a link to this server, or a handshake told where `peer` serves its clients.
    pub fn handle_peer_met(&mut self, peer: NodeId, client_address: String) {
        self.replica.note_client_address(peer, client_address);
    }

    /// A message arrived.
    pub fn handle_peer(
        &mut self,
        now: Instant,
        from: PeerIdentity,
        message: PeerMessage,
        draw: &mut dyn FnMut() -> u128,
    ) {
        self.replica.handle_peer(now, from, message, draw);
    }

    /// Whether it has to find the members of the cluster it is to join, see [`Server::handle_seed`].
    pub fn seeks_members(&self) -> bool {
        self.replica.seeks_members()
    }

    /// At `address`, one of those that a newcomer was given, somebody answered an [`View::inquiry`].
    pub fn handle_seed(&mut self, address: String, welcome: &Welcome) {
        if let Some(id) = NodeId::new(welcome.id) {
            self.replica.note_seed(id, address, welcome.cluster.map(ClusterId));
        }
    }

    /// This server's link to `peer` has its handshake done.
    pub fn handle_link_up(&mut self, peer: NodeId, link: LinkKind, welcome: Welcome) {
        self.replica.handle_link_up(peer, link, welcome.client_address);
    }

    /// This server's link to `peer` broke.
    pub fn handle_link_lost(&mut self, now: Instant, peer: NodeId, link: LinkKind) {
        self.replica.handle_link_lost(now, peer, link);
    }

    /// The link on which `peer` speaks to this server broke.
    pub fn handle_peer_link_lost(&mut self, peer: NodeId, link: LinkKind) {
        self.replica.handle_peer_link_lost(peer, link);
    }

    /// `message` could not be given to the link to `to`.
    pub fn handle_unsent(&mut self, now: Instant, to: NodeId, message: &PeerMessage, why: SendRefused) {
        self.replica.handle_unsent(now, to, message, why);
    }

    /// The disk has done something.
    pub fn handle_disk(&mut self, now: Instant, done: DiskDone) {
        self.replica.handle_disk(now, done);
    }

    /// Something was done for snapshots.
    pub fn handle_snapshot(&mut self, now: Instant, done: SnapshotDone<M>) {
        self.replica.handle_snapshot(now, done);
    }

    /// A client sent a frame. Every request gets exactly one reply frame, sooner or later.
    pub fn handle_frame(&mut self, now: Instant, connection: ConnectionId, frame: Frame) {
        let mut access = Access { replica: &mut self.replica };
        self.service.handle_frame(now, connection, frame, &mut access, &mut self.replies);
    }

    /// A client's connection has come to its end, from whichever side.
    pub fn handle_left(&mut self, connection: ConnectionId) {
        self.service.handle_left(connection, &mut self.replies);
    }

    /// So many pushed frames, of so many bytes, were written to a client.
    pub fn handle_pushed(&mut self, connection: ConnectionId, frames: usize, size_bytes: usize) {
        self.service.handle_pushed(connection, frames, size_bytes);
    }

    /// A program in this process wants `command` applied.
    pub(crate) fn propose(&mut self, waiter: Waiter<M, S::Waiter>, command: Bytes, deadline: Instant) {
        self.replica.propose(waiter, command, deadline);
    }

    /// A program in this process wants to read.
    pub(crate) fn read(&mut self, waiter: Waiter<M, S::Waiter>, deadline: Instant) {
        self.replica.read(waiter, deadline);
    }

    /// From now on every new request is refused; those under way may still be answered. A leader hands over.
    pub fn stop(&mut self, now: Instant) {
        self.replica.stop(now);
    }

    /// A program in this process wants `to` to lead, or the follower that lacks least.
    pub(crate) fn transfer(
        &mut self,
        now: Instant,
        waiter: Waiter<M, S::Waiter>,
        to: Option<NodeId>,
        deadline: Instant,
    ) {
        self.replica.transfer(now, waiter, to, deadline);
    }

    /// A program in this process wants the membership changed.
    pub(crate) fn change_membership(
        &mut self,
        now: Instant,
        waiter: Waiter<M, S::Waiter>,
        request: MemberRequest,
        deadline: Instant,
    ) {
        self.replica.change_membership(now, waiter, request, deadline);
    }

    /// Answers every request under way: the server stops now.
    pub fn abandon_requests(&mut self) {
        self.replica.abandon_requests();
    }

    // --- what is to be done --------------------------------------------------------------------------------------

    /// Makes batches of what has come in since the last call, and hands out all there is to do.
    pub fn flush(&mut self, now: Instant) -> Orders<M> {
        let mut orders = Orders::default();
        loop {
            let Outputs { peers, messages, jobs, snapshot_jobs, answers, events } = self.replica.flush(now);
            let has_answers = !answers.is_empty();
            orders.peers = peers.or(orders.peers);
            orders.messages.extend(messages);
            orders.jobs.extend(jobs);
            orders.snapshot_jobs.extend(snapshot_jobs);
            orders.events.extend(events);
            for (waiter, answer) in answers {
                self.answer(now, waiter, answer);
            }
            if has_answers {
                continue;
            }
            let mut access = Access { replica: &mut self.replica };
            if !self.service.turn(now, &mut access, &mut self.replies) {
                break;
            }
        }
        orders.replies = std::mem::take(&mut self.replies);
        orders
    }

    fn answer(&mut self, now: Instant, waiter: Waiter<M, S::Waiter>, answer: Answer) {
        match waiter {
            Waiter::Service(waiter) => {
                let mut access = Access { replica: &mut self.replica };
                self.service.handle_answer(now, waiter, answer, &mut access, &mut self.replies);
            }
            // Whoever asked through a handle may have stopped waiting.
            Waiter::Propose(sender) => drop(sender.send(match answer {
                Answer::Applied(reply) => Ok(reply),
                Answer::Failed(failure) => Err(failure),
                Answer::ReadReady | Answer::Transferred(_) | Answer::Members(_) => {
                    unreachable!("a command is answered as one")
                }
            })),
            Waiter::Transfer(sender) => drop(sender.send(match answer {
                Answer::Transferred(leadership) => Ok(leadership),
                Answer::Failed(failure) => Err(failure),
                Answer::ReadReady | Answer::Applied(_) | Answer::Members(_) => {
                    unreachable!("a transfer is answered as one")
                }
            })),
            Waiter::Change(sender) => drop(sender.send(match answer {
                Answer::Members(members) => Ok(members),
                Answer::Failed(failure) => Err(failure),
                Answer::ReadReady | Answer::Applied(_) | Answer::Transferred(_) => {
                    unreachable!("a change of the membership is answered as one")
                }
            })),
            Waiter::Read(read) => match answer {
                Answer::Failed(failure) => read(Err(failure)),
                Answer::ReadReady => read(Ok(self.replica.machine())),
                Answer::Applied(_) | Answer::Transferred(_) | Answer::Members(_) => {
                    unreachable!("a read is answered as one")
                }
            },
        }
    }
}

fn check_cluster(config: &NodeConfig) -> Result<(), StartError> {
    if config.cluster.is_empty() {
        return if config.join.is_empty() { Err(StartError::NoCluster) } else { Ok(()) };
    }
    if !config.cluster.contains_key(&config.id) {
        return Err(StartError::NotInCluster { id: config.id.as_u64() });
    }
    Ok(())
}
