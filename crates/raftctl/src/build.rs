//! From a command's arguments to the command: one function a row of the table. Counts are checked already.

use std::num::NonZeroU64;
use std::time::Duration;

use kv_client::{LeaseChoice, LeaseId, MemberChange, Revision, WatchRequest, WatchTarget};
use kv_store::MAX_TTL_MS;

use crate::bench::{Mix, Plan};
use crate::command::{Command, ValueSource};
use crate::parse::{Arguments, printable};
use crate::{table, txn};

/// Keys of one answer unless `--limit` says otherwise.
const DEFAULT_SCAN_LIMIT: u64 = 1_000;

/// The word at `place`; the table's count has made sure of it.
fn word(arguments: &Arguments, place: usize) -> Vec<u8> {
    arguments.word(place).unwrap_or_default().to_vec()
}

/// The key, which is the first word.
fn key(arguments: &Arguments) -> Result<Vec<u8>, String> {
    let key = word(arguments, 0);
    if key.is_empty() { Err("a key has at least one byte".to_owned()) } else { Ok(key) }
}

/// What `--rev` says, if it is there.
fn revision(arguments: &Arguments) -> Result<Option<u64>, String> {
    let revision = arguments.number("--rev", 0, 0, u64::MAX)?;
    Ok(arguments.has("--rev").then_some(revision))
}

pub(crate) fn get(arguments: &Arguments) -> Result<Command, String> {
    Ok(Command::Get { key: key(arguments)?, revision: revision(arguments)?, raw: arguments.has("--raw") })
}

pub(crate) fn set(arguments: &Arguments) -> Result<Command, String> {
    let value = match word(arguments, 1) {
        dash if dash == b"-" && !arguments.is_literal(1) => ValueSource::StandardInput,
        value => ValueSource::Given(value),
    };
    let lease = match (arguments.value("--ttl"), arguments.value("--lease")) {
        (Some(_), Some(_)) => return Err("either --ttl or --lease: a key goes with one of them".to_owned()),
        (Some(ttl), None) => Some(LeaseChoice::Own { ttl_ms: time_to_live(ttl)? }),
        (None, Some(id)) => Some(LeaseChoice::Granted(lease_id(id)?)),
        (None, None) => None,
    };
    Ok(Command::Set { key: key(arguments)?, value, if_absent: arguments.has("--if-absent"), lease })
}

/// A time such as `500ms`, `10s`, `5m` or `1h`, in milliseconds.
fn time_to_live(text: &[u8]) -> Result<u64, String> {
    let wrong = || {
        let shown = printable(text);
        format!("{shown} is no time to live; write 1ms to a year, such as 500ms, 10s, 5m or 1h")
    };
    let written = std::str::from_utf8(text).map_err(|_| wrong())?;
    let digits = written.find(|character: char| !character.is_ascii_digit()).unwrap_or(written.len());
    let (number, unit) = written.split_at(digits);
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let time = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    time.filter(|time| (1..=MAX_TTL_MS).contains(time)).ok_or_else(wrong)
}

/// 16 hexadecimal digits, as `lease grant` prints them.
fn lease_id(text: &[u8]) -> Result<LeaseId, String> {
    let id = std::str::from_utf8(text).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    let id = id.and_then(NonZeroU64::new).map(LeaseId);
    id.ok_or_else(|| format!("ID is that of a lease, as `lease grant` prints it, not {}", printable(text)))
}

pub(crate) fn transaction(arguments: &Arguments) -> Result<Command, String> {
    txn::parse(&word(arguments, 0)).map(Command::Transact)
}

pub(crate) fn watch(arguments: &Arguments) -> Result<Command, String> {
    let target = match (arguments.word(0), arguments.value("--prefix")) {
        (Some(_), None) => WatchTarget::Key(key(arguments)?.into()),
        (None, Some(prefix)) => WatchTarget::Prefix(prefix.to_vec().into()),
        (Some(_), Some(_)) | (None, None) => {
            return Err("either a key or a prefix; usage: watch KEY | --prefix P".to_owned());
        }
    };
    let from = arguments.number("--from", 0, 0, u64::MAX)?;
    let count = arguments.number("--count", 1, 1, u64::MAX)?;
    let from = arguments.has("--from").then_some(Revision(from));
    Ok(Command::Watch {
        request: WatchRequest { target, from, previous: arguments.has("--prev") },
        count: arguments.has("--count").then_some(count),
    })
}

pub(crate) fn lease(arguments: &Arguments) -> Result<Command, String> {
    Ok(match (arguments.word(0), arguments.word(1)) {
        (Some(b"grant"), Some(ttl)) => Command::GrantLease { ttl: Duration::from_millis(time_to_live(ttl)?) },
        (Some(b"keep-alive"), Some(id)) => Command::KeepAlive { id: lease_id(id)? },
        (Some(b"revoke"), Some(id)) => Command::RevokeLease { id: lease_id(id)? },
        (Some(b"list"), None) => Command::Leases,
        (_, _) => return Err("usage: lease grant TTL | keep-alive ID | revoke ID | list".to_owned()),
    })
}

pub(crate) fn delete(arguments: &Arguments) -> Result<Command, String> {
    match (arguments.word(0), arguments.value("--prefix")) {
        (Some(_), None) => Ok(Command::Delete { key: key(arguments)? }),
        (None, Some(prefix)) => Ok(Command::DeletePrefix { prefix: prefix.to_vec() }),
        (Some(_), Some(_)) | (None, None) => Err("either a key or a prefix; usage: del KEY | --prefix P".to_owned()),
    }
}

pub(crate) fn compare_and_swap(arguments: &Arguments) -> Result<Command, String> {
    Ok(Command::CompareAndSwap { key: key(arguments)?, expected: word(arguments, 1), new: word(arguments, 2) })
}

pub(crate) fn increment(arguments: &Arguments) -> Result<Command, String> {
    let by = match arguments.word(1) {
        None => 1,
        Some(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("BY is a decimal integer of 64 bits, not {}", printable(text)))?,
    };
    Ok(Command::Increment { key: key(arguments)?, by })
}

pub(crate) fn scan(arguments: &Arguments) -> Result<Command, String> {
    let limit = arguments.number("--limit", DEFAULT_SCAN_LIMIT, 1, u64::from(u32::MAX))?;
    Ok(Command::Scan {
        prefix: word(arguments, 0),
        from: arguments.value("--from").map(<[u8]>::to_vec),
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        keys_only: arguments.has("--keys"),
        revision: revision(arguments)?,
    })
}

pub(crate) fn status(_: &Arguments) -> Result<Command, String> {
    Ok(Command::Status)
}

pub(crate) fn leader(arguments: &Arguments) -> Result<Command, String> {
    if arguments.word(0) != Some(b"transfer") {
        return Err("the only thing to do with the leader is `leader transfer [ID]`".to_owned());
    }
    Ok(Command::TransferLeadership { to: arguments.word(1).map(node_id).transpose()? })
}

fn node_id(text: &[u8]) -> Result<u64, String> {
    let id = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).filter(|id| *id > 0);
    id.ok_or_else(|| format!("ID is the number of a node, as `status` lists them, not {}", printable(text)))
}

pub(crate) fn member(arguments: &Arguments) -> Result<Command, String> {
    let change = match (arguments.word(0), arguments.word(1)) {
        (Some(b"list"), None) => None,
        (Some(b"add"), Some(member)) => {
            let (id, address) = new_member(member)?;
            Some(MemberChange::Add { id, address, becomes_voter: arguments.has("--wait") })
        }
        (Some(b"promote"), Some(id)) => Some(MemberChange::Promote { id: node_id(id)? }),
        (Some(b"remove"), Some(id)) => Some(MemberChange::Remove { id: node_id(id)? }),
        (_, _) => return Err("usage: member list | add ID=HOST:PORT [--wait] | promote ID | remove ID".to_owned()),
    };
    if arguments.has("--wait") && !matches!(change, Some(MemberChange::Add { .. })) {
        return Err("--wait belongs to `member add`; the others are done when they answer".to_owned());
    }
    Ok(change.map_or(Command::Members, |change| Command::ChangeMembers { change }))
}

/// `ID=HOST:PORT`.
fn new_member(text: &[u8]) -> Result<(u64, String), String> {
    let wrong = || format!("a new member is ID=HOST:PORT, as in 4=10.0.0.4:7001, not {}", printable(text));
    let (id, address) = std::str::from_utf8(text).ok().and_then(|text| text.split_once('=')).ok_or_else(wrong)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || !is_port { Err(wrong()) } else { Ok((node_id(id.as_bytes())?, address.to_owned())) }
}

pub(crate) fn hash(arguments: &Arguments) -> Result<Command, String> {
    Ok(Command::Hash { revision: revision(arguments)? })
}

pub(crate) fn bench(arguments: &Arguments) -> Result<Command, String> {
    let size = |name, default, least, most| arguments.number(name, default, least, most).map(narrow);
    let clients = size("--clients", 1, 1, 10_000)?;
    Ok(Command::Bench(Plan {
        clients,
        connections: size("--connections", 1, 1, 1_000)?.min(clients),
        operations: arguments.number("--ops", 10_000, 1, 1_000_000_000)?,
        key_bytes: size("--key-size", 16, 7, 4_096)?,
        value_bytes: size("--value-size", 128, 0, 1 << 20)?,
        mix: arguments.value("--mix").map_or(Ok(Mix::default()), Mix::parse)?,
    }))
}

/// The limits of the numbers above are far below 32 bits.
fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(crate) fn help(arguments: &Arguments) -> Result<Command, String> {
    let topic = arguments.word(0).map(|topic| String::from_utf8_lossy(topic).into_owned());
    match topic {
        Some(topic) if table::find(&topic).is_none() => {
            Err(format!("unknown command {}; `help` lists them", printable(topic.as_bytes())))
        }
        topic => Ok(Command::Help { topic }),
    }
}
