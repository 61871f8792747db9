//! Who belongs to the cluster (§4.1): a function of the log.
//!
//! A configuration takes effect when its entry is in the log, committed or not, and goes with the entry when that is
//! truncated. Changing it is not built yet: today the only one is what the cluster was formed with.

use alloc::vec::Vec;

use crate::types::{Configuration, Entry, LogIndex, NodeId, Payload};

/// The configurations this server's log knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Membership {
    initial: Configuration,
    in_log: Vec<(LogIndex, Configuration)>,
}

impl Membership {
    pub(crate) const fn new(initial: Configuration) -> Self {
        Self { initial, in_log: Vec::new() }
    }

    /// The one in effect: the latest in the log, else the initial one.
    pub(crate) fn current(&self) -> &Configuration {
        self.in_log.last().map_or(&self.initial, |(_, configuration)| configuration)
    }

    pub(crate) fn voters(&self) -> impl Iterator<Item = NodeId> + Clone {
        self.current().members.keys().copied()
    }

    pub(crate) fn is_voter(&self, id: NodeId) -> bool {
        self.current().members.contains_key(&id)
    }

    /// Follows an entry that was appended.
    pub(crate) fn append(&mut self, entry: &Entry) {
        if let Payload::Configuration(configuration) = &entry.payload {
            self.in_log.push((entry.position.index, configuration.clone()));
        }
    }

    /// Follows a truncation: what is no longer in the log was never in effect.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        self.in_log.retain(|(index, _)| *index < from);
    }
}
