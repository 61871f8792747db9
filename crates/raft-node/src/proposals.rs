//! Commands under way: waiting for the next batch, in the log waiting for commitment, or passed on to the leader.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{Incarnation, Instant, LogIndex, LogPosition, NodeId, Term};

use crate::answer::Origin;

/// How many bytes of commands may be under way at most, the waiting and the uncommitted together; more are refused
/// as `Overloaded`.
pub(crate) const MAX_BYTES_UNDER_WAY: usize = 64 << 20;
/// How many commands may be under way at most.
pub(crate) const MAX_COMMANDS_UNDER_WAY: usize = 65_536;
/// About how many bytes one batch has at most, so that one message or write is never much larger.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How many numbers an incarnation has for what it passes on, as a power of two: at 100,000 a second enough for four
/// months. After that they run into those of the next incarnation, which no leader remembers by then.
const FORWARDS_PER_INCARNATION_BITS: u32 = 40;

/// A command that is not in the log yet.
#[derive(Debug)]
pub(crate) struct Proposal<W> {
    pub(crate) origin: Origin<W>,
    pub(crate) command: Bytes,
    pub(crate) deadline: Instant,
}

/// A command that was passed on to the leader.
#[derive(Debug)]
struct Forwarded<W> {
    leader: NodeId,
    origin: Origin<W>,
    size_bytes: usize,
    deadline: Instant,
}

/// A command in this leader's log that is not committed yet. It counts for the limits until it is, even when whoever
/// asked for it waits no more: a log that no majority takes must not grow.
#[derive(Debug)]
struct InLog<W> {
    /// The term it was appended in.
    term: Term,
    size_bytes: usize,
    /// Who waits, and until when.
    waiting: Option<(Origin<W>, Instant)>,
}

/// All commands this server answers for.
#[derive(Debug)]
pub(crate) struct Proposals<W> {
    waiting: Vec<Proposal<W>>,
    in_log: BTreeMap<LogIndex, InLog<W>>,
    /// How many of those have somebody who waits.
    waiting_in_log: usize,
    /// With the leader, by the number they were sent under.
    forwarded: BTreeMap<u64, Forwarded<W>>,
    last_forward: u64,
    bytes_under_way: usize,
}

impl<W> Proposals<W> {
    /// Nothing yet. The numbers of forwarded commands begin with the incarnation: the leader's answer to a command of an
    /// earlier one may arrive here, and must not be taken for the answer to another (rule 3).
    pub(crate) const fn new(incarnation: Incarnation) -> Self {
        Self {
            waiting: Vec::new(),
            in_log: BTreeMap::new(),
            waiting_in_log: 0,
            forwarded: BTreeMap::new(),
            last_forward: incarnation.0 << FORWARDS_PER_INCARNATION_BITS,
            bytes_under_way: 0,
        }
    }

    /// How many commands are not answered yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.waiting.len() + self.waiting_in_log + self.forwarded.len()
    }

    /// Takes a command for the next batch, or gives it back if there is too much.
    pub(crate) fn admit(&mut self, proposal: Proposal<W>) -> Result<(), Proposal<W>> {
        let size_bytes = proposal.command.len();
        let count = self.waiting.len() + self.in_log.len() + self.forwarded.len();
        if count >= MAX_COMMANDS_UNDER_WAY || self.bytes_under_way + size_bytes > MAX_BYTES_UNDER_WAY {
            return Err(proposal);
        }
        self.bytes_under_way += size_bytes;
        self.waiting.push(proposal);
        Ok(())
    }

    /// What is in no log and was passed on to nobody.
    pub(crate) fn take_all_waiting(&mut self) -> Vec<Origin<W>> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes_under_way -= waiting.iter().map(|proposal| proposal.command.len()).sum::<usize>();
        waiting.into_iter().map(|proposal| proposal.origin).collect()
    }

    /// Takes the next batch: what is waiting, in order, up to the size of one batch. Empty if nothing waits.
    pub(crate) fn take_batch(&mut self) -> Vec<Proposal<W>> {
        let mut room = MAX_BATCH_BYTES;
        let mut count = 0;
        for proposal in &self.waiting {
            if count > 0 && proposal.command.len() > room {
                break;
            }
            room = room.saturating_sub(proposal.command.len());
            count += 1;
        }
        let rest = self.waiting.split_off(count);
        std::mem::replace(&mut self.waiting, rest)
    }

    /// Notes where in the log a batch begins.
    pub(crate) fn note_in_log(&mut self, first: LogPosition, batch: Vec<(Origin<W>, usize, Instant)>) {
        let mut index = first.index;
        for (origin, size_bytes, deadline) in batch {
            let waiting = Some((origin, deadline));
            self.in_log.insert(index, InLog { term: first.term, size_bytes, waiting });
            self.waiting_in_log += 1;
            index = index.next();
        }
    }

    /// A number for what goes to the leader.
    pub(crate) fn next_forward(&mut self) -> u64 {
        self.last_forward = self.last_forward.wrapping_add(1);
        self.last_forward
    }

    /// Notes that a command goes to the leader, and under which number.
    pub(crate) fn note_forwarded(&mut self, leader: NodeId, proposal: Proposal<W>) -> (u64, Bytes) {
        let id = self.next_forward();
        let Proposal { origin, command, deadline } = proposal;
        self.forwarded.insert(id, Forwarded { leader, origin, size_bytes: command.len(), deadline });
        (id, command)
    }

    /// Gives up the bytes of a command that left without being noted anywhere.
    pub(crate) fn release(&mut self, size_bytes: usize) {
        self.bytes_under_way -= size_bytes;
    }

    /// The entry at `position` is applied: who waited for that place? `Err` if what stands there is another entry.
    pub(crate) fn take_applied(&mut self, position: LogPosition) -> Option<Result<Origin<W>, Origin<W>>> {
        let entry = self.in_log.remove(&position.index)?;
        self.bytes_under_way -= entry.size_bytes;
        let (origin, _) = entry.waiting?;
        self.waiting_in_log -= 1;
        Some(if entry.term == position.term { Ok(origin) } else { Err(origin) })
    }

    /// The command with this number needs the server it was sent to no longer: that has answered, or never got it.
    pub(crate) fn take_forwarded(&mut self, leader: NodeId, id: u64) -> Option<Origin<W>> {
        if self.forwarded.get(&id)?.leader != leader {
            return None;
        }
        self.remove_forwarded(id)
    }

    /// Whether what is in this server's log is committed, it may never learn.
    pub(crate) fn take_all_in_log(&mut self) -> Vec<Origin<W>> {
        let in_log = std::mem::take(&mut self.in_log);
        self.waiting_in_log = 0;
        self.bytes_under_way -= in_log.values().map(|entry| entry.size_bytes).sum::<usize>();
        in_log.into_values().filter_map(|entry| entry.waiting).map(|(origin, _)| origin).collect()
    }

    /// What was passed on to servers for which `is_lost` holds will get no answer.
    pub(crate) fn take_forwarded_to(&mut self, is_lost: impl Fn(NodeId) -> bool) -> Vec<Origin<W>> {
        self.take_forwarded_if(|forwarded| is_lost(forwarded.leader))
    }

    /// What has not been answered by its deadline. What is in the log stays there, and may still be applied.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Vec<Origin<W>> {
        let late = self.waiting.extract_if(.., |proposal| proposal.deadline <= now);
        let late: Vec<Proposal<W>> = late.collect();
        self.bytes_under_way -= late.iter().map(|proposal| proposal.command.len()).sum::<usize>();
        let mut overdue: Vec<Origin<W>> = late.into_iter().map(|proposal| proposal.origin).collect();
        for entry in self.in_log.values_mut() {
            if let Some((origin, _)) = entry.waiting.take_if(|(_, deadline)| *deadline <= now) {
                self.waiting_in_log -= 1;
                overdue.push(origin);
            }
        }
        overdue.extend(self.take_forwarded_if(|forwarded| forwarded.deadline <= now));
        overdue
    }

    fn take_forwarded_if(&mut self, is_over: impl Fn(&Forwarded<W>) -> bool) -> Vec<Origin<W>> {
        let over: Vec<u64> =
            self.forwarded.iter().filter(|(_, forwarded)| is_over(forwarded)).map(|(&id, _)| id).collect();
        over.into_iter().filter_map(|id| self.remove_forwarded(id)).collect()
    }

    fn remove_forwarded(&mut self, id: u64) -> Option<Origin<W>> {
        let Forwarded { origin, size_bytes, .. } = self.forwarded.remove(&id)?;
        self.bytes_under_way -= size_bytes;
        Some(origin)
    }
}
