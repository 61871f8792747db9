//! Linearizable reads without a write (§6.4): the read index.
//!
//! A leader notes its commit index, lets a majority confirm that it still leads, and answers once both hold. The
//! confirmation is a *round*: a number that rises within the term and travels with heartbeats. A follower's reply to
//! round r confirms every read that began before round r was sent, so many reads share one round, and a lost reply is
//! made good by the next round, never by repeating an old number (rule 12).
//!
//! A read never gets an index below the leader's own no-op: before that is committed the leader does not know what is.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::effect::{Effect, ReadFailure};
use crate::message::{Body, ReadId, ReadRound};
use crate::replication::{self, Leader};
use crate::role::Follower;
use crate::shared::Shared;
use crate::types::{Incarnation, Instant, LogIndex, NodeId};

/// How many reads wait for an index at most, on a leader and on a follower; a driver asks once for many.
const MAX_WAITING_READS: usize = 10_000;

/// Who asked for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    Own,
    Follower { id: NodeId, incarnation: Incarnation },
}

/// A read that a leader has not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WaitingRead {
    asker: Asker,
    id: ReadId,
    /// Answered once this round is confirmed ..
    round: ReadRound,
    /// .. and this is committed.
    index: LogIndex,
}

/// A leader's rounds and the reads that wait for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LeaderReads {
    /// The last round sent.
    pub(crate) begun: ReadRound,
    /// The last round a majority confirmed.
    confirmed: ReadRound,
    /// By round, as both only rise.
    waiting: VecDeque<WaitingRead>,
}

/// A follower's reads on their way to the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FollowerReads {
    waiting: Vec<ReadId>,
    /// When they were last asked for.
    asked: Option<Instant>,
}

impl LeaderReads {
    /// The number for a round to be sent now.
    pub(crate) fn begin_round(&mut self) -> ReadRound {
        self.begun = ReadRound(self.begun.0 + 1);
        self.begun
    }

    /// Whether a round is on its way, so that reads that come now share the one after it.
    fn is_round_open(&self) -> bool {
        self.begun > self.confirmed
    }

    /// Whether the last round is confirmed and reads wait for the one after it.
    pub(crate) fn wants_round(&self) -> bool {
        !self.is_round_open() && self.waiting.back().is_some_and(|read| read.round > self.begun)
    }

    /// Forgets the reads of a follower's earlier incarnation: a later one may use the same numbers.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.waiting.retain(|read| !matches!(read.asker, Asker::Follower { id, .. } if id == peer));
    }
}

// --- the leader --------------------------------------------------------------------------------------------------

/// A read of this server's own.
pub(crate) fn handle_read(shared: &mut Shared, leader: &mut Leader, id: ReadId) {
    if !begin_read(shared, leader, Asker::Own, id) {
        shared.emit(Effect::ReadFailed { id, reason: ReadFailure::Overloaded });
    }
}

/// A follower's read. If there are too many it hears nothing, and asks again.
pub(crate) fn handle_read_index(
    shared: &mut Shared,
    leader: &mut Leader,
    from: NodeId,
    id: ReadId,
    incarnation: Incarnation,
) {
    begin_read(shared, leader, Asker::Follower { id: from, incarnation }, id);
}

fn begin_read(shared: &mut Shared, leader: &mut Leader, asker: Asker, id: ReadId) -> bool {
    if leader.reads.waiting.len() >= MAX_WAITING_READS {
        return false;
    }
    let index = shared.commit_index().max(leader.first_index);
    // Not the round on its way, if there is one: followers may have confirmed it before this read began.
    let round = ReadRound(leader.reads.begun.0 + 1);
    leader.reads.waiting.push_back(WaitingRead { asker, id, round, index });
    if !leader.reads.is_round_open() {
        replication::send_heartbeats(shared, leader);
    }
    true
}

/// Counts which rounds a majority has confirmed, and answers what waited for them. This leader confirms its own.
pub(crate) fn advance_confirmed(shared: &mut Shared, leader: &mut Leader) {
    let own = leader.reads.begun;
    if let Some(confirmed) = leader.reached_by_quorum(shared, own, |progress| progress.confirmed) {
        // Never less than before: a round stays confirmed, even if a server that confirmed it has restarted since.
        leader.reads.confirmed = leader.reads.confirmed.max(confirmed);
        answer_confirmed(shared, leader);
    }
}

/// Answers the reads whose round is confirmed and whose index is committed.
pub(crate) fn answer_confirmed(shared: &mut Shared, leader: &mut Leader) {
    while let Some(read) = leader.reads.waiting.front() {
        if read.round > leader.reads.confirmed || read.index > shared.commit_index() {
            return;
        }
        let WaitingRead { asker, id, index, .. } = read.clone();
        leader.reads.waiting.pop_front();
        match asker {
            Asker::Own => shared.emit(Effect::ReadReady { id, index }),
            Asker::Follower { id: to, incarnation } => {
                shared.send(to, Body::ReadIndexReply { id, incarnation, index });
            }
        }
    }
}

/// Gives up the reads of a leader that leads no more.
pub(crate) fn fail_leader_reads(shared: &mut Shared, leader: &mut Leader) {
    for read in core::mem::take(&mut leader.reads.waiting) {
        match read.asker {
            Asker::Own => shared.emit(Effect::ReadFailed { id: read.id, reason: ReadFailure::LeaderChanged }),
            // It hears of the new leader, and asks that one.
            Asker::Follower { .. } => {}
        }
    }
}

// --- the follower ------------------------------------------------------------------------------------------------

/// A read at a follower: the leader is asked for the index.
pub(crate) fn handle_follower_read(shared: &mut Shared, follower: &mut Follower, id: ReadId) {
    let Some(leader) = follower.leader else {
        shared.emit(Effect::ReadFailed { id, reason: ReadFailure::NoLeader });
        return;
    };
    if follower.reads.waiting.len() >= MAX_WAITING_READS {
        shared.emit(Effect::ReadFailed { id, reason: ReadFailure::Overloaded });
        return;
    }
    follower.reads.waiting.push(id);
    follower.reads.asked.get_or_insert(shared.now);
    ask(shared, leader, id);
}

fn ask(shared: &mut Shared, leader: NodeId, id: ReadId) {
    shared.send(leader, Body::ReadIndex { id, incarnation: shared.config.incarnation });
}

/// When reads without an answer are asked for again. The same id is safe here: an index that the leader gave to the
/// first asking covers everything committed before it, and so before the read.
pub(crate) fn retry_deadline(shared: &Shared, follower: &Follower) -> Option<Instant> {
    follower.reads.asked.map(|asked| asked.after(shared.config.election_timeout_min))
}

pub(crate) fn handle_retry_timeout(shared: &mut Shared, follower: &mut Follower) {
    let Some(leader) = follower.leader else { return };
    follower.reads.asked = Some(shared.now);
    for &id in &follower.reads.waiting {
        ask(shared, leader, id);
    }
}

/// The leader's answer. What it names is committed, so this server learns that too.
pub(crate) fn handle_read_index_reply(
    shared: &mut Shared,
    follower: &mut Follower,
    id: ReadId,
    incarnation: Incarnation,
    index: LogIndex,
) {
    let Some(place) = follower.reads.waiting.iter().position(|&waiting| waiting == id) else { return };
    if incarnation != shared.config.incarnation {
        return;
    }
    follower.reads.waiting.remove(place);
    if follower.reads.waiting.is_empty() {
        follower.reads.asked = None;
    }
    replication::learn_commit(shared, index);
    shared.emit(Effect::ReadReady { id, index });
}

/// Gives up a follower's reads when it loses its leader.
pub(crate) fn fail_follower_reads(shared: &mut Shared, follower: &mut Follower) {
    for id in core::mem::take(&mut follower.reads.waiting) {
        shared.emit(Effect::ReadFailed { id, reason: ReadFailure::LeaderChanged });
    }
    follower.reads.asked = None;
}
