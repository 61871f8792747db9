//! What a client can ask: one method an operation, each within the configured time.

use bytes::Bytes;
use kv_store::api::{Consistency, Leadership, MemberChange, Members};
use kv_store::{Command, Effect, Found, Item, Outcome, Query, Revision};

use crate::call::Call;
use crate::client::{Client, When, unexpected};
use crate::error::Error;

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
    /// [`crate::ErrorKind::Invalid`] for a revision that is still to come.
    pub async fn get_at(&self, key: impl Into<Bytes>, revision: Revision) -> Result<Got, Error> {
        self.get_when(key.into(), When::At(revision)).await
    }

    async fn get_when(&self, key: Bytes, when: When) -> Result<Got, Error> {
        let answer = self.read(Query::Get { key }, when).await?;
        match answer.found {
            Found::Value(item) => Ok(Got { item, revision: answer.revision }),
            Found::Items { .. } => Err(unexpected()),
        }
    }

    /// Gives `key` the value `value`; the result is always `true`.
    pub async fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Written<bool>, Error> {
        self.set_with(key.into(), value.into(), false).await
    }

    /// Gives `key` the value `value` if there is no such key, and says whether it did.
    pub async fn set_if_absent(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Written<bool>, Error> {
        self.set_with(key.into(), value.into(), true).await
    }

    async fn set_with(&self, key: Bytes, value: Bytes, if_absent: bool) -> Result<Written<bool>, Error> {
        self.write_for(Command::Set { key, value, if_absent }, |effect| match effect {
            Effect::Set { set } => Some(set),
            Effect::Deleted { .. } | Effect::Swapped { .. } | Effect::Incremented { .. } => None,
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
        let prefix = prefix.into();
        let mut call = self.new_call();
        let mut result = 0;
        loop {
            let piece = self.write(Command::DeletePrefix { prefix: prefix.clone() }, &mut call).await;
            let Outcome { revision, effect } = piece.map_err(|error| {
                let maybe_applied = error.maybe_applied() || result > 0;
                error.in_doubt(maybe_applied)
            })?;
            let (keys, more) = deleted(effect).ok_or_else(|| unexpected().in_doubt(true))?;
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
            Effect::Swapped { swapped } => Some(swapped),
            Effect::Set { .. } | Effect::Deleted { .. } | Effect::Incremented { .. } => None,
        })
        .await
    }

    /// Adds `by` to the decimal integer at `key` (a missing key counts as 0); the result is the new value.
    pub async fn increment(&self, key: impl Into<Bytes>, by: i64) -> Result<Written<i64>, Error> {
        self.write_for(Command::Increment { key: key.into(), by }, |effect| match effect {
            Effect::Incremented { value } => Some(value),
            Effect::Set { .. } | Effect::Deleted { .. } | Effect::Swapped { .. } => None,
        })
        .await
    }

    /// Lists one page of keys. The page after it begins at [`Page::next`].
    pub async fn scan(&self, request: ScanRequest) -> Result<Page, Error> {
        let ScanRequest { prefix, from, limit, keys_only, consistency, revision } = request;
        let when = revision.map_or(When::Now(consistency), When::At);
        let answer = self.read(Query::Scan { prefix, from, limit, keys_only }, when).await?;
        match answer.found {
            Found::Items { items, next } => Ok(Page { items, next, revision: answer.revision }),
            Found::Value(_) => Err(unexpected()),
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
        result: impl FnOnce(Effect) -> Option<T>,
    ) -> Result<Written<T>, Error> {
        let outcome = self.write(command, &mut self.new_call()).await?;
        // The effect belongs to another command only if client and server do not understand each other.
        let result = result(outcome.effect).ok_or_else(|| unexpected().in_doubt(true))?;
        Ok(Written { result, revision: outcome.revision })
    }
}

fn deleted(effect: Effect) -> Option<(u64, bool)> {
    match effect {
        Effect::Deleted { keys, more } => Some((keys, more)),
        Effect::Set { .. } | Effect::Swapped { .. } | Effect::Incremented { .. } => None,
    }
}
