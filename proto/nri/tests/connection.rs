// SPDX-License-Identifier: Apache-2.0
//! How connections begin and end: refusals, cuts, hostile bytes, restarts.

mod recorder;
mod runtime;

use std::sync::Arc;
use std::time::Duration;

use containerd_nri::mux::{MAX_READ_PAYLOAD, MuxError};
use containerd_nri::{Backoff, End, Identity};
use proptest::prelude::*;
use recorder::{Creation, Recorder};
use runtime::{Runtime, frame, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

fn identity() -> Identity {
    Identity::new("test", "42").unwrap()
}

/// Runs a plugin over a socket pair; the other end is the test's to misuse.
fn over_socket() -> (UnixStream, tokio::task::JoinHandle<End>) {
    let (ours, its) = UnixStream::pair().unwrap();
    let end = tokio::spawn(async move {
        containerd_nri::run_on(
            its,
            &identity(),
            Arc::new(Recorder::default()),
            std::future::pending(),
        )
        .await
    });
    (ours, end)
}

#[tokio::test]
async fn no_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nri.sock");
    let end = containerd_nri::run(
        &socket,
        &identity(),
        Arc::new(Recorder::default()),
        std::future::pending(),
    )
    .await;
    let text = end.to_string();
    assert!(matches!(end, End::Connect { .. }));
    assert!(
        text.starts_with("can't connect to the NRI socket /") && text.contains("No such file"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refused_registration_tells_why() {
    let runtime = Runtime::listen();
    let socket = runtime.socket();
    let end = tokio::spawn(async move {
        containerd_nri::run(
            socket,
            &identity(),
            Arc::new(Recorder::default()),
            std::future::pending(),
        )
        .await
    });
    let mut kind = runtime::containerd_2_1();
    kind.refuse_registration = true;
    let _link = runtime.accept(kind).await;
    let end = within(end).await.unwrap();
    assert_eq!(
        end.to_string(),
        "the runtime refused to register the plugin 42-test: invalid plugin index: no"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_runtime_is_not_waited_for_forever() {
    let (_socket, end) = over_socket();
    let end = end.await.unwrap();
    assert_eq!(
        end.to_string(),
        "the runtime did not register the plugin 42-test within 10 s"
    );
}

#[tokio::test]
async fn cut_between_and_within_frames() {
    let (mut socket, end) = over_socket();
    socket.write_all(&frame(1, &[])).await.unwrap();
    // Everything that the plugin wrote is read, so that the cut is a plain end of file.
    read_registration(&mut socket).await;
    drop(socket);
    assert!(matches!(within(end).await.unwrap(), End::Closed));

    let whole = frame(1, &[0; 100]);
    for cut in [1, 4, 7, 8, 50, 107] {
        let (mut socket, end) = over_socket();
        socket.write_all(&whole[..cut]).await.unwrap();
        read_registration(&mut socket).await;
        drop(socket);
        let end = within(end).await.unwrap();
        assert!(
            matches!(end, End::Transport(MuxError::CutOff)),
            "{cut}: {end:?}"
        );
    }
}

/// Reads the one frame that a plugin sends by itself.
async fn read_registration(socket: &mut UnixStream) {
    assert_eq!(socket.read_u32().await.unwrap(), 2);
    let length = socket.read_u32().await.unwrap();
    let mut payload = vec![0; length as usize];
    within(socket.read_exact(&mut payload)).await.unwrap();
    // ttrpc writes its header and the data apart, and they may come as two frames.
    if payload.len() == 10 {
        Box::pin(read_registration(socket)).await;
    }
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_connection() {
    for length in [MAX_READ_PAYLOAD as u32 + 1, u32::MAX] {
        let (mut socket, end) = over_socket();
        socket.write_u32(1).await.unwrap();
        socket.write_u32(length).await.unwrap();
        let end = within(end).await.unwrap();
        assert!(
            matches!(&end, End::Transport(MuxError::FrameTooLong { id: 1, length: it }) if *it == length),
            "{end:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_nobody_opened_is_ignored() {
    let (mut socket, end) = over_socket();
    for id in [0, 3, u32::MAX] {
        socket.write_all(&frame(id, &[1; 5000])).await.unwrap();
    }
    read_registration(&mut socket).await;
    assert!(!end.is_finished());
    drop(socket);
    assert!(matches!(within(end).await.unwrap(), End::Closed));
}

#[tokio::test]
async fn a_runtime_that_goes_away_in_the_middle_of_a_request() {
    let runtime = Runtime::listen();
    let socket = runtime.socket();
    let plugin = Arc::new(Recorder::creating(Creation::Sleep(Duration::from_millis(
        400,
    ))));
    let its = plugin.clone();
    let end = tokio::spawn(async move {
        containerd_nri::run(socket, &identity(), its, std::future::pending()).await
    });
    let link = runtime.establish(runtime::containerd_2_1()).await;
    let requests = link.plugin.clone();
    let request = tokio::spawn(async move {
        let mut request = containerd_nri::api::CreateContainerRequest::new();
        request.pod = protobuf::MessageField::some(runtime::pod());
        request.container = protobuf::MessageField::some(runtime::container());
        requests
            .create_container(ttrpc::context::Context::default(), &request)
            .await
    });
    while plugin.calls().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    link.close();
    assert!(within(request).await.unwrap().is_err());
    assert!(matches!(within(end).await.unwrap(), End::Closed));
    // The handler was not left behind.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(plugin.calls(), ["create_container"]);
}

#[tokio::test]
async fn comes_back_after_every_restart() {
    let runtime = Runtime::listen();
    let folder = runtime.folder();
    let plugin = Arc::new(Recorder::default());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let its = plugin.clone();
    let socket = runtime.socket();
    let running = tokio::spawn(async move {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(50));
        containerd_nri::run_with_reconnect(socket, &identity(), its, backoff, async {
            let _ = stopped.await;
        })
        .await;
    });
    runtime.establish(runtime::containerd_1_7()).await.close();
    drop(runtime);
    // Nobody listens for a while.
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Then another version does, as after an upgrade.
    let runtime = Runtime::listen_in(folder.clone());
    let link = runtime.establish(runtime::containerd_2_3()).await;
    link.create().await.unwrap();
    assert_eq!(plugin.synchronized.lock().unwrap().len(), 2);
    let version = plugin
        .configuration
        .lock()
        .unwrap()
        .clone()
        .unwrap()
        .version;
    assert!(version.can_adjust_seccomp());
    stop.send(()).unwrap();
    within(running).await.unwrap();
    let ends = plugin.ends.lock().unwrap().clone();
    assert_eq!(ends.first().unwrap(), "the runtime closed the connection");
    assert!(
        ends.iter().any(|end| end.starts_with("can't connect")),
        "{ends:?}"
    );
    assert_eq!(ends.last().unwrap(), "the plugin was asked to stop");
}

#[tokio::test]
async fn stops_at_once_while_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nri.sock");
    let backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(60));
    let plugin = Arc::new(Recorder::default());
    let stop = tokio::time::sleep(Duration::from_millis(50));
    within(containerd_nri::run_with_reconnect(
        socket,
        &identity(),
        plugin.clone(),
        backoff,
        stop,
    ))
    .await;
    assert_eq!(plugin.ends.lock().unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a peer sends, as valid frames around garbage or as plain garbage, the plugin ends in order.
    #[test]
    fn garbage_ends_the_connection_in_order(
        parts in prop::collection::vec((0_u32..4, prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20)
    ) {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        threads.block_on(async {
            let (mut socket, end) = over_socket();
            for (id, bytes, framed) in parts {
                let bytes = if framed { frame(id, &bytes) } else { bytes };
                if socket.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            drop(socket);
            let end = within(end).await.expect("the plugin panicked");
            assert!(!matches!(end, End::Stopped), "{end:?}");
        });
    }
}
