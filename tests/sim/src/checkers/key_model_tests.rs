use proptest::prelude::*;

use super::super::wgl::histories::{Random, Workload, has_order, run};
use super::super::wgl::{Verdict, check};
use super::*;

const T1: i64 = FIRST_TEXT + 1;
const T2: i64 = FIRST_TEXT + 2;
const T3: i64 = FIRST_TEXT + 3;

type History = Vec<Operation<Action, Outcome>>;

fn done(called: u64, returned: u64, action: Action, outcome: Outcome) -> Operation<Action, Outcome> {
    Operation { client: 0, called, returned: Some((returned, outcome)), action }
}

fn unknown(called: u64, action: Action) -> Operation<Action, Outcome> {
    Operation { client: 0, called, returned: None, action }
}

const fn set(value: i64) -> Action {
    Action::Set { value, if_absent: false }
}

const fn swap(expected: i64, new: i64) -> Action {
    Action::CompareAndSwap { expected, new }
}

const fn read(value: i64, version: u64) -> Outcome {
    Outcome::Read { value: Some(value), version }
}

const SET: Outcome = Outcome::Set { set: true };
const SWAPPED: Outcome = Outcome::Swapped { swapped: true };
const NOTHING: Outcome = Outcome::Read { value: None, version: 0 };

fn has(history: &[Operation<Action, Outcome>]) -> bool {
    match check(&KeyModel, history, 2_000_000) {
        Verdict::Linearizable => true,
        Verdict::NotLinearizable { .. } => false,
        Verdict::TooHard { steps } => panic!("given up after {steps} steps"),
    }
}

/// Rule by rule, as `kv-store` has it.
#[test]
fn each_action_does_what_the_store_does() {
    let add = |by| Action::Increment { by };
    let if_absent = |value| Action::Set { value, if_absent: true };
    let is = |value, version| State { value: Some(value), version };
    let absent = State::ABSENT;
    let swapped = |swapped| Outcome::Swapped { swapped };
    let deleted = |existed| Outcome::Deleted { existed };
    let table = [
        (absent, Action::Get, absent, NOTHING),
        (is(7, 2), Action::Get, is(7, 2), read(7, 2)),
        (absent, set(T1), is(T1, 1), SET),
        (is(T1, 3), set(T1), is(T1, 4), SET),
        (absent, if_absent(T1), is(T1, 1), SET),
        (is(T2, 3), if_absent(T1), is(T2, 3), Outcome::Set { set: false }),
        (absent, Action::Delete, absent, deleted(false)),
        (is(7, 5), Action::Delete, absent, deleted(true)),
        (absent, Action::DeleteAny, absent, Outcome::Done),
        (is(7, 5), Action::DeleteAny, absent, Outcome::Done),
        (absent, swap(0, T1), absent, swapped(false)),
        (is(T1, 1), swap(T2, T3), is(T1, 1), swapped(false)),
        (is(T1, 1), swap(T1, T1), is(T1, 2), swapped(true)),
        (absent, add(-4), is(-4, 1), Outcome::Incremented { value: -4 }),
        (is(3, 8), add(0), is(3, 9), Outcome::Incremented { value: 3 }),
        (is(T1, 8), add(1), is(T1, 8), Outcome::Refused),
        (is(i64::MIN, 8), add(-1), is(i64::MIN, 8), Outcome::Refused),
    ];
    for (before, action, after, outcome) in table {
        assert_eq!(before.apply(&action), (after, outcome), "{action:?} in {before:?}");
        assert_eq!(KeyModel.step(&before, &action, Some(&outcome)), Some(after), "{action:?} in {before:?}");
        assert_eq!(KeyModel.step(&before, &action, None), Some(after), "{action:?} in {before:?}");
        assert_eq!(KeyModel.step(&before, &action, Some(&Outcome::Refused)), Some(before), "{action:?} in {before:?}");
        assert!(!KeyModel.only_observes(&action, &outcome) || before == after, "{action:?} in {before:?}");
        for (_, _, _, other) in table.into_iter().filter(|row| row.3 != outcome && row.3 != Outcome::Refused) {
            assert_eq!(KeyModel.step(&before, &action, Some(&other)), None, "{action:?} {other:?} in {before:?}");
        }
    }
}

#[test]
fn a_stale_read_has_no_order() {
    assert!(!has(&[done(1, 2, set(T1), SET), done(3, 4, Action::Get, NOTHING)]));
    assert!(!has(&[done(1, 2, set(T1), SET), done(3, 4, set(T2), SET), done(5, 6, Action::Get, read(T1, 1)),]));
}

#[test]
fn a_value_never_written_is_never_read() {
    assert!(!has(&[done(1, 9, set(T1), SET), done(2, 3, Action::Get, read(T2, 1))]));
}

#[test]
fn a_version_must_be_right_too() {
    assert!(has(&[done(1, 2, set(T1), SET), done(3, 4, set(T1), SET), done(5, 6, Action::Get, read(T1, 2))]));
    assert!(!has(&[done(1, 2, set(T1), SET), done(3, 4, set(T1), SET), done(5, 6, Action::Get, read(T1, 1))]));
}

#[test]
fn a_key_created_anew_begins_at_version_1() {
    let history = |version| {
        let deleted = Outcome::Deleted { existed: true };
        let read = done(7, 8, Action::Get, read(T2, version));
        [done(1, 2, set(T1), SET), done(3, 4, Action::Delete, deleted), done(5, 6, set(T2), SET), read]
    };
    assert!(has(&history(1)));
    assert!(!has(&history(2)));
}

#[test]
fn an_increment_is_neither_lost_nor_applied_twice() {
    let add =
        |called, returned, value| done(called, returned, Action::Increment { by: 1 }, Outcome::Incremented { value });
    assert!(has(&[add(1, 4, 2), add(2, 3, 1)]));
    // Lost: both started from 0.
    assert!(!has(&[add(1, 4, 1), add(2, 3, 1)]));
    // Applied twice.
    assert!(!has(&[add(1, 2, 1), add(3, 4, 3)]));
    assert!(!has(&[add(1, 2, 1), done(3, 4, Action::Get, read(2, 2))]));
    // One of unknown outcome accounts for one, not for two.
    let lost = unknown(0, Action::Increment { by: 1 });
    assert!(has(&[lost.clone(), add(1, 2, 1), add(3, 4, 3)]));
    assert!(!has(&[lost, add(1, 2, 1), add(3, 4, 4)]));
}

#[test]
fn an_unknown_write_is_seen_later_or_never() {
    let write = || unknown(3, set(T2));
    let old = |called| done(called, called + 1, Action::Get, read(T1, 1));
    let new = |called| done(called, called + 1, Action::Get, read(T2, 2));
    let first = || done(1, 2, set(T1), SET);
    assert!(has(&[first(), write(), old(4), new(6)]));
    assert!(has(&[first(), write(), old(4), old(6)]));
    assert!(!has(&[first(), write(), new(4), old(6)]));
}

#[test]
fn of_two_swaps_of_one_value_one_succeeds() {
    let both = [done(1, 2, set(T1), SET), done(3, 6, swap(T1, T2), SWAPPED), done(4, 5, swap(T1, T3), SWAPPED)];
    assert!(!has(&both));
    let [first, second, mut third] = both;
    third.returned = Some((5, Outcome::Swapped { swapped: false }));
    assert!(has(&[first, second, third]));
}

#[test]
fn a_prefix_deletion_may_find_the_key_or_not() {
    let sweep = || done(1, 9, Action::DeleteAny, Outcome::Done);
    assert!(has(&[sweep(), done(2, 3, set(T1), SET), done(4, 5, Action::Get, NOTHING)]));
    assert!(has(&[sweep(), done(2, 3, set(T1), SET), done(10, 11, Action::Get, read(T1, 1))]));
    assert!(!has(&[sweep(), done(10, 11, set(T1), SET), done(12, 13, Action::Get, NOTHING)]));
}

#[test]
fn a_refused_write_changes_nothing() {
    let refused = |called| done(called, called + 1, set(T2), Outcome::Refused);
    assert!(has(&[done(1, 2, set(T1), SET), refused(3), done(5, 6, Action::Get, read(T1, 1))]));
    assert!(!has(&[done(1, 2, set(T1), SET), refused(3), done(5, 6, Action::Get, read(T2, 2))]));
}

fn draw(random: &mut Random) -> Action {
    let value = random.pick(&[1, T1, T2, T3]);
    match random.below(12) {
        0..4 => Action::Get,
        4..6 => Action::Set { value, if_absent: random.below(2) == 0 },
        6..8 => Action::CompareAndSwap { expected: random.pick(&[1, T1, T2]), new: value },
        8 => Action::Delete,
        9 => Action::DeleteAny,
        _ => Action::Increment { by: 1 + random.below(2) as i64 },
    }
}

fn apply(state: &mut State, action: &Action) -> Outcome {
    let (after, outcome) = state.apply(action);
    *state = after;
    outcome
}

fn true_history(seed: u64, workload: Workload) -> History {
    run(&mut Random(seed), workload, State::ABSENT, draw, apply)
}

/// Tells clients what others were told, or something near the truth.
fn falsify(history: &mut History, random: &mut Random, times: u64) {
    for _ in 0..times {
        let place = random.below(history.len() as u64) as usize;
        let Some((_, outcome)) = &mut history[place].returned else { continue };
        match outcome {
            Outcome::Read { value, version } => {
                *value = random.pick(&[None, Some(1), Some(2), Some(T1), Some(T2)]);
                *version = if value.is_some() { 1 + random.below(3) } else { 0 };
            }
            Outcome::Set { set: flag } | Outcome::Deleted { existed: flag } | Outcome::Swapped { swapped: flag } => {
                *flag = !*flag;
            }
            Outcome::Incremented { value } => *value += 1,
            Outcome::Done | Outcome::Refused => {}
        }
    }
}

/// Eight clients, two hundred increments by 1 and 2, eight of them without an answer.
fn increments(seed: u64) -> History {
    let workload = Workload { clients: 8, operations: 200, unknown: 8 };
    let draw = |random: &mut Random| Action::Increment { by: 1 + random.below(2) as i64 };
    run(&mut Random(seed), workload, State::ABSENT, draw, apply)
}

#[test]
fn two_hundred_increments_with_eight_unknown() {
    for seed in 0..50 {
        let mut history = increments(seed);
        assert_eq!(history.iter().filter(|operation| operation.returned.is_none()).count(), 8);
        assert!(has(&history), "seed {seed}");
        // Two increments cannot have made the same number, whatever became of the unknown.
        let places: Vec<usize> = (0..200).filter(|&place| history[place].returned.is_some()).collect();
        let (earlier, later) = (places[150], places[151]);
        let told = history[earlier].returned.map(|(_, outcome)| outcome);
        history[later].returned = history[later].returned.zip(told).map(|((event, _), outcome)| (event, outcome));
        assert!(!has(&history), "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_true_execution_has_an_order(seed: u64, clients in 1..9_usize, operations in 1..100_usize, unknown in 0..9_usize) {
        let history = true_history(seed, Workload { clients, operations, unknown: unknown.min(operations) });
        prop_assert!(has(&history));
        prop_assert!(has(&merge_unseen(&history)));
    }

    #[test]
    fn the_naive_twin_agrees(seed: u64, clients in 1..7_usize, operations in 1..7_usize, unknown in 0..4_usize, lies in 0..3_u64) {
        let mut history = true_history(seed, Workload { clients, operations, unknown: unknown.min(operations) });
        falsify(&mut history, &mut Random(!seed), lies);
        let expected = has_order(&KeyModel, &history);
        prop_assert_eq!(has(&history), expected, "{:?}", &history);
        prop_assert_eq!(has(&merge_unseen(&history)), expected, "{:?}", &history);
    }
}
