//! Connections that others open to this node: accepts them, does the handshake, and lets them be served.
//!
//! Every connection is one task on the loop's own thread. However many clients there are, a peer gets in (contract,
//! section 3.3): peers are not counted among clients, and handshakes that hang give way to newer ones.

mod client;
mod peer;
mod reader;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raft_net::{AcceptLimits, HandshakeRefusal, Hello, Role};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub(crate) use self::client::ClientHandle;
pub(crate) use self::peer::PeerDoors;
use crate::admission::{Serves, View};
use crate::config::Limits;
use crate::runtime::{ClientEvent, Urgent};

/// Connections in the middle of their handshake, at each address.
const MAX_HANDSHAKES: usize = 512;
/// How long to wait when the system gives no more connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The bytes of one frame from a peer.
pub(crate) const MAX_PEER_FRAME_BYTES: usize = 8 << 20;

/// What all incoming connections share.
#[derive(Clone)]
pub(crate) struct Doorway {
    pub(crate) view: Arc<Mutex<View>>,
    pub(crate) limits: Limits,
    pub(crate) urgent: mpsc::Sender<Urgent>,
    pub(crate) clients: mpsc::Sender<ClientEvent>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) peer_doors: PeerDoors,
    /// Cancelled when the node stops: nobody is accepted any more.
    pub(crate) closing: CancellationToken,
    /// The tasks that serve clients, to be waited for at the end: their last replies are on the way.
    pub(crate) serving: TaskTracker,
}

/// How many clients are connected, and how many ever were.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    clients: AtomicUsize,
    clients_ever: AtomicUsize,
}

/// A place among the clients, given back on drop.
struct Place(Arc<Counts>);

impl Place {
    fn take(counts: &Arc<Counts>, limit: usize) -> Option<Self> {
        // Only tasks of one thread count here; the atomics are for `Sync`, not for races.
        if counts.clients.load(Ordering::Relaxed) >= limit {
            return None;
        }
        counts.clients.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(counts)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections until the node stops.
pub(crate) async fn accept_all(listener: TcpListener, serves: Serves, doorway: Doorway) {
    // Each cancelled when it is over, one way or the other.
    let mut handshakes: VecDeque<CancellationToken> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = doorway.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, from)) => {
                make_room(&mut handshakes);
                let handshake = CancellationToken::new();
                handshakes.push_back(handshake.clone());
                tokio::spawn(greet(stream, from, serves, doorway.clone(), handshake));
            }
            Err(error) => {
                // Out of file descriptors, mostly. Those who wait will be accepted once some are free.
                warn!("cannot accept a connection: {error}; raise the limit on open files if this goes on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// At the limit the oldest handshake gives way: whoever means it is done in a round trip, so a flood of silent
/// connections shuts nobody out.
fn make_room(handshakes: &mut VecDeque<CancellationToken>) {
    if handshakes.len() < MAX_HANDSHAKES {
        return;
    }
    handshakes.retain(|handshake| !handshake.is_cancelled());
    if handshakes.len() >= MAX_HANDSHAKES
        && let Some(oldest) = handshakes.pop_front()
    {
        oldest.cancel();
    }
}

/// Does the handshake, then serves the connection as what it turned out to be.
async fn greet(stream: TcpStream, from: SocketAddr, serves: Serves, doorway: Doorway, handshake: CancellationToken) {
    let limits = AcceptLimits {
        handshake_timeout: doorway.limits.handshake_timeout,
        max_frame_bytes: doorway.limits.max_client_frame_bytes.max(MAX_PEER_FRAME_BYTES),
    };
    let mut place = None;
    let decide = |hello: &Hello| {
        let view = doorway.view.lock().unwrap_or_else(PoisonError::into_inner);
        let welcome = view.admit(hello, serves)?;
        if let Some((id, disk)) = view.namesake(hello).filter(|&(id, disk)| doorway.peer_doors.is_open(id, disk)) {
            debug!(%from, "refused a second {id}: the one with disk {disk} is connected");
            return Err(HandshakeRefusal::ForeignDisk { id: id.as_u64() });
        }
        drop(view);
        if hello.role == Role::Client {
            let limit = doorway.limits.max_clients;
            let taken = Place::take(&doorway.counts, limit);
            place = Some(taken.ok_or(HandshakeRefusal::TooManyConnections { limit: limit as u64 })?);
        }
        Ok(welcome)
    };
    let accepted = handshake.run_until_cancelled(raft_net::accept(stream, &limits, decide)).await;
    handshake.cancel();
    match accepted {
        Some(Ok((connection, hello))) => match hello.role {
            Role::Client => doorway.serving.clone().track_future(client::serve(connection, &doorway)).await,
            Role::Peer(peer) => peer::serve(connection, &peer, &doorway).await,
            // It has its answer.
            Role::Inquiry => {}
        },
        Some(Err(error)) => debug!(%from, "closed a connection: {error}"),
        None => debug!(%from, "closed a connection: {MAX_HANDSHAKES} newer ones are in their handshake"),
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_handshake_gives_way_and_one_that_is_over_costs_nobody_its_place() {
        let mut handshakes: VecDeque<CancellationToken> =
            (0..MAX_HANDSHAKES).map(|_| CancellationToken::new()).collect();
        let all: Vec<CancellationToken> = handshakes.iter().cloned().collect();
        make_room(&mut handshakes);
        assert!(all[0].is_cancelled() && !all[1].is_cancelled());
        assert_eq!(handshakes.len(), MAX_HANDSHAKES - 1);

        handshakes.push_back(CancellationToken::new());
        all[7].cancel();
        make_room(&mut handshakes);
        assert!(!all[1].is_cancelled(), "there was room");
        assert_eq!(handshakes.len(), MAX_HANDSHAKES - 1);
    }
}
