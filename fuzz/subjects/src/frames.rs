// SPDX-License-Identifier: Apache-2.0
//! Frames of NRI's multiplexer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use containerd_nri::mux::{
    HEADER, MAX_READ_PAYLOAD, Mux, MuxEnd, MuxError, PLUGIN_SERVICE, RUNTIME_SERVICE,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::runtime::Builder;

/// Each connection gets the payloads of its own frames, whole and in order, however the socket cuts them, and the end is the one
/// that the bytes have. The first byte says into what pieces they are cut.
pub fn take(data: &[u8]) -> bool {
    let Some((cut, sent)) = data.split_first() else {
        return false;
    };
    let expected = by_definition(sent);
    // One for each input: tasks that were stopped are freed with it, and not counted as leaks.
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let found = runtime.block_on(through_mux(usize::from(*cut).max(1), sent.to_vec()));
    drop(runtime);
    assert_eq!(found, expected);
    expected.end == End::ClosedByPeer && !sent.is_empty()
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    ClosedByPeer,
    CutOff,
    TooLong { id: u32, length: u32 },
}

#[derive(Debug, PartialEq, Eq)]
struct Received {
    plugin: Vec<u8>,
    runtime: Vec<u8>,
    end: End,
}

fn by_definition(mut sent: &[u8]) -> Received {
    let (mut plugin, mut runtime) = (Vec::new(), Vec::new());
    let end = loop {
        let Some((head, rest)) = sent.split_first_chunk::<HEADER>() else {
            break if sent.is_empty() {
                End::ClosedByPeer
            } else {
                End::CutOff
            };
        };
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (id, length) = (number(0), number(4));
        if length as usize > MAX_READ_PAYLOAD {
            break End::TooLong { id, length };
        }
        let (payload, after) = rest.split_at(rest.len().min(length as usize));
        match id {
            PLUGIN_SERVICE => plugin.extend_from_slice(payload),
            RUNTIME_SERVICE => runtime.extend_from_slice(payload),
            _ => {}
        }
        if payload.len() < length as usize {
            break End::CutOff;
        }
        sent = after;
    };
    Received {
        plugin,
        runtime,
        end,
    }
}

async fn through_mux(piece: usize, sent: Vec<u8>) -> Received {
    let mut mux = Mux::new(Trunk { piece, sent, at: 0 });
    let plugin = mux.open(PLUGIN_SERVICE).expect("the first time");
    let runtime = mux.open(RUNTIME_SERVICE).expect("the first time");
    let (end, plugin, runtime) = tokio::join!(mux.run(), to_end(plugin), to_end(runtime));
    let end = match end {
        Ok(MuxEnd::ClosedByPeer) => End::ClosedByPeer,
        Err(MuxError::CutOff) => End::CutOff,
        Err(MuxError::FrameTooLong { id, length }) => End::TooLong { id, length },
        other => panic!("no end that the bytes have: {other:?}"),
    };
    Received {
        plugin,
        runtime,
        end,
    }
}

async fn to_end(mut stream: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .await
        .expect("a pipe in memory");
    bytes
}

/// A socket whose peer has sent something, has closed, and takes whatever it gets.
struct Trunk {
    piece: usize,
    sent: Vec<u8>,
    at: usize,
}

impl AsyncRead for Trunk {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = (self.sent.len() - self.at)
            .min(self.piece)
            .min(buffer.remaining());
        buffer.put_slice(&self.sent[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Trunk {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
