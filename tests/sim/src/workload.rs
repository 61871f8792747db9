//! What clients ask: every operation of the store, on few keys, with values that are never written twice.

use bytes::Bytes;
use kv_store::{
    Command, Comparison, Effect, Found, Item, LeaseChoice, Operation, OperationResult, Query, Relation, Test,
    Transaction,
};

use crate::checkers::key_model::{Action, Outcome};
use crate::random::Random;

/// One operation before it is sent.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// A write of one key.
    Write(Command),
    /// A linearizable read.
    Read(Query),
    /// A read of what one server has applied.
    LocalRead(Query),
    /// A write that concerns more than one key, or one that goes by itself: the per-key model does not know it.
    Special(Command),
    /// A read as of so many revisions before the newest that anybody knew of when it began.
    PastRead {
        /// What to read.
        query: Query,
        /// How far back.
        back: u64,
    },
}

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// All operations.
    Register,
    /// Increments, each of which must count once.
    Counter,
    /// Appends by compare-and-swap, each of which must be there once.
    List,
}

/// The name of a key: its use and slot, and how often the slot has got a new one. None begins with another.
pub(crate) fn key_name(slot: usize, generation: u64) -> Bytes {
    let letter = match use_of(slot) {
        Use::Register => 'r',
        Use::Counter => 'c',
        Use::List => 'l',
    };
    format!("{letter}{slot:02}/{generation}.").into()
}

const fn use_of(slot: usize) -> Use {
    match slot % 4 {
        0 | 2 => Use::Register,
        1 => Use::Counter,
        _ => Use::List,
    }
}

/// Draws an operation on the key `key` of `slot`. `seen` is what the client last saw there; `unique` a number nobody else
/// uses.
pub(crate) fn draw(
    random: &mut Random,
    slot: usize,
    key: &Bytes,
    seen: Option<&Bytes>,
    unique: u64,
    read_per_mille: u64,
) -> Request {
    if random.chance(read_per_mille) {
        return draw_read(random, key);
    }
    let key = key.clone();
    Request::Write(match use_of(slot) {
        Use::Register => draw_register_write(random, key, seen, unique),
        Use::Counter => Command::Increment { key, by: 1 + i64::try_from(random.below(3)).unwrap_or(0) },
        Use::List => match seen {
            Some(expected) => {
                let new = [expected, format!(",{unique}").as_bytes()].concat();
                Command::CompareAndSwap { key, expected: expected.clone(), new: new.into() }
            }
            None => Command::Set { key, value: format!("l{unique}").into(), if_absent: true },
        },
    })
}

fn draw_read(random: &mut Random, key: &Bytes) -> Request {
    match random.below(20) {
        0 => Request::Read(Query::Scan { prefix: Bytes::new(), from: None, limit: 1_000, keys_only: false }),
        1 => Request::Read(Query::Scan {
            prefix: key.slice(..1),
            from: None,
            limit: 1 + u32::try_from(random.below(4)).unwrap_or(0),
            keys_only: false,
        }),
        2 | 3 => Request::LocalRead(Query::Get { key: key.clone() }),
        4 => {
            let back = random.pick(&[0, 0, 1, 10, 100, 1_000]);
            let scan = Query::Scan { prefix: key.slice(..1), from: None, limit: 3, keys_only: false };
            let query = if random.chance(500) { scan } else { Query::Get { key: key.clone() } };
            Request::PastRead { query, back }
        }
        _ => Request::Read(Query::Get { key: key.clone() }),
    }
}

fn draw_register_write(random: &mut Random, key: Bytes, seen: Option<&Bytes>, unique: u64) -> Command {
    let value: Bytes = format!("t{unique}").into();
    match random.below(20) {
        0..9 => Command::Set { key, value, if_absent: false },
        9..12 => Command::Set { key, value, if_absent: true },
        12..14 => Command::Delete { key },
        14..18 => {
            let expected = seen.cloned().unwrap_or_else(|| Bytes::from_static(b"t0"));
            Command::CompareAndSwap { key, expected, new: value }
        }
        18 => Command::DeletePrefix { prefix: key },
        _ => Command::Increment { key, by: 1 },
    }
}

/// A value as a number, equal for equal values only (up to the chance of a 63-bit hash).
pub(crate) fn number_of(value: &[u8]) -> i64 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    if let Ok(number) = text.parse::<i64>() {
        return number;
    }
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in value {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // Far from any counter's value.
    i64::try_from(hash >> 2).unwrap_or(0) + (1 << 62)
}

/// The accounts of the bank. Their sum never changes.
pub(crate) const ACCOUNTS: [&str; 4] = ["b0", "b1", "b2", "b3"];
/// What the bank begins with.
const BANK_TOTAL: i64 = 400;

/// Draws a transfer between two accounts, if they are as `seen`: account, amount and mod_revision. Opens the bank if there is
/// none. The answer lists all accounts, so that the next transfer knows them.
pub(crate) fn draw_transfer(random: &mut Random, seen: &[Item]) -> Command {
    let list = Operation::Scan { prefix: Bytes::from_static(b"b"), limit: 10, keys_only: false };
    let set =
        |key: &[u8], amount: i64| Operation::Set { key: Bytes::copy_from_slice(key), value: amount.to_string().into() };
    let share = BANK_TOTAL / i64::try_from(ACCOUNTS.len()).unwrap_or(1);
    let (from, to) = (random.place(ACCOUNTS.len()), random.place(ACCOUNTS.len()));
    let transaction = match (seen.get(from), seen.get(to)) {
        (Some(from), Some(to)) => {
            let amount = i64::try_from(random.below(50)).unwrap_or(0);
            let is_as_seen = |item: &Item| Comparison {
                key: item.key.clone(),
                test: Test::ModRevision(Relation::Equal, item.mod_revision),
            };
            // From an account to itself, the second write is the one that counts: nothing is to be lost by it.
            let less = if from.key == to.key { number_of(&from.value) } else { number_of(&from.value) - amount };
            let more = if from.key == to.key { number_of(&to.value) } else { number_of(&to.value) + amount };
            Transaction {
                comparisons: vec![is_as_seen(from), is_as_seen(to)],
                then: vec![set(&from.key, less), set(&to.key, more), list.clone()],
                otherwise: vec![list],
            }
        }
        _ => {
            let absent = Comparison { key: Bytes::from_static(b"b0"), test: Test::Absent };
            let mut then: Vec<Operation> = ACCOUNTS.iter().map(|account| set(account.as_bytes(), share)).collect();
            then.push(list.clone());
            Transaction { comparisons: vec![absent], then, otherwise: vec![list] }
        }
    };
    Command::Transact(transaction)
}

/// Whether no money was made or lost: the bank is not opened yet, or its accounts have their sum.
pub(crate) fn check_bank(items: &[Item]) -> Result<(), String> {
    let accounts: Vec<i64> = items.iter().map(|item| number_of(&item.value)).collect();
    if accounts.is_empty() || (accounts.len() == ACCOUNTS.len() && accounts.iter().sum::<i64>() == BANK_TOTAL) {
        return Ok(());
    }
    Err(format!("the accounts have {accounts:?}, which is not {BANK_TOTAL} together"))
}

/// The accounts that a transfer's answer lists.
pub(crate) fn accounts_of(effect: &Effect) -> Option<&[Item]> {
    let Effect::Transacted { results, .. } = effect else { return None };
    match results.last() {
        Some(OperationResult::Scanned { items, .. }) => Some(items),
        _ => None,
    }
}

/// A key of its own, that goes by itself.
pub(crate) fn draw_fleeting(random: &mut Random, unique: u64) -> Command {
    let ttl_ms = random.pick(&[1, 50, 500, 2_000, 5_000]);
    Command::SetLeased {
        key: format!("e{unique}").into(),
        value: Bytes::from_static(b"fleeting"),
        if_absent: true,
        lease: LeaseChoice::Own { ttl_ms },
    }
}

/// What a write means for its key, if it is about one.
pub(crate) fn action_of(command: &Command) -> Option<Action> {
    Some(match command {
        Command::Set { value, if_absent, .. } => Action::Set { value: number_of(value), if_absent: *if_absent },
        Command::Delete { .. } => Action::Delete,
        Command::DeletePrefix { .. } => Action::DeleteAny,
        Command::CompareAndSwap { expected, new, .. } => {
            Action::CompareAndSwap { expected: number_of(expected), new: number_of(new) }
        }
        Command::Increment { by, .. } => Action::Increment { by: *by },
        Command::Transact(_)
        | Command::SetLeased { .. }
        | Command::GrantLease { .. }
        | Command::KeepAlive { .. }
        | Command::RevokeLease { .. } => return None,
    })
}

/// What a write's answer says about its key.
pub(crate) fn outcome_of(action: &Action, effect: &Effect) -> Option<Outcome> {
    Some(match (action, effect) {
        (Action::Set { .. }, Effect::Set { set }) => Outcome::Set { set: *set },
        (Action::Delete, Effect::Deleted { keys, .. }) => Outcome::Deleted { existed: *keys > 0 },
        (Action::DeleteAny, Effect::Deleted { .. }) => Outcome::Done,
        (Action::CompareAndSwap { .. }, Effect::Swapped { swapped }) => Outcome::Swapped { swapped: *swapped },
        (Action::Increment { .. }, Effect::Incremented { value }) => Outcome::Incremented { value: *value },
        _ => return None,
    })
}

/// What a read saw.
pub(crate) fn outcome_of_item(item: Option<&Item>) -> Outcome {
    Outcome::Read { value: item.map(|item| number_of(&item.value)), version: item.map_or(0, |item| item.version) }
}

/// The item a `get` found.
pub(crate) fn item_of(found: &Found) -> Option<&Item> {
    match found {
        Found::Value(item) => item.as_ref(),
        Found::Items { .. } | Found::Leases { .. } => None,
    }
}
