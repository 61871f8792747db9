//! Asking every node by itself: status and state hashes. Nothing here needs a leader, and no node waits for another.

use std::collections::BTreeMap;
use std::time::Duration;

use kv_store::api::{Consistency, LeaderChange, NodeStatus, RequestBody, Response, ResponseBody};
use kv_store::{Query, Revision, StateHash};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::{Client, When};
use crate::error::{Error, ErrorKind};

/// The longest a node is waited for in a round of questions; half the time-out, if that is shorter.
const NODE_LIMIT: Duration = Duration::from_secs(1);

/// The pause before a node that has not come so far yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The whole cluster, as its reachable nodes see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster's id, once it is formed: 32 hexadecimal digits.
    pub cluster: Option<String>,
    /// The leader, if any node knows one: as the node with the highest term says.
    pub leader: Option<u64>,
    /// The highest term seen.
    pub term: u64,
    /// The last change of leader, in the highest term.
    pub last_change: Option<LeaderChange>,
    /// Every member, by id.
    pub nodes: Vec<NodeReport>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Its id.
    pub id: u64,
    /// Where clients reach it; `None` if no reachable node has met it.
    pub address: Option<String>,
    /// What it says of itself; `None` if it did not answer.
    pub status: Option<NodeStatus>,
}

/// The state hashes of all members at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashReport {
    /// The revision.
    pub revision: Revision,
    /// By id: the hash, or `None` if the member could not be reached, did not come so far in time, or has
    /// gone on so far that it no longer keeps the hash.
    pub hashes: BTreeMap<u64, Option<StateHash>>,
}

impl HashReport {
    /// Whether every member answered, and all hashes are the same.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        let mut hashes = self.hashes.values();
        let first = hashes.next().copied().flatten();
        first.is_some() && hashes.all(|hash| *hash == first)
    }
}

impl Client {
    /// Asks every node how it is: first the endpoints, then the members they name. Takes no more than the time-out, needs
    /// no quorum, and lists members that do not answer.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if no node answers at all.
    pub async fn status(&self) -> Result<ClusterStatus, Error> {
        Ok(summary(self.survey().await?))
    }

    /// Every node that answers, by id.
    async fn survey(&self) -> Result<Found, Error> {
        let limit = NODE_LIMIT.min(self.shared.config.timeout / 2);
        let seeds = self.shared.routing().seeds().to_vec();
        let mut answers = self.ask_status(seeds, limit).await;
        let unasked: Vec<String> = members(&answers.found)
            .into_iter()
            .filter(|(id, _)| !answers.found.contains_key(id))
            .filter_map(|(_, address)| address)
            .filter(|address| !answers.asked.contains(address))
            .collect();
        answers.found.extend(self.ask_status(unasked, limit).await.found);
        if answers.found.is_empty() {
            let problems = answers.problems.join("; ");
            return Err(Error::new(ErrorKind::Unavailable, format!("no node could be reached: {problems}")));
        }
        Ok(answers.found)
    }

    /// The state hash of every member at `revision`, or at the revision of a linearizable read now. Members that have not
    /// come so far are asked again until the time-out.
    ///
    /// # Errors
    /// Those of the linearizable read, and those of [`Client::status`], which names the members.
    pub async fn state_hash(&self, revision: Option<Revision>) -> Result<HashReport, Error> {
        let deadline = self.new_call().deadline;
        let revision = match revision {
            Some(revision) => revision,
            None => self.current_revision().await?,
        };
        let found = self.survey().await?;
        let members = members(&found);
        let mut hashes: BTreeMap<u64, Option<StateHash>> = members.keys().map(|id| (*id, None)).collect();
        let mut asking = JoinSet::new();
        for (id, address) in members {
            let answered_at = found.get(&id).map(|(address, _)| address.clone());
            let (client, Some(address)) = (self.clone(), answered_at.or(address)) else { continue };
            asking.spawn(async move { (id, client.hash_of(&address, revision, deadline).await) });
        }
        while let Some(answer) = asking.join_next().await {
            // A task that panicked has no answer, like a node that is gone.
            if let Ok((id, hash)) = answer {
                hashes.insert(id, hash);
            }
        }
        Ok(HashReport { revision, hashes })
    }

    async fn current_revision(&self) -> Result<Revision, Error> {
        let anything = Query::Scan { prefix: bytes::Bytes::new(), from: None, limit: 1, keys_only: true };
        Ok(self.read(anything, When::Now(Consistency::Linearizable)).await?.revision)
    }

    /// One node's hash at `revision`, as soon as it has come so far.
    async fn hash_of(&self, address: &str, revision: Revision, deadline: Instant) -> Option<StateHash> {
        loop {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            // Asked first: a node that was beyond the revision already and has no hash of it will never have one.
            let has_passed = self.has_passed(address, revision, left).await;
            let body = RequestBody::StateHash { revision: Some(revision) };
            if let Ok(ResponseBody::StateHash { hash: Some(hash), .. }) = self.ask(address, body, left).await {
                return Some(hash);
            }
            if has_passed {
                return None;
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Whether a node is beyond `revision`.
    async fn has_passed(&self, address: &str, revision: Revision, left: Duration) -> bool {
        match self.ask(address, RequestBody::NodeStatus, left).await {
            Ok(ResponseBody::NodeStatus(status)) => status.revision > revision,
            Ok(
                ResponseBody::Written(_)
                | ResponseBody::Answer(_)
                | ResponseBody::StateHash { .. }
                | ResponseBody::Leadership(_)
                | ResponseBody::Members(_)
                | ResponseBody::Unwatched,
            )
            | Err(_) => false,
        }
    }

    /// Asks all `addresses` at once.
    async fn ask_status(&self, addresses: Vec<String>, limit: Duration) -> Answers {
        let mut asking = JoinSet::new();
        for address in &addresses {
            let (client, address) = (self.clone(), address.clone());
            asking.spawn(async move {
                let answer = client.ask(&address, RequestBody::NodeStatus, limit).await;
                (address, answer)
            });
        }
        let mut answers = Answers { asked: addresses, ..Answers::default() };
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok((address, Ok(ResponseBody::NodeStatus(status)))) => {
                    answers.found.insert(status.id, (address, status));
                }
                Ok((
                    address,
                    Ok(
                        ResponseBody::Written(_)
                        | ResponseBody::Answer(_)
                        | ResponseBody::StateHash { .. }
                        | ResponseBody::Leadership(_)
                        | ResponseBody::Members(_)
                        | ResponseBody::Unwatched,
                    ),
                )) => answers.problems.push(format!("{address} answered another question")),
                Ok((_, Err(problem))) => answers.problems.push(problem),
                Err(panicked) => answers.problems.push(panicked.to_string()),
            }
        }
        answers.problems.sort();
        answers
    }

    /// One question to one node, without retries.
    async fn ask(&self, address: &str, body: RequestBody, limit: Duration) -> Result<ResponseBody, String> {
        let until = Instant::now() + limit.min(NODE_LIMIT);
        let left = until.saturating_duration_since(Instant::now());
        let opened = self.shared.pool.connection(address, left).await?;
        let answer = opened.connection.request(body, bytes::Bytes::new(), until).await;
        let Response { body, .. } = answer.map_err(|why| format!("{address}: {why}"))?;
        body.map_err(|error| format!("{address}: {error}"))
    }
}

/// Nodes that answered, by id: the address that led to each, and what it says of itself.
type Found = BTreeMap<u64, (String, NodeStatus)>;

/// What came back from a round of questions.
#[derive(Default)]
struct Answers {
    asked: Vec<String>,
    found: Found,
    problems: Vec<String>,
}

/// All members that any of the nodes names, with an address where any knows one.
fn members(found: &Found) -> BTreeMap<u64, Option<String>> {
    let mut members = BTreeMap::new();
    for (_, status) in found.values() {
        for member in &status.members {
            let known: &mut Option<String> = members.entry(member.id).or_default();
            if known.is_none() {
                known.clone_from(&member.address);
            }
        }
    }
    // A node that is reachable has the address that reached it, if nobody names a better one.
    for (id, (address, _)) in found {
        members.entry(*id).or_default().get_or_insert_with(|| address.clone());
    }
    members
}

fn summary(mut found: Found) -> ClusterStatus {
    let statuses = || found.values().map(|(_, status)| status);
    let term = statuses().map(|status| status.term).max().unwrap_or(0);
    let leader = statuses()
        .filter(|status| status.leader.is_some())
        .max_by_key(|status| (status.term, status.leader == Some(status.id)))
        .and_then(|status| status.leader);
    // The leader itself knows best why it stood.
    let last_change = statuses()
        .filter(|status| status.last_change.is_some())
        .max_by_key(|status| (status.last_change.as_ref().map(|change| change.term), status.leader == Some(status.id)))
        .and_then(|status| status.last_change.clone());
    let cluster = statuses().find_map(|status| status.cluster.clone());
    let nodes = members(&found)
        .into_iter()
        .map(|(id, address)| NodeReport { id, address, status: found.remove(&id).map(|(_, status)| status) })
        .collect();
    ClusterStatus { cluster, leader, term, last_change, nodes }
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
