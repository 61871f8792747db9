//! A cluster of the crate `raft`, driven as its documentation says: what is ready is stored, then sent, then advanced.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::Logger;

use crate::MOST_DELIVERIES;
use crate::network::Network;
use crate::view::{Entry, Role, View};

/// The servers, and what is on its way between them.
pub(crate) struct Theirs {
    nodes: BTreeMap<u64, RawNode<MemStorage>>,
    wire: VecDeque<Message>,
}

/// Votes as ours does, by polls (§9.6). CheckQuorum is off: it reads a clock that nobody winds here.
fn start(id: u64, disk: MemStorage) -> RawNode<MemStorage> {
    let config = Config {
        id,
        election_tick: 10,
        heartbeat_tick: 1,
        max_size_per_msg: 1 << 20,
        pre_vote: true,
        check_quorum: false,
        ..Config::default()
    };
    RawNode::new(&config, disk, &Logger::root(slog::Discard, slog::o!())).expect("the settings are valid")
}

impl Theirs {
    pub(crate) fn new(count: u64) -> Self {
        let voters: Vec<u64> = (1..=count).collect();
        let start_empty = |&id: &u64| (id, start(id, MemStorage::new_with_conf_state((voters.clone(), Vec::new()))));
        Self { nodes: voters.iter().map(start_empty).collect(), wire: VecDeque::new() }
    }

    fn node(&self, id: u64) -> &RawNode<MemStorage> {
        self.nodes.get(&id).expect("the scripts name servers that are there")
    }

    fn node_mut(&mut self, id: u64) -> &mut RawNode<MemStorage> {
        self.nodes.get_mut(&id).expect("the scripts name servers that are there")
    }

    pub(crate) fn view(&self, id: u64) -> View {
        let raft = &self.node(id).raft;
        let role = match raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        };
        let entries = raft.raft_log.all_entries().into_iter();
        View {
            term: raft.term,
            role,
            voted_for: Some(raft.vote).filter(|&vote| vote != raft::INVALID_ID),
            log: entries
                .map(|mut entry| Entry { term: entry.term, command: Bytes::from(entry.take_data().to_vec()) })
                .collect(),
            commit: raft.raft_log.committed,
        }
    }

    // --- what a script asks for ----------------------------------------------------------------------------------

    pub(crate) fn campaign(&mut self, id: u64, network: &Network) {
        self.node_mut(id).campaign().expect("a server may always stand");
        self.settle(id, network);
    }

    /// Another server refuses whatever `id` wants, with its later term.
    pub(crate) fn tell_term(&mut self, id: u64, other: u64, network: &Network) {
        let term = self.node(other).raft.term;
        let mut refusal = Message { to: id, from: other, term, reject: true, ..Message::default() };
        refusal.set_msg_type(MessageType::MsgRequestPreVoteResponse);
        self.node_mut(id).step(refusal).expect("an answer is taken");
        self.settle(id, network);
    }

    pub(crate) fn propose(&mut self, leader: u64, command: &Bytes, network: &Network) {
        self.node_mut(leader).propose(Vec::new(), command.to_vec()).expect("a leader takes proposals");
        self.settle(leader, network);
    }

    /// Two rounds of heartbeats: the first finds out who lacks what, the second says what is committed by then.
    pub(crate) fn beat(&mut self, leader: u64, network: &Network) {
        for _ in 0..2 {
            self.node_mut(leader).ping();
            self.settle(leader, network);
        }
    }

    pub(crate) fn transfer(&mut self, leader: u64, to: u64, network: &Network) {
        self.node_mut(leader).transfer_leader(to);
        self.settle(leader, network);
    }

    pub(crate) fn restart(&mut self, id: u64) {
        let disk = self.node(id).store().clone();
        self.nodes.insert(id, start(id, disk));
    }

    /// A leader hears of a restarted server for the first time, and asks it what it has.
    pub(crate) fn meet(&mut self, leader: u64, restarted: u64, network: &Network) {
        let raft = &mut self.node_mut(leader).raft;
        if let Some(progress) = raft.mut_prs().get_mut(restarted) {
            progress.become_probe();
        }
        raft.send_append(restarted);
        self.settle(leader, network);
    }

    // --- the driver ----------------------------------------------------------------------------------------------

    /// Does what `id` wants done, and delivers until nothing is on its way.
    fn settle(&mut self, id: u64, network: &Network) {
        self.do_ready(id);
        for _ in 0..MOST_DELIVERIES {
            let Some(mut message) = self.wire.pop_front() else { return };
            let (from, to) = (message.from, message.to);
            if network.is_whole(from, to) {
                if message.get_msg_type() == MessageType::MsgRequestPreVoteResponse && message.reject {
                    // A poll's refusal counts whatever term the voter is in (§9.6).
                    message.term = message.term.max(self.node(to).raft.term);
                }
                self.node_mut(to).step(message).expect("a message is taken");
            } else {
                self.lose(from, to);
                self.lose(to, from);
            }
            self.do_ready(to);
            self.do_ready(from);
        }
        panic!("the crate raft never falls silent");
    }

    /// A server is told that its link to `peer` broke. It sends again after the next heartbeat that is answered, as ours
    /// does.
    fn lose(&mut self, id: u64, peer: u64) {
        let node = self.node_mut(id);
        node.report_unreachable(peer);
        if node.raft.state == StateRole::Leader
            && let Some(progress) = node.raft.mut_prs().get_mut(peer)
        {
            progress.pause();
        }
    }

    fn do_ready(&mut self, id: u64) {
        while self.node(id).has_ready() {
            let node = self.node_mut(id);
            let mut ready = node.ready();
            let mut messages = ready.take_messages();
            let disk = node.store().clone();
            disk.wl().append(ready.entries()).expect("entries follow the log");
            if let Some(hard_state) = ready.hs() {
                // Figure 3.1: what is committed is not persisted, but learned anew.
                let mut hard_state = hard_state.clone();
                hard_state.commit = 0;
                disk.wl().set_hardstate(hard_state);
            }
            messages.extend(ready.take_persisted_messages());
            let mut light = node.advance(ready);
            messages.extend(light.take_messages());
            node.advance_apply();
            // It turns to the others in the order of a hash; ours in the order of their ids.
            messages.sort_by_key(|message| message.to);
            self.wire.extend(messages);
        }
    }
}
