//! A running node: starts its threads, and is spoken to through a [`Handle`].

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use raft_core::NodeId;
use raft_storage::FsDisk;
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::admission::Serves;
use crate::answer::{Failure, Leadership, Members};
use crate::config::NodeConfig;
use crate::disk_thread;
use crate::error::{NodeError, StartError};
use crate::event::NodeEvent;
use crate::incoming::{Doorway, PeerDoors, accept_all};
use crate::machine::StateMachine;
use crate::outgoing;
use crate::replica::{MemberRequest, Status};
use crate::runtime::{Inbox, OwnRequest, Runtime, Urgent, draw};
use crate::server::{Randomness, RecoveredServer, Server};
use crate::service::{NoClients, Service, Waiter};
use crate::snapshot_thread;

/// How many events of each kind wait for the loop at most.
const INBOX_EVENTS: usize = 4_096;
/// How many events a slow listener may be behind before it misses some.
const EVENTS_KEPT: usize = 256;

/// A node in this process. Dropping it stops the node as [`Node::shutdown`] does, but does not wait for that.
#[derive(Debug)]
pub struct Node<M: StateMachine, S: Service<M> = NoClients> {
    handle: Handle<M, S>,
    address: SocketAddr,
    ended: oneshot::Receiver<Result<(), NodeError>>,
    _stop_on_drop: DropGuard,
}

/// Speaks with a node. Cheap to clone.
#[derive(Debug)]
pub struct Handle<M: StateMachine, S: Service<M> = NoClients> {
    requests: mpsc::Sender<OwnRequest<M, S::Waiter>>,
    /// The loop has the strong one: when it ends, so do the events.
    events: broadcast::WeakSender<NodeEvent>,
}

impl<M: StateMachine, S: Service<M>> Clone for Handle<M, S> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone(), events: self.events.clone() }
    }
}

impl<M: StateMachine> Node<M> {
    /// Starts a node that has no clients over the network: it is used through its [`Handle`] alone.
    ///
    /// # Errors
    /// If its data directory, its addresses or its settings are unusable.
    pub fn start(config: NodeConfig, machine: M) -> Result<Self, StartError> {
        Self::start_with_service(config, machine, NoClients)
    }
}

impl<M: StateMachine, S: Service<M>> Node<M, S> {
    /// Starts a node whose clients speak with `service`. When this returns, the node has recovered its state from the
    /// disk and listens.
    ///
    /// # Errors
    /// If its data directory, its addresses or its settings are unusable.
    pub fn start_with_service(config: NodeConfig, machine: M, service: S) -> Result<Self, StartError> {
        let origin = std::time::Instant::now();
        let disk = FsDisk::open(&config.data_dir).map_err(StartError::from)?;
        let randomness = Randomness { seed: draw_u64(), ids: Box::new(draw) };
        let recovered = Server::recover(&config, disk, randomness, machine, service)?;
        let RecoveredServer { storage, snapshots, mut server, .. } = recovered;
        let listeners = Listeners::bind(&config)?;
        let address = listeners.main.local_addr().map_err(|source| system("an address", source))?;
        let client_address = client_address(&config, address);
        server.handle_peer_met(config.id, client_address.clone());
        let view = Arc::new(Mutex::new(server.view(storage.identity().disk, client_address)));
        server.note_own_address(peer_address(&config, &listeners)?);
        let disk = disk_thread::start(storage).map_err(|source| system("the disk's thread", source))?;

        let snapshots = snapshot_thread::start(snapshots).map_err(|source| system("the snapshots' thread", source))?;

        let (urgent, urgent_inbox) = mpsc::channel(INBOX_EVENTS);
        let seeds = Seeds { addresses: config.join.clone(), found: urgent.clone() };
        let (link_events, links_inbox) = mpsc::channel(INBOX_EVENTS);
        let (clients, clients_inbox) = mpsc::channel(INBOX_EVENTS);
        let (requests, own_inbox) = mpsc::channel(INBOX_EVENTS);
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let handle = Handle { requests, events: events.downgrade() };
        let (closing, serving, dropped) = (CancellationToken::new(), TaskTracker::new(), CancellationToken::new());
        let doorway = Doorway {
            view: Arc::clone(&view),
            limits: config.limits,
            urgent,
            clients,
            counts: Arc::default(),
            peer_doors: PeerDoors::default(),
            closing: closing.clone(),
            serving: serving.clone(),
        };
        let inbox = Inbox {
            disk: disk.reports,
            snapshots: snapshots.reports,
            urgent: urgent_inbox,
            links: links_inbox,
            clients: clients_inbox,
            own: own_inbox,
        };
        let runtime = Runtime {
            server,
            origin,
            links: BTreeMap::new(),
            dial: config.dial.clone(),
            link_events,
            search: None,
            clients: BTreeMap::new(),
            jobs: disk.jobs,
            snapshot_jobs: snapshots.jobs,
            view,
            events,
            closing,
            serving,
            dropped: dropped.clone(),
            stopping: None,
        };
        let parts = LoopParts { runtime, inbox, listeners, doorway, seeds };
        let ended = start_loop(config.id, parts, [disk.thread, snapshots.thread])?;
        Ok(Self { handle, address, ended, _stop_on_drop: dropped.drop_guard() })
    }

    /// Speaks with it.
    #[must_use]
    pub fn handle(&self) -> Handle<M, S> {
        self.handle.clone()
    }

    /// Where it listens for clients.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped: because it was told to, or because its disk failed.
    ///
    /// # Errors
    /// Why it stopped by itself.
    pub async fn ended(&mut self) -> Result<(), NodeError> {
        (&mut self.ended).await.unwrap_or(Err(NodeError::Panicked))
    }

    /// Stops it and waits: no new requests, those under way are answered (for a second at most), the disk is synced.
    ///
    /// # Errors
    /// Why it stopped by itself before.
    pub async fn shutdown(mut self) -> Result<(), NodeError> {
        self.handle.stop().await;
        self.ended().await
    }
}

impl<M: StateMachine, S: Service<M>> Handle<M, S> {
    /// Has `command` committed and applied, whichever node leads, and returns the state machine's reply.
    ///
    /// # Errors
    /// If that did not happen within `timeout`; [`Failure::maybe_applied`] tells whether it may have, or may yet.
    pub async fn propose(&self, command: Bytes, timeout: Duration) -> Result<Bytes, Failure> {
        let (sender, receiver) = oneshot::channel();
        let request = OwnRequest::Propose { waiter: Waiter::Propose(sender), command, timeout };
        self.requests.send(request).await.map_err(|_| Failure::Stopping)?;
        receiver.await.unwrap_or(Err(Failure::LeaderChanged))
    }

    /// Reads the state machine, linearizably (§6.4): it has applied all that was acknowledged, by any node, before
    /// this call. `read` runs on the node's own thread and must be quick.
    ///
    /// # Errors
    /// If no majority confirmed the read within `timeout`.
    pub async fn read<R: Send + 'static>(
        &self,
        timeout: Duration,
        read: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter::Read(Box::new(move |machine: Result<&M, Failure>| {
            // Whoever asked may have stopped waiting.
            let _ = sender.send(machine.map(read));
        }));
        self.requests.send(OwnRequest::Read { waiter, timeout }).await.map_err(|_| Failure::Stopping)?;
        receiver.await.unwrap_or(Err(Failure::Stopping))
    }

    /// Makes `to` leader, or, without a name, the follower that lacks least (§3.10), whichever node leads now; returns who
    /// leads then. Commands wait meanwhile, they are not refused.
    ///
    /// # Errors
    /// If that did not happen within `timeout`; [`Failure::maybe_applied`] tells whether it may have, or may yet.
    pub async fn transfer(&self, to: Option<NodeId>, timeout: Duration) -> Result<Leadership, Failure> {
        let (sender, receiver) = oneshot::channel();
        let request = OwnRequest::Transfer { waiter: Waiter::Transfer(sender), to, timeout };
        self.requests.send(request).await.map_err(|_| Failure::Stopping)?;
        receiver.await.unwrap_or(Err(Failure::LeaderChanged))
    }

    /// Has the membership changed (§4), and returns what it is then. Only the leader does that, which [`Handle::status`]
    /// names.
    ///
    /// # Errors
    /// If that did not happen within `timeout`; [`Failure::maybe_applied`] tells whether it may have, or may yet.
    pub async fn change_membership(&self, request: MemberRequest, timeout: Duration) -> Result<Members, Failure> {
        let (sender, receiver) = oneshot::channel();
        let request = OwnRequest::Change { waiter: Waiter::Change(sender), request, timeout };
        self.requests.send(request).await.map_err(|_| Failure::Stopping)?;
        receiver.await.unwrap_or(Err(Failure::LeaderChanged))
    }

    /// What the node knows of itself and the cluster; `None` if it has stopped.
    pub async fn status(&self) -> Option<Status> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(OwnRequest::Status(sender)).await.ok()?;
        receiver.await.ok()
    }

    /// Waits until this node knows a leader, itself perhaps, and names it; `None` if the node has stopped. The leader may
    /// change at any time after, so requests can fail for the lack of one all the same.
    pub async fn wait_for_leader(&self) -> Option<NodeId> {
        let mut events = self.events();
        loop {
            let status = self.status().await?;
            if status.leader.is_some() {
                return status.leader;
            }
            match events.recv().await {
                // One that has missed some looks again too.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// What happens on the node from now on: elections, step-downs, refusals, each with its reason. Ends with the node;
    /// a listener that is more than 256 events behind misses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<NodeEvent> {
        match self.events.upgrade() {
            Some(events) => events.subscribe(),
            // One that has ended already.
            None => broadcast::channel(1).1,
        }
    }

    /// Tells the node to stop, without waiting for it.
    pub async fn stop(&self) {
        // It may have stopped already.
        let _ = self.requests.send(OwnRequest::Stop).await;
    }
}

/// The sockets a node listens on.
struct Listeners {
    main: std::net::TcpListener,
    peers: Option<std::net::TcpListener>,
}

impl Listeners {
    fn bind(config: &NodeConfig) -> Result<Self, StartError> {
        let main = bind(&config.listen)?;
        let peers = config.peer_listen.as_deref().map(bind).transpose()?;
        Ok(Self { main, peers })
    }

    /// Accepts connections from now on. Must be called within the loop's runtime.
    fn accept_for(self, doorway: &Doorway, serves_clients: bool) -> Result<(), StartError> {
        let accept = |listener, serves| {
            let listener = TcpListener::from_std(listener).map_err(|source| system("a socket", source))?;
            tokio::spawn(accept_all(listener, serves, doorway.clone()));
            Ok(())
        };
        accept(self.main, Serves { clients: serves_clients, peers: self.peers.is_none() })?;
        self.peers.map_or(Ok(()), |peers| accept(peers, Serves { clients: false, peers: true }))
    }
}

fn bind(address: &str) -> Result<std::net::TcpListener, StartError> {
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| StartError::Listen { address: address.to_owned(), source })
}

fn client_address(config: &NodeConfig, bound: SocketAddr) -> String {
    config.advertise.as_deref().map_or_else(|| bound.to_string(), |advertised| with_port(advertised, bound))
}

/// Where this node tells its peers that it is reached.
fn peer_address(config: &NodeConfig, listeners: &Listeners) -> Result<String, StartError> {
    let listener = listeners.peers.as_ref().unwrap_or(&listeners.main);
    let bound = listener.local_addr().map_err(|source| system("an address", source))?;
    Ok(with_port(config.peer_address(), bound))
}

/// An address whose port may be 0, for the one that the socket got.
fn with_port(address: &str, bound: SocketAddr) -> String {
    match address.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", bound.port()),
        None => address.to_owned(),
    }
}

/// Where a newcomer looks for its cluster, and whom it tells what it finds.
struct Seeds {
    addresses: Vec<String>,
    found: mpsc::Sender<Urgent>,
}

/// All that the node's thread owns.
struct LoopParts<M: StateMachine, S: Service<M>> {
    runtime: Runtime<M, S>,
    inbox: Inbox<M, S::Waiter>,
    listeners: Listeners,
    doorway: Doorway,
    seeds: Seeds,
}

/// Starts the node's thread and waits until it listens. The receiver hears how it ended.
fn start_loop<M: StateMachine, S: Service<M>>(
    id: NodeId,
    parts: LoopParts<M, S>,
    workers: [JoinHandle<()>; 2],
) -> Result<oneshot::Receiver<Result<(), NodeError>>, StartError> {
    let (started, has_started) = std_mpsc::sync_channel(1);
    let (end, ended) = oneshot::channel();
    let body = move || {
        // Every line logged on this thread names the node.
        let _span = tracing::info_span!("node", id = id.as_u64()).entered();
        let loop_ended = run_loop(parts, &started);
        // The loop has dropped its ends of the queues: the disk finishes what it has and marks the log's end.
        let workers_ended = workers.map(|worker| worker.join().map_err(|_| NodeError::Panicked));
        // Whoever started the node may not be waiting for its end.
        let _ = end.send(workers_ended.into_iter().fold(loop_ended, Result::and));
    };
    let thread = std::thread::Builder::new().name("raft-node".to_owned());
    thread.spawn(body).map_err(|source| system("the node's thread", source))?;
    match has_started.recv() {
        Ok(outcome) => outcome.map(|()| ended),
        Err(_) => Err(system("the node's thread", io::Error::other("it ended by a bug"))),
    }
}

/// The body of the node's thread. Says in `started` whether it listens.
fn run_loop<M: StateMachine, S: Service<M>>(
    parts: LoopParts<M, S>,
    started: &std_mpsc::SyncSender<Result<(), StartError>>,
) -> Result<(), NodeError> {
    // Whoever starts the node waits for this, so it hears it.
    let say = |outcome| drop(started.send(outcome));
    let executor = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(source) => {
            say(Err(system("the event loop", source)));
            return Ok(());
        }
    };
    let LoopParts { mut runtime, inbox, listeners, doorway, seeds } = parts;
    let ended = executor.block_on(async move {
        let serves_clients = runtime.server.serves_clients();
        if let Err(error) = listeners.accept_for(&doorway, serves_clients) {
            say(Err(error));
            return Ok(());
        }
        drop(doorway);
        if !seeds.addresses.is_empty() && runtime.server.seeks_members() {
            let view = Arc::clone(&runtime.view);
            let search = tokio::spawn(outgoing::find_members(seeds.addresses, view, seeds.found));
            runtime.search = Some(search.abort_handle());
        }
        say(Ok(()));
        // As a task, like all that speak with it: waking the future that the executor blocks on goes through the kernel.
        tokio::spawn(runtime.run(inbox)).await.map_err(|_| NodeError::Panicked)??;
        info!("stopped");
        Ok(())
    });
    // A name being looked up must not hold up the end.
    executor.shutdown_background();
    ended
}

fn system(what: &'static str, source: std::io::Error) -> StartError {
    StartError::System { what, source }
}

fn draw_u64() -> u64 {
    u64::try_from(draw() & u128::from(u64::MAX)).expect("masked to 64 bits")
}
