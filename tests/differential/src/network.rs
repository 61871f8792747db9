//! What is between the servers: links that are whole or cut, in both directions.

use std::collections::BTreeSet;

/// The links that are cut. What is sent over one is lost, and both its ends are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    cut: BTreeSet<(u64, u64)>,
}

impl Network {
    pub(crate) fn cut(&mut self, one: u64, other: u64) {
        self.cut.insert(Self::link(one, other));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn is_whole(&self, one: u64, other: u64) -> bool {
        !self.cut.contains(&Self::link(one, other))
    }

    fn link(one: u64, other: u64) -> (u64, u64) {
        (one.min(other), one.max(other))
    }
}
