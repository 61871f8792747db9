//! Changes of the membership that were asked for here (§4): resolved, given to the protocol, and answered when they are
//! done.
//!
//! Only the leader takes them; whoever asks another server is told who leads. What can be done a moment later is tried
//! again until the deadline: a server that is to be added may not have been met yet, a new leader has to commit an entry
//! of its term first. Anything else is refused at once, with the reason.

use raft_core::{ChangeRefusal, Input, Instant, LogPosition, Member, MemberChange, NodeId, ProposalId, Raft, Standing};

use super::{Replica, Stage};
use crate::answer::{Answer, Failure, Members};
use crate::machine::StateMachine;

/// How many such requests may be under way at most; more are refused as `Overloaded`.
const MAX_CHANGES_UNDER_WAY: usize = 64;

/// A change of the membership, as an operator asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberRequest {
    /// Add a server that asks to join; done when it is a learner. If it is a member already, only its address changes.
    Add {
        /// The server.
        id: NodeId,
        /// Where its peers reach it, `HOST:PORT`.
        address: String,
        /// It becomes a voter once it has caught up (§4.2.1); done then.
        becomes_voter: bool,
    },
    /// Give a learner that has caught up a vote.
    Promote {
        /// The learner.
        id: NodeId,
    },
    /// Leave a server out, the leader perhaps (§4.2.2).
    Remove {
        /// The member.
        id: NodeId,
    },
}

/// The changes this leader answers for.
#[derive(Debug)]
pub(super) struct Changes<W> {
    under_way: Vec<Change<W>>,
    /// What the protocol said of the change it was given last.
    outcome: Option<Result<LogPosition, ChangeRefusal>>,
    last_id: ProposalId,
}

#[derive(Debug)]
struct Change<W> {
    waiter: W,
    request: MemberRequest,
    /// Where its configuration stands in the log, once it is there.
    begun: Option<LogPosition>,
    deadline: Instant,
}

impl<W> Default for Changes<W> {
    fn default() -> Self {
        Self { under_way: Vec::new(), outcome: None, last_id: ProposalId(0) }
    }
}

impl<W> Changes<W> {
    /// How many are not answered yet.
    pub(super) const fn count(&self) -> usize {
        self.under_way.len()
    }

    /// What the protocol says of the change it was given.
    pub(super) const fn note_outcome(&mut self, outcome: Result<LogPosition, ChangeRefusal>) {
        self.outcome = Some(outcome);
    }

    /// All of them, and whether each may have been begun.
    pub(super) fn take_all(&mut self) -> Vec<(W, bool)> {
        std::mem::take(&mut self.under_way).into_iter().map(|change| (change.waiter, change.begun.is_some())).collect()
    }
}

impl<M: StateMachine, W> Replica<M, W> {
    /// Wants the membership changed by `deadline`.
    pub fn change_membership(&mut self, now: Instant, waiter: W, request: MemberRequest, deadline: Instant) {
        let refusal = match self.leader() {
            _ if self.stopping => Failure::Stopping,
            None => Failure::NoLeader,
            Some(leader) if leader != self.config.protocol.id => Failure::NotLeader,
            Some(_) if self.changes.count() >= MAX_CHANGES_UNDER_WAY => Failure::Overloaded,
            Some(_) if self.lacks_space(now) => Failure::NoSpace,
            Some(_) => {
                self.changes.under_way.push(Change { waiter, request, begun: None, deadline });
                return self.try_changes(now);
            }
        };
        self.outputs.answers.push((waiter, Answer::Failed(refusal)));
    }

    /// Begins what is waiting to be begun.
    pub(super) fn try_changes(&mut self, now: Instant) {
        for mut change in std::mem::take(&mut self.changes.under_way) {
            match self.try_change(now, &change) {
                Ok(begun) => {
                    change.begun = begun;
                    self.changes.under_way.push(change);
                }
                Err(refusal) => {
                    let failure = Failure::ChangeRefused(refusal);
                    self.outputs.answers.push((change.waiter, Answer::Failed(failure)));
                }
            }
        }
        self.answer_changes();
    }

    /// Where the change stands in the log now; `None` if it has to be tried again.
    fn try_change(&mut self, now: Instant, change: &Change<W>) -> Result<Option<LogPosition>, ChangeRefusal> {
        if change.begun.is_some() {
            return Ok(change.begun);
        }
        let Some(wanted) = self.resolve(&change.request) else { return Ok(None) };
        match self.change(now, vec![wanted]) {
            Ok(position) => Ok(Some(position)),
            Err(ChangeRefusal::TermNotCommitted | ChangeRefusal::HandingOver { .. }) => Ok(None),
            // Whoever lost the leadership in this very step is answered there.
            Err(ChangeRefusal::NotLeader { .. }) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// The change as the protocol knows it; `None` if a server that is to be added has not been met.
    fn resolve(&self, request: &MemberRequest) -> Option<MemberChange> {
        Some(match request {
            MemberRequest::Promote { id } => MemberChange::Promote { id: *id },
            MemberRequest::Remove { id } => MemberChange::Remove { id: *id },
            MemberRequest::Add { id, address, becomes_voter } => {
                let known = self.configuration().and_then(|configuration| configuration.member(*id));
                let disk = match known {
                    Some(member) => member.disk,
                    None => self.introduced(*id)?.disk,
                };
                let member = Member { disk, address: address.clone() };
                MemberChange::AddLearner { id: *id, member, becomes_voter: *becomes_voter }
            }
        })
    }

    /// Gives the protocol a change. It begins at once, or is refused.
    pub(super) fn change(&mut self, now: Instant, changes: Vec<MemberChange>) -> Result<LogPosition, ChangeRefusal> {
        self.changes.last_id = ProposalId(self.changes.last_id.0 + 1);
        self.step(now, Input::ChangeMembership { id: self.changes.last_id, changes });
        self.changes.outcome.take().unwrap_or(Err(ChangeRefusal::NotLeader { leader: None }))
    }

    /// Answers the changes that are done; all of them once this server leads no more.
    pub(super) fn answer_changes(&mut self) {
        if self.changes.under_way.is_empty() {
            return;
        }
        let Stage::Running { raft, .. } = &self.stage else { return };
        let leads = raft.leader() == Some(raft.id());
        for change in std::mem::take(&mut self.changes.under_way) {
            let answer = match change.begun {
                Some(position) if is_done(raft, &change.request, position) => {
                    Answer::Members(Members::of(raft.configuration()))
                }
                Some(_) | None if leads => {
                    self.changes.under_way.push(change);
                    continue;
                }
                Some(_) => Answer::Failed(Failure::LeaderChanged),
                None => Answer::Failed(Failure::NotLeader),
            };
            self.outputs.answers.push((change.waiter, answer));
        }
    }

    /// Answers the changes that were not done in time, and tries the others again.
    pub(super) fn sweep_changes(&mut self, now: Instant) {
        if self.changes.under_way.is_empty() {
            return;
        }
        let overdue: Vec<Change<W>> = self.changes.under_way.extract_if(.., |change| change.deadline <= now).collect();
        for Change { waiter, request, begun, .. } in overdue {
            let failure = match (begun, request) {
                (None, MemberRequest::Add { id, .. }) if self.introduced(id).is_none() => Failure::NotMet { id },
                (None, _) => Failure::NotBegun,
                (Some(_), _) => Failure::Timeout,
            };
            self.outputs.answers.push((waiter, Answer::Failed(failure)));
        }
        self.try_changes(now);
    }
}

/// Whether what was asked for holds, and is committed.
fn is_done(raft: &Raft, request: &MemberRequest, position: LogPosition) -> bool {
    let was_overwritten = raft.log().entry(position.index).is_some_and(|entry| entry.position != position);
    if raft.commit_index() < position.index || was_overwritten {
        return false;
    }
    let configuration = raft.configuration();
    let is_settled = raft.configuration_index() <= raft.commit_index() && !configuration.is_joint();
    match request {
        MemberRequest::Add { becomes_voter: false, .. } => true,
        MemberRequest::Add { id, becomes_voter: true, .. } | MemberRequest::Promote { id } => {
            is_settled && configuration.standing(*id) == Some(&Standing::Voter)
        }
        MemberRequest::Remove { id } => is_settled && configuration.member(*id).is_none(),
    }
}
