//! Identity (rule 2): servers of one cluster speak with each other, and a new disk is a voter only by a configuration.

use raft_core::{Configuration, Standing};
use raft_net::HandshakeRefusal;

use super::Violation;
use crate::node::Node;

/// Keeps nothing.
#[derive(Debug)]
pub(crate) struct Identity;

impl Identity {
    /// A handshake was refused: that may be only before both belong to a cluster.
    pub(crate) fn refused(&self, from: &Node, to: &Node, refusal: &HandshakeRefusal) -> Result<(), Violation> {
        let belongs =
            |node: &Node| node.process.as_ref().is_some_and(|process| process.server.replica().raft().is_some());
        if !belongs(from) || !belongs(to) {
            return Ok(());
        }
        let what = format!("{} and {} are of one cluster, and do not connect: {refusal}", from.id, to.id);
        Err(Violation::new("Members are admitted", what))
    }

    /// Whether `node` runs and votes in `configuration`, with the disk it has now.
    pub(crate) fn votes(node: &Node, configuration: &Configuration) -> bool {
        let runs_with = |disk| node.process.as_ref().is_some_and(|process| process.identity.disk == disk);
        configuration.member(node.id).is_some_and(|member| runs_with(member.disk))
            && configuration.standing(node.id) == Some(&Standing::Voter)
    }
}
