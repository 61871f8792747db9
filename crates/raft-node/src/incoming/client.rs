//! The connections of clients: requests in, replies out.
//!
//! A request holds one of the connection's permits until its reply is written, so a client that sends and does not read
//! is read from no more. Replies are bounded by those permits, and in bytes: beyond them the connection is closed.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use raft_net::{Connection, Frame, FrameCodec, FrameKind};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::codec::Encoder;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Doorway;
use super::reader::Reader;
use crate::runtime::ClientEvent;
use crate::service::ConnectionId;

/// About how much is written at once.
const WRITE_BYTES: usize = 64 << 10;
/// How long a client may take nothing of what is written to it; then it is taken for gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many pushed frames may wait for a client, beside one for each of its requests and their replies: more than a service
/// sends before it hears that some were written ([`crate::Service::handle_pushed`]).
const MAX_WAITING_PUSHES: usize = 1_024;

/// The way back to one client. Dropped, the connection ends once all replies are written.
#[derive(Debug)]
pub(crate) struct ClientHandle {
    frames: mpsc::Sender<Frame>,
    unread_bytes: Arc<AtomicUsize>,
    max_unread_bytes: usize,
    closing: CancellationToken,
}

impl ClientHandle {
    /// Queues a reply; `Err` says why the connection must be closed instead.
    pub(crate) fn reply(&self, frame: Frame) -> Result<(), &'static str> {
        let size_bytes = frame.size_bytes();
        let unread_bytes = self.unread_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        if unread_bytes > self.max_unread_bytes {
            return Err("the client does not read its replies");
        }
        // Full it can be only if more was answered than asked.
        self.frames.try_send(frame).map_err(|_| "the client has gone")
    }

    /// Ends the connection, whatever is unread.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }
}

pub(super) async fn serve(connection: Connection, doorway: &Doorway) {
    let limits = doorway.limits;
    let id = ConnectionId(doorway.counts.clients_ever.fetch_add(1, Ordering::Relaxed) as u64);
    let permits = Semaphore::new(limits.max_requests_in_flight);
    let unread_bytes = Arc::new(AtomicUsize::new(0));
    let closing = CancellationToken::new();
    let (frames, queued) = mpsc::channel(2 * limits.max_requests_in_flight + MAX_WAITING_PUSHES);
    let handle = ClientHandle {
        frames,
        unread_bytes: Arc::clone(&unread_bytes),
        max_unread_bytes: limits.max_unread_reply_bytes,
        closing: closing.clone(),
    };
    if doorway.clients.send(ClientEvent::Met { connection: id, handle }).await.is_err() {
        return;
    }
    let (mut reader, writer) = Reader::split(connection, limits.max_client_frame_bytes);
    let mut write = pin!(write_replies(writer, queued, &unread_bytes, &permits, (id, doorway)));
    let read = read_requests(&mut reader, id, &permits, doorway);
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
async fn read_requests(reader: &mut Reader, id: ConnectionId, permits: &Semaphore, doorway: &Doorway) {
    while let Some(frame) = reader.next_frame(&"a client").await {
        let Ok(permit) = permits.acquire().await else { return };
        permit.forget();
        if doorway.clients.send(ClientEvent::Frame { connection: id, frame }).await.is_err() {
            return;
        }
    }
}

/// Writes replies as they come, all that are waiting in one system call, and gives their permits back.
async fn write_replies(
    mut writer: OwnedWriteHalf,
    mut queued: mpsc::Receiver<Frame>,
    unread_bytes: &AtomicUsize,
    permits: &Semaphore,
    (id, doorway): (ConnectionId, &Doorway),
) {
    let mut codec = FrameCodec::new(usize::MAX);
    let mut buffer = BytesMut::new();
    while let Some(frame) = queued.recv().await {
        let (mut next, mut count, mut size_bytes) = (Some(frame), 0, 0);
        let (mut pushed, mut pushed_bytes) = (0, 0);
        while let Some(frame) = next {
            size_bytes += frame.size_bytes();
            let is_pushed = frame.kind == FrameKind::Push;
            pushed += usize::from(is_pushed);
            pushed_bytes += if is_pushed { frame.size_bytes() } else { 0 };
            count += usize::from(!is_pushed);
            if codec.encode(frame, &mut buffer).is_err() {
                return;
            }
            next = if buffer.len() < WRITE_BYTES { queued.try_recv().ok() } else { None };
        }
        match tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&buffer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                info!("closed a client's connection: it has read nothing for {} s", WRITE_TIMEOUT.as_secs());
                return;
            }
        }
        buffer.clear();
        unread_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
        permits.add_permits(count);
        if pushed > 0 {
            let pushed = ClientEvent::Pushed { connection: id, frames: pushed, size_bytes: pushed_bytes };
            if doorway.clients.send(pushed).await.is_err() {
                return;
            }
        }
    }
}
