//! Every request is answered exactly once, or its server's process has ended.

use std::collections::{BTreeMap, BTreeSet};

use kv_store::api::{Request, RequestBody, Response};
use raft_net::{Frame, FrameKind};
use raft_node::ConnectionId;

use super::{Turn, Verdict};

/// Requests under way: how many copies of each have no answer yet.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    open: BTreeMap<(usize, ConnectionId, u64), u64>,
    /// Those that go on until their client has enough: these may be left.
    watches: BTreeSet<(usize, ConnectionId, u64)>,
}

impl Answers {
    /// A request reaches a server.
    pub(crate) fn asked(&mut self, node: usize, _: u64, connection: ConnectionId, frame: &Frame) {
        if let Ok(request) = postcard::from_bytes::<Request>(&frame.header) {
            let place = (node, connection, request.id);
            *self.open.entry(place).or_default() += 1;
            if matches!(request.body, RequestBody::Watch { .. }) {
                self.watches.insert(place);
            }
        }
    }

    /// A server's process has ended, and its requests with it.
    pub(crate) fn end(&mut self, node: usize) {
        self.open.retain(|(at, ..), _| *at != node);
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>) -> Verdict {
        let replies = turn.orders.replies.frames.iter().filter(|(_, frame)| frame.kind == FrameKind::Response);
        for (connection, frame) in replies {
            let response: Response = postcard::from_bytes(&frame.header)
                .map_err(|error| format!("n{} answers with what is no response: {error}", turn.node + 1))?;
            let place = (turn.node, *connection, response.id);
            match self.open.get_mut(&place) {
                Some(1) => drop(self.open.remove(&place)),
                Some(copies) => *copies -= 1,
                None => return Err(format!("n{} answers request {} again", turn.node + 1, response.id)),
            }
        }
        Ok(())
    }

    /// At the end nothing may be left.
    pub(crate) fn check_none_left(&self) -> Verdict {
        match self.open.keys().find(|place| !self.watches.contains(place)) {
            None => Ok(()),
            Some((node, _, id)) => Err(format!("n{} never answered request {id}", node + 1)),
        }
    }
}
