//! One connection to one server: many requests in flight, answers in any order.
//!
//! Two small tasks own the two halves of the socket. The writing one takes what is waiting and sends it together; the reading one
//! hands each answer to whom it belongs. Both end with the connection, and then every request still in flight is told so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kv_store::api::{Request, RequestBody, Response};
use raft_net::{Frame, FrameCodec, FrameKind, Hello, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::{Decoder, Encoder};

use crate::config::{MAX_FRAME_BYTES, MAX_IN_FLIGHT};

/// How much is gathered for one write to the socket.
const WRITE_BATCH_BYTES: usize = 64 << 10;

/// An open connection. All requests to one server share one.
#[derive(Debug)]
pub(crate) struct Connection {
    outgoing: mpsc::Sender<Frame>,
    /// One permit a request in flight.
    places: Semaphore,
    pending: Arc<Pending>,
    tasks: [tokio::task::AbortHandle; 2],
}

/// Why a request on a connection has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// It was never handed to the socket: the connection is closed, or all places stayed taken.
    #[error("the connection takes no more requests")]
    NotSent,
    /// The connection broke while it was in flight.
    #[error("{0}")]
    Lost(String),
    /// The time is over.
    #[error("no answer in time")]
    Silent,
}

impl Connection {
    /// Connects and shakes hands, within `limit`.
    pub(crate) async fn open(
        address: &str,
        hello: &Hello,
        limit: Duration,
    ) -> Result<(Arc<Self>, Welcome), raft_net::ConnectError> {
        let (framed, welcome) = raft_net::connect(address, hello, limit, MAX_FRAME_BYTES).await?;
        let parts = framed.into_parts();
        let (reading, writing) = parts.io.into_split();
        let pending = Arc::new(Pending::default());
        // A place in this queue is never waited for by more than `places` lets through.
        let (outgoing, queue) = mpsc::channel(MAX_IN_FLIGHT);
        let reader = tokio::spawn(read_responses(reading, parts.read_buf, Arc::clone(&pending)));
        let writer = tokio::spawn(write_requests(writing, queue, Arc::clone(&pending)));
        let tasks = [reader.abort_handle(), writer.abort_handle()];
        Ok((Arc::new(Self { outgoing, places: Semaphore::new(MAX_IN_FLIGHT), pending, tasks }), welcome))
    }

    /// Whether the connection still carries requests.
    pub(crate) fn is_open(&self) -> bool {
        self.pending.lock().closed.is_none()
    }

    /// Sends a request and waits for its answer until `until`, which the server is told too.
    pub(crate) async fn request(
        &self,
        body: RequestBody,
        payload: Bytes,
        until: Instant,
    ) -> Result<Response, NoAnswer> {
        let _place = match timeout_at(until, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => return Err(NoAnswer::NotSent),
        };
        let Some((entry, answer)) = self.pending.enter() else { return Err(NoAnswer::NotSent) };
        let frame = request_frame(entry.id, body, payload, until.saturating_duration_since(Instant::now()));
        match timeout_at(until, self.outgoing.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(NoAnswer::NotSent),
        }
        match timeout_at(until, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(NoAnswer::Lost(self.pending.closed_because())),
            Err(_) => Err(NoAnswer::Silent),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn request_frame(id: u64, body: RequestBody, payload: Bytes, left: Duration) -> Frame {
    let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    let request = Request { id, timeout_ms, body };
    let header = postcard::to_allocvec(&request).expect("a request has no part that cannot be encoded");
    Frame { kind: FrameKind::Request, group: 0, header: header.into(), payload }
}

/// The requests in flight on one connection.
#[derive(Debug, Default)]
struct Pending(Mutex<Flight>);

#[derive(Debug, Default)]
struct Flight {
    next_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Response>>,
    /// Why the connection ended, once it has.
    closed: Option<String>,
}

/// A request's place among the pending; leaves with it, answered or not.
struct Entry<'a> {
    id: u64,
    pending: &'a Pending,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Flight> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more request; `None` if the connection has ended.
    fn enter(&self) -> Option<(Entry<'_>, oneshot::Receiver<Response>)> {
        let (sender, receiver) = oneshot::channel();
        let mut flight = self.lock();
        if flight.closed.is_some() {
            return None;
        }
        let id = flight.next_id;
        flight.next_id += 1;
        flight.waiting.insert(id, sender);
        Some((Entry { id, pending: self }, receiver))
    }

    /// Hands an answer to its request. One that nobody waits for any more is dropped.
    fn answer(&self, response: Response) {
        let waiting = self.lock().waiting.remove(&response.id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(response);
        }
    }

    /// The connection has ended; whoever waits is told. The first reason counts.
    fn close(&self, reason: String) {
        let mut flight = self.lock();
        flight.closed.get_or_insert(reason);
        flight.waiting.clear();
    }

    fn closed_because(&self) -> String {
        self.lock().closed.clone().unwrap_or_else(|| "the connection was closed".to_owned())
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.pending.lock().waiting.remove(&self.id);
    }
}

async fn read_responses(mut socket: OwnedReadHalf, mut buffer: BytesMut, pending: Arc<Pending>) {
    let mut codec = FrameCodec::new(MAX_FRAME_BYTES);
    let reason = loop {
        match codec.decode(&mut buffer) {
            Ok(Some(frame)) => match read_response(&frame) {
                Ok(response) => pending.answer(response),
                Err(reason) => break reason,
            },
            Ok(None) => match socket.read_buf(&mut buffer).await {
                Ok(0) => break "the server closed the connection".to_owned(),
                Ok(_) => {}
                Err(error) => break format!("the connection broke: {error}"),
            },
            Err(error) => break format!("the server sent what is no frame: {error}"),
        }
    };
    tracing::debug!(reason, "connection ended");
    pending.close(reason);
}

fn read_response(frame: &Frame) -> Result<Response, String> {
    if frame.kind != FrameKind::Response {
        return Err(format!("the server sent a frame of kind {:?} where a response was due", frame.kind));
    }
    postcard::from_bytes(&frame.header).map_err(|error| format!("the server's response cannot be read: {error}"))
}

async fn write_requests(mut socket: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>, pending: Arc<Pending>) {
    let mut codec = FrameCodec::new(MAX_FRAME_BYTES);
    let mut buffer = BytesMut::new();
    while let Some(first) = queue.recv().await {
        let mut next = Some(first);
        while let Some(frame) = next {
            if let Err(error) = codec.encode(frame, &mut buffer) {
                return pending.close(format!("a request cannot be sent: {error}"));
            }
            next = if buffer.len() < WRITE_BATCH_BYTES { queue.try_recv().ok() } else { None };
        }
        if let Err(error) = socket.write_all_buf(&mut buffer).await {
            return pending.close(format!("the connection broke: {error}"));
        }
    }
}
