//! Where a scope begins: what has happened by then, of which nothing is searched.

use raft_core::{ClusterTime, Entry, HardState, LogIndex, LogPosition, NodeId, Payload, Term};

use crate::cluster::{Cluster, Leaders};
use crate::model::Plant;
use crate::scopes::{Budget, Start, Wish};
use crate::server::{Disk, founders, newcomer};

/// The state a search begins with.
pub(crate) fn begin(start: Start, budget: Budget) -> Cluster {
    match start {
        Start::Fresh => {
            let mut cluster = Cluster::new(founders().map(empty), Vec::new(), budget);
            // Their ids tell servers apart, and nothing else: the first to stand may as well be the first.
            cluster.budget.timeouts -= 1;
            stand(&mut cluster);
            cluster
        }
        Start::TwoTermsIn => {
            let (disks, leaders) = two_terms_in();
            Cluster::new(disks, leaders, budget)
        }
        Start::Led => led(founders(), budget),
        Start::Newcomer => led(founders().chain([newcomer()]), budget),
        Start::Learner => {
            let mut cluster = led(founders().chain([newcomer()]), budget);
            for leader in founders().take(1) {
                cluster.change(leader, Wish::TakeIn, Plant::Nothing);
            }
            settle(&mut cluster);
            rest(&mut cluster);
            cluster
        }
    }
}

fn empty(id: NodeId) -> (NodeId, Disk) {
    (id, Disk::default())
}

/// What [`Start::Led`] is about, of these servers.
fn led(ids: impl Iterator<Item = NodeId>, budget: Budget) -> Cluster {
    let mut cluster = Cluster::new(ids.map(empty), Vec::new(), budget);
    stand(&mut cluster);
    settle(&mut cluster);
    rest(&mut cluster);
    cluster
}

/// The timer of n1 runs out.
fn stand(cluster: &mut Cluster) {
    for first in founders().take(1) {
        cluster.tick(first, cluster.server(first).raft.next_wakeup(), Plant::Nothing);
    }
}

/// Whatever is under way, to a disk or to a server, gets there.
fn settle(cluster: &mut Cluster) {
    loop {
        let busy = cluster.servers().find(|server| !server.under_way.is_empty()).map(|server| server.raft.id());
        let envelope = cluster.messages().next().cloned();
        if let Some(id) = busy {
            cluster.persist(id, Plant::Nothing);
        } else if let Some(envelope) = envelope {
            cluster.take_off_the_network(&envelope);
            cluster.deliver(&envelope, Plant::Nothing);
        } else {
            return;
        }
    }
}

/// T passes for all but the leader.
fn rest(cluster: &mut Cluster) {
    let others: Vec<NodeId> = cluster.servers().map(|server| server.raft.id()).skip(1).collect();
    for id in others {
        cluster.age(id);
    }
}

/// What [`Start::TwoTermsIn`] left on the disks, and who led.
fn two_terms_in() -> (Vec<(NodeId, Disk)>, Leaders) {
    let (first, second) = (Term(1), Term(2));
    let led = |term| {
        let position = LogPosition::new(term, LogIndex(1));
        vec![Entry { position, stamp: ClusterTime(0), payload: Payload::Noop }]
    };
    let leaders: Leaders = [first, second].into_iter().zip(founders()).collect();
    // In order of ids: the leader of term 1, that of term 2, and the server that voted for the second.
    let chosen = leaders.iter().map(|(_, id)| *id).chain(leaders.last().map(|(_, id)| *id));
    let rest = [(first, led(first)), (second, led(second)), (second, Vec::new())];
    let disks = founders().zip(chosen).zip(rest).map(|((id, chosen), (term, entries))| {
        (id, Disk { hard_state: HardState { term, voted_for: Some(chosen) }, entries })
    });
    (disks.collect(), leaders)
}
