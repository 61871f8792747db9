//! Frames from a connection, as they come.

use std::io;

use bytes::BytesMut;
use raft_net::{Connection, Frame, FrameCodec};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::Decoder;
use tracing::{debug, info};

/// How many bytes are read at once.
const READ_STEP_BYTES: usize = 64 << 10;

/// The reading half of a connection.
pub(super) struct Reader {
    half: OwnedReadHalf,
    codec: FrameCodec,
    buffer: BytesMut,
}

impl Reader {
    /// Splits a connection after its handshake, keeping what was read beyond it.
    pub(super) fn split(connection: Connection, max_frame_bytes: usize) -> (Self, OwnedWriteHalf) {
        let parts = connection.into_parts();
        let (half, writer) = parts.io.into_split();
        (Self { half, codec: FrameCodec::new(max_frame_bytes), buffer: parts.read_buf }, writer)
    }

    /// The next frame; `None` when the connection is closed, by the other side or because it sent what is no frame.
    pub(super) async fn next_frame(&mut self, from: &impl std::fmt::Display) -> Option<Frame> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => {
                    info!("closed a connection of {from}: {error}");
                    return None;
                }
            }
            self.buffer.reserve(READ_STEP_BYTES.min(self.buffer.capacity().max(4096)));
            match self.read_more().await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    debug!("lost a connection of {from}: {error}");
                    return None;
                }
            }
        }
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        self.half.read_buf(&mut self.buffer).await
    }
}
