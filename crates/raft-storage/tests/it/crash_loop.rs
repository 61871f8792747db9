//! Write, crash, write, crash (F4, F6), with snapshots and compaction (§5): against a model that is a vector.
//!
//! After each start the directory must hold what was acknowledged, or that and a part, from the front, of the one
//! operation that was interrupted. Nothing else: nothing lost, nothing invented, no order but the order of writing. Of the
//! log's beginning it may have forgotten what it was told to forget, as far as whole files go.

use proptest::prelude::*;
use raft_core::{Entry, HardState, LogIndex, LogPosition, Term, Write, WriteNumber};
use raft_storage::{MemDisk, Recovered, Snapshots, Storage};

use crate::common::{command, node, small_segments};
use crate::snapshot_words::{at, body, data, read_data, receive, snapshot, take};

#[derive(Clone, Debug)]
enum Operation {
    /// Appends; each write truncates so many entries, and adds some of these sizes.
    Append(Vec<(usize, Vec<usize>)>),
    MarkIdle,
    /// Takes a snapshot of all but so many of the last entries.
    TakeSnapshot(usize),
    /// Forgets what the snapshot covers, but for so many entries.
    Compact(u64),
    /// Removes the files of older snapshots.
    TidyUp,
    /// Receives a leader's snapshot, which ends so far beyond the log or, below 0, at a conflict within it; and goes on
    /// after it with an entry.
    Receive(i64),
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// The process is killed: what was not synced is still in the page cache.
    Kill,
    /// The power is cut.
    Crash,
}

#[derive(Clone, Debug)]
enum Step {
    Do(Operation),
    Stop(End),
    /// Some calls go well and then all fail; the process stops, by itself or by the power.
    FailAfter(u64, Operation, End),
}

fn operations() -> impl Strategy<Value = Operation> {
    let entries = prop::collection::vec(0_usize..1_500, 0..5);
    prop_oneof![
        8 => prop::collection::vec((0_usize..4, entries), 1..4).prop_map(Operation::Append),
        2 => Just(Operation::MarkIdle),
        2 => (0_usize..6).prop_map(Operation::TakeSnapshot),
        2 => (0_u64..6).prop_map(Operation::Compact),
        1 => Just(Operation::TidyUp),
        1 => (-3_i64..4).prop_map(Operation::Receive),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![Just(End::Kill), Just(End::Crash)];
    let faulty =
        (0_u64..14, operations(), end.clone()).prop_map(|(calls, what, end)| Step::FailAfter(calls, what, end));
    let step = prop_oneof![10 => operations().prop_map(Step::Do), 2 => end.prop_map(Step::Stop), 4 => faulty];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    /// The newest snapshot.
    snapshot: Option<LogPosition>,
    /// The position before the first of `entries`.
    base: LogPosition,
    /// How far the log may have forgotten its beginning.
    forgotten: LogIndex,
    entries: Vec<Entry>,
}

impl Model {
    /// What was found, if it is this.
    fn agrees(&self, found: &Recovered) -> bool {
        let Some(skipped) = found.base.index.0.checked_sub(self.base.index.0) else { return false };
        let skipped = usize::try_from(skipped).unwrap();
        // Files do not tell the term of the entry before their first: one entry more goes, and is the base.
        let may_begin_there = skipped == 0 || found.base.index <= self.forgotten.next();
        found.hard_state == self.hard_state
            && found.snapshot == self.snapshot.map(snapshot)
            && may_begin_there
            && self.position(found.base.index) == Some(found.base)
            && found.entries == self.entries[skipped..]
    }

    fn position(&self, index: LogIndex) -> Option<LogPosition> {
        let after_base = usize::try_from(index.0.checked_sub(self.base.index.0)?).unwrap();
        if after_base == 0 { Some(self.base) } else { self.entries.get(after_base - 1).map(|entry| entry.position) }
    }

    fn last(&self) -> LogPosition {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    /// How many entries no snapshot covers: those may still be truncated.
    fn uncovered(&self) -> usize {
        let covered = self.snapshot.map_or(0, |last| last.index.0);
        usize::try_from(self.last().index.0.saturating_sub(covered)).unwrap()
    }

    /// The writes for a step, and all states a crash in the middle of them may leave, the last the one aimed at.
    fn writes(&self, term: u64, spec: &[(usize, Vec<usize>)]) -> (Vec<Write>, Vec<Self>) {
        let hard_state = HardState { term: Term(term), voted_for: node(term % 3 + 1).into() };
        let mut state = Self { hard_state, ..self.clone() };
        let mut states = vec![self.clone(), state.clone()];
        let mut writes = Vec::new();
        for (number, (truncated, sizes)) in (1..).zip(spec) {
            let truncated = (*truncated).min(state.uncovered());
            let mut write = Write { number: WriteNumber(number), ..empty_write(hard_state) };
            if truncated > 0 {
                state.entries.truncate(state.entries.len() - truncated);
                write.truncate_from = Some(state.last().index.next());
                states.push(state.clone());
            }
            for size in sizes {
                let entry = command(term, state.last().index.0 + 1, &vec![u8::try_from(term % 251).unwrap(); *size]);
                write.entries.push(entry.clone());
                state.entries.push(entry);
                states.push(state.clone());
            }
            writes.push(write);
        }
        (writes, states)
    }

    /// With a snapshot that the log does not lead to: the log begins behind it.
    fn restarted(&self, last: LogPosition) -> Self {
        Self { snapshot: Some(last), base: last, forgotten: last.index, entries: Vec::new(), ..self.clone() }
    }
}

fn empty_write(hard_state: HardState) -> Write {
    Write {
        number: WriteNumber(1),
        hard_state: Some(hard_state),
        restart_after: None,
        truncate_from: None,
        entries: Vec::new(),
    }
}

/// The states that an operation that was interrupted may have left.
struct Interrupted(Vec<Model>);

/// A running server, the model of what it acknowledged, and the crashes it goes through.
struct World {
    disk: MemDisk,
    /// None while the process is dead.
    storage: Option<Storage<MemDisk>>,
    model: Model,
    incarnation: u64,
    starts: u64,
    term: u64,
    random: u64,
}

impl World {
    fn new(random: u64) -> Self {
        let (disk, model) = (MemDisk::new(), Model::default());
        let mut world = Self { disk, storage: None, model, incarnation: 0, starts: 0, term: 0, random };
        let possible = [world.model.clone()];
        world.start(&possible);
        world
    }

    fn crash(&mut self) {
        let random = &mut self.random;
        self.disk.crash(|_, versions| {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((*random >> 33) % (versions as u64 + 1)).unwrap()
        });
    }

    /// Starts; what is found must be one of the possible states, and counts from now on. The snapshot's data is whole.
    fn start(&mut self, possible: &[Model]) {
        self.starts += 1;
        let opened = Storage::open(self.disk.clone(), small_segments(self.starts, 4096));
        let (storage, found) = opened.unwrap();
        let state = possible.iter().find(|state| state.agrees(&found));
        let state = state.unwrap_or_else(|| panic!("found {found:?}, expected one of {possible:?}")).clone();
        assert!(found.incarnation.0 > self.incarnation, "an incarnation is never used twice");
        self.incarnation = found.incarnation.0;
        if let Some(last) = state.snapshot {
            assert_eq!(read_data(&mut self.files_of(&storage), last).unwrap(), data(last));
        }
        self.model = Model { base: found.base, entries: found.entries, ..state };
        self.storage = Some(storage);
    }

    fn stop(&mut self, how: End) {
        self.storage = None;
        self.disk.heal();
        if let End::Crash = how {
            self.crash();
        }
    }

    fn files_of(&self, storage: &Storage<MemDisk>) -> Snapshots<MemDisk> {
        Snapshots::new(self.disk.clone(), storage.identity())
    }

    fn files(&self) -> Snapshots<MemDisk> {
        self.files_of(self.storage.as_ref().unwrap())
    }

    fn storage(&mut self) -> &mut Storage<MemDisk> {
        self.storage.as_mut().unwrap()
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Do(operation) => assert!(self.attempt(operation).is_ok(), "{operation:?} failed"),
            Step::Stop(end) => {
                let acknowledged = [self.model.clone()];
                self.stop(*end);
                self.start(&acknowledged);
            }
            Step::FailAfter(calls, operation, end) => self.fail(*calls, operation, *end),
        }
    }

    fn fail(&mut self, calls: u64, operation: &Operation, end: End) {
        self.disk.fail_after(calls);
        let mut states = match self.attempt(operation) {
            Ok(()) => vec![self.model.clone()],
            Err(Interrupted(states)) => states,
        };
        self.stop(end);
        // Half of the time the start fails as well, and once more the power or the process goes.
        if calls.is_multiple_of(2) {
            self.disk.fail_after(calls / 2);
            if let Ok((_, found)) = Storage::open(self.disk.clone(), small_segments(self.starts + 7_000, 4096)) {
                states.retain(|state| state.agrees(&found));
                assert!(!states.is_empty(), "found {found:?}");
            }
            self.stop(end);
        }
        self.start(&states);
    }

    // --- operations ----------------------------------------------------------------------------------------------

    /// Does it; the model follows as far as it was acknowledged.
    fn attempt(&mut self, operation: &Operation) -> Result<(), Interrupted> {
        match operation {
            Operation::Append(spec) => self.append(spec),
            Operation::MarkIdle => {
                let outcome = self.storage().mark_idle();
                self.note(outcome.is_ok(), vec![self.model.clone()])
            }
            Operation::TakeSnapshot(all_but) => {
                let place = self.model.uncovered().checked_sub(all_but + 1);
                let entries = &self.model.entries;
                let Some(place) = place.map(|place| entries.len() - self.model.uncovered() + place) else {
                    return Ok(());
                };
                let last = entries[place].position;
                let outcome = take(&mut self.files(), last);
                let after = Model { snapshot: Some(last), ..self.model.clone() };
                self.note(outcome.is_ok(), vec![self.model.clone(), after])
            }
            Operation::Compact(all_but) => {
                let Some(last) = self.model.snapshot else { return Ok(()) };
                let through = LogIndex(last.index.0.saturating_sub(*all_but)).max(self.model.base.index);
                let outcome = self.storage().compact(through);
                let after = Model { forgotten: through.max(self.model.forgotten), ..self.model.clone() };
                self.note(outcome.is_ok(), vec![after])
            }
            Operation::TidyUp => {
                let kept: Vec<LogPosition> = self.model.snapshot.into_iter().collect();
                let outcome = self.files().remove_all_but(&kept);
                self.note(outcome.is_ok(), vec![self.model.clone()])
            }
            Operation::Receive(distance) => self.receive(*distance),
        }
    }

    fn note(&mut self, is_done: bool, states: Vec<Model>) -> Result<(), Interrupted> {
        if !is_done {
            return Err(Interrupted(states));
        }
        self.model = states.into_iter().next_back().unwrap();
        Ok(())
    }

    fn append(&mut self, spec: &[(usize, Vec<usize>)]) -> Result<(), Interrupted> {
        self.term += 1;
        let (writes, states) = self.model.writes(self.term, spec);
        let outcome = self.storage().append(&writes);
        self.note(outcome.is_ok(), states)
    }

    /// A leader's snapshot is stored only when its term is durable; the log is restarted when the snapshot is.
    fn receive(&mut self, distance: i64) -> Result<(), Interrupted> {
        self.append(&[(0, Vec::new())])?;
        let covered = self.model.snapshot.map_or(0, |last| last.index.0).max(self.model.base.index.0);
        let index = self.model.last().index.0.saturating_add_signed(distance).max(covered + 1);
        let last = at(index, self.term);
        let outcome = receive(&mut self.files(), last, &body(last));
        self.note(outcome.is_ok(), vec![self.model.clone(), self.model.restarted(last)])?;
        let next = command(self.term, index + 1, b"next");
        let write =
            Write { restart_after: Some(last), entries: vec![next.clone()], ..empty_write(self.model.hard_state) };
        let outcome = self.storage().append(&[write]);
        let after = Model { entries: vec![next], ..self.model.clone() };
        self.note(outcome.is_ok(), vec![self.model.clone(), after])
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn all_that_was_acknowledged_is_there_and_nothing_was_invented(steps in steps(), random in any::<u64>()) {
        let mut world = World::new(random);
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Stop(End::Crash));
    }
}
