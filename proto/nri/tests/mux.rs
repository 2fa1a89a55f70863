// SPDX-License-Identifier: Apache-2.0
//! Properties of the multiplexer.

use containerd_nri::mux::{HEADER, MAX_READ_PAYLOAD, MAX_WRITTEN_PAYLOAD, Mux, MuxEnd, MuxError};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn frame(id: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = id.to_be_bytes().to_vec();
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame
}

/// Splits what a mux wrote into (connection, payload).
fn frames(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let id = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let length = u32::from_be_bytes(bytes[4..HEADER].try_into().unwrap()) as usize;
        frames.push((id, bytes[HEADER..HEADER + length].to_vec()));
        bytes = &bytes[HEADER + length..];
    }
    frames
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_secs(20), future)
            .await
            .expect("hangs")
    })
}

#[test]
fn ids() {
    run(async {
        let mut mux = Mux::new(tokio::io::duplex(64).0);
        assert!(matches!(mux.open(0), Err(MuxError::ReservedId)));
        let _one = mux.open(1).unwrap();
        assert!(matches!(mux.open(1), Err(MuxError::AlreadyOpen(1))));
    });
}

#[test]
fn the_longest_message_of_ttrpc_passes() {
    run(async {
        let (trunk, mut peer) = tokio::io::duplex(1 << 16);
        let mut mux = Mux::new(trunk);
        let mut connection = mux.open(1).unwrap();
        let moved = tokio::spawn(mux.run());
        let message = vec![0xa5; MAX_READ_PAYLOAD];
        let sent = tokio::spawn(async move { peer.write_all(&frame(1, &message)).await });
        let mut received = Vec::new();
        connection.read_to_end(&mut received).await.unwrap();
        sent.await.unwrap().unwrap();
        assert!(received.len() == MAX_READ_PAYLOAD && received.iter().all(|byte| *byte == 0xa5));
        drop(connection);
        moved.await.unwrap().unwrap();
    });
}

#[test]
fn closing_one_connection_leaves_the_other() {
    run(async {
        let (trunk, mut peer) = tokio::io::duplex(1 << 16);
        let mut mux = Mux::new(trunk);
        let one = mux.open(1).unwrap();
        let mut two = mux.open(2).unwrap();
        let moved = tokio::spawn(mux.run());
        drop(one);
        peer.write_all(&frame(1, b"to nobody")).await.unwrap();
        peer.write_all(&frame(2, b"hello")).await.unwrap();
        let mut buffer = [0; 5];
        two.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"hello");
        two.write_all(b"last words").await.unwrap();
        drop(two);
        assert_eq!(moved.await.unwrap().unwrap(), MuxEnd::ClosedHere);
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.unwrap();
        assert_eq!(frames(&rest), [(2, b"last words".to_vec())]);
    });
}

#[test]
fn a_peer_that_does_not_read_does_not_hold_up_its_own_end() {
    run(async {
        let (trunk, peer) = tokio::io::duplex(64);
        let mut mux = Mux::new(trunk);
        let mut connection = mux.open(1).unwrap();
        let moved = tokio::spawn(mux.run());
        connection.write_all(&[0; 10_000]).await.unwrap();
        drop(peer);
        assert_eq!(moved.await.unwrap().unwrap(), MuxEnd::ClosedByPeer);
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    });
}

fn bytes(up_to: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..up_to)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What goes into connections comes out as frames of at most 4096 bytes, complete and in order.
    #[test]
    fn writes(messages in prop::collection::vec((1_u32..=3, bytes(20_000)), 0..12), trunk_size in 1_usize..9000) {
        run(async {
            let (trunk, mut peer) = tokio::io::duplex(trunk_size);
            let mut mux = Mux::new(trunk);
            let mut connections: Vec<_> = (1..=3).map(|id| mux.open(id).unwrap()).collect();
            let moved = tokio::spawn(mux.run());
            let read = tokio::spawn(async move {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).await.unwrap();
                all
            });
            let mut expected = vec![Vec::new(); 3];
            for (id, message) in &messages {
                let index = *id as usize - 1;
                connections[index].write_all(message).await.unwrap();
                expected[index].extend_from_slice(message);
            }
            drop(connections);
            assert_eq!(moved.await.unwrap().unwrap(), MuxEnd::ClosedHere);
            let mut got = vec![Vec::new(); 3];
            for (id, payload) in frames(&read.await.unwrap()) {
                assert!(!payload.is_empty() && payload.len() <= MAX_WRITTEN_PAYLOAD, "{}", payload.len());
                got[id as usize - 1].extend(payload);
            }
            assert_eq!(got, expected);
        });
    }

    /// Frames come out of their connections complete and in order, however the socket cuts them, with frames of
    /// other connections in between.
    #[test]
    fn reads(
        sent in prop::collection::vec((0_u32..5, bytes(9000)), 0..12),
        cuts in prop::collection::vec(1_usize..5000, 1..8),
    ) {
        run(async {
            let (trunk, mut peer) = tokio::io::duplex(4096);
            let mut mux = Mux::new(trunk);
            let readers: Vec<_> = (1..=2)
                .map(|id| {
                    let mut connection = mux.open(id).unwrap();
                    tokio::spawn(async move {
                        let mut all = Vec::new();
                        connection.read_to_end(&mut all).await.unwrap();
                        all
                    })
                })
                .collect();
            let moved = tokio::spawn(mux.run());
            let mut expected = vec![Vec::new(); 5];
            let mut stream = Vec::new();
            for (id, payload) in &sent {
                stream.extend(frame(*id, payload));
                expected[*id as usize].extend_from_slice(payload);
            }
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, next) = rest.split_at((*cut).min(rest.len()));
                peer.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
                rest = next;
            }
            drop(peer);
            assert_eq!(moved.await.unwrap().unwrap(), MuxEnd::ClosedByPeer);
            for (id, reader) in (1..=2).zip(readers) {
                assert_eq!(reader.await.unwrap(), expected[id], "connection {id}");
            }
        });
    }

    /// Any bytes end in order: as a clean close, a cut, or a frame that is too long.
    #[test]
    fn any_bytes(stream in bytes(300)) {
        run(async {
            let (trunk, mut peer) = tokio::io::duplex(512);
            let mut mux = Mux::new(trunk);
            let mut connection = mux.open(1).unwrap();
            let moved = tokio::spawn(mux.run());
            peer.write_all(&stream).await.unwrap();
            drop(peer);
            let result = moved.await.expect("panicked");
            assert!(
                matches!(result, Ok(MuxEnd::ClosedByPeer) | Err(MuxError::CutOff | MuxError::FrameTooLong { .. })),
                "{result:?}"
            );
            let mut out = Vec::new();
            connection.read_to_end(&mut out).await.unwrap();
            assert!(out.len() <= stream.len());
        });
    }
}
