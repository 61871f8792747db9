//! What is refused at the door: before it costs a read round or reaches the log. The store would refuse most of it too.

use bytes::Bytes;
use kv_store::api::{RequestError, RequestErrorKind, WatchTarget};
use kv_store::{Command, Envelope, Operation, Query, Transaction};

use super::{ClientService, refusal};

impl ClientService {
    pub(super) fn check_envelope(&self, envelope: &Bytes) -> Result<(), RequestError> {
        check_size("the request", envelope.len(), self.limits.request_bytes)?;
        let envelope =
            Envelope::decode(envelope).map_err(|error| refusal(RequestErrorKind::Invalid, error.to_string()))?;
        match &envelope.command {
            Command::Set { key, value, .. } | Command::SetLeased { key, value, .. } => {
                self.check_key(key)?;
                self.check_value(value)
            }
            Command::CompareAndSwap { key, expected, new } => {
                self.check_key(key)?;
                self.check_value(expected)?;
                self.check_value(new)
            }
            Command::Delete { key } | Command::Increment { key, .. } => self.check_key(key),
            Command::DeletePrefix { prefix } => check_size("the prefix", prefix.len(), self.limits.key_bytes),
            Command::Transact(transaction) => self.check_transaction(transaction),
            Command::GrantLease { .. } | Command::KeepAlive { .. } | Command::RevokeLease { .. } => Ok(()),
        }
    }

    fn check_transaction(&self, transaction: &Transaction) -> Result<(), RequestError> {
        let Transaction { comparisons, then, otherwise } = transaction;
        let limit = self.limits.transaction_operations;
        let longest = comparisons.len().max(then.len()).max(otherwise.len());
        if longest > limit {
            let message = format!("{longest} operations or comparisons in one list, the limit is {limit}");
            return Err(refusal(RequestErrorKind::TooLarge, message));
        }
        comparisons.iter().try_for_each(|comparison| self.check_key(&comparison.key))?;
        then.iter().chain(otherwise).try_for_each(|operation| match operation {
            Operation::Get { key } | Operation::Delete { key } => self.check_key(key),
            Operation::Set { key, value } => {
                self.check_key(key)?;
                self.check_value(value)
            }
            Operation::DeletePrefix { prefix } | Operation::Scan { prefix, .. } => {
                check_size("the prefix", prefix.len(), self.limits.key_bytes)
            }
        })
    }

    pub(super) fn check_target(&self, target: &WatchTarget) -> Result<(), RequestError> {
        match target {
            WatchTarget::Key(key) => self.check_key(key),
            WatchTarget::Prefix(prefix) => check_size("the prefix", prefix.len(), self.limits.key_bytes),
        }
    }

    pub(super) fn check_query(&self, query: &Query) -> Result<(), RequestError> {
        match query {
            Query::Get { key } => self.check_key(key),
            Query::Scan { prefix, from, .. } => {
                check_size("the prefix", prefix.len(), self.limits.key_bytes)?;
                // A page's `next` is a key, so it is never larger than one.
                check_size("the start key", from.as_ref().map_or(0, Bytes::len), self.limits.key_bytes)
            }
            Query::Leases { .. } => Ok(()),
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), RequestError> {
        if key.is_empty() {
            return Err(refusal(RequestErrorKind::Invalid, "a key has at least one byte".to_owned()));
        }
        check_size("the key", key.len(), self.limits.key_bytes)
    }

    fn check_value(&self, value: &[u8]) -> Result<(), RequestError> {
        check_size("the value", value.len(), self.limits.value_bytes)
    }
}

fn check_size(what: &str, size_bytes: usize, limit_bytes: u64) -> Result<(), RequestError> {
    if size_bytes as u64 > limit_bytes {
        let message = format!("{what} has {size_bytes} bytes, the limit is {limit_bytes}");
        return Err(refusal(RequestErrorKind::TooLarge, message));
    }
    Ok(())
}
