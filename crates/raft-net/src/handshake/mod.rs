//! The handshake: who is there, and may they stay (rules 2 and 3).
//!
//! Whoever dials sends eight magic bytes and a [`Hello`]; whoever accepts answers with a [`Welcome`], or refuses with
//! the reason. Nothing else is read before, and at most 4 KiB of it; it all has to happen within a few seconds, so a
//! connection that stays silent costs nothing for long.
//!
//! Owns: the exchange, the version, who is told what when it fails. Does not own: who may come in, which the caller of
//! [`accept`] decides, and whether the server reached is the one meant, which the caller of [`connect`] judges from the
//! [`Welcome`].

mod error;
mod message;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, FramedParts};

pub use self::error::{AcceptError, ConnectError, HandshakeError, OtherProtocol};
pub use self::message::{HandshakeRefusal, Hello, LinkKind, PROTOCOL_VERSIONS, PeerHello, Role, VersionRange, Welcome};
use crate::frame::{Frame, FrameCodec, FrameKind};
use crate::socket;

/// The first bytes on every connection. The line break shows whether something on the way rewrites text.
pub const MAGIC: [u8; 8] = *b"raftd\r\n\x01";
/// The largest frame of a handshake.
const MAX_HANDSHAKE_BYTES: usize = 4 << 10;
/// How long a refused dialer has to read the reason, and how much of what it still says is read meanwhile.
const FAREWELL: (Duration, usize) = (Duration::from_secs(1), 64 << 10);

/// A connection after its handshake.
pub type Connection = Framed<TcpStream, FrameCodec>;

/// What an acceptor puts up with.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// The largest frame after the handshake, prefix included.
    pub max_frame_bytes: usize,
}

// --- the dialer --------------------------------------------------------------------------------------------------

/// Dials `address` and introduces itself, all within `timeout`.
///
/// # Errors
/// If nobody answers in time, the answer is no, or the other side speaks something else.
pub async fn connect(
    address: &str,
    hello: &Hello,
    timeout: Duration,
    max_frame_bytes: usize,
) -> Result<(Connection, Welcome), ConnectError> {
    let dial = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| ConnectError::Unreachable { address: address.to_owned(), source })?;
        introduce(stream, hello, max_frame_bytes).await.map_err(|source| match source {
            Introduction::Refused(refusal) => ConnectError::Refused { address: address.to_owned(), refusal },
            Introduction::Failed(source) => ConnectError::Protocol { address: address.to_owned(), source },
        })
    };
    let timed_out = |_| ConnectError::Timeout { address: address.to_owned(), timeout };
    tokio::time::timeout(timeout, dial).await.map_err(timed_out)?
}

/// How an introduction ends without a connection.
enum Introduction {
    Refused(HandshakeRefusal),
    Failed(HandshakeError),
}

impl<E: Into<HandshakeError>> From<E> for Introduction {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn introduce(
    mut stream: TcpStream,
    hello: &Hello,
    max_frame_bytes: usize,
) -> Result<(Connection, Welcome), Introduction> {
    socket::set_options(&stream)?;
    let mut greeting = BytesMut::from(&MAGIC[..]);
    to_frame(FrameKind::Hello, hello).encode(&mut greeting, MAX_HANDSHAKE_BYTES)?;
    stream.write_all(&greeting).await?;
    let mut buffer = BytesMut::new();
    let answer = match read_frame(&mut stream, &mut buffer).await {
        Ok(answer) => answer,
        Err(error) => return Err(recognise(error, &buffer).into()),
    };
    match answer.kind {
        FrameKind::Welcome => {
            let welcome: Welcome = postcard::from_bytes(&answer.header)?;
            if !(hello.versions.min..=hello.versions.max).contains(&welcome.version) {
                return Err(HandshakeError::VersionNotOffered(welcome.version).into());
            }
            Ok((into_connection(stream, buffer, max_frame_bytes), welcome))
        }
        FrameKind::Refused => Err(match postcard::from_bytes(&answer.header) {
            Ok(refusal) => Introduction::Refused(refusal),
            Err(_) => Introduction::Failed(HandshakeError::UnknownRefusal),
        }),
        kind @ (FrameKind::Hello
        | FrameKind::Request
        | FrameKind::Response
        | FrameKind::Push
        | FrameKind::Raft
        | FrameKind::Node) => Err(HandshakeError::UnexpectedKind(kind).into()),
    }
}

/// A better name for an answer that is no frame, if it is one of a well-known protocol.
fn recognise(error: HandshakeError, answer: &[u8]) -> HandshakeError {
    match OtherProtocol::of(answer) {
        OtherProtocol::Unknown => error,
        known @ (OtherProtocol::Http | OtherProtocol::Tls) => HandshakeError::Magic(known),
    }
}

// --- the acceptor ------------------------------------------------------------------------------------------------

/// Takes the other side's introduction and answers as `decide` says. The version is negotiated here: whatever `decide`
/// puts there is replaced, and it is not asked about a dialer with which no version is shared.
///
/// # Errors
/// If the handshake does not come in time, is none, or is refused. The connection is closed then; a dialer that is
/// refused has had up to a second to read why.
pub async fn accept(
    mut stream: TcpStream,
    limits: &AcceptLimits,
    decide: impl FnOnce(&Hello) -> Result<Welcome, HandshakeRefusal>,
) -> Result<(Connection, Hello), AcceptError> {
    let mut buffer = BytesMut::new();
    let greeted = tokio::time::timeout(limits.handshake_timeout, greet(&mut stream, &mut buffer, decide)).await;
    let error = match greeted {
        Ok(Ok(hello)) => return Ok((into_connection(stream, buffer, limits.max_frame_bytes), hello)),
        Ok(Err(error)) => error,
        Err(_) => AcceptError::Timeout(limits.handshake_timeout),
    };
    if let Some(refusal) = error.refusal() {
        // It may not wait for the answer; why it was refused is known here all the same.
        let _ = tokio::time::timeout(FAREWELL.0, refuse(&mut stream, &refusal)).await;
    }
    Err(error)
}

async fn greet(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    decide: impl FnOnce(&Hello) -> Result<Welcome, HandshakeRefusal>,
) -> Result<Hello, AcceptError> {
    socket::set_options(stream).map_err(HandshakeError::Io)?;
    read_magic(stream, buffer).await?;
    let frame = read_frame(stream, buffer).await?;
    if frame.kind != FrameKind::Hello {
        return Err(HandshakeError::UnexpectedKind(frame.kind).into());
    }
    // First and alone: the rest of a later version's Hello may mean nothing to this one.
    let theirs: VersionRange = postcard::take_from_bytes(&frame.header).map_err(HandshakeError::Malformed)?.0;
    let Some(version) = PROTOCOL_VERSIONS.newest_common(theirs) else {
        return Err(AcceptError::Refused(HandshakeRefusal::VersionUnsupported { ours: PROTOCOL_VERSIONS, theirs }));
    };
    let hello: Hello = postcard::from_bytes(&frame.header).map_err(HandshakeError::Malformed)?;
    let welcome = decide(&hello).map_err(AcceptError::Refused)?;
    write_frame(stream, &to_frame(FrameKind::Welcome, &Welcome { version, ..welcome })).await?;
    Ok(hello)
}

/// Says no, and lets the other side read it: a socket closed with unread bytes in it resets the connection, and the
/// reason would be lost.
async fn refuse(stream: &mut TcpStream, refusal: &HandshakeRefusal) -> Result<(), HandshakeError> {
    write_frame(stream, &to_frame(FrameKind::Refused, refusal)).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    let mut budget_bytes = FAREWELL.1;
    while budget_bytes > 0 {
        let read_bytes = stream.read(&mut rest).await?;
        if read_bytes == 0 {
            break;
        }
        budget_bytes = budget_bytes.saturating_sub(read_bytes);
    }
    Ok(())
}

// --- both --------------------------------------------------------------------------------------------------------

async fn read_magic(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), HandshakeError> {
    loop {
        let length = buffer.len().min(MAGIC.len());
        if buffer.get(..length) != MAGIC.get(..length) {
            return Err(HandshakeError::Magic(OtherProtocol::of(buffer)));
        }
        if length == MAGIC.len() {
            drop(buffer.split_to(length));
            return Ok(());
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_frame(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Frame, HandshakeError> {
    loop {
        if let Some(frame) = Frame::decode(buffer, MAX_HANDSHAKE_BYTES)? {
            return Ok(frame);
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_more(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), HandshakeError> {
    buffer.reserve(512);
    if stream.read_buf(buffer).await? == 0 {
        return Err(HandshakeError::Closed);
    }
    Ok(())
}

async fn write_frame(stream: &mut TcpStream, frame: &Frame) -> Result<(), HandshakeError> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes, MAX_HANDSHAKE_BYTES)?;
    stream.write_all(&bytes).await?;
    Ok(())
}

fn to_frame(kind: FrameKind, fields: &impl Serialize) -> Frame {
    let header = postcard::to_allocvec(fields).expect("encoding into memory that grows cannot fail").into();
    Frame { kind, group: 0, header, payload: Bytes::new() }
}

fn into_connection(stream: TcpStream, buffer: BytesMut, max_frame_bytes: usize) -> Connection {
    let mut parts = FramedParts::new::<Frame>(stream, FrameCodec::new(max_frame_bytes));
    parts.read_buf = buffer;
    Framed::from_parts(parts)
}
