//! A command as it is meant, whatever words it came from: a line of a script, of the REPL, or the process's arguments.

use std::time::Duration;

use kv_client::{LeaseChoice, LeaseId, MemberChange, Transaction, WatchRequest};

use crate::bench::Plan;

/// A command that is written correctly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `get KEY`
    Get {
        /// The key.
        key: Vec<u8>,
        /// As of this revision instead of now.
        revision: Option<u64>,
        /// Write the value's bytes alone.
        raw: bool,
    },
    /// `set KEY VALUE`
    Set {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: ValueSource,
        /// Only if the key does not exist.
        if_absent: bool,
        /// What it goes with.
        lease: Option<LeaseChoice>,
    },
    /// `del KEY`
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// `del --prefix P`
    DeletePrefix {
        /// What the keys begin with.
        prefix: Vec<u8>,
    },
    /// `cas KEY EXPECTED NEW`
    CompareAndSwap {
        /// The key.
        key: Vec<u8>,
        /// The value it must have.
        expected: Vec<u8>,
        /// The value it then gets.
        new: Vec<u8>,
    },
    /// `incr KEY [BY]`
    Increment {
        /// The key.
        key: Vec<u8>,
        /// What to add.
        by: i64,
    },
    /// `scan [PREFIX]`
    Scan {
        /// What the keys begin with.
        prefix: Vec<u8>,
        /// The first key, inclusive.
        from: Option<Vec<u8>>,
        /// At most so many keys.
        limit: u32,
        /// Leave the values out.
        keys_only: bool,
        /// As of this revision instead of now.
        revision: Option<u64>,
    },
    /// `txn TEXT`
    Transact(Transaction),
    /// `watch KEY`, `watch --prefix P`
    Watch {
        /// What to follow.
        request: WatchRequest,
        /// End after so many events.
        count: Option<u64>,
    },
    /// `lease grant TTL`
    GrantLease {
        /// How long it lives unless it is kept alive.
        ttl: Duration,
    },
    /// `lease keep-alive ID`
    KeepAlive {
        /// The lease.
        id: LeaseId,
    },
    /// `lease revoke ID`
    RevokeLease {
        /// The lease.
        id: LeaseId,
    },
    /// `lease list`
    Leases,
    /// `status`
    Status,
    /// `leader transfer [ID]`
    TransferLeadership {
        /// Who is to lead; somebody else than now if nobody is named.
        to: Option<u64>,
    },
    /// `member list`
    Members,
    /// `member add`, `member promote`, `member remove`
    ChangeMembers {
        /// How.
        change: MemberChange,
    },
    /// `hash [--rev R]`
    Hash {
        /// At this revision instead of the current one.
        revision: Option<u64>,
    },
    /// `bench`
    Bench(Plan),
    /// `help [COMMAND]`
    Help {
        /// The command to explain, or all.
        topic: Option<String>,
    },
}

/// Where the value of a `set` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// The command line.
    Given(Vec<u8>),
    /// Standard input, to its end: `set KEY -`.
    StandardInput,
}

impl Command {
    /// Its name: the `"op"` of its answer.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Get { .. } => "get",
            Self::Set { .. } => "set",
            Self::Delete { .. } | Self::DeletePrefix { .. } => "del",
            Self::CompareAndSwap { .. } => "cas",
            Self::Increment { .. } => "incr",
            Self::Scan { .. } => "scan",
            Self::Transact(_) => "txn",
            Self::Watch { .. } => "watch",
            Self::GrantLease { .. } | Self::KeepAlive { .. } | Self::RevokeLease { .. } | Self::Leases => "lease",
            Self::Status => "status",
            Self::TransferLeadership { .. } => "leader",
            Self::Members | Self::ChangeMembers { .. } => "member",
            Self::Hash { .. } => "hash",
            Self::Bench(_) => "bench",
            Self::Help { .. } => "help",
        }
    }

    /// Whether a failure of it says `maybe_applied`.
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Self::Set { .. }
            | Self::Delete { .. }
            | Self::DeletePrefix { .. }
            | Self::CompareAndSwap { .. }
            | Self::Increment { .. }
            | Self::Transact(_)
            | Self::GrantLease { .. }
            | Self::KeepAlive { .. }
            | Self::RevokeLease { .. }
            | Self::Leases
            | Self::TransferLeadership { .. }
            | Self::Members
            | Self::ChangeMembers { .. } => true,
            Self::Get { .. }
            | Self::Scan { .. }
            | Self::Watch { .. }
            | Self::Status
            | Self::Hash { .. }
            | Self::Bench(_)
            | Self::Help { .. } => false,
        }
    }

    /// Why the command stands only on the command line of `raftctl` itself, if so: it needs standard input or output
    /// for itself, and in a script or the REPL they carry commands and answers.
    #[must_use]
    pub const fn one_shot_only(&self) -> Option<&'static str> {
        match self {
            Self::Set { value: ValueSource::StandardInput, .. } => {
                Some("`set KEY -` reads standard input, which carries the commands here; run it as one command")
            }
            Self::Get { raw: true, .. } => {
                Some("--raw writes bytes that would run into the next answer here; run it as one command")
            }
            Self::Get { .. }
            | Self::Set { .. }
            | Self::Delete { .. }
            | Self::DeletePrefix { .. }
            | Self::CompareAndSwap { .. }
            | Self::Increment { .. }
            | Self::Scan { .. }
            | Self::Transact(_)
            | Self::Watch { .. }
            | Self::GrantLease { .. }
            | Self::KeepAlive { .. }
            | Self::RevokeLease { .. }
            | Self::Leases
            | Self::Status
            | Self::TransferLeadership { .. }
            | Self::Members
            | Self::ChangeMembers { .. }
            | Self::Hash { .. }
            | Self::Bench(_)
            | Self::Help { .. } => None,
        }
    }
}
