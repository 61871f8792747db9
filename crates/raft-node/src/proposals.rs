//! Commands under way: waiting for the next batch, in the log waiting for commitment, or passed on to the leader.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{Instant, LogIndex, LogPosition, NodeId, Term};

use crate::answer::{Failure, Origin};

/// How many bytes of commands may be under way at most, the waiting and the uncommitted together; more are refused
/// as `Overloaded`.
pub(crate) const MAX_BYTES_UNDER_WAY: usize = 64 << 20;
/// How many commands may be under way at most.
pub(crate) const MAX_COMMANDS_UNDER_WAY: usize = 65_536;
/// About how many bytes one batch has at most, so that one message or write is never much larger.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// A command that is not in the log yet.
#[derive(Debug)]
pub(crate) struct Proposal<W> {
    pub(crate) origin: Origin<W>,
    pub(crate) command: Bytes,
    pub(crate) deadline: Instant,
}

/// A command in the log, or with the leader.
#[derive(Debug)]
struct UnderWay<W> {
    origin: Origin<W>,
    size_bytes: usize,
    deadline: Instant,
}

/// All commands this server answers for.
#[derive(Debug)]
pub(crate) struct Proposals<W> {
    waiting: Vec<Proposal<W>>,
    /// In this leader's log, with the term they were appended in.
    in_log: BTreeMap<LogIndex, (Term, UnderWay<W>)>,
    /// With the leader, by the number they were sent under.
    forwarded: BTreeMap<u64, (NodeId, UnderWay<W>)>,
    last_forward: u64,
    bytes_under_way: usize,
}

impl<W> Default for Proposals<W> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            in_log: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            last_forward: 0,
            bytes_under_way: 0,
        }
    }
}

impl<W> Proposals<W> {
    /// How many commands are under way.
    pub(crate) fn count(&self) -> usize {
        self.waiting.len() + self.in_log.len() + self.forwarded.len()
    }

    /// Takes a command for the next batch, or gives it back if there is too much.
    pub(crate) fn admit(&mut self, proposal: Proposal<W>) -> Result<(), Proposal<W>> {
        let size_bytes = proposal.command.len();
        if self.count() >= MAX_COMMANDS_UNDER_WAY || self.bytes_under_way + size_bytes > MAX_BYTES_UNDER_WAY {
            return Err(proposal);
        }
        self.bytes_under_way += size_bytes;
        self.waiting.push(proposal);
        Ok(())
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
            self.in_log.insert(index, (first.term, UnderWay { origin, size_bytes, deadline }));
            index = index.next();
        }
    }

    /// Notes that a command goes to the leader, and under which number.
    pub(crate) fn note_forwarded(&mut self, leader: NodeId, proposal: Proposal<W>) -> (u64, Bytes) {
        self.last_forward += 1;
        let Proposal { origin, command, deadline } = proposal;
        let under_way = UnderWay { origin, size_bytes: command.len(), deadline };
        self.forwarded.insert(self.last_forward, (leader, under_way));
        (self.last_forward, command)
    }

    /// Gives up the bytes of a command that left without being noted anywhere.
    pub(crate) fn release(&mut self, size_bytes: usize) {
        self.bytes_under_way -= size_bytes;
    }

    /// The entry at `position` is applied: who waited for that place? `Err` if what stands there is another entry.
    pub(crate) fn take_applied(&mut self, position: LogPosition) -> Option<Result<Origin<W>, Origin<W>>> {
        let (term, under_way) = self.in_log.remove(&position.index)?;
        self.bytes_under_way -= under_way.size_bytes;
        Some(if term == position.term { Ok(under_way.origin) } else { Err(under_way.origin) })
    }

    /// The leader has answered a forwarded command.
    pub(crate) fn take_forwarded(&mut self, from: NodeId, id: u64) -> Option<Origin<W>> {
        let (leader, _) = self.forwarded.get(&id)?;
        if *leader != from {
            return None;
        }
        let (_, under_way) = self.forwarded.remove(&id)?;
        self.bytes_under_way -= under_way.size_bytes;
        Some(under_way.origin)
    }

    /// This server leads no more: what is in its log may or may not be committed.
    pub(crate) fn take_all_in_log(&mut self) -> Vec<Origin<W>> {
        let in_log = std::mem::take(&mut self.in_log);
        in_log.into_values().map(|(_, under_way)| self.give_up(under_way)).collect()
    }

    /// What was passed on to servers for which `is_lost` holds will get no answer.
    pub(crate) fn take_forwarded_to(&mut self, is_lost: impl Fn(NodeId) -> bool) -> Vec<Origin<W>> {
        let lost: Vec<u64> =
            self.forwarded.iter().filter(|(_, (leader, _))| is_lost(*leader)).map(|(&id, _)| id).collect();
        let mut given_up = Vec::with_capacity(lost.len());
        for id in lost {
            if let Some((_, under_way)) = self.forwarded.remove(&id) {
                given_up.push(self.give_up(under_way));
            }
        }
        given_up
    }

    /// What has not been answered by its deadline.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Vec<(Origin<W>, Failure)> {
        let mut overdue = Vec::new();
        let in_log: Vec<LogIndex> =
            self.in_log.iter().filter(|(_, (_, entry))| entry.deadline <= now).map(|(&index, _)| index).collect();
        for index in in_log {
            if let Some((_, under_way)) = self.in_log.remove(&index) {
                overdue.push((self.give_up(under_way), Failure::Timeout));
            }
        }
        let forwarded: Vec<u64> =
            self.forwarded.iter().filter(|(_, (_, entry))| entry.deadline <= now).map(|(&id, _)| id).collect();
        for id in forwarded {
            if let Some((_, under_way)) = self.forwarded.remove(&id) {
                overdue.push((self.give_up(under_way), Failure::Timeout));
            }
        }
        overdue
    }

    fn give_up(&mut self, under_way: UnderWay<W>) -> Origin<W> {
        self.bytes_under_way -= under_way.size_bytes;
        under_way.origin
    }
}
