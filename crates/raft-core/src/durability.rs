//! What is on this server's disk, and what waits for it (rule 1).
//!
//! Every change of hard state or log becomes part of the step's one [`Write`]. Messages that promise something wait
//! here until the write that makes the promise good is confirmed; everything the core emits may be executed at once.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::message::{AppendResult, Body, Message, Refusal, Verdict};
use crate::types::{Entry, HardState, Instant, LogIndex, LogPosition, NodeId};
use crate::write::{Write, WriteNumber};

/// How many messages wait for the disk at most; more are dropped, as the network may drop them. A leader keeps at
/// most 256 unanswered, so only a disk that stands still for long gets here.
const MAX_WAITING_MESSAGES: usize = 1024;

/// The disk, as the protocol sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Durability {
    /// The last write handed out.
    issued: WriteNumber,
    /// The last write confirmed.
    persisted: WriteNumber,
    /// The last write with a hard state.
    hard_state_write: WriteNumber,
    /// The log is durable up to here, and is the log of this moment: what was truncated since does not count.
    durable_index: LogIndex,
    /// The writes handed out and not confirmed, oldest first.
    on_the_way: VecDeque<OnTheWay>,
    /// How many bytes of entries are in those.
    unsynced_bytes: usize,
    /// What this step has changed so far.
    pending: Option<Write>,
    /// Messages and the write each waits for.
    waiting: VecDeque<(WriteNumber, NodeId, Message)>,
}

/// A write that the disk has not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OnTheWay {
    number: WriteNumber,
    /// Where the durable log ends once it is confirmed.
    pub(crate) durable_after: LogIndex,
    /// When it was handed out.
    pub(crate) since: Instant,
    /// The bytes of its entries, also of those that were truncated since: the disk still has them to write.
    size_bytes: usize,
}

impl Durability {
    pub(crate) const fn new(durable_index: LogIndex) -> Self {
        Self {
            issued: WriteNumber(0),
            persisted: WriteNumber(0),
            hard_state_write: WriteNumber(0),
            durable_index,
            on_the_way: VecDeque::new(),
            unsynced_bytes: 0,
            pending: None,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) const fn durable_index(&self) -> LogIndex {
        self.durable_index
    }

    /// The write that the disk owes for longest.
    pub(crate) fn oldest_on_the_way(&self) -> Option<&OnTheWay> {
        self.on_the_way.front()
    }

    /// How many bytes of entries were handed out and are not confirmed.
    pub(crate) const fn unsynced_bytes(&self) -> usize {
        self.unsynced_bytes
    }

    /// How many writes were handed out and are not confirmed.
    pub(crate) fn unsynced_writes(&self) -> usize {
        self.on_the_way.len()
    }

    /// Whether term and vote, as they are now, are on disk.
    pub(crate) fn is_hard_state_durable(&self) -> bool {
        self.hard_state_write <= self.persisted
    }

    fn pending(&mut self) -> &mut Write {
        let number = WriteNumber(self.issued.0 + 1);
        self.pending.get_or_insert_with(|| Write {
            number,
            hard_state: None,
            restart_after: None,
            truncate_from: None,
            entries: Vec::new(),
        })
    }

    pub(crate) fn write_hard_state(&mut self, hard_state: HardState) {
        let write = self.pending();
        write.hard_state = Some(hard_state);
        self.hard_state_write = write.number;
    }

    pub(crate) fn write_entry(&mut self, entry: Entry) {
        self.pending().entries.push(entry);
    }

    pub(crate) fn write_truncation(&mut self, from: LogIndex) {
        let write = self.pending();
        assert!(write.entries.is_empty(), "one step truncates before it appends");
        write.truncate_from = Some(from);
        let end = from.previous();
        self.durable_index = self.durable_index.min(end);
        for write in &mut self.on_the_way {
            write.durable_after = write.durable_after.min(end);
        }
        // What names a position that is gone is never said.
        self.waiting.retain(|(_, _, message)| named_index(&message.body).is_none_or(|index| index < from));
    }

    /// The log goes on after `base`, which a snapshot on disk covers.
    pub(crate) fn write_restart(&mut self, base: LogPosition) {
        let write = self.pending();
        assert!(write.entries.is_empty() && write.truncate_from.is_none(), "one step restarts the log before all else");
        write.restart_after = Some(base);
        // The snapshot is durable, so its end is; what is on the way belongs to the log that is gone.
        self.durable_index = base.index;
        for write in &mut self.on_the_way {
            write.durable_after = base.index;
        }
        self.waiting.retain(|(_, _, message)| named_index(&message.body).is_none());
    }

    /// Hands out, at `now`, what the step has changed. `last_index` is the log's end, which the write makes durable.
    pub(crate) fn take_write(&mut self, last_index: LogIndex, now: Instant) -> Option<Write> {
        let write = self.pending.take()?;
        self.issued = write.number;
        let size_bytes = write.entries.iter().map(Entry::size_bytes).sum();
        self.unsynced_bytes += size_bytes;
        self.on_the_way.push_back(OnTheWay { number: write.number, durable_after: last_index, since: now, size_bytes });
        Some(write)
    }

    /// Takes the disk's word for write `number` and all before it.
    ///
    /// # Panics
    /// If no such write was handed out: the driver's bug, and it would count entries that are nowhere.
    pub(crate) fn confirm(&mut self, number: WriteNumber) {
        assert!(number <= self.issued, "write #{} was confirmed but never handed out", number.0);
        while let Some(write) = self.on_the_way.pop_front_if(|write| write.number <= number) {
            self.durable_index = write.durable_after;
            self.unsynced_bytes -= write.size_bytes;
        }
        self.persisted = self.persisted.max(number);
    }

    /// The write that must be confirmed before `body` may leave, in a message of the current term.
    fn needed_for(&self, body: &Body) -> WriteNumber {
        let index = named_index(body);
        index.map_or(self.hard_state_write, |index| self.hard_state_write.max(self.covering(index)))
    }

    /// The write after which the log is durable up to `index`.
    fn covering(&self, index: LogIndex) -> WriteNumber {
        if index <= self.durable_index {
            return self.persisted;
        }
        let on_the_way = self.on_the_way.iter().find(|write| write.durable_after >= index);
        on_the_way.map_or(WriteNumber(self.issued.0 + 1), |write| write.number)
    }

    /// The message itself if it may leave now; else it waits.
    pub(crate) fn release_or_hold(&mut self, to: NodeId, message: Message) -> Option<Message> {
        let needed = self.needed_for(&message.body);
        if needed <= self.persisted {
            return Some(message);
        }
        if self.waiting.len() < MAX_WAITING_MESSAGES {
            self.waiting.push_back((needed, to, message));
        }
        None
    }

    /// The messages whose write is confirmed by now, in the order they were sent. Of several acknowledgements to one
    /// leader only the furthest, which includes the others.
    pub(crate) fn take_released(&mut self) -> Vec<(NodeId, Message)> {
        let mut released: Vec<(NodeId, Message)> = Vec::new();
        for (needed, to, message) in core::mem::take(&mut self.waiting) {
            if needed > self.persisted {
                self.waiting.push_back((needed, to, message));
                continue;
            }
            if let Some(index) = acknowledged_index(&message) {
                let of_same = |(earlier_to, earlier): &(NodeId, Message)| {
                    if *earlier_to == to { acknowledged_index(earlier) } else { None }
                };
                if released.iter().filter_map(of_same).any(|earlier| earlier >= index) {
                    continue;
                }
                released.retain(|earlier| of_same(earlier).is_none());
            }
            released.push((to, message));
        }
        released
    }

    /// Forgets the messages of a term that is over: nobody would take them, and what they promise may be truncated.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Forgets what was to be said to an incarnation that is gone.
    pub(crate) fn forget_waiting_for(&mut self, peer: NodeId) {
        self.waiting.retain(|(_, to, _)| *to != peer);
    }
}

/// The index of this server's log that a message vouches for.
const fn named_index(body: &Body) -> Option<LogIndex> {
    match body {
        // Entries may leave before they are on our own disk (§10.2.1). The commit index and the read index name
        // entries that a majority has on disk, whether or not we are part of it.
        // A chunk of a snapshot is stored, not promised: it is asked for again after a crash.
        Body::AppendEntries { .. }
        | Body::InstallSnapshot { .. }
        | Body::InstallSnapshotReply { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::TimeoutNow { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => None,
        Body::PreVote { last_log, .. } | Body::RequestVote { last_log, .. } => Some(last_log.index),
        Body::PreVoteReply { verdict, .. } | Body::RequestVoteReply { verdict } => match verdict {
            Verdict::Refused(Refusal::LogBehind { ours }) => Some(ours.index),
            Verdict::Granted
            | Verdict::Refused(
                Refusal::HearsLeader | Refusal::StaleTerm | Refusal::VotedFor(_) | Refusal::NotAMember,
            ) => None,
        },
        Body::AppendEntriesReply(AppendResult::Matched(index)) => Some(*index),
        Body::AppendEntriesReply(AppendResult::Mismatch { hint, .. }) => Some(hint.index),
    }
}

const fn acknowledged_index(message: &Message) -> Option<LogIndex> {
    match message.body {
        Body::AppendEntriesReply(AppendResult::Matched(index)) => Some(index),
        Body::AppendEntriesReply(AppendResult::Mismatch { .. })
        | Body::AppendEntries { .. }
        | Body::InstallSnapshot { .. }
        | Body::InstallSnapshotReply { .. }
        | Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::RequestVote { .. }
        | Body::RequestVoteReply { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::TimeoutNow { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => None,
    }
}
