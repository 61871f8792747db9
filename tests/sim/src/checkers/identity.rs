//! Identity (rule 2): a disk that was wiped is kept out, and nobody else is.

use raft_net::HandshakeRefusal;

use super::Violation;
use crate::node::{Fate, Node};

/// Keeps nothing.
#[derive(Debug)]
pub(crate) struct Identity;

impl Identity {
    /// A handshake was refused.
    pub(crate) fn refused(&self, from: &Node, to: &Node, refusal: &HandshakeRefusal) -> Result<(), Violation> {
        if from.fate == Fate::Wiped || to.fate == Fate::Wiped {
            return Ok(());
        }
        let what = format!("{} and {} both have their disks, and do not connect: {refusal}", from.id, to.id);
        Err(Violation::new("Members are admitted", what))
    }

    /// A server on a wiped disk must not take part.
    pub(crate) fn check_kept_out(&self, node: &Node) -> Result<(), Violation> {
        let takes_part = node.process.as_ref().is_some_and(|process| process.server.replica().raft().is_some());
        if node.fate == Fate::Wiped && takes_part {
            let what = format!("{} takes part with a disk that has lost its votes and entries", node.id);
            return Err(Violation::new("A wiped disk is kept out", what));
        }
        Ok(())
    }
}
