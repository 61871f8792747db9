//! The links that peers open to this node: they speak on them, and this node listens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use raft_core::{DiskId, Incarnation, NodeId};
use raft_net::{Connection, LinkKind, PeerHello};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::reader::Reader;
use super::{Doorway, MAX_PEER_FRAME_BYTES};
use crate::peer_message::PeerMessage;
use crate::replica::PeerIdentity;
use crate::runtime::Urgent;

/// The link of each kind that each peer has open. A new one takes the place of the old: a peer that lost its power
/// never closes it, and what is still to be read from it is of an earlier incarnation.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerDoors(Arc<Mutex<BTreeMap<(NodeId, LinkKind), OpenLink>>>);

#[derive(Debug)]
struct OpenLink {
    incarnation: Incarnation,
    /// Cancelled when it is replaced.
    replaced: CancellationToken,
}

/// A link that may be served.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) replaced: CancellationToken,
    /// It took the place of another.
    pub(crate) is_replacement: bool,
}

impl PeerDoors {
    /// Lets a link in, in place of an older one. `None` if a later incarnation of the peer has one open already: this
    /// one is late, or another process on a copy of the peer's directory.
    pub(crate) fn enter(&self, peer: NodeId, link: LinkKind, incarnation: Incarnation) -> Option<Entered> {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if doors.get(&(peer, link)).is_some_and(|open| open.incarnation > incarnation) {
            return None;
        }
        let replaced = CancellationToken::new();
        let open = OpenLink { incarnation, replaced: replaced.clone() };
        let old = doors.insert((peer, link), open);
        if let Some(old) = &old {
            old.replaced.cancel();
        }
        Some(Entered { replaced, is_replacement: old.is_some() })
    }

    /// A link has ended that was not replaced.
    fn leave(&self, peer: NodeId, link: LinkKind) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(peer, link));
    }
}

pub(super) async fn serve(connection: Connection, hello: &PeerHello, doorway: &Doorway) {
    let Some(id) = NodeId::new(hello.id) else { return };
    let link = hello.link;
    let from = PeerIdentity { id, disk: DiskId(hello.disk), incarnation: Incarnation(hello.incarnation) };
    let Some(Entered { replaced, is_replacement }) = doorway.peer_doors.enter(id, link, from.incarnation) else {
        warn!(peer = %id, "closed the {link:?} link of an earlier start of {id}; does it run twice on copies of its data directory?");
        return;
    };
    // Before anything that comes on the new link: the replies on the old one are lost.
    if is_replacement && doorway.urgent.send(Urgent::PeerLinkLost { peer: id, link }).await.is_err() {
        return;
    }
    let met = Urgent::PeerMet { from, client_address: hello.client_address.clone() };
    if doorway.urgent.send(met).await.is_err() {
        return;
    }
    tokio::select! {
        () = listen(connection, from, link, doorway) => {
            doorway.peer_doors.leave(id, link);
            // The loop may have ended.
            let _ = doorway.urgent.send(Urgent::PeerLinkLost { peer: id, link }).await;
        }
        // Whoever replaced it has said so.
        () = replaced.cancelled() => {}
    }
}

/// Passes on what the peer says, until the link ends.
async fn listen(connection: Connection, from: PeerIdentity, link: LinkKind, doorway: &Doorway) {
    let (mut reader, _writer) = Reader::split(connection, MAX_PEER_FRAME_BYTES);
    while let Some(frame) = reader.next_frame(&from.id).await {
        match PeerMessage::from_frame(frame) {
            Ok(message) => {
                if doorway.urgent.send(Urgent::Peer { from, message }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let id = from.id;
                warn!(peer = %id, "closed the {link:?} link from {id}: {error}; is it of another version?");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_link_takes_the_place_of_the_old_unless_it_is_of_an_earlier_start() {
        let doors = PeerDoors::default();
        let peer = NodeId::new(2).unwrap();
        let enter = |link, incarnation| doors.enter(peer, link, Incarnation(incarnation));
        let first = enter(LinkKind::Bulk, 3).unwrap();
        let control = enter(LinkKind::Control, 3).unwrap();
        assert!(!first.is_replacement && !control.is_replacement);

        let again = enter(LinkKind::Bulk, 3).unwrap();
        assert!(again.is_replacement && first.replaced.is_cancelled());
        assert!(enter(LinkKind::Bulk, 2).is_none(), "of an earlier start");
        assert!(!again.replaced.is_cancelled());
        let restarted = enter(LinkKind::Bulk, 4).unwrap();
        assert!(restarted.is_replacement && again.replaced.is_cancelled());
        assert!(!control.replaced.is_cancelled(), "each kind by itself");

        doors.leave(peer, LinkKind::Bulk);
        assert!(!enter(LinkKind::Bulk, 1).unwrap().is_replacement);
    }
}
