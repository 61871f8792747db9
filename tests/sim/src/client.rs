//! Simulated clients: they write under a session, try again at other servers, lose replies, send late copies, and note what
//! they saw.
//!
//! A client does one operation at a time. What it concludes from the end of each try is what `kv-client` concludes: an
//! operation is done, certainly not done, or unknown.

mod ends;

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_store::api::{self, Consistency, RequestBody, RequestError, RequestErrorKind, Response, ResponseBody};
use kv_store::{ClientId, Envelope, Item, Principal, Revision, SessionHeader, Stamp};
use raft_net::{Frame, FrameKind, Hello, PROTOCOL_VERSIONS, Role};
use raft_node::{ConnectionId, Serves};

use crate::checkers::Violation;
use crate::checkers::ledger::WriteId;
use crate::coverage::Count;
use crate::node::Happening;
use crate::operator::OPERATOR;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::time::{MILLIS, SECONDS, Time};
use crate::watcher::WATCHERS;
use crate::workload::{self, Request};
use crate::world::{Event, World};

/// Within this time the operations of a client are begun, if the servers let it.
const PACE: Time = 32 * SECONDS;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    place: usize,
    random: Random,
    session: ClientId,
    /// Cluster time at the last handshake, and when that was; the first one is the session's birth.
    birth: Option<Stamp>,
    cluster_time: (Stamp, Time),
    next_sequence: u64,
    next_request: u64,
    uniques: u64,
    pub(crate) operations_left: u64,
    interval: Time,
    /// Which generation of each slot's key it uses is shared by all; what it last saw there is its own.
    seen: BTreeMap<Bytes, Bytes>,
    /// The accounts of the bank, as it last saw them.
    bank: Vec<Item>,
    connections: BTreeMap<usize, (ConnectionId, u64)>,
    call: Option<Call>,
    serial: u64,
    favourite: usize,
    /// How long it waits for one server at least, before it asks another.
    impatience: Time,
    /// Whether its last operation was done.
    pub(crate) last_was_done: bool,
    /// The newest revision it has been told of: its local reads ask for no less, at whichever server.
    newest: Revision,
}

/// An operation under way.
#[derive(Debug)]
struct Call {
    request: Request,
    key: Bytes,
    write: Option<(WriteId, Bytes)>,
    called: u64,
    floor: Revision,
    deadline: Time,
    /// The tries that have no answer.
    open: Vec<u64>,
    in_doubt: bool,
    is_single: bool,
    tries: u32,
    /// The only server to ask, if it matters which.
    only: Option<usize>,
}

impl Client {
    pub(crate) fn new(place: usize, scenario: &Scenario) -> Self {
        let mut random = Random::new(scenario.seed, 100 + place as u64);
        let impatience = random.pick(&[30 * MILLIS, 100 * MILLIS, 300 * MILLIS, SECONDS]);
        let share = scenario.operations.div_ceil(scenario.clients as u64);
        Self {
            place,
            session: ClientId(random.wide()),
            random,
            birth: None,
            cluster_time: (Stamp(0), 0),
            next_sequence: 1,
            next_request: 1,
            uniques: 0,
            operations_left: share,
            interval: PACE / share.max(1),
            seen: BTreeMap::new(),
            bank: Vec::new(),
            connections: BTreeMap::new(),
            call: None,
            serial: 0,
            favourite: place,
            impatience,
            last_was_done: false,
            newest: Revision(0),
        }
    }

    pub(crate) const fn is_idle(&self) -> bool {
        self.call.is_none()
    }

    fn unique(&mut self) -> u64 {
        self.uniques += 1;
        (self.place as u64 + 1) * 1_000_000 + self.uniques
    }
}

impl World {
    fn client(&mut self, client: usize) -> &mut Client {
        self.clients.get_mut(client).expect("a client of this run")
    }

    /// A client's timer: it begins an operation, or gives up a try.
    pub(crate) fn client_acts(&mut self, client: usize, serial: u64) {
        let has_stopped = self.clients_have_stopped;
        let now = self.now;
        let this = self.client(client);
        if this.serial != serial {
            return;
        }
        if let Some(call) = &this.call {
            if now >= call.deadline || (call.is_single && call.tries > 0) {
                self.end_without_answer(client);
            } else {
                let nodes = self.nodes.len();
                let this = self.client(client);
                this.favourite = this.random.place(nodes);
                self.try_once(client);
            }
        } else if this.operations_left > 0 && !has_stopped {
            this.operations_left -= 1;
            self.begin_drawn(client);
        }
    }

    fn act_at(&mut self, client: usize, at: Time) {
        let this = self.client(client);
        this.serial += 1;
        let serial = this.serial;
        self.schedule(at, Event::Client { client, serial });
    }

    fn begin_drawn(&mut self, client: usize) {
        let (keys, read_per_mille) = (self.scenario.settings.keys, self.scenario.settings.read_per_mille);
        let single_per_mille = self.scenario.settings.single_try_per_mille;
        let slot = self.client(client).random.place(keys);
        let key = self.current_key(slot);
        let this = self.client(client);
        let unique = this.unique();
        let seen = this.seen.get(&key).cloned();
        let request = match this.random.below(20) {
            0 | 1 => Request::Special(workload::draw_transfer(&mut this.random, &this.bank)),
            2 => Request::Special(workload::draw_fleeting(&mut this.random, unique)),
            _ => workload::draw(&mut this.random, slot, &key, seen.as_ref(), unique, read_per_mille),
        };
        let patience = this.random.between(SECONDS / 3, 4 * SECONDS);
        let is_single = this.random.chance(single_per_mille);
        self.begin(client, request, key, patience, is_single, None);
    }

    /// The key of a slot; another one once it has had its share.
    fn current_key(&mut self, slot: usize) -> Bytes {
        let generation = self.generations.get(slot).copied().unwrap_or_default();
        let key = workload::key_name(slot, generation);
        if !self.checkers.linearizable.is_used_up(&key) {
            return key;
        }
        self.coverage.count(Count::KeyRotated);
        if let Some(generation) = self.generations.get_mut(slot) {
            *generation += 1;
        }
        workload::key_name(slot, generation + 1)
    }

    /// A client begins an operation.
    pub(crate) fn begin(
        &mut self,
        client: usize,
        request: Request,
        key: Bytes,
        patience: Time,
        is_single: bool,
        only: Option<usize>,
    ) {
        let called = self.checkers.linearizable.called(&key);
        let floor = self.checkers.real_time.floor();
        let deadline = self.now + patience;
        let short_per_mille = if only.is_some() { 0 } else { self.scenario.settings.short_deadline_per_mille };
        let this = self.client(client);
        this.last_was_done = false;
        // A write needs its session's birth, and so a handshake, before it can be made.
        let call = Call {
            request,
            key,
            write: None,
            called,
            floor,
            deadline,
            open: Vec::new(),
            in_doubt: false,
            is_single,
            tries: 0,
            only,
        };
        this.call = Some(call);
        let is_short = this.random.chance(short_per_mille);
        if let Some(node) = only {
            this.favourite = node;
        }
        if this.birth.is_none() {
            let node = this.favourite % self.nodes.len();
            self.connect(client, node);
        }
        self.prepare_write(client, is_short, patience);
        self.trace_beginning(client);
        self.try_once(client);
    }

    fn trace_beginning(&mut self, client: usize) {
        let now = self.now;
        let call = self.clients.get(client).and_then(|this| this.call.as_ref());
        self.trace.line(now, || format!("c{client} asks: {:?}", call.map(|call| &call.request)));
    }

    /// Makes the envelope of a write: the same bytes in all tries.
    fn prepare_write(&mut self, client: usize, is_short: bool, patience: Time) {
        let now = self.now;
        let this = self.client(client);
        let Some(call) = &mut this.call else { return };
        let (Request::Write(command) | Request::Special(command)) = &call.request else { return };
        let sequence = this.next_sequence;
        this.next_sequence += 1;
        let (at, noted) = this.cluster_time;
        let cluster_time = at.plus_ns(now - noted);
        let allowed = if is_short { this.random.below(200 * MILLIS) } else { 2 * patience + SECONDS };
        let session = SessionHeader {
            client: this.session,
            birth: *this.birth.get_or_insert(Stamp(0)),
            sequence,
            lowest_unanswered: sequence,
            deadline: cluster_time.plus_ns(allowed),
        };
        let envelope = Envelope { session, principal: Principal::nobody(), command: command.clone() }.encode();
        call.write = Some(((this.session, sequence), envelope));
    }

    /// One try: a connection if there is none, a frame, and a time after which it has failed.
    fn try_once(&mut self, client: usize) {
        let nodes = self.nodes.len();
        let this = self.client(client);
        let node = match this.call.as_ref().and_then(|call| call.only) {
            Some(only) => only,
            None if this.random.chance(300) => this.random.place(nodes),
            None => this.favourite % nodes,
        };
        let pause = this.random.between(20 * MILLIS, 300 * MILLIS);
        if !self.connect(client, node) {
            let this = self.client(client);
            this.favourite = this.random.place(nodes);
            if let Some(call) = &mut this.call {
                call.tries += 1;
            }
            self.act_at(client, self.now + pause);
            return;
        }
        self.send_request(client, node);
    }

    fn connect(&mut self, client: usize, node: usize) -> bool {
        let now = self.now;
        let machine = self.node(node);
        let Some(process) = &machine.process else { return false };
        let (number, is_awake) = (process.number, machine.paused_until <= now && process.stopping.is_none());
        if self.client(client).connections.get(&node).is_some_and(|(_, process)| *process == number) {
            return true;
        }
        if !is_awake {
            return false;
        }
        let hello = Hello { versions: PROTOCOL_VERSIONS, cluster: None, role: Role::Client };
        let Some(process) = &self.node(node).process else { return false };
        let Ok(welcome) = process.view.admit(&hello, Serves { clients: true, peers: true }) else { return false };
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.connections.insert(connection, (client, node, number));
        let this = self.client(client);
        if let Some((old, _)) = this.connections.insert(node, (connection, number)) {
            self.connections.remove(&old);
        }
        let this = self.client(client);
        let cluster_time = Stamp(welcome.cluster_time_ns);
        this.birth.get_or_insert(cluster_time);
        // A server that lags behind, or has no cluster, is behind in time too.
        let (at, noted) = this.cluster_time;
        this.cluster_time = (cluster_time.max(at.plus_ns(now - noted)), now);
        true
    }

    fn send_request(&mut self, client: usize, node: usize) {
        let settings = &self.scenario.settings;
        let (late_per_mille, latency, jitter) = (settings.late_copy_per_mille, settings.latency, settings.jitter);
        let loss = if self.is_healed { 0 } else { settings.reply_loss_per_mille / 4 };
        let (now, is_healed) = (self.now, self.is_healed);
        let this = self.client(client);
        let Some(&(connection, process)) = this.connections.get(&node) else { return };
        let Some(call) = &mut this.call else { return };
        let id = this.next_request;
        this.next_request += 1;
        call.tries += 1;
        let is_again = call.tries > 1;
        call.open.push(id);
        // A cluster that is to serve within bounds is given the time that its latencies take.
        let shortest = if is_healed { SECONDS } else { this.impatience };
        let longest = this.random.between(shortest, 2 * shortest);
        let patience = call.deadline.saturating_sub(now).clamp(MILLIS, longest);
        let (frame, is_write) = encode(id, call, this.newest, patience);
        let (is_lost, is_copied) =
            (this.random.chance(loss), is_write && !is_healed && this.random.chance(late_per_mille));
        if is_copied {
            // Whatever becomes of the tries, the copy may still be applied.
            call.in_doubt = true;
        }
        let copy_at = now + this.random.between(10 * MILLIS, 10 * SECONDS);
        if is_again {
            self.coverage.count(if is_write { Count::WriteRetried } else { Count::ReadRetried });
        }
        let at = now + latency + self.random.below(jitter + 1);
        if is_copied {
            self.coverage.count(Count::LateCopy);
            let what = Box::new(Happening::Request { connection, frame: frame.clone() });
            self.schedule(copy_at, Event::Arrive { node, process, what });
        }
        if !is_lost {
            let what = Box::new(Happening::Request { connection, frame });
            self.schedule(at, Event::Arrive { node, process, what });
        }
        self.act_at(client, now + patience + 20 * MILLIS);
    }

    /// A server answers; the reply may be lost on its way.
    pub(crate) fn send_reply(&mut self, _: usize, _: u64, connection: ConnectionId, frame: Frame) {
        let Some(&(client, ..)) = self.connections.get(&connection) else { return };
        if (WATCHERS..OPERATOR).contains(&client) {
            return self.send_to_watcher(client - WATCHERS, connection, frame);
        }
        let settings = &self.scenario.settings;
        let (latency, jitter) = (settings.latency, settings.jitter);
        let loss = if self.is_healed { 0 } else { settings.reply_loss_per_mille };
        if self.random.chance(loss) {
            self.coverage.count(Count::DroppedReply);
            return;
        }
        let at = self.now + latency + self.random.below(jitter + 1);
        self.schedule(at, Event::Reply { client, connection, frame: Box::new(frame) });
    }

    pub(crate) fn reply_arrives(&mut self, client: usize, _: ConnectionId, frame: &Frame) {
        let Ok(response) = postcard::from_bytes::<Response>(&frame.header) else {
            self.judge(Err(Violation::new("Clients are understood", "a response does not decode".to_owned())));
            return;
        };
        let now = self.now;
        self.trace.line(now, || format!("c{client} is answered: {:?}", response.body));
        let nodes = self.nodes.len() as u64;
        let this = self.client(client);
        if let Some(leader) = response.leader.as_ref().filter(|leader| leader.id <= nodes) {
            this.favourite = usize::try_from(leader.id - 1).unwrap_or_default();
        }
        let Some(call) = &mut this.call else { return };
        let Some(place) = call.open.iter().position(|&id| id == response.id) else { return };
        call.open.remove(place);
        match response.body {
            Ok(ResponseBody::Written(Ok(outcome))) => self.written(client, &outcome),
            Ok(ResponseBody::Written(Err(refusal))) => self.refused(client, &refusal),
            Ok(ResponseBody::Answer(answer)) => self.read(client, &answer),
            Ok(
                ResponseBody::NodeStatus(_)
                | ResponseBody::StateHash { .. }
                | ResponseBody::Leadership(_)
                | ResponseBody::Members(_)
                | ResponseBody::Unwatched,
            ) => {}
            Err(RequestError { kind: RequestErrorKind::Compacted { oldest }, .. }) => {
                self.past_is_compacted(client, oldest);
            }
            Err(error) => {
                call.in_doubt |= error.maybe_applied;
                if error.maybe_applied {
                    self.coverage.count(Count::LeaderChanged);
                }
                if error.kind == RequestErrorKind::Invalid {
                    let what = format!("a request is answered: {error}");
                    self.judge(Err(Violation::new("Clients are understood", what)));
                    return;
                }
                if error.kind == RequestErrorKind::NoSpace {
                    self.coverage.count(Count::NoSpace);
                }
                if error.kind == RequestErrorKind::Overloaded {
                    self.coverage.count(Count::Overloaded);
                }
                let this = self.client(client);
                let pause = this.random.between(5 * MILLIS, 200 * MILLIS);
                this.favourite = this.random.place(usize::try_from(nodes).unwrap_or(1));
                self.act_at(client, self.now + pause);
            }
        }
    }

    /// All clients stop where they are: no command is on its way any more.
    pub(crate) fn stop_clients(&mut self) {
        self.clients_have_stopped = true;
        self.connections.retain(|_, (client, ..)| (WATCHERS..OPERATOR).contains(client));
        for client in 0..self.clients.len() {
            self.client(client).connections.clear();
            if self.client(client).call.is_some() {
                self.end_without_answer(client);
            }
            self.client(client).serial += 1;
        }
    }

    /// Clients go on with what they had left to do, without a rest.
    pub(crate) fn resume_clients(&mut self) {
        self.clients_have_stopped = false;
        for client in 0..self.clients.len() {
            self.act_at(client, self.now);
        }
    }
}

impl Call {
    /// As of which revision the past is read.
    fn past_revision(&self) -> Revision {
        match &self.request {
            Request::PastRead { back, .. } => Revision(self.floor.0.saturating_sub(*back)),
            Request::Write(_) | Request::Special(_) | Request::Read(_) | Request::LocalRead(_) => self.floor,
        }
    }
}

fn encode(id: u64, call: &Call, newest: Revision, patience: Time) -> (Frame, bool) {
    let timeout_ms = u32::try_from(patience / MILLIS).unwrap_or(u32::MAX).max(1);
    let (body, payload, is_write) = match (&call.request, &call.write) {
        (Request::Read(query), _) => {
            let body = RequestBody::Read { query: query.clone(), consistency: Consistency::Linearizable };
            (body, Bytes::new(), false)
        }
        (Request::LocalRead(query), _) => {
            let body =
                RequestBody::Read { query: query.clone(), consistency: Consistency::LocalFrom { revision: newest } };
            (body, Bytes::new(), false)
        }
        (Request::PastRead { query, .. }, _) => {
            let body = RequestBody::ReadAt { query: query.clone(), revision: call.past_revision() };
            (body, Bytes::new(), false)
        }
        (Request::Write(_) | Request::Special(_), envelope) => {
            let payload = envelope.as_ref().map(|(_, envelope)| envelope.clone()).unwrap_or_default();
            (RequestBody::Write, payload, true)
        }
    };
    let request = api::Request { id, timeout_ms, body };
    let header = postcard::to_allocvec(&request).expect("only memory is written to").into();
    (Frame { kind: FrameKind::Request, group: 0, header, payload }, is_write)
}
