//! One vote a term (§3.4), counted where it matters: among the votes that a server has *sent*, in all its starts.

use std::collections::BTreeMap;

use raft_core::{Body, NodeId, Term, Verdict as Vote};
use raft_node::PeerMessage;

use super::{Turn, Verdict};

/// Whom each server has voted for in each term, by what it told others.
#[derive(Debug)]
pub(crate) struct OneVote {
    votes: Vec<BTreeMap<Term, NodeId>>,
}

impl OneVote {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { votes: vec![BTreeMap::new(); nodes] }
    }

    /// The server has another disk, and so is another voter.
    pub(crate) fn forget(&mut self, node: usize) {
        if let Some(votes) = self.votes.get_mut(node) {
            votes.clear();
        }
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>) -> Verdict {
        let (Some(raft), Some(votes)) = (turn.raft(), self.votes.get_mut(turn.node)) else { return Ok(()) };
        for (to, message) in &turn.orders.messages {
            let PeerMessage::Raft(message) = message else { continue };
            let chosen = match message.body {
                Body::RequestVoteReply { verdict: Vote::Granted } => *to,
                // A candidate votes for itself.
                Body::RequestVote { .. } => raft.id(),
                _ => continue,
            };
            let before = *votes.entry(message.term).or_insert(chosen);
            if before != chosen {
                return Err(format!("n{} votes for {chosen} in term {} after {before}", turn.node + 1, message.term));
            }
        }
        Ok(())
    }
}
