//! The network between servers: connections that are made, broken and cut, and what happens to what is sent on them.
//!
//! It is unkinder than TCP: within a connection messages of the protocol may be lost, repeated and overtaken. What TCP
//! promises and the node relies on stays: nothing reaches another incarnation than the one the handshake was done with,
//! and a command that is passed on arrives once at most.

use raft_net::LinkKind;

use crate::time::Time;

/// Both links of a pair.
pub(crate) const KINDS: [LinkKind; 2] = [LinkKind::Control, LinkKind::Bulk];

/// One directed connection, or its absence.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    /// The processes at its ends, if it is up.
    pub(crate) up: Option<(u64, u64)>,
    /// Until when what was sent last is on its way.
    pub(crate) busy_until: Time,
}

/// All connections between servers.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    links: Vec<Link>,
    /// How many partitions cut each directed pair.
    cuts: Vec<u32>,
    /// How much longer the way of each directed pair is.
    slow: Vec<Time>,
    /// How many storms there are.
    pub(crate) storms: u32,
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Self {
        let pairs = nodes * nodes;
        Self { nodes, links: vec![Link::default(); pairs * 2], cuts: vec![0; pairs], slow: vec![0; pairs], storms: 0 }
    }

    const fn pair(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    pub(crate) fn link(&mut self, from: usize, to: usize, kind: LinkKind) -> &mut Link {
        let place = self.pair(from, to) * 2 + usize::from(kind == LinkKind::Bulk);
        self.links.get_mut(place).expect("both ends are servers")
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.get(self.pair(from, to)).is_some_and(|&cuts| cuts > 0)
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        let pair = self.pair(from, to);
        if let Some(cuts) = self.cuts.get_mut(pair) {
            *cuts += 1;
        }
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        let pair = self.pair(from, to);
        if let Some(cuts) = self.cuts.get_mut(pair) {
            *cuts = cuts.saturating_sub(1);
        }
    }

    pub(crate) fn slowness(&self, from: usize, to: usize) -> Time {
        self.slow.get(self.pair(from, to)).copied().unwrap_or_default()
    }

    pub(crate) fn set_slowness(&mut self, from: usize, to: usize, extra: Time) {
        let pair = self.pair(from, to);
        if let Some(slow) = self.slow.get_mut(pair) {
            *slow = extra;
        }
    }

    /// Whether everything between two servers passes at once, both ways.
    pub(crate) fn is_open(&self, one: usize, other: usize) -> bool {
        [(one, other), (other, one)].into_iter().all(|(from, to)| {
            let first = self.pair(from, to) * 2;
            let are_up =
                self.links.get(first..first + 2).is_some_and(|links| links.iter().all(|link| link.up.is_some()));
            are_up && !self.is_cut(from, to) && self.slowness(from, to) == 0
        })
    }

    /// All is well again.
    pub(crate) fn heal(&mut self) {
        self.cuts.fill(0);
        self.slow.fill(0);
        self.storms = 0;
    }
}
