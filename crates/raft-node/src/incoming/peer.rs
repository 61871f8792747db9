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

/// How many links peers may have open, both kinds together: those of the largest cluster and of as many newcomers.
const MAX_OPEN_LINKS: usize = 256;

/// A peer, by its disk, and one of its links.
type Door = (NodeId, DiskId, LinkKind);

/// The link of each kind that each peer has open. A new one takes the place of the old: a peer that lost its power
/// never closes it, and what is still to be read from it is of an earlier incarnation. Another disk is another peer,
/// whatever id it has.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerDoors(Arc<Mutex<BTreeMap<Door, OpenLink>>>);

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
    /// Lets a link in, in place of an older one.
    ///
    /// # Errors
    /// If a later incarnation of the peer has one open already: this one is late, or another process on a copy of the
    /// peer's directory. Or if there are too many.
    pub(crate) fn enter(&self, from: PeerIdentity, link: LinkKind) -> Result<Entered, String> {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let door = (from.id, from.disk, link);
        match doors.get(&door) {
            Some(open) if open.incarnation > from.incarnation => {
                return Err("it is of an earlier start; does it run twice on copies of its data directory?".to_owned());
            }
            None if doors.len() >= MAX_OPEN_LINKS => {
                return Err(format!("peers have {MAX_OPEN_LINKS} links open, the limit"));
            }
            Some(_) | None => {}
        }
        let replaced = CancellationToken::new();
        let open = OpenLink { incarnation: from.incarnation, replaced: replaced.clone() };
        let old = doors.insert(door, open);
        if let Some(old) = &old {
            old.replaced.cancel();
        }
        Ok(Entered { replaced, is_replacement: old.is_some() })
    }

    /// Whether the peer has a link open.
    pub(crate) fn is_open(&self, id: NodeId, disk: DiskId) -> bool {
        let doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doors.range((id, disk, LinkKind::Control)..=(id, disk, LinkKind::Bulk)).next().is_some()
    }

    /// A link has ended that was not replaced.
    fn leave(&self, from: PeerIdentity, link: LinkKind) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(from.id, from.disk, link));
    }
}

pub(super) async fn serve(connection: Connection, hello: &PeerHello, doorway: &Doorway) {
    let Some(id) = NodeId::new(hello.id) else { return };
    let link = hello.link;
    let from = PeerIdentity { id, disk: DiskId(hello.disk), incarnation: Incarnation(hello.incarnation) };
    let Entered { replaced, is_replacement } = match doorway.peer_doors.enter(from, link) {
        Ok(entered) => entered,
        Err(reason) => {
            warn!(peer = %id, "closed the {link:?} link of {id}: {reason}");
            return;
        }
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
            doorway.peer_doors.leave(from, link);
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

    fn peer(disk: u128, incarnation: u64) -> PeerIdentity {
        PeerIdentity { id: NodeId::new(2).unwrap(), disk: DiskId(disk), incarnation: Incarnation(incarnation) }
    }

    #[test]
    fn a_new_link_takes_the_place_of_the_old_unless_it_is_of_an_earlier_start() {
        let doors = PeerDoors::default();
        let enter = |link, incarnation| doors.enter(peer(7, incarnation), link);
        let first = enter(LinkKind::Bulk, 3).unwrap();
        let control = enter(LinkKind::Control, 3).unwrap();
        assert!(!first.is_replacement && !control.is_replacement);

        let again = enter(LinkKind::Bulk, 3).unwrap();
        assert!(again.is_replacement && first.replaced.is_cancelled());
        assert!(enter(LinkKind::Bulk, 2).is_err(), "of an earlier start");
        assert!(!again.replaced.is_cancelled());
        let restarted = enter(LinkKind::Bulk, 4).unwrap();
        assert!(restarted.is_replacement && again.replaced.is_cancelled());
        assert!(!control.replaced.is_cancelled(), "each kind by itself");

        doors.leave(peer(7, 4), LinkKind::Bulk);
        assert!(!enter(LinkKind::Bulk, 1).unwrap().is_replacement);
    }

    #[test]
    fn another_disk_is_another_peer_and_there_are_not_more_than_the_limit() {
        let doors = PeerDoors::default();
        let old = doors.enter(peer(1, 9), LinkKind::Control).unwrap();
        for disk in 2..=MAX_OPEN_LINKS as u128 {
            assert!(!doors.enter(peer(disk, 1), LinkKind::Control).unwrap().is_replacement);
        }
        assert!(!old.replaced.is_cancelled());
        doors.enter(peer(0, 1), LinkKind::Control).unwrap_err();
        assert!(doors.is_open(peer(2, 1).id, DiskId(2)) && !doors.is_open(peer(2, 1).id, DiskId(0)));
        doors.enter(peer(1, 9), LinkKind::Control).unwrap();
        doors.leave(peer(2, 1), LinkKind::Control);
        doors.enter(peer(0, 1), LinkKind::Control).unwrap();
    }
}
