//! The links that this node opens to its peers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use raft_core::NodeId;
use raft_net::LinkKind;
use raft_net::peer::{LinkConfig, LinkEvent, LinkSender, open_link};
use tokio::sync::mpsc;

use crate::admission::View;
use crate::config::NodeConfig;
use crate::incoming::MAX_PEER_FRAME_BYTES;
use crate::machine::StateMachine;
use crate::runtime::{PeerLinks, draw};
use crate::server::Server;
use crate::service::Service;

/// Where this node reaches each of its peers: what `--dial` says, else the configuration (once formed) or the list the
/// cluster is to be formed of.
pub(crate) fn peer_addresses<M: StateMachine, S: Service<M>>(
    config: &NodeConfig,
    server: &Server<M, S>,
) -> BTreeMap<NodeId, String> {
    let mut addresses = match server.replica().configuration() {
        Some(configuration) => configuration.members().map(|(id, member)| (id, member.address.clone())).collect(),
        None => config.cluster.clone(),
    };
    addresses.remove(&config.id);
    for (&id, address) in &config.dial {
        if let Some(dialled) = addresses.get_mut(&id) {
            dialled.clone_from(address);
        }
    }
    addresses
}

/// Opens both links to a peer. Must be called within the loop's runtime.
pub(crate) fn open_links(
    peer: NodeId,
    address: &str,
    view: &Arc<Mutex<View>>,
    events: &mpsc::Sender<LinkEvent>,
) -> PeerLinks {
    let open = |link| open_to(peer, address, link, view, events);
    PeerLinks { control: open(LinkKind::Control), bulk: open(LinkKind::Bulk) }
}

fn open_to(
    peer: NodeId,
    address: &str,
    link: LinkKind,
    view: &Arc<Mutex<View>>,
    events: &mpsc::Sender<LinkEvent>,
) -> LinkSender {
    let (hello_view, check_view) = (Arc::clone(view), Arc::clone(view));
    open_link(LinkConfig {
        peer: peer.as_u64(),
        address: address.to_owned(),
        link,
        max_frame_bytes: MAX_PEER_FRAME_BYTES,
        hello: Box::new(move || hello_view.lock().unwrap_or_else(PoisonError::into_inner).hello(peer, link)),
        check: Box::new(move |welcome| {
            let view = check_view.lock().unwrap_or_else(PoisonError::into_inner);
            view.check_welcome(peer, welcome).map_err(|refusal| refusal.to_string())
        }),
        events: events.clone(),
        seed: u64::try_from(draw() >> 64).expect("64 bits are left"),
    })
}
