//! The node's logic without I/O: joins the protocol with the state machine, and knows who waits for what.
//!
//! A replica is told what happened (a message, a completed write, a request, the time) and leaves what is to be done
//! in [`Outputs`]. Its driver, the real one in `runtime` or a simulator, supplies network, disk, clock and clients and
//! carries the outputs out without looking into them.
//!
//! Requests and messages are taken one by one; [`Replica::flush`] then makes one batch of all that came in: one entry
//! batch, one message a follower, one write, one read round. Batches form from what is waiting, never by a timer.

mod changes;
mod peers;
mod protocol;
mod requests;
mod snapshots;
mod space;
mod stage;
mod status;
mod transfer;

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{
    ClusterTime, Config, DiskId, Effect, HardState, Incarnation, Input, Instant, LogIndex, NodeId, ProposalId, Raft,
    Reason, Restored,
};
use raft_net::LinkKind;
use raft_net::peer::SendRefused;
use raft_storage::Formation;

use self::changes::Changes;
pub use self::changes::MemberRequest;
use self::peers::Peers;
use self::snapshots::Snapshots;
use self::space::Space;
use self::stage::{Stage, Unformed};
pub use self::status::{LeaderChange, MemberStatus, Status};
use crate::answer::{Answer, Failure, Origin};
use crate::clock::ClusterClock;
use crate::counters::Counters;
use crate::disk::{DiskDone, DiskJob};
use crate::error::StartError;
use crate::event::NodeEvent;
use crate::formation::Forming;
use crate::machine::StateMachine;
use crate::peer_message::PeerMessage;
use crate::proposals::{Proposal, Proposals};
use crate::reads::Reads;
use crate::snapshots::SnapshotJob;
use crate::transfers::Transfers;

/// How many entries are applied between two looks at what else has happened: a few milliseconds of work.
const MAX_APPLIED_PER_TURN: usize = 1_000;

/// What a replica is told before it starts.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Its disk.
    pub disk: DiskId,
    /// The members and their peer addresses as `--cluster` lists them; used only while the cluster has not formed. Nobody:
    /// it is to join a cluster.
    pub listed: BTreeMap<NodeId, String>,
    /// Where its peers reach it, for those that no configuration has told.
    pub address: String,
    /// The settings of the protocol, with id, incarnation and seed.
    pub protocol: Config,
    /// By how many bytes the log grows before a snapshot is taken, at least (§5.1).
    pub snapshot_threshold_bytes: u64,
}

/// Who sent a message, as its link's handshake said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The server.
    pub id: NodeId,
    /// Its disk.
    pub disk: DiskId,
    /// Which start of it this is.
    pub incarnation: Incarnation,
}

/// What is to be done, in order within each kind. The kinds are independent of each other.
#[derive(Debug)]
pub struct Outputs<M, W> {
    /// Whom there are to be links to from now on, and where they are reached; `None` if that has not changed. Links to
    /// anybody else are closed.
    pub peers: Option<BTreeMap<NodeId, String>>,
    /// Messages to send. They may be lost.
    pub messages: Vec<(NodeId, PeerMessage)>,
    /// Work for the disk, after all earlier work.
    pub jobs: Vec<DiskJob>,
    /// Work for the snapshots' files, after all earlier work on them.
    pub snapshot_jobs: Vec<SnapshotJob<M>>,
    /// Requests that are done, and how.
    pub answers: Vec<(W, Answer)>,
    /// Lines for the log.
    pub events: Vec<NodeEvent>,
}

impl<M, W> Default for Outputs<M, W> {
    fn default() -> Self {
        Self {
            peers: None,
            messages: Vec::new(),
            jobs: Vec::new(),
            snapshot_jobs: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// One server without its I/O. `W` is whatever the driver wants back with an answer.
#[derive(Debug)]
pub struct Replica<M: StateMachine, W> {
    config: ReplicaConfig,
    stage: Stage,
    machine: M,
    /// Up to where the log is committed ..
    committed: LogIndex,
    /// .. and applied.
    applied: LogIndex,
    /// How many more entries this turn may apply.
    room_to_apply: usize,
    snapshots: Snapshots<M>,
    space: Space,
    clock: ClusterClock,
    proposals: Proposals<W>,
    reads: Reads<W>,
    transfers: Transfers<W>,
    changes: Changes<W>,
    peers: Peers,
    /// Those whose batch is being proposed.
    proposing: Vec<(Origin<W>, usize, Instant)>,
    batch: ProposalId,
    sweep_at: Instant,
    stopping: bool,
    /// This leader hands over, or has: requests wait for the successor, until it is known or this moment is there.
    successor_by: Option<Instant>,
    last_change: Option<LeaderChange>,
    /// Why the last election was held here, until it is known who won.
    election_reason: Option<Reason>,
    counters: Counters,
    /// Where clients reach each server.
    client_addresses: BTreeMap<NodeId, String>,
    /// The disks that members' ids were last heard from and that are not theirs, so that it is not said over and over.
    foreign_disks: BTreeMap<NodeId, DiskId>,
    effects: Vec<Effect>,
    outputs: Outputs<M, W>,
}

impl<M: StateMachine, W> Replica<M, W> {
    /// Starts from what the disk holds. `formation` is what was prepared or formed before, if anything; `machine` is the
    /// state that the snapshot in `restored` holds, or an empty one if there is none.
    ///
    /// # Errors
    /// If the settings contradict each other, or what was restored cannot be a server's state.
    pub fn new(
        config: ReplicaConfig,
        formation: Option<&Formation>,
        mut restored: Restored,
        machine: M,
        now: Instant,
    ) -> Result<Self, StartError> {
        let snapshot = restored.snapshot.as_ref();
        let covered = snapshot.map_or(LogIndex(0), |snapshot| snapshot.last.index);
        let covered_stamp = snapshot.map_or(ClusterTime::default(), |snapshot| snapshot.stamp);
        let last_stamp = restored.entries.last().map_or(covered_stamp, |entry| entry.stamp.max(covered_stamp));
        let stage = match formation {
            Some(Formation { cluster, configuration, formed: true }) => {
                restored.initial = configuration.clone();
                let raft = Box::new(Raft::new(config.protocol.clone(), restored, now)?);
                Stage::Running { cluster: *cluster, initial: configuration.clone(), raft }
            }
            prepared => {
                if !restored.entries.is_empty()
                    || restored.snapshot.is_some()
                    || restored.hard_state != HardState::default()
                {
                    return Err(StartError::FormationLost);
                }
                // The settings are judged now, not when the cluster has formed.
                Raft::new(config.protocol.clone(), restored, now)?;
                let forming = Forming::new(config.protocol.id, config.disk, config.listed.clone(), prepared);
                Stage::Forming(Box::new(Unformed::new(forming, now)))
            }
        };
        let outputs = Outputs { events: list_ignored(&config, &stage).into_iter().collect(), ..Outputs::default() };
        let proposals = Proposals::new(config.protocol.incarnation);
        Ok(Self {
            config,
            stage,
            machine,
            committed: covered,
            applied: covered,
            room_to_apply: MAX_APPLIED_PER_TURN,
            snapshots: Snapshots::default(),
            space: Space::default(),
            clock: ClusterClock::new(last_stamp, now),
            proposals,
            reads: Reads::default(),
            transfers: Transfers::default(),
            changes: Changes::default(),
            peers: Peers::new(now),
            proposing: Vec::new(),
            batch: ProposalId(0),
            sweep_at: now,
            stopping: false,
            successor_by: None,
            last_change: None,
            election_reason: None,
            counters: Counters::default(),
            client_addresses: BTreeMap::new(),
            foreign_disks: BTreeMap::new(),
            effects: Vec::new(),
            outputs,
        })
    }

    /// When [`Replica::tick`] is next due.
    pub fn next_wakeup(&self) -> Instant {
        let protocol = match &self.stage {
            Stage::Forming(unformed) => unformed.announce_at,
            Stage::Running { raft, .. } => raft.next_wakeup(),
        };
        if self.applied < self.committed && !self.snapshots.is_restoring() {
            // There is more to apply: at once.
            return Instant(0);
        }
        let at_times = [Some(protocol), self.space.wakeup(), Some(self.peers.introduce_at), self.snapshots.wakeup()];
        let wakeup = at_times.into_iter().flatten().min().unwrap_or(protocol);
        if self.requests_under_way() > 0 { wakeup.min(self.sweep_at) } else { wakeup }
    }

    /// How many requests are not answered yet.
    pub fn requests_under_way(&self) -> usize {
        self.proposals.unanswered() + self.reads.count() + self.transfers.count() + self.changes.count()
    }

    /// Whether one that was told to stop may end: everybody is answered, and it hands nothing over.
    pub fn is_drained(&self) -> bool {
        self.requests_under_way() == 0 && !self.is_handing_over()
    }

    // --- what happens --------------------------------------------------------------------------------------------

    /// Time has passed. `draw` gives a random number, wanted at most once in a cluster's life.
    pub fn tick(&mut self, now: Instant, draw: &mut dyn FnMut() -> u128) {
        match &self.stage {
            Stage::Forming(unformed) => {
                if now >= unformed.announce_at {
                    self.announce_formation(now, draw);
                }
            }
            Stage::Running { raft, .. } => {
                if now >= raft.next_wakeup() {
                    self.step(now, Input::Tick);
                }
            }
        }
        self.tick_space(now);
        if now >= self.peers.introduce_at {
            self.introduce(now);
        }
        if now >= self.sweep_at {
            self.sweep(now);
        }
    }

    /// A message arrived. Whoever its link's handshake has let in is of this cluster, or wants to be; whether what it says
    /// of the protocol counts is for that to judge.
    pub fn handle_peer(
        &mut self,
        now: Instant,
        from: PeerIdentity,
        message: PeerMessage,
        draw: &mut dyn FnMut() -> u128,
    ) {
        self.counters.messages_received += 1;
        match message {
            PeerMessage::Formation(state) => self.handle_formation(from, state, draw),
            PeerMessage::Raft(message) => {
                let PeerIdentity { id, disk, incarnation } = from;
                self.step(now, Input::Message { from: id, disk, incarnation, message });
            }
            PeerMessage::Forward { id, timeout_ms, command } => {
                let deadline = now.after(Duration::from_millis(timeout_ms.into()));
                let origin = Origin::Follower { id: from.id, forward: id };
                self.admit(Proposal { origin, command, deadline });
            }
            PeerMessage::ForwardReply { id, outcome: Ok(reply) } => {
                if let Some(origin) = self.proposals.take_forwarded(from.id, id) {
                    self.answer(origin, Answer::Applied(reply));
                }
            }
            PeerMessage::ForwardReply { id, outcome: Err(refusal) } => {
                if let Some(origin) = self.take_forwarded(from.id, id) {
                    self.answer(origin, Answer::Failed(refusal.into()));
                }
            }
            PeerMessage::Transfer { id, timeout_ms, to } => {
                let deadline = now.after(Duration::from_millis(timeout_ms.into()));
                self.take_transfer(now, Origin::Follower { id: from.id, forward: id }, to, deadline);
            }
            PeerMessage::Transferred { id, leadership } => {
                if let Some(origin) = self.transfers.take_forwarded(from.id, id) {
                    self.answer(origin, Answer::Transferred(leadership));
                }
            }
            PeerMessage::DiskFull => {
                if self.is_member(from) {
                    self.note_peer_full(now, from.id);
                }
            }
            PeerMessage::Elected { term, reason } => self.note_elected(term, reason),
            PeerMessage::Introduction { address, is_newcomer } => {
                self.handle_introduction(now, from, address, is_newcomer);
            }
            PeerMessage::Members { members } => self.handle_members(members),
            PeerMessage::NotAdmitted { reason } => self.handle_not_admitted(from.id, reason),
        }
    }

    /// `message` could not be given to the link to `to`, and why. It is lost.
    pub fn handle_unsent(&mut self, now: Instant, to: NodeId, message: &PeerMessage, why: SendRefused) {
        match message {
            PeerMessage::Raft(_) if message.link() == LinkKind::Bulk => self.note_unreachable(now, to),
            PeerMessage::Forward { id, .. } | PeerMessage::Transfer { id, .. } => {
                if let Some(origin) = self.take_forwarded(to, *id) {
                    // It never left, so it was certainly not done.
                    let failure = match why {
                        SendRefused::NotConnected => Failure::NoLeader,
                        SendRefused::Full => Failure::Overloaded,
                    };
                    self.answer(origin, Answer::Failed(failure));
                }
            }
            // What is short is said again. A follower that lost its reply has lost the link too, or its patience.
            PeerMessage::Raft(_)
            | PeerMessage::Formation(_)
            | PeerMessage::ForwardReply { .. }
            | PeerMessage::Transferred { .. }
            | PeerMessage::DiskFull
            | PeerMessage::Elected { .. }
            | PeerMessage::Introduction { .. }
            | PeerMessage::Members { .. }
            | PeerMessage::NotAdmitted { .. } => {}
        }
    }

    /// This server's link to `peer` is up; `client_address` is where that serves its clients.
    pub fn handle_link_up(&mut self, peer: NodeId, link: LinkKind, client_address: String) {
        self.note_client_address(peer, client_address);
        if link == LinkKind::Control {
            self.introduce_to(peer);
        }
    }

    /// This server's link to `peer` broke: of what was sent nobody knows what arrived.
    pub fn handle_link_lost(&mut self, now: Instant, peer: NodeId, link: LinkKind) {
        if link == LinkKind::Bulk {
            self.give_up_forwarded_to(peer);
            self.note_unreachable(now, peer);
        }
    }

    /// The link on which `peer` speaks to this server broke: its answers may be lost.
    pub fn handle_peer_link_lost(&mut self, peer: NodeId, link: LinkKind) {
        match link {
            LinkKind::Bulk => self.give_up_forwarded_to(peer),
            LinkKind::Control => self.forget_introduction(peer),
        }
    }

    /// The disk has done something.
    pub fn handle_disk(&mut self, now: Instant, done: DiskDone) {
        match done {
            DiskDone::Persisted(number) => {
                self.counters.writes_confirmed = number.0;
                self.step(now, Input::Persisted(number));
            }
            DiskDone::FormationSynced => self.handle_formation_synced(now),
            DiskDone::Full => self.handle_full(now),
            DiskDone::HasSpace => self.handle_space(),
        }
    }

    /// Answers every request under way: the server stops now.
    pub fn abandon_requests(&mut self) {
        let mut origins = self.proposals.take_all_in_log();
        origins.extend(self.proposals.take_forwarded_to(|_| true));
        origins.extend(self.transfers.take_all());
        for origin in origins {
            self.answer(origin, Answer::Failed(Failure::Timeout));
        }
        // What was never proposed was certainly not applied.
        for origin in self.proposals.take_all_waiting() {
            self.answer(origin, Answer::Failed(Failure::Stopping));
        }
        for waiter in self.reads.take_all() {
            self.outputs.answers.push((waiter, Answer::Failed(Failure::Timeout)));
        }
        for (waiter, may_be_begun) in self.changes.take_all() {
            let failure = if may_be_begun { Failure::Timeout } else { Failure::Stopping };
            self.outputs.answers.push((waiter, Answer::Failed(failure)));
        }
    }

    /// From now on every new request is refused; those under way may still be answered. A leader hands over first, and what
    /// comes until its successor is known goes there.
    pub fn stop(&mut self, now: Instant) {
        self.stopping = true;
        if self.leader() == Some(self.config.protocol.id) && !self.is_handing_over() {
            self.hand_over(now, None);
        }
    }

    /// Makes batches of what has come in since the last call, and hands out all there is to do.
    pub fn flush(&mut self, now: Instant) -> Outputs<M, W> {
        let has_leader = self.leader().is_some();
        self.clock.advance(now, has_leader);
        self.room_to_apply = MAX_APPLIED_PER_TURN;
        self.apply_committed();
        let waits = self.waits_for_successor(now);
        if !waits {
            self.propose_waiting(now);
        }
        // As long as it leads it answers reads itself.
        if (!waits || self.is_handing_over())
            && let Some(id) = self.reads.ask()
        {
            self.counters.read_batches += 1;
            if self.raft().is_some() {
                self.step(now, Input::Read { id });
            } else {
                self.fail_reads(id, Failure::NoLeader);
            }
        }
        self.advance_snapshot(now);
        self.note_removed();
        self.outputs.peers = self.take_new_peers();
        std::mem::take(&mut self.outputs)
    }
}

/// What to say of a list of members that is not that of the cluster.
fn list_ignored(config: &ReplicaConfig, stage: &Stage) -> Option<NodeEvent> {
    let Stage::Running { raft, .. } = stage else { return None };
    let members = raft.configuration().members();
    let configured: Vec<(NodeId, String)> = members.map(|(id, member)| (id, member.address.clone())).collect();
    let listed: Vec<(NodeId, String)> = config.listed.iter().map(|(&id, address)| (id, address.clone())).collect();
    let differs = !listed.is_empty() && listed != configured;
    differs.then_some(NodeEvent::ListIgnored { listed, configured })
}
