//! The links that this node opens to its peers, and how a newcomer finds them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raft_core::NodeId;
use raft_net::LinkKind;
use raft_net::peer::{LinkConfig, LinkEvent, LinkSender, open_link};
use tokio::sync::mpsc;
use tracing::info;

use crate::admission::View;
use crate::incoming::MAX_PEER_FRAME_BYTES;
use crate::runtime::{Urgent, draw};

/// How often the addresses that a newcomer was given are asked who is there.
const INQUIRE_INTERVAL: Duration = Duration::from_secs(1);
/// How long one has to answer.
const INQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens both links to a peer, control and bulk. Must be called within the loop's runtime.
pub(crate) fn open_links(
    peer: NodeId,
    address: &str,
    view: &Arc<Mutex<View>>,
    events: &mpsc::Sender<LinkEvent>,
) -> (LinkSender, LinkSender) {
    let open = |link| open_to(peer, address, link, view, events);
    (open(LinkKind::Control), open(LinkKind::Bulk))
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

/// Asks at each of `addresses` who is there, again and again, until nobody wants to hear it. A refusal is logged once.
pub(crate) async fn find_members(addresses: Vec<String>, view: Arc<Mutex<View>>, found: mpsc::Sender<Urgent>) {
    let mut last_refusals = vec![None; addresses.len()];
    loop {
        for (address, last_refusal) in addresses.iter().zip(&mut last_refusals) {
            let hello = view.lock().unwrap_or_else(PoisonError::into_inner).inquiry();
            match raft_net::connect(address, &hello, INQUIRE_TIMEOUT, MAX_PEER_FRAME_BYTES).await {
                Ok((_, welcome)) => {
                    let found_one = Urgent::SeedFound { address: address.clone(), welcome };
                    if found.send(found_one).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let refusal = Some(error.to_string());
                    if *last_refusal != refusal {
                        info!("no member found: {error}");
                        *last_refusal = refusal;
                    }
                }
            }
        }
        tokio::time::sleep(INQUIRE_INTERVAL).await;
    }
}
