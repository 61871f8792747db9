//! Requests of clients: taken in, made into batches, passed on, and answered exactly once.

use std::time::Duration;

use bytes::Bytes;
use raft_core::{Input, Instant, NodeId, ProposalId};

use super::Replica;
use super::transfer::milliseconds;
use crate::answer::{Answer, Failure, MAX_COMMAND_BYTES, Origin};
use crate::machine::StateMachine;
use crate::peer_message::PeerMessage;
use crate::proposals::Proposal;

/// How often requests are checked for their deadline.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

impl<M: StateMachine, W> Replica<M, W> {
    /// A client wants `command` applied, and will wait until `deadline`.
    pub fn propose(&mut self, waiter: W, command: Bytes, deadline: Instant) {
        self.admit(Proposal { origin: Origin::Own(waiter), command, deadline });
    }

    /// A client wants to read the state machine, linearizably, and will wait until `deadline`.
    pub fn read(&mut self, waiter: W, deadline: Instant) {
        self.counters.reads += 1;
        let taken = if self.refuses_requests() {
            Err((waiter, Failure::Stopping))
        } else {
            self.reads.admit(waiter, deadline).map_err(|waiter| (waiter, Failure::Overloaded))
        };
        self.refuse_unless_taken(taken);
    }

    /// A client wants to read what this server has applied, once its state machine has reached `revision`, and will wait
    /// for that until `deadline`. Nobody else is asked.
    pub fn read_local(&mut self, waiter: W, revision: u64, deadline: Instant) {
        self.counters.local_reads += 1;
        let taken = if self.machine.revision() >= revision {
            self.outputs.answers.push((waiter, Answer::ReadReady));
            Ok(())
        } else if self.refuses_requests() {
            Err((waiter, Failure::Stopping))
        } else {
            self.reads.admit_local(waiter, revision, deadline).map_err(|waiter| (waiter, Failure::Overloaded))
        };
        self.refuse_unless_taken(taken);
    }

    fn refuse_unless_taken(&mut self, taken: Result<(), (W, Failure)>) {
        if let Err((waiter, failure)) = taken {
            self.outputs.answers.push((waiter, Answer::Failed(failure)));
        }
    }

    /// A server that stops takes nothing new, but what its successor can still do.
    const fn refuses_requests(&self) -> bool {
        self.stopping && self.successor_by.is_none()
    }

    pub(super) fn admit(&mut self, proposal: Proposal<W>) {
        let refused = if self.refuses_requests() {
            Some((proposal, Failure::Stopping))
        } else if proposal.command.len() > MAX_COMMAND_BYTES {
            // In the log it would stop every disk that is to write it.
            Some((proposal, Failure::TooLarge))
        } else {
            self.proposals.admit(proposal).err().map(|proposal| (proposal, Failure::Overloaded))
        };
        if let Some((proposal, failure)) = refused {
            self.counters.proposals_refused += 1;
            self.answer(proposal.origin, Answer::Failed(failure));
        }
    }

    pub(super) fn propose_waiting(&mut self, now: Instant) {
        loop {
            let batch = self.proposals.take_batch();
            if batch.is_empty() {
                return;
            }
            self.propose_batch(now, batch);
        }
    }

    fn propose_batch(&mut self, now: Instant, batch: Vec<Proposal<W>>) {
        let own = self.config.protocol.id;
        match self.leader() {
            Some(leader) if leader == own && self.lacks_space(now) => {
                for proposal in batch {
                    self.refuse(proposal, Failure::NoSpace);
                }
            }
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
                let timeout_ms = milliseconds(proposal.deadline.since(now));
                let (id, command) = self.proposals.note_forwarded(leader, proposal);
                self.counters.proposals_forwarded += 1;
                self.outputs.messages.push((leader, PeerMessage::Forward { id, timeout_ms, command }));
            }
            Some(_) | None => {
                self.refuse(proposal, if is_own { Failure::NoLeader } else { Failure::NotLeader });
            }
        }
    }

    /// A command that was admitted and goes nowhere.
    fn refuse(&mut self, proposal: Proposal<W>, failure: Failure) {
        self.counters.proposals_refused += 1;
        self.proposals.release(proposal.command.len());
        self.answer(proposal.origin, Answer::Failed(failure));
    }

    pub(super) fn answer(&mut self, origin: Origin<W>, answer: Answer) {
        match origin {
            Origin::Own(waiter) => self.outputs.answers.push((waiter, answer)),
            Origin::Follower { id, forward } => {
                let message = match answer {
                    Answer::Applied(reply) => PeerMessage::ForwardReply { id: forward, outcome: Ok(reply) },
                    Answer::Failed(failure) => PeerMessage::ForwardReply { id: forward, outcome: Err(failure.into()) },
                    Answer::Transferred(leadership) => PeerMessage::Transferred { id: forward, leadership },
                    Answer::ReadReady | Answer::Members(_) => {
                        unreachable!("reads and changes of the members are not forwarded")
                    }
                };
                self.outputs.messages.push((id, message));
            }
        }
    }

    pub(super) fn fail_reads(&mut self, id: raft_core::ReadId, failure: Failure) {
        for waiter in self.reads.take_failed(id) {
            self.outputs.answers.push((waiter, Answer::Failed(failure)));
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.sweep_at = now.after(SWEEP_INTERVAL);
        for origin in self.proposals.take_overdue(now) {
            self.answer(origin, Answer::Failed(Failure::Timeout));
        }
        for origin in self.transfers.take_overdue(now) {
            self.answer(origin, Answer::Failed(Failure::Timeout));
        }
        for waiter in self.reads.take_overdue(now) {
            self.outputs.answers.push((waiter, Answer::Failed(Failure::Timeout)));
        }
        self.sweep_changes(now);
    }

    pub(super) fn give_up_forwarded_to(&mut self, peer: NodeId) {
        let commands = self.proposals.take_forwarded_to(|leader| leader == peer);
        for origin in commands.into_iter().chain(self.transfers.take_forwarded_to(peer)) {
            self.answer(origin, Answer::Failed(Failure::LeaderChanged));
        }
    }

    /// Who waits for what was passed on to `leader` under this number.
    pub(super) fn take_forwarded(&mut self, leader: NodeId, id: u64) -> Option<Origin<W>> {
        self.proposals.take_forwarded(leader, id).or_else(|| self.transfers.take_forwarded(leader, id))
    }

    /// This server leads no more, or has come to lead: what is in its log may or may not be committed.
    pub(super) fn give_up_log(&mut self) {
        for origin in self.proposals.take_all_in_log() {
            self.answer(origin, Answer::Failed(Failure::LeaderChanged));
        }
    }
}
