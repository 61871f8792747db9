//! A state machine that remembers everything: a list of numbers, one a command.

use bytes::Bytes;
use raft_core::{ClusterTime, LogIndex};
use raft_node::StateMachine;

/// The numbers applied, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) numbers: Vec<u64>,
    last: (LogIndex, ClusterTime),
}

/// Appends `number`; the reply is the length of the list after it.
pub(crate) fn command(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// What [`List::apply`] replied.
pub(crate) fn length_in(reply: &[u8]) -> u64 {
    u64::from_le_bytes(reply.try_into().expect("a reply of the list"))
}

impl StateMachine for List {
    fn apply(&mut self, index: LogIndex, stamp: ClusterTime, command: &Bytes) -> Bytes {
        let (last_index, last_stamp) = self.last;
        assert!(
            index > last_index && stamp >= last_stamp,
            "{index} after {last_index}, {stamp:?} after {last_stamp:?}"
        );
        self.last = (index, stamp);
        self.numbers.push(u64::from_le_bytes(command[..8].try_into().unwrap()));
        Bytes::copy_from_slice(&(self.numbers.len() as u64).to_le_bytes())
    }
}
