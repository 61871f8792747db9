//! Who belongs to the cluster (§4.1): a function of the log.
//!
//! A configuration takes effect when its entry is in the log, committed or not, and goes with the entry when that is
//! truncated. Changing it is not built yet: today the only one is what the cluster was formed with.

use alloc::vec::Vec;

use crate::types::{Configuration, Entry, LogIndex, NodeId, Payload, Snapshot};

/// The configurations this server's log knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Membership {
    /// The one before those in the log, and where it stood: in the snapshot, or nowhere if the cluster was formed
    /// with it.
    initial: (LogIndex, Configuration),
    in_log: Vec<(LogIndex, Configuration)>,
}

impl Membership {
    pub(crate) const fn new(initial: Configuration) -> Self {
        Self { initial: (LogIndex(0), initial), in_log: Vec::new() }
    }

    /// The one in effect: the latest in the log, else the initial one.
    pub(crate) fn current(&self) -> &Configuration {
        &self.in_log.last().unwrap_or(&self.initial).1
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

    /// The one in effect in a log that ends at `index`, and where it stands. Meaningful from the snapshot on.
    pub(crate) fn at(&self, index: LogIndex) -> (LogIndex, &Configuration) {
        let latest = self.in_log.iter().rev().find(|(place, _)| *place <= index).unwrap_or(&self.initial);
        (latest.0, &latest.1)
    }

    /// The log goes on after a snapshot: what it knew is void, the snapshot's configuration is in effect.
    pub(crate) fn restart_after(&mut self, snapshot: &Snapshot) {
        self.initial = (snapshot.configuration_index, snapshot.configuration.clone());
        self.in_log.clear();
    }

    /// The log forgets everything up to `through`: the latest configuration of that part is remembered without it.
    pub(crate) fn compact(&mut self, through: LogIndex) {
        let gone = self.in_log.iter().take_while(|(index, _)| *index <= through).count();
        if let Some(latest) = self.in_log.drain(..gone).next_back() {
            self.initial = latest;
        }
    }

    /// Follows a truncation: what is no longer in the log was never in effect.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        self.in_log.retain(|(index, _)| *index < from);
    }
}
