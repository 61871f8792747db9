//! What one key of the store does: the sequential specification that [`wgl`](super::wgl) checks histories against.
//!
//! A second reading of `kv-store`'s `execute`, `history` and `query`, on purpose as small as it can be. Keys are objects
//! of their own (Horn & Kroening, FORTE 2015), so a prefix deletion is one [`Action::DeleteAny`] on each key it may have
//! reached. Not modelled: revisions, sessions, limits.
//!
//! A value is a number. Those below [`FIRST_TEXT`] are integers as an increment writes them; from there on each stands for
//! a text that is no integer.

use std::collections::BTreeSet;

use super::wgl::{Model, Operation};

#[cfg(test)]
#[path = "key_model_tests.rs"]
mod tests;

/// From this value on, values stand for texts, which cannot be incremented. Far from any sum of a few hundred increments.
pub(crate) const FIRST_TEXT: i64 = 1 << 62;

/// One key. Begins absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyModel;

/// What a key is between operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Its value; `None` while it is absent.
    pub(crate) value: Option<i64>,
    /// How often it was written since it was created, from 1; 0 while it is absent.
    pub(crate) version: u64,
}

/// What a client asks of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Reads it.
    Get,
    /// Gives it a value.
    Set {
        /// The value: a change even if the key has it already.
        value: i64,
        /// Only if the key is absent.
        if_absent: bool,
    },
    /// Removes it.
    Delete,
    /// Removes it with all others of a prefix, so that nobody says whether this one was there.
    DeleteAny,
    /// Gives it another value if it has the expected one.
    CompareAndSwap {
        /// The value it must have.
        expected: i64,
        /// The value it then gets.
        new: i64,
    },
    /// Adds to an integer; absent counts as 0.
    Increment {
        /// What to add.
        by: i64,
    },
}

/// What a client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Of [`Action::Get`].
    Read {
        /// The value; `None`: absent.
        value: Option<i64>,
        /// The version; 0: absent.
        version: u64,
    },
    /// Of [`Action::Set`].
    Set {
        /// Whether it was set.
        set: bool,
    },
    /// Of [`Action::Delete`].
    Deleted {
        /// Whether it was there.
        existed: bool,
    },
    /// Of [`Action::DeleteAny`].
    Done,
    /// Of [`Action::CompareAndSwap`].
    Swapped {
        /// Whether the value was the expected one.
        swapped: bool,
    },
    /// Of [`Action::Increment`].
    Incremented {
        /// The new value.
        value: i64,
    },
    /// Of any write: it certainly changed nothing, for whatever reason.
    Refused,
}

impl State {
    const ABSENT: Self = Self { value: None, version: 0 };

    /// After a write of `value`.
    const fn written(self, value: i64) -> Self {
        Self { value: Some(value), version: self.version + 1 }
    }

    /// The state after `action`, and its outcome.
    pub(crate) fn apply(self, action: &Action) -> (Self, Outcome) {
        let State { value, version } = self;
        match *action {
            Action::Get => (self, Outcome::Read { value, version }),
            Action::Set { value: _, if_absent: true } if value.is_some() => (self, Outcome::Set { set: false }),
            Action::Set { value: new, if_absent: _ } => (self.written(new), Outcome::Set { set: true }),
            Action::Delete => (Self::ABSENT, Outcome::Deleted { existed: value.is_some() }),
            Action::DeleteAny => (Self::ABSENT, Outcome::Done),
            Action::CompareAndSwap { expected, new } => {
                let swapped = value == Some(expected);
                (if swapped { self.written(new) } else { self }, Outcome::Swapped { swapped })
            }
            Action::Increment { by } => {
                let old = value.unwrap_or(0);
                match old.checked_add(by).filter(|_| old < FIRST_TEXT) {
                    Some(sum) => (self.written(sum), Outcome::Incremented { value: sum }),
                    None => (self, Outcome::Refused),
                }
            }
        }
    }
}

impl Model for KeyModel {
    type State = State;
    type Action = Action;
    type Outcome = Outcome;

    fn initial(&self) -> State {
        State::ABSENT
    }

    fn step(&self, state: &State, action: &Action, outcome: Option<&Outcome>) -> Option<State> {
        if outcome == Some(&Outcome::Refused) {
            return Some(*state);
        }
        let (after, actual) = state.apply(action);
        outcome.is_none_or(|outcome| *outcome == actual).then_some(after)
    }

    fn only_observes(&self, _: &Action, outcome: &Outcome) -> bool {
        match *outcome {
            Outcome::Read { .. } | Outcome::Refused => true,
            Outcome::Set { set: changed }
            | Outcome::Deleted { existed: changed }
            | Outcome::Swapped { swapped: changed } => !changed,
            Outcome::Done | Outcome::Incremented { .. } => false,
        }
    }
}

/// The same history with one value for all texts that nobody ever saw or expected. Nothing tells them apart, so there is
/// an order for either if there is for the other; but it is found much sooner where most writes are never read.
pub(crate) fn merge_unseen(history: &[Operation<Action, Outcome>]) -> Vec<Operation<Action, Outcome>> {
    let mut seen = BTreeSet::new();
    for operation in history {
        if let Action::CompareAndSwap { expected, .. } = operation.action {
            seen.insert(expected);
        }
        if let Some((_, Outcome::Read { value: Some(value), .. })) = operation.returned {
            seen.insert(value);
        }
    }
    let Some(unseen) = (FIRST_TEXT..).find(|value| !seen.contains(value)) else { return history.to_vec() };
    let merge = |value: i64| if value < FIRST_TEXT || seen.contains(&value) { value } else { unseen };
    let merge_action = |action: Action| match action {
        Action::Set { value, if_absent } => Action::Set { value: merge(value), if_absent },
        Action::CompareAndSwap { expected, new } => Action::CompareAndSwap { expected, new: merge(new) },
        Action::Get | Action::Delete | Action::DeleteAny | Action::Increment { .. } => action,
    };
    history.iter().map(|operation| Operation { action: merge_action(operation.action), ..*operation }).collect()
}
