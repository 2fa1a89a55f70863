// SPDX-License-Identifier: Apache-2.0
//! The daemon's socket: made so that only root can use it, and never half-made.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use ttrpc::asynchronous::transport::Listener;

use crate::api::service::create_node;
use crate::server::{Connection, Service};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// Pause after a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the socket could not be made.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another daemon answers there.
    #[error("another daemon serves {}: stop it first", .0.display())]
    InUse(PathBuf),
    /// Something else has the socket's name.
    #[error("{} exists and is not a socket: remove it", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("can't {doing} {}: {source}", path.display())]
    System {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that listens. It is removed from the file system when this is dropped, unless another one has taken its
/// place.
#[derive(Debug)]
pub struct NodeSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
    allowed: u32,
}

impl NodeSocket {
    /// Listens at `path`, for root. A missing directory is made, with mode 0700. A socket that nobody serves any more
    /// is replaced.
    ///
    /// The socket gets its mode (0600) under another name in the same directory and is then renamed, so nobody finds
    /// it with another mode, and there is no moment without a socket when an old one is replaced.
    ///
    /// # Errors
    /// Another daemon serves it, something else has its name, or the system refuses.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let path = path.as_ref();
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| BindError::System {
                doing,
                path,
                source,
            }
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed("create the directory", folder))?;
        }
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            // A daemon that is merely busy still takes the connection.
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(BindError::InUse(path.to_owned()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", path)(error)),
        }

        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        // From an earlier process of the same id.
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary).map_err(failed("listen at", &temporary))?;
        let placed = fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))
            .map_err(failed("set the mode of", &temporary))
            .and_then(|()| fs::symlink_metadata(&temporary).map_err(failed("look at", &temporary)))
            .and_then(|metadata| {
                fs::rename(&temporary, path).map_err(failed("put a socket at", path))?;
                Ok((metadata.dev(), metadata.ino()))
            });
        match placed {
            Ok(inode) => Ok(Self {
                listener,
                path: path.to_owned(),
                inode,
                allowed: 0,
            }),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    /// Serves this user instead of root, for a daemon that is not root itself.
    pub fn for_user(mut self, uid: u32) -> Self {
        self.allowed = uid;
        self
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until `shutdown` is ready. Calls that are under way then are cut.
    ///
    /// The peer's user (SO_PEERCRED) is looked at besides the socket's mode: a descriptor can be passed on, and a mode
    /// changed.
    pub async fn serve<S: Service>(self, service: Arc<S>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.as_mut() => return,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::error!(%error, "can't accept a connection to the node API");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == self.allowed => {}
                Ok(peer) => {
                    let (uid, pid) = (peer.uid(), peer.pid());
                    tracing::warn!(uid, ?pid, "refused a connection to the node API: not root");
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "refused a connection to the node API: its user is unknown");
                    continue;
                }
            }
            if connections.len() >= MAX_CONNECTIONS {
                tracing::warn!(
                    limit = MAX_CONNECTIONS,
                    "refused a connection to the node API: too many"
                );
                continue;
            }
            connections.spawn(serve_one(stream, service.clone()));
        }
    }
}

impl Drop for NodeSocket {
    fn drop(&mut self) {
        if let Ok(metadata) = fs::symlink_metadata(&self.path)
            && (metadata.dev(), metadata.ino()) == self.inode
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Serves one connection until it ends. Each has a server of its own, so that handlers know when theirs has ended.
async fn serve_one<S: Service>(stream: UnixStream, service: Arc<S>) {
    let (ended, closed) = watch::channel(false);
    let mut over = closed.clone();
    // Also when the daemon stops serving, which drops this future.
    let _ended = EndOnDrop(ended.clone());
    let stream = Watched { stream, ended };
    let listener = Listener::new(stream::iter([Ok(stream)]).chain(stream::pending()));
    let mut server = ttrpc::r#async::Server::new()
        .add_listener(listener)
        .register_service(create_node(Arc::new(Connection { service, closed })));
    if let Err(error) = server.start().await {
        tracing::error!(%error, "can't serve a connection to the node API");
        return;
    }
    let _ = over.wait_for(|over| *over).await;
    // Dropping the server ends its tasks.
}

/// Tells the handlers of a connection that it is over.
struct EndOnDrop(watch::Sender<bool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// A stream that tells when its peer has gone.
struct Watched {
    stream: UnixStream,
    ended: watch::Sender<bool>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let over = match &result {
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if over {
            self.ended.send_replace(true);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(result, Poll::Ready(Err(_))) {
            self.ended.send_replace(true);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
