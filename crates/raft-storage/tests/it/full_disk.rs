//! A full disk (F8): what finds no space has promised nothing, poisons nothing, and goes on when there is space again.

use proptest::prelude::*;
use raft_core::{ClusterId, Configuration, Entry, HardState, LogIndex, LogPosition, Term, Write};
use raft_storage::{Disk as _, Formation, MemDisk, OpenError, Storage, WriteError};

use crate::common::{SECOND_SEGMENT, append, reopen, sized, small_segments, write};

const BALLAST: &str = "ballast";
const SEGMENT_BYTES: u64 = 8192;

/// From now on there is no byte more.
fn fill(disk: &MemDisk) {
    disk.set_capacity(Some(disk.used_bytes()));
}

fn is_lack_of_space<T>(outcome: &Result<T, WriteError>) -> bool {
    matches!(outcome, Err(WriteError::NoSpace { .. }))
}

/// Appends entries one by one until one finds no space; gives those that are durable, and the write that is not.
fn append_until_full(storage: &mut Storage<MemDisk>, from: u64) -> (Vec<Entry>, Write) {
    let mut durable = Vec::new();
    for index in from.. {
        let next = write(index, &[sized(index, 900)]);
        match storage.append(std::slice::from_ref(&next)) {
            Ok(()) => durable.extend(next.entries),
            Err(WriteError::NoSpace { .. }) => return (durable, next),
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!("the disk has an end")
}

#[test]
fn the_ballast_is_as_large_as_a_segment_and_is_spent_before_anything_is_refused() {
    let disk = MemDisk::new();
    let before = disk.used_bytes();
    let (mut storage, _) = reopen(&disk, 1);
    assert_eq!(
        disk.used_bytes() - before,
        2 * SEGMENT_BYTES + 4096 + 512 + 44,
        "segment, ballast, hard state, identity"
    );
    assert!(storage.has_space());
    fill(&disk);
    let (durable, _) = append_until_full(&mut storage, 1);
    assert!(!storage.has_space());
    assert_eq!(disk.contents(BALLAST), None);
    assert!(disk.contents(SECOND_SEGMENT).is_some(), "its space became the next segment");
    assert!(durable.len() > 12, "{} entries of two sectors", durable.len());
}

#[test]
fn what_found_no_space_is_written_when_there_is_some_and_nothing_is_poisoned() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    fill(&disk);
    let (mut durable, held) = append_until_full(&mut storage, 1);
    for _ in 0..3 {
        assert!(is_lack_of_space(&storage.append(std::slice::from_ref(&held))));
        assert!(!storage.regain_space().unwrap());
        storage.mark_idle().unwrap();
    }
    disk.set_capacity(Some(disk.used_bytes() + SEGMENT_BYTES));
    storage.append(std::slice::from_ref(&held)).unwrap();
    durable.extend(held.entries);
    assert!(!storage.regain_space().unwrap(), "enough for the log is not enough for the ballast");
    disk.set_capacity(None);
    assert!(storage.regain_space().unwrap());
    assert!(storage.has_space());
    let next = sized(durable.len() as u64 + 1, 700);
    append(&mut storage, std::slice::from_ref(&next));
    durable.push(next);
    drop(storage);
    disk.crash(|_, _| 0);
    assert_eq!(reopen(&disk, 2).1.entries, durable);
}

#[test]
fn terms_and_votes_need_no_space() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    fill(&disk);
    append_until_full(&mut storage, 1);
    let hard_state = HardState { term: Term(7), voted_for: Some(crate::common::node(2)) };
    storage.append(&[Write { hard_state: Some(hard_state), ..write(1, &[]) }]).unwrap();
    drop(storage);
    disk.crash(|_, _| 0);
    assert_eq!(reopen(&disk, 2).1.hard_state, hard_state);
}

#[test]
fn an_append_of_several_batches_goes_on_where_it_stopped() {
    for free_bytes in (0..6 * SEGMENT_BYTES).step_by(512) {
        let disk = MemDisk::new();
        let (mut storage, _) = reopen(&disk, 1);
        append(&mut storage, &[sized(1, 100), sized(2, 100)]);
        disk.set_capacity(Some(disk.used_bytes() + free_bytes));
        let mut writes = vec![write(1, &[sized(2, 3_000), sized(3, 6_000), sized(4, 6_500)])];
        writes[0].truncate_from = Some(LogIndex(2));
        let appended = storage.append(&writes);
        assert!(appended.is_ok() || is_lack_of_space(&appended), "{appended:?}");
        // What is added meanwhile comes after.
        writes.push(write(2, &[sized(5, 4_000)]));
        if appended.is_ok() {
            writes.remove(0);
        }
        disk.set_capacity(None);
        storage.append(&writes).unwrap();
        drop(storage);
        disk.crash(|_, _| 0);
        let expected = [sized(1, 100), sized(2, 3_000), sized(3, 6_000), sized(4, 6_500), sized(5, 4_000)];
        assert_eq!(reopen(&disk, 2).1.entries, expected, "{free_bytes} bytes free");
    }
}

#[test]
fn a_full_disk_is_opened_and_keeps_room_for_a_term_to_begin() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    let entries: Vec<Entry> = (1..=7).map(|index| sized(index, 900)).collect();
    for entry in &entries {
        append(&mut storage, std::slice::from_ref(entry));
    }
    drop(storage);
    fill(&disk);
    let (mut storage, recovered) = reopen(&disk, 2);
    assert_eq!(recovered.entries, entries);
    append(&mut storage, &[sized(8, 900)]);
    assert!(!storage.has_space(), "that took the ballast");
    drop(storage);
    // Somebody else takes what is left of its space: what needs none still works.
    fill(&disk);
    let (storage, recovered) = reopen(&disk, 3);
    assert_eq!(recovered.entries.len(), 8);
    assert!(!storage.has_space());
}

#[test]
fn a_formation_waits_for_space_too() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    fill(&disk);
    append_until_full(&mut storage, 1);
    fill(&disk);
    let formation = Formation { cluster: ClusterId(1), configuration: Configuration::default(), formed: false };
    assert!(is_lack_of_space(&storage.write_formation(formation.clone())));
    assert_eq!(storage.formation(), None);
    disk.set_capacity(None);
    storage.write_formation(formation.clone()).unwrap();
    drop(storage);
    disk.crash(|_, _| 0);
    assert_eq!(reopen(&disk, 2).0.formation(), Some(&formation));
}

#[test]
fn a_first_start_without_space_says_so_and_goes_well_later() {
    let whole = MemDisk::new();
    reopen(&whole, 1);
    for capacity in (0..whole.used_bytes()).step_by(500) {
        let disk = MemDisk::new();
        disk.set_capacity(Some(capacity));
        match Storage::open(disk.clone(), small_segments(1, SEGMENT_BYTES)) {
            Ok((storage, _)) => assert!(!storage.has_space(), "{capacity} bytes"),
            Err(OpenError::Write(_)) => {}
            Err(other) => panic!("{capacity} bytes: {other}"),
        }
        disk.set_capacity(None);
        assert!(reopen(&disk, 2).0.has_space(), "{capacity} bytes");
    }
}

#[test]
fn nothing_half_made_stays() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    fill(&disk);
    let (_, held) = append_until_full(&mut storage, 1);
    let names = disk.list().unwrap();
    for free_bytes in (0..SEGMENT_BYTES).step_by(500) {
        disk.set_capacity(Some(disk.used_bytes() + free_bytes));
        assert!(is_lack_of_space(&storage.append(std::slice::from_ref(&held))));
        assert!(!storage.regain_space().unwrap());
        assert_eq!(disk.list().unwrap(), names, "{free_bytes} bytes free");
    }
}

/// One step of a run on a disk whose size changes all the while.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Truncate(u64),
    MarkIdle,
    /// So many bytes are free now; what others do with the disk.
    Free(u64),
    Regain,
    Kill,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop::collection::vec(0_usize..5_000, 1..5).prop_map(Step::Append),
        2 => (1_u64..4).prop_map(Step::Truncate),
        2 => Just(Step::MarkIdle),
        4 => prop_oneof![Just(0_u64), 0_u64..20_000, Just(1 << 20)].prop_map(Step::Free),
        2 => Just(Step::Regain),
        1 => Just(Step::Kill),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..50)
}

/// A server, what it has acknowledged, and the writes that wait for space.
struct World {
    disk: MemDisk,
    storage: Option<Storage<MemDisk>>,
    acknowledged: Vec<Entry>,
    waiting: Vec<Write>,
    starts: u64,
}

impl World {
    fn new() -> Self {
        let disk = MemDisk::new();
        let (storage, _) = reopen(&disk, 1);
        Self { disk, storage: Some(storage), acknowledged: Vec::new(), waiting: Vec::new(), starts: 1 }
    }

    /// The log with all that waits.
    fn wanted(&self) -> Vec<Entry> {
        let mut entries = self.acknowledged.clone();
        for write in &self.waiting {
            if let Some(from) = write.truncate_from {
                entries.truncate(usize::try_from(from.0).unwrap() - 1);
            }
            entries.extend(write.entries.iter().cloned());
        }
        entries
    }

    fn write(&mut self, truncated: u64, sizes: &[usize]) {
        let wanted = self.wanted();
        let kept = (wanted.len() as u64).saturating_sub(truncated);
        let entries: Vec<Entry> = (kept + 1..).zip(sizes).map(|(index, &size)| sized(index, size)).collect();
        let mut write = write(1, &entries);
        write.truncate_from = (kept < wanted.len() as u64).then_some(LogIndex(kept + 1));
        self.waiting.push(write);
        self.try_waiting();
    }

    fn try_waiting(&mut self) {
        match self.storage.as_mut().unwrap().append(&self.waiting) {
            Ok(()) => {
                self.acknowledged = self.wanted();
                self.waiting.clear();
            }
            Err(WriteError::NoSpace { .. }) => assert!(!self.storage.as_ref().unwrap().has_space()),
            Err(other) => panic!("{other}"),
        }
    }

    /// What is found is what was acknowledged, or that and a part, from the front, of what waited.
    fn start(&mut self) {
        self.starts += 1;
        let opened = Storage::open(self.disk.clone(), small_segments(self.starts, 4096));
        let (storage, recovered) = opened.unwrap();
        let mut possible = vec![self.acknowledged.clone()];
        for write in &self.waiting {
            let mut entries = possible.last().unwrap().clone();
            if let Some(from) = write.truncate_from {
                entries.truncate(usize::try_from(from.0).unwrap() - 1);
                possible.push(entries.clone());
            }
            for entry in &write.entries {
                entries.push(entry.clone());
                possible.push(entries.clone());
            }
        }
        assert!(possible.contains(&recovered.entries), "found {:?}", recovered.entries.last());
        self.acknowledged = recovered.entries;
        self.waiting.clear();
        self.storage = Some(storage);
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(sizes) => self.write(0, sizes),
            Step::Truncate(count) => self.write(*count, &[]),
            Step::MarkIdle => self.storage.as_mut().unwrap().mark_idle().unwrap(),
            Step::Free(bytes) => self.disk.set_capacity(Some(self.disk.used_bytes() + bytes)),
            Step::Regain => {
                self.try_waiting();
                self.storage.as_mut().unwrap().regain_space().unwrap();
            }
            Step::Kill => {
                self.storage = None;
                self.start();
            }
            Step::Crash => {
                self.storage = None;
                self.disk.crash(|_, versions| versions / 2);
                self.start();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_log_on_a_disk_that_fills_and_empties_loses_nothing_and_goes_on(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.disk.set_capacity(None);
        world.take(&Step::Regain);
        prop_assert!(world.waiting.is_empty(), "with space everything that waited is written");
        prop_assert!(world.storage.as_ref().unwrap().has_space());
        world.take(&Step::Crash);
    }
}

#[test]
fn a_restart_of_the_log_waits_for_space_and_is_made_once() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    fill(&disk);
    let (durable, _) = append_until_full(&mut storage, 1);
    let base = LogPosition::new(Term(1), LogIndex(500));
    let mut restart = write(1, &[sized(501, 3_000)]);
    restart.restart_after = Some(base);
    assert!(is_lack_of_space(&storage.append(std::slice::from_ref(&restart))));
    // Nothing of it counts yet, also not for what may go.
    storage.compact(LogIndex(1)).unwrap();
    assert!(disk.list().unwrap().iter().any(|name| name == crate::common::FIRST_SEGMENT));
    assert!(durable.len() > 2);
    disk.set_capacity(None);
    storage.append(std::slice::from_ref(&restart)).unwrap();
    storage.append(&[write(2, &[sized(502, 10)])]).unwrap();
}
