//! For tests: histories as clients would see them, and the checker's naive twin.

use super::{Model, Operation};

/// A small generator (SplitMix64): one seed, one history.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub(crate) fn pick<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len() as u64) as usize]
    }
}

/// How much a run does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) clients: usize,
    pub(crate) operations: usize,
    /// How many of the operations get no answer: their clients go on, and they take effect later or never.
    pub(crate) unknown: usize,
}

struct Flight<A, O> {
    client: usize,
    called: u64,
    action: A,
    outcome: Option<O>,
}

/// A true execution: each operation takes effect at one moment between its call and its return.
pub(crate) fn run<S, A: Clone, O>(
    random: &mut Random,
    workload: Workload,
    mut state: S,
    mut draw: impl FnMut(&mut Random) -> A,
    apply: impl Fn(&mut S, &A) -> O,
) -> Vec<Operation<A, O>> {
    let mut history = Vec::new();
    let mut flights: Vec<Flight<A, O>> = Vec::new();
    let mut under_way: Vec<A> = Vec::new();
    let (mut event, mut begun, mut unknown) = (0, 0, 0);
    while begun < workload.operations || !flights.is_empty() {
        event += 1;
        if !under_way.is_empty() && random.below(20) == 0 {
            let late = under_way.swap_remove(random.below(under_way.len() as u64) as usize);
            apply(&mut state, &late);
        }
        let client = random.below(workload.clients as u64) as usize;
        let Some(place) = flights.iter().position(|flight| flight.client == client) else {
            if begun < workload.operations {
                begun += 1;
                flights.push(Flight { client, called: event, action: draw(random), outcome: None });
            }
            continue;
        };
        let flight = &mut flights[place];
        if flight.outcome.is_none() {
            let left = (workload.operations - begun + 1) as u64;
            if random.below(left) >= (workload.unknown - unknown) as u64 {
                flight.outcome = Some(apply(&mut state, &flight.action));
                continue;
            }
            unknown += 1;
            under_way.push(flight.action.clone());
        }
        let Flight { client, called, action, outcome } = flights.swap_remove(place);
        let returned = outcome.map(|outcome| (event, outcome));
        history.push(Operation { client: client as u32, called, returned, action });
    }
    history
}

/// Whether there is an order: tries every order of every set of operations that has all that returned. For very few.
pub(crate) fn has_order<M: Model>(model: &M, history: &[Operation<M::Action, M::Outcome>]) -> bool {
    extends(model, history, &mut Vec::new())
}

fn extends<M: Model>(model: &M, history: &[Operation<M::Action, M::Outcome>], order: &mut Vec<usize>) -> bool {
    let is_whole = (0..history.len()).all(|place| history[place].returned.is_none() || order.contains(&place));
    if is_whole && explains(model, history, order) {
        return true;
    }
    (0..history.len()).any(|place| {
        if order.contains(&place) {
            return false;
        }
        order.push(place);
        let found = extends(model, history, order);
        order.pop();
        found
    })
}

/// Whether an order is true to real time, and the model allows each outcome.
pub(crate) fn explains<M: Model>(model: &M, history: &[Operation<M::Action, M::Outcome>], order: &[usize]) -> bool {
    let is_true_to_time = order.iter().enumerate().all(|(rank, &later)| {
        let returned = history[later].returned.as_ref().map_or(u64::MAX, |(event, _)| *event);
        order[..rank].iter().all(|&earlier| history[earlier].called < returned)
    });
    let end = order.iter().try_fold(model.initial(), |state, &place| {
        let Operation { action, returned, .. } = &history[place];
        model.step(&state, action, returned.as_ref().map(|(_, outcome)| outcome))
    });
    is_true_to_time && end.is_some()
}
