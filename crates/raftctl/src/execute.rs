//! Carries a command out and makes its answer.

use std::io::Read as _;

use bytes::Bytes;
use kv_client::{Client, ClientConfig, Consistency, Error, ScanRequest};
use kv_store::{MAX_VALUE_BYTES, Revision};

use crate::answer::{Answer, Entry, Hashes, Node, NodeState, Page, Status, Value};
use crate::bench;
use crate::command::{Command, ValueSource};
use crate::failure::{Failure, FailureKind};
use crate::help;

/// A client, and what the flags say about it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    config: ClientConfig,
    reads: Consistency,
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

    /// Carries `command` out.
    ///
    /// # Errors
    /// A [`Failure`] with the contract's class.
    pub async fn execute(&self, command: Command) -> Result<Answer, Failure> {
        let (op, writes) = (command.op(), command.writes());
        self.answer(command).await.map_err(|trouble| match trouble {
            Trouble::Client(error) => Failure::from_client(op, writes, &error),
            Trouble::Input(kind, message) => Failure::unsent(op, writes, kind, message),
        })
    }

    async fn answer(&self, command: Command) -> Result<Answer, Trouble> {
        match command {
            Command::Get { key, revision, raw } => self.get(key, revision, raw).await,
            Command::Set { key, value: ValueSource::Given(value), if_absent } => self.set(key, value, if_absent).await,
            Command::Set { key, value: ValueSource::StandardInput, if_absent } => {
                self.set(key, read_standard_input()?, if_absent).await
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
        let found = got.item.map(|item| Value {
            value: item.value.into(),
            create_revision: item.create_revision.0,
            mod_revision: item.mod_revision.0,
            version: item.version,
        });
        Ok(Answer::Get { key, found, revision: got.revision.0, raw })
    }

    async fn set(&self, key: Vec<u8>, value: Vec<u8>, if_absent: bool) -> Result<Answer, Trouble> {
        let written =
            if if_absent { self.client.set_if_absent(key, value).await? } else { self.client.set(key, value).await? };
        Ok(Answer::Set { set: written.result, revision: written.revision.0 })
    }

    async fn scan(&self, request: ScanRequest) -> Result<Answer, Trouble> {
        let keys_only = request.keys_only;
        let page = self.client.scan(request).await?;
        let entry = |item: kv_store::Item| Entry {
            key: item.key.into(),
            value: (!keys_only).then(|| item.value.into()),
            mod_revision: item.mod_revision.0,
        };
        Ok(Answer::Scanned(Page {
            items: page.items.into_iter().map(entry).collect(),
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
