//! Watches against the history itself; whole servers under faults are the simulator's (`tests/sim`, `watcher`).

use kv_store::{ClientId, ClusterCommand, Command, Envelope, Principal, SessionHeader, Stamp};

use super::*;

/// A store, the watches on it, and what they are told.
struct Stage {
    store: KvStore,
    watches: Watches,
    replies: Replies,
}

impl Stage {
    fn new() -> Self {
        Self { store: KvStore::default(), watches: Watches::new(1 << 20), replies: Replies::default() }
    }

    fn set(&mut self, key: &str) {
        let index = self.store.applied_index() + 1;
        let session = SessionHeader {
            client: ClientId(1),
            birth: Stamp(0),
            sequence: index,
            lowest_unanswered: index,
            deadline: Stamp(u64::MAX),
        };
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::from_static(b"v"));
        let command = Command::Set { key, value, if_absent: false };
        let entry = Envelope { session, principal: Principal::nobody(), command }.encode();
        self.store.apply(index, Stamp(1), &entry).unwrap();
    }

    fn begin(&mut self, id: WatchId, from: u64) {
        self.watches.begin(Instant(0), id, all(), Revision(from), &self.store, &mut self.replies);
    }

    fn turn(&mut self) -> Vec<Ended> {
        self.watches.turn(Instant(0), &self.store, &mut self.replies)
    }

    /// The revisions of all events told to `id` since the last time, and how many frames there were for it.
    fn told(&mut self, id: WatchId) -> (Vec<u64>, usize) {
        let (mut revisions, mut frames) = (Vec::new(), 0);
        for (connection, frame) in self.replies.frames.extract_if(.., |(connection, _)| *connection == id.connection) {
            let push: Push = postcard::from_bytes(&frame.header).unwrap();
            assert_eq!((connection, push.id), (id.connection, id.request));
            frames += 1;
            if push.body == PushBody::Events {
                let events: Vec<WatchEvent> = postcard::from_bytes(&frame.payload).unwrap();
                revisions.extend(events.iter().map(|event| event.revision.0));
            }
        }
        (revisions, frames)
    }
}

fn all() -> Filter {
    Filter { target: WatchTarget::Prefix(Bytes::new()), previous: false }
}

const fn id(connection: u64) -> WatchId {
    WatchId { connection: ConnectionId(connection), request: 7 }
}

#[test]
fn a_client_that_reads_nothing_costs_a_bounded_number_of_frames_and_misses_nothing() {
    let mut stage = Stage::new();
    stage.begin(id(1), 1);
    for _ in 0..3 * MAX_UNWRITTEN_FRAMES {
        stage.set("k");
        stage.turn();
    }
    let (mut revisions, mut unwritten) = stage.told(id(1));
    assert_eq!(unwritten, MAX_UNWRITTEN_FRAMES);
    // Once it reads, it is told the rest, in fewer and larger frames.
    while unwritten > 0 {
        stage.watches.note_written(ConnectionId(1), unwritten, 100 * unwritten);
        stage.turn();
        let (more, frames) = stage.told(id(1));
        revisions.extend(more);
        unwritten = frames;
    }
    assert_eq!(revisions, (1..=3 * MAX_UNWRITTEN_FRAMES as u64).collect::<Vec<_>>());
}

#[test]
fn one_that_is_to_begin_later_is_told_from_there_on() {
    let mut stage = Stage::new();
    stage.begin(id(1), 3);
    for _ in 0..5 {
        stage.set("k");
        stage.turn();
    }
    assert_eq!(stage.told(id(1)).0, [3, 4, 5]);
}

#[test]
fn who_leaves_before_the_leader_has_answered_watches_nothing() {
    let mut stage = Stage::new();
    stage.watches.expect(id(1), all());
    stage.watches.expect(id(2), all());
    assert!(stage.watches.contains(id(1)), "its number is taken");
    assert_eq!(stage.watches.end_of_connection(ConnectionId(1)), []);
    assert!(!stage.watches.begin_expected(Instant(0), id(1), &stage.store, &mut stage.replies));
    assert!(stage.watches.begin_expected(Instant(0), id(2), &stage.store, &mut stage.replies));
    assert_eq!((stage.watches.len(), stage.replies.frames.len()), (1, 1));
}

#[test]
fn nothing_is_left_of_watches_that_have_ended() {
    let mut stage = Stage::new();
    stage.set("k");
    for (connection, from) in [(1, 1), (2, 2), (3, 9)] {
        stage.begin(id(connection), from);
    }
    stage.turn();
    for connection in 1..=3 {
        assert_eq!(stage.watches.end_of_connection(ConnectionId(connection)), [id(connection)]);
    }
    let Watches { watches, expected, live, prefix_lengths, behind, early, unwritten, marks, .. } = &stage.watches;
    assert!(watches.is_empty() && expected.is_empty() && live.is_empty() && prefix_lengths.is_empty());
    assert!(behind.is_empty() && early.is_empty() && unwritten.is_empty() && marks.is_empty());
}

#[test]
fn one_that_history_does_not_wait_for_ends_with_where_it_begins() {
    let mut stage = Stage::new();
    for _ in 0..10 {
        stage.set("k");
    }
    stage.begin(id(1), 1);
    let compact = ClusterCommand::Compact { aged: Revision(6), history_bytes: u64::MAX };
    stage.store.apply(11, Stamp(1), &compact.encode()).unwrap();
    let ended = stage.turn();
    let kinds: Vec<_> = ended.iter().map(|ended| (ended.id, ended.kind)).collect();
    assert_eq!(kinds, [(id(1), RequestErrorKind::Compacted { oldest: Revision(6) })]);
    assert_eq!(stage.watches.len(), 0);
}

/// One that has been told everything, and one that is to begin later: what has not come is not said to be complete.
#[test]
fn an_idle_watch_is_told_how_far_nothing_is_missing() {
    let later = Instant(0).after(PROGRESS_INTERVAL);
    for from in [1, 9] {
        let mut stage = Stage::new();
        let key = Filter { target: WatchTarget::Key(Bytes::from_static(b"quiet")), previous: false };
        stage.watches.begin(Instant(0), id(1), key, Revision(from), &stage.store, &mut stage.replies);
        stage.set("k");
        stage.set("k");
        // The first interval began with the beginning, which told something.
        for now in [Instant(0), later, later.after(PROGRESS_INTERVAL)] {
            stage.watches.turn(now, &stage.store, &mut stage.replies);
        }
        let last: Push = postcard::from_bytes(&stage.replies.frames.last().unwrap().1.header).unwrap();
        assert_eq!(last.body, PushBody::Progress { revision: Revision(2) }, "from {from}");
        assert_eq!(stage.replies.frames.len(), 2);
    }
}
