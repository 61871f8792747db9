//! A link: one server's way to another, in one direction.
//!
//! A link dials, introduces itself, and carries frames until the connection breaks; then it dials again, after a pause
//! that grows and is jittered, so that a restarted server is not met by all its peers at once. Nothing queued for a
//! broken connection is carried over to the next one: the other side may be another incarnation (rule 3), and the
//! protocol sends again what matters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;

use crate::frame::Frame;
use crate::handshake::{Connection, Hello, LinkKind, Welcome, connect};

/// How many frames wait for a link at most.
const MAX_WAITING_FRAMES: usize = 1_024;
/// How many bytes of frames wait for a link at most; one frame is taken whatever its size.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// How much is written at once.
const MAX_WRITE_BYTES: usize = 1 << 20;
/// The first pause before dialling again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How long a connection and its handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the other side may take nothing of what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Judges what the other side says of itself; if it is not acceptable, why not.
pub type WelcomeCheck = Box<dyn Fn(&Welcome) -> Result<(), String> + Send + Sync>;

/// What a link needs to know.
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
    frames: mpsc::Sender<Frame>,
    state: Arc<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    is_up: AtomicBool,
    waiting_bytes: AtomicUsize,
}

impl LinkSender {
    /// Queues a frame; never waits.
    ///
    /// # Errors
    /// If the link is down or its queue full.
    pub fn try_send(&self, frame: Frame) -> Result<(), SendRefused> {
        if !self.state.is_up.load(Ordering::Acquire) {
            return Err(SendRefused::NotConnected);
        }
        let size_bytes = frame.size_bytes();
        let waiting_bytes = self.state.waiting_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        let queued = if waiting_bytes > 0 && waiting_bytes + size_bytes > MAX_WAITING_BYTES {
            Err(SendRefused::Full)
        } else {
            self.frames.try_send(frame).map_err(|error| match error {
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
    let link = Link { config, queue, state: Arc::clone(&state), reported: None };
    tokio::spawn(link.run());
    LinkSender { frames, state }
}

/// The task behind a link.
struct Link {
    config: LinkConfig,
    queue: mpsc::Receiver<Frame>,
    state: Arc<LinkState>,
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
        let mut generator = Pcg64Mcg::new(self.config.seed.into());
        let mut pause = BACKOFF.0;
        while !self.queue.is_closed() {
            let hello = (self.config.hello)();
            let dialled = connect(&self.config.address, &hello, CONNECT_TIMEOUT, self.config.max_frame_bytes).await;
            let checked = dialled.map_err(|error| error.to_string()).and_then(|(connection, welcome)| {
                (self.config.check)(&welcome)?;
                Ok((connection, welcome))
            });
            let reason = match checked {
                Ok((connection, welcome)) => {
                    pause = BACKOFF.0;
                    self.reported = None;
                    let (peer, link) = (self.config.peer, self.config.link);
                    self.tell(LinkEvent::Up { peer, link, welcome }).await;
                    self.state.is_up.store(true, Ordering::Release);
                    let ended = self.carry(connection).await;
                    self.state.is_up.store(false, Ordering::Release);
                    self.forget_waiting();
                    match ended {
                        Ended::Dropped => return,
                        Ended::Broken(reason) => reason,
                    }
                }
                Err(reason) => reason,
            };
            if self.reported.as_ref() != Some(&reason) {
                let (peer, link) = (self.config.peer, self.config.link);
                self.tell(LinkEvent::Down { peer, link, reason: reason.clone() }).await;
                self.reported = Some(reason);
            }
            tokio::time::sleep(jittered(pause, &mut generator)).await;
            pause = (pause * 2).min(BACKOFF.1);
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
            let frame = tokio::select! {
                frame = self.queue.recv() => frame,
                reason = closed(&mut reader) => return Ended::Broken(reason),
            };
            let Some(frame) = frame else { return Ended::Dropped };
            let mut next = Some(frame);
            let mut size_bytes = 0;
            while let Some(frame) = next {
                size_bytes += frame.size_bytes();
                if let Err(error) = frame.encode(&mut buffer, self.config.max_frame_bytes) {
                    return Ended::Broken(error.to_string());
                }
                next = if buffer.len() < MAX_WRITE_BYTES { self.queue.try_recv().ok() } else { None };
            }
            let written = tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&buffer)).await;
            self.state.waiting_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
            buffer.clear();
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Ended::Broken(format!("the connection broke: {error}")),
                Err(_) => return Ended::Broken(format!("nothing was taken for {} s", WRITE_TIMEOUT.as_secs())),
            }
        }
    }

    fn forget_waiting(&mut self) {
        while let Ok(frame) = self.queue.try_recv() {
            self.state.waiting_bytes.fetch_sub(frame.size_bytes(), Ordering::Relaxed);
        }
    }
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

/// Between half of `pause` and one and a half.
fn jittered(pause: Duration, generator: &mut Pcg64Mcg) -> Duration {
    let share = f64::from(generator.next_u32()) / f64::from(u32::MAX);
    pause / 2 + pause.mul_f64(share)
}
