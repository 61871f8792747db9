//! The client service: turns clients' frames into requests to the node, and the node's answers into frames.
//!
//! Code without I/O (section 3.2 of the design): the node's loop and a simulator run the same. It keeps nothing
//! between a request and its answer but what travels with the request, and watches (`watch`).

mod checks;

use std::time::Duration;

use bytes::Bytes;
use kv_store::api::{
    Consistency, LeaderChange, Leadership, MemberAddress, MemberChange, Members, NodeAddress, NodeStatus, Request,
    RequestBody, RequestError, RequestErrorKind, Response, ResponseBody,
};
use kv_store::{MAX_KEY_BYTES, MAX_TRANSACTION_OPERATIONS, MAX_VALUE_BYTES, Policy, Query, Revision, RevisionError};
use raft_core::{Instant, NodeId, RoleName};
use raft_net::{Frame, FrameKind};
use raft_node::{
    Access, Answer, ChangeRefusal, ConnectionId, Failure, MemberRequest, Replies, Service, Standing, Status,
};

use crate::machine::{KvMachine, decode_reply};
use crate::upkeep::Upkeep;
use crate::watch::{self, Ended, Filter, MAX_WATCHES, WatchId, Watches};

/// A node without a leader for so long sends those who watch to another one: it may be cut off.
const LEADERLESS_WATCH: Duration = Duration::from_secs(3);
const LEADERLESS: &str = "this node has had no leader for a while; resume at another one";

/// No request is kept longer than this, whatever its client says.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// What the service takes from clients; larger requests are refused before they reach the log.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// The bytes of a key.
    pub key_bytes: u64,
    /// The bytes of a value.
    pub value_bytes: u64,
    /// The bytes of a write as a whole, its envelope; never more than the log takes as one entry.
    pub request_bytes: u64,
    /// The operations of one list of a transaction.
    pub transaction_operations: usize,
    /// The bytes of watched events that are not written to a connection yet; with more it is told no more until it has
    /// taken some.
    pub unwritten_bytes: usize,
    /// What is proposed for the whole cluster while this node leads.
    pub policy: Policy,
}

/// Speaks with the clients of one node.
#[derive(Debug)]
pub struct ClientService {
    limits: ServiceLimits,
    watches: Watches,
    upkeep: Upkeep,
    /// Since when this node knows no leader: its watches see nothing new.
    leaderless: Option<Instant>,
}

/// Who waits for an answer of the node.
#[derive(Debug)]
pub enum Waiting {
    /// A client.
    Client(ClientRequest),
    /// This service, for what it has proposed for the cluster.
    Upkeep,
}

/// A request under way.
#[derive(Debug)]
pub struct ClientRequest {
    connection: ConnectionId,
    id: u64,
    /// What to read once the read is confirmed; nothing for what is no read.
    wanted: Option<Wanted>,
    /// For a local read: the revision that its client has seen.
    seen: Option<Revision>,
}

impl ClientRequest {
    /// Who is to be answered; the name of a watch.
    const fn watch_id(&self) -> WatchId {
        WatchId { connection: self.connection, request: self.id }
    }
}

/// What a read is to find.
#[derive(Debug)]
enum Wanted {
    /// Something in the store.
    Query(Query),
    /// Something in the store as it was at a revision.
    QueryAt(Query, Revision),
    /// Who the members are.
    Members,
    /// From where on a watch is to tell.
    Watch,
}

impl Default for ServiceLimits {
    /// Those of the store, and of the contract.
    fn default() -> Self {
        Self {
            key_bytes: MAX_KEY_BYTES as u64,
            value_bytes: MAX_VALUE_BYTES as u64,
            request_bytes: 2 << 20,
            transaction_operations: MAX_TRANSACTION_OPERATIONS,
            unwritten_bytes: 256 << 10,
            policy: Policy::default(),
        }
    }
}

type Node<'a> = Access<'a, KvMachine, Waiting>;

impl ClientService {
    /// A service with these limits.
    #[must_use]
    pub fn new(limits: ServiceLimits) -> Self {
        Self { limits, watches: Watches::new(limits.unwritten_bytes), upkeep: Upkeep::default(), leaderless: None }
    }

    /// Takes a write, unless it could not be applied anyway.
    fn write(
        &self,
        request: ClientRequest,
        envelope: Bytes,
        deadline: Instant,
        node: &mut Node<'_>,
        replies: &mut Replies,
    ) {
        match self.check_envelope(&envelope) {
            Ok(()) => node.propose(Waiting::Client(request), envelope, deadline),
            Err(error) => reply(&request, Err(error), node, replies),
        }
    }
}

impl Service<KvMachine> for ClientService {
    type Waiter = Waiting;

    fn handle_frame(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        frame: Frame,
        node: &mut Node<'_>,
        replies: &mut Replies,
    ) {
        if frame.kind != FrameKind::Request {
            replies.closed.push((connection, format!("a client sent a frame of kind {:?}", frame.kind)));
            return;
        }
        let request: Request = match postcard::from_bytes(&frame.header) {
            Ok(request) => request,
            Err(error) => {
                replies.closed.push((connection, format!("a client's request does not decode: {error}")));
                return;
            }
        };
        let timeout = Duration::from_millis(request.timeout_ms.into()).min(MAX_TIMEOUT);
        let deadline = now.after(timeout);
        let mut waiter = ClientRequest { connection, id: request.id, wanted: None, seen: None };
        match request.body {
            RequestBody::Write => self.write(waiter, frame.payload, deadline, node, replies),
            RequestBody::Read { query, consistency } => match self.check_query(&query) {
                Err(error) => reply(&waiter, Err(error), node, replies),
                Ok(()) => {
                    waiter.wanted = Some(Wanted::Query(query));
                    read(now, waiter, consistency, timeout, node);
                }
            },
            RequestBody::ReadAt { query, revision } => match self.check_query(&query) {
                Err(error) => reply(&waiter, Err(error), node, replies),
                // What was is the same on every node, so there is nobody to ask.
                Ok(()) if revision <= node.machine().store().revision() => {
                    let body = read_at(&query, revision, node);
                    reply(&waiter, body, node, replies);
                }
                Ok(()) => {
                    waiter.wanted = Some(Wanted::QueryAt(query, revision));
                    node.read(Waiting::Client(waiter), deadline);
                }
            },
            RequestBody::NodeStatus => {
                let status = node_status(node);
                reply(&waiter, Ok(ResponseBody::NodeStatus(status)), node, replies);
            }
            RequestBody::TransferLeadership { to: Some(0) } => {
                reply(&waiter, Err(request_error(Failure::NotAVoter)), node, replies);
            }
            RequestBody::TransferLeadership { to } => {
                node.transfer(now, Waiting::Client(waiter), to.and_then(NodeId::new), deadline);
            }
            RequestBody::Members => {
                waiter.wanted = Some(Wanted::Members);
                node.read(Waiting::Client(waiter), deadline);
            }
            RequestBody::Watch { target, from, previous } => {
                let filter = Filter { target, previous };
                self.watch(now, waiter, filter, from, deadline, node, replies);
            }
            RequestBody::Unwatch { id } => {
                self.unwatch(&waiter, id, node, replies);
            }
            RequestBody::ChangeMembers { change } => match member_request(change) {
                // A little is left for the way back: what is still waiting then has its reason.
                Ok(request) => {
                    node.change_membership(now, Waiting::Client(waiter), request, now.after(timeout * 9 / 10));
                }
                Err(error) => reply(&waiter, Err(error), node, replies),
            },
            RequestBody::StateHash { revision } => {
                let store = node.machine().store();
                let revision = revision.unwrap_or_else(|| store.revision());
                let body = ResponseBody::StateHash { revision, hash: store.hash_at(revision) };
                reply(&waiter, Ok(body), node, replies);
            }
        }
    }

    fn handle_answer(
        &mut self,
        now: Instant,
        waiter: Waiting,
        answer: Answer,
        node: &mut Node<'_>,
        replies: &mut Replies,
    ) {
        let waiter = match waiter {
            Waiting::Client(waiter) => waiter,
            Waiting::Upkeep => return self.upkeep.note_answer(now, &answer),
        };
        let body = match (answer, &waiter.wanted) {
            (Answer::Applied(written), _) => match decode_reply(&written) {
                Some(result) => Ok(ResponseBody::Written(result)),
                None => Err(RequestError {
                    kind: RequestErrorKind::Invalid,
                    message: "the leader's answer is of a version this node does not know; upgrade this node"
                        .to_owned(),
                    maybe_applied: true,
                }),
            },
            (Answer::Transferred(raft_node::Leadership { leader, term }), _) => {
                Ok(ResponseBody::Leadership(Leadership { leader: leader.as_u64(), term: term.0 }))
            }
            (Answer::Members(members), _) => Ok(ResponseBody::Members(members_body(members, node))),
            (Answer::ReadReady, Some(Wanted::Query(query))) => {
                Ok(ResponseBody::Answer(node.machine().store().query(query)))
            }
            (Answer::ReadReady, Some(Wanted::QueryAt(query, revision))) => read_at(query, *revision, node),
            (Answer::ReadReady, Some(Wanted::Members)) => Ok(ResponseBody::Members(members_body(node.members(), node))),
            (Answer::ReadReady, Some(Wanted::Watch)) => {
                if self.watches.begin_expected(now, waiter.watch_id(), node.machine().store(), replies) {
                    return;
                }
                Ok(ResponseBody::Unwatched)
            }
            (Answer::ReadReady, None) => unreachable!("only a read is answered as one"),
            (Answer::Failed(Failure::Timeout), Some(_)) if waiter.seen.is_some() => Err(behind(&waiter, node)),
            (Answer::Failed(failure), wanted) => {
                if matches!(wanted, Some(Wanted::Watch)) {
                    self.watches.give_up(waiter.watch_id());
                }
                Err(request_error(failure))
            }
        };
        reply(&waiter, body, node, replies);
    }

    fn handle_left(&mut self, connection: ConnectionId, replies: &mut Replies) {
        for id in self.watches.end_of_connection(connection) {
            reply_to(id, None, Ok(ResponseBody::Unwatched), replies);
        }
    }

    fn handle_pushed(&mut self, connection: ConnectionId, frames: usize, size_bytes: usize) {
        self.watches.note_written(connection, frames, size_bytes);
    }

    fn turn(&mut self, now: Instant, node: &mut Node<'_>, replies: &mut Replies) -> bool {
        for Ended { id, kind, message } in self.watches.turn(now, node.machine().store(), replies) {
            reply_to(id, leader(node), Err(refusal(kind, message)), replies);
        }
        self.end_without_leader(now, node, replies);
        self.upkeep.turn(now, &self.limits.policy, node)
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let is_watched = self.watches.len() > 0;
        let given_up = self.leaderless.filter(|_| is_watched).map(|since| since.after(LEADERLESS_WATCH));
        [self.watches.next_wakeup(), self.upkeep.next_wakeup(), given_up].into_iter().flatten().min()
    }
}

// --- watches -----------------------------------------------------------------------------------------------------

impl ClientService {
    #[expect(clippy::too_many_arguments, reason = "what a request is made of")]
    fn watch(
        &mut self,
        now: Instant,
        mut request: ClientRequest,
        filter: Filter,
        from: Option<Revision>,
        deadline: Instant,
        node: &mut Node<'_>,
        replies: &mut Replies,
    ) {
        let id = request.watch_id();
        let refused = if self.watches.len() >= MAX_WATCHES {
            let message = format!("this node serves {MAX_WATCHES} watches already; watch at another one");
            Some(refusal(RequestErrorKind::Overloaded, message))
        } else if self.is_leaderless(now) || node.is_removed() {
            Some(refusal(RequestErrorKind::NoLeader, LEADERLESS.to_owned()))
        } else if self.watches.contains(id) {
            Some(refusal(RequestErrorKind::Invalid, "a request with this id is under way".to_owned()))
        } else {
            self.check_target(&filter.target).err()
        };
        match (refused, from) {
            (Some(error), _) => reply(&request, Err(error), node, replies),
            // The history is the same on every node, so there is nobody to ask.
            (None, Some(from)) => match watch::check_from(from, node.machine().store()) {
                Ok(()) => self.watches.begin(now, id, filter, from, node.machine().store(), replies),
                Err((kind, message)) => reply(&request, Err(refusal(kind, message)), node, replies),
            },
            (None, None) => {
                self.watches.expect(id, filter);
                request.wanted = Some(Wanted::Watch);
                node.read(Waiting::Client(request), deadline);
            }
        }
    }

    fn unwatch(&mut self, request: &ClientRequest, watch: u64, node: &Node<'_>, replies: &mut Replies) {
        let id = WatchId { connection: request.connection, request: watch };
        if self.watches.end(id) {
            reply_to(id, leader(node), Ok(ResponseBody::Unwatched), replies);
        }
        reply(request, Ok(ResponseBody::Unwatched), node, replies);
    }

    /// Whether this node has been without a leader for a while: it may be cut off, or removed.
    fn is_leaderless(&self, now: Instant) -> bool {
        self.leaderless.is_some_and(|since| now >= since.after(LEADERLESS_WATCH))
    }

    /// A leaderless node sends those who watch to another one.
    fn end_without_leader(&mut self, now: Instant, node: &Node<'_>, replies: &mut Replies) {
        if node.has_leader() {
            self.leaderless = None;
            return;
        }
        self.leaderless.get_or_insert(now);
        if !self.is_leaderless(now) {
            return;
        }
        for id in self.watches.end_all() {
            reply_to(id, None, Err(refusal(RequestErrorKind::NoLeader, LEADERLESS.to_owned())), replies);
        }
    }
}

fn read_at(query: &Query, revision: Revision, node: &Node<'_>) -> Result<ResponseBody, RequestError> {
    let answer = node.machine().store().query_at(query, revision);
    answer.map(ResponseBody::Answer).map_err(|error| {
        let kind = match error {
            RevisionError::NotReached { .. } => RequestErrorKind::Invalid,
            RevisionError::Compacted { oldest, .. } => RequestErrorKind::Compacted { oldest },
        };
        refusal(kind, error.to_string())
    })
}

fn read(now: Instant, mut waiter: ClientRequest, consistency: Consistency, timeout: Duration, node: &mut Node<'_>) {
    let seen = match consistency {
        // Leases are not there yet; without them a lease read is a linearizable one (contract, section 6).
        Consistency::Linearizable | Consistency::Lease => {
            return node.read(Waiting::Client(waiter), now.after(timeout));
        }
        Consistency::Local => Revision(0),
        Consistency::LocalFrom { revision } => revision,
    };
    waiter.seen = Some(seen);
    // A little is left for the way back, so that its client hears how far behind this node is.
    node.read_local(Waiting::Client(waiter), seen.0, now.after(timeout * 9 / 10));
}

fn member_request(change: MemberChange) -> Result<MemberRequest, RequestError> {
    let node_id = |id| {
        let none = || refusal(RequestErrorKind::Invalid, "0 is no node's id; ids begin with 1".to_owned());
        NodeId::new(id).ok_or_else(none)
    };
    Ok(match change {
        MemberChange::Add { id, address, becomes_voter } => {
            MemberRequest::Add { id: node_id(id)?, address, becomes_voter }
        }
        MemberChange::Promote { id } => MemberRequest::Promote { id: node_id(id)? },
        MemberChange::Remove { id } => MemberRequest::Remove { id: node_id(id)? },
    })
}

fn members_body(members: raft_node::Members, node: &Node<'_>) -> Members {
    let ids = |ids: Vec<NodeId>| ids.into_iter().map(NodeId::as_u64).collect();
    Members {
        voters: ids(members.voters),
        learners: ids(members.learners),
        revision: node.machine().store().revision(),
    }
}

/// A local read would have gone back in time until its deadline.
fn behind(request: &ClientRequest, node: &Node<'_>) -> RequestError {
    let message = format!(
        "this node is at revision {}, and revision {} was seen before: it is behind, or cut off; try again, name another \
         endpoint first, or read linearizably",
        node.machine().store().revision(),
        request.seen.unwrap_or_default()
    );
    RequestError { kind: RequestErrorKind::Timeout, message, maybe_applied: false }
}

fn reply(request: &ClientRequest, body: Result<ResponseBody, RequestError>, node: &Node<'_>, replies: &mut Replies) {
    reply_to(request.watch_id(), leader(node), body, replies);
}

fn leader(node: &Node<'_>) -> Option<NodeAddress> {
    node.leader_address().map(|(id, address)| NodeAddress { id: id.as_u64(), address: address.to_owned() })
}

fn reply_to(id: WatchId, leader: Option<NodeAddress>, body: Result<ResponseBody, RequestError>, replies: &mut Replies) {
    let response = Response { id: id.request, leader, body };
    let header = postcard::to_allocvec(&response).expect("encoding into memory that grows cannot fail").into();
    let frame = Frame { kind: FrameKind::Response, group: 0, header, payload: Bytes::new() };
    replies.frames.push((id.connection, frame));
}

/// A refusal of something that was not done and will not be.
const fn refusal(kind: RequestErrorKind, message: String) -> RequestError {
    RequestError { kind, message, maybe_applied: false }
}

fn request_error(failure: Failure) -> RequestError {
    let kind = match failure {
        Failure::NoLeader => RequestErrorKind::NoLeader,
        Failure::NotLeader | Failure::LeaderChanged | Failure::Overwritten => RequestErrorKind::LeaderChanged,
        Failure::Timeout => RequestErrorKind::Timeout,
        Failure::Overloaded => RequestErrorKind::Overloaded,
        Failure::TooLarge => RequestErrorKind::TooLarge,
        Failure::Stopping => RequestErrorKind::Stopping,
        Failure::NotAVoter => RequestErrorKind::Invalid,
        Failure::NobodyToSucceed => RequestErrorKind::NoSuccessor,
        Failure::TransferUnderWay => RequestErrorKind::Conflict,
        Failure::SuccessorNotElected => RequestErrorKind::NotElected,
        Failure::NoSpace => RequestErrorKind::NoSpace,
        Failure::ChangeRefused(refusal) => change_refused(refusal),
        Failure::NotMet { .. } | Failure::NotBegun => RequestErrorKind::Timeout,
    };
    RequestError { kind, message: failure.to_string(), maybe_applied: failure.maybe_applied() }
}

fn change_refused(refusal: ChangeRefusal) -> RequestErrorKind {
    match refusal {
        ChangeRefusal::UnderWay { .. } => RequestErrorKind::Conflict,
        ChangeRefusal::UnknownMember { .. }
        | ChangeRefusal::IdInUse { .. }
        | ChangeRefusal::NotYetALearner { .. }
        | ChangeRefusal::NoVoterLeft
        | ChangeRefusal::TooManyVoters
        | ChangeRefusal::TooManyLearners
        | ChangeRefusal::AddressTooLong { .. } => RequestErrorKind::Invalid,
        // What passes by itself: the leader is new, a learner lags, somebody is not heard.
        ChangeRefusal::NotLeader { .. }
        | ChangeRefusal::HandingOver { .. }
        | ChangeRefusal::TermNotCommitted
        | ChangeRefusal::StillAlive { .. }
        | ChangeRefusal::NotCaughtUp { .. }
        | ChangeRefusal::Silent { .. }
        | ChangeRefusal::MajoritySilent
        | _ => RequestErrorKind::NotReady,
    }
}

fn node_status(node: &Node<'_>) -> NodeStatus {
    let status: Status = node.status();
    let address = |id| node.replica.client_address(id).map(str::to_owned);
    NodeStatus {
        id: status.id.as_u64(),
        cluster: status.cluster.map(|cluster| cluster.to_string()),
        role: role_name(&status).to_owned(),
        term: status.term.0,
        leader: status.leader.map(|leader| leader.as_u64()),
        commit_index: status.commit_index.0,
        applied_index: status.applied_index.0,
        revision: node.machine().store().revision(),
        last_change: status.last_change.map(|change| LeaderChange { term: change.term.0, reason: change.reason }),
        members: status
            .members
            .iter()
            .map(|member| MemberAddress { id: member.id.as_u64(), address: address(member.id) })
            .collect(),
    }
}

fn role_name(status: &Status) -> &'static str {
    let own = status.members.iter().find(|member| member.id == status.id);
    match status.role {
        _ if status.is_removed => "removed",
        None | Some(RoleName::Follower)
            if own.is_none_or(|own| matches!(own.standing, Some(Standing::Learner { .. }))) =>
        {
            "learner"
        }
        // Before its cluster has formed a node follows, and never stands.
        None | Some(RoleName::Follower) => "follower",
        Some(RoleName::PreCandidate) => "pre_candidate",
        Some(RoleName::Candidate) => "candidate",
        Some(RoleName::Leader) => "leader",
    }
}

#[cfg(test)]
mod tests {
    use kv_store::{ClientId, Command, Envelope, Principal, SessionHeader, Stamp};

    use super::*;

    fn set_of(value_bytes: usize) -> Bytes {
        let session = SessionHeader {
            client: ClientId(1),
            birth: Stamp(0),
            sequence: 1,
            lowest_unanswered: 1,
            deadline: Stamp(1),
        };
        let value = Bytes::from(vec![b'v'; value_bytes]);
        let command = Command::Set { key: Bytes::from_static(b"k"), value, if_absent: false };
        Envelope { session, principal: Principal::nobody(), command }.encode()
    }

    #[test]
    fn a_request_is_taken_up_to_its_limit_and_refused_with_it_beyond() {
        let envelope = set_of(1_000);
        let service = |request_bytes| ClientService::new(ServiceLimits { request_bytes, ..ServiceLimits::default() });
        let size_bytes = envelope.len() as u64;
        assert_eq!(service(size_bytes).check_envelope(&envelope), Ok(()));
        let refused = service(size_bytes - 1).check_envelope(&envelope).unwrap_err();
        assert_eq!(refused.kind, RequestErrorKind::TooLarge);
        assert!(!refused.maybe_applied);
        let limit_bytes = size_bytes - 1;
        assert_eq!(refused.message, format!("the request has {size_bytes} bytes, the limit is {limit_bytes}"));
    }
}
