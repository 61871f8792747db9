//! Simulated clients that watch: they follow a key or a prefix from server to server, read slowly at times, break off and
//! resume, as `kv-client` does. What they are told is compared with the reference, event by event: ordered, each once, none
//! missing, whole revisions, the values before and after.

use bytes::Bytes;
use kv_store::api::{Push, PushBody, Request, RequestBody, RequestErrorKind, Response, WatchEvent, WatchTarget};
use kv_store::{Event as StoreEvent, KvStore, Revision};
use raft_net::{Frame, FrameKind, Hello, PROTOCOL_VERSIONS, Role};
use raft_node::{ConnectionId, Serves};

use crate::checkers::Violation;
use crate::coverage::Count;
use crate::node::Happening;
use crate::random::Random;
use crate::time::{MILLIS, SECONDS, Time};
use crate::world::{Event, World};

/// Connections of watchers are numbered from here, among those of clients.
pub(crate) const WATCHERS: usize = 1 << 16;
/// How many there are.
const COUNT: usize = 3;
/// A frame that a slow watcher takes waits so long.
const SLOW: Time = 3 * SECONDS;

/// Who watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    random: Random,
    target: WatchTarget,
    previous: bool,
    /// What comes next; `None` before it has begun.
    next: Option<Place>,
    /// Of the first revision to come, so many events are repeated by the server after a break.
    repeated: usize,
    link: Option<Link>,
    last_request: u64,
    is_slow: bool,
}

/// So many events of `revision` were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    revision: Revision,
    told: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    connection: ConnectionId,
    node: usize,
    process: u64,
    request: u64,
    /// What clients knew when it was asked for.
    floor: Revision,
    /// Frames come in order: none before this.
    last_at: Time,
    has_begun: bool,
}

/// Those of a run.
pub(crate) fn watchers(seed: u64) -> Vec<Watcher> {
    (0..COUNT).map(|place| Watcher::new(Random::new(seed, 200 + place as u64))).collect()
}

impl Watcher {
    fn new(mut random: Random) -> Self {
        let target = match random.below(4) {
            0 => WatchTarget::Prefix(Bytes::new()),
            1 => WatchTarget::Prefix(Bytes::from_static(b"b")),
            2 => WatchTarget::Prefix(Bytes::from_static(b"r0")),
            _ => WatchTarget::Key(Bytes::from_static(b"c01/0.")),
        };
        let (previous, is_slow) = (random.chance(500), random.chance(200));
        Self { random, target, previous, next: None, repeated: 0, link: None, last_request: 0, is_slow }
    }

    /// What the reference says comes next, if it has come; and where that leaves the watcher.
    fn expected(&self, store: &KvStore, mut place: Place) -> (Option<WatchEvent>, Place) {
        while place.revision <= store.revision() {
            let matching: Vec<StoreEvent<'_>> =
                store.events(place.revision).filter(|event| matches(&self.target, event.key())).collect();
            if let Some(event) = matching.get(place.told) {
                let is_last = place.told + 1 == matching.len();
                let event = WatchEvent {
                    key: Bytes::copy_from_slice(event.key()),
                    revision: place.revision,
                    value: event.value(),
                    previous: if self.previous { event.previous() } else { None },
                    last: is_last,
                };
                let after = if is_last {
                    Place { revision: place.revision.next(), told: 0 }
                } else {
                    Place { told: place.told + 1, ..place }
                };
                return (Some(event), after);
            }
            place = Place { revision: place.revision.next(), told: 0 };
        }
        (None, place)
    }
}

fn matches(target: &WatchTarget, key: &[u8]) -> bool {
    match target {
        WatchTarget::Key(wanted) => *wanted == key,
        WatchTarget::Prefix(prefix) => key.starts_with(prefix),
    }
}

impl World {
    fn watcher(&mut self, place: usize) -> &mut Watcher {
        self.watchers.get_mut(place).expect("a watcher of this run")
    }

    fn judge_watch(&mut self, property: &'static str, verdict: Result<(), String>) {
        self.judge(verdict.map_err(|what| Violation::new(property, what)));
    }

    /// A watcher's timer: it looks for a server if it has none, and breaks off now and then.
    pub(crate) fn watcher_acts(&mut self, place: usize) {
        let is_healed = self.is_healed;
        let pause = self.watcher(place).random.between(50 * MILLIS, 500 * MILLIS);
        self.schedule(self.now + pause, Event::Watcher { watcher: place });
        if let Some(link) = self.watcher(place).link {
            let is_there = self.node(link.node).process(link.process).is_some();
            let is_silent = !link.has_begun && self.now > link.last_at + SECONDS;
            if is_there && !is_silent && (is_healed || !self.watcher(place).random.chance(20)) {
                return;
            }
            self.break_off(place, link);
        }
        self.begin_watch(place);
    }

    fn break_off(&mut self, place: usize, link: Link) {
        self.watcher(place).link = None;
        self.connections.remove(&link.connection);
        let what = Box::new(Happening::Left { connection: link.connection });
        self.schedule(self.now, Event::Arrive { node: link.node, process: link.process, what });
    }

    fn begin_watch(&mut self, place: usize) {
        let nodes = self.nodes.len();
        let node = self.watcher(place).random.place(nodes);
        let (now, latency, floor) = (self.now, self.scenario.settings.latency, self.checkers.real_time.floor());
        let machine = self.node(node);
        let Some(process) = machine.process.as_ref().filter(|process| process.stopping.is_none()) else { return };
        if machine.paused_until > now {
            return;
        }
        let hello = Hello { versions: PROTOCOL_VERSIONS, cluster: None, role: Role::Client };
        if process.view.admit(&hello, Serves { clients: true, peers: true }).is_err() {
            return;
        }
        let number = process.number;
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.connections.insert(connection, (WATCHERS + place, node, number));
        let this = self.watcher(place);
        this.last_request += 1;
        let (request, from) = (this.last_request, this.next.map(|next| next.revision));
        this.repeated = this.next.map_or(0, |next| next.told);
        this.link = Some(Link { connection, node, process: number, request, floor, last_at: now, has_begun: false });
        let body = RequestBody::Watch { target: this.target.clone(), from, previous: this.previous };
        let header = postcard::to_allocvec(&Request { id: request, timeout_ms: 1_000, body });
        let header = header.expect("only memory is written to").into();
        let frame = Frame { kind: FrameKind::Request, group: 0, header, payload: Bytes::new() };
        let what = Box::new(Happening::Request { connection, frame });
        self.schedule(now + latency, Event::Arrive { node, process: number, what });
    }

    /// A server tells a watcher something: in order, at once or slowly, and it hears when that was taken.
    pub(crate) fn send_to_watcher(&mut self, place: usize, connection: ConnectionId, frame: Frame) {
        let (now, latency, jitter) = (self.now, self.scenario.settings.latency, self.scenario.settings.jitter);
        let is_healed = self.is_healed;
        let this = self.watcher(place);
        let slowly = if this.is_slow && !is_healed { this.random.below(SLOW) } else { 0 };
        let later = this.random.below(jitter + 1) + slowly;
        let Some(link) = this.link.as_mut().filter(|link| link.connection == connection) else { return };
        let at = (now + latency + later).max(link.last_at);
        link.last_at = at;
        let (node, process) = (link.node, link.process);
        if frame.kind == FrameKind::Push {
            let what = Box::new(Happening::Pushed { connection, frames: 1, size_bytes: frame.size_bytes() });
            self.schedule(at, Event::Arrive { node, process, what });
            if slowly > SECONDS {
                self.coverage.count(Count::WatchFellBehind);
            }
        }
        self.schedule(at, Event::Reply { client: WATCHERS + place, connection, frame: Box::new(frame) });
    }

    /// A frame reaches a watcher.
    pub(crate) fn watcher_is_told(&mut self, place: usize, connection: ConnectionId, frame: &Frame) {
        let Some(link) = self.watcher(place).link.filter(|link| link.connection == connection) else { return };
        let next = self.watcher(place).next;
        self.trace.line(self.now, || format!("w{place} is told by n{}, being at {next:?}: {frame:?}", link.node + 1));
        let not_understood = || Err("a watch is told what does not decode".to_owned());
        if frame.kind == FrameKind::Response {
            match postcard::from_bytes::<Response>(&frame.header) {
                Ok(response) if response.id == link.request => self.watch_has_ended(place, link, &response),
                _ => self.judge_watch("Clients are understood", not_understood()),
            }
            return;
        }
        let events = || postcard::from_bytes::<Vec<WatchEvent>>(&frame.payload);
        match postcard::from_bytes::<Push>(&frame.header) {
            Ok(Push { id, body: PushBody::Watching { revision } }) if id == link.request => {
                self.watch_has_begun(place, link, revision);
            }
            Ok(Push { id, body: PushBody::Progress { revision } }) if id == link.request => {
                self.watch_progresses(place, revision);
            }
            Ok(Push { id, body: PushBody::Events }) if id == link.request => match events() {
                Ok(events) => events.into_iter().for_each(|event| self.watch_event(place, &event)),
                Err(_) => self.judge_watch("Clients are understood", not_understood()),
            },
            _ => self.judge_watch("Clients are understood", not_understood()),
        }
    }

    fn watch_has_begun(&mut self, place: usize, link: Link, revision: Revision) {
        let this = self.watcher(place);
        this.link = Some(Link { has_begun: true, ..link });
        if this.next.is_some() {
            self.coverage.count(Count::WatchResumed);
            return;
        }
        this.next = Some(Place { revision: revision.next(), told: 0 });
        let verdict = if revision < link.floor {
            Err(format!("a watch from now on begins at revision {revision}, though {} was known", link.floor))
        } else {
            Ok(())
        };
        self.judge_watch("A watch from now on misses nothing", verdict);
    }

    fn watch_event(&mut self, place: usize, event: &WatchEvent) {
        let this = self.watcher(place);
        let Some(next) = this.next else { return };
        if event.revision == next.revision && this.repeated > 0 {
            this.repeated -= 1;
            return;
        }
        let this = self.watchers.get(place).expect("a watcher of this run");
        let (expected, after) = this.expected(self.checkers.ledger.reference(), next);
        let verdict = match &expected {
            Some(expected) if expected == event => Ok(()),
            _ => Err(format!("watcher {place} is told {event:?} instead of {expected:?}")),
        };
        self.watcher(place).next = Some(after);
        self.coverage.count(Count::Watched);
        self.judge_watch("A watch is ordered and complete", verdict);
    }

    fn watch_progresses(&mut self, place: usize, revision: Revision) {
        let this = self.watchers.get(place).expect("a watcher of this run");
        let Some(next) = this.next else { return };
        let (missed, _) = this.expected(self.checkers.ledger.reference(), next);
        if let Some(missed) = missed.filter(|missed| missed.revision <= revision) {
            let what = format!("watcher {place} is told that it has everything up to {revision}, and lacks {missed:?}");
            self.judge_watch("A watch is ordered and complete", Err(what));
        } else if revision >= next.revision {
            self.watcher(place).next = Some(Place { revision: revision.next(), told: 0 });
        }
    }

    fn watch_has_ended(&mut self, place: usize, link: Link, response: &Response) {
        let forgotten = self.checkers.ledger.oldest();
        let this = self.watcher(place);
        this.link = None;
        self.connections.remove(&link.connection);
        let Err(error) = &response.body else { return };
        let RequestErrorKind::Compacted { oldest } = error.kind else { return };
        let this = self.watcher(place);
        let asked = this.next.map_or(Revision(0), |next| next.revision);
        this.next = Some(Place { revision: oldest, told: 0 });
        self.coverage.count(Count::WatchCompacted);
        let is_so = asked < oldest && oldest <= forgotten;
        let verdict = is_so.then_some(()).ok_or_else(|| {
            format!("watcher {place} at {asked} is told that history begins at {oldest}, and it begins at {forgotten}")
        });
        self.judge_watch("Only what is compacted is called so", verdict);
    }

    /// Whether every watcher that has begun was told everything.
    pub(crate) fn check_watched(&self) -> Result<(), String> {
        for (place, watcher) in self.watchers.iter().enumerate() {
            let Some(next) = watcher.next else { continue };
            if let (Some(missing), _) = watcher.expected(self.checkers.ledger.reference(), next) {
                return Err(format!("watcher {place} was not told of {missing:?}"));
            }
        }
        Ok(())
    }
}
