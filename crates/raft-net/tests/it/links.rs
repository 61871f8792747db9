//! A link over real sockets: what it carries, what it refuses, and what becomes of it when the other side goes.

use std::time::Duration;

use raft_net::peer::{LinkConfig, LinkEvent, LinkSender, SendRefused, open_link};
use raft_net::{Frame, HandshakeRefusal, LinkKind, Welcome, accept};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{FrameReader, LIMITS, MAX_FRAME_BYTES, PATIENCE, frame, listen, peer_hello, welcome};

/// A link's near end, its events, and the peer it dials.
struct Stage {
    sender: LinkSender,
    events: mpsc::Receiver<LinkEvent>,
    peer: TcpListener,
}

impl Stage {
    async fn open() -> Self {
        Self::open_with(|_| Ok(())).await
    }

    async fn open_with(check: impl Fn(&Welcome) -> Result<(), String> + Send + Sync + 'static) -> Self {
        let (peer, address) = listen().await;
        let (sender, events) = link_to(address, check);
        Self { sender, events, peer }
    }

    /// The peer lets the link in, as this incarnation.
    async fn let_in(&self, incarnation: u64) -> FrameReader {
        let (stream, _) = self.peer.accept().await.unwrap();
        let (connection, hello) = accept(stream, &LIMITS, |_| Ok(welcome(incarnation))).await.unwrap();
        assert_eq!(hello, peer_hello());
        FrameReader::new(connection)
    }

    async fn refuse(&self) {
        let (stream, _) = self.peer.accept().await.unwrap();
        accept(stream, &LIMITS, |_| Err(HandshakeRefusal::UnknownPeer { id: 1 })).await.unwrap_err();
    }

    async fn up(&mut self) -> Welcome {
        let LinkEvent::Up { peer: 2, link: LinkKind::Bulk, welcome } = self.event().await else { panic!("not up") };
        welcome
    }

    async fn down(&mut self) -> String {
        let LinkEvent::Down { peer: 2, link: LinkKind::Bulk, reason } = self.event().await else { panic!("not down") };
        reason
    }

    async fn event(&mut self) -> LinkEvent {
        self.events.recv().await.unwrap()
    }
}

fn link_to(
    address: String,
    check: impl Fn(&Welcome) -> Result<(), String> + Send + Sync + 'static,
) -> (LinkSender, mpsc::Receiver<LinkEvent>) {
    let (events, told) = mpsc::channel(64);
    let config = LinkConfig {
        peer: 2,
        address,
        link: LinkKind::Bulk,
        max_frame_bytes: MAX_FRAME_BYTES,
        hello: Box::new(peer_hello),
        check: Box::new(check),
        events,
        seed: 1,
    };
    (open_link(config), told)
}

fn numbered(number: u32) -> Frame {
    frame(&number.to_le_bytes(), b"payload")
}

/// Runs a test, and fails instead of hanging.
async fn in_time<T>(test: impl Future<Output = T>) -> T {
    timeout(PATIENCE, test).await.expect("it hangs")
}

#[tokio::test]
async fn frames_arrive_in_order_and_whole() {
    in_time(async {
        let mut stage = Stage::open().await;
        let mut reader = stage.let_in(1).await;
        assert_eq!(stage.up().await, welcome(1));
        for number in 0..5_000 {
            while let Err(why) = stage.sender.try_send(numbered(number)) {
                assert_eq!(why, SendRefused::Full);
                tokio::task::yield_now().await;
            }
            if number % 100 == 99 {
                for expected in number - 99..=number {
                    assert_eq!(reader.next().await.unwrap(), Some(numbered(expected)));
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn while_it_is_down_frames_are_refused_and_none_is_kept() {
    in_time(async {
        let mut stage = Stage::open().await;
        assert_eq!(stage.sender.try_send(numbered(1)), Err(SendRefused::NotConnected), "not yet connected");
        let mut reader = stage.let_in(1).await;
        stage.up().await;
        stage.sender.try_send(numbered(2)).unwrap();
        assert_eq!(reader.next().await.unwrap(), Some(numbered(2)), "the one before was dropped");
        drop(reader);
        assert_eq!(stage.down().await, "the other side closed the connection");
        assert_eq!(stage.sender.try_send(numbered(3)), Err(SendRefused::NotConnected));
    })
    .await;
}

/// Rule 3: what was queued for one incarnation never reaches the next.
#[tokio::test]
async fn a_restarted_peer_gets_nothing_of_the_old_queue() {
    in_time(async {
        let mut stage = Stage::open().await;
        let reader = stage.let_in(1).await;
        stage.up().await;
        // All of it in one breath: the link has had no chance to write before the peer is gone.
        for number in 0..1_000 {
            stage.sender.try_send(numbered(number)).unwrap();
        }
        drop(reader);
        stage.down().await;
        let mut reader = stage.let_in(2).await;
        assert_eq!(stage.up().await.incarnation, 2);
        stage.sender.try_send(numbered(1_000_000)).unwrap();
        assert_eq!(reader.next().await.unwrap(), Some(numbered(1_000_000)));
    })
    .await;
}

/// The same where a queue is full of what the old connection could not take.
#[tokio::test]
async fn a_queue_that_was_full_is_empty_after_reconnecting() {
    in_time(async {
        let mut stage = Stage::open().await;
        let reader = stage.let_in(1).await;
        stage.up().await;
        // The kernel takes some; then the link's queue fills up behind it.
        let large = frame(b"", &vec![0; 1 << 20]);
        loop {
            match stage.sender.try_send(large.clone()) {
                Ok(()) => {}
                Err(why) => {
                    assert_eq!(why, SendRefused::Full);
                    break;
                }
            }
        }
        drop(reader);
        stage.down().await;
        let mut reader = stage.let_in(2).await;
        stage.up().await;
        // As many as ever fit: not one byte of the old queue is still counted.
        for number in 0..64 {
            stage.sender.try_send(frame(&[number], &vec![0; (1 << 20) - 100])).unwrap();
        }
        assert_eq!(reader.next().await.unwrap().unwrap().header[..], [0]);
    })
    .await;
}

/// A peer that stays away costs no memory: its queue is not kept until it is back.
#[tokio::test]
async fn a_broken_link_holds_none_of_its_frames() {
    in_time(async {
        let mut stage = Stage::open().await;
        let reader = stage.let_in(1).await;
        stage.up().await;
        let large = frame(b"", &vec![0; 1 << 20]);
        while stage.sender.try_send(large.clone()).is_ok() {}
        drop(reader);
        stage.down().await;
        assert!(large.payload.is_unique(), "the link still holds a frame");
    })
    .await;
}

#[tokio::test]
async fn the_queue_is_bounded_in_frames_and_in_bytes() {
    in_time(async {
        for (size_bytes, expected) in [(1, 131_072), (1 << 20, 63), ((1 << 20) - 100, 64)] {
            let mut stage = Stage::open().await;
            let mut reader = stage.let_in(1).await;
            stage.up().await;
            // Without a pause the link's task takes nothing.
            let mut taken = 0;
            let full = loop {
                match stage.sender.try_send(frame(b"", &vec![0; size_bytes])) {
                    Ok(()) => taken += 1,
                    Err(why) => break why,
                }
            };
            assert_eq!((taken, full), (expected, SendRefused::Full), "frames of {size_bytes} bytes");
            for _ in 0..taken {
                assert_eq!(reader.next().await.unwrap().unwrap().payload.len(), size_bytes);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_not_the_one_meant_is_not_spoken_to() {
    in_time(async {
        let mut stage = Stage::open_with(|welcome| match welcome.incarnation {
            1 => Err("it is node 3".to_owned()),
            _ => Ok(()),
        })
        .await;
        let mut reader = stage.let_in(1).await;
        let reason = stage.down().await;
        assert!(reason.ends_with("it is node 3") && reason.contains("127.0.0.1:"), "{reason}");
        assert_eq!(stage.sender.try_send(numbered(1)), Err(SendRefused::NotConnected));
        assert_eq!(reader.next().await.unwrap(), None, "closed, without a word");
        stage.let_in(2).await;
        stage.up().await;
    })
    .await;
}

/// A peer that is down for an hour is one line in the log.
#[tokio::test]
async fn the_same_reason_is_told_once() {
    in_time(async {
        let mut stage = Stage::open().await;
        for _ in 0..4 {
            stage.refuse().await;
        }
        let mut reader = stage.let_in(1).await;
        let reason = stage.down().await;
        assert!(reason.contains("node 1 is not a member"), "{reason}");
        stage.up().await;
        // After it was up, it is news again.
        assert!(reader.next().now_or_never().is_none());
        drop(reader);
        let closed = stage.down().await;
        drop(stage.let_in(1).await);
        stage.up().await;
        assert_eq!(stage.down().await, closed);
        stage.refuse().await;
        assert_eq!(stage.down().await, reason);
    })
    .await;
}

/// A restarted peer is met by its own links first. Whoever then waits out a pause of a second has no way to give it a
/// vote for so long.
#[tokio::test]
async fn a_sign_of_the_peer_ends_the_pause() {
    let mut stage = Stage::open().await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    // While this runs the clock stands still, and every pause lasts for ever. Without the hurry it ends by itself, the
    // clock goes on, and the assertion at the end fails.
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let clock_stands = tokio::task::spawn_blocking(move || held.recv_timeout(PATIENCE));

    stage.refuse().await;
    stage.down().await;
    stage.sender.hurry();
    stage.let_in(1).await;
    stage.up().await;
    assert_eq!(tokio::time::Instant::now(), began, "it waited out its pause");

    drop(release);
    clock_stands.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_peer_that_speaks_on_it_breaks_the_link() {
    in_time(async {
        let mut stage = Stage::open().await;
        let mut stream = stage.let_in(1).await.into_stream();
        stage.up().await;
        stream.write_all(b"hello?").await.unwrap();
        assert_eq!(stage.down().await, "the other side spoke on a link that is not its own");
    })
    .await;
}

#[tokio::test]
async fn a_frame_over_the_limit_breaks_the_link_and_the_next_one_is_good() {
    in_time(async {
        let mut stage = Stage::open().await;
        let mut reader = stage.let_in(1).await;
        stage.up().await;
        stage.sender.try_send(frame(b"", &vec![0; MAX_FRAME_BYTES])).unwrap();
        let reason = stage.down().await;
        assert!(reason.contains("the limit is 8388608"), "{reason}");
        assert_eq!(reader.next().await.unwrap(), None);
        let mut reader = stage.let_in(1).await;
        stage.up().await;
        stage.sender.try_send(numbered(1)).unwrap();
        assert_eq!(reader.next().await.unwrap(), Some(numbered(1)));
    })
    .await;
}

/// What was taken is written; then the connection is closed, and nobody dials again.
#[tokio::test]
async fn dropping_the_sender_ends_the_link() {
    in_time(async {
        let mut stage = Stage::open().await;
        let mut reader = stage.let_in(1).await;
        stage.up().await;
        stage.sender.try_send(numbered(1)).unwrap();
        let Stage { sender, mut events, peer: _peer } = stage;
        drop(sender);
        assert_eq!(reader.next().await.unwrap(), Some(numbered(1)));
        assert_eq!(reader.next().await.unwrap(), None);
        assert!(events.recv().await.is_none(), "the task is gone");
    })
    .await;
}

/// A peer that takes nothing (paused, or out of reach) is given up after ten seconds.
#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up() {
    let mut stage = Stage::open().await;
    let _reader = stage.let_in(1).await;
    stage.up().await;
    for _ in 0..60 {
        stage.sender.try_send(frame(b"", &vec![0; 1 << 20])).unwrap();
    }
    // From here on, time passes whenever there is nothing to do.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_eq!(stage.down().await, "nothing was taken for 10 s");
    assert!(begun.elapsed() >= Duration::from_secs(10));
}

/// One poll, for what must not be there yet.
trait NowOrNever: Future + Sized {
    fn now_or_never(self) -> Option<Self::Output> {
        let mut future = std::pin::pin!(self);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}

impl<F: Future> NowOrNever for F {}
