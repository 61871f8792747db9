//! Write, crash, write, crash (F4, F6): against a model that is a vector.
//!
//! After each start the directory must hold what was acknowledged, or that and a part, from the front, of the one
//! append that was interrupted. Nothing else: nothing lost, nothing invented, no order but the order of writing.

use proptest::prelude::*;
use raft_core::{Entry, HardState, LogIndex, Term, Write, WriteNumber};
use raft_storage::{MemDisk, Recovered, Storage};

use crate::common::{command, node, small_segments};

#[derive(Clone, Debug)]
enum Step {
    /// Appends; each write truncates so many entries, and adds some of these sizes.
    Append(Vec<(usize, Vec<usize>)>),
    MarkIdle,
    /// Kills the process: what was not synced is still in the page cache.
    Kill,
    /// Cuts the power.
    Crash,
    /// Lets some calls go well and then all fail; the process stops, by itself or by the power.
    FailAfter(u64, Box<Step>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let entries = prop::collection::vec(0_usize..1_500, 0..5);
    let append = prop::collection::vec((0_usize..4, entries), 1..4).prop_map(Step::Append);
    let end = prop_oneof![Just(Step::Kill), Just(Step::Crash)];
    let faulty = (0_u64..12, end.clone()).prop_map(|(calls, end)| Step::FailAfter(calls, Box::new(end)));
    let step = prop_oneof![8 => append, 2 => Just(Step::MarkIdle), 2 => end, 3 => faulty];
    prop::collection::vec(step, 1..30)
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Model {
    /// The writes for a step, and all states a crash in the middle of them may leave, the last the one aimed at.
    fn writes(&self, term: u64, spec: &[(usize, Vec<usize>)]) -> (Vec<Write>, Vec<Self>) {
        let hard_state = HardState { term: Term(term), voted_for: node(term % 3 + 1).into() };
        let mut states = vec![self.clone(), Self { hard_state, ..self.clone() }];
        let mut entries = self.entries.clone();
        let mut writes = Vec::new();
        for (number, (truncated, sizes)) in (1..).zip(spec) {
            let truncated = (*truncated).min(entries.len());
            let mut write = Write { number: WriteNumber(number), ..empty_write(hard_state) };
            if truncated > 0 {
                entries.truncate(entries.len() - truncated);
                write.truncate_from = Some(LogIndex(entries.len() as u64 + 1));
                states.push(Self { hard_state, entries: entries.clone() });
            }
            for size in sizes {
                let index = entries.len() as u64 + 1;
                let entry = command(term, index, &vec![u8::try_from(term % 251).unwrap(); *size]);
                write.entries.push(entry.clone());
                entries.push(entry);
                states.push(Self { hard_state, entries: entries.clone() });
            }
            writes.push(write);
        }
        (writes, states)
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

/// A running server, the model of what it acknowledged, and the crashes it goes through.
struct World {
    disk: MemDisk,
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

    /// Starts; what is found must be one of the possible states, and counts from now on.
    fn start(&mut self, possible: &[Model]) {
        self.starts += 1;
        let opened = Storage::open(self.disk.clone(), small_segments(self.starts, 4096));
        let (storage, Recovered { hard_state, entries, incarnation, .. }) = opened.unwrap();
        let found = Model { hard_state, entries };
        assert!(possible.contains(&found), "found {found:?}, expected one of {possible:?}");
        assert!(incarnation.0 > self.incarnation, "an incarnation is never used twice");
        self.incarnation = incarnation.0;
        self.model = found;
        self.storage = Some(storage);
    }

    fn stop(&mut self, how: &Step) {
        self.storage = None;
        self.disk.heal();
        match how {
            Step::Crash => self.crash(),
            Step::Append(_) | Step::MarkIdle | Step::Kill | Step::FailAfter(..) => {}
        }
    }

    fn take(&mut self, step: &Step) {
        let acknowledged = [self.model.clone()];
        match step {
            Step::Append(spec) => self.append(spec),
            Step::MarkIdle => self.storage.as_mut().unwrap().mark_idle().unwrap(),
            Step::Kill | Step::Crash => {
                self.stop(step);
                self.start(&acknowledged);
            }
            Step::FailAfter(calls, end) => self.append_and_fail(*calls, end),
        }
    }

    fn append(&mut self, spec: &[(usize, Vec<usize>)]) {
        self.term += 1;
        let (writes, states) = self.model.writes(self.term, spec);
        self.storage.as_mut().unwrap().append(&writes).unwrap();
        self.model = states.last().unwrap().clone();
    }

    fn append_and_fail(&mut self, calls: u64, end: &Step) {
        self.term += 1;
        let spec = vec![(1, vec![700, 1_200, 10]), (0, vec![1_400, 300])];
        let (writes, mut states) = self.model.writes(self.term, &spec);
        self.disk.fail_after(calls);
        let storage = self.storage.as_mut().unwrap();
        if storage.append(&writes).is_ok() {
            states = vec![states.last().unwrap().clone()];
            let _ = storage.mark_idle();
        }
        self.stop(end);
        // Half of the time the start fails as well, and once more the power or the process goes.
        if calls.is_multiple_of(2) {
            self.disk.fail_after(calls / 2);
            if let Ok((_, recovered)) = Storage::open(self.disk.clone(), small_segments(self.starts + 7_000, 4096)) {
                states = vec![Model { hard_state: recovered.hard_state, entries: recovered.entries }];
            }
            self.stop(end);
        }
        self.start(&states);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn all_that_was_acknowledged_is_there_and_nothing_was_invented(steps in steps(), random in any::<u64>()) {
        let mut world = World::new(random);
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Crash);
    }
}
