//! A cluster in memory: servers driven through `Raft::step` alone, a queue for each directed pair of them, a disk and
//! a clock each. Whoever uses it decides what is delivered, lost, persisted, and whose time passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    Body, Config, Configuration, DiskId, Effect, Entry, Incarnation, Input, Instant, LogIndex, LogPosition, Member,
    MemberChange, Message, NodeId, ProposalId, Raft, ReadId, RoleName, Standing, Term,
};

use crate::disk::{Chunk, Disk};
use crate::safety::Safety;

/// A server's id in the tests: `n(1)` is n1.
pub(crate) fn n(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// What a configuration says of the server `id` with its first disk.
pub(crate) fn member(id: NodeId) -> Member {
    member_on(id, DiskId(u128::from(id.as_u64())))
}

/// The same with another disk.
pub(crate) fn member_on(id: NodeId, disk: DiskId) -> Member {
    Member { disk, address: format!("{id}:1") }
}

/// A running server, its disk and its clock.
pub(crate) struct Node {
    pub(crate) raft: Raft,
    pub(crate) config: Config,
    pub(crate) disk: Disk,
    pub(crate) now: Instant,
    /// Its state machine: what was applied, position by position, with a space after each.
    pub(crate) state: String,
    pub(crate) applied: LogIndex,
}

impl Node {
    fn new(config: Config, disk: Disk, now: Instant) -> Self {
        let raft = Raft::new(config.clone(), disk.restored(), now).unwrap();
        let mut node = Self { raft, config, disk, now, state: String::new(), applied: LogIndex(0) };
        node.restore();
        node
    }

    /// Sets the state machine to what the newest snapshot holds.
    fn restore(&mut self) {
        if let Some((snapshot, data)) = self.disk.snapshot() {
            self.state = String::from_utf8(data.to_vec()).unwrap();
            self.applied = snapshot.last.index;
        }
    }

    /// Starts the server with what its disk holds.
    fn start(&mut self) {
        self.disk.recover();
        *self = Self::new(self.config.clone(), self.disk.clone(), self.now);
    }

    fn apply(&mut self, index: LogIndex) {
        for entry in self.raft.log().range(self.applied.next(), index) {
            self.state += &format!("{} ", entry.position);
            self.applied = entry.position.index;
        }
        assert_eq!(self.applied, index, "{} has nothing to apply", self.raft.id());
    }
}

/// A message on its way, with the disk and the incarnation that its link proved.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) disk: DiskId,
    pub(crate) incarnation: Incarnation,
    pub(crate) message: Message,
}

/// Something a server wanted done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) node: NodeId,
    pub(crate) term: Term,
    pub(crate) effect: Effect,
    /// A message that a cut link swallowed.
    pub(crate) lost: bool,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = if self.lost { " (lost)" } else { "" };
        write!(f, "{}@{} {}{lost}", self.node, self.term, self.effect)
    }
}

/// The servers and what is between them.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// By receiver, then sender.
    queues: BTreeMap<(NodeId, NodeId), VecDeque<Packet>>,
    /// Directed links (from, to) that swallow what is sent.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Whether writes wait for [`Cluster::persist`]; else they are persisted before anything else happens.
    pub(crate) manual_disk: bool,
    /// What happened since it was last taken.
    pub(crate) events: Vec<Event>,
    pub(crate) safety: Safety,
    proposals: u64,
    reads: u64,
}

impl Cluster {
    pub(crate) fn new(count: u64, manual_disk: bool, configure: impl Fn(&mut Config)) -> Self {
        let initial = Configuration::of_voters((1..=count).map(|id| (n(id), member(n(id)))));
        let start = |id| {
            let mut config = Config::new(n(id), DiskId(u128::from(id)), Incarnation(1), id);
            configure(&mut config);
            let disk = Disk::new(initial.clone());
            (n(id), Node::new(config, disk, Instant(0)))
        };
        Self {
            nodes: (1..=count).map(start).collect(),
            queues: BTreeMap::new(),
            cut: BTreeSet::new(),
            manual_disk,
            events: Vec::new(),
            safety: Safety::default(),
            proposals: 0,
            reads: 0,
        }
    }

    /// Starts a server with an empty disk, which knows of no cluster (rule 2). If it was there, it has lost its disk.
    pub(crate) fn start_new(&mut self, id: NodeId, disk: DiskId) {
        let like = self.nodes.values().next().unwrap();
        let config = Config {
            id,
            disk,
            incarnation: Incarnation(1),
            seed: like.config.seed + id.as_u64(),
            ..like.config.clone()
        };
        let node = Node::new(config, Disk::new(Configuration::default()), like.now);
        self.nodes.insert(id, node);
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn raft(&self, id: NodeId) -> &Raft {
        &self.nodes[&id].raft
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// The leader of the latest term that has one.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leaders = self.nodes.values().filter(|node| node.raft.role() == RoleName::Leader);
        leaders.max_by_key(|node| node.raft.term()).map(|node| node.raft.id())
    }

    /// Replaces what a server has on disk, as if it had always been there, and starts it anew.
    pub(crate) fn prepare(&mut self, id: NodeId, change: impl FnOnce(&mut Disk)) {
        let node = self.node(id);
        change(&mut node.disk);
        node.start();
    }

    // --- inputs --------------------------------------------------------------------------------------------------

    pub(crate) fn step(&mut self, id: NodeId, input: Input) {
        let mut effects = Vec::new();
        let node = self.node(id);
        node.raft.step(node.now, input, &mut effects);
        for effect in effects {
            self.execute(id, effect);
        }
        self.check_counts(id);
        if !self.manual_disk {
            self.persist(id, usize::MAX);
        }
    }

    /// What a server counts is what its log and its disk amount to.
    fn check_counts(&self, id: NodeId) {
        let Node { raft, disk, .. } = &self.nodes[&id];
        let uncommitted = raft.log().range(raft.commit_index().next(), raft.log().last_index());
        assert_eq!(raft.uncommitted_bytes(), uncommitted.map(Entry::size_bytes).sum::<usize>(), "uncommitted at {id}");
        assert_eq!(raft.unsynced_bytes(), disk.unsynced_bytes(), "unsynced at {id}");
    }

    fn execute(&mut self, id: NodeId, effect: Effect) {
        self.safety.check(&self.nodes, id, &effect);
        let mut event = Event { node: id, term: self.raft(id).term(), effect, lost: false };
        match &event.effect {
            Effect::Send { to, message } => {
                event.term = message.term;
                event.lost = self.is_lost(id, *to);
                if !event.lost {
                    let Config { disk, incarnation, .. } = self.nodes[&id].config;
                    let packet = Packet { disk, incarnation, message: message.clone() };
                    self.queues.entry((*to, id)).or_default().push_back(packet);
                }
            }
            Effect::Write(write) => self.node(id).disk.submit(write.clone()),
            Effect::Committed { index } => {
                self.node(id).apply(*index);
                self.safety.check_state(&self.nodes[&id]);
            }
            Effect::SendSnapshot { to, term, last, offset, max_bytes } => {
                event.term = *term;
                event.lost = self.is_lost(id, *to) || !self.send_chunk(id, *to, (*term, *last, *offset, *max_bytes));
            }
            Effect::StoreChunk { last, offset, data, done } => {
                let (last, offset, data, done) = (*last, *offset, data.clone(), *done);
                let mut files = self.nodes.values().filter_map(|node| node.disk.snapshots.get(&last));
                let is_sound = |data: &[u8]| data.ends_with(format!("{last} ").as_bytes());
                let whole = files.find(|(_, data)| is_sound(data)).cloned();
                self.node(id).disk.submit_chunk(Chunk { last, offset, data, done, whole });
            }
            Effect::SnapshotInstalled { last } => {
                self.node(id).restore();
                assert_eq!(self.nodes[&id].applied, last.index, "{id} has another snapshot on its disk");
                self.safety.check_state(&self.nodes[&id]);
            }
            Effect::Compacted { through } => self.node(id).disk.compact(*through),
            Effect::ConfigurationChanged { .. } => self.safety.check_configuration(&self.nodes[&id].raft),
            Effect::ProposalAccepted { .. }
            | Effect::ChangeAccepted { .. }
            | Effect::ChangeRefused { .. }
            | Effect::ProposalRefused { .. }
            | Effect::ReadReady { .. }
            | Effect::ReadFailed { .. }
            | Effect::RoleChanged { .. }
            | Effect::LeaderKnown { .. }
            | Effect::HandsOver { .. }
            | Effect::TransferFailed { .. }
            | Effect::Misbehaved { .. } => {}
        }
        self.events.push(event);
    }

    /// Whether a message is swallowed: by a cut link, or because nobody is there.
    fn is_lost(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to)) || !self.nodes.contains_key(&to)
    }

    /// Reads a chunk of a snapshot and sends it. Returns false if its file is gone.
    fn send_chunk(
        &mut self,
        from: NodeId,
        to: NodeId,
        (term, last, offset, max_bytes): (Term, LogPosition, u64, usize),
    ) -> bool {
        let sender = &self.nodes[&from];
        let Some((_, data)) = sender.disk.snapshots.get(&last) else { return false };
        let Some(start) = usize::try_from(offset).ok().filter(|start| *start <= data.len()) else { return false };
        let end = start.saturating_add(max_bytes).min(data.len());
        let body = Body::InstallSnapshot { last, offset, data: data.slice(start..end), done: end == data.len() };
        let Config { disk, incarnation, .. } = sender.config;
        let packet = Packet { disk, incarnation, message: Message { term, body } };
        self.queues.entry((to, from)).or_default().push_back(packet);
        true
    }

    /// Takes a snapshot of what a server has applied and has on disk (§5.1).
    pub(crate) fn take_snapshot(&mut self, id: NodeId) {
        let node = self.node(id);
        let known = node.raft.snapshot().map_or(LogIndex(0), |snapshot| snapshot.last.index);
        if node.applied > node.raft.durable_index() || node.applied <= known {
            return;
        }
        let snapshot = node.raft.describe_snapshot(node.applied).unwrap();
        node.disk.snapshots.insert(snapshot.last, (snapshot.clone(), Bytes::from(node.state.clone())));
        self.step(id, Input::SnapshotTaken(snapshot));
        self.remove_snapshots(id);
    }

    /// Spoils the data of a snapshot's file, as its checks will find out.
    pub(crate) fn damage_snapshot(&mut self, id: NodeId, last: LogPosition) {
        let (_, data) = self.node(id).disk.snapshots.get_mut(&last).unwrap();
        *data = data.iter().map(|byte| byte ^ 1).collect();
    }

    /// Removes the files of snapshots that nobody needs.
    fn remove_snapshots(&mut self, id: NodeId) {
        let node = self.node(id);
        node.disk.keep_snapshots(&node.raft.snapshots_in_use());
    }

    pub(crate) fn propose(&mut self, id: NodeId, commands: &[String]) {
        self.proposals += 1;
        let commands = commands.iter().map(|command| Bytes::copy_from_slice(command.as_bytes())).collect();
        self.step(id, Input::Propose { id: ProposalId(self.proposals), commands });
    }

    pub(crate) fn change(&mut self, id: NodeId, changes: Vec<MemberChange>) {
        self.proposals += 1;
        self.step(id, Input::ChangeMembership { id: ProposalId(self.proposals), changes });
    }

    pub(crate) fn read(&mut self, id: NodeId) {
        self.reads += 1;
        self.safety.begin_read(id, ReadId(self.reads));
        self.step(id, Input::Read { id: ReadId(self.reads) });
    }

    /// A message that no server sent, or not now.
    pub(crate) fn inject(&mut self, to: NodeId, from: NodeId, incarnation: Incarnation, message: Message) {
        self.safety.is_deceived = true;
        let disk = member(from).disk;
        self.step(to, Input::Message { from, disk, incarnation, message });
    }

    // --- time ----------------------------------------------------------------------------------------------------

    /// Moves one server's clock to its next wakeup and ticks it.
    pub(crate) fn wake(&mut self, id: NodeId) {
        let node = self.node(id);
        node.now = node.now.max(node.raft.next_wakeup());
        self.step(id, Input::Tick);
    }

    /// Lets time pass at one server.
    pub(crate) fn pass_time(&mut self, id: NodeId, duration: Duration) {
        let until = self.nodes[&id].now.after(duration);
        while self.raft(id).next_wakeup() <= until {
            self.wake(id);
        }
        self.node(id).now = until;
    }

    // --- disk ----------------------------------------------------------------------------------------------------

    /// Persists `count` pending writes as one batch. Without a manual disk, also those this leads to.
    pub(crate) fn persist(&mut self, id: NodeId, count: usize) {
        if let Some(number) = self.node(id).disk.persist(count) {
            self.step(id, Input::Persisted(number));
        }
        if let Some(input) = self.node(id).disk.store_chunk() {
            self.step(id, input);
        }
    }

    /// Kills a server and starts it again as a new incarnation with what its disk holds.
    pub(crate) fn restart(&mut self, id: NodeId) {
        let node = self.node(id);
        node.disk.crash();
        node.config.incarnation.0 += 1;
        node.config.seed = node.config.seed.wrapping_add(1_000);
        node.start();
    }

    // --- network -------------------------------------------------------------------------------------------------

    /// The (receiver, sender) pairs with something in between, by name.
    pub(crate) fn busy_links(&self) -> Vec<(NodeId, NodeId)> {
        self.queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(&link, _)| link).collect()
    }

    pub(crate) fn queue(&mut self, to: NodeId, from: NodeId) -> &mut VecDeque<Packet> {
        self.queues.entry((to, from)).or_default()
    }

    /// Delivers the oldest message of one link.
    pub(crate) fn deliver_one(&mut self, to: NodeId, from: NodeId) -> bool {
        let Some(Packet { disk, incarnation, message }) = self.queue(to, from).pop_front() else { return false };
        self.step(to, Input::Message { from, disk, incarnation, message });
        true
    }

    /// Delivers what is on the links now, but not what that leads to.
    pub(crate) fn deliver_round(&mut self) {
        for (to, from) in self.busy_links() {
            for _ in 0..self.queue(to, from).len() {
                self.deliver_one(to, from);
            }
        }
    }

    /// Persists and delivers until nothing is left to do without time passing.
    pub(crate) fn stabilize(&mut self) {
        for _ in 0..10_000 {
            for id in self.ids() {
                self.persist(id, usize::MAX);
            }
            self.deliver_round();
            if self.busy_links().is_empty() && self.nodes.values().all(|node| node.disk.is_idle()) {
                return;
            }
        }
        panic!("10,000 rounds of messages without an end");
    }

    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    // --- what it comes to ----------------------------------------------------------------------------------------

    /// Whether there is one leader, every member follows it, and all have and know to be committed what it has.
    pub(crate) fn agrees(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let last = self.raft(leader).log().last_position();
        self.members().into_iter().all(|id| {
            let raft = self.raft(id);
            raft.leader() == Some(leader) && raft.log().last_position() == last && raft.commit_index() == last.index
        })
    }

    /// The members of the leader's configuration; of everybody, without a leader.
    pub(crate) fn members(&self) -> Vec<NodeId> {
        let leader = self.leader().map(|leader| self.raft(leader).configuration());
        leader.map_or_else(|| self.ids(), |configuration| configuration.members().map(|(id, _)| id).collect())
    }

    /// Whether no change of the membership is under way, and none that the leader makes by itself is due.
    pub(crate) fn is_settled(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let raft = self.raft(leader);
        let is_due = |standing: &Standing| *standing == Standing::Learner { becomes_voter: true };
        raft.configuration_index() <= raft.commit_index()
            && !raft.configuration().is_joint()
            && !raft.configuration().standings().any(|(_, _, standing)| is_due(standing))
    }

    pub(crate) fn commits(&self) -> BTreeMap<NodeId, LogIndex> {
        self.nodes.iter().map(|(&id, node)| (id, node.raft.commit_index())).collect()
    }
}
