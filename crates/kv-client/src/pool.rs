//! One connection a server, opened when it is first needed and again when it broke.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use kv_store::Stamp;
use raft_net::{Hello, Role, Welcome};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::clock::ClusterClock;
use crate::config::MAX_FRAME_BYTES;
use crate::connection::Connection;

/// The most servers a client keeps connections to; the seeds, the leader and all members fit.
const MAX_SERVERS: usize = 256;

/// All connections of a client, and what their handshakes told.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    servers: Mutex<BTreeMap<String, Arc<Server>>>,
    told: Mutex<Told>,
}

/// One server's place. The lock is held while connecting, so that many requests share one attempt.
#[derive(Debug, Default)]
struct Server(tokio::sync::Mutex<Option<Arc<Connection>>>);

#[derive(Debug, Default)]
struct Told {
    clock: ClusterClock,
    /// The cluster of the first server that named one. Others are then refused: a session means nothing there, and
    /// neither do the answers.
    cluster: Option<u128>,
}

/// A connection, and the leader's address if it was opened just now and its server knew one.
pub(crate) struct Opened {
    pub(crate) connection: Arc<Connection>,
    pub(crate) leader: Option<String>,
}

impl Pool {
    /// The connection to `address`, opened within `limit` if there is none.
    ///
    /// # Errors
    /// Says why there is none.
    pub(crate) async fn connection(&self, address: &str, limit: Duration) -> Result<Opened, String> {
        let until = Instant::now() + limit;
        let server = self.server(address)?;
        let opening = async {
            let mut place = server.0.lock().await;
            if let Some(connection) = place.as_ref().filter(|connection| connection.is_open()) {
                return Ok(Opened { connection: Arc::clone(connection), leader: None });
            }
            let left = until.saturating_duration_since(Instant::now());
            let (connection, leader) = self.open(address, left).await?;
            *place = Some(Arc::clone(&connection));
            Ok(Opened { connection, leader })
        };
        timeout_at(until, opening).await.unwrap_or_else(|_| Err(format!("{address} did not answer within {limit:?}")))
    }

    /// A connection of its own, opened within `limit`, and what has come on it already.
    ///
    /// # Errors
    /// Says why there is none.
    pub(crate) async fn open_stream(&self, address: &str, limit: Duration) -> Result<(TcpStream, BytesMut), String> {
        let opened = raft_net::connect(address, &self.hello(), limit, MAX_FRAME_BYTES).await;
        let (framed, welcome) = opened.map_err(|error| error.to_string())?;
        self.learn(address, &welcome)?;
        let parts = framed.into_parts();
        Ok((parts.io, parts.read_buf))
    }

    fn hello(&self) -> Hello {
        Hello { versions: raft_net::PROTOCOL_VERSIONS, cluster: self.told().cluster, role: Role::Client }
    }

    async fn open(&self, address: &str, limit: Duration) -> Result<(Arc<Connection>, Option<String>), String> {
        let (connection, welcome) =
            Connection::open(address, &self.hello(), limit).await.map_err(|error| error.to_string())?;
        self.learn(address, &welcome)?;
        Ok((connection, welcome.leader.map(|(_, address)| address)))
    }

    fn learn(&self, address: &str, welcome: &Welcome) -> Result<(), String> {
        let mut told = self.told();
        match (told.cluster, welcome.cluster) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Err(format!(
                    "{address} belongs to cluster {theirs:032x}, the endpoints before it to {ours:032x}; \
                     name nodes of one cluster only"
                ));
            }
            (None, Some(theirs)) => told.cluster = Some(theirs),
            (Some(_), Some(_)) | (_, None) => {}
        }
        told.clock.observe(Stamp(welcome.cluster_time_ns), Instant::now());
        Ok(())
    }

    /// Cluster time now, as far as it is known; there is one once a connection was opened.
    pub(crate) fn cluster_time(&self) -> Stamp {
        self.told().clock.now(Instant::now()).unwrap_or_default()
    }

    /// Leaves all connections to those who use them: the next requests shake hands again, and learn the time anew.
    /// `from_scratch`: also if it is earlier than was thought.
    pub(crate) fn renew(&self, from_scratch: bool) {
        self.servers().clear();
        if from_scratch {
            self.told().clock.forget();
        }
    }

    fn server(&self, address: &str) -> Result<Arc<Server>, String> {
        let mut servers = self.servers();
        if let Some(server) = servers.get(address) {
            return Ok(Arc::clone(server));
        }
        if servers.len() >= MAX_SERVERS {
            return Err(format!("{address} is one server too many; a client keeps connections to {MAX_SERVERS}"));
        }
        Ok(Arc::clone(servers.entry(address.to_owned()).or_default()))
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Server>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
