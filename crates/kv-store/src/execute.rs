//! What each command means.
//!
//! Owns: the limits of keys and values, and the arithmetic. Does not own: whether a command is a repeat (`session`).

use crate::command::{Command, Effect, NotAnInteger, Outcome, Part, Refusal};
use crate::limits::{MAX_KEY_BYTES, MAX_KEYS_PER_COMMAND, MAX_VALUE_BYTES};
use crate::store::{Change, Store};

/// Applies a command as one revision, or refuses it and changes nothing.
pub(crate) fn execute(store: &mut Store, command: &Command) -> Result<Outcome, Refusal> {
    check_limits(command)?;
    let effect = store.change(|change| perform(change, command))?;
    Ok(Outcome { revision: store.revision(), effect })
}

fn perform(change: &mut Change<'_>, command: &Command) -> Result<Effect, Refusal> {
    match command {
        Command::Set { key, value, if_absent } => {
            let set = !(*if_absent && change.store().value(key).is_some());
            if set {
                change.put(key, value);
            }
            Ok(Effect::Set { set })
        }
        Command::Delete { key } => {
            let keys = u64::from(change.remove(key));
            Ok(Effect::Deleted { keys, more: false })
        }
        Command::DeletePrefix { prefix } => {
            let (keys, more) = change.store().keys(prefix, MAX_KEYS_PER_COMMAND);
            for key in &keys {
                change.remove(key);
            }
            Ok(Effect::Deleted { keys: keys.len() as u64, more })
        }
        Command::CompareAndSwap { key, expected, new } => {
            let swapped = change.store().value(key) == Some(expected);
            if swapped {
                change.put(key, new);
            }
            Ok(Effect::Swapped { swapped })
        }
        Command::Increment { key, by } => {
            let old = match change.store().value(key) {
                Some(text) => parse_integer(text).ok_or(Refusal::WrongType(NotAnInteger::Value))?,
                None => 0,
            };
            let value = old.checked_add(*by).ok_or(Refusal::WrongType(NotAnInteger::Overflow))?;
            change.put(key, value.to_string().as_bytes());
            Ok(Effect::Incremented { value })
        }
    }
}

/// Reads a decimal integer exactly as an increment writes it: `0`, or an optional `-` and digits of which the first is
/// not 0, within 64 bits. `+1`, `007`, `-0`, a blank or an empty text are something else, and stay untouched.
fn parse_integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|value| value.to_string() == text)
}

fn check_limits(command: &Command) -> Result<(), Refusal> {
    match command {
        Command::Set { key, value, if_absent: _ } => {
            check_key(key)?;
            check_value(value)
        }
        // What is expected is only compared. Over the limit, it equals no value.
        Command::CompareAndSwap { key, expected: _, new } => {
            check_key(key)?;
            check_value(new)
        }
        Command::Delete { key } | Command::Increment { key, by: _ } => check_key(key),
        // Any prefix will do: the empty one is that of all keys, one over the limit that of none.
        Command::DeletePrefix { prefix: _ } => Ok(()),
    }
}

fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    check_size(Part::Key, key, MAX_KEY_BYTES)
}

fn check_value(value: &[u8]) -> Result<(), Refusal> {
    check_size(Part::Value, value, MAX_VALUE_BYTES)
}

fn check_size(what: Part, bytes: &[u8], limit_bytes: usize) -> Result<(), Refusal> {
    if bytes.len() > limit_bytes {
        return Err(Refusal::TooLarge { what, size_bytes: bytes.len() as u64, limit_bytes: limit_bytes as u64 });
    }
    Ok(())
}
