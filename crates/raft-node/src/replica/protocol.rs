//! The protocol's side: one step, its effects carried out, and what it committed applied (§3.5).

use bytes::Bytes;
use raft_core::{Effect, Entry, Input, Instant, NodeId, Payload, ProposalRefusal, ReadFailure, Reason, RoleName, Term};

use super::{LeaderChange, PeerIdentity, Replica, Stage};
use crate::answer::{Answer, Failure, Leadership};
use crate::disk::DiskJob;
use crate::event::NodeEvent;
use crate::machine::StateMachine;
use crate::peer_message::PeerMessage;
use crate::snapshots::SnapshotJob;

impl<M: StateMachine, W> Replica<M, W> {
    pub(super) fn step(&mut self, now: Instant, input: Input) {
        let Stage::Running { raft, .. } = &mut self.stage else { return };
        let led = raft.role() == RoleName::Leader;
        let (followed, term_before) = (raft.leader(), raft.term());
        let handed_over = raft.transfers_to().is_some();
        raft.step(now, input, &mut self.effects);
        let leads = raft.role() == RoleName::Leader;
        let (term, leader, commit) = (raft.term(), raft.leader(), raft.commit_index());
        if !handed_over && raft.transfers_to().is_some() {
            self.note_handing_over(now);
        }
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.execute(term, effect);
        }
        self.effects = effects;
        self.committed = commit;
        self.apply_committed();
        self.answer_changes();
        if led && !leads {
            self.counters.step_downs += 1;
        }
        // One that has handed over lets what is in its log wait for the successor, which has it all.
        if led != leads && self.successor_by.is_none_or(|_| leads) {
            self.give_up_log();
        }
        if let Some(leader) = leader.filter(|_| followed != leader || term_before != term) {
            self.note_leadership(Leadership { leader, term });
        }
        if followed != leader {
            for origin in self.proposals.take_forwarded_to(|to| Some(to) != leader) {
                self.answer(origin, Answer::Failed(Failure::LeaderChanged));
            }
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
            Effect::SendSnapshot { to, term, last, offset, max_bytes } => {
                self.outputs.snapshot_jobs.push(SnapshotJob::Read { to, term, last, offset, max_bytes });
            }
            Effect::StoreChunk { last, offset, data, done } => {
                self.outputs.snapshot_jobs.push(SnapshotJob::Store { last, offset, data, done });
            }
            Effect::SnapshotInstalled { last } => {
                self.begin_restore(last);
                self.outputs.events.push(NodeEvent::Protocol { term, effect });
            }
            Effect::Compacted { through } => self.compact_log(through),
            // Applied once the step's effects are done, see `step`.
            Effect::Committed { .. } => {}
            Effect::ProposalAccepted { first, .. } => {
                let batch = std::mem::take(&mut self.proposing);
                self.proposals.note_in_log(first, batch);
            }
            Effect::ProposalRefused { reason, .. } => {
                let failure = match reason {
                    ProposalRefusal::NotLeader { .. } | ProposalRefusal::HandingOver { .. } => Failure::NotLeader,
                    ProposalRefusal::TooMuchUncommitted
                    | ProposalRefusal::TooMuchUnsynced
                    | ProposalRefusal::LogTooLong => Failure::Overloaded,
                };
                for (origin, size_bytes, _) in std::mem::take(&mut self.proposing) {
                    self.counters.proposals_refused += 1;
                    self.proposals.release(size_bytes);
                    self.answer(origin, Answer::Failed(failure));
                }
            }
            Effect::ReadReady { id, index } => self.reads.note_index(id, index),
            Effect::ReadFailed { id, reason: ReadFailure::LeaderChanged } if self.successor_by.is_some() => {
                self.reads.ask_again(id);
            }
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
                self.note_leader_known(term, leader);
                self.outputs.events.push(NodeEvent::Protocol { term, effect });
            }
            Effect::ChangeAccepted { position, .. } => self.changes.note_outcome(Ok(position)),
            // Whoever asked is told, and again each time it asks.
            Effect::ChangeRefused { reason, .. } => self.changes.note_outcome(Err(reason)),
            Effect::ConfigurationChanged { .. } => {
                self.note_peers_changed();
                self.outputs.events.push(NodeEvent::Protocol { term, effect });
            }
            Effect::HandsOver { .. } => self.outputs.events.push(NodeEvent::Protocol { term, effect }),
            Effect::TransferFailed { reason } => {
                self.note_transfer_failed(reason);
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
            RoleName::Candidate => {
                self.counters.elections_started += 1;
                if matches!(reason, Reason::ChosenBy { .. }) {
                    self.election_reason = Some(reason);
                }
            }
            RoleName::Leader => {
                self.counters.elections_won += 1;
                let reason = self.election_reason.take();
                let reason = reason.map_or_else(|| "elected".to_owned(), |reason| reason.to_string());
                self.tell_why_elected(term, &reason);
                self.last_change = Some(LeaderChange { term, reason });
            }
            RoleName::Follower => {
                if matches!(reason, Reason::QuorumLost { .. } | Reason::DiskStalled { .. }) {
                    self.election_reason = Some(reason);
                }
            }
        }
    }

    /// Tells the others why this server was elected: they would know only that it was.
    fn tell_why_elected(&mut self, term: Term, reason: &str) {
        let Stage::Running { raft, .. } = &self.stage else { return };
        for (peer, _) in raft.configuration().members().filter(|&(peer, _)| peer != raft.id()) {
            self.outputs.messages.push((peer, PeerMessage::Elected { term, reason: reason.to_owned() }));
        }
    }

    /// The new leader of `term` says why it stood; nobody knows better.
    pub(super) fn note_elected(&mut self, term: Term, reason: String) {
        let is_news = self.last_change.as_ref().is_none_or(|change| change.term <= term);
        if self.raft().is_some() && is_news && term <= Term::MAX_ACCEPTED {
            self.last_change = Some(LeaderChange { term, reason });
        }
    }

    /// This server has found out who leads `term`. It may have found out before, and lost touch for a while: that is no
    /// change of leader.
    fn note_leader_known(&mut self, term: Term, leader: NodeId) {
        let reason = self.election_reason.take();
        if self.last_change.as_ref().is_none_or(|change| change.term < term) {
            let reason =
                reason.map_or_else(|| format!("{leader} was elected; it knows why"), |reason| reason.to_string());
            self.last_change = Some(LeaderChange { term, reason });
        }
    }

    /// Applies what is committed, as far as this turn has room; `flush` makes room again. A restarted server has its
    /// whole log to apply, and must hear and send heartbeats meanwhile.
    pub(super) fn apply_committed(&mut self) {
        while self.applied < self.committed && self.room_to_apply > 0 && !self.snapshots.is_restoring() {
            let Stage::Running { raft, .. } = &self.stage else { return };
            self.room_to_apply -= 1;
            let index = self.applied.next();
            let entry = raft.log().entry(index).expect("what is committed is in the log");
            let Entry { position, stamp, .. } = *entry;
            self.clock.observe(stamp);
            self.snapshots.note_applied(entry.size_bytes());
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
        for waiter in self.reads.take_ready(self.applied) {
            self.outputs.answers.push((waiter, Answer::ReadReady));
        }
        for waiter in self.reads.take_reached(self.machine.revision()) {
            self.outputs.answers.push((waiter, Answer::ReadReady));
        }
    }

    /// Whether the sender is the member it says it is, on the disk that the configuration names (rule 2).
    pub(super) fn is_member(&self, from: PeerIdentity) -> bool {
        self.raft().is_some_and(|raft| raft.configuration().has(from.id, from.disk))
    }

    pub(super) fn note_unreachable(&mut self, now: Instant, peer: NodeId) {
        self.step(now, Input::Unreachable { peer });
    }
}
