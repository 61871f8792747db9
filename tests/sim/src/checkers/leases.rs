//! Leases end by stamps alone: no key with a time to live goes before its time, whoever leads, and all that are due go when
//! the leader says so (rule 6).
//!
//! Each such key of a run is written once, and by nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_store::{ClusterCommand, Command, Entry, KvStore, LeaseChoice, Stamp};

use super::Verdict;
use crate::coverage::{Count, Coverage};

/// The keys that have a time to live, and when it ends.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    ends: BTreeMap<Bytes, Stamp>,
}

impl Leases {
    /// An entry was applied at `now`, and has changed the store or not; `store` is the one after it.
    pub(crate) fn applied(
        &mut self,
        entry: &Entry,
        now: Stamp,
        has_changed: bool,
        store: &KvStore,
        coverage: &mut Coverage,
    ) -> Verdict {
        match entry {
            Entry::Client(envelope) => {
                if let Command::SetLeased { key, lease: LeaseChoice::Own { ttl_ms }, .. } = &envelope.command
                    && has_changed
                {
                    self.ends.insert(Bytes::copy_from_slice(key), now.plus_ns(ttl_ms * 1_000_000));
                }
            }
            Entry::Cluster(ClusterCommand::Expire) => {
                let due: Vec<Bytes> = self.ends.extract_if(.., |_, ends| *ends <= now).map(|(key, _)| key).collect();
                coverage.add(Count::Expired, due.len() as u64);
                let is_there = |key: &&Bytes| store.get_at(key, store.revision()).is_some();
                if let Some(key) = due.iter().find(is_there) {
                    return Err(format!("key {key:?} was due at {}, and has not gone", now.0));
                }
            }
            Entry::Cluster(_) => {}
        }
        match self.ends.iter().find(|(key, _)| store.get_at(key, store.revision()).is_none()) {
            Some((key, ends)) => Err(format!("key {key:?} is gone at {}, before its time: {}", now.0, ends.0)),
            None => Ok(()),
        }
    }
}
