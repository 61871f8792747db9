//! Linearizability of one object's history: is there an order of its operations, true to real time, that explains what
//! every client saw?
//!
//! The search is that of Wing & Gong ("Testing and verifying concurrent objects", JPDC 17, 1993) with the memo of Lowe
//! ("Testing for linearizability", CCPE 29(4), 2017): depth first over *configurations*, which are the operations placed
//! so far and the state they lead to. What comes next was called before the first return that is not placed yet.
//! Splitting a history by key (Horn & Kroening, "Faster linearizability checking via P-compositionality", FORTE 2015) is
//! the caller's part; so is what the object does ([`Model`]).
//!
//! An operation of unknown outcome may take effect at any time after its call, or never. So it is enough to place all
//! that returned; the unknown are tried last. Five rules keep the search short. Each leaves an order if there is one:
//! - **Free.** An operation that only observes ([`Model::only_observes`]) and may come next comes next, without
//!   alternatives: wherever else an order has it, it can be moved here.
//! - **Needless.** An unknown operation that leaves the state as it is is not placed: the order is as good without it.
//! - **Twins.** Of two operations with the same action and outcome, the one both called and returned earlier comes first:
//!   in an order that has them the other way round, they can change places.
//! - **Seen.** A configuration from which the search came back is not entered again.
//! - **Dominated.** Nor is one that differs from it only in having used up more of the unknown operations.
//!
//! All is bounded: by [`MAX_RETURNED`], [`MAX_UNKNOWN`] and the caller's number of steps. Nothing is random, and the order
//! of the memo's table is never looked at.

mod events;
mod memo;

use std::hash::Hash;

use events::Events;
use memo::{Memo, Placed, Slot};

pub(crate) use memo::{MAX_RETURNED, MAX_UNKNOWN};

#[cfg(test)]
#[path = "wgl_histories.rs"]
pub(super) mod histories;

#[cfg(test)]
#[path = "wgl_tests.rs"]
mod tests;

/// A sequential specification.
pub(crate) trait Model {
    /// What the object is between operations.
    type State: Clone + Eq + Hash;
    /// What a client asks.
    type Action: Eq;
    /// What it is answered.
    type Outcome: Eq;

    /// The object before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `action`, if it may have had `outcome` in `state`; `None`: impossible. An `outcome` of `None` was
    /// never learned: any is possible.
    fn step(&self, state: &Self::State, action: &Self::Action, outcome: Option<&Self::Outcome>) -> Option<Self::State>;

    /// Whether `action`, where it may have `outcome`, leaves every state as it is. It is not enough that it leaves some:
    /// a deletion does that too. `false` is always sound, and slow.
    fn only_observes(&self, action: &Self::Action, outcome: &Self::Outcome) -> bool;
}

/// One operation as its client saw it. Events are numbered from 0 in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation<A, O> {
    /// Who asked.
    pub(crate) client: u32,
    /// The event of asking.
    pub(crate) called: u64,
    /// The later event of being answered, and the answer. `None`: unknown. It may take effect at any time after `called`,
    /// or never.
    pub(crate) returned: Option<(u64, O)>,
    /// What was asked.
    pub(crate) action: A,
}

/// What [`check`] found. Operations are named by their places in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none.
    NotLinearizable {
        /// The order found that explains the most operations that returned; of several the first.
        prefix: Vec<usize>,
        /// After `prefix` one of these had to come next, and none could.
        stuck: Vec<usize>,
    },
    /// Nobody knows: the search was given up, or not begun because the history is over a limit.
    TooHard {
        /// Steps of the model taken.
        steps: u64,
    },
}

/// Looks for an order of `history` that `model` allows, in about `max_steps` steps of the model at most.
pub(crate) fn check<M: Model>(model: &M, history: &[Operation<M::Action, M::Outcome>], max_steps: u64) -> Verdict {
    let calls = Call::<M>::all_of(history);
    let (returned, unknown): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.outcome.is_some());
    if returned.len() > MAX_RETURNED || unknown.len() > MAX_UNKNOWN {
        return Verdict::TooHard { steps: 0 };
    }
    let root = Frame { slot: None, state: model.initial(), first_child: 0, next_child: 0 };
    let search = Search {
        model,
        max_steps,
        steps: 0,
        events: Events::new(returned.iter().map(|call| (call.called, call.returned))),
        returned: with_twins(returned),
        unknown: with_twins(unknown),
        placed: Placed::default(),
        path: vec![root],
        children: Vec::new(),
        memo: Memo::default(),
        deepest: None,
    };
    search.run()
}

/// An operation as the search uses it.
struct Call<'a, M: Model> {
    /// Its place in the history.
    place: usize,
    called: u64,
    /// `u64::MAX`: never.
    returned: u64,
    action: &'a M::Action,
    outcome: Option<&'a M::Outcome>,
    /// The slot of the operation that must be placed before this one.
    twin: Option<usize>,
}

impl<'a, M: Model> Call<'a, M> {
    /// All calls, in the order of calling.
    fn all_of(history: &'a [Operation<M::Action, M::Outcome>]) -> Vec<Self> {
        let call = |(place, operation): (usize, &'a Operation<M::Action, M::Outcome>)| {
            let (returned, outcome) = operation.returned.as_ref().map_or((u64::MAX, None), |(at, it)| (*at, Some(it)));
            Self { place, called: operation.called, returned, action: &operation.action, outcome, twin: None }
        };
        let mut calls: Vec<_> = history.iter().enumerate().map(call).collect();
        calls.sort_by_key(|call| call.called);
        calls
    }
}

/// Finds for each call the latest earlier one that is its twin. Only those not yet returned matter: what returned before
/// the call comes first anyway.
fn with_twins<M: Model>(mut calls: Vec<Call<'_, M>>) -> Vec<Call<'_, M>> {
    let mut open: Vec<usize> = Vec::new();
    for slot in 0..calls.len() {
        let Some(call) = calls.get(slot) else { break };
        open.retain(|&earlier| calls.get(earlier).is_some_and(|earlier| earlier.returned > call.called));
        let is_twin = |earlier: &Call<'_, M>| {
            earlier.returned <= call.returned && earlier.action == call.action && earlier.outcome == call.outcome
        };
        let twin = open.iter().rev().copied().find(|&earlier| calls.get(earlier).is_some_and(is_twin));
        if let Some(call) = calls.get_mut(slot) {
            call.twin = twin;
        }
        open.push(slot);
    }
    calls
}

/// A configuration on the way from the first to the present one.
struct Frame<S> {
    /// What was placed last; nothing in the first.
    slot: Option<Slot>,
    state: S,
    /// Where its children begin in [`Search::children`]; the latest frame's reach to the end.
    first_child: usize,
    /// The first not tried.
    next_child: usize,
}

/// What may be placed next, and the state it leads to.
struct Child<S> {
    slot: Slot,
    state: S,
}

/// The furthest the search came.
struct DeadEnd {
    returned: usize,
    prefix: Vec<usize>,
    stuck: Vec<usize>,
}

struct Search<'a, M: Model> {
    model: &'a M,
    max_steps: u64,
    steps: u64,
    returned: Vec<Call<'a, M>>,
    unknown: Vec<Call<'a, M>>,
    /// Of the operations that returned and are not placed.
    events: Events,
    /// The operations on `path`.
    placed: Placed,
    /// Never empty.
    path: Vec<Frame<M::State>>,
    children: Vec<Child<M::State>>,
    memo: Memo<M::State>,
    deepest: Option<DeadEnd>,
}

impl<M: Model> Search<'_, M> {
    fn run(mut self) -> Verdict {
        while !self.events.is_empty() {
            if self.steps >= self.max_steps {
                return Verdict::TooHard { steps: self.steps };
            }
            self.expand();
            while !self.descend() {
                self.note_dead_end();
                if !self.retreat() {
                    let (prefix, stuck) = self.deepest.map_or_else(Default::default, |end| (end.prefix, end.stuck));
                    return Verdict::NotLinearizable { prefix, stuck };
                }
            }
        }
        Verdict::Linearizable
    }

    /// Lists what may be placed next.
    fn expand(&mut self) {
        let Some(Frame { state: before, first_child, .. }) = self.path.last() else { return };
        // The first return among the open calls is the first of all: what is called later returns later.
        let mut first_return = u64::MAX;
        for slot in self.events.open_calls() {
            let Some(call) = self.returned.get(slot) else { continue };
            first_return = first_return.min(call.returned);
            if call.twin.is_some_and(|twin| !self.placed.has_returned(twin)) {
                continue;
            }
            self.steps += 1;
            let Some(state) = self.model.step(before, call.action, call.outcome) else { continue };
            let is_free = call.outcome.is_some_and(|outcome| self.model.only_observes(call.action, outcome));
            if is_free {
                self.children.truncate(*first_child);
            }
            self.children.push(Child { slot: Slot::Returned(slot), state });
            if is_free {
                return;
            }
        }
        for (slot, call) in self.unknown.iter().enumerate() {
            if call.called > first_return {
                break;
            }
            if self.placed.has_unknown(slot) || call.twin.is_some_and(|twin| !self.placed.has_unknown(twin)) {
                continue;
            }
            self.steps += 1;
            let after = self.model.step(before, call.action, call.outcome);
            let needed = after.filter(|after| after != before);
            self.children.extend(needed.map(|state| Child { slot: Slot::Unknown(slot), state }));
        }
    }

    /// Goes on to the next child from which the search has not come back already, if there is one.
    fn descend(&mut self) -> bool {
        let Some(frame) = self.path.last_mut() else { return false };
        while let Some(child) = self.children.get(frame.next_child) {
            frame.next_child += 1;
            self.placed.toggle(child.slot);
            if self.memo.is_hopeless(&self.placed, &child.state) {
                self.placed.toggle(child.slot);
                continue;
            }
            if let Slot::Returned(slot) = child.slot {
                self.events.lift(slot);
            }
            let end = self.children.len();
            let next = Frame { slot: Some(child.slot), state: child.state.clone(), first_child: end, next_child: end };
            self.path.push(next);
            return true;
        }
        false
    }

    /// Takes back what was placed last; `false` if nothing was.
    fn retreat(&mut self) -> bool {
        let Some(Frame { slot: Some(slot), state, first_child, .. }) = self.path.pop() else { return false };
        self.children.truncate(first_child);
        self.memo.give_up(&self.placed, state);
        self.placed.toggle(slot);
        if let Slot::Returned(slot) = slot {
            self.events.unlift(slot);
        }
        true
    }

    fn note_dead_end(&mut self) {
        let returned = self.path.iter().filter(|frame| matches!(frame.slot, Some(Slot::Returned(_)))).count();
        if self.deepest.as_ref().is_some_and(|deepest| deepest.returned >= returned) {
            return;
        }
        let call = |slot: Slot| match slot {
            Slot::Returned(slot) => self.returned.get(slot),
            Slot::Unknown(slot) => self.unknown.get(slot),
        };
        let place = |slot: Slot| call(slot).map(|call| call.place);
        let prefix = self.path.iter().filter_map(|frame| frame.slot).filter_map(place).collect();
        let stuck = self.events.open_calls().map(Slot::Returned).filter_map(place).collect();
        self.deepest = Some(DeadEnd { returned, prefix, stuck });
    }
}
