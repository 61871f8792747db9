//! A state of the model: the servers, the messages on their way, what may still go wrong, and what has been promised.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use raft_core::{
    Body, Configuration, Effect, Entry, Incarnation, Input, Instant, LogIndex, Message, NodeId, ProposalId, RoleName,
    Term,
};

use crate::hashed::Hashed;
use crate::model::Plant;
use crate::scopes::{Budget, Wish};
use crate::server::{Disk, Server, TIMEOUT, disk_of};

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Envelope {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// The sender's, as the handshake of the link proved.
    incarnation: Incarnation,
    pub(crate) message: Message,
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ← {} {}", self.to, self.from, self.message)
    }
}

/// Who led which term, or was to.
pub(crate) type Leaders = Vec<(Term, NodeId)>;

/// An entry that a server took for committed, the first to do so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Commitment {
    pub(crate) entry: Entry,
    /// The server's term.
    pub(crate) term: Term,
    /// The configuration that was in effect there.
    pub(crate) configuration: Configuration,
}

/// What cannot be taken back: the properties are about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// Whoever has led, in order of terms.
    pub(crate) leaders: Leaders,
    /// What some server took for committed, from index 1.
    pub(crate) committed: Vec<Hashed<Commitment>>,
    /// Who has stood because a leader wanted it, and in which term.
    pub(crate) wanted: Leaders,
    /// Two servers took different entries for committed at this index.
    pub(crate) conflict: Option<LogIndex>,
    /// An assertion of the protocol's own failed at this server.
    pub(crate) panicked: Option<NodeId>,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cluster {
    servers: Vec<Hashed<Server>>,
    /// In the order of their hashes, so that equal networks are equal states; equal messages stand there as often as
    /// they were sent.
    network: Vec<Hashed<Envelope>>,
    pub(crate) budget: Budget,
    pub(crate) history: Hashed<History>,
}

impl Cluster {
    pub(crate) fn new(disks: impl IntoIterator<Item = (NodeId, Disk)>, leaders: Leaders, budget: Budget) -> Self {
        let start = |(id, disk)| Hashed::new(Server::start(id, Incarnation(1), disk));
        Self {
            servers: disks.into_iter().map(start).collect(),
            network: Vec::new(),
            budget,
            history: Hashed::new(History { leaders, ..History::default() }),
        }
    }

    /// The same for equal states.
    pub(crate) fn key(&self) -> u64 {
        let keys = self.servers.iter().map(Hashed::key).chain(self.network.iter().map(Hashed::key));
        keys.fold(0, |sum: u64, key| sum.rotate_left(7) ^ key)
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().map(|server| &**server)
    }

    pub(crate) fn server(&self, id: NodeId) -> &Server {
        self.servers().find(|server| server.raft.id() == id).expect("one of the servers")
    }

    /// The messages on their way, each once.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Hashed<Envelope>> {
        let is_first = |place: usize| {
            place.checked_sub(1).is_none_or(|before| self.network.get(before) != self.network.get(place))
        };
        self.network.iter().enumerate().filter(move |(place, _)| is_first(*place)).map(|(_, envelope)| envelope)
    }

    // --- what happens --------------------------------------------------------------------------------------------

    pub(crate) fn deliver(&mut self, envelope: &Envelope, plant: Plant) {
        let Envelope { from, to, incarnation, message } = envelope.clone();
        self.step(to, None, Input::Message { from, disk: disk_of(from), incarnation, message }, plant);
    }

    pub(crate) fn take_off_the_network(&mut self, envelope: &Hashed<Envelope>) {
        let place = self.network.iter().position(|other| other == envelope).expect("a message on its way");
        self.network.remove(place);
    }

    /// Time passes at a server, to `now`.
    pub(crate) fn tick(&mut self, id: NodeId, now: Instant, plant: Plant) {
        self.step(id, Some(now), Input::Tick, plant);
    }

    pub(crate) fn propose(&mut self, id: NodeId, number: u8, plant: Plant) {
        let commands = vec![Bytes::copy_from_slice(&[number])];
        self.step(id, None, Input::Propose { id: ProposalId(u64::from(number)), commands }, plant);
    }

    pub(crate) fn change(&mut self, id: NodeId, wish: Wish, plant: Plant) {
        self.step(id, None, Input::ChangeMembership { id: ProposalId(0), changes: wish.changes() }, plant);
    }

    pub(crate) fn transfer(&mut self, id: NodeId, plant: Plant) {
        self.step(id, None, Input::Transfer { to: None }, plant);
    }

    /// T passes at a server, and it has not noticed yet.
    pub(crate) fn age(&mut self, id: NodeId) {
        let mut server = self.server(id).clone();
        server.now = server.now.after(TIMEOUT);
        self.replace(server);
    }

    /// The disk finishes the first write under way.
    pub(crate) fn persist(&mut self, id: NodeId, plant: Plant) {
        let mut server = self.server(id).clone();
        if server.under_way.is_empty() {
            return;
        }
        let write = server.under_way.remove(0);
        server.disk.take(&write);
        self.replace(server);
        self.step(id, None, Input::Persisted(write.number), plant);
    }

    /// The power goes and comes back; of the writes under way the first `kept` are on the disk, unconfirmed.
    pub(crate) fn crash(&mut self, id: NodeId, kept: usize, plant: Plant) {
        let server = self.server(id);
        let mut disk = server.disk.clone();
        for write in server.under_way.iter().take(kept) {
            disk.take(write);
        }
        plant.damage(&mut disk);
        let restarted = server.restarted(disk);
        self.replace(restarted);
        // Its connections went with it.
        self.network.retain(|envelope| envelope.to != id);
    }

    fn replace(&mut self, server: Server) {
        let id = server.raft.id();
        let place = self.servers.iter_mut().find(|other| other.raft.id() == id).expect("one of the servers");
        *place = Hashed::new(server);
    }

    // --- effects -------------------------------------------------------------------------------------------------

    fn step(&mut self, id: NodeId, now: Option<Instant>, input: Input, plant: Plant) {
        let mut server = self.server(id).clone();
        server.now = now.unwrap_or(server.now);
        let mut effects = Vec::new();
        let mut configuration = server.raft.configuration().clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| server.raft.step(server.now, input, &mut effects)));
        let mut history = (*self.history).clone();
        if outcome.is_err() {
            history.panicked = Some(id);
            self.history = Hashed::new(history);
            return;
        }
        let mut confirmed = None;
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    history.note_wanted(id, &message);
                    self.send(Envelope { from: id, to, incarnation: server.incarnation, message });
                }
                Effect::Write(write) => {
                    confirmed = Some(write.number);
                    server.under_way.push(write);
                }
                Effect::Committed { index } => history.note_committed(&server, index, &configuration),
                Effect::ConfigurationChanged { configuration: next, .. } => configuration = next,
                Effect::RoleChanged { to: RoleName::Leader, .. } => history.note_leader(server.raft.term(), id),
                Effect::SendSnapshot { .. }
                | Effect::StoreChunk { .. }
                | Effect::SnapshotInstalled { .. }
                | Effect::Compacted { .. } => unreachable!("nobody takes a snapshot in the model"),
                // The model asks nothing and reads nothing; the rest is for the log.
                Effect::RoleChanged { .. }
                | Effect::ProposalAccepted { .. }
                | Effect::ChangeAccepted { .. }
                | Effect::ChangeRefused { .. }
                | Effect::ProposalRefused { .. }
                | Effect::ReadReady { .. }
                | Effect::ReadFailed { .. }
                | Effect::LeaderKnown { .. }
                | Effect::HandsOver { .. }
                | Effect::TransferFailed { .. }
                | Effect::Misbehaved { .. } => {}
            }
        }
        self.network.retain(|envelope| envelope.to != id || !is_spent(envelope, &server));
        self.replace(server);
        if history != *self.history {
            self.history = Hashed::new(history);
        }
        if let Some(number) = confirmed.filter(|_| plant == Plant::ConfirmsBeforeTheDisk) {
            self.step(id, None, Input::Persisted(number), plant);
        }
    }

    fn send(&mut self, envelope: Envelope) {
        if is_spent(&envelope, self.server(envelope.to)) {
            return;
        }
        let envelope = Hashed::new(envelope);
        let place = self.network.partition_point(|other| other.key() < envelope.key());
        self.network.insert(place, envelope);
    }
}

/// Whether a reply means nothing to its receiver any more: it changes nothing, and never will, as terms and polls only
/// rise. What was already counted, or comes too late, is taken off the network, or every state would come up many times.
fn is_spent(envelope: &Envelope, receiver: &Server) -> bool {
    let is_leader = receiver.raft.role() == RoleName::Leader;
    let is_reply = match envelope.message.body {
        Body::PreVoteReply { .. } | Body::RequestVoteReply { .. } => true,
        // A leader notes when it heard a follower.
        Body::AppendEntriesReply(_) | Body::HeartbeatReply { .. } => !is_leader,
        Body::PreVote { .. }
        | Body::RequestVote { .. }
        | Body::AppendEntries { .. }
        | Body::InstallSnapshot { .. }
        | Body::InstallSnapshotReply { .. }
        | Body::Heartbeat { .. }
        | Body::TimeoutNow { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => false,
    };
    if !is_reply {
        return false;
    }
    let Envelope { from, incarnation, message, .. } = envelope.clone();
    let mut raft = receiver.raft.clone();
    let mut effects = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        raft.step(receiver.now, Input::Message { from, disk: disk_of(from), incarnation, message }, &mut effects);
    }));
    outcome.is_ok() && effects.is_empty() && raft == receiver.raft
}

impl History {
    fn note_leader(&mut self, term: Term, id: NodeId) {
        if !self.leaders.contains(&(term, id)) {
            self.leaders.push((term, id));
            self.leaders.sort_unstable();
        }
    }

    fn note_wanted(&mut self, id: NodeId, message: &Message) {
        let is_wanted = matches!(message.body, Body::RequestVote { is_transfer: true, .. });
        if is_wanted && !self.wanted.contains(&(message.term, id)) {
            self.wanted.push((message.term, id));
            self.wanted.sort_unstable();
        }
    }

    fn note_committed(&mut self, server: &Server, index: LogIndex, configuration: &Configuration) {
        for entry in server.log().take_while(|entry| entry.position.index <= index) {
            let known = self.committed.iter().find(|known| known.entry.position.index == entry.position.index);
            match known {
                Some(known) if known.entry != *entry => self.conflict = Some(entry.position.index),
                Some(_) => {}
                None => self.committed.push(Hashed::new(Commitment {
                    entry: entry.clone(),
                    term: server.raft.term(),
                    configuration: configuration.clone(),
                })),
            }
        }
    }
}

impl Plant {
    fn damage(self, disk: &mut Disk) {
        match self {
            Self::Nothing | Self::ConfirmsBeforeTheDisk => {}
            Self::ForgetsItsVote => disk.hard_state.voted_for = None,
            Self::LosesItsLastEntry => drop(disk.entries.pop()),
        }
    }
}
