//! Changing the membership (§4.2, §4.3): the leader's side.
//!
//! Owns when a change may begin, what a leader does when one is committed, and when a learner has caught up. Does not
//! own what a configuration becomes (`configuration`), or who counts (`quorum`).
//!
//! Any change of the voters goes through a joint configuration C_old,new, in which every decision needs a majority of
//! both halves. As soon as that is committed the leader appends C_new, whoever asked and whether or not it began the
//! change itself. There is one change at a time, and none before the leader has committed an entry of its own term
//! (rule 12): with an earlier leader's uncommitted configuration in some log, majorities could miss each other.
//!
//! A learner has *caught up* when it has on its disk all that stood in the leader's log one to two shortest election
//! timeouts ago: one round of §4.2.1 of a fixed length. What it still lacks takes it less than that at the pace it keeps.

use alloc::vec::Vec;

use crate::configuration::{Configuration, Standing};
use crate::effect::{Effect, Reason, TransferFailure};
use crate::input::ProposalId;
use crate::member_change::{ChangeRefusal, MemberChange};
use crate::message::{Body, HandOver};
use crate::progress::Progress;
use crate::quorum;
use crate::replication::{self, Leader};
use crate::role::Next;
use crate::shared::Shared;
use crate::transfer;
use crate::types::{Instant, LogIndex, LogPosition, NodeId, Payload};

/// Where the leader's log ended, at two moments at least one shortest election timeout apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CatchUp {
    /// What a learner must have.
    target: LogIndex,
    /// What will be the target.
    next: (Instant, LogIndex),
}

impl CatchUp {
    /// At first a learner needs the leader's first entry: then it follows this leader.
    pub(crate) const fn new(now: Instant, first_index: LogIndex) -> Self {
        Self { target: first_index, next: (now, first_index) }
    }

    fn advance(&mut self, shared: &Shared) {
        let (since, target) = self.next;
        if shared.now.since(since) >= shared.config.election_timeout_min {
            self.target = target;
            self.next = (shared.now, shared.log.last_index());
        }
    }
}

// --- asked for ---------------------------------------------------------------------------------------------------

/// Begins the change, or says why not.
pub(crate) fn handle_change(shared: &mut Shared, leader: &mut Leader, id: ProposalId, changes: &[MemberChange]) {
    match judge(shared, leader, changes) {
        Ok(configuration) if configuration == *shared.membership.current() => {
            let position = shared.log.position(shared.commit_index()).expect("a leader holds what it commits");
            shared.emit(Effect::ChangeAccepted { id, position });
        }
        Ok(configuration) => {
            let position = LogPosition::new(shared.current_term(), shared.log.last_index().next());
            shared.emit(Effect::ChangeAccepted { id, position });
            append_configuration(shared, leader, configuration);
        }
        Err(reason) => shared.emit(Effect::ChangeRefused { id, reason }),
    }
}

fn judge(shared: &Shared, leader: &Leader, changes: &[MemberChange]) -> Result<Configuration, ChangeRefusal> {
    check_free(shared, leader)?;
    for change in changes {
        check_replaced(shared, leader, change)?;
    }
    let configuration = shared.membership.current().changed_by(changes)?;
    for (id, _, standing) in configuration.standings() {
        if *standing == Standing::Incoming {
            check_caught_up(shared, leader, id)?;
        }
    }
    check_heard(shared, leader, &configuration)?;
    Ok(configuration)
}

/// Whether those that must commit C_old,new and C_new are there: a joint configuration cannot be taken back.
fn check_heard(shared: &Shared, leader: &Leader, configuration: &Configuration) -> Result<(), ChangeRefusal> {
    let is_heard = |id| leader.progress.get(&id).is_none_or(|progress| transfer::is_heard(shared, progress));
    let are_heard = quorum::reached_by_quorum(configuration, is_heard).unwrap_or(false);
    if configuration.is_joint() && !are_heard { Err(ChangeRefusal::MajoritySilent) } else { Ok(()) }
}

/// Whether a change may begin at all.
fn check_free(shared: &Shared, leader: &Leader) -> Result<(), ChangeRefusal> {
    let index = shared.membership.index();
    if let Some(transfer) = leader.transfer {
        Err(ChangeRefusal::HandingOver { to: transfer.to })
    } else if shared.commit_index() < leader.first_index {
        Err(ChangeRefusal::TermNotCommitted)
    } else if index > shared.commit_index() || shared.membership.current().is_joint() {
        Err(ChangeRefusal::UnderWay { index })
    } else {
        Ok(())
    }
}

/// Rule 2: another disk takes an id over only if nothing is heard of the old one.
fn check_replaced(shared: &Shared, leader: &Leader, change: &MemberChange) -> Result<(), ChangeRefusal> {
    let MemberChange::Replace { id, member } = change else { return Ok(()) };
    let is_other = shared.membership.current().member(*id).is_some_and(|known| known.disk != member.disk);
    let lives = *id == shared.id()
        || leader
            .progress
            .get(id)
            .is_some_and(|progress| shared.now.since(progress.heard) < shared.config.election_timeout_max);
    if is_other && lives { Err(ChangeRefusal::StillAlive { id: *id }) } else { Ok(()) }
}

fn check_caught_up(shared: &Shared, leader: &Leader, id: NodeId) -> Result<(), ChangeRefusal> {
    let Some(progress) = leader.progress.get(&id) else { return Err(ChangeRefusal::NotYetALearner { id }) };
    let target = leader.catch_up.target;
    if progress.matched < target {
        Err(ChangeRefusal::NotCaughtUp { id, behind: target.0 - progress.matched.0 })
    } else if !transfer::is_heard(shared, progress) {
        Err(ChangeRefusal::Silent { id })
    } else {
        Ok(())
    }
}

// --- in effect ---------------------------------------------------------------------------------------------------

/// Appends a configuration, which takes effect at once (§4.1), and sends it, to those it leaves out too.
fn append_configuration(shared: &mut Shared, leader: &mut Leader, configuration: Configuration) {
    let before = shared.membership.current().clone();
    replication::append(shared, leader, Payload::Configuration(configuration));
    let (own, next) = (shared.id(), shared.log.last_index());
    for (id, member) in shared.membership.current().members().filter(|(id, _)| *id != own) {
        // What an earlier disk acknowledged says nothing of this one's.
        if !before.has(id, member.disk) {
            leader.progress.insert(id, Progress::new(next, shared.now));
            leader.reads.forget(id);
        }
    }
    if let Some(transfer) = leader.transfer
        && !shared.membership.current().is_voter(transfer.to)
    {
        leader.transfer = None;
        shared.emit(Effect::TransferFailed { reason: TransferFailure::NotAFollower });
    }
    replication::send_entries_to_all(shared, leader);
}

/// Leaves the joint configuration once it is committed (§4.3).
///
/// Returns whether it did, so that other majorities count from now on.
pub(crate) fn leave_joint(shared: &mut Shared, leader: &mut Leader) -> bool {
    let current = shared.membership.current();
    if !current.is_joint() || shared.membership.index() > shared.commit_index() {
        return false;
    }
    let settled = current.settled();
    append_configuration(shared, leader, settled);
    true
}

/// A leader that is no voter of the committed configuration leads no more (§4.2.2). It tells everybody what is
/// committed and lets the voter that lacks least stand, so that nobody waits for an election timeout.
pub(crate) fn step_down_if_left_out(shared: &mut Shared, leader: &mut Leader) -> Next {
    if shared.is_voter() || shared.membership.index() > shared.commit_index() {
        return Next::Stay;
    }
    replication::send_heartbeats(shared, leader);
    if let Some(successor) = transfer::lacks_least(shared, leader) {
        shared.send(successor, Body::TimeoutNow { why: HandOver::Planned });
    }
    Next::Follower { leader: None, reason: Reason::NoLongerVoter { index: shared.membership.index() } }
}

// --- from time to time -------------------------------------------------------------------------------------------

/// With each heartbeat: promotes the learners that shall become voters and have caught up, all in one change, and stops
/// sending to those that were left out.
pub(crate) fn handle_heartbeat_timeout(shared: &mut Shared, leader: &mut Leader) {
    leader.catch_up.advance(shared);
    forget_left_out(shared, leader);
    if check_free(shared, leader).is_err() {
        return;
    }
    let current = shared.membership.current();
    let ready: Vec<MemberChange> = current
        .standings()
        .filter(|(_, _, standing)| **standing == Standing::Learner { becomes_voter: true })
        .filter(|(id, ..)| check_caught_up(shared, leader, *id).is_ok())
        .map(|(id, ..)| MemberChange::Promote { id })
        .collect();
    // Those that shall become voters were counted as voters when they came, so there is room.
    if !ready.is_empty()
        && let Ok(configuration) = current.changed_by(&ready)
        && check_heard(shared, leader, &configuration).is_ok()
    {
        append_configuration(shared, leader, configuration);
    }
}

/// A server that was left out is told that this is committed, as long as one longest election timeout: then it knows
/// that it need not stand (§4.2.2), or is not there.
fn forget_left_out(shared: &Shared, leader: &mut Leader) {
    let membership = &shared.membership;
    let is_member = |id: &NodeId| membership.current().member(*id).is_some();
    if membership.index() > shared.commit_index() || leader.progress.keys().all(is_member) {
        leader.left_out_until = None;
        return;
    }
    let until = *leader.left_out_until.get_or_insert(shared.now.after(shared.config.election_timeout_max));
    if shared.now >= until {
        leader.progress.retain(|id, _| is_member(id));
        leader.left_out_until = None;
    }
}
