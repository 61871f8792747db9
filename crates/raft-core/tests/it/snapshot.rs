//! What a script would take too long to tell of snapshots (§5).

use std::time::Duration;

use raft_core::{Config, Effect, LogIndex, LogPosition, RoleName, Term};

use crate::cluster::{Cluster, n};

fn propose(cluster: &mut Cluster, count: u64) {
    for command in 0..count {
        cluster.propose(n(1), &[format!("command {command}")]);
        cluster.stabilize();
    }
}

/// A snapshot that never arrives whole may be damaged where it comes from. After eight losses in a row the leader turns
/// to its latest one, from the first byte.
#[test]
fn after_many_losses_the_latest_snapshot_is_sent() {
    let mut cluster = Cluster::new(3, false, |config: &mut Config| {
        config.log_tail_bytes = 0;
        config.snapshot_chunk_bytes = 8;
    });
    cluster.wake(n(1));
    cluster.stabilize();
    assert_eq!(cluster.raft(n(1)).role(), RoleName::Leader);
    cluster.cut(n(1), n(3));
    propose(&mut cluster, 3);
    cluster.take_snapshot(n(1));
    cluster.step(n(1), raft_core::Input::Unreachable { peer: n(3) });
    cluster.events.clear();
    let mut sent = Vec::new();
    for round in 0..400 {
        cluster.pass_time(n(1), Duration::from_millis(60));
        cluster.pass_time(n(2), Duration::from_millis(60));
        cluster.stabilize();
        if round == 10 {
            propose(&mut cluster, 2);
            cluster.take_snapshot(n(1));
        }
        for event in std::mem::take(&mut cluster.events) {
            if let Effect::SendSnapshot { last, offset, .. } = event.effect {
                sent.push((last, offset));
            }
        }
    }
    let (first, latest) = (LogPosition::new(Term(1), LogIndex(4)), LogPosition::new(Term(1), LogIndex(6)));
    assert!(sent.len() > 9, "{sent:?}");
    assert_eq!(sent[..8], [(first, 0); 8]);
    assert_eq!(sent[8], (latest, 0));
}

/// All followers together get so many bytes of snapshots a second, and not much less.
#[test]
fn chunks_keep_to_their_rate() {
    const BYTES_PER_SECOND: u64 = 2_000;
    let mut cluster = Cluster::new(5, false, |config: &mut Config| {
        config.log_tail_bytes = 0;
        config.snapshot_chunk_bytes = 10;
        config.snapshot_bytes_per_second = BYTES_PER_SECOND;
    });
    cluster.wake(n(1));
    cluster.stabilize();
    let apart = [n(4), n(5)];
    apart.into_iter().for_each(|id| cluster.cut(n(1), id));
    propose(&mut cluster, 400);
    cluster.take_snapshot(n(1));
    cluster.heal();
    apart.into_iter().for_each(|peer| cluster.step(n(1), raft_core::Input::Unreachable { peer }));
    let size = cluster.nodes[&n(1)].state.len() as u64;
    let mut time = Duration::ZERO;
    while apart.iter().any(|&id| cluster.raft(id).commit_index() < LogIndex(401)) {
        let slice = Duration::from_millis(1);
        cluster.ids().into_iter().for_each(|id| cluster.pass_time(id, slice));
        cluster.stabilize();
        time += slice;
        assert!(time < Duration::from_secs(60), "the snapshot never arrives");
    }
    let expected = Duration::from_secs_f64(2.0 * size as f64 / BYTES_PER_SECOND as f64);
    assert!(time + Duration::from_millis(200) >= expected, "{size} bytes twice in {time:?}");
    assert!(time <= expected.mul_f64(1.2) + Duration::from_millis(200), "{size} bytes twice in {time:?}");
}
