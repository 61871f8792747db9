//! Stand-in servers: real sockets, real handshake, a real store, and faults by order.
//!
//! All servers of a [`Cluster`] share one store, as if consensus were perfect. What goes wrong is what a script of
//! [`Reaction`]s says, one for each request; after it every request is answered as it should be.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kv_client::{Client, ClientConfig};
use kv_store::api::{
    Leadership, MemberAddress, MemberChange, Members, NodeAddress, NodeStatus, Request, RequestBody, RequestError,
    RequestErrorKind, Response, ResponseBody,
};
use kv_store::{KvStore, Revision, Stamp};
use raft_net::{AcceptLimits, Frame, FrameCodec, FrameKind, HandshakeRefusal, Hello, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::codec::{Decoder, Encoder};

const MAX_FRAME_BYTES: usize = 8 << 20;

/// What a server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// What it should.
    Answer,
    /// Carries it out, and closes the connection instead of answering.
    ApplyAndHangUp,
    /// Carries it out and never answers.
    ApplyAndBeSilent,
    /// Never answers.
    BeSilent,
    /// Says that it cannot; it did nothing.
    Fail(RequestErrorKind),
    /// Lets cluster time pass, then does what it should.
    AfterTime(Duration),
    /// Answers only together with the next request, and after it.
    AnswerAfterNext,
    /// Sends bytes that are no frame.
    Babble,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: KvStore,
    pub(crate) stamp_ns: u64,
    /// Every envelope that came to be applied, as it came.
    pub(crate) envelopes: Vec<Bytes>,
}

/// One store behind any number of servers.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    id: u128,
    state: Arc<Mutex<State>>,
}

/// One server; it ends with its owner.
pub(crate) struct Server {
    pub(crate) address: String,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    id: u64,
    address: String,
    cluster: Cluster,
    script: Mutex<VecDeque<Reaction>>,
    /// What the next handshakes tell instead of the cluster's time.
    told_ns: Mutex<VecDeque<u64>>,
    leader: Mutex<Option<NodeAddress>>,
    members: Mutex<Vec<MemberAddress>>,
    requests: Mutex<Vec<RequestBody>>,
    handshakes: Mutex<u32>,
}

impl Cluster {
    pub(crate) fn new(id: u128) -> Self {
        let state = State { store: KvStore::default(), stamp_ns: 1_000_000_000_000, envelopes: Vec::new() };
        Self { id, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The increments applied to `key`, as its value tells.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let item = self.state().store.get_at(key.as_bytes(), kv_store::Revision(u64::MAX))?;
        Some(String::from_utf8(item.value.to_vec()).unwrap())
    }

    pub(crate) async fn server(&self, id: u64) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            id,
            address: address.clone(),
            cluster: self.clone(),
            script: Mutex::default(),
            told_ns: Mutex::default(),
            leader: Mutex::default(),
            members: Mutex::default(),
            requests: Mutex::default(),
            handshakes: Mutex::default(),
        });
        let task = tokio::spawn(accept_all(listener, Arc::clone(&shared))).abort_handle();
        Server { address, shared, task }
    }
}

impl Server {
    pub(crate) fn script(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.shared.script.lock().unwrap().extend(reactions);
    }

    pub(crate) fn tell_time(&self, nanoseconds: u64) {
        self.shared.told_ns.lock().unwrap().push_back(nanoseconds);
    }

    pub(crate) fn name_leader(&self, leader: &Server) {
        *self.shared.leader.lock().unwrap() =
            Some(NodeAddress { id: leader.shared.id, address: leader.address.clone() });
    }

    pub(crate) fn name_members(&self, members: &[(u64, Option<&str>)]) {
        let named = |(id, address): &(u64, Option<&str>)| MemberAddress { id: *id, address: address.map(Into::into) };
        *self.shared.members.lock().unwrap() = members.iter().map(named).collect();
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// What was asked, in order.
    pub(crate) fn bodies(&self) -> Vec<RequestBody> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn handshakes(&self) -> u32 {
        *self.shared.handshakes.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client with a time-out that no test should reach.
pub(crate) fn patient<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Client {
    Client::connect(ClientConfig { timeout: Duration::from_secs(30), ..ClientConfig::new(addresses) }).unwrap()
}

/// A client for tests in which a server is reached and the time-out is what ends the operation.
pub(crate) fn bounded<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Client {
    Client::connect(ClientConfig { timeout: Duration::from_secs(2), ..ClientConfig::new(addresses) }).unwrap()
}

/// A client for tests in which nobody is reached.
pub(crate) fn hasty<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Client {
    Client::connect(ClientConfig { timeout: Duration::from_millis(300), ..ClientConfig::new(addresses) }).unwrap()
}

/// An address that accepts and never says a word.
pub(crate) async fn mute() -> (String, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    (address, task.abort_handle())
}

/// An address that answers everything with `words`.
pub(crate) async fn stranger(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(words).await;
        }
    });
    address
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let limits = AcceptLimits { handshake_timeout: Duration::from_secs(5), max_frame_bytes: MAX_FRAME_BYTES };
    let Ok((framed, _)) = raft_net::accept(stream, &limits, |hello| shared.welcome(hello)).await else { return };
    let parts = framed.into_parts();
    let (mut socket, mut buffer) = (parts.io, parts.read_buf);
    let mut codec = FrameCodec::new(MAX_FRAME_BYTES);
    let mut held: Vec<Response> = Vec::new();
    loop {
        let frame = match codec.decode(&mut buffer).unwrap() {
            Some(frame) => frame,
            None if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 => return,
            None => continue,
        };
        let request: Request = postcard::from_bytes(&frame.header).unwrap();
        let reaction = shared.script.lock().unwrap().pop_front().unwrap_or(Reaction::Answer);
        let mut out = BytesMut::new();
        match reaction {
            Reaction::ApplyAndHangUp => {
                shared.respond(request, &frame.payload);
                return;
            }
            Reaction::ApplyAndBeSilent => drop(shared.respond(request, &frame.payload)),
            Reaction::BeSilent => shared.requests.lock().unwrap().push(request.body),
            Reaction::Babble => out.extend_from_slice(&[0xFF; 64]),
            Reaction::AnswerAfterNext => held.push(shared.respond(request, &frame.payload)),
            Reaction::Fail(kind) => {
                let error = RequestError { kind, message: "as the script says".into(), maybe_applied: false };
                let leader = shared.leader.lock().unwrap().clone();
                codec.encode(frame_of(&Response { id: request.id, leader, body: Err(error) }), &mut out).unwrap();
            }
            Reaction::AfterTime(time) => {
                shared.cluster.state().stamp_ns += u64::try_from(time.as_nanos()).unwrap();
                codec.encode(frame_of(&shared.respond(request, &frame.payload)), &mut out).unwrap();
            }
            Reaction::Answer => {
                codec.encode(frame_of(&shared.respond(request, &frame.payload)), &mut out).unwrap();
                for response in held.drain(..) {
                    codec.encode(frame_of(&response), &mut out).unwrap();
                }
            }
        }
        if socket.write_all_buf(&mut out).await.is_err() {
            return;
        }
    }
}

fn frame_of(response: &Response) -> Frame {
    let header = postcard::to_allocvec(response).unwrap().into();
    Frame { kind: FrameKind::Response, group: 0, header, payload: Bytes::new() }
}

/// Three voters, and these learners.
fn members(learners: Vec<u64>, revision: Revision) -> ResponseBody {
    ResponseBody::Members(Members { voters: vec![1, 2, 3], learners, revision })
}

impl Shared {
    fn welcome(&self, hello: &Hello) -> Result<Welcome, HandshakeRefusal> {
        if let Some(theirs) = hello.cluster.filter(|theirs| *theirs != self.cluster.id) {
            return Err(HandshakeRefusal::WrongCluster { ours: self.cluster.id, theirs });
        }
        *self.handshakes.lock().unwrap() += 1;
        let told_ns = self.told_ns.lock().unwrap().pop_front();
        Ok(Welcome {
            version: 1,
            cluster: Some(self.cluster.id),
            id: self.id,
            disk: 1,
            incarnation: 1,
            client_address: self.address.clone(),
            cluster_time_ns: told_ns.unwrap_or(self.cluster.state().stamp_ns),
            leader: None,
        })
    }

    fn respond(&self, request: Request, payload: &Bytes) -> Response {
        self.requests.lock().unwrap().push(request.body.clone());
        let mut state = self.cluster.state();
        let body = match request.body {
            RequestBody::Write => {
                state.envelopes.push(payload.clone());
                state.stamp_ns += 1;
                let (index, stamp) = (state.store.applied_index() + 1, Stamp(state.stamp_ns));
                ResponseBody::Written(state.store.apply(index, stamp, payload))
            }
            RequestBody::Read { query, consistency: _ } => ResponseBody::Answer(state.store.query(&query)),
            RequestBody::ReadAt { query, revision } => match state.store.query_at(&query, revision) {
                Ok(answer) => ResponseBody::Answer(answer),
                Err(error) => return refusal(request.id, error.to_string()),
            },
            RequestBody::NodeStatus => ResponseBody::NodeStatus(self.status(&state)),
            RequestBody::TransferLeadership { to } => {
                ResponseBody::Leadership(Leadership { leader: to.unwrap_or(self.id), term: 2 })
            }
            RequestBody::Members => members(Vec::new(), state.store.revision()),
            RequestBody::ChangeMembers { change: MemberChange::Add { id, .. } } => {
                members(vec![id], state.store.revision())
            }
            RequestBody::ChangeMembers { change: MemberChange::Promote { .. } | MemberChange::Remove { .. } } => {
                members(Vec::new(), state.store.revision())
            }
            RequestBody::Watch { .. } | RequestBody::Unwatch { .. } => {
                return refusal(request.id, "no watches here".to_owned());
            }
            RequestBody::StateHash { revision } => {
                let revision = revision.unwrap_or(state.store.revision());
                ResponseBody::StateHash { revision, hash: state.store.hash_at(revision) }
            }
        };
        let leader = self.leader.lock().unwrap().clone();
        Response { id: request.id, leader, body: Ok(body) }
    }

    fn status(&self, state: &State) -> NodeStatus {
        NodeStatus {
            id: self.id,
            cluster: Some(format!("{:032x}", self.cluster.id)),
            role: "follower".into(),
            term: 1,
            leader: None,
            commit_index: state.store.applied_index(),
            applied_index: state.store.applied_index(),
            revision: state.store.revision(),
            last_change: None,
            members: self.members.lock().unwrap().clone(),
        }
    }
}

fn refusal(id: u64, message: String) -> Response {
    let error = RequestError { kind: RequestErrorKind::Invalid, message, maybe_applied: false };
    Response { id, leader: None, body: Err(error) }
}
