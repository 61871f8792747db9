//! A state machine that remembers everything: a list of numbers, one a command.

use bytes::Bytes;
use raft_core::{ClusterTime, LogIndex};
use raft_node::{RestoreError, StateMachine};

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
    type Snapshot = View;

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

    fn revision(&self) -> u64 {
        self.numbers.len() as u64
    }

    fn begin_snapshot(&mut self) -> View {
        View { list: self.clone(), given: None }
    }

    /// First where the list stands, then its numbers.
    fn snapshot_chunk(&mut self, View { list, given }: &mut View, budget_bytes: usize) -> Option<Bytes> {
        let Some(given) = given else {
            *given = Some(0);
            let (index, stamp) = list.last;
            return Some([index.0.to_le_bytes(), stamp.0.to_le_bytes()].concat().into());
        };
        let rest = &list.numbers[*given..];
        let chunk = &rest[..rest.len().min((budget_bytes / 8).max(1))];
        *given += chunk.len();
        (!chunk.is_empty()).then(|| chunk.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    fn restore(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<Self, RestoreError> {
        let mut fields = chunks.flat_map(|chunk| {
            let numbers: Vec<u64> =
                chunk.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
            numbers
        });
        let (Some(index), Some(stamp)) = (fields.next(), fields.next()) else {
            return Err(RestoreError { reason: "it does not say where the list stands".to_owned() });
        };
        Ok(Self { last: (LogIndex(index), ClusterTime(stamp)), numbers: fields.collect() })
    }
}

/// The list as it was, and how much of it is given.
pub(crate) struct View {
    list: List,
    given: Option<usize>,
}
