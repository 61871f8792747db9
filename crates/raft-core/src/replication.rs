//! Log replication (§3.5, §3.6.2, §10.2.1): what a leader does, and what a follower does with it.
//!
//! Owns: when an entry is sent, when it is stored, when it is committed. Does not own: what is on disk
//! (`durability`), how the two logs are aligned (`progress` on the leader's side, `Log::last_not_beyond` on both).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::change::{self, CatchUp};
use crate::disk_health;
use crate::effect::{Effect, Misbehaviour, ProposalRefusal, Reason};
use crate::flow;
use crate::input::ProposalId;
use crate::log::Comparison;
use crate::message::{AppendResult, Body, ReadRound};
use crate::progress::{Progress, ProgressState};
use crate::quorum;
use crate::reads::{self, LeaderReads};
use crate::role::Next;
use crate::shared::Shared;
use crate::snapshot::{self, Pace};
use crate::transfer::{self, Transfer};
use crate::types::{ClusterTime, Entry, Instant, LogIndex, LogPosition, NodeId, Payload};

/// How far cluster time may run ahead of the log while nothing is written. At a change of leader it falls back to the
/// last stamp, so this bounds by how much.
const STAMP_INTERVAL: Duration = Duration::from_secs(60);

/// Leads a term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    /// One for each other member, and for those it has just left out (§4.2.2).
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    /// The no-op this leader began its term with: the first entry it may commit by counting.
    pub(crate) first_index: LogIndex,
    /// When the next heartbeat is due.
    pub(crate) heartbeat_deadline: Instant,
    /// Cluster time at the moment it was elected, and that moment (rule 6).
    clock: (ClusterTime, Instant),
    pub(crate) reads: LeaderReads,
    pub(crate) transfer: Option<Transfer>,
    /// Since when it has been trying to give way because its disk stands still (`disk_health`).
    pub(crate) gives_way_since: Option<Instant>,
    /// When the next chunk of a snapshot may leave.
    pub(crate) pace: Pace,
    /// What a learner must have to be promoted.
    pub(crate) catch_up: CatchUp,
    /// Until when those that the committed configuration left out are told so, if there are any.
    pub(crate) left_out_until: Option<Instant>,
}

impl Leader {
    /// Cluster time now: the last stamp of the leaders before, and the monotonic time since (rule 6).
    pub(crate) const fn cluster_time(&self, now: Instant) -> ClusterTime {
        let (at_election, elected) = self.clock;
        ClusterTime(at_election.0.saturating_add(now.0.saturating_sub(elected.0)))
    }

    /// The moment at which a majority, this leader included, had last been heard (§6.2).
    pub(crate) fn quorum_heard(&self, shared: &Shared) -> Instant {
        self.reached_by_quorum(shared, shared.now, |progress| progress.heard).unwrap_or(shared.now)
    }

    /// What a majority of each half has reached: `own` is what this server has, where it is a voter (§4.2.2), `theirs`
    /// what the others have.
    pub(crate) fn reached_by_quorum<T: Ord + Copy + Default>(
        &self,
        shared: &Shared,
        own: T,
        theirs: impl Fn(&Progress) -> T + Clone,
    ) -> Option<T> {
        quorum::reached_by_quorum(shared.membership.current(), |voter| {
            if voter == shared.id() { own } else { self.progress.get(&voter).map(theirs.clone()).unwrap_or_default() }
        })
    }
}

// --- the leader --------------------------------------------------------------------------------------------------

/// Takes over: appends a no-op, without which it could commit nothing and answer no read (§3.6.2, §6.4), and sends it.
pub(crate) fn become_leader(shared: &mut Shared) -> Leader {
    let first_index = shared.log.last_index().next();
    let progress = shared.peers().map(|peer| (peer, Progress::new(first_index, shared.now))).collect();
    let mut leader = Leader {
        progress,
        first_index,
        heartbeat_deadline: shared.now.after(shared.config.heartbeat_interval),
        clock: (shared.log.last_stamp(), shared.now),
        reads: LeaderReads::default(),
        transfer: None,
        gives_way_since: None,
        pace: Pace::default(),
        catch_up: CatchUp::new(shared.now, first_index),
        left_out_until: None,
    };
    append(shared, &leader, Payload::Noop);
    send_entries_to_all(shared, &mut leader);
    leader
}

/// Appends a batch of commands and sends it: one AppendEntries a follower for the whole batch. Or says why not.
pub(crate) fn handle_propose(shared: &mut Shared, leader: &mut Leader, id: ProposalId, commands: Vec<Bytes>) {
    if let Err(reason) = check_proposal(shared, leader, &commands) {
        shared.emit(Effect::ProposalRefused { id, reason });
        return;
    }
    let first = LogPosition::new(shared.current_term(), shared.log.last_index().next());
    for command in commands {
        append(shared, leader, Payload::Command(command));
    }
    shared.emit(Effect::ProposalAccepted { id, first });
    send_entries_to_all(shared, leader);
}

fn check_proposal(shared: &Shared, leader: &Leader, commands: &[Bytes]) -> Result<(), ProposalRefusal> {
    match leader.transfer {
        // §3.10: what it appended now, the successor would lack.
        Some(transfer) => Err(ProposalRefusal::HandingOver { to: transfer.to }),
        None => flow::check_room(shared, commands),
    }
}

pub(crate) fn append(shared: &mut Shared, leader: &Leader, payload: Payload) {
    let position = LogPosition::new(shared.current_term(), shared.log.last_index().next());
    let stamp = leader.cluster_time(shared.now);
    shared.append(Entry { position, stamp, payload });
}

pub(crate) fn send_entries_to_all(shared: &mut Shared, leader: &mut Leader) {
    for (&peer, progress) in &mut leader.progress {
        send_entries(shared, &mut leader.pace, peer, progress);
    }
}

/// Sends a follower what it lacks, as far as its state allows: entries, or a snapshot if they are gone (§5).
fn send_entries(shared: &mut Shared, pace: &mut Pace, peer: NodeId, progress: &mut Progress) {
    loop {
        if snapshot::is_needed(shared, progress) {
            snapshot::begin(shared, pace, progress);
        }
        let may_send = match &mut progress.state {
            ProgressState::Probe { waiting } => !*waiting,
            ProgressState::Replicate(inflight) => {
                progress.next <= shared.log.last_index() && !inflight.is_full(&shared.config)
            }
            ProgressState::Snapshot(sending) => {
                snapshot::send_chunk(shared, peer, sending);
                false
            }
        };
        if !may_send {
            return;
        }
        let entries = shared.log.batch_from(progress.next, shared.config.max_append_bytes);
        send_append(shared, peer, progress, entries);
    }
}

fn send_append(shared: &mut Shared, peer: NodeId, progress: &mut Progress, entries: Vec<Entry>) {
    let prev = shared.log.position(progress.next.previous()).expect("between the base and the end of the log");
    let last = entries.last().map_or(prev.index, |entry| entry.position.index);
    let size_bytes = entries.iter().map(Entry::size_bytes).sum();
    shared.send(peer, Body::AppendEntries { prev, entries, commit: shared.commit_index() });
    progress.sent(last, size_bytes, shared.now);
}

/// Heartbeats (§3.4), a new read round with each (rule 12), probes that had no answer, CheckQuorum (§6.2), and the check of
/// its own disk.
pub(crate) fn handle_heartbeat_timeout(shared: &mut Shared, leader: &mut Leader) -> Next {
    let silence = shared.now.since(leader.quorum_heard(shared));
    if silence >= shared.config.election_timeout_max {
        return Next::Follower { leader: None, reason: Reason::QuorumLost { silence } };
    }
    let next = disk_health::give_way_if_stalled(shared, leader);
    if next != Next::Stay {
        return next;
    }
    // Here and not in `send_heartbeats`: rounds begun for reads must not put off what else this timer does.
    leader.heartbeat_deadline = shared.now.after(shared.config.heartbeat_interval);
    stamp_if_idle(shared, leader);
    send_heartbeats(shared, leader);
    transfer::tell_if_ready(shared, leader);
    change::handle_heartbeat_timeout(shared, leader);
    for (&peer, progress) in &mut leader.progress {
        match &mut progress.state {
            ProgressState::Probe { waiting } => {
                if *waiting && !snapshot::is_needed(shared, progress) {
                    send_append(shared, peer, progress, Vec::new());
                }
            }
            ProgressState::Replicate(_) => progress.resend_if_lost(shared.now, &shared.config),
            ProgressState::Snapshot(sending) => snapshot::resend_if_lost(shared, &mut leader.pace, sending),
        }
        send_entries(shared, &mut leader.pace, peer, progress);
    }
    Next::Stay
}

/// Writes cluster time down in a no-op when it has run for long without an entry (rule 6): what a leader knows and the
/// log does not is lost with the leader. Nothing is written while something is uncommitted, so a leader without a
/// majority adds one at most.
fn stamp_if_idle(shared: &mut Shared, leader: &Leader) {
    let last_stamp = shared.log.last_stamp().0;
    let ahead = Duration::from_nanos(leader.cluster_time(shared.now).0.saturating_sub(last_stamp));
    if ahead >= STAMP_INTERVAL && shared.commit_index() == shared.log.last_index() {
        append(shared, leader, Payload::Noop);
    }
}

/// Sends a heartbeat of a new round to every follower.
pub(crate) fn send_heartbeats(shared: &mut Shared, leader: &mut Leader) {
    let round = leader.reads.begin_round();
    for (&peer, progress) in &leader.progress {
        // A heartbeat has no consistency check, so it may only commit what this follower is known to hold.
        shared.send(peer, Body::Heartbeat { commit: shared.commit_index().min(progress.matched), round });
    }
    reads::advance_confirmed(shared, leader);
}

/// A follower's log agrees with ours up to `index`, on its disk.
pub(crate) fn handle_matched(shared: &mut Shared, leader: &mut Leader, from: NodeId, index: LogIndex) -> Next {
    if index > shared.log.last_index() {
        shared.report(from, Misbehaviour::AcknowledgedUnknown { index });
        return Next::Stay;
    }
    let Some(progress) = leader.progress.get_mut(&from) else { return Next::Stay };
    let moved = progress.acknowledge(index, shared.log.base().index, shared.now);
    let next = if moved { advance_commit(shared, leader) } else { Next::Stay };
    if next != Next::Stay {
        return next;
    }
    if let Some(progress) = leader.progress.get_mut(&from) {
        send_entries(shared, &mut leader.pace, from, progress);
    }
    if moved && leader.transfer.is_some_and(|transfer| transfer.to == from) {
        transfer::tell_if_ready(shared, leader);
    }
    Next::Stay
}

/// A follower's log does not agree with ours at `prev`; it may at `hint`.
pub(crate) fn handle_mismatch(
    shared: &mut Shared,
    leader: &mut Leader,
    from: NodeId,
    prev: LogPosition,
    hint: LogPosition,
) {
    let Some(progress) = leader.progress.get_mut(&from) else { return };
    let agreed = if hint.index < shared.log.base().index { hint } else { shared.log.last_not_beyond(hint) };
    progress.step_back(prev.index, agreed.index);
    send_entries(shared, &mut leader.pace, from, progress);
}

/// A follower lives and follows.
pub(crate) fn handle_heartbeat_reply(shared: &mut Shared, leader: &mut Leader, from: NodeId, round: ReadRound) {
    if round > leader.reads.begun {
        shared.report(from, Misbehaviour::ConfirmedUnknown { round });
        return;
    }
    let Some(progress) = leader.progress.get_mut(&from) else { return };
    progress.confirmed = progress.confirmed.max(round);
    reads::advance_confirmed(shared, leader);
    if leader.reads.wants_round() {
        send_heartbeats(shared, leader);
    }
}

/// The follower started anew: what its earlier incarnation acknowledged may be gone (rule 3).
pub(crate) fn handle_restart(shared: &mut Shared, leader: &mut Leader, peer: NodeId) {
    let next = shared.log.last_index().next();
    if let Some(progress) = leader.progress.get_mut(&peer) {
        *progress = Progress::new(next, shared.now);
        leader.reads.forget(peer);
        send_entries(shared, &mut leader.pace, peer, progress);
    }
}

/// Messages to the follower were lost.
pub(crate) fn handle_unreachable(leader: &mut Leader, peer: NodeId) {
    if let Some(progress) = leader.progress.get_mut(&peer) {
        progress.probe_after_loss();
    }
}

/// Commits what a majority holds on disk (§3.5); this leader counts itself as any other, after its own disk. With a
/// configuration that is committed, what follows from it (§4.2.2, §4.3).
pub(crate) fn advance_commit(shared: &mut Shared, leader: &mut Leader) -> Next {
    loop {
        let own = shared.durability.durable_index();
        let Some(held) = leader.reached_by_quorum(shared, own, |progress| progress.matched) else { return Next::Stay };
        // §3.6.2: only entries of its own term are committed by counting; those before are committed with them. All
        // entries of the own term, and no others, stand at or after the no-op it began with.
        if held < leader.first_index {
            return Next::Stay;
        }
        shared.advance_commit(held);
        reads::answer_confirmed(shared, leader);
        if !change::leave_joint(shared, leader) {
            return change::step_down_if_left_out(shared, leader);
        }
    }
}

// --- the follower ------------------------------------------------------------------------------------------------

/// What an AppendEntries carries, besides who sent it.
pub(crate) struct NewEntries {
    pub(crate) prev: LogPosition,
    pub(crate) entries: Vec<Entry>,
    pub(crate) commit: LogIndex,
}

/// Stores a leader's entries (Figure 3.1, AppendEntries, receiver).
pub(crate) fn handle_append_entries(shared: &mut Shared, from: NodeId, new: NewEntries) {
    let NewEntries { prev, entries, commit } = new;
    if let Err(what) = check_entries(shared, prev, &entries) {
        shared.report(from, what);
        return;
    }
    if shared.log.compare(prev) != Comparison::Held {
        let hint = shared.log.last_not_beyond(prev);
        shared.send(from, Body::AppendEntriesReply(AppendResult::Mismatch { prev, hint }));
        return;
    }
    if !entries.is_empty() && flow::is_disk_behind(shared) {
        return;
    }
    let last_new = entries.last().map_or(prev.index, |entry| entry.position.index);
    store(shared, entries);
    shared.advance_agreed(last_new);
    // Not beyond what this message has checked: what follows in our log may be an earlier leader's.
    shared.advance_commit(commit.min(last_new).max(shared.commit_index()));
    shared.send(from, Body::AppendEntriesReply(AppendResult::Matched(last_new)));
}

/// Appends what is new. Entries that are here already stay: an old message must not cut what came after it. The first
/// conflict removes the rest (Figure 3.1, step 3).
fn store(shared: &mut Shared, entries: Vec<Entry>) {
    for entry in entries {
        match shared.log.compare(entry.position) {
            Comparison::Held => {}
            Comparison::Conflict => {
                shared.truncate_from(entry.position.index);
                shared.append(entry);
            }
            Comparison::Missing => shared.append(entry),
        }
    }
}

/// Refuses what no correct leader sends, before anything is changed.
fn check_entries(shared: &Shared, prev: LogPosition, entries: &[Entry]) -> Result<(), Misbehaviour> {
    check_position(shared, prev)?;
    let mut before = prev;
    for entry in entries {
        let position = entry.position;
        let is_next = Some(position.index.0) == before.index.0.checked_add(1);
        if !is_next || position.term < before.term || position.term > shared.current_term() {
            return Err(Misbehaviour::MalformedEntries);
        }
        check_position(shared, position)?;
        before = position;
    }
    Ok(())
}

/// What is committed, and what this leader sent before, stands.
fn check_position(shared: &Shared, position: LogPosition) -> Result<(), Misbehaviour> {
    let index = position.index;
    if shared.log.compare(position) == Comparison::Held {
        Ok(())
    } else if index <= shared.commit_index() {
        Err(Misbehaviour::ContradictsCommitted { index })
    } else if index <= shared.agreed_index() {
        Err(Misbehaviour::ContradictsItself { index })
    } else {
        Ok(())
    }
}

/// Follows a leader's heartbeat: learns what is committed, confirms the read round.
pub(crate) fn handle_heartbeat(shared: &mut Shared, from: NodeId, commit: LogIndex, round: ReadRound) {
    learn_commit(shared, commit);
    shared.send(from, Body::HeartbeatReply { round });
}

/// Takes a leader's word that `commit` is committed, as far as our log is known to agree with the leader's.
pub(crate) fn learn_commit(shared: &mut Shared, commit: LogIndex) {
    shared.advance_commit(commit.min(shared.agreed_index()).max(shared.commit_index()));
}
