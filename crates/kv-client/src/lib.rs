//! The async client library of raftd.
//!
//! ```no_run
//! # async fn example() -> Result<(), kv_client::Error> {
//! use kv_client::{Client, ClientConfig, Consistency};
//!
//! let client = Client::connect(ClientConfig::new(["127.0.0.1:7001", "127.0.0.1:7002"]))?;
//! client.set("greeting", "hello").await?;
//! let got = client.get("greeting", Consistency::Linearizable).await?;
//! assert_eq!(got.item.map(|item| item.value), Some("hello".into()));
//! # Ok(())
//! # }
//! ```
//!
//! # What a caller can rely on
//! - **Any node will do.** Endpoints are seeds; the leader is learned from the answers and asked first from then on.
//! - **A deadline on everything.** An operation ends within [`ClientConfig::timeout`], whatever the servers do: also if they
//!   accept and never speak.
//! - **Exactly once.** Writes are retried, under a session, with the same bytes each time; the store applies them once
//!   (rules 7 and 8). When an error leaves open whether a write was applied, [`Error::maybe_applied`] says so.
//! - **Bounded.** At most [`MAX_IN_FLIGHT`] requests are in flight on a connection; more wait, within their deadline.
//!
//! # The house
//! | module | decides |
//! |---|---|
//! | `operations`, `survey` | what can be asked |
//! | `watch` | how changes are followed from node to node |
//! | `client` | the loop of attempts of one operation |
//! | `call` | what an attempt's end means: done, failed, again, anew; and what is in doubt |
//! | `session` | which place a write has, and when a session is left behind |
//! | `clock` | what the cluster time is |
//! | `routing` | whom to ask next |
//! | `pool`, `connection` | how requests travel |
//! | `backoff` | how long to pause |
//!
//! `call`, `session`, `clock`, `routing` and `backoff` do no I/O.

mod backoff;
mod call;
mod client;
mod clock;
mod config;
mod connection;
mod error;
mod operations;
mod pool;
mod routing;
mod session;
mod survey;
mod watch;

pub use client::Client;
pub use config::{ClientConfig, MAX_IN_FLIGHT};
pub use error::{Error, ErrorKind};
pub use kv_store::api::{
    Consistency, LeaderChange, Leadership, MemberChange, Members, NodeStatus, WatchEvent, WatchTarget,
};
pub use kv_store::{
    Comparison, Item, LeaseChoice, LeaseId, LeaseInfo, Operation, OperationResult, Relation, Revision, Test,
    Transaction,
};
pub use operations::{Got, Lease, Leases, Page, ScanRequest, SetOptions, Transacted, Written};
pub use survey::{ClusterStatus, HashReport, NodeReport};
pub use watch::{Notice, Watch, WatchRequest};
