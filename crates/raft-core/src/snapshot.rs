//! Snapshots and log compaction (§5).
//!
//! Owns: when the log may forget its beginning, how a leader brings a snapshot to a follower that needs what is
//! forgotten, and what a follower does with it. Does not own the data: that belongs to the driver, which takes
//! snapshots, keeps their files, and reads and stores the chunks that this module names.
//!
//! A snapshot travels in chunks (Figure 5.3), one at a time: the follower answers a chunk once it is stored, with the
//! next byte it wants. So the link is never filled, a broken connection goes on where it stopped, and what is late,
//! doubled or out of order names another byte than the one that is wanted and changes nothing. A pause after each
//! chunk bounds the bytes a second over all followers.
//!
//! The last entry a snapshot covers is committed. A log that does not hold it can therefore be replaced as a whole, and
//! one that does needs no snapshot (§5.1).

use bytes::Bytes;

use crate::effect::{Effect, Misbehaviour};
use crate::log::Comparison;
use crate::message::{AppendResult, Body};
use crate::progress::{Chunk, Progress, ProgressState, Sending};
use crate::replication::Leader;
use crate::role::{Follower, Role};
use crate::shared::Shared;
use crate::types::{Instant, LogIndex, LogPosition, NodeId, Snapshot};

/// A snapshot on its way here, owned by the follower that receives it: another term's leader begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Receiving {
    /// Which one: the last entry it covers.
    last: LogPosition,
    /// The bytes before this one are stored.
    stored: u64,
    /// Whether a chunk is being stored, and where it ends. No other is taken meanwhile.
    storing_to: Option<u64>,
}

/// Bounds the bytes a second of all chunks: each has its moment on a timetable, and may leave a heartbeat interval
/// early, so that a chunk need not wait for the clock when few were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pace {
    next: Instant,
}

impl Pace {
    /// Takes the next chunk's place on the timetable. Returns when it may leave.
    fn take(&mut self, shared: &Shared) -> Instant {
        let early = self.next.before(shared.config.heartbeat_interval);
        self.next = self.next.max(shared.now).after(shared.config.snapshot_chunk_interval());
        early.max(shared.now)
    }
}

// --- this server's own snapshots ---------------------------------------------------------------------------------

/// This server's disk holds a snapshot of its own: the log may forget what it covers, but for a tail that spares
/// followers a little behind from needing it (§5.1.1).
///
/// # Panics
/// If it covers what is not committed, or not on disk: the driver's bug.
pub(crate) fn handle_taken(shared: &mut Shared, role: &Role, snapshot: Snapshot) {
    let last = snapshot.last;
    assert!(last.index <= shared.commit_index(), "a snapshot at {last} of what is not committed");
    assert!(last.index <= shared.durability.durable_index(), "a snapshot at {last} of what is not on disk (rule 9)");
    if !shared.note_snapshot(snapshot) {
        return;
    }
    let mut through = shared.log.tail_start(last.index, shared.config.log_tail_bytes);
    if let Role::Leader(leader) = role {
        // A follower that is being sent an older snapshot will need the entries after that one: as long as it is heard, and
        // the log has room. Else it is sent a later one.
        let has_room = shared.log.size_bytes() < shared.config.max_log_bytes;
        let is_heard = |progress: &&Progress| shared.now.since(progress.heard) < shared.config.election_timeout_max;
        for sending in leader.progress.values().filter(is_heard).filter_map(Progress::sending).filter(|_| has_room) {
            through = through.min(sending.last.index);
        }
    }
    if through > shared.log.base().index {
        shared.compact(through);
        shared.emit(Effect::Compacted { through });
    }
}

// --- the leader --------------------------------------------------------------------------------------------------

/// Whether what the follower needs next is no longer in the log.
pub(crate) fn is_needed(shared: &Shared, progress: &Progress) -> bool {
    progress.next.previous() < shared.log.base().index
}

/// Turns to sending the latest snapshot, from its first byte, unless one is on its way already.
pub(crate) fn begin(shared: &Shared, pace: &mut Pace, progress: &mut Progress) {
    if progress.sending().is_none() {
        let snapshot = shared.snapshot().expect("a compacted log has a snapshot");
        let chunk = Chunk::Due(pace.take(shared));
        progress.state = ProgressState::Snapshot(Sending { last: snapshot.last, offset: 0, chunk, losses: 0 });
    }
}

/// Sends the chunk that is due.
pub(crate) fn send_chunk(shared: &mut Shared, to: NodeId, sending: &mut Sending) {
    if matches!(sending.chunk, Chunk::Due(due) if due <= shared.now) {
        sending.chunk = Chunk::Sent(shared.now);
        let Sending { last, offset, .. } = *sending;
        let (term, max_bytes) = (shared.current_term(), shared.config.snapshot_chunk_bytes);
        shared.emit(Effect::SendSnapshot { to, term, last, offset, max_bytes });
    }
}

/// The follower has stored the bytes before `offset` of the snapshot at `last`, or wants them again.
pub(crate) fn handle_reply(shared: &mut Shared, leader: &mut Leader, from: NodeId, last: LogPosition, offset: u64) {
    let Some(progress) = leader.progress.get_mut(&from) else { return };
    let ProgressState::Snapshot(sending) = &mut progress.state else { return };
    if sending.last != last || sending.offset == offset {
        // Of another snapshot, or told before: a chunk that was lost is sent again by the timer.
        return;
    }
    sending.offset = offset;
    sending.losses = 0;
    sending.chunk = Chunk::Due(leader.pace.take(shared));
    send_chunk(shared, from, sending);
}

/// A chunk that had no answer for long is sent again. If that goes on, the snapshot itself may be the reason (its file
/// is damaged or gone): then the latest one is sent from its beginning.
pub(crate) fn resend_if_lost(shared: &Shared, pace: &mut Pace, sending: &mut Sending) {
    const MOST_LOSSES: u32 = 8;
    if !sending.is_lost(shared.now, &shared.config) {
        return;
    }
    sending.losses += 1;
    sending.chunk = Chunk::Due(pace.take(shared));
    if sending.losses.is_multiple_of(MOST_LOSSES)
        && let Some(latest) = shared.snapshot()
    {
        (sending.last, sending.offset) = (latest.last, 0);
    }
}

/// When the next chunk is due, if one is.
pub(crate) fn next_due(leader: &Leader) -> Option<Instant> {
    let sending = leader.progress.values().filter_map(Progress::sending);
    sending.filter_map(|sending| if let Chunk::Due(due) = sending.chunk { Some(due) } else { None }).min()
}

/// Sends all chunks that are due.
pub(crate) fn send_due(shared: &mut Shared, leader: &mut Leader) {
    for (&peer, progress) in &mut leader.progress {
        if let ProgressState::Snapshot(sending) = &mut progress.state {
            send_chunk(shared, peer, sending);
        }
    }
}

// --- the follower ------------------------------------------------------------------------------------------------

/// What an InstallSnapshot carries, besides who sent it (Figure 5.3).
pub(crate) struct NewChunk {
    pub(crate) last: LogPosition,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    pub(crate) done: bool,
}

/// Takes a chunk of a leader's snapshot: the one that is wanted is stored, any other is answered with what is wanted.
pub(crate) fn handle_install_snapshot(shared: &mut Shared, follower: &mut Follower, from: NodeId, chunk: NewChunk) {
    let NewChunk { last, offset, data, done } = chunk;
    let Some(end) = offset.checked_add(data.len() as u64).filter(|_| is_sound(shared, last)) else {
        shared.report(from, Misbehaviour::MalformedSnapshot);
        return;
    };
    if last.index <= shared.commit_index() {
        // We have what it covers: the leader can go on with entries.
        shared.advance_agreed(last.index);
        shared.send(from, Body::AppendEntriesReply(AppendResult::Matched(last.index)));
        return;
    }
    let receiving = match &mut follower.receiving {
        // Late: within a term a leader only turns to newer snapshots.
        Some(receiving) if receiving.last.index > last.index => return,
        Some(receiving) if receiving.last == last => receiving,
        older => older.insert(Receiving { last, stored: 0, storing_to: None }),
    };
    // A snapshot on disk may name this term; the disk must know the term first. The leader sends the chunk again.
    if receiving.storing_to.is_some() || !shared.durability.is_hard_state_durable() {
        return;
    }
    if offset == receiving.stored {
        receiving.storing_to = Some(end);
        shared.emit(Effect::StoreChunk { last, offset, data, done });
    } else {
        shared.send(from, Body::InstallSnapshotReply { last, offset: receiving.stored });
    }
}

/// Whether `last` can be the end of a snapshot of this term's leader.
fn is_sound(shared: &Shared, last: LogPosition) -> bool {
    let is_possible = last.index.0 > 0 && last.index.0 < u64::MAX && last.term <= shared.current_term();
    is_possible && (last.index > shared.commit_index() || shared.log.compare(last) == Comparison::Held)
}

/// The driver has stored a chunk that ends before `offset`: the next one is asked for.
pub(crate) fn handle_chunk_stored(shared: &mut Shared, follower: &mut Follower, last: LogPosition, offset: u64) {
    let Some(receiving) = follower.receiving.as_mut().filter(|receiving| receiving.last == last) else { return };
    if receiving.storing_to != Some(offset) {
        return;
    }
    receiving.stored = offset;
    receiving.storing_to = None;
    if let Some(leader) = follower.leader {
        shared.send(leader, Body::InstallSnapshotReply { last, offset });
    }
}

/// What was received is no snapshot, or could not be stored: it is wanted again from its first byte.
pub(crate) fn handle_rejected(shared: &mut Shared, follower: &mut Follower, last: LogPosition) {
    if follower.receiving.take_if(|receiving| receiving.last == last).is_some()
        && let Some(leader) = follower.leader
    {
        shared.send(leader, Body::InstallSnapshotReply { last, offset: 0 });
    }
}

/// The driver has a whole snapshot of a leader's on disk, checked from end to end. Whoever sent it and whatever this
/// server is by now: what it covers is committed.
pub(crate) fn handle_received(shared: &mut Shared, role: &mut Role, snapshot: Snapshot) {
    let last = snapshot.last;
    if last.index > shared.commit_index() {
        install(shared, role, snapshot);
    } else if shared.log.compare(last) == Comparison::Held {
        // Entries were faster. It is as good as one of our own.
        shared.note_snapshot(snapshot);
    }
    let Role::Follower(follower) = role else { return };
    if follower.receiving.take_if(|receiving| receiving.last == last).is_some()
        && let Some(leader) = follower.leader
    {
        shared.advance_agreed(last.index);
        shared.send(leader, Body::AppendEntriesReply(AppendResult::Matched(last.index)));
    }
}

/// Figure 5.3, steps 6 to 8: a log that holds the snapshot's last entry stays, any other is replaced.
fn install(shared: &mut Shared, role: &Role, snapshot: Snapshot) {
    let last = snapshot.last;
    match shared.log.compare(last) {
        // Only committing is new. A leader finds that out by itself.
        Comparison::Held if matches!(role, Role::Leader(_)) => {}
        Comparison::Held => {
            shared.note_snapshot(snapshot);
            shared.advance_commit(last.index);
        }
        Comparison::Conflict | Comparison::Missing => {
            assert!(!matches!(role, Role::Leader(_)), "a leader's log lacks committed {last} (Leader Completeness)");
            shared.install(snapshot);
            shared.emit(Effect::SnapshotInstalled { last });
        }
    }
}

/// The snapshots whose files are needed: the latest, and those on their way to a follower.
pub(crate) fn in_use<'a>(shared: &'a Shared, role: &'a Role) -> impl Iterator<Item = LogPosition> + 'a {
    let progress = match role {
        Role::Leader(leader) => Some(leader.progress.values()),
        Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
    };
    let sending = progress.into_iter().flatten().filter_map(Progress::sending).map(|sending| sending.last);
    shared.snapshot().map(|latest| latest.last).into_iter().chain(sending)
}

/// What a snapshot of the state at `index` is called, if this server can tell (§5.1).
pub(crate) fn describe(shared: &Shared, index: LogIndex) -> Option<Snapshot> {
    let (last, stamp) = (shared.log.position(index)?, shared.log.stamp(index)?);
    let (configuration_index, configuration) = shared.membership.at(index);
    Some(Snapshot { last, stamp, configuration: configuration.clone(), configuration_index })
}
