//! Leases: keys that go when nobody keeps them alive.
//!
//! Owns: which leases there are, until when, and whose keys. Does not own: the keys ([`crate::store`]).
//!
//! All times are stamps (rule 6): cluster time moves with the log and stands still without a leader, and a lease that is kept
//! alive says so in the log. So no change of leader ends one early, and all replicas end it at the same entry: that of
//! [`crate::ClusterCommand::Expire`], which the leader proposes when a lease is due. Until then its keys stay.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::types::{LeaseId, Stamp};

/// All leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    /// One pair a lease: when it ends.
    by_end: BTreeSet<(Stamp, LeaseId)>,
    /// How many were ever granted: where the ids come from.
    granted: u64,
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) ttl_ns: u64,
    pub(crate) ends: Stamp,
    /// Made for one key, it goes with that.
    pub(crate) is_of_key: bool,
    pub(crate) keys: BTreeSet<Arc<[u8]>>,
}

impl Leases {
    /// All of them, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease))
    }

    /// Those from `start` on, by id.
    pub(crate) fn from(&self, start: LeaseId) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.by_id.range(start..).map(|(id, lease)| (*id, lease))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many were ever granted.
    pub(crate) const fn granted(&self) -> u64 {
        self.granted
    }

    /// The lease, if it has not come to its end by `now`.
    pub(crate) fn live(&self, id: LeaseId, now: Stamp) -> Option<&Lease> {
        self.by_id.get(&id).filter(|lease| lease.ends > now)
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// Makes a lease that ends `ttl_ns` from now.
    pub(crate) fn grant(&mut self, ttl_ns: u64, now: Stamp, is_of_key: bool) -> LeaseId {
        self.granted += 1;
        let id = LeaseId(scattered(self.granted));
        let ends = now.plus_ns(ttl_ns);
        self.by_end.insert((ends, id));
        let before = self.by_id.insert(id, Lease { ttl_ns, ends, is_of_key, keys: BTreeSet::new() });
        assert!(before.is_none(), "each lease has an id of its own");
        id
    }

    /// Lets a lease end a whole time to live from now. `false` if there is none.
    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Stamp) -> bool {
        let Some(lease) = self.by_id.get_mut(&id).filter(|lease| lease.ends > now) else { return false };
        self.by_end.remove(&(lease.ends, id));
        lease.ends = now.plus_ns(lease.ttl_ns);
        self.by_end.insert((lease.ends, id));
        true
    }

    /// Takes a lease away, whatever keys it has.
    pub(crate) fn remove(&mut self, id: LeaseId) {
        if let Some(lease) = self.by_id.remove(&id) {
            self.by_end.remove(&(lease.ends, id));
        }
    }

    /// A key that was on lease `old` is on `new` now.
    pub(crate) fn move_key(&mut self, key: &Arc<[u8]>, old: Option<LeaseId>, new: Option<LeaseId>) {
        if old == new {
            return;
        }
        if let Some(lease) = new.and_then(|id| self.by_id.get_mut(&id)) {
            lease.keys.insert(Arc::clone(key));
        }
        let Some(id) = old else { return };
        let Some(lease) = self.by_id.get_mut(&id) else { return };
        lease.keys.remove(key);
        if lease.is_of_key && lease.keys.is_empty() {
            self.remove(id);
        }
    }

    /// The lease that ends first, and when.
    pub(crate) fn first_end(&self) -> Option<(Stamp, LeaseId)> {
        self.by_end.first().copied()
    }

    /// Those that have come to their end by `now`, the first one first.
    pub(crate) fn ended(&self, now: Stamp) -> impl Iterator<Item = LeaseId> {
        self.by_end.iter().take_while(move |(ends, _)| *ends <= now).map(|(_, id)| *id)
    }

    /// Those of a snapshot, without keys: these follow by [`Self::move_key`].
    pub(crate) fn restored(granted: u64) -> Self {
        Self { granted, ..Self::default() }
    }

    /// Takes a lease from a snapshot. `false` if the id is not above those before it.
    pub(crate) fn restore(&mut self, id: LeaseId, lease: Lease) -> bool {
        let rises = self.by_id.last_key_value().is_none_or(|(last, _)| *last < id);
        if rises {
            self.by_end.insert((lease.ends, id));
            self.by_id.insert(id, lease);
        }
        rises
    }
}

/// A number for each number, far from its neighbour's: so that a slip of a digit names no other lease. The finalizer of
/// SplitMix64 (Steele, Lea and Flood 2014), which maps no two numbers to one, and 0 alone to 0.
fn scattered(number: u64) -> NonZeroU64 {
    let mut bits = number;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    NonZeroU64::new(bits).expect("0 is the image of 0 alone, and leases are counted from 1")
}
