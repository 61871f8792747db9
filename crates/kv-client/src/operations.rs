//! What a client can ask: one method an operation, each within the configured time.

#![expect(clippy::wildcard_enum_match_arm, reason = "what was not asked for is unexpected, in later versions too")]

use std::time::Duration;

use bytes::Bytes;
use kv_store::api::{Consistency, Leadership, MemberChange, Members};
use kv_store::{
    Command, Effect, Found, Item, LeaseChoice, LeaseId, LeaseInfo, OperationResult, Outcome, Query, Revision,
    Transaction,
};

use crate::call::Call;
use crate::client::{Client, When, unexpected};
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;

/// What a write did, with the store's revision after it (the current one, if it changed nothing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// What it did.
    pub result: T,
    /// The revision after it.
    pub revision: Revision,
}

/// A key as [`Client::get`] found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The key's value and metadata, or `None` if there is no such key.
    pub item: Option<Item>,
    /// The store's revision at the read; of [`Client::get_at`], the one asked for.
    pub revision: Revision,
}

/// How [`Client::set_with`] sets a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// Only if the key does not exist.
    pub if_absent: bool,
    /// The lease that the key is to go with.
    pub lease: Option<LeaseChoice>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transacted {
    /// Whether all comparisons held, so that `then` was done; else it was `otherwise`.
    pub succeeded: bool,
    /// What its operations did, in order.
    pub results: Vec<OperationResult>,
}

/// A lease, granted or kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// How long it lives from then on.
    pub ttl: Duration,
}

/// All leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leases {
    /// By id.
    pub leases: Vec<LeaseInfo>,
    /// The store's revision at the read.
    pub revision: Revision,
}

/// What [`Client::scan`] is to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// What the keys begin with; empty for all.
    pub prefix: Bytes,
    /// The first key, inclusive; the `next` of the page before.
    pub from: Option<Bytes>,
    /// At most so many keys. The servers also cut an answer at 10,000 keys and at 1 MiB (rule 13).
    pub limit: u32,
    /// Leave the values out.
    pub keys_only: bool,
    /// How fresh the answer must be. Without meaning as of a revision.
    pub consistency: Consistency,
    /// As of which revision: that of the first page, for pages that are one view. Without one, as it is.
    pub revision: Option<Revision>,
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys, in order.
    pub items: Vec<Item>,
    /// Where the next page begins, if there is one. As of a revision a page may end early, even without a key.
    pub next: Option<Bytes>,
    /// The store's revision at the read, or that which was asked for. Pages are read one by one: without
    /// [`ScanRequest::revision`] another page may have another revision.
    pub revision: Revision,
}

/// # Errors
/// Every operation ends with an [`Error`] within [`crate::ClientConfig::timeout`] if it has no result by then.
impl Client {
    /// Reads one key. With [`Consistency::Local`] the first endpoint alone is asked, and shows at least what this client and
    /// its clones have seen.
    pub async fn get(&self, key: impl Into<Bytes>, consistency: Consistency) -> Result<Got, Error> {
        self.get_when(key.into(), When::Now(consistency)).await
    }

    /// Reads one key as it was at `revision`. Any node that has come so far answers, without the others.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a revision that is still to come, [`ErrorKind::Compacted`] for one that is forgotten.
    pub async fn get_at(&self, key: impl Into<Bytes>, revision: Revision) -> Result<Got, Error> {
        self.get_when(key.into(), When::At(revision)).await
    }

    async fn get_when(&self, key: Bytes, when: When) -> Result<Got, Error> {
        let answer = self.read(Query::Get { key }, when).await?;
        match answer.found {
            Found::Value(item) => Ok(Got { item, revision: answer.revision }),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives `key` the value `value`; the result is always `true`.
    pub async fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Written<bool>, Error> {
        self.set_with(key, value, SetOptions::default()).await
    }

    /// Gives `key` the value `value` if there is no such key, and says whether it did.
    pub async fn set_if_absent(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Written<bool>, Error> {
        self.set_with(key, value, SetOptions { if_absent: true, lease: None }).await
    }

    /// Gives `key` the value `value` as the options say, and says whether it did. A key that is set without a lease is on
    /// none, whatever it was on before.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchLease`] for a lease that is over.
    pub async fn set_with(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        options: SetOptions,
    ) -> Result<Written<bool>, Error> {
        let (key, value, SetOptions { if_absent, lease }) = (key.into(), value.into(), options);
        let command = match lease {
            None => Command::Set { key, value, if_absent },
            Some(lease) => Command::SetLeased { key, value, if_absent, lease },
        };
        self.write_for(command, |effect| match effect {
            Effect::Set { set } => Ok(set),
            other => Err(other),
        })
        .await
    }

    /// Removes `key`; the result is how many keys are gone, 1 or 0.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<Written<u64>, Error> {
        self.write_for(Command::Delete { key: key.into() }, |effect| deleted(effect).map(|(keys, _)| keys)).await
    }

    /// Removes every key that begins with `prefix`; the result is how many are gone.
    ///
    /// A command touches a bounded number of keys (rule 13), so many keys go in pieces: each piece at once, all of them
    /// within one time-out. An error in a later piece says `maybe_applied`, since the earlier ones were.
    pub async fn delete_prefix(&self, prefix: impl Into<Bytes>) -> Result<Written<u64>, Error> {
        self.delete_in_pieces(Command::DeletePrefix { prefix: prefix.into() }).await
    }

    /// Repeats `command`, all within one time-out, until it leaves nothing over.
    async fn delete_in_pieces(&self, command: Command) -> Result<Written<u64>, Error> {
        let mut call = self.new_call();
        let mut result = 0;
        loop {
            let piece = self.write(command.clone(), &mut call).await;
            let Outcome { revision, effect } = piece.map_err(|error| {
                let maybe_applied = error.maybe_applied() || result > 0;
                error.in_doubt(maybe_applied)
            })?;
            let (keys, more) = deleted(effect).map_err(|other| unexpected(&other).in_doubt(true))?;
            result += keys;
            if !more {
                return Ok(Written { result, revision });
            }
            call = Call::new(call.deadline);
        }
    }

    /// Gives `key` the value `new` if its value is `expected`, and says whether it did.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Bytes>,
        expected: impl Into<Bytes>,
        new: impl Into<Bytes>,
    ) -> Result<Written<bool>, Error> {
        let command = Command::CompareAndSwap { key: key.into(), expected: expected.into(), new: new.into() };
        self.write_for(command, |effect| match effect {
            Effect::Swapped { swapped } => Ok(swapped),
            other => Err(other),
        })
        .await
    }

    /// Adds `by` to the decimal integer at `key` (a missing key counts as 0); the result is the new value.
    pub async fn increment(&self, key: impl Into<Bytes>, by: i64) -> Result<Written<i64>, Error> {
        self.write_for(Command::Increment { key: key.into(), by }, |effect| match effect {
            Effect::Incremented { value } => Ok(value),
            other => Err(other),
        })
        .await
    }

    /// Compares, then does one thing or another, all at one revision.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for more operations, or more to read, than one transaction may have.
    pub async fn transact(&self, transaction: Transaction) -> Result<Written<Transacted>, Error> {
        self.write_for(Command::Transact(transaction), |effect| match effect {
            Effect::Transacted { succeeded, results } => Ok(Transacted { succeeded, results }),
            other => Err(other),
        })
        .await
    }

    /// Makes a lease: keys that are set with it go when it has not been kept alive for `ttl`, counted in milliseconds of
    /// cluster time. Time without a leader does not count.
    pub async fn grant_lease(&self, ttl: Duration) -> Result<Written<Lease>, Error> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.write_for(Command::GrantLease { ttl_ms }, leased).await
    }

    /// Lets a lease live its whole time again, from now on.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchLease`] if it is over.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<Written<Lease>, Error> {
        self.write_for(Command::KeepAlive { id }, leased).await
    }

    /// Ends a lease and removes its keys; the result is how many. Many keys go in pieces, as with
    /// [`Client::delete_prefix`].
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchLease`] if it is over.
    pub async fn revoke_lease(&self, id: LeaseId) -> Result<Written<u64>, Error> {
        self.delete_in_pieces(Command::RevokeLease { id }).await
    }

    /// All leases that were granted, by id.
    pub async fn leases(&self) -> Result<Leases, Error> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let answer = self.read(Query::Leases { from }, When::Now(Consistency::Linearizable)).await?;
            match answer.found {
                Found::Leases { leases, next } => {
                    all.extend(leases);
                    from = next;
                }
                other => return Err(unexpected(&other)),
            }
            if from.is_none() {
                return Ok(Leases { leases: all, revision: answer.revision });
            }
        }
    }

    /// Lists one page of keys. The page after it begins at [`Page::next`].
    pub async fn scan(&self, request: ScanRequest) -> Result<Page, Error> {
        let ScanRequest { prefix, from, limit, keys_only, consistency, revision } = request;
        let when = revision.map_or(When::Now(consistency), When::At);
        let answer = self.read(Query::Scan { prefix, from, limit, keys_only }, when).await?;
        match answer.found {
            Found::Items { items, next } => Ok(Page { items, next, revision: answer.revision }),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes node `to` leader, or, without a name, the follower that lacks least (§3.10), and says who leads then. It is no
    /// error if that node leads already. Writes wait meanwhile; none is refused or lost for it.
    pub async fn transfer_leadership(&self, to: Option<u64>) -> Result<Leadership, Error> {
        self.ask_for_leader(to).await
    }

    /// Who the members are: all changes of the membership that were acknowledged before are seen.
    pub async fn members(&self) -> Result<Members, Error> {
        self.ask_for_members(None).await
    }

    /// Changes who the members are (§4), one change at a time, and says who they are then. It is no error if what is asked
    /// for is so already: a member is added that is there, a voter promoted, a stranger removed.
    pub async fn change_members(&self, change: MemberChange) -> Result<Members, Error> {
        self.ask_for_members(Some(change)).await
    }

    async fn write_for<T>(
        &self,
        command: Command,
        result: impl FnOnce(Effect) -> Result<T, Effect>,
    ) -> Result<Written<T>, Error> {
        let outcome = self.write(command, &mut self.new_call()).await?;
        // The effect belongs to another command only if client and server do not understand each other.
        let result = result(outcome.effect).map_err(|other| unexpected(&other).in_doubt(true))?;
        Ok(Written { result, revision: outcome.revision })
    }
}

fn leased(effect: Effect) -> Result<Lease, Effect> {
    match effect {
        Effect::Leased { id, ttl_ms } => Ok(Lease { id, ttl: Duration::from_millis(ttl_ms) }),
        other => Err(other),
    }
}

/// How many keys are gone, and whether there are more.
fn deleted(effect: Effect) -> Result<(u64, bool), Effect> {
    match effect {
        Effect::Deleted { keys, more } | Effect::Revoked { keys, more } => Ok((keys, more)),
        other => Err(other),
    }
}
