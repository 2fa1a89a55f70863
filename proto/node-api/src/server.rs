// SPDX-License-Identifier: Apache-2.0
//! The daemon's side: from calls to [`Service`].

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use crate::api;
use crate::error::ApiError;

/// Violations that a subscriber's channel should hold: one that reads more slowly misses some, and is told how many.
pub const SUBSCRIBER_BUFFER: usize = 1024;

/// What the daemon implements. Calls come concurrently, from root only.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Takes policies; see [`api::ApplyRequest`].
    async fn apply(&self, request: api::ApplyRequest) -> Result<api::ApplyResponse, ApiError>;

    /// Takes policies away.
    async fn delete(&self, request: api::DeleteRequest) -> Result<api::DeleteResponse, ApiError>;

    /// The policies of all sources.
    async fn list(&self, request: api::ListRequest) -> Result<api::ListResponse, ApiError>;

    /// Puts a running container under a profile.
    async fn bind(&self, request: api::BindRequest) -> Result<api::BindResponse, ApiError>;

    /// How the node is.
    async fn status(&self, request: api::StatusRequest) -> Result<api::StatusResponse, ApiError>;

    /// Takes what the API server knows of pods and workloads.
    async fn tell(&self, request: api::TellRequest) -> Result<api::TellResponse, ApiError>;

    /// Subscribes to the pods whose workloads containers wait for.
    async fn questions(
        &self,
        request: api::QuestionsRequest,
    ) -> Result<mpsc::Receiver<api::Question>, ApiError>;

    /// Subscribes to violations. The sender's side must never wait for a subscriber: `try_send`, count what did not
    /// fit, and put the number into the next one's `missed`. Once the subscriber is gone the channel is closed
    /// ([`mpsc::Sender::is_closed`]); when the daemon drops the sender, the stream ends in order.
    async fn violations(
        &self,
        request: api::ViolationsRequest,
    ) -> Result<mpsc::Receiver<api::Violation>, ApiError>;
}

/// The service as one connection sees it.
pub(crate) struct Connection<S> {
    pub(crate) service: Arc<S>,
    /// True once the connection has ended.
    pub(crate) closed: watch::Receiver<bool>,
}

#[async_trait]
impl<S: Service> api::service::Node for Connection<S> {
    async fn apply(
        &self,
        _: &TtrpcContext,
        request: api::ApplyRequest,
    ) -> ttrpc::Result<api::ApplyResponse> {
        Ok(self.service.apply(request).await?)
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: api::DeleteRequest,
    ) -> ttrpc::Result<api::DeleteResponse> {
        Ok(self.service.delete(request).await?)
    }

    async fn list(
        &self,
        _: &TtrpcContext,
        request: api::ListRequest,
    ) -> ttrpc::Result<api::ListResponse> {
        Ok(self.service.list(request).await?)
    }

    async fn bind(
        &self,
        _: &TtrpcContext,
        request: api::BindRequest,
    ) -> ttrpc::Result<api::BindResponse> {
        Ok(self.service.bind(request).await?)
    }

    async fn status(
        &self,
        _: &TtrpcContext,
        request: api::StatusRequest,
    ) -> ttrpc::Result<api::StatusResponse> {
        Ok(self.service.status(request).await?)
    }

    async fn tell(
        &self,
        _: &TtrpcContext,
        request: api::TellRequest,
    ) -> ttrpc::Result<api::TellResponse> {
        Ok(self.service.tell(request).await?)
    }

    async fn questions(
        &self,
        _: &TtrpcContext,
        request: api::QuestionsRequest,
        stream: ServerStreamSender<api::Question>,
    ) -> ttrpc::Result<()> {
        let questions = self.service.questions(request).await?;
        self.forward(questions, stream).await
    }

    async fn violations(
        &self,
        _: &TtrpcContext,
        request: api::ViolationsRequest,
        stream: ServerStreamSender<api::Violation>,
    ) -> ttrpc::Result<()> {
        let records = self.service.violations(request).await?;
        self.forward(records, stream).await
    }
}

impl<S> Connection<S> {
    /// Sends what comes, until either side is gone.
    async fn forward<T: protobuf::Message>(
        &self,
        mut records: mpsc::Receiver<T>,
        stream: ServerStreamSender<T>,
    ) -> ttrpc::Result<()> {
        // Tells the client that it is subscribed.
        stream.send(&T::new()).await?;
        let mut closed = self.closed.clone();
        loop {
            // ttrpc leaves a stream's handler alone when the connection ends, and a quiet node would keep it for ever.
            let record = tokio::select! {
                _ = closed.wait_for(|closed| *closed) => return Ok(()),
                record = records.recv() => record,
            };
            let Some(record) = record else {
                return Ok(());
            };
            tokio::select! {
                _ = closed.wait_for(|closed| *closed) => return Ok(()),
                sent = stream.send(&record) => sent?,
            }
        }
    }
}
