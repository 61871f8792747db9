//! Long random runs: messages lost, doubled and out of order, disks that lag, crashes, cut links, clocks that part.
//!
//! `safety` judges every effect of every step. Then all faults end, and within a bounded time, without a new
//! proposal, everybody must agree; then the cluster must serve a write and a read.
//!
//! One number decides everything about a run. A run that fails names its seed; to play it again:
//! `SEED=17 cargo test -p raft-core random::one_seed -- --nocapture` prints its last effects.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use raft_core::{Config, DiskId, Effect, Input, LogIndex, MemberChange, NodeId};
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

use crate::cluster::{Cluster, member_on, n};
use crate::safety::Safety;

/// How many runs, and how long each.
const SEEDS: u64 = 1_000;
const STEPS: usize = 3_000;

/// Ten times the longest election timeout.
const TIME_TO_AGREE: Duration = Duration::from_secs(3);

/// What can happen in one step of a run.
#[derive(Clone, Copy, Debug)]
enum Action {
    Deliver,
    DeliverOutOfOrder,
    Drop,
    Duplicate,
    Persist,
    PersistOne,
    TimeForAll,
    TimeForOne,
    Propose,
    ProposeAnywhere,
    Read,
    Restart,
    Cut,
    Heal,
    Unreachable,
    Transfer,
    Snapshot,
    Change,
    Wipe,
    Pause,
}

/// Each action with its usual weight. Each run varies them: what is rare on average is common somewhere.
const ACTIONS: [(Action, u64); 20] = [
    (Action::Deliver, 500),
    (Action::DeliverOutOfOrder, 20),
    (Action::Drop, 10),
    (Action::Duplicate, 10),
    (Action::Persist, 150),
    (Action::PersistOne, 50),
    (Action::TimeForAll, 100),
    (Action::TimeForOne, 10),
    (Action::Propose, 60),
    (Action::ProposeAnywhere, 5),
    (Action::Read, 40),
    (Action::Restart, 3),
    (Action::Cut, 5),
    (Action::Heal, 5),
    (Action::Unreachable, 3),
    (Action::Transfer, 3),
    (Action::Snapshot, 40),
    (Action::Change, 40),
    (Action::Wipe, 4),
    (Action::Pause, 5),
];

struct Run {
    random: Pcg64Mcg,
    cluster: Cluster,
    /// A server that stands still, as if stopped by a signal, for so many steps: nothing reaches it and its time stops,
    /// while what is on its way to it waits.
    paused: Option<(NodeId, usize)>,
    weights: [u64; ACTIONS.len()],
    commands: u64,
    trace: DefaultHasher,
    snapshots_installed: u64,
    changes_accepted: u64,
    /// A server that lost its disk and is no voter with the new one yet (rule 2). One at a time, of those that a majority
    /// can do without; and as long as it lasts nobody asks for another change, as no operator should.
    wiped: Option<(NodeId, DiskId)>,
    disks_wiped: u64,
    last_events: Vec<String>,
}

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    trace: u64,
    leaders_elected: usize,
    committed: LogIndex,
    reads_answered: u64,
    snapshots_installed: u64,
    changes_accepted: u64,
    disks_wiped: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Pcg64Mcg::new(0x9E37_79B9_7F4A_7C15_u128 * (u128::from(seed) + 1));
        let mut pick = |choices: &[u64]| choices[usize::try_from(random.next_u64()).unwrap_or(0) % choices.len()];
        let nodes = pick(&[3, 3, 5, 5, 1, 2, 4]);
        let (append_bytes, messages) = (pick(&[1, 100, 1 << 20]), pick(&[1, 3, 256]));
        let (tail, chunk) = (pick(&[0, 0, 200, 8 << 20]), pick(&[7, 100, 1 << 20]));
        let weights = ACTIONS.map(|(_, weight)| weight * pick(&[0, 1, 1, 1, 3]));
        let strangers = pick(&[0, 1, 2, 2]);
        let (uncommitted, unsynced) = (pick(&[1, 300, 128 << 20]), pick(&[1, 300, 128 << 20]));
        let writes = pick(&[1, 4, 8_000]);
        let mut cluster = Cluster::new(nodes, true, |config: &mut Config| {
            config.seed = config.seed.wrapping_add(seed.wrapping_mul(1_000_003));
            config.max_append_bytes = usize::try_from(append_bytes).unwrap();
            config.max_inflight_messages = usize::try_from(messages).unwrap();
            config.max_uncommitted_bytes = usize::try_from(uncommitted).unwrap();
            config.max_unsynced_bytes = usize::try_from(unsynced).unwrap();
            config.max_unsynced_writes = usize::try_from(writes).unwrap();
            config.log_tail_bytes = usize::try_from(tail).unwrap();
            config.snapshot_chunk_bytes = usize::try_from(chunk).unwrap();
        });
        for id in nodes + 1..=nodes + strangers {
            cluster.start_new(n(id), DiskId(u128::from(id)));
        }
        Self {
            random,
            cluster,
            paused: None,
            weights,
            commands: 0,
            trace: DefaultHasher::new(),
            snapshots_installed: 0,
            changes_accepted: 0,
            wiped: None,
            disks_wiped: 0,
            last_events: Vec::new(),
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random.next_u64() % limit as u64).unwrap()
    }

    /// Any server that runs; a paused one if there is no other.
    fn any_node(&mut self) -> NodeId {
        let mut ids = self.cluster.ids();
        if ids.len() > 1 {
            ids.retain(|&id| !self.is_paused(id));
        }
        ids[self.below(ids.len())]
    }

    fn is_paused(&self, id: NodeId) -> bool {
        self.paused.is_some_and(|(paused, _)| paused == id)
    }

    /// A paused server that goes on asks at once whether it still leads: a read meets the answers that waited.
    fn pass_pause(&mut self) {
        if let Some((id, steps)) = self.paused {
            self.paused = (steps > 0).then(|| (id, steps - 1));
            if self.paused.is_none() {
                self.cluster.read(id);
            }
        }
    }

    fn any_busy_link(&mut self) -> Option<(NodeId, NodeId)> {
        let mut links = self.cluster.busy_links();
        links.retain(|(to, _)| !self.is_paused(*to));
        if links.is_empty() { None } else { Some(links[self.below(links.len())]) }
    }

    fn any_message(&mut self) -> Option<(NodeId, NodeId, usize)> {
        let (to, from) = self.any_busy_link()?;
        let length = self.cluster.queue(to, from).len();
        Some((to, from, self.below(length)))
    }

    fn any_action(&mut self) -> Action {
        let total: u64 = self.weights.iter().sum();
        let mut point = self.random.next_u64() % total.max(1);
        for ((action, _), weight) in ACTIONS.iter().zip(self.weights) {
            if point < weight {
                return *action;
            }
            point -= weight;
        }
        Action::TimeForAll
    }

    fn commands(&mut self) -> Vec<String> {
        let count = self.below(3) + 1;
        self.commands += count as u64;
        (0..count as u64).map(|place| format!("command {}", self.commands - place)).collect()
    }

    fn act(&mut self) {
        self.pass_pause();
        self.note_replaced();
        match self.any_action() {
            Action::Deliver => {
                if let Some((to, from)) = self.any_busy_link() {
                    self.cluster.deliver_one(to, from);
                }
            }
            Action::DeliverOutOfOrder => {
                if let Some((to, from, place)) = self.any_message()
                    && let Some(packet) = self.cluster.queue(to, from).remove(place)
                {
                    self.cluster.queue(to, from).push_front(packet);
                    self.cluster.deliver_one(to, from);
                }
            }
            Action::Drop => {
                if let Some((to, from, place)) = self.any_message() {
                    self.cluster.queue(to, from).remove(place);
                }
            }
            Action::Duplicate => {
                if let Some((to, from, place)) = self.any_message() {
                    let copy = self.cluster.queue(to, from)[place].clone();
                    self.cluster.queue(to, from).push_back(copy);
                }
            }
            Action::Persist => {
                let id = self.any_node();
                self.cluster.persist(id, usize::MAX);
            }
            Action::PersistOne => {
                let id = self.any_node();
                self.cluster.persist(id, 1);
            }
            Action::TimeForAll => {
                let time = Duration::from_micros(self.below(20_000) as u64);
                for id in self.cluster.ids() {
                    if !self.is_paused(id) {
                        self.cluster.pass_time(id, time);
                    }
                }
            }
            Action::TimeForOne => {
                let (id, time) = (self.any_node(), Duration::from_millis(self.below(400) as u64));
                self.cluster.pass_time(id, time);
            }
            Action::Propose => {
                let (commands, id) = (self.commands(), self.any_node());
                let id = self.cluster.leader().filter(|&leader| !self.is_paused(leader)).unwrap_or(id);
                self.cluster.propose(id, &commands);
            }
            Action::ProposeAnywhere => {
                let (commands, id) = (self.commands(), self.any_node());
                self.cluster.propose(id, &commands);
            }
            Action::Read => {
                let id = self.any_node();
                self.cluster.read(id);
            }
            Action::Restart => {
                let id = self.any_node();
                self.cluster.restart(id);
            }
            Action::Cut => {
                let (from, to) = (self.any_node(), self.any_node());
                self.cluster.cut(from, to);
            }
            Action::Heal => self.cluster.heal(),
            Action::Unreachable => {
                let (id, peer) = (self.any_node(), self.any_node());
                self.cluster.step(id, Input::Unreachable { peer });
            }
            Action::Transfer => self.transfer(),
            Action::Snapshot => self.snapshot(),
            Action::Change => self.change(),
            Action::Wipe => self.wipe(),
            Action::Pause => self.pause(),
        }
    }

    /// To anybody, itself and the dead included, or to whom the leader chooses.
    fn snapshot(&mut self) {
        let id = self.any_node();
        self.cluster.take_snapshot(id);
    }

    fn pause(&mut self) {
        let (id, steps) = (self.any_node(), self.below(1_000));
        self.paused = Some((self.cluster.leader().unwrap_or(id), steps));
    }

    /// One or two wishes about anybody, members and strangers, asked of the leader.
    fn change(&mut self) {
        let count = self.below(2) + 1;
        let changes = match self.wiped {
            Some((id, disk)) => vec![MemberChange::Replace { id, member: member_on(id, disk) }],
            None => (0..count).map(|_| self.any_change()).collect(),
        };
        let asked = self.cluster.leader().filter(|&leader| !self.is_paused(leader));
        let id = asked.unwrap_or_else(|| self.any_node());
        self.cluster.change(id, changes);
    }

    /// Takes a voter's disk, if all members agree on who votes and the others are a majority.
    fn wipe(&mut self) {
        let (id, Some(leader)) = (self.any_node(), self.cluster.leader()) else { return };
        let raft = self.cluster.raft(leader);
        let (configuration, index) = (raft.configuration(), raft.configuration_index());
        let agree = self.cluster.members().into_iter().all(|id| self.cluster.raft(id).configuration_index() == index);
        let disk = self.cluster.nodes[&id].config.disk;
        let is_voter = configuration.has(id, disk) && configuration.is_voter(id);
        if self.wiped.is_none() && self.cluster.is_settled() && agree && is_voter && configuration.voters().count() > 2
        {
            let disk = DiskId(disk.0 + 100);
            self.cluster.start_new(id, disk);
            self.wiped = Some((id, disk));
            self.disks_wiped += 1;
        }
    }

    /// Whether the server that lost its disk votes again.
    fn note_replaced(&mut self) {
        if let (Some((id, disk)), Some(leader)) = (self.wiped, self.cluster.leader()) {
            let configuration = self.cluster.raft(leader).configuration();
            if configuration.has(id, disk) && self.cluster.is_settled() && configuration.is_voter(id) {
                self.wiped = None;
            }
        }
    }

    fn any_change(&mut self) -> MemberChange {
        let ids = self.cluster.ids();
        let id = ids[self.below(ids.len())];
        let disk = self.cluster.nodes[&id].config.disk;
        let member = |id| member_on(id, disk);
        match self.below(6) {
            0 => MemberChange::Promote { id },
            1 => MemberChange::Demote { id },
            2 => MemberChange::Remove { id },
            3 => MemberChange::AddLearner { id, member: member(id), becomes_voter: false },
            _ => MemberChange::AddLearner { id, member: member(id), becomes_voter: true },
        }
    }

    fn transfer(&mut self) {
        let (id, to) = (self.any_node(), self.any_node());
        let id = self.cluster.leader().unwrap_or(id);
        let to = Some(to).filter(|_| self.below(2) == 0);
        self.cluster.step(id, Input::Transfer { to });
    }

    fn note_events(&mut self) {
        for event in std::mem::take(&mut self.cluster.events) {
            event.hash(&mut self.trace);
            self.snapshots_installed += u64::from(matches!(event.effect, Effect::SnapshotInstalled { .. }));
            self.changes_accepted += u64::from(matches!(event.effect, Effect::ChangeAccepted { .. }));
            if std::env::var_os("SEED").is_some() {
                self.last_events.push(event.to_string());
            }
        }
    }

    /// All faults end. Everybody must agree in time, without a new proposal; then the cluster must serve.
    fn heal_and_agree(&mut self) {
        self.paused = None;
        self.cluster.heal();
        self.replace_wiped();
        let hands_over = |cluster: &Cluster| cluster.nodes.values().any(|node| node.raft.transfers_to().is_some());
        self.pass_time_until("everybody agrees, and no change is under way", |cluster| {
            cluster.agrees() && cluster.is_settled() && !hands_over(cluster)
        });
        let leader = self.cluster.leader().unwrap();
        let committed = self.cluster.safety.committed_index().next();
        let members = self.cluster.members();
        let answered = self.cluster.safety.reads_answered + members.len() as u64;
        self.cluster.propose(leader, &["after".to_owned()]);
        members.into_iter().for_each(|id| self.cluster.read(id));
        self.pass_time_until("a write is committed and each node answers a read", |cluster| {
            cluster.safety.committed_index() == committed && cluster.safety.reads_answered >= answered
        });
    }

    /// Asks for the new disk to be taken in until it is.
    fn replace_wiped(&mut self) {
        let mut time = Duration::ZERO;
        self.note_replaced();
        while let Some((id, disk)) = self.wiped {
            assert!(time < 2 * TIME_TO_AGREE, "{id} does not vote again after {} ms", time.as_millis());
            if let Some(leader) = self.cluster.leader() {
                self.cluster.change(leader, vec![MemberChange::Replace { id, member: member_on(id, disk) }]);
            }
            for _ in 0..4 {
                self.cluster.ids().into_iter().for_each(|id| self.cluster.pass_time(id, Duration::from_millis(5)));
                self.cluster.stabilize();
            }
            self.note_events();
            self.note_replaced();
            time += Duration::from_millis(20);
        }
    }

    fn pass_time_until(&mut self, what: &str, done: impl Fn(&Cluster) -> bool) {
        const SLICE: Duration = Duration::from_millis(5);
        let mut time = Duration::ZERO;
        self.cluster.stabilize();
        while !done(&self.cluster) {
            assert!(time < TIME_TO_AGREE, "not in {} ms: {what}; {:?}", time.as_millis(), self.cluster.commits());
            self.cluster.ids().into_iter().for_each(|id| self.cluster.pass_time(id, SLICE));
            self.cluster.stabilize();
            self.note_events();
            time += SLICE;
        }
    }

    fn finish(mut self) -> Outcome {
        for step in 0..STEPS {
            self.act();
            self.note_events();
            if step % 100 == 0 {
                Safety::check_log_matching(&self.cluster.nodes);
            }
        }
        self.heal_and_agree();
        Safety::check_log_matching(&self.cluster.nodes);
        self.note_events();
        Outcome {
            trace: self.trace.finish(),
            leaders_elected: self.cluster.safety.leaders_elected(),
            committed: self.cluster.safety.committed_index(),
            reads_answered: self.cluster.safety.reads_answered,
            snapshots_installed: self.snapshots_installed,
            changes_accepted: self.changes_accepted,
            disks_wiped: self.disks_wiped,
        }
    }
}

/// Runs a seed, and says which it was if that fails.
fn run(seed: u64) -> Outcome {
    std::panic::catch_unwind(|| Run::new(seed).finish())
        .unwrap_or_else(|_| panic!("seed {seed} failed, see above; SEED={seed} plays it again"))
}

#[test]
fn many_seeds() {
    let mut total = Outcome::default();
    for seed in 0..SEEDS {
        let outcome = run(seed);
        total.leaders_elected += outcome.leaders_elected;
        total.committed.0 += outcome.committed.0;
        total.reads_answered += outcome.reads_answered;
        total.snapshots_installed += outcome.snapshots_installed;
        total.changes_accepted += outcome.changes_accepted;
        total.disks_wiped += outcome.disks_wiped;
    }
    // Runs in which nothing happens would show nothing.
    assert!(total.leaders_elected as u64 > 2 * SEEDS, "{total:?}");
    assert!(total.committed.0 > 20 * SEEDS, "{total:?}");
    assert!(total.reads_answered > 10 * SEEDS, "{total:?}");
    assert!(total.snapshots_installed > SEEDS / 4, "{total:?}");
    assert!(total.changes_accepted > 2 * SEEDS, "{total:?}");
    assert!(total.disks_wiped > SEEDS / 4, "{total:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(0).trace, run(1).trace);
}

/// Plays the seed in the environment variable `SEED` again, and prints its effects.
#[test]
fn one_seed() {
    let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) else { return };
    let mut run = Run::new(seed);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            run.act();
            run.note_events();
        }
        run.heal_and_agree();
    }));
    run.note_events();
    for event in run.last_events.iter().rev().take(40_000).rev() {
        println!("{event}");
    }
    assert!(failed.is_ok(), "seed {seed} failed, see above");
}
