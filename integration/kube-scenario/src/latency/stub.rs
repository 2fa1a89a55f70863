// SPDX-License-Identifier: Apache-2.0
//! A daemon that only notes when it is sent something: what comes before the daemon is measured on this machine, outside
//! the emulator.

use async_trait::async_trait;
use tokio::sync::mpsc::{Receiver, channel};
use varmor_node_api::{ApiError, Service, api};

use super::change_in;
use super::times::{Place, Times};

/// The daemon.
pub struct Stub(pub Times);

#[async_trait]
impl Service for Stub {
    async fn apply(&self, request: api::ApplyRequest) -> Result<api::ApplyResponse, ApiError> {
        if let Some(change) = change_in(&request.objects) {
            self.0.saw(Place::Daemon, change);
        }
        Ok(api::ApplyResponse::new())
    }

    async fn delete(&self, _: api::DeleteRequest) -> Result<api::DeleteResponse, ApiError> {
        Ok(api::DeleteResponse::new())
    }

    async fn list(&self, _: api::ListRequest) -> Result<api::ListResponse, ApiError> {
        Ok(api::ListResponse::new())
    }

    async fn bind(&self, _: api::BindRequest) -> Result<api::BindResponse, ApiError> {
        Ok(api::BindResponse::new())
    }

    async fn status(&self, _: api::StatusRequest) -> Result<api::StatusResponse, ApiError> {
        let mut status = api::StatusResponse::new();
        status.settled = true;
        Ok(status)
    }

    async fn tell(&self, _: api::TellRequest) -> Result<api::TellResponse, ApiError> {
        Ok(api::TellResponse::new())
    }

    async fn questions(
        &self,
        _: api::QuestionsRequest,
    ) -> Result<Receiver<api::Question>, ApiError> {
        let (sender, questions) = channel(1);
        // It never asks, and its end would end the connection.
        std::mem::forget(sender);
        Ok(questions)
    }

    async fn violations(
        &self,
        _: api::ViolationsRequest,
    ) -> Result<Receiver<api::Violation>, ApiError> {
        Ok(channel(1).1)
    }
}
