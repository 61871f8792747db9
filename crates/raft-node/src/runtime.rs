//! The one loop (section 3.2 of the design): owns protocol, sockets and node logic on one thread.
//!
//! It waits for something to happen, takes everything that has happened by then, and flushes once: so batches form
//! from what is waiting. Peers and the disk are taken before clients, so that a flood of requests delays no heartbeat.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use raft_core::{Effect, Instant, NodeId};
use raft_net::peer::{LinkEvent, LinkSender};
use raft_net::{Frame, FrameKind, LinkKind, Welcome};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admission::View;
use crate::disk::DiskJob;
use crate::disk_thread::Report;
use crate::error::NodeError;
use crate::event::NodeEvent;
use crate::incoming::ClientHandle;
use crate::machine::StateMachine;
use crate::outgoing;
use crate::peer_message::PeerMessage;
use crate::replica::{MemberRequest, PeerIdentity, Status};
use crate::server::{Orders, Server};
use crate::service::{ConnectionId, Replies, Service, Waiter};
use crate::snapshot_thread::SnapshotReport;
use crate::snapshots::SnapshotJob;

/// How many events are taken before the loop flushes.
const MAX_EVENTS_PER_TURN: usize = 1_024;
/// How long a stopping node waits for requests under way.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What peers have to say.
#[derive(Debug)]
pub(crate) enum Urgent {
    /// A peer has connected.
    PeerMet { from: PeerIdentity, client_address: String },
    /// A message came.
    Peer { from: PeerIdentity, message: PeerMessage },
    /// A link from a peer broke.
    PeerLinkLost { peer: NodeId, link: LinkKind },
    /// Somebody is at an address that this newcomer was given.
    SeedFound { address: String, welcome: Welcome },
}

/// What clients on the network have to say.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    Met {
        connection: ConnectionId,
        handle: ClientHandle,
    },
    Frame {
        connection: ConnectionId,
        frame: Frame,
    },
    /// So many pushed frames, of so many bytes, were written to it.
    Pushed {
        connection: ConnectionId,
        frames: usize,
        size_bytes: usize,
    },
    Left {
        connection: ConnectionId,
    },
}

/// What comes through a [`crate::Handle`].
pub(crate) enum OwnRequest<M, W> {
    Propose { waiter: Waiter<M, W>, command: Bytes, timeout: Duration },
    Read { waiter: Waiter<M, W>, timeout: Duration },
    Transfer { waiter: Waiter<M, W>, to: Option<NodeId>, timeout: Duration },
    Change { waiter: Waiter<M, W>, request: MemberRequest, timeout: Duration },
    Status(oneshot::Sender<Status>),
    Stop,
}

/// The queues into the loop. All are bounded: whoever fills them waits.
pub(crate) struct Inbox<M, W> {
    pub(crate) disk: mpsc::Receiver<Report>,
    pub(crate) snapshots: mpsc::Receiver<SnapshotReport<M>>,
    pub(crate) urgent: mpsc::Receiver<Urgent>,
    pub(crate) links: mpsc::Receiver<LinkEvent>,
    pub(crate) clients: mpsc::Receiver<ClientEvent>,
    pub(crate) own: mpsc::Receiver<OwnRequest<M, W>>,
}

/// The links to one peer.
pub(crate) struct PeerLinks {
    /// Where that is reached, as the server said; `--dial` may lead elsewhere.
    pub(crate) address: String,
    pub(crate) control: LinkSender,
    pub(crate) bulk: LinkSender,
}

/// The loop and what it owns.
pub(crate) struct Runtime<M: StateMachine, S: Service<M>> {
    pub(crate) server: Server<M, S>,
    pub(crate) origin: std::time::Instant,
    pub(crate) links: BTreeMap<NodeId, PeerLinks>,
    /// Where to reach a peer in place of its own address.
    pub(crate) dial: BTreeMap<NodeId, String>,
    /// Where links tell how they fare.
    pub(crate) link_events: mpsc::Sender<LinkEvent>,
    /// Looks for the members, as long as this is a newcomer that knows none.
    pub(crate) search: Option<AbortHandle>,
    pub(crate) clients: BTreeMap<ConnectionId, Client>,
    pub(crate) jobs: SyncSender<DiskJob>,
    pub(crate) snapshot_jobs: SyncSender<SnapshotJob<M>>,
    pub(crate) view: Arc<Mutex<View>>,
    pub(crate) events: broadcast::Sender<NodeEvent>,
    /// Cancelled when nobody is to be accepted any more.
    pub(crate) closing: CancellationToken,
    /// The tasks that serve clients.
    pub(crate) serving: TaskTracker,
    /// Cancelled when the [`crate::Node`] is dropped.
    pub(crate) dropped: CancellationToken,
    /// Since when it has been stopping.
    pub(crate) stopping: Option<Instant>,
}

/// When the loop is woken if nothing happens before.
struct Alarm {
    origin: std::time::Instant,
    at: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    fn new(origin: std::time::Instant) -> Self {
        Self { origin, at: Instant(0), sleep: Box::pin(tokio::time::sleep_until(origin.into())) }
    }

    /// Rings at `at`, or before. Deadlines mostly move back, at each heartbeat and each turn, and each new timer costs a
    /// system call: so one that is early enough stays, rings for nothing once in a while, and is set again then.
    fn set(&mut self, at: Instant) {
        if at < self.at || self.sleep.is_elapsed() {
            self.at = at;
            self.sleep.as_mut().reset((self.origin + Duration::from_nanos(at.0)).into());
        }
    }
}

/// A client on the network.
pub(crate) struct Client {
    handle: ClientHandle,
    /// How many of its requests have no reply yet.
    under_way: usize,
    /// It has closed its half: the handle goes with the last reply.
    has_left: bool,
}

impl<M: StateMachine, S: Service<M>> Runtime<M, S> {
    /// Runs until it is stopped or the disk fails.
    pub(crate) async fn run(mut self, mut inbox: Inbox<M, S::Waiter>) -> Result<(), NodeError> {
        let mut alarm = Alarm::new(self.origin);
        self.flush();
        loop {
            self.wait_and_take(&mut inbox, &mut alarm).await?;
            self.take_waiting(&mut inbox)?;
            let now = self.now();
            self.server.tick(now, &mut draw);
            self.flush();
            if self.is_drained() {
                self.finish(inbox).await;
                return Ok(());
            }
            // Lets the connections write and read: without it a loop that always finds something to do would fill
            // their queues and never see them emptied.
            tokio::task::yield_now().await;
        }
    }

    /// Takes what has happened by now, up to a limit.
    fn take_waiting(&mut self, inbox: &mut Inbox<M, S::Waiter>) -> Result<(), NodeError> {
        for _ in 0..MAX_EVENTS_PER_TURN {
            if let Ok(report) = inbox.disk.try_recv() {
                self.take_report(Some(report))?;
            } else if let Ok(event) = inbox.urgent.try_recv() {
                self.take_urgent(event);
            } else if let Ok(report) = inbox.snapshots.try_recv() {
                self.take_snapshot_report(Some(report))?;
            } else if let Ok(event) = inbox.links.try_recv() {
                self.take_link(event);
            } else if let Ok(request) = inbox.own.try_recv() {
                self.take_own(request);
            } else if let Ok(event) = inbox.clients.try_recv() {
                self.take_client(event);
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Waits for something to happen, and takes it.
    async fn wait_and_take(&mut self, inbox: &mut Inbox<M, S::Waiter>, alarm: &mut Alarm) -> Result<(), NodeError> {
        alarm.set(self.next_wakeup());
        tokio::select! {
            biased;
            report = inbox.disk.recv() => self.take_report(report)?,
            Some(event) = inbox.urgent.recv() => self.take_urgent(event),
            report = inbox.snapshots.recv() => self.take_snapshot_report(report)?,
            Some(event) = inbox.links.recv() => self.take_link(event),
            Some(request) = inbox.own.recv() => self.take_own(request),
            Some(event) = inbox.clients.recv() => self.take_client(event),
            () = self.dropped.cancelled(), if self.stopping.is_none() => self.begin_stop(),
            () = alarm.sleep.as_mut() => {}
        }
        Ok(())
    }

    /// The end of a node that was told to stop: everybody has an answer, and gets it.
    async fn finish(mut self, mut inbox: Inbox<M, S::Waiter>) {
        inbox.own.close();
        while let Ok(request) = inbox.own.try_recv() {
            self.take_own(request);
        }
        self.server.abandon_requests();
        self.flush();
        // Dropped, each lets its task write what waits and end; what they still read goes nowhere.
        drop((std::mem::take(&mut self.clients), std::mem::take(&mut self.links), inbox));
        tokio::task::yield_now().await;
        self.serving.close();
        if tokio::time::timeout(DRAIN_LIMIT, self.serving.wait()).await.is_err() {
            info!("{} clients have not read their last replies", self.serving.len());
        }
    }

    fn begin_stop(&mut self) {
        if self.stopping.is_none() {
            info!("stopping: answering {} requests under way", self.server.replica().requests_under_way());
            self.stopping = Some(self.now());
            self.server.stop(self.now());
            self.closing.cancel();
        }
    }

    fn next_wakeup(&self) -> Instant {
        let wakeup = self.server.next_wakeup();
        self.stopping.map_or(wakeup, |since| wakeup.min(since.after(DRAIN_LIMIT)))
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    // --- what comes in -------------------------------------------------------------------------------------------

    fn take_report(&mut self, report: Option<Report>) -> Result<(), NodeError> {
        match report {
            Some(Ok(done)) => self.server.handle_disk(self.now(), done),
            // From here on nothing is acknowledged: what is under way is dropped with the loop (rule 1).
            Some(Err(error)) => return Err(error.into()),
            None => return Err(NodeError::Panicked),
        }
        Ok(())
    }

    fn take_snapshot_report(&mut self, report: Option<SnapshotReport<M>>) -> Result<(), NodeError> {
        match report {
            Some(Ok(done)) => self.server.handle_snapshot(self.now(), done),
            Some(Err(failure)) => return Err(failure.into()),
            None => return Err(NodeError::Panicked),
        }
        Ok(())
    }

    fn take_urgent(&mut self, event: Urgent) {
        match event {
            Urgent::PeerMet { from, client_address } => {
                self.server.handle_peer_met(from.id, client_address);
                // It is there: our links to it need not wait out their pauses. A vote could be waiting for one.
                if let Some(links) = self.links.get(&from.id) {
                    links.control.hurry();
                    links.bulk.hurry();
                }
            }
            Urgent::Peer { from, message } => self.server.handle_peer(self.now(), from, message, &mut draw),
            Urgent::PeerLinkLost { peer, link } => self.server.handle_peer_link_lost(peer, link),
            Urgent::SeedFound { address, welcome } => self.server.handle_seed(address, &welcome),
        }
    }

    fn take_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { peer, link, welcome } => {
                info!(peer, ?link, "connected");
                if let Some(peer) = NodeId::new(peer) {
                    self.server.handle_link_up(peer, link, welcome);
                }
            }
            LinkEvent::Down { peer, link, reason } => {
                info!(peer, ?link, "not connected: {reason}");
                if let Some(peer) = NodeId::new(peer) {
                    self.server.handle_link_lost(self.now(), peer, link);
                }
            }
        }
    }

    fn take_own(&mut self, request: OwnRequest<M, S::Waiter>) {
        let now = self.now();
        match request {
            OwnRequest::Propose { waiter, command, timeout } => {
                self.server.propose(waiter, command, now.after(timeout));
            }
            OwnRequest::Read { waiter, timeout } => self.server.read(waiter, now.after(timeout)),
            OwnRequest::Transfer { waiter, to, timeout } => self.server.transfer(now, waiter, to, now.after(timeout)),
            OwnRequest::Change { waiter, request, timeout } => {
                self.server.change_membership(now, waiter, request, now.after(timeout));
            }
            // Whoever asked may be gone.
            OwnRequest::Status(answer) => drop(answer.send(self.server.replica().status())),
            OwnRequest::Stop => self.begin_stop(),
        }
    }

    fn take_client(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Met { connection, handle } => {
                self.clients.insert(connection, Client { handle, under_way: 0, has_left: false });
            }
            ClientEvent::Frame { connection, frame } => {
                // A connection that was closed here may have sent more before it noticed.
                let Some(client) = self.clients.get_mut(&connection) else { return };
                client.under_way += 1;
                let now = self.now();
                self.server.handle_frame(now, connection, frame);
            }
            ClientEvent::Pushed { connection, frames, size_bytes } => {
                self.server.handle_pushed(connection, frames, size_bytes);
            }
            ClientEvent::Left { connection } => {
                self.server.handle_left(connection);
                if let Some(client) = self.clients.get_mut(&connection) {
                    client.has_left = true;
                    self.let_go_if_done(connection);
                }
            }
        }
    }

    /// Lets go of a client that has left, once it has all its replies.
    fn let_go_if_done(&mut self, connection: ConnectionId) {
        if self.clients.get(&connection).is_some_and(|client| client.has_left && client.under_way == 0) {
            self.clients.remove(&connection);
        }
    }

    // --- what goes out -------------------------------------------------------------------------------------------

    /// Carries out what there is to do, until nothing is left. Messages go first: they travel while the disk works
    /// (§10.2.1).
    fn flush(&mut self) {
        loop {
            let orders = self.server.flush(self.now());
            if orders.is_empty() {
                break;
            }
            let Orders { peers, messages, jobs, snapshot_jobs, replies, events } = orders;
            if let Some(peers) = peers {
                self.link_to(peers);
            }
            for (to, message) in messages {
                self.send(to, &message);
            }
            for job in jobs {
                self.submit(job);
            }
            for job in snapshot_jobs {
                self.submit_snapshot_job(job);
            }
            self.send_replies(replies);
            for event in events {
                self.announce(event);
            }
        }
        self.renew_view();
        if !self.server.seeks_members()
            && let Some(search) = self.search.take()
        {
            search.abort();
        }
    }

    /// Has links to these and nobody else.
    fn link_to(&mut self, peers: BTreeMap<NodeId, String>) {
        let is_kept = |id: &NodeId, links: &PeerLinks| peers.get(id) == Some(&links.address);
        let closed: Vec<NodeId> =
            self.links.extract_if(.., |id, links| !is_kept(id, links)).map(|(id, _)| id).collect();
        for peer in closed {
            // What was on its way there is lost.
            for link in [LinkKind::Control, LinkKind::Bulk] {
                self.server.handle_link_lost(self.now(), peer, link);
            }
        }
        for (peer, address) in peers {
            if !self.links.contains_key(&peer) {
                let dialled = self.dial.get(&peer).unwrap_or(&address);
                let (control, bulk) = outgoing::open_links(peer, dialled, &self.view, &self.link_events);
                self.links.insert(peer, PeerLinks { address, control, bulk });
            }
        }
    }

    fn send(&mut self, to: NodeId, message: &PeerMessage) {
        let Some(links) = self.links.get(&to) else { return };
        let sender = match message.link() {
            LinkKind::Control => &links.control,
            LinkKind::Bulk => &links.bulk,
        };
        if let Err(why) = sender.try_send(message.to_frame()) {
            self.server.handle_unsent(self.now(), to, message, why);
        }
    }

    fn submit(&mut self, job: DiskJob) {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                warn!("the disk is behind by {} writes; waiting for it", crate::disk_thread::MAX_WAITING_JOBS);
                // A failed disk drops its end, and its reports say so.
                let _ = self.jobs.send(job);
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// There are never more jobs than the queue has room for: the machine waits for its pieces to be written, and of a
    /// peer one chunk is stored or read at a time. A worker that has ended says so in its reports.
    fn submit_snapshot_job(&mut self, job: SnapshotJob<M>) {
        if let Err(TrySendError::Full(job)) = self.snapshot_jobs.try_send(job) {
            let _ = self.snapshot_jobs.send(job);
        }
    }

    fn send_replies(&mut self, replies: Replies) {
        for (connection, frame) in replies.frames {
            // The client may be gone.
            let Some(client) = self.clients.get_mut(&connection) else { continue };
            if frame.kind != FrameKind::Push {
                client.under_way = client.under_way.saturating_sub(1);
            }
            match client.handle.reply(frame) {
                Ok(()) => self.let_go_if_done(connection),
                Err(reason) => self.close_client(connection, reason),
            }
        }
        for (connection, reason) in replies.closed {
            self.close_client(connection, &reason);
        }
    }

    fn close_client(&mut self, connection: ConnectionId, reason: &str) {
        if let Some(client) = self.clients.remove(&connection) {
            info!("closed a client's connection: {reason}");
            client.handle.close();
            self.server.handle_left(connection);
        }
    }

    /// One line for the operator, and a copy for whoever listens.
    fn announce(&self, event: NodeEvent) {
        match &event {
            NodeEvent::Protocol { term, effect: Effect::Misbehaved { .. } } => warn!(term = term.0, "{event}"),
            NodeEvent::Protocol { term, .. } => info!(term = term.0, "{event}"),
            NodeEvent::ListIgnored { .. }
            | NodeEvent::NotAdmitted { .. }
            | NodeEvent::Removed
            | NodeEvent::CannotForm { .. }
            | NodeEvent::ForeignDisk { .. }
            | NodeEvent::DiskFull
            | NodeEvent::SnapshotNotTaken { .. }
            | NodeEvent::SnapshotNotReceived { .. }
            | NodeEvent::SnapshotNotRead { .. } => warn!("{event}"),
            NodeEvent::WaitsForMembers { .. }
            | NodeEvent::Formed { .. }
            | NodeEvent::AsksToJoin { .. }
            | NodeEvent::SnapshotTaken { .. }
            | NodeEvent::DiskHasSpace => info!("{event}"),
        }
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Lets handshakes know what has changed.
    fn renew_view(&self) {
        self.server.renew_view(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn is_drained(&self) -> bool {
        self.stopping.is_some_and(|since| self.server.replica().is_drained() || self.now() >= since.after(DRAIN_LIMIT))
    }
}

/// A random number from the operating system.
pub(crate) fn draw() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers once it has booted");
    u128::from_le_bytes(bytes)
}
