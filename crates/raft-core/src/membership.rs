//! Which configuration is in effect (§4.1): a function of the log.
//!
//! A configuration takes effect when its entry is in the log, committed or not, and goes with the entry when that is
//! truncated. What a configuration is: `configuration`. How the leader changes it: `change`.

use alloc::vec::Vec;

use crate::configuration::Configuration;
use crate::types::{DiskId, Entry, LogIndex, NodeId, Payload, Snapshot};

/// The configurations this server's log knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Membership {
    /// The one before those in the log, and where it stood: in the snapshot, or nowhere if the cluster was formed
    /// with it.
    initial: (LogIndex, Configuration),
    /// In the order of the log. All but the last are committed: a leader begins a change after the one before.
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

    /// The entry it came with; 0 for the one the cluster was formed with.
    pub(crate) fn index(&self) -> LogIndex {
        self.in_log.last().unwrap_or(&self.initial).0
    }

    /// The one before it, if that may still be in effect elsewhere: the current one is not known to be committed.
    pub(crate) fn before_uncommitted(&self, commit: LogIndex) -> Option<&(LogIndex, Configuration)> {
        let ((index, _), earlier) = self.in_log.split_last()?;
        (*index > commit).then(|| earlier.last().unwrap_or(&self.initial))
    }

    /// Whether the server `id` with `disk` may stand for election: it votes in the current configuration, or did in
    /// the one before and the current one is not known to be committed. Without its standing that one might never be
    /// (§4.2.2): others may lack an entry that it holds, and so not get its vote. Its own vote counts where it is a
    /// voter.
    pub(crate) fn may_stand(&self, id: NodeId, disk: DiskId, commit: LogIndex) -> bool {
        let votes = |configuration: &Configuration| configuration.has(id, disk) && configuration.is_voter(id);
        votes(self.current()) || self.before_uncommitted(commit).is_some_and(|(_, before)| votes(before))
    }

    /// Whether the current configuration is committed and knows nothing of `id` with `disk`.
    pub(crate) fn has_left_out(&self, id: NodeId, disk: DiskId, commit: LogIndex) -> bool {
        let current = self.current();
        self.index() <= commit && !current.is_empty() && !current.has(id, disk)
    }

    /// Follows an entry that was appended.
    ///
    /// Returns whether another configuration is in effect.
    pub(crate) fn append(&mut self, entry: &Entry) -> bool {
        let Payload::Configuration(configuration) = &entry.payload else { return false };
        self.in_log.push((entry.position.index, configuration.clone()));
        true
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
    ///
    /// Returns whether another configuration is in effect.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) -> bool {
        let count = self.in_log.len();
        self.in_log.retain(|(index, _)| *index < from);
        self.in_log.len() < count
    }
}
