//! Connections that others open to this node: accepts them, and turns what comes in into events for the loop.
//!
//! Every connection is two tasks, a reader and (for clients) a writer, on the loop's own thread. Peers have an accept
//! budget of their own: however many clients there are, a peer gets in (contract, section 3.3).

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use raft_core::{DiskId, Incarnation, NodeId};
use raft_net::{AcceptLimits, Connection, Frame, FrameCodec, HandshakeRefusal, Hello, PeerHello, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::admission::{Serves, View};
use crate::config::Limits;
use crate::peer_message::PeerMessage;
use crate::replica::PeerIdentity;
use crate::runtime::{ClientEvent, Urgent};
use crate::service::ConnectionId;

/// Peers connect with two links each; a few more for those that reconnect before the old connection is noticed dead.
const MAX_PEER_CONNECTIONS: usize = 64;
/// Connections in the middle of their handshake.
const MAX_HANDSHAKES: usize = 512;
/// The bytes of one frame from a peer.
pub(crate) const MAX_PEER_FRAME_BYTES: usize = 8 << 20;
/// How many bytes are read at once.
const READ_STEP_BYTES: usize = 64 << 10;

/// What all incoming connections share.
#[derive(Clone)]
pub(crate) struct Doorway {
    pub(crate) view: Arc<Mutex<View>>,
    pub(crate) limits: Limits,
    pub(crate) urgent: mpsc::Sender<Urgent>,
    pub(crate) clients: mpsc::Sender<ClientEvent>,
    pub(crate) budgets: Arc<Budgets>,
}

/// How many connections of each kind there are.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    handshakes: AtomicUsize,
    clients: AtomicUsize,
    peers: AtomicUsize,
    last_connection: AtomicUsize,
}

/// A place in a budget, given back on drop.
struct Place {
    budgets: Arc<Budgets>,
    of: fn(&Budgets) -> &AtomicUsize,
}

impl Place {
    fn take(budgets: &Arc<Budgets>, of: fn(&Budgets) -> &AtomicUsize, limit: usize) -> Option<Self> {
        // Only tasks of one thread count here; the atomics are for `Sync`, not for races.
        if of(budgets).fetch_add(1, Ordering::Relaxed) < limit {
            return Some(Self { budgets: Arc::clone(budgets), of });
        }
        of(budgets).fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.of)(&self.budgets).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections until the loop ends.
pub(crate) async fn accept_all(listener: TcpListener, serves: Serves, doorway: Doorway) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let Some(place) = Place::take(&doorway.budgets, |budgets| &budgets.handshakes, MAX_HANDSHAKES) else {
                    debug!(%from, "closed a connection: {MAX_HANDSHAKES} others are in their handshake");
                    continue;
                };
                let doorway = doorway.clone();
                tokio::spawn(async move { greet(stream, from, serves, doorway, place).await });
            }
            Err(error) => {
                // Out of file descriptors, mostly. Those who wait will be accepted once some are free.
                warn!("cannot accept a connection: {error}; raise the limit on open files if this goes on");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Does the handshake, then serves the connection as what it turned out to be.
async fn greet(stream: TcpStream, from: std::net::SocketAddr, serves: Serves, doorway: Doorway, handshake: Place) {
    let limits = AcceptLimits {
        handshake_timeout: doorway.limits.handshake_timeout,
        max_frame_bytes: doorway.limits.max_client_frame_bytes.max(MAX_PEER_FRAME_BYTES),
    };
    let mut place = None;
    let decide = |hello: &Hello| {
        let view = doorway.view.lock().unwrap_or_else(PoisonError::into_inner);
        let welcome = view.admit(hello, serves)?;
        place = Some(match &hello.role {
            Role::Client => {
                let limit = doorway.limits.max_clients;
                Place::take(&doorway.budgets, |budgets| &budgets.clients, limit)
                    .ok_or(HandshakeRefusal::TooManyConnections { limit: limit as u64 })?
            }
            Role::Peer(_) => Place::take(&doorway.budgets, |budgets| &budgets.peers, MAX_PEER_CONNECTIONS)
                .ok_or(HandshakeRefusal::TooManyConnections { limit: MAX_PEER_CONNECTIONS as u64 })?,
        });
        Ok(welcome)
    };
    let accepted = raft_net::accept(stream, &limits, decide).await;
    drop(handshake);
    match accepted {
        Ok((connection, hello)) => {
            match hello.role {
                Role::Client => serve_client(connection, &doorway).await,
                Role::Peer(peer) => serve_peer(connection, &peer, &doorway).await,
            }
            drop(place);
        }
        Err(error) => debug!(%from, "closed a connection: {error}"),
    }
}

// --- peers -------------------------------------------------------------------------------------------------------

async fn serve_peer(connection: Connection, hello: &PeerHello, doorway: &Doorway) {
    let Some(id) = NodeId::new(hello.id) else { return };
    let from = PeerIdentity { id, disk: DiskId(hello.disk), incarnation: Incarnation(hello.incarnation) };
    let link = hello.link;
    let met = Urgent::PeerMet { from, client_address: hello.client_address.clone() };
    if doorway.urgent.send(met).await.is_err() {
        return;
    }
    let (mut reader, _writer) = Reader::split(connection, MAX_PEER_FRAME_BYTES);
    while let Some(frame) = reader.next_frame(&id).await {
        match PeerMessage::from_frame(frame) {
            Ok(message) => {
                if doorway.urgent.send(Urgent::Peer { from, message }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!(peer = %id, "closed the {link:?} link from {id}: {error}; is it of another version?");
                break;
            }
        }
    }
    // What it had not sent yet is lost, the replies to us among it.
    let _ = doorway.urgent.send(Urgent::LostMessages { peer: id, link }).await;
}

// --- clients -----------------------------------------------------------------------------------------------------

/// The way back to one client.
#[derive(Debug)]
pub(crate) struct ClientHandle {
    frames: mpsc::Sender<Frame>,
    unread_bytes: Arc<AtomicUsize>,
    limits: Limits,
    in_flight: Arc<Semaphore>,
    /// Ends the connection at once when the handle is dropped with replies still unread.
    closing: CancellationToken,
}

impl ClientHandle {
    /// Queues a reply; `Err` says why the connection must be closed instead.
    pub(crate) fn reply(&self, frame: Frame) -> Result<(), &'static str> {
        self.in_flight.add_permits(1);
        let size_bytes = frame.header.len() + frame.payload.len();
        let unread_bytes = self.unread_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        if unread_bytes > self.limits.max_unread_reply_bytes {
            return Err("it does not read its replies");
        }
        self.frames.try_send(frame).map_err(|_| "it is gone")
    }

    /// Whether every request has its reply.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.available_permits() == self.limits.max_requests_in_flight
    }

    /// Ends the connection, whatever is unread.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }
}

async fn serve_client(connection: Connection, doorway: &Doorway) {
    let id = ConnectionId(doorway.budgets.last_connection.fetch_add(1, Ordering::Relaxed) as u64);
    let limits = doorway.limits;
    let in_flight = Arc::new(Semaphore::new(limits.max_requests_in_flight));
    let unread_bytes = Arc::new(AtomicUsize::new(0));
    let closing = CancellationToken::new();
    let (frames, queued) = mpsc::channel(limits.max_requests_in_flight);
    let handle = ClientHandle {
        frames,
        unread_bytes: Arc::clone(&unread_bytes),
        limits,
        in_flight: Arc::clone(&in_flight),
        closing: closing.clone(),
    };
    if doorway.clients.send(ClientEvent::Met { connection: id, handle }).await.is_err() {
        return;
    }
    let (mut reader, writer) = Reader::split(connection, limits.max_client_frame_bytes);
    let mut write = pin!(write_replies(writer, queued, unread_bytes));
    let read = read_requests(&mut reader, id, &in_flight, doorway);
    let left = ClientEvent::Left { connection: id };
    tokio::select! {
        () = read => {
            // It may have closed its half only, and still want its answers; the loop drops the handle after the last.
            let _ = doorway.clients.send(left).await;
            tokio::select! { () = &mut write => {} () = closing.cancelled() => {} }
        }
        () = &mut write => { let _ = doorway.clients.send(left).await; }
        () = closing.cancelled() => {}
    }
}

/// Passes requests on to the loop, as many at a time as may be under way.
async fn read_requests(reader: &mut Reader, id: ConnectionId, in_flight: &Semaphore, doorway: &Doorway) {
    while let Some(frame) = reader.next_frame(&"a client").await {
        let Ok(permit) = in_flight.acquire().await else { return };
        permit.forget();
        if doorway.clients.send(ClientEvent::Frame { connection: id, frame }).await.is_err() {
            return;
        }
    }
}

/// Writes replies as they come, all that are waiting in one system call.
async fn write_replies(mut writer: OwnedWriteHalf, mut queued: mpsc::Receiver<Frame>, unread_bytes: Arc<AtomicUsize>) {
    let mut codec = FrameCodec::new(usize::MAX);
    let mut buffer = BytesMut::new();
    while let Some(frame) = queued.recv().await {
        let mut next = Some(frame);
        let mut size_bytes = 0;
        while let Some(frame) = next {
            size_bytes += frame.header.len() + frame.payload.len();
            if codec.encode(frame, &mut buffer).is_err() {
                return;
            }
            next = if buffer.len() < READ_STEP_BYTES { queued.try_recv().ok() } else { None };
        }
        let written = writer.write_all(&buffer).await;
        unread_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
        buffer.clear();
        if written.is_err() {
            return;
        }
    }
}

// --- reading -----------------------------------------------------------------------------------------------------

/// The reading half of a connection.
struct Reader {
    half: OwnedReadHalf,
    codec: FrameCodec,
    buffer: BytesMut,
}

impl Reader {
    /// Splits a connection after its handshake, keeping what was read beyond it.
    fn split(connection: Connection, max_frame_bytes: usize) -> (Self, OwnedWriteHalf) {
        let parts = connection.into_parts();
        let (half, writer) = parts.io.into_split();
        (Self { half, codec: FrameCodec::new(max_frame_bytes), buffer: parts.read_buf }, writer)
    }

    /// The next frame; `None` when the connection is closed, by the other side or because it sent what is no frame.
    async fn next_frame(&mut self, from: &impl std::fmt::Display) -> Option<Frame> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => {
                    info!("closed a connection of {from}: {error}");
                    return None;
                }
            }
            self.buffer.reserve(READ_STEP_BYTES.min(self.buffer.capacity().max(4096)));
            match self.read_more().await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    debug!("lost a connection of {from}: {error}");
                    return None;
                }
            }
        }
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        self.half.read_buf(&mut self.buffer).await
    }
}
