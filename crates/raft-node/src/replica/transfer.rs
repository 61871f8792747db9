//! The leadership changes hands on purpose (§3.10): at a request, because a leader stops, or because of its disk.
//!
//! From the first word to the successor until that one is heard, commands wait here, within the limits and deadlines they
//! have anyway; then they are passed on to the successor. If nobody succeeds, the leader takes them itself. What stands in
//! the log already keeps waiting too: the successor has all of it, or it would not have been told to stand.

use std::time::Duration;

use raft_core::{Input, Instant, NodeId, TransferFailure};

use super::Replica;
use crate::answer::{Answer, Failure, Leadership, Origin};
use crate::machine::StateMachine;
use crate::peer_message::PeerMessage;

impl<M: StateMachine, W> Replica<M, W> {
    /// Wants `to` to lead, or, without a name, the follower that lacks least; and waits until `deadline` for that leader to
    /// be known.
    pub fn transfer(&mut self, now: Instant, waiter: W, to: Option<NodeId>, deadline: Instant) {
        self.take_transfer(now, Origin::Own(waiter), to, deadline);
    }

    pub(super) fn take_transfer(&mut self, now: Instant, origin: Origin<W>, to: Option<NodeId>, deadline: Instant) {
        let own = self.config.protocol.id;
        let refusal = match self.leadership() {
            _ if self.stopping => Failure::Stopping,
            _ if self.transfers.is_full() => Failure::Overloaded,
            Some(leadership) if leadership.leader == own && to == Some(own) => {
                return self.answer(origin, Answer::Transferred(leadership));
            }
            Some(Leadership { leader, .. }) if leader == own && self.is_handing_over() => Failure::TransferUnderWay,
            Some(Leadership { leader, term }) if leader == own => {
                self.transfers.note_begun(origin, to, term, deadline);
                return self.hand_over(now, to);
            }
            Some(Leadership { leader, .. }) if matches!(origin, Origin::Own(_)) => {
                return self.forward_transfer(now, leader, origin, to, deadline);
            }
            Some(_) => Failure::NotLeader,
            None => Failure::NoLeader,
        };
        self.answer(origin, Answer::Failed(refusal));
    }

    fn forward_transfer(
        &mut self,
        now: Instant,
        leader: NodeId,
        origin: Origin<W>,
        to: Option<NodeId>,
        deadline: Instant,
    ) {
        let id = self.proposals.next_forward();
        self.transfers.note_forwarded(id, leader, origin, deadline);
        let timeout_ms = milliseconds(deadline.since(now));
        self.outputs.messages.push((leader, PeerMessage::Transfer { id, timeout_ms, to }));
    }

    /// Begins to hand over, if this server leads. What becomes of it is among the events.
    pub(super) fn hand_over(&mut self, now: Instant, to: Option<NodeId>) {
        self.step(now, Input::Transfer { to });
    }

    /// This leader begins to hand over, because it was asked to or by itself.
    pub(super) fn note_handing_over(&mut self, now: Instant) {
        self.counters.transfers_begun += 1;
        self.successor_by = Some(now.after(self.config.protocol.election_timeout_max));
    }

    /// Whether this server leads and is making another one leader.
    pub fn is_handing_over(&self) -> bool {
        self.raft().is_some_and(|raft| raft.transfers_to().is_some())
    }

    /// Whether requests wait for a successor: while it is being made leader, and for a moment until it is heard.
    pub(super) fn waits_for_successor(&mut self, now: Instant) -> bool {
        let Some(by) = self.successor_by else { return false };
        let waits = self.is_handing_over() || (self.leader().is_none() && now < by);
        if !waits {
            self.successor_by = None;
            if self.leader().is_none() {
                self.give_up_log();
            }
        }
        waits
    }

    /// Somebody leads a new term, this server perhaps.
    pub(super) fn note_leadership(&mut self, leadership: Leadership) {
        for (origin, is_wanted) in self.transfers.take_decided(self.config.protocol.id, leadership) {
            let answer =
                if is_wanted { Answer::Transferred(leadership) } else { Answer::Failed(Failure::SuccessorNotElected) };
            self.answer(origin, answer);
        }
    }

    pub(super) fn note_transfer_failed(&mut self, reason: TransferFailure) {
        let failure = match reason {
            // Of another request than those that wait.
            TransferFailure::UnderWay { .. } => return,
            TransferFailure::NotLeader { .. } => Failure::NotLeader,
            TransferFailure::NotAFollower => Failure::NotAVoter,
            TransferFailure::NobodyHeard => Failure::NobodyToSucceed,
            TransferFailure::TimedOut { .. } => Failure::SuccessorNotElected,
        };
        for origin in self.transfers.take_begun() {
            self.answer(origin, Answer::Failed(failure));
        }
    }

    /// Who leads, and which term, as far as this server knows.
    pub(super) fn leadership(&self) -> Option<Leadership> {
        let raft = self.raft()?;
        Some(Leadership { leader: raft.leader()?, term: raft.term() })
    }
}

/// As it travels.
pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
