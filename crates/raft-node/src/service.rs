//! What sits between clients and a replica: code without I/O, so that a simulator can run it too.

use bytes::Bytes;
use raft_core::{ClusterTime, Configuration, Instant, NodeId};
use raft_net::Frame;
use tokio::sync::oneshot;

use crate::answer::{Answer, Failure, Leadership, Members};
use crate::machine::StateMachine;
use crate::replica::{MemberRequest, Replica, Status};

/// A client's connection, unique within one start of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Speaks with clients: turns their frames into requests, and answers into frames.
pub trait Service<M: StateMachine>: Send + 'static {
    /// What the service needs to know of a request when its answer comes.
    type Waiter: std::fmt::Debug + Send + 'static;

    /// Whether there is anything for clients over the network; if not, they are refused in the handshake.
    fn serves_clients(&self) -> bool {
        true
    }

    /// A frame came in on a client's connection. Every request gets exactly one reply frame, sooner or later.
    fn handle_frame(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        frame: Frame,
        node: &mut Access<'_, M, Self::Waiter>,
        replies: &mut Replies,
    );

    /// A request is done.
    fn handle_answer(
        &mut self,
        now: Instant,
        waiter: Self::Waiter,
        answer: Answer,
        node: &mut Access<'_, M, Self::Waiter>,
        replies: &mut Replies,
    );

    /// A client has closed its connection, or it was closed. What it was still to be told ends with a reply, sent or not.
    fn handle_left(&mut self, _connection: ConnectionId, _replies: &mut Replies) {}

    /// So many frames of the kind [`raft_net::FrameKind::Push`], of so many bytes, were written to a client: it has room for
    /// more. No more than 1,024 may be on their way to one client; with more its connection is closed.
    fn handle_pushed(&mut self, _connection: ConnectionId, _frames: usize, _size_bytes: usize) {}

    /// Once a turn, after what is committed was applied: the moment to tell clients what has changed, and to propose what the
    /// state machine needs. Whether anything was asked of the node.
    fn turn(&mut self, _now: Instant, _node: &mut Access<'_, M, Self::Waiter>, _replies: &mut Replies) -> bool {
        false
    }

    /// When [`Service::turn`] is due even if nothing happens.
    fn next_wakeup(&self) -> Option<Instant> {
        None
    }
}

/// The frames that go back to clients.
#[derive(Debug, Default)]
pub struct Replies {
    /// Replies, in order. Those of the kind [`raft_net::FrameKind::Push`] come before the reply of their request, and
    /// each is reported once it is written ([`Service::handle_pushed`]).
    pub frames: Vec<(ConnectionId, Frame)>,
    /// Connections to close, and why: their client does not speak the protocol.
    pub closed: Vec<(ConnectionId, String)>,
}

/// What a service may do with the replica.
#[derive(Debug)]
pub struct Access<'a, M: StateMachine, W> {
    /// The replica.
    pub replica: &'a mut Replica<M, Waiter<M, W>>,
}

impl<M: StateMachine, W> Access<'_, M, W> {
    /// Wants `command` applied by `deadline`.
    pub fn propose(&mut self, waiter: W, command: Bytes, deadline: Instant) {
        self.replica.propose(Waiter::Service(waiter), command, deadline);
    }

    /// Wants to read the state machine, linearizably, by `deadline`.
    pub fn read(&mut self, waiter: W, deadline: Instant) {
        self.replica.read(Waiter::Service(waiter), deadline);
    }

    /// Wants to read what this server has applied, once its state machine has reached `revision`, by `deadline`.
    pub fn read_local(&mut self, waiter: W, revision: u64, deadline: Instant) {
        self.replica.read_local(Waiter::Service(waiter), revision, deadline);
    }

    /// Wants `to` to lead, or the follower that lacks least, and that leader to be known by `deadline` (§3.10).
    pub fn transfer(&mut self, now: Instant, waiter: W, to: Option<NodeId>, deadline: Instant) {
        self.replica.transfer(now, Waiter::Service(waiter), to, deadline);
    }

    /// Wants the membership changed by `deadline` (§4). Only the leader does that.
    pub fn change_membership(&mut self, now: Instant, waiter: W, request: MemberRequest, deadline: Instant) {
        self.replica.change_membership(now, Waiter::Service(waiter), request, deadline);
    }

    /// Whether this server has found out that it was removed from the cluster.
    pub fn is_removed(&self) -> bool {
        self.replica.is_removed()
    }

    /// Whether this server knows who leads.
    pub fn has_leader(&self) -> bool {
        self.replica.leader().is_some()
    }

    /// Cluster time as the next command would be stamped (rule 6), if this server leads.
    pub fn leader_time(&self, now: Instant) -> Option<ClusterTime> {
        self.replica.raft()?.leader_time(now)
    }

    /// The members, as the configuration in effect here names them; nobody before there is one.
    pub fn members(&self) -> Members {
        self.replica.configuration().map_or_else(|| Members::of(&Configuration::default()), Members::of)
    }

    /// The state machine as far as this server has applied.
    pub fn machine(&self) -> &M {
        self.replica.machine()
    }

    /// What this server knows of itself and the cluster.
    pub fn status(&self) -> Status {
        self.replica.status()
    }

    /// The leader, and where clients reach it, if both are known.
    pub fn leader_address(&self) -> Option<(NodeId, &str)> {
        let leader = self.replica.leader()?;
        Some((leader, self.replica.client_address(leader)?))
    }
}

/// A read that runs on the node's own thread.
type ReadFunction<M> = Box<dyn FnOnce(Result<&M, Failure>) + Send>;

/// Who waits for an answer.
pub enum Waiter<M, W> {
    /// A request of the service's.
    Service(W),
    /// A proposal through a [`crate::Handle`].
    Propose(oneshot::Sender<Result<Bytes, Failure>>),
    /// A read through a [`crate::Handle`].
    Read(ReadFunction<M>),
    /// A transfer through a [`crate::Handle`].
    Transfer(oneshot::Sender<Result<Leadership, Failure>>),
    /// A change of the membership through a [`crate::Handle`].
    Change(oneshot::Sender<Result<Members, Failure>>),
}

impl<M, W: std::fmt::Debug> std::fmt::Debug for Waiter<M, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(waiter) => f.debug_tuple("Service").field(waiter).finish(),
            Self::Propose(_) => f.write_str("Propose"),
            Self::Read(_) => f.write_str("Read"),
            Self::Transfer(_) => f.write_str("Transfer"),
            Self::Change(_) => f.write_str("Change"),
        }
    }
}

/// No clients over the network: for a program that embeds a replica and uses its [`crate::Handle`] alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoClients;

impl<M: StateMachine> Service<M> for NoClients {
    type Waiter = std::convert::Infallible;

    fn serves_clients(&self) -> bool {
        false
    }

    fn handle_frame(
        &mut self,
        _: Instant,
        connection: ConnectionId,
        _: Frame,
        _: &mut Access<'_, M, Self::Waiter>,
        replies: &mut Replies,
    ) {
        replies.closed.push((connection, "this server has no clients over the network".to_owned()));
    }

    fn handle_answer(
        &mut self,
        _: Instant,
        waiter: Self::Waiter,
        _: Answer,
        _: &mut Access<'_, M, Self::Waiter>,
        _: &mut Replies,
    ) {
        match waiter {}
    }
}
