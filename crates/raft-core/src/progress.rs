//! What a leader knows of one follower (Figure 3.1, nextIndex and matchIndex), and how much it may send.
//!
//! Two states. *Probe*: the leader does not know where the logs part; one message at a time finds out. *Replicate*:
//! it does; entries are sent as they come, without waiting for answers (§10.2.1), within a window.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::config::Config;
use crate::message::ReadRound;
use crate::types::{Instant, LogIndex, LogPosition};

/// The leader's view of one follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// The follower's log agrees with ours, on its disk, up to here (matchIndex).
    pub(crate) matched: LogIndex,
    /// The next entry to send (nextIndex); always beyond `matched`.
    pub(crate) next: LogIndex,
    pub(crate) state: ProgressState,
    /// When it last answered anything in this term; before its first answer, when this leader began to send to it.
    pub(crate) heard: Instant,
    /// Whether it has answered this leader at all. Until then it has only the benefit of the doubt.
    pub(crate) has_answered: bool,
    /// The latest read round it confirmed.
    pub(crate) confirmed: ReadRound,
}

/// How the leader sends to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProgressState {
    /// One message, then wait.
    Probe {
        /// A probe is on its way. It is repeated, without entries, with the heartbeats.
        waiting: bool,
    },
    /// Stream.
    Replicate(Inflight),
    /// What it needs next is compacted: a snapshot first (§5).
    Snapshot(Sending),
}

/// A snapshot on its way to a follower, one chunk at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sending {
    /// Which one: the last entry it covers.
    pub(crate) last: LogPosition,
    /// The next byte the follower wants.
    pub(crate) offset: u64,
    /// The chunk that begins there.
    pub(crate) chunk: Chunk,
    /// How often in a row it was lost.
    pub(crate) losses: u32,
}

/// Where the next chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Chunk {
    /// To be sent, not before this.
    Due(Instant),
    /// On its way since.
    Sent(Instant),
}

impl Sending {
    /// Whether the chunk has been unanswered for so long that it must be lost. The patience doubles each time.
    pub(crate) fn is_lost(&self, now: Instant, config: &Config) -> bool {
        // One chunk costs far less than a window of entries: it is sent again sooner.
        const MOST_DOUBLINGS: u32 = 3;
        let losses = self.losses.min(MOST_DOUBLINGS);
        matches!(self.chunk, Chunk::Sent(since) if now.since(since) >= patience(losses, config))
    }
}

/// For how long an answer is waited for after so many losses in a row, so that a follower that stands still is not
/// sent the same over and over.
fn patience(losses: u32, config: &Config) -> Duration {
    const MOST_DOUBLINGS: u32 = 5;
    config.election_timeout_min * (1 << losses.min(MOST_DOUBLINGS))
}

/// The messages on their way to a follower in the Replicate state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inflight {
    /// Of each message its last index and its size, oldest first.
    messages: VecDeque<(LogIndex, usize)>,
    size_bytes: usize,
    /// When the window last moved; a message unanswered for long since is taken as lost.
    moved: Instant,
    /// How often in a row that happened.
    losses: u32,
}

impl Inflight {
    const fn new(now: Instant, losses: u32) -> Self {
        Self { messages: VecDeque::new(), size_bytes: 0, moved: now, losses }
    }

    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.messages.len() >= config.max_inflight_messages || self.size_bytes >= config.max_inflight_bytes
    }

    fn add(&mut self, last: LogIndex, size_bytes: usize, now: Instant) {
        if self.messages.is_empty() {
            self.moved = now;
        }
        self.messages.push_back((last, size_bytes));
        self.size_bytes += size_bytes;
    }

    /// An acknowledgement of `index` answers all messages up to it.
    fn free_to(&mut self, index: LogIndex, now: Instant) {
        while let Some(&(last, size_bytes)) = self.messages.front() {
            if last > index {
                break;
            }
            self.messages.pop_front();
            self.size_bytes -= size_bytes;
            self.moved = now;
            self.losses = 0;
        }
    }

    /// Whether the oldest message has been unanswered for so long that it must be lost.
    fn is_lost(&self, now: Instant, config: &Config) -> bool {
        !self.messages.is_empty() && now.since(self.moved) >= patience(self.losses, config)
    }
}

impl Progress {
    /// A follower of which nothing is known, to be probed from `next`.
    pub(crate) const fn new(next: LogIndex, now: Instant) -> Self {
        Self {
            matched: LogIndex(0),
            next,
            state: ProgressState::Probe { waiting: false },
            heard: now,
            has_answered: false,
            confirmed: ReadRound(0),
        }
    }

    /// The snapshot on its way to it, if one is.
    pub(crate) const fn sending(&self) -> Option<&Sending> {
        match &self.state {
            ProgressState::Snapshot(sending) => Some(sending),
            ProgressState::Probe { .. } | ProgressState::Replicate(_) => None,
        }
    }

    /// Takes an acknowledgement. One that is older than what is known changes nothing. One that reaches the end of a
    /// snapshot on its way, or the log from `base` on, ends its sending.
    ///
    /// Returns whether `matched` moved.
    pub(crate) fn acknowledge(&mut self, index: LogIndex, base: LogIndex, now: Instant) -> bool {
        if index < self.matched {
            return false;
        }
        let moved = index > self.matched;
        self.matched = index;
        self.next = self.next.max(index.next());
        match &mut self.state {
            ProgressState::Probe { .. } => {
                self.next = index.next();
                self.state = ProgressState::Replicate(Inflight::new(now, 0));
            }
            ProgressState::Replicate(inflight) => inflight.free_to(index, now),
            ProgressState::Snapshot(sending) => {
                if index >= sending.last.index.min(base) {
                    self.next = index.next();
                    self.state = ProgressState::Replicate(Inflight::new(now, 0));
                }
            }
        }
        moved
    }

    /// Takes a refusal of the entries after `prev`; the logs may agree up to `agreed`. A refusal of something sent
    /// before what is known by now changes nothing (a late one must never move `next` below `matched`).
    pub(crate) fn step_back(&mut self, prev: LogIndex, agreed: LogIndex) {
        let is_stale = match &self.state {
            ProgressState::Probe { .. } => prev != self.next.previous(),
            ProgressState::Replicate(_) => prev <= self.matched,
            ProgressState::Snapshot(_) => true,
        };
        if is_stale {
            return;
        }
        self.next = match &self.state {
            ProgressState::Probe { .. } => agreed.next().min(prev).max(self.matched.next()),
            ProgressState::Replicate(_) | ProgressState::Snapshot(_) => self.matched.next(),
        };
        self.state = ProgressState::Probe { waiting: false };
    }

    /// Entries up to `last` are on their way.
    pub(crate) fn sent(&mut self, last: LogIndex, size_bytes: usize, now: Instant) {
        match &mut self.state {
            ProgressState::Probe { waiting } => *waiting = true,
            ProgressState::Replicate(inflight) => {
                if last >= self.next {
                    inflight.add(last, size_bytes, now);
                    self.next = last.next();
                }
            }
            ProgressState::Snapshot(_) => unreachable!("no entries while a snapshot is on its way"),
        }
    }

    /// What was sent is lost: begin again after what is acknowledged, with one message. A lost probe is only asked
    /// again: nothing is known of where the logs part, and to begin at 1 would send the whole log.
    pub(crate) fn probe_after_loss(&mut self) {
        match &mut self.state {
            ProgressState::Probe { .. } => {}
            ProgressState::Replicate(_) => self.next = self.matched.next(),
            // It goes on where it stopped, and soon: that the link is down is no sign that the follower is slow.
            ProgressState::Snapshot(sending) => {
                sending.losses = 0;
                return;
            }
        }
        self.state = ProgressState::Probe { waiting: true };
    }

    /// If entries have been on their way for too long, they are lost: send again from `matched`.
    pub(crate) fn resend_if_lost(&mut self, now: Instant, config: &Config) {
        if let ProgressState::Replicate(inflight) = &self.state
            && inflight.is_lost(now, config)
        {
            let losses = inflight.losses + 1;
            self.next = self.matched.next();
            self.state = ProgressState::Replicate(Inflight::new(now, losses));
        }
    }
}
