//! Carries a command out and makes its answer.

use std::io::{self, Read as _, Write};

use bytes::Bytes;
use kv_client::{
    Client, ClientConfig, Consistency, Error, Item, Lease, Notice, Operation, OperationResult, ScanRequest, SetOptions,
    Transacted, Transaction, WatchEvent, WatchRequest, Written,
};
use kv_store::{MAX_VALUE_BYTES, Revision};

use crate::answer::{Answer, Entry, Event, Hashes, Node, NodeState, Page, Status, Step, Value};
use crate::bench;
use crate::command::{Command, ValueSource};
use crate::failure::{Failure, FailureKind};
use crate::help;
use crate::output::Output;

/// A client, and what the flags say about it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    config: ClientConfig,
    reads: Consistency,
}

/// Takes the lines of a command that has many, and says whether anybody still reads them.
pub type Tell<'a> = dyn FnMut(Answer) -> bool + 'a;

/// Carries `command` out, and writes all but its last answer.
///
/// # Errors
/// If they cannot be written.
pub async fn to_output<Out: Write, Notes: Write>(
    session: &Session,
    command: Command,
    output: &mut Output<Out, Notes>,
) -> io::Result<Result<Answer, Failure>> {
    let mut unwritable = None;
    let mut tell = |answer| match output.write(&Ok(answer)) {
        Ok(_) => true,
        Err(error) => {
            unwritable = Some(error);
            false
        }
    };
    let result = session.execute(command, &mut tell).await;
    unwritable.map_or(Ok(result), Err)
}

/// Why a command has no answer.
enum Trouble {
    Client(Error),
    Input(FailureKind, String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl Session {
    /// A session over the cluster that `config` names; `reads` is how fresh `get` and `scan` are.
    ///
    /// # Errors
    /// For a configuration that cannot work.
    pub fn new(config: ClientConfig, reads: Consistency) -> Result<Self, Error> {
        Ok(Self { client: Client::connect(config.clone())?, config, reads })
    }

    /// Carries `command` out. What it answers before its last line goes to `tell`.
    ///
    /// # Errors
    /// A [`Failure`] with the contract's class.
    pub async fn execute(&self, command: Command, tell: &mut Tell<'_>) -> Result<Answer, Failure> {
        let (op, writes) = (command.op(), command.writes());
        if let Command::Watch { request, count } = command {
            return self.watch(request, count, tell).await;
        }
        self.answer(command).await.map_err(|trouble| match trouble {
            Trouble::Client(error) => Failure::from_client(op, writes, &error),
            Trouble::Input(kind, message) => Failure::unsent(op, writes, kind, message),
        })
    }

    async fn answer(&self, command: Command) -> Result<Answer, Trouble> {
        match command {
            Command::Get { key, revision, raw } => self.get(key, revision, raw).await,
            Command::Set { key, value, if_absent, lease } => {
                let value = match value {
                    ValueSource::Given(value) => value,
                    ValueSource::StandardInput => read_standard_input()?,
                };
                let written = self.client.set_with(key, value, SetOptions { if_absent, lease }).await?;
                Ok(Answer::Set { set: written.result, revision: written.revision.0 })
            }
            Command::Delete { key } => {
                let written = self.client.delete(key).await?;
                Ok(Answer::Deleted { deleted: written.result, revision: written.revision.0 })
            }
            Command::DeletePrefix { prefix } => {
                let written = self.client.delete_prefix(prefix).await?;
                Ok(Answer::Deleted { deleted: written.result, revision: written.revision.0 })
            }
            Command::CompareAndSwap { key, expected, new } => {
                let written = self.client.compare_and_swap(key, expected, new).await?;
                Ok(Answer::Swapped { swapped: written.result, revision: written.revision.0 })
            }
            Command::Increment { key, by } => {
                let written = self.client.increment(key, by).await?;
                Ok(Answer::Incremented { value: written.result, revision: written.revision.0 })
            }
            Command::Scan { prefix, from, limit, keys_only, revision } => {
                let request = ScanRequest {
                    prefix: prefix.into(),
                    from: from.map(Bytes::from),
                    limit,
                    keys_only,
                    consistency: self.reads,
                    revision: revision.map(Revision),
                };
                self.scan(request).await
            }
            Command::Transact(transaction) => self.transact(transaction).await,
            Command::Watch { .. } => unreachable!("it has many answers"),
            Command::GrantLease { ttl } => {
                let Written { result, revision } = self.client.grant_lease(ttl).await?;
                Ok(leased(&result, revision))
            }
            Command::KeepAlive { id } => {
                let Written { result, revision } = self.client.keep_alive(id).await?;
                Ok(leased(&result, revision))
            }
            Command::RevokeLease { id } => {
                let written = self.client.revoke_lease(id).await?;
                Ok(Answer::Revoked { id, deleted: written.result, revision: written.revision.0 })
            }
            Command::Leases => {
                let leases = self.client.leases().await?;
                Ok(Answer::Leases { leases: leases.leases, revision: leases.revision.0 })
            }
            Command::Status => self.status().await,
            Command::TransferLeadership { to } => {
                let leadership = self.client.transfer_leadership(to).await?;
                Ok(Answer::Leader { leader: leadership.leader, term: leadership.term })
            }
            Command::Members => Ok(Answer::Members(self.client.members().await?)),
            Command::ChangeMembers { change } => Ok(Answer::Members(self.client.change_members(change).await?)),
            Command::Hash { revision } => self.hash(revision).await,
            Command::Bench(plan) => Ok(Answer::Bench(bench::run(&plan, &self.config, self.reads).await?)),
            Command::Help { topic } => Ok(Answer::Help(help::text(topic.as_deref()))),
        }
    }

    async fn get(&self, key: Vec<u8>, revision: Option<u64>, raw: bool) -> Result<Answer, Trouble> {
        let got = match revision {
            Some(revision) => self.client.get_at(key.clone(), Revision(revision)).await?,
            None => self.client.get(key.clone(), self.reads).await?,
        };
        Ok(Answer::Get { key, found: got.item.map(value), revision: got.revision.0, raw })
    }

    async fn transact(&self, transaction: Transaction) -> Result<Answer, Trouble> {
        let operations = (transaction.then.clone(), transaction.otherwise.clone());
        let written = self.client.transact(transaction).await?;
        let Transacted { succeeded, results } = written.result;
        let operations = if succeeded { operations.0 } else { operations.1 };
        let results = operations.iter().zip(results).map(|(operation, result)| step(operation, result)).collect();
        Ok(Answer::Transacted { succeeded, results, revision: written.revision.0 })
    }

    async fn watch(&self, request: WatchRequest, count: Option<u64>, tell: &mut Tell<'_>) -> Result<Answer, Failure> {
        let failed = |error: &Error| Failure::from_client("watch", false, error);
        let from = request.from;
        let mut watch = self.client.watch(request).await.map_err(|error| {
            let resume = error.oldest().or(from).map(|resume| resume.0);
            Failure { resume, ..failed(&error) }
        })?;
        let mut left = count.unwrap_or(u64::MAX);
        let mut is_read = tell(Answer::Watching { revision: watch.began_at().0 });
        while left > 0 && is_read {
            match watch.next().await {
                Ok(Notice::Event(event)) => {
                    left -= 1;
                    is_read = tell(Answer::Event(told(event)));
                }
                Ok(Notice::Progress(_)) => {}
                Err(error) => return Err(Failure { resume: Some(watch.resume().0), ..failed(&error) }),
            }
        }
        Ok(Answer::Told)
    }

    async fn scan(&self, request: ScanRequest) -> Result<Answer, Trouble> {
        let keys_only = request.keys_only;
        let page = self.client.scan(request).await?;
        Ok(Answer::Scanned(Page {
            items: page.items.into_iter().map(|item| entry(item, keys_only)).collect(),
            next: page.next.map(Into::into),
            revision: page.revision.0,
        }))
    }

    async fn status(&self) -> Result<Answer, Trouble> {
        let status = self.client.status().await?;
        let node = |report: kv_client::NodeReport| Node {
            id: report.id,
            address: report.address,
            state: report.status.map(|status| NodeState {
                role: status.role,
                term: status.term,
                commit_index: status.commit_index,
                applied_index: status.applied_index,
                revision: status.revision.0,
            }),
        };
        Ok(Answer::Status(Status {
            cluster: status.cluster,
            leader: status.leader,
            term: status.term,
            last_change: status.last_change.map(|change| (change.term, change.reason)),
            nodes: status.nodes.into_iter().map(node).collect(),
        }))
    }

    async fn hash(&self, revision: Option<u64>) -> Result<Answer, Trouble> {
        let report = self.client.state_hash(revision.map(Revision)).await?;
        let equal = report.is_equal();
        let hashes = report.hashes.into_iter().map(|(id, hash)| (id, hash.map(|hash| hash.to_string()))).collect();
        Ok(Answer::Hashes(Hashes { revision: report.revision.0, hashes, equal }))
    }
}

fn leased(lease: &Lease, revision: Revision) -> Answer {
    let ttl_ms = u64::try_from(lease.ttl.as_millis()).unwrap_or(u64::MAX);
    Answer::Leased { id: lease.id, ttl_ms, revision: revision.0 }
}

fn value(item: Item) -> Value {
    Value {
        value: item.value.into(),
        create_revision: item.create_revision.0,
        mod_revision: item.mod_revision.0,
        version: item.version,
    }
}

fn entry(item: Item, keys_only: bool) -> Entry {
    Entry { key: item.key.into(), value: (!keys_only).then(|| item.value.into()), mod_revision: item.mod_revision.0 }
}

fn step(operation: &Operation, result: OperationResult) -> Step {
    match result {
        OperationResult::Got(item) => {
            let key = if let Operation::Get { key } = operation { key.to_vec() } else { Vec::new() };
            Step::Get { key, found: item.map(value) }
        }
        OperationResult::Set => Step::Set,
        OperationResult::Deleted { keys, more } => Step::Deleted { deleted: keys, more },
        OperationResult::Scanned { items, next } => {
            let keys_only = matches!(operation, Operation::Scan { keys_only: true, .. });
            let items = items.into_iter().map(|item| entry(item, keys_only)).collect();
            Step::Scanned { items, next: next.map(Into::into) }
        }
    }
}

fn told(event: WatchEvent) -> Event {
    Event {
        key: event.key.into(),
        value: event.value.map(Into::into),
        previous: event.previous.map(Into::into),
        revision: event.revision.0,
        last: event.last,
    }
}

/// The value of `set KEY -`: all of standard input, but no more than a value may have.
fn read_standard_input() -> Result<Vec<u8>, Trouble> {
    let most = u64::try_from(MAX_VALUE_BYTES).unwrap_or(u64::MAX);
    let mut value = Vec::new();
    std::io::stdin()
        .lock()
        .take(most + 1)
        .read_to_end(&mut value)
        .map_err(|error| Trouble::Input(FailureKind::Usage, format!("standard input cannot be read: {error}")))?;
    if value.len() > MAX_VALUE_BYTES {
        let message = format!("standard input has more than {MAX_VALUE_BYTES} bytes, the limit of a value");
        return Err(Trouble::Input(FailureKind::TooLarge, message));
    }
    Ok(value)
}
