//! A full disk is a state, not a failure (F8): nothing new is taken, what was taken is finished, and reads are served.
//!
//! A server whose disk is full says so to the others. The leader refuses commands if its own disk is full, or so many that
//! no majority could write them. If only its own side of that is at fault, it makes another one leader.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{Instant, NodeId};

use super::Replica;
use crate::event::NodeEvent;
use crate::machine::StateMachine;
use crate::peer_message::PeerMessage;

/// How often a full disk is spoken of.
const SAY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a peer's word that its disk is full holds. Words may be lost, and one that stops says nothing.
const BELIEVED_FOR: Duration = Duration::from_secs(3);
/// How long a leader that has handed over for its disk's sake does not do so again: disks that fill up together must not
/// send the leadership round.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(5);

/// What is known of the disks' space.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Whether this server's disk is full.
    is_full: bool,
    /// When that is next said.
    say_at: Instant,
    /// When not to hand over before.
    hand_over_at: Instant,
    /// Whose disks are full, and until when that is believed; no more entries than members.
    full_peers: BTreeMap<NodeId, Instant>,
}

impl Space {
    /// When [`Replica::tick_space`] is next due.
    pub(super) fn wakeup(&self) -> Option<Instant> {
        self.is_full.then_some(self.say_at)
    }

    fn is_peer_full(&self, now: Instant, peer: NodeId) -> bool {
        self.full_peers.get(&peer).is_some_and(|until| now < *until)
    }
}

impl<M: StateMachine, W> Replica<M, W> {
    /// Whether this server's disk is full: it takes nothing new.
    pub const fn is_disk_full(&self) -> bool {
        self.space.is_full
    }

    pub(super) fn handle_full(&mut self, now: Instant) {
        self.space.is_full = true;
        self.outputs.events.push(NodeEvent::DiskFull);
        self.say_full(now);
    }

    pub(super) fn handle_space(&mut self) {
        self.space.is_full = false;
        self.outputs.events.push(NodeEvent::DiskHasSpace);
    }

    pub(super) fn note_peer_full(&mut self, now: Instant, peer: NodeId) {
        self.space.full_peers.insert(peer, now.after(BELIEVED_FOR));
    }

    pub(super) fn tick_space(&mut self, now: Instant) {
        if self.space.wakeup().is_some_and(|at| now >= at) {
            self.say_full(now);
        }
    }

    fn say_full(&mut self, now: Instant) {
        self.space.say_at = now.after(SAY_INTERVAL);
        let others = self.others();
        self.outputs.messages.extend(others.iter().map(|&peer| (peer, PeerMessage::DiskFull)));
        let leads = self.leader() == Some(self.config.protocol.id) && !self.is_handing_over();
        if leads && now >= self.space.hand_over_at && self.has_majority(self.with_space(now, &others)) {
            self.space.hand_over_at = now.after(HAND_OVER_PAUSE);
            let successor = self.choose_with_space(now, &others);
            self.hand_over(now, successor);
        }
    }

    /// A leader's: whether a command could not be written by it and a majority.
    pub(super) fn lacks_space(&self, now: Instant) -> bool {
        self.space.is_full || !self.has_majority(1 + self.with_space(now, &self.others()))
    }

    fn others(&self) -> Vec<NodeId> {
        let own = self.config.protocol.id;
        let voters = self.configuration().map(raft_core::Configuration::voters);
        voters.into_iter().flatten().filter(|&id| id != own).collect()
    }

    /// How many of `peers` are not known to have full disks.
    fn with_space(&self, now: Instant, peers: &[NodeId]) -> usize {
        peers.iter().filter(|&&peer| !self.space.is_peer_full(now, peer)).count()
    }

    fn has_majority(&self, count: usize) -> bool {
        count * 2 > self.configuration().map_or(0, |configuration| configuration.voters().count())
    }

    /// Whom to hand over to: whoever lacks least, but none whose disk is full too.
    fn choose_with_space(&self, now: Instant, others: &[NodeId]) -> Option<NodeId> {
        if self.with_space(now, others) == others.len() {
            return None;
        }
        let matched = self.raft()?.matched().into_iter();
        let able = matched.filter(|(peer, _)| others.contains(peer) && !self.space.is_peer_full(now, *peer));
        able.max_by_key(|(_, matched)| *matched).map(|(peer, _)| peer)
    }
}
