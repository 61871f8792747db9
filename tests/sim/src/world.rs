//! The simulated world: events in the order of their time, machines, and what lies between them.
//!
//! One thread, one queue, no clock but the queue's. Whatever could happen in two orders happens in the one that the seed
//! draws. The servers are the shipped code: a turn tells [`raft_node::Server`] what has come in, takes its orders and
//! carries them out, as the node's loop does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use raft_core::{Body, Instant, Message, NodeId};
use raft_net::peer::SendRefused;
use raft_net::{Frame, LinkKind};
use raft_node::{ConnectionId, DiskJob, NodeConfig, NodeEvent, Orders, PeerIdentity, PeerMessage, Serves};
use raft_storage::MemDisk;

use crate::checkers::stalled_leader::Surroundings;
use crate::checkers::{Checkers, Turn, Violation};
use crate::client::Client;
use crate::coverage::{Count, Coverage};
use crate::network::{KINDS, Network};
use crate::node::{Ambush, Fate, Happening, Node, Process};
use crate::operator::{OPERATOR, Operator};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::time::{MILLIS, SECONDS, Time};
use crate::trace::Trace;
use crate::watcher::{self, WATCHERS, Watcher};

/// How long the disk rests before the end of the log is marked, as in the node's disk thread.
pub(crate) const DISK_IDLE: Time = 5 * MILLIS;
/// A run has 40,000 events, the busiest a fifth of this: more is a storm that feeds itself.
const MAX_EVENTS: u64 = 1_000_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A process takes what has come in.
    Turn { node: usize, process: u64 },
    /// A process's timer.
    Wake { node: usize, process: u64 },
    /// A pause ends.
    Resume { node: usize },
    /// The disk has done what it was working on.
    DiskDone { node: usize, process: u64 },
    /// One job for snapshots is done.
    SnapshotDone { node: usize, process: u64 },
    /// A full disk is asked for space.
    SpaceSought { node: usize, process: u64 },
    /// The disk has rested.
    DiskIdle { node: usize, process: u64, round: u64 },
    /// Something reaches a process.
    Arrive { node: usize, process: u64, what: Box<Happening> },
    /// A process dials a peer.
    Dial { from: usize, to: usize, kind: LinkKind, process: u64 },
    /// A connection is given up if it is still cut.
    GiveUp { from: usize, to: usize },
    /// A newcomer asks at the addresses it was given who is there.
    Inquire { node: usize, process: u64 },
    /// A server is started.
    Start { node: usize },
    /// A client does something.
    Client { client: usize, serial: u64 },
    /// A watcher does something.
    Watcher { watcher: usize },
    /// A reply reaches a client.
    Reply { client: usize, connection: ConnectionId, frame: Box<Frame> },
    /// A fault strikes.
    Fault(usize),
    /// A fault ends.
    FaultOver(usize),
    /// One beat of a flapping partition.
    Flap { fault: usize, is_cut: bool },
}

struct Scheduled {
    at: Time,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Time,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    pub(crate) scenario: Scenario,
    pub(crate) random: Random,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    /// Which client each connection belongs to, and which process it leads to.
    pub(crate) connections: BTreeMap<ConnectionId, (usize, usize, u64)>,
    pub(crate) last_connection: u64,
    pub(crate) operator: Operator,
    pub(crate) watchers: Vec<Watcher>,
    /// How often each slot has got a new key.
    pub(crate) generations: Vec<u64>,
    pub(crate) checkers: Checkers,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    /// What a partition holds back, until it ends.
    held_back: Vec<(usize, usize, Event)>,
    /// What each fault under way has done, so that it can be undone.
    pub(crate) undo: BTreeMap<usize, crate::faults::Undo>,
    /// Faults are over.
    pub(crate) is_healed: bool,
    /// Nobody asks for anything.
    pub(crate) clients_have_stopped: bool,
    /// The bytes of the largest snapshot anybody took.
    pub(crate) largest_snapshot: u64,
    /// What is wrong, once something is.
    pub(crate) violation: Option<Violation>,
}

impl World {
    pub(crate) fn new(scenario: Scenario, keeps_lines: bool) -> Self {
        let count = scenario.nodes + scenario.newcomers;
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            random: Random::new(scenario.seed, 2),
            nodes: (0..count).map(|place| machine(place, &scenario)).collect(),
            network: Network::new(count),
            clients: (0..scenario.clients).map(|client| Client::new(client, &scenario)).collect(),
            connections: BTreeMap::new(),
            last_connection: 0,
            operator: Operator::default(),
            watchers: watcher::watchers(scenario.seed),
            generations: vec![0; scenario.settings.keys],
            checkers: Checkers::new(count),
            coverage: Coverage::default(),
            trace: Trace::new(keeps_lines),
            held_back: Vec::new(),
            undo: BTreeMap::new(),
            is_healed: false,
            clients_have_stopped: false,
            largest_snapshot: 0,
            violation: None,
            scenario,
        };
        for node in 0..count {
            let at = world.random.below(SECONDS / 5);
            world.plan_start(node, at);
            if world.nodes.get(node).is_some_and(|node| node.clock_rate != 1_000_000) {
                world.coverage.count(Count::SkewedClock);
            }
        }
        for client in 0..world.clients.len() {
            let at = world.random.below(SECONDS / 2);
            world.schedule(at, Event::Client { client, serial: 0 });
        }
        for watcher in 0..world.watchers.len() {
            world.schedule(SECONDS, Event::Watcher { watcher });
        }
        for (place, fault) in world.scenario.faults.clone().into_iter().enumerate() {
            world.schedule(fault.at, Event::Fault(place));
        }
        world
    }

    pub(crate) fn schedule(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), order: self.order, event }));
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.nodes.get(node).expect("a server of this run")
    }

    pub(crate) fn node_mut(&mut self, node: usize) -> &mut Node {
        self.nodes.get_mut(node).expect("a server of this run")
    }

    /// Lets everything happen up to `end`, or until something is wrong.
    pub(crate) fn run_until(&mut self, end: Time) {
        while self.violation.is_none() {
            if self.queue.peek().is_none_or(|Reverse(next)| next.at > end) {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.trace.events += 1;
            if self.trace.events > MAX_EVENTS {
                let what = format!("{MAX_EVENTS} events, and no end at {} ms", self.now / MILLIS);
                self.judge(Err(Violation::new("Work is bounded", what)));
                return;
            }
            self.trace.mix(next.at ^ (event_number(&next.event) << 56));
            self.happen(next.event);
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn judge(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict
            && self.violation.is_none()
        {
            self.trace.line(self.now, || format!("VIOLATION {violation}"));
            self.violation = Some(violation);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn { node, process } => self.turn(node, process),
            Event::Wake { node, process } => self.wake(node, process),
            Event::Resume { node } => self.resume(node),
            Event::DiskDone { node, process } => self.disk_done(node, process),
            Event::SnapshotDone { node, process } => self.snapshot_done(node, process),
            Event::SpaceSought { node, process } => self.seek_space(node, process),
            Event::DiskIdle { node, process, round } => self.disk_idle(node, process, round),
            Event::Arrive { node, process, what } => self.arrive(node, process, *what),
            Event::Dial { from, to, kind, process } => self.dial(from, to, kind, process),
            Event::GiveUp { from, to } => self.give_up(from, to),
            Event::Inquire { node, process } => self.inquire(node, process),
            Event::Start { node } => self.start(node),
            Event::Client { client, serial } => self.client_acts(client, serial),
            Event::Reply { client: OPERATOR, frame, .. } => self.operator_is_answered(&frame),
            Event::Watcher { watcher } => self.watcher_acts(watcher),
            Event::Reply { client, connection, frame } if client >= WATCHERS => {
                self.watcher_is_told(client - WATCHERS, connection, &frame);
            }
            Event::Reply { client, connection, frame } => self.reply_arrives(client, connection, &frame),
            Event::Fault(fault) => self.strike(fault),
            Event::FaultOver(fault) => self.end_fault(fault),
            Event::Flap { fault, is_cut } => self.flap(fault, is_cut),
        }
    }

    // --- processes -----------------------------------------------------------------------------------------------

    pub(crate) fn arrive(&mut self, node: usize, process: u64, what: Happening) {
        let turn = self.scenario.settings.turn;
        let now = self.now;
        let machine = self.node_mut(node);
        if machine.ambush == Ambush::Sprung && matches!(what, Happening::Peer { .. }) {
            machine.ambush = Ambush::None;
            machine.paused_until = now;
        }
        let is_awake = machine.paused_until <= now;
        let Some(process) = machine.process_mut(process) else { return };
        process.inbox.push_back(what);
        if is_awake && !process.has_turn {
            process.has_turn = true;
            let number = process.number;
            self.schedule(now + turn, Event::Turn { node, process: number });
        }
    }

    fn wake(&mut self, node: usize, process: u64) {
        let now = self.now;
        let machine = self.node_mut(node);
        let is_awake = machine.paused_until <= now;
        let Some(running) = machine.process_mut(process) else { return };
        if running.alarm == Some(now) {
            running.alarm = None;
            if is_awake {
                self.turn(node, process);
            }
        }
    }

    /// A write was acknowledged: whoever sleeps and has been replaced does not know of it.
    pub(crate) fn note_acknowledged(&mut self) {
        let leader = self.leader();
        for (_, machine) in self.nodes.iter_mut().enumerate().filter(|(place, _)| leader != Some(*place)) {
            if machine.ambush == Ambush::Set {
                machine.ambush = Ambush::Sprung;
            }
        }
    }

    fn resume(&mut self, node: usize) {
        let now = self.now;
        let machine = self.node_mut(node);
        if machine.paused_until > now {
            return;
        }
        if let Some(process) = &mut machine.process {
            process.has_turn = true;
            let number = process.number;
            self.schedule(now, Event::Turn { node, process: number });
        }
    }

    /// A process takes what has come in, and its orders are carried out.
    fn turn(&mut self, node: usize, number: u64) {
        let now = self.now;
        let machine = self.node_mut(node);
        if machine.process(number).is_none() {
            return;
        }
        let Some(mut process) = machine.process.take() else { return };
        process.has_turn = false;
        let started = process.started;
        let clock = machine.clock(started, now);
        if machine.paused_until > now {
            machine.process = Some(process);
            return;
        }
        if let Some(lasts) = machine.pause_after_clock.take() {
            machine.paused_until = now + lasts;
            process.held_clock = Some(clock);
            machine.process = Some(process);
            self.coverage.count(Count::PauseAfterClock);
            self.schedule(now + lasts, Event::Resume { node });
            return;
        }
        let read = process.held_clock.take().unwrap_or(clock);
        self.tell(node, &mut process, read, clock);
        self.carry_out(node, &mut process, clock);
        if Self::is_drained(&process, clock) {
            return self.finish_stop(node, process, clock);
        }
        self.set_alarm(node, &mut process);
        self.node_mut(node).process = Some(process);
    }

    fn tell(&mut self, node: usize, process: &mut Process, first_clock: Instant, clock: Instant) {
        let mut now = first_clock;
        let random = &mut self.random;
        let mut draw = || random.wide();
        let server = &mut process.server;
        while let Some(happening) = process.inbox.pop_front() {
            match happening {
                Happening::Disk(done) => server.handle_disk(now, done),
                Happening::Snapshot(done) => server.handle_snapshot(now, done),
                Happening::Peer { from, frame } => match PeerMessage::from_frame(frame) {
                    Ok(message) => {
                        let id = process.identity.id;
                        self.trace.line(self.now, || format!("{id} ← {} {message}", from.id));
                        server.handle_peer(now, from, message, &mut draw);
                    }
                    Err(error) => {
                        let what = format!("{} cannot read a message of {}: {error}", process.identity.id, from.id);
                        self.violation.get_or_insert(Violation::new("Messages are read as they were written", what));
                    }
                },
                Happening::PeerMet { from, client_address } => server.handle_peer_met(from.id, client_address),
                Happening::PeerLinkLost { peer, link } => server.handle_peer_link_lost(peer, link),
                Happening::LinkUp { peer, link, welcome } => server.handle_link_up(peer, link, welcome),
                Happening::SeedFound { address, welcome } => server.handle_seed(address, &welcome),
                Happening::LinkLost { peer, link } => server.handle_link_lost(now, peer, link),
                Happening::Request { connection, frame } => {
                    if !self.connections.contains_key(&connection) {
                        // Its client has closed it.
                        continue;
                    }
                    self.checkers.answers.asked(node, process.number, connection, &frame);
                    server.handle_frame(now, connection, frame);
                }
                Happening::Pushed { connection, frames, size_bytes } => {
                    server.handle_pushed(connection, frames, size_bytes);
                }
                Happening::Left { connection } => server.handle_left(connection),
                Happening::Stop => {
                    server.stop(now);
                    process.stopping = Some(now);
                    if server.replica().is_handing_over() {
                        self.coverage.count(Count::StoppedLeader);
                    }
                }
            }
            now = clock;
        }
        server.tick(now, &mut draw);
    }

    pub(crate) fn carry_out(&mut self, node: usize, process: &mut Process, clock: Instant) {
        loop {
            let orders = process.server.flush(clock);
            let turn = Turn { node, number: process.number, server: &process.server, orders: &orders };
            let Self { nodes, network, scenario, checkers, coverage, .. } = self;
            let surroundings = Surroundings { now: self.now, nodes, network, settings: &scenario.settings };
            let verdict = checkers.observe(&turn, surroundings, coverage);
            self.mix_state(process);
            self.judge(verdict);
            self.note_admitted();
            if orders.is_empty() {
                break;
            }
            let Orders { peers, messages, jobs, snapshot_jobs, replies, events } = orders;
            if let Some(peers) = peers {
                self.link_to(node, process, clock, peers);
            }
            for event in &events {
                if let NodeEvent::SnapshotTaken { size_bytes, .. } = event {
                    self.largest_snapshot = self.largest_snapshot.max(*size_bytes);
                }
                let id = process.identity.id;
                self.trace.line(self.now, || format!("{id} {event}"));
            }
            for (to, message) in messages {
                if let Err(why) = self.send(node, process, to, &message) {
                    process.server.handle_unsent(clock, to, &message, why);
                }
            }
            process.jobs.extend(jobs);
            process.snapshot_jobs.extend(snapshot_jobs);
            for (connection, frame) in replies.frames {
                self.send_reply(node, process.number, connection, frame);
            }
            for (_, reason) in replies.closed {
                let what = format!("{} closed a client's connection: {reason}", process.identity.id);
                self.judge(Err(Violation::new("Clients are understood", what)));
            }
        }
        process.server.renew_view(&mut process.view);
        self.work_disk(node, process);
        self.work_on_snapshots(node, process);
    }

    /// What a process does first: nothing has come in yet, but time has passed.
    pub(crate) fn first_turn(&mut self, node: usize, process: &mut Process, clock: Instant) {
        self.tell(node, process, clock, clock);
        self.carry_out(node, process, clock);
        self.set_alarm(node, process);
    }

    fn mix_state(&mut self, process: &Process) {
        if let Some(raft) = process.server.replica().raft() {
            self.trace.mix(raft.term().0 ^ (raft.commit_index().0 << 20) ^ (raft.log().last_index().0 << 40));
        }
    }

    fn set_alarm(&mut self, node: usize, process: &mut Process) {
        let wakeup = Self::wakeup_of(process);
        let at = self.node(node).moment(process.started, wakeup).max(self.now + 1);
        if process.alarm.is_none_or(|alarm| at < alarm) {
            process.alarm = Some(at);
            self.schedule(at, Event::Wake { node, process: process.number });
        }
    }

    // --- the network ---------------------------------------------------------------------------------------------

    fn send(&mut self, from: usize, process: &Process, to: NodeId, message: &PeerMessage) -> Result<(), SendRefused> {
        let place = place_of(to);
        let kind = message.link();
        let Some((_, to_process)) = self.network.link(from, place, kind).up else {
            return Err(SendRefused::NotConnected);
        };
        let id = process.identity.id;
        let settings = &self.scenario.settings;
        let (mut loss, mut duplicate) = (settings.loss_per_mille, settings.duplicate_per_mille);
        if self.network.storms > 0 {
            (loss, duplicate) = (loss.max(200), duplicate.max(200));
        }
        if self.is_healed {
            (loss, duplicate) = (0, 0);
        }
        if self.random.chance(loss) {
            self.coverage.count(Count::Loss);
            self.trace.line(self.now, || format!("{id} → {to} {message} (lost)"));
            return Ok(());
        }
        self.trace.line(self.now, || format!("{id} → {to} {message}"));
        let at = self.arrival(from, place, kind);
        self.transmit(from, place, to_process, process.identity, message, at);
        // A connection delivers a command once at most, and the node builds on that.
        let may_repeat = matches!(message, PeerMessage::Raft(_) | PeerMessage::Formation(_));
        if may_repeat && self.random.chance(duplicate) {
            self.coverage.count(Count::Duplicate);
            if matches!(
                message,
                PeerMessage::Raft(Message { body: Body::RequestVote { .. } | Body::RequestVoteReply { .. }, .. })
            ) {
                self.coverage.count(Count::LateVote);
            }
            let later = at + self.random.pick(&[MILLIS, 100 * MILLIS, SECONDS, 5 * SECONDS]);
            let late = later + self.random.below(SECONDS);
            self.transmit(from, place, to_process, process.identity, message, late);
        }
        Ok(())
    }

    fn arrival(&mut self, from: usize, to: usize, kind: LinkKind) -> Time {
        let settings = &self.scenario.settings;
        let is_ordered = settings.is_ordered;
        let latency = settings.latency + self.random.below(settings.jitter + 1) + self.network.slowness(from, to);
        let link = self.network.link(from, to, kind);
        let mut at = self.now + latency;
        if is_ordered {
            at = at.max(link.busy_until);
        } else if at < link.busy_until {
            self.coverage.count(Count::Reordered);
        }
        link.busy_until = link.busy_until.max(at);
        at
    }

    fn transmit(
        &mut self,
        from: usize,
        to: usize,
        process: u64,
        sender: PeerIdentity,
        message: &PeerMessage,
        at: Time,
    ) {
        let what = Box::new(Happening::Peer { from: sender, frame: message.to_frame() });
        let event = Event::Arrive { node: to, process, what };
        if !self.network.is_cut(from, to) {
            self.schedule(at, event);
        } else if self.scenario.settings.holds_back {
            self.coverage.count(Count::HeldBack);
            self.held_back.push((from, to, event));
        } else {
            self.coverage.count(Count::Loss);
        }
    }

    /// What partitions that have ended held back is on its way again.
    pub(crate) fn release_held_back(&mut self) {
        for (from, to, event) in std::mem::take(&mut self.held_back) {
            if self.network.is_cut(from, to) {
                self.held_back.push((from, to, event));
            } else {
                let at = self.now + self.random.below(50 * MILLIS);
                self.schedule(at, event);
            }
        }
    }

    /// A connection is made, if both ends are there and each admits the other.
    fn dial(&mut self, from: usize, to: usize, kind: LinkKind, process: u64) {
        // Whom it does not want any more, or looks for at a wrong address, it does not reach.
        let id = self.node(to).id;
        let is_wanted = |process: &Process| process.peers.get(&id) == Some(&peer_address_of(to));
        let wants = self.node(from).process(process).is_some_and(is_wanted);
        if !wants || self.network.link(from, to, kind).up.is_some() {
            return;
        }
        let is_reachable = !self.network.is_cut(from, to) && !self.network.is_cut(to, from);
        let met = is_reachable && self.node(from).is_awake(self.now) && self.node(to).is_awake(self.now);
        if !met || !self.shake_hands(from, to, kind) {
            let at = self.now + self.random.between(20 * MILLIS, SECONDS / 2);
            self.schedule(at, Event::Dial { from, to, kind, process });
        }
    }

    fn shake_hands(&mut self, from: usize, to: usize, kind: LinkKind) -> bool {
        let (Some(dialer), Some(acceptor)) = (&self.node(from).process, &self.node(to).process) else { return false };
        let (dialer_id, acceptor_id) = (dialer.identity.id, acceptor.identity.id);
        let hello = dialer.view.hello(acceptor_id, kind);
        let admitted = acceptor.view.admit(&hello, Serves { clients: true, peers: true });
        let agreed = admitted.and_then(|welcome| dialer.view.check_welcome(acceptor_id, &welcome).map(|()| welcome));
        let (identity, ends) = (dialer.identity, (dialer.number, acceptor.number));
        match agreed {
            Ok(welcome) => {
                self.network.link(from, to, kind).up = Some(ends);
                let client_address = address_of(from);
                self.arrive(to, ends.1, Happening::PeerMet { from: identity, client_address });
                self.arrive(from, ends.0, Happening::LinkUp { peer: acceptor_id, link: kind, welcome });
                // Who was met is dialled at once, as the node's loop does.
                for kind in KINDS {
                    self.schedule(self.now, Event::Dial { from: to, to: from, kind, process: ends.1 });
                }
                true
            }
            Err(refusal) => {
                self.coverage.count(Count::HandshakeRefused);
                self.trace.line(self.now, || format!("{acceptor_id} refuses {dialer_id}: {refusal}"));
                let verdict = self.checkers.identity.refused(self.node(from), self.node(to), &refusal);
                self.judge(verdict);
                false
            }
        }
    }

    fn give_up(&mut self, from: usize, to: usize) {
        if self.network.is_cut(from, to) {
            for kind in KINDS {
                self.break_link(from, to, kind);
            }
        }
    }

    /// A connection breaks, and both ends notice, each in its time.
    pub(crate) fn break_link(&mut self, from: usize, to: usize, kind: LinkKind) {
        let Some((from_process, to_process)) = self.network.link(from, to, kind).up.take() else { return };
        let (from_id, to_id) = (self.node(from).id, self.node(to).id);
        let what = Box::new(Happening::LinkLost { peer: to_id, link: kind });
        let at = self.now + self.random.below(20 * MILLIS);
        self.schedule(at, Event::Arrive { node: from, process: from_process, what });
        let what = Box::new(Happening::PeerLinkLost { peer: from_id, link: kind });
        let at = self.now + self.random.below(100 * MILLIS);
        self.schedule(at, Event::Arrive { node: to, process: to_process, what });
        let at = self.now + self.random.between(20 * MILLIS, SECONDS / 4);
        self.schedule(at, Event::Dial { from, to, kind, process: from_process });
    }

    /// All connections of a server whose process has ended.
    pub(crate) fn break_links_of(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            for kind in KINDS {
                self.break_link(node, other, kind);
                self.break_link(other, node, kind);
            }
        }
    }

    pub(crate) fn plan_start(&mut self, node: usize, at: Time) {
        let machine = self.node_mut(node);
        if !machine.will_start {
            machine.will_start = true;
            self.schedule(at, Event::Start { node });
        }
    }

    /// A server has links to these from now on, and to nobody else.
    fn link_to(&mut self, node: usize, process: &mut Process, clock: Instant, peers: BTreeMap<NodeId, String>) {
        let before = std::mem::replace(&mut process.peers, peers);
        let closed: Vec<NodeId> =
            before.iter().filter(|(id, address)| process.peers.get(id) != Some(address)).map(|(id, _)| *id).collect();
        for peer in closed {
            for kind in KINDS {
                process.server.handle_link_lost(clock, peer, kind);
                if let Some((_, to_process)) = self.network.link(node, place_of(peer), kind).up.take() {
                    let what = Box::new(Happening::PeerLinkLost { peer: process.identity.id, link: kind });
                    let at = self.now + self.random.below(100 * MILLIS);
                    self.schedule(at, Event::Arrive { node: place_of(peer), process: to_process, what });
                }
            }
        }
        let opened: Vec<NodeId> =
            process.peers.iter().filter(|(id, address)| before.get(id) != Some(address)).map(|(id, _)| *id).collect();
        for peer in opened {
            for kind in KINDS {
                let at = self.now + self.random.below(5 * MILLIS);
                self.schedule(at, Event::Dial { from: node, to: place_of(peer), kind, process: process.number });
            }
        }
    }

    /// A newcomer asks who is at the addresses it was given, as long as it needs to know.
    fn inquire(&mut self, node: usize, number: u64) {
        let Some(process) = self.node(node).process(number) else { return };
        if self.node(node).config.join.is_empty() || !process.server.seeks_members() {
            return;
        }
        let hello = process.view.inquiry();
        for seed in 0..self.scenario.nodes {
            let is_reachable = !self.network.is_cut(node, seed) && !self.network.is_cut(seed, node);
            let other = self.node(seed);
            let answers = other.process.as_ref().filter(|_| is_reachable && other.is_awake(self.now));
            let welcome =
                answers.and_then(|process| process.view.admit(&hello, Serves { clients: true, peers: true }).ok());
            if let Some(welcome) = welcome {
                self.arrive(node, number, Happening::SeedFound { address: peer_address_of(seed), welcome });
            }
        }
        self.schedule(self.now + SECONDS, Event::Inquire { node, process: number });
    }
}

/// Where peers reach a server.
pub(crate) fn peer_address_of(node: usize) -> String {
    format!("n{}:7002", node + 1)
}

/// Where clients reach a server.
pub(crate) fn address_of(node: usize) -> String {
    format!("n{}:7001", node + 1)
}

/// The place of a server among the machines.
pub(crate) fn place_of(id: NodeId) -> usize {
    usize::try_from(id.as_u64()).unwrap_or(usize::MAX) - 1
}

fn node_id(place: usize) -> NodeId {
    NodeId::new(place as u64 + 1).expect("counted from 1")
}

fn machine(place: usize, scenario: &Scenario) -> Node {
    use std::time::Duration;

    let id = node_id(place);
    let settings = &scenario.settings;
    let mut config = NodeConfig::new(id, "", address_of(place));
    let founders = (0..scenario.nodes).map(|node| (node_id(node), peer_address_of(node)));
    if place < scenario.nodes {
        config.cluster = founders.collect();
    } else {
        config.join = founders.map(|(_, address)| address).collect();
        config.advertise_peer = Some(peer_address_of(place));
    }
    config.election_timeout_min = Duration::from_millis(settings.election_timeout_ms);
    config.election_timeout_max = Duration::from_millis(2 * settings.election_timeout_ms);
    config.heartbeat_interval = Duration::from_millis(settings.heartbeat_ms);
    config.segment_size_bytes = settings.segment_bytes;
    config.snapshot_threshold_bytes = settings.snapshot_threshold_bytes;
    config.max_uncommitted_bytes = settings.max_uncommitted_bytes;
    config.max_unsynced_bytes = settings.max_unsynced_bytes;
    config.log_tail_bytes = settings.log_tail_bytes;
    config.snapshot_chunk_bytes = settings.snapshot_chunk_bytes;
    Node {
        id,
        config,
        disk: MemDisk::new(),
        process: None,
        starts: 0,
        clock_rate: settings.clock_rates.get(place).copied().unwrap_or(1_000_000),
        paused_until: 0,
        ambush: Ambush::None,
        pause_after_clock: None,
        stalled_until: 0,
        crash_in_write: None,
        misdirect: 0,
        fate: Fate::Sound,
        will_start: false,
    }
}

/// For the digest of a run.
const fn event_number(event: &Event) -> u64 {
    match event {
        Event::Turn { node, .. } => 0x10 + *node as u64,
        Event::Wake { node, .. } => 0x20 + *node as u64,
        Event::Resume { node } => 0x30 + *node as u64,
        Event::DiskDone { node, .. } => 0x40 + *node as u64,
        Event::SnapshotDone { node, .. } => 0x48 + *node as u64,
        Event::SpaceSought { node, .. } => 0x58 + *node as u64,
        Event::DiskIdle { node, .. } => 0x50 + *node as u64,
        Event::Arrive { node, .. } => 0x60 + *node as u64,
        Event::Dial { from, .. } => 0x70 + *from as u64,
        Event::GiveUp { from, .. } => 0x80 + *from as u64,
        Event::Inquire { node, .. } => 0x98 + *node as u64,
        Event::Start { node } => 0x90 + *node as u64,
        Event::Client { client, .. } => 0xa0 + *client as u64,
        Event::Watcher { watcher } => 0xf0 + *watcher as u64,
        Event::Reply { client: OPERATOR, .. } => 0xbf,
        Event::Reply { client, .. } => 0xb0 + *client as u64,
        Event::Fault(_) => 0xc0,
        Event::FaultOver(_) => 0xd0,
        Event::Flap { .. } => 0xe0,
    }
}

/// The jobs that carry entries or hard state.
pub(crate) fn writes_in(jobs: &[DiskJob]) -> impl Iterator<Item = &raft_core::Write> {
    jobs.iter().filter_map(|job| match job {
        DiskJob::Write(write) => Some(write),
        DiskJob::Formation(_) | DiskJob::Compact { .. } => None,
    })
}
