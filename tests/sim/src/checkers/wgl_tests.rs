use proptest::prelude::*;

use super::histories::{Random, Workload, explains, has_order, run};
use super::*;

/// A number that can be written, read, swapped and added to: a state may come back, which a versioned key's does not.
struct Register;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Read,
    Write(u8),
    Swap(u8, u8),
    Add(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Value(u8),
    Done,
    Swapped(bool),
}

fn apply(state: &mut u8, ask: &Ask) -> Told {
    match *ask {
        Ask::Read => Told::Value(*state),
        Ask::Write(value) => {
            *state = value;
            Told::Done
        }
        Ask::Swap(expected, new) => {
            let swapped = *state == expected;
            *state = if swapped { new } else { *state };
            Told::Swapped(swapped)
        }
        Ask::Add(by) => {
            *state = (*state + by) % 4;
            Told::Value(*state)
        }
    }
}

impl Model for Register {
    type State = u8;
    type Action = Ask;
    type Outcome = Told;

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, ask: &Ask, told: Option<&Told>) -> Option<u8> {
        let mut after = *state;
        let actual = apply(&mut after, ask);
        told.is_none_or(|told| *told == actual).then_some(after)
    }

    fn only_observes(&self, ask: &Ask, told: &Told) -> bool {
        *ask == Ask::Read || *told == Told::Swapped(false)
    }
}

type History = Vec<Operation<Ask, Told>>;

fn done(called: u64, returned: u64, action: Ask, outcome: Told) -> Operation<Ask, Told> {
    Operation { client: 0, called, returned: Some((returned, outcome)), action }
}

fn unknown(called: u64, action: Ask) -> Operation<Ask, Told> {
    Operation { client: 0, called, returned: None, action }
}

fn verdict(history: &[Operation<Ask, Told>]) -> Verdict {
    check(&Register, history, 1_000_000)
}

fn draw(random: &mut Random) -> Ask {
    match random.below(10) {
        0..3 => Ask::Read,
        3..6 => Ask::Write(random.below(3) as u8),
        6..8 => Ask::Swap(random.below(3) as u8, random.below(3) as u8),
        _ => Ask::Add(1 + random.below(2) as u8),
    }
}

fn true_history(seed: u64, workload: Workload) -> History {
    run(&mut Random(seed), workload, 0, draw, apply)
}

/// Tells `times` clients something else, or forgets what one was told.
fn falsify(history: &mut History, random: &mut Random, times: u64) {
    for _ in 0..times {
        let place = random.below(history.len() as u64) as usize;
        let operation = &mut history[place];
        operation.returned = operation.returned.map(|(event, told)| {
            let other = match told {
                Told::Value(_) => Told::Value(random.below(4) as u8),
                Told::Swapped(_) => Told::Swapped(random.below(2) == 0),
                Told::Done => Told::Done,
            };
            (event, other)
        });
        if random.below(4) == 0 {
            operation.action = draw(random);
        }
    }
}

#[test]
fn nothing_happened() {
    assert_eq!(verdict(&[]), Verdict::Linearizable);
}

#[test]
fn a_read_beside_a_write_sees_either_value() {
    for seen in [0, 1] {
        let history = [done(1, 4, Ask::Write(1), Told::Done), done(2, 3, Ask::Read, Told::Value(seen))];
        assert_eq!(verdict(&history), Verdict::Linearizable, "{seen}");
    }
}

#[test]
fn a_stale_read_after_an_acknowledged_write_has_no_order() {
    let history = [done(1, 2, Ask::Write(1), Told::Done), done(3, 4, Ask::Read, Told::Value(0))];
    assert_eq!(verdict(&history), Verdict::NotLinearizable { prefix: vec![0], stuck: vec![1] });
}

#[test]
fn two_reads_beside_a_write_do_not_go_back_in_time() {
    let history = [
        done(1, 8, Ask::Write(1), Told::Done),
        done(2, 3, Ask::Read, Told::Value(1)),
        done(4, 5, Ask::Read, Told::Value(0)),
    ];
    assert_eq!(verdict(&history), Verdict::NotLinearizable { prefix: vec![0, 1], stuck: vec![2] });
}

#[test]
fn an_operation_that_returned_must_be_explained_even_if_nobody_depends_on_it() {
    let history = [done(1, 2, Ask::Read, Told::Value(3)), done(3, 4, Ask::Read, Told::Value(0))];
    assert_eq!(verdict(&history), Verdict::NotLinearizable { prefix: vec![], stuck: vec![0] });
}

/// Herlihy & Wing's condition is about real time, not only about each client's own order.
#[test]
fn real_time_binds_different_clients() {
    let mut history = vec![
        done(1, 2, Ask::Write(1), Told::Done),
        done(3, 4, Ask::Write(2), Told::Done),
        done(5, 6, Ask::Read, Told::Value(1)),
    ];
    history.iter_mut().zip(0..).for_each(|(operation, client)| operation.client = client);
    assert_eq!(verdict(&history), Verdict::NotLinearizable { prefix: vec![0, 1], stuck: vec![2] });
}

#[test]
fn an_unknown_write_may_take_effect_late_or_never_but_not_early() {
    let late =
        [unknown(1, Ask::Write(1)), done(2, 3, Ask::Read, Told::Value(0)), done(4, 5, Ask::Read, Told::Value(1))];
    assert_eq!(verdict(&late), Verdict::Linearizable);
    let never = [unknown(1, Ask::Write(1)), done(2, 3, Ask::Read, Told::Value(0))];
    assert_eq!(verdict(&never), Verdict::Linearizable);
    let early = [done(1, 2, Ask::Read, Told::Value(1)), unknown(3, Ask::Write(1))];
    assert_eq!(verdict(&early), Verdict::NotLinearizable { prefix: vec![], stuck: vec![0] });
}

#[test]
fn an_unknown_write_takes_effect_once() {
    let history = [
        unknown(1, Ask::Write(1)),
        done(2, 3, Ask::Read, Told::Value(1)),
        done(4, 5, Ask::Write(2), Told::Done),
        done(6, 7, Ask::Read, Told::Value(1)),
    ];
    assert_eq!(verdict(&history), Verdict::NotLinearizable { prefix: vec![0, 1, 2], stuck: vec![3] });
    let twice = [history.as_slice(), &[unknown(0, Ask::Write(1))]].concat();
    assert_eq!(verdict(&twice), Verdict::Linearizable);
}

/// After writes of 1 and 2 in either order the same operations are placed, and only the state differs: the search must
/// come here twice.
#[test]
fn the_memo_tells_states_apart() {
    let first_tried = [
        done(1, 10, Ask::Write(1), Told::Done),
        done(2, 9, Ask::Write(2), Told::Done),
        done(11, 12, Ask::Read, Told::Value(1)),
    ];
    assert_eq!(verdict(&first_tried), Verdict::Linearizable);
}

/// A write of what is there already changes nothing, and yet it is no read: it may be needed later.
#[test]
fn a_write_without_effect_may_be_needed_later() {
    let history = [
        done(1, 20, Ask::Write(0), Told::Done),
        done(2, 3, Ask::Write(1), Told::Done),
        done(4, 5, Ask::Read, Told::Value(0)),
    ];
    assert_eq!(verdict(&history), Verdict::Linearizable);
}

#[test]
fn of_prefixes_that_explain_as_much_the_first_is_told() {
    let history = [
        done(1, 10, Ask::Write(1), Told::Done),
        done(2, 9, Ask::Write(2), Told::Done),
        done(11, 13, Ask::Read, Told::Value(3)),
        done(12, 14, Ask::Add(1), Told::Value(1)),
    ];
    assert_eq!(verdict(&history), Verdict::NotLinearizable { prefix: vec![0, 1], stuck: vec![2, 3] });
}

#[test]
fn the_search_is_given_up_after_its_steps() {
    let history: Vec<_> = (0..40).map(|n| done(n, 100 + n, Ask::Write(n as u8), Told::Done)).collect();
    let impossible = [history.as_slice(), &[done(200, 201, Ask::Read, Told::Value(77))]].concat();
    let Verdict::TooHard { steps } = check(&Register, &impossible, 1_000) else { panic!("too easy") };
    assert!((1_000..1_050).contains(&steps), "{steps}");
}

#[test]
fn a_history_over_a_limit_is_not_begun() {
    let read = |n| done(2 * n, 2 * n + 1, Ask::Read, Told::Value(0));
    let most: Vec<_> = (0..MAX_RETURNED as u64).map(read).collect();
    assert_eq!(verdict(&most), Verdict::Linearizable);
    let more: Vec<_> = (0..=MAX_RETURNED as u64).map(read).collect();
    assert_eq!(verdict(&more), Verdict::TooHard { steps: 0 });
    let mut unknowns: Vec<_> = (0..MAX_UNKNOWN as u64).map(|n| unknown(n, Ask::Write(n as u8))).collect();
    unknowns.push(done(1_000, 1_001, Ask::Read, Told::Value(127)));
    assert_eq!(verdict(&unknowns), Verdict::Linearizable);
    unknowns.push(unknown(1_002, Ask::Write(9)));
    assert_eq!(verdict(&unknowns), Verdict::TooHard { steps: 0 });
}

/// The prefix explains itself, and none of the stuck can follow it.
fn check_explanation(history: &History, verdict: &Verdict) {
    let Verdict::NotLinearizable { prefix, stuck } = verdict else { return };
    assert!(explains(&Register, history, prefix), "{prefix:?} of {history:?}");
    assert!(!stuck.is_empty(), "{history:?}");
    for &next in stuck {
        let order = [prefix.as_slice(), &[next]].concat();
        assert!(!prefix.contains(&next) && !explains(&Register, history, &order), "{order:?} of {history:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_true_execution_has_an_order(seed: u64, clients in 1..9_usize, operations in 1..100_usize, unknown in 0..9_usize) {
        let unknown = unknown.min(operations);
        let history = true_history(seed, Workload { clients, operations, unknown });
        prop_assert_eq!(verdict(&history), Verdict::Linearizable);
    }

    #[test]
    fn the_naive_twin_agrees(seed: u64, clients in 1..7_usize, operations in 1..7_usize, unknown in 0..4_usize, lies in 0..4_u64) {
        let unknown = unknown.min(operations);
        let mut history = true_history(seed, Workload { clients, operations, unknown });
        falsify(&mut history, &mut Random(!seed), lies);
        let found = verdict(&history);
        prop_assert_eq!(found == Verdict::Linearizable, has_order(&Register, &history), "{:?} {:?}", found, history);
        check_explanation(&history, &found);
    }

    #[test]
    fn the_verdict_is_the_same_each_time_and_for_any_order_of_listing(seed: u64, lies in 0..4_u64) {
        let mut history = true_history(seed, Workload { clients: 5, operations: 60, unknown: 4 });
        falsify(&mut history, &mut Random(!seed), lies);
        let found = verdict(&history);
        prop_assert_eq!(&found, &verdict(&history));
        history.reverse();
        let last = history.len() - 1;
        let mirrored = match verdict(&history) {
            Verdict::NotLinearizable { prefix, stuck } => Verdict::NotLinearizable {
                prefix: prefix.iter().map(|place| last - place).collect(),
                stuck: stuck.iter().map(|place| last - place).collect(),
            },
            other @ (Verdict::Linearizable | Verdict::TooHard { .. }) => other,
        };
        prop_assert_eq!(found, mirrored);
    }
}
