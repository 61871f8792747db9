//! A link: one server's way to another, in one direction.
//!
//! A link dials, introduces itself, and carries frames until the connection breaks; then it dials again, after a pause
//! that grows and is jittered, so that a restarted server is not met by all its peers at once. Nothing queued for a
//! broken connection is carried over to the next one: the other side may be another incarnation (rule 3), and the
//! protocol sends again what matters.
//!
//! Bounds: a queue of 131,072 frames and 64 MiB; at either the frame is refused, at once. Frames arrive in the order in
//! which they were taken, without gaps, or the connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::backoff::Backoff;
use crate::frame::Frame;
use crate::handshake::{Connection, Hello, LinkKind, Welcome, connect};

/// How many frames wait for a link at most: room for an answer to each of the 65,536 commands a node has under way, which
/// may all be committed in one step. What bounds memory is the limit in bytes.
const MAX_WAITING_FRAMES: usize = 131_072;
/// How many bytes of frames wait for a link at most; one frame is taken whatever its size.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// How much is written at once.
const MAX_WRITE_BYTES: usize = 1 << 20;
/// How long a connection and its handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the other side may take nothing of what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Judges what the other side says of itself; if it is not acceptable, why not.
pub type WelcomeCheck = Box<dyn Fn(&Welcome) -> Result<(), String> + Send + Sync>;

/// What a link needs to know. Its closures are called on the link's own task, and must not wait.
pub struct LinkConfig {
    /// The peer.
    pub peer: u64,
    /// Where it is, `HOST:PORT`; resolved anew each time.
    pub address: String,
    /// Which of the two links this is.
    pub link: LinkKind,
    /// The largest frame, prefix included.
    pub max_frame_bytes: usize,
    /// What this server says of itself, asked each time.
    pub hello: Box<dyn Fn() -> Hello + Send + Sync>,
    /// Whether what the other side says of itself is acceptable.
    pub check: WelcomeCheck,
    /// Where the link tells how it fares.
    pub events: mpsc::Sender<LinkEvent>,
    /// Decides the jitter of the pauses.
    pub seed: u64,
}

/// How a link fares. Told when it changes, not at each attempt.
#[derive(Debug)]
pub enum LinkEvent {
    /// It is up.
    Up {
        /// The peer.
        peer: u64,
        /// Which link.
        link: LinkKind,
        /// What the peer said of itself.
        welcome: Welcome,
    },
    /// It is down, or still is for another reason.
    Down {
        /// The peer.
        peer: u64,
        /// Which link.
        link: LinkKind,
        /// Why.
        reason: String,
    },
}

/// Why a frame was not taken. It is lost; the protocol sends it again if it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendRefused {
    /// The link is down.
    #[error("not connected")]
    NotConnected,
    /// The other side does not keep up.
    #[error("the queue is full")]
    Full,
}

/// The near end of a link.
#[derive(Debug)]
pub struct LinkSender {
    frames: mpsc::Sender<Queued>,
    state: Arc<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    /// The number of the connection that is up, counted from 1; [`DOWN`] while there is none.
    connection: AtomicU64,
    waiting_bytes: AtomicUsize,
    /// Ends the pause before the next attempt.
    hurry: Notify,
}

/// No connection.
const DOWN: u64 = 0;

/// A frame, and the connection it was taken for: no other will carry it (rule 3).
#[derive(Debug)]
struct Queued {
    connection: u64,
    frame: Frame,
}

impl LinkSender {
    /// Dials now instead of after the pause, or skips the next pause: there is a sign that the peer is back.
    pub fn hurry(&self) {
        self.state.hurry.notify_one();
    }

    /// Queues a frame; never waits.
    ///
    /// # Errors
    /// If the link is down or its queue full.
    pub fn try_send(&self, frame: Frame) -> Result<(), SendRefused> {
        let connection = self.state.connection.load(Ordering::Acquire);
        if connection == DOWN {
            return Err(SendRefused::NotConnected);
        }
        let size_bytes = frame.size_bytes();
        let waiting_bytes = self.state.waiting_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        let queued = if waiting_bytes > 0 && waiting_bytes + size_bytes > MAX_WAITING_BYTES {
            Err(SendRefused::Full)
        } else {
            self.frames.try_send(Queued { connection, frame }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendRefused::Full,
                mpsc::error::TrySendError::Closed(_) => SendRefused::NotConnected,
            })
        };
        if queued.is_err() {
            self.state.waiting_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
        }
        queued
    }
}

/// Opens a link. It ends when its sender is dropped. Must be called within a tokio runtime.
#[must_use]
pub fn open_link(config: LinkConfig) -> LinkSender {
    let (frames, queue) = mpsc::channel(MAX_WAITING_FRAMES);
    let state = Arc::new(LinkState::default());
    let link = Link { config, queue, state: Arc::clone(&state), connections: 0, reported: None };
    tokio::spawn(link.run());
    LinkSender { frames, state }
}

/// The task behind a link.
struct Link {
    config: LinkConfig,
    queue: mpsc::Receiver<Queued>,
    state: Arc<LinkState>,
    /// How many connections there have been; the number of the latest.
    connections: u64,
    /// What was last told of it; the same is not told twice.
    reported: Option<String>,
}

/// How carrying frames ended.
enum Ended {
    /// The sender is gone: nobody needs the link.
    Dropped,
    /// The connection is.
    Broken(String),
}

impl Link {
    async fn run(mut self) {
        let mut backoff = Backoff::new(self.config.seed);
        while !self.queue.is_closed() {
            let (reason, lasted) = match self.dial().await {
                Ok((connection, welcome)) => {
                    let since = Instant::now();
                    match self.serve(connection, welcome).await {
                        Ended::Dropped => return,
                        Ended::Broken(reason) => (reason, Some(since.elapsed())),
                    }
                }
                Err(reason) => (reason, None),
            };
            self.report_down(reason).await;
            tokio::select! {
                () = tokio::time::sleep(backoff.pause_after(lasted)) => {}
                () = self.state.hurry.notified() => {}
            }
        }
    }

    /// Connects, and judges who answers.
    async fn dial(&self) -> Result<(Connection, Welcome), String> {
        let hello = (self.config.hello)();
        let dialled = connect(&self.config.address, &hello, CONNECT_TIMEOUT, self.config.max_frame_bytes).await;
        let (connection, welcome) = dialled.map_err(|error| error.to_string())?;
        (self.config.check)(&welcome).map_err(|why| format!("{}: {why}", self.config.address))?;
        Ok((connection, welcome))
    }

    /// Takes frames while the connection lasts.
    async fn serve(&mut self, connection: Connection, welcome: Welcome) -> Ended {
        self.connections += 1;
        self.state.connection.store(self.connections, Ordering::Release);
        self.reported = None;
        let (peer, link) = (self.config.peer, self.config.link);
        self.tell(LinkEvent::Up { peer, link, welcome }).await;
        let ended = self.carry(connection).await;
        self.state.connection.store(DOWN, Ordering::Release);
        self.forget_waiting();
        ended
    }

    async fn report_down(&mut self, reason: String) {
        if self.reported.as_ref() != Some(&reason) {
            let (peer, link) = (self.config.peer, self.config.link);
            self.tell(LinkEvent::Down { peer, link, reason: reason.clone() }).await;
            self.reported = Some(reason);
        }
    }

    async fn tell(&self, event: LinkEvent) {
        // Nobody listens any more: the server is stopping.
        let _ = self.config.events.send(event).await;
    }

    /// Writes frames as they come, all that are waiting in one system call, until something breaks.
    async fn carry(&mut self, connection: Connection) -> Ended {
        let (mut reader, mut writer) = connection.into_inner().into_split();
        let mut buffer = BytesMut::new();
        loop {
            let queued = tokio::select! {
                queued = self.queue.recv() => queued,
                reason = closed(&mut reader) => return Ended::Broken(reason),
            };
            let Some(first) = queued else { return Ended::Dropped };
            let (size_bytes, gathered) = self.gather(first, &mut buffer);
            let written = match gathered {
                Ok(()) => write_out(&mut writer, &mut buffer).await,
                Err(reason) => Err(reason),
            };
            self.state.waiting_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
            if let Err(reason) = written {
                return Ended::Broken(reason);
            }
            if buffer.capacity() > 2 * MAX_WRITE_BYTES {
                // One huge frame must not cost its size for the rest of the connection's life.
                buffer = BytesMut::new();
            }
        }
    }

    /// Encodes `first` and what waits behind it, up to about [`MAX_WRITE_BYTES`]. Tells how many bytes left the queue.
    fn gather(&mut self, first: Queued, buffer: &mut BytesMut) -> (usize, Result<(), String>) {
        let mut size_bytes = 0;
        let mut next = Some(first);
        while let Some(Queued { connection, frame }) = next {
            size_bytes += frame.size_bytes();
            if connection == self.connections
                && let Err(error) = frame.encode(buffer, self.config.max_frame_bytes)
            {
                return (size_bytes, Err(error.to_string()));
            }
            next = if buffer.len() < MAX_WRITE_BYTES { self.queue.try_recv().ok() } else { None };
        }
        (size_bytes, Ok(()))
    }

    fn forget_waiting(&mut self) {
        while let Ok(queued) = self.queue.try_recv() {
            self.state.waiting_bytes.fetch_sub(queued.frame.size_bytes(), Ordering::Relaxed);
        }
    }
}

/// Writes all of `buffer`. However slow the network is, as long as it moves there is time.
async fn write_out(writer: &mut (impl AsyncWrite + Unpin), buffer: &mut BytesMut) -> Result<(), String> {
    while buffer.has_remaining() {
        match tokio::time::timeout(WRITE_TIMEOUT, writer.write_buf(buffer)).await {
            Ok(Ok(0)) => return Err("the other side takes nothing any more".to_owned()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(format!("the connection broke: {error}")),
            Err(_) => return Err(format!("nothing was taken for {} s", WRITE_TIMEOUT.as_secs())),
        }
    }
    Ok(())
}

/// Waits until the other side closes the connection; it has nothing else to say on it.
async fn closed(reader: &mut OwnedReadHalf) -> String {
    let mut unexpected = [0; 64];
    match reader.read(&mut unexpected).await {
        Ok(0) => "the other side closed the connection".to_owned(),
        Ok(_) => "the other side spoke on a link that is not its own".to_owned(),
        Err(error) => format!("the connection broke: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// The limit is on silence, not on the whole write: 8 MiB at 128 KiB a second are 64 seconds.
    #[tokio::test(start_paused = true)]
    async fn a_slow_network_has_time_as_long_as_it_moves() {
        let (mut near, mut far) = tokio::io::duplex(MIB);
        let slow_reader = async {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            let mut piece = vec![0; MIB / 8];
            for _ in 0..64 {
                second.tick().await;
                far.read_exact(&mut piece).await.unwrap();
            }
        };
        let mut buffer = BytesMut::zeroed(8 * MIB);
        let (written, ()) = tokio::join!(write_out(&mut near, &mut buffer), slow_reader);
        assert_eq!(written, Ok(()));
        assert!(buffer.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_stops_is_given_up() {
        let (mut near, mut far) = tokio::io::duplex(MIB);
        let reader_that_stops = async {
            far.read_exact(&mut vec![0; MIB]).await.unwrap();
            std::future::pending::<()>().await;
        };
        let begun = Instant::now();
        let mut buffer = BytesMut::zeroed(8 * MIB);
        let written = tokio::select! {
            written = write_out(&mut near, &mut buffer) => written,
            () = reader_that_stops => unreachable!(),
        };
        assert_eq!(written, Err("nothing was taken for 10 s".to_owned()));
        assert_eq!(begun.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
    }

    /// Rule 3, in the moment when a frame is queued for a connection that has just gone: it was taken for that one, so
    /// the next connection does not carry it.
    #[test]
    fn a_frame_taken_for_one_connection_travels_on_no_other() {
        let (frames, queue) = mpsc::channel(4);
        let (events, _told) = mpsc::channel(1);
        let config = LinkConfig {
            peer: 2,
            address: String::new(),
            link: LinkKind::Bulk,
            max_frame_bytes: MIB,
            hello: Box::new(|| unreachable!("nobody dials")),
            check: Box::new(|_| Ok(())),
            events,
            seed: 0,
        };
        let mut link = Link { config, queue, state: Arc::default(), connections: 2, reported: None };
        let frame = |name: &'static str| Frame {
            kind: crate::FrameKind::Node,
            group: 0,
            header: name.as_bytes().into(),
            payload: bytes::Bytes::new(),
        };
        frames.try_send(Queued { connection: 2, frame: frame("new") }).unwrap();
        frames.try_send(Queued { connection: 1, frame: frame("old as well") }).unwrap();

        let mut buffer = BytesMut::new();
        let (size_bytes, gathered) = link.gather(Queued { connection: 1, frame: frame("old") }, &mut buffer);
        gathered.unwrap();
        let all = [frame("old"), frame("new"), frame("old as well")];
        assert_eq!(size_bytes, all.iter().map(Frame::size_bytes).sum::<usize>(), "all have left the queue");
        assert_eq!(Frame::decode(&mut buffer, MIB).unwrap(), Some(frame("new")));
        assert!(buffer.is_empty(), "and only that one is sent");
    }
}
