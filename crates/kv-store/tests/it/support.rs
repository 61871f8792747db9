//! What most tests begin with.

use bytes::Bytes;
use kv_store::{
    ClientId, Command, Effect, Envelope, Found, KvStore, Limits, Outcome, Principal, Query, Refusal, RestoringStore,
    Revision, SessionHeader, SnapshotError, Stamp,
};

pub(crate) type Reply = Result<Outcome, Refusal>;

pub(crate) const SECOND_NS: u64 = 1_000_000_000;
pub(crate) const MINUTE_NS: u64 = 60 * SECOND_NS;

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn set(key: &str, value: &str) -> Command {
    Command::Set { key: bytes(key), value: bytes(value), if_absent: false }
}

pub(crate) fn increment(key: &str) -> Command {
    Command::Increment { key: bytes(key), by: 1 }
}

pub(crate) fn done(revision: u64, effect: Effect) -> Reply {
    Ok(Outcome { revision: Revision(revision), effect })
}

pub(crate) fn counted(reply: &Reply) -> i64 {
    match reply {
        Ok(Outcome { effect: Effect::Incremented { value }, .. }) => *value,
        other => panic!("no increment: {other:?}"),
    }
}

/// Request `sequence` of `client`, born at 0, all before it answered, in time for ever.
pub(crate) fn header(client: u128, sequence: u64) -> SessionHeader {
    SessionHeader {
        client: ClientId(client),
        birth: Stamp(0),
        sequence,
        lowest_unanswered: sequence,
        deadline: Stamp(u64::MAX),
    }
}

pub(crate) fn envelope(session: SessionHeader, command: Command) -> Bytes {
    Envelope { session, principal: Principal::nobody(), command }.encode()
}

/// All bytes of a snapshot of the store as it is.
pub(crate) fn snapshot(store: &KvStore) -> Vec<u8> {
    let mut cursor = store.begin_snapshot();
    std::iter::from_fn(|| store.snapshot_chunk(&mut cursor, 1 << 20)).flatten().collect()
}

/// The store of a snapshot that comes in these pieces.
pub(crate) fn restore<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<KvStore, SnapshotError> {
    let mut restoring = RestoringStore::new(limits);
    for piece in pieces {
        restoring.push(piece)?;
    }
    restoring.finish()
}

/// A store and the log it is fed from.
pub(crate) struct Shop {
    pub(crate) store: KvStore,
    index: u64,
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self { store: KvStore::new(limits), index: 0 }
    }

    /// Applies raw bytes as the next entry.
    pub(crate) fn entry(&mut self, stamp: u64, entry: &Bytes) -> Reply {
        self.index += 1;
        self.store.apply(self.index, Stamp(stamp), entry)
    }

    /// Applies a command under a session header.
    pub(crate) fn request(&mut self, stamp: u64, session: SessionHeader, command: Command) -> Reply {
        self.entry(stamp, &envelope(session, command))
    }

    /// Applies a command of a client that never retries.
    pub(crate) fn apply(&mut self, command: Command) -> Reply {
        self.request(self.index + 1, header(7, self.index + 1), command)
    }

    /// The same at a stamp.
    pub(crate) fn at(&mut self, stamp: u64, command: Command) -> Reply {
        self.request(stamp, header(7, self.index + 1), command)
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) -> Reply {
        self.apply(set(key, value))
    }

    pub(crate) fn delete(&mut self, key: &str) -> Reply {
        self.apply(Command::Delete { key: bytes(key) })
    }

    pub(crate) fn increment(&mut self, key: &str, by: i64) -> Reply {
        self.apply(Command::Increment { key: bytes(key), by })
    }

    pub(crate) fn value(&self, key: &str) -> Option<String> {
        match self.store.query(&Query::Get { key: bytes(key) }).found {
            Found::Value(item) => item.map(|item| String::from_utf8(item.value.to_vec()).unwrap()),
            Found::Items { .. } | Found::Leases { .. } => panic!("a get finds a value"),
        }
    }

    /// The keys of one page, and where the next one begins.
    pub(crate) fn page(
        &self,
        prefix: &str,
        from: Option<&str>,
        limit: u32,
        keys_only: bool,
    ) -> (Vec<String>, Option<String>) {
        let query = Query::Scan { prefix: bytes(prefix), from: from.map(bytes), limit, keys_only };
        match self.store.query(&query).found {
            Found::Value(_) | Found::Leases { .. } => panic!("a scan finds items"),
            Found::Items { items, next } => {
                let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                (items.into_iter().map(|item| text(item.key)).collect(), next.map(text))
            }
        }
    }
}
