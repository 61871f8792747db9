//! The node's logic without I/O: joins the protocol with the state machine, and knows who waits for what.
//!
//! A replica is told what happened (a message, a completed write, a request, the time) and leaves what is to be done
//! in [`Outputs`]. Its driver, the real one in `runtime` or a simulator, supplies network, disk, clock and clients and
//! carries the outputs out without looking into them.
//!
//! Requests and messages are taken one by one; [`Replica::flush`] then makes one batch of all that came in: one entry
//! batch, one message a follower, one write, one read round. Batches form from what is waiting, never by a timer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    ClusterId, ClusterTime, Config, Configuration, DiskId, Effect, Entry, Incarnation, Input, Instant, LogIndex,
    NodeId, Payload, ProposalId, Raft, ReadFailure, Reason, Restored, RoleName, StartError, Term,
};
use raft_net::LinkKind;
use raft_storage::Formation;

use crate::answer::{Answer, Failure, Origin};
use crate::clock::ClusterClock;
use crate::counters::Counters;
use crate::disk::{DiskDone, DiskJob};
use crate::event::NodeEvent;
use crate::formation::{Forming, Step};
use crate::machine::StateMachine;
use crate::peer_message::{FormationRecord, FormationState, ForwardRefusal, PeerMessage};
use crate::proposals::{Proposal, Proposals};
use crate::reads::Reads;

/// How often a server that has not formed says so.
const FORMATION_INTERVAL: Duration = Duration::from_millis(50);
/// How often requests are checked for their deadline.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// What a replica is told before it starts.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Its disk.
    pub disk: DiskId,
    /// The members and their peer addresses as `--cluster` lists them; used only while the cluster has not formed.
    pub listed: BTreeMap<NodeId, String>,
    /// The settings of the protocol, with id, incarnation and seed.
    pub protocol: Config,
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
pub struct Outputs<W> {
    /// Messages to send. They may be lost.
    pub messages: Vec<(NodeId, PeerMessage)>,
    /// Work for the disk, after all earlier work.
    pub jobs: Vec<DiskJob>,
    /// Requests that are done, and how.
    pub answers: Vec<(W, Answer)>,
    /// Lines for the log.
    pub events: Vec<NodeEvent>,
}

impl<W> Default for Outputs<W> {
    fn default() -> Self {
        Self { messages: Vec::new(), jobs: Vec::new(), answers: Vec::new(), events: Vec::new() }
    }
}

/// The last change of leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    /// The new leader's term.
    pub term: Term,
    /// Why it came about, as far as this server knows.
    pub reason: String,
}

/// What a replica knows of itself and the cluster.
#[derive(Clone, Debug)]
pub struct Status {
    /// This server.
    pub id: NodeId,
    /// The cluster; `None` while it is forming.
    pub cluster: Option<ClusterId>,
    /// Its role; `None` while the cluster is forming.
    pub role: Option<RoleName>,
    /// Its term.
    pub term: Term,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Up to where the log is committed.
    pub commit_index: LogIndex,
    /// Up to where it is applied.
    pub applied_index: LogIndex,
    /// The last change of leader.
    pub last_change: Option<LeaderChange>,
    /// The members: of the configuration, or as listed.
    pub members: Vec<(NodeId, Option<DiskId>)>,
    /// Cluster time.
    pub cluster_time: ClusterTime,
    /// What has happened so far.
    pub counters: Counters,
}

/// Whether the cluster has formed.
#[derive(Debug)]
enum Stage {
    Forming { forming: Forming, restored: Box<Restored>, announce_at: Instant, obstacle: Option<String> },
    Running { cluster: ClusterId, raft: Box<Raft> },
}

/// One server without its I/O. `W` is whatever the driver wants back with an answer.
#[derive(Debug)]
pub struct Replica<M, W> {
    config: ReplicaConfig,
    stage: Stage,
    machine: M,
    applied: LogIndex,
    clock: ClusterClock,
    proposals: Proposals<W>,
    reads: Reads<W>,
    /// Those whose batch is being proposed.
    proposing: Vec<(Origin<W>, usize, Instant)>,
    batch: ProposalId,
    sweep_at: Instant,
    stopping: bool,
    last_change: Option<LeaderChange>,
    /// Why the last election was held here, until it is known who won.
    election_reason: Option<Reason>,
    counters: Counters,
    /// Where clients reach each server; no more entries than members.
    client_addresses: BTreeMap<NodeId, String>,
    effects: Vec<Effect>,
    outputs: Outputs<W>,
}

impl<M, W> Replica<M, W> {
    /// The configuration in effect, once the cluster has formed.
    pub fn configuration(&self) -> Option<&Configuration> {
        match &self.stage {
            Stage::Forming { .. } => None,
            Stage::Running { raft, .. } => Some(raft.configuration()),
        }
    }
}

impl<M: StateMachine, W> Replica<M, W> {
    /// Starts from what the disk holds. `formation` is what was prepared or formed before, if anything.
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
        let last_stamp = restored.entries.last().map_or(ClusterTime::default(), |entry| entry.stamp);
        let stage = match formation {
            Some(Formation { cluster, configuration, formed: true }) => {
                restored.initial = configuration.clone();
                let raft = Box::new(Raft::new(config.protocol.clone(), restored, now)?);
                Stage::Running { cluster: *cluster, raft }
            }
            prepared => {
                // The settings are judged now, not when the cluster has formed.
                Raft::new(config.protocol.clone(), Restored::default(), now)?;
                let forming = Forming::new(config.protocol.id, config.disk, config.listed.clone(), prepared);
                Stage::Forming { forming, restored: Box::new(restored), announce_at: now, obstacle: None }
            }
        };
        Ok(Self {
            config,
            stage,
            machine,
            applied: LogIndex(0),
            clock: ClusterClock::new(last_stamp, now),
            proposals: Proposals::default(),
            reads: Reads::default(),
            proposing: Vec::new(),
            batch: ProposalId(0),
            sweep_at: now,
            stopping: false,
            last_change: None,
            election_reason: None,
            counters: Counters::default(),
            client_addresses: BTreeMap::new(),
            effects: Vec::new(),
            outputs: Outputs::default(),
        })
    }

    // --- what it is ----------------------------------------------------------------------------------------------

    /// The state machine, as far as it has applied.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The leader it knows.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.stage {
            Stage::Forming { .. } => None,
            Stage::Running { raft, .. } => raft.leader(),
        }
    }

    /// Its protocol state, once the cluster has formed.
    pub fn raft(&self) -> Option<&Raft> {
        match &self.stage {
            Stage::Forming { .. } => None,
            Stage::Running { raft, .. } => Some(raft),
        }
    }

    /// The cluster, once it has formed.
    pub const fn cluster(&self) -> Option<ClusterId> {
        match &self.stage {
            Stage::Forming { .. } => None,
            Stage::Running { cluster, .. } => Some(*cluster),
        }
    }

    /// What it knows of itself and the cluster.
    pub fn status(&self) -> Status {
        let members = match &self.stage {
            Stage::Forming { .. } => self.config.listed.keys().map(|&id| (id, None)).collect(),
            Stage::Running { raft, .. } => {
                raft.configuration().members.iter().map(|(&id, member)| (id, Some(member.disk))).collect()
            }
        };
        let raft = self.raft();
        Status {
            id: self.config.protocol.id,
            cluster: self.cluster(),
            role: raft.map(Raft::role),
            term: raft.map_or(Term(0), Raft::term),
            leader: self.leader(),
            commit_index: raft.map_or(LogIndex(0), Raft::commit_index),
            applied_index: self.applied,
            last_change: self.last_change.clone(),
            members,
            cluster_time: self.clock.now(),
            counters: self.counters,
        }
    }

    /// Cluster time, at which new sessions are born.
    pub const fn cluster_time(&self) -> ClusterTime {
        self.clock.now()
    }

    /// Where clients reach server `id`, once it has been met.
    pub fn client_address(&self, id: NodeId) -> Option<&str> {
        self.client_addresses.get(&id).map(String::as_str)
    }

    /// Notes where clients reach a server that a handshake has admitted.
    pub fn note_client_address(&mut self, id: NodeId, address: String) {
        self.client_addresses.insert(id, address);
    }

    /// When [`Replica::tick`] is next due.
    pub fn next_wakeup(&self) -> Instant {
        let protocol = match &self.stage {
            Stage::Forming { announce_at, .. } => *announce_at,
            Stage::Running { raft, .. } => raft.next_wakeup(),
        };
        if self.proposals.count() + self.reads.count() > 0 { protocol.min(self.sweep_at) } else { protocol }
    }

    /// How many requests are not answered yet.
    pub fn requests_under_way(&self) -> usize {
        self.proposals.count() + self.reads.count()
    }

    // --- what happens --------------------------------------------------------------------------------------------

    /// Time has passed. `draw` gives a random number, wanted at most once in a cluster's life.
    pub fn tick(&mut self, now: Instant, draw: &mut dyn FnMut() -> u128) {
        match &mut self.stage {
            Stage::Forming { forming, announce_at, .. } => {
                if now >= *announce_at {
                    *announce_at = now.after(FORMATION_INTERVAL);
                    let state = forming.state();
                    for peer in forming.others() {
                        self.outputs.messages.push((peer, PeerMessage::Formation(state.clone())));
                    }
                    let step = forming.advance(|| ClusterId(draw()));
                    self.take_formation_step(step);
                }
            }
            Stage::Running { raft, .. } => {
                if now >= raft.next_wakeup() {
                    self.step(now, Input::Tick);
                }
            }
        }
        if now >= self.sweep_at {
            self.sweep(now);
        }
    }

    /// A message arrived.
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
            PeerMessage::Raft(message) if self.is_member(from) => {
                self.step(now, Input::Message { from: from.id, incarnation: from.incarnation, message });
            }
            PeerMessage::Forward { id, timeout_ms, command } if self.is_member(from) => {
                let deadline = now.after(Duration::from_millis(timeout_ms.into()));
                let origin = Origin::Follower { id: from.id, forward: id };
                self.admit(Proposal { origin, command, deadline });
            }
            PeerMessage::ForwardReply { id, outcome } if self.is_member(from) => {
                if let Some(origin) = self.proposals.take_forwarded(from.id, id) {
                    let answer = outcome.map_or_else(|refusal| Answer::Failed(refusal.into()), Answer::Applied);
                    self.answer(origin, answer);
                }
            }
            // It may be of a cluster that has formed while this server has not heard of it yet; it will.
            PeerMessage::Raft(_) | PeerMessage::Forward { .. } | PeerMessage::ForwardReply { .. } => {
                if self.cluster().is_some() {
                    self.outputs.events.push(NodeEvent::ForeignDisk { peer: from.id });
                }
            }
        }
    }

    /// Messages to `peer` on `link` were lost: the link broke or its queue was full.
    pub fn handle_lost_messages(&mut self, now: Instant, peer: NodeId, link: LinkKind) {
        if link == LinkKind::Bulk {
            for origin in self.proposals.take_forwarded_to(|leader| leader == peer) {
                self.answer(origin, Answer::Failed(Failure::LeaderChanged));
            }
            if self.raft().is_some() {
                self.step(now, Input::Unreachable { peer });
            }
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
        }
    }

    /// A client wants `command` applied, and will wait until `deadline`.
    pub fn propose(&mut self, waiter: W, command: Bytes, deadline: Instant) {
        self.admit(Proposal { origin: Origin::Own(waiter), command, deadline });
    }

    /// A client wants to read the state machine, and will wait until `deadline`.
    pub fn read(&mut self, waiter: W, deadline: Instant) {
        self.counters.reads += 1;
        let refusal = if self.stopping {
            Some((waiter, Failure::Stopping))
        } else {
            self.reads.admit(waiter, deadline).err().map(|waiter| (waiter, Failure::Overloaded))
        };
        if let Some((waiter, failure)) = refusal {
            self.outputs.answers.push((waiter, Answer::Failed(failure)));
        }
    }

    /// From now on every new request is refused; those under way may still be answered.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Makes batches of what has come in since the last call, and hands out all there is to do.
    pub fn flush(&mut self, now: Instant) -> Outputs<W> {
        let has_leader = self.leader().is_some();
        self.clock.advance(now, has_leader);
        loop {
            let batch = self.proposals.take_batch();
            if batch.is_empty() {
                break;
            }
            self.propose_batch(now, batch);
        }
        if let Some(id) = self.reads.ask() {
            self.counters.read_batches += 1;
            if self.raft().is_some() {
                self.step(now, Input::Read { id });
            } else {
                self.fail_reads(id, Failure::NoLeader);
            }
        }
        std::mem::take(&mut self.outputs)
    }

    // --- proposals -----------------------------------------------------------------------------------------------

    fn admit(&mut self, proposal: Proposal<W>) {
        let refused = if self.stopping {
            Some((proposal, Failure::Stopping))
        } else {
            self.proposals.admit(proposal).err().map(|proposal| (proposal, Failure::Overloaded))
        };
        if let Some((proposal, failure)) = refused {
            self.counters.proposals_refused += 1;
            self.answer(proposal.origin, Answer::Failed(failure));
        }
    }

    fn propose_batch(&mut self, now: Instant, batch: Vec<Proposal<W>>) {
        let own = self.config.protocol.id;
        match self.leader() {
            Some(leader) if leader == own => {
                let mut commands = Vec::with_capacity(batch.len());
                for Proposal { origin, command, deadline } in batch {
                    self.proposing.push((origin, command.len(), deadline));
                    commands.push(command);
                }
                self.counters.commands_proposed += commands.len() as u64;
                self.counters.batches_proposed += 1;
                self.batch = ProposalId(self.batch.0 + 1);
                let id = self.batch;
                self.step(now, Input::Propose { id, commands });
            }
            leader => {
                for proposal in batch {
                    self.forward_or_refuse(now, leader, proposal);
                }
            }
        }
    }

    /// Passes a client's command on to the leader; one that came from another server already goes no further.
    fn forward_or_refuse(&mut self, now: Instant, leader: Option<NodeId>, proposal: Proposal<W>) {
        let is_own = matches!(proposal.origin, Origin::Own(_));
        match leader {
            Some(leader) if is_own => {
                let timeout = proposal.deadline.since(now);
                let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
                let (id, command) = self.proposals.note_forwarded(leader, proposal);
                self.counters.proposals_forwarded += 1;
                self.outputs.messages.push((leader, PeerMessage::Forward { id, timeout_ms, command }));
            }
            Some(_) | None => {
                self.counters.proposals_refused += 1;
                self.proposals.release(proposal.command.len());
                let failure = if is_own { Failure::NoLeader } else { Failure::NotLeader };
                self.answer(proposal.origin, Answer::Failed(failure));
            }
        }
    }

    fn answer(&mut self, origin: Origin<W>, answer: Answer) {
        match origin {
            Origin::Own(waiter) => self.outputs.answers.push((waiter, answer)),
            Origin::Follower { id, forward } => {
                let outcome = match answer {
                    Answer::Applied(reply) => Ok(reply),
                    Answer::Failed(failure) => Err(failure.into()),
                    Answer::ReadReady => unreachable!("only commands are forwarded"),
                };
                self.outputs.messages.push((id, PeerMessage::ForwardReply { id: forward, outcome }));
            }
        }
    }

    // --- the protocol --------------------------------------------------------------------------------------------

    fn step(&mut self, now: Instant, input: Input) {
        let Stage::Running { raft, .. } = &mut self.stage else { return };
        let led = raft.role() == RoleName::Leader;
        let followed = raft.leader();
        raft.step(now, input, &mut self.effects);
        let leads = raft.role() == RoleName::Leader;
        let (term, leader, commit) = (raft.term(), raft.leader(), raft.commit_index());
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.execute(term, effect);
        }
        self.effects = effects;
        self.apply_to(commit);
        if led && !leads {
            self.counters.step_downs += 1;
            for origin in self.proposals.take_all_in_log() {
                self.answer(origin, Answer::Failed(Failure::LeaderChanged));
            }
        }
        if followed != leader {
            for origin in self.proposals.take_forwarded_to(|to| Some(to) != leader) {
                self.answer(origin, Answer::Failed(Failure::LeaderChanged));
            }
        }
        for waiter in self.reads.take_ready(self.applied) {
            self.outputs.answers.push((waiter, Answer::ReadReady));
        }
    }

    fn execute(&mut self, term: Term, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                self.counters.messages_sent += 1;
                self.outputs.messages.push((to, PeerMessage::Raft(message)));
            }
            Effect::Write(write) => {
                self.counters.writes_issued += 1;
                self.outputs.jobs.push(DiskJob::Write(write));
            }
            // Applied once the step's effects are done, see `step`.
            Effect::Committed { .. } => {}
            Effect::ProposalAccepted { first, .. } => {
                let batch = std::mem::take(&mut self.proposing);
                self.proposals.note_in_log(first, batch);
            }
            Effect::ProposalRefused { .. } => {
                for (origin, size_bytes, _) in std::mem::take(&mut self.proposing) {
                    self.proposals.release(size_bytes);
                    self.answer(origin, Answer::Failed(Failure::NotLeader));
                }
            }
            Effect::ReadReady { id, index } => self.reads.note_index(id, index),
            Effect::ReadFailed { id, reason } => {
                let failure = match reason {
                    ReadFailure::NoLeader => Failure::NoLeader,
                    ReadFailure::LeaderChanged => Failure::NotLeader,
                    ReadFailure::Overloaded => Failure::Overloaded,
                };
                self.fail_reads(id, failure);
            }
            Effect::RoleChanged { to, reason, .. } => {
                self.note_role(term, to, reason);
                self.outputs.events.push(NodeEvent::Protocol { term, effect });
            }
            Effect::LeaderKnown { leader } => {
                let reason = self.election_reason.take();
                let reason = reason.map_or_else(|| format!("{leader} was elected"), |reason| reason.to_string());
                self.last_change = Some(LeaderChange { term, reason });
                self.outputs.events.push(NodeEvent::Protocol { term, effect });
            }
            Effect::Misbehaved { .. } => {
                self.counters.misbehaviours += 1;
                self.outputs.events.push(NodeEvent::Protocol { term, effect });
            }
        }
    }

    /// Remembers why elections are held, so that `status` can say why the leader changed.
    fn note_role(&mut self, term: Term, to: RoleName, reason: Reason) {
        match to {
            RoleName::PreCandidate => {
                if !matches!(reason, Reason::NoOutcome) {
                    self.election_reason = Some(reason);
                }
            }
            RoleName::Candidate => self.counters.elections_started += 1,
            RoleName::Leader => {
                self.counters.elections_won += 1;
                let reason = self.election_reason.take();
                let reason = reason.map_or_else(|| "elected".to_owned(), |reason| reason.to_string());
                self.last_change = Some(LeaderChange { term, reason });
            }
            RoleName::Follower => {
                if matches!(reason, Reason::QuorumLost { .. }) {
                    self.election_reason = Some(reason);
                }
            }
        }
    }

    fn apply_to(&mut self, commit: LogIndex) {
        while self.applied < commit {
            let Stage::Running { raft, .. } = &self.stage else { return };
            let index = self.applied.next();
            let entry = raft.log().entry(index).expect("what is committed is in the log");
            let Entry { position, stamp, .. } = *entry;
            self.clock.observe(stamp);
            let reply = match &entry.payload {
                Payload::Command(command) => {
                    self.counters.commands_applied += 1;
                    self.machine.apply(index, stamp, command)
                }
                Payload::Noop | Payload::Configuration(_) => Bytes::new(),
            };
            self.applied = index;
            match self.proposals.take_applied(position) {
                Some(Ok(origin)) => self.answer(origin, Answer::Applied(reply)),
                Some(Err(origin)) => self.answer(origin, Answer::Failed(Failure::Overwritten)),
                None => {}
            }
        }
    }

    fn fail_reads(&mut self, id: raft_core::ReadId, failure: Failure) {
        for waiter in self.reads.take_failed(id) {
            self.outputs.answers.push((waiter, Answer::Failed(failure)));
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.sweep_at = now.after(SWEEP_INTERVAL);
        for (origin, failure) in self.proposals.take_overdue(now) {
            self.answer(origin, Answer::Failed(failure));
        }
        for waiter in self.reads.take_overdue(now) {
            self.outputs.answers.push((waiter, Answer::Failed(Failure::Timeout)));
        }
    }

    /// Whether the sender is the member it says it is, on the disk that the configuration names (rule 2).
    fn is_member(&self, from: PeerIdentity) -> bool {
        self.raft()
            .and_then(|raft| raft.configuration().members.get(&from.id))
            .is_some_and(|member| member.disk == from.disk)
    }

    // --- formation -----------------------------------------------------------------------------------------------

    fn handle_formation(&mut self, from: PeerIdentity, state: FormationState, draw: &mut dyn FnMut() -> u128) {
        match &mut self.stage {
            Stage::Forming { forming, obstacle, .. } => {
                match forming.handle(from.id, from.disk, state, || ClusterId(draw())) {
                    Ok(step) => self.take_formation_step(step),
                    Err(reason) => {
                        let reason = reason.to_string();
                        if obstacle.as_ref() != Some(&reason) {
                            *obstacle = Some(reason.clone());
                            self.outputs.events.push(NodeEvent::CannotForm { with: from.id, reason });
                        }
                    }
                }
            }
            Stage::Running { cluster, raft } => {
                if !matches!(state, FormationState::Formed(_)) {
                    let record = FormationRecord::new(*cluster, raft.configuration());
                    let state = FormationState::Formed(record);
                    self.outputs.messages.push((from.id, PeerMessage::Formation(state)));
                }
            }
        }
    }

    fn take_formation_step(&mut self, step: Step) {
        match step {
            Step::Wait => {}
            Step::Write(formation) => self.outputs.jobs.push(DiskJob::Formation(formation)),
        }
    }

    fn handle_formation_synced(&mut self, now: Instant) {
        let Stage::Forming { forming, restored, announce_at, .. } = &mut self.stage else { return };
        *announce_at = now;
        let Some(formation) = forming.handle_synced() else { return };
        let cluster = formation.cluster;
        let mut restored = std::mem::take(restored.as_mut());
        restored.initial = formation.configuration;
        let raft = Raft::new(self.config.protocol.clone(), restored, now)
            .expect("the settings were judged when the replica was made, and an unformed server has no log");
        let record = FormationRecord::new(cluster, raft.configuration());
        for (&peer, _) in raft.configuration().members.iter().filter(|(id, _)| **id != raft.id()) {
            let state = FormationState::Formed(record.clone());
            self.outputs.messages.push((peer, PeerMessage::Formation(state)));
        }
        self.stage = Stage::Running { cluster, raft: Box::new(raft) };
        self.outputs.events.push(NodeEvent::Formed { cluster });
    }
}

impl From<ForwardRefusal> for Failure {
    fn from(refusal: ForwardRefusal) -> Self {
        match refusal {
            ForwardRefusal::NotLeader => Self::NotLeader,
            ForwardRefusal::LeaderChanged => Self::LeaderChanged,
            ForwardRefusal::Overwritten => Self::Overwritten,
            ForwardRefusal::Overloaded => Self::Overloaded,
            ForwardRefusal::Timeout => Self::Timeout,
            ForwardRefusal::Stopping => Self::Stopping,
        }
    }
}

impl From<Failure> for ForwardRefusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoLeader | Failure::NotLeader => Self::NotLeader,
            Failure::LeaderChanged => Self::LeaderChanged,
            Failure::Overwritten => Self::Overwritten,
            Failure::Timeout => Self::Timeout,
            Failure::Overloaded => Self::Overloaded,
            Failure::Stopping => Self::Stopping,
        }
    }
}
