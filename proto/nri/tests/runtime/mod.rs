// SPDX-License-Identifier: Apache-2.0
//! A runtime for tests, written from the NRI definitions and from what containerd's Go code does with frames. It shares
//! the messages with the crate under test and nothing else: the framing is its own.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use containerd_nri::api::{self, service};
use protobuf::MessageField;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use ttrpc::r#async::TtrpcContext;
use ttrpc::asynchronous::transport::{Listener, Socket};

/// How events without an answer are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// NRI up to 0.11.
    StateChange,
    /// NRI 0.12.
    OneRpcEach,
}

/// How messages are cut into frames.
#[derive(Clone, Copy, Debug)]
pub enum Framing {
    /// As Go writes them: one message, one frame.
    Whole,
    /// In frames of at most this many bytes, with empty ones and foreign connections in between.
    Shredded(usize),
}

/// What kind of runtime to be.
#[derive(Clone, Debug)]
pub struct Kind {
    pub version: &'static str,
    pub nri: &'static str,
    pub style: Style,
    pub framing: Framing,
    pub configure_before_reply: bool,
    pub request_timeout: Duration,
    pub refuse_registration: bool,
}

impl Kind {
    pub fn new(version: &'static str, nri: &'static str, style: Style) -> Self {
        Self {
            version,
            nri,
            style,
            framing: Framing::Whole,
            configure_before_reply: false,
            request_timeout: Duration::from_secs(2),
            refuse_registration: false,
        }
    }

    /// The events that this runtime accepts in a subscription: it refuses any other bit.
    pub fn valid_events(&self) -> i32 {
        match self.version {
            "1.7.24~ds1" | "2.1.9+unknown" => (1 << 11) - 1,
            _ => (1 << 14) - 1,
        }
    }
}

pub fn containerd_1_7() -> Kind {
    Kind::new("1.7.24~ds1", "", Style::StateChange)
}

pub fn containerd_2_1() -> Kind {
    Kind::new("2.1.9+unknown", "", Style::StateChange)
}

pub fn containerd_2_2() -> Kind {
    Kind::new("v2.2.1", "", Style::StateChange)
}

pub fn containerd_2_3() -> Kind {
    Kind::new("v2.3.4", "v0.12.0", Style::OneRpcEach)
}

/// A listening runtime.
pub struct Runtime {
    listener: UnixListener,
    folder: Arc<tempfile::TempDir>,
}

impl Runtime {
    pub fn listen() -> Self {
        Self::listen_in(Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Listens again in the folder of an earlier runtime, as after a restart.
    pub fn listen_in(folder: Arc<tempfile::TempDir>) -> Self {
        let path = folder.path().join("nri.sock");
        let _ = std::fs::remove_file(&path);
        Self {
            listener: UnixListener::bind(path).unwrap(),
            folder,
        }
    }

    pub fn folder(&self) -> Arc<tempfile::TempDir> {
        self.folder.clone()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("nri.sock")
    }

    /// Takes the next plugin's connection as it is.
    pub async fn accept_raw(&self) -> UnixStream {
        within(self.listener.accept()).await.unwrap().0
    }

    /// Takes the next plugin and serves the Runtime service to it.
    pub async fn accept(&self, kind: Kind) -> Link {
        Link::over(self.accept_raw().await, kind).await
    }

    /// Takes the next plugin and does what containerd does first: registration, configuration, synchronisation.
    pub async fn establish(&self, kind: Kind) -> Link {
        let mut link = self.accept(kind).await;
        link.introduce().await;
        link
    }
}

/// One plugin's connection.
pub struct Link {
    pub plugin: service::PluginClient,
    pub kind: Kind,
    pub registered: Option<api::RegisterPluginRequest>,
    pub events: i32,
    /// Longest frame that the plugin wrote.
    pub longest_frame: Arc<Mutex<usize>>,
    /// What the plugin asked for outside of events.
    pub updates: mpsc::UnboundedReceiver<api::UpdateContainersRequest>,
    registrations: mpsc::UnboundedReceiver<api::RegisterPluginRequest>,
    early: Arc<Mutex<Option<ttrpc::Result<api::ConfigureResponse>>>>,
    trunk: tokio::task::JoinHandle<()>,
    _server: ttrpc::r#async::Server,
}

impl Link {
    pub async fn over(socket: UnixStream, kind: Kind) -> Self {
        let (plugin_side, plugin_pipe) = tokio::io::duplex(1 << 20);
        let (runtime_side, runtime_pipe) = tokio::io::duplex(1 << 20);
        let longest_frame = Arc::new(Mutex::new(0));
        let trunk = tokio::spawn(relay(
            socket,
            plugin_pipe,
            runtime_pipe,
            kind.framing,
            longest_frame.clone(),
        ));
        let plugin =
            service::PluginClient::new(ttrpc::r#async::Client::new(Socket::new(plugin_side)));
        let (registered, registrations) = mpsc::unbounded_channel();
        let (update, updates) = mpsc::unbounded_channel();
        let early = Arc::new(Mutex::new(None));
        let service = RuntimeService {
            plugin: plugin.clone(),
            kind: kind.clone(),
            registered,
            update,
            early: early.clone(),
        };
        let mut server = ttrpc::r#async::Server::new()
            .add_listener(Listener::new(futures_util::stream::iter([Ok(
                runtime_side,
            )])))
            .register_service(service::create_runtime(Arc::new(service)));
        server.start().await.unwrap();
        Self {
            plugin,
            kind,
            registered: None,
            events: 0,
            longest_frame,
            updates,
            registrations,
            early,
            trunk,
            _server: server,
        }
    }

    pub async fn registration(&mut self) -> api::RegisterPluginRequest {
        within(self.registrations.recv()).await.unwrap()
    }

    pub async fn configure(&self) -> ttrpc::Result<api::ConfigureResponse> {
        configure(&self.plugin, &self.kind).await
    }

    pub async fn introduce(&mut self) {
        self.registered = Some(self.registration().await);
        let early = self.early.lock().unwrap().take();
        let response = match early {
            Some(response) => response,
            None => self.configure().await,
        };
        self.events = response.unwrap().events;
        assert_eq!(
            self.events & !self.kind.valid_events(),
            0,
            "the runtime would refuse: invalid plugin events"
        );
        self.synchronize(vec![pod()], vec![container()]).await;
    }

    pub async fn synchronize(&self, pods: Vec<api::PodSandbox>, containers: Vec<api::Container>) {
        let mut request = api::SynchronizeRequest::new();
        request.pods = pods;
        request.containers = containers;
        let response = self
            .plugin
            .synchronize(self.context(), &request)
            .await
            .unwrap();
        assert!(!response.more);
    }

    pub fn context(&self) -> ttrpc::context::Context {
        ttrpc::context::with_duration(self.kind.request_timeout)
    }

    pub async fn create(&self) -> ttrpc::Result<api::CreateContainerResponse> {
        let mut request = api::CreateContainerRequest::new();
        request.pod = MessageField::some(pod());
        request.container = MessageField::some(container());
        self.plugin.create_container(self.context(), &request).await
    }

    /// Sends an event without an answer, in the runtime's style.
    pub async fn notify(&self, event: api::Event) -> ttrpc::Result<()> {
        if self.kind.style == Style::StateChange {
            let mut request = api::StateChangeEvent::new();
            request.event = event.into();
            request.pod = MessageField::some(pod());
            if !format!("{event:?}").contains("POD") {
                request.container = MessageField::some(container());
            }
            return self
                .plugin
                .state_change(self.context(), &request)
                .await
                .map(drop);
        }
        macro_rules! send {
            ($request:ident, $method:ident $(, $container:ident)?) => {{
                let mut request = api::$request::new();
                request.pod = MessageField::some(pod());
                $(request.$container = MessageField::some(container());)?
                self.plugin.$method(self.context(), &request).await.map(drop)
            }};
        }
        use api::Event::*;
        match event {
            RUN_POD_SANDBOX => send!(RunPodSandboxRequest, run_pod_sandbox),
            POST_UPDATE_POD_SANDBOX => send!(PostUpdatePodSandboxRequest, post_update_pod_sandbox),
            STOP_POD_SANDBOX => send!(StopPodSandboxRequest, stop_pod_sandbox),
            REMOVE_POD_SANDBOX => send!(RemovePodSandboxRequest, remove_pod_sandbox),
            POST_CREATE_CONTAINER => {
                send!(PostCreateContainerRequest, post_create_container, container)
            }
            START_CONTAINER => send!(StartContainerRequest, start_container, container),
            POST_START_CONTAINER => {
                send!(PostStartContainerRequest, post_start_container, container)
            }
            POST_UPDATE_CONTAINER => {
                send!(PostUpdateContainerRequest, post_update_container, container)
            }
            REMOVE_CONTAINER => send!(RemoveContainerRequest, remove_container, container),
            other => panic!("{other:?} has an answer"),
        }
    }

    /// Closes the socket, as a runtime does that ends or throws the plugin out.
    pub fn close(self) {
        self.trunk.abort();
    }
}

async fn configure(
    plugin: &service::PluginClient,
    kind: &Kind,
) -> ttrpc::Result<api::ConfigureResponse> {
    let mut request = api::ConfigureRequest::new();
    request.config = "drop-in".into();
    request.runtime_name = "containerd".into();
    request.runtime_version = kind.version.into();
    request.NRI_version = kind.nri.into();
    request.registration_timeout = 5000;
    request.request_timeout = kind.request_timeout.as_millis() as i64;
    plugin
        .configure(
            ttrpc::context::with_duration(kind.request_timeout),
            &request,
        )
        .await
}

struct RuntimeService {
    plugin: service::PluginClient,
    kind: Kind,
    registered: mpsc::UnboundedSender<api::RegisterPluginRequest>,
    update: mpsc::UnboundedSender<api::UpdateContainersRequest>,
    early: Arc<Mutex<Option<ttrpc::Result<api::ConfigureResponse>>>>,
}

#[async_trait]
impl service::Runtime for RuntimeService {
    async fn register_plugin(
        &self,
        _: &TtrpcContext,
        request: api::RegisterPluginRequest,
    ) -> ttrpc::Result<api::Empty> {
        if self.kind.refuse_registration {
            let status = ttrpc::get_status(ttrpc::Code::UNKNOWN, "invalid plugin index: no");
            return Err(ttrpc::Error::RpcStatus(status));
        }
        if self.kind.configure_before_reply {
            let response = configure(&self.plugin, &self.kind).await;
            *self.early.lock().unwrap() = Some(response);
        }
        self.registered.send(request).unwrap();
        Ok(api::Empty::new())
    }

    async fn update_containers(
        &self,
        _: &TtrpcContext,
        request: api::UpdateContainersRequest,
    ) -> ttrpc::Result<api::UpdateContainersResponse> {
        let mut response = api::UpdateContainersResponse::new();
        response.failed = request
            .update
            .iter()
            .filter(|update| update.container_id == "gone")
            .cloned()
            .collect();
        self.update.send(request).unwrap();
        Ok(response)
    }
}

/// Moves bytes between the socket and the two connections until the socket ends.
async fn relay(
    socket: UnixStream,
    plugin: DuplexStream,
    runtime: DuplexStream,
    framing: Framing,
    longest: Arc<Mutex<usize>>,
) {
    let (reader, writer) = socket.into_split();
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    let (plugin_reader, plugin_writer) = tokio::io::split(plugin);
    let (runtime_reader, runtime_writer) = tokio::io::split(runtime);
    tokio::select! {
        () = read_frames(reader, plugin_writer, runtime_writer, longest) => {}
        // The runtime's requests go out on the plugin's service connection, its answers on its own.
        () = write_messages(1, plugin_reader, writer.clone(), framing) => {}
        () = write_messages(2, runtime_reader, writer, framing) => {}
    }
}

async fn read_frames(
    mut socket: OwnedReadHalf,
    mut plugin: impl AsyncWrite + Unpin,
    mut runtime: impl AsyncWrite + Unpin,
    longest: Arc<Mutex<usize>>,
) {
    loop {
        let (Ok(id), Ok(length)) = (socket.read_u32().await, socket.read_u32().await) else {
            return;
        };
        {
            let mut longest = longest.lock().unwrap();
            *longest = (*longest).max(length as usize);
        }
        // Go's buffered reader would fail with ENOMEM and close the connection.
        if length > 4096 {
            return;
        }
        let mut payload = vec![0; length as usize];
        if socket.read_exact(&mut payload).await.is_err() {
            return;
        }
        let written = match id {
            1 => plugin.write_all(&payload).await,
            2 => runtime.write_all(&payload).await,
            other => panic!("the plugin wrote to connection {other}"),
        };
        if written.is_err() {
            return;
        }
    }
}

async fn write_messages(
    id: u32,
    mut messages: impl AsyncRead + Unpin,
    socket: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    framing: Framing,
) {
    loop {
        // A ttrpc message: length of the data u32be, stream id u32be, type, flags, data.
        let mut message = vec![0; 10];
        if messages.read_exact(&mut message).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes(message[..4].try_into().unwrap()) as usize;
        message.resize(10 + length, 0);
        if messages.read_exact(&mut message[10..]).await.is_err() {
            return;
        }
        let mut socket = socket.lock().await;
        let sent = match framing {
            Framing::Whole => socket.write_all(&frame(id, &message)).await,
            Framing::Shredded(size) => {
                let mut bytes = Vec::new();
                for part in message.chunks(size) {
                    bytes.extend(frame(id, part));
                    bytes.extend(frame(id, &[]));
                    bytes.extend(frame(7, b"nobody listens here"));
                }
                let mut result = Ok(());
                // Not aligned with the frames.
                for part in bytes.chunks(13) {
                    result = socket.write_all(part).await;
                }
                result
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

pub fn frame(id: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = id.to_be_bytes().to_vec();
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn pod() -> api::PodSandbox {
    let mut pod = api::PodSandbox::new();
    pod.id = "pod-id".into();
    pod.name = "pod".into();
    pod.namespace = "demo".into();
    pod.labels.insert("app".into(), "web".into());
    pod
}

pub fn container() -> api::Container {
    let mut container = api::Container::new();
    container.id = "container-id".into();
    container.pod_sandbox_id = "pod-id".into();
    container.name = "main".into();
    container
}

/// Fails a test that waits instead of letting it hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("nothing happened for 20 s")
}
