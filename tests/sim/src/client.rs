//! Simulated clients: they write under a session, try again at other servers, lose replies, send late copies, and note what
//! they saw.
//!
//! A client does one operation at a time. What it concludes from the end of each try is what `kv-client` concludes: an
//! operation is done, certainly not done, or unknown.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_store::api::{self, Consistency, RequestBody, RequestErrorKind, Response, ResponseBody};
use kv_store::{ClientId, Command, Envelope, Principal, Query, Refusal, Revision, SessionHeader, Stamp};
use raft_net::{Frame, FrameKind, Hello, PROTOCOL_VERSIONS, Role};
use raft_node::{ConnectionId, Serves};

use crate::checkers::Violation;
use crate::checkers::exactly_once::ExactlyOnce;
use crate::checkers::key_model::{Action, Outcome};
use crate::checkers::ledger::WriteId;
use crate::checkers::real_time::{self, RealTime};
use crate::coverage::Count;
use crate::node::Happening;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::time::{MILLIS, SECONDS, Time};
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
        let request = workload::draw(&mut this.random, slot, &key, seen.as_ref(), unique, read_per_mille);
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
        let Request::Write(command) = &call.request else { return };
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
                | ResponseBody::Members(_),
            ) => {}
            Err(error) => {
                call.in_doubt |= error.maybe_applied;
                if error.maybe_applied {
                    self.coverage.count(Count::LeaderChanged);
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

    // --- how an operation ends -----------------------------------------------------------------------------------

    fn end(&mut self, client: usize) -> Option<Call> {
        let (now, is_healed) = (self.now, self.is_healed);
        let this = self.client(client);
        let call = this.call.take()?;
        let pause = if is_healed { 0 } else { this.interval };
        let think = this.random.below(2 * pause + 1);
        self.act_at(client, now + think);
        Some(call)
    }

    fn judge_as(&mut self, property: &'static str, verdict: Result<(), String>) {
        self.judge(verdict.map_err(|what| Violation::new(property, what)));
    }

    fn written(&mut self, client: usize, outcome: &kv_store::Outcome) {
        let Some(call) = self.end(client) else { return };
        let (Request::Write(command), Some((write, _))) = (&call.request, &call.write) else { return };
        self.coverage.count(Count::Done);
        let action = workload::action_of(command);
        let checkers = &mut self.checkers;
        let verdict = checkers.exactly_once.acknowledged(&checkers.ledger, *write, outcome);
        let in_time = checkers.real_time.ended(call.floor, outcome.revision, "a write");
        match workload::outcome_of(&action, &outcome.effect) {
            Some(seen) => {
                checkers.linearizable.ended(&call.key, client_number(client), call.called, action, Some(seen))
            }
            None => checkers.linearizable.dropped(&call.key),
        }
        self.judge_as("Exactly once, and nothing acknowledged is lost", verdict);
        self.judge_as("Nothing older is seen than was known", in_time);
        let this = self.client(client);
        this.last_was_done = true;
        this.newest = this.newest.max(outcome.revision);
        this.note_seen(&call.key, command, &outcome.effect);
        self.note_acknowledged();
        self.wake_another(client);
    }

    /// One client's write is another's hurry: it asks any server, where what was just acknowledged must be seen.
    fn wake_another(&mut self, writer: usize) {
        let hurry_per_mille = self.scenario.settings.hurry_per_mille;
        let (nodes, clients) = (self.nodes.len(), self.clients.len());
        let random = &mut self.client(writer).random;
        if !random.chance(hurry_per_mille) {
            return;
        }
        let (node, other) = (random.place(nodes), random.place(clients));
        if other != writer && self.client(other).is_idle() {
            self.client(other).favourite = node;
            self.act_at(other, self.now);
        }
    }

    /// The store refuses the command, the same on every server.
    fn refused(&mut self, client: usize, refusal: &Refusal) {
        let settled_by_itself = matches!(refusal, Refusal::WrongType(_) | Refusal::TooLarge { .. } | Refusal::EmptyKey);
        let never = matches!(refusal, Refusal::DeadlinePassed);
        let Some(call) = self.end(client) else { return };
        let (Request::Write(command), Some((write, _))) = (&call.request, &call.write) else { return };
        if settled_by_itself {
            let verdict = ExactlyOnce::refused(&self.checkers.ledger, *write, refusal);
            self.judge_as("Exactly once, and nothing acknowledged is lost", verdict);
            self.coverage.count(Count::Done);
            let action = workload::action_of(command);
            let number = client_number(client);
            self.checkers.linearizable.ended(&call.key, number, call.called, action, Some(Outcome::Refused));
        } else if never || (!call.in_doubt && call.open.is_empty()) {
            self.note_certainly_not(*write, &call.key);
        } else {
            self.note_unknown(client, &call);
        }
    }

    fn read(&mut self, client: usize, answer: &kv_store::Answer) {
        let Some(call) = self.end(client) else { return };
        let (query, is_local) = match &call.request {
            Request::Read(query) => (query, false),
            Request::LocalRead(query) => (query, true),
            Request::PastRead { query, .. } => return self.read_past(&call, query, answer),
            Request::Write(_) => return,
        };
        self.coverage.count(Count::Done);
        let verdict = RealTime::check_answer(&self.checkers.ledger, query, answer);
        self.judge_as("A read is the committed state at its revision", verdict);
        match query {
            Query::Scan { .. } => self.coverage.count(Count::ScanChecked),
            Query::Get { .. } if is_local => self.coverage.count(Count::LocalRead),
            Query::Get { .. } => {}
        }
        let is_scan = matches!(query, Query::Scan { .. });
        let newest = self.client(client).newest;
        self.client(client).newest = newest.max(answer.revision);
        if is_local {
            self.checkers.linearizable.dropped(&call.key);
            let verdict = real_time::check_local(newest, answer.revision);
            self.judge_as("Local reads of a client do not go back in time", verdict);
            return;
        }
        let in_time = self.checkers.real_time.ended(call.floor, answer.revision, "a read");
        self.judge_as("Nothing older is seen than was known", in_time);
        if is_scan {
            self.checkers.linearizable.dropped(&call.key);
        } else {
            let item = workload::item_of(&answer.found);
            let outcome = workload::outcome_of_item(item);
            let number = client_number(client);
            self.checkers.linearizable.ended(&call.key, number, call.called, Action::Get, Some(outcome));
            if let Some(item) = item {
                let value = item.value.clone();
                self.client(client).seen.insert(call.key.clone(), value);
            } else {
                self.client(client).seen.remove(&call.key);
            }
        }
        self.client(client).last_was_done = true;
    }

    fn read_past(&mut self, call: &Call, query: &Query, answer: &kv_store::Answer) {
        self.coverage.count(Count::Done);
        self.coverage.count(Count::PastRead);
        self.checkers.linearizable.dropped(&call.key);
        let asked = call.past_revision();
        let verdict = if answer.revision == asked {
            RealTime::check_answer(&self.checkers.ledger, query, answer)
        } else {
            Err(format!("a read as of revision {asked} is answered as of {}", answer.revision))
        };
        self.judge_as("A read is the committed state at its revision", verdict);
    }

    /// No time is left, or no second try was wanted.
    pub(crate) fn end_without_answer(&mut self, client: usize) {
        let Some(call) = self.end(client) else { return };
        match (&call.request, &call.write) {
            (Request::Write(_), Some((write, _))) if call.in_doubt || !call.open.is_empty() => {
                let _ = write;
                self.note_unknown(client, &call);
            }
            (Request::Write(_), Some((write, _))) => self.note_certainly_not(*write, &call.key),
            _ => self.checkers.linearizable.dropped(&call.key),
        }
    }

    fn note_unknown(&mut self, client: usize, call: &Call) {
        self.coverage.count(Count::Unknown);
        if let Request::Write(command) = &call.request {
            let action = workload::action_of(command);
            self.checkers.linearizable.ended(&call.key, client_number(client), call.called, action, None);
        }
        // What it last saw may be old by now.
        self.client(client).seen.remove(&call.key);
    }

    fn note_certainly_not(&mut self, write: WriteId, key: &Bytes) {
        self.coverage.count(Count::CertainlyNot);
        self.checkers.linearizable.dropped(key);
        let checkers = &mut self.checkers;
        let verdict = checkers.exactly_once.certainly_not(&checkers.ledger, write);
        self.judge_as("What certainly was not applied never is", verdict);
    }

    /// All clients stop where they are: no command is on its way any more.
    pub(crate) fn stop_clients(&mut self) {
        self.clients_have_stopped = true;
        self.connections.clear();
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

impl Client {
    fn note_seen(&mut self, key: &Bytes, command: &Command, effect: &kv_store::Effect) {
        let now = match (command, effect) {
            (Command::Set { value, .. }, kv_store::Effect::Set { set: true }) => Some(value.clone()),
            (Command::CompareAndSwap { new, .. }, kv_store::Effect::Swapped { swapped: true }) => Some(new.clone()),
            _ => None,
        };
        match now {
            Some(value) => drop(self.seen.insert(key.clone(), value)),
            None => drop(self.seen.remove(key)),
        }
    }
}

impl Call {
    /// As of which revision the past is read.
    fn past_revision(&self) -> Revision {
        match &self.request {
            Request::PastRead { back, .. } => Revision(self.floor.0.saturating_sub(*back)),
            Request::Write(_) | Request::Read(_) | Request::LocalRead(_) => self.floor,
        }
    }
}

fn client_number(client: usize) -> u32 {
    u32::try_from(client).unwrap_or(u32::MAX)
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
        (Request::Write(_), envelope) => {
            let payload = envelope.as_ref().map(|(_, envelope)| envelope.clone()).unwrap_or_default();
            (RequestBody::Write, payload, true)
        }
    };
    let request = api::Request { id, timeout_ms, body };
    let header = postcard::to_allocvec(&request).expect("only memory is written to").into();
    (Frame { kind: FrameKind::Request, group: 0, header, payload }, is_write)
}
