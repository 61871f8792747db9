//! Leadership transfer (§3.10): a leader makes another server its successor, at once and without an election timeout.
//!
//! The leader takes no more proposals, brings the chosen follower up to its last entry, and tells it to stand. The
//! follower stands without a poll, and its RequestVote says that the leader wants it, so that voters who still hear that
//! leader grant it all the same (§4.2.3). Nothing is promised: if the successor is not elected within the shortest
//! election timeout, the leader goes on as before.
//!
//! Safety does not rest on any of this. A successor is a candidate like any other; it is only not kept waiting.

use crate::configuration::Half;
use crate::effect::{Effect, TransferFailure};
use crate::message::{Body, HandOver};
use crate::progress::Progress;
use crate::replication::Leader;
use crate::shared::Shared;
use crate::types::{Instant, NodeId};

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    why: HandOver,
    /// When this leader gives it up.
    pub(crate) deadline: Instant,
}

/// Begins a transfer, to `to` or to the follower that lacks least.
pub(crate) fn handle_transfer(shared: &mut Shared, leader: &mut Leader, to: Option<NodeId>) {
    match choose(shared, leader, to) {
        Ok(to) => {
            begin(shared, leader, to, HandOver::Planned);
            tell_if_ready(shared, leader);
        }
        Err(reason) => shared.emit(Effect::TransferFailed { reason }),
    }
}

/// Takes no more proposals, and waits for `to` to be elected.
pub(crate) fn begin(shared: &Shared, leader: &mut Leader, to: NodeId, why: HandOver) {
    let deadline = shared.now.after(shared.config.election_timeout_min);
    leader.transfer = Some(Transfer { to, why, deadline });
}

fn choose(shared: &Shared, leader: &Leader, to: Option<NodeId>) -> Result<NodeId, TransferFailure> {
    if let Some(Transfer { to: chosen, .. }) = leader.transfer {
        return Err(TransferFailure::UnderWay { to: chosen });
    }
    if let Some(to) = to {
        let is_follower = leader.progress.contains_key(&to) && may_succeed(shared, to);
        return if is_follower { Ok(to) } else { Err(TransferFailure::NotAFollower) };
    }
    lacks_least(shared, leader).ok_or(TransferFailure::NobodyHeard)
}

/// A successor votes in C_new: one that is about to leave would have to hand over again.
fn may_succeed(shared: &Shared, id: NodeId) -> bool {
    shared.membership.current().standing(id).is_some_and(|standing| standing.votes_in(Half::New))
}

/// The voter that lacks least, of those heard within the shortest election timeout.
pub(crate) fn lacks_least(shared: &Shared, leader: &Leader) -> Option<NodeId> {
    let able = leader.progress.iter().filter(|(id, progress)| is_heard(shared, progress) && may_succeed(shared, **id));
    able.max_by_key(|(_, progress)| progress.matched).map(|(&peer, _)| peer)
}

/// Whether a follower was heard, by this leader, within the shortest election timeout.
pub(crate) fn is_heard(shared: &Shared, progress: &Progress) -> bool {
    progress.has_answered && shared.now.since(progress.heard) < shared.config.election_timeout_min
}

/// Tells the successor to stand, once it lacks nothing. Said again with every heartbeat, as it may be lost; a successor
/// that has stood is in a later term, where this means nothing.
pub(crate) fn tell_if_ready(shared: &mut Shared, leader: &Leader) {
    let Some(Transfer { to, why, .. }) = leader.transfer else { return };
    if leader.progress.get(&to).is_some_and(|progress| progress.matched == shared.log.last_index()) {
        shared.send(to, Body::TimeoutNow { why });
    }
}

/// Goes on leading if the successor was not elected in time.
pub(crate) fn give_up_if_late(shared: &mut Shared, leader: &mut Leader) {
    if let Some(Transfer { to, .. }) = leader.transfer.take_if(|transfer| shared.now >= transfer.deadline) {
        shared.emit(Effect::TransferFailed { reason: TransferFailure::TimedOut { to } });
    }
}
