// SPDX-License-Identifier: Apache-2.0
//! The client's side.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use ttrpc::r#async::ClientStreamReceiver;
use ttrpc::asynchronous::transport::Socket;
use ttrpc::context::{Context, with_duration};

use crate::api;
use crate::api::service::NodeClient;
use crate::error::ClientError;

/// Time for an answer, beyond the wait that the request itself asks for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the daemon of this node. Clones share it; calls can be made concurrently.
#[derive(Clone)]
pub struct Client {
    inner: NodeClient,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// Nobody listens there, or this user may not connect.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ClientError::Connect {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            inner: NodeClient::new(ttrpc::r#async::Client::new(Socket::new(stream))),
        })
    }

    /// Brings policies. The answer is about each object; look at every outcome.
    ///
    /// # Errors
    /// The call as a whole failed.
    pub async fn apply(
        &self,
        request: api::ApplyRequest,
    ) -> Result<api::ApplyResponse, ClientError> {
        let context = waiting(request.wait_ms);
        Ok(self.inner.apply(context, &request).await?)
    }

    /// Takes policies away.
    ///
    /// # Errors
    /// The call as a whole failed.
    pub async fn delete(
        &self,
        request: api::DeleteRequest,
    ) -> Result<api::DeleteResponse, ClientError> {
        let context = waiting(request.wait_ms);
        Ok(self.inner.delete(context, &request).await?)
    }

    /// Lists policies.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list(&self, request: api::ListRequest) -> Result<api::ListResponse, ClientError> {
        Ok(self.inner.list(with_duration(TIMEOUT), &request).await?)
    }

    /// Puts a running container under a profile.
    ///
    /// # Errors
    /// There is no such container or profile, or BPF is not available.
    pub async fn bind(&self, request: api::BindRequest) -> Result<api::BindResponse, ClientError> {
        Ok(self.inner.bind(with_duration(TIMEOUT), &request).await?)
    }

    /// Asks how the node is.
    ///
    /// # Errors
    /// The call failed.
    pub async fn status(
        &self,
        request: api::StatusRequest,
    ) -> Result<api::StatusResponse, ClientError> {
        Ok(self.inner.status(with_duration(TIMEOUT), &request).await?)
    }

    /// Tells what the API server knows of pods and workloads.
    ///
    /// # Errors
    /// The call failed; nothing of it counts.
    pub async fn tell(&self, request: api::TellRequest) -> Result<api::TellResponse, ClientError> {
        Ok(self.inner.tell(with_duration(TIMEOUT), &request).await?)
    }

    /// Follows the pods that the daemon asks about.
    ///
    /// # Errors
    /// The call failed.
    pub async fn questions(&self) -> Result<Questions, ClientError> {
        let request = api::QuestionsRequest::new();
        let mut stream = self.inner.questions(Context::default(), &request).await?;
        // The first message says that the subscription stands.
        if stream.recv().await?.is_none() {
            return Err(ClientError::Closed);
        }
        Ok(Questions {
            stream,
            _connection: self.clone(),
        })
    }

    /// Follows violations. From when this returns, none is missed silently (see [`api::Violation::missed`]).
    ///
    /// # Errors
    /// The call failed.
    pub async fn violations(
        &self,
        request: api::ViolationsRequest,
    ) -> Result<Violations, ClientError> {
        let mut stream = self.inner.violations(Context::default(), &request).await?;
        // The daemon's first message says that the subscription stands; it carries no record.
        if stream.recv().await?.is_none() {
            return Err(ClientError::Closed);
        }
        Ok(Violations {
            stream,
            _connection: self.clone(),
        })
    }
}

/// Pods that the daemon asks about.
pub struct Questions {
    stream: ClientStreamReceiver<api::Question>,
    _connection: Client,
}

impl Questions {
    /// The next one; `None` when the daemon ended the stream in order.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn next(&mut self) -> Result<Option<api::Question>, ClientError> {
        Ok(self.stream.recv().await?)
    }
}

/// Violations as they happen.
pub struct Violations {
    stream: ClientStreamReceiver<api::Violation>,
    _connection: Client,
}

impl Violations {
    /// The next one; `None` when the daemon ended the stream in order.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn next(&mut self) -> Result<Option<api::Violation>, ClientError> {
        Ok(self.stream.recv().await?)
    }
}

fn waiting(milliseconds: u32) -> Context {
    with_duration(TIMEOUT + Duration::from_millis(milliseconds.into()))
}
