// SPDX-License-Identifier: Apache-2.0
//! Runs a plugin: connects, registers, serves, and tells how it ended.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use ttrpc::asynchronous::transport::{Listener, Socket};

use crate::api::service::create_plugin;
use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::mux::{Mux, MuxEnd, MuxError, PLUGIN_SERVICE, RUNTIME_SERVICE};
use crate::plugin::Plugin;
use crate::runtime::Runtime;
use crate::session::{Progress, Session};
use crate::task::OwnedTask;

/// Where runtimes listen for external plugins unless configured otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/nri/nri.sock";

/// Time for the answer to the registration, and then for the configuration. The runtime's own limit is 5 s unless
/// configured; it may be starting, with other plugins before us.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for answers under way to be sent when the plugin is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a connection ended, or was not made.
#[derive(Debug, Error)]
pub enum End {
    /// `shutdown` was ready: the only end that this side asked for.
    #[error("the plugin was asked to stop")]
    Stopped,
    /// No connection: no runtime there, or NRI is disabled, or no permission.
    #[error("can't connect to the NRI socket {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The runtime answered the registration with an error.
    #[error("the runtime refused to register the plugin {identity}: {reason}")]
    RegistrationRefused {
        /// "NN-name".
        identity: String,
        /// The runtime's text.
        reason: String,
    },
    /// The runtime did not answer the registration, or did not configure the plugin afterwards.
    #[error("the runtime did not {step} the plugin {identity} within {} s", limit.as_secs())]
    NotConfigured {
        /// "register" or "configure".
        step: &'static str,
        /// "NN-name".
        identity: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The plugin answered `Configure` with a refusal, and the runtime closed the connection.
    #[error("the plugin refused the runtime's configuration: {0}")]
    ConfigurationRefused(String),
    /// The runtime said that it stops, then closed the connection.
    #[error("the runtime has stopped")]
    RuntimeStopped,
    /// The runtime closed the connection: it ended or restarted, or it threw the plugin out (late answer, unknown
    /// event in the subscription, name or index refused; its log says).
    #[error("the runtime closed the connection")]
    Closed,
    /// The transport broke.
    #[error("the connection to the runtime failed: {0}")]
    Transport(#[from] MuxError),
    /// ttrpc could not be set up or failed in a way that is none of the above.
    #[error("ttrpc failed: {0}")]
    Rpc(String),
}

/// Connects to the runtime's socket and runs the plugin until the connection ends or `shutdown` is ready.
pub async fn run<P: Plugin>(
    socket: impl AsRef<Path>,
    identity: &Identity,
    plugin: Arc<P>,
    shutdown: impl Future<Output = ()>,
) -> End {
    let mut shutdown = pin!(shutdown);
    connect_and_serve(socket.as_ref(), identity, plugin, shutdown.as_mut())
        .await
        .0
}

/// Runs the plugin over a connection that exists, such as that of a
/// [`Preinstalled`](crate::identity::Preinstalled) plugin.
pub async fn run_on<P: Plugin, T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    connection: T,
    identity: &Identity,
    plugin: Arc<P>,
    shutdown: impl Future<Output = ()>,
) -> End {
    let mut shutdown = pin!(shutdown);
    serve(connection, identity, plugin, shutdown.as_mut())
        .await
        .0
}

/// Runs the plugin until `shutdown` is ready, connecting again whenever the connection ends (containerd restarts) or
/// could not be made (it is not up yet). [`Plugin::disconnected`] is told once for each reason in a row.
pub async fn run_with_reconnect<P: Plugin>(
    socket: impl AsRef<Path>,
    identity: &Identity,
    plugin: Arc<P>,
    mut backoff: Backoff,
    shutdown: impl Future<Output = ()>,
) {
    let socket = socket.as_ref();
    let mut shutdown = pin!(shutdown);
    let mut told = String::new();
    loop {
        let (end, synchronized) =
            connect_and_serve(socket, identity, plugin.clone(), shutdown.as_mut()).await;
        if synchronized {
            backoff.reset();
            told.clear();
        }
        // A runtime that is away for an hour is one piece of news, not thousands.
        let text = end.to_string();
        if text != told {
            plugin.disconnected(&end).await;
            told = text;
        }
        if matches!(end, End::Stopped) {
            return;
        }
        tracing::debug!(%identity, %end, "no NRI connection");
        tokio::select! {
            biased;
            () = shutdown.as_mut() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

async fn connect_and_serve<P: Plugin>(
    socket: &Path,
    identity: &Identity,
    plugin: Arc<P>,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> (End, bool) {
    let connection = tokio::select! {
        biased;
        () = shutdown.as_mut() => return (End::Stopped, false),
        connection = UnixStream::connect(socket) => connection,
    };
    match connection {
        Ok(connection) => serve(connection, identity, plugin, shutdown).await,
        Err(source) => {
            let path = socket.to_owned();
            (End::Connect { path, source }, false)
        }
    }
}

/// Also answers whether the plugin got as far as being synchronised.
async fn serve<P: Plugin, T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    connection: T,
    identity: &Identity,
    plugin: Arc<P>,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> (End, bool) {
    let mut mux = Mux::new(connection);
    let (served, called) = match (mux.open(PLUGIN_SERVICE), mux.open(RUNTIME_SERVICE)) {
        (Ok(served), Ok(called)) => (served, called),
        (Err(error), _) | (_, Err(error)) => return (error.into(), false),
    };
    let runtime = Runtime::new(ttrpc::r#async::Client::new(Socket::new(called)));
    let session = Arc::new(Session::new(plugin, runtime.clone()));
    let progress = session.progress();
    // ttrpc's server takes connections from a listener: ours has exactly one, and no end, since the server can't be
    // shut down in order once its listener has ended.
    let listener = Listener::new(stream::iter([Ok(served)]).chain(stream::pending()));
    let mut server = ttrpc::r#async::Server::new()
        .add_listener(listener)
        .register_service(create_plugin(session.clone()));
    // Before the registration: the runtime may configure the plugin before it answers that.
    if let Err(error) = server.start().await {
        return (End::Rpc(error.to_string()), false);
    }
    let mut transport = OwnedTask::spawn(mux.run());

    let end = tokio::select! {
        biased;
        () = shutdown.as_mut() => End::Stopped,
        result = transport.join() => closed(result, &session),
        end = establish(&runtime, identity, progress.clone()) => end,
    };
    let end = match (end, progress.borrow().clone()) {
        (End::Closed, Progress::Refused(reason)) => End::ConfigurationRefused(reason),
        (end, _) => end,
    };
    if matches!(end, End::Stopped) {
        // Requests under way get their answers: a runtime that gets none goes on without the plugin.
        let stopping = async {
            let _ = server.shutdown().await;
            runtime.close();
            let _ = transport.join().await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, stopping).await.is_err() {
            tracing::warn!(%identity, "stopped while requests of the runtime were under way");
        }
    }
    runtime.close();
    let synchronized = *progress.borrow() == Progress::Synchronized;
    (end, synchronized)
}

/// Registers and waits for the configuration; answers only when that fails.
async fn establish(
    runtime: &Runtime,
    identity: &Identity,
    mut progress: tokio::sync::watch::Receiver<Progress>,
) -> End {
    let limit = REGISTRATION_TIMEOUT;
    let late = |step| End::NotConfigured {
        step,
        identity: identity.to_string(),
        limit,
    };
    // ttrpc's own timeout would be one more way to be late.
    let registration = runtime.register(identity.name(), identity.index(), limit * 2);
    match tokio::time::timeout(limit, registration).await {
        Ok(Ok(())) => tracing::debug!(%identity, "registered"),
        Ok(Err(ttrpc::Error::RpcStatus(status))) => {
            return End::RegistrationRefused {
                identity: identity.to_string(),
                reason: status.message,
            };
        }
        // The transport has ended, and its own end says why.
        Ok(Err(
            ttrpc::Error::RemoteClosed
            | ttrpc::Error::LocalClosed
            | ttrpc::Error::Eof
            | ttrpc::Error::Socket(_),
        )) => {
            return std::future::pending().await;
        }
        Ok(Err(error)) => return End::Rpc(error.to_string()),
        Err(_) => return late("register"),
    }
    let configured = progress.wait_for(|progress| *progress != Progress::Connected);
    if tokio::time::timeout(limit, configured).await.is_err() {
        return late("configure");
    }
    std::future::pending().await
}

fn closed<P: Plugin>(
    result: Result<Result<MuxEnd, MuxError>, tokio::task::JoinError>,
    session: &Session<P>,
) -> End {
    match result {
        Ok(Ok(_)) | Ok(Err(MuxError::Socket { .. } | MuxError::CutOff))
            if session.runtime_stops() =>
        {
            End::RuntimeStopped
        }
        Ok(Ok(MuxEnd::ClosedByPeer | MuxEnd::ClosedHere)) => End::Closed,
        Ok(Err(error)) => error.into(),
        Err(failure) => End::Rpc(format!("the transport's task failed: {failure}")),
    }
}
