//! A cluster of raft-core, driven as its documentation says: effects are executed in order, as they come.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    Body, Config, Configuration, DiskId, Effect, Entry as OurEntry, HardState, Incarnation, Input, Instant, LogIndex,
    Member, Message, NodeId, Payload, Poll, ProposalId, Raft, ReadId, ReadRound, Refusal, Restored, RoleName, Verdict,
    Write,
};

use crate::MOST_DELIVERIES;
use crate::network::Network;
use crate::view::{Entry, Role, View};

/// Longer than any election timeout: nobody hears its leader any more, and whoever is ticked stands.
const SILENCE: Duration = Duration::from_secs(1);

/// A server and its disk.
struct Server {
    raft: Raft,
    config: Config,
    hard_state: HardState,
    entries: Vec<OurEntry>,
}

/// A message on its way.
struct Packet {
    from: u64,
    to: u64,
    incarnation: Incarnation,
    message: Message,
}

/// The servers, what is on its way between them, and the one clock they share.
pub(crate) struct Ours {
    servers: BTreeMap<u64, Server>,
    wire: VecDeque<Packet>,
    now: Instant,
    /// Which incarnation of the first server the second has heard.
    heard: BTreeMap<(u64, u64), Incarnation>,
    /// How many requests were made, of any kind.
    requests: u64,
}

fn node_id(id: u64) -> NodeId {
    NodeId::new(id).expect("servers are counted from 1")
}

/// The servers of a cluster of so many.
fn configuration(count: u64) -> Configuration {
    let member = |id| Member { disk: DiskId(u128::from(id)), address: format!("n{id}:1") };
    Configuration::of_voters((1..=count).map(|id| (node_id(id), member(id))))
}

impl Server {
    fn new(id: u64, count: u64) -> Self {
        let config = Config::new(node_id(id), DiskId(u128::from(id)), Incarnation(1), id);
        let restored = Restored { initial: configuration(count), ..Restored::default() };
        let raft = Raft::new(config.clone(), restored, Instant(0)).expect("the settings are valid");
        Self { raft, config, hard_state: HardState::default(), entries: Vec::new() }
    }

    fn store(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.position.index < from);
        }
        self.entries.extend_from_slice(&write.entries);
    }
}

impl Ours {
    pub(crate) fn new(count: u64) -> Self {
        let servers = (1..=count).map(|id| (id, Server::new(id, count))).collect();
        Self { servers, wire: VecDeque::new(), now: Instant(0), heard: BTreeMap::new(), requests: 0 }
    }

    fn server(&self, id: u64) -> &Server {
        self.servers.get(&id).expect("the scripts name servers that are there")
    }

    fn server_mut(&mut self, id: u64) -> &mut Server {
        self.servers.get_mut(&id).expect("the scripts name servers that are there")
    }

    pub(crate) fn view(&self, id: u64) -> View {
        let raft = &self.server(id).raft;
        let role = match raft.role() {
            RoleName::Follower => Role::Follower,
            RoleName::PreCandidate => Role::PreCandidate,
            RoleName::Candidate => Role::Candidate,
            RoleName::Leader => Role::Leader,
        };
        View {
            term: raft.term().0,
            role,
            voted_for: raft.hard_state().voted_for.map(NodeId::as_u64),
            log: raft.log().range(LogIndex(1), raft.log().last_index()).map(to_view).collect(),
            commit: raft.commit_index().0,
        }
    }

    /// Whether `id` has restarted since `other` last heard it. Whom it never heard, `other` does not miss.
    pub(crate) fn is_strange(&self, id: u64, other: u64) -> bool {
        self.heard.get(&(id, other)).is_some_and(|heard| *heard < self.server(id).config.incarnation)
    }

    // --- what a script asks for ----------------------------------------------------------------------------------

    pub(crate) fn campaign(&mut self, id: u64, network: &Network) {
        self.now = self.now.after(SILENCE);
        self.step(id, Input::Tick, network);
    }

    /// Another server refuses whatever `id` wants, with its later term.
    pub(crate) fn tell_term(&mut self, id: u64, other: u64, network: &Network) {
        let verdict = Verdict::Refused(Refusal::StaleTerm);
        let term = self.server(other).raft.term();
        let message = Message { term, body: Body::PreVoteReply { poll: Poll(0), verdict } };
        let incarnation = self.server(other).config.incarnation;
        self.wire.push_back(Packet { from: other, to: id, incarnation, message });
        self.settle(network);
    }

    pub(crate) fn propose(&mut self, leader: u64, command: &Bytes, network: &Network) {
        self.requests += 1;
        let id = ProposalId(self.requests);
        self.step(leader, Input::Propose { id, commands: vec![command.clone()] }, network);
    }

    /// Two rounds of heartbeats, if it leads: the first finds out who lacks what, the second says what is committed by
    /// then. Before them a read round, by which it hears its followers: a leader that ticks after too long a silence
    /// steps down (§6.2).
    pub(crate) fn beat(&mut self, leader: u64, network: &Network) {
        self.requests += 1;
        let inputs = [Input::Read { id: ReadId(self.requests) }, Input::Tick, Input::Tick];
        for input in inputs {
            if self.server(leader).raft.role() != RoleName::Leader {
                return;
            }
            if input == Input::Tick {
                self.now = self.now.after(self.server(leader).config.heartbeat_interval);
            }
            self.step(leader, input, network);
        }
    }

    pub(crate) fn transfer(&mut self, leader: u64, to: u64, network: &Network) {
        self.step(leader, Input::Transfer { to: Some(node_id(to)) }, network);
    }

    pub(crate) fn restart(&mut self, id: u64) {
        let (now, initial) = (self.now, configuration(self.servers.len() as u64));
        let server = self.server_mut(id);
        server.config.incarnation.0 += 1;
        let restored =
            Restored { initial, hard_state: server.hard_state, entries: server.entries.clone(), ..Restored::default() };
        server.raft = Raft::new(server.config.clone(), restored, now).expect("a disk holds what was written to it");
        self.heard.retain(|(_, other), _| *other != id);
    }

    /// A leader hears of a restarted server for the first time, and asks it what it has (rule 3).
    pub(crate) fn meet(&mut self, leader: u64, restarted: u64, network: &Network) {
        let Server { raft, config, .. } = self.server(restarted);
        let (incarnation, body) = (config.incarnation, Body::HeartbeatReply { round: ReadRound(0) });
        let message = Message { term: raft.term(), body };
        self.wire.push_back(Packet { from: restarted, to: leader, incarnation, message });
        self.settle(network);
    }

    // --- the driver ----------------------------------------------------------------------------------------------

    /// Takes an input, and delivers until nothing is on its way.
    fn step(&mut self, id: u64, input: Input, network: &Network) {
        self.step_one(id, input);
        self.settle(network);
    }

    fn settle(&mut self, network: &Network) {
        for _ in 0..MOST_DELIVERIES {
            let Some(Packet { from, to, incarnation, message }) = self.wire.pop_front() else { return };
            if network.is_whole(from, to) {
                self.heard.insert((from, to), incarnation);
                let (disk, from) = (DiskId(u128::from(from)), node_id(from));
                self.step_one(to, Input::Message { from, disk, incarnation, message });
            } else {
                self.step_one(from, Input::Unreachable { peer: node_id(to) });
                self.step_one(to, Input::Unreachable { peer: node_id(from) });
            }
        }
        panic!("raft-core never falls silent");
    }

    /// Takes an input; what it writes is on the disk at once.
    fn step_one(&mut self, id: u64, input: Input) {
        let now = self.now;
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let server = self.server_mut(id);
            let mut effects = Vec::new();
            server.raft.step(now, input, &mut effects);
            let incarnation = server.config.incarnation;
            for effect in effects {
                match effect {
                    Effect::Write(write) => {
                        self.server_mut(id).store(&write);
                        next = Some(Input::Persisted(write.number));
                    }
                    Effect::Send { to, message } => {
                        self.wire.push_back(Packet { from: id, to: to.as_u64(), incarnation, message });
                    }
                    Effect::Misbehaved { peer, what } => panic!("n{id} takes {peer} for ill-behaved: {what}"),
                    Effect::ProposalRefused { reason, .. } => panic!("n{id} refuses a proposal: {reason}"),
                    Effect::TransferFailed { reason } => panic!("n{id} gives up a transfer: {reason}"),
                    Effect::SendSnapshot { .. } | Effect::StoreChunk { .. } | Effect::SnapshotInstalled { .. } => {
                        unreachable!("nobody takes snapshots here")
                    }
                    Effect::ChangeAccepted { .. }
                    | Effect::ChangeRefused { .. }
                    | Effect::ConfigurationChanged { .. } => {
                        unreachable!("the members stay the same here")
                    }
                    Effect::Compacted { .. }
                    | Effect::Committed { .. }
                    | Effect::ProposalAccepted { .. }
                    | Effect::ReadReady { .. }
                    | Effect::ReadFailed { .. }
                    | Effect::RoleChanged { .. }
                    | Effect::LeaderKnown { .. }
                    | Effect::HandsOver { .. } => {}
                }
            }
        }
    }
}

fn to_view(entry: &OurEntry) -> Entry {
    let command = match &entry.payload {
        Payload::Command(command) => command.clone(),
        Payload::Noop => Bytes::new(),
        Payload::Configuration(_) => unreachable!("the members stay the same here"),
    };
    Entry { term: entry.position.term.0, command }
}
