//! Watches: changes as they come, in order, each once, whichever node tells of them.
//!
//! A watch has a connection of its own, so that one whose events are not read holds up nothing else: the server simply stops
//! sending, and goes on from its history when there is room. When the connection breaks, or the node stops or loses its
//! leader, the watch resumes at another node, where it was.

#![expect(clippy::wildcard_enum_match_arm, reason = "what was not asked for is unexpected, in later versions too")]

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use kv_store::Revision;
use kv_store::api::{
    Push, PushBody, Request, RequestBody, RequestError, RequestErrorKind, Response, WatchEvent, WatchTarget,
};
use raft_net::{Frame, FrameCodec, FrameKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::codec::{Decoder, Encoder};

use crate::client::Client;
use crate::config::MAX_FRAME_BYTES;
use crate::error::{Error, ErrorKind};

/// A server says something at least every 10 s. One that is silent for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(30);

/// The pause before a watch tries the same nodes again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What [`Client::watch`] is to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    /// Whose changes.
    pub target: WatchTarget,
    /// The first revision whose changes are wanted. `None`: what comes from now on, after every write acknowledged before.
    pub from: Option<Revision>,
    /// Tell also what each value was before.
    pub previous: bool,
}

/// What a watch has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A change.
    Event(WatchEvent),
    /// Nothing is missing up to this revision, though nothing has happened to the keys watched.
    Progress(Revision),
}

/// A watch under way. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    request: WatchRequest,
    /// The revision of the store when it began.
    began_at: Revision,
    place: Place,
    stream: Option<Stream>,
    /// What has come and was not taken yet.
    ready: VecDeque<WatchEvent>,
    /// How many events of the first revision to come were told before the connection broke.
    repeated: usize,
}

/// What comes next: of `revision`, so many events were told already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    revision: Revision,
    told: usize,
}

impl Client {
    /// Follows the changes of a key, or of those with a prefix.
    ///
    /// # Errors
    /// [`ErrorKind::Compacted`] if the past does not reach back so far; or whatever kept all nodes from an answer
    /// within [`crate::ClientConfig::timeout`].
    pub async fn watch(&self, request: WatchRequest) -> Result<Watch, Error> {
        let (stream, began_at) = open(self, &request, request.from).await?;
        let place = Place { revision: request.from.unwrap_or_else(|| began_at.next()), told: 0 };
        let client = self.clone();
        let (stream, ready) = (Some(stream), VecDeque::new());
        Ok(Watch { client, request, began_at, place, stream, ready, repeated: 0 })
    }
}

impl Watch {
    /// The revision of the store when the watch began.
    #[must_use]
    pub const fn began_at(&self) -> Revision {
        self.began_at
    }

    /// Where a new watch goes on without a gap: [`WatchRequest::from`]. Behind a revision that was told only in part it
    /// begins with that one again.
    #[must_use]
    pub const fn resume(&self) -> Revision {
        self.place.revision
    }

    /// The next notice, as soon as there is one. May be dropped and called again: nothing is lost.
    ///
    /// # Errors
    /// The watch is over: [`ErrorKind::Compacted`] if it was so slow that history did not wait for it, or no node has
    /// answered within [`crate::ClientConfig::timeout`]. [`Self::resume`] says where a new one goes on.
    pub async fn next(&mut self) -> Result<Notice, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.place = match event.last {
                    true => Place { revision: event.revision.next(), told: 0 },
                    false if event.revision == self.place.revision => Place { told: self.place.told + 1, ..self.place },
                    false => Place { revision: event.revision, told: 1 },
                };
                return Ok(Notice::Event(event));
            }
            let Some(stream) = &mut self.stream else {
                let (stream, _) = open(&self.client, &self.request, Some(self.place.revision)).await?;
                self.repeated = self.place.told;
                self.stream = Some(stream);
                continue;
            };
            match timeout(SILENCE, stream.next()).await {
                Ok(Ok(Said::Events(events))) => self.take(events),
                Ok(Ok(Said::Progress(revision))) => {
                    if revision >= self.place.revision {
                        self.place = Place { revision: revision.next(), told: 0 };
                        return Ok(Notice::Progress(revision));
                    }
                }
                Ok(Ok(Said::Watching(_))) => {}
                Ok(Err(Lost::For(error))) if is_final(&error) => return Err(refused(error)),
                Ok(Err(lost)) => {
                    tracing::debug!(%lost, "a watch resumes elsewhere");
                    self.stream = None;
                }
                Err(_) => self.stream = None,
            }
        }
    }

    /// Takes events, but for those that were told before the connection broke: the server begins with their revision.
    fn take(&mut self, events: Vec<WatchEvent>) {
        for event in events {
            if event.revision == self.place.revision && self.repeated > 0 {
                self.repeated -= 1;
            } else {
                self.ready.push_back(event);
            }
        }
    }
}

/// Begins a watch at any node that will have it.
async fn open(client: &Client, request: &WatchRequest, from: Option<Revision>) -> Result<(Stream, Revision), Error> {
    let shared = &client.shared;
    let until = client.new_call().deadline;
    let (mut pause, mut tries) = (PAUSES.0, 0);
    for address in shared.endpoints_in_any_order() {
        let limit = until.saturating_duration_since(Instant::now()).min(shared.config.connect_limit(tries));
        let begun = match shared.pool.open_stream(address, limit).await {
            Ok((socket, buffer)) => {
                begin(socket, buffer, request, from, until.min(Instant::now() + shared.config.answer_limit(tries)))
                    .await
            }
            Err(reason) => Err(Lost::Unreachable(reason)),
        };
        let lost = match begun {
            Ok(begun) => return Ok(begun),
            Err(Lost::For(error)) if is_final(&error) => return Err(refused(error)),
            Err(lost) => lost,
        };
        tries += 1;
        if tries.is_multiple_of(shared.config.endpoint_count()) {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        if Instant::now() >= until {
            return Err(lost.into_error());
        }
    }
    unreachable!("the endpoints come round again, and there is one at least")
}

/// Asks for a watch on a new connection, and waits for its beginning.
async fn begin(
    socket: TcpStream,
    buffer: BytesMut,
    request: &WatchRequest,
    from: Option<Revision>,
    until: Instant,
) -> Result<(Stream, Revision), Lost> {
    let mut stream = Stream { socket, buffer, codec: FrameCodec::new(MAX_FRAME_BYTES) };
    let left = until.saturating_duration_since(Instant::now());
    let WatchRequest { target, previous, .. } = request.clone();
    let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    let request = Request { id: 0, timeout_ms, body: RequestBody::Watch { target, from, previous } };
    let asking = async {
        stream.send(&request).await?;
        match stream.next().await? {
            Said::Watching(revision) => Ok(revision),
            Said::Events(_) | Said::Progress(_) => Err(Lost::Broken("the server began in the middle".to_owned())),
        }
    };
    let revision = timeout_at(until, asking).await.unwrap_or(Err(Lost::Silent))?;
    Ok((stream, revision))
}

/// Whether another node would say the same.
const fn is_final(error: &RequestError) -> bool {
    matches!(error.kind, RequestErrorKind::Compacted { .. } | RequestErrorKind::Invalid | RequestErrorKind::TooLarge)
}

fn refused(error: RequestError) -> Error {
    match error.kind {
        RequestErrorKind::Compacted { oldest } => Error::compacted(error.message, oldest),
        RequestErrorKind::TooLarge => Error::new(ErrorKind::TooLarge, error.message),
        RequestErrorKind::Invalid => Error::new(ErrorKind::Invalid, error.message),
        RequestErrorKind::NoLeader | RequestErrorKind::LeaderChanged => Error::new(ErrorKind::NoLeader, error.message),
        RequestErrorKind::Overloaded => Error::new(ErrorKind::Overloaded, error.message),
        RequestErrorKind::Timeout | RequestErrorKind::Stopping => Error::new(ErrorKind::Timeout, error.message),
        _ => Error::new(ErrorKind::Server, error.message),
    }
}

/// Why a node tells no more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("no node could be reached; check the endpoints, and that servers run there (last: {0})")]
    Unreachable(String),
    #[error("{0}")]
    Broken(String),
    #[error("no answer in time")]
    Silent,
    /// It says why.
    #[error("{0}")]
    For(RequestError),
}

impl Lost {
    fn into_error(self) -> Error {
        match self {
            Self::Unreachable(_) => Error::new(ErrorKind::Unavailable, self.to_string()),
            Self::Broken(_) | Self::Silent => Error::new(ErrorKind::Timeout, self.to_string()),
            Self::For(error) => refused(error),
        }
    }
}

/// What a server says on a watch's connection.
enum Said {
    Watching(Revision),
    Events(Vec<WatchEvent>),
    Progress(Revision),
}

/// The connection of one watch.
#[derive(Debug)]
struct Stream {
    socket: TcpStream,
    buffer: BytesMut,
    codec: FrameCodec,
}

impl Stream {
    async fn send(&mut self, request: &Request) -> Result<(), Lost> {
        let header = postcard::to_allocvec(request).expect("a request has no part that cannot be encoded").into();
        let frame = Frame { kind: FrameKind::Request, group: 0, header, payload: bytes::Bytes::new() };
        let mut buffer = BytesMut::new();
        self.codec.encode(frame, &mut buffer).map_err(|error| Lost::Broken(error.to_string()))?;
        self.socket.write_all_buf(&mut buffer).await.map_err(|error| Lost::Broken(error.to_string()))
    }

    /// What comes next. Loses nothing when it is dropped.
    async fn next(&mut self) -> Result<Said, Lost> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => return read(&frame),
                Ok(None) => match self.socket.read_buf(&mut self.buffer).await {
                    Ok(0) => return Err(Lost::Broken("the server closed the connection".to_owned())),
                    Ok(_) => {}
                    Err(error) => return Err(Lost::Broken(format!("the connection broke: {error}"))),
                },
                Err(error) => return Err(Lost::Broken(format!("the server sent what is no frame: {error}"))),
            }
        }
    }
}

fn read(frame: &Frame) -> Result<Said, Lost> {
    let unreadable = |error: postcard::Error| Lost::Broken(format!("the server cannot be understood: {error}"));
    match frame.kind {
        FrameKind::Push => {
            let push: Push = postcard::from_bytes(&frame.header).map_err(unreadable)?;
            Ok(match push.body {
                PushBody::Watching { revision } => Said::Watching(revision),
                PushBody::Progress { revision } => Said::Progress(revision),
                PushBody::Events => Said::Events(postcard::from_bytes(&frame.payload).map_err(unreadable)?),
            })
        }
        FrameKind::Response => {
            let response: Response = postcard::from_bytes(&frame.header).map_err(unreadable)?;
            Err(response.body.map_or_else(Lost::For, |_| Lost::Broken("the server ended the watch".to_owned())))
        }
        kind => Err(Lost::Broken(format!("the server sent a frame of kind {kind:?}"))),
    }
}
