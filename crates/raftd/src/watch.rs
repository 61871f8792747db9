//! Watches: who is to be told of which changes, and how far each has been told.
//!
//! Owns: the order and completeness of what is told. Does not own: the history ([`KvStore::events`]), connections.
//!
//! There is no queue of events: the history of the store is the queue, and each watch a place in it. Most watches are
//! *live*: told of everything up to the present, they cost nothing until one of their keys changes. One that is not, because
//! it began in the past or because its client reads slowly, is *behind*: it is fed from the history, a piece at a time, as
//! its connection takes them. So a slow client costs a bounded number of bytes, delays nobody, and is told everything, as long
//! as the history reaches back to where it is; then the watch ends, with the revision it got to.
//!
//! Code without I/O: a function of the store, the frames written and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kv_store::api::{Push, PushBody, RequestErrorKind, WatchEvent, WatchTarget};
use kv_store::{Event, KvStore, Revision};
use raft_core::Instant;
use raft_net::{Frame, FrameKind};
use raft_node::{ConnectionId, Replies};

/// How many watches one node serves; more are refused as `Overloaded`.
pub(crate) const MAX_WATCHES: usize = 100_000;
/// About the size of one frame of events.
const FRAME_BYTES: usize = 64 << 10;
/// A turn that has more to tell than this tells it piece by piece.
const MAX_LIVE_BYTES: usize = 1 << 20;
/// How many changes are looked at in one turn for those who are behind.
const LOOKED_AT_PER_TURN: usize = 4_096;
/// How many changes a live watch may have missed in one turn; after more (a snapshot was installed) it is behind.
const MAX_LIVE_REVISIONS: u64 = 16_384;
/// How often a watch that is told nothing is told that nothing has happened.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// A connection with so many frames that are not written yet is told no more, however small they are: fewer than the node
/// keeps for it.
const MAX_UNWRITTEN_FRAMES: usize = 512;
/// How many marks of progress are sent in one turn.
const MARKS_PER_TURN: usize = 256;

/// A watch: the connection and the request that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WatchId {
    pub(crate) connection: ConnectionId,
    pub(crate) request: u64,
}

/// What a watch is about. Those who want the same are told the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Filter {
    pub(crate) target: WatchTarget,
    pub(crate) previous: bool,
}

/// A place in the history: so many of the events of `revision` that the watch is about were told already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    revision: Revision,
    told: usize,
}

#[derive(Debug)]
struct Watch {
    filter: Filter,
    /// What it is to be told next; `None`: it is live.
    next: Option<Place>,
    /// Whether it was told anything since the last mark.
    was_told: bool,
    /// When it is due for the next one.
    marked_at: Instant,
}

/// What of a connection's frames is not written yet.
#[derive(Clone, Copy, Debug, Default)]
struct Unwritten {
    frames: usize,
    size_bytes: usize,
}

/// Why a watch has ended.
pub(crate) struct Ended {
    pub(crate) id: WatchId,
    pub(crate) kind: RequestErrorKind,
    pub(crate) message: String,
}

/// All watches of one node.
#[derive(Debug)]
pub(crate) struct Watches {
    /// A connection with so many bytes that are not written yet is told no more until it has taken some.
    max_unwritten_bytes: usize,
    watches: BTreeMap<WatchId, Watch>,
    /// Those that begin once the leader has said from where.
    expected: BTreeMap<WatchId, Filter>,
    /// The live ones.
    live: BTreeMap<Filter, BTreeSet<WatchId>>,
    /// How many groups of live ones are about prefixes of each length.
    prefix_lengths: BTreeMap<usize, usize>,
    /// Those that can be fed.
    behind: BTreeSet<WatchId>,
    /// Those that are to begin at a revision that has not come yet.
    early: BTreeSet<(Revision, WatchId)>,
    /// Who of those behind was fed last, so that all have their turn.
    fed_last: Option<WatchId>,
    /// Whether somebody behind could be fed at once.
    is_pressed: bool,
    unwritten: BTreeMap<ConnectionId, Unwritten>,
    /// The live ones were told of everything up to here.
    told: Revision,
    /// When each is due for a mark.
    marks: BTreeSet<(Instant, WatchId)>,
}

impl Watches {
    /// None yet.
    pub(crate) const fn new(max_unwritten_bytes: usize) -> Self {
        Self {
            max_unwritten_bytes,
            watches: BTreeMap::new(),
            expected: BTreeMap::new(),
            live: BTreeMap::new(),
            prefix_lengths: BTreeMap::new(),
            behind: BTreeSet::new(),
            early: BTreeSet::new(),
            fed_last: None,
            is_pressed: false,
            unwritten: BTreeMap::new(),
            told: Revision(0),
            marks: BTreeSet::new(),
        }
    }

    /// How many there are, those that are to begin included.
    pub(crate) fn len(&self) -> usize {
        self.watches.len() + self.expected.len()
    }

    /// Whether this is a watch, begun or not.
    pub(crate) fn contains(&self, id: WatchId) -> bool {
        self.watches.contains_key(&id) || self.expected.contains_key(&id)
    }

    /// A watch from now on is to begin once the leader was asked where that is.
    pub(crate) fn expect(&mut self, id: WatchId, filter: Filter) {
        self.expected.insert(id, filter);
    }

    /// The leader was asked: `store` has everything that was acknowledged before. `false` if nobody wants to watch any more.
    pub(crate) fn begin_expected(&mut self, now: Instant, id: WatchId, store: &KvStore, replies: &mut Replies) -> bool {
        let Some(filter) = self.expected.remove(&id) else { return false };
        self.begin(now, id, filter, store.revision().next(), store, replies);
        true
    }

    /// One that was to begin will not.
    pub(crate) fn give_up(&mut self, id: WatchId) {
        self.expected.remove(&id);
    }

    /// Begins a watch of what comes from `from` on; its client is told that the store is at `revision`.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        id: WatchId,
        filter: Filter,
        from: Revision,
        store: &KvStore,
        replies: &mut Replies,
    ) {
        let next = Some(Place { revision: from, told: 0 });
        let marked_at = now.after(PROGRESS_INTERVAL);
        self.watches.insert(id, Watch { filter, next, was_told: true, marked_at });
        self.behind.insert(id);
        self.is_pressed = true;
        self.marks.insert((marked_at, id));
        self.push(id, PushBody::Watching { revision: store.revision() }, Bytes::new(), replies);
    }

    /// Ends a watch, and says whether it had begun.
    pub(crate) fn end(&mut self, id: WatchId) -> bool {
        self.give_up(id);
        let Some(watch) = self.watches.remove(&id) else { return false };
        self.marks.remove(&(watch.marked_at, id));
        match watch.next {
            None => self.leave_live(&watch.filter, id),
            Some(next) => {
                self.behind.remove(&id);
                self.early.remove(&(next.revision, id));
            }
        }
        true
    }

    /// Ends all watches of a connection, and names those that had begun.
    pub(crate) fn end_of_connection(&mut self, connection: ConnectionId) -> Vec<WatchId> {
        let all = WatchId { connection, request: 0 }..=WatchId { connection, request: u64::MAX };
        self.expected.extract_if(all.clone(), |_, _| true).for_each(drop);
        let ids: Vec<WatchId> = self.watches.range(all).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| _ = self.end(*id));
        self.unwritten.remove(&connection);
        ids
    }

    /// Ends all that have begun.
    pub(crate) fn end_all(&mut self) -> Vec<WatchId> {
        let ids: Vec<WatchId> = self.watches.keys().copied().collect();
        ids.iter().for_each(|id| _ = self.end(*id));
        ids
    }

    /// A connection has taken so many frames and bytes.
    pub(crate) fn note_written(&mut self, connection: ConnectionId, frames: usize, size_bytes: usize) {
        if let Some(unwritten) = self.unwritten.get_mut(&connection) {
            unwritten.frames = unwritten.frames.saturating_sub(frames);
            unwritten.size_bytes = unwritten.size_bytes.saturating_sub(size_bytes);
            self.is_pressed = true;
        }
    }

    /// When [`Self::turn`] is due even if nothing happens.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        if self.is_pressed && !self.behind.is_empty() {
            return Some(Instant(0));
        }
        self.marks.first().map(|(due, _)| *due)
    }

    /// Tells what there is to tell, and returns those that cannot go on.
    pub(crate) fn turn(&mut self, now: Instant, store: &KvStore, replies: &mut Replies) -> Vec<Ended> {
        self.tell_live(store, replies);
        let ended = self.feed(store, replies);
        self.mark_progress(now, replies);
        ended
    }

    // --- live ----------------------------------------------------------------------------------------------------

    /// Tells those that are live of what is new.
    fn tell_live(&mut self, store: &KvStore, replies: &mut Replies) {
        let (first, current) = (self.told.next(), store.revision());
        self.told = current;
        if first > current {
            return;
        }
        while let Some(&(revision, id)) = self.early.first().filter(|(revision, _)| *revision <= current.next()) {
            self.early.remove(&(revision, id));
            self.behind.insert(id);
            self.is_pressed = true;
        }
        if self.live.is_empty() {
            return;
        }
        if first < store.oldest_revision() || current.0 - first.0 >= MAX_LIVE_REVISIONS {
            let all: Vec<WatchId> = self.live.values().flatten().copied().collect();
            all.into_iter().for_each(|id| self.fall_behind(id, first));
            return;
        }
        for (filter, events) in self.collect(store, first, current) {
            let ids: Vec<WatchId> = self.live.get(&filter).into_iter().flatten().copied().collect();
            let size_bytes: usize = events.iter().map(event_bytes).sum();
            let begins = events.first().map_or(first, |event| event.revision);
            let frames = if size_bytes > MAX_LIVE_BYTES { Vec::new() } else { frames_of(&events) };
            for id in ids {
                if frames.is_empty() || !self.has_room(id.connection) {
                    self.fall_behind(id, begins);
                    continue;
                }
                for events in &frames {
                    self.push(id, PushBody::Events, events.clone(), replies);
                }
            }
        }
    }

    /// What is new, by who is to be told of it.
    fn collect(&self, store: &KvStore, first: Revision, current: Revision) -> BTreeMap<Filter, Vec<WatchEvent>> {
        let mut told: BTreeMap<Filter, Vec<WatchEvent>> = BTreeMap::new();
        for revision in (first.0..=current.0).map(Revision) {
            for event in store.events(revision) {
                for filter in self.interested(event.key()) {
                    let events = told.entry(filter.clone()).or_default();
                    if let Some(before) = events.last_mut().filter(|before| before.revision == revision) {
                        before.last = false;
                    }
                    events.push(watch_event(&event, filter.previous));
                }
            }
        }
        told
    }

    /// The groups of live watches that a key belongs to: its own, and those of its beginnings.
    fn interested<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Filter> {
        let group = move |target: WatchTarget| {
            [false, true].into_iter().filter_map(move |previous| {
                let filter = Filter { target: target.clone(), previous };
                self.live.get_key_value(&filter).map(|(filter, _)| filter)
            })
        };
        let prefixes = self.prefix_lengths.range(..=key.len()).filter_map(|(length, _)| key.get(..*length));
        let prefixes = prefixes.map(|prefix| WatchTarget::Prefix(Bytes::copy_from_slice(prefix)));
        std::iter::once(WatchTarget::Key(Bytes::copy_from_slice(key))).chain(prefixes).flat_map(group)
    }

    /// A watch has been told everything: from now on it is told of what is new.
    fn join_live(&mut self, id: WatchId) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.next = None;
        self.behind.remove(&id);
        let group = self.live.entry(watch.filter.clone()).or_default();
        if group.is_empty()
            && let WatchTarget::Prefix(prefix) = &watch.filter.target
        {
            *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
        }
        group.insert(id);
    }

    fn leave_live(&mut self, filter: &Filter, id: WatchId) {
        let Some(group) = self.live.get_mut(filter) else { return };
        group.remove(&id);
        if !group.is_empty() {
            return;
        }
        self.live.remove(filter);
        if let WatchTarget::Prefix(prefix) = &filter.target
            && let Some(count) = self.prefix_lengths.get_mut(&prefix.len())
        {
            *count -= 1;
            if *count == 0 {
                self.prefix_lengths.remove(&prefix.len());
            }
        }
    }

    /// A live watch cannot be told of what is new: it is fed from there on.
    fn fall_behind(&mut self, id: WatchId, revision: Revision) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.next = Some(Place { revision, told: 0 });
        let filter = watch.filter.clone();
        self.leave_live(&filter, id);
        self.behind.insert(id);
        self.is_pressed = true;
    }

    // --- behind --------------------------------------------------------------------------------------------------

    /// Feeds those that are behind, each a frame, as long as the turn lasts.
    fn feed(&mut self, store: &KvStore, replies: &mut Replies) -> Vec<Ended> {
        let mut ended = Vec::new();
        if !std::mem::take(&mut self.is_pressed) {
            return ended;
        }
        let mut left = LOOKED_AT_PER_TURN;
        let after_last = self.fed_last.map_or_else(Vec::new, |last| {
            self.behind.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded)).copied().collect()
        });
        let up_to_last: Vec<WatchId> =
            self.behind.iter().copied().take_while(|id| self.fed_last.is_none_or(|last| *id <= last)).collect();
        for id in after_last.into_iter().chain(up_to_last) {
            if left == 0 {
                self.is_pressed = true;
                break;
            }
            if self.has_room(id.connection) {
                self.fed_last = Some(id);
                if let Err(why) = self.feed_one(id, store, &mut left, replies) {
                    ended.push(why);
                }
            }
        }
        ended
    }

    fn feed_one(&mut self, id: WatchId, store: &KvStore, left: &mut usize, replies: &mut Replies) -> Result<(), Ended> {
        let Some(watch) = self.watches.get(&id) else { return Ok(()) };
        let Some(mut place) = watch.next else { return Ok(()) };
        let filter = watch.filter.clone();
        if let Err((kind, message)) = check_from(place.revision, store) {
            self.end(id);
            return Err(Ended { id, kind, message });
        }
        let (mut events, mut size_bytes) = (Vec::new(), 0);
        while place.revision <= self.told && *left > 0 && size_bytes < FRAME_BYTES {
            let mut matching = store.events(place.revision).filter(|event| matches(&filter.target, event.key()));
            let mut rest = matching.by_ref().skip(place.told).peekable();
            while size_bytes < FRAME_BYTES
                && let Some(event) = rest.next()
            {
                let event = WatchEvent { last: rest.peek().is_none(), ..watch_event(&event, filter.previous) };
                size_bytes += event_bytes(&event);
                events.push(event);
                place.told += 1;
            }
            let is_whole = rest.peek().is_none();
            *left = left.saturating_sub(1 + store.events(place.revision).len());
            if is_whole {
                place = Place { revision: place.revision.next(), told: 0 };
            }
        }
        let (comes, has_more) = (self.told.next(), place.revision <= self.told);
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.next = Some(place);
        }
        if !events.is_empty() {
            for events in frames_of(&events) {
                self.push(id, PushBody::Events, events, replies);
            }
        }
        if place.revision == comes {
            self.join_live(id);
        } else if place.revision > comes {
            self.behind.remove(&id);
            self.early.insert((place.revision, id));
        }
        self.is_pressed |= has_more;
        Ok(())
    }

    // --- marks of progress ---------------------------------------------------------------------------------------

    fn mark_progress(&mut self, now: Instant, replies: &mut Replies) {
        for _ in 0..MARKS_PER_TURN {
            let Some(&(due, id)) = self.marks.first().filter(|(due, _)| *due <= now) else { return };
            self.marks.remove(&(due, id));
            let Some(watch) = self.watches.get_mut(&id) else { continue };
            let was_told = std::mem::take(&mut watch.was_told);
            watch.marked_at = now.after(PROGRESS_INTERVAL);
            self.marks.insert((watch.marked_at, id));
            // Nothing is missing before what it is to be told next; nor is anything there that has not come.
            let complete = watch.next.map_or(self.told, |next| next.revision.previous().min(self.told));
            if !was_told && self.has_room(id.connection) {
                self.push(id, PushBody::Progress { revision: complete }, Bytes::new(), replies);
                if let Some(watch) = self.watches.get_mut(&id) {
                    watch.was_told = false;
                }
            }
        }
    }

    // --- frames --------------------------------------------------------------------------------------------------

    fn has_room(&self, connection: ConnectionId) -> bool {
        self.unwritten.get(&connection).is_none_or(|unwritten| {
            unwritten.frames < MAX_UNWRITTEN_FRAMES && unwritten.size_bytes < self.max_unwritten_bytes
        })
    }

    fn push(&mut self, id: WatchId, body: PushBody, payload: Bytes, replies: &mut Replies) {
        let push = Push { id: id.request, body };
        let header = postcard::to_allocvec(&push).expect("encoding into memory that grows cannot fail").into();
        let frame = Frame { kind: FrameKind::Push, group: 0, header, payload };
        let unwritten = self.unwritten.entry(id.connection).or_default();
        unwritten.frames += 1;
        unwritten.size_bytes += frame.size_bytes();
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.was_told = true;
        }
        replies.frames.push((id.connection, frame));
    }
}

/// Whether the history reaches back to `revision`.
pub(crate) fn check_from(revision: Revision, store: &KvStore) -> Result<(), (RequestErrorKind, String)> {
    let oldest = store.oldest_revision();
    if revision >= oldest {
        return Ok(());
    }
    let message = format!(
        "revision {revision} is compacted, the oldest that can be watched from is {oldest}; read the present state, and \
         watch from the revision behind it"
    );
    Err((RequestErrorKind::Compacted { oldest }, message))
}

fn matches(target: &WatchTarget, key: &[u8]) -> bool {
    match target {
        WatchTarget::Key(wanted) => key == &**wanted,
        WatchTarget::Prefix(prefix) => key.starts_with(prefix),
    }
}

/// As if it were the last one that matters of its revision.
fn watch_event(event: &Event<'_>, previous: bool) -> WatchEvent {
    WatchEvent {
        key: Bytes::copy_from_slice(event.key()),
        revision: event.revision(),
        value: event.value(),
        previous: if previous { event.previous() } else { None },
        last: true,
    }
}

/// About what an event takes in a frame.
fn event_bytes(event: &WatchEvent) -> usize {
    let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    16 + event.key.len() + length(&event.value) + length(&event.previous)
}

/// Events as payloads of about [`FRAME_BYTES`], encoded once for all who are told.
fn frames_of(events: &[WatchEvent]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = events;
    while !rest.is_empty() {
        let mut size_bytes = 0;
        let is_within = |event: &&WatchEvent| {
            let fits = size_bytes < FRAME_BYTES;
            size_bytes += event_bytes(event);
            fits
        };
        let (frame, behind) = rest.split_at(rest.iter().take_while(is_within).count());
        frames.push(postcard::to_allocvec(frame).expect("encoding into memory that grows cannot fail").into());
        rest = behind;
    }
    frames
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
