//! Both ends of a loopback connection, and what is said on it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft_net::{
    AcceptLimits, Connection, Frame, FrameCodec, FrameError, FrameKind, Hello, LinkKind, PROTOCOL_VERSIONS, PeerHello,
    Role, Welcome,
};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Decoder;

pub(crate) const MAX_FRAME_BYTES: usize = 8 << 20;
/// Only to fail instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const LIMITS: AcceptLimits = AcceptLimits { handshake_timeout: PATIENCE, max_frame_bytes: MAX_FRAME_BYTES };

pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A connection without a handshake: the dialer's end, the acceptor's.
pub(crate) async fn raw_pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen().await;
    let (dialer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (dialer.unwrap(), accepted.unwrap().0)
}

pub(crate) fn client_hello() -> Hello {
    Hello { versions: PROTOCOL_VERSIONS, cluster: None, role: Role::Client }
}

pub(crate) fn peer_hello() -> Hello {
    let peer =
        PeerHello { link: LinkKind::Bulk, id: 1, to: 2, disk: 3, incarnation: 4, client_address: "h:1".to_owned() };
    Hello { versions: PROTOCOL_VERSIONS, cluster: Some(5), role: Role::Peer(peer) }
}

pub(crate) fn welcome(incarnation: u64) -> Welcome {
    Welcome {
        version: 1,
        cluster: Some(5),
        id: 2,
        disk: 6,
        incarnation,
        client_address: "127.0.0.1:7001".to_owned(),
        cluster_time_ns: 7,
        leader: Some((2, "127.0.0.1:7001".to_owned())),
    }
}

pub(crate) fn frame(header: &[u8], payload: &[u8]) -> Frame {
    Frame {
        kind: FrameKind::Node,
        group: 0,
        header: Bytes::copy_from_slice(header),
        payload: Bytes::copy_from_slice(payload),
    }
}

pub(crate) fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes, usize::MAX).unwrap();
    bytes.to_vec()
}

/// Takes frames off a connection.
pub(crate) struct FrameReader {
    stream: TcpStream,
    codec: FrameCodec,
    buffer: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(connection: Connection) -> Self {
        let parts = connection.into_parts();
        Self { stream: parts.io, codec: parts.codec, buffer: parts.read_buf }
    }

    pub(crate) fn of_stream(stream: TcpStream, max_frame_bytes: usize) -> Self {
        Self { stream, codec: FrameCodec::new(max_frame_bytes), buffer: BytesMut::new() }
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.codec.decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    #[cfg(feature = "peer")]
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// The bytes a fixture shows.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
