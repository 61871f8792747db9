//! What each command means.
//!
//! Owns: the limits of keys and values, the quota, and the arithmetic. Does not own: whether a command is a repeat (`session`), what a
//! transaction means (`transaction`).

use crate::command::{ClusterCommand, Command, Effect, LeaseChoice, Limit, NotAnInteger, Outcome, Part, Refusal};
use crate::limits::{
    EXPIRED_KEYS_PER_COMMAND, MAX_KEY_BYTES, MAX_KEYS_PER_COMMAND, MAX_LEASES, MAX_TTL_MS, MAX_VALUE_BYTES,
};
use crate::store::{Change, Store};
use crate::types::{LeaseId, Stamp};

const NS_PER_MS: u64 = 1_000_000;

/// Applies a command as one revision at cluster time `now`, or refuses it and changes nothing.
pub(crate) fn execute(store: &mut Store, command: &Command, now: Stamp) -> Result<Outcome, Refusal> {
    check_limits(command)?;
    let effect = match command {
        Command::GrantLease { ttl_ms } => grant(store, *ttl_ms, now, false).map(|id| leased(id, *ttl_ms))?,
        Command::KeepAlive { id } => keep_alive(store, *id, now)?,
        Command::RevokeLease { id } => revoke(store, *id)?,
        Command::SetLeased { key, value, if_absent, lease } => set_leased(store, key, value, *if_absent, *lease, now)?,
        Command::Set { .. }
        | Command::Delete { .. }
        | Command::DeletePrefix { .. }
        | Command::CompareAndSwap { .. }
        | Command::Increment { .. }
        | Command::Transact(_) => store.change(|change| perform(change, command))?,
    };
    Ok(Outcome { revision: store.revision(), effect })
}

/// Carries out what the cluster asked of itself.
pub(crate) fn execute_for_cluster(store: &mut Store, command: &ClusterCommand, now: Stamp) -> Outcome {
    match *command {
        ClusterCommand::Compact { aged, history_bytes } => store.compact(aged, history_bytes),
        ClusterCommand::Expire => expire(store, now),
        ClusterCommand::SetQuota { quota_bytes } => store.set_quota(quota_bytes),
    }
    Outcome { revision: store.revision(), effect: Effect::Kept }
}

fn perform(change: &mut Change<'_>, command: &Command) -> Result<Effect, Refusal> {
    match command {
        Command::Set { key, value, if_absent } => {
            let set = !(*if_absent && change.store().value(key).is_some());
            if set {
                put(change, key, value, None)?;
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
            let current = change.store().value(key).filter(|value| *value.bytes == **expected);
            let lease = current.map(|value| value.lease);
            if let Some(lease) = lease {
                put(change, key, new, lease)?;
            }
            Ok(Effect::Swapped { swapped: lease.is_some() })
        }
        Command::Increment { key, by } => {
            let (old, lease) = match change.store().value(key) {
                Some(value) => {
                    let old = parse_integer(&value.bytes).ok_or(Refusal::WrongType(NotAnInteger::Value))?;
                    (old, value.lease)
                }
                None => (0, None),
            };
            let value = old.checked_add(*by).ok_or(Refusal::WrongType(NotAnInteger::Overflow))?;
            put(change, key, value.to_string().as_bytes(), lease)?;
            Ok(Effect::Incremented { value })
        }
        Command::Transact(transaction) => transaction.perform(change),
        Command::SetLeased { .. }
        | Command::GrantLease { .. }
        | Command::KeepAlive { .. }
        | Command::RevokeLease { .. } => unreachable!("leases have functions of their own"),
    }
}

/// Writes a value, if there is room for it.
fn put(change: &mut Change<'_>, key: &[u8], value: &[u8], lease: Option<LeaseId>) -> Result<(), Refusal> {
    check_room(change.store(), key, value)?;
    change.put(key, value, lease, false);
    Ok(())
}

/// Whether a key may have this value. What it has now is looked up only where the quota is near.
fn check_room(store: &Store, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
    if store.has_room_for(key, value.len()) { Ok(()) } else { check_quota(store, store.growth(key, value.len())) }
}

/// Whether the keys may cost so much more. They may always cost less.
pub(crate) fn check_quota(store: &Store, growth: i64) -> Result<(), Refusal> {
    let live_bytes = store.live_bytes().saturating_add_signed(growth);
    match store.quota_bytes() {
        Some(quota_bytes) if growth > 0 && live_bytes > quota_bytes => {
            Err(Refusal::NoSpace { live_bytes, quota_bytes })
        }
        Some(_) | None => Ok(()),
    }
}

// --- leases ------------------------------------------------------------------------------------------------------

const fn leased(id: LeaseId, ttl_ms: u64) -> Effect {
    Effect::Leased { id, ttl_ms }
}

fn grant(store: &mut Store, ttl_ms: u64, now: Stamp, is_of_key: bool) -> Result<LeaseId, Refusal> {
    if ttl_ms == 0 || ttl_ms > MAX_TTL_MS {
        return Err(Refusal::TtlOutOfRange);
    }
    if store.leases().len() >= MAX_LEASES {
        return Err(Refusal::Overloaded { what: Limit::Leases });
    }
    Ok(store.leases_mut().grant(ttl_ms * NS_PER_MS, now, is_of_key))
}

fn keep_alive(store: &mut Store, id: LeaseId, now: Stamp) -> Result<Effect, Refusal> {
    if !store.leases_mut().keep_alive(id, now) {
        return Err(Refusal::NoSuchLease { id });
    }
    let ttl_ns = store.leases().get(id).map_or(0, |lease| lease.ttl_ns);
    Ok(leased(id, ttl_ns / NS_PER_MS))
}

fn set_leased(
    store: &mut Store,
    key: &[u8],
    value: &[u8],
    if_absent: bool,
    choice: LeaseChoice,
    now: Stamp,
) -> Result<Effect, Refusal> {
    if let LeaseChoice::Granted(id) = choice
        && store.leases().live(id, now).is_none()
    {
        return Err(Refusal::NoSuchLease { id });
    }
    if if_absent && store.value(key).is_some() {
        return Ok(Effect::Set { set: false });
    }
    check_room(store, key, value)?;
    let lease = match choice {
        LeaseChoice::Granted(id) => id,
        LeaseChoice::Own { ttl_ms } => grant(store, ttl_ms, now, true)?,
    };
    store.change(|change| change.put(key, value, Some(lease), false));
    Ok(Effect::Set { set: true })
}

fn revoke(store: &mut Store, id: LeaseId) -> Result<Effect, Refusal> {
    let Some(lease) = store.leases().get(id) else { return Err(Refusal::NoSuchLease { id }) };
    let keys: Vec<_> = lease.keys.iter().take(MAX_KEYS_PER_COMMAND).cloned().collect();
    let more = lease.keys.len() > keys.len();
    store.change(|change| keys.iter().for_each(|key| _ = change.remove(key)));
    if !more {
        store.leases_mut().remove(id);
    }
    Ok(Effect::Revoked { keys: keys.len() as u64, more })
}

/// Ends what is due.
fn expire(store: &mut Store, now: Stamp) {
    let mut keys = Vec::new();
    let mut ended = Vec::new();
    for id in store.leases().ended(now) {
        let Some(lease) = store.leases().get(id) else { continue };
        let room = EXPIRED_KEYS_PER_COMMAND - keys.len();
        keys.extend(lease.keys.iter().take(room).cloned());
        if lease.keys.len() > room || ended.len() == EXPIRED_KEYS_PER_COMMAND {
            break;
        }
        ended.push(id);
    }
    keys.sort_unstable();
    store.change(|change| keys.iter().for_each(|key| _ = change.remove(key)));
    ended.into_iter().for_each(|id| store.leases_mut().remove(id));
}

/// Reads a decimal integer exactly as an increment writes it: `0`, or an optional `-` and digits of which the first is
/// not 0, within 64 bits. `+1`, `007`, `-0`, a blank or an empty text are something else, and stay untouched.
fn parse_integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|value| value.to_string() == text)
}

fn check_limits(command: &Command) -> Result<(), Refusal> {
    match command {
        Command::Set { key, value, .. } | Command::SetLeased { key, value, .. } => {
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
        Command::DeletePrefix { prefix: _ }
        | Command::GrantLease { ttl_ms: _ }
        | Command::KeepAlive { id: _ }
        | Command::RevokeLease { id: _ } => Ok(()),
        Command::Transact(transaction) => transaction.check(),
    }
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    check_size(Part::Key, key, MAX_KEY_BYTES)
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), Refusal> {
    check_size(Part::Value, value, MAX_VALUE_BYTES)
}

fn check_size(what: Part, bytes: &[u8], limit_bytes: usize) -> Result<(), Refusal> {
    if bytes.len() > limit_bytes {
        return Err(Refusal::TooLarge { what, size_bytes: bytes.len() as u64, limit_bytes: limit_bytes as u64 });
    }
    Ok(())
}
