//! A server that has much to apply, as after a restart, does it in steps: between them it hears and sends heartbeats.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    ClusterId, ClusterTime, Config, Configuration, DiskId, Entry, HardState, Incarnation, Instant, LogIndex,
    LogPosition, Member, NodeId, Payload, Restored, Term,
};
use raft_node::{DiskDone, DiskJob, Replica, ReplicaConfig, RestoreError, Small, SmallMachine};
use raft_storage::Formation;

struct Counting(u64);

impl SmallMachine for Counting {
    fn apply(&mut self, _: LogIndex, _: ClusterTime, _: &Bytes) -> Bytes {
        self.0 += 1;
        Bytes::new()
    }

    fn revision(&self) -> u64 {
        self.0
    }

    fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn decode(state: &[u8]) -> Result<Self, RestoreError> {
        let count = state.try_into().map_err(|_| RestoreError { reason: "no count".to_owned() })?;
        Ok(Self(u64::from_le_bytes(count)))
    }
}

#[test]
fn a_long_log_is_applied_in_steps_and_nothing_is_left_out() {
    const ENTRIES: u64 = 5_000;
    let id = NodeId::new(1).unwrap();
    let member = Member { disk: DiskId(7), address: "127.0.0.1:1".to_owned() };
    let configuration = Configuration::of_voters([(id, member)]);
    let formation = Formation { cluster: ClusterId(9), configuration, formed: true };
    let entry = |index| Entry {
        position: LogPosition::new(Term(1), LogIndex(index)),
        stamp: ClusterTime(index),
        payload: Payload::Command(Bytes::from_static(b"one")),
    };
    let restored = Restored {
        hard_state: HardState { term: Term(1), voted_for: None },
        entries: (1..=ENTRIES).map(entry).collect(),
        ..Restored::default()
    };
    let config = ReplicaConfig {
        disk: DiskId(7),
        listed: BTreeMap::new(),
        address: "n1:1".to_owned(),
        protocol: Config::new(id, DiskId(7), Incarnation(2), 3),
        snapshot_threshold_bytes: u64::MAX,
    };
    let mut replica: Replica<Small<Counting>, ()> =
        Replica::new(config, Some(&formation), restored, Small(Counting(0)), Instant(0)).unwrap();

    let mut now = Instant(0);
    let mut most_at_once = 0;
    for _ in 0..1_000 {
        now = now.max(replica.next_wakeup());
        let before = replica.machine().0.0;
        replica.tick(now, &mut || 0);
        let outputs = replica.flush(now);
        most_at_once = most_at_once.max(replica.machine().0.0 - before);
        for job in outputs.jobs {
            if let DiskJob::Write(write) = job {
                replica.handle_disk(now, DiskDone::Persisted(write.number));
            }
        }
        if replica.machine().0.0 == ENTRIES {
            assert!(most_at_once <= ENTRIES / 2, "{most_at_once} of {ENTRIES} entries at once");
            return;
        }
    }
    panic!("applied {} of {ENTRIES} entries", replica.machine().0.0);
}
