//! Full disks (F8): what is new is refused with its reason, what was taken is finished, reads go on, and so does everything
//! once there is space.

use std::time::Duration;

use raft_core::{Entry, LogIndex, LogPosition, NodeId, Payload, Term, Write, WriteNumber};
use raft_node::{Answer, DiskDone, DiskJob, DiskQueue, Failure, PeerMessage};
use raft_storage::{Disk as _, MIN_SEGMENT_BYTES, MemDisk, Options, Storage};

use crate::cluster::{Cluster, PATIENCE, n};
use crate::requests::{applied_at, followers};

const REFUSED: Answer = Answer::Failed(Failure::NoSpace);

/// Writes until the disks of `full` have noticed that there is no space; gives how many commands are applied by then.
fn fill(cluster: &mut Cluster, full: &[NodeId]) -> u64 {
    full.iter().for_each(|&id| cluster.fill_disk(id));
    for _ in 0..100 {
        if full.iter().all(|&id| cluster.replica(id).is_disk_full()) {
            cluster.run_for(Duration::from_secs(2));
            let leader = cluster.leader();
            return cluster.replica(leader).machine().numbers.len() as u64;
        }
        let at = cluster.leader();
        cluster.propose_more(at, PATIENCE);
        cluster.flush(at);
        cluster.run_for(Duration::from_millis(20));
    }
    panic!("the disks of {full:?} are never full");
}

/// There is space again, and each disk has looked. Gives how many commands are applied: what had found no space is done.
fn free(cluster: &mut Cluster, full: &[NodeId]) -> u64 {
    for &id in full {
        cluster.free_disk(id);
        cluster.look_for_space(id);
    }
    // Until nobody believes it any more.
    cluster.run_for(Duration::from_secs(4));
    let leader = cluster.leader();
    cluster.replica(leader).machine().numbers.len() as u64
}

fn transfers_begun(cluster: &Cluster) -> u64 {
    cluster.ids().into_iter().map(|id| cluster.replica(id).status().counters.transfers_begun).sum()
}

#[test]
fn a_full_follower_costs_the_cluster_nothing_and_catches_up() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, [full, _]) = (cluster.leader(), followers(&cluster));
    let applied = fill(&mut cluster, &[full]);
    for more in 1..=10 {
        let request = cluster.propose(cluster.ids()[more % 3]);
        assert_eq!(applied_at(&cluster.wait_for(request)), applied + more as u64);
    }
    assert_eq!((cluster.leader(), transfers_begun(&cluster)), (leader, 0));
    assert!(cluster.running(full).queue.waiting() > 0, "it does not acknowledge what it cannot write");
    free(&mut cluster, &[full]);
    assert!(!cluster.replica(full).is_disk_full());
    let log = |id| cluster.replica(id).raft().unwrap().durable_index();
    assert_eq!(log(full), log(leader));
}

#[test]
fn a_full_leader_hands_over_and_the_cluster_goes_on_writing() {
    let mut cluster = Cluster::formed(3, 1);
    let full = cluster.leader();
    let applied = fill(&mut cluster, &[full]);
    cluster.settle();
    assert_ne!(cluster.leader(), full);
    assert_eq!(transfers_begun(&cluster), 1);
    for (more, id) in (1..).zip(cluster.ids()) {
        let request = cluster.propose(id);
        assert_eq!(applied_at(&cluster.wait_for(request)), applied + more, "asked {id}");
    }
}

#[test]
fn on_full_disks_nothing_is_written_everything_is_read_and_the_leadership_stays() {
    let mut cluster = Cluster::formed(3, 1);
    let all = cluster.ids();
    let applied = fill(&mut cluster, &all);
    let begun = transfers_begun(&cluster);
    for _ in 0..20 {
        for &id in &all {
            let (write, read) = (cluster.propose(id), cluster.read(id));
            assert_eq!(cluster.wait_for(write), REFUSED, "asked {id}");
            assert_eq!(cluster.wait_for(read), Answer::ReadReady, "asked {id}");
            assert_eq!(cluster.seen(read).len() as u64, applied);
        }
        cluster.run_for(Duration::from_secs(1));
    }
    assert!(!Failure::NoSpace.maybe_applied());
    assert_eq!(transfers_begun(&cluster), begun, "nobody could do better");
    assert!(begun <= 2, "{begun} transfers while the disks filled up");
    let applied = free(&mut cluster, &all);
    for (more, &id) in (1..).zip(&all) {
        let request = cluster.propose(id);
        assert_eq!(applied_at(&cluster.wait_for(request)), applied + more, "asked {id}");
    }
}

#[test]
fn a_leader_with_space_refuses_what_no_majority_could_write() {
    let mut cluster = Cluster::formed(3, 1);
    let leader = cluster.leader();
    let full = followers(&cluster);
    fill(&mut cluster, &full);
    let request = cluster.propose(leader);
    assert_eq!(cluster.wait_for(request), REFUSED);
    assert_eq!(transfers_begun(&cluster), 0);
    let applied = free(&mut cluster, &full[..1]);
    let request = cluster.propose(leader);
    assert_eq!(applied_at(&cluster.wait_for(request)), applied + 1, "one of them is enough");
}

#[test]
fn the_word_of_a_full_disk_holds_for_three_seconds_and_strangers_are_not_believed() {
    let mut cluster = Cluster::formed(3, 1);
    let (leader, [one, other]) = (cluster.leader(), followers(&cluster));
    for peer in [one, other] {
        let from = cluster.running(peer).identity;
        cluster.with(leader, |replica, now| replica.handle_peer(now, from, PeerMessage::DiskFull, &mut || 1));
    }
    let request = cluster.propose(leader);
    assert_eq!(cluster.answer(request), Some(&REFUSED));
    cluster.run_for(Duration::from_millis(2_900));
    let request = cluster.propose(leader);
    assert_eq!(cluster.answer(request), Some(&REFUSED));
    cluster.run_for(Duration::from_millis(200));
    for peer in [one, other] {
        let mut from = cluster.running(peer).identity;
        from.disk = raft_core::DiskId(77);
        cluster.with(leader, |replica, now| replica.handle_peer(now, from, PeerMessage::DiskFull, &mut || 1));
    }
    let request = cluster.propose(leader);
    applied_at(&cluster.wait_for(request));
}

#[test]
fn the_word_travels_as_a_frame() {
    assert_eq!(PeerMessage::from_frame(PeerMessage::DiskFull.to_frame()).unwrap(), PeerMessage::DiskFull);
    assert_eq!(PeerMessage::DiskFull.to_frame().header.as_ref(), [5]);
}

// --- the queue ---------------------------------------------------------------------------------------------------

fn storage(disk: &MemDisk) -> Storage<MemDisk> {
    let mut id = 0;
    let random = move || {
        id += 1;
        id
    };
    let options = Options { segment_size_bytes: MIN_SEGMENT_BYTES, random: Box::new(random), ..Options::new(n(1)) };
    Storage::open(disk.clone(), options).unwrap().0
}

fn job(number: u64) -> DiskJob {
    let position = LogPosition::new(Term(1), LogIndex(number));
    let payload = Payload::Command(vec![7; 900].into());
    let entries = vec![Entry { position, stamp: raft_core::ClusterTime(number), payload }];
    let hard_state = Some(raft_core::HardState { term: Term(1), voted_for: None });
    let number = WriteNumber(number);
    DiskJob::Write(Write { number, hard_state, restart_after: None, truncate_from: None, entries })
}

#[test]
fn jobs_wait_in_order_and_what_frees_space_overtakes_them() {
    let disk = MemDisk::new();
    let mut storage = storage(&disk);
    let mut queue = DiskQueue::new(&storage);
    for number in 1..=10 {
        let done = queue.work_off(&mut storage, vec![job(number)]).unwrap();
        assert_eq!(done, [DiskDone::Persisted(WriteNumber(number))]);
    }
    disk.lose("ballast");
    disk.set_capacity(Some(disk.used_bytes()));
    let mut next = 11;
    while !queue.is_full() {
        queue.work_off(&mut storage, vec![job(next)]).unwrap();
        next += 1;
    }
    assert_eq!(queue.waiting(), 1);
    assert_eq!(queue.work_off(&mut storage, vec![job(next), job(next + 1)]).unwrap(), []);
    assert_eq!(queue.retry(&mut storage).unwrap(), []);
    assert_eq!(queue.waiting(), 3);
    let segments = |disk: &MemDisk| disk.list().unwrap().iter().filter(|name| name.starts_with("log-")).count();
    let before = segments(&disk);
    assert_eq!(queue.work_off(&mut storage, vec![DiskJob::Compact { through: LogIndex(9) }]).unwrap(), []);
    assert!(segments(&disk) < before, "that needs no space, and gives some");
    let done = queue.retry(&mut storage).unwrap();
    assert_eq!(done[0], DiskDone::Persisted(WriteNumber(next + 1)), "{done:?}");
    assert_eq!(queue.waiting(), 0);
    disk.set_capacity(None);
    queue.retry(&mut storage).unwrap();
    assert!(!queue.is_full());
}
