// SPDX-License-Identifier: Apache-2.0
//! The multiplexer below NRI: several byte streams over one Unix socket.
//!
//! A frame is a connection id and a payload length, both big-endian u32, and the payload. Connections need no set-up
//! and have no flow control. There are two: [`PLUGIN_SERVICE`], on which the plugin serves, and [`RUNTIME_SERVICE`],
//! on which it calls; inside each runs ttrpc.
//!
//! What the Go implementation (`containerd/nri`, `pkg/net/multiplex`) makes of frames decides what may be sent:
//!
//! - its reader gives one frame to one `Read` call of a 4096-byte buffered reader, and a longer frame fails that call
//!   and closes the connection, so writers here never exceed [`MAX_WRITTEN_PAYLOAD`];
//! - its writer puts a whole ttrpc message into one frame, so readers here take up to [`MAX_READ_PAYLOAD`];
//! - frames for a connection that nobody opened are dropped, here as there;
//! - at most 256 frames wait for a reader that is slow, then it closes the connection: a message of more than 1 MiB
//!   is at the mercy of its scheduler.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf,
};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Connection on which the plugin serves the `Plugin` service.
pub const PLUGIN_SERVICE: u32 = 1;
/// Connection on which the plugin calls the `Runtime` service.
pub const RUNTIME_SERVICE: u32 = 2;
/// Largest payload written into one frame, bytes.
pub const MAX_WRITTEN_PAYLOAD: usize = 4096;
/// Largest payload accepted in one frame: a ttrpc message of 4 MiB and its 10-byte header.
pub const MAX_READ_PAYLOAD: usize = (4 << 20) + 10;
/// Bytes of a frame's header.
pub const HEADER: usize = 8;

/// Bytes that one connection buffers in each direction.
const PIPE: usize = 64 << 10;
/// Time to read what a peer left behind that no longer takes our writes.
const GRACE: Duration = Duration::from_millis(200);
/// Bytes moved at once from a frame to its connection.
const CHUNK: usize = 16 << 10;

/// Why a mux could not be set up or stopped.
#[derive(Debug, Error)]
pub enum MuxError {
    /// Connection id 0 is reserved by the protocol.
    #[error("mux connection id 0 is reserved")]
    ReservedId,
    /// Each connection can be opened once.
    #[error("mux connection {0} is open already")]
    AlreadyOpen(u32),
    /// A frame announces a payload longer than any ttrpc message; nothing of it was read.
    #[error(
        "the peer announced a mux frame of {length} bytes for connection {id}, the limit is {MAX_READ_PAYLOAD}"
    )]
    FrameTooLong {
        /// Connection id in the frame's header.
        id: u32,
        /// Payload length in the frame's header, bytes.
        length: u32,
    },
    /// The peer went away between the first and the last byte of a frame.
    #[error("the peer closed the socket in the middle of a mux frame")]
    CutOff,
    /// The socket failed.
    #[error("the socket failed while {doing}: {source}")]
    Socket {
        /// "reading" or "writing".
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How a mux ended without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MuxEnd {
    /// The peer closed the socket between two frames.
    ClosedByPeer,
    /// Every connection was closed on this side, and what they had written was sent.
    ClosedHere,
}

/// A multiplexer over `trunk`. Open the connections, then [`run`](Mux::run) it in a task.
#[derive(Debug)]
pub struct Mux<T> {
    trunk: T,
    connections: BTreeMap<u32, DuplexStream>,
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Mux<T> {
    /// A multiplexer without connections.
    pub fn new(trunk: T) -> Self {
        Self {
            trunk,
            connections: BTreeMap::new(),
        }
    }

    /// Opens connection `id`. Dropping the stream closes the connection; frames for it are dropped from then on.
    ///
    /// # Errors
    /// `id` is 0 or already open.
    pub fn open(&mut self, id: u32) -> Result<DuplexStream, MuxError> {
        if id == 0 {
            return Err(MuxError::ReservedId);
        }
        if self.connections.contains_key(&id) {
            return Err(MuxError::AlreadyOpen(id));
        }
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.connections.insert(id, ours);
        Ok(theirs)
    }

    /// Moves bytes until the peer closes the socket, every connection is closed here, or something fails. However it
    /// ends, all connections then read end-of-file.
    ///
    /// # Errors
    /// The socket failed, or the peer broke the protocol.
    pub async fn run(self) -> Result<MuxEnd, MuxError> {
        let (reader, writer) = tokio::io::split(self.trunk);
        let writer = std::sync::Arc::new(Mutex::new(writer));
        let mut incoming = BTreeMap::new();
        // Dropping the set ends its tasks, so nothing outlives this call.
        let mut outgoing = JoinSet::new();
        for (id, stream) in self.connections {
            let (from_local, to_local) = tokio::io::split(stream);
            incoming.insert(id, to_local);
            let writer = writer.clone();
            outgoing.spawn(async move { send_frames(id, from_local, &writer).await });
        }

        let all_sent = async {
            while let Some(result) = outgoing.join_next().await {
                match result {
                    Ok(sent) => sent?,
                    Err(failed) => {
                        return Err(MuxError::Socket {
                            doing: "writing",
                            source: io::Error::other(failed),
                        });
                    }
                }
            }
            Ok(MuxEnd::ClosedHere)
        };
        let result = {
            let mut received = std::pin::pin!(receive_frames(reader, &mut incoming));
            tokio::select! {
                biased;
                read = received.as_mut() => read.map(|()| MuxEnd::ClosedByPeer),
                sent = all_sent => match sent {
                    // A peer that is gone also fails our writes: how its bytes end is the better explanation.
                    Err(failure) => match tokio::time::timeout(GRACE, received).await {
                        Ok(read) => read.map(|()| MuxEnd::ClosedByPeer),
                        Err(_) => Err(failure),
                    },
                    sent => sent,
                },
            }
        };
        for connection in incoming.values_mut() {
            let _ = connection.shutdown().await;
        }
        // A writer that waits for a peer that does not read holds the lock, and must not keep us here.
        if let Ok(mut trunk) = writer.try_lock() {
            let _ = trunk.shutdown().await;
        }
        result
    }
}

/// Writes what connection `id` sends, until it is closed.
async fn send_frames<T: AsyncWrite>(
    id: u32,
    mut from: ReadHalf<DuplexStream>,
    trunk: &Mutex<WriteHalf<T>>,
) -> Result<(), MuxError> {
    let mut frame = vec![0; HEADER + MAX_WRITTEN_PAYLOAD];
    frame[..4].copy_from_slice(&id.to_be_bytes());
    loop {
        let length = match from.read(&mut frame[HEADER..]).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => length,
        };
        frame[4..HEADER].copy_from_slice(&(length as u32).to_be_bytes());
        // The lock is held for a whole frame, so frames of two connections never interleave.
        let mut trunk = trunk.lock().await;
        trunk
            .write_all(&frame[..HEADER + length])
            .await
            .map_err(|source| MuxError::Socket {
                doing: "writing",
                source,
            })?;
    }
}

/// Reads frames and gives them to their connections, until the socket ends between two frames.
async fn receive_frames<T: AsyncRead>(
    mut trunk: ReadHalf<T>,
    connections: &mut BTreeMap<u32, WriteHalf<DuplexStream>>,
) -> Result<(), MuxError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut header = [0; HEADER];
        if !read_header(&mut trunk, &mut header).await? {
            return Ok(());
        }
        let [i0, i1, i2, i3, l0, l1, l2, l3] = header;
        let id = u32::from_be_bytes([i0, i1, i2, i3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length as usize > MAX_READ_PAYLOAD {
            return Err(MuxError::FrameTooLong { id, length });
        }
        if !connections.contains_key(&id) {
            tracing::debug!(
                id,
                length,
                "dropping a mux frame for a connection that is not open"
            );
        }
        let mut left = length as usize;
        while left > 0 {
            let part = left.min(CHUNK);
            let read = trunk.read(&mut chunk[..part]).await.map_err(reading)?;
            if read == 0 {
                return Err(MuxError::CutOff);
            }
            left -= read;
            if let Some(connection) = connections.get_mut(&id)
                && connection.write_all(&chunk[..read]).await.is_err()
            {
                // Closed on this side; the other connections go on.
                connections.remove(&id);
            }
        }
    }
}

/// Fills `header`; false when the socket ended before its first byte.
async fn read_header<T: AsyncRead>(
    trunk: &mut ReadHalf<T>,
    header: &mut [u8; HEADER],
) -> Result<bool, MuxError> {
    let mut filled = 0;
    while filled < HEADER {
        match trunk.read(&mut header[filled..]).await {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(MuxError::CutOff),
            Ok(read) => filled += read,
            // The kernel says "reset" instead of end-of-file when the peer left data of ours unread.
            Err(error) if filled == 0 && error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(false);
            }
            Err(error) => return Err(reading(error)),
        }
    }
    Ok(true)
}

fn reading(source: io::Error) -> MuxError {
    MuxError::Socket {
        doing: "reading",
        source,
    }
}
